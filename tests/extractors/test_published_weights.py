"""Published checkpoints are opened without trust, converted once, and loaded into the network that they fit."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")
pytest.importorskip("safetensors")

from tal_run.extractors import checkpoints, published_weights  # noqa: E402
from tal_run.extractors.checkpoints import converted_path, read_checkpoint  # noqa: E402
from tal_run.extractors.i3d import InceptionI3D  # noqa: E402
from tal_run.extractors.published_weights import PUBLISHED, labels, load, mean_clip  # noqa: E402
from tal_run.extractors.weights import (  # noqa: E402
    WeightsError,
    WeightsFile,
    cache_folder,
    git_blob_of,
    pin,
    pin_of,
    sha256_of,
)

FILE = WeightsFile(file_name="net.pt", url=None, source="its authors", licence="none")
STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.5, float("nan")]), "steps": torch.tensor(7)}
ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations"


@pytest.fixture(autouse=True)
def original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the published file is looked for."""
    monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine" / "net.pt"


def same(state: dict[str, Any]) -> bool:
    return state.keys() == STATE.keys() and all(
        torch.equal(value.nan_to_num(9), STATE[name].nan_to_num(9)) for name, value in state.items()
    )


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("inner", [True, False])
def test_converted_once_and_read_from_the_copy_since(
    inner: bool, new_format: bool, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"epoch": 3, "arch": "net", "state_dict": STATE} if inner else STATE
    torch.save(content, original, _use_new_zipfile_serialization=new_format)  # most of the published ones are of the old format
    assert same(read_checkpoint(FILE))
    copy = converted_path(FILE, sha256_of(original))
    assert copy.with_name(f"{copy.name}.sha256").read_text().strip() == sha256_of(copy)
    monkeypatch.setattr(checkpoints, "_unpickled", None)  # opened no more
    assert same(read_checkpoint(FILE))


def test_a_damaged_copy_is_made_anew(original: Path) -> None:
    torch.save(STATE, original)
    read_checkpoint(FILE)
    copy = converted_path(FILE, sha256_of(original))
    copy.write_bytes(copy.read_bytes()[:-4] + b"\0\0\0\1")
    assert same(read_checkpoint(FILE))
    assert len(list(cache_folder().glob("*.safetensors"))) == 1


def test_tensors_that_share_memory_or_lie_across_are_kept(original: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    torch.save({"whole": base, "across": base.T, "row": base[1]}, original)
    state = read_checkpoint(FILE)
    assert torch.equal(state["across"], base.T)
    assert torch.equal(state["row"], base[1])


def test_a_cache_that_cannot_be_written_costs_a_conversion_only(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(STATE, original)
    known = dataclasses.replace(FILE, sha256=sha256_of(original))
    (original.parent / "file").write_text("a file where a folder should be")
    monkeypatch.setenv("TAL_RUN_CACHE", str(original.parent / "file"))
    assert same(read_checkpoint(known))


class _Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)

    def __init__(self, path: str) -> None:
        self.path = path


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_with_more_than_tensors_is_not_opened(new_format: bool, original: Path, tmp_path: Path) -> None:
    torch.save({**STATE, "x": _Hostile(str(tmp_path / "owned"))}, original, _use_new_zipfile_serialization=new_format)
    with pytest.raises(
        WeightsError, match=r"net\.pt is not opened, as it is damaged or holds more than tensors .* its authors"
    ):
        read_checkpoint(FILE)
    assert not (tmp_path / "owned").exists()
    assert not list(cache_folder().glob("*.safetensors"))


@pytest.mark.parametrize("content", [b"", b"<html>login</html>", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint_is_refused(content: bytes, original: Path) -> None:
    original.write_bytes(content)
    with pytest.raises(WeightsError, match=r"net\.pt"):
        read_checkpoint(FILE)


@pytest.mark.parametrize("content", [{"state_dict": {"a": 1}}, {"epoch": 3}, [torch.zeros(1)], {}])
def test_what_holds_no_names_with_tensors_is_refused(content: Any, original: Path) -> None:
    torch.save(content, original)
    with pytest.raises(WeightsError, match="holds no state dictionary"):
        read_checkpoint(FILE)


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (torch.ones(1).expand(10**14), "shows 100,000,000,000,000 numbers, more than there are"),
        (torch.ones(1, 1).expand(10**7, 10**7), "more than there are"),
        (torch.eye(3).to_sparse(), "is sparse, nested or quantized"),
        (torch.ones(2, device="meta"), "on the device 'meta'"),
        (torch.ones(2, dtype=torch.complex128), "holds torch.complex128"),
        (torch.ones(4).to(torch.float8_e4m3fn), "holds torch.float8_e4m3fn"),
    ],
)
def test_tensors_that_no_checkpoint_has_are_refused(odd: Any, said: str, original: Path) -> None:
    torch.save({**STATE, "odd": odd}, original)
    with pytest.raises(WeightsError, match=rf"net\.pt holds what no checkpoint holds \('odd' .*{said}.*\): remove it and get"):
        read_checkpoint(FILE)
    assert not list(cache_folder().glob("*"))


@pytest.mark.parametrize("make", [lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8), lambda: _nested()])
@pytest.mark.filterwarnings("ignore")
def test_quantized_and_nested_tensors_are_refused(make: Any, original: Path) -> None:
    torch.save({**STATE, "odd": make()}, original)
    with pytest.raises(WeightsError, match=r"net\.pt (holds what no checkpoint holds|is not opened)"):
        read_checkpoint(FILE)


