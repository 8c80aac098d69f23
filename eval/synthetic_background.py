"""What stands behind the people of made video: places, painted from noise, gradients and rectangles.

A place is painted once a shot, as one wide still picture (a panorama) of which the camera shows a part; a place that moves by
itself (a crowd, leaves, waves) is two or three such pictures to alternate. The ground is painted through the camera's own
perspective, so that its lanes, planks and tiles lie under the feet (``synthetic_brushes.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tal_run.eval import synthetic_brushes as brush
from tal_run.eval.synthetic_brushes import Colour, Picture, View

__all__ = ["PLACES", "Colour", "Picture", "View", "paint"]


def paint(place: str, view: View, *, rng: np.random.Generator) -> list[Picture]:
    """The place as one to three panoramas uint8 [height, width, 3], RGB."""
    return PLACES[place](view, rng)


_FANS: tuple[Colour, ...] = (
    (220, 60, 60),
    (60, 90, 190),
    (236, 236, 236),
    (230, 200, 70),
    (50, 50, 56),
    (90, 150, 90),
    (150, 160, 170),
)
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
    colours = [brush.any_of(_FANS, rng) for _ in range(int(rng.integers(2, 6)))]
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


def _hall(view: View, rng: np.random.Generator) -> list[Picture]:
    """A sports hall: panels below, windows or lamps above, a wooden or a coloured floor."""
    canvas = np.empty((view.height, view.width, 3), np.uint8)
    canvas[:] = brush.any_of(((214, 206, 190), (186, 196, 204), (226, 220, 206), (150, 160, 170)), rng)
    scale, foot = view.scale(view.wall_m), view.row(view.wall_m)
    panel, split = rng.uniform(1.0, 2.5) * scale, foot - rng.uniform(2, 3.5) * scale
    low = brush.any_of(((170, 130, 86), (120, 150, 180), (150, 90, 60), (96, 120, 100), (190, 180, 160)), rng)
    brush.box(canvas, 0, split, view.width, foot, low)
    for left in np.arange(-rng.uniform(0, panel), view.width, panel):
        brush.box(canvas, left, split, left + panel - 2, foot, brush.tint(low, rng, 5))
        brush.box(canvas, left, 0, left + 2, split, np.array(low) * 0.9)
    if rng.random() < 0.7:
        top = split - rng.uniform(2.0, 3.5) * scale
        for left in np.arange(0, view.width, panel):
            brush.box(
                canvas, left + 0.1 * panel, top, left + 0.9 * panel, split - 0.5 * scale, brush.tint((222, 234, 240), rng, 8)
            )
    for _ in range(int(rng.integers(0, 4))):  # wall bars and doors
        left = rng.uniform(0, view.width)
        if rng.random() < 0.5:
            for level in np.arange(split, foot, max(4.0, 0.16 * scale)):
                brush.box(canvas, left, level, left + 1.8 * scale, level + 2, brush.tint((190, 150, 96), rng, 5))
        else:
            brush.box(
                canvas,
                left,
                foot - 2.1 * scale,
                left + 1.6 * scale,
                foot,
                brush.any_of(((60, 90, 120), (120, 60, 50), (90, 96, 100)), rng),
            )
    brush.grain(canvas, rng, top=0, bottom=foot, cell=(150, 300), amount=0.05)
    brush.soften(canvas, view, rng, strongest=1.4)
    floor = brush.any_of(((196, 150, 96), (176, 126, 78), (150, 170, 150), (90, 120, 160), (170, 90, 76)), rng)
    brush.ground(canvas, view, rng, colour=floor, grain=0.03, kind="planks" if floor[0] > floor[2] + 20 else "plain")
    brush.marks(
        canvas,
        view,
        rng,
        count=int(rng.integers(3, 9)),
        colour=brush.any_of(((240, 240, 240), (220, 60, 50), (40, 70, 150), (240, 210, 60)), rng),
    )
    return [canvas]


def _arena(view: View, rng: np.random.Generator) -> list[Picture]:
    """A dark hall at night: lamps, lit boards, a bright floor."""
    canvas = np.empty((view.height, view.width, 3), np.uint8)
    canvas[:] = brush.any_of(((26, 28, 40), (40, 30, 46), (30, 40, 46), (50, 52, 60)), rng, 6)
    scale, foot = view.scale(view.wall_m), view.row(view.wall_m)
    top = foot - rng.uniform(5, 9) * scale
    dim: list[Colour] = [(c[0] * 0.5, c[1] * 0.5, c[2] * 0.55) for c in _FANS]
    brush.crowd(
        canvas,
        rng,
        top=max(round(top), -40),
        bottom=foot,
        pitch_px=0.9 * scale,
        colours=dim,
        full=float(rng.uniform(0.5, 0.95)),
    )
    other = canvas.copy()
    lamps = rng.uniform(0, view.width, int(rng.integers(3, 12)))
    for state in (canvas, other):
        for left in lamps:
            brush.box(state, left, top - 1.2 * scale, left + 0.8 * scale, top - 0.8 * scale, (255, 252, 236))
        for x, y in zip(
            rng.uniform(0, view.width, 30), rng.uniform(max(0, top), max(1, foot), 30), strict=True
        ):  # camera flashes
            if rng.random() < 0.3:
                brush.box(state, x, y, x + 2, y + 2, (250, 250, 255))
    seeds = [int(seed) for seed in rng.integers(2**32, size=2)]
    height = float(rng.uniform(0.7, 1.2))
    floor = brush.any_of(((60, 96, 150), (150, 70, 60), (180, 140, 96), (110, 114, 120), (90, 70, 130)), rng)
    for state in (canvas, other):
        fixed = np.random.default_rng(seeds[0])
        brush.boards(state, view, fixed, height_m=height)
        brush.soften(state, view, fixed, strongest=1.8)
    brush.ground(canvas, view, rng, colour=floor, grain=0.035, kind="lanes" if rng.random() < 0.4 else "plain")
    ground = max(0, foot)
    other[ground:] = canvas[ground:]
    return [canvas, other]


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


def _room(view: View, rng: np.random.Generator) -> list[Picture]:
    """A room: a wall with a window, pictures and furniture; boards, tiles or carpet."""
    canvas = np.empty((view.height, view.width, 3), np.uint8)
    wall = brush.any_of(
        ((206, 196, 178), (170, 186, 190), (190, 160, 140), (150, 160, 140), (226, 222, 214), (120, 126, 146)), rng
    )
    canvas[:] = wall
    scale, foot = view.scale(view.wall_m), view.row(view.wall_m)
    if rng.random() < 0.35:
        stripe = rng.uniform(0.15, 0.5) * scale
        for left in np.arange(0, view.width, 2 * stripe):
            brush.box(canvas, left, 0, left + stripe, foot, np.array(wall) * 0.93)
    brush.grain(canvas, rng, top=0, bottom=foot, cell=(160, 240), amount=0.06)
    x = float(rng.uniform(-1, 1)) * scale
    while x < view.width:
        thing, wide = rng.random(), rng.uniform(0.7, 1.8) * scale
        if thing < 0.2:  # window
            brush.box(canvas, x, foot - 2.3 * scale, x + wide, foot - 0.9 * scale, (240, 240, 236))
            for pane in (0.05, 0.52):
                brush.box(
                    canvas,
                    x + pane * wide,
                    foot - 2.23 * scale,
                    x + (pane + 0.43) * wide,
                    foot - 0.97 * scale,
                    brush.any_of(((180, 206, 226), (226, 232, 236), (40, 46, 66)), rng),
                )
        elif thing < 0.45:  # picture
            top = foot - rng.uniform(1.7, 2.2) * scale
            brush.box(
                canvas,
                x,
                top,
                x + 0.6 * wide,
                top + 0.6 * scale,
                brush.any_of(((60, 44, 30), (230, 230, 226), (30, 30, 32)), rng),
            )
            brush.box(canvas, x + 4, top + 4, x + 0.6 * wide - 4, top + 0.6 * scale - 4, brush.tint((140, 140, 130), rng, 50))
        elif thing < 0.65:  # cupboard, shelves
            wood, high = (
                brush.any_of(((120, 84, 54), (226, 224, 218), (70, 56, 46), (160, 130, 90)), rng),
                rng.uniform(0.8, 2.1) * scale,
            )
            brush.box(canvas, x, foot - high, x + wide, foot, wood)
            for level in np.arange(foot - high, foot, 0.4 * scale):
                brush.box(
                    canvas,
                    x + 3,
                    level + 3,
                    x + wide - 3,
                    level + 0.4 * scale - 2,
                    brush.tint(np.array(wood) * rng.uniform(0.5, 0.9), rng, 8),
                )
        elif thing < 0.85:  # sofa
            cloth, wide = brush.any_of(((110, 50, 46), (60, 80, 100), (130, 124, 112), (60, 90, 70)), rng), wide * 1.5
            brush.box(canvas, x, foot - 0.85 * scale, x + wide, foot, cloth)
            brush.box(
                canvas, x + 0.12 * wide, foot - 0.45 * scale, x + 0.88 * wide, foot - 0.12 * scale, np.array(cloth) * 1.18
            )
        x += wide + rng.uniform(0.2, 1.6) * scale
    brush.box(canvas, 0, foot - 0.09 * scale, view.width, foot, np.array(wall) * rng.uniform(0.6, 1.2))
    brush.soften(canvas, view, rng, strongest=1.0)
    kind = ("planks", "tiles", "plain")[int(rng.integers(3))]
    brush.ground(
        canvas,
        view,
        rng,
        colour=brush.any_of(((160, 120, 80), (120, 84, 56), (176, 170, 160), (110, 100, 110), (190, 160, 120)), rng),
        grain=0.05,
        kind=kind,
    )
    return [canvas]


PLACES: dict[str, Callable[[View, np.random.Generator], list[Picture]]] = {
    "stands": _stands,
    "field": _field,
    "hall": _hall,
    "arena": _arena,
    "facades": _facades,
    "brick": _brick,
    "park": _park,
    "beach": _beach,
    "snow": _snow,
    "room": _room,
}
