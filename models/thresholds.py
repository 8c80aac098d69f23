"""Thresholds on a class activation sequence: W-TALC's two stages, on which ActionBytes builds, and what WSAD makes of them.

They are apart from W-TALC's network because they need no torch, and neither does whoever localizes without having trained.

Notation: A [T, C] class activation sequence (CAS); s_c the class's confidence for the video, the mean of its k
largest activations with k = ceil(T / 8), as in the loss of W-TALC's authors. (Their test code rounds down, which leaves
nothing of a video shorter than 8 snippets.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tal_run.models.postprocess import runs_above

K_DIVISOR = 8


def k_max_mean(cas: ArrayLike, *, k_divisor: int = K_DIVISOR) -> NDArray[np.float64]:
    """Confidence of each class for the whole video: mean of its ceil(T / k_divisor) largest activations.

    Args:
        cas: class activation sequence [T, C], T >= 1.
        k_divisor: what T is divided by to give k.

    Returns:
        [C].
    """
    activations = np.asarray(cas)
    return top_mean(activations, -(-len(activations) // k_divisor))


def top_mean(cas: ArrayLike, k: int) -> NDArray[np.float64]:
    """Mean of each class's k largest activations in a CAS [T, C], as [C]; of all, if there are fewer than k."""
    activations = np.asarray(cas)
    k = min(k, len(activations))
    largest = np.partition(activations, -k, axis=0)[-k:]
    return np.asarray(largest.mean(axis=0), np.float64)


def first_stage_classes(cas: ArrayLike) -> NDArray[np.bool_]:
    """Which classes of a CAS [T, C] pass the first threshold of ActionBytes, as [C].

    It is "applied to filter out classes that have confidence score less than the mean confidence score".
    """
    confidence = k_max_mean(cas)
    return np.asarray(confidence >= confidence.mean())


def second_stage_segments(activation: ArrayLike, *, floor: float | None = None) -> NDArray[np.int64]:
    """The threshold along the time axis, for one class that the first stage let through.

    ActionBytes: "The second threshold is applied along the temporal axis to obtain the detections." W-TALC's code takes the
    midpoint of the sequence's smallest and largest value, and so does this.

    Args:
        activation: one class's activation sequence [T].
        floor: what the sequence would be without the action, instead of its smallest value. For probabilities that is
            0, which keeps a video whole that is nothing but the action. None: the paper's code.

    Returns:
        Snippet ranges above the midpoint [N, 2], both ends included. Without a floor, a constant sequence gives none.
    """
    curve = np.asarray(activation)
    lowest = curve.min() if floor is None else floor
    return runs_above(curve, (curve.max() + lowest) / 2)


def largest_within(activation: ArrayLike, ranges: ArrayLike) -> NDArray[np.float64]:
    """Largest value of a curve [T] within each range [N, 2], both ends included, as [N]."""
    curve, pairs = np.asarray(activation), np.asarray(ranges, np.int64).reshape(-1, 2)
    return np.array([curve[start : end + 1].max() for start, end in pairs], np.float64)
