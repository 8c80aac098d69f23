"""What the starter learns from: made video as grey pictures in one array, windows cut out of it, and what is done to those.

The network must know motion, not one look's clothes, places, light and cameras. So whatever may differ between looks is
varied once more here: position, size, side, light, sharpness, noise, moving cameras, things in front, two scenes in one.

Clips are kept at three times the network's frame rate, so that a window may start and be played at finer steps than its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tal_run.eval.annotations import VideoTruth
from tal_run.extractors.files import written_whole
from tal_run.extractors.starter import CROP, PREPROCESSING, WINDOWS
from tal_run.extractors.starter_network import GREY_WEIGHTS
from tal_run.extractors.video import open_video

logger = logging.getLogger(__name__)

OVERSAMPLING = 3  # stored frames a frame of the network
STORED_FPS = OVERSAMPLING * WINDOWS.rate
# Made clips of no more than this have their action in the middle, not from end to end.
CENTRED_S = 2.0
BACKGROUND = -1

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ClipFile:
    """A trimmed clip: where it lies, what it shows (None: no action) and which part of the data set it belongs to."""

    path: Path
    label: str | None
    subset: str


@dataclass(frozen=True)
class Clips:
    """The frames of many clips, end to end.

    Attributes:
        frames: uint8 [N, H, W], grey, ``STORED_FPS`` a second.
        starts: int64 [clips + 1]; clip i is frames[starts[i]:starts[i + 1]].
        classes: int64 [clips], index of the label or ``BACKGROUND``.
    """

    frames: Pixels
    starts: NDArray[np.int64]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    def length(self, clip: int) -> int:
        """Frames of a clip."""
        return int(self.starts[clip + 1] - self.starts[clip])

    def window(self, clip: int, times: NDArray[np.float64]) -> Pixels:
        """Frames of a clip at times [T], counted in stored frames, the first and the last held beyond its ends."""
        nearest = np.clip(np.rint(times).astype(np.int64), 0, self.length(clip) - 1)
        frames: Pixels = self.frames[self.starts[clip] + nearest]
        return frames


@dataclass(frozen=True)
class TimedVideos:
    """Untrimmed videos and what happens in them.

    Attributes:
        frames: of each, in this order; their classes mean nothing.
        truths: instances and ambiguous stretches.
        labels: of the classes, as the truths name them.
    """

    frames: Clips
    truths: Sequence[VideoTruth]
    labels: Sequence[str]


def read_clips(files: Sequence[ClipFile], labels: Sequence[str], *, cache: Path, workers: int = 2) -> Clips:
    """Decode clips once and keep their frames in ``cache``, from where they are mapped, now and the next time.

    Raises:
        VideoError: a clip cannot be read.
        ValueError: a clip has a label that is not among ``labels``.
    """
    index = {label: position for position, label in enumerate(labels)}
    for file in files:
        if file.label is not None and file.label not in index:
            raise ValueError(f"{file.path} is labelled {file.label!r}, which is none of {', '.join(labels)}")
    classes = np.array([BACKGROUND if file.label is None else index[file.label] for file in files], np.int64)
    table = cache.with_suffix(".json")
    stamp: list[list[object]] = [[STORED_FPS, PREPROCESSING.short_side, *CROP, *GREY_WEIGHTS]]
    stamp += [[str(file.path), file.path.stat().st_mtime_ns] for file in files]
    known = json.loads(table.read_text(encoding="utf-8")) if table.is_file() and cache.is_file() else {}
    if known.get("files") != stamp:
        lengths = _decode_all([file.path for file in files], cache, workers=workers)
        known = {"files": stamp, "lengths": lengths}
        with written_whole(table) as part:
            part.write_text(json.dumps(known), encoding="utf-8")
    starts = np.concatenate([[0], np.cumsum(known["lengths"])]).astype(np.int64)
    frames: Pixels = np.memmap(cache, np.uint8, mode="r", shape=(int(starts[-1]), *CROP))
    return Clips(frames, starts, classes)


def _decode_all(paths: Sequence[Path], cache: Path, *, workers: int) -> list[int]:
    """Write the clips' frames to ``cache``, end to end; how many each has."""
    lengths = []
    with written_whole(cache) as part, part.open("wb") as file, ThreadPoolExecutor(workers) as pool:
        # threads suffice, as each reader decodes in a process of its own;
        # a few dozen at a time, so that what is read waits on the disk and not in memory
        for first in range(0, len(paths), 64):
            for frames in pool.map(read_grey, paths[first : first + 64]):
                file.write(frames.tobytes())
                lengths.append(len(frames))
            logger.info("read %d of %d clips", len(lengths), len(paths))
    return lengths


