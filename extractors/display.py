"""From the stored picture to the displayed one: pixel aspect, turning, scaling, centre crop.

The stored picture is scaled while it still lies as stored (by FFmpeg's scaler, straight from YUV), then the small
result is turned and cropped, so that no step touches more pixels than it must::

    stored 1920 × 1080 ──scale──▶ 306 × 172 ──turn clockwise──▶ 172 × 306 ──crop──▶ 172 × 172
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class Size(NamedTuple):
    """Of a picture, in pixels."""

    width: int
    height: int


@dataclass(frozen=True)
class Orientation:
    """How the stored picture is turned for display: swap the axes first, then mirror."""

    is_transposed: bool = False
    is_mirrored_x: bool = False
    is_mirrored_y: bool = False

    @classmethod
    def from_matrix(cls, matrix: bytes) -> Orientation:
        """From a display matrix, nine native 32-bit integers ``a b u c d v x y w``.

        The stored point (x, y), y down, is shown at (a·x + c·y, b·x + d·y).

        Raises:
            ValueError: the matrix turns by something else than a multiple of 90°.
        """
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
        if a and d and not b and not c:
            return cls(False, a < 0, d < 0)
        if b and c and not a and not d:
            return cls(True, c < 0, b < 0)
        raise ValueError("the display matrix does not turn by a multiple of 90°")

    @property
    def rotation_deg(self) -> int:
        """The clockwise turn, 0, 90, 180 or 270; what is left after it, if anything, is a mirroring."""
        if self.is_transposed:
            return 90 if self.is_mirrored_x else 270
        return 180 if self.is_mirrored_y else 0

    @property
    def has_mirroring(self) -> bool:
        """Whether left and right are exchanged, beyond any turn."""
        return (self.is_mirrored_x != self.is_mirrored_y) != self.is_transposed

    def turn(self, picture: Pixels) -> Pixels:
        """`picture` [H, W, 3] as displayed: a view, [W, H, 3] where the axes are swapped."""
        if self.is_transposed:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.is_mirrored_y else 1, :: -1 if self.is_mirrored_x else 1]

    def turn_size(self, size: Size) -> Size:
        """The size after `turn`; also its own inverse."""
        return Size(size.height, size.width) if self.is_transposed else size


def displayed_size(stored: Size, *, pixel_aspect: Fraction, orientation: Orientation) -> Size:
    """What a player shows: `stored` with square pixels (the width gives way), then turned."""
    return orientation.turn_size(Size(max(1, round(stored.width * pixel_aspect)), stored.height))


def resized(size: Size, *, short_side: int | None) -> Size:
    """`size` scaled so that its shorter side measures `short_side`; the aspect kept to the nearest pixel."""
    if short_side is None:
        return size
    shorter = min(size)
    return Size(*(max(1, round(Fraction(side * short_side, shorter))) for side in size))


def covering_short_side(size: Size, *, short_side: int, crop: tuple[int, int] | None) -> int:
    """`short_side`, or as much more as a picture of `size` needs to cover `crop` (height, width), as a tall one a wide crop."""
    if crop is None:
        return short_side
    needed = (math.ceil(Fraction(part * min(size), whole)) for whole, part in ((size.height, crop[0]), (size.width, crop[1])))
    return max(short_side, *needed)


def crop_centre(picture: Pixels, crop: tuple[int, int] | None) -> Pixels:
    """The middle `crop` = (height, width) of `picture` [H, W, 3], a view; an odd pixel too many goes at the end."""
    if crop is None:
        return picture
    top, left = ((whole - part) // 2 for whole, part in zip(picture.shape[:2], crop, strict=True))
    return picture[top : top + crop[0], left : left + crop[1]]
