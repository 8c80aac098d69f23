"""The process that cuts clips and takes pictures: ``python -P -m tal_run.pipeline.clip_worker``, spoken to as ``wire.py`` says.

It reads one video, which may be hostile, and writes clips to paths that it is given; it can be bounded and killed, as the
decoder (``tal_run.extractors.decoder``), whose reading it shares. Time is the house's: t = 0 is where the earliest of sound
and pictures starts.

- *copy*: the packets from the key frame at or before the start, so that nothing is encoded anew; the clip may begin earlier,
  and says by how much. Frames that follow the key frame in the file and precede it on screen cannot be decoded without what
  is cut away, and are left out; those behind the end that others need stay, two or three frames.
- *exact*: the frames on screen from start to end, upright and with square pixels, encoded anew (H.264); nothing before,
  nothing behind.

In both, sound is copied, by packets (some 20 ms), and pictures and sound keep their distance.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import itertools
import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import av
import numpy as np

from tal_run.extractors.decoder import Channel, Picture, sensible_threads
from tal_run.extractors.lifeline import die_with_parent, limit_self
from tal_run.extractors.probing import (
    DECODING_ERRORS,
    MAX_ASKED_AGAIN,
    Probe,
    UnreadableError,
    is_memory,
    open_container,
    probe_file,
    reraise_if_memory,
    video_stream,
)
from tal_run.extractors.wire import JSONObject, printable

# what players expect in MP4; all else goes into Matroska, which takes everything
MP4_PICTURES = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
MP4_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"})
CRF = "18"  # of x264: visually lossless or nearly so (FFmpeg's H.264 guide)
PRESET = "veryfast"
ROUNDING_S = Fraction(1, 2000)  # by how much times in files are rounded
BACK_S = (0, 2, 10, 60, None)  # how far back key frames are looked for; None: from the beginning
SIGN = "tal-run clip "  # how the comment begins in a file that was made here


class Cutter:
    """Carries out the requests for one video."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._path = ""
        self._probe: Probe | None = None

    def probe(self, request: JSONObject) -> None:
        """Say what the file holds, and in which container its clips go."""
        self._path = request["path"]
        self._probe = probe_file(self._path, max_pixels=request["max_pixels"], beat=self._channel.beat)
        with open_container(self._path) as container:
            pictures = _pictures(container).codec_context.name
            sound = {stream.codec_context.name for stream in _sound(container)}
        fits = sound <= MP4_SOUND
        self._channel.send(
            {
                "kind": "video",
                "duration_s": float(self._probe.times.duration_s),
                "copy_ending": ".mp4" if fits and pictures in MP4_PICTURES else ".mkv",
                "exact_ending": ".mp4" if fits else ".mkv",
            }
        )

    def described(self, request: JSONObject) -> None:
        """Say by which recipe an existing clip was made; empty: not by this."""
        comment = ""
        try:
            with open_container(request["path"]) as container:
                comment = {key.lower(): value for key, value in container.metadata.items()}.get("comment", "")
        except (UnreadableError, *DECODING_ERRORS):
            pass  # whatever it is, it is none of ours
        self._channel.send({"kind": "described", "recipe": comment.removeprefix(SIGN) if comment.startswith(SIGN) else ""})

    def cut(self, request: JSONObject) -> None:
        """Write one clip; answer from when to when it is."""
        start_s, end_s = Fraction(request["start_s"]), Fraction(request["end_s"])
        cut = self._exact if request["exact"] else self._copy
        first_s, last_s = cut(request, start_s, end_s)
        self._channel.send({"kind": "clip", "start_s": float(first_s), "end_s": float(last_s)})

    def picture(self, request: JSONObject) -> None:
        """Answer with the picture on screen at a time, scaled."""
        picture = Picture(self._known, short_side=request["short_side"])
        index = self._on_screen(Fraction(request["at_s"]))
        shown = None
        for place, frame in self._decoded(index):
            if place > index and shown is not None:
                break
            shown = frame
        if shown is None:
            raise UnreadableError("no_frames", f"none at {request['at_s']:.2f} s")
        pixels = np.ascontiguousarray(picture.of(shown))
        height, width, _ = pixels.shape
        self._channel.send({"kind": "frames", "first_index": 0, "count": 1, "height": height, "width": width}, pixels)

    # ---- time: the frame ``index`` is known by the timestamp ``_keys[index]`` and shown from ``_shown_s(index)`` on ----

    @property
    def _known(self) -> Probe:
        assert self._probe is not None
        return self._probe

    @property
    def _keys(self) -> list[int]:
        if self._known.keys is None:
            raise UnreadableError("uncopied")
        return cast("list[int]", self._known.keys.tolist())

    def _shown_s(self, index: int) -> Fraction:
        times = self._known.times
        tick = int(times.ticks[index]) if index < len(times.ticks) else times.end_tick
        return tick * times.tick_s - times.zero_s

    def _on_screen(self, at_s: Fraction) -> int:
        """The frame that is on screen then; before the first, the first."""
        return max(0, self._count_before(at_s, "right") - 1)

    def _behind(self, at_s: Fraction) -> int:
        """The first frame that is not on screen before then."""
        return self._count_before(at_s, "left")

    def _count_before(self, at_s: Fraction, side: Literal["left", "right"]) -> int:
        times = self._known.times
        slack_ticks = times.slack_ticks + ROUNDING_S / times.tick_s
        tick = (at_s + times.zero_s) / times.tick_s + (slack_ticks if side == "right" else -slack_ticks)
        whole = math.floor(tick) if side == "right" else math.ceil(tick)
        return int(np.searchsorted(times.ticks, whole, side))

    # ---- packets and frames ----

    def _decoded(self, index: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames with their places, from the last key frame that is not behind the one at ``index``, as they are shown.

        Frames without times of their own are counted from the beginning.
        """
        keys = self._known.keys
        with open_container(self._path) as container:
            stream = video_stream(container)
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = sensible_threads(self._known.stored)
            packets = (
                _packets(container, [stream]) if keys is None else _from_key(container, stream, int(keys[index]), [stream])
            )
            place = -1
            for packet in itertools.chain(packets, [None]):  # and what the decoder still has
                self._channel.beat()
                try:
                    frames = stream.codec_context.decode(packet)
                except DECODING_ERRORS as error:
                    reraise_if_memory(error)
                    continue
                for frame in frames:
                    if keys is None or frame.pts is None:
                        place = min(place + 1, len(self._known.times.ticks) - 1)
                    else:
                        place = int(np.searchsorted(keys, frame.pts))
                    yield place, frame

    def _copy(self, request: JSONObject, start_s: Fraction, end_s: Fraction) -> tuple[Fraction, Fraction]:
        keys, index, end = self._keys, self._on_screen(start_s), self._behind(end_s)
        end_key = keys[end] if end < len(keys) else math.inf
        first, last = None, index
        with open_container(self._path) as container, _container(request) as target:
            stream = _pictures(container)
            sources = [stream, *_sound(container)]
            outs = {source.index: target.add_stream_from_template(source) for source in sources}
            for packet in _from_key(container, stream, keys[index], sources):
                self._channel.beat()
                if packet.stream is not stream:
                    if first is not None:
                        _mux_sound(target, packet, outs, self._on_clock(first), self._on_clock(end))
                    continue
                if packet.dts is not None and packet.dts >= end_key:
                    break
                if packet.pts is None:
                    continue
                place = bisect.bisect_left(keys, packet.pts)
                first = place if first is None else first
                if place >= first:
                    last = max(last, place)
                    _mux(target, packet, outs, keys[first])
        if first is None:
            raise UnreadableError("no_frames", f"none at {float(start_s):.2f} s")
        return self._shown_s(first), self._shown_s(last + 1)

    def _exact(self, request: JSONObject, start_s: Fraction, end_s: Fraction) -> tuple[Fraction, Fraction]:
        times, first = self._known.times, self._on_screen(start_s)
        end = max(first + 1, self._behind(end_s))
        picture = Picture(self._known)
        width, height = (side - side % 2 or 2 for side in picture.size)
        with open_container(self._path) as container, _container(request) as target:
            rate = (1 / (times.interval_ticks * times.tick_s)).limit_denominator(1001)
            out = cast("Any", target.add_stream("libx264", rate=rate, options={"crf": CRF, "preset": PRESET}))
            out.width, out.height, out.pix_fmt = width, height, "yuv420p"
            out.codec_context.time_base = out.time_base = times.tick_s
            sound = _sound(container)
            outs = {source.index: target.add_stream_from_template(source) for source in sound}
            count = 0
            for place, frame in self._decoded(first):
                if place >= end:
                    break
                if place < first:
                    continue
                pixels = np.ascontiguousarray(picture.of(frame)[:height, :width])
                shown = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                shown.pts, shown.time_base = int(times.ticks[place] - times.ticks[first]), times.tick_s
                shown.duration = round((self._shown_s(place + 1) - self._shown_s(place)) / times.tick_s)
                target.mux(out.encode(shown))
                count += 1
                self._channel.beat()
            if not count:
                raise UnreadableError("no_frames", f"none at {float(start_s):.2f} s")
            target.mux(out.encode())
            if sound:
                self._add_sound(container, target, sound, outs, (self._on_clock(first), self._on_clock(end)))
        return self._shown_s(first), self._shown_s(end)

    def _on_clock(self, index: int) -> Fraction:
        """When a frame is shown, on the file's own clock."""
        return self._shown_s(index) + self._known.times.zero_s

    def _add_sound(
        self, container: Any, target: Any, sound: list[Any], outs: dict[int, Any], span: tuple[Fraction, Fraction]
    ) -> None:
        for stream in container.streams:
            if stream not in sound:
                stream.discard = av.stream.Discard.all
        container.seek(max(0, math.floor(span[0] * av.time_base)), backward=True)
        done: set[int] = set()
        for packet in _packets(container, sound):
            self._channel.beat()
            if packet.pts is None or packet.time_base is None:
                continue
            if packet.pts * packet.time_base >= span[1]:
                done.add(packet.stream.index)
                if len(done) == len(sound):
                    break
            _mux_sound(target, packet, outs, *span)


def _mux_sound(target: Any, packet: Any, outs: dict[int, Any], begin_s: Fraction, end_s: Fraction) -> None:
    """Write a packet of sound, its times counted from ``begin_s`` on the file's clock; what is outside is left out."""
    if packet.pts is None or packet.time_base is None:
        return
    from_s = packet.pts * packet.time_base
    if from_s + (packet.duration or 0) * packet.time_base > begin_s and from_s < end_s:
        _mux(target, packet, outs, round(begin_s / packet.time_base))


def _mux(target: Any, packet: Any, outs: dict[int, Any], zero: int) -> None:
    packet.pts -= zero
    if packet.dts is not None:
        packet.dts -= zero
    packet.stream = outs[packet.stream.index]
    target.mux(packet)


def _pictures(container: Any) -> Any:
    """The stream that ``video_stream`` takes, with none of the others closed."""
    attached = av.stream.Disposition.attached_pic
    return next(stream for stream in container.streams.video if not stream.disposition & attached and stream.codec_context)


def _sound(container: Any) -> list[Any]:
    return [stream for stream in container.streams.audio if stream.codec_context is not None]


def _from_key(container: Any, stream: Any, key: int, streams: list[Any]) -> Iterator[Any]:
    """Packets of ``streams`` from the last key frame of ``stream`` whose timestamp is not behind ``key``, and that first.

    Where a file's index leads too far, it is looked for from ever further back.
    """
    for other in container.streams:
        if other not in streams:
            other.discard = av.stream.Discard.all
    for back_s in BACK_S:
        with contextlib.suppress(av.FFmpegError):
            begin = min(stream.start_time or 0, 0)
            goal = begin if back_s is None else max(begin, key - math.ceil(back_s / stream.time_base))
            container.seek(goal, stream=stream, backward=True)
        packets = _packets(container, streams)
        held: list[Any] = []
        for packet in packets:
            is_picture = packet.stream is stream
            if is_picture and packet.is_keyframe and packet.pts is not None and packet.pts <= key:
                held = [packet, *(other for other in held if other.stream is not stream)]
            elif held:
                held.append(packet)
            if is_picture and (packet.dts is None or packet.dts > key):
                break
        if held:
            yield from held
            yield from packets
            return
    raise UnreadableError("decoder", "it has no key frame to start from")


def _packets(container: Any, streams: list[Any]) -> Iterator[Any]:
    """The packets of some streams that hold something. Damage ends the file there, as it does for ``read_packets``."""
    asked_again = 0
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets, None)
        except (*DECODING_ERRORS, IndexError) as error:
            reraise_if_memory(error)
            if not isinstance(error, (BlockingIOError, IndexError)) or asked_again >= MAX_ASKED_AGAIN:
                return
            asked_again += 1
            packets = container.demux(*streams)
            continue
        if packet is None or not packet.size:
            return  # an empty one says that all is read
        yield packet


