"""Time as a type: the one place where indices become seconds and back.

A backbone looks at overlapping windows; window k gives snippet k. For segments, each snippet stands for the cell
around its window's centre, so that cells tile the video without gaps or overlap:

    time      0         step       2 step      3 step
    window 0  [=====================)
    window 1            [=====================)
    window 2                        [=====================)
    centre              ^           ^           ^
    cell      [---------0-----)[----1-----)[----2--------------)   the first and the last reach to the video's ends

(as pyannote's ``SlidingWindow``, with the cell made explicit.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True)
class TimeGrid:
    """Equally spaced windows over a video.

    Attributes:
        step_s: seconds from one window's start to the next one's.
        window_s: seconds that a window covers.
        count: number of windows, at least one.
        duration_s: length of the video in seconds; segments never reach past it.
        start_s: start of window 0 in seconds of the video.
    """

    step_s: float
    window_s: float
    count: int
    duration_s: float
    start_s: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.step_s, self.window_s, self.duration_s, self.start_s)
        if not all(np.isfinite(numbers)) or min(self.step_s, self.window_s, self.duration_s) <= 0 or self.count < 1:
            raise ValueError(f"a time grid needs positive, finite lengths and at least one window, got {self}")

    @property
    def centers_s(self) -> NDArray[np.float64]:
        """Centres of the windows, seconds [count]."""
        return self.start_s + self.window_s / 2 + self.step_s * np.arange(self.count, dtype=np.float64)

    @property
    def edges_s(self) -> NDArray[np.float64]:
        """Borders of the cells, seconds [count + 1], never falling, from 0 to the video's end."""
        inner = self.centers_s[:-1] + self.step_s / 2
        return np.concatenate([[0.0], np.clip(inner, 0.0, self.duration_s), [self.duration_s]])

    def index_at(self, time_s: ArrayLike) -> NDArray[np.int64]:
        """The snippet whose cell holds a time; times outside the video go to the first or last one. Any shape."""
        index: NDArray[np.int64] = np.searchsorted(self.edges_s[1:-1], np.asarray(time_s, np.float64), side="right")
        return index

    def segments_to_seconds(self, segments: ArrayLike) -> NDArray[np.float64]:
        """Inclusive snippet ranges [N, 2] as the seconds [N, 2] that their cells cover."""
        ranges = np.asarray(segments, np.int64).reshape(-1, 2)
        if ranges.size and (ranges.min() < 0 or ranges.max() >= self.count or (ranges[:, 0] > ranges[:, 1]).any()):
            raise ValueError(f"snippet ranges must lie in 0..{self.count - 1} with start <= end")
        edges = self.edges_s
        return np.stack([edges[ranges[:, 0]], edges[ranges[:, 1] + 1]], axis=1)  # [N, 2]