def read_grey(path: Path) -> Pixels:
    """A video as the network's grey pictures, uint8 [N, H, W], ``STORED_FPS`` a second."""
    weights = np.array(GREY_WEIGHTS, np.float32)
    with open_video(path, decoder="pyav") as video:
        chunks = video.frames(fps=STORED_FPS, short_side=PREPROCESSING.short_side, crop=CROP)
        return np.concatenate([np.rint(chunk.frames @ weights).astype(np.uint8) for chunk in chunks])


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is done to windows in training; shares are of the windows. Set by judgement, not tuned.

    Attributes:
        background_share: windows that show no action.
        speed: playing speed, lowest and highest.
        centre_jitter_s: how far from the middle a window of a short clip may be.
        untrimmed_share: windows of untrimmed videos, where there are any: half of them about an action (the classes evenly),
            half anywhere. None is made one with another window.
        untrimmed_speed: playing speed of those, lowest and highest.
        around_s: how far beyond an action's ends the middle of a window about it may lie.
        shown: up to the first share of it (or of the window, if that is shorter) an action is not there, from the second on
            it is.
        boundary_share: windows in which a background clip and an action follow one another.
        mixed_share: windows that show two clips at once.
        zoom: size, smallest and largest.
        shift: how far the picture is moved, as a share of its half sides.
        turn_deg: the most it is turned.
        camera_share: windows with a moving camera added; ``camera`` how far it goes in a window (half sides).
        blurred_share: windows out of focus.
        inverted_share: windows in which dark and light change places: who is darker than the ground must not matter.
        flicker: deviation of each frame's light, as a share of it.
        noise: the most deviation of the noise, in grey levels.
        cover_share: windows with something in front.
    """

    background_share: float = 0.35
    speed: tuple[float, float] = (0.75, 1.33)
    centre_jitter_s: float = 0.16
    untrimmed_share: float = 0.5
    untrimmed_speed: tuple[float, float] = (0.85, 1.18)
    around_s: float = 0.5
    shown: tuple[float, float] = (0.25, 0.75)
    boundary_share: float = 0.1
    mixed_share: float = 0.05
    zoom: tuple[float, float] = (0.7, 1.4)
    shift: float = 0.2
    turn_deg: float = 5.0
    camera_share: float = 0.3
    camera: float = 0.2
    blurred_share: float = 0.2
    inverted_share: float = 0.1
    flicker: float = 0.02
    noise: float = 10.0
    cover_share: float = 0.2


class WindowSampler:
    """Training windows without end: clips drawn evenly over the classes, a window of each, what must be told about it.

    Args:
        clips: trimmed ones.
        classes: how many.
        config: what is done to windows.
        seed: of all that is drawn.
        videos: untrimmed ones; None: there are none.

    Raises:
        ValueError: no clip shows an action, or a video shows one that has no label.
    """

    def __init__(
        self,
        clips: Clips,
        *,
        classes: int,
        config: AugmentConfig,
        seed: int,
        videos: TimedVideos | None = None,
    ) -> None:
        self._clips, self._classes, self._config, self._videos = clips, classes, config, videos
        self._index = {label: index for index, label in enumerate(videos.labels if videos else ())}
        found: dict[str, list[tuple[int, float, float]]] = {label: [] for label in self._index}
        for place, truth in enumerate(videos.truths if videos else ()):
            for instance in truth.instances:
                if instance.label not in found:
                    raise ValueError(f"{truth.video_id} shows {instance.label!r}, which is none of {', '.join(found)}")
                found[instance.label].append((place, instance.start_s, instance.end_s))
        self._instances = [same for same in found.values() if same]
        self._rng = np.random.default_rng([seed, 1])
        members = [np.flatnonzero(clips.classes == index) for index in range(classes)]
        self._members = [clip_indices for clip_indices in members if len(clip_indices)]
        self._background = np.flatnonzero(clips.classes == BACKGROUND)
        if not self._members:
            raise ValueError("there is nothing to learn: no clip shows an action")

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Grey windows, float [B, T, H, W] in 0..255, and how much of each class they show, float [B, K] in 0..1."""
        windows, targets = zip(*(self.example() for _ in range(size)), strict=True)
        varied = [augment(window, self._config, rng=self._rng) for window in windows]
        return torch.from_numpy(np.stack(varied)), torch.from_numpy(np.stack(targets))

    def example(self) -> tuple[Pixels, NDArray[np.float32]]:
        """One window as it is before it is varied, [T, H, W], and its target [K]."""
        rng, config = self._rng, self._config
        if self._videos and rng.random() < config.untrimmed_share and (moment := self._moment(self._videos)):
            return moment
        draw = rng.random()
        frames, target = self._window(self._some_clip())
        if draw < config.boundary_share and len(self._background):
            before, _ = self._window(int(rng.choice(self._background)))
            share = rng.uniform(0.15, 0.85)
            cut = round(len(frames) * share)  # frames of background
            parts = (before[:cut], frames[cut:]) if rng.random() < 0.5 else (frames[:-cut], before[-cut:])
            return np.concatenate(parts), target * np.float32(1 - cut / len(frames))
        if draw < config.boundary_share + config.mixed_share:
            other, other_target = self._window(self._some_clip())
            weight = rng.uniform(0.35, 0.65)
            return cv2.addWeighted(frames, weight, other, 1 - weight, 0).astype(np.uint8), np.maximum(target, other_target)
        return frames, target

    def _moment(self, videos: TimedVideos) -> tuple[Pixels, NDArray[np.float32]] | None:
        """A window of an untrimmed video and its target [K]; None if nobody could tell what it shows."""
        rng, config = self._rng, self._config
        speed = float(np.exp(rng.uniform(*np.log(config.untrimmed_speed))))
        window_s = WINDOWS.window_s * speed
        if self._instances and rng.random() < 0.5:
            same = self._instances[rng.integers(len(self._instances))]
            place, start_s, end_s = same[rng.integers(len(same))]
            middle_s = rng.uniform(start_s - config.around_s, end_s + config.around_s)
        else:
            place = int(rng.integers(len(videos.truths)))
            middle_s = rng.uniform(0, videos.frames.length(place) / STORED_FPS)
        truth = videos.truths[place]
        latest_s = max(0.0, videos.frames.length(place) / STORED_FPS - window_s)
        first_s = min(max(0.0, middle_s - window_s / 2), latest_s)
        last_s = first_s + window_s
        if any(stretch.start_s < last_s and stretch.end_s > first_s for stretch in truth.ambiguous):
            return None
        target = np.zeros(self._classes, np.float32)
        not_yet, whole = config.shown
        for instance in truth.instances:
            common_s = min(last_s, instance.end_s) - max(first_s, instance.start_s)
            share = common_s / min(window_s, instance.end_s - instance.start_s)
            index = self._index[instance.label]
            target[index] = max(target[index], min(1.0, max(0.0, (share - not_yet) / (whole - not_yet))))
        times = STORED_FPS * first_s + OVERSAMPLING * speed * np.arange(WINDOWS.window_frames, dtype=np.float64)
        return videos.frames.window(place, times), target

    def _some_clip(self) -> int:
        if len(self._background) and self._rng.random() < self._config.background_share:
            return int(self._rng.choice(self._background))
        return int(self._rng.choice(self._members[self._rng.integers(len(self._members))]))

    def _window(self, clip: int) -> tuple[Pixels, NDArray[np.float32]]:
        """A window of a clip and its target [K]."""
        rng, length = self._rng, self._clips.length(clip)
        fastest = max(1.0, (length - 1) / (OVERSAMPLING * (WINDOWS.window_frames - 1)))  # that the clip suffices for
        speed = min(float(np.exp(rng.uniform(*np.log(self._config.speed)))), fastest)
        times = OVERSAMPLING * speed * np.arange(WINDOWS.window_frames)
        room = length - 1 - times[-1]
        if length <= CENTRED_S * STORED_FPS + 1:
            start = room / 2 + rng.uniform(-1, 1) * self._config.centre_jitter_s * STORED_FPS
        else:
            start = rng.uniform(min(0.0, room), max(0.0, room))
        target = np.zeros(self._classes, np.float32)
        if self._clips.classes[clip] != BACKGROUND:
            target[self._clips.classes[clip]] = 1
        return self._clips.window(clip, start + times), target


