"""Object arrays: all that is data comes back as NumPy itself gives it, and nothing that is more than data is followed."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tal_run.extractors.array_files import ArrayFileError
from tal_run.extractors.object_arrays import read_object_array, write_object_array

OBJECTS: list[Any] = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(3, dtype=">i2"),
    np.array(["long jump", "ä"]),
    np.array([b"video_test_0000004"]),
    np.array([], np.float64),
    np.float32(0.5),
    ["a", "b", ["c", {"k": (1, -2.5, None, True, False, b"\x00\xff", 1 << 80)}]],
    {"nested": {"deeper": [()]}},
    {1, 2, 3},
    "text",
    7,
]


def pickled(array: NDArray[Any], protocol: int) -> bytes:
    """A .npy file of objects, with another protocol than NumPy's own."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": array.shape})
    file.write(pickle.dumps(array, protocol=protocol))
    return file.getvalue()


def raw(program: bytes, shape: tuple[int, ...] = (1,)) -> bytes:
    """A .npy file of objects whose pickle is this program."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": shape})
    return file.getvalue() + program


def as_objects(items: list[Any]) -> NDArray[Any]:
    array = np.empty(len(items), object)
    for index, item in enumerate(items):
        array[index] = item
    return array


@pytest.mark.parametrize("protocol", range(6))
def test_what_numpy_writes_comes_back_from_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(pickled(as_objects(OBJECTS), protocol))
    for read, expected in zip(read_object_array(path), OBJECTS, strict=True):
        assert type(read) is type(expected)
        if isinstance(expected, np.ndarray):
            assert read.dtype == expected.dtype
            np.testing.assert_array_equal(read, expected)
        else:
            assert read == expected


def test_arrays_of_several_dimensions_and_shared_objects(tmp_path: Path) -> None:
    shared = np.arange(3)
    array = np.empty((2, 2), object)
    array[:] = [[None, "b"], ["c", None]]
    array[0, 0] = array[1, 1] = shared
    np.save(tmp_path / "x.npy", array)
    read = read_object_array(tmp_path / "x.npy")
    assert read.shape == (2, 2)
    assert read[0, 0] is read[1, 1]
    assert read[1, 0] == "c"


def test_what_python_2_wrote_is_read(tmp_path: Path) -> None:
    """W-TALC's files: strings of bytes as BINSTRING, the header with long integers."""
    content = np.arange(4, dtype="<f4").tobytes()
    inner = b"".join(
        [
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02K\x02\x86",
            b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<I", len(content)) + content + b"tb",
        ]
    )
    program = b"".join(
        [
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01\x85",
            b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb\x89]"
            + inner
            + b"atb.",
        ]
    )
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1L,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + program)
    (read,) = read_object_array(tmp_path / "x.npy")
    np.testing.assert_array_equal(read, [[0, 1], [2, 3]])


def test_what_is_written_is_read_by_numpy_and_here(tmp_path: Path) -> None:
    arrays = [np.random.default_rng(0).normal(size=(t, 5)).astype(np.float32) for t in (3, 1, 7)] + [np.zeros((0, 5))]
    path = tmp_path / "x.npy"
    with path.open("wb") as file:
        write_object_array(file, arrays)
    for read in (np.load(path, allow_pickle=True, encoding="bytes"), read_object_array(path)):  # as W-TALC's code loads it
        assert read.shape == (4,)
        assert read.dtype == object
        for found, expected in zip(read, arrays, strict=True):
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


def test_plain_arrays_are_read_too(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([b"a", b"b"]))
    assert read_object_array(tmp_path / "x.npy").tolist() == [b"a", b"b"]


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("nested", [False, True])
def test_hostile_pickles_are_named_and_never_followed(tmp_path: Path, protocol: int, nested: bool) -> None:
    import os

    sentinel = tmp_path / "sentinel"
    hostile: Any = Calls(os.mkdir, str(sentinel))
    path = tmp_path / "x.npy"
    path.write_bytes(pickled(as_objects([[hostile] if nested else hostile]), protocol))
    with pytest.raises(ArrayFileError, match=r"x\.npy is more than data: its call of posix\.mkdir .* first published"):
        read_object_array(path)
    assert not sentinel.exists()
    np.load(path, allow_pickle=True)  # what would have happened
    assert sentinel.exists()


