"""What the figures of made video hold, throw, kick, lift and jump over: where each thing is at every frame.

A stick stays in the hand until it is thrown, a ball lies where the foot will meet it, a barbell waits where the hands will take
it, and what stands in the scene stands where the figure's own way leads past it. In flight, gravity has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.synthetic_skeleton import CHANNEL, GRAVITY_M_S2, JOINT, Flight, Motion, PropTrack, about, whither

STICK_LENGTH_M = {"club": 1.0, "javelin": 2.5}
CARRIED_AT = {"club": (48.0, 10.0), "javelin": (84.0, 0.0)}  # tool_raise, tool_plane of what is merely carried about
_STICK_M = {"club": 0.012, "javelin": 0.015}
_BALL_M, _PLATE_M, _BAR_HALF_M = 0.11, 0.2, 0.95


@dataclass(frozen=True, kw_only=True)
class Course:
    """Motions in a row: all their keys on one clock (seconds at tempo 1), and when each starts."""

    motions: tuple[Motion, ...]
    starts_s: tuple[float, ...]
    headings: tuple[float, ...]  # the turn, in degrees, with which each starts
    times_s: NDArray[np.float64]
    poses: NDArray[np.float64]
    floor_m: float

    @property
    def end_s(self) -> float:
        """When the last motion is over."""
        return float(self.times_s[-1])

    def flights(self) -> list[Flight]:
        """All flights, on the course's clock."""
        return [
            replace(flight, start_s=start + flight.start_s, end_s=start + flight.end_s)
            for motion, start in zip(self.motions, self.starts_s, strict=True)
            for flight in motion.flights
        ]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Everything the things need to know about a performance to be where they belong."""

    clock_s: NDArray[np.float64]
    angles: NDArray[np.float64]
    joints: NDArray[np.float64]
    course: Course

    def frame(self, at_s: float) -> int:
        """The frame at a time of the course, within the performance."""
        return int(np.clip(round(at_s / (self.clock_s[1] - self.clock_s[0])), 0, len(self.clock_s) - 1))

    def joint(self, name: str) -> NDArray[np.float64]:
        """One joint's way, [T, 3]."""
        joint: NDArray[np.float64] = self.joints[:, JOINT[name]]
        return joint

    def chest(self) -> NDArray[np.float64]:
        """The chest's rotation, [T, 3, 3]."""
        get = {name: self.angles[:, CHANNEL[name]] for name in ("turn", "pitch", "roll", "bend", "lean", "twist")}
        pelvis = about("z", get["turn"]) @ about("y", get["pitch"]) @ about("x", get["roll"])
        return pelvis @ about("y", get["bend"]) @ about("x", get["lean"]) @ about("z", get["twist"])


def things_of(stage: Stage, needs: set[str]) -> list[PropTrack]:
    """The tracks of all that stands in the scene and of the implements needed."""
    props = _fixtures(stage)
    if "club" in needs:
        props.append(_track("club", _stick(stage, "club"), _STICK_M["club"]))
    if "javelin" in needs:
        props.extend(_javelins(stage))
    if "ball" in needs:
        props.extend(_balls(stage))
    if "barbell" in needs:
        props.append(_track("barbell", _barbell(stage), _PLATE_M))
    return props


def _track(kind: str, points: NDArray[np.float64], size_m: float, *, fixed: bool = False, visible_from: int = 0) -> PropTrack:
    visible = np.arange(len(points)) >= visible_from
    return PropTrack(kind=kind, points=points.astype(np.float32), size_m=size_m, visible=visible, fixed=fixed)


def turned(prop: PropTrack, turn_deg: float) -> PropTrack:
    """The same thing, turned to the left about the vertical axis through the performance's start."""
    rotation = about("z", np.array([turn_deg]))[0].T.astype(np.float32)
    return replace(prop, points=prop.points @ rotation)


