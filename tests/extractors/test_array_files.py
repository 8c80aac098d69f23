"""Plain arrays from strangers: what NumPy wrote comes back, and every promise is checked before it is believed."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tal_run.extractors.array_files import ArrayFileError, names_in_npz, read_npy, read_npz
from tal_run.extractors.object_arrays import read_object_array

ARRAYS: list[Any] = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array(25.0),
    np.array(["a", "ä"]),
    np.zeros((0, 3), np.float16),
    np.arange(4, dtype=">i4"),
]


def npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    text = header.encode("latin-1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<I", len(text)) + text + content


def of_shape(shape: str, content: bytes = b"\0" * 24, descr: str = "'<f4'") -> bytes:
    return npy(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}", content)


@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_what_numpy_wrote_comes_back_writable(tmp_path: Path, array: Any) -> None:
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.npz", a=array, other=np.zeros(3))
    np.savez_compressed(tmp_path / "y.npz", a=array)
    for read in (
        read_npy(tmp_path / "x.npy"),
        read_npz(tmp_path / "x.npz", ["a"])["a"],
        read_npz(tmp_path / "y.npz")["a"],
    ):
        assert read.dtype == array.dtype
        assert read.flags.writeable
        np.testing.assert_array_equal(read, array)
    assert set(read_npz(tmp_path / "x.npz", ["other", "absent"])) == {"other"}
    assert names_in_npz(tmp_path / "x.npz") == {"a", "other"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x80\x04\x95abcdef", "it is a pickle"),
        (b"PK\x03\x04abcdefg", "call it .npz"),
        (b"RIFF....", "begins with"),
        (of_shape("(2, 3)")[:40], "damaged"),
        (of_shape("(2, 3)")[:-1], r"promises 24 bytes \(shape \(2, 3\)\) and has 23: it was cut off"),
        (of_shape("(2, 3)") + b"x", "something was added"),
        (of_shape("(10**15,)"), "damaged"),
        (of_shape(f"({10**15},)"), "promises 4,000,000,000,000,000 bytes"),
        (of_shape(f"({10**15}, {10**15}, {10**15})"), "promises"),
        (of_shape("(-2, -3)"), "cannot be"),
        (of_shape("2"), "damaged"),
        (of_shape("(2, 3)", descr="'|O'"), "holds Python objects, a pickle"),
        (of_shape("(2, 3)", descr="[('a', '<f4')]"), "neither numbers nor text"),
        (of_shape("(3,)", descr="'<M8[s]'"), "neither numbers nor text"),
        (of_shape("(2, 3)", descr="'banana'"), "damaged"),
        (of_shape("(1,)", b"\xff\xff\xff\x7f", descr="'<U1'"), "characters that do not exist"),
        (of_shape("(1,)", b"\x7f\xff\xff\xff", descr="'>U1'"), "characters that do not exist"),
        (npy("__import__('os').system('true')"), "damaged"),
        (npy("{" * 5000), "damaged"),
        (npy(" " * 20_000 + "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}"), "damaged"),
        (npy("{'descr': '<f4'}", version=3), "version 3"),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_damage_is_a_sentence_and_costs_no_memory(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(ArrayFileError, match=rf"x\.npy.*({words})"):
        read_npy(path)
    with pytest.raises(ArrayFileError, match=rf"x\.npz.*({words})"):
        read_npz(tmp_path / "x.npz")


def test_files_that_are_not_there_or_no_files(tmp_path: Path) -> None:
    with pytest.raises(ArrayFileError, match="there is no file"):
        read_npy(tmp_path / "absent.npy")
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(ArrayFileError, match="cannot be read"):
        read_npy(tmp_path / "folder.npy")
    os.mkfifo(tmp_path / "pipe.npy")  # into which nobody will ever write
    (tmp_path / "endless.npy").symlink_to("/dev/zero")
    readers: list[Callable[[Path], Any]] = [read_npy, read_npz, names_in_npz, read_object_array]
    for path in (tmp_path / "pipe.npy", tmp_path / "endless.npy"):
        for read in readers:
            with pytest.raises(ArrayFileError, match="it is a pipe or a device"):
                read(path)
    (tmp_path / "bad\x1b[31m.npy").write_bytes(b"x")
    with pytest.raises(ArrayFileError) as error:
        read_npy(tmp_path / "bad\x1b[31m.npy")
    assert "\x1b" not in str(error.value)


@pytest.mark.usefixtures("little_memory")
def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    size = 200 << 20
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("features.npy", "w") as file:
        file.write(of_shape(f"({size // 4},)", b""))
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    assert (tmp_path / "x.npz").stat().st_size < 1 << 20
    with pytest.raises(ArrayFileError, match="may be made to fill the memory"):
        read_npz(tmp_path / "x.npz")
    assert read_npz(tmp_path / "x.npz", ["labels"]) == {}  # what nobody asks for is not looked at


def zip_of(array: Any) -> bytearray:
    file = io.BytesIO()
    np.savez(file, a=array)
    return bytearray(file.getvalue())


def test_archives_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    whole = zip_of(np.arange(100.0))
    flipped = whole.copy()
    flipped[400] ^= 1
    for content in (whole[:-30], whole[:500], flipped, bytes(whole).replace(b"PK\x01\x02", b"PK\x01\x03"), b"PK\x05\x06"):
        path.write_bytes(content)
        with pytest.raises(ArrayFileError, match=r"x\.npz"):
            read_npz(path)
    encrypted = whole.copy()
    encrypted[whole.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(ArrayFileError, match="password"):
        read_npz(path)
    huge = whole.copy()  # a central directory that promises 3 GiB in as many bytes
    entry = whole.index(b"PK\x01\x02")
    huge[entry + 20 : entry + 28] = struct.pack("<II", 3 << 30, 3 << 30)
    path.write_bytes(huge)
    with pytest.raises(ArrayFileError):
        read_npz(path)


def test_names_that_lead_elsewhere_lead_nowhere(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("../../escaped.npy", content.getvalue())
    assert list(read_npz(tmp_path / "x.npz")) == ["../../escaped"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", content.getvalue())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", content.getvalue())
    with pytest.raises(ArrayFileError, match="there twice"):
        read_npz(tmp_path / "x.npz")