def centre_windows(clips: Clips, clip: int, *, stride_frames: int = WINDOWS.stride_frames) -> Pixels:
    """Windows of a clip, uint8 [W, T, H, W]: every ``stride_frames``, of a short one the middle."""
    times = OVERSAMPLING * np.arange(WINDOWS.window_frames, dtype=np.float64)
    room = clips.length(clip) - 1 - times[-1]
    starts = np.arange(0, room + 1e-6, OVERSAMPLING * stride_frames)
    if clips.length(clip) <= CENTRED_S * STORED_FPS + 1 or not len(starts):
        starts = np.array([room / 2])
    return np.stack([clips.window(clip, start + times) for start in starts])


def augment(window: Pixels, config: AugmentConfig, *, rng: np.random.Generator) -> NDArray[np.float32]:
    """A window, uint8 [T, H, W], as another camera, in another light, might have taken it; in 0..255."""
    seen = _move_camera(window, config, rng)
    _cover(seen, config, rng)
    if rng.random() < config.blurred_share:
        seen = np.stack([cv2.blur(frame, (3, 3)) for frame in seen])
    curve = (np.arange(256, dtype=np.float32) / 255) ** np.float32(np.exp2(rng.uniform(-0.8, 0.8)))
    if rng.random() < config.inverted_share:
        curve = 1 - curve
    flicker = 1 + config.flicker * rng.standard_normal((len(seen), 1, 1), dtype=np.float32)
    varied: NDArray[np.float32] = (255 * curve)[seen] * flicker
    varied += _noise(seen.shape, rng) * np.float32(rng.uniform(0, config.noise))
    return np.clip(varied, 0, 255, out=varied)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Normal noise; each frame is another stretch of one long row, which takes a tenth of the time of drawing all."""
    size = int(np.prod(shape[1:]))
    row = rng.standard_normal(2 * size, dtype=np.float32)
    return np.stack([row[start : start + size] for start in rng.integers(0, size, shape[0])]).reshape(shape)


def _move_camera(window: Pixels, config: AugmentConfig, rng: np.random.Generator) -> Pixels:
    """Mirror, zoom, turn and shift a window; now and then, go on doing so from frame to frame."""
    frames, height, width = window.shape
    pace = np.linspace(-0.5, 0.5, frames) * (rng.random() < config.camera_share)  # [T]
    zoom = np.exp(-rng.uniform(*np.log(config.zoom)) + pace * rng.uniform(-0.2, 0.2))
    turn = np.deg2rad(rng.uniform(-config.turn_deg, config.turn_deg))
    side = rng.choice([-1.0, 1.0])
    # in half sides of the picture
    across = rng.uniform(-config.shift, config.shift) + pace * rng.uniform(-config.camera, config.camera)
    along = 0.6 * rng.uniform(-config.shift, config.shift) + 0.5 * pace * rng.uniform(-config.camera, config.camera)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.diag([side, 1.0])
    middle = np.array([width - 1, height - 1]) / 2
    moved = np.empty_like(window)
    for index, frame in enumerate(window):
        linear = zoom[index] * turned
        start = middle + np.array([across[index] * width, along[index] * height]) / 2 - linear @ middle
        cv2.warpAffine(
            frame,
            np.column_stack([linear, start]),  # from the new picture's places to the old one's
            (width, height),
            dst=moved[index],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
    return moved


def _cover(window: Pixels, config: AugmentConfig, rng: np.random.Generator) -> None:
    """Put a plain rectangle, which stands still, in front of some windows."""
    if rng.random() >= config.cover_share:
        return
    size = rng.uniform(0.08, 0.35, 2)  # of the picture's height and width
    corner = rng.random(2) * (1 - size)
    (top, left), (bottom, right) = (np.array([place * window.shape[1:] for place in (corner, corner + size)])).astype(int)
    window[:, top:bottom, left:right] = rng.integers(256)


def describe(config: Any) -> dict[str, Any]:
    """A configuration as JSON has it."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(config).items()}
