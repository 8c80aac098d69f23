"""Weights are found, fetched from a server of our own on this machine, and never used unless their hash is right."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tal_run.extractors.weights import WeightsError, WeightsFile, at_hand, cache_folder, git_blob_of, locate, pin_of

CONTENT = bytes(range(256)) * 5000


@pytest.fixture
def served() -> Iterator[dict[str, bytes]]:
    """Files that a server on the loopback gives out; the key '/' holds its address."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.end_headers()
            if content is not None:
                try:
                    self.wfile.write(content)
                except OSError:
                    return  # the reader had enough

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    files["/"] = f"http://127.0.0.1:{server.server_port}".encode()
    yield files
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TAL_RUN_WEIGHTS", raising=False)


def described(served: dict[str, bytes]) -> WeightsFile:
    return WeightsFile(
        file_name="net.tflite",
        url=f"{served['/'].decode()}/net.tflite",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
        licence="none",
    )


def leftovers() -> list[Path]:
    return list(cache_folder().glob("*")) + list(cache_folder().glob(".*"))


def test_a_download_is_kept_and_reported(served: dict[str, bytes]) -> None:
    served["/net.tflite"] = CONTENT
    reports: list[tuple[float, float | None]] = []
    (path,) = locate(described(served), hook=lambda step, *, completed, total: reports.append((completed, total)))
    assert path.read_bytes() == CONTENT
    assert reports[0] == (0, len(CONTENT))
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    del served["/net.tflite"]  # from here on only the cache can answer
    assert locate(described(served)) == (path,)
    assert leftovers() == [path]


def test_folders_of_the_user_go_first_and_are_searched_to_the_bottom(
    served: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "mine" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "net.tflite").write_bytes(CONTENT)
    monkeypatch.setenv("TAL_RUN_WEIGHTS", f"{tmp_path / 'absent'}:{tmp_path / 'mine'}")
    assert locate(described(served)) == (deep / "net.tflite",)


def test_a_file_of_the_right_name_with_other_bytes_is_not_used(
    served: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.tflite").write_bytes(b"not the network")
    monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path))
    served["/net.tflite"] = CONTENT
    assert locate(described(served))[0].parent == cache_folder()
    del served["/net.tflite"]
    (cache_folder() / "net.tflite").unlink()
    with pytest.raises(WeightsError, match="has the name but not the content"):
        locate(described(served))


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT + b"x", b"", b"<html>login</html>", CONTENT * 9])
def test_wrong_bytes_are_refused_and_leave_nothing_behind(served: dict[str, bytes], wrong: bytes) -> None:
    served["/net.tflite"] = wrong
    with pytest.raises(WeightsError, match="gave other bytes than expected"):
        locate(described(served))
    assert leftovers() == []


def test_without_a_network_one_sentence_says_what_to_put_where(served: dict[str, bytes]) -> None:
    with pytest.raises(WeightsError) as caught:
        locate(described(served))
    sentence = str(caught.value)
    assert "cannot download net.tflite" in sentence
    assert f"save {described(served).url} as net.tflite, and put it into {cache_folder()}, or" in sentence
    assert "TAL_RUN_WEIGHTS" in sentence
    assert leftovers() == []


def test_a_cache_that_cannot_be_written_says_so(
    served: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "file"))
    served["/net.tflite"] = CONTENT
    with pytest.raises(WeightsError, match="cannot download"):
        locate(described(served))


@pytest.mark.parametrize("variable", ["TAL_RUN_CACHE", "TAL_RUN_WEIGHTS"])
def test_a_folder_whose_name_no_system_takes_holds_nothing(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/" + "x" * 300)
    file = WeightsFile(file_name="net.tflite", url="http://127.0.0.1:9/net.tflite", sha256="0", licence="none")
    for wanted in (file, dataclasses.replace(file, sha256=None), dataclasses.replace(file, url=None, source="its authors")):
        assert not at_hand(wanted)
        with pytest.raises(WeightsError, match=r"cannot download|has no address"):
            locate(wanted)


def test_a_folder_that_may_not_be_entered_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    monkeypatch.setattr(Path, "is_dir", refuse)
    file = WeightsFile(file_name="net.tflite", url=None, source="its authors", licence="none")
    assert not at_hand(file)
    with pytest.raises(WeightsError, match="has no address"):
        locate(file)


def test_all_that_is_missing_is_named_at_once(served: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAL_RUN_WEIGHTS", "/nowhere/at/all")
    first = described(served)
    second = dataclasses.replace(first, file_name="labels.txt", url=f"{served['/'].decode()}/labels.txt")
    with pytest.raises(WeightsError, match=r"net\.tflite and labels\.txt .*TAL_RUN_WEIGHTS names /nowhere/at/all, which is no"):
        locate(first, second)
    with pytest.raises(
        WeightsError, match=r"save http:\S+/net\.tflite as mine\.bin and http:\S+ as labels\.txt, and put them into"
    ):
        locate(dataclasses.replace(first, file_name="mine.bin"), second)


def test_the_published_name_is_as_good(served: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.tflite").write_bytes(CONTENT)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.tflite").mkdir()  # a folder of the name is passed over
    monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path))
    renamed = dataclasses.replace(described(served), file_name="mine.tflite")
    assert locate(renamed) == (tmp_path / "net.tflite",)


