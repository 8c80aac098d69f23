"""TV-L1's inner loops for CPUs, compiled by numba; ``flow_numba`` calls them, and its docstring tells the method.

Layout. All of a scale's planes are rows of one array [P, N]. Within a plane a picture [H, W] has one row more above and
one more below, MARGIN columns on its left and at least one on its right; a row is a whole number of vectors::

              MARGIN     W      >= 1
            +--------+--------+------+
            |    0   |   0    |  0   |   row -1: p is zero there, so div p needs no case of its own (Chambolle's borders)
            +--------+--------+------+
            |    0   | picture| u[W] |   u[W] repeats u[W - 1]: the forward difference over the right border is zero
            +--------+--------+------+
            |    0   |u[H - 1]|      |   row H repeats row H - 1: so is that over the lower one
            +--------+--------+------+

Vectors are written out (``_Lanes``) because no compiler can know that the planes do not overlap: left to itself, LLVM
compiles these loops nine times slower. Any CPU will do; LLVM cuts sixteen lanes into what the machine has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from tal_run.extractors.flow_networks import MEDIAN_NETWORKS, MIDDLE_WIRES, SORT_NETWORKS

LANES = 16
MARGIN = 16
# planes of a scale
U1, U2, P11, P12, P21, P22, I1X, I1Y, INVERSE, RHO, OLD1, OLD2 = range(12)
PLANES = 12
CHANNELS = 4  # of the picture that is warped: I1, its two gradients, nothing
BORDER = 4  # zeros around it
FLAT = float(np.finfo(np.float32).eps)  # below this square of its gradient, a place says nothing of motion (OpenCV's)
# Iterations in one sweep over the rows, at most. One is as fast where all planes fit a cache, but takes half as long again
# at 1080p; with more, nothing much is gained and the stopping rule is overshot further.
SWEEP = 4

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int32]


def compiled(function: Callable[..., Any]) -> Any:
    """Compile at first use, and keep the machine code: beside this file, else in the user's cache, else only in memory."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:  # numba: there is no folder for a cache that can be written to
        return njit(function, **options)


# ---- vectors, while a kernel is being written ----

_FLOAT, _INT, _INDEX, _BYTE = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.IntType(8)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_FAST = ("contract", "reassoc", "nsz", "arcp", "afn")  # not nnan, ninf: a NaN must stay one