def _nested() -> Any:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


@pytest.mark.parametrize("name", ["__metadata__", "\ud800", "a\0b", 1])
def test_names_that_are_none_are_refused(name: Any, original: Path) -> None:
    torch.save({**STATE, name: torch.ones(1)}, original)
    with pytest.raises(WeightsError, match="is no name of a tensor"):
        read_checkpoint(FILE)


def test_views_that_would_fill_the_memory_when_copied_are_refused(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MOST_BYTES", 4000)
    torch.save(dict.fromkeys("abcdefghijk", torch.ones(100)), original)
    with pytest.raises(WeightsError, match="4,400 bytes of tensors"):
        read_checkpoint(FILE)


def test_a_full_cache_costs_a_conversion_only(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def full(*_: object) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    torch.save(STATE, original)
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    assert same(read_checkpoint(FILE))
    assert not [path for path in cache_folder().iterdir() if path.suffix != ".pin"]


def test_a_damaged_note_or_copy_is_made_anew(original: Path) -> None:
    torch.save(STATE, original)
    read_checkpoint(FILE)
    copy = converted_path(FILE, sha256_of(original))
    note = copy.with_name(f"{copy.name}.sha256")
    note.write_bytes(b"\xff\xfe")
    assert same(read_checkpoint(FILE))
    assert note.read_text().strip() == sha256_of(copy)
    copy.write_bytes(b"junk")
    note.write_text(sha256_of(copy))
    assert same(read_checkpoint(FILE))
    assert note.read_text().strip() == sha256_of(copy)


class TestRegistry:
    def test_a_network_with_its_weights(self, original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file of the published name and keys, known by its git blob, becomes the network whose weights it holds."""
        torch.manual_seed(0)
        trained = InceptionI3D(in_channels=2).eval()
        names = {name: name.removeprefix("trunk.").replace("classifier.", "logits.conv3d.") for name in trained.state_dict()}
        path = original.with_name("flow_imagenet.pt")
        torch.save({names[name]: value for name, value in trained.state_dict().items()}, path)
        published = PUBLISHED["i3d-flow"]
        file = dataclasses.replace(published.file, git_blob=git_blob_of(path))
        monkeypatch.setitem(published_weights.PUBLISHED, "i3d-flow", dataclasses.replace(published, file=file))
        network = load("i3d-flow")
        assert not network.training
        assert all(torch.equal(value, trained.state_dict()[name]) for name, value in network.state_dict().items())

    def test_a_stray_file_of_the_name_is_named_and_not_pinned(self, original: Path) -> None:
        path = original.with_name("c3d.pickle")
        torch.save(STATE, path)
        with pytest.raises(WeightsError, match=r"c3d\.pickle: this is not a checkpoint of .*; remove it and get the published"):
            load("c3d")
        assert not pin_of(PUBLISHED["c3d"].file).exists()

    def test_a_stray_file_that_was_pinned_before_is_named_with_its_pin(self, original: Path) -> None:
        path = original.with_name("c3d.pickle")
        torch.save(STATE, path)
        pin(PUBLISHED["c3d"].file, sha256_of(path))
        with pytest.raises(WeightsError, match=r"; remove it and .*c3d\.pickle\.pin and get the published one from "):
            load("c3d")

    def test_an_unknown_name_lists_the_choices(self) -> None:
        with pytest.raises(WeightsError, match="'i3d': choose one of i3d-rgb, i3d-flow, c3d, p3d, p3d-flow"):
            load("i3d")

    def test_what_has_to_be_put_into_place_by_hand_is_said(self) -> None:
        for name, file_name in (("c3d", "c3d.pickle"), ("p3d-flow", "p3d_flow_199.checkpoint.pth.tar")):
            with pytest.raises(WeightsError, match=f"{file_name} has no address .* get it from .* and put it into "):
                load(name)

    def test_every_file_can_be_had_and_checked_or_is_explained(self) -> None:
        for published in PUBLISHED.values():
            file = published.file
            assert file.licence
            assert (file.url is None) == bool(file.source)
            assert file.url is None or file.git_blob or file.sha256 or file.file_name.endswith(".pyth")  # the hub's are pinned
            assert (
                len(published.recipe.mean) == len(published.recipe.deviation) == (2 if published.recipe.stream == "flow" else 3)
            )

    @pytest.mark.parametrize("name", list(PUBLISHED))
    def test_labels_and_mean_clips(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if not ANNOTATIONS.is_dir():
            pytest.skip("the published lists of classes (../shared/annotations) are not on this machine")
        monkeypatch.setenv("TAL_RUN_WEIGHTS", str(ANNOTATIONS))
        names, mean = labels(name), mean_clip(name)
        expected = {"c3d": ("boomerang", "model aircraft"), "p3d": None, "p3d-flow": None}
        assert (names and (names[0], names[-1])) == expected.get(name, ("abseiling", "zumba"))
        assert names is None or len(set(names)) == len(names) == (487 if name == "c3d" else 400)
        recipe = PUBLISHED[name].recipe
        if name != "c3d":
            assert mean is None
            return
        assert mean is not None
        assert mean.shape == (recipe.frames, recipe.side, recipe.side, 3)
        red, green, blue = mean.mean(axis=(0, 1, 2))
        assert 110 > red > green > blue > 90

    def test_it_is_listed_without_torch(self) -> None:
        script = "import sys, tal_run.extractors.published_weights; print('torch' in sys.modules, 'cv2' in sys.modules)"
        said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert said.split() == ["False", "False"]
