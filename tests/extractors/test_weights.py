"""Weights are found, fetched from a server of our own on this machine, and never used unless their hash is right."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tal_run.extractors.weights import WeightsError, WeightsFile, cache_folder, locate

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
    assert described(served).url in sentence
    assert str(cache_folder()) in sentence
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


def test_all_that_is_missing_is_named_at_once(served: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAL_RUN_WEIGHTS", "/nowhere/at/all")
    first = described(served)
    second = dataclasses.replace(first, file_name="labels.txt", url=f"{served['/'].decode()}/labels.txt")
    with pytest.raises(WeightsError, match=r"net\.tflite and labels\.txt .*TAL_RUN_WEIGHTS names /nowhere/at/all, which is no"):
        locate(first, second)


def test_the_published_name_is_as_good(served: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.tflite").write_bytes(CONTENT)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.tflite").mkdir()  # a folder of the name is passed over
    monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path))
    renamed = dataclasses.replace(described(served), file_name="mine.tflite")
    assert locate(renamed) == (tmp_path / "net.tflite",)
