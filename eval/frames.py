"""Average precision over frames: of every frame of every video, does the class happen in it?

Frame i is the moment i / fps; a segment covers it from its start up to, but not including, its end. How frames are ranked
is told in ``protocols``.

The best detection of each frame is found without painting detections one by one. A run of n frames is the union of two
runs of 2^j, the largest power of two in n, one from its start and one to its end. Each level j is an array of which entry i
stands for the frames i .. i + 2^j - 1; from the top, each level hands its entries down to two of the level below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tal_run.eval.case import Case
from tal_run.eval.matching import BoolArray, FloatArray, IntArray
from tal_run.eval.protocols import EvaluationError

EPSILON = 1e-9  # frames: 4.16 + 2.56 s is 6.720000000000001, and the frame at 6.72 s lies outside
MOST_FRAMES = 1 << 26  # of the videos with one class: a month at 25 a second


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameCounts:
    """The frames of one class, counted: all that a ranking of them depends on.

    Attributes:
        steps: where a new score begins in what follows, scores falling [L].
        videos: the videos that have frames of each score [P].
        together: how many [P].
        right: how many of them show the class [P].
        positives: frames of each video that show it, found or not [V].
    """

    steps: IntArray
    videos: IntArray
    together: IntArray
    right: IntArray
    positives: IntArray


def frame_counts(case: Case, *, fps: float) -> list[FrameCounts]:
    """Count the frames of each class of a case [C].

    Raises:
        EvaluationError: the videos are too long for frames to be counted.
    """
    found, truth = first_frames(case.segments, fps), first_frames(case.truth, fps)
    counts = []
    for label in range(len(case.labels)):
        is_found, is_truth = case.classes == label, case.truth_classes == label
        videos = np.concatenate([case.videos[is_found], case.truth_videos[is_truth]])
        runs = np.concatenate([found[is_found], truth[is_truth]])
        lengths = np.zeros(len(case.video_ids), np.int64)
        np.maximum.at(lengths, videos, runs[:, 1])
        if lengths.sum() > MOST_FRAMES:
            last_s = float(runs.max() / fps)
            raise EvaluationError(
                f"{case.labels[label]!r} lasts until {last_s:g} s, too long to count frames: are times in seconds?"
            )
        runs += (np.cumsum(lengths) - lengths)[videos][:, None]  # all videos in one row
        count = int(is_found.sum())
        counts.append(_counted(runs[:count], case.scores[is_found], runs[count:], lengths))
    return counts


def average_precision_of(counts: FrameCounts, weights: ArrayLike) -> FloatArray:
    """AP over frames where each video counts as often as is said [B, V]; NaN where no frame shows the class [B]."""
    often = np.asarray(weights, np.int64)
    positives = often @ counts.positives
    precise = np.zeros(len(often))
    if len(counts.steps):
        copies = often[:, counts.videos]  # [B, P]
        right = np.add.reduceat(copies * counts.right, counts.steps, axis=1)  # [B, L]
        together = np.cumsum(np.add.reduceat(copies * counts.together, counts.steps, axis=1), axis=1)
        precise = (np.cumsum(right, axis=1) / np.maximum(together, 1) * right).sum(axis=1)
    average: FloatArray = np.divide(precise, positives, out=np.full(len(often), np.nan), where=positives > 0)
    return average


def first_frames(segments: FloatArray, fps: float) -> IntArray:
    """The frames that segments [N, 2] cover, as ranges without their ends [N, 2]."""
    frames: IntArray = np.ceil(segments * fps - EPSILON).astype(np.int64)
    return frames


def _counted(found: IntArray, scores: FloatArray, truth: IntArray, lengths: IntArray) -> FrameCounts:
    """Frames of one class, all videos in one row."""
    length, videos = int(lengths.sum()), len(lengths)
    if not length:
        none = np.empty(0, np.int64)
        return FrameCounts(steps=none, videos=none, together=none, right=none, positives=np.zeros(videos, np.int64))
    is_true = covered(truth, length)
    # equal scores are one step: 0 the highest
    levels, step = np.unique(-scores, return_inverse=True)
    steps = best_step(found, step, length, nothing=len(levels))
    # frames that follow one another and are alike go together: there are few sorts of them
    alike = np.zeros(length, np.bool_)
    alike[1:] = (steps[1:] == steps[:-1]) & (is_true[1:] == is_true[:-1])
    firsts = np.cumsum(lengths) - lengths
    alike[firsts[lengths > 0]] = False
    begins = np.flatnonzero(~alike)
    sizes = np.diff(begins, append=length)
    video_of = np.searchsorted(firsts, begins, side="right") - 1
    shows, kinds = np.where(is_true[begins], sizes, 0), steps[begins].astype(np.int64)
    some = kinds < len(levels)
    pairs, place = np.unique(kinds[some] * videos + video_of[some], return_inverse=True)
    together, right, positives = (np.zeros(size, np.int64) for size in (len(pairs), len(pairs), videos))
    np.add.at(together, place, sizes[some])
    np.add.at(right, place, shows[some])
    np.add.at(positives, video_of, shows)
    return FrameCounts(
        steps=np.flatnonzero(np.diff(pairs // videos, prepend=-1)),
        videos=pairs % videos,
        together=together,
        right=right,
        positives=positives,
    )


def covered(runs: IntArray, length: int) -> BoolArray:
    """Which of ``length`` frames lie in any of the ranges [N, 2]."""
    change = np.zeros(length + 1, np.int64)
    np.add.at(change, runs[:, 0], 1)
    np.add.at(change, np.maximum(runs[:, 1], runs[:, 0]), -1)
    inside: BoolArray = np.cumsum(change)[:-1] > 0
    return inside


def best_step(runs: IntArray, step: IntArray, length: int, *, nothing: int) -> NDArray[np.int32]:
    """Of each frame the lowest step of the ranges [N, 2] that cover it; ``nothing`` where none does [length]."""
    sizes = runs[:, 1] - runs[:, 0]
    some = sizes > 0
    runs, step, sizes = runs[some], step[some].astype(np.int32), sizes[some]
    lowest = np.full(length, nothing, np.int32)
    if not len(runs):
        return lowest
    level = np.floor(np.log2(sizes)).astype(np.int64)
    for exponent in range(int(level.max()), -1, -1):
        here = level == exponent
        np.minimum.at(lowest, runs[here, 0], step[here])
        np.minimum.at(lowest, runs[here, 1] - (1 << exponent), step[here])
        if exponent:
            half = 1 << (exponent - 1)
            below = lowest.copy()
            np.minimum(below[half:], lowest[:-half], out=below[half:])
            lowest = below
    return lowest