class _Lanes:
    """Sixteen floats at once: arithmetic on these writes instructions."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _other(self, other: _Lanes | float) -> Any:
        return other.value if isinstance(other, _Lanes) else ir.Constant(_FLOATS, [float(other)] * LANES)

    def _lanes(self, value: Any) -> _Lanes:
        return _Lanes(self.builder, value)

    def __add__(self, other: _Lanes | float) -> _Lanes:
        return self._lanes(self.builder.fadd(self.value, self._other(other), flags=_FAST))

    def __sub__(self, other: _Lanes | float) -> _Lanes:
        return self._lanes(self.builder.fsub(self.value, self._other(other), flags=_FAST))

    def __mul__(self, other: _Lanes | float) -> _Lanes:
        return self._lanes(self.builder.fmul(self.value, self._other(other), flags=_FAST))

    def inverse(self) -> _Lanes:
        return self._lanes(self.builder.fdiv(self._other(1.0), self.value, flags=_FAST))

    def sqrt(self) -> _Lanes:
        root = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(_FLOATS, [_FLOATS]), f"llvm.sqrt.v{LANES}f32"
        )
        return self._lanes(self.builder.call(root, [self.value], fastmath=_FAST))

    def sum(self) -> Any:
        kind = ir.FunctionType(_FLOAT, [_FLOAT, _FLOATS])
        reduce = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
        return self.builder.call(reduce, [ir.Constant(_FLOAT, 0.0), self.value], fastmath=_FAST)


def _smaller(a: _Lanes, b: _Lanes | float) -> _Lanes:
    other = a._other(b)
    return _Lanes(a.builder, a.builder.select(a.builder.fcmp_ordered("<", a.value, other), a.value, other))


def _larger(a: _Lanes, b: _Lanes | float) -> _Lanes:
    other = a._other(b)
    return _Lanes(a.builder, a.builder.select(a.builder.fcmp_ordered(">", a.value, other), a.value, other))


def _splat(builder: Any, scalar: Any, kind: Any = _FLOATS) -> Any:
    """One scalar in all lanes."""
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(_INTS, [0] * LANES))


class _Rows:
    """Loads and stores by (row, plane) within a loop over a row, sixteen pixels a turn."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        planes = context.make_array(kind)(context, builder, array)
        self.builder = builder
        self.start = builder.bitcast(planes.data, _BYTE.as_pointer())
        self.stride = cgutils.unpack_tuple(builder, planes.strides)[0]
        self.x: Any = None

    def at(self, plane: Any, offset: Any) -> Any:
        """Where a row begins: the plane's number and the index within it."""
        index = plane if isinstance(plane, ir.Value) else ir.Constant(_INDEX, plane)
        skipped = self.builder.add(self.builder.mul(self.stride, index), self.builder.mul(offset, ir.Constant(_INDEX, 4)))
        return self.builder.gep(self.start, [skipped])

    def _pointer(self, row: Any, dx: int) -> Any:
        here = self.builder.gep(row, [self.builder.mul(self.x, ir.Constant(_INDEX, 4))])
        if dx:
            here = self.builder.gep(here, [ir.Constant(_INDEX, 4 * dx)])
        return here

    def load(self, row: Any, dx: int = 0) -> _Lanes:
        pointer = self.builder.bitcast(self._pointer(row, dx), _FLOATS.as_pointer())
        return _Lanes(self.builder, self.builder.load(pointer, align=4))

    def store(self, row: Any, value: _Lanes) -> None:
        pointer = self.builder.bitcast(self._pointer(row, 0), value.value.type.as_pointer())
        self.builder.store(value.value, pointer, align=4)

    def loop(self, width: Any) -> Any:
        """The loop over a row; within it, ``x`` is the first of sixteen columns."""
        return cgutils.for_range_slice(self.builder, ir.Constant(_INDEX, 0), width, ir.Constant(_INDEX, LANES), _INDEX)


# ---- kernels of one row ----


