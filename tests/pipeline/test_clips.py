"""Clips: the very frames, with their sound, under safe names; nobody else's files overwritten; hostile ones cost a sentence.

Every frame of the videos shows its own number (``video_factory``), so what a clip holds is read from its pictures.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_run.extractors.errors import TalRunError
from tal_run.models import Detection
from tal_run.pipeline import clips
from tal_run.pipeline.cli import main
from tal_run.pipeline.outputs import file_names, rendered, safe_name

RATE = 25


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clip_video_factory", Path(__file__).parents[1] / "video_factory.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ntsc(factory: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[clips.ClipSource]:
    """A video of 60 frames at 30000/1001 a second."""
    path = tmp_path_factory.mktemp("ntsc") / "v.mkv"  # whose times are whole milliseconds
    factory.make_video(path, frame_count=60, rate=Fraction(30000, 1001), b_frames=2)
    with clips.ClipSource(path) as source:
        yield source


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def indices(path: Path, factory: ModuleType) -> list[int]:
    """The numbers of the frames that a clip shows, upright."""
    from tal_run.extractors.video import open_video

    with open_video(path) as video:
        return [factory.read_index(frame) for chunk in video.frames(fps=RATE) for frame in chunk.frames]


def times_s(path: Path, kind: str = "video") -> list[float]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0] if kind == "video" else container.streams.audio[0]
        zero = min(float(s.start_time * s.time_base) for s in container.streams if s.start_time is not None)
        return sorted(float(p.pts * p.time_base) - zero for p in container.demux(stream) if p.pts is not None and p.size)


def detections(folder: Path, *found: Detection, name: str = "v") -> Path:
    path = folder / "found.json"
    path.write_text(rendered("json", {name: found}, {"videos": {name: {"file": f"{name}.mp4"}}}))
    return path


VIDEOS: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "b_frames.mp4": {"b_frames": 3, "gop": 25},
    "b_frames.mkv": {"b_frames": 3, "gop": 25},
    "one_key_frame.mp4": {"gop": 500},
    "late.mp4": {"start": Fraction(3, 1)},
    "stream.ts": {"b_frames": 2, "time_base": Fraction(1, 90000)},
    "sound.mp4": {"audio_start": 0},
    "sound.ts": {"audio_start": 0, "time_base": Fraction(1, 90000)},
    "mpeg4.avi": {"codec": "mpeg4"},
    "turned.mp4": {"rotation_deg": 90},
}


@pytest.mark.parametrize("name", VIDEOS)
def test_an_exact_clip_holds_these_frames_and_no_other(name: str, factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / name
    factory.make_video(path, **{"frame_count": 100, **VIDEOS[name]})
    found = Detection(1.2, 2.6, "x", 0.9)
    with clips.ClipSource(path) as source:
        (plan,) = clips.planned("v", [found], duration_s=source.duration_s)
        cut = source.cut(plan, tmp_path, exact=True)
    # sound that begins before the pictures starts the clock: at 1.2 s, a frame is half over
    early = int(name == "sound.ts")
    assert indices(cut.path, factory) == list(range(30 - early, 65))
    assert cut.start_s == pytest.approx(1.2, abs=0.02)
    assert times_s(cut.path) == pytest.approx([k / RATE for k in range(35 + early)], abs=0.002)


@pytest.mark.parametrize("name", VIDEOS)
def test_a_copied_clip_begins_with_the_key_frame_before_and_says_so(name: str, factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / name
    factory.make_video(path, **{"frame_count": 100, **VIDEOS[name]})
    gop = VIDEOS[name].get("gop", 12)
    with clips.ClipSource(path) as source:
        (plan,) = clips.planned("v", [Detection(1.2, 2.6, "x", 0.9)], duration_s=source.duration_s)
        cut = source.cut(plan, tmp_path)
    shown = indices(cut.path, factory)
    first = 30 - 30 % gop if name != "sound.ts" else 24
    assert shown[: 65 - first] == list(range(first, 65))
    assert len(shown) <= 65 - first + 3  # what others needed
    assert cut.start_s == pytest.approx(first / RATE, abs=1e-3 if name != "sound.ts" else 0.022)


@pytest.mark.parametrize("exact", [False, True])
def test_sound_keeps_its_distance_to_the_pictures(exact: bool, factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    factory.make_video(path, frame_count=100, audio_start=0)
    with clips.ClipSource(path) as source:
        (plan,) = clips.planned("v", [Detection(1.2, 2.6, "x", 0.9)], duration_s=source.duration_s)
        cut = source.cut(plan, tmp_path, exact=exact)
    pictures, sound = times_s(cut.path), times_s(cut.path, "audio")
    assert abs(sound[0] - pictures[0]) < 0.025  # a packet of sound
    assert abs(sound[-1] - pictures[-1]) < 0.05
    with av.open(str(cut.path)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"


def test_times_between_frames_take_the_frame_on_screen(factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    factory.make_video(path, frame_count=60)
    with clips.ClipSource(path) as source:
        clip = clips.Clip(found=Detection(1.01, 1.09, "x", 1.0), start_s=1.01, end_s=1.09, stem="c")
        assert indices(source.cut(clip, tmp_path, exact=True).path, factory) == [25, 26, 27]


@given(first=st.integers(0, 50), length=st.integers(1, 8), digits=st.sampled_from([3, 6, 17]))
@settings(max_examples=25)
def test_times_rounded_to_the_millisecond_take_their_own_frame(
    first: int, length: int, digits: int, factory: ModuleType, ntsc: clips.ClipSource, tmp_path: Path
) -> None:
    rate = Fraction(30000, 1001)
    start_s, end_s = (round(float(index / rate), digits) for index in (first, first + length))
    clip = clips.Clip(found=Detection(start_s, end_s, "x", 1.0), start_s=start_s, end_s=end_s, stem="c")
    path = ntsc.cut(clip, tmp_path, exact=True, again=True).path
    with av.open(str(path)) as container:
        shown = [factory.read_index(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert shown == list(range(first, first + length))


def test_a_picture_is_the_one_on_screen(factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    factory.make_video(path, frame_count=60, b_frames=2)
    with clips.ClipSource(path) as source:
        for at_s, index in ((0.0, 0), (0.05, 1), (1.0, 25), (2.39, 59), (99.0, 59)):
            picture = source.picture(at_s, short_side=32)
            assert (picture.shape[0], factory.read_index(picture)) == (32, index)


# ---- the command ----


def test_the_command_keeps_what_it_made_and_leaves_others_alone(factory: ModuleType, tmp_path: Path) -> None:
    factory.make_video(tmp_path / "v.mp4", frame_count=100)
    found = detections(tmp_path, Detection(1.2, 2.6, "long jump", 0.9), Detection(0.0, 0.5, "x", 0.2))
    out = tmp_path / "clips"
    first = run("clips", found, "-o", out)
    assert first.exit_code == 0, first.stderr
    assert "2 made, 0 kept, 0 failed; they begin up to 0.2 s early" in first.stderr
    assert sorted(path.name for path in out.iterdir()) == ["v_long-jump_0-01.2-0-02.6.mp4", "v_x_0-00.0-0-00.5.mp4"]
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert "0 made, 2 kept" in run("clips", found, "-o", out).stderr
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert "2 made, 0 kept, 0 failed\n" in run("clips", found, "-o", out, "--exact").stderr  # another recipe
    stranger = out / "v_x_0-00.0-0-00.5.mp4"
    stranger.write_bytes(b"my own")
    refused = run("clips", found, "-o", out, "--exact")
    assert refused.exit_code == 1
    assert "no clip of tal-run's" in refused.stderr
    assert stranger.read_bytes() == b"my own"
    assert run("clips", found, "-o", out, "--again", "--label", "x").exit_code == 0
    assert stranger.read_bytes() != b"my own"


def test_margin_score_top_and_label_choose(factory: ModuleType, tmp_path: Path) -> None:
    factory.make_video(tmp_path / "v.mp4", frame_count=50)
    found = detections(tmp_path, *(Detection(0.5, 1.0, label, score) for label, score in (("a", 0.9), ("b", 0.5), ("c", 0.1))))
    for options, names in (
        (["--min-score", "0.4"], ["v_a_0-00.5-0-01.0", "v_b_0-00.5-0-01.0"]),
        (["--top", "1"], ["v_a_0-00.5-0-01.0"]),
        (["--label", "c", "--margin", "0.2"], ["v_c_0-00.3-0-01.2"]),
        (["--label", "b", "--margin", "60"], ["v_b_0-00.0-0-02.0"]),
    ):
        out = tmp_path / "-".join(options)
        assert run("clips", found, "-o", out, *options).exit_code == 0
        assert sorted(path.stem for path in out.iterdir()) == names


def test_a_source_is_never_overwritten(factory: ModuleType, tmp_path: Path) -> None:
    name = "v_x_0-00.0-0-01.0"
    path = tmp_path / f"{name}.mp4"
    factory.make_video(path, frame_count=50)
    before = path.read_bytes()
    found = detections(tmp_path, Detection(0.0, 1.0, "x", 0.9), name="v")
    result = run("clips", found, "--video", path, "-o", tmp_path, "--again")
    assert result.exit_code == 1
    assert "in the way of a clip" in result.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"#EXTM3U\nhttp://x/", "playlist"), (os.urandom(4096), "not a video"), (b"hello", "text file")],
)
def test_what_is_no_video_costs_a_sentence(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(content)
    result = run("clips", detections(tmp_path, Detection(0.0, 1.0, "x", 0.9)), "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert words in result.stderr
    assert "1 failed" in result.stderr
    assert not list((tmp_path / "out").iterdir())


def test_a_process_that_dies_costs_one_clip(factory: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.mp4"
    factory.make_video(path, frame_count=50)
    with clips.ClipSource(path) as source:
        one, two = clips.planned("v", [Detection(0.0, 1.0, "x", 0.9), Detection(1.0, 2.0, "x", 0.8)], duration_s=2.0)
        source._process.kill()  # type: ignore[union-attr]
        with pytest.raises(TalRunError, match="crash"):
            source.cut(one, tmp_path)
        assert source.cut(two, tmp_path).path.exists()
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix == ".part"] == []


def test_segments_behind_the_end_are_named(factory: ModuleType, tmp_path: Path) -> None:
    factory.make_video(tmp_path / "v.mp4", frame_count=50)
    found = detections(tmp_path, Detection(0.0, 1.0, "x", 0.9), Detection(7.0, 8.0, "x", 0.9))
    result = run("clips", found, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "begin behind its end (2.0 s)" in result.stderr
    assert "1 made, 0 kept, 1 failed" in result.stderr


# ---- names ----

NAMES = st.text(st.characters(codec=None), max_size=400)


@given(label=NAMES, name=NAMES, start_s=st.floats(0, 1e5), length_s=st.floats(0.1, 1e4))
def test_names_are_safe_whatever_the_label(label: str, name: str, start_s: float, length_s: float) -> None:
    found = Detection(start_s, start_s + length_s, label, 0.5)
    (clip,) = clips.planned(name, [found], duration_s=1e7)
    encoded = f"{clip.stem}.mp4".encode()
    assert len(encoded) <= 255
    assert not set(clip.stem) & set('/\\<>:"|?*\0')
    assert clip.stem.isprintable()
    assert clip.stem[0] not in ".- "
    assert Path(clip.stem).name == clip.stem


def test_names_keep_what_can_be_read() -> None:
    assert safe_name("../../etc/passwd", limit=80) == "etc-passwd"
    assert safe_name("Weitsprung 🏃 über\n4 m", limit=80) == "Weitsprung-🏃-über-4-m"
    assert len(safe_name("🏃" * 300, limit=80).encode()) == 80
    assert clips._clock(59.96) == "1-00.0"


@given(st.lists(NAMES, max_size=8))
def test_no_two_files_share_a_name(names: list[str]) -> None:
    made = file_names(names, ".x")
    assert len({name.casefold() for name in made}) == len(names)
