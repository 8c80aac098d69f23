"""Average precision of timed detections of one class, as the ActivityNet toolkit and the evaluators after it reckon it.

Detections go by falling score (of equal scores the one listed first; the toolkit leaves that order to chance). Each takes,
of the ground truth in its video that is still free, the one it overlaps most (of equal overlaps the one listed last, as the
toolkit does), if by at least the threshold, and is right; else it is wrong. AP is the area under the interpolated precision
(PASCAL VOC 2010): at each recall the best precision there or further on.

Segments are [N, 2], (start, end) in any one unit; videos are given by number. Other protocols: ``evaluation``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tal_run.eval.matching import UNMATCHED, BoolArray, FloatArray, matched, overlapping


def average_precision(
    truth: ArrayLike,
    truth_videos: ArrayLike,
    *,
    segments: ArrayLike,
    videos: ArrayLike,
    scores: ArrayLike,
    tiou_thresholds: Sequence[float],
) -> FloatArray:
    """AP of one class at each threshold, in 0..1 [K].

    Args:
        truth: the class's instances [N, 2].
        truth_videos: the number of the video that each is in [N].
        segments: what was detected [M, 2].
        videos: the number of the video that each was detected in [M].
        scores: how sure each is [M].
        tiou_thresholds: overlaps from which on a detection is right [K].

    Returns:
        NaN for every threshold where there is no ground truth: the class has no AP.
    """
    count = len(np.asarray(truth_videos).reshape(-1))
    if not count:
        return np.full(len(tiou_thresholds), np.nan)
    order = np.argsort(-np.asarray(scores, np.float64).reshape(-1), kind="stable")
    right = match(
        truth,
        truth_videos,
        segments=np.asarray(segments, np.float64).reshape(-1, 2)[order],
        videos=np.asarray(videos).reshape(-1)[order],
        tiou_thresholds=tiou_thresholds,
    )
    return np.array([interpolated_average_precision(row, count) for row in right])


def match(
    truth: ArrayLike, truth_videos: ArrayLike, *, segments: ArrayLike, videos: ArrayLike, tiou_thresholds: Sequence[float]
) -> BoolArray:
    """Which detections [M, 2], listed best first, are right at each threshold (above 0), bool [K, M]."""
    segments, videos = np.asarray(segments, np.float64).reshape(-1, 2), np.asarray(videos, np.int64).reshape(-1)
    pairs = overlapping(
        segments,
        videos,
        truth=np.asarray(truth, np.float64).reshape(-1, 2),
        truth_groups=np.asarray(truth_videos, np.int64).reshape(-1),
    )
    partner = matched(pairs, count=len(segments), tiou_thresholds=tiou_thresholds, rule="best", strict=False)
    right: BoolArray = partner != UNMATCHED
    return right


def precision_at_hits(hits: ArrayLike, *, interpolated: bool) -> FloatArray:
    """Precision down to each right detection, given where in the ranking the right ones stand, rising from 0 [R].

    Interpolated, it is the best one there or further on; between two hits precision only falls, so hits are enough.
    """
    places = np.asarray(hits, np.int64)
    precision: FloatArray = np.arange(1, len(places) + 1) / (places + 1)
    if interpolated:
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    return precision


def interpolated_average_precision(right: ArrayLike, truth_count: int) -> float:
    """Area under the interpolated precision-recall curve of detections, listed best first, of which some are right [M]."""
    hits = np.flatnonzero(np.asarray(right, np.bool_))
    return float(precision_at_hits(hits, interpolated=True).sum() / truth_count)  # recall rises by 1 / truth_count at each


def mean_average_precision(by_class: ArrayLike) -> FloatArray:
    """Mean over the classes [C, K] that have an AP, at each threshold [K]; NaN where none has."""
    table = np.atleast_2d(np.asarray(by_class, np.float64))
    known = ~np.isnan(table)
    total: FloatArray = np.where(known, table, 0.0).sum(axis=0)
    mean: FloatArray = np.divide(total, known.sum(axis=0), out=np.full(table.shape[1], np.nan), where=known.any(axis=0))
    return mean
