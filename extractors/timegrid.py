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

import math
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

    def expected_count(self, duration_s: float) -> int:
        """Windows like these whose middle lies within so long a video; one at least."""
        return max(1, math.ceil((duration_s - self.start_s - self.window_s / 2) / self.step_s))

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

    def borders_to_seconds(self, borders: ArrayLike) -> NDArray[np.float64]:
        """Places among the cells, of any shape, as seconds: t is where cell t begins, between whole numbers in proportion."""
        return np.interp(np.asarray(borders, np.float64), np.arange(self.count + 1), self.edges_s)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Where snippets lie, in frames: the terms in which features are published.

    The middle of snippet k is at (k * stride_frames + offset_frames) / fps seconds::

        frame     0     stride     2 stride
        window 0  [======|======)
        window 1         [======|======)
        offset    |----->|                    OpenTAD's offset_frames, ActionFormer's num_frames / 2

    Attributes:
        fps: frames a second, of those that were sampled.
        stride_frames: frames from one window's start to the next one's; a fraction where features were resized.
        window_frames: frames that a window covers.
        offset_frames: frames from the video's start to the middle of window 0; None: window 0 starts with the video.
    """

    fps: float
    stride_frames: float
    window_frames: float
    offset_frames: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.fps, self.stride_frames, self.window_frames)
        if not all(np.isfinite((*numbers, self.offset_frames or 0.0))) or min(numbers) <= 0:
            raise ValueError(f"fps, stride and window must be positive and finite, got {self}")

    def __str__(self) -> str:
        return f"{self.window_frames:g} frames at {self.fps:g} fps, every {self.stride_frames:g} frames"

    @property
    def middle_frames(self) -> float:
        """Frames from the video's start to the middle of window 0."""
        return self.window_frames / 2 if self.offset_frames is None else self.offset_frames

    def grid(self, count: int, *, duration_s: float | None = None) -> TimeGrid:
        """So many windows in time; where the video's length is not known, it is taken to end with the last window."""
        step_s, window_s = self.stride_frames / self.fps, self.window_frames / self.fps
        start_s = self.middle_frames / self.fps - window_s / 2
        end_s = start_s + step_s * (count - 1) + window_s
        return TimeGrid(step_s=step_s, window_s=window_s, count=count, duration_s=duration_s or end_s, start_s=start_s)