def _fixtures(stage: Stage) -> list[PropTrack]:
    """What stands in the scene, for all frames, where the figure's ways led past it."""
    course, props = stage.course, []
    platforms: list[NDArray[np.float64]] = []
    pools: list[NDArray[np.float64]] = []
    for motion, start_s, heading in zip(course.motions, course.starts_s, course.headings, strict=True):
        rotation = about("z", np.array([heading]))[0]
        for fixture in motion.fixtures:
            pelvis = stage.joint("pelvis")[stage.frame(start_s + fixture.at_s)]
            points = np.array(fixture.points) @ rotation.T + pelvis * [1.0, 1.0, fixture.above_pelvis]
            if fixture.kind in ("platform", "water"):
                (platforms if fixture.kind == "platform" else pools).append(points)
                continue
            still = np.broadcast_to(points, (len(stage.clock_s), *points.shape))
            props.append(_track(fixture.kind, still, fixture.size_m, fixed=True))
    if pools:  # one surface; the last one who went to the edge knows best where it begins
        props.append(_track("water", np.broadcast_to(pools[-1], (len(stage.clock_s), 2, 3)), 0.1, fixed=True))
    if platforms:  # one floor, under everywhere the figure stands up there
        feet = np.concatenate([stage.joint(f"{side}_toe") for side in "lr"])
        feet = feet[feet[:, 2] > course.floor_m - 0.05]
        feet = feet[(feet[:, 2] < course.floor_m + 0.12)]
        corners = np.concatenate([*platforms, feet + [0.0, 0.5, 0.0], feet - [0.0, 0.5, 0.0]])
        low, high = corners.min(axis=0), corners.max(axis=0)
        (x0, y0, _), (x1, y1, _), z = low, high, course.floor_m
        top = np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])
        props.insert(0, _track("platform", np.broadcast_to(top, (len(stage.clock_s), 4, 3)), 0.1, fixed=True))
    return props


def _stick(stage: Stage, kind: str) -> NDArray[np.float64]:
    """A stick in the hand, [T, 2, 3]: a club from its grip, a javelin held in its middle."""
    both = np.clip(stage.angles[:, CHANNEL["both"], None], 0, 1) / 2
    grip = stage.joint("r_hand") * (1 - both) + stage.joint("l_hand") * both
    raised, plane = (np.deg2rad(stage.angles[:, CHANNEL[name]]) for name in ("tool_raise", "tool_plane"))
    way = (stage.chest() @ whither(raised, plane, -1.0)[..., None])[..., 0] * STICK_LENGTH_M[kind]
    ends = (grip, grip + way) if kind == "club" else (grip - 0.45 * way, grip + 0.55 * way)
    points = np.stack(ends, axis=1)
    points[..., 2] = np.maximum(points[..., 2], stage.course.floor_m + 0.03 if points[:, 0, 2].min() > 0 else -9.0)
    return points


def _javelins(stage: Stage) -> list[PropTrack]:
    """A javelin for every throw: in the hand from the throw before, then in the air until it sticks in the ground."""
    in_hand, course = _stick(stage, "javelin"), stage.course
    tracks, taken = [], 0
    for motion, start_s, heading in zip(course.motions, course.starts_s, course.headings, strict=True):
        if motion.needs != "javelin" or motion.release_s is None:
            continue
        release = stage.frame(start_s + motion.release_s)
        t_s = stage.clock_s[release:] - stage.clock_s[release]
        velocity = about("z", np.array([heading]))[0] @ np.array(motion.release_m_s)
        middle = in_hand[release].mean(axis=0) + velocity * t_s[:, None]
        middle[:, 2] -= GRAVITY_M_S2 / 2 * t_s**2
        way = velocity - np.array([0.0, 0.0, GRAVITY_M_S2]) * t_s[:, None]
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        half = STICK_LENGTH_M["javelin"] / 2
        points = in_hand.copy()
        points[release:] = np.stack([middle - half * way, middle + half * way], axis=1)
        stuck = np.flatnonzero(points[release:, 1, 2] < course.floor_m)
        if len(stuck):
            points[release + stuck[0] :] = points[release + stuck[0]]
        tracks.append(_track("javelin", points, _STICK_M["javelin"], visible_from=taken))
        taken = stage.frame(start_s + motion.duration_s)
    if not tracks or (taken < len(stage.clock_s) - 1 and any(m.needs == "javelin" for m in _after_last_throw(course))):
        tracks.append(_track("javelin", in_hand, _STICK_M["javelin"], visible_from=taken))
    return tracks


def _after_last_throw(course: Course) -> tuple[Motion, ...]:
    thrown = [index for index, motion in enumerate(course.motions) if motion.release_s is not None]
    return course.motions[thrown[-1] + 1 :] if thrown else course.motions


def _balls(stage: Stage) -> list[PropTrack]:
    """A ball for every motion that touches one, lying there before and after; with none, it is carried in the hand."""
    course, tracks = stage.course, []
    for motion, start_s, heading in zip(course.motions, course.starts_s, course.headings, strict=True):
        if not motion.touches_s:
            continue
        ahead = about("z", np.array([heading]))[0]
        touches_s = np.array(motion.touches_s) + start_s
        at = stage.joint("r_toe")[[stage.frame(t) for t in touches_s]] + ahead @ np.array([_BALL_M, 0.0, 0.0])
        at[:, 2] = course.floor_m + _BALL_M
        points = np.empty((len(stage.clock_s), 3))
        for axis in range(3):
            points[:, axis] = np.interp(stage.clock_s, touches_s, at[:, axis])
        if motion.release_s is not None:
            release = stage.frame(touches_s[-1])
            points[release:] = _bouncing(points[release], ahead @ np.array(motion.release_m_s), stage, release)
        tracks.append(_track("ball", points[:, None], _BALL_M))
    if not tracks:
        hand = stage.joint("r_hand") + np.array([0.0, 0.0, -0.8 * _BALL_M])
        tracks.append(_track("ball", hand[:, None], _BALL_M))
    return tracks


