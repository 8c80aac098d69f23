"""The score in which the motions of made video are written, the gaits, and the openings that actions share with near misses.

A ``Score`` is written from left to right: each ``key`` says after how many seconds which channels have got where; the others
stay. Every score draws its own manner once (how wide, how deep, how far) and jitters every duration, so no two are alike.

Gaits are tables of one leg's angles over a cycle, after the curves of Winter, Biomechanics and Motor Control of Human Movement,
and Novacheck, The biomechanics of running (1998); the other leg is half a cycle behind, and each arm swings with the other leg.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.synthetic_figure import CHANNEL, CHANNELS, Fixture, Flight, Motion

_STANDING = {"raise": 9.0, "plane": 60.0, "elbow": 14.0, "spread": 5.0, "knee": 3.0, "hip": 2.0}
_PLURALS = {"raises": "raise", "planes": "plane", "elbows": "elbow", "swivels": "swivel"}
_PLURALS |= {"hips": "hip", "spreads": "spread", "knees": "knee", "feet": "foot"}
_DURATION_JITTER = 0.15


def _standing() -> NDArray[np.float64]:
    pose = np.zeros(len(CHANNELS))
    for name, angle in _STANDING.items():
        pose[[CHANNEL[f"l_{name}"], CHANNEL[f"r_{name}"]]] = angle
    pose[CHANNEL["tool_raise"]] = 48.0
    return pose


STANDING = _standing()
_MANNERS = {  # channels that one person makes larger or smaller together, and by how much at most
    ("l_raise", "r_raise"): 0.05,
    ("l_elbow", "r_elbow"): 0.08,
    ("l_hip", "r_hip", "l_knee", "r_knee"): 0.07,
    ("l_spread", "r_spread"): 0.15,
    ("bend", "lean", "twist"): 0.12,
}


class Score:
    """Key poses in the making."""

    def __init__(self, rng: np.random.Generator, **channels: float) -> None:
        self.rng = rng
        self.now_s = 0.0
        self.flights: list[Flight] = []
        self._pose = STANDING.copy()
        self._times_s: list[float] = []
        self._poses: list[NDArray[np.float64]] = []
        self.key(0.0, **channels)

    def about(self, value: float, share: float = 0.15) -> float:
        """A number about this one, within a share of it."""
        return float(value * self.rng.uniform(1 - share, 1 + share))

    def count(self, low: int, high: int) -> int:
        """A number of times, from ``low`` to ``high``."""
        return int(self.rng.integers(low, high + 1))

    def maybe(self, chance: float = 0.5) -> bool:
        """Whether to, this time."""
        return bool(self.rng.random() < chance)

    def key(self, after_s: float, **channels: float) -> None:
        """A key pose about so many seconds after the last: these channels as said (``hips``: both), the others as they were."""
        self.at(self.about(after_s, _DURATION_JITTER), **channels)

    def at(self, after_s: float, **channels: float) -> None:
        """A key pose exactly so many seconds after the last."""
        for name, value in channels.items():
            names = [f"l_{_PLURALS[name]}", f"r_{_PLURALS[name]}"] if name in _PLURALS else [name]
            self._pose[[CHANNEL[each] for each in names]] = value
        if self._times_s:
            self.now_s += after_s
        self._times_s.append(self.now_s)
        self._poses.append(self._pose.copy())

    def rest(self, after_s: float, **channels: float) -> None:
        """Stand again, at ease."""
        kept = [CHANNEL[name] for name in ("x", "y", "level", "turn", "pitch", "roll", "shouldered")]
        pose = STANDING.copy()
        pose[kept] = self._pose[kept]
        self._pose = pose
        self.key(after_s, **channels)

    def fly(self, since_s: float, *, forward_m_s: float | None = None) -> None:
        """From then to now there was nothing under the body."""
        self.flights.append(Flight(start_s=since_s, end_s=self.now_s, forward_m_s=forward_m_s))

    def turned(self) -> float:
        """The body's present turn, in degrees."""
        return float(self._pose[CHANNEL["turn"]])

    def gait(
        self,
        gait: Gait,
        steps: int,
        *,
        arms: str = "lr",
        speed_up: bool = True,
        slow_down: bool = False,
        turn: float = 0.0,
        hurry: float = 1.0,
    ) -> None:
        """So many steps of walking or running; the left foot lands first, and at the end the next one is about to land.

        Args:
            gait: which.
            steps: how many.
            arms: which arms swing; the other keeps what it has.
            speed_up: the first two steps grow.
            slow_down: the last two shrink.
            turn: degrees to the left on the way.
            hurry: steps per time, against the gait's own.
        """
        start = self.turned()
        keys = steps * 4
        cycle_s = gait.cycle_s / hurry
        amble = self.about(1.0, 0.1)
        for index in range(keys + 1):
            phase = index / 8
            size = amble
            if speed_up:
                size *= min(1.0, 0.35 + 0.65 * index / 8)
            if slow_down:
                size *= min(1.0, 0.25 + 0.75 * (keys - index) / 8)
            channels = {"bend": gait.bend * size, "turn": start + turn * index / keys, "lean": 0.0}
            channels["bears"] = 0.0 if index else -1.0  # the right leg pushes off
            channels["twist"] = gait.twist * size * np.cos(2 * np.pi * phase)
            for side, own in (("l", phase), ("r", phase + 0.5)):
                channels |= gait.leg(side, own, size)
                if side in arms:
                    channels |= gait.arm(side, own, size)
            self.at(0.16 if index == 0 else cycle_s / 8, **channels)
            if index % 4 == 0 and index and gait.off < 0.5:
                air_s = (0.5 - gait.off) * cycle_s
                self.flights.append(Flight(start_s=self.now_s - air_s, end_s=self.now_s))

    def motion(self, name: str, *, stretch_s: tuple[float, float] | None = None, **things: object) -> Motion:
        """What has been written, in this score's own manner."""
        poses = np.array(self._poses)
        for channels, share in _MANNERS.items():
            columns = [CHANNEL[channel] for channel in channels]
            poses[:, columns] = STANDING[columns] + (poses[:, columns] - STANDING[columns]) * self.about(1.0, share)
        return Motion(
            name=name,
            times_s=np.array(self._times_s),
            poses=poses,
            stretch_s=stretch_s,
            flights=tuple(self.flights),
            **things,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, kw_only=True)
