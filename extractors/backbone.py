"""What every backbone offers, whatever runs it: windows of frames in, a feature vector and class scores out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.hooks import Hook
from tal_run.extractors.timegrid import Sampling
from tal_run.extractors.weights import WeightsFile

Interpolation = Literal["swscale", "opencv"]
Crop = Literal["center", "ten", "whole"]
Precision = Literal["auto", "bfloat16", "float32"]
LEAST_FPS, MOST_FPS = 0.001, 1000.0
MOST_FRAMES = 1024  # in one window
ANY_LENGTH = range(1, MOST_FRAMES + 1)
Rows = tuple[NDArray[np.float32], NDArray[np.float32] | None]


class BackboneError(TalRunError):
    """A backbone that does not exist or cannot work as asked."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a network's weights expect of a frame.

    Attributes:
        short_side: pixels of the shorter side after scaling; None: see ``size``.
        size: height and width after scaling, whatever the frame's shape was; None: as ``short_side`` says.
        crop: height and width of the middle that is cut out of it; None: nothing is.
        interpolation: ``swscale``: FFmpeg's bilinear, which is smooth where pictures shrink; ``opencv``: bilinear between the
            four nearest pixels (``INTER_LINEAR``), as the pictures were made that most published networks were trained on.
    """

    short_side: int | None = None
    size: tuple[int, int] | None = None
    crop: tuple[int, int] | None
    interpolation: Interpolation = "swscale"


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How a video is cut into windows.

    Window k is the sampled frames k * stride .. k * stride + window - 1. What happens at the end, with N frames::

        last   "pad"     windows until all frames are seen, 1 + ceil((N - window) / stride); in the last one, what is not
                         there is the last frame again
               "drop"    whole windows only, 1 + floor((N - window) / stride): as W-TALC's; so also those of CMCS (which
                         ActionFormer reads) and video_features, but of N - 1 frames, as of flow there is one less
        short  of a video with N < window there is one window all the same:
               "repeat"  its last frame, again and again
               "loop"    its frames from the first one on, again and again
               "refuse"  none: an error

    Attributes:
        fps: frames sampled a second of video; None: each of the video's own (``native``), which ``at`` makes a number of.
        window_frames: sampled frames in one window.
        stride_frames: sampled frames from one window's start to the next one's.
        last: what becomes of the frames behind the last whole window.
        short: what becomes of a video shorter than one window.
    """

    fps: float | None
    window_frames: int
    stride_frames: int
    last: Literal["pad", "drop"] = "pad"
    short: Literal["repeat", "loop", "refuse"] = "repeat"

    def __post_init__(self) -> None:
        fps_is_possible = self.fps is None or LEAST_FPS <= self.fps <= MOST_FPS
        if not (fps_is_possible and self.window_frames in ANY_LENGTH and 1 <= self.stride_frames <= 1_000_000):
            raise BackboneError(
                "windows need fps in 0.001..1000, 1 to 1,024 frames each and a stride of 1 to 1,000,000 frames, got "
                f"fps={self.fps}, window={self.window_frames}, stride={self.stride_frames}"
            )
        if self.last not in ("pad", "drop") or self.short not in ("repeat", "loop", "refuse"):
            raise BackboneError(
                f"windows end with last=pad or drop and short=repeat, loop or refuse, got {self.last!r} and {self.short!r}"
            )

    def at(self, frame_rate: float) -> WindowConfig:
        """The same windows in a video of that frame rate: ``fps`` is a number in any case.

        Raises:
            BackboneError: windows cannot have that rate.
        """
        if self.fps is not None:
            return self
        if not LEAST_FPS <= frame_rate <= MOST_FPS:
            raise BackboneError(
                f"the video has {frame_rate:.6g} frames a second, and windows take {LEAST_FPS:g} to {MOST_FPS:,.0f}: "
                "give a number with --fps"
            )
        return replace(self, fps=frame_rate)

    @property
    def rate(self) -> float:
        """Frames sampled a second.

        Raises:
            BackboneError: that depends on the video.
        """
        if self.fps is None:
            raise BackboneError("windows of each video's own frame rate have no length in seconds before the video is known")
        return self.fps

    @property
    def window_s(self) -> float:
        """Seconds of video that a window covers."""
        return self.window_frames / self.rate

    @property
    def step_s(self) -> float:
        """Seconds from one window to the next."""
        return self.stride_frames / self.rate

    @property
    def sampling(self) -> Sampling:
        """The same in the terms in which features are published."""
        return Sampling(
            fps=self.rate,
            stride_frames=self.stride_frames,
            window_frames=self.window_frames,
            offset_frames=self.window_frames / 2,
        )

    def count(self, frame_count: int) -> int:
        """Windows of so many sampled frames, one at least."""
        beyond_first = max(0, frame_count - self.window_frames)
        whole = 1 + beyond_first // self.stride_frames
        return whole if self.last == "drop" else 1 + -(-beyond_first // self.stride_frames)

    @property
    def settings(self) -> dict[str, str]:
        """What decides about the end, where it is not the default."""
        return {
            name: value
            for name, value, default in (("last", self.last, "pad"), ("short", self.short, "repeat"))
            if value != default
        }


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """How a backbone computes; one that cannot do so says so.

    Attributes:
        device: where, as torch names it: ``cpu``, ``cuda``, ``cuda:1``.
        precision: of the multiplications; ``auto``: bfloat16 where the hardware has it.
        crop: what it sees of each frame: the centre; the mean of ten crops; or the whole frame.
    """

    device: str = "cpu"
    precision: Precision = "auto"
    crop: Crop = "center"

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "bfloat16", "float32"):
            raise BackboneError(f"there is no precision {self.precision!r}: choose one of auto, bfloat16, float32")
        if self.crop not in ("center", "ten", "whole"):
            raise BackboneError(f"there is no crop {self.crop!r}: choose one of center, ten, whole")

    def check_plain(self, name: str, *, device: bool = False) -> None:
        """Refuse what a backbone that always computes in one way cannot do.

        Args:
            name: of the backbone.
            device: whether it can work elsewhere than on the CPU.

        Raises:
            BackboneError: something else than that way is asked for.
        """
        wrong = {
            f"--device {self.device}": "computes on the CPU" if self.device != "cpu" and not device else "",
            f"--precision {self.precision}": "computes in its own precision" if self.precision == "bfloat16" else "",
            f"--crop {self.crop}": "sees the centre of each frame" if self.crop != "center" else "",
        }
        if given := [option for option, why in wrong.items() if why]:
            reasons = " and ".join(filter(None, wrong.values()))
            raise BackboneError(f"{name} {reasons}: leave out {' and '.join(given)}, or take another --backbone")


