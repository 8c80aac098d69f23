"""The people of made video: their build, what a motion is, and how joint angles become places of joints.

Units and axes: metres and seconds; x to the right of the picture, y away from the camera, z up, ground at z = 0. A figure's own
performance starts at the origin and faces +x; where it stands in a scene, which way it faces and whether it is mirrored is the
scene's matter (``synthetic_scene.py``).

Angles are in degrees, in the convention of the International Society of Biomechanics for the shoulder: elevation (0 hanging, 90
horizontal, 180 up) in a plane (0 forward, 90 sideways, negative across the body).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

FPS = 25

# fmt: off
JOINTS = (
    "pelvis", "neck", "head",  # head: its centre
    "l_shoulder", "l_elbow", "l_hand", "r_shoulder", "r_elbow", "r_hand",
    "l_hip", "l_knee", "l_ankle", "l_toe", "r_hip", "r_knee", "r_ankle", "r_toe",
)
# fmt: on
JOINT = {name: index for index, name in enumerate(JOINTS)}


@dataclass(frozen=True, kw_only=True)
class Body:
    """One person's build: stature in metres, and lengths and girths as multiples of an average person's."""

    height_m: float = 1.75
    leg_share: float = 1.0
    arm_share: float = 1.0
    girth: float = 1.0


@dataclass(frozen=True, kw_only=True)
class PropTrack:
    """One thing in a performance, over all its frames.

    Attributes:
        kind: ``javelin`` (points: tail, tip), ``club`` (grip, head), ``barbell`` (left end, right end), ``ball`` (centre),
            ``high bar`` (left end, right end; its posts reach the ground), ``mat`` and ``platform`` (the four corners of the
            top, one after the other; they reach the ground), ``water`` (left, right end of the surface; hides all of the figure
            below it), ``sand`` (four corners on the ground).
        points: float32 [T, N, 3].
        size_m: the ball's or the plates' radius, the stick's thickness.
        visible: bool [T].
        fixed: it stands in the scene (bar, mat, platform, water, sand) and does not move with the figure.
    """

    kind: str
    points: FloatArray
    size_m: float
    visible: NDArray[np.bool_]
    fixed: bool = False


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a performance: an action, or what lies between two (``label`` then names it, for people only)."""

    label: str
    start_s: float
    end_s: float
    is_action: bool


@dataclass(frozen=True, kw_only=True)
class Performance:
    """What one figure does, frame by frame at 25 frames a second.

    Attributes:
        joints: float32 [T, 17, 3], in ``JOINTS`` order.
        body: whose joints these are.
        props: what it holds, throws and stands among.
        spans: in order, without gaps or overlaps, from 0 to T / 25.
    """

    joints: FloatArray
    body: Body
    props: tuple[PropTrack, ...]
    spans: tuple[Span, ...]


# fmt: off
CHANNELS = (
    "x", "y",  # metres of travel that the feet do not explain (a glide, a roll off the mat), ahead and to the left
    "level",  # metres from where the motion starts to the ground under it: a mat is higher, a pool lower
    "turn", "pitch", "roll",  # the whole body: to its left, forward, to its right
    "bend", "lean", "twist", "nod",  # the trunk: forward, to the right, to the left; the head: forward
    "l_raise", "l_plane", "l_elbow", "l_swivel", "r_raise", "r_plane", "r_elbow", "r_swivel",  # swivel: the forearm, inwards
    "l_hip", "l_spread", "l_knee", "l_foot", "r_hip", "r_spread", "r_knee", "r_foot",  # foot: the sole to the ground, toes down
    "tool_raise", "tool_plane",  # where a stick in the hand points, seen from the chest, like an arm
    "both",  # 1: a stick is held with both hands, 0: with the right
    "shouldered",  # 1: the barbell lies on the shoulders, 0: in the hands
    "bears",  # on the way to its key, 1: the left leg bears the body whatever the right brushes; -1: the right; 0: the lowest
)
# fmt: on
CHANNEL = {name: index for index, name in enumerate(CHANNELS)}
POINTED = 500.0  # a "foot" that stretches the ankle as far as it goes

