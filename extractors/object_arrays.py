"""Object arrays, read and written without pickle: W-TALC's features, and published annotations.

In a .npy file, an array of Python objects is a pickle: a program for a small stack machine whose GLOBAL and REDUCE may
call any function. Here ``pickletools`` takes the program apart (it runs nothing), and a machine of our own follows the
instructions that build numbers, text, lists, tuples, sets, dicts and arrays. A GLOBAL becomes a mere name on the stack;
REDUCE and BUILD know a handful of such names, and make arrays of bytes that are there. NumPy's own ``__setstate__``,
which believes whatever it is told of those bytes, is never called. Anything else ends the reading, and nothing happened.

What was read is never printed: a few instructions make a tuple of tuples of 2^40 ends. Object arrays lie in each other
``MAX_NESTING`` deep at most, as NumPy frees them one inside the other and falls off the stack.

Pickles of protocols 0 to 5 and of Python 2 are read (its ``str`` as Latin-1). What is written is protocol 3 with NumPy 1's
names, which every Python 3 reads, with NumPy 2 as well.
"""

from __future__ import annotations

import math
import os
import pickletools
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.array_files import (
    FETCH_AGAIN,
    Array,
    ArrayFileError,
    check_text,
    opened,
    read_header,
    read_npy,
    reported,
    shown,
)
from tal_run.extractors.wire import printable

# a pickle's "module name" -> what it means here
NAMES: dict[str, str] = {
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy.core.multiarray scalar": "scalar",
    "numpy._core.multiarray scalar": "scalar",
    "numpy.core.numeric _frombuffer": "whole array",  # protocol 5
    "numpy._core.numeric _frombuffer": "whole array",
    "_codecs encode": "encoded",  # Python 3's way to write bytes for Python 2
    "builtins bytes": "no bytes",
    "__builtin__ bytes": "no bytes",
    "builtins set": "set",
    "__builtin__ set": "set",
}
ELEMENT = re.compile(r"[biuf](1|2|4|8)|[SU][1-9]\d{0,5}|O8?")
MAX_RANK = 8
MAX_NESTING = 10


def read_object_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array of Python objects in a .npy file; one of plain elements is read as well.

    Its elements are what the file says: arrays, numbers, text, containers. Check them before use.

    Raises:
        ArrayFileError: the file is missing, damaged, or wants more than data.
    """
    path = Path(path)
    with reported(path), opened(path) as file:
        header = read_header(file, shown(path))
        if not header.dtype.hasobject:
            return read_npy(path)
        array = _Machine(shown(path)).run(_Clipped(file))
        if not isinstance(array, np.ndarray) or array.shape != header.shape or not array.dtype.hasobject:
            raise ArrayFileError(f"{shown(path)} does not hold the array that it promises: {FETCH_AGAIN}")
        return array


def write_object_array(file: BinaryIO, arrays: Sequence[Array]) -> None:
    """Write arrays of numbers as the elements of an object array [N], .npy; one at a time, so they may be file maps."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (len(arrays),)})
    file.write(b"\x80\x03")
    _write_array_up_to_content(file, (len(arrays),), "O8", "|")
    file.write(b"](")
    for array in arrays:
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        _write_array_up_to_content(file, plain.shape, plain.dtype.str[1:], "<")
        file.write(b"B" + struct.pack("<I", plain.nbytes))
        file.write(plain.data)
        file.write(b"tb")
    file.write(b"etb.")


def _write_array_up_to_content(file: BinaryIO, shape: tuple[int, ...], element: str, order: str) -> None:
    """``_reconstruct(ndarray, (0,), b"b")`` and of its state ``(1, shape, dtype, False, content)`` all but the last."""
    file.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R")
    file.write(b"(K\x01(" + b"".join(b"\x8a\x08" + struct.pack("<q", length) for length in shape) + b"t")
    file.write(b"cnumpy\ndtype\n" + _text(element) + b"K\x00K\x01\x87R")
    no_size, flags = b"J\xff\xff\xff\xff", b"\x3f" if element == "O8" else b"\x00"  # objects: counted, pickled one by one
    file.write(b"(K\x03" + _text(order) + b"NNN" + no_size + no_size + b"K" + flags + b"tb")
    file.write(b"\x89")


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode("ascii")


