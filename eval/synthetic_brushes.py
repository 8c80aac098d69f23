"""The brushes with which made video's places are painted, and the geometry of the canvas.

A canvas is a panorama, uint8 RGB [height, width, 3], laid out by a ``View``; every brush paints into it (sky and sway: onto a
new one) with noise, gradients and rectangles. The places themselves: ``synthetic_background.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Picture = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
Colour = tuple[float, float, float]  # RGB

FANS: tuple[Colour, ...] = (  # what a crowd wears
    (220, 60, 60),
    (60, 90, 190),
    (236, 236, 236),
    (230, 200, 70),
    (50, 50, 56),
    (90, 150, 90),
    (150, 160, 170),
)


@dataclass(frozen=True, kw_only=True)
class View:
    """The panorama's geometry: a camera at x = 0 that looks along +depth, its horizon level.

    Attributes:
        width, height: of the panorama, in pixels.
        left_px, top_px: where its first pixel lies, from the camera's axis; positive is right and down.
        focal_px: focal length.
        camera_height_m: above the ground.
        wall_m: depth at which the ground ends and the backdrop stands.
    """

    width: int
    height: int
    left_px: float
    top_px: float
    focal_px: float
    camera_height_m: float
    wall_m: float

    def scale(self, depth_m: float) -> float:
        """Pixels a metre at a depth."""
        return self.focal_px / depth_m

    def row(self, depth_m: float, z_m: float = 0.0) -> int:
        """Row of a point at a depth and a height, maybe outside the picture."""
        return round((self.camera_height_m - z_m) * self.scale(depth_m) - self.top_px)

    def column(self, x_m: float, depth_m: float) -> int:
        """Column of a point, maybe outside the picture."""
        return round(x_m * self.scale(depth_m) - self.left_px)

    def span_m(self, depth_m: float) -> tuple[float, float]:
        """The stretch of x in sight at a depth."""
        return self.left_px / self.scale(depth_m), (self.left_px + self.width) / self.scale(depth_m)


def noise(rng: np.random.Generator, height: int, width: int, *, cell: tuple[float, float], octaves: int = 3) -> FloatArray:
    """Smooth noise [height, width] of about unit deviation; ``cell``: the largest lumps (high, wide) in pixels."""
    import cv2

    total, weight, norm = np.zeros((height, width), np.float32), 1.0, 0.0
    for octave in range(octaves):
        rows, columns = (
            max(2, int(size / max(1.0, lump / 2**octave))) for size, lump in zip((height, width), cell, strict=True)
        )
        lumps = rng.standard_normal((min(rows, height), min(columns, width)), np.float32)
        total += weight * cv2.resize(lumps, (width, height), interpolation=cv2.INTER_LINEAR)
        norm += weight**2
        weight *= 0.6
    return np.asarray(total / np.sqrt(norm), np.float32)


def tint(colour: ArrayLike, rng: np.random.Generator, spread: float = 12.0) -> Colour:
    """A colour like this one."""
    shifted = np.clip(np.asarray(colour, np.float64) + rng.normal(0, spread) + rng.normal(0, spread / 2, 3), 2, 253)
    return float(shifted[0]), float(shifted[1]), float(shifted[2])


def any_of(colours: Sequence[Sequence[float]], rng: np.random.Generator, spread: float = 12.0) -> Colour:
    """One of these colours, or one like it."""
    return tint(colours[int(rng.integers(len(colours)))], rng, spread)


def box(canvas: Picture, left: float, top: float, right: float, bottom: float, colour: ArrayLike) -> None:
    """Fill a rectangle, as far as it is within the canvas."""
    height, width = canvas.shape[:2]
    rows = slice(max(0, round(top)), max(0, min(height, round(bottom))))
    columns = slice(max(0, round(left)), max(0, min(width, round(right))))
    canvas[rows, columns] = np.clip(np.asarray(colour, np.float64), 0, 255)


def grain(
    canvas: Picture, rng: np.random.Generator, *, top: int, bottom: int, cell: tuple[float, float], amount: float
) -> None:
    """Make a band of rows lighter and darker in lumps."""
    top, bottom = max(0, top), min(canvas.shape[0], bottom)
    if bottom - top < 2:
        return
    lumps = 1 + amount * noise(rng, bottom - top, canvas.shape[1], cell=cell)
    canvas[top:bottom] = np.clip(canvas[top:bottom] * lumps[..., None], 0, 255).astype(np.uint8)


def sky(view: View, rng: np.random.Generator, *, grey: float) -> Picture:
    """A canvas of sky: a gradient with clouds; ``grey`` 0..1 is how overcast."""
    clear, dull = np.array(tint((96, 150, 214), rng, 18)), np.array(tint((196, 200, 206), rng, 14))
    zenith = clear * (1 - grey) + dull * grey
    low = zenith * 0.45 + np.array((236, 232, 226)) * 0.55
    down = np.linspace(0, 1, view.height, dtype=np.float32)[:, None, None] ** 0.8
    sky = zenith * (1 - down) + low * down
    clouds = np.clip(
        noise(rng, view.height, view.width, cell=(view.height / 3, view.height * 0.9), octaves=4) - rng.uniform(-0.2, 0.9),
        0,
        1.4,
    )
    sky = sky + (np.array((250, 249, 246)) - sky) * (0.55 * clouds[..., None])
    return np.asarray(np.clip(sky, 0, 255), np.uint8)


def ground(
    canvas: Picture,
    view: View,
    rng: np.random.Generator,
    *,
    colour: Colour,
    grain: float,
    kind: str = "plain",
    second: Colour | None = None,
) -> None:
    """Paint the ground from the wall to the camera: ``plain``, ``mown`` (stripes), ``planks``, ``tiles`` or ``lanes``."""
    top = max(0, view.row(view.wall_m))
    if top >= view.height:
        return
    rows = np.arange(top, view.height, dtype=np.float32)[:, None]
    depth = view.focal_px * view.camera_height_m / np.maximum(rows + view.top_px, 1.0)  # [R, 1] metres
    x = (np.arange(view.width, dtype=np.float32)[None] + view.left_px) * depth / view.focal_px  # [R, W] metres
    px_per_m = view.focal_px / depth
    # lumps of noise that are flat on the ground: wide in the picture, thin with distance
    squeeze = float(np.clip(view.camera_height_m / np.median(depth), 0.05, 0.6))
    size = float(np.median(px_per_m))
    light = 1 + grain * noise(rng, len(rows), view.width, cell=(max(2.0, size * squeeze), size), octaves=4)
    light += grain * 0.5 * rng.standard_normal(light.shape, np.float32) * np.clip(px_per_m / 90, 0.15, 1)
    light *= np.linspace(0.92, 1.06, len(rows), dtype=np.float32)[:, None]
    coat = np.array(colour, np.float32) * np.ones((*light.shape, 1), np.float32)
    other = np.array(second if second is not None else np.array(colour) * 0.82, np.float32)
    if kind == "mown":
        width = rng.uniform(2.5, 6)
        coat[np.floor(x / width) % 2 == 0] = other
    elif kind == "planks":
        across = np.floor(depth / rng.uniform(0.12, 0.3)).astype(np.int64)
        boards = rng.normal(1, 0.05, 64).astype(np.float32)
        light = light * boards[(across + 7 * np.floor(x / 2.4 + across * 0.37).astype(np.int64)) % 64]
    elif kind == "tiles":
        edge = rng.uniform(0.4, 1.2)
        joint = np.minimum(np.abs(x / edge % 1 - 0.5), np.abs(depth / edge % 1 - 0.5) + 0 * x)
        clear = np.clip(px_per_m * edge / 25, 0, 1)  # tiles too small to be seen run together
        light = light * (1 - 0.16 * clear * (np.abs(joint) < 0.03))
    elif kind == "lanes":
        first, lane = rng.uniform(-3, 0), 1.22
        place = (depth - view.wall_m) / lane + first
        line = np.clip(1 - np.abs((place + 0.5) % 1 - 0.5) * lane / np.maximum(0.05, 0.9 / px_per_m / squeeze), 0, 1) + 0 * x
        coat = coat + (np.array((238, 236, 230), np.float32) - coat) * (0.85 * line[..., None])
        infield = rng.uniform(0.3, 1) * view.wall_m
        if rng.random() < 0.6 and infield < view.wall_m - 3:
            coat[(depth < infield)[:, 0]] = other
    canvas[top:] = np.clip(coat * light[..., None], 0, 255).astype(np.uint8)


def marks(canvas: Picture, view: View, rng: np.random.Generator, *, count: int, colour: Colour) -> None:
    """Lines on the floor at any angle, as courts have."""
    import cv2

    low, high = view.span_m(view.wall_m)
    for _ in range(count):
        depth, away = rng.uniform(0.35, 1, 2) * view.wall_m
        x = rng.uniform(low, high)
        end = (x + rng.uniform(4, 14), depth) if rng.random() < 0.5 else (x, away)
        start_px = (view.column(x, depth), view.row(depth))
        cv2.line(canvas, start_px, (view.column(end[0], end[1]), view.row(end[1])), colour, 2, cv2.LINE_AA)


def trees(
    canvas: Picture, view: View, rng: np.random.Generator, *, depth_m: float, count: int, height_m: float, bare: float = 0.0
) -> None:
    """A row of trees or bushes of lumpy leaves; ``bare``: how white (snow) their crowns are, 0..1."""
    import cv2

    low, high = view.span_m(depth_m)
    scale = view.scale(depth_m)
    leaf = np.array(tint((62, 96, 44), rng, 14)) * (1 - bare) + 225 * bare
    for x in rng.uniform(low, high, count):
        tall = height_m * rng.uniform(0.6, 1.2)
        green = np.asarray(tint(leaf, rng, 10), np.float64)
        column, foot = view.column(x, depth_m), view.row(depth_m)
        cv2.line(
            canvas,
            (column, foot),
            (column, round(foot - 0.5 * tall * scale)),
            tint((66, 50, 38), rng, 6),
            max(1, round(0.09 * tall * scale)),
        )
        lumps = 46
        places = rng.normal(0, 1, (lumps, 2)) * (0.17 * tall * scale, 0.14 * tall * scale)
        for px, py in places[np.argsort(-places[:, 1])]:  # from the dark underside to the lit top
            shade = green * (0.92 - 0.35 * py / (0.3 * tall * scale + 1)) * rng.uniform(0.88, 1.12)
            radius = max(1, round(0.085 * tall * scale * rng.uniform(0.6, 1.3)))
            shade = np.clip(shade, 0, 255)
            cv2.circle(
                canvas, (round(column + px), round(foot - 0.66 * tall * scale + py)), radius, (shade[0], shade[1], shade[2]), -1
            )


def crowd(
    canvas: Picture, rng: np.random.Generator, *, top: int, bottom: int, pitch_px: float, colours: Sequence[Colour], full: float
) -> None:
    """Rows of seats with people in them, from ``top`` to ``bottom``."""
    import cv2

    pitch = max(7.0, pitch_px)
    empty = np.array(any_of(colours, rng, 8)) * 0.6
    for level in np.arange(top, bottom, pitch * 0.8):
        box(canvas, 0, level, canvas.shape[1], level + pitch * 0.8, empty * rng.uniform(0.85, 1.1))
        seats = np.arange(0, canvas.shape[1], pitch * 0.62)
        taken = rng.random(len(seats)) < full
        jitter = rng.normal(0, 0.08 * pitch, (len(seats), 2))
        hue = rng.integers(len(colours), size=len(seats))
        shade = rng.uniform(0.45, 1.0, len(seats))
        tan = rng.uniform(0.4, 1.0, len(seats))
        for seat in np.flatnonzero(taken):
            x, y = round(seats[seat] + jitter[seat, 0]), round(level + jitter[seat, 1])
            red, green, blue = (float(c * shade[seat]) for c in colours[hue[seat]])
            half, head = max(1, round(0.24 * pitch)), max(1, round(0.15 * pitch))
            cv2.rectangle(canvas, (x - half, y + round(0.42 * pitch)), (x + half, y + round(pitch)), (red, green, blue), -1)
            cv2.circle(canvas, (x, y + round(0.28 * pitch)), head, (226 * tan[seat], 176 * tan[seat], 148 * tan[seat]), -1)


def boards(canvas: Picture, view: View, rng: np.random.Generator, *, height_m: float) -> None:
    """A row of advertising boards along the wall's foot, with blocks for letters."""
    scale, foot = view.scale(view.wall_m), view.row(view.wall_m)
    top, x = foot - height_m * scale, float(-rng.uniform(0, 200))
    while x < canvas.shape[1]:
        width = rng.uniform(2, 6) * scale
        back = any_of(((220, 40, 40), (30, 60, 160), (240, 240, 240), (20, 20, 24), (30, 130, 80), (240, 190, 30)), rng)
        ink = (250, 250, 250) if sum(back) < 400 else any_of(((20, 20, 30), (190, 30, 40), (20, 50, 140)), rng)
        box(canvas, x, top, x + width - 1, foot, back)
        letter, left = 0.45 * height_m * scale, x + rng.uniform(0.1, 0.3) * width
        while left < x + rng.uniform(0.7, 0.95) * width:
            stroke = letter * rng.uniform(0.3, 0.8)
            box(canvas, left, top + 0.3 * height_m * scale, left + stroke, foot - 0.28 * height_m * scale, ink)
            if rng.random() < 0.6:
                box(
                    canvas,
                    left + 0.3 * stroke,
                    top + rng.uniform(0.35, 0.5) * height_m * scale,
                    left + stroke,
                    foot - 0.45 * height_m * scale,
                    back,
                )
            left += stroke + max(1.0, 0.15 * letter)
        x += width