def _container(request: JSONObject) -> Any:
    options = {"movflags": "+faststart"} if request["format"] == "mp4" else {}
    target = av.open(request["target"], "w", format=request["format"], container_options=options)
    target.metadata["comment"] = SIGN + request["recipe"]
    return target


def main() -> None:
    """Serve requests until there are no more. The only argument is the lifeline's file descriptor."""
    die_with_parent(int(sys.argv[1]))
    channel = Channel()
    cutter = Cutter(channel)
    commands = {"probe": cutter.probe, "described": cutter.described, "cut": cutter.cut, "picture": cutter.picture}
    is_limited = False
    while (request := channel.receive()) is not None:
        if not is_limited:
            limit_self(request["memory_bytes"], request["file_bytes"])
            is_limited = True
        try:
            commands[request["command"]](request)
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001 - it is the parent that makes the sentence of it
            if "target" in request:
                Path(request["target"]).unlink(missing_ok=True)
            channel.send({"kind": "error", **_cause(error)})


def _cause(error: Exception) -> JSONObject:
    if is_memory(error):
        return {"cause": "memory", "detail": ""}
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return {"cause": "disk", "detail": printable(getattr(error, "strerror", None) or error)}
    cause = getattr(error, "cause", "decoder")
    return {"cause": cause, "detail": printable(error if cause != "decoder" else f"{type(error).__name__}: {error}")}


if __name__ == "__main__":
    main()
