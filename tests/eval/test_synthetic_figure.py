"""Angles to joints, contact, flights and the joining of motions: oracles by mechanics, not by pictures."""

from itertools import pairwise

import numpy as np
import pytest

from tal_run.eval.synthetic_actions import ACTIONS
from tal_run.eval.synthetic_figure import CHANNEL, FPS, GRAVITY_M_S2, JOINT, JOINTS, Body, Performance, perform, skeleton
from tal_run.eval.synthetic_motions import BACKGROUND
from tal_run.eval.synthetic_score import STANDING, Score

BODY = Body(height_m=1.8)
BONES = [
    (f"{side}_{upper}", f"{side}_{lower}")
    for side in "lr"
    for upper, lower in (("shoulder", "elbow"), ("elbow", "hand"), ("hip", "knee"), ("knee", "ankle"), ("ankle", "toe"))
] + [("pelvis", "neck"), ("neck", "head")]


def do(*names: str, seed: int = 0, tempo: float = 1.0, body: Body = BODY, **options: object) -> Performance:
    rng = np.random.default_rng(seed)
    motions = [ACTIONS[name](rng) if name in ACTIONS else BACKGROUND[name](rng, 3.0) for name in names]
    return perform(motions, body=body, tempo=tempo, rng=rng, **options)  # type: ignore[arg-type]


def lengths(joints: np.ndarray) -> np.ndarray:
    return np.stack([np.linalg.norm(joints[:, JOINT[a]] - joints[:, JOINT[b]], axis=-1) for a, b in BONES], axis=-1)


def pose(**channels: float) -> np.ndarray:
    angles = STANDING.copy()
    for name, value in channels.items():
        angles[CHANNEL[name]] = value
    joints: np.ndarray = skeleton(angles[None], BODY)[0]
    return joints


def test_a_standing_figure_is_as_tall_as_its_body_says_whatever_its_proportions() -> None:
    for body in (BODY, Body(height_m=1.5), Body(height_m=1.8, leg_share=1.1), Body(height_m=1.8, leg_share=0.92)):
        joints = skeleton(STANDING[None], body)[0]
        sole = joints[JOINT["l_ankle"], 2] - 0.039 * body.height_m
        crown = joints[JOINT["head"], 2] + 0.065 * body.height_m
        assert crown - sole == pytest.approx(body.height_m, rel=0.03)


def test_the_channels_mean_what_they_say() -> None:
    shoulder, hand = JOINT["r_shoulder"], JOINT["r_hand"]
    straight = {"r_elbow": 0.0}
    ahead = pose(r_raise=90, r_plane=0, **straight)
    aside = pose(r_raise=90, r_plane=90, **straight)
    above = pose(r_raise=180, r_plane=40, **straight)
    arm_m = 0.36 * BODY.height_m
    np.testing.assert_allclose(ahead[hand] - ahead[shoulder], [arm_m, 0, 0], atol=1e-6)
    np.testing.assert_allclose(aside[hand] - aside[shoulder], [0, -arm_m, 0], atol=1e-6)  # the right is at -y
    np.testing.assert_allclose(above[hand] - above[shoulder], [0, 0, arm_m], atol=1e-6)
    thigh = pose(l_hip=90, l_spread=0)
    np.testing.assert_allclose((thigh[JOINT["l_knee"]] - thigh[JOINT["l_hip"]])[1:], 0, atol=1e-6)
    assert thigh[JOINT["l_knee"], 0] > 0.4
    bowed = pose(bend=90)
    assert bowed[JOINT["head"], 0] > 0.6
    assert abs(bowed[JOINT["head"], 2]) < 0.05


def test_left_and_right_are_mirror_images() -> None:
    one = pose(r_raise=70, r_plane=50, r_elbow=80, r_swivel=30, r_hip=60, r_spread=20, r_knee=70)
    other = pose(l_raise=70, l_plane=50, l_elbow=80, l_swivel=30, l_hip=60, l_spread=20, l_knee=70)
    swapped = [JOINT[{"l": "r", "r": "l"}[name[0]] + name[1:]] if name[1] == "_" else JOINT[name] for name in JOINTS]
    np.testing.assert_allclose(one, other[swapped] * [1, -1, 1], atol=1e-9)


@pytest.mark.parametrize("name", [*ACTIONS, *BACKGROUND])
def test_nobody_stretches_sinks_or_jumps_between_frames(name: str) -> None:
    performance = do(name, seed=3)
    joints = performance.joints
    assert joints.dtype == np.float32
    assert joints.shape[1:] == (len(JOINTS), 3)
    bones = lengths(joints)
    np.testing.assert_allclose(bones, np.broadcast_to(bones[0], bones.shape), atol=1e-4)
    if name != "diving":
        assert joints[..., 2].min() > -0.02
    speed_m_s = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * FPS
    assert speed_m_s.max() < 32  # a golfer's hands and a kicker's foot reach 10 to 25 m/s


@pytest.mark.parametrize("name", ["squat", "punching", "waving", "clean and jerk", "golf swing"])
def test_who_stays_on_the_spot_does_not_wander(name: str) -> None:
    for seed in range(3):
        feet = do(name, seed=seed).joints[:, [JOINT["l_ankle"], JOINT["r_ankle"]], :2].mean(axis=1)
        assert np.abs(feet[-1] - feet[0]).max() < 0.45