class Backbone(Protocol):
    """A pretrained network with the preprocessing and the labels that belong to its weights."""

    name: ClassVar[str]
    knows: ClassVar[str]  # in a few words, for people: what its classes are of
    streams: ClassVar[tuple[str, ...]]  # what it looks at: "rgb", "flow", in the order of their features
    feature_dim: ClassVar[int]  # of all streams together, each has an equal share
    default_windows: ClassVar[WindowConfig]
    window_lengths: ClassVar[range]  # frames that its windows may have
    files: ClassVar[tuple[WeightsFile, ...]]  # what has to be found or downloaded
    has_labels: ClassVar[bool]  # whether it names what it sees, or gives features only
    multi_label: ClassVar[bool]  # logits answer one question each (sigmoid); otherwise the classes compete (softmax)
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    weights: Mapping[str, str]  # names and sha256 of the files that were loaded
    settings: Mapping[str, str]  # what else decides about the features: crop, precision
    device: str

    def __init__(self, *, options: BackboneOptions | None = ..., hook: Hook = ...) -> None:
        """Find or download the weights and load them."""

    def __call__(self, frames: NDArray[np.uint8], flow: NDArray[np.float32] | None = None, /) -> Rows:
        """One window as (features [D], logits [K] or None where there are no ``labels``).

        Args:
            frames: RGB, uint8 [T, H, W, 3].
            flow: from each frame to the next, in pixels, float32 [T, H, W, 2]; None: only where ``streams`` has no ``flow``.
        """


def check_windows(backbone: Backbone, windows: WindowConfig) -> None:
    """Refuse windows that a backbone cannot see.

    Raises:
        BackboneError: they are too short for it, or too long.
    """
    lengths = backbone.window_lengths
    if windows.window_frames in lengths:
        return
    possible = f"exactly {lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]:,}"
    raise BackboneError(
        f"{backbone.name} sees windows of {possible} frames, not of {windows.window_frames}: leave out --window, or give "
        f"--window {lengths[0] if windows.window_frames < lengths[0] else lengths[-1]}"
    )
