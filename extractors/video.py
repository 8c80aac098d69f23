"""Reading video: a file becomes frames with their true times.

```python
with open_video("match.mp4") as video:
    for chunk in video.frames(fps=5, short_side=172, crop=(172, 172)):
        chunk.frames   # uint8 [n, 172, 172, 3]
        chunk.times_s  # float64 [n], k / 5
```

**Time.** t = 0 is where the earliest of sound and pictures starts, as in players. The sample k shows what is on screen
at k / fps: the last frame whose timestamp is not later (`tal_run.extractors.sampling`). Frames come as displayed:
turned, with square pixels.

**Processes.** FFmpeg and decord are large C programs that are fed with other people's bytes. They run in a child process
(`tal_run.extractors.decoder`) that can be bounded and killed: one bad file costs one sentence and a bounded time.

**decord or PyAV.** decord 0.6 finds frames by their number in the file's index and returns wrong ones where it errs about
where decoding must start. With pictures that show their own index, read in full, in strides and backwards:

- right, always: MP4 and Matroska (H.264, HEVC, MPEG-4, VP9; 23.976 to 50 fps, constant or variable rate, start at 0 or
  not) as long as frames are stored in the order in which they are shown;
- wrong: H.264 with B-frames and open groups of pictures (a stride of 5 gave 42 for 40), HEVC with B-frames (38 for
  37), AVI with B-frames, MPEG-TS with B-frames (the first eight frames missing), edit lists (it counts what they hide).

So it is trusted with MP4 and Matroska, whole, no B-frames, no edit list; with a constant rate, to be careful; not turned.
It is also slower than PyAV, which need not decode what nobody refers to, except where samples are so sparse that
decord's seeking wins. CPU seconds for 320 × 240 H.264 without B-frames, short side 172, centre crop, one thread::

    samples per second    0.1   1     5     25          (120 s of video, a keyframe every 10 s)
    PyAV                  1.0   1.0   1.2   2.3
    decord                0.3   1.2   1.8   4.2

Hence ``auto``: decord where it is trusted and the samples are a second apart or more, PyAV otherwise, and PyAV from the
sample on at which decord fails, hangs or crashes.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from .decoder_process import COMMAND, DecoderFailure, DecoderProcess
from .display import Orientation, Size, displayed_size, resized
from .sampling import as_rate
from .video_errors import CAUSES, VideoError, check_file
from .wire import MAX_NOTES, JSONObject, printable

__all__ = ["DecodeLimits", "FrameChunk", "Video", "VideoError", "VideoInfo", "open_video", "probe"]

logger = logging.getLogger(__name__)

MAX_FPS = 10_000
# With samples closer together decord is the slower one (see above).
SPARSE_INTERVAL_S = 1
RATE_TOLERANCE = 2e-4  # 29.97 is 1e-3 from 30
T = TypeVar("T")


@dataclass(frozen=True)
class DecodeLimits:
    """What one file may cost."""

    stall_s: float = 30.0  # without a sign of life from the decoder
    memory_bytes: int = 8 << 30  # of address space in the decoder process
    max_pixels: int = 8192 * 8192  # of one stored picture
    max_duration_s: float = 7 * 24 * 3600.0  # longer ones have broken timestamps
    max_stay_s: float = 3600.0  # of one frame on screen, where the others' is less than a hundredth of it
    chunk_frames: int = 32
    chunk_bytes: int = 32 << 20  # a chunk has one frame at least, however large
    threads: int = 0  # of the decoder; 0: one for small pictures, up to four for large ones


@dataclass(frozen=True)
class VideoInfo:
    """What a file really holds, from its packets."""

    path: Path
    container: str  # FFmpeg's name for the format
    codec: str
    pixel_format: str
    width: int  # as displayed: square pixels, turned
    height: int
    stored_size: Size
    rotation_deg: int  # clockwise, 0, 90, 180 or 270
    pixel_aspect: Fraction  # width / height of a stored pixel
    duration_s: float  # from t = 0 to the end of the last frame
    frame_count: int  # that are there and are displayed
    frame_rate: float  # average, per second
    is_variable_rate: bool
    has_reordering: bool  # B-frames: stored in another order than shown
    discarded_count: int  # frames that an edit list hides
    is_damaged: bool
    notes: tuple[str, ...] = ()  # sentences on what is unusual or broken


@dataclass(frozen=True, eq=False)
class FrameChunk:
    """Consecutive samples: frames uint8 [n, H, W, 3] RGB, times_s float64 [n], exactly k / fps from k = first_index."""

    frames: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    first_index: int

    def __len__(self) -> int:
        return len(self.frames)


def open_video(
    path: str | os.PathLike[str],
    *,
    decoder: str = "auto",
    limits: DecodeLimits | None = None,
    _command: Sequence[str] = COMMAND,
) -> Video:
    """Probe a local video file and make it ready to be read. Use it as a context manager.

    Raises:
        VideoError: it is not a video that can be read.
        ValueError: there is no such decoder.
    """
    if decoder not in ("auto", "decord", "pyav"):
        raise ValueError(f"there is no decoder {decoder!r}; choose auto, decord or pyav")
    return Video(path, decoder=decoder, limits=limits or DecodeLimits(), command=_command)


def probe(path: str | os.PathLike[str], *, limits: DecodeLimits | None = None) -> VideoInfo:
    """What the file holds.

    Raises:
        VideoError: it is not a video that can be read.
    """
    with open_video(path, limits=limits) as video:
        return video.info


def native_rate(info: VideoInfo) -> float:
    """Frames a second at which each of a video's frames is sampled once, as far as their times are even.

    A container's times are rounded, so the usual rates, whole numbers and those times 1000 / 1001, are taken to be meant by
    what is within 0.02 % of them.
    """
    usual = (Fraction(round(info.frame_rate)), Fraction(round(info.frame_rate * 1.001) * 1000, 1001))
    nearest = min(usual, key=lambda rate: abs(rate - Fraction(info.frame_rate)))
    if nearest and abs(float(nearest) - info.frame_rate) <= RATE_TOLERANCE * info.frame_rate:
        return float(nearest)
    return info.frame_rate


def why_not_decord(info: VideoInfo) -> str | None:
    """Why decord cannot be trusted with this file; None where it can."""
    distrust = {
        "decord is not installed": importlib.util.find_spec("decord") is None,
        f"decord is not trusted with {info.container}": not {"mp4", "matroska"} & set(info.container.split(",")),
        "frames are stored out of order (B-frames)": info.has_reordering,
        "the frame rate varies": info.is_variable_rate,
        "an edit list hides frames": bool(info.discarded_count),
        "the picture is turned": bool(info.rotation_deg),
        "the file is damaged": info.is_damaged,
    }
    return next((reason for reason, holds in distrust.items() if holds), None)


class Video:
    """An open video. `info` says what it holds, `notes` what is or went wrong.

    `decoder` is the library in use, decord or pyav; `frames` chooses it.

    Not for several threads at once, but for `stop`.
    """

    def __init__(self, path: str | os.PathLike[str], *, decoder: str, limits: DecodeLimits, command: Sequence[str]) -> None:
        self._path = check_file(path)
        self._shown = printable(os.fspath(path))
        self._limits = limits
        self._command = command
        self._processes: list[DecoderProcess] = []
        self._idle: DecoderProcess | None = None
        self._is_closed = False
        try:
            self._idle = self._start()
            self.info, self._orientation = self._ask_probe(self._idle)
        except DecoderFailure as failure:
            self.close()
            raise self._error(failure) from failure
        except BaseException:
            self.close()
            raise
        self.notes: list[str] = list(self.info.notes)
        self._demanded = decoder
        self.decoder: Literal["decord", "pyav"] = "decord" if decoder == "decord" else "pyav"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stop(self) -> None:
        """End the decoder from any thread: one that waits for frames gets an error. `close` is still due."""
        self._is_closed = True
        for process in tuple(self._processes):
            process.kill()

    def close(self) -> None:
        """End the decoder at once; no frames come any more."""
        self._is_closed = True
        self._idle = None
        while self._processes:
            self._processes.pop().close()

    def frames(
        self,
        *,
        fps: float | Fraction,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        crop: tuple[int, int] | None = None,
        interpolation: Literal["swscale", "opencv"] = "swscale",
    ) -> Iterator[FrameChunk]:
        """What is on screen at 0, 1 / fps, 2 / fps, … to the end, in bounded chunks, decoded as they are asked for.

        `short_side`: scale so that the shorter displayed side has that many pixels, or `size`: to that height and width;
        `crop`: then cut out the middle (height, width). `interpolation`: FFmpeg's bilinear, which smooths where it shrinks,
        or OpenCV's INTER_LINEAR, which does not.

        Where the file is damaged the last good frame is held; where decoding ends early the frames end early; both are
        said in `notes`.

        Raises:
            ValueError: arguments that fit no video, or not this one.
            VideoError: the pictures are too narrow for a short side of that length.
            VideoError: (while iterating) the decoder hung, crashed or ran out of memory, and no other is left.
        """
        rate = as_rate(fps)
        if rate > MAX_FPS:
            raise ValueError(f"fps must be at most {MAX_FPS}, not {fps}")
        if short_side is not None and not 1 <= short_side <= math.isqrt(self._limits.max_pixels):
            raise ValueError(f"short_side must be from 1 to {math.isqrt(self._limits.max_pixels)}, not {short_side}")
        if interpolation not in ("swscale", "opencv"):
            raise ValueError(f"there is no interpolation {interpolation!r}; choose swscale or opencv")
        if size is not None and (short_side is not None or min(size) < 1):
            raise ValueError(f"size must be (height, width) from 1, and without short_side, not {size}")
        shown = resized(Size(self.info.width, self.info.height), short_side=short_side)
        if size is not None:
            shown = Size(size[1], size[0])
        if shown.width * shown.height > self._limits.max_pixels:
            if short_side is not None:
                raise VideoError(
                    f"{self._shown} has pictures of {self.info.width} x {self.info.height} pixels, too narrow to be scaled to "
                    f"a short side of {short_side}; cut out what matters, or convert it with "
                    "`ffmpeg -i IN -vf scale=320:240 OUT.mp4`"
                )
            raise ValueError(f"frames of {shown.width} x {shown.height} are larger than {self._limits.max_pixels:,} pixels")
        if crop is not None:
            height, width = crop
            if not (1 <= height <= shown.height and 1 <= width <= shown.width):
                raise ValueError(f"crop {crop} (height, width) does not fit in {shown.height} x {shown.width}")
            shown = Size(width, height)
        request: JSONObject = {
            "command": "frames",
            "rate": [rate.numerator, rate.denominator],
            "short_side": short_side,
            "size": size,
            "crop": crop,
            "interpolation": interpolation,
            "chunk_frames": self._limits.chunk_frames,
            "chunk_bytes": self._limits.chunk_bytes,
            "threads": self._limits.threads,
        }
        self._choose(rate)
        return self._stream(request, rate, shown)

    def _stream(self, request: JSONObject, rate: Fraction, size: Size) -> Iterator[FrameChunk]:
        next_index = 0
        while True:
            try:
                for chunk in self._attempt({**request, "first_index": next_index}, rate, size):
                    next_index += len(chunk)
                    yield chunk
            except DecoderFailure as failure:
                if self.decoder != "decord":
                    raise self._error(failure, at_s=float(next_index / rate)) from failure
                logger.warning(
                    "%s: decord failed at %.2f s (%s), going on with PyAV",
                    self._shown,
                    next_index / rate,
                    failure.detail,
                )
                self.decoder = "pyav"
            else:
                return

    def _attempt(self, request: JSONObject, rate: Fraction, size: Size) -> Iterator[FrameChunk]:
        """Chunks from one child. It is kept for a second reading, unless this one is left before its end."""
        process, self._idle = self._idle, None
        next_index: int = request["first_index"]
        count_limit = math.ceil(self.info.duration_s * rate) + 1
        try:
            if self._is_closed:
                raise VideoError(f"{self._shown} was closed; read its frames before leaving open_video")
            if process is None:
                process = self._start()
                info, _ = self._ask_probe(process)
                if info != self.info:
                    raise DecoderFailure("changed", f"{info.frame_count} frames instead of {self.info.frame_count}")
            process.ask({**request, "decoder": self.decoder})
            while True:
                header, payload_bytes = process.reply("frames", "end")
                if header["kind"] == "end":
                    break
                frames = self._receive(process, header, payload_bytes, size, next_index, count_limit)
                yield FrameChunk(frames, _times_s(next_index, len(frames), rate), next_index)
                next_index += len(frames)
            self.notes += [note for note in _notes(header) if note not in self.notes]
            if not next_index:
                raise DecoderFailure("no_frames", "decoding ended before the first frame")
            self._idle, process = process, None
        finally:
            if process is not None:
                process.close()
                if process in self._processes:
                    self._processes.remove(process)

    def _receive(
        self, process: DecoderProcess, header: JSONObject, payload_bytes: int, size: Size, next_index: int, limit: int
    ) -> NDArray[np.uint8]:
        """The frames of one chunk, if they are what was asked for: a child may be owned by the file it reads."""
        count = _get(header, "count", int)
        expected = {"height": size.height, "width": size.width, "first_index": next_index}
        is_expected = all(header.get(key) == value for key, value in expected.items())
        frame_bytes = size.height * size.width * 3
        most = max(1, min(self._limits.chunk_frames, self._limits.chunk_bytes // frame_bytes))
        if not is_expected or not 1 <= count <= min(most, limit - next_index) or payload_bytes != count * frame_bytes:
            raise DecoderFailure("nonsense", "frames that nobody asked for")
        frames = np.empty((count, size.height, size.width, 3), np.uint8)
        process.read_into(frames)
        return frames

    def _start(self) -> DecoderProcess:
        process = DecoderProcess(stall_s=self._limits.stall_s, command=self._command)
        self._processes.append(process)
        return process

    def _ask_probe(self, process: DecoderProcess) -> tuple[VideoInfo, Orientation]:
        process.ask(
            {
                "command": "probe",
                "path": str(self._path),
                "max_pixels": self._limits.max_pixels,
                "max_stay_s": self._limits.max_stay_s,
                "memory_bytes": self._limits.memory_bytes,
            }
        )
        message, _ = process.reply("probe")
        info, orientation = _as_info(message, self._path, self._limits)
        if info.duration_s > self._limits.max_duration_s:
            raise DecoderFailure("too_long", f"{info.duration_s / 3600:.0f} h")
        return info, orientation

    def _choose(self, rate: Fraction) -> None:
        distrust = why_not_decord(self.info)
        if self._demanded == "auto":
            is_dense = rate * SPARSE_INTERVAL_S > 1
            self.decoder = "pyav" if distrust or is_dense else "decord"
            reason = distrust or ("decord is slower at this rate" if is_dense else "decord can be trusted with it")
        else:
            self.decoder = "decord" if self._demanded == "decord" else "pyav"
            reason = "as demanded"
            if distrust and self.decoder == "decord":
                logger.warning("%s: decord was demanded, but %s", self._shown, distrust)
        logger.info("%s: decoder %s: %s", self._shown, self.decoder, reason)

    def _error(self, failure: DecoderFailure, *, at_s: float = 0.0) -> VideoError:
        cause = failure.cause if failure.cause in CAUSES else "nonsense"
        text = CAUSES[cause].format(
            detail=failure.detail or failure.cause,
            max_pixels=self._limits.max_pixels,
            max_stay_s=self._limits.max_stay_s,
            max_hours=self._limits.max_duration_s / 3600,
            memory_gib=self._limits.memory_bytes / 2**30,
            python=sys.executable,
        )
        return VideoError(f"{self._shown} {text}" if not at_s else f"at {at_s:.2f} s {self._shown} {text}")


def _times_s(first_index: int, count: int, rate: Fraction) -> NDArray[np.float64]:
    """K / rate for `count` k, each correctly rounded."""
    # Python's integers: numerators of odd rates are large
    return np.array([k * rate.denominator / rate.numerator for k in range(first_index, first_index + count)], np.float64)


def _get(message: JSONObject, key: str, kind: type[T]) -> T:
    value: Any = message.get(key)
    if type(value) is not kind:
        raise DecoderFailure("nonsense", f"a message without {key}")
    return value


def _fraction(message: JSONObject, key: str) -> Fraction:
    pair = _get(message, key, list)
    if len(pair) != 2 or any(type(part) is not int for part in pair) or pair[1] <= 0:
        raise DecoderFailure("nonsense", f"a {key} that is no fraction")
    return Fraction(*pair)


def _notes(message: JSONObject) -> tuple[str, ...]:
    return tuple(printable(note) for note in _get(message, "notes", list)[:MAX_NOTES])


def _as_info(message: JSONObject, path: Path, limits: DecodeLimits) -> tuple[VideoInfo, Orientation]:
    """The child's answer, checked."""
    stored, turned = _get(message, "stored", list), _get(message, "orientation", list)
    pixel_aspect, duration_s = _fraction(message, "pixel_aspect"), _fraction(message, "duration")
    frame_count, frame_rate = _get(message, "frame_count", int), _get(message, "frame_rate", float)
    if (
        [type(part) for part in stored] != [int, int]
        or min(stored) < 1
        or stored[0] * stored[1] > limits.max_pixels
        or [type(part) for part in turned] != [bool, bool, bool]
        or not Fraction(1, 10) <= pixel_aspect <= 10
        or not 0 < duration_s < 2**128
        or frame_count < 1
        or not 0 < frame_rate < math.inf
    ):
        raise DecoderFailure("nonsense", "a description that fits no video")
    orientation = Orientation(*turned)
    size = displayed_size(Size(*stored), pixel_aspect=pixel_aspect, orientation=orientation)
    info = VideoInfo(
        path=path,
        container=printable(_get(message, "container", str)),
        codec=printable(_get(message, "codec", str)),
        pixel_format=printable(_get(message, "pixel_format", str)),
        width=size.width,
        height=size.height,
        stored_size=Size(*stored),
        rotation_deg=orientation.rotation_deg,
        pixel_aspect=pixel_aspect,
        duration_s=float(duration_s),
        frame_count=frame_count,
        frame_rate=frame_rate,
        is_variable_rate=_get(message, "is_variable_rate", bool),
        has_reordering=_get(message, "has_reordering", bool),
        discarded_count=_get(message, "discarded", int),
        is_damaged=_get(message, "is_damaged", bool),
        notes=_notes(message),
    )
    return info, orientation
