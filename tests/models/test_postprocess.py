"""Post-processing against slow, obviously right versions, and its laws."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tal_run.models.postprocess import nms, runs_above, soft_nms, tiou

Array = NDArray[np.float64]


@st.composite
def scored_segments(draw: st.DrawFn) -> tuple[Array, Array]:
    count = draw(st.integers(0, 25))
    # few distinct values, so that ties, duplicates and empty segments come up
    starts = draw(arrays(np.float64, count, elements=st.integers(0, 20).map(float)))
    spans = draw(arrays(np.float64, count, elements=st.integers(0, 8).map(float)))
    scores = draw(arrays(np.float64, count, elements=st.sampled_from([0.1, 0.2, 0.2, 0.5, 0.9])))
    return np.stack([starts, starts + spans], axis=1), scores


def slow_tiou(a: Array, b: Array) -> float:
    inner = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - inner
    return inner / union if union > 0 else 0.0


def slow_nms(segments: Array, scores: Array, threshold: float) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(slow_tiou(segments[index], segments[other]) <= threshold for other in kept):
            kept.append(index)
    return kept


def slow_soft_nms(segments: Array, scores: Array, sigma: float, min_score: float) -> list[tuple[int, float]]:
    left = dict(enumerate(scores.tolist()))
    chosen = []
    while left := {i: s for i, s in left.items() if s >= min_score}:
        best = min(left, key=lambda i: (-left[i], i))
        # where rounding would decide who is best, neither version is wrong
        assume(all(i == best or left[best] - s > 1e-9 for i, s in left.items()))
        chosen.append((best, left.pop(best)))
        left = {i: s * math.exp(-(slow_tiou(segments[best], segments[i]) ** 2) / sigma) for i, s in left.items()}
    return chosen


@given(scored_segments(), scored_segments())
def test_tiou_is_the_slow_one(first: tuple[Array, Array], second: tuple[Array, Array]) -> None:
    found = tiou(first[0], second[0])
    assert found.shape == (len(first[0]), len(second[0]))
    for i, a in enumerate(first[0]):
        for j, b in enumerate(second[0]):
            assert found[i, j] == pytest.approx(slow_tiou(a, b), abs=1e-12)


@given(scored_segments(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_nms_is_the_slow_one(given_: tuple[Array, Array], threshold: float) -> None:
    segments, scores = given_
    assert nms(segments, scores, tiou_threshold=threshold).tolist() == slow_nms(segments, scores, threshold)


@given(scored_segments(), st.floats(0.1, 50.0), st.integers(-100, 100))
def test_nms_does_not_care_for_the_unit_or_origin_of_time(given_: tuple[Array, Array], scale: float, shift: int) -> None:
    segments, scores = given_
    # away from the threshold, where rounding could decide
    overlaps = tiou(segments, segments)
    if (np.abs(overlaps - 0.45) < 1e-6).any():
        return
    kept = nms(segments, scores, tiou_threshold=0.45).tolist()
    assert nms((segments + shift) * scale, scores, tiou_threshold=0.45).tolist() == kept


@given(scored_segments(), st.sampled_from([0.3, 0.5, 1.0]), st.sampled_from([0.0, 0.15]), st.randoms())
def test_soft_nms_is_the_slow_one(given_: tuple[Array, Array], sigma: float, min_score: float, dice: random.Random) -> None:
    segments = given_[0]
    scores = np.array([dice.uniform(0.05, 1.0) for _ in segments])
    indices, new_scores = soft_nms(segments, scores, sigma=sigma, min_score=min_score)
    expected = slow_soft_nms(segments, scores, sigma, min_score)
    assert new_scores == pytest.approx([score for _, score in expected], abs=1e-12)
    assert (np.diff(new_scores) <= 1e-12).all()
    assert indices.tolist() == [index for index, _ in expected]


def test_ties_go_to_the_segment_listed_first() -> None:
    twins = [[0.0, 2.0], [0.0, 2.0], [5.0, 6.0]]
    assert nms(twins, [0.5, 0.5, 0.5], tiou_threshold=0.5).tolist() == [0, 2]
    assert soft_nms(twins, [0.5, 0.5, 0.5], sigma=0.5, min_score=0.0)[0].tolist() == [0, 2, 1]


def test_an_overlap_of_exactly_the_threshold_is_kept() -> None:
    assert nms([[0.0, 2.0], [1.0, 3.0]], [1.0, 0.5], tiou_threshold=1 / 3).tolist() == [0, 1]


@given(arrays(np.float64, st.integers(0, 40), elements=st.sampled_from([0.0, 0.4, 0.5, 1.0])))
def test_runs_are_the_maximal_ones(curve: Array) -> None:
    runs = runs_above(curve, 0.4)
    inside = {index for start, end in runs for index in range(start, end + 1)}
    assert inside == set(np.flatnonzero(curve > 0.4).tolist())
    assert all(later[0] - earlier[1] > 1 for earlier, later in itertools.pairwise(runs))
