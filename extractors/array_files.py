"""NumPy's files (.npy, .npz) read as if a stranger had written them, which is often so.

Sizes are checked against the bytes that are there before any memory is taken, and Python objects are refused: only
``object_arrays.py`` reads those, without pickle. What is wrong is said in a sentence with its cure.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.wire import printable

KINDS = "biufSU"  # numbers and text
LAST_CHARACTER = 0x10FFFF
FETCH_AGAIN = "fetch it again, or have it made again"
# Deflate packs at most 1,032 to 1, and features hardly 2 to 1.
BOMB_RATIO, BOMB_BYTES = 100, 64 << 20

Array = NDArray[Any]


class ArrayFileError(TalRunError):
    """A file of arrays that cannot be read, or must not be."""


@dataclass(frozen=True)
class ArrayHeader:
    """What a .npy file promises: shape, element type, order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool

    @property
    def byte_count(self) -> int:
        """Bytes of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: str | os.PathLike[str]) -> Array:
    """The array in a .npy file, writable.

    Raises:
        ArrayFileError: the file is missing, damaged, or of another kind.
    """
    path = Path(path)
    with reported(path), opened(path) as file:
        return _read_array(file, os.fstat(file.fileno()).st_size, shown(path))


def read_npz(path: str | os.PathLike[str], names: Collection[str] | None = None) -> dict[str, Array]:
    """The arrays in an .npz file by name: those of ``names`` that are there, or all.

    Raises:
        ArrayFileError: the file is missing, damaged, of another kind, or unpacks to more than it could hold.
    """
    path = Path(path)
    arrays = {}
    with reported(path), opened(path) as file, zipfile.ZipFile(file) as archive:
        size = os.fstat(file.fileno()).st_size
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if names is not None and name not in names:
                continue
            where = f"{shown(path)} ({printable(name)})"
            if name in arrays:
                raise ArrayFileError(f"{where} is there twice: {FETCH_AGAIN}")
            packed = min(member.compress_size, size)
            if member.file_size > max(BOMB_BYTES, BOMB_RATIO * packed):
                raise ArrayFileError(
                    f"{where} would unpack {packed:,} bytes to {member.file_size:,}, as no features do: it may be made to "
                    "fill the memory, so get it from where it was first published"
                )
            with archive.open(member) as packed_file:
                arrays[name] = _read_array(packed_file, member.file_size, where)
    return arrays


def names_in_npz(path: str | os.PathLike[str]) -> set[str]:
    """The names of the arrays in an .npz file, of which no more is read. Raises ArrayFileError: they cannot be read."""
    path = Path(path)
    with reported(path), opened(path) as file, zipfile.ZipFile(file) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A regular file, open for reading: a pipe would be waited for, and a device may never end.

    Raises:
        OSError: it is missing, of another kind, or cannot be read.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, no file", os.fspath(path))
        yield file


def read_header(file: BinaryIO | Any, where: str) -> ArrayHeader:
    """The header at the start of a .npy file; the file then stands at the elements. Raises ArrayFileError."""
    head = file.read(8)
    if head[:6] != b"\x93NUMPY":
        raise ArrayFileError(f"{where} is no array of NumPy ({_guess(head)}): {FETCH_AGAIN}")
    readers = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    if head[6] not in readers:
        raise ArrayFileError(f"{where} is in version {head[6]} of NumPy's form, not 1 or 2: save it again with numpy.save")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "created on Python 2", as W-TALC's are; or on the syntax of a damaged one
        shape, is_fortran, dtype = readers[head[6]](file)
    if not all(isinstance(length, int) and length >= 0 for length in shape) or len(shape) > 32:
        raise ArrayFileError(f"{where} promises the shape {printable(shape)}, which cannot be: {FETCH_AGAIN}")
    return ArrayHeader(shape, dtype, is_fortran)


def shown(path: str | os.PathLike[str]) -> str:
    """A path as it may be printed."""
    return printable(os.fspath(path))


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Say what goes wrong inside as an ArrayFileError that names the file."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArrayFileError(f"there is no file {shown(path)}: check the name, or have it made") from error
    except OSError as error:
        raise ArrayFileError(f"{shown(path)} cannot be read ({error.strerror or error}): check the disk") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        OverflowError,
        RecursionError,
        SyntaxError,  # in the header, which is Python
        tokenize.TokenError,
        NotImplementedError,  # another compression
        RuntimeError,  # a password
        MemoryError,
    ) as error:
        raise ArrayFileError(f"{shown(path)} is damaged ({_short(error)}): {FETCH_AGAIN}") from error


def _short(error: Exception) -> str:
    words = str(error).partition(": <")[0]  # Python's parser shows objects with their addresses
    return printable(words or type(error).__name__, limit=120)


def _read_array(file: Any, size: int, where: str) -> Array:
    """The array that ends where ``file``, of ``size`` bytes, does."""
    header = read_header(file, where)
    if header.dtype.hasobject:
        raise ArrayFileError(
            f"{where} holds Python objects, a pickle, which could run anything: save it as plain numbers, a file a video"
        )
    if header.dtype.kind not in KINDS or header.dtype.fields:
        raise ArrayFileError(f"{where} holds {printable(header.dtype)}, neither numbers nor text: save it as float32")
    there = size - file.tell()
    if header.byte_count != there:
        cut = "it was cut off" if there < header.byte_count else "something was added or its beginning is damaged"
        raise ArrayFileError(
            f"{where} promises {header.byte_count:,} bytes (shape {header.shape}) and has {there:,}: {cut}; {FETCH_AGAIN}"
        )
    content = bytearray(there)
    with memoryview(content) as view:
        filled = 0
        while filled < there and (read := file.readinto(view[filled:])):
            filled += read
    if filled < there or file.read(1):  # the latter checks a packed file's sum
        raise ArrayFileError(f"{where} ends too early: {FETCH_AGAIN}")
    array: Array = np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.is_fortran else "C")
    check_text(array)
    return array


def check_text(array: Array) -> None:
    """Refuse text with characters that do not exist, at which Python itself would stumble. Raises ValueError."""
    if array.dtype.kind == "U" and array.size and array.reshape(-1).view(array.dtype.str[0] + "u4").max() > LAST_CHARACTER:
        raise ValueError("text with characters that do not exist")


def _guess(head: bytes) -> str:
    """What a file is that is not what it should be."""
    if not head:
        return "it is empty"
    if head.startswith(b"version "):
        return "it is a pointer of Git LFS: `git lfs pull` fetches the file"
    if head.lstrip().startswith((b"<", b"{")):
        return "it is text, perhaps a web page that asks to log in"
    if head.startswith(b"PK"):
        return "it is an archive: call it .npz"
    if head.startswith(b"\x80"):
        return "it is a pickle, which could run anything"
    return f"it begins with {head!r}"