GRAVITY_M_S2 = 9.81
_ANKLE_RANGE = (-35.0, 60.0)

# Lengths as shares of stature: Winter, Biomechanics and Motor Control of Human Movement, fig. 4.1; hands end in their middle.
_THIGH, _SHANK, _FOOT_HEIGHT, _FOOT = 0.245, 0.246, 0.039, 0.105
_TRUNK, _HEAD, _SHOULDER, _HIP = 0.288, 0.115, 0.112, 0.055
_UPPER_ARM, _FOREARM = 0.180, 0.180
_LEG = _THIGH + _SHANK + _FOOT_HEIGHT

# How far each joint's flesh reaches from it, in shares of stature: what touches the ground.
FLESH = np.array([0.055, 0.04, 0.065, *2 * [0.035, 0.025, 0.02], *2 * [0.05, 0.03, _FOOT_HEIGHT, 0.008]])
# Masses lumped at the joints (Winter, table 4.1).
MASS = np.array([0.25, 0.25, 0.08, *2 * [0.013, 0.025, 0.012], *2 * [0.05, 0.08, 0.03, 0.01]])
MASS /= MASS.sum()

ARMS_AT_THE_BAR = {"raise": 48.0, "plane": 100.0, "elbow": 138.0, "swivel": 8.0}  # both hands on a barbell behind the neck


@dataclass(frozen=True, kw_only=True)
class Flight:
    """From take-off to landing, in seconds of the motion; ``forward_m_s`` None: as fast as the take-off was."""

    start_s: float
    end_s: float
    forward_m_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Fixture:
    """A thing that stands in the scene, placed by where the figure is at one moment of its motion.

    Attributes:
        kind, size_m: as in ``PropTrack``.
        at_s: the moment, in seconds of the motion.
        points: [N, 3] metres ahead and to the left of the pelvis at that moment, and above the ground.
        above_pelvis: the points' heights count from the pelvis instead (a bar that is to be cleared).
    """

    kind: str
    at_s: float
    points: tuple[tuple[float, float, float], ...]
    size_m: float = 0.03
    above_pelvis: bool = False


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One thing a figure does, at tempo 1 and for a right-handed person.

    Attributes:
        name: an action's name, or what people would call this bit of background.
        times_s: key poses' times, float [K], from 0, increasing.
        poses: their channels, float [K, P], in ``CHANNELS`` order.
        stretch_s: from when to when it is the action ``name``; None: background.
        flights: when it leaves the ground.
        needs: the implement without which it makes no sense.
        fixtures: what stands about.
        platform_m: how high the floor is that it happens on; the whole performance then happens up there.
        touches_s: when the right foot touches the ball.
        release_s: when the javelin leaves the hand, or the ball the foot (the last touch).
        release_m_s: how fast: ahead, to the left, up.
        held_s: from when to when the barbell is off the ground, in the hands or on the shoulders.
        ends_performance: the figure is out of sight afterwards: nothing can follow.
    """

    name: str
    times_s: NDArray[np.float64]
    poses: NDArray[np.float64]
    stretch_s: tuple[float, float] | None = None
    flights: tuple[Flight, ...] = ()
    needs: str | None = None
    fixtures: tuple[Fixture, ...] = ()
    platform_m: float = 0.0
    touches_s: tuple[float, ...] = ()
    release_s: float | None = None
    release_m_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    held_s: tuple[float, float] | None = None
    ends_performance: bool = False

    @property
    def duration_s(self) -> float:
        """Seconds from its first key pose to its last, at tempo 1."""
        return float(self.times_s[-1])


def about(axis: str, degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations about one axis of the body (x ahead, y to the left, z up), [T, 3, 3]."""
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    radians = np.deg2rad(degrees)
    rotation = np.tile(np.eye(3), (len(degrees), 1, 1))
    rotation[:, i, i] = rotation[:, j, j] = np.cos(radians)
    rotation[:, j, i] = np.sin(radians)
    rotation[:, i, j] = -rotation[:, j, i]
    return rotation


