"""The people of made video in motion: where their joints are at every frame, and from when to when it is which action.

A motion is a row of key poses in joint angles; ``perform`` joins motions into one performance. The angles come first and the
place follows from them: whatever part of the body is lowest stands on the ground and does not slide, so walking goes forward
because the legs sweep back, a squat sits back over still feet and a cartwheel rolls over the hands. Only in a flight does the
body leave the ground: its centre of mass then follows the parabola that gravity gives between take-off and landing.

    key poses [K, P] --monotone cubic--> angles [T, P] --skeleton--> joints about the pelvis --contact, flights--> joints

The skeleton and its units: ``synthetic_skeleton.py``; what the figures hold: ``synthetic_props.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.synthetic_props import CARRIED_AT, STICK_LENGTH_M, Course, Stage, things_of, turned
from tal_run.eval.synthetic_skeleton import (
    ARMS_AT_THE_BAR,
    CHANNEL,
    CHANNELS,
    FLESH,
    FPS,
    GRAVITY_M_S2,
    JOINT,
    JOINTS,
    MASS,
    POINTED,
    Body,
    Fixture,
    Flight,
    Motion,
    Performance,
    PropTrack,
    Span,
    about,
    skeleton,
)

__all__ = [
    "ARMS_AT_THE_BAR",
    "CHANNEL",
    "CHANNELS",
    "FPS",
    "GRAVITY_M_S2",
    "JOINT",
    "JOINTS",
    "POINTED",
    "STICK_LENGTH_M",
    "Body",
    "Fixture",
    "Flight",
    "Motion",
    "Performance",
    "PropTrack",
    "Span",
    "perform",
    "skeleton",
]

_CONTACT_SOFTNESS_M = 0.012  # points this close to the lowest one share in standing
_OF_THE_LEFT_LEG, _OF_THE_RIGHT_LEG = (
    np.array([float(name in (f"{side}_knee", f"{side}_ankle", f"{side}_toe")) for name in JOINTS]) for side in "lr"
)


def perform(
    motions: Sequence[Motion],
    *,
    body: Body,
    tempo: float,
    rng: np.random.Generator,
    implement: str | None = None,
    turn_deg: float = 0.0,
) -> Performance:
    """One motion after the other, with the way from each to the next, as one figure's performance.

    Args:
        motions: in order.
        body: who does it.
        tempo: how many seconds of motion pass in one second of video.
        rng: draws the small sway that nobody is without.
        implement: what the figure has with it all along; None: what its motions need.
        turn_deg: the whole performance turned to the left about the vertical axis through its start.

    Raises:
        ValueError: no motions, two kinds of stick at once, or a motion after one that ends the performance.
    """
    if not motions:
        raise ValueError("a performance needs at least one motion")
    if any(motion.ends_performance for motion in motions[:-1]):
        raise ValueError("nothing can follow a motion that ends the performance")
    needs = {motion.needs for motion in motions if motion.needs} | ({implement} if implement else set())
    sticks = needs & set(STICK_LENGTH_M)
    if len(sticks) > 1:
        raise ValueError(f"a figure carries one stick at a time, not {' and '.join(sorted(sticks))}")
    course = _chain(motions, implement=next(iter(sticks), implement))
    frames = max(3, int(np.ceil(course.end_s / tempo * FPS)) + 1)
    clock_s: NDArray[np.float64] = np.arange(frames, dtype=np.float64) * (tempo / FPS)
    angles = _interpolate(course.times_s, course.poses, clock_s) + _sway(clock_s, rng)
    coming = np.clip(np.searchsorted(course.times_s, clock_s), 0, len(course.times_s) - 1)
    angles[:, CHANNEL["bears"]] = course.poses[coming, CHANNEL["bears"]]  # a step is taken at once
    local = skeleton(angles, body)
    path = _path(angles, local, clock_s, course=course, body=body)
    joints = local + path[:, None]
    stage = Stage(clock_s=clock_s, angles=angles, joints=joints, course=course)
    props = tuple(turned(prop, turn_deg) for prop in things_of(stage, needs))
    return Performance(
        joints=(joints @ about("z", np.array([turn_deg]))[0].T).astype(np.float32),
        body=body,
        props=props,
        spans=_spans(motions, course, tempo=tempo, duration_s=frames / FPS),
    )


def _chain(motions: Sequence[Motion], *, implement: str | None) -> Course:
    """Put the motions on one clock: each goes on from where and whither the last one went; the way between takes its time."""
    on_shoulders = any(motion.poses[:, CHANNEL["shouldered"]].any() for motion in motions)
    kept = [CHANNEL[name] for name in ("x", "y", "level", "turn")]
    angular = slice(CHANNEL["bend"], CHANNEL["both"])
    times: list[NDArray[np.float64]] = []
    poses: list[NDArray[np.float64]] = []
    starts, headings, now = [], [], 0.0
    for motion in motions:
        own = motion.poses.copy()
        if motion.needs is None:
            _carry_along(own, implement=implement, on_shoulders=on_shoulders)
        if poses:
            last = poses[-1][-1]
            own[:, kept] += last[kept] - own[0, kept]
            own[:, CHANNEL["level"]] -= own[0, CHANNEL["level"]]  # everybody comes down from the mat
            for name in ("pitch", "roll"):
                own[:, CHANNEL[name]] += 360.0 * np.round(last[CHANNEL[name]] / 360.0)
            now += 0.2 + min(0.7, float(np.abs(own[0, angular] - last[angular]).max()) / 220.0)
        starts.append(now)
        headings.append(float(own[0, CHANNEL["turn"]]))
        times.append(motion.times_s + now)
        poses.append(own)
        now += motion.duration_s
    floor_m = max(motion.platform_m for motion in motions)
    if motions[-1].ends_performance:  # a dive knows how deep it goes from its own platform
        floor_m = motions[-1].platform_m
    return Course(
        motions=tuple(motions),
        starts_s=tuple(starts),
        headings=tuple(headings),
        times_s=np.concatenate(times),
        poses=np.concatenate(poses),
        floor_m=floor_m,
    )


def _carry_along(poses: NDArray[np.float64], *, implement: str | None, on_shoulders: bool) -> None:
    """What a figure does with a thing that its motion has no use for: a stick hangs in the hand, a barbell stays up."""
    if implement in CARRIED_AT:
        poses[:, [CHANNEL["tool_raise"], CHANNEL["tool_plane"]]] = CARRIED_AT[implement]
        poses[:, CHANNEL["both"]] = 0.0
    if on_shoulders:
        poses[:, CHANNEL["shouldered"]] = 1.0
        for side in ("l", "r"):
            for name, angle in ARMS_AT_THE_BAR.items():
                poses[:, CHANNEL[f"{side}_{name}"]] = angle


def _interpolate(times_s: NDArray[np.float64], poses: NDArray[np.float64], at_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Monotone cubic interpolation (Fritsch and Butland 1984): smooth, and never beyond a key pose. [T, P]."""
    widths = np.diff(times_s)[:, None]
    slopes = np.diff(poses, axis=0) / widths
    tangents = np.zeros_like(poses)
    before, after = widths[:-1], widths[1:]
    same_way = slopes[:-1] * slopes[1:] > 0
    weights = (2 * after + before, after + 2 * before)
    with np.errstate(divide="ignore", invalid="ignore"):
        harmonic = (weights[0] + weights[1]) / (weights[0] / slopes[:-1] + weights[1] / slopes[1:])
    tangents[1:-1] = np.where(same_way, harmonic, 0.0)
    piece = np.clip(np.searchsorted(times_s, at_s, side="right") - 1, 0, len(widths) - 1)
    width = widths[piece]
    u = np.clip((at_s - times_s[piece])[:, None] / width, 0.0, 1.0)
    result: NDArray[np.float64] = (
        poses[piece] * (1 + 2 * u) * (1 - u) ** 2
        + poses[piece + 1] * (3 - 2 * u) * u**2
        + width * (tangents[piece] * u * (1 - u) ** 2 - tangents[piece + 1] * u**2 * (1 - u))
    )
    return result


