"""The decoder process: ``python -P -m tal_run.extractors.decoder``, spoken to as `tal_run.extractors.wire` says.

It answers ``{"command": "probe", …}`` with one message, and ``{"command": "frames", …}`` with chunks of frames and an
end. While it works without result it says so about once a second, from the working thread itself: silence means that
it hangs. It cannot write files, cannot take more address space than allowed, leaves no core, and dies with its parent.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from .display import Orientation, Pixels, Size, crop_centre, displayed_size, resized
from .lifeline import die_with_parent, limit_self
from .probing import (
    DECODING_ERRORS,
    Probe,
    UnreadableError,
    count,
    is_memory,
    open_container,
    probe_file,
    read_packets,
    reraise_if_memory,
    video_stream,
)
from .sampling import Ticks
from .wire import MAX_NOTES, PREFIX, JSONObject, printable

BEAT_S = 0.8
STDERR_BYTES = 1 << 16
DECORD_BATCH_FRAMES = 16
DECORD_BATCH_BYTES = 32 << 20
PIXELS_PER_THREAD = 400_000


class Channel:
    """The child's end of the two pipes."""

    def __init__(self) -> None:
        # Whatever a library prints must not get between the messages.
        self._out = os.dup(1)
        os.dup2(2, 1)
        self._last_message_s = time.monotonic()

    def receive(self) -> JSONObject | None:
        """The next request; None at the end."""
        line = sys.stdin.buffer.readline()
        request: JSONObject | None = json.loads(line) if line else None
        return request

    def send(self, header: JSONObject, payload: Pixels | None = None) -> None:
        """One message; waits until the parent has room for it."""
        text = json.dumps(header).encode("ascii")
        body = memoryview(payload.data).cast("B") if payload is not None else memoryview(b"")
        self._write(memoryview(PREFIX.pack(len(text), len(body)) + text))
        self._write(body)
        self._last_message_s = time.monotonic()

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._out, data) :]

    @property
    def is_beat_due(self) -> bool:
        """Whether the parent has heard nothing for about a second."""
        return time.monotonic() - self._last_message_s > BEAT_S

    def beat(self) -> None:
        """Say that work goes on, where that is due."""
        if self.is_beat_due:
            self.send({"kind": "working"})


