"""From a video to a ``FeatureSequence``: what the backbone saw, window by window, with its place in time.

Frames stream through: of the video, a few chunks and one window are held at a time, whatever its length. Backbones that look
at motion get it from ``two_streams``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.backbone import Backbone, BackboneError, Rows, WindowConfig, check_windows
from tal_run.extractors.display import Size, covering_short_side
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.feature_record import FeatureRecord
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.registry import create_backbone
from tal_run.extractors.timegrid import TimeGrid
from tal_run.extractors.two_streams import FlowConfig, ahead, with_flow
from tal_run.extractors.video import VideoInfo, native_rate, open_video

STEP = "watching"
STREAMS = ("rgb", "flow")
STEP_TOLERANCE = 0.05  # 29.97 fps for 30 is the same to a head; 25 for 30 is not

Frames = NDArray[np.uint8]
# arrays of the same frames [n, H, W, C]: pictures and, if the backbone looks at it, flow
Clip = tuple[NDArray[Any], ...]


class FeatureError(TalRunError):
    """Features that cannot be what they are taken for."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Feature vectors of one video with their place in time, whoever made them.

    Attributes:
        data: one feature vector a window, float32 [T, D]; of several streams, one behind the other.
        grid: where the T windows lie in time.
        stream_dims: names and widths of the streams, in order; empty: nobody says which there are.
        logits: the backbone's class logits a window, float32 [T, K], or None.
        multi_label: each logit answers a question of its own (sigmoid); otherwise the classes compete (softmax).
        labels: names of the K classes.
        record: what made them, if it is known.
    """

    data: NDArray[np.float32]
    grid: TimeGrid
    stream_dims: tuple[tuple[str, int], ...] = ()
    logits: NDArray[np.float32] | None = None
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    record: FeatureRecord | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != 2 or len(self.data) != self.grid.count:
            raise ValueError(f"features must be [{self.grid.count}, D], got {self.data.shape}")
        if self.stream_dims and sum(width for _, width in self.stream_dims) != self.data.shape[1]:
            raise ValueError(f"the streams {dict(self.stream_dims)} do not make up {self.data.shape[1]} features")
        if self.logits is not None and self.logits.shape != (self.grid.count, len(self.labels)):
            raise ValueError(f"logits must be [{self.grid.count}, {len(self.labels)}], got {self.logits.shape}")

    @property
    def streams(self) -> dict[str, NDArray[np.float32]]:
        """The streams by name, views [T, width]; all as ``features`` if nobody says which there are."""
        dims = self.stream_dims or (("features", self.data.shape[1]),)
        ends = np.cumsum([width for _, width in dims])
        return {name: self.data[:, end - width : end] for (name, width), end in zip(dims, ends, strict=True)}

    def known_logits(self) -> NDArray[np.float32]:
        """The classes' logits [T, K]. Raises FeatureError: there are none."""
        if self.logits is None:
            raise FeatureError(
                "these features carry no class scores, as their layout has no place for them: save them with --layout tal-run"
            )
        return self.logits

    def probabilities(self) -> NDArray[np.float32]:
        """The classes' probabilities, float32 [T, K]: sigmoid of the logits if ``multi_label``, else softmax over classes."""
        logits = self.known_logits()
        if self.multi_label:
            return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits), np.float32)
        odds: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        return odds


