"""Post-processing of scored segments: pure functions on arrays that return indices.

Segments are [N, 2], continuous: (start, end) with start <= end, in any one unit. Ties in score go to the segment
that was listed first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def tiou(segments: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    """Temporal intersection over union of every segment [N, 2] with every other [M, 2], as [N, M] in 0..1.

    Two empty segments (length zero) have an overlap of 0, whatever their place.
    """
    first, second = _as_segments(segments)[:, None], _as_segments(others)[None]  # [N, 1, 2], [1, M, 2]
    inner = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    inner = np.maximum(inner, 0.0)  # [N, M]
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - inner
    overlap: NDArray[np.float64] = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    return overlap


def nms(segments: ArrayLike, scores: ArrayLike, *, tiou_threshold: float) -> NDArray[np.int64]:
    """Non-maximum suppression: by falling score, keep what overlaps no kept segment by more than the threshold.

    Args:
        segments: [N, 2].
        scores: [N]; of equal scores the one listed first goes first.
        tiou_threshold: overlap above which (strictly) the weaker of two is dropped.

    Returns:
        Indices of the kept segments, best first [K].
    """
    boxes, order = _as_segments(segments), _best_first(scores)
    kept: list[int] = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[tiou(boxes[best], boxes[order])[0] <= tiou_threshold]
    return np.array(kept, np.int64)


def soft_nms(
    segments: ArrayLike, scores: ArrayLike, *, sigma: float, min_score: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Soft-NMS with a Gaussian penalty (Bodla et al., ICCV 2017, Eq. 3): overlap lowers a score instead of ending it.

    Args:
        segments: [N, 2].
        scores: [N].
        sigma: width of the penalty exp(-tIoU^2 / sigma).
        min_score: segments whose score has fallen below it are dropped.

    Returns:
        Indices of what is left in the order of choice [K], and the new scores [K], never rising.
    """
    boxes, left = _as_segments(segments), np.array(scores, np.float64).reshape(-1)
    remaining = np.flatnonzero(left >= min_score)
    kept: list[int] = []
    while len(remaining):
        best = remaining[np.argmax(left[remaining])]  # argmax takes the first of equals
        kept.append(int(best))
        remaining = remaining[remaining != best]
        left[remaining] *= np.exp(-(tiou(boxes[best], boxes[remaining])[0] ** 2) / sigma)
        remaining = remaining[left[remaining] >= min_score]
    indices = np.array(kept, np.int64)
    return indices, left[indices]


def runs_above(curve: ArrayLike, threshold: float) -> NDArray[np.int64]:
    """Longest runs of a curve [T] that stay above a threshold (strictly), as inclusive index ranges [N, 2]."""
    above = np.concatenate([[False], np.asarray(curve) > threshold, [False]])
    changes = np.flatnonzero(above[1:] != above[:-1])
    return np.stack([changes[0::2], changes[1::2] - 1], axis=1).astype(np.int64)  # [N, 2]


def _best_first(scores: ArrayLike) -> NDArray[np.int64]:
    return np.argsort(-np.asarray(scores, np.float64).reshape(-1), kind="stable")


def _as_segments(segments: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(segments, np.float64).reshape(-1, 2)