class _Clipped:
    """A file that is never asked for more than it has: a length in a pickle may promise anything."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self.readline, self.tell = file.readline, file.tell

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._size - self._file.tell())))


@dataclass(frozen=True)
class _Name:
    """A function or class that a pickle names: its meaning here."""

    meaning: str


@dataclass(eq=False)
class _Element:
    """An array's element type while it is put together."""

    spec: str
    order: str = "="

    def dtype(self) -> np.dtype[Any]:
        if not ELEMENT.fullmatch(self.spec):
            raise ValueError(f"an array of {self.spec!r}")
        return np.dtype(self.spec[0] if self.spec.startswith("O") else self.order + self.spec)


@dataclass(eq=False)
class _Unbuilt:
    """An array between its REDUCE and its BUILD, and where the memo has it."""

    memo_keys: list[int] = field(default_factory=list)


class _Mark:
    """Where a run of arguments begins on the stack."""


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
CONTAINERS: dict[str, type] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set, "MARK": _Mark}


class _Machine:
    """The stack machine of pickles, with nothing in reach but data. ``where``: the file, for messages."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._nesting: dict[int, tuple[Array, int]] = {}  # of object arrays, by id; held, so that ids stay theirs

    def run(self, file: _Clipped) -> Any:
        for opcode, argument, _ in pickletools.genops(file):  # type: ignore[arg-type]
            self._step(opcode.name, argument)
        (result,) = self._stack
        return result

    def _step(self, instruction: str, argument: Any) -> None:
        push, pop, pop_to_mark, top = self._stack.append, self._pop, self._pop_to_mark, self._top
        match instruction:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT":
                push(argument)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                push(argument)
            case "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                push(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push(CONSTANTS[instruction])
            case "EMPTY_LIST" | "EMPTY_TUPLE" | "EMPTY_DICT" | "EMPTY_SET" | "MARK":
                push(CONTAINERS[instruction]())
            case "LIST":
                push(pop_to_mark())
            case "TUPLE":
                push(tuple(pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(pop(int(instruction[-1]))))
            case "FROZENSET":
                push(set(map(_key, pop_to_mark())))
            case "DICT":
                push(_dict(pop_to_mark()))
            case "APPEND" | "APPENDS":
                items = pop(1) if instruction == "APPEND" else pop_to_mark()
                top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = pop(2) if instruction == "SETITEM" else pop_to_mark()
                top(dict).update(_dict(items))
            case "ADDITEMS":
                items = pop_to_mark()
                top(set).update(map(_key, items))
            case "POP":
                self._stack.pop()
            case "POP_MARK":
                pop_to_mark()
            case "DUP":
                push(top(object))
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self._remember(len(self._memo) if argument is None else argument)
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "GLOBAL":
                push(self._name(argument))
            case "STACK_GLOBAL":
                names = pop(2)
                if not all(isinstance(name, str) for name in names):
                    raise ValueError("a function whose name is no text")
                push(self._name(" ".join(names)))
            case "REDUCE":
                push(self._call(*pop(2)))
            case "BUILD":
                (state,) = pop(1)
                self._build(top(object), state)
            case _:
                self._refuse(f"its instruction {instruction}")

    def _refuse(self, wanted: str) -> NoReturn:
        raise ArrayFileError(
            f"{self._where} is more than data: {printable(wanted)} could run a program, so nothing of it was used; get "
            "the file from where it was first published"
        )

    def _pop(self, count: int) -> list[Any]:
        taken = self._stack[-count:]
        if len(taken) < count or any(isinstance(value, _Mark) for value in taken):
            raise ValueError("a value is missing")
        del self._stack[-count:]
        return taken

    def _pop_to_mark(self) -> list[Any]:
        taken = []
        while not isinstance(value := self._stack.pop(), _Mark):
            taken.append(value)
        return taken[::-1]

    def _top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise ValueError(f"there is no {kind.__name__} where one belongs")
        return self._stack[-1]

    def _remember(self, key: int) -> None:
        value = self._memo[key] = self._top(object)
        if isinstance(value, _Unbuilt):
            value.memo_keys.append(key)

    def _name(self, qualified: str) -> _Name:
        if qualified not in NAMES:
            self._refuse(f"its call of {qualified.replace(' ', '.')}")
        return _Name(NAMES[qualified])

    def _call(self, function: Any, arguments: Any) -> Any:
        meaning = function.meaning if isinstance(function, _Name) else None
        match meaning, arguments:
            case "array", (_Name("ndarray"), tuple(), str() | bytes()):
                return _Unbuilt()
            case "whole array", (bytes() | bytearray() as content, _Element() as element, tuple() as shape, "C" | "F" as order):
                return _array(content, element, shape, order)
            case "scalar", (_Element() as element, str() | bytes() as content):
                return _array(content, element, (), "C")[()]
            case "dtype", (str() | bytes() as spec, *_):
                return _Element(_as_text(spec))
            case "encoded", (str() as text, "latin1" | "latin-1"):
                return text.encode("latin-1")
            case "no bytes", ():
                return b""
            case "set", ([*members],):
                return set(map(_key, members))
        self._refuse(f"its call of {meaning or 'what is no function'} with such arguments")

    def _build(self, target: Any, state: Any) -> None:
        match target, state:
            case _Element(), (int(), "|" | "=" | "<" | ">" | b"|" | b"=" | b"<" | b">" as order, None, None, None, *_):
                target.order = _as_text(order).replace("|", "=")
            case _Unbuilt(), (int(), tuple() as shape, _Element() as element, bool() | int() as is_fortran, content):
                array = _array(content, element, shape, "F" if is_fortran else "C")
                if array.dtype.hasobject:
                    self._count_nesting(array, content)
                self._stack[-1] = array
                self._memo.update(dict.fromkeys(target.memo_keys, array))
            case _:
                raise ValueError("an object with a state that none has here")

    def _count_nesting(self, array: Array, elements: list[Any]) -> None:
        """Note how deep object arrays lie in this one, whose elements do not change any more."""
        nesting = 1 + max((self._nesting[id(value)][1] for value in elements if id(value) in self._nesting), default=0)
        if nesting > MAX_NESTING:
            raise ValueError(f"more than {MAX_NESTING} arrays inside each other")
        self._nesting[id(array)] = array, nesting


def _array(content: Any, element: _Element, shape: tuple[Any, ...], order: Any) -> Array:
    """An array [shape] of bytes, or of a list of objects, that are exactly as many as it takes."""
    if len(shape) > MAX_RANK or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("an array of a shape that cannot be")
    dtype, count = element.dtype(), math.prod(shape)
    if isinstance(content, str):
        content = content.encode("latin-1")  # of Python 2
    if dtype.hasobject:
        if not isinstance(content, list) or len(content) != count:
            raise ValueError("an array with more or fewer objects than it promises")
        flat: Array = np.empty(count, object)
        for index, value in enumerate(content):
            flat[index] = value
    else:
        if not isinstance(content, (bytes, bytearray)) or len(content) != count * dtype.itemsize:
            raise ValueError("an array with more or fewer bytes than it promises")
        flat = np.frombuffer(content, dtype)
        check_text(flat)
    return flat.reshape(shape, order=order)


def _dict(pairs: list[Any]) -> dict[Any, Any]:
    return dict(zip(map(_key, pairs[::2]), pairs[1::2], strict=True))


def _key(value: Any) -> Any:
    """What may be a key: to hash text and numbers calls nothing."""
    if not isinstance(value, (str, bytes, int, float, type(None))):
        raise ValueError("a key that is neither text nor number")
    return value


def _as_text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