@dataclass(frozen=True, kw_only=True)
class FeatureSequence(Features):
    """What a backbone made of one video here.

    Attributes:
        video: what was found out about the file.
        decoder: the decoder that gave the frames, ``decord`` or ``pyav``.
        notes: sentences about damage, in the order it was met, and about padding.
        padded: the video was shorter than one window, which was filled up.
        flow_backend: what computed the optical flow; None: nothing did.
    """

    video: VideoInfo
    decoder: str
    notes: tuple[str, ...] = ()
    padded: bool = False
    flow_backend: str | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureNeeds:
    """What a head takes, or what a trained one was trained on; what is None may be anything.

    Attributes:
        dim: width of a feature vector.
        streams: its streams, in order.
        step_s: seconds from one snippet to the next.
        backbone: the network that made the features.
    """

    dim: int | None = None
    streams: tuple[str, ...] | None = None
    step_s: float | None = None
    backbone: str | None = None

    def check(self, features: Features) -> None:
        """Refuse features that do not fit; what is not known of them is taken to fit.

        Raises:
            FeatureError: they do not; the message says what is needed and what there is.
        """
        count, dim = features.data.shape
        if self.dim is not None and dim != self.dim:
            if count == self.dim:
                raise FeatureError(f"features of shape {count} x {dim} are turned on their side: save them as [T, {self.dim}]")
            raise FeatureError(f"features are {dim} wide, the head takes {self.dim}: extract them as those it was trained on")
        have = tuple(name for name, _ in features.stream_dims)
        if self.streams is not None and have and have != self.streams:
            raise FeatureError(f"features are {' and '.join(have)}, the head takes {' and '.join(self.streams)}: extract those")
        made_by = features.record and features.record.recipe.backbone
        if self.backbone is not None and made_by and made_by != self.backbone:
            raise FeatureError(f"features are of {made_by}, the head was trained on {self.backbone}: extract them with that")
        if self.step_s is not None and not math.isclose(features.grid.step_s, self.step_s, rel_tol=STEP_TOLERANCE):
            raise FeatureError(
                f"features lie {features.grid.step_s:.4g} s apart, the head was trained on {self.step_s:.4g} s: extract them "
                "with its --fps and --stride"
            )


def joined(
    streams: Mapping[str, NDArray[np.float32]],
) -> tuple[NDArray[np.float32], tuple[tuple[str, int], ...]]:
    """Streams [T, width] as one array [T, D] and its ``stream_dims``: RGB, flow (I3D's order), then others by name."""
    order = sorted(streams, key=lambda name: (STREAMS.index(name) if name in STREAMS else len(STREAMS), name))
    if len({len(streams[name]) for name in order}) != 1:
        lengths = ", ".join(f"{name} {len(streams[name])}" for name in order)
        raise FeatureError(f"the streams have different numbers of snippets ({lengths}): extract them again, together")
    return np.concatenate([streams[name] for name in order], axis=1), tuple((n, streams[n].shape[1]) for n in order)


def extract(
    video: str | os.PathLike[str],
    *,
    backbone: Backbone | str,
    windows: WindowConfig | None = None,
    decoder: str = "auto",
    flow: FlowConfig | None = None,
    hook: Hook = ignore_progress,
) -> FeatureSequence:
    """Watch a video with a backbone.

    Args:
        video: path of a local file.
        backbone: the network, with its preprocessing, or the name of one (``EXTRACTORS``).
        windows: how the video is cut; None: as the backbone likes it.
        decoder: ``auto``, ``decord`` or ``pyav``.
        flow: how motion is computed for a backbone that looks at it; None: TV-L1 as OpenCV's on CPUs, by what suits the device.
        hook: told of the seconds of video that have been watched.

    Raises:
        VideoError: the file cannot be read as a video.
        BackboneError, WeightsError: there is no such backbone, its weights cannot be had, or the video or the windows do not
            suit it.
        FlowError: there is no such way to compute flow, or not on this machine.
    """
    if isinstance(backbone, str):
        backbone = create_backbone(backbone, hook=hook)
    windows = windows or backbone.default_windows
    check_windows(backbone, windows)
    flow = flow or FlowConfig()
    stream = flow.stream(backbone.device, hook=hook) if "flow" in backbone.streams else None
    wanted = backbone.preprocessing
    with open_video(video, decoder=decoder) as reader:
        duration_s = reader.info.duration_s
        windows = windows.at(native_rate(reader.info))
        expected = windows.count(max(1, int(np.ceil(duration_s * windows.rate))))
        data, logits = _Rows(expected), _Rows(expected)
        hook(STEP, completed=0.0, total=duration_s)
        short_side = wanted.short_side
        if short_side is not None:
            shown = Size(reader.info.width, reader.info.height)
            short_side = covering_short_side(shown, short_side=short_side, crop=wanted.crop)
        chunks = reader.frames(
            fps=windows.rate,
            short_side=short_side,
            size=wanted.size,
            crop=wanted.crop if stream is None else None,  # flow is computed on whole frames
            interpolation=wanted.interpolation,
        )
        frames = (chunk.frames for chunk in chunks)
        clips: Iterator[Clip] = (
            ((chunk,) for chunk in frames) if stream is None else with_flow(frames, stream, crop=wanted.crop, jpeg=flow.jpeg)
        )
        frames_seen = 0
        see = _remembering_the_last(backbone)
        with nullcontext(clips) if stream is None else ahead(clips, stop=reader.stop) as ready:
            for window, frames_seen in cut_into_windows(ready, windows):
                feature, logit = see(window)
                data.append(feature)
                if logit is not None:
                    logits.append(logit)
                hook(STEP, completed=min(frames_seen / windows.rate, duration_s), total=duration_s)
        hook(STEP, completed=duration_s, total=duration_s)
        padded = frames_seen < windows.window_frames
        width = data.filled.shape[1] // len(backbone.streams)
        return FeatureSequence(
            data=data.filled,
            stream_dims=tuple((name, width) for name in backbone.streams),
            grid=TimeGrid(step_s=windows.step_s, window_s=windows.window_s, count=len(data.filled), duration_s=duration_s),
            logits=logits.filled if backbone.labels else None,
            labels=backbone.labels,
            video=reader.info,
            decoder=reader.decoder,
            notes=(*reader.notes, *([_too_short(duration_s, windows)] if padded else [])),
            padded=padded,
            flow_backend=None if stream is None else stream.backend,
            multi_label=backbone.multi_label,
        )


