"""What `make fuzz` found in the reading of videos, made small: each file once ended otherwise than in frames or a sentence."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tal_run.extractors import probing
from tal_run.extractors.display import Size, covering_short_side, resized
from tal_run.extractors.video import DecodeLimits, VideoError, open_video


def sentence(path: Path, **options: Any) -> str:
    with pytest.raises(VideoError) as caught, open_video(path, **options) as video:
        list(video.frames(fps=25, short_side=172))
    return str(caught.value)


def shown(path: Path, factory: ModuleType) -> tuple[list[int], list[str]]:
    """The indices in the frames, and the notes."""
    with open_video(path) as video:
        indices = [factory.read_index(frame) for chunk in video.frames(fps=25) for frame in chunk.frames]
        return indices, video.notes


def with_number(content: bytes, box: bytes, offset: int, number: int) -> bytes:
    """An MP4 file with another 32-bit number so many bytes behind a box's name."""
    place = content.index(box) + 4 + offset
    return content[:place] + struct.pack(">I", number) + content[place + 4 :]


def test_a_stream_that_no_decoder_is_known_for_is_a_sentence(tmp_path: Path, factory: ModuleType) -> None:
    """It has no codec context in PyAV: "'VideoStream' object has no attribute 'width'"."""
    path = tmp_path / "video.mp4"
    factory.make_video(path, frame_count=5)
    content = path.read_bytes()
    codec = content.index(b"avc1", content.index(b"stsd"))
    path.write_bytes(content[:codec] + b"zzzz" + content[codec + 4 :])
    assert "holds video in a codec that is unknown here, or its header is damaged; if it plays" in sentence(path)


def test_a_stream_that_a_decoder_is_known_for_is_taken_instead(tmp_path: Path, factory: ModuleType) -> None:
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as output:
        for stream in [output.add_stream("mpeg4", rate=25), output.add_stream("libx264", rate=25)]:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(5):
            picture = factory.draw_index(index, width=64, height=48)
            for stream in output.streams.video:
                frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")
                frame.pts = index
                output.mux(stream.encode(frame))
        for stream in output.streams.video:
            output.mux(stream.encode(None))
    content = path.read_bytes()
    codec = content.index(b"mp4v", content.index(b"stsd"))
    path.write_bytes(content[:codec] + b"zzzz" + content[codec + 4 :])
    assert shown(path, factory)[0] == list(range(5))


def test_a_header_that_tells_of_impossible_sizes_does_not_need_more_memory(tmp_path: Path, factory: ModuleType) -> None:
    """FFmpeg says "Cannot allocate memory", and nobody's memory would do."""
    path = tmp_path / "video.mp4"
    factory.make_video(path)
    path.write_bytes(with_number(path.read_bytes(), b"stts", 4, 0x7FFFFFFF))
    assert "in a format that can be read (it tells of a size that cannot be); if it plays elsewhere" in sentence(path)


def test_frames_before_an_impossible_size_are_kept(tmp_path: Path, factory: ModuleType) -> None:
    path = tmp_path / "video.ivf"
    factory.make_video(path, codec="libvpx-vp9", frame_count=25, options={"cpu-used": "8"}, container_format="ivf")
    content = path.read_bytes()
    place = 32  # of the head; then each frame has its size, a time of 8 bytes, and its bytes
    for _ in range(10):
        place += 12 + struct.unpack("<I", content[place : place + 4])[0]
    path.write_bytes(content[:place] + struct.pack("<I", 0xFFFFFFFF) + content[place + 4 :])
    indices, notes = shown(path, factory)
    assert indices[:10] == list(range(10))
    assert "reading stopped early: it tells of a size that cannot be" in notes


NOT_YET = av.error.BlockingIOError(11, "Resource temporarily unavailable", "file:video.ts")


class TransportStream:
    """A container that says "not yet" at a gap, as FFmpeg's MPEG-TS does where packets are missing, or another thing."""

    def __init__(self, *runs: list[Any], error: Exception = NOT_YET) -> None:
        self.runs, self.error = list(runs), error

    def demux(self, _: object) -> Any:
        yield from self.runs.pop(0)
        if self.runs:
            raise self.error


def test_reading_goes_on_behind_a_gap_in_a_transport_stream() -> None:
    told: list[Exception] = []
    sent = [av.Packet(5) for _ in range(5)]
    container = TransportStream(sent[:2], sent[2:3], sent[3:])
    packets = probing.read_packets(container, None, on_error=told.append)  # type: ignore[arg-type]
    assert list(packets) == sent
    assert len(told) == 2


def test_a_stream_that_begins_later_is_passed_over() -> None:
    """PyAV's loop over packets: "IndexError: list index out of range"."""
    told: list[Exception] = []
    a, b, end = av.Packet(5), av.Packet(5), av.Packet()
    late = TransportStream([a], [b, end], error=IndexError("list index out of range"))
    assert list(probing.read_packets(late, None, on_error=told.append)) == [a, b, end]  # type: ignore[arg-type]
    at_the_end = TransportStream([a, b, end], [end], error=IndexError("list index out of range"))
    assert list(probing.read_packets(at_the_end, None, on_error=told.append)) == [a, b, end]  # type: ignore[arg-type]
    assert not told


