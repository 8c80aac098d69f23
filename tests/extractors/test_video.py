"""Which frame comes for which time: every picture shows its own index, and its true time was chosen when it was written."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tal_run.extractors.video import DecodeLimits, Video, VideoInfo, native_rate, open_video, probe, why_not_decord

NTSC = Fraction(30000, 1001)
FILM = Fraction(24000, 1001)
B_FRAMES: dict[str, Any] = {"b_frames": 3, "options": {"preset": "medium"}}
HEVC: dict[str, Any] = {"codec": "libx265", "size": (128, 96)}
JITTER = [Fraction(ms, 1000) for ms in (0, 40, 75, 130, 131, 200, 340, 360, 400, 650, 655, 700, 780, 800, 1000, 1013)]

# name: how it is written, and whether decord may be trusted with it
FILES: dict[str, tuple[dict[str, Any], bool]] = {
    "film.mp4": ({"rate": FILM}, True),
    "pal.mp4": ({"rate": 25}, True),
    "ntsc.mp4": ({"rate": NTSC}, True),
    "fast.mp4": ({"rate": 50}, True),
    "film.mkv": ({"rate": FILM, "time_base": Fraction(1, 1000)}, True),
    "ntsc.mkv": ({"rate": NTSC, "time_base": Fraction(1, 1000)}, True),
    "late.mkv": ({"rate": NTSC, "start": Fraction(7, 5), "time_base": Fraction(1, 1000)}, True),
    "late.mp4": ({"start": Fraction(7, 5), "time_base": Fraction(1, 90000)}, True),
    "long-groups.mp4": ({"frame_count": 120, "gop": 120}, True),
    "jitter.mp4": ({"times": JITTER, "time_base": Fraction(1, 90000)}, False),
    "jitter.mkv": ({"times": JITTER, "time_base": Fraction(1, 1000)}, False),
    "jitter-b.mp4": ({"times": JITTER, "time_base": Fraction(1, 90000), **B_FRAMES}, False),
    "b.mp4": ({"rate": FILM, **B_FRAMES}, False),
    "b.mkv": ({"rate": NTSC, "time_base": Fraction(1, 1000), **B_FRAMES}, False),
    "b.ts": ({"start": 10, "time_base": Fraction(1, 90000), **B_FRAMES}, False),
    "open-groups.mp4": ({"b_frames": 2, "options": {"preset": "medium", "x264-params": "open-gop=1"}}, False),
    "pal.ts": ({}, False),
    "mpeg4.avi": ({"codec": "mpeg4"}, False),
    "mpeg4-b.avi": ({"codec": "mpeg4", "b_frames": 2}, False),
    "h264-b.avi": (B_FRAMES, False),
    "hevc.mp4": (HEVC, True),
    "hevc-b.mp4": ({**HEVC, "b_frames": 3}, False),
    "ten-bit.mkv": ({**HEVC, "pixel_format": "yuv420p10le"}, True),
    "odd.mp4": ({"size": (321, 241), "pixel_format": "yuv444p"}, True),
    "vp9.webm": ({"codec": "libvpx-vp9"}, True),
    "one.mp4": ({"frame_count": 1}, True),
    "short.mp4": ({"frame_count": 5}, True),
}
SAMPLE_RATES = [Fraction(1, 2), Fraction(5), FILM, Fraction(25), Fraction(50)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


def written(factory: ModuleType, folder: Path, name: str) -> tuple[Path, list[Fraction]]:
    """The file, made once, and its frames' true times from 0."""
    path = folder / name
    times = list(factory.frame_times(**FILES[name][0])) if path.exists() else factory.make_video(path, **FILES[name][0])
    return path, [time - times[0] for time in times]


def shown(video: Video, factory: ModuleType, **wanted: Any) -> list[int]:
    return [factory.read_index(frame) for chunk in video.frames(**wanted) for frame in chunk.frames]


