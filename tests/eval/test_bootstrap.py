"""The bootstrap against videos that are really copied, and what an interval must do."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_run.eval import evaluate
from tal_run.eval.annotations import GroundTruth, Instance, Stretch, VideoTruth
from tal_run.eval.bootstrap import bootstrap_frame_maps, bootstrap_maps, compare, draws, interval, interval_of_share
from tal_run.eval.case import Case
from tal_run.eval.evaluation import judge, load_case, result_of
from tal_run.eval.frames import frame_counts
from tal_run.eval.protocols import PROTOCOLS, EvaluationError
from tal_run.models import Detection

NAMES = ("a", "b", "c", "d")
TIOUS = (0.3, 0.5)
videos, labels = st.sampled_from(NAMES), st.sampled_from(["run", "jump"])
starts, lengths = st.integers(0, 10), st.integers(1, 6)
truths = st.lists(
    st.builds(lambda v, c, s, n: (v, c, s * 0.64, (s + n) * 0.64), videos, labels, starts, lengths), min_size=1, max_size=8
)
founds = st.lists(
    st.builds(
        lambda v, c, s, n, score: (v, c, s * 0.64, (s + n) * 0.64, score),
        videos,
        labels,
        starts,
        lengths,
        st.sampled_from([0.1, 0.5, 0.9]),
    ),
    unique=True,
    max_size=20,
)
ambiguities = st.lists(st.builds(lambda v, s, n: (v, s * 0.64, (s + n) * 0.64), videos, starts, lengths), max_size=2)


def case_of(truth: Any, found: Any, ambiguous: Any = ()) -> Case:
    known = {row[1] for row in truth}
    annotated = GroundTruth(
        videos=tuple(
            VideoTruth(
                video_id=name,
                instances=tuple(Instance(s, e, v, c) for v, c, s, e in truth if v == name),
                ambiguous=tuple(Stretch(s, e) for v, s, e in ambiguous if v == name),
            )
            for name in NAMES
        )
    )
    by_video = {name: [Detection(s, e, c, x) for v, c, s, e, x in found if v == name and c in known] for name in NAMES}
    return load_case(annotated, by_video)


@pytest.mark.parametrize("name", ["thumos14", "activitynet", "wtalc", "wsad"])
@settings(max_examples=40)
@given(truth=truths, found=founds, ambiguous=ambiguities)
def test_a_video_drawn_twice_is_two_videos(reference: ModuleType, name: str, truth: Any, found: Any, ambiguous: Any) -> None:
    rules = PROTOCOLS[name]
    case = case_of(truth, found, ambiguous)
    samples = bootstrap_maps(case, judge(case, rules, TIOUS), interpolated=rules.interpolated, samples=6, seed=3)
    # both lists go video by video
    ordered, listed = sorted(truth, key=lambda row: row[0]), sorted(found, key=lambda row: row[0])
    for drawn, sample in zip(next(draws(len(NAMES), 6, 3)), samples, strict=True):
        copied = reference.resampled(ordered, ambiguous, listed, dict(zip(NAMES, drawn.tolist(), strict=True)))
        if not copied[0]:
            assert np.isnan(sample).all()
            continue
        assert sample == pytest.approx([reference.mean_ap(name, *copied, tiou)[0] for tiou in TIOUS], abs=1e-9)


@settings(max_examples=40)
@given(truth=truths, found=founds)
def test_frames_of_a_video_drawn_twice_count_twice(reference: ModuleType, truth: Any, found: Any) -> None:
    case = case_of(truth, found)
    samples = bootstrap_frame_maps(frame_counts(case, fps=6.25), samples=4, seed=3)
    for drawn, sample in zip(next(draws(len(NAMES), 4, 3)), samples, strict=True):
        copied = reference.resampled(truth, [], found, dict(zip(NAMES, drawn.tolist(), strict=True)))
        aps = [reference.frame_ap(copied[0], copied[2], label, 6.25, 70) for label in case.labels]
        known = [ap for ap in aps if not np.isnan(ap)]
        assert sample == pytest.approx(np.mean(known) if known else np.nan, abs=1e-9, nan_ok=True)


def made(count: int, hit_rate: float, seed: int = 0) -> tuple[GroundTruth, dict[str, list[Detection]]]:
    """Videos with one action each, found with some probability and else missed by far."""
    dice = np.random.default_rng(seed)
    names = [f"v{number}" for number in range(count)]
    truth = GroundTruth(videos=tuple(VideoTruth(video_id=n, instances=(Instance(0.0, 10.0, n, "run"),)) for n in names))
    found = {
        name: [Detection(*((0.0, 10.0) if dice.random() < hit_rate else (50.0, 60.0)), "run", float(dice.random()))]
        for name in names
    }
    return truth, found


def test_a_recall_has_the_binomials_interval() -> None:
    """One detection a video, right ones first: AP is the share that is right, and its interval that of a share."""
    truth, found = made(400, 0.5)
    ranked = {name: [Detection(d.start_s, d.end_s, d.label, float(d.start_s == 0.0))] for name, (d,) in found.items()}
    result = evaluate(truth, ranked, protocol="activitynet", tiou_thresholds=[0.5], bootstrap=2000)
    low, high = result.intervals[0.5]
    share = result.map[0.5]
    half = 1.96 * np.sqrt(share * (1 - share) / 400)
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.006)
    assert result.average_interval == result.intervals[0.5]


def test_the_same_seed_draws_the_same_samples() -> None:
    truth, found = made(30, 0.5)
    first, again, other = (evaluate(truth, found, protocol="wtalc", bootstrap=150, seed=seed).intervals for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_samples_do_not_depend_on_how_many_are_drawn() -> None:
    first, second = (np.concatenate(list(draws(7, count, 5))) for count in (128, 300))
    assert (first == second[:128]).all()
    assert (second.sum(axis=1) == 7).all()


def test_what_is_compared_with_itself_differs_by_nothing() -> None:
    truth, found = made(30, 0.5)
    case = load_case(truth, found)
    comparison = compare(case, case, PROTOCOLS["thumos14"], (0.5,), samples=50)
    assert comparison.average.value == 0.0
    assert (comparison.map[0.5].interval, comparison.map[0.5].share_better) == ((0.0, 0.0), 0.0)


def test_a_small_gain_on_every_video_is_sure_where_intervals_overlap() -> None:
    truth, found = made(60, 0.4)
    better = dict(found)
    for name in [name for name, (d,) in found.items() if d.start_s][:4]:
        better[name] = [Detection(0.0, 10.0, "run", found[name][0].score)]
    comparison = compare(load_case(truth, found), load_case(truth, better), PROTOCOLS["activitynet"], (0.5,), samples=500)
    gain = comparison.map[0.5]
    assert gain.value == pytest.approx(comparison.second.map[0.5] - comparison.first.map[0.5])
    assert gain.interval[0] > 0
    assert gain.share_better > 0.95
    lows = [evaluate(truth, each, protocol="activitynet", tiou_thresholds=[0.5], bootstrap=500) for each in (found, better)]
    assert lows[0].intervals[0.5][1] > lows[1].intervals[0.5][0]


def test_only_the_same_videos_can_be_compared() -> None:
    truth, found = made(5, 0.5)
    other, fewer = load_case(truth, found), load_case(truth, found, excluded_videos=["v1"])
    with pytest.raises(EvaluationError, match="not evaluated on the same videos"):
        compare(other, fewer, PROTOCOLS["wsad"], (0.5,))


def test_samples_without_an_instance_are_left_out_of_an_interval() -> None:
    assert interval(np.array([np.nan, 0.5, 0.5]), 0.5) == (0.5, 0.5)
    assert interval(np.array([np.nan]), 0.25) == (0.25, 0.25)
    assert interval_of_share(np.array([0.0, 0.5]), 0.1) == (0.0, pytest.approx(0.35, abs=0.02))


@pytest.mark.parametrize("name", ["activitynet", "wtalc"])
def test_an_interval_holds_what_it_should_as_often_as_it_says(name: str) -> None:
    """Many test sets of one kind: 95 % of their intervals hold the mAP that such sets have on average."""
    rules = PROTOCOLS[name]
    values, spans = [], []
    for seed in range(60):
        dice = np.random.default_rng(seed)
        truth, found = [], []
        for number in range(24):
            label, skill = f"class {number % 3}", dice.random()  # some videos are hard
            for start in (0.0, 32.0, 64.0):
                truth.append((f"v{number}", label, start, start + 16.0))
                hit = 0.0 if dice.random() < skill else 10.0
                found.append((f"v{number}", label, start + hit, start + hit + 16.0, float(dice.random() + skill)))
        annotated = GroundTruth(
            videos=tuple(
                VideoTruth(video_id=v, instances=tuple(Instance(s, e, w, c) for w, c, s, e in truth if w == v))
                for v in dict.fromkeys(row[0] for row in truth)
            )
        )
        by_video = {v.video_id: [Detection(s, e, c, x) for w, c, s, e, x in found if w == v.video_id] for v in annotated.videos}
        result = result_of(load_case(annotated, by_video), rules, (0.5,), bootstrap=200)
        values.append(result.map[0.5])
        spans.append(result.intervals[0.5])
    expected = np.mean(values)
    held = np.mean([low <= expected <= high for low, high in spans])
    assert 0.88 <= held <= 1.0
