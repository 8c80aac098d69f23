"""Every protocol against its loops, the laws that each must keep, and worked examples of where they differ."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_run.eval import evaluate
from tal_run.eval.annotations import GroundTruth, Instance, Stretch, VideoTruth
from tal_run.eval.case import Case, in_arrays
from tal_run.eval.detections import from_results
from tal_run.eval.evaluation import EvaluationResult, average_precisions, judge, result_of
from tal_run.eval.matching import TooManyPairsError, serial_choice
from tal_run.eval.protocols import PROTOCOLS, EvaluationError, checked_tious
from tal_run.models import Detection

Truth = tuple[str, str, float, float]
Found = tuple[str, str, float, float, float]
TIOUS = (0.1, 0.25, 0.5, 1.0)

# Few distinct values, so that ties, duplicates, empty segments and overlaps equal to the threshold come up. Steps of
# 0.32 s are half a snippet of 16 frames at 25 a second: halves are rounded, and short segments vanish.
videos = st.sampled_from(["a", "b", "c"])
labels = st.sampled_from(["run", "jump", "swim"])
starts = st.integers(0, 14).map(lambda n: n * 0.32)
lengths = st.integers(0, 8).map(lambda n: n * 0.32)
truths = st.lists(
    st.builds(lambda v, c, s, n: (v, c, s, s + n), videos, st.sampled_from(["run", "jump"]), starts, lengths),
    min_size=1,
    max_size=8,
)
ambiguities = st.lists(st.builds(lambda v, s, n: (v, s, s + n), videos, starts, lengths), max_size=2)
scores = st.sampled_from([0.1, 0.2, 0.5, 0.9])
founds = st.lists(
    st.builds(lambda v, c, s, n, score: (v, c, s, s + n, score), videos, labels, starts, lengths, scores), max_size=24
)


def case_from(truth: list[Truth], ambiguous: list[tuple[str, float, float]], found: list[Found]) -> Case:
    names = sorted({row[0] for row in [*truth, *ambiguous, *found]})
    videos = [
        VideoTruth(
            video_id=name,
            instances=tuple(Instance(s, e, v, c) for v, c, s, e in truth if v == name),
            ambiguous=tuple(Stretch(s, e) for v, s, e in ambiguous if v == name),
        )
        for name in names
    ]
    columns = from_results({})
    order = {name: number for number, name in enumerate(names)}
    kinds = sorted({row[1] for row in found})
    columns = type(columns)(
        video_ids=tuple(names),
        labels=tuple(kinds),
        videos=np.array([order[row[0]] for row in found], np.int64),
        classes=np.array([kinds.index(row[1]) for row in found], np.int64),
        segments=np.array([row[2:4] for row in found], np.float64).reshape(-1, 2),
        scores=np.array([row[4] for row in found], np.float64),
    )
    return in_arrays(videos, tuple(sorted({row[1] for row in truth})), columns)


@pytest.mark.parametrize("name", PROTOCOLS)
@settings(max_examples=150)
@given(truth=truths, ambiguous=ambiguities, found=founds)
def test_it_is_the_slow_one(reference: ModuleType, name: str, truth: Any, ambiguous: Any, found: Any) -> None:
    case = case_from(truth, ambiguous, found)
    rules = PROTOCOLS[name]
    table = average_precisions(case, judge(case, rules, TIOUS), interpolated=rules.interpolated)
    # instances go video by video, as in every evaluator
    ordered = sorted(truth, key=lambda row: row[0])
    for column, threshold in enumerate(TIOUS):
        mean, by_class = reference.mean_ap(name, ordered, ambiguous, found, threshold)
        assert table[:, column] == pytest.approx([by_class[label] for label in case.labels], abs=1e-9)
        assert table[:, column].mean() == pytest.approx(mean, abs=1e-9)


@settings(max_examples=100)
@given(truth=truths, found=founds)
def test_frames_are_the_slow_ones(reference: ModuleType, truth: Any, found: Any) -> None:
    case = case_from(truth, [], found)
    fps = 12.5  # steps of 0.32 s are 4 frames
    result = result_of(case, replace(PROTOCOLS["multithumos"], frame_fps=fps), (0.5,))
    for label in case.labels:
        expected = reference.frame_ap(truth, found, label, fps, 400)
        assert result.frame_per_class.get(label, np.nan) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def results_of(found: list[Found]) -> dict[str, list[Detection]]:
    by_video: dict[str, list[Detection]] = {}
    for v, c, s, e, score in dict.fromkeys(found):
        if e > s:
            by_video.setdefault(v, []).append(Detection(s, e, c, score))
    return by_video


def truth_of(truth: list[Truth], ambiguous: Any = ()) -> GroundTruth:
    return GroundTruth(
        videos=tuple(
            VideoTruth(
                video_id=name,
                instances=tuple(Instance(s, e, v, c) for v, c, s, e in truth if v == name),
                ambiguous=tuple(Stretch(s, e) for v, s, e in ambiguous if v == name),
            )
            for name in ("a", "b", "c")
        )
    )


def worth(truth: list[Truth], found: list[Found], protocol: str, tious: Any = TIOUS, ambiguous: Any = ()) -> EvaluationResult:
    known = {row[1] for row in truth}
    return evaluate(
        truth_of(truth, ambiguous),
        results_of([row for row in found if row[1] in known]),
        protocol=protocol,
        tiou_thresholds=tious,
    )


CONTINUOUS = [name for name, rules in PROTOCOLS.items() if rules.grid is None and rules.labels is None]


@pytest.mark.parametrize("name", CONTINUOUS)
@given(truth=truths, found=founds, scale=st.sampled_from([0.5, 4.0]), shift=st.integers(0, 64))
def test_the_unit_and_the_zero_of_time_do_not_matter(name: str, truth: Any, found: Any, scale: float, shift: int) -> None:
    # 0.32 is no binary fraction: overlaps that equal the threshold would go either way
    exact = [(v, c, round(s / 0.32), round(e / 0.32)) for v, c, s, e in truth]
    exact_found = [(v, c, round(s / 0.32), round(e / 0.32), score) for v, c, s, e, score in found]
    moved = [(v, c, (s + shift) * scale, (e + shift) * scale) for v, c, s, e in exact]
    moved_found = [(v, c, (s + shift) * scale, (e + shift) * scale, score) for v, c, s, e, score in exact_found]
    assert worth(moved, moved_found, name).per_class == worth(exact, exact_found, name).per_class


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "mexaction2"])
@given(truth=truths, found=founds)
def test_only_the_order_of_scores_matters(name: str, truth: Any, found: Any) -> None:
    logs = [(*row[:4], float(np.log(row[4]))) for row in found]
    first, second = worth(truth, found, name), worth(truth, logs, name)
    assert second.per_class == first.per_class
    assert second.frame_per_class == first.frame_per_class


@pytest.mark.parametrize("name", ["activitynet", "wtalc", "wsad"])
@given(truth=truths, found=founds)
def test_what_ranks_below_everything_cannot_hurt(name: str, truth: Any, found: Any) -> None:
    """Not so under thumos14, where an instance may take a better fitting detection that ranks last."""
    more = [*found, ("a", "run", 0.0, 3.2, 0.01), ("b", "jump", 0.64, 6.4, 0.01)]
    before, after = worth(truth, found, name), worth(truth, more, name)
    assert all(after.map[tiou] >= before.map[tiou] - 1e-12 for tiou in TIOUS)


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "mexaction2"])
@given(truth=st.lists(st.builds(lambda v, c, s: (v, c, s * 8.0, s * 8.0 + 4.0), videos, labels, st.integers(0, 9)), min_size=1))
def test_the_truth_itself_is_perfect_and_nothing_is_worth_nothing(name: str, truth: Any) -> None:
    truth = list(dict.fromkeys(truth))
    perfect = worth(truth, [(*row, 0.5) for row in truth], name, (0.5, 0.9))
    assert list(perfect.map.values()) == [1.0, 1.0]
    assert perfect.frame_map in (None, 1.0)
    nothing = worth(truth, [], name, (0.5,))
    assert (nothing.map, nothing.frame_map or 0.0) == ({0.5: 0.0}, 0.0)
    assert "there are no detections" in nothing.notes


# one case each that tells one protocol from the next
ONE = [("a", "run", 16.0, 32.0)]


def test_thumos_takes_the_best_fit_and_the_others_the_surest() -> None:
    sure_then_near = [("a", "run", 16.0, 24.0, 0.9), ("a", "run", 16.0, 31.0, 0.1)]
    assert worth(ONE, sure_then_near, "activitynet", (0.3,)).map[0.3] == 1.0
    assert worth(ONE, sure_then_near, "thumos14", (0.3,)).map[0.3] == 0.5


def test_an_overlap_of_exactly_the_threshold_is_enough_but_for_thumos() -> None:
    half = [("a", "run", 16.0, 24.0, 0.9)]
    assert {name: worth(ONE, half, name, (0.5,)).map[0.5] for name in ("thumos14", "activitynet", "wtalc", "wsad")} == {
        "thumos14": 0.0,
        "activitynet": 1.0,
        # 16 s are 25 snippets; 24 s are 37.5, halves to even 38; 32 s are 50: 13 of 25
        "wtalc": 1.0,
        "wsad": 1.0,
    }


def test_wtalc_takes_the_first_listed_and_wsad_the_best() -> None:
    truth = [("a", "run", 0.0, 16.0), ("a", "run", 4.0, 20.0)]
    # the surer one overlaps both and fits the second; the other fits the first only
    found = [("a", "run", 4.0, 20.0, 0.9), ("a", "run", 0.0, 13.0, 0.8)]
    assert worth(truth, found, "wsad", (0.55,)).map[0.55] == 1.0
    assert worth(truth, found, "wtalc", (0.55,)).map[0.55] == 0.5


def test_of_equal_overlaps_the_instance_listed_last_is_taken() -> None:
    """As the toolkit does, which sorts overlaps and begins at the end."""
    truth = [("a", "run", 0.0, 16.0), ("a", "run", 8.0, 24.0)]
    between = ("a", "run", 4.0, 20.0, 0.9)  # 12 of 20 seconds with either
    assert worth(truth, [between, ("a", "run", 0.0, 13.0, 0.5)], "activitynet", (0.5,)).map[0.5] == 1.0
    assert worth(truth, [between, ("a", "run", 11.0, 24.0, 0.5)], "activitynet", (0.5,)).map[0.5] == 0.5


def test_ambiguous_stretches_spare_what_is_wrong_or_drop_what_is_right() -> None:
    found = [("a", "run", 40.0, 48.0, 0.9), ("a", "run", 16.0, 32.0, 0.5)]
    over_both = [("a", 30.0, 41.0)]
    assert worth(ONE, found, "activitynet", (0.5,), over_both).map[0.5] == 0.5
    assert worth(ONE, found, "thumos14", (0.5,), over_both).map[0.5] == 1.0
    assert worth(ONE, found, "wtalc", (0.5,), over_both).map[0.5] == 0.0
    # touching at a point is none
    assert worth(ONE, found[1:], "wtalc", (0.5,), [("a", 32.0, 40.0)]).map[0.5] == 1.0


def test_an_instance_that_vanishes_on_the_grid_still_counts() -> None:
    truth = [*ONE, ("b", "run", 0.1, 0.2)]
    found = [("a", "run", 16.0, 32.0, 0.9), ("b", "run", 0.1, 0.2, 0.95)]
    assert worth(truth, found, "activitynet", (0.5,)).map[0.5] == 1.0
    result = worth(truth, found, "wtalc", (0.5,))
    assert (result.map[0.5], result.detections) == (0.5, 1)


def test_interpolation_gives_what_is_late_to_what_is_early() -> None:
    truth = [("a", "run", 0.0, 16.0), ("a", "run", 32.0, 48.0)]
    found = [
        ("a", "run", 64.0, 80.0, 0.9),
        ("a", "run", 0.0, 16.0, 0.8),
        ("a", "run", 32.0, 48.0, 0.7),
    ]  # wrong, right, right
    assert worth(truth, found, "wsad", (0.5,)).map[0.5] == pytest.approx(2 / 3)
    assert worth(truth, found, "wtalc", (0.5,)).map[0.5] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_frame_has_the_score_of_the_best_detection_that_covers_it() -> None:
    truth = [("a", "run", 0.0, 4.0)]
    # one second of four is right and surest; then five more that hold the rest of the truth
    found = [("a", "run", 1.0, 2.0, 0.9), ("a", "run", 0.0, 6.0, 0.5)]
    assert worth(truth, found, "multithumos", (0.5,)).frame_map == pytest.approx(1 / 4 + 3 / 4 * 4 / 6)


def test_frames_that_cannot_be_counted_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"'run' lasts until 9e\+07 s, too long to count frames: are times in seconds?"):
        worth(ONE, [("a", "run", 1.0, 9e7, 0.5)], "multithumos", (0.5,))


def test_mexaction_knows_two_classes() -> None:
    with pytest.raises(EvaluationError, match=r"knows the classes BullChargeCape and HorseRiding.*'run'"):
        worth(ONE, [], "mexaction2")
    riding = [("a", "HorseRiding", 50.0, 50.64), ("b", "BullChargeCape", 1.0, 2.0)]
    found = [("a", "HorseRiding", 50.0, 50.56, 0.5)]
    assert worth(riding, found, "mexaction2", None).map == {0.5: 0.5}


def test_an_unknown_protocol_lists_the_choices() -> None:
    with pytest.raises(
        EvaluationError, match=r"no protocol 'thumos': did you mean 'thumos14' .*choose one of thumos14, activitynet, wtalc"
    ):
        worth(ONE, [], "thumos")


def test_thresholds_are_what_they_are_written_as() -> None:
    assert checked_tious([0.1 + 0.2, 0.7]) == (0.3, 0.7)
    for bad in ([], [0.0], [1.5], [0.5, 0.5], [float("nan")]):
        with pytest.raises(EvaluationError, match="tIoU threshold"):
            checked_tious(bad)


pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), unique=True, max_size=30)


@given(pairs)
def test_serial_choice_is_one_after_the_other(listed: list[tuple[int, int]]) -> None:
    listed = sorted(listed, key=lambda pair: pair[0])  # stable: each chooser keeps its order of preference
    taken: dict[int, int] = {}
    for chooser, wanted in listed:
        if chooser not in taken.values() and wanted not in taken:
            taken[wanted] = chooser
    # one chooser at a time, down its list
    chosen = serial_choice([c for c, _ in listed], [w for _, w in listed])
    assert {listed[index][1]: listed[index][0] for index in chosen} == taken


def test_more_pairs_than_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Found] = [("a", "run", 0.0, 1.0 + number, 0.5) for number in range(30)]
    truth: list[Truth] = [("a", "run", 0.0, 10.0), ("a", "run", 0.0, 11.0)]
    expected = worth(truth, found, "activitynet", (0.1,)).average_map
    monkeypatch.setattr("tal_run.eval.matching.MOST_PAIRS", 60)
    assert worth(truth, found, "activitynet", (0.1,)).average_map == expected
    monkeypatch.setattr("tal_run.eval.matching.MOST_PAIRS", 50)
    with pytest.raises(TooManyPairsError, match=r"more than 50 pairs: suppress those"):
        worth(truth, found, "activitynet", (0.1,))
