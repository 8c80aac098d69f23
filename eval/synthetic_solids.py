"""Made video's solids, and the people that are built of them, in their clothes.

A solid is the convex hull of up to eight balls: two make a limb, three a foot, one a ball, four of radius 0 a board. A person
is about twenty of them around the joints of a performance; what is under water is pressed flat onto its surface.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.synthetic_figure import JOINT
from tal_run.eval.synthetic_looks import Clothes, Colour
from tal_run.eval.synthetic_shot import Actor, placed

FloatArray = NDArray[np.float32]
AnyFloats = NDArray[np.floating[Any]]

BALLS = 8  # of a solid, at most


@dataclass(frozen=True, kw_only=True)
class Solid:
    """The convex hull of up to eight balls.

    Attributes:
        points: their centres, float32 [T or 1, N, 3] in metres.
        radii: [T or 1, N] in metres; a ball of radius 0 is a corner.
        nearer_m: drawn as if so much nearer: hair over head, shorts over thigh.
        shade: [T or 1], times the colour.
        lit: has a brighter side.
        casts: throws a shadow.
        flat: lies on the ground, under the shadows.
        visible: [T or 1].
    """

    points: FloatArray
    radii: FloatArray
    colour: Colour
    nearer_m: float = 0.0
    shade: FloatArray = field(default_factory=lambda: np.ones(1, np.float32))
    lit: bool = False
    casts: bool = False
    flat: bool = False
    visible: NDArray[np.bool_] = field(default_factory=lambda: np.ones(1, np.bool_))


def still(
    points: Sequence[Sequence[float]], radii: Sequence[float], colour: Colour, *, nearer_m: float = 0.0, flat: bool = False
) -> Solid:
    """A solid that does not move."""
    return Solid(
        points=np.array(points, np.float32)[None],
        radii=np.array(radii, np.float32)[None],
        colour=colour,
        nearer_m=nearer_m,
        flat=flat,
    )


def moving(
    *balls: tuple[AnyFloats, float], colour: Colour, nearer_m: float = 0.0, casts: bool = False, lit: bool = False
) -> Solid:
    """A solid of balls (centre [T, 3], radius)."""
    points = np.stack([centre for centre, _ in balls], axis=1).astype(np.float32)
    radii = np.array([[radius for _, radius in balls]], np.float32)
    return Solid(points=points, radii=radii, colour=colour, nearer_m=nearer_m, casts=casts, lit=lit)


def unit(vectors: FloatArray) -> FloatArray:
    """Vectors [..., 3] of length 1 in the same directions."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6), np.float32)


def scaled(colour: Iterable[float], factor: float) -> Colour:
    """A lighter or a darker colour."""
    red, green, blue = (int(np.clip(channel * factor, 0, 255)) for channel in colour)
    return red, green, blue


def under_water(points: FloatArray, pool: FloatArray) -> NDArray[np.bool_]:
    """Which of the points [..., 3] are below the surface between the ends of a pool [2, 3]."""
    along = pool[-1, :2] - pool[0, :2]
    share = (points[..., :2] - pool[0, :2]) @ along / max(float(along @ along), 1e-6)
    return np.asarray((points[..., 2] < pool[0, 2]) & (share > 0) & (share < 1), np.bool_)