def on_screen(times: list[Fraction], fps: Fraction, count: int) -> list[int]:
    """The slow definition: the last frame that has started at k / fps."""
    return [max(index for index, time in enumerate(times) if time <= k / fps) for k in range(count)]


def stored_times(name: str, times: list[Fraction]) -> list[Fraction]:
    """From when on a frame counts: Matroska rounds to a millisecond, and its zero too unless that is 0."""
    if not name.endswith((".mkv", ".webm")):
        return times
    slack_ms = Fraction(1) if name.startswith("late") else Fraction(1, 2)
    return [max(Fraction(0), round(1000 * time) - slack_ms) / 1000 for time in times]


@pytest.mark.parametrize("name", FILES)
def test_samples_show_what_is_on_screen(name: str, factory: ModuleType, folder: Path) -> None:
    path, times = written(factory, folder, name)
    with open_video(path, decoder="pyav") as video:
        for fps in [*SAMPLE_RATES, Fraction(FILES[name][0].get("rate", 25))]:
            samples = shown(video, factory, fps=fps)
            assert abs(len(samples) - video.info.duration_s * fps) <= 1
            assert samples == on_screen(stored_times(name, times), fps, len(samples)), fps
        assert video.info.frame_count == len(times)
        assert video.info.is_variable_rate == ("jitter" in name)
        assert video.notes == []


@pytest.mark.parametrize("name", [name for name, (_, is_trusted) in FILES.items() if is_trusted])
def test_decord_shows_the_same_where_it_is_trusted(name: str, factory: ModuleType, folder: Path) -> None:
    pytest.importorskip("decord")
    path, times = written(factory, folder, name)
    with open_video(path, decoder="decord") as video:
        assert why_not_decord(video.info) is None
        for fps in [Fraction(1, 2), Fraction(7), Fraction(FILES[name][0].get("rate", 25))]:
            samples = shown(video, factory, fps=fps)
            assert samples == on_screen(stored_times(name, times), fps, len(samples)), fps
            assert video.decoder == "decord"


@pytest.mark.parametrize("name", [name for name, (_, is_trusted) in FILES.items() if not is_trusted])
def test_decord_is_not_trusted(name: str, factory: ModuleType, folder: Path) -> None:
    path, _ = written(factory, folder, name)
    assert why_not_decord(probe(path))


def test_times_are_exact(factory: ModuleType, folder: Path) -> None:
    path, _ = written(factory, folder, "long-groups.mp4")
    with open_video(path, limits=DecodeLimits(chunk_frames=7)) as video:
        chunks = list(video.frames(fps=NTSC))
    assert {len(chunk) for chunk in chunks[:-1]} == {7}
    assert [chunk.first_index for chunk in chunks] == list(range(0, 7 * len(chunks), 7))
    times_s = np.concatenate([chunk.times_s for chunk in chunks])
    assert times_s.dtype == np.float64
    assert times_s.tolist() == [float(k / NTSC) for k in range(len(times_s))]


