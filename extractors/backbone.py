"""What every backbone offers, whatever runs it: windows of frames in, a feature vector and class scores out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.hooks import Hook
from tal_run.extractors.timegrid import Sampling
from tal_run.extractors.weights import WeightsFile


class BackboneError(TalRunError):
    """A backbone that does not exist or cannot work as asked."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a network's weights expect of a frame: short side and centre crop (height, width), in pixels."""

    short_side: int
    crop: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How a video is cut into windows.

    Attributes:
        fps: frames sampled a second of video.
        window_frames: sampled frames in one window.
        stride_frames: sampled frames from one window's start to the next one's.
    """

    fps: float
    window_frames: int
    stride_frames: int

    def __post_init__(self) -> None:
        if not (0.001 <= self.fps <= 1000 and 1 <= self.window_frames <= 1024 and 1 <= self.stride_frames <= 1_000_000):
            raise BackboneError(
                "windows need fps in 0.001..1000, 1 to 1,024 frames each and a stride of 1 to 1,000,000 frames, got "
                f"fps={self.fps:g}, window={self.window_frames}, stride={self.stride_frames}"
            )

    @property
    def window_s(self) -> float:
        """Seconds of video that a window covers."""
        return self.window_frames / self.fps

    @property
    def step_s(self) -> float:
        """Seconds from one window to the next."""
        return self.stride_frames / self.fps

    @property
    def sampling(self) -> Sampling:
        """The same in the terms in which features are published."""
        return Sampling(
            fps=self.fps,
            stride_frames=self.stride_frames,
            window_frames=self.window_frames,
            offset_frames=self.window_frames / 2,
        )

    def count(self, frame_count: int) -> int:
        """Windows that cover so many sampled frames: the last one may reach past the end, never by a whole stride."""
        beyond_first = max(0, frame_count - self.window_frames)
        return 1 + -(-beyond_first // self.stride_frames)


class Backbone(Protocol):
    """A pretrained network with the preprocessing and the labels that belong to its weights."""

    name: ClassVar[str]
    knows: ClassVar[str]  # in a few words, for people: what its classes are of
    feature_dim: ClassVar[int]
    preprocessing: ClassVar[Preprocessing]
    default_windows: ClassVar[WindowConfig]
    files: ClassVar[tuple[WeightsFile, ...]]  # what has to be found or downloaded
    multi_label: ClassVar[bool]  # logits answer one question each (sigmoid); otherwise the classes compete (softmax)
    labels: tuple[str, ...]
    weights: Mapping[str, str]  # names and sha256 of the files that were loaded

    def __init__(self, *, hook: Hook = ...) -> None:
        """Find or download the weights and load them."""

    def __call__(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One window of RGB frames, uint8 [T, H, W, 3], as (features [D], logits [K])."""
