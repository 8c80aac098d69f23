"""The twelve actions of made video, named as the field names them, each once as a person would do it.

Where an action begins and ends: the run-up's last strides and the throw belong to a throw or a jump, the way up after it
and the steps before do not; repeated ones (jumping jacks, punches, waves, squats) last from the first to the last.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tal_run.eval.synthetic_figure import ARMS_AT_THE_BAR, GRAVITY_M_S2, POINTED, Motion
from tal_run.eval.synthetic_score import (
    GUARD,
    JOG,
    RACK,
    SPRINT,
    WALK,
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


def long_jump(rng: np.random.Generator) -> Motion:
    """A sprint, one leg thrown up, a flight with the arms round and the legs ahead at its end, into the sand."""
    score = Score(rng)
    score.gait(SPRINT, 2 * score.count(3, 5))
    board_s = score.now_s
    score.at(0.15, bears=1.0, l_hip=-18.0, l_knee=4.0, l_foot=45.0, r_hip=82.0, r_knee=92.0, r_foot=10.0, bend=-4.0, nod=-12.0,
             l_raise=95.0, l_elbow=80.0, r_raise=-45.0, r_elbow=60.0, planes=8.0, twist=0.0)  # fmt: skip
    take_off_s, aloft_s = score.now_s, score.about(0.8, 0.1)
    if score.maybe():  # hang
        score.at(0.38 * aloft_s, hips=-14.0, knees=72.0, feet=40.0, bend=-14.0, raises=172.0, elbows=18.0, planes=25.0)
    else:  # sail
        score.at(0.3 * aloft_s, l_hip=-22.0, l_knee=62.0, r_hip=76.0, r_knee=52.0, raises=165.0, elbows=20.0, bend=0.0)
    score.at(0.36 * aloft_s, bears=0.0, hips=84.0, knees=38.0, feet=0.0, bend=34.0, raises=120.0, elbows=10.0, pitch=-12.0)
    score.at(take_off_s + aloft_s - score.now_s, hips=92.0, knees=22.0, feet=-30.0, bend=44.0, raises=45.0,
             planes=12.0, pitch=-24.0, nod=5.0)  # fmt: skip
    score.fly(take_off_s, forward_m_s=score.about(5.6, 0.1))
    if score.maybe(0.4):  # slides into a seat
        score.at(0.3, hips=84.0, knees=34.0, bend=22.0, raises=-50.0, planes=30.0, pitch=-18.0, feet=0.0)
        landed_s = score.now_s
        score.key(0.5)
        score.key(0.6, hips=112.0, knees=122.0, bend=40.0, raises=40.0, pitch=12.0)
    else:
        score.at(0.18, hips=96.0, knees=84.0, bend=46.0, raises=-20.0, pitch=2.0, feet=0.0)
        score.key(0.24, hips=104.0, knees=116.0, bend=52.0, raises=55.0, pitch=10.0)
        landed_s = score.now_s
    score.rest(0.7, pitch=0.0)
    score.gait(WALK, 3, slow_down=True)
    start_s = max(0.1, board_s - rng.uniform(1.0, 1.6))
    return score.motion("long jump", stretch_s=(start_s, landed_s), fixtures=sand_pit(take_off_s))


def high_jump(rng: np.random.Generator) -> Motion:
    """Springy strides in a curve, a leap from one leg, backwards over the bar, the legs last, onto the mat."""
    score = Score(rng)
    score.gait(JOG, 2 * score.count(2, 4), hurry=1.05, turn=-20.0)
    board_s = score.now_s
    score.at(0.12, bears=1.0, l_hip=20.0, l_knee=12.0, r_hip=10.0, r_knee=80.0, bend=-12.0, raises=-30.0,
             planes=10.0, elbows=45.0)  # fmt: skip
    score.at(0.16, l_hip=-12.0, l_knee=2.0, l_foot=50.0, r_hip=88.0, r_knee=98.0, bend=-6.0, raises=140.0,
             elbows=35.0, turn=score.turned() + 35.0)  # fmt: skip
    take_off_s, aloft_s, facing = score.now_s, score.about(0.86, 0.06), score.turned()
    score.at(0.26 * aloft_s, bears=0.0, pitch=-48.0, turn=facing + 110.0, l_hip=-12.0, l_knee=25.0, r_hip=40.0, r_knee=70.0,
             raises=95.0, planes=60.0, elbows=25.0)  # fmt: skip
    score.at(0.27 * aloft_s, pitch=-98.0, turn=facing + 150.0, hips=-30.0, knees=82.0, bend=-30.0, nod=-24.0,
             raises=28.0, planes=80.0, feet=POINTED, spreads=14.0)  # fmt: skip
    over_s = score.now_s
    score.at(0.22 * aloft_s, pitch=-122.0, hips=30.0, knees=62.0, bend=-4.0, nod=18.0, raises=45.0)
    score.at(take_off_s + aloft_s - score.now_s, pitch=-118.0, hips=88.0, knees=16.0, bend=22.0, nod=30.0, level=0.6)
    score.fly(take_off_s, forward_m_s=score.about(2.9, 0.08))
    score.at(0.25, pitch=-96.0, hips=70.0, knees=34.0, bend=10.0, raises=70.0)
    landed_s = score.now_s
    score.key(0.45, hips=50.0, knees=70.0, pitch=-88.0, bend=6.0, feet=0.0)
    score.key(0.6, hips=96.0, knees=84.0, pitch=-16.0, bend=30.0, raises=30.0, nod=0.0)
    score.key(0.5, hips=112.0, knees=128.0, pitch=20.0, bend=30.0)
    score.rest(0.6, pitch=0.0, turn=facing + 180.0)
    score.key(0.5, turn=facing + 360.0, x=0.9, l_hip=32.0, l_knee=42.0)
    score.key(0.4, x=1.9, level=0.0, r_hip=32.0, r_knee=42.0, l_hip=0.0, l_knee=4.0)
    score.rest(0.4, x=2.1)
    start_s = max(0.1, board_s - rng.uniform(0.7, 1.2))
    return score.motion("high jump", stretch_s=(start_s, landed_s), fixtures=bar_and_mat(over_s, cleared=True))


def javelin_throw(rng: np.random.Generator) -> Motion:
    """A run with the javelin at the ear, crossed steps with the arm drawn back, a planted leg, and the throw over it."""
    score = Score(rng, tool_raise=84.0)
    javelin_at_the_shoulder(score)
    score.gait(JOG, 2 * score.count(1, 3), arms="l", hurry=1.05)
    cross_s = score.now_s
    draw_back(score)
    score.key(0.2, bears=1.0, r_hip=62.0, r_knee=48.0, l_hip=-22.0, l_knee=20.0, l_foot=40.0)  # the right leg crosses over
    score.key(0.16, bears=-1.0, r_hip=24.0, r_knee=30.0, l_hip=46.0, l_knee=34.0, bend=-12.0, l_foot=0.0, r_foot=10.0)
    score.key(0.16, r_hip=-8.0, r_knee=34.0, l_hip=42.0, l_knee=4.0, r_foot=30.0, turn=score.turned() + 16.0)  # block
    score.at(0.09, bears=1.0, twist=-18.0, r_raise=112.0, r_plane=82.0, r_elbow=64.0, tool_plane=-22.0, tool_raise=112.0,
             bend=-10.0, l_raise=50.0, l_elbow=70.0, l_hip=30.0)  # fmt: skip
    score.at(0.08, twist=26.0, r_raise=152.0, r_plane=52.0, r_elbow=40.0, tool_plane=22.0, tool_raise=108.0,
             bend=10.0, l_raise=20.0, l_hip=18.0, r_hip=-20.0, r_foot=50.0)  # fmt: skip
    release_s = score.now_s
    score.at(0.1, twist=44.0, r_raise=100.0, r_plane=14.0, r_elbow=6.0, bend=32.0, l_raise=-20.0)
    score.key(0.18, r_raise=38.0, r_plane=-30.0, r_elbow=20.0, bend=46.0, r_hip=40.0, r_knee=60.0, l_hip=8.0, l_knee=12.0)
    score.key(
        0.26, r_hip=48.0, r_knee=46.0, l_hip=-16.0, l_knee=30.0, l_foot=40.0, twist=24.0, bend=30.0, l_raise=60.0, l_plane=80.0
    )
    done_s = score.now_s
    score.key(0.3, bears=-1.0, r_hip=14.0, r_knee=30.0, l_hip=-20.0, l_knee=60.0, bend=18.0)
    score.rest(0.6, turn=0.0, tool_raise=84.0)
    start_s = max(0.1, cross_s - rng.uniform(0.5, 1.0))
    velocity = (score.about(19.0), rng.uniform(-1, 1), score.about(7.0, 0.3))
    return score.motion(
        "javelin throw", stretch_s=(start_s, done_s), needs="javelin", release_s=release_s, release_m_s=velocity
    )


def golf_swing(rng: np.random.Generator) -> Motion:
    """Bent over the ball; the club up behind the shoulder, through the ball, and round to over the other shoulder."""
    score = Score(rng)
    address(score)
    start_s, stance = score.now_s, score.turned()
    score.key(score.about(0.35), twist=-34.0, raises=60.0, planes=-24.0, tool_raise=112.0, r_elbow=24.0)
    score.key(score.about(0.4), twist=-84.0, turn=stance - 16.0, l_raise=112.0, l_plane=-30.0, r_raise=84.0,
              r_plane=18.0, r_elbow=88.0, r_swivel=10.0, tool_raise=236.0, l_knee=34.0, l_foot=16.0)  # fmt: skip
    score.key(score.about(0.1, 0.5))
    score.at(0.17, twist=-26.0, turn=stance + 6.0, raises=66.0, planes=-26.0, r_elbow=30.0, tool_raise=172.0, l_knee=18.0)
    score.at(0.09, twist=8.0, turn=stance + 16.0, raises=48.0, planes=-30.0, r_elbow=6.0, tool_raise=78.0,
             l_foot=0.0, r_knee=32.0)  # fmt: skip
    score.at(0.12, twist=46.0, turn=stance + 28.0, raises=70.0, planes=-26.0, tool_raise=98.0, r_foot=26.0, bend=34.0)
    score.key(0.24, twist=88.0, turn=stance + 46.0, raises=126.0, l_plane=10.0, r_plane=-26.0, l_elbow=82.0, r_elbow=40.0,
              tool_raise=238.0, bend=6.0, r_foot=52.0, r_knee=44.0, r_hip=0.0, l_hip=2.0, l_knee=4.0)  # fmt: skip
    score.key(score.about(0.5, 0.4), bend=2.0)
    end_s = score.now_s
    score.key(0.6, twist=20.0, raises=50.0, elbows=30.0, tool_raise=70.0, r_foot=0.0, r_knee=10.0)
    score.rest(0.5, tool_raise=48.0)
    return score.motion("golf swing", stretch_s=(start_s, end_s), needs="club")


def clean_and_jerk(rng: np.random.Generator) -> Motion:
    """From the floor to the shoulders in a squat, up; a dip, and over the head with the legs split; then let go."""
    score = Score(rng)
    grip_the_bar(score)
    start_s = score.now_s
    score.key(0.65, hips=48.0, knees=42.0, bend=36.0, raises=44.0)
    score.key(0.2, hips=2.0, knees=4.0, feet=35.0, bend=-8.0, raises=14.0, nod=-8.0)
    score.key(0.16, raises=52.0, planes=86.0, elbows=88.0, swivels=-60.0, hips=30.0, knees=40.0, feet=10.0, bend=4.0)
    score.key(0.2, hips=108.0, knees=124.0, spreads=18.0, feet=0.0, bend=22.0, **RACK)
    score.key(score.about(0.35, 0.4))
    score.key(0.95, hips=4.0, knees=6.0, spreads=8.0, bend=-2.0, nod=-6.0)
    score.key(score.about(0.7, 0.4))
    score.key(0.26, hips=26.0, knees=40.0)
    score.at(0.14, hips=0.0, knees=2.0, feet=30.0, raises=110.0, elbows=110.0)
    score.at(0.16, l_hip=50.0, l_knee=56.0, r_hip=-24.0, r_knee=30.0, r_foot=48.0, l_foot=0.0, raises=174.0,
             planes=72.0, elbows=6.0, swivels=0.0, bend=0.0)  # fmt: skip
    score.key(score.about(0.5, 0.3))
    score.key(0.4, l_hip=22.0, l_knee=24.0, r_hip=-12.0, r_knee=14.0, r_foot=24.0)
    score.key(0.4, hips=2.0, knees=4.0, feet=0.0)
    score.key(score.about(0.9, 0.4))
    end_s = score.now_s
    score.key(0.16, raises=120.0, elbows=30.0, planes=45.0)
    drop_s = score.now_s
    score.key(0.3, raises=40.0, elbows=20.0, bend=12.0)
    score.rest(0.5)
    return score.motion("clean and jerk", stretch_s=(start_s, end_s), needs="barbell", held_s=(start_s, drop_s))


def diving(rng: np.random.Generator) -> Motion:
    """From the edge: a swing of the arms, a leap, folded or tucked over, and head first into the water."""
    score = Score(rng)
    if score.maybe(0.4):
        score.gait(WALK, 4, slow_down=True)
    score.rest(0.4)
    start_s = score.now_s
    score.key(0.5, raises=165.0, planes=20.0, elbows=6.0)
    score.key(score.about(0.35, 0.5))
    score.key(0.32, hips=62.0, knees=74.0, bend=26.0, raises=-38.0)
    score.key(0.24, hips=4.0, knees=2.0, feet=POINTED, bend=6.0, raises=160.0, pitch=14.0)
    leap_s, height_m, up_m_s = score.now_s, rng.uniform(1.8, 2.8), rng.uniform(2.6, 3.4)

    def falling(metres: float) -> float:
        return float(up_m_s + np.sqrt(up_m_s**2 + 2 * GRAVITY_M_S2 * metres)) / GRAVITY_M_S2

    deep = -height_m - 2.6  # from the leap on: a platform must not hold up who is past its edge
    over_s, under_s = falling(height_m - 0.1), falling(height_m + 2.5)
    if score.maybe():  # one somersault and a half, tucked
        score.at(0.2 * over_s, level=deep, hips=70.0, knees=60.0, raises=90.0, pitch=70.0, bend=34.0)
        score.at(0.22 * over_s, hips=124.0, knees=132.0, raises=38.0, elbows=60.0, pitch=210.0, bend=46.0, nod=30.0)
        score.at(0.28 * over_s, hips=120.0, knees=124.0, pitch=400.0)
        end = 538.0
    else:  # piked
        score.at(0.28 * over_s, level=deep, hips=60.0, knees=2.0, raises=130.0, pitch=52.0, bend=30.0)
        score.at(0.27 * over_s, hips=100.0, raises=92.0, planes=0.0, pitch=104.0, bend=44.0, nod=12.0)
        end = 178.0
    score.at(leap_s + 0.94 * over_s - score.now_s, hips=14.0, knees=4.0, bend=6.0, raises=172.0, planes=10.0,
             elbows=0.0, pitch=end - 22.0, nod=0.0)  # fmt: skip
    score.at(leap_s + under_s - score.now_s, hips=0.0, knees=0.0, bend=0.0, pitch=end)
    score.fly(leap_s, forward_m_s=score.about(1.5, 0.15))
    score.at(0.3)
    return score.motion(
        "diving",
        stretch_s=(start_s, leap_s + under_s),
        fixtures=platform_and_pool(leap_s, height_m=height_m),
        platform_m=height_m,
        ends_performance=True,
    )


def cartwheel(rng: np.random.Generator) -> Motion:
    """The arms up, a long step, and sideways over the hands, the legs wide apart."""
    score = Score(rng)
    side = -1.0 if score.maybe(0.6) else 1.0  # over the left hand, seen from the front, or over the right
    lead, trail = ("l", "r") if side < 0 else ("r", "l")
    score.key(0.3)
    start_s = score.now_s
    score.key(0.42, raises=168.0, planes=70.0, elbows=4.0, bend=-4.0, **{f"{lead}_hip": 26.0, f"{lead}_knee": 14.0})
    score.key(0.3, pitch=22.0, turn=side * 30.0, roll=side * 12.0, planes=88.0,
              **{f"{lead}_hip": 62.0, f"{lead}_knee": 48.0, f"{trail}_hip": -24.0, f"{trail}_foot": 50.0})  # fmt: skip
    wide = {"spreads": 48.0, "knees": 2.0, "feet": POINTED}
    score.key(0.26, pitch=0.0, turn=side * 86.0, roll=side * 84.0, raises=172.0, hips=10.0, **wide)
    score.key(0.24, roll=side * 178.0, hips=0.0, turn=side * 90.0)
    score.key(0.24, roll=side * 262.0, hips=14.0)
    score.key(0.24, roll=side * 322.0, spreads=34.0, feet=0.0, lean=-side * 10.0, raises=160.0)
    score.key(0.24, roll=side * 360.0, spreads=16.0, lean=0.0, hips=4.0, knees=6.0, raises=150.0)
    end_s = score.now_s
    score.key(0.25, raises=120.0)
    score.rest(0.5, turn=side * score.rng.choice([90.0, 0.0, 180.0]))
    return score.motion("cartwheel", stretch_s=(start_s, end_s))


def jumping_jacks(rng: np.random.Generator) -> Motion:
    """Astride with the hands overhead and together with the hands down, again and again."""
    score = Score(rng)
    half_s, wide, up = score.about(0.42), score.about(26.0), score.about(165.0, 0.07)
    score.key(0.4, planes=88.0, raises=8.0, elbows=8.0, turn=facing_us(rng))
    start_s = score.now_s
    for _ in range(score.count(4, 8)):
        for spreads, raises, elbows in ((wide, up, 16.0), (3.0, 10.0, 8.0)):
            score.key(0.3 * half_s, hips=16.0, knees=28.0)
            since_s = score.now_s
            score.at(0.3 * half_s, hips=0.0, knees=4.0, feet=40.0, spreads=(wide + 3) / 2, raises=(up + 10) / 2)
            score.at(0.3 * half_s, spreads=spreads, raises=raises, elbows=elbows, feet=10.0)
            score.fly(since_s)
            score.at(0.1 * half_s, hips=8.0, knees=14.0, feet=0.0)
    end_s = score.now_s
    score.rest(0.4)
    return score.motion("jumping jacks", stretch_s=(start_s, end_s))


def waving(rng: np.random.Generator) -> Motion:
    """One hand up, or both, and from side to side."""
    score = Score(rng)
    arms = ("r", "l") if score.maybe(0.3) else ("r",)
    low, high = (62.0, 84.0) if score.maybe(0.35) else (128.0, 150.0)
    half_s = score.about(0.24, 0.25)
    score.key(0.35, turn=facing_us(rng))

    def arm(**angles: float) -> dict[str, float]:
        return {f"{side}_{name}": angle for side in arms for name, angle in angles.items()}

    score.key(0.5, **arm(**{"raise": high, "plane": 84.0, "elbow": 40.0, "swivel": 0.0}))
    start_s = score.now_s
    for _ in range(score.count(4, 8)):
        score.key(half_s, lean=-2.0, **arm(**{"raise": low, "elbow": 2.0 if low > 100 else 62.0}))
        score.key(half_s, lean=2.0, **arm(**{"raise": high, "elbow": 62.0 if low > 100 else 118.0}))
    score.key(half_s, **arm(**{"raise": low}))
    end_s = score.now_s
    score.rest(0.45)
    score.key(0.2)
    return score.motion("waving", stretch_s=(start_s, end_s))


def punching(rng: np.random.Generator) -> Motion:
    """From a guard: jabs, crosses and hooks."""
    score = Score(rng)
    guard(score)
    start_s = score.now_s
    stance = {"twist": -22.0, "bend": 8.0, "r_foot": 12.0, "turn": 0.0}
    for index in range(score.count(4, 9)):
        kind = rng.choice(["jab", "cross", "hook"]) if index else "jab"
        out_s, back_s = score.about(0.13), score.about(0.2)
        if kind == "jab":
            score.key(out_s, l_raise=88.0, l_plane=0.0, l_elbow=4.0, twist=-40.0, bend=12.0, l_hip=34.0, l_knee=26.0)
        elif kind == "cross":
            score.key(
                out_s, r_raise=90.0, r_plane=-12.0, r_elbow=4.0, twist=38.0, turn=16.0, r_foot=46.0, r_knee=34.0, bend=15.0
            )
        else:
            score.key(0.7 * out_s, l_raise=82.0, l_plane=72.0, l_elbow=92.0, l_swivel=70.0, twist=10.0)
            score.key(out_s, l_raise=88.0, l_plane=8.0, l_elbow=88.0, l_swivel=86.0, twist=-52.0)
        score.key(back_s, **GUARD, **stance, l_hip=24.0, l_knee=24.0, r_knee=26.0)
        if score.maybe(0.4):
            score.key(score.about(0.25, 0.5), hips=14.0, l_hip=28.0, r_hip=-10.0)
    end_s = score.now_s
    score.key(0.3)
    score.rest(0.5)
    return score.motion("punching", stretch_s=(start_s, end_s))


def soccer_kick(rng: np.random.Generator) -> Motion:
    """A few steps, the left foot beside the ball, the right leg back and through it."""
    score = Score(rng)
    steps = 2 * score.count(1, 2)
    score.gait(JOG, steps)
    start_s = max(0.05, score.now_s - steps * JOG.cycle_s / 2)
    score.key(0.16, bears=1.0, l_hip=28.0, l_knee=16.0, r_hip=-34.0, r_knee=88.0, r_foot=POINTED, bend=-4.0, l_raise=82.0,
              l_plane=82.0, l_elbow=12.0, r_raise=-25.0, r_elbow=20.0, twist=-26.0)  # fmt: skip
    score.at(0.1, l_hip=16.0, l_knee=22.0, r_hip=2.0, r_knee=84.0)
    score.at(0.09, r_hip=30.0, r_knee=26.0, l_hip=8.0, l_knee=18.0, twist=2.0, bend=6.0, l_raise=60.0)
    kick_s = score.now_s
    score.at(0.14, r_hip=70.0, r_knee=4.0, twist=26.0, bend=16.0, l_raise=48.0, l_plane=-10.0, r_raise=-40.0, l_foot=28.0)
    score.key(0.2, r_hip=62.0, r_knee=34.0, l_hip=-6.0, l_knee=10.0)
    score.key(0.3, bears=0.0, r_hip=24.0, r_knee=18.0, r_foot=0.0, l_hip=-14.0, l_knee=14.0, l_foot=26.0, bend=8.0, twist=0.0,
              l_raise=20.0, l_plane=50.0)  # fmt: skip
    end_s = score.now_s
    score.rest(0.45)
    velocity = (score.about(12.0, 0.3), rng.uniform(-2, 2), rng.uniform(0.8, 5.0))
    return score.motion(
        "soccer kick", stretch_s=(start_s, end_s), needs="ball", touches_s=(kick_s,), release_s=kick_s, release_m_s=velocity
    )


def squat(rng: np.random.Generator) -> Motion:
    """Slow knee bends, the arms ahead, crossed or at a barbell on the shoulders."""
    score = Score(rng)
    style = rng.choice(["ahead", "crossed", "hips", "barbell"], p=[0.45, 0.15, 0.1, 0.3])
    loaded = {
        "bend": 5.0,
        **{f"{side}_{name}": angle for side in "lr" for name, angle in ARMS_AT_THE_BAR.items()},
        "shouldered": 1.0,
    }
    up = {"ahead": {}, "crossed": {"raises": 60.0, "planes": -18.0, "elbows": 125.0, "swivels": 40.0}, "barbell": loaded,
          "hips": {"raises": 38.0, "planes": 105.0, "elbows": 92.0, "swivels": 80.0}}[str(style)]  # fmt: skip
    down = {"raises": 116.0, "planes": 4.0, "elbows": 4.0} if style == "ahead" else up
    if style == "barbell":
        score = Score(rng, **loaded)
    score.key(0.5, spreads=11.0, **up)
    start_s, deep = score.now_s, score.about(1.0, 0.1)
    for _ in range(score.count(2, 5)):
        score.key(score.about(0.85, 0.25), **{**down, "hips": 106.0 * deep, "knees": 116.0 * deep, "bend": 32.0, "nod": -14.0})
        score.key(score.about(0.2, 0.7))
        score.key(score.about(0.75, 0.25), **{"bend": 2.0, **up, "hips": 3.0, "knees": 5.0, "nod": 0.0},
                  **({"raises": 10.0, "planes": 30.0} if style == "ahead" else {}))  # fmt: skip
        score.key(score.about(0.2, 0.7))
    end_s = score.now_s
    score.key(0.3)
    if style != "barbell":
        score.rest(0.4)
    return score.motion("squat", stretch_s=(start_s, end_s), needs="barbell" if style == "barbell" else None)


ACTIONS: dict[str, Callable[[np.random.Generator], Motion]] = {
    "long jump": long_jump,
    "high jump": high_jump,
    "javelin throw": javelin_throw,
    "golf swing": golf_swing,
    "clean and jerk": clean_and_jerk,
    "diving": diving,
    "cartwheel": cartwheel,
    "jumping jacks": jumping_jacks,
    "waving": waving,
    "punching": punching,
    "soccer kick": soccer_kick,
    "squat": squat,
}