@intrinsic  # type: ignore[untyped-decorator]
def _iterate_row(
    typing: Any, planes: Any, row: Any, above: Any, width: Any, theta: Any, step: Any, threshold: Any
) -> tuple[Any, Any]:
    """One iteration: v and u of a row, then p of the row above, which needs u of both (V, U and P of ``flow``).

    Args as the caller sees them: planes [P, N]; indices of the two rows' first pixels; their width; theta; tau / theta;
    lambda * theta. Returns the sum over the row of (u_new - u_old)^2.
    """
    kind = types.float32(planes, types.intp, types.intp, types.intp, types.float32, types.float32, types.float32)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, row, above, width, *scalars = arguments
        rows = _Rows(context, builder, signature.args[0], array)
        here = [rows.at(plane, row) for plane in range(PLANES)]
        up = [rows.at(plane, above) for plane in range(PLANES)]
        theta, step, threshold = (_Lanes(builder, _splat(builder, scalar)) for scalar in scalars)
        minus_threshold = threshold * -1.0
        zero = ir.Constant(_FLOATS, [0.0] * LANES)
        total = cgutils.alloca_once_value(builder, zero)
        ends = _splat(builder, builder.trunc(width, _INT), _INTS)
        numbers = ir.Constant(_INTS, list(range(LANES)))
        with rows.loop(width) as (rows.x, _):
            x = builder.add(_splat(builder, builder.trunc(rows.x, _INT), _INTS), numbers)
            # columns behind the border are no pixels: nothing moves them, and they count for no error
            within = _Lanes(builder, builder.select(builder.icmp_signed("<", x, ends), theta.value, zero))
            p12_up, p22_up = rows.load(up[P12]), rows.load(up[P22])
            div_p1 = (rows.load(here[P11]) - rows.load(here[P11], -1)) + (rows.load(here[P12]) - p12_up)
            div_p2 = (rows.load(here[P21]) - rows.load(here[P21], -1)) + (rows.load(here[P22]) - p22_up)
            u1, u2, i1x, i1y = (rows.load(here[plane]) for plane in (U1, U2, I1X, I1Y))
            rho = rows.load(here[RHO]) + i1x * u1 + i1y * u2
            # V: the three cases of the papers' thresholding are one clipped quotient
            quotient = _smaller(_larger(rho * rows.load(here[INVERSE]), minus_threshold), threshold)
            change1 = within * div_p1 - quotient * i1x  # V and U
            change2 = within * div_p2 - quotient * i1y
            sums = _Lanes(builder, builder.load(total)) + change1 * change1 + change2 * change2
            builder.store(sums.value, total)
            u1, u2 = u1 + change1, u2 + change2
            rows.store(here[U1], u1)
            rows.store(here[U2], u2)
            # P in the row above: forward differences of the new u
            u1_up, u2_up = rows.load(up[U1]), rows.load(up[U2])
            u1x, u1y = rows.load(up[U1], 1) - u1_up, u1 - u1_up
            u2x, u2y = rows.load(up[U2], 1) - u2_up, u2 - u2_up
            norm1 = step * (u1x * u1x + u1y * u1y).sqrt() + 1.0
            norm2 = step * (u2x * u2x + u2y * u2y).sqrt() + 1.0
            both = (norm1 * norm2).inverse()  # one division for two
            inverse1, inverse2 = both * norm2, both * norm1
            rows.store(up[P11], (rows.load(up[P11]) + step * u1x) * inverse1)
            rows.store(up[P12], (p12_up + step * u1y) * inverse1)
            rows.store(up[P21], (rows.load(up[P21]) + step * u2x) * inverse2)
            rows.store(up[P22], (p22_up + step * u2y) * inverse2)
        return _Lanes(builder, builder.load(total)).sum()

    return kind, write


@intrinsic  # type: ignore[untyped-decorator]
def _sort_columns(typing: Any, planes: Any, plane: Any, rows: Any, width: Any, columns: Any) -> tuple[Any, Any]:
    """Of as many rows as are given (a tuple of 3 or 5 indices), each column in rising order, into ``columns`` [5, N]."""
    kind = types.void(planes, types.intp, rows, types.intp, columns)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, plane, offsets, width, target = arguments
        source = _Rows(context, builder, signature.args[0], array)
        sink = _Rows(context, builder, signature.args[4], target)
        starts = [source.at(plane, offset) for offset in cgutils.unpack_tuple(builder, offsets)]
        ends = [sink.at(rank, ir.Constant(_INDEX, 0)) for rank in range(len(starts))]
        with source.loop(width) as (source.x, _):
            sink.x = source.x
            values = _exchanged([source.load(start) for start in starts], SORT_NETWORKS[len(starts)])
            for end, value in zip(ends, values, strict=True):
                sink.store(end, value)
        return context.get_dummy_value()

    return kind, write


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _median_row(typing: Any, columns: Any, size: Any, planes: Any, plane: Any, row: Any, width: Any) -> tuple[Any, Any]:
    """The median of each size x size window (a literal 3 or 5) of sorted columns, as a row of a plane."""
    if not isinstance(size, types.IntegerLiteral):
        raise TypeError("the window's size must be written in the code")
    sides = size.literal_value
    kind = types.void(columns, size, planes, types.intp, types.intp, types.intp)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, _, array, plane, row, width = arguments
        source = _Rows(context, builder, signature.args[0], target)
        sink = _Rows(context, builder, signature.args[2], array)
        starts = [source.at(rank, ir.Constant(_INDEX, 0)) for rank in range(sides)]
        end = sink.at(plane, row)
        with source.loop(width) as (source.x, _):
            sink.x = source.x
            window = [source.load(start, dx) for start in starts for dx in range(sides)]
            sink.store(end, _exchanged(window, MEDIAN_NETWORKS[sides])[MIDDLE_WIRES[sides]])
        return context.get_dummy_value()

    return kind, write


