"""The result that everything here works towards."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Detection:
    """One action found in a video.

    Attributes:
        start_s: where it begins, seconds of the video.
        end_s: where it ends, seconds; after ``start_s``.
        label: what it is.
        score: how sure the head is; only the order and the head's own thresholds give it a meaning.
    """

    start_s: float
    end_s: float
    label: str
    score: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.score) and 0 <= self.start_s < self.end_s < math.inf):
            raise ValueError(f"a detection needs 0 <= start < end and a finite score, got {self}")


def best_first(detections: Iterable[Detection]) -> list[Detection]:
    """Sorted by score; of equal ones the earlier first, and what is left by end and label: whatever their order was before."""
    return sorted(detections, key=lambda found: (-found.score, found))