def skeleton(angles: NDArray[np.float64], body: Body) -> NDArray[np.float64]:
    """The joints about the pelvis for channels [T, P]: [T, 17, 3] in metres."""
    get = {name: angles[:, index] for name, index in CHANNEL.items()}
    legs_m = body.height_m * body.leg_share
    upper_m = body.height_m * (1 - _LEG * body.leg_share) / (1 - _LEG)  # stature stays what it is
    pelvis = about("z", get["turn"]) @ about("y", get["pitch"]) @ about("x", get["roll"])
    chest = pelvis @ about("y", get["bend"]) @ about("x", get["lean"]) @ about("z", get["twist"])
    joints = np.zeros((len(angles), len(JOINTS), 3))
    neck = joints[:, JOINT["neck"]] = chest[:, :, 2] * (_TRUNK * upper_m)
    joints[:, JOINT["head"]] = neck + (chest @ about("y", get["nod"]))[:, :, 2] * (_HEAD * upper_m)
    for side, sign in (("l", 1.0), ("r", -1.0)):
        shoulder = neck + chest @ np.array([0.0, sign * _SHOULDER * upper_m * body.girth**0.5, -0.012 * upper_m])
        arm_m = upper_m * body.arm_share
        upper_arm, forearm = (chest @ way[..., None] for way in _arm(get, side, sign))
        elbow = shoulder + upper_arm[..., 0] * (_UPPER_ARM * arm_m)
        joints[:, JOINT[f"{side}_shoulder"]] = shoulder
        joints[:, JOINT[f"{side}_elbow"]] = elbow
        joints[:, JOINT[f"{side}_hand"]] = elbow + forearm[..., 0] * (_FOREARM * arm_m)

        hip = pelvis @ np.array([0.0, sign * _HIP * body.height_m, 0.0])
        thigh = pelvis @ about("y", -get[f"{side}_hip"]) @ about("x", sign * get[f"{side}_spread"])
        shank = thigh @ about("y", get[f"{side}_knee"])
        flat = get[f"{side}_hip"] - get[f"{side}_knee"] - get["pitch"]
        foot = shank @ about("y", np.clip(flat + get[f"{side}_foot"], *_ANKLE_RANGE))
        knee = hip - thigh[:, :, 2] * (_THIGH * legs_m)
        ankle = knee - shank[:, :, 2] * (_SHANK * legs_m)
        joints[:, JOINT[f"{side}_hip"]] = hip
        joints[:, JOINT[f"{side}_knee"]] = knee
        joints[:, JOINT[f"{side}_ankle"]] = ankle
        drop_m = (_FOOT_HEIGHT - FLESH[JOINT["l_toe"]]) * body.height_m
        joints[:, JOINT[f"{side}_toe"]] = ankle + foot @ np.array([_FOOT * body.height_m, 0.0, -drop_m])
    return joints


def _arm(get: dict[str, NDArray[np.float64]], side: str, sign: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whither upper arm and forearm point, seen from the chest: two unit vectors [T, 3]."""
    raised, plane, bent, swivel = (np.deg2rad(get[f"{side}_{name}"]) for name in ("raise", "plane", "elbow", "swivel"))
    along = whither(raised, plane, sign)
    onwards = whither(raised + np.pi / 2, plane, sign)  # whither a bent elbow takes the forearm: further up
    inwards = sign * np.cross(along, onwards)
    across = np.cos(swivel)[:, None] * onwards + np.sin(swivel)[:, None] * inwards
    return along, np.cos(bent)[:, None] * along + np.sin(bent)[:, None] * across


def whither(raised: NDArray[np.float64], plane: NDArray[np.float64], sign: float) -> NDArray[np.float64]:
    """The way a limb points that is raised so far in that plane (radians) on the left (1) or the right (-1): unit [T, 3]."""
    return np.stack([np.sin(raised) * np.cos(plane), sign * np.sin(raised) * np.sin(plane), -np.cos(raised)], axis=-1)