class TestGitBlob:
    def test_it_is_gits_name(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(CONTENT)
        assert git_blob_of(path) == hashlib.sha1(b"blob 1280000\0" + CONTENT).hexdigest()
        path.write_bytes(b"")
        assert git_blob_of(path) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

    def test_git_says_so_too(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(CONTENT)
        try:
            said = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True).stdout
        except OSError:
            pytest.skip("git is not installed")
        assert said.strip() == git_blob_of(path)

    def test_a_download_is_held_to_it_without_its_size_being_known(self, served: dict[str, bytes]) -> None:
        blob = hashlib.sha1(f"blob {len(CONTENT)}\0".encode() + CONTENT).hexdigest()
        known = dataclasses.replace(described(served), sha256=None, size_bytes=None, git_blob=blob)
        served["/net.tflite"] = CONTENT + b"x"
        with pytest.raises(WeightsError, match=r"gave other bytes than expected \(git blob .*, not "):
            locate(known)
        assert leftovers() == []
        served["/net.tflite"] = CONTENT
        assert locate(known)[0].read_bytes() == CONTENT
        assert not pin_of(known).exists()


class TestPin:
    @pytest.fixture
    def unknown(self, served: dict[str, bytes]) -> WeightsFile:
        return dataclasses.replace(described(served), sha256=None, size_bytes=None)

    def test_the_first_bytes_are_the_ones(self, unknown: WeightsFile, served: dict[str, bytes]) -> None:
        served["/net.tflite"] = CONTENT
        (path,) = locate(unknown)
        assert pin_of(unknown).read_text().strip() == hashlib.sha256(CONTENT).hexdigest()
        assert sorted(leftovers()) == sorted([path, pin_of(unknown)])
        path.write_bytes(b"swapped")
        assert not at_hand(unknown)
        assert locate(unknown)[0].read_bytes() == CONTENT  # fetched again
        served["/net.tflite"] = b"moved on"
        path.unlink()
        with pytest.raises(WeightsError, match=r"other bytes than expected .* or remove .*net\.tflite\.pin if other bytes"):
            locate(unknown)

    def test_what_the_user_put_there_is_pinned_too(
        self, unknown: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = tmp_path / "mine" / "net.tflite"
        mine.parent.mkdir()
        mine.write_bytes(CONTENT)
        monkeypatch.setenv("TAL_RUN_WEIGHTS", str(mine.parent))
        assert at_hand(unknown)
        assert not pin_of(unknown).exists()  # looking is not using
        assert locate(unknown) == (mine,)
        mine.write_bytes(b"another")
        assert not at_hand(unknown)

    @pytest.mark.parametrize("note", [b"", b"\xff\xfe\0", b"0" * 64])
    def test_another_pin_whatever_it_holds_is_a_sentence(
        self, note: bytes, tmp_path: Path, unknown: WeightsFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        unknown = dataclasses.replace(unknown, url=None, source="its authors")
        (tmp_path / "net.tflite").write_bytes(CONTENT)
        monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path))
        cache_folder().mkdir(parents=True)
        pin_of(unknown).write_bytes(note)
        assert not at_hand(unknown)
        with pytest.raises(WeightsError, match=r"has the name but not the content.* or remove .*net\.tflite\.pin"):
            locate(unknown)

    def test_nothing_is_no_network(self, unknown: WeightsFile, served: dict[str, bytes]) -> None:
        served["/net.tflite"] = b""
        with pytest.raises(WeightsError, match="0 bytes came"):
            locate(unknown)
        assert leftovers() == []

    def test_a_pin_that_cannot_be_written_says_so(
        self, unknown: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "net.tflite").write_bytes(CONTENT)
        (tmp_path / "file").write_text("a file where a folder should be")
        monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path))
        monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "file"))
        with pytest.raises(WeightsError, match=r"cannot note in .* what net\.tflite holds .* let TAL_RUN_CACHE name"):
            locate(unknown)


def test_a_file_without_an_address_is_put_into_place_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = WeightsFile(file_name="c3d.pickle", url=None, source="its authors", licence="none")
    with pytest.raises(WeightsError) as caught:
        locate(file)
    assert str(caught.value) == (
        "c3d.pickle has no address that a program can fetch it from: get it from its authors and put it into "
        f"{cache_folder()}, or into a folder named in TAL_RUN_WEIGHTS"
    )
    (tmp_path / "c3d.pickle").write_bytes(CONTENT)
    monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path))
    assert locate(file) == (tmp_path / "c3d.pickle",)
    (tmp_path / "c3d.pickle").write_bytes(b"another")
    with pytest.raises(WeightsError, match=r"c3d\.pickle has the name but not the content.* or remove .*c3d\.pickle\.pin"):
        locate(file)


def test_all_that_is_to_be_put_into_place_by_hand_is_named_at_once() -> None:
    files = [WeightsFile(file_name=name, url=None, source="its authors", licence="none") for name in ("c3d.pickle", "mean.npy")]
    with pytest.raises(WeightsError, match=r"c3d\.pickle has no address .*; mean\.npy has no address "):
        locate(*files)
