"""What `make fuzz` found in the readers of arrays and checkpoints, made small: it is said in words, not in a library's."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tal_run.extractors.array_files import ArrayFileError, read_npy
from tal_run.extractors.weights import WeightsError, WeightsFile


def test_a_header_with_a_name_in_it_shows_no_object(tmp_path: Path) -> None:
    """Python's parser says "malformed node or string on line 1: <ast.Name object at 0x7f...>"."""
    np.save(tmp_path / "a.npy", np.ones((3, 2), np.float32))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"False", b"Fblse"))
    with pytest.raises(ArrayFileError, match=r"a\.npy is damaged \(malformed node or string on line 1\): fetch it again"):
        read_npy(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("net/byteorder", b"\0\0ttle", r"Unknown endianness type: ttle"),
        ("net/data.pkl", b"", "it ends too early"),
    ],
)
def test_a_checkpoint_that_is_damaged_inside_is_a_printable_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str, content: bytes, words: str
) -> None:
    torch = pytest.importorskip("torch")
    from tal_run.extractors.checkpoints import read_checkpoint

    monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "cache"))
    file = io.BytesIO()
    torch.save({"state_dict": {"conv.weight": torch.ones(3, 4)}}, tmp_path / "net.pt")
    with zipfile.ZipFile(tmp_path / "net.pt") as archive, zipfile.ZipFile(file, "w") as damaged:
        for name in archive.namelist():
            damaged.writestr(name, content if name == member else archive.read(name))
    (tmp_path / "net.pt").write_bytes(file.getvalue())
    with pytest.raises(WeightsError, match=words) as caught:
        read_checkpoint(WeightsFile(file_name="net.pt", url=None, licence="MIT", source="its authors"))
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith("remove it and get the published one from its authors")