def _sway(clock_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Breathing and unrest: two slow waves a channel of the upper body, of a degree or two. [T, P]."""
    size = np.zeros(len(CHANNELS))
    size[CHANNEL["bend"] : CHANNEL["l_hip"]] = 1.3
    size[[CHANNEL["lean"], CHANNEL["twist"]]] = 0.8
    frequency_hz = rng.uniform(0.15, 0.6, (2, len(CHANNELS)))
    phase = rng.uniform(0, 2 * np.pi, (2, len(CHANNELS)))
    waves: NDArray[np.float64] = np.sin(2 * np.pi * frequency_hz[:, None] * clock_s[:, None] + phase[:, None]).sum(axis=0)
    return waves * size * rng.uniform(0.5, 1.3)


def _path(
    angles: NDArray[np.float64], local: NDArray[np.float64], clock_s: NDArray[np.float64], *, course: Course, body: Body
) -> NDArray[np.float64]:
    """Where the pelvis is, [T, 3]: over its contacts with the ground, and along parabolas in flights."""
    ground = course.floor_m + angles[:, CHANNEL["level"]]
    below = local[:, :, 2] - FLESH * body.height_m
    standing = ground - below.min(axis=1)
    bears = angles[:, CHANNEL["bears"], None]
    swinging_m = np.maximum(0.0, bears) * _OF_THE_RIGHT_LEG + np.maximum(0.0, -bears) * _OF_THE_LEFT_LEG
    bearing = below + swinging_m  # a leg that swings through pushes nobody back
    nearness = np.exp(-(bearing - bearing.min(axis=1, keepdims=True)) / _CONTACT_SOFTNESS_M)
    nearness = nearness[:-1] * nearness[1:] + 1e-12  # what stands at both ends of a step stands through it
    shares = nearness / nearness.sum(axis=1, keepdims=True)
    steps = -(shares[..., None] * np.diff(local, axis=0)).sum(axis=1)  # [T - 1, 3]
    heading = np.deg2rad(np.interp(clock_s[:-1], course.starts_s, course.headings))
    glide = np.diff(angles[:, [CHANNEL["x"], CHANNEL["y"]]], axis=0)
    steps[:, 0] += np.cos(heading) * glide[:, 0] - np.sin(heading) * glide[:, 1]
    steps[:, 1] += np.sin(heading) * glide[:, 0] + np.cos(heading) * glide[:, 1]

    centre = (MASS[:, None] * local).sum(axis=1)
    height = standing.copy()
    tick_s = clock_s[1] - clock_s[0]
    for flight in course.flights():
        first, last = (int(np.clip(round(t / tick_s), 0, len(clock_s) - 1)) for t in (flight.start_s, flight.end_s))
        if last <= first:
            continue
        run = slice(max(0, first - max(1, round(0.12 / tick_s))), first)
        momentum = (steps[run] + np.diff(centre[run.start : first + 1], axis=0)).mean(axis=0) if first else np.zeros(3)
        if flight.forward_m_s is not None:
            way = np.deg2rad(course.headings[int(np.searchsorted(course.starts_s, flight.start_s, side="right")) - 1])
            momentum = np.array([np.cos(way), np.sin(way), 0.0]) * (flight.forward_m_s * tick_s)
        steps[first:last] = momentum - np.diff(centre[first : last + 1], axis=0)
        t_s = np.arange(last - first + 1) * tick_s
        rise = standing[last] + centre[last, 2] - standing[first] - centre[first, 2]
        upwards_m_s = rise / t_s[-1] + GRAVITY_M_S2 * t_s[-1] / 2
        arc = standing[first] + centre[first, 2] + upwards_m_s * t_s - GRAVITY_M_S2 * t_s**2 / 2
        aloft = slice(first, last + 1)
        height[aloft] = np.maximum(arc - centre[aloft, 2], standing[aloft])
    path = np.zeros((len(clock_s), 3))
    path[1:, :2] = np.cumsum(steps[:, :2], axis=0)
    path[:, 2] = height
    return path


def _spans(motions: Sequence[Motion], course: Course, *, tempo: float, duration_s: float) -> tuple[Span, ...]:
    """What is an action when, and what lies between, in seconds of video."""
    spans: list[Span] = []

    def until(end_s: float, label: str, is_action: bool) -> None:
        start_s = spans[-1].end_s if spans else 0.0
        if end_s > start_s + 1e-9:
            spans.append(Span(label=label, start_s=start_s, end_s=end_s, is_action=is_action))

    for index, (motion, start_s) in enumerate(zip(motions, course.starts_s, strict=True)):
        last = index + 1 == len(motions)
        end_s = duration_s if last else course.starts_s[index + 1] / tempo
        if motion.stretch_s is None:
            until(end_s, motion.name, False)
            continue
        until((start_s + motion.stretch_s[0]) / tempo, f"before {motion.name}", False)
        until(min(duration_s, (start_s + motion.stretch_s[1]) / tempo), motion.name, True)
        until(end_s, f"after {motion.name}", False)
    return tuple(spans)
