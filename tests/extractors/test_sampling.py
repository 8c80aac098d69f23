"""The arithmetic of sampling against a slow definition, over rates, ticks and starts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tal_run.extractors.sampling import FrameTimes, as_rate

RATES = [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(50), Fraction(12)]
TICKS = [Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 12800)]


def frame_times(ticks: list[int], *, end: int, tick_s: Fraction, zero_s: Fraction = Fraction(0)) -> FrameTimes:
    return FrameTimes(ticks=np.array(ticks, np.int64), end_tick=end, tick_s=tick_s, zero_s=zero_s)


def shown_frames(times: FrameTimes, rate: Fraction) -> list[int]:
    first = times.first_samples(rate)
    return [int(np.searchsorted(first, k, "right")) - 1 for k in range(int(first[-1]))]


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("tick_s", TICKS, ids=str)
@pytest.mark.parametrize("start_s", [Fraction(0), Fraction(7, 5), Fraction(1001, 7777)], ids=str)
def test_sampling_at_the_files_own_rate_shows_every_frame_once(rate: Fraction, tick_s: Fraction, start_s: Fraction) -> None:
    ticks = [round((start_s + index / rate) / tick_s) for index in range(2000)]
    end = round((start_s + 2000 / rate) / tick_s)
    times = frame_times(ticks, end=end, tick_s=tick_s, zero_s=ticks[0] * tick_s)
    assert shown_frames(times, rate) == list(range(2000))
    assert not times.is_variable_rate


@given(
    distances=st.lists(st.integers(5, 200), min_size=1, max_size=40),
    start=st.integers(0, 5000),
    lead=st.integers(0, 400),
    rate=st.sampled_from([*RATES, Fraction(5), Fraction(1, 3), Fraction(2997, 100)]),
)
def test_a_sample_shows_the_last_frame_whose_time_has_come(distances: list[int], start: int, lead: int, rate: Fraction) -> None:
    tick_s = Fraction(1, 1000)
    ticks = [start + lead + sum(distances[:index]) for index in range(len(distances))]
    times = frame_times(ticks, end=ticks[-1] + distances[-1], tick_s=tick_s, zero_s=start * tick_s)
    slack_s = times.slack_ticks * tick_s
    shown = shown_frames(times, rate)
    assert len(shown) >= 1
    for k, frame in enumerate(shown):
        due = [index for index, tick in enumerate(ticks) if tick * tick_s - start * tick_s <= k / rate + slack_s]
        assert frame == max(due, default=0)
    assert len(shown) / rate >= times.duration_s - slack_s
    assert (len(shown) - 1) / rate < times.duration_s or len(shown) == 1


def test_exact_ticks_have_no_slack() -> None:
    """AVI at 25 fps sampled at 50: every frame exactly twice, none early."""
    times = frame_times(list(range(10)), end=10, tick_s=Fraction(1, 25))
    assert shown_frames(times, Fraction(50)) == [index // 2 for index in range(20)]


def test_a_dropped_avi_frame_makes_the_rate_variable() -> None:
    assert frame_times([0, 1, 3, 4], end=5, tick_s=Fraction(1, 25)).is_variable_rate


def test_numbers_beyond_64_bits_stay_exact() -> None:
    tick_s = Fraction(1, 10**9)
    start = 10**15
    ticks = [start + index * 40_000_000 for index in range(100)]
    times = frame_times(ticks, end=ticks[-1] + 40_000_000, tick_s=tick_s, zero_s=start * tick_s)
    assert shown_frames(times, Fraction(999_999_937, 40_000_003)) == list(range(100))


@pytest.mark.parametrize(
    ("fps", "meant"),
    [(5, Fraction(5)), (30000 / 1001, Fraction(30000, 1001)), (29.97, Fraction(2997, 100)), (0.1, Fraction(1, 10))],
)
def test_a_float_rate_is_the_fraction_that_was_meant(fps: float, meant: Fraction) -> None:
    assert as_rate(fps) == meant


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_impossible_rates_are_refused(fps: float) -> None:
    with pytest.raises(ValueError, match="fps must be"):
        as_rate(fps)