class _Sculptor:
    """Collects one figure's solids, all under one water line."""

    def __init__(self, actor: Actor, frame_count: int) -> None:
        self.joints = placed(actor, actor.performance.joints, frame_count)
        body = actor.performance.body
        self.size = body.height_m / 1.75
        self.girth = self.size * body.girth**0.8
        self.is_lead = actor.is_lead
        self.solids: list[Solid] = []
        self.pools = [placed(actor, prop.points, 1)[0] for prop in actor.performance.props if prop.kind == "water"]

    def at(self, name: str) -> FloatArray:
        return np.asarray(self.joints[:, JOINT[name]], np.float32)

    def between(self, first: FloatArray, second: FloatArray, share: float) -> FloatArray:
        return np.asarray(first + (second - first) * np.float32(share), np.float32)

    def add(
        self, *balls: tuple[AnyFloats, float], colour: Colour, nearer_m: float = 0.0, lit: bool = False, casts: bool = False
    ) -> None:
        """The hull of balls (centre [T, 3], radius for an average girth); under water a ball is a point of the surface."""
        points = np.stack([centre for centre, _ in balls], axis=1).astype(np.float32)  # [T, N, 3]
        radii = np.broadcast_to(np.array([radius for _, radius in balls], np.float32) * self.girth, points.shape[:2])
        for pool in self.pools:
            under = under_water(points, pool)
            points[..., 2] = np.where(under, pool[0, 2], points[..., 2])
            radii = np.where(under, 0.0, radii)
        behind = np.clip((points[..., 1].mean(axis=1) - self.joints[:, 0, 1]) / 0.25, -0.3, 1)  # far limbs a little darker
        self.solids.append(
            Solid(
                points=points,
                radii=np.asarray(radii, np.float32),
                colour=colour,
                nearer_m=nearer_m,
                shade=np.asarray(1 - 0.24 * behind, np.float32),
                lit=lit and self.is_lead,
                casts=casts,
                visible=np.asarray(radii.max(axis=1) > 0, np.bool_),
            )
        )


def figure(actor: Actor, frame_count: int) -> list[Solid]:
    """A person in their clothes."""
    sculptor = _Sculptor(actor, frame_count)
    for side in ("l", "r"):
        _leg(sculptor, actor.clothes, side)
        _arm(sculptor, actor.clothes, side)
    _trunk(sculptor, actor.clothes)
    _head(sculptor, actor.clothes)
    return sculptor.solids


def _leg(s: _Sculptor, clothes: Clothes, side: str) -> None:
    hip, knee, ankle, toe = (s.at(f"{side}_{name}") for name in ("hip", "knee", "ankle", "toe"))
    covered = clothes.legs in ("tights", "trousers")
    wide = 1.22 if clothes.legs == "trousers" else 1.0
    leg = clothes.bottom if covered else clothes.skin
    s.add((hip, 0.088 * wide), (knee, 0.058 * wide), colour=leg, lit=True, casts=True)
    calf = s.between(knee, ankle, 0.3)
    s.add((knee, 0.055 * wide), (calf, 0.056 * wide), (ankle, 0.036 * wide**2), colour=leg, lit=True, casts=True)
    share = {"briefs": 0.22, "shorts": 0.62}.get(clothes.legs)
    if share:
        s.add((hip, 0.1), (s.between(hip, knee, share), 0.084), colour=clothes.bottom, nearer_m=0.01, lit=True)
    heel = s.between(ankle, toe, -0.25)
    heel = np.concatenate([heel[:, :2], np.minimum(heel[:, 2:], ankle[:, 2:] * 0.75 + toe[:, 2:] * 0.25)], axis=1)
    s.add((ankle, 0.036), (heel, 0.034), (toe, 0.03), colour=clothes.shoes, nearer_m=0.012)


def _arm(s: _Sculptor, clothes: Clothes, side: str) -> None:
    shoulder, elbow, hand = (s.at(f"{side}_{name}") for name in ("shoulder", "elbow", "hand"))
    sleeve = clothes.top if clothes.sleeves == "long" else clothes.skin
    s.add((shoulder, 0.054), (elbow, 0.042), colour=sleeve, nearer_m=0.05, lit=True, casts=True)
    s.add((elbow, 0.042), (s.between(elbow, hand, 0.92), 0.03), colour=sleeve, nearer_m=0.06, lit=True)
    if clothes.sleeves == "short":
        s.add((shoulder, 0.064), (s.between(shoulder, elbow, 0.5), 0.058), colour=clothes.top, nearer_m=0.055)
    s.add((hand, 0.045), (s.between(hand, elbow, 0.18), 0.036), colour=clothes.skin, nearer_m=0.065)