def parked_car(canvas: Picture, view: View, rng: np.random.Generator, *, x_m: float, depth_m: float) -> None:
    """A car seen from its side, its bumper at ``x_m``."""
    import cv2

    coat = any_of(((170, 30, 30), (40, 60, 110), (220, 220, 222), (40, 42, 46), (120, 126, 130), (60, 100, 80)), rng)
    outline = np.array(((0, 0.3), (0.05, 0.75), (0.9, 0.85), (1.5, 1.4), (2.9, 1.42), (3.6, 0.9), (4.2, 0.75), (4.25, 0.3)))
    glass = np.array(((1.15, 0.9), (1.6, 1.32), (2.8, 1.32), (3.3, 0.9)))

    def pixels(shape: NDArray[np.float64]) -> NDArray[np.int32]:
        return np.array([(view.column(x_m + x, depth_m), view.row(depth_m, z)) for x, z in shape], np.int32)

    cv2.fillPoly(canvas, [pixels(outline)], coat, cv2.LINE_AA)
    cv2.fillPoly(canvas, [pixels(glass)], (52, 62, 72), cv2.LINE_AA)
    for wheel in (0.85, 3.4):
        cv2.circle(
            canvas,
            (view.column(x_m + wheel, depth_m), view.row(depth_m, 0.32)),
            max(1, round(0.32 * view.scale(depth_m))),
            (26, 26, 28),
            -1,
            cv2.LINE_AA,
        )