def _exchanged(values: list[_Lanes], network: list[tuple[int, int]]) -> list[_Lanes]:
    for i, j in network:
        values[i], values[j] = _smaller(values[i], values[j]), _larger(values[i], values[j])
    return values


@intrinsic  # type: ignore[untyped-decorator]
def _place_row(typing: Any, planes: Any, row: Any, size: Any, y: Any, places: Any, weights: Any) -> tuple[Any, Any]:
    """Where u points to from the pixels of a row, for ``_read_row``.

    Args as the caller sees them: planes [P, N]; index of the row's first pixel; (H, W); y of the row. Written are the top
    row and left column of each 4 x 4 window within the picture and its border, ``places`` int32 [2, N >= W], and the
    weights [2, N >= 4 W] of its four rows and of its four columns.
    """
    kind = types.void(planes, types.intp, size, types.intp, places, weights)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, row, size, y, places, weights = arguments
        rows = _Rows(context, builder, signature.args[0], array)
        windows = _Rows(context, builder, signature.args[4], places)
        factors = _Rows(context, builder, signature.args[5], weights)
        height, width = cgutils.unpack_tuple(builder, size)
        floor = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_FLOATS, [_FLOATS]), f"llvm.floor.v{LANES}f32")
        numbers = _Lanes(builder, ir.Constant(_FLOATS, [float(i) for i in range(LANES)]))
        with rows.loop(width) as (rows.x, _):
            windows.x = rows.x
            x = _Lanes(builder, _splat(builder, builder.sitofp(rows.x, _FLOAT))) + numbers
            for axis, (pixel, plane, side) in enumerate(
                ((_Lanes(builder, _splat(builder, builder.sitofp(y, _FLOAT))), U2, height), (x, U1, width))
            ):
                furthest = _Lanes(builder, _splat(builder, builder.sitofp(builder.add(side, ir.Constant(_INDEX, 1)), _FLOAT)))
                place = _smaller(_larger(pixel + rows.load(rows.at(plane, row)), float(1 - BORDER)), furthest)
                whole = _Lanes(builder, builder.call(floor, [place.value]))
                first = builder.add(builder.fptosi(whole.value, _INTS), ir.Constant(_INTS, [BORDER - 1] * LANES))
                windows.store(windows.at(axis, ir.Constant(_INDEX, 0)), _Lanes(builder, builder.bitcast(first, _FLOATS)))
                four = [weight.value for weight in _cubic_weights(place - whole)]
                factors.x = builder.mul(rows.x, ir.Constant(_INDEX, 4))
                factors.store(factors.at(axis, ir.Constant(_INDEX, 0)), _interleaved(builder, four))
        return context.get_dummy_value()

    return kind, write


def _cubic_weights(t: _Lanes) -> tuple[_Lanes, _Lanes, _Lanes, _Lanes]:
    """Of the four pixels around a place t behind the second one (Keys 1981 with a = -0.75, as OpenCV has it)."""
    rest = t * -1.0 + 1.0
    before, behind = rest * rest * t * -0.75, t * t * rest * -0.75
    near = (t * 1.25 - 2.25) * t * t + 1.0
    return before, near, before * -1.0 - near - behind + 1.0, behind


