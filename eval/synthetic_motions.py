"""What the people of made video do when it is no action: they stand, walk, jog and fidget, and they nearly do something.

A near miss begins like its action, with the same things about, and leaves out what makes it one: the run-up stops before the
board, the club goes up half-way and comes down again. Whoever learns the scene, the implement or the run-up falls for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tal_run.eval.synthetic_figure import ARMS_AT_THE_BAR, Motion
from tal_run.eval.synthetic_score import (
    GUARD,
    JOG,
    SPRINT,
    WALK,
    Gait,
    Score,
    address,
    bar_and_mat,
    draw_back,
    facing_us,
    grip_the_bar,
    guard,
    javelin_at_the_shoulder,
    platform_and_pool,
    sand_pit,
)


def standing(rng: np.random.Generator, duration_s: float) -> Motion:
    """Breathing, the weight from one leg to the other."""
    score = Score(rng)
    while score.now_s < duration_s:
        side = rng.choice([-1.0, 1.0])
        relaxed, loaded = ("l", "r") if side > 0 else ("r", "l")
        slack = score.about(12.0, 0.7)
        relax = {f"{relaxed}_hip": slack, f"{relaxed}_knee": 2 * slack, f"{loaded}_hip": 1.0, f"{loaded}_knee": 2.0}
        score.key(score.about(1.0, 0.5), lean=side * score.about(2.0, 0.9), nod=rng.uniform(-6, 8), **relax)
        score.key(score.about(0.8, 0.6), twist=rng.uniform(-7, 7))
    score.rest(0.5)
    return score.motion("standing")


def walking(rng: np.random.Generator, duration_s: float) -> Motion:
    """There and, if there is time, back again."""
    return _to_and_fro(rng, duration_s, gait=WALK, name="walking")


def jogging(rng: np.random.Generator, duration_s: float) -> Motion:
    """There and, if there is time, back again."""
    return _to_and_fro(rng, duration_s, gait=JOG, name="jogging")


def _to_and_fro(rng: np.random.Generator, duration_s: float, *, gait: Gait, name: str) -> Motion:
    score = Score(rng)
    hurry = score.about(1.0, 0.12)
    steps = max(4, round(duration_s * 2 / gait.cycle_s * hurry))
    lap = 12 if gait is WALK else 10  # steps within some ten metres
    while steps > 0:
        some = min(steps, lap) if steps > lap + 3 else steps
        score.gait(gait, max(3, some), slow_down=True, hurry=hurry)
        steps -= some
        if steps > 0:
            score.gait(WALK, 3, turn=rng.choice([-180.0, 180.0]), speed_up=False, slow_down=True)
    score.rest(0.35)
    return score.motion(name)


def fidgeting(rng: np.random.Generator, duration_s: float) -> Motion:
    """One small thing after the other that people do while they wait."""
    score = Score(rng)
    while score.now_s < duration_s:
        _FIDGETS[int(rng.integers(len(_FIDGETS)))](score)
        score.rest(score.about(0.45, 0.3))
    return score.motion("fidgeting")


def _scratch_head(score: Score) -> None:
    score.key(0.6, r_raise=115.0, r_plane=55.0, r_elbow=140.0, r_swivel=25.0, nod=14.0)
    for _ in range(score.count(2, 4)):
        score.key(0.14, r_elbow=132.0)
        score.key(0.14, r_elbow=144.0)


def _check_watch(score: Score) -> None:
    score.key(0.5, l_raise=48.0, l_plane=5.0, l_elbow=98.0, l_swivel=62.0, nod=24.0)
    score.key(score.about(0.8))


def _cross_arms(score: Score) -> None:
    score.key(0.6, raises=32.0, planes=-10.0, elbows=105.0, swivels=70.0)
    score.key(score.about(1.4, 0.4), lean=3.0)


def _stretch(score: Score) -> None:
    score.key(0.8, raises=150.0, planes=70.0, elbows=55.0, bend=-9.0, nod=-12.0)
    score.key(0.7, raises=165.0, elbows=35.0, bend=-13.0)


def _tie_shoe(score: Score) -> None:
    crouch = {"l_hip": 92.0, "l_knee": 98.0, "r_hip": 22.0, "r_knee": 112.0, "r_foot": 55.0, "bend": 48.0}
    score.key(0.9, **crouch, raises=52.0, planes=-12.0, elbows=14.0, nod=20.0)
    for _ in range(score.count(2, 4)):
        score.key(0.22, elbows=32.0)
        score.key(0.22, elbows=14.0)


def _look_round(score: Score) -> None:
    side = score.rng.choice([-1.0, 1.0])
    score.key(0.5, twist=side * 38.0, lean=side * 2.0)
    score.key(0.5)
    score.key(0.7, twist=-side * 26.0)


def _step_in_place(score: Score) -> None:
    for index in range(score.count(3, 6)):
        side = "lr"[index % 2]
        score.key(0.24, **{f"{side}_hip": 30.0, f"{side}_knee": 52.0, f"{side}_foot": 20.0})
        score.key(0.22, hips=2.0, knees=3.0, feet=0.0)


def _clap(score: Score) -> None:
    score.key(0.35, raises=52.0, planes=25.0, elbows=72.0, swivels=10.0)
    score.key(0.15, planes=-16.0, swivels=30.0)
    score.key(0.2, planes=10.0)


def _hands_on_hips(score: Score) -> None:
    score.key(0.5, raises=38.0, planes=105.0, elbows=92.0, swivels=80.0)
    score.key(score.about(1.3, 0.4), lean=-3.0)


_FIDGETS: tuple[Callable[[Score], None], ...] = (
    _scratch_head,
    _check_watch,
    _cross_arms,
    _stretch,
    _tie_shoe,
    _look_round,
    _step_in_place,
    _clap,
    _hands_on_hips,
)


def _turn_away(score: Score) -> None:
    """Slow down, turn round and go back a little: the thing ahead is left alone."""
    score.gait(WALK, 3, turn=score.rng.choice([-180.0, 180.0]), slow_down=True)
    score.rest(0.4)


def near_long_jump(rng: np.random.Generator, duration_s: float) -> Motion:
    """A sprint to the sand that slows down and stops."""
    score = Score(rng)
    score.gait(SPRINT, 2 * score.count(3, 5))
    score.gait(JOG, 4, speed_up=False, slow_down=True)
    score.key(0.2, pitch=-6.0, hips=18.0, knees=26.0, raises=20.0, planes=40.0)
    stop_s = score.now_s
    score.rest(0.4, pitch=0.0)
    _turn_away(score)
    return score.motion("near miss: long jump", fixtures=sand_pit(stop_s, ahead_m=0.5))


def near_high_jump(rng: np.random.Generator, duration_s: float) -> Motion:
    """A curved run-up, a small hop, and a stop before the bar."""
    score = Score(rng)
    score.gait(JOG, 2 * score.count(2, 4), hurry=1.05, turn=-20.0)
    score.gait(JOG, 2, speed_up=False, slow_down=True)
    score.key(0.16, hips=22.0, knees=36.0, raises=-15.0, planes=10.0)
    since_s = score.now_s
    score.at(0.14, hips=2.0, knees=6.0, feet=40.0, raises=30.0)
    score.at(0.14, hips=14.0, knees=22.0, feet=0.0)
    score.fly(since_s, forward_m_s=0.6)
    stop_s = score.now_s
    score.rest(0.4)
    _turn_away(score)
    return score.motion(
        "near miss: high jump",
        # as high as the bars that are cleared: its height must not tell
        fixtures=bar_and_mat(stop_s, cleared=False, ahead_m=1.7, height_m=float(rng.uniform(1.76, 2.1))),
    )


def near_javelin_throw(rng: np.random.Generator, duration_s: float) -> Motion:
    """A run with the javelin at the ear, or the arm drawn back, and then it is lowered."""
    score = Score(rng, tool_raise=84.0)
    javelin_at_the_shoulder(score)
    if score.maybe(0.7):
        score.gait(JOG, 2 * score.count(1, 3), arms="l", hurry=1.05)
    if score.maybe(0.6):
        draw_back(score)
        score.key(0.25, l_hip=30.0, l_knee=14.0, r_hip=-12.0, r_knee=20.0, r_foot=10.0)
        score.key(score.about(0.4, 0.5))
    score.key(0.6, bears=0.0, r_raise=40.0, r_plane=50.0, r_elbow=60.0, twist=0.0, turn=0.0, tool_plane=0.0, tool_raise=90.0,
              bend=2.0, hips=4.0, knees=6.0, feet=0.0)  # fmt: skip
    score.rest(0.5, tool_raise=84.0)
    return score.motion("near miss: javelin throw", needs="javelin")


def near_golf_swing(rng: np.random.Generator, duration_s: float) -> Motion:
    """Waggles at the ball, the club half-way up and slowly down again."""
    score = Score(rng)
    address(score)
    for _ in range(score.count(0, 3)):
        score.key(0.22, r_elbow=16.0, tool_raise=100.0, twist=-8.0)
        score.key(0.22, r_elbow=5.0, tool_raise=78.0, twist=0.0)
    if score.maybe(0.8):
        score.key(0.7, twist=-40.0, raises=66.0, tool_raise=125.0, r_elbow=30.0)
        score.key(score.about(0.3, 0.5))
        score.key(0.7, twist=0.0, raises=46.0, tool_raise=78.0, r_elbow=5.0)
    score.key(0.4)
    score.rest(0.6, tool_raise=48.0)
    return score.motion("near miss: golf swing", needs="club")


def near_clean_and_jerk(rng: np.random.Generator, duration_s: float) -> Motion:
    """The barbell as far as the hips, a shrug, and down with it."""
    score = Score(rng)
    grip_the_bar(score)
    taken_s = score.now_s
    score.key(0.7, hips=48.0, knees=42.0, bend=36.0, raises=44.0)
    score.key(0.5, hips=2.0, knees=4.0, bend=-3.0, raises=16.0, nod=0.0)
    for _ in range(score.count(0, 2)):
        score.key(0.25, feet=18.0, raises=20.0, planes=40.0, elbows=18.0)
        score.key(0.3, feet=0.0, raises=16.0, planes=24.0, elbows=2.0)
    score.key(score.about(0.6, 0.5))
    score.key(0.6, hips=48.0, knees=42.0, bend=36.0, raises=44.0)
    score.key(0.5, hips=94.0, knees=92.0, bend=50.0, raises=68.0)
    put_s = score.now_s
    score.key(0.3)
    score.rest(0.8)
    return score.motion("near miss: clean and jerk", needs="barbell", held_s=(taken_s, put_s))


def near_diving(rng: np.random.Generator, duration_s: float) -> Motion:
    """To the edge, the arms up, a dip or two, and back from it."""
    score = Score(rng)
    if score.maybe(0.4):
        score.gait(WALK, 4, slow_down=True)
    score.rest(0.4)
    edge_s = score.now_s
    score.key(0.5, raises=165.0, planes=20.0, elbows=6.0)
    score.key(score.about(0.35, 0.5))
    for _ in range(score.count(0, 2)):
        score.key(0.32, hips=50.0, knees=62.0, bend=22.0, raises=-30.0)
        score.key(0.36, hips=4.0, knees=6.0, bend=2.0, raises=60.0, feet=14.0)
    score.rest(0.6)
    score.gait(WALK, 3, turn=score.rng.choice([-180.0, 180.0]), slow_down=True)
    score.rest(0.3)
    score.gait(WALK, 2, turn=score.rng.choice([-180.0, 180.0]), slow_down=True)
    score.rest(0.4)
    height_m = score.rng.uniform(1.8, 2.8)
    return score.motion("near miss: diving", fixtures=platform_and_pool(edge_s, height_m=height_m), platform_m=height_m)


def near_cartwheel(rng: np.random.Generator, duration_s: float) -> Motion:
    """The arms up, the long step, perhaps the hands on the ground, and up again."""
    score = Score(rng)
    lead, trail = ("l", "r") if score.maybe(0.6) else ("r", "l")
    score.key(0.3)
    score.key(0.42, raises=168.0, planes=70.0, elbows=4.0, bend=-4.0, **{f"{lead}_hip": 26.0, f"{lead}_knee": 14.0})
    score.key(0.35, pitch=16.0, **{f"{lead}_hip": 58.0, f"{lead}_knee": 46.0, f"{trail}_hip": -20.0, f"{trail}_foot": 50.0})
    if score.maybe(0.6):
        score.key(0.4, pitch=40.0, bend=72.0, raises=120.0, planes=20.0, **{f"{lead}_hip": 84.0, f"{lead}_knee": 66.0})
        score.key(score.about(0.3, 0.5), **{f"{trail}_hip": -34.0})
        score.key(0.45, pitch=12.0, bend=20.0, **{f"{lead}_hip": 44.0, f"{lead}_knee": 40.0})
    score.rest(0.6, pitch=0.0)
    return score.motion("near miss: cartwheel")


def near_jumping_jacks(rng: np.random.Generator, duration_s: float) -> Motion:
    """Hops with the arms down, or the arms up and down without the legs."""
    score = Score(rng)
    hops = score.maybe()
    half_s = score.about(0.42)
    score.key(0.4, planes=88.0, raises=10.0, elbows=8.0, turn=facing_us(rng))
    for _ in range(score.count(3, 6)):
        if not hops:
            score.key(1.4 * half_s, raises=score.about(150.0))
            score.key(1.4 * half_s, raises=10.0)
            continue
        score.key(0.4 * half_s, hips=16.0, knees=28.0)
        since_s = score.now_s
        score.at(0.3 * half_s, hips=0.0, knees=4.0, feet=40.0, raises=18.0)
        score.at(0.3 * half_s, feet=10.0, raises=10.0)
        score.fly(since_s)
        score.at(0.15 * half_s, hips=8.0, knees=14.0, feet=0.0)
    score.rest(0.4)
    return score.motion("near miss: jumping jacks")


def near_waving(rng: np.random.Generator, duration_s: float) -> Motion:
    """One hand up and down again, or over the hair."""
    score = Score(rng)
    score.key(0.35, turn=facing_us(rng))
    if score.maybe():
        score.key(0.55, r_raise=score.about(145.0, 0.1), r_plane=84.0, r_elbow=30.0)
        score.key(score.about(0.8, 0.5))
    else:
        score.key(0.55, r_raise=118.0, r_plane=52.0, r_elbow=138.0, r_swivel=25.0, nod=8.0)
        score.key(0.5, r_raise=100.0, r_plane=80.0, r_elbow=146.0, nod=-6.0)
        score.key(0.3)
    score.rest(0.5)
    return score.motion("near miss: waving")


def near_punching(rng: np.random.Generator, duration_s: float) -> Motion:
    """The fists up and the weight from foot to foot, and no blow."""
    score = Score(rng)
    guard(score)
    for _ in range(score.count(2, 5)):
        score.key(
            score.about(0.3), hips=14.0, l_hip=32.0, r_hip=-8.0, l_knee=34.0, lean=score.rng.uniform(-12, 12), twist=-12.0
        )
        score.key(
            score.about(0.3), l_hip=24.0, l_knee=24.0, r_hip=-16.0, lean=0.0, twist=-24.0, elbows=score.about(126.0, 0.05)
        )
    score.key(0.3, **GUARD)
    score.rest(0.5)
    return score.motion("near miss: punching")


def near_soccer_kick(rng: np.random.Generator, duration_s: float) -> Motion:
    """Small touches of the ball on the way, then a foot on it."""
    score = Score(rng)
    touches = []
    score.gait(JOG, 2, hurry=0.9)
    for _ in range(score.count(1, 3)):
        score.gait(JOG, 2, speed_up=False, hurry=0.9)
        score.at(0.2, bears=1.0, r_hip=30.0, r_knee=24.0, r_foot=10.0, l_hip=-6.0, l_knee=18.0)
        touches.append(score.now_s)
    score.gait(JOG, 2, speed_up=False, slow_down=True, hurry=0.8)
    score.key(0.3, r_hip=44.0, r_knee=52.0, r_foot=0.0, l_hip=0.0, l_knee=8.0, twist=0.0, bend=6.0)
    touches.append(score.now_s)
    score.key(score.about(0.8, 0.5), raises=12.0, planes=50.0, elbows=20.0)
    score.rest(0.5)
    return score.motion("near miss: soccer kick", needs="ball", touches_s=tuple(touches))


def near_squat(rng: np.random.Generator, duration_s: float) -> Motion:
    """A bow with the knees half bent, or something picked up; or, under a barbell, only a shift of the feet."""
    kind = rng.choice(["bow", "pick up", "barbell"], p=[0.3, 0.4, 0.3])
    if kind == "barbell":
        arms = {f"{side}_{name}": angle for side in "lr" for name, angle in ARMS_AT_THE_BAR.items()}
        score = Score(rng, bend=5.0, shouldered=1.0, **arms)
        for _ in range(score.count(2, 4)):
            score.key(0.5, spreads=11.0, hips=20.0, knees=30.0, lean=rng.uniform(-4, 4))
            score.key(0.6, hips=3.0, knees=5.0, lean=0.0)
        return score.motion("near miss: squat", needs="barbell")
    score = Score(rng)
    score.key(0.4, spreads=10.0)
    if kind == "bow":
        score.key(0.8, bend=52.0, hips=16.0, knees=24.0, raises=50.0, planes=6.0)
    else:
        score.key(0.8, bend=66.0, hips=42.0, knees=56.0, r_raise=80.0, r_plane=-8.0, l_raise=30.0)
    score.key(score.about(0.4, 0.5))
    score.rest(0.7)
    return score.motion("near miss: squat")


BACKGROUND: dict[str, Callable[[np.random.Generator, float], Motion]] = {
    "standing": standing,
    "walking": walking,
    "jogging": jogging,
    "fidgeting": fidgeting,
    "near miss: long jump": near_long_jump,
    "near miss: high jump": near_high_jump,
    "near miss: javelin throw": near_javelin_throw,
    "near miss: golf swing": near_golf_swing,
    "near miss: clean and jerk": near_clean_and_jerk,
    "near miss: diving": near_diving,
    "near miss: cartwheel": near_cartwheel,
    "near miss: jumping jacks": near_jumping_jacks,
    "near miss: waving": near_waving,
    "near miss: punching": near_punching,
    "near miss: soccer kick": near_soccer_kick,
    "near miss: squat": near_squat,
}