class Gait:
    """One leg over a cycle, from its landing on, at eight even phases; degrees."""

    cycle_s: float
    hip: tuple[float, ...]
    knee: tuple[float, ...]
    foot: tuple[float, ...]
    off: float  # the phase at which the foot leaves the ground; below 0.5 there is a flight
    swing: float  # the arms': shoulder
    elbow: float
    bend: float
    twist: float

    def leg(self, side: str, phase: float, size: float) -> dict[str, float]:
        """That leg's channels at a phase, at a share of the whole size."""
        at = [self._at(table, phase) * size for table in (self.hip, self.knee, self.foot)]
        return {f"{side}_hip": at[0], f"{side}_knee": at[1] + 3.0, f"{side}_foot": at[2], f"{side}_spread": 2.0}

    def arm(self, side: str, phase: float, size: float) -> dict[str, float]:
        """That side's arm: back when its leg is in front."""
        swing = -np.cos(2 * np.pi * (phase - 0.03)) * self.swing * size
        return {
            f"{side}_raise": swing + 6.0,
            f"{side}_plane": 8.0,
            f"{side}_elbow": 14.0 + (self.elbow - 14.0) * min(1.0, size) + 0.25 * swing,
            f"{side}_swivel": 0.4 * max(0.0, float(swing)),
        }

    @staticmethod
    def _at(table: tuple[float, ...], phase: float) -> float:
        return float(np.interp((phase % 1.0) * 8, np.arange(9), [*table, table[0]]))


# fmt: off
WALK = Gait(
    cycle_s=1.08, off=0.6, swing=24.0, elbow=22.0, bend=3.0, twist=5.0,
    hip=(26, 19, 5, -8, -13, 5, 24, 29), knee=(2, 14, 8, 4, 22, 58, 50, 14), foot=(-14, 0, 0, 4, 22, 32, 5, -10),
)
JOG = Gait(
    cycle_s=0.72, off=0.37, swing=34.0, elbow=85.0, bend=9.0, twist=9.0,
    hip=(30, 18, 0, -16, -10, 12, 34, 38), knee=(14, 32, 26, 14, 50, 88, 80, 36), foot=(-4, 0, 4, 32, 48, 40, 15, 0),
)
SPRINT = Gait(
    cycle_s=0.48, off=0.35, swing=58.0, elbow=92.0, bend=11.0, twist=12.0,
    hip=(40, 18, -8, -26, -8, 30, 62, 62), knee=(20, 30, 22, 24, 85, 118, 100, 50), foot=(5, 2, 14, 40, 50, 40, 15, 5),
)
# fmt: on

