"""Videos whose every frame says which one it is: its index is drawn into the picture as sixteen black/white squares.

The oracle of the video tests. A frame's true time is chosen here, written into the file, and the index read back from
the decoded pixels tells which frame was on screen, whatever the codec, the container, the scaling and the rotation did.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
ROWS, COLUMNS = 4, 4
# x265 has races in its thread pool and reads unset memory in its assembly (helgrind and memcheck name both; neither is
# left with these two), and has crashed the process on small pictures.
X265_QUIET = "log-level=none:pools=none:asm=0"


def draw_index(index: int, *, width: int, height: int) -> Pixels:
    """Grey picture [height, width] that shows `index` (16 bits, most significant first) as a 4 × 4 board."""
    bits = np.array([(index >> bit) & 1 for bit in range(ROWS * COLUMNS - 1, -1, -1)], np.uint8).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    return np.where(bits[rows][:, columns] > 0, np.uint8(235), np.uint8(16))


def read_index(frame: Pixels) -> int:
    """The index shown in an RGB frame [H, W, 3] of any size that shows the whole board."""
    height, width, _ = frame.shape
    rows = (np.arange(ROWS) * 2 + 1) * height // (2 * ROWS)
    columns = (np.arange(COLUMNS) * 2 + 1) * width // (2 * COLUMNS)
    value = 0
    for bit in (frame[rows][:, columns].mean(axis=2) > 127).ravel():
        value = value * 2 + int(bit)
    return value


def rotate_for_storage(picture: Pixels, rotation_deg: int) -> Pixels:
    """What must be stored so that turning it clockwise by `rotation_deg` shows `picture`."""
    return np.rot90(picture, k=rotation_deg // 90)  # rot90 turns counter-clockwise


def frame_times(
    *,
    frame_count: int = 50,
    rate: Fraction | int = 25,
    times: Sequence[Fraction] | None = None,
    start: Fraction | int = 0,
    **_: object,
) -> list[Fraction]:
    """When the frames of `make_video` with the same arguments start, in seconds."""
    if times is None:
        times = [index / Fraction(rate) for index in range(frame_count)]
    return [time + start for time in times]


def make_video(
    path: Path,
    *,
    frame_count: int = 50,
    rate: Fraction | int = 25,
    times: Sequence[Fraction] | None = None,
    start: Fraction | int = 0,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    b_frames: int = 0,
    gop: int = 12,
    time_base: Fraction | None = None,
    rotation_deg: int = 0,
    pixel_aspect: Fraction | None = None,
    audio_start: Fraction | int | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> list[Fraction]:
    """Write a video at `path`; returns the frames' true times in seconds, counted as the muxer was told them.

    `size` is (width, height) as displayed before pixel aspect; `rotation_deg` the clockwise turn a player must make.
    `times` overrides `rate` and `frame_count`.
    """
    rate = Fraction(rate)
    times = frame_times(frame_count=frame_count, rate=rate, times=times, start=start)
    tick = time_base or 1 / rate
    width, height = size
    stored = draw_index(0, width=width, height=height)
    stored_height, stored_width = rotate_for_storage(stored, rotation_deg).shape

    with av.open(str(path), "w", format=container_format, container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = stored_width, stored_height, pixel_format
        stream.time_base = tick
        context = stream.codec_context
        context.time_base = tick
        context.gop_size = gop
        context.max_b_frames = b_frames
        context.thread_count = 1
        if pixel_aspect is not None:
            context.sample_aspect_ratio = pixel_aspect
        context.options = {
            **({"bf": str(b_frames), "preset": "ultrafast"} if codec == "libx264" else {}),
            **({"x265-params": f"{X265_QUIET}:bframes={b_frames}"} if codec == "libx265" else {}),
            **(options or {}),
        }
        if rotation_deg:
            stream.set_display_rotation(-rotation_deg)  # FFmpeg counts counter-clockwise
        if audio_start is not None:
            sound = container.add_stream("pcm_s16le" if path.suffix == ".avi" else "aac", rate=48000)
            sound.layout = "mono"
        for index, time in enumerate(times):
            picture = rotate_for_storage(draw_index(index, width=width, height=height), rotation_deg)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray").reformat(
                format=pixel_format, src_color_range="JPEG", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = round(time / tick), tick
            container.mux(stream.encode(frame))
        if audio_start is not None:
            _write_silence(container, sound, start=Fraction(audio_start), seconds=times[-1] - times[0])
        container.mux(stream.encode(None))
    return times


def _write_silence(
    container: av.container.OutputContainer, stream: av.AudioStream, *, start: Fraction, seconds: Fraction
) -> None:
    first = round(start * 48000)
    for offset in range(0, max(1024, int(seconds * 48000)), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, first + offset, Fraction(1, 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
