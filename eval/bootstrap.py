"""How sure an mAP is: intervals by the bootstrap over videos, and whether one set of detections is better than another.

The videos of a test set stand for videos like them. A bootstrap sample (Efron 1979) is as many videos, drawn with replacement;
a video that is drawn twice counts as two videos that look alike. What is right within a video does not depend on which
others there are, so detections are judged once, and a sample only changes how often each counts. A class of which a sample
holds no instance has no AP in it.

The interval reaches from the 2.5th to the 97.5th percentile of the samples' mAP, moved so that the samples' mean is the mAP
itself. For a sample's AP is too high on average: copies of a right detection stand side by side and vouch for each other,
by 2 points in a hundred where a class has some ten videos. Unmoved, the interval holds the mAP that such test sets have on
average in 75 % of the cases instead of 95 % (``activitynet``; 86 % under ``wtalc``), reflected (the "basic" bootstrap) in
70 %, moved in 95 % (``tests/benchmarks/evaluation.py --coverage``).

Two sets of detections are compared sample by sample, on the same videos: most of what differs from sample to sample is how
hard the videos are, and that falls on both alike. So a difference is often sure where the two intervals overlap.

A video that is drawn w times gives each of its detections w copies, one after the other in the ranking. With T right ones and
N in all before them (copies counted), the j-th copy of a right one has the precision (T + j) / (N + j).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tal_run.eval.case import Case
from tal_run.eval.evaluation import EvaluationResult, Judged, judge, require_labels, result_of, rows_by_class
from tal_run.eval.frames import FrameCounts, average_precision_of
from tal_run.eval.matching import UNMATCHED, BoolArray, FloatArray, IntArray
from tal_run.eval.protocols import EvaluationError, Protocol

SAMPLES = 1000  # the ends of an interval then vary by some 5 % of its width
BLOCK = 128  # samples drawn at a time; changing it changes what a seed draws
VALUES_AT_ONCE = 1 << 21  # numbers in one array: 16 MB


@dataclass(frozen=True, kw_only=True)
class Difference:
    """By how much the second of two values is larger.

    Attributes:
        value: the difference.
        interval: where it lies in 95 % of the samples, centred on it.
        share_better: of the samples, those in which the second is larger.
    """

    value: float
    interval: tuple[float, float]
    share_better: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sets of detections on the same videos.

    Attributes:
        first: what the one is worth.
        second: what the other is worth.
        map: second less first, at each threshold.
        average: the same of the means over thresholds.
        samples: how many bootstrap samples were drawn.
    """

    first: EvaluationResult
    second: EvaluationResult
    map: Mapping[float, Difference]
    average: Difference
    samples: int


def compare(
    first: Case, second: Case, rules: Protocol, tious: tuple[float, ...], *, samples: int = SAMPLES, seed: int = 0
) -> Comparison:
    """Compare two sets of detections with one ground truth.

    Raises:
        EvaluationError: they are not of the same videos, or there are no samples.
    """
    if first.video_ids != second.video_ids or not np.array_equal(first.truth, second.truth):
        raise EvaluationError("the two are not evaluated on the same videos: name the subset, and exclude the same ones")
    if samples < 1:
        raise EvaluationError("a comparison needs bootstrap samples: give 1000 or so")
    require_labels(first, rules)
    maps = [
        bootstrap_maps(case, judge(case, rules, tious), interpolated=rules.interpolated, samples=samples, seed=seed)
        for case in (first, second)
    ]
    results = [result_of(case, rules, tious) for case in (first, second)]
    values = [results[1].map[tiou] - results[0].map[tiou] for tiou in tious]
    gain = maps[1] - maps[0]
    return Comparison(
        first=results[0],
        second=results[1],
        map={tiou: _difference(value, column) for tiou, value, column in zip(tious, values, gain.T, strict=True)},
        average=_difference(float(np.mean(values)), gain.mean(axis=1)),
        samples=samples,
    )


def _difference(value: float, gains: FloatArray) -> Difference:
    moved = centred(gains, value)
    return Difference(value=value, interval=interval(gains, value), share_better=float((moved > 0).mean()))


def interval(samples: FloatArray, value: float) -> tuple[float, float]:
    """Where 95 % of the samples lie, 2.5 % on either side, once they are centred on the value itself."""
    low, high = np.percentile(centred(samples, value), [2.5, 97.5]).tolist()
    return low, high


def interval_of_share(samples: FloatArray, value: float) -> tuple[float, float]:
    """The same of a value that lies in 0..1."""
    low, high = interval(samples, value)
    return max(low, 0.0), min(high, 1.0)