GUARD = {"raises": 40.0, "planes": 8.0, "elbows": 132.0, "swivels": 6.0}
RACK = {"raises": 62.0, "planes": 28.0, "elbows": 150.0, "swivels": -8.0}  # the barbell on the front of the shoulders


def facing_us(rng: np.random.Generator) -> float:
    """A turn that shows what happens sideways of the body: mostly towards the camera."""
    return float(rng.choice([-90.0, -65.0, -115.0, -25.0], p=[0.4, 0.25, 0.2, 0.15]))


def guard(score: Score) -> None:
    """Both fists before the face, the left foot ahead."""
    score.key(0.5, **GUARD, l_hip=24.0, l_knee=24.0, r_hip=-16.0, r_knee=26.0, r_foot=12.0, spreads=7.0, twist=-22.0, bend=8.0)
    score.key(score.about(0.25, 0.5))


def address(score: Score) -> None:
    """Bent over the golf ball with both hands at the club."""
    score.key(0.5, turn=float(score.rng.choice([-90.0, -70.0, -110.0, 0.0], p=[0.4, 0.2, 0.2, 0.2])), r_hip=14.0, r_knee=24.0)
    score.key(0.5, hips=16.0, knees=22.0, spreads=12.0, bend=36.0, raises=46.0, planes=-27.0, elbows=5.0, nod=6.0, both=1.0,
              tool_raise=78.0, tool_plane=0.0)  # fmt: skip
    score.key(score.about(0.5, 0.5))


def javelin_at_the_shoulder(score: Score) -> None:
    """The javelin level beside the ear, the elbow ahead."""
    score.key(0.4, r_raise=84.0, r_plane=52.0, r_elbow=132.0, r_swivel=12.0, tool_raise=96.0, tool_plane=0.0)


def draw_back(score: Score) -> None:
    """The javelin at arm's length behind, the left side ahead."""
    score.key(0.3, bears=1.0, twist=-62.0, turn=score.turned() - 16.0, r_raise=88.0, r_plane=96.0, r_elbow=6.0, l_raise=86.0,
              l_plane=62.0, l_elbow=16.0, l_swivel=0.0, tool_plane=-76.0, tool_raise=98.0, bend=-8.0)  # fmt: skip


def grip_the_bar(score: Score) -> None:
    """Down to the barbell on the floor, a hand on either side."""
    score.key(0.7, hips=94.0, knees=92.0, bend=50.0, raises=68.0, planes=24.0, elbows=2.0, nod=-22.0, spreads=8.0)
    score.key(score.about(0.4, 0.5))


def sand_pit(at_s: float, *, ahead_m: float = 1.2) -> tuple[Fixture, ...]:
    """A pit of sand ahead of where the figure is then."""
    return (Fixture(kind="sand", at_s=at_s, points=rectangle(ahead_m, ahead_m + 7.5, half_width_m=1.5, z_m=0.0)),)


MAT_M = 0.6


def rectangle(from_m: float, to_m: float, *, half_width_m: float, z_m: float) -> tuple[tuple[float, float, float], ...]:
    """The corners of something flat that lies ahead, in order: near left, near right, far right, far left."""
    w = half_width_m
    return ((from_m, -w, z_m), (to_m, -w, z_m), (to_m, w, z_m), (from_m, w, z_m))


def bar_and_mat(at_s: float, *, cleared: bool, ahead_m: float = 0.0, height_m: float = 1.5) -> tuple[Fixture, ...]:
    """A high bar, at the height that was cleared or at the one given, and the mat behind it; the run-up meets it aslant."""
    z_m = -0.2 if cleared else height_m
    bar = ((ahead_m - 1.1, 1.6, z_m), (ahead_m + 1.1, -1.6, z_m))
    mat = rectangle(ahead_m + 0.15, ahead_m + 3.6, half_width_m=1.8, z_m=MAT_M)
    return (
        Fixture(kind="high bar", at_s=at_s, points=bar, above_pelvis=cleared),
        Fixture(kind="mat", at_s=at_s, points=mat),
    )


def platform_and_pool(at_s: float, *, height_m: float, ahead_m: float = 0.2) -> tuple[Fixture, ...]:
    """A platform whose edge is just ahead, and the water far below."""
    top = rectangle(ahead_m - 2.5, ahead_m, half_width_m=0.9, z_m=height_m)
    pool = ((ahead_m, 0.0, 0.0), (ahead_m + 12.0, 0.0, 0.0))
    return (Fixture(kind="platform", at_s=at_s, points=top), Fixture(kind="water", at_s=at_s, points=pool))