def test_sound_that_starts_first_sets_the_zero(factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "late-picture.mp4"
    factory.make_video(path, frame_count=25, start=Fraction(1), audio_start=0, time_base=Fraction(1, 90000))
    with open_video(path) as video:
        samples = shown(video, factory, fps=25)
    assert samples == [0] * 25 + list(range(25))


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("rotation_deg", [0, 90, 180, 270])
def test_frames_come_upright(rotation_deg: int, decoder: str, factory: ModuleType, tmp_path: Path) -> None:
    """The board reads the same only one way up: mirrored or turned otherwise the indices would be others."""
    path = tmp_path / "portrait.mp4"
    factory.make_video(path, size=(96, 160), rotation_deg=rotation_deg)
    with open_video(path, decoder=decoder) as video:
        info = video.info
        assert (info.width, info.height, info.rotation_deg) == (96, 160, rotation_deg)
        assert shown(video, factory, fps=25) == list(range(50))
        assert shown(video, factory, fps=25, short_side=48) == list(range(50))
        assert video.decoder == decoder


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_pixels_are_square(decoder: str, factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "anamorphic.mp4"
    factory.make_video(path, size=(72, 48), pixel_aspect=Fraction(4, 3))
    with open_video(path, decoder=decoder) as video:
        assert (video.info.width, video.info.height, video.info.pixel_aspect) == (96, 48, Fraction(4, 3))
        assert next(iter(video.frames(fps=1))).frames.shape == (2, 48, 96, 3)
        assert next(iter(video.frames(fps=1, short_side=24))).frames.shape == (2, 24, 48, 3)


def test_scaling_keeps_the_aspect_and_the_crop_is_the_middle(factory: ModuleType, folder: Path) -> None:
    path, _ = written(factory, folder, "pal.mp4")  # 64 × 48
    with open_video(path) as video:
        whole = np.concatenate([chunk.frames for chunk in video.frames(fps=25, short_side=24)])
        middle = np.concatenate([chunk.frames for chunk in video.frames(fps=25, short_side=24, crop=(20, 24))])
    assert whole.shape == (50, 24, 32, 3)
    np.testing.assert_array_equal(middle, whole[:, 2:22, 4:28])


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    ("wanted", "size"), [({"short_side": 30}, (40, 30)), ({"size": (20, 23)}, (23, 20)), ({"size": (96, 100)}, (100, 96))]
)
def test_opencv_scales_the_whole_picture(
    wanted: dict[str, Any], size: tuple[int, int], decoder: str, factory: ModuleType, folder: Path
) -> None:
    import cv2

    path, _ = written(factory, folder, "pal.mp4")
    with open_video(path, decoder=decoder) as video:
        whole = np.concatenate([chunk.frames for chunk in video.frames(fps=5)])
        scaled = np.concatenate([chunk.frames for chunk in video.frames(fps=5, interpolation="opencv", **wanted)])
        smooth = np.concatenate([chunk.frames for chunk in video.frames(fps=5, **wanted)])
    expected = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in whole])
    assert np.array_equal(scaled, expected)
    assert smooth.shape == scaled.shape
    assert not np.array_equal(smooth, scaled)


def test_opencv_s_pictures_are_turned_too(factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    factory.make_video(path, rotation_deg=90, size=(64, 48))
    with open_video(path) as video:
        frames = np.concatenate([c.frames for c in video.frames(fps=25, size=(60, 50), interpolation="opencv")])
        assert frames.shape[1:] == (60, 50, 3)
        assert [factory.read_index(frame) for frame in frames] == list(range(50))


@pytest.mark.parametrize(
    ("average", "meant"),
    [
        (29.97002997, 30000 / 1001),
        (29.9695, 30000 / 1001),  # timestamps in whole milliseconds
        (30.0004, 30.0),
        (25.0, 25.0),
        (23.976, 24000 / 1001),
        (29.9, 29.9),
        (17.3, 17.3),
        (0.2, 0.2),
    ],
)
def test_the_native_rate_is_the_one_that_was_meant(average: float, meant: float, factory: ModuleType, folder: Path) -> None:
    with open_video(written(factory, folder, "pal.mp4")[0]) as video:
        assert native_rate(replace(video.info, frame_rate=average)) == meant


def test_decoders_agree_on_pixels(clips: Path) -> None:
    pytest.importorskip("decord")
    path = clips / "activitynet" / "v_ZNVhz7ctTq0.mp4"
    by_decoder = {}
    for decoder in ("pyav", "decord"):
        with open_video(path, decoder=decoder) as video:
            by_decoder[decoder] = np.concatenate([chunk.frames for chunk in video.frames(fps=2, short_side=96)])
            assert video.decoder == decoder
    difference = np.abs(by_decoder["pyav"].astype(int) - by_decoder["decord"])
    assert difference.mean(axis=(1, 2, 3)).max() < 2


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["crossfit/bar-facing_burpee_1.mp4", "torchvision/TrumanShow_wave_f_nm_np1_fr_med_26.avi"])
def test_what_is_not_decoded_is_not_missed(name: str, threads: int, clips: Path) -> None:
    """Both have B-frames; of those that no sample shows most are never decoded."""
    with open_video(clips / name, limits=DecodeLimits(threads=threads)) as video:
        every = np.concatenate([chunk.frames for chunk in video.frames(fps=30, short_side=96)])
        some = np.concatenate([chunk.frames for chunk in video.frames(fps=Fraction(30, 7), short_side=96)])
    np.testing.assert_array_equal(some, every[::7])


