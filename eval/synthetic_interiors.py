"""The places of made video that have a roof: a sports hall, an arena at night, a room; each as one or two panoramas."""

from __future__ import annotations

import numpy as np

from tal_run.eval import synthetic_brushes as brush
from tal_run.eval.synthetic_brushes import Colour, Picture, View


def hall(view: View, rng: np.random.Generator) -> list[Picture]:
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


def arena(view: View, rng: np.random.Generator) -> list[Picture]:
    """A dark hall at night: lamps, lit boards, a bright floor."""
    canvas = np.empty((view.height, view.width, 3), np.uint8)
    canvas[:] = brush.any_of(((26, 28, 40), (40, 30, 46), (30, 40, 46), (50, 52, 60)), rng, 6)
    scale, foot = view.scale(view.wall_m), view.row(view.wall_m)
    top = foot - rng.uniform(5, 9) * scale
    dim: list[Colour] = [(c[0] * 0.5, c[1] * 0.5, c[2] * 0.55) for c in brush.FANS]
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


def room(view: View, rng: np.random.Generator) -> list[Picture]:
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