def _bouncing(start: NDArray[np.float64], velocity: NDArray[np.float64], stage: Stage, release: int) -> NDArray[np.float64]:
    """A ball from a kick on, [T - release, 3]: up, down, bouncing lower and lower, and out of the way."""
    tick_s = stage.clock_s[1] - stage.clock_s[0]
    points = np.empty((len(stage.clock_s) - release, 3))
    place, speed, floor = start.copy(), velocity.copy(), stage.course.floor_m + _BALL_M
    for index in range(len(points)):
        points[index] = place
        place = place + speed * tick_s
        speed = speed * [0.995, 0.995, 1.0] - [0.0, 0.0, GRAVITY_M_S2 * tick_s]
        if place[2] < floor:
            place[2] = floor
            speed *= [0.8, 0.8, -0.5]
    return points


def _barbell(stage: Stage) -> NDArray[np.float64]:
    """The barbell's two ends, [T, 2, 3]: off the ground while it is held, and where it was taken or dropped otherwise."""
    l_hand, r_hand, course = stage.joint("l_hand"), stage.joint("r_hand"), stage.course
    shouldered = np.clip(stage.angles[:, CHANNEL["shouldered"], None], 0, 1)
    chest = stage.chest()
    nape = stage.joint("neck") - 0.09 * chest[:, :, 0] + 0.02 * chest[:, :, 2]
    middle = (l_hand + r_hand) / 2 * (1 - shouldered) + nape * shouldered
    along = (l_hand - r_hand) * (1 - shouldered) + chest[:, :, 1] * shouldered
    along[:, 2] *= 0.5  # two hands are never quite level; a loaded bar nearly is
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    held = np.zeros(len(stage.clock_s), dtype=bool)
    for motion, start_s in zip(course.motions, course.starts_s, strict=True):
        if motion.held_s is not None:
            held[stage.frame(start_s + motion.held_s[0]) : stage.frame(start_s + motion.held_s[1]) + 1] = True
    if shouldered.max() > 0.5:
        held |= shouldered[:, 0] > 0.5
    if not held.any():  # only lies about, beside the figure
        middle = np.broadcast_to(middle[0] + [0.0, 1.2, 0.0], middle.shape).copy()
        along = np.broadcast_to([1.0, 0.0, 0.0], along.shape)
        middle[:, 2] = course.floor_m + _PLATE_M
    else:
        middle, along = _put_down(middle, along, held=held, stage=stage)
    return np.stack([middle + _BAR_HALF_M * along, middle - _BAR_HALF_M * along], axis=1)


def _put_down(
    middle: NDArray[np.float64], along: NDArray[np.float64], *, held: NDArray[np.bool_], stage: Stage
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Between two holds the bar falls to the ground where it was let go, waits there, and rolls to where it is taken next."""
    tick_s, floor = stage.clock_s[1] - stage.clock_s[0], stage.course.floor_m + _PLATE_M
    middle, along = middle.copy(), along.copy()
    edges = np.flatnonzero(np.diff(np.concatenate([[True], held, [True]]).astype(int)))
    for first, end in zip(edges[::2], edges[1::2], strict=True):  # frames [first, end) without hands
        gap = np.arange(first, end)
        source, target = (first - 1 if first else end), (end if end < len(held) else first - 1)
        t_s = (gap - source) * tick_s if first else np.zeros(len(gap))
        fall = np.maximum(middle[source, 2] - GRAVITY_M_S2 / 2 * t_s**2, floor) if first else np.full(len(gap), floor)
        rolled = (np.linspace(0.0, 1.0, len(gap) + 2)[1:-1] ** 2)[:, None]
        spot = middle[source] * (1 - rolled) + middle[target] * rolled
        way = along[source] * (1 - rolled) + along[target] * rolled
        middle[gap] = np.column_stack([spot[:, :2], fall])
        along[gap] = way / np.linalg.norm(way, axis=1, keepdims=True)
        taken = np.arange(end, min(len(held), end + 6))  # hands that come a little high or low still take it from the ground
        middle[taken, 2] += (floor - middle[target, 2]) * (1 - (taken - end) / 6) if end < len(held) else 0.0
    return middle, along
