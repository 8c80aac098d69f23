"""The things in made video's scenes, as solids: what the performances bring along, and what stands or passes around them.

What a performance brings (javelin, barbell, bar, mat, pool) is where its ``PropTrack`` says; posts, fences, hedges and heads
stand before the leads, and a car passes behind them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.synthetic_camera import Camera
from tal_run.eval.synthetic_figure import FPS, PropTrack
from tal_run.eval.synthetic_looks import Colour
from tal_run.eval.synthetic_shot import HEIGHT, Actor, Scene, placed
from tal_run.eval.synthetic_solids import BALLS, Solid, moving, scaled, still, under_water, unit

FloatArray = NDArray[np.float32]

_MATS: tuple[Colour, ...] = ((40, 80, 160), (170, 50, 50), (60, 120, 90), (90, 90, 100), (200, 160, 60))
_PLATES: tuple[Colour, ...] = ((190, 40, 40), (40, 70, 170), (30, 30, 32), (220, 190, 50), (50, 140, 80))
_STICKS: tuple[Colour, ...] = ((230, 220, 60), (240, 240, 244), (60, 130, 220), (230, 90, 50))
_BALL_COLOURS: tuple[Colour, ...] = ((244, 244, 244), (240, 150, 50), (230, 230, 80), (200, 60, 60))


def props(actor: Actor, frame_count: int, rng: np.random.Generator, *, eye: FloatArray) -> list[Solid]:
    """What a performance brings along; colours are drawn for every kind alike."""
    solids: list[Solid] = []
    for prop in actor.performance.props:
        points = placed(actor, prop.points, frame_count)  # [T, N, 3]
        visible = prop.visible[np.minimum(np.arange(frame_count), len(prop.visible) - 1)]
        draw = int(rng.integers(1 << 30))
        for solid in _prop(prop, points, draw, actor, rng, eye=eye):
            seen = visible if len(solid.visible) == 1 else visible & solid.visible
            solids.append(replace(solid, visible=seen))
    return solids


def _prop(
    prop: PropTrack, points: FloatArray, draw: int, actor: Actor, rng: np.random.Generator, *, eye: FloatArray
) -> list[Solid]:
    """One thing's solids; ``draw`` chooses its colour."""
    first, last, size = points[:, 0], points[:, -1], prop.size_m
    if prop.kind == "javelin":
        middle = first + 0.42 * (last - first)
        stick = moving((first, 0.012), (last, 0.012), colour=_STICKS[draw % 4], nearer_m=0.07, casts=True)
        return [stick, moving((middle, 0.02), (first + 0.5 * (last - first), 0.02), colour=(60, 50, 46), nearer_m=0.072)]
    if prop.kind == "club":
        shaft = moving((first, 0.014), (last, 0.009), colour=(206, 208, 212) if draw % 2 else (70, 70, 76), nearer_m=0.07)
        return [shaft, moving((last, 0.045), colour=(46, 46, 52), nearer_m=0.075)]
    if prop.kind == "barbell":
        return _barbell(first, last, size, _PLATES[draw % 5])
    if prop.kind == "ball":
        colour = _BALL_COLOURS[draw % 4]
        return [moving((first, size), colour=colour, nearer_m=0.03, casts=True, lit=True)]
    if prop.kind == "high bar":
        shares = np.linspace(0, 1, 5)
        bars = [
            moving((first + a * (last - first), 0.016), (first + b * (last - first), 0.016), colour=_STICKS[draw % 4])
            for a, b in pairwise(shares)
        ]
        ground = np.array([1, 1, 0], np.float32)
        posts = [
            moving((end * ground, 0.03), (end + [0, 0, 0.25], 0.025), colour=(226, 226, 228), casts=True)
            for end in (first, last)
        ]
        return bars + posts
    if prop.kind in ("mat", "platform"):
        colour = _MATS[draw % 5] if prop.kind == "mat" else ((176, 178, 180), (196, 186, 168), (120, 150, 170))[draw % 3]
        return _block(_ring(points[0]), colour, eye=eye)
    if prop.kind == "sand":
        ring = _ring(points[0])
        border = ring + 0.12 * np.sign(ring - ring.mean(axis=0))
        sand = ((216, 196, 150), (196, 176, 132))[draw % 2]
        return [_ground_patch(border, (206, 206, 200), back_m=51.0), _ground_patch(ring, sand, back_m=50.0)]
    if prop.kind == "water":
        return _water(points[0], actor, len(points), rng)
    raise ValueError(f"unknown kind of prop: {prop.kind!r}")


