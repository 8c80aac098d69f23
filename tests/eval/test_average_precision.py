"""Average precision against an obvious reckoning, worked examples and its laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tal_run.eval.average_precision import average_precision, interpolated_average_precision, match, mean_average_precision

Segment = tuple[int, float, float]  # video, start, end
Scored = tuple[int, float, float, float]

# few distinct values, so that ties, duplicates, empty segments and overlaps equal to the threshold come up
segments = st.builds(lambda v, s, n: (v, float(s), float(s + n)), st.integers(0, 2), st.integers(0, 12), st.integers(0, 6))
scored = st.builds(lambda segment, score: (*segment, score), segments, st.sampled_from([0.1, 0.2, 0.5, 0.9]))


def slow_tiou(a: tuple[float, float], b: tuple[float, float]) -> float:
    inner = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - inner
    return inner / union if union > 0 else 0.0


def slow_right(truth: list[Segment], found: list[Scored], threshold: float) -> list[bool]:
    """Right or wrong, for the detections by falling score."""
    taken: set[int] = set()
    right = []
    for video, start, end, _ in sorted(found, key=lambda d: -d[3]):  # sorted is stable
        free = [
            (slow_tiou((start, end), (s, e)), index)
            for index, (v, s, e) in enumerate(truth)
            if v == video and index not in taken and slow_tiou((start, end), (s, e)) >= threshold
        ]
        if free:
            taken.add(max(free)[1])
        right.append(bool(free))
    return right


def slow_average_precision(truth: list[Segment], found: list[Scored], threshold: float) -> float:
    """The toolkit's way: pad precision and recall, make precision fall, sum the steps."""
    right = slow_right(truth, found, threshold)
    precision = [0.0, *(sum(right[: n + 1]) / (n + 1) for n in range(len(right))), 0.0]
    recall = [0.0, *(sum(right[: n + 1]) / len(truth) for n in range(len(right))), 1.0]
    for index in range(len(precision) - 2, -1, -1):
        precision[index] = max(precision[index], precision[index + 1])
    return sum((recall[i + 1] - recall[i]) * precision[i + 1] for i in range(len(recall) - 1))


def fast(truth: list[Segment], found: list[Scored], thresholds: list[float]) -> list[float]:
    return average_precision(
        [t[1:] for t in truth],
        [t[0] for t in truth],
        segments=[d[1:3] for d in found],
        videos=[d[0] for d in found],
        scores=[d[3] for d in found],
        tiou_thresholds=thresholds,
    ).tolist()


@given(st.lists(segments, min_size=1, max_size=8), st.lists(scored, max_size=20))
def test_it_is_the_slow_one(truth: list[Segment], found: list[Scored]) -> None:
    thresholds = [0.1, 0.25, 0.5, 1.0]
    assert fast(truth, found, thresholds) == pytest.approx([slow_average_precision(truth, found, t) for t in thresholds])


@given(
    st.lists(segments, min_size=1, max_size=8), st.lists(scored, max_size=20), st.sampled_from([0.5, 4.0]), st.integers(0, 64)
)
def test_units_of_time_and_of_score_do_not_matter(truth: list[Segment], found: list[Scored], scale: float, shift: int) -> None:
    moved = [(v, (s + shift) * scale, (e + shift) * scale) for v, s, e in truth]
    moved_found = [(v, (s + shift) * scale, (e + shift) * scale, math.log(score)) for v, s, e, score in found]
    assert fast(moved, moved_found, [0.3, 0.5]) == fast(truth, found, [0.3, 0.5])


@given(st.lists(segments, min_size=1, max_size=8), st.lists(scored, max_size=20))
def test_what_ranks_below_everything_cannot_hurt(truth: list[Segment], found: list[Scored]) -> None:
    nonsense = [*found, (7, 0.0, 1.0, 0.0)]
    assert fast(truth, nonsense, [0.5]) == pytest.approx(fast(truth, found, [0.5]))


@given(st.lists(segments.filter(lambda s: s[2] > s[1]), min_size=1, max_size=8))
def test_the_truth_itself_is_perfect_and_nothing_is_worth_nothing(truth: list[Segment]) -> None:
    assert fast(truth, [(*t, 0.5) for t in truth], [0.5, 1.0]) == pytest.approx([1.0, 1.0])
    assert fast(truth, [], [0.5]) == [0.0]


def test_a_duplicate_is_wrong_and_takes_the_next_best_where_there_is_one() -> None:
    truth = [(0, 0.0, 10.0), (0, 8.0, 18.0)]
    near_both = (0, 4.0, 14.0, 0.9)  # 6/14 with either: the last listed is taken, then the first
    assert fast(truth, [near_both, near_both], [0.4]) == [1.0]
    assert fast(truth[:1], [near_both, near_both], [0.4]) == [1.0]  # the duplicate comes after full recall
    assert match([[0, 10]], [0], segments=[[0, 10], [0, 10]], videos=[0, 0], tiou_thresholds=[0.5]).tolist() == [[True, False]]


def test_an_overlap_of_exactly_the_threshold_is_enough() -> None:
    assert fast([(0, 0.0, 2.0)], [(0, 0.0, 1.0, 1.0)], [0.5, 0.5000001]) == [1.0, 0.0]


def test_a_worked_example() -> None:
    # right, wrong, right of 4 instances: precision 1, 1/2, 2/3 -> (1 + 2/3) / 4
    assert interpolated_average_precision([True, False, True], 4) == pytest.approx((1 + 2 / 3) / 4)
    # a late rise counts for what came before: wrong, right, right -> 2/3 twice
    assert interpolated_average_precision([False, True, True], 2) == pytest.approx(2 / 3)


def test_a_class_without_truth_has_no_ap_and_no_say_in_the_mean() -> None:
    nothing = fast([], [(0, 0.0, 1.0, 1.0)], [0.5, 0.7])
    assert np.isnan(nothing).all()
    assert mean_average_precision([[0.2, 0.4], nothing, [0.6, 0.0]]).tolist() == pytest.approx([0.4, 0.2])
    assert np.isnan(mean_average_precision([nothing])).all()
