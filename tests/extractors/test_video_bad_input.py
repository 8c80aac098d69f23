"""Every bad file costs one sentence with the cause and the cure, or a note and the frames that are there."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest

from tal_run.extractors.video import DecodeLimits, VideoError, open_video, probe


@pytest.fixture(scope="module")
def good(factory: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """300 frames in MP4, the index first."""
    path = tmp_path_factory.mktemp("good") / "good.mp4"
    factory.make_video(path, frame_count=300, size=(160, 120), container_options={"movflags": "faststart"})
    return path.read_bytes()


def sentence(path: str | Path, **options: object) -> str:
    with pytest.raises(VideoError) as caught, open_video(path, **options) as video:  # type: ignore[arg-type]
        list(video.frames(fps=5))
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "match.mp4").touch()
    assert "there is no file" in sentence(tmp_path / "mathc.mp4")
    assert "did you mean match.mp4?" in sentence(tmp_path / "mathc.mp4")
    (tmp_path / "link.mp4").symlink_to("gone.mp4")
    assert "it is a link to gone.mp4, where nothing is" in sentence(tmp_path / "link.mp4")
    assert "no folder" in sentence(tmp_path / "nowhere" / "match.mp4")


def test_directory(tmp_path: Path) -> None:
    assert "is a folder, not a video; name the files in it" in sentence(tmp_path)


def test_named_pipe_and_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "is a pipe, socket or device" in sentence(tmp_path / "pipe.mp4")
    assert "is a pipe, socket or device" in sentence("/dev/zero")


def test_no_permission(tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "private.mp4"
    path.write_bytes(good)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    assert "may not be read by you; `chmod +r` it" in sentence(path)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert "is empty (0 bytes)" in sentence(tmp_path / "empty.mp4")


def test_text_named_mp4(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("Übung macht den Meister\n" * 400)
    assert "is a text file, not a video" in sentence(tmp_path / "notes.mp4")


@pytest.mark.parametrize("name", ["noise.mp4", "noise.bin"])
def test_noise(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(random.Random(0).randbytes(20_000))
    assert "is not a video in a format that can be read" in sentence(tmp_path / name)


def test_audio_only(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "holds sound but no pictures" in sentence(tmp_path / "song.mp4")


@pytest.mark.parametrize("address", ["http://example.org/a.mp4", "concat:a.mp4|b.mp4", "rtsp://host/a", "pipe:0"])
def test_addresses_are_not_opened(address: str) -> None:
    assert "tal-run reads local files; download it first" in sentence(address)


def test_a_file_named_like_an_address_or_an_option_is_read(
    tmp_path: Path, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4", "-", "-i.mp4", "a b%d'ü.mp4", os.fsdecode(b"\xff\xfe.mp4")):
        Path(name).write_bytes(good)
        assert probe(name).frame_count == 300


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list.ts"])
@pytest.mark.parametrize("disguise", [b"", b"\xef\xbb\xbf", b"\n\n"])
def test_playlists_open_neither_sockets_nor_files(tmp_path: Path, good: bytes, name: str, disguise: bytes) -> None:
    (tmp_path / "target.mp4").write_bytes(good)
    target = (tmp_path / "target.mp4").as_uri()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        texts = [
            f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{address}\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
            "ffconcat version 1.0\nfile target.mp4\n",
            f"<?xml version='1.0'?>\n<MPD type='static'><Period><BaseURL>{address}</BaseURL></Period></MPD>",
            f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=video {server.getsockname()[1]} RTP/AVP 96\r\n",
        ]
        for text in texts:
            (tmp_path / name).write_bytes(disguise + text.encode())
            assert "is a playlist, which names other files or addresses, and those are refused" in sentence(tmp_path / name)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:2,\n{}\n", "ffconcat version 1.0\nfile {}\n"])
def test_the_decoder_itself_refuses_playlists(tmp_path: Path, text: str, good: bytes) -> None:
    """Whatever gets past the look at the first bytes meets the list of demultiplexers."""
    probing = pytest.importorskip("tal_run.extractors.probing")
    (tmp_path / "target.mp4").write_bytes(good)
    (tmp_path / "list.m3u8").write_text(text.format("target.mp4"))
    with pytest.raises(probing.UnreadableError):
        probing.open_container(str(tmp_path / "list.m3u8"))


def test_cut_off_before_its_index(tmp_path: Path, factory: ModuleType) -> None:
    factory.make_video(tmp_path / "whole.mp4")
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert "ends before its index (moov)" in sentence(tmp_path / "cut.mp4")


@pytest.mark.parametrize("decoder", ["auto", "decord"])
@pytest.mark.parametrize("share", [0.6, 0.2])
def test_cut_off_in_the_middle(tmp_path: Path, good: bytes, factory: ModuleType, share: float, decoder: str) -> None:
    """The header of the shorter one promises many times the frames that are there."""
    (tmp_path / "cut.mp4").write_bytes(good[: int(len(good) * share)])
    with open_video(tmp_path / "cut.mp4", decoder=decoder, limits=DecodeLimits(stall_s=10)) as video:
        samples = [factory.read_index(frame) for chunk in video.frames(fps=25) for frame in chunk.frames]
        assert "the header promises 300 frames" in video.info.notes[0]
        assert f"{video.info.frame_count} are there" in video.info.notes[0]
    assert 10 < len(samples) < 300
    assert samples == list(range(len(samples)))


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_cut_off_without_an_index(tmp_path: Path, factory: ModuleType, suffix: str) -> None:
    path = tmp_path / f"video{suffix}"
    factory.make_video(path, frame_count=300, size=(160, 120), codec="mpeg4")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with open_video(path) as video:
        samples = [factory.read_index(frame) for chunk in video.frames(fps=25) for frame in chunk.frames]
        assert "the file is cut off or damaged" in video.notes[0]
    assert samples[:100] == list(range(100))


def test_damage_in_the_middle_holds_the_last_good_frame(tmp_path: Path, good: bytes, factory: ModuleType) -> None:
    broken = bytearray(good)
    middle = slice(len(good) // 2, len(good) // 2 + len(good) // 20)
    broken[middle] = b"\x55" * len(broken[middle])
    (tmp_path / "broken.mp4").write_bytes(broken)
    with open_video(tmp_path / "broken.mp4") as video:
        samples = [factory.read_index(frame) for chunk in video.frames(fps=25) for frame in chunk.frames]
        assert any("could not be decoded" in note for note in video.notes)
    assert len(samples) == 300
    assert samples[:100] == list(range(100))
    assert samples[250:] == list(range(250, 300))


def test_no_frame_decodes(tmp_path: Path, good: bytes) -> None:
    """The index is whole, the pictures are all zeros."""
    start = good.index(b"mdat") + 4
    (tmp_path / "hollow.mp4").write_bytes(good[:start] + bytes(len(good) - start))
    assert "no frame can be decoded" in sentence(tmp_path / "hollow.mp4")


def test_too_many_pixels(tmp_path: Path, good: bytes) -> None:
    (tmp_path / "good.mp4").write_bytes(good)
    assert "160 x 120 pixels, more than the 10,000 allowed" in sentence(
        tmp_path / "good.mp4", limits=DecodeLimits(max_pixels=10_000)
    )


def test_too_long(tmp_path: Path, good: bytes) -> None:
    (tmp_path / "good.mp4").write_bytes(good)
    assert "timestamps that span" in sentence(tmp_path / "good.mp4", limits=DecodeLimits(max_duration_s=5))


def test_eight_k(tmp_path: Path, factory: ModuleType) -> None:
    """Decodes within the default bounds; with less memory it is refused in words, not by a crash."""
    path = tmp_path / "8k.mp4"
    factory.make_video(path, frame_count=2, size=(7680, 4320))
    with open_video(path) as video:
        # in one chunk or, where decoding takes a second a frame, in two
        chunks = [chunk.frames for chunk in video.frames(fps=25, short_side=54)]
        assert np.concatenate(chunks).shape == (2, 54, 96, 3)
    assert "address space allowed to a decoder" in sentence(path, limits=DecodeLimits(memory_bytes=260 << 20))
