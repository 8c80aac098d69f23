"""Average precision over frames: of every frame of every video, does the class happen in it?

Frame i is the moment i / fps; a segment covers it from its start up to, but not including, its end. How frames are ranked
is told in ``protocols``.

The best detection of each frame is found without painting detections one by one. A run of n frames is the union of two
runs of 2^j, the largest power of two in n, one from its start and one to its end. Each level j is an array of which entry i
stands for the frames i .. i + 2^j - 1; from the top, each level hands its entries down to two of the level below.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.case import Case
from tal_run.eval.matching import BoolArray, FloatArray, IntArray
from tal_run.eval.protocols import EvaluationError

EPSILON = 1e-9  # frames: 4.16 + 2.56 s is 6.720000000000001, and the frame at 6.72 s lies outside
MOST_FRAMES = 1 << 26  # of the videos with one class: a month at 25 a second


def frame_average_precisions(case: Case, *, fps: float) -> FloatArray:
    """AP over frames of each class of a case [C].

    Raises:
        EvaluationError: the videos are too long for frames to be counted.
    """
    found, truth = first_frames(case.segments, fps), first_frames(case.truth, fps)
    table = np.zeros(len(case.labels))
    for label in range(len(case.labels)):
        is_found, is_truth = case.classes == label, case.truth_classes == label
        videos = np.concatenate([case.videos[is_found], case.truth_videos[is_truth]])
        runs = np.concatenate([found[is_found], truth[is_truth]])
        last_s = float(runs.max(initial=0) / fps)
        runs, length = _end_to_end(runs, videos, len(case.video_ids))
        if length > MOST_FRAMES:
            raise EvaluationError(
                f"{case.labels[label]!r} lasts until {last_s:g} s, too long to count frames: are times in seconds?"
            )
        count = int(is_found.sum())
        table[label] = _average_precision(runs[:count], case.scores[is_found], runs[count:], length)
    return table


def first_frames(segments: FloatArray, fps: float) -> IntArray:
    """The frames that segments [N, 2] cover, as ranges without their ends [N, 2]."""
    frames: IntArray = np.ceil(segments * fps - EPSILON).astype(np.int64)
    return frames


def _end_to_end(runs: IntArray, videos: IntArray, count: int) -> tuple[IntArray, int]:
    """Ranges of frames within videos, moved to where all videos stand in one row, and the row's length."""
    lengths = np.zeros(count, np.int64)
    np.maximum.at(lengths, videos, runs[:, 1])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return runs + starts[videos][:, None], int(starts[-1])


def _average_precision(found: IntArray, scores: FloatArray, truth: IntArray, length: int) -> float:
    is_true = covered(truth, length)
    positives = int(is_true.sum())
    if not positives or not len(found):
        return 0.0
    # equal scores are one step: 0 the highest
    levels, step = np.unique(-scores, return_inverse=True)
    steps = best_step(found, step, length, nothing=len(levels))
    retrieved = steps < len(levels)
    right = np.bincount(steps[retrieved & is_true], minlength=len(levels))
    together = np.bincount(steps[retrieved], minlength=len(levels))
    precision = np.cumsum(right) / np.maximum(np.cumsum(together), 1)
    return float((precision * right).sum() / positives)


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