def _barbell(first: FloatArray, last: FloatArray, plate_m: float, colour: Colour) -> list[Solid]:
    along = unit(last - first)
    flat = unit(np.cross(along, np.array([0.0, 0.0, 1.0])).astype(np.float32))
    other = unit(np.cross(along, flat).astype(np.float32))
    solids = []
    quarters = [first + share * (last - first) for share in (0.0, 0.3, 0.5, 0.7, 1.0)]
    for start, end in pairwise(quarters):
        solids.append(moving((start, 0.018), (end, 0.018), colour=(190, 192, 196), nearer_m=0.08))
    for end, way in ((first, 1.0), (last, -1.0)):
        for inset, share, shade in ((0.12, 1.0, 1.0), (0.04, 0.72, 0.7)):
            centre, radius = end + np.float32(way * inset) * along, plate_m * share
            spokes = [np.cos(turn) * flat + np.sin(turn) * other for turn in np.arange(BALLS) * 2 * np.pi / BALLS]
            rim = [((centre + 0.68 * radius * spoke).astype(np.float32), 0.32 * radius) for spoke in spokes]
            solids.append(moving(*rim, colour=scaled(colour, shade), nearer_m=0.05))
    return solids


def _ring(corners: FloatArray) -> FloatArray:
    """The four corners [4, 3] of a level rectangle, going round; two opposite ones are of one square to the camera."""
    if len(corners) == 4:
        return corners
    (x0, y0, z0), (x1, y1, z1) = corners
    return np.array([(x0, y0, z0), (x1, y0, z0), (x1, y1, z1), (x0, y1, z1)], np.float32)


def _block(ring: FloatArray, colour: Colour, *, eye: FloatArray) -> list[Solid]:
    """A block under a ring of four corners, as seen from ``eye`` [3]; it is drawn behind whoever stands on it."""
    foot = ring * np.array([1, 1, 0], np.float32)
    faces = [(ring, 1.12)]
    for i in range(4):
        side = np.stack([ring[i], ring[i - 1], foot[i - 1], foot[i]])
        faces.append((side, 0.72 + 0.25 * abs(float(unit(side[0] - side[1])[0]))))  # a side square to the camera is lighter
    middle, last_y = (ring + foot).mean(axis=0) / 2, float(ring[:, 1].max()) + 0.1
    solids = []
    for face, shade in faces:
        centre = face.mean(axis=0)
        outwards = np.cross(face[1] - face[0], face[2] - face[1])
        outwards = outwards * np.sign(outwards @ (centre - middle))
        if outwards @ (eye - centre) > 0:  # the others are hidden
            corners = face.tolist()
            solids.append(still(corners, [0.0] * 4, scaled(colour, shade), nearer_m=float(centre[1]) - last_y))
    return solids


def _ground_patch(ring: FloatArray, colour: Colour, *, back_m: float) -> Solid:
    """A rectangle on the ground; those that are further back are painted over by the others."""
    return still(ring.tolist(), [0.0] * 4, colour, nearer_m=float(ring[:, 1].mean()) - back_m, flat=True)


