"""Each action shows what makes it that action, its near miss does not, and no two performances are alike."""

import numpy as np
import pytest

from tal_run.eval.synthetic_actions import ACTIONS
from tal_run.eval.synthetic_figure import FPS, JOINT, Body, Performance, perform
from tal_run.eval.synthetic_motions import BACKGROUND

NAMES = [
    "long jump", "high jump", "javelin throw", "golf swing", "clean and jerk", "diving",
    "cartwheel", "jumping jacks", "waving", "punching", "soccer kick", "squat",
]  # fmt: skip
SEEDS = range(4)


def do(name: str, seed: int) -> Performance:
    rng = np.random.default_rng(seed)
    motion = ACTIONS[name](rng) if name in ACTIONS else BACKGROUND[name](rng, 4.0)
    return perform([motion], body=Body(), tempo=1.0, rng=rng)


def joint(performance: Performance, name: str) -> np.ndarray:
    return performance.joints[:, JOINT[name]]


def leap_m(performance: Performance) -> float:
    """How far the feet get off the ground."""
    feet = performance.joints[:, [JOINT["l_toe"], JOINT["r_toe"]], 2]
    return float(feet.min(axis=1).max() - feet[0].min())


def upside_down(performance: Performance) -> float:
    """How far the head gets below the pelvis, metres."""
    return float((joint(performance, "pelvis") - joint(performance, "head"))[:, 2].max())


def overhead_m(performance: Performance) -> float:
    hands = performance.joints[:, [JOINT["l_hand"], JOINT["r_hand"]], 2].max(axis=1)
    return float((hands - joint(performance, "head")[:, 2]).max())


def flexed_m(performance: Performance) -> float:
    """How low the pelvis gets with the trunk upright enough, against standing."""
    return float(joint(performance, "pelvis")[0, 2] - joint(performance, "pelvis")[:, 2].min())


def hand_speed(performance: Performance) -> float:
    """The fastest a hand gets away from its shoulder, m/s."""
    reach = [
        np.linalg.norm(joint(performance, f"{side}_hand") - joint(performance, f"{side}_shoulder"), axis=-1) for side in "lr"
    ]
    return float(np.abs(np.diff(np.stack(reach), axis=1)).max() * FPS)


def turns_of_the_hand(performance: Performance) -> int:
    """How often a raised hand changes its way, sideways of the body or up."""
    hand = (joint(performance, "r_hand") - joint(performance, "r_shoulder"))[:, 2]
    way = np.sign(np.diff(hand[hand > -0.1]))
    way = way[way != 0]
    return int((np.diff(way) != 0).sum())


def ball_speed(performance: Performance) -> float:
    (ball,) = performance.props
    return float(np.linalg.norm(np.diff(ball.points[:, 0], axis=0), axis=-1).max() * FPS)


def club_height_m(performance: Performance) -> float:
    (club,) = performance.props
    return float((club.points[:, 1] - joint(performance, "head"))[:, 2].max())


def javelin_away_m(performance: Performance) -> float:
    return float(np.linalg.norm(performance.props[0].points.mean(axis=1) - joint(performance, "r_hand"), axis=-1).max())


def barbell_height_m(performance: Performance) -> float:
    return float(performance.props[0].points[..., 2].max())


def legs_apart_m(performance: Performance) -> float:
    """How far the feet part while both hands are above the head."""
    apart = np.linalg.norm(joint(performance, "l_ankle") - joint(performance, "r_ankle"), axis=-1)
    hands = performance.joints[:, [JOINT["l_hand"], JOINT["r_hand"]], 2].min(axis=1)
    return float(np.max(apart * (hands > joint(performance, "head")[:, 2])))


DECIDING = {  # what makes the action, and between which values its near misses and itself are told apart
    "long jump": (leap_m, 0.25),
    "high jump": (leap_m, 0.6),
    "javelin throw": (javelin_away_m, 3.0),
    "golf swing": (club_height_m, 0.15),
    "clean and jerk": (barbell_height_m, 1.6),
    "diving": (upside_down, 0.4),
    "cartwheel": (upside_down, 0.5),
    "jumping jacks": (legs_apart_m, 0.45),
    "waving": (turns_of_the_hand, 5),
    "punching": (hand_speed, 1.8),
    "soccer kick": (ball_speed, 7.0),
    "squat": (flexed_m, 0.32),
}


def test_the_actions_are_the_twelve_and_each_has_its_near_miss() -> None:
    assert list(ACTIONS) == NAMES == list(DECIDING)
    assert {f"near miss: {name}" for name in NAMES} <= set(BACKGROUND)
    assert {"standing", "walking", "jogging", "fidgeting"} <= set(BACKGROUND)


@pytest.mark.parametrize("name", NAMES)
def test_what_decides_is_in_the_action_and_not_in_its_near_miss(name: str) -> None:
    measure, threshold = DECIDING[name]
    for seed in SEEDS:
        assert measure(do(name, seed)) > threshold
        assert measure(do(f"near miss: {name}", seed)) < threshold


@pytest.mark.parametrize("name", NAMES)
def test_a_near_miss_brings_the_same_things(name: str) -> None:
    def things(full_name: str) -> set[str]:
        return {prop.kind for seed in range(12) for prop in do(full_name, seed).props}

    assert things(name) == things(f"near miss: {name}")


@pytest.mark.parametrize("name", NAMES)
def test_the_stretch_lies_inside_and_lasts_as_long_as_people_take(name: str) -> None:
    durations = []
    for seed in range(8):
        motion = ACTIONS[name](np.random.default_rng(seed))
        assert motion.stretch_s is not None
        start_s, end_s = motion.stretch_s
        assert 0 < start_s < end_s <= motion.duration_s
        assert 1.0 < end_s - start_s < 12.0
        durations.append(end_s - start_s)
    assert np.std(durations) > 0.03


@pytest.mark.parametrize("name", list(BACKGROUND))
def test_background_is_never_an_action(name: str) -> None:
    motion = BACKGROUND[name](np.random.default_rng(1), 5.0)
    assert motion.stretch_s is None
    assert np.all(np.diff(motion.times_s) > 0)
    if not name.startswith("near miss"):
        assert 4.0 < motion.duration_s < 11.0


def test_a_diver_is_out_of_sight_at_the_end() -> None:
    for seed in SEEDS:
        performance = do("diving", seed)
        assert performance.joints[-1, :, 2].max() < 0
        water = next(prop for prop in performance.props if prop.kind == "water")
        assert water.points[-1, 0, 0] < performance.joints[-1, 0, 0] < water.points[-1, 1, 0]


def test_a_high_jumper_passes_over_the_bar() -> None:
    for seed in SEEDS:
        performance = do("high jump", seed)
        bar = next(prop for prop in performance.props if prop.kind == "high bar").points[0]
        along, to = bar[1] - bar[0], joint(performance, "pelvis") - bar[0]
        across = along[0] * to[:, 1] - along[1] * to[:, 0]
        passing = int(np.flatnonzero(np.diff(np.sign(across)))[0])
        assert joint(performance, "pelvis")[passing, 2] > bar[0, 2]


def test_long_walks_stay_within_a_dozen_metres() -> None:
    for name in ("walking", "jogging"):
        rng = np.random.default_rng(2)
        joints = perform([BACKGROUND[name](rng, 30.0)], body=Body(), tempo=1.0, rng=rng).joints
        assert np.ptp(joints[:, 0, 0]) < 14