def _trunk(s: _Sculptor, clothes: Clothes) -> None:
    pelvis, neck = s.at("pelvis"), s.at("neck")
    left, right = s.at("l_shoulder"), s.at("r_shoulder")
    left_hip, right_hip = s.at("l_hip"), s.at("r_hip")
    up = unit(neck - pelvis)
    facing = unit(np.cross(left - right, up).astype(np.float32))
    waist, chest = s.between(pelvis, neck, 0.34), s.between(pelvis, neck, 0.72)
    mid = s.between(left, right, 0.5)
    left_in, right_in = s.between(left, mid, 0.12) - 0.015 * up, s.between(right, mid, 0.12) - 0.015 * up
    trunk = ((left_in, 0.06), (right_in, 0.06), (chest, 0.125), (waist, 0.118))
    s.add(*trunk, colour=clothes.top, lit=True, casts=True)
    s.add((waist, 0.114), (left_hip, 0.094), (right_hip, 0.094), colour=clothes.bottom, nearer_m=-0.004, lit=True)
    s.add((waist, 0.12), (s.between(pelvis, waist, 0.55), 0.116), colour=clothes.top, nearer_m=0.002)  # the shirt's hem
    if clothes.legs == "skirt":
        knees = [s.between(s.at(f"{side}_hip"), s.at(f"{side}_knee"), 0.6) for side in ("l", "r")]
        s.add(
            (left_hip, 0.1),
            (right_hip, 0.1),
            (knees[0], 0.11),
            (knees[1], 0.11),
            colour=clothes.bottom,
            nearer_m=0.03,
            lit=True,
        )
    if clothes.pattern == "band":
        sides = [s.between(a, b, 0.36) for a, b in ((left_in, left_hip), (right_in, right_hip))]
        s.add((sides[0], 0.05), (sides[1], 0.05), (s.between(chest, waist, 0.3), 0.05), colour=clothes.trim, nearer_m=0.004)
    elif clothes.pattern == "sides":
        for shoulder, hip in ((left_in, left_hip), (right_in, right_hip)):
            s.add(
                (s.between(shoulder, hip, 0.2), 0.03),
                (s.between(shoulder, hip, 0.9), 0.034),
                colour=clothes.trim,
                nearer_m=0.006,
            )
    elif clothes.pattern == "bib":
        front, across = facing * np.float32(0.1 * s.girth), (left_in - right_in) * np.float32(0.28)
        top, low = chest + front, s.between(chest, waist, 0.75) + front
        corners = [(top + across, 0.012), (top - across, 0.012), (low + across, 0.012), (low - across, 0.012)]
        s.add(*corners, colour=(240, 240, 236), nearer_m=0.006)


def _head(s: _Sculptor, clothes: Clothes) -> None:
    neck, head = s.at("neck"), s.at("head")
    up = unit(head - neck)
    facing = unit(np.cross(s.at("l_shoulder") - s.at("r_shoulder"), up).astype(np.float32))
    size = np.float32(s.size)
    s.add((neck, 0.055), (s.between(neck, head, 0.6), 0.05), colour=scaled(clothes.skin, 0.85), nearer_m=-0.01)
    crown, chin = head + 0.03 * size * up, head + size * (0.012 * facing - 0.05 * up)
    s.add((crown, 0.098), (chin, 0.07), colour=clothes.skin, lit=True, casts=True)
    back = head + size * (-0.035 * facing + 0.045 * up)
    if clothes.headwear in ("cap", "hat"):
        s.add((head + size * (0.06 * up - 0.01 * facing), 0.096), colour=clothes.trim, nearer_m=0.02)
        brim = (0.17, 0.03) if clothes.headwear == "cap" else (0.15, -0.15)
        ends = [(head + size * (reach * facing + 0.055 * up), 0.014) for reach in brim]
        s.add(*ends, colour=scaled(clothes.trim, 0.75), nearer_m=0.022)
    elif clothes.hair_style != "bald":
        s.add((back, 0.092), (head + size * (0.065 * up + 0.01 * facing), 0.08), colour=clothes.hair, nearer_m=0.012)
    if clothes.headwear == "headband":
        rim = head + 0.045 * size * up
        s.add((rim + 0.05 * size * facing, 0.055), (rim - 0.04 * size * facing, 0.06), colour=clothes.trim, nearer_m=0.014)
    if clothes.hair_style in ("bob", "tail"):
        nape = head + size * (-0.085 * facing - 0.02 * up)
        hangs = np.array([0, 0, -0.16 if clothes.hair_style == "tail" else -0.09], np.float32) * size
        reach = (0.04, 0.022) if clothes.hair_style == "tail" else (0.07, 0.06)
        s.add((nape, reach[0]), (nape - 0.03 * size * facing + hangs, reach[1]), colour=clothes.hair, nearer_m=0.008)