@pytest.mark.parametrize(
    "value",
    [
        Calls(eval, "1"),
        Calls(getattr, "", "upper"),
        Calls(bytearray, 10**12),
        Calls(np.load, "x"),
        Calls(np.zeros, 10**12),
        OrderedDict(a=1),
        Path("x"),
        range(3),
        1 + 2j,
        np.dtype("f4"),
        np.array([(1, 2.0)], "i4,f8"),
        np.array(["2020"], "M8[Y]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_arrays_and_built_in_containers_are_admitted(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(pickled(as_objects([value, np.zeros(1)]), 2))
    if isinstance(value, np.dtype):  # inert, but no data: whoever takes the elements sees that
        assert not isinstance(read_object_array(path)[0], (np.ndarray, np.dtype))
        return
    with pytest.raises(ArrayFileError):
        read_object_array(path)


START = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
DTYPE = b"cnumpy\ndtype\nX\x02\x00\x00\x00%sK\x00K\x01\x87R"


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b".",
        b"\x80\x03N.",
        b"\x80\x03]]e.",
        b"\x80\x030.",
        b"\x80\x03(((.",
        b"\x80\x03t.",
        b"\x80\x03h\x07.",
        b"\x80\x03\x85.",
        b"\x80\x03B\xff\xff\xff\xffabc.",  # four gigabytes, it says
        b"\x80\x03\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x03\x8b\xff\xff\xff\x7fabc.",
        b"\x80\x03Nr\xff\xff\xff\x7f.",  # the memo's two billionth place
        b"\x80\x03cos\nsystem\n.",
        b"\x80\x03(ios\nsystem\n.",
        b"\x80\x03cnumpy\nndarray\n)\x81.",
        b"\x80\x03cnumpy\nndarray\nK\x05\x85R.",
        b"\x80\x03\x82\x01.",
        b"\x80\x03Pid\n.",
        b"\x80\x03NQ.",
        b"\x80\x05\x97.",
        START + b".",
        START + b"N" + b"b.",
        START + b"(K\x01\x8a\x08" + struct.pack("<q", 10**15) + b"\x85" + DTYPE % b"f4" + b"\x89C\x00tb.",
        START + b"(K\x01K\x01\x85" + DTYPE % b"O8" + b"\x89C\x08AAAAAAAAtb.",  # bytes for pointers
        # the same, with the flags of a type that is no object
        START
        + b"(K\x01K\x01\x85"
        + DTYPE % b"O8"
        + b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89C\x08AAAAAAAAtb.",
        START + b"(K\x01K\x01\x85" + DTYPE % b"f4" + b"\x89]K\x01atb.",
        START + b"(K\x01J\xff\xff\xff\xff\x85" + DTYPE % b"f4" + b"\x89C\x00tb.",
        START + b"(K\x01K\x01\x85" + DTYPE % b"V8" + b"\x89C\x08AAAAAAAAtb.",
        START + b"(K\x01K\x01\x85" + DTYPE % b"U1" + b"\x89C\x04\xff\xff\xff\xfftb.",
        START + b"(K\x01K\x01\x85" + DTYPE % b"U0" + b"\x89C\x00tb.",
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_broken_programs_cost_a_sentence_and_no_memory(tmp_path: Path, program: bytes) -> None:

    path = tmp_path / "x.npy"
    path.write_bytes(raw(program))
    with pytest.raises(ArrayFileError, match=r"x\.npy"):
        read_object_array(path)


DOUBLING = b"K\x01" + b"2\x86" * 40  # 2^40 ends, of tuples of the one before twice
OBJECTS_DTYPE = DTYPE % b"O8" + b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"


def nested(depth: int) -> bytes:
    """A program that puts object arrays [1] into each other, so deep."""
    opening = START + b"(K\x01K\x01\x85h\x07\x89]"
    return (
        b"\x80\x03" + OBJECTS_DTYPE + b"q\x070" + opening.removeprefix(b"\x80\x03") * depth + b"K\x05" + b"atb" * depth + b"."
    )


@pytest.mark.parametrize(
    "program",
    [
        START + b"(K\x01" + DOUBLING + OBJECTS_DTYPE + b"\x89]tb.",
        b"\x80\x04" + DOUBLING + b"K\x01\x93.",
        b"\x80\x03" + DOUBLING + b".",
        nested(11),
        nested(20_000),
    ],
    ids=["shape", "name", "result", "nested", "nested deep"],
)
@pytest.mark.timeout(20)
def test_what_grows_when_it_is_printed_or_freed_is_refused(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(raw(program))
    with pytest.raises(ArrayFileError, match=r"x\.npy"):
        read_object_array(path)


def test_arrays_may_lie_in_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(raw(nested(10)))
    value: Any = read_object_array(path)
    for _ in range(10):
        (value,) = value
    assert value == 5


@settings(max_examples=300)
@given(st.data())
def test_no_damage_does_more_than_raise(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(pickled(as_objects(OBJECTS), data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(0, len(whole))) or len(whole) :]
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    path.write_bytes(whole)
    with suppress(ArrayFileError):
        read_object_array(path)
