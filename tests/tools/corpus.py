"""Sound little videos to be damaged: each container with each codec that PyAV can write into it, about a second each.

What is drawn on them are frames of the real video that comes with tal-run; streams are also put into containers that do not
expect them, and their timestamps scrambled by a muxer that does as it is told.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).parents[2]
REAL = ROOT / "pipeline" / "data" / "athletics.mp4"
FRAMES, RATE = 25, 25
QUIET_X265 = "log-level=none:pools=none:asm=0"  # as in video_factory: its threads and assembly read unset memory

# name -> (format, codec, more)
MADE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mp4-h264": ("mp4", "libx264", {"b_frames": 2}),
    "mp4-h264-plain": ("mp4", "libx264", {}),
    "mp4-h264-fast": ("mp4", "libx264", {"container": {"movflags": "faststart"}}),
    "mp4-h264-fragments": ("mp4", "libx264", {"container": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}),
    "mp4-h264-sound": ("mp4", "libx264", {"sound": "aac", "b_frames": 2}),
    "mp4-h264-turned": ("mp4", "libx264", {"rotation_deg": 90}),
    "mp4-h264-late": ("mp4", "libx264", {"b_frames": 2, "first_tick": 12}),
    "mp4-h264-444-10": ("mp4", "libx264", {"pixels": "yuv444p10le"}),
    "mp4-h264-large": ("mp4", "libx264", {"size": (320, 240)}),
    "mp4-hevc": ("mp4", "libx265", {"b_frames": 2}),
    "mp4-mpeg4": ("mp4", "mpeg4", {"b_frames": 2}),
    "mp4-vp9": ("mp4", "libvpx-vp9", {}),
    "mp4-av1": ("mp4", "libsvtav1", {}),
    "mp4-mjpeg": ("mp4", "mjpeg", {"pixels": "yuvj420p"}),
    "mp4-mpeg2": ("mp4", "mpeg2video", {}),
    "mov-h264": ("mov", "libx264", {"b_frames": 2, "sound": "pcm_s16le"}),
    "mov-prores": ("mov", "prores_ks", {"pixels": "yuv422p10le"}),
    "mov-mjpeg": ("mov", "mjpeg", {"pixels": "yuvj420p"}),
    "mov-qtrle": ("mov", "qtrle", {"pixels": "rgb24"}),
    "mov-png": ("mov", "png", {"pixels": "rgb24"}),
    "mkv-h264": ("matroska", "libx264", {"b_frames": 2, "sound": "aac"}),
    "mkv-hevc": ("matroska", "libx265", {}),
    "mkv-vp9": ("matroska", "libvpx-vp9", {}),
    "mkv-av1": ("matroska", "libsvtav1", {}),
    "mkv-mpeg4": ("matroska", "mpeg4", {"b_frames": 2}),
    "mkv-mjpeg": ("matroska", "mjpeg", {"pixels": "yuvj420p"}),
    "mkv-ffv1": ("matroska", "ffv1", {}),
    "mkv-raw": ("matroska", "rawvideo", {"size": (32, 24)}),
    "webm-vp8": ("webm", "libvpx", {}),
    "webm-vp9": ("webm", "libvpx-vp9", {"sound": "libopus"}),
    "webm-av1": ("webm", "libsvtav1", {}),
    "avi-mpeg4": ("avi", "mpeg4", {"b_frames": 2, "sound": "pcm_s16le"}),
    "avi-mjpeg": ("avi", "mjpeg", {"pixels": "yuvj420p"}),
    "avi-h264": ("avi", "libx264", {"b_frames": 2}),
    "avi-msmpeg4": ("avi", "msmpeg4v3", {}),
    "avi-huffyuv": ("avi", "huffyuv", {"pixels": "yuv422p", "size": (32, 24)}),
    "avi-cinepak": ("avi", "cinepak", {"pixels": "rgb24", "frames": 5}),
    "ts-h264": ("mpegts", "libx264", {"b_frames": 2, "sound": "aac"}),
    "ts-hevc": ("mpegts", "libx265", {}),
    "ts-mpeg2": ("mpegts", "mpeg2video", {"b_frames": 2}),
    "ts-mpeg4": ("mpegts", "mpeg4", {}),
    "ps-mpeg1": ("mpeg", "mpeg1video", {}),
    "flv-h264": ("flv", "libx264", {}),
    "flv-flv1": ("flv", "flv", {}),
    "asf-wmv2": ("asf", "wmv2", {}),
    "nut-ffv1": ("nut", "ffv1", {}),
    "mxf-mpeg2": ("mxf", "mpeg2video", {}),
    "ivf-vp9": ("ivf", "libvpx-vp9", {}),
    "gif": ("gif", "gif", {"pixels": "rgb8"}),
    "raw-h264": ("h264", "libx264", {"b_frames": 2}),
    "raw-hevc": ("hevc", "libx265", {}),
    "raw-m4v": ("m4v", "mpeg4", {}),
    "raw-mjpeg": ("mjpeg", "mjpeg", {"pixels": "yuvj420p"}),
    "3gp-h263": ("3gp", "h263", {"size": (128, 96)}),
}
# streams where nobody looks for them: what is copied -> into what
COPIES = (
    *(("mp4-vp9", "avi"), ("mp4-h264", "asf"), ("mp4-hevc", "matroska"), ("mkv-vp9", "mp4"), ("mp4-mjpeg", "mpegts")),
    *(("mkv-mpeg4", "mov"), ("avi-mpeg4", "matroska"), ("mp4-av1", "avi"), ("ts-h264", "flv"), ("mkv-ffv1", "avi")),
    *(("webm-vp8", "nut"), ("mp4-hevc", "mpegts"), ("mp4-h264", "avi"), ("avi-msmpeg4", "matroska"), ("ts-mpeg2", "mp4")),
)
SCRAMBLED = ("mp4-h264", "mp4-vp9", "mkv-h264", "mkv-vp9", "avi-mpeg4", "ts-h264", "webm-vp8", "nut-ffv1", "mp4-mjpeg")
ENDINGS = {
    "matroska": ".mkv",
    "mpegts": ".ts",
    "mpeg": ".mpg",
    "asf": ".wmv",
    "m4v": ".m4v",
    "3gp": ".mp4",
}
VIDEO_FORMATS = frozenset({"mp4", "mov", "webm", "avi", "flv"})


def corpus(*, clips: Path | None = None) -> dict[str, tuple[bytes, str]]:
    """Sound videos by name: content, and the ending that a file of it has.

    Args:
        clips: a folder of real clips, whose small ones are taken in too.
    """
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    pictures = [frame.to_ndarray(format="rgb24") for frame in _frames(REAL)]
    videos = {
        name: (made(pictures, form, codec, **more), ENDINGS.get(form, f".{form}" if form in VIDEO_FORMATS else ".mp4"))
        for name, (form, codec, more) in MADE.items()
    }
    for name, form in COPIES:
        if copy := copied(videos[name][0], form):
            videos[f"{name}-in-{form}"] = copy, ENDINGS.get(form, f".{form}" if form in VIDEO_FORMATS else ".mp4")
    for name in SCRAMBLED:
        form = MADE[name][0]
        for seed in range(3):
            if copy := copied(videos[name][0], form, rng=Random(f"{name}/{seed}")):
                videos[f"{name}-scrambled-{seed}"] = copy, videos[name][1]
    videos["real"] = copied(REAL.read_bytes(), "mp4", most=30), ".mp4"
    for path in sorted(clips.rglob("*")) if clips else ():
        if (
            path.is_file()
            and path.suffix.lower() in (".mp4", ".mkv", ".webm", ".avi", ".mov")
            and path.stat().st_size < 500_000
        ):
            videos[f"clip-{path.name}"] = path.read_bytes(), path.suffix.lower()
    return {name: video for name, video in videos.items() if video[0]}


def _frames(path: Path) -> Iterator[av.VideoFrame]:
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == FRAMES:
                return
            yield frame.reformat(width=64, height=48)


def made(
    pictures: list[Any],
    form: str,
    codec: str,
    *,
    size: tuple[int, int] = (64, 48),
    pixels: str = "yuv420p",
    b_frames: int = 0,
    sound: str | None = None,
    rotation_deg: int = 0,
    first_tick: int = 0,
    frames: int = FRAMES,
    container: dict[str, str] | None = None,
) -> bytes:
    """A video of the pictures [H, W, 3]; the same bytes whenever it is made with the same libraries."""
    with (
        tempfile.NamedTemporaryFile() as file,  # not in memory: some muxers read again what they wrote
        av.open(file.name, "w", format=form, container_options={**(container or {}), "fflags": "+bitexact"}) as output,
    ):
        stream: Any = output.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        context = stream.codec_context
        context.gop_size, context.max_b_frames, context.thread_count = 10, b_frames, 1
        context.options = {
            **({"bf": str(b_frames), "preset": "ultrafast"} if codec == "libx264" else {}),
            **({"x265-params": f"{QUIET_X265}:bframes={b_frames}"} if codec == "libx265" else {}),
            **({"cpu-used": "8"} if codec.startswith("libvpx") else {}),
            **({"preset": "12", "svtav1-params": "lp=1"} if codec == "libsvtav1" else {}),
            "flags": "+bitexact",
        }
        if rotation_deg:
            stream.set_display_rotation(-rotation_deg)
        voice: Any = output.add_stream(sound, rate=48000) if sound else None
        if voice is not None:
            voice.layout = "mono"
        for index, picture in enumerate(pictures[:frames]):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(width=size[0], height=size[1], format=pixels)
            frame.pts, frame.time_base = index + first_tick, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        if voice is not None:
            _add_silence(output, voice, seconds=frames / RATE)
        output.mux(stream.encode(None))
        output.close()
        return Path(file.name).read_bytes()


def _add_silence(output: Any, voice: Any, *, seconds: float) -> None:
    for offset in range(0, int(seconds * 48000), 960):
        is_whole = voice.codec_context.name == "pcm_s16le"
        samples = np.zeros((1, 960), np.int16 if is_whole else np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="s16" if is_whole else "fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, offset, Fraction(1, 48000)
        output.mux(voice.encode(frame))
    output.mux(voice.encode(None))


def copied(content: bytes, form: str, *, rng: Random | None = None, most: int | None = None) -> bytes:
    """The streams of a video in another container, not encoded anew; with ``rng``, at wrong times and not all of them.

    Args:
        content: the video.
        form: the container.
        rng: what the packets' times are scrambled with.
        most: packets of video at most.

    Returns:
        What was written; nothing, where the container takes no such stream.
    """
    file = io.BytesIO()
    try:
        with (
            av.open(io.BytesIO(content)) as source,
            av.open(file, "w", format=form, container_options={"fflags": "+bitexact"}) as output,
        ):
            stream = source.streams.video[0]
            target = output.add_stream_from_template(stream)
            packets = [packet for packet in source.demux(stream) if packet.size][:most]
            if rng is not None:
                packets = _scrambled(packets, rng)
            for packet in packets:
                packet.stream = target
                try:
                    output.mux(packet)
                except (av.FFmpegError, ValueError):
                    continue  # this muxer has its principles
    except (av.FFmpegError, ValueError, TypeError):
        return b""
    return file.getvalue()


def _scrambled(packets: list[Any], rng: Random) -> list[Any]:
    jump, kind = rng.choice((3, 100, 10_000, 1 << 40)), rng.randrange(4)
    for packet in packets:
        if packet.pts is None:
            continue
        match kind:
            case 0:
                packet.pts += rng.randrange(-jump, jump)
            case 1:  # a gap
                packet.pts, packet.dts = packet.pts * jump, (packet.dts or 0) * jump
            case 2:
                packet.pts = rng.choice((None, packet.pts))
            case _:  # still
                packet.pts = packet.dts
    if rng.random() < 0.5:
        packets = [packet for packet in packets if rng.random() < 0.7]
    return packets