def _remembering_the_last(backbone: Backbone) -> Callable[[Clip], Rows]:
    """The backbone, which is not asked again about a window like the one before: frozen stretches may last for hours."""
    last: tuple[Clip, Rows] | None = None

    def see(window: Clip) -> Rows:
        nonlocal last
        if last is None or not all(map(np.array_equal, last[0], window)):
            last = window, backbone(*window)
        return last[1]

    return see


def _too_short(duration_s: float, windows: WindowConfig) -> str:
    return (
        f"the video is shorter ({duration_s:.2f} s) than one window of the backbone ({windows.window_s:.2f} s): its "
        f"{'frames were' if windows.short == 'loop' else 'last frame was'} repeated, so take the scores with care"
    )


def cut_into_windows(clips: Iterator[Clip], windows: WindowConfig) -> Iterator[tuple[Clip, int]]:
    """Cut a stream of frames into windows; ``WindowConfig`` says what happens where the stream ends.

    Args:
        clips: the stream in pieces: arrays [n, ...] of the same n frames.
        windows: how it is cut.

    Yields:
        A window, arrays [window_frames, ...], and how many frames of the stream have been seen by then.

    Raises:
        BackboneError: the stream is shorter than a window, and such streams are to be refused.
    """
    held: Clip = ()  # frames from the next window's start on
    seen, skip = 0, 0  # skip: frames to drop where windows are further apart than they are long
    for clip in clips:
        seen += len(clip[0])
        held = tuple(np.concatenate(pair) for pair in zip(held, clip, strict=True)) if held else clip
        dropped = min(skip, len(held[0]))
        held, skip = _from(held, dropped), skip - dropped
        while len(held[0]) >= windows.window_frames:
            yield tuple(array[: windows.window_frames] for array in held), seen - len(held[0]) + windows.window_frames
            dropped = min(windows.stride_frames, len(held[0]))
            held, skip = _from(held, dropped), windows.stride_frames - dropped
    if not seen:
        return
    if seen < windows.window_frames and windows.short == "refuse":
        raise BackboneError(
            f"the video has {seen} frames, fewer than one window of {windows.window_frames}: leave out --short refuse, or "
            "the video"
        )
    windows_complete = 0 if seen < windows.window_frames else 1 + (seen - windows.window_frames) // windows.stride_frames
    if len(held[0]) and windows_complete < windows.count(seen):
        places = np.arange(windows.window_frames)
        again = places % seen if windows.short == "loop" and not windows_complete else np.minimum(places, len(held[0]) - 1)
        yield tuple(array[again] for array in held), seen


def _from(clip: Clip, start: int) -> Clip:
    return tuple(array[start:] for array in clip)


class _Rows:
    """A [T, N] array filled row by row: room for the expected number at once, so that it is never copied to grow."""

    def __init__(self, expected: int) -> None:
        self._expected, self._filled = expected, 0
        self._array: NDArray[np.float32] | None = None

    def append(self, row: NDArray[np.float32]) -> None:
        if self._array is None:
            self._array = np.empty((self._expected, len(row)), np.float32)
        if self._filled == len(self._array):  # more frames than the container promised
            self._array = np.concatenate([self._array, np.empty_like(self._array)])
        self._array[self._filled] = row
        self._filled += 1

    @property
    def filled(self) -> NDArray[np.float32]:
        assert self._array is not None
        return self._array[: self._filled]