def test_an_edit_list_hides_frames(clips: Path) -> None:
    """The header promises 183 frames, 16 of which are cut away at the start."""
    info = probe(clips / "ibm_max_sports" / "baseball.mp4")
    assert (info.frame_count, info.discarded_count) == (167, 16)
    with open_video(info.path, decoder="decord") as video:
        frames = np.concatenate([chunk.frames for chunk in video.frames(fps=info.frame_rate, short_side=32)])
        assert video.decoder == "pyav"
    assert len(frames) == round(info.duration_s * info.frame_rate)


@pytest.mark.parametrize("name", ["SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi", "v_SoccerJuggling_g23_c01.avi"])
def test_real_avi(name: str, clips: Path) -> None:
    info = probe(clips / "torchvision" / name)
    assert not info.is_variable_rate
    assert info.duration_s == pytest.approx(info.frame_count / info.frame_rate)
    with open_video(info.path) as video:
        assert sum(len(chunk) for chunk in video.frames(fps=info.frame_rate, short_side=32)) == info.frame_count


def test_auto_takes_decord_only_for_sparse_samples(factory: ModuleType, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("decord")
    path, _ = written(factory, folder, "pal.mp4")
    with caplog.at_level(logging.INFO, "tal_run.extractors.video"), open_video(path) as video:
        assert shown(video, factory, fps=1) == [0, 25]
        assert video.decoder == "decord"
        assert shown(video, factory, fps=5) == list(range(0, 50, 5))
        assert video.decoder == "pyav"
    assert ["decoder decord" in caplog.text, "decoder pyav" in caplog.text] == [True, True]


def test_a_video_is_read_twice_and_also_after_a_reading_was_left(factory: ModuleType, folder: Path) -> None:
    path, _ = written(factory, folder, "long-groups.mp4")
    with open_video(path, limits=DecodeLimits(chunk_frames=3)) as video:
        first, second = iter(video.frames(fps=25)), iter(video.frames(fps=25))
        assert next(first).first_index == next(second).first_index == 0
        assert next(first).first_index == 3
        del first, second
        assert shown(video, factory, fps=25) == list(range(120))
        assert shown(video, factory, fps=5) == list(range(0, 120, 5))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"fps": 0}, "fps must be above 0"),
        ({"fps": 1e6}, "fps must be at most"),
        ({"fps": 5, "short_side": 0}, "short_side must be"),
        ({"fps": 5, "crop": (49, 64)}, "does not fit in 48 x 64"),
    ],
)
def test_impossible_wishes_are_refused_at_once(wanted: dict[str, Any], message: str, factory: ModuleType, folder: Path) -> None:
    path, _ = written(factory, folder, "pal.mp4")
    with open_video(path) as video, pytest.raises(ValueError, match=message):
        video.frames(**wanted)


def test_unknown_decoder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose auto, decord or pyav"):
        open_video(tmp_path, decoder="vlc")


def test_info_of_a_plain_file(factory: ModuleType, folder: Path) -> None:
    path, _ = written(factory, folder, "ntsc.mp4")
    info = probe(path)
    assert isinstance(info, VideoInfo)
    assert (info.codec, info.width, info.height, info.rotation_deg, info.pixel_aspect) == ("h264", 64, 48, 0, 1)
    assert info.duration_s == pytest.approx(50 / NTSC)
    assert info.frame_rate == pytest.approx(float(NTSC))
    assert info.notes == ()
