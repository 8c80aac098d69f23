"""``--dry-run``: it says what the command then does, goes wrong as that would, and leaves everything as it was."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tal_run.pipeline import dry_run
from tal_run.pipeline.cli import main

TABLE = "video_id,label,start_s,end_s,score\na,squat,0,1,0.5\nb,diving,1,2,0.4\nb,squat,0.5,2,0.3\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def _all(folder: Path) -> dict[str, Any]:
    """Everything below a folder: names, bytes, and when it was changed."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
        for path in folder.rglob("*")
    }


def _written(result: Result) -> set[str]:
    return {match[1] for line in result.stdout.splitlines() if (match := re.match(r"would write (\S+)", line))}


@pytest.fixture
def here(tmp_path: Path, make_video: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``videos`` of 2 and 4 seconds and ``found.csv`` of them, which is where we are."""
    make_video("videos/a.mp4", [("grey", 1.0), ("red", 1.0)])
    make_video("videos/b.mp4", [("green", 2.0), ("grey", 2.0)])
    (tmp_path / "found.csv").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = {
    "detect": ["detect", "videos", "--backbone", "starter", "-o", "new.json", "-o", "new.csv", "-o", "new.html"],
    "convert": ["convert", "found.csv", "-o", "new.jsonl"],
    "convert to a folder": ["convert", "found.csv", "-o", "subtitles/", "--format", "vtt"],
    "convert with a second file": ["convert", "found.csv", "-o", "new.json", "--format", "label-studio", "--fps", "25"],
    "clips": ["clips", "found.csv", "--video", "videos", "-o", "cut"],
    "exact clips of a label": ["clips", "found.csv", "--video", "videos", "-o", "cut", "--exact", "--label", "squat"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_said_is_what_is_then_written(name: str, here: Path) -> None:
    before = _all(here)
    said = run(*COMMANDS[name], "--dry-run")
    assert said.exit_code == 0, said.output
    assert _all(here) == before
    assert run(*COMMANDS[name]).exit_code == 0
    files = {name for name, content in _all(here).items() if content is not None and name not in before}
    assert _written(said) == files
    assert files


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect", "videos", "--backbone", "starter", "-o", "no/folder.json"],
        ["detect", "videos", "--backbone", "starter", "--query", "xyzzy"],
        ["detect", "videos", "--backbone", "starter", "--format", "srt", "-o", "a.srt"],
        ["detect", "videos/absent.mp4", "--backbone", "starter"],
        ["detect", "videos/b.mp4", "text.mp4", "--backbone", "starter", "-o", "x.json"],
        ["detect", "videos", "--backbone", "c3d"],
        ["features", "videos", "-o", "found.csv", "--backbone", "starter"],
        ["features", "videos", "-o", "out", "--backbone", "starter", "--layout", "wtalc"],
        ["batch", "absent", "-o", "out"],
        ["convert", "found.csv", "-o", "videos/a.mp4"],
        ["convert", "found.csv", "-o", "out.eaf"],
        ["clips", "found.csv", "-o", "cut"],
        ["train", "--head", "wtalc", "--features", "absent", "--annotations", "found.csv", "-o", "x.safetensors"],
    ],
    ids=lambda arguments: " ".join(arguments[:4]),
)
def test_what_would_go_wrong_does(arguments: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAL_RUN_WEIGHTS", "")
    (here / "text.mp4").write_text("no video")
    before = _all(here)
    said = run(*arguments, "--dry-run")
    assert _all(here) == before
    done = run(*arguments)
    assert said.exit_code == done.exit_code != 0
    # of several weights that are not there, not all may be named
    errors = [[line[:80] for line in result.stderr.splitlines() if line.startswith("Error")] for result in (said, done)]
    assert errors[0] == errors[1] != []


def test_a_network_is_named_with_its_weights_and_nothing_is_fetched(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TAL_RUN_WEIGHTS", "")
    monkeypatch.setenv("TAL_RUN_CACHE", str(cache))
    for command in (["detect", "videos", "-q", "jumping"], ["features", "videos", "-o", "o"], ["batch", "videos", "-o", "o"]):
        result = run(*command, "--backbone", "slow_r50", "--dry-run")
        assert result.exit_code == 0, result.output
        assert "backbone: slow_r50 (400 actions of Kinetics), on cpu" in result.stdout
        assert re.search(r"^weights: SLOW_8x8_R50.pyth, to be downloaded from https://", result.stdout, re.MULTILINE)
        assert "videos: 2, 6.0 s of video" in result.stdout
    assert list(cache.rglob("*")) == []
    assert not (here / "o").exists()


def test_the_network_is_named_once(here: Path) -> None:
    for command in (["detect", "videos"], ["features", "videos", "-o", "o"], ["batch", "videos", "-o", "o"]):
        result = run(*command, "--dry-run")
        lines = [line for line in result.output.splitlines() if line.startswith(("backbone: ", "a stronger one: "))]
        assert len(lines) == len({line.partition(":")[0] for line in lines}) >= 1, result.output


def test_of_many_videos_the_length_is_reckoned_from_a_few(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        (here / f"videos/c{number}.mp4").write_bytes((here / "videos/b.mp4").read_bytes())
    monkeypatch.setattr(dry_run, "MOST_PROBED", 3)
    result = run("detect", "videos", "--backbone", "starter", "--dry-run")
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("videos"))
    match = re.match(r"videos: 8, about (\d+\.\d) s of video \(by 3 of them\)", line)
    assert match, line
    assert float(match[1]) == pytest.approx(2 + 7 * 4, rel=0.25)


def test_features_that_are_there_are_counted(here: Path) -> None:
    command = ["features", "videos", "-o", "features", "--backbone", "starter"]
    assert run("features", "videos/a.mp4", *command[2:]).exit_code == 0
    before = _all(here)
    result = run(*command, "--dry-run")
    assert (result.exit_code, _all(here)) == (0, before)
    assert "there already: 1, each kept if" in result.stdout
    assert "videos: 1, 4.0 s of video" in result.stdout
    assert "there already: 1, made again" in run(*command, "--again", "--dry-run").stdout
    assert "videos: 2, 6.0 s of video" in run(*command, "--again", "--dry-run").stdout


def test_features_that_cannot_be_are_said(here: Path) -> None:
    (here / "videos/broken.mp4").write_text("no video")
    (here / "videos/...mp4").write_bytes((here / "videos/b.mp4").read_bytes())
    command = ["features", "videos", "-o", "features", "--backbone", "starter"]
    said = run(*command, "--dry-run")
    done = run(*command)
    assert said.exit_code == done.exit_code == 1
    for result in (said, done):
        errors = " ".join(result.stderr.split())
        assert all(words in errors for words in ("broken.mp4 is a text file", "...mp4: '..' cannot be the name of a video"))
    (here / "features/new.npz").write_text("mine")
    (here / "videos/new.mp4").write_bytes((here / "videos/b.mp4").read_bytes())
    said = run(*command, "--dry-run")
    assert "failed before: 2, left out (--retry-failed tries them again)" in said.stdout
    assert "there already: 2, each kept" in said.stdout
    assert "new.npz is not tal-run's" in " ".join(said.stderr.split())
    assert said.exit_code == 1
    assert "failed before: 2, tried again" in run(*command, "--retry-failed", "--dry-run").stdout


@pytest.mark.parametrize(("command", "name"), [("batch", "detections.csv"), ("batch", "failures"), ("features", "failures")])
@pytest.mark.parametrize("is_link", [False, True])
def test_what_is_in_the_way_is_said(command: str, name: str, is_link: bool, here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / name).symlink_to(here / "videos") if is_link else (here / "out" / name).write_text("mine")
    before = _all(here)
    said, done = (run(command, "videos", "-o", "out", "--backbone", "starter", *more) for more in (["--dry-run"], []))
    assert said.exit_code == done.exit_code == 2
    assert said.stderr.splitlines()[-1] == done.stderr.splitlines()[-1]
    assert _all(here) == before


def test_of_a_batch_what_is_done_is_left_out(here: Path) -> None:
    (here / "videos/broken.mp4").write_text("no video")
    options = ["--backbone", "starter", "--workers", "1"]
    assert run("batch", "videos", "-o", "out", *options).exit_code == 1
    (here / "videos/new.mp4").write_bytes((here / "videos/b.mp4").read_bytes())
    before = _all(here)
    result = run("batch", "videos", "-o", "out", *options, "--dry-run")
    assert result.exit_code == 1, result.output  # as the batch itself, which says what failed before
    lines = result.stdout.splitlines()
    assert "failed before: 1, left out (--retry-failed tries them again)" in lines
    # a result that was written within the tick in which its video was changed is looked at again
    assert any(line.startswith(("done already: 2", "to be done again: ")) for line in lines)
    other = run("batch", "videos", "-o", "out", *options, "--min-score", "0.9", "--dry-run")
    assert "to be done again: 2, of which each was made with other options" in other.stdout
    assert run("batch", "videos", "-o", "out", *options, "--retry-failed", "--dry-run").exit_code == 1  # it is still broken
    assert _all(here) == before


def test_clips_that_are_there_are_kept(here: Path) -> None:
    command = ["clips", "found.csv", "--video", "videos", "-o", "cut"]
    assert "cut: 3 would be made, 0 kept" in run(*command, "--dry-run").stdout
    assert run(*command, "--label", "diving").exit_code == 0
    assert "cut: 2 would be made, 1 kept" in run(*command, "--dry-run").stdout


def test_a_training_says_what_it_would_learn_from(lesson: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson.written(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = _all(tmp_path)
    command = ["train", "--head", "wtalc", "--features", "features", "--annotations", "truth.json", "-o", "head.safetensors"]
    result = run(*command, "--iterations", "7", "--tensorboard", "losses", "--dry-run")
    assert result.exit_code == 0, result.output
    assert re.search(r"wtalc would learn \d+ actions from \d+ videos .* for 7 iterations", result.stdout)
    assert _written(result) == {"head.safetensors"}
    assert _all(tmp_path) == before