def test_a_gap_that_never_ends_does(tmp_path: Path, factory: ModuleType) -> None:
    factory.make_video(tmp_path / "video.mkv", frame_count=2)
    with av.open(str(tmp_path / "video.mkv")) as whole:
        container = TransportStream(*[[]] * 10_000)
        packets = list(probing.read_packets(container, whole.streams.video[0]))  # type: ignore[arg-type]
    assert [packet.size for packet in packets] == [0]
    assert len(container.runs) > 9_000


def test_bytes_missing_in_a_transport_stream_are_noted(tmp_path: Path, factory: ModuleType) -> None:
    packets = probing._Packets()
    packets._note_error(av.error.BlockingIOError(11, "Resource temporarily unavailable", "file:video.ts"))
    packets._note_error(av.error.InvalidDataError(1094995529, "Invalid data found when processing input", "file:video.ts"))
    assert (packets.gaps, packets.error) == (1, "Invalid data found when processing input")


def test_timestamps_beyond_all_reason_are_too_long_not_nonsense(tmp_path: Path, factory: ModuleType) -> None:
    path = tmp_path / "video.ivf"
    factory.make_video(path, codec="libvpx-vp9", frame_count=3, options={"cpu-used": "8"}, container_format="ivf")
    content = bytearray(path.read_bytes())
    content[20:24] = struct.pack("<I", 4097)  # seconds a tick
    place = 32 + 12 + struct.unpack("<I", content[32:36])[0]
    content[place + 4 : place + 12] = struct.pack("<Q", 2**62)
    path.write_bytes(content)
    assert "has timestamps that span" in sentence(path, limits=DecodeLimits(max_stay_s=float("inf")))


def test_one_frame_that_stays_for_hours_is_broken_time(tmp_path: Path, factory: ModuleType) -> None:
    """A second of video was sampled for a week."""
    path = tmp_path / "video.mp4"
    times = [Fraction(k, 25) for k in range(25)] + [Fraction(7200) + Fraction(k, 25) for k in range(25)]
    factory.make_video(path, times=times, time_base=Fraction(1, 25))
    text = sentence(path)
    assert "shows one frame for 7199 s and the others for moments, more than the 3600 s allowed" in text
    assert "raise DecodeLimits.max_stay_s" in text
    with open_video(path, limits=DecodeLimits(max_stay_s=8000)) as video:
        assert "one frame stays on screen for 7199 s" in video.notes[0]


def test_slides_may_stay_for_hours(tmp_path: Path, factory: ModuleType) -> None:
    path = tmp_path / "slides.mp4"
    factory.make_video(path, times=[Fraction(4000 * k) for k in range(4)], time_base=Fraction(1, 25))
    with open_video(path) as video:
        indices = [factory.read_index(frame) for chunk in video.frames(fps=Fraction(1, 4000)) for frame in chunk.frames]
    assert indices[:4] == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [(48, 64), (64, 64), (60, 48), (64, 48), (128, 48), (6, 200), (200, 6)])
def test_pictures_of_any_shape_are_watched_by_a_network_that_looks_at_wide_ones(
    tmp_path: Path, factory: ModuleType, size: tuple[int, int]
) -> None:
    """The starter's crop is 96 x 128: of an upright video, "crop (96, 128) (height, width) does not fit in 128 x 96"."""
    pytest.importorskip("torch")
    from tal_run.extractors import extract

    factory.make_video(tmp_path / "video.mp4", frame_count=5, size=size)
    assert extract(tmp_path / "video.mp4", backbone="starter").data.shape == (1, 256)


@given(st.tuples(*[st.integers(1, 4000)] * 2), st.integers(1, 500), st.tuples(*[st.integers(1, 500)] * 2))
def test_what_covers_a_crop_is_as_small_as_can_be(size: tuple[int, int], short_side: int, crop: tuple[int, int]) -> None:
    """And the short side stays where that is enough already."""
    covering = covering_short_side(Size(*size), short_side=short_side, crop=crop)
    scaled = resized(Size(*size), short_side=covering)
    assert scaled.height >= crop[0]
    assert scaled.width >= crop[1]
    if covering > short_side:
        smaller = resized(Size(*size), short_side=covering - 1)
        # a pixel's rounding apart
        assert smaller.height <= crop[0] or smaller.width <= crop[1]
    elif short_side >= max(crop):
        assert covering == short_side
    assert covering_short_side(Size(*size), short_side=short_side, crop=None) == short_side


def test_pictures_too_narrow_to_be_scaled_are_a_sentence(tmp_path: Path, factory: ModuleType) -> None:
    """It is the video that does not fit, not the caller's argument."""
    path = tmp_path / "line.mp4"
    factory.make_video(path, size=(2, 1200), frame_count=2)
    text = sentence(path, limits=DecodeLimits(max_pixels=10_000_000))
    assert "has pictures of 2 x 1200 pixels, too narrow to be scaled to a short side of 172; cut out" in text