class Chunks:
    """Gathers samples and sends them in bounded chunks."""

    def __init__(self, channel: Channel, *, size: Size, first_index: int, max_frames: int, max_bytes: int) -> None:
        frame_bytes = size.width * size.height * 3
        room = max(1, min(max_frames, max_bytes // frame_bytes))
        self._channel = channel
        self._buffer = np.empty((room, size.height, size.width, 3), np.uint8)
        self._held = 0
        self.next_index = first_index

    def add(self, picture: Pixels) -> None:
        """The sample `next_index`, [H, W, 3]."""
        self._buffer[self._held] = picture
        self._held += 1
        self.next_index += 1
        if self._held == len(self._buffer):
            self.flush()

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            held, height, width, _ = self._buffer[: self._held].shape
            header = {
                "kind": "frames",
                "first_index": self.next_index - held,
                "count": held,
                "height": height,
                "width": width,
            }
            self._channel.send(header, self._buffer[:held])
            self._held = 0

    def tick(self) -> None:
        """Keep the parent waiting no longer than about a second."""
        if self._channel.is_beat_due:
            self.flush()
            self._channel.beat()


class Picture:
    """Turns decoded frames into what was asked for: scaled, turned, cropped RGB."""

    def __init__(
        self,
        probe: Probe,
        *,
        short_side: int | None = None,
        size: tuple[int, int] | None = None,
        crop: tuple[int, int] | None = None,
        interpolation: str = "swscale",
        is_turned: bool = False,
    ) -> None:
        """`is_turned`: the decoder has turned the frames already. `size` and `crop`: height and width."""
        self._orientation = Orientation() if is_turned else probe.orientation
        self._crop = crop
        shown = displayed_size(probe.stored, pixel_aspect=probe.pixel_aspect, orientation=probe.orientation)
        scaled = Size(size[1], size[0]) if size else resized(shown, short_side=short_side)
        self.size = Size(crop[1], crop[0]) if crop else scaled
        self._scaled = self._orientation.turn_size(scaled)
        self._scale = self._by_opencv if interpolation == "opencv" else self._by_swscale
        self._reformatter = VideoReformatter()
        self._frame: av.VideoFrame | None = None
        self._converted: Pixels | None = None

    def of(self, frame: av.VideoFrame) -> Pixels:
        """RGB [H, W, 3] of size `size`; a frame that is shown again is not converted again."""
        if self._converted is None or frame is not self._frame:
            self._converted = crop_centre(self._orientation.turn(self._scale(frame)), self._crop)
            self._frame = frame
        return self._converted

    def _by_swscale(self, frame: av.VideoFrame) -> Pixels:
        width, height = self._scaled
        return self._as_rgb(frame, width=width, height=height)

    def _by_opencv(self, frame: av.VideoFrame) -> Pixels:
        import cv2

        cv2.setNumThreads(1)
        full = self._as_rgb(frame, width=frame.width, height=frame.height)
        return cast("Pixels", cv2.resize(full, self._scaled, interpolation=cv2.INTER_LINEAR))

    def _as_rgb(self, frame: av.VideoFrame, *, width: int, height: int) -> Pixels:
        converted = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation="BILINEAR", threads=1
        )
        return cast("Pixels", converted.to_ndarray())


class _Decoder:
    """One file and how it is to be decoded; `damaged` counts the frames that could not be."""

    def __init__(self, path: str, probe: Probe, *, threads: int) -> None:
        self._path = path
        self._probe = probe
        self._threads = threads
        self.damaged = 0


class PyAVDecoder(_Decoder):
    """Decodes in display order and serves each sample with the frame that is on screen then."""

    turns = False

    def run(self, first: Ticks, picture: Picture, chunks: Chunks) -> None:
        """Serve the samples from `chunks.next_index` on, `first` as `FrameTimes.first_samples` gives it."""
        held: av.VideoFrame | None = None
        index = -1
        for frame in self._frames(np.diff(first) > 0, chunks.tick):
            index = self._index(frame, index)
            # Where frames between are missing, the last good one stays. The first one also shows before its time.
            for shown, until in ((held, first[index]), (frame, first[index + 1])):
                while shown is not None and chunks.next_index < until:
                    chunks.add(picture.of(shown))
                    chunks.tick()
            held = frame

    def _index(self, frame: av.VideoFrame, previous: int) -> int:
        """Which of the probed frames this is."""
        keys = self._probe.keys
        if keys is None or frame.pts is None:
            return min(previous + 1, len(self._probe.times.ticks) - 1)
        return max(int(np.searchsorted(keys, frame.pts, "right")) - 1, 0)

    def _frames(self, is_needed: NDArray[np.bool_], tick: Callable[[], None]) -> Iterator[av.VideoFrame]:
        """All frames in display order, but for those that neither a sample nor another frame needs."""
        with open_container(self._path) as container:
            stream = video_stream(container)
            context = stream.codec_context
            stream.thread_type = "AUTO"
            context.thread_count = self._threads
            for packet in read_packets(container, stream):
                tick()
                if self._probe.can_skip:
                    context.skip_frame = "DEFAULT" if self._is_needed(packet, is_needed) else "NONREF"
                try:
                    yield from packet.decode()
                except DECODING_ERRORS as error:
                    reraise_if_memory(error)
                    self.damaged += 1

    def _is_needed(self, packet: av.Packet[Any], is_needed: NDArray[np.bool_]) -> bool:
        keys = self._probe.keys
        if keys is None or packet.pts is None:
            return True
        index = int(np.searchsorted(keys, packet.pts))
        return index == len(keys) or int(keys[index]) != packet.pts or bool(is_needed[index])


class DecordDecoder(_Decoder):
    """Fetches the frames that samples need by their number, and checks decord's timestamps against the container's."""

    turns = True

    def run(self, first: Ticks, picture: Picture, chunks: Chunks) -> None:
        """Serve the samples from `chunks.next_index` on, `first` as `FrameTimes.first_samples` gives it.

        Raises:
            UnreadableError: decord sees other frames than the container holds.
        """
        wanted = np.flatnonzero(np.diff(first) > 0)
        wanted = wanted[first[wanted + 1] > chunks.next_index]
        frame_bytes = self._probe.stored.width * self._probe.stored.height * 3
        batch = max(1, min(DECORD_BATCH_FRAMES, DECORD_BATCH_BYTES // frame_bytes))
        reader = self._open()
        for start in range(0, len(wanted), batch):
            indices = wanted[start : start + batch]
            for index, pixels in zip(indices, reader.get_batch(indices.tolist()).asnumpy(), strict=True):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                while chunks.next_index < first[index + 1]:
                    chunks.add(picture.of(frame))
            chunks.tick()

    def _open(self) -> Any:
        import decord

        # decord's FFmpeg takes no list of allowed formats, and it must not come upon a playlist.
        with Path(self._path).open("rb") as file:
            head = file.read(8)
        if head[4:] != b"ftyp" and head[:4] != b"\x1aE\xdf\xa3":
            raise UnreadableError("decoder", "decord gets only files that start like MP4 or Matroska")
        reader = decord.VideoReader(self._path, num_threads=self._threads)
        width, height = self._probe.orientation.turn_size(self._probe.stored)
        if reader[0].shape != (height, width, 3) or self._probe.orientation.has_mirroring:
            raise UnreadableError("decoder", f"decord gives frames of shape {reader[0].shape}")
        ticks = self._probe.times.ticks
        if len(reader) != len(ticks):
            raise UnreadableError("decoder", f"decord counts {len(reader)} frames, the container {len(ticks)}")
        starts_s = reader.get_frame_timestamp(np.arange(len(ticks)))[:, 0].astype(np.float64)
        tick_s = float(self._probe.times.tick_s)
        error_s = np.abs((starts_s - starts_s[0]) - (ticks - ticks[0]) * tick_s).max()
        if not error_s <= max(self._probe.times.interval_ticks * tick_s / 2, np.spacing(np.float32(starts_s[-1]))):
            raise UnreadableError("decoder", f"decord's timestamps are up to {error_s:.3f} s from the container's")
        return reader


class Server:
    """Carries out the requests for one file."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._path = ""
        self._probe: Probe | None = None

    def probe(self, request: JSONObject) -> None:
        """Answer with what the file holds."""
        self._path = request["path"]
        limits = {name: request[name] for name in ("max_pixels", "max_stay_s")}
        self._probe = probe_file(self._path, **limits, beat=self._channel.beat)
        self._channel.send(self._probe.as_json())

    def frames(self, request: JSONObject) -> None:
        """Answer with the samples from `first_index` on."""
        assert self._probe is not None
        probe = self._probe
        rate = Fraction(*request["rate"])
        kind = DecordDecoder if request["decoder"] == "decord" else PyAVDecoder
        decoder = kind(self._path, probe, threads=request["threads"] or sensible_threads(probe.stored))
        picture = Picture(
            probe,
            short_side=request["short_side"],
            size=request["size"],
            crop=request["crop"],
            interpolation=request["interpolation"],
            is_turned=kind.turns,
        )
        first = probe.times.first_samples(rate)
        chunks = Chunks(
            self._channel,
            size=picture.size,
            first_index=request["first_index"],
            max_frames=request["chunk_frames"],
            max_bytes=request["chunk_bytes"],
        )
        decoder.run(first, picture, chunks)
        chunks.flush()
        notes = []
        if decoder.damaged:
            notes.append(f"{count(decoder.damaged, 'frame')} could not be decoded; the one before is shown instead")
        if chunks.next_index < first[-1]:
            notes.append(f"decoding ended at {float(chunks.next_index / rate):.2f} s of {float(probe.times.duration_s):.2f} s")
        self._channel.send({"kind": "end", "next_index": chunks.next_index, "notes": notes[:MAX_NOTES]})


def sensible_threads(stored: Size) -> int:
    """Threads cost more than they bring below half a megapixel, and memory for a frame each above."""
    return min(len(os.sched_getaffinity(0)), 4, 1 + stored.width * stored.height // PIXELS_PER_THREAD)


def main() -> None:
    """Serve requests until there are no more. The only argument is the lifeline's file descriptor."""
    die_with_parent(int(sys.argv[1]))
    channel = Channel()
    server = Server(channel)
    is_limited = False
    while (request := channel.receive()) is not None:
        if not is_limited:
            limit_self(request["memory_bytes"], STDERR_BYTES)  # no files but standard error, which may be one
            is_limited = True
        try:
            {"probe": server.probe, "frames": server.frames}[request["command"]](request)
        except BrokenPipeError:
            return
        except Exception as error:  # noqa: BLE001 - it is the parent that makes the sentence of it
            channel.send({"kind": "error", **_cause(error)})


def _cause(error: Exception) -> JSONObject:
    if is_memory(error):
        return {"cause": "memory", "detail": ""}
    cause = getattr(error, "cause", "decoder")
    return {"cause": cause, "detail": printable(error if cause != "decoder" else f"{type(error).__name__}: {error}")}


if __name__ == "__main__":
    main()
