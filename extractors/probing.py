"""What a file really holds, from its packets. Runs in the decoder process (`tal_run.extractors.decoder`).

Headers lie: about the number of frames (a cut-off download), the rate (an average), the start. Every packet is read,
which is demultiplexing without decoding, and the displayed frames' timestamps come from there.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, SupportsBytes, cast

import av
import numpy as np

from .display import Orientation, Size
from .sampling import FrameTimes, Ticks
from .wire import JSONObject, printable

# Plain media files only: nothing here opens a second file or a socket, as playlists (hls, concat, dash), image
# sequences, session descriptions and devices do.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,ogg,asf,mxf,"
    "live_flv,nut,rm,dv,wtv,dhav,yuv4mpegpipe,mjpeg,gif,nsv,h263,h261,vc1"
)


# Whose decoders know by the packet alone that no other frame refers to it.
SKIPPABLE_CODECS = ("h264", "mpeg4", "mpeg2video", "mpeg1video")
FRAMES_IN_DECODER = 5
MAX_ASKED_AGAIN = 100  # times in one file
BELIEVABLE_STAY_S = 10  # a slide may stay longer, in files whose frames all do
DECODING_ERRORS = (av.FFmpegError, OSError, ValueError)


class UnreadableError(Exception):
    """A file that gives no frames. `cause` is one of video.CAUSES; the text is a detail, not yet a sentence."""

    def __init__(self, cause: str, detail: str = "") -> None:
        super().__init__(detail)
        self.cause = cause


def is_memory(error: BaseException) -> bool:
    """Whether `error` says that the allowed memory is used up."""
    return isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM


def reraise_if_memory(error: BaseException) -> None:
    """Let pass what damage in a file explains, but not what a bound explains.

    FFmpeg has no memory, it says, for a size that cannot be, such as a damaged file tells of.
    """
    if is_memory(error) and not _has_room():
        raise error


def _has_room() -> bool:
    """Whether there is as much memory as FFmpeg takes at once at most."""
    try:
        np.empty(2**31, np.uint8)
    except MemoryError:
        return False
    return True


def _reason(error: Exception) -> str:
    """What an error says, in a few words."""
    if is_memory(error):
        return "it tells of a size that cannot be"
    return printable(getattr(error, "strerror", None) or error, 80)


def open_container(path: str) -> av.container.InputContainer:
    """Open a local file for demultiplexing; never a playlist, a device or a network address.

    Raises:
        UnreadableError: FFmpeg knows no way to read it.
    """
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    av.logging.set_level(av.logging.ERROR)  # for the reason alone; silent again below, for decoding threads may log
    try:
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except DECODING_ERRORS as error:
        reraise_if_memory(error)
        if "moov atom not found" in str(error) and _is_mp4(path):
            raise UnreadableError("no_index") from error
        raise UnreadableError("format", _reason(error)) from error
    finally:
        av.logging.set_level(None)


def _is_mp4(path: str) -> bool:
    """Whether the file starts like one, whatever it is called."""
    with Path(path).open("rb") as file:
        return file.read(8)[4:] in (b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip")


def count(number: int, noun: str) -> str:
    """`number` with `noun` in the singular or the plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first stream of moving pictures; others (cover art, sound) are not read at all.

    Raises:
        UnreadableError: there is none.
    """
    pictures = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        raise UnreadableError("audio_only" if container.streams.audio else "no_video")
    # FFmpeg knows no decoder for what the others say that they hold
    streams = [stream for stream in streams if stream.codec_context is not None]
    if not streams:
        raise UnreadableError("codec")
    for stream in container.streams:
        if stream is not streams[0]:
            stream.discard = av.stream.Discard.all
    return streams[0]


def read_packets(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    *,
    on_error: Callable[[Exception], None] = lambda error: None,
) -> Iterator[av.Packet[Any]]:
    """The packets of `stream` and then an empty one, which flushes its decoder. An error ends the file there.

    `on_error` is told of it, and of those behind which reading goes on.
    """
    packets = container.demux(stream)
    asked_again = 0
    packet: av.Packet[Any] | None = None
    while True:
        try:
            packet = next(packets, None)
        except (*DECODING_ERRORS, IndexError) as error:
            if packet is not None and not packet.size:
                return  # the end it was, with streams behind this one
            reraise_if_memory(error)
            # Of MPEG-TS in which something is missing, "not yet": it goes on behind that. And PyAV's loop knows nothing of a
            # stream that begins later, but the next one does.
            if isinstance(error, (BlockingIOError, IndexError)) and asked_again < MAX_ASKED_AGAIN:
                asked_again += 1
                packets = container.demux(stream)
                if isinstance(error, BlockingIOError):
                    on_error(error)
                continue
            on_error(error)
            flush: av.Packet[Any] = av.Packet()
            flush.stream = stream
            yield flush
            return
        if packet is None:
            return
        yield packet


@dataclass
class Probe:
    """What the packets say. `keys` [N] are the timestamps by which decoded frames are recognised, ascending.

    Without `keys` frames can only be counted as they come out.
    """

    times: FrameTimes
    keys: Ticks | None
    stored: Size
    pixel_aspect: Fraction
    orientation: Orientation
    can_skip: bool
    description: JSONObject
    notes: list[str]

    def as_json(self) -> JSONObject:
        """The message to the parent."""
        times = self.times
        return {
            "kind": "probe",
            **self.description,
            "stored": list(self.stored),
            "pixel_aspect": [self.pixel_aspect.numerator, self.pixel_aspect.denominator],
            "orientation": [
                self.orientation.is_transposed,
                self.orientation.is_mirrored_x,
                self.orientation.is_mirrored_y,
            ],
            "duration": [times.duration_s.numerator, times.duration_s.denominator],
            "frame_count": len(times.ticks),
            "frame_rate": _average_rate(times),
            "is_variable_rate": times.is_variable_rate,
            "has_exact_keys": self.keys is not None,
            "notes": self.notes,
        }


@dataclass
class _Packets:
    """The video stream's packets, in the file's order."""

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    last_duration: int = 0
    discarded: int = 0
    fillers: int = 0  # one byte that stands for no frame, where MPEG-4 encoders lag behind by a B-frame
    corrupt: int = 0
    gaps: int = 0
    error: str | None = None
    first_frame: av.VideoFrame | None = None

    def read(self, container: av.container.InputContainer, stream: av.VideoStream, beat: Callable[[], None]) -> None:
        """Read to the end, decoding as far as the first frame that comes out."""
        for packet in read_packets(container, stream, on_error=self._note_error):
            beat()
            if self.first_frame is None:
                self._decode(packet)
            if packet.size:
                self._add(packet)

    def _note_error(self, error: Exception) -> None:
        if isinstance(error, BlockingIOError):
            self.gaps += 1
        else:
            self.error = _reason(error)

    def _decode(self, packet: av.Packet[Any]) -> None:
        try:
            frames = packet.decode()
        except DECODING_ERRORS as error:
            reraise_if_memory(error)
            return
        self.first_frame = frames[0] if frames else None

    def _add(self, packet: av.Packet[Any]) -> None:
        self.corrupt += packet.is_corrupt
        if packet.is_discard:
            self.discarded += 1
            return
        self.fillers += packet.size == 1
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        self.last_duration = packet.duration or 0


def probe_file(path: str, *, max_pixels: int, max_stay_s: float = math.inf, beat: Callable[[], None]) -> Probe:
    """Read all packets of `path` and decode its first frame. `beat` is called again and again meanwhile.

    Raises:
        UnreadableError: not a video, or no frame in it can be decoded.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        stored = Size(stream.width, stream.height)
        if stored.width * stored.height > max_pixels:
            raise UnreadableError("too_large", f"{stored.width} x {stored.height}")
        packets = _Packets()
        packets.read(container, stream, beat)
        if not packets.pts:
            raise UnreadableError("no_frames", packets.error or "no packet of video")
        if packets.first_frame is None:
            _check_memory(stored)
            raise UnreadableError("no_frames", f"{len(packets.pts)} packets, none decodes")
        probe = _describe(container, stream, packets)
    if (longest_s := _unbelievable_stay_s(probe.times)) and longest_s > max_stay_s:
        raise UnreadableError("stays", f"{float(longest_s):.0f} s")
    return probe


