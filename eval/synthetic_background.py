"""What stands behind the people of made video: places, painted from noise, gradients and rectangles.

A place is painted once a shot, as one wide still picture (a panorama) of which the camera shows a part; a place that moves by
itself (a crowd, leaves, waves) is two or three such pictures to alternate. The ground is painted through the camera's own
perspective, so that its lanes, planks and tiles lie under the feet. The brushes are in
``synthetic_brushes.py``, the places with a roof in ``synthetic_interiors.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tal_run.eval import synthetic_brushes as brush
from tal_run.eval.synthetic_brushes import Colour, Picture, View
from tal_run.eval.synthetic_interiors import arena, hall, room

__all__ = ["PLACES", "Colour", "Picture", "View", "paint"]


def paint(place: str, view: View, *, rng: np.random.Generator) -> list[Picture]:
    """The place as one to three panoramas uint8 [height, width, 3], RGB."""
    return PLACES[place](view, rng)


_TRACKS: tuple[Colour, ...] = ((168, 74, 56), (150, 62, 60), (60, 96, 150), (176, 96, 66), (90, 94, 104))
_GRASS: tuple[Colour, ...] = ((84, 128, 62), (70, 112, 58), (112, 138, 72), (96, 140, 84))


def _sports_ground(canvas: Picture, view: View, rng: np.random.Generator) -> None:
    """Track, or mown grass."""
    if rng.random() < 0.6:
        brush.ground(
            canvas, view, rng, colour=brush.any_of(_TRACKS, rng), grain=0.06, kind="lanes", second=brush.any_of(_GRASS, rng)
        )
    else:
        grass = brush.any_of(_GRASS, rng)
        brush.ground(canvas, view, rng, colour=grass, grain=0.09, kind="mown", second=brush.tint(np.array(grass) * 0.9, rng, 4))


def _stands(view: View, rng: np.random.Generator) -> list[Picture]:
    canvas = brush.sky(view, rng, grey=float(rng.uniform(0, 1)))
    scale, foot = view.scale(view.wall_m), view.row(view.wall_m)
    boards_m, tiers_m = rng.uniform(0.8, 1.3), rng.uniform(5, 14)
    top, low = round(foot - (boards_m + tiers_m) * scale), round(foot - boards_m * scale)
    colours = [brush.any_of(brush.FANS, rng) for _ in range(int(rng.integers(2, 6)))]
    full, pitch = float(rng.uniform(0.3, 0.97)), float(rng.uniform(0.8, 1.1)) * scale
    brush.box(canvas, 0, top - 1.6 * scale, view.width, top, brush.tint((70, 74, 82), rng))  # the roof's edge
    states, seed = [], int(rng.integers(2**32))
    for _ in range(2):
        people = np.random.default_rng(seed)  # the same people in both, but for those who stir
        brush.crowd(canvas, people, top=max(top, -40), bottom=low, pitch_px=pitch, colours=colours, full=full)
        states.append(canvas.copy())
        canvas = np.roll(canvas, 1, axis=1)
    stirred = brush.noise(rng, view.height, view.width, cell=(12, 12), octaves=1) > 0.7
    stirred[max(0, low) :] = False
    states[1] = np.where(stirred[..., None], states[1], states[0])
    board_seed, ground_seed = int(rng.integers(2**32)), int(rng.integers(2**32))
    brush.grain(states[0], rng, top=top, bottom=low, cell=(60, 200), amount=0.12)
    for state in states:
        brush.boards(state, view, np.random.default_rng(board_seed), height_m=boards_m)
        brush.soften(state, view, np.random.default_rng(board_seed + 1), strongest=1.6)
    _sports_ground(states[0], view, np.random.default_rng(ground_seed))
    ground = max(0, foot)
    states[1][ground:] = states[0][ground:]
    return states


def _field(view: View, rng: np.random.Generator) -> list[Picture]:
    canvas = brush.sky(view, rng, grey=float(rng.uniform(0, 1)))
    far = view.wall_m * 2
    ridge = view.row(far, 4) + 0.12 * view.height * brush.noise(rng, 1, view.width, cell=(1, view.width / 5))[0]
    rows = np.arange(view.height)[:, None]
    canvas[rows > ridge[None]] = brush.tint((120, 140, 140), rng)
    brush.trees(canvas, view, rng, depth_m=far, count=26, height_m=float(rng.uniform(5, 10)))
    if rng.random() < 0.6:
        brush.trees(canvas, view, rng, depth_m=view.wall_m * 1.2, count=12, height_m=float(rng.uniform(2, 7)))
    for x in rng.uniform(*view.span_m(view.wall_m), int(rng.integers(0, 4))):  # floodlights
        column, top = view.column(x, view.wall_m), view.row(view.wall_m, float(rng.uniform(8, 14)))
        brush.box(canvas, column - 2, top, column + 2, view.row(view.wall_m), (150, 152, 156))
        brush.box(canvas, column - 14, top - 12, column + 14, top, (232, 234, 226))
    brush.box(
        canvas, 0, view.row(view.wall_m, 0.5), view.width, view.row(view.wall_m) + 1, np.array(brush.any_of(_GRASS, rng)) * 0.8
    )
    if rng.random() < 0.5:
        brush.boards(canvas, view, rng, height_m=float(rng.uniform(0.7, 1.1)))
    brush.soften(canvas, view, rng, strongest=1.8)
    _sports_ground(canvas, view, rng)
    return brush.sway(canvas, view, rng, top=view.row(far, 9), bottom=view.row(view.wall_m, 1.0), reach_px=1.6)


_WALLS: tuple[Colour, ...] = (
    (190, 176, 150),
    (170, 110, 90),
    (206, 196, 180),
    (150, 150, 146),
    (196, 160, 120),
    (130, 96, 84),
    (180, 190, 186),
)


def _facades(view: View, rng: np.random.Generator) -> list[Picture]:
    canvas = brush.sky(view, rng, grey=float(rng.uniform(0.2, 1)))
    scale, foot = view.scale(view.wall_m), view.row(view.wall_m)
    left = float(-rng.uniform(0, 6) * scale)
    while left < view.width:
        wide, storeys = rng.uniform(5, 13) * scale, int(rng.integers(1, 5))
        storey = rng.uniform(2.7, 3.4) * scale
        wall = brush.any_of(_WALLS, rng)
        roof = foot - storeys * storey - 0.4 * scale
        brush.box(canvas, left, roof, left + wide, foot, wall)
        brush.box(canvas, left, roof - 0.5 * scale, left + wide, roof, np.array(wall) * 0.55)
        bays = max(1, int(wide / (rng.uniform(1.8, 2.8) * scale)))
        glass = brush.any_of(((60, 72, 86), (40, 44, 50), (110, 130, 146), (200, 180, 120)), rng)
        for storey_index in range(storeys):
            sill = foot - storey_index * storey - 0.9 * scale
            for bay in range(bays):
                x = left + (bay + 0.25) * wide / bays
                across, high = 0.5 * wide / bays, 1.4 * scale
                if storey_index == 0 and rng.random() < 0.3:
                    brush.box(
                        canvas,
                        x,
                        foot - 2.1 * scale,
                        x + min(across, scale),
                        foot,
                        brush.any_of(((90, 50, 36), (40, 70, 60), (60, 60, 70)), rng),
                    )
                    continue
                brush.box(canvas, x - 1, sill - high - 1, x + across + 1, sill + 2, np.array(wall) * 1.2)
                brush.box(canvas, x, sill - high, x + across, sill, brush.tint(glass, rng, 9))
                brush.box(canvas, x + across / 2 - 0.5, sill - high, x + across / 2 + 0.5, sill, np.array(wall) * 1.15)
        left += wide + (rng.uniform(0.5, 4) * scale if rng.random() < 0.2 else 0)
    if rng.random() < 0.5:
        brush.trees(
            canvas, view, rng, depth_m=view.wall_m * 0.97, count=int(rng.integers(1, 6)), height_m=float(rng.uniform(3, 7))
        )
    brush.grain(canvas, rng, top=0, bottom=foot, cell=(40, 40), amount=0.05)
    near = view.wall_m - float(rng.uniform(0.2, 0.9))
    brush.soften(canvas, view, rng, strongest=1.3)
    brush.ground(
        canvas,
        view,
        rng,
        colour=brush.any_of(((104, 104, 106), (126, 122, 116), (84, 86, 92), (150, 140, 128)), rng),
        grain=0.08,
        kind="tiles" if rng.random() < 0.5 else "plain",
    )
    if rng.random() < 0.6:
        for x in np.arange(*view.span_m(near), 5.2):
            if rng.random() < 0.5:
                brush.parked_car(canvas, view, rng, x_m=x, depth_m=near)
    if rng.random() < 0.4:
        brush.marks(canvas, view, rng, count=2, colour=(206, 204, 196))
    return [canvas]


def _brick(view: View, rng: np.random.Generator) -> list[Picture]:
    """One long wall, of bricks or of plaster, with posters and paint."""
    canvas = brush.sky(view, rng, grey=float(rng.uniform(0.3, 1)))
    scale, foot = view.scale(view.wall_m), view.row(view.wall_m)
    top = int(np.clip(foot - rng.uniform(2.2, 7) * scale, 0, view.height))
    foot = int(np.clip(foot, 0, view.height))
    if foot - top > 2:
        course, brick = max(3.0, 0.16 * scale), max(7.0, 0.42 * scale)
        rows, columns = np.arange(foot - top)[:, None], np.arange(view.width)[None]
        layer = (rows / course).astype(np.int64)
        stone = ((columns + brick / 2 * (layer % 2)) / brick).astype(np.int64)
        tones = rng.normal(1, 0.09, 4096).astype(np.float32)[(layer * 131 + stone * 17) % 4096]
        mortar = (rows % course < 1) | ((columns + brick / 2 * (layer % 2)) % brick < 1)
        wall = np.array(brush.any_of(((156, 84, 66), (130, 74, 60), (176, 150, 124), (120, 116, 112), (196, 176, 150)), rng))
        tones = np.where(mortar, 1.2, tones) if rng.random() < 0.75 else np.ones_like(tones)
        canvas[top:foot] = np.clip(wall * tones[..., None], 0, 255)
        for _ in range(int(rng.integers(0, 9))):
            x, wide, high = rng.uniform(0, view.width), rng.uniform(0.5, 2.4) * scale, rng.uniform(0.6, 1.6) * scale
            base = foot - rng.uniform(0.3, 1.4) * scale
            brush.box(canvas, x, max(top, base - high), x + wide, base, brush.tint((150, 140, 130), rng, 50))
            for _ in range(3):
                brush.box(
                    canvas,
                    x + rng.uniform(0.1, 0.5) * wide,
                    max(top, base - rng.uniform(0.5, 0.9) * high),
                    x + 0.9 * wide,
                    base - 0.3 * high,
                    brush.tint((140, 130, 130), rng, 60),
                )
        brush.grain(canvas, rng, top=top, bottom=foot, cell=(60, 60), amount=0.07)
    brush.soften(canvas, view, rng, strongest=1.1)
    brush.ground(
        canvas,
        view,
        rng,
        colour=brush.any_of(((112, 110, 108), (140, 134, 124), (90, 92, 96), (160, 150, 134)), rng),
        grain=0.09,
        kind="tiles" if rng.random() < 0.6 else "plain",
    )
    return [canvas]


def _park(view: View, rng: np.random.Generator) -> list[Picture]:
    canvas = brush.sky(view, rng, grey=float(rng.uniform(0.1, 0.9)))
    brush.box(canvas, 0, view.row(view.wall_m * 2, 5), view.width, view.row(view.wall_m) + 1, brush.tint((84, 108, 76), rng))
    for depth, count, tall in ((2.0, 26, 9.0), (1.4, 14, 7.0), (1.0, 7, 5.5)):
        brush.trees(canvas, view, rng, depth_m=view.wall_m * depth, count=count, height_m=tall * float(rng.uniform(0.7, 1.3)))
    brush.trees(canvas, view, rng, depth_m=view.wall_m, count=int(rng.integers(4, 26)), height_m=float(rng.uniform(0.8, 2.0)))
    brush.soften(canvas, view, rng, strongest=1.4)
    if rng.random() < 0.6:
        brush.ground(canvas, view, rng, colour=brush.any_of(_GRASS, rng), grain=0.14)
    else:
        brush.ground(
            canvas, view, rng, colour=brush.any_of(((170, 154, 126), (150, 138, 116), (130, 126, 120)), rng), grain=0.1
        )
        edge = view.row(view.wall_m * float(rng.uniform(0.6, 0.9)))
        brush.box(canvas, 0, view.row(view.wall_m), view.width, edge, brush.any_of(_GRASS, rng))
        brush.grain(canvas, rng, top=view.row(view.wall_m), bottom=edge, cell=(4, 14), amount=0.1)
    return brush.sway(canvas, view, rng, top=0, bottom=view.row(view.wall_m), reach_px=2.2)


def _beach(view: View, rng: np.random.Generator) -> list[Picture]:
    canvas = brush.sky(view, rng, grey=float(rng.uniform(0, 0.7)))
    horizon, shore = round(-view.top_px), view.row(view.wall_m)
    brush.box(canvas, 0, horizon, view.width, shore, brush.any_of(((70, 130, 160), (50, 100, 140), (96, 140, 150)), rng))
    brush.grain(canvas, rng, top=horizon, bottom=shore, cell=(5, 40), amount=0.09)
    brush.box(canvas, 0, shore - max(2, 0.1 * (shore - horizon)), view.width, shore, (226, 232, 232))
    brush.soften(canvas, view, rng, strongest=1.0)
    brush.ground(canvas, view, rng, colour=brush.any_of(((214, 190, 146), (196, 172, 132), (224, 208, 172)), rng), grain=0.08)
    brush.grain(canvas, rng, top=shore, bottom=view.height, cell=(8, 30), amount=0.04)
    return brush.sway(canvas, view, rng, top=horizon + 3, bottom=shore + 6, reach_px=4.0)


def _snow(view: View, rng: np.random.Generator) -> list[Picture]:
    canvas = brush.sky(view, rng, grey=float(rng.uniform(0.6, 1)))
    brush.box(canvas, 0, view.row(view.wall_m * 2, 3), view.width, view.row(view.wall_m) + 1, brush.tint((196, 202, 208), rng))
    for depth, count in ((2.0, 20), (1.2, 9)):
        brush.trees(
            canvas,
            view,
            rng,
            depth_m=view.wall_m * depth,
            count=count,
            height_m=float(rng.uniform(4, 8)),
            bare=float(rng.uniform(0.1, 0.8)),
        )
    brush.soften(canvas, view, rng, strongest=1.6)
    brush.ground(canvas, view, rng, colour=brush.tint((216, 221, 228), rng, 8), grain=0.05)
    return [canvas]


PLACES: dict[str, Callable[[View, np.random.Generator], list[Picture]]] = {
    "stands": _stands,
    "field": _field,
    "hall": hall,
    "arena": arena,
    "facades": _facades,
    "brick": _brick,
    "park": _park,
    "beach": _beach,
    "snow": _snow,
    "room": room,
}