def _interleaved(builder: Any, four: list[Any]) -> _Lanes:
    """Four vectors as one of 4 x 16 lanes, lane by lane."""
    halves = []
    for pair in (four[:2], four[2:]):
        order = ir.Constant(ir.VectorType(_INT, 2 * LANES), list(range(2 * LANES)))
        halves.append(builder.shuffle_vector(*pair, order))
    order = ir.Constant(ir.VectorType(_INT, 4 * LANES), [lane + LANES * part for lane in range(LANES) for part in range(4)])
    return _Lanes(builder, builder.shuffle_vector(*halves, order))


@intrinsic  # type: ignore[untyped-decorator]
def _read_row(typing: Any, picture: Any, places: Any, weights: Any, width: Any, found: Any) -> tuple[Any, Any]:
    """Bicubic reading: the sums over 4 x 4 pixels, four channels at a time.

    Args as the caller sees them: picture [H, 4 W], channels last; what ``_place_row`` wrote; the row's width; where the
    sums go [1, N >= 4 W].
    """
    kind = types.void(picture, places, weights, types.intp, found)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = [context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 1, 2, 4)]
        picture, places, weights, found = (builder.bitcast(array.data, _BYTE.as_pointer()) for array in arrays)
        line, to_columns, to_weights_x = (cgutils.unpack_tuple(builder, array.strides)[0] for array in arrays[:3])
        four = ir.VectorType(_FLOAT, 4)

        def load(start: Any, offset: Any, kind: Any) -> Any:
            pointer = builder.bitcast(builder.gep(start, [offset]), kind.as_pointer())
            return builder.load(pointer, align=4)

        def times(number: Any, factor: int) -> Any:
            return builder.mul(number, ir.Constant(_INDEX, factor))

        with cgutils.for_range(builder, arguments[3]) as loop:
            here, pixel = times(loop.index, 4), times(loop.index, 16)
            row = builder.sext(load(places, here, _INT), _INDEX)
            column = builder.sext(load(places, builder.add(here, to_columns), _INT), _INDEX)
            start = builder.add(builder.mul(row, line), times(column, 4 * CHANNELS))
            weights_y = load(weights, pixel, four)
            weights_x = load(weights, builder.add(pixel, to_weights_x), four)
            total = ir.Constant(_FLOATS, [0.0] * LANES)
            for i in range(4):  # four neighbours of four channels are sixteen lanes
                pixels = load(picture, builder.add(start, times(line, i)), _FLOATS)
                weight = builder.shuffle_vector(weights_y, weights_y, ir.Constant(_INTS, [i] * LANES))
                total = builder.fadd(total, builder.fmul(pixels, weight, flags=_FAST), flags=_FAST)
            weight = builder.shuffle_vector(weights_x, weights_x, ir.Constant(_INTS, [i // 4 for i in range(LANES)]))
            total = builder.fmul(total, weight, flags=_FAST)
            neighbours = [
                builder.shuffle_vector(total, total, ir.Constant(ir.VectorType(_INT, 4), [4 * i + c for c in range(4)]))
                for i in range(4)
            ]
            left, right = (builder.fadd(*neighbours[i : i + 2], flags=_FAST) for i in (0, 2))
            end = builder.bitcast(builder.gep(found, [pixel]), four.as_pointer())
            builder.store(builder.fadd(left, right, flags=_FAST), end, align=4)
        return context.get_dummy_value()

    return kind, write


@intrinsic  # type: ignore[untyped-decorator]
def _linearise_row(typing: Any, planes: Any, row: Any, width: Any, found: Any, pictures: Any, start: Any) -> tuple[Any, Any]:
    """What an iteration needs of the warped I1: its gradient, 1 / |gradient|^2 and what of rho does not change with u.

    Args as the caller sees them: planes [P, N], with u where I1 was read; index of the row's first pixel; its width; the
    channels [1, 4 W] as read; the pyramid [1, N] of the first frame, and where in it the row begins.
    """
    kind = types.void(planes, types.intp, types.intp, found, pictures, types.intp)

    def write(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, row, width, read, frame, start = arguments
        rows = _Rows(context, builder, signature.args[0], array)
        first = _Rows(context, builder, signature.args[4], frame)
        channels = _Rows(context, builder, signature.args[3], read).at(0, ir.Constant(_INDEX, 0))
        all_channels = ir.VectorType(_FLOAT, CHANNELS * LANES)
        zero = ir.Constant(_FLOATS, [0.0] * LANES)
        ends = _splat(builder, builder.trunc(width, _INT), _INTS)
        numbers = ir.Constant(_INTS, list(range(LANES)))
        here = {plane: rows.at(plane, row) for plane in (U1, U2, I1X, I1Y, INVERSE, RHO)}
        i0_start = first.at(0, start)
        with rows.loop(width) as (rows.x, _):
            first.x = rows.x
            x = builder.add(_splat(builder, builder.trunc(rows.x, _INT), _INTS), numbers)
            within = builder.icmp_signed("<", x, ends)
            pointer = builder.gep(channels, [builder.mul(rows.x, ir.Constant(_INDEX, 4 * CHANNELS))])
            together = builder.load(builder.bitcast(pointer, all_channels.as_pointer()), align=4)
            i1, i1x, i1y = (
                _Lanes(
                    builder,
                    builder.shuffle_vector(together, together, ir.Constant(_INTS, [CHANNELS * i + c for i in range(LANES)])),
                )
                for c in range(3)
            )
            square = i1x * i1x + i1y * i1y
            textured = builder.fcmp_ordered(">", square.value, ir.Constant(_FLOATS, [FLAT] * LANES))
            rho = i1 - i1x * rows.load(here[U1]) - i1y * rows.load(here[U2]) - first.load(i0_start)
            inverse = builder.select(textured, _larger(square, FLAT).inverse().value, zero)
            for plane, value in ((I1X, i1x.value), (I1Y, i1y.value), (INVERSE, inverse), (RHO, rho.value)):
                rows.store(here[plane], _Lanes(builder, builder.select(within, value, zero)))
        return context.get_dummy_value()

    return kind, write


# ---- one pair of frames ----


@compiled
def resize(source: Floats, target: Floats, step_y: float, step_x: float, gain: float) -> None:
    """Bilinear, as OpenCV's: pixel centres at halves, ``step`` source pixels to a target pixel, borders repeated."""
    height, width = source.shape
    for y in range(target.shape[0]):
        place = np.float32((y + 0.5) * step_y - 0.5)
        top = int(np.floor(place))
        below = place - np.float32(top)
        if top < 0 or top >= height - 1:
            top, below = min(max(top, 0), height - 1), np.float32(0)
        bottom = min(top + 1, height - 1)
        for x in range(target.shape[1]):
            place = np.float32((x + 0.5) * step_x - 0.5)
            left = int(np.floor(place))
            beside = place - np.float32(left)
            if left < 0 or left >= width - 1:
                left, beside = min(max(left, 0), width - 1), np.float32(0)
            right = min(left + 1, width - 1)
            upper = source[top, left] * (np.float32(1) - beside) + source[top, right] * beside
            lower = source[bottom, left] * (np.float32(1) - beside) + source[bottom, right] * beside
            target[y, x] = (upper * (np.float32(1) - below) + lower * below) * np.float32(gain)


@compiled
def shrink(pyramid: Floats, sizes: NDArray[np.int64], scale_step: float) -> None:
    """Fill a pyramid [N], scales of ``sizes`` [S, 2] one after the other, of which the finest is there already."""
    start, end = 0, sizes[0, 0] * sizes[0, 1]
    finer = pyramid[:end].reshape((sizes[0, 0], sizes[0, 1]))
    for scale in range(1, len(sizes)):
        height, width = sizes[scale, 0], sizes[scale, 1]
        start, end = end, end + height * width
        coarser = pyramid[start:end].reshape((height, width))
        resize(finer, coarser, 1 / scale_step, 1 / scale_step, 1.0)
        finer = coarser


@compiled
def channels_of(picture: Floats, channels: Floats) -> None:
    """I1, its centred gradients and a border of zeros, for ``_read_row``: ``channels`` [H + 2 BORDER, (W + 2 BORDER) 4]."""
    height, width = picture.shape
    channels[:] = 0
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            to = (x + BORDER) * CHANNELS
            channels[y + BORDER, to] = picture[y, x]
            channels[y + BORDER, to + 1] = np.float32(0.5) * (picture[y, min(x + 1, width - 1)] - picture[y, max(x - 1, 0)])
            channels[y + BORDER, to + 2] = np.float32(0.5) * (picture[below, x] - picture[above, x])


@compiled
def warp(
    planes: Floats,
    stride: int,
    size: tuple[int, int],
    pyramid: Floats,
    start: int,
    channels: Floats,
    places: Ints,
    weights: Floats,
    found: Floats,
) -> None:
    """Read I1 (``channels``) where u points to, and linearise the brightness there against I0 (``pyramid`` from ``start``)."""
    height, width = size
    for y in range(height):
        row = (y + 1) * stride + MARGIN
        _place_row(planes, row, size, y, places, weights)
        _read_row(channels, places, weights, width, found)
        _linearise_row(planes, row, width, found, pyramid, start + y * width)


@compiled
def filter_median(planes: Floats, stride: int, size: tuple[int, int], window: int, columns: Floats) -> None:
    """Median of u over 3 x 3 or 5 x 5 pixels, borders repeated (OpenCV's medianBlur)."""
    height, width = size
    for plane in (U1, U2):
        copy = plane + OLD1 - U1
        for y in range(height):
            row = (y + 1) * stride + MARGIN
            planes[copy, row : row + width] = planes[plane, row : row + width]
            planes[copy, row - 2 : row] = planes[plane, row]
            planes[copy, row + width : row + width + 2] = planes[plane, row + width - 1]
        for y in range(height):
            row = (y + 1) * stride + MARGIN
            one, two = (max(y - 1, 0) - y) * stride + row, (max(y - 2, 0) - y) * stride + row
            three, four = (min(y + 1, height - 1) - y) * stride + row, (min(y + 2, height - 1) - y) * stride + row
            if window == 5:
                _sort_columns(planes, copy, (two - 2, one - 2, row - 2, three - 2, four - 2), width + 4, columns)
                _median_row(columns, 5, planes, plane, row, width)
            else:
                _sort_columns(planes, copy, (one - 1, row - 1, three - 1), width + 2, columns)
                _median_row(columns, 3, planes, plane, row, width)


@compiled
def iterate(
    planes: Floats, stride: int, size: tuple[int, int], theta: float, step: float, threshold: float, errors: Floats
) -> None:
    """As many iterations as ``errors`` [K] has room for, in one sweep: number k + 1 follows a row behind number k.

    Row y of iteration k needs u and p of iteration k - 1 there and p in the row above; p of the row above needs u of both
    rows. So at turn t, iteration k works on row t - k, and what it needs has just been made, in cache.
    """
    height, width = size
    errors[:] = 0
    zero = np.float32(0)
    for turn in range(height + len(errors)):
        for k in range(max(0, turn - height), min(len(errors), turn + 1)):
            y = turn - k
            above = y * stride + MARGIN
            row = above + stride
            if y == height:  # behind the last row: only p of the row above is wanted, with no difference downwards
                planes[U1, row : row + width] = planes[U1, above : above + width]
                planes[U2, row : row + width] = planes[U2, above : above + width]
                _iterate_row(planes, row, above, width, zero, step, threshold)
            else:
                errors[k] += _iterate_row(planes, row, above, width, theta, step if y > 0 else zero, threshold)
                planes[U1, row + width] = planes[U1, row + width - 1]
                planes[U2, row + width] = planes[U2, row + width - 1]


@compiled
def relax(
    planes: Floats, stride: int, size: tuple[int, int], settings: tuple[Any, ...], columns: Floats, errors: Floats
) -> int:
    """The iterations of one warp, with the median before each outer one, until u moves no more. Returns their number."""
    theta, step, threshold, limit, inner, outer, window = settings
    done = 0
    error = previous = np.float32(np.inf)
    for _ in range(outer):
        if not error > limit:
            break
        if window > 1:
            filter_median(planes, stride, size, window, columns)
        left = inner
        while left > 0 and error > limit:
            count = min(left, _still_to_come(previous, error, limit))
            iterate(planes, stride, size, theta, step, threshold, errors[:count])
            left -= count
            for k in range(count):
                previous, error = error, errors[k]
                done += 1
                if not error > limit:
                    break
    return done


@compiled
def _still_to_come(previous: float, error: float, limit: float) -> int:
    """How many iterations to dare in one sweep: half of those it takes if the error goes on falling as it did."""
    if not (np.isfinite(previous) and error < previous and error > 0):
        return 1
    halfway = np.log(limit / error) / np.log(error / previous) / 2
    return int(min(max(halfway, 1.0), float(SWEEP)))


@compiled
def solve_pair(
    pyramid0: Floats,
    pyramid1: Floats,
    sizes: NDArray[np.int64],
    settings: tuple[Any, ...],
    memory: tuple[Any, ...],
    flow: Floats,
    counts: NDArray[np.int64],
) -> None:
    """The flow [H, W, 2] from one frame to the next, from coarse to fine.

    Args:
        pyramid0: pyramid of the first frame [1, N], with LANES numbers to spare.
        pyramid1: of the second one.
        sizes: of the scales, finest first, int64 [S, 2].
        settings: (theta, tau / theta, lambda * theta, epsilon^2, inner iterations, outer ones, window of the median, warps,
            1 / scale step).
        memory: see ``flow_numba``.
        flow: where to write it.
        counts: iterations done [S, warps], for those who measure.
    """
    theta, step, threshold, epsilon2, inner, outer, window, warps, gain = settings
    planes, coarse, channels, places, weights, found, columns, errors = memory
    start = 0
    for scale in range(len(sizes)):
        start += sizes[scale, 0] * sizes[scale, 1]
    for scale in range(len(sizes) - 1, -1, -1):
        height, width = sizes[scale, 0], sizes[scale, 1]
        start -= height * width
        stride = row_stride(width)
        planes[:, : (height + 3) * stride] = 0
        if scale < len(sizes) - 1:
            old_height, old_width = sizes[scale + 1, 0], sizes[scale + 1, 1]
            for axis in range(2):
                old = coarse[axis, : old_height * old_width].reshape((old_height, old_width))
                u = planes[axis, stride : (height + 1) * stride].reshape((height, stride))[:, MARGIN : MARGIN + width]
                resize(old, u, old_height / height, old_width / width, gain)
        line = (width + 2 * BORDER) * CHANNELS
        around = channels[: (height + 2 * BORDER) * line].reshape((height + 2 * BORDER, line))
        channels_of(pyramid1[0, start : start + height * width].reshape((height, width)), around)
        limit = np.float32(epsilon2 * height * width)
        for turn in range(warps):
            warp(planes, stride, (height, width), pyramid0, start, around, places, weights, found)
            relaxation = (theta, step, threshold, limit, inner, outer, window)
            counts[scale, turn] = relax(planes, stride, (height, width), relaxation, columns, errors)
        for axis in range(2):
            for y in range(height):
                row = (y + 1) * stride + MARGIN
                if scale > 0:
                    coarse[axis, y * width : (y + 1) * width] = planes[axis, row : row + width]
                else:
                    flow[y, :, axis] = planes[axis, row : row + width]


@compiled
def row_stride(width: int) -> int:
    """Numbers from one row of a plane to the next."""
    return MARGIN + (width + LANES) // LANES * LANES