def _check_memory(stored: Size) -> None:
    """Tell apart what bounds and what damage explain: decoders call either invalid data.

    Raises:
        MemoryError: a decoder would not get the few frames that it must keep.
    """
    np.empty(FRAMES_IN_DECODER * stored.width * stored.height * 3 // 2, np.uint8)


def _describe(container: av.container.InputContainer, stream: av.VideoStream, packets: _Packets) -> Probe:
    assert packets.first_frame is not None
    frame = packets.first_frame
    notes: list[str] = []
    ticks, keys = _display_times(container, stream, packets, notes)
    assert stream.time_base is not None
    ordered = np.sort(ticks)
    times = FrameTimes(
        ticks=ordered,
        end_tick=int(ordered[-1]) + _last_duration(ordered, packets.last_duration, stream),
        tick_s=stream.time_base,
        zero_s=_zero(container, stream, int(ordered[0])),
    )
    damage = _damage(container, stream, packets, times)
    return Probe(
        times=times,
        keys=keys,
        stored=Size(frame.width, frame.height),
        pixel_aspect=_pixel_aspect(stream, notes),
        orientation=_orientation(frame, notes),
        can_skip=stream.codec_context.name in SKIPPABLE_CODECS and not frame.interlaced_frame,
        description={
            "container": container.format.name,
            "codec": stream.codec_context.name,
            "pixel_format": frame.format.name,
            "is_interlaced": frame.interlaced_frame,
            "has_reordering": bool((np.diff(ticks) < 0).any()) or keys is None,
            "discarded": packets.discarded,
            "is_damaged": bool(damage),
        },
        notes=damage + notes,
    )


def _display_times(
    container: av.container.InputContainer, stream: av.VideoStream, packets: _Packets, notes: list[str]
) -> tuple[Ticks, Ticks | None]:
    """Timestamps [N] in the packets' order, and the keys [N] by which to recognise decoded frames, if any."""
    has_pts = None not in packets.pts
    has_dts = None not in packets.dts
    pts = np.array([value or 0 for value in packets.pts], np.int64)
    dts = np.array([value or 0 for value in packets.dts], np.int64)
    if container.format.name == "avi" and has_dts:
        # One chunk, one tick: the dts are the true times. Which frame has which, the order of the pts tells, unless FFmpeg
        # made them up in the order of decoding (H.264; MPEG-4 with B-frames packed into other frames' chunks).
        if not has_pts or (stream.codec_context.has_b_frames and (np.diff(pts) > 0).all()):
            return np.sort(dts)[: max(1, len(dts) - packets.fillers)], None
        shown = np.empty_like(dts)
        shown[np.argsort(pts, kind="stable")] = np.sort(dts)
        return shown, np.sort(pts)
    if has_pts:
        return pts, np.sort(pts)
    if has_dts:
        notes.append("frames without presentation times: their decoding times are used")
        return dts, None
    notes.append("frames without times: the frame rate in the header is used")
    assert stream.time_base is not None
    interval = 1 / (_header_rate(stream) * stream.time_base)
    return np.array([round(index * interval) for index in range(len(pts))], np.int64), None


def _header_rate(stream: av.VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)


def _last_duration(ordered: Ticks, packet_duration: int, stream: av.VideoStream) -> int:
    assert stream.time_base is not None
    if packet_duration > 0:
        return packet_duration
    if len(ordered) > 1:
        return max(1, int(np.median(np.diff(ordered))))
    return max(1, round(1 / (_header_rate(stream) * stream.time_base)))


def _zero(container: av.container.InputContainer, stream: av.VideoStream, first_tick: int) -> Fraction:
    """The time that players show as 0: where the earliest of sound and pictures starts.

    Sound from before 0 is what an encoder needs to warm up (7 ms of Opus); it is never heard and starts no clock.
    """
    assert stream.time_base is not None
    zero = first_tick * stream.time_base
    for sound in container.streams.audio:
        if sound.start_time is not None and sound.time_base is not None:
            zero = min(zero, max(sound.start_time * sound.time_base, Fraction(0)))
    return zero


def _pixel_aspect(stream: av.VideoStream, notes: list[str]) -> Fraction:
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not aspect:
        return Fraction(1)
    if not Fraction(1, 10) <= aspect <= 10:
        notes.append(f"a pixel aspect of {aspect} is not believed; pixels are taken as square")
        return Fraction(1)
    return aspect


def _orientation(frame: av.VideoFrame, notes: list[str]) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return Orientation()
    try:
        return Orientation.from_matrix(bytes(cast("SupportsBytes", matrix)))
    except ValueError as error:
        notes.append(f"{error}; the picture is not turned")
        return Orientation()


def _damage(container: av.container.InputContainer, stream: av.VideoStream, packets: _Packets, times: FrameTimes) -> list[str]:
    """Sentences on what is missing or broken."""
    notes = []
    there = len(packets.pts) + packets.discarded
    promised_s = _promised_duration_s(container, stream)
    if stream.frames > there:
        notes.append(f"the header promises {count(stream.frames, 'frame')}, {there} are there: the file is cut off or damaged")
    elif promised_s and not stream.frames and _end_s(times) < Fraction(9, 10) * promised_s - 1:
        # the container's promise covers the sound too, and that may be what is long
        excuse = "the sound is longer, or " if container.streams.audio and not stream.duration else ""
        notes.append(
            f"the header promises {float(promised_s):.1f} s, the pictures end at {float(times.duration_s):.1f} s: "
            f"{excuse}the file is cut off or damaged"
        )
    if longest_s := _unbelievable_stay_s(times):
        notes.append(
            f"one frame stays on screen for {float(longest_s):.0f} s: the timestamps are probably broken, and so are the times "
            "that follow"
        )
    if packets.error:
        notes.append(f"reading stopped early: {packets.error}")
    if packets.gaps:
        notes.append(f"bytes are missing in {count(packets.gaps, 'place')}; reading went on behind")
    if packets.corrupt:
        notes.append(f"{count(packets.corrupt, 'frame')} marked as damaged")
    return notes


def _unbelievable_stay_s(times: FrameTimes) -> Fraction | None:
    """How long the frame stays on screen that stays longest, where that is much longer than the others do."""
    distances = np.diff(np.append(times.ticks, times.end_tick))
    longest_s = int(distances.max()) * times.tick_s
    is_believable = longest_s <= BELIEVABLE_STAY_S or longest_s <= 100 * times.interval_ticks * times.tick_s
    return None if is_believable else longest_s


def _end_s(times: FrameTimes) -> Fraction:
    """The end as a header may count it: from the file's own zero, or from the start."""
    return max(times.duration_s, times.end_tick * times.tick_s)


def _promised_duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> Fraction | None:
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None


def _average_rate(times: FrameTimes) -> float:
    span = int(times.ticks[-1]) - int(times.ticks[0])
    frames = len(times.ticks) - 1
    if span <= 0:
        span, frames = times.end_tick - int(times.ticks[0]), len(times.ticks)
    return float(frames / (span * times.tick_s))