def centred(samples: FloatArray, value: float) -> FloatArray:
    """The samples that have a value [S], moved to have this mean."""
    known = samples[~np.isnan(samples)]
    if not len(known):  # a few samples of a few videos, and no instance in any
        return np.array([value])
    moved: FloatArray = known - known.mean() + value
    return moved


def draws(videos: int, samples: int, seed: int) -> Iterator[IntArray]:
    """How often each video is drawn, for ``BLOCK`` samples at a time [B, V]."""
    generator = np.random.default_rng(seed)
    for begin in range(0, samples, BLOCK):
        size = min(BLOCK, samples - begin)
        yield generator.multinomial(videos, np.full(videos, 1 / videos), size=size)


def bootstrap_maps(case: Case, judged: Judged, *, interpolated: bool, samples: int = SAMPLES, seed: int = 0) -> FloatArray:
    """The mAP of each sample at each threshold [S, K]; cases with as many videos get the same samples from a seed."""
    instances = np.zeros((len(case.video_ids), len(case.labels)))
    np.add.at(instances, (case.truth_videos, case.truth_classes), 1)
    classes = rows_by_class(case, judged)
    videos = case.videos[judged.rows]
    blocks = []
    for drawn in draws(len(case.video_ids), samples, seed):
        total, known = np.zeros((len(drawn), len(judged.tious))), np.zeros((len(drawn), 1))
        there_are = drawn.astype(np.float64) @ instances  # [B, C]
        for rows, counts in zip(classes, there_are.T, strict=True):
            there = (counts > 0)[:, None]
            gained = _gains(
                drawn, videos[rows], judged.partner[:, rows] != UNMATCHED, judged.spared[rows], interpolated=interpolated
            )
            total += np.divide(gained, counts[:, None], out=np.zeros_like(gained), where=there)
            known += there
        blocks.append(np.divide(total, known, out=np.full_like(total, np.nan), where=known > 0))
    return np.concatenate(blocks)


def bootstrap_frame_maps(classes: Sequence[FrameCounts], *, samples: int = SAMPLES, seed: int = 0) -> FloatArray:
    """The mAP over frames of each sample [S], from the same samples as ``bootstrap_maps``."""
    blocks = []
    for drawn in draws(len(classes[0].positives), samples, seed):
        table = np.stack([_frame_aps(counts, drawn) for counts in classes], axis=1)  # [B, C]
        known = ~np.isnan(table)
        total = np.where(known, table, 0.0).sum(axis=1)
        blocks.append(np.divide(total, known.sum(axis=1), out=np.full(len(drawn), np.nan), where=known.any(axis=1)))
    return np.concatenate(blocks)


def _frame_aps(counts: FrameCounts, drawn: IntArray) -> FloatArray:
    step = max(1, VALUES_AT_ONCE // max(len(counts.videos), 1))
    return np.concatenate([average_precision_of(counts, drawn[begin : begin + step]) for begin in range(0, len(drawn), step)])


def _gains(drawn: IntArray, videos: IntArray, right: BoolArray, spared: BoolArray, *, interpolated: bool) -> FloatArray:
    """Precision at right detections of one class, summed, in each sample at each threshold [B, K]."""
    gained = np.zeros((len(drawn), len(right)))
    hits = [np.flatnonzero(row) for row in right]
    if not any(map(len, hits)):
        return gained
    step = max(1, VALUES_AT_ONCE // len(videos))
    for begin in range(0, len(drawn), step):
        copies = drawn[begin : begin + step, videos]  # [b, M]
        ranked = np.cumsum(copies, axis=1)
        for column, places in enumerate(hits):
            before = ranked
            if spared.any():
                before = np.cumsum(copies * (right[column] | ~spared), axis=1)
            own = copies[:, places]  # [b, R]
            summed = _interpolated if interpolated else _plain
            gained[begin : begin + step, column] = summed(own, before[:, places] - own)
    return gained


def _plain(copies: IntArray, ranked_before: IntArray) -> FloatArray:
    """Precision at every copy of every right detection, summed [B]; all [B, R]."""
    right_before = np.cumsum(copies, axis=1) - copies
    total = np.zeros(len(copies))
    for number in range(1, int(copies.max(initial=0)) + 1):
        precision = (right_before + number) / (ranked_before + number)
        total += np.where(copies >= number, precision, 0.0).sum(axis=1)
    return total


def _interpolated(copies: IntArray, ranked_before: IntArray) -> FloatArray:
    """The same with the best precision there or further on; among copies of one, the last has the best."""
    right = np.cumsum(copies, axis=1)
    last = np.divide(right, ranked_before + copies, out=np.zeros(copies.shape), where=copies > 0)
    best = np.maximum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    total: FloatArray = (copies * best).sum(axis=1)
    return total