def test_the_foot_that_stands_does_not_slide() -> None:
    score = Score(np.random.default_rng(0))
    for _ in range(4):
        score.key(0.8, hips=100.0, knees=110.0, bend=35.0, raises=90.0)
        score.key(0.8, hips=2.0, knees=3.0, bend=0.0, raises=10.0)
    joints = perform([score.motion("knee bends")], body=BODY, tempo=1.0, rng=score.rng).joints
    assert np.ptp(joints[:, JOINT["l_ankle"], 0]) < 0.04
    assert np.ptp(joints[:, JOINT["pelvis"], 0]) > 0.2  # it is the seat that moves, not the feet
    assert np.ptp(joints[:, JOINT["pelvis"], 2]) > 0.3


def test_walking_goes_forward_at_a_walk_and_jogging_faster() -> None:
    def pace(name: str) -> float:
        joints = do(name, seed=1).joints
        return float(np.abs(np.diff(joints[:, 0, 0])).max() * FPS)

    assert 0.8 < pace("walking") < 2.6
    assert 2.0 < pace("jogging") < 5.0


@pytest.mark.parametrize("tempo", [0.6, 1.0, 1.8])
def test_a_stiff_figure_in_flight_falls_as_gravity_has_it_and_keeps_its_pace(tempo: float) -> None:
    score = Score(np.random.default_rng(0))
    score.key(0.5)
    since_s = score.now_s
    score.at(0.8)
    score.fly(since_s, forward_m_s=3.0)
    score.key(0.5)
    joints = perform([score.motion("hop")], body=BODY, tempo=tempo, rng=score.rng).joints.astype(np.float64)
    aloft = slice(int(np.ceil(since_s / tempo * FPS)) + 2, int((since_s + 0.8) / tempo * FPS) - 2)
    knee = joints[aloft, JOINT["l_knee"]]
    t_s = np.arange(len(knee)) / FPS * tempo
    curvature, _, _ = np.polyfit(t_s, knee[:, 2], 2)
    assert -2 * curvature == pytest.approx(GRAVITY_M_S2, rel=0.05)
    assert np.polyfit(t_s, knee[:, 0], 1)[0] == pytest.approx(3.0, rel=0.02)
    assert np.ptp(joints[:, JOINT["pelvis"], 2]) == pytest.approx(GRAVITY_M_S2 * 0.8**2 / 8, rel=0.2)  # take-off is on a frame


def test_spans_tile_the_performance_and_scale_with_the_tempo() -> None:
    names = ("standing", "punching", "walking", "squat")
    slow, fast = do(*names, tempo=0.8, seed=4), do(*names, tempo=1.6, seed=4)
    for performance in (slow, fast):
        spans = performance.spans
        assert spans[0].start_s == 0
        assert spans[-1].end_s == pytest.approx(len(performance.joints) / FPS)
        assert all(a.end_s == b.start_s for a, b in pairwise(spans))
        assert [span.label for span in spans if span.is_action] == ["punching", "squat"]
    for a, b in zip(slow.spans[:-1], fast.spans[:-1], strict=True):
        assert a.end_s == pytest.approx(2 * b.end_s)


def test_the_same_draw_is_the_same_performance_and_another_is_another() -> None:
    again = [do("walking", "high jump", seed=seed, turn_deg=30.0) for seed in (7, 7, 8)]
    np.testing.assert_array_equal(again[0].joints, again[1].joints)
    for a, b in zip(again[0].props, again[1].props, strict=True):
        np.testing.assert_array_equal(a.points, b.points)
    assert again[0].spans != again[2].spans


def test_turning_the_performance_turns_all_of_it() -> None:
    plain, turned = do("soccer kick"), do("soccer kick", turn_deg=90.0)
    np.testing.assert_allclose(turned.joints[..., 1], plain.joints[..., 0], atol=1e-5)
    np.testing.assert_allclose(turned.props[0].points[..., 1], plain.props[0].points[..., 0], atol=1e-5)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one motion"):
        do()
    with pytest.raises(ValueError, match="nothing can follow"):
        do("diving", "walking")
    with pytest.raises(ValueError, match="one stick at a time"):
        do("golf swing", "javelin throw")


def test_a_stick_stays_in_the_hand_until_it_is_thrown() -> None:
    carried = do("walking", "waving", implement="club")
    (club,) = carried.props
    np.testing.assert_allclose(club.points[:, 0], carried.joints[:, JOINT["r_hand"]], atol=0.05)
    thrown = do("standing", "javelin throw")
    (javelin,) = thrown.props
    span = next(span for span in thrown.spans if span.is_action)
    away_m = np.linalg.norm(javelin.points.mean(axis=1) - thrown.joints[:, JOINT["r_hand"]], axis=-1)
    assert away_m[: int(span.start_s * FPS)].max() < 0.3
    assert away_m[-1] > 5
    reach_m = np.linalg.norm(javelin.points[:, 1] - javelin.points[:, 0], axis=-1)
    np.testing.assert_allclose(reach_m, reach_m[0], atol=1e-3)


def test_a_barbell_lies_on_the_floor_before_and_after_and_is_overhead_in_between() -> None:
    performance = do("standing", "clean and jerk", "standing")
    (barbell,) = performance.props
    height_m = barbell.points[..., 2].mean(axis=1)
    assert height_m[0] == pytest.approx(barbell.size_m, abs=0.01)
    assert height_m[-1] == pytest.approx(barbell.size_m, abs=0.01)
    assert height_m.max() > BODY.height_m
    assert np.abs(np.diff(height_m)).max() < 0.35  # no leap from the floor into the hands


@pytest.mark.parametrize("name", ["soccer kick", "javelin throw", "long jump", "cartwheel", "near miss: soccer kick"])
def test_a_leg_that_swings_through_pushes_nobody_back(name: str) -> None:
    for seed in range(4):
        middle = do(name, seed=seed).joints[..., 0].mean(axis=1)
        assert np.diff(middle).min() * FPS > -2.6