def soften(canvas: Picture, view: View, rng: np.random.Generator, *, strongest: float) -> None:
    """Throw what is behind the ground out of focus, and give it air."""
    import cv2

    foot = int(np.clip(view.row(view.wall_m), 0, view.height))
    if foot < 2:
        return
    far = np.ascontiguousarray(canvas[:foot])
    sigma = float(rng.uniform(0.4, strongest))
    far = np.asarray(cv2.GaussianBlur(far, (0, 0), sigma), np.uint8)
    air, amount = tint((190, 198, 206), rng, 10), float(rng.uniform(0.0, 0.22))
    canvas[:foot] = np.clip(far * (1 - amount) + np.array(air) * amount, 0, 255)


def sway(canvas: Picture, view: View, rng: np.random.Generator, *, top: int, bottom: int, reach_px: float) -> list[Picture]:
    """Three states of a place whose rows from ``top`` to ``bottom`` stir: each point moved a little along smooth noise."""
    import cv2

    top, bottom = max(0, top), min(view.height, bottom)
    states = [canvas]
    if bottom - top < 4:
        return states
    across, down = np.meshgrid(np.arange(view.width, dtype=np.float32), np.arange(bottom - top, dtype=np.float32))
    stir = noise(rng, bottom - top, view.width, cell=(24, 24), octaves=2) * reach_px
    for share in (0.5, 1.0):
        state = canvas.copy()
        band = np.ascontiguousarray(canvas[top:bottom])
        state[top:bottom] = cv2.remap(
            band, across + share * stir, down + 0.4 * share * stir, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        states.append(state)
    return states