def _water(pool: FloatArray, actor: Actor, frame_count: int, rng: np.random.Generator) -> list[Solid]:
    """A pool around the line [2, 3] of its surface, ripples on it, and a splash wherever the figure breaks the surface."""
    along = unit(pool[-1] - pool[0])
    across = np.array([-along[1], along[0], 0.0], np.float32)
    across = across if across[1] >= 0 else -across  # away from the camera
    level, length = float(pool[0, 2]), float(np.linalg.norm(pool[-1] - pool[0]))

    def spot(x: float | NDArray[np.float64], y: float) -> NDArray[np.float64]:
        """So far along the line and behind it, on the surface."""
        return np.asarray(pool[0] + np.asarray(x)[..., None] * along + y * across, np.float64)

    def patch(rim_m: float) -> FloatArray:
        corners = ((-rim_m, -2.5 - rim_m), (length + rim_m, -2.5 - rim_m), (length + rim_m, 1.7 + rim_m), (-rim_m, 1.7 + rim_m))
        return np.stack([spot(x, y) for x, y in corners]).astype(np.float32)

    blue = (int(rng.integers(40, 90)), int(rng.integers(110, 150)), int(rng.integers(150, 200)))
    solids = [_ground_patch(patch(0.3), (206, 206, 200), back_m=61.0), _ground_patch(patch(0.0), blue, back_m=60.0)]
    clock = np.arange(frame_count) / FPS
    for _ in range(14):
        x, away, wide = rng.uniform(0, length), float(rng.uniform(-2.3, 1.5)), rng.uniform(0.3, 1.2)
        sway = x + 0.25 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * clock + rng.uniform(0, 6.3))
        ends = [(spot(np.clip(sway + reach, 0, length), away), 0.008) for reach in (0.0, wide)]
        ripple = moving(*ends, colour=scaled(blue, rng.uniform(0.85, 1.35)))
        solids.append(replace(ripple, flat=True, nearer_m=-40.0))
    joints = placed(actor, actor.performance.joints, frame_count)
    under = under_water(joints, pool)
    breaks = np.flatnonzero((under[1:] & ~under[:-1]).any(axis=1)) + 1
    for _ in range(min(48, 5 * len(breaks))):
        frame = int(breaks[int(rng.integers(len(breaks)))])
        where = joints[frame][under[frame] & ~under[frame - 1]].mean(axis=0)
        speed = np.array([rng.normal(0, 0.8), rng.normal(0, 0.5), rng.uniform(1.2, 4.4)])
        age = np.maximum(clock - frame / FPS, 0.0)[:, None]
        path = np.array([where[0], where[1], level]) + speed * age - np.array([0, 0, 4.9]) * age**2
        flying = (np.arange(frame_count) >= frame) & (path[:, 2] >= level)
        drop = moving((path, float(rng.uniform(0.015, 0.05))), colour=(226, 236, 240), nearer_m=0.3)
        solids.append(replace(drop, visible=flying))
    return solids


def surroundings(scene: Scene, camera: Camera, frame_count: int, rng: np.random.Generator) -> list[Solid]:
    """What stands before the leads, and a car that passes behind them."""
    solids: list[Solid] = []
    near = -float(rng.uniform(0.12, 0.3)) * scene.distance_m
    scale = camera.focal_px / (near + scene.distance_m)
    low, high = (camera.centre[:, 0].min() - 160) / scale, (camera.centre[:, 0].max() + 160) / scale
    tone = scaled(rng.uniform(50, 190) + rng.uniform(-40, 40, 3), 1.0)
    if scene.occluder == "post":
        for x in rng.uniform(low, high, max(1, round((high - low) / 9))):
            wide = float(rng.uniform(0.03, 0.14))
            x = _beside(x, wide, camera, scale)
            solids.append(still([(x, near, 0), (x, near, 6)], [wide, wide * 0.8], tone))
            solids.append(
                still(
                    [(x - 0.4 * wide, near, 0), (x - 0.4 * wide, near, 6)], [wide * 0.3] * 2, scaled(tone, 1.25), nearer_m=0.01
                )
            )
    elif scene.occluder in ("fence", "rope", "hurdle"):
        rails = {"fence": (0.12, 0.42), "rope": (0.8,), "hurdle": (0.5,)}[scene.occluder]
        gap = {"fence": 0.45, "rope": 2.6, "hurdle": 5.0}[scene.occluder]
        for x in np.arange(low, high, gap):
            reach = x + (1.1 if scene.occluder == "hurdle" else gap)
            solids += [
                still([(x, near, z), (reach, near, z)], [0.02 + 0.02 * (scene.occluder == "hurdle")] * 2, tone) for z in rails
            ]
            feet = (x, reach) if scene.occluder == "hurdle" else (x,)
            solids += [
                still([(foot, near, 0), (foot, near, rails[-1] + 0.05)], [0.025] * 2, scaled(tone, 0.7)) for foot in feet
            ]
    elif scene.occluder == "hedge":
        start = rng.uniform(low, high)
        for x in np.arange(start, start + rng.uniform(0.8, 2.6), 0.13):
            top = float(rng.uniform(0.24, 0.4))
            dark = scaled((58, 92, 46), float(rng.uniform(0.7, 1.0)))
            solids.append(still([(x, near, 0), (x, near, top - 0.1)], [0.13, 0.11], dark))
            for _ in range(3):
                leaf = scaled((74, 116, 56), float(rng.uniform(0.7, 1.35)))
                spot = (x + rng.normal(0, 0.06), near, rng.uniform(0.05, top))
                solids.append(still([spot], [float(rng.uniform(0.03, 0.07))], leaf, nearer_m=0.02))
    elif scene.occluder == "bench":
        x = _beside(float(rng.uniform(low + 1, max(low + 1.1, high - 1))), 0.6, camera, scale)
        for z, shade in ((0.42, 1.0), (0.62, 0.9), (0.76, 0.95)):
            solids.append(still([(x - 0.8, near, z), (x + 0.8, near, z)], [0.035] * 2, scaled((130, 90, 60), shade)))
        solids += [still([(x + dx, near, 0), (x + dx, near, 0.78)], [0.03] * 2, (60, 60, 64)) for dx in (-0.65, 0.65)]
    elif scene.occluder == "heads":
        close = -0.6 * scene.distance_m
        per_m = camera.focal_px / (close + scene.distance_m)
        for column in rng.uniform(camera.centre[:, 0].min() - 160, camera.centre[:, 0].max() + 160, 3):
            top = float(np.median(camera.centre[:, 1])) + HEIGHT / 2 - rng.uniform(6, 40)
            x, z, r = column / per_m, camera.height_m - top / per_m, float(rng.uniform(14, 22)) / per_m
            hair, coat = scaled((60, 46, 38), float(rng.uniform(0.5, 1.8))), scaled(tone, float(rng.uniform(0.4, 0.8)))
            solids.append(still([(x, close, z - 2.6 * r), (x, close, z - 6 * r)], [1.6 * r, 2.2 * r], coat))
            solids.append(still([(x, close, z - r), (x, close, z - 1.4 * r)], [r, 0.85 * r], hair, nearer_m=0.05))
    if scene.car_m_s:
        solids += _car(scene, camera, frame_count, rng)
    return solids


def _beside(x_m: float, half_width_m: float, camera: Camera, scale: float) -> float:
    """Where to put an obstacle that would stand before the leads for much of the shot: nobody films a post."""
    column, reach_px = x_m * scale, half_width_m * scale
    hidden = np.abs(camera.subject[:, 0] - column) < 22 + reach_px
    if hidden.mean() > 0.35:
        usual = float(np.median(camera.subject[:, 0]))
        column = usual + float(np.copysign(52 + reach_px, column - usual))
    return column / scale


def _car(scene: Scene, camera: Camera, frame_count: int, rng: np.random.Generator) -> list[Solid]:
    away = scene.depth_m - 2.4  # between whoever is furthest and the cars that are parked at the wall
    mid = float(np.median(camera.centre[:, 0])) * (away + scene.distance_m) / camera.focal_px
    meets = rng.uniform(0, frame_count / FPS)
    x = mid + scene.car_m_s * (np.arange(frame_count) / FPS - meets)
    way = np.sign(scene.car_m_s)
    coat = scaled((int(rng.integers(20, 220)), int(rng.integers(20, 200)), int(rng.integers(20, 200))), 1.0)

    def part(*balls: tuple[float, float, float], colour: Colour, nearer_m: float) -> Solid:
        track = [
            (np.stack([x + way * dx, np.full(frame_count, away), np.full(frame_count, z)], -1).astype(np.float32), r)
            for dx, z, r in balls
        ]
        return moving(*track, colour=colour, nearer_m=nearer_m, casts=True)

    return [
        part((-2.0, 0.45, 0.12), (2.1, 0.42, 0.12), (1.9, 0.7, 0.12), (-2.0, 0.8, 0.12), colour=coat, nearer_m=0.0),
        part((-1.5, 0.85, 0.1), (1.0, 0.85, 0.1), (-1.0, 1.3, 0.1), (0.4, 1.3, 0.1), colour=scaled(coat, 0.9), nearer_m=0.01),
        part((-1.2, 0.95, 0.04), (0.8, 0.95, 0.04), (-0.9, 1.28, 0.04), (0.35, 1.28, 0.04), colour=(60, 74, 86), nearer_m=0.02),
        part((-1.3, 0.33, 0.33), colour=(24, 24, 26), nearer_m=0.03),
        part((1.35, 0.33, 0.33), colour=(24, 24, 26), nearer_m=0.03),
    ]
