"""`tal-run features` as a batch: every video ends as features or as a failure record, whatever happens to the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tal_run.extractors.feature_files import FeatureFolder
from tal_run.pipeline import feature_batch, workers
from tal_run.pipeline.cli import main

STARTER = ("--backbone", "starter")
COMMAND = [sys.executable, "-m", "tal_run.pipeline.cli", "features"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["features", *map(str, arguments)], catch_exceptions=False)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True)


def manifest(out: Path) -> dict[str, Any]:
    """A line a video, by its name; checks the counts."""
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    videos = {line["video"]: line for line in lines[1:-1]}
    states = [line["state"] for line in videos.values()]
    assert lines[-1]["counts"] == {state: states.count(state) for state in set(states)}
    return videos


def states(out: Path) -> dict[str, str]:
    return {name: line["state"] for name, line in manifest(out).items()}


def wait_for(condition: Any, limit_s: float = 60) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture
def videos(make_video: Any, tmp_path: Path) -> Path:
    """Two of one name, a third, and a text among them."""
    for name, colour in (("x/a", "red"), ("y/a", "green"), ("c", "blue")):
        make_video(f"videos/{name}.mp4", [("grey", 1.0), (colour, 3.0)])
    (tmp_path / "videos" / "b.mp4").write_text("no video")
    return tmp_path / "videos"


@pytest.mark.usefixtures("colours")
def test_every_video_ends_as_features_or_as_a_failure(videos: Path, tmp_path: Path, make_video: Any) -> None:
    out = tmp_path / "out"
    result = run(videos, "-o", out)
    assert result.exit_code == 1
    assert "3 made, 0 kept, 0 made again, 1 failed" in result.stderr.splitlines()
    assert states(out) == {"b": "failed", "c": "done", "x/a": "done", "y/a": "done"}
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()) == sorted(
        [f"{name}{ending}" for name in ("c", "x/a", "y/a") for ending in (".json", ".npz")]
        + ["failures/b.json", "manifest.jsonl"]
    )
    failure = json.loads((out / "failures" / "b.json").read_text())
    assert "b.mp4 is a text file" in failure["error"]
    assert (failure["stage"], failure["kind"], failure["attempts"]) == ("opening", "error", 1)
    assert manifest(out)["b"]["error"] == failure["error"]
    assert manifest(out)["x/a"]["file"] == "x/a.npz"
    assert manifest(out)["x/a"]["snippets"] == len(FeatureFolder(out).read("x/a").data)

    result = run(videos, "-o", out)
    assert result.exit_code == 1
    assert "0 made, 3 kept, 0 made again, 0 failed, 1 failed before (--retry-failed tries again)" in result.stderr
    assert "is a text file" not in result.stderr
    assert "b.mp4 is a text file" in run(videos, "-o", out, "--retry-failed").stderr

    make_video("videos/b.mp4", [("grey", 1.0), ("red", 3.0)])  # mended
    (videos / "c.mp4").unlink()
    result = run(videos, "-o", out)
    assert result.exit_code == 0
    assert "1 made, 2 kept, 0 made again, 0 failed" in result.stderr.splitlines()
    assert not list((out / "failures").iterdir())
    assert states(out) == {"b": "done", "c": "gone", "x/a": "done", "y/a": "done"}


@pytest.mark.usefixtures("colours")
def test_a_failure_is_of_its_options_and_costs_no_features_from_before(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of luck")

    out = tmp_path / "out"
    assert run(videos / "c.mp4", "-o", out).exit_code == 0
    before = {path: path.read_bytes() for path in out.glob("c.*")}
    with monkeypatch.context() as patch:
        patch.setattr(feature_batch, "extract", failing)
        result = run(videos / "c.mp4", "-o", out, "--stride", "2")
        assert "c.mp4: not foreseen: RuntimeError: out of luck" in result.stderr
    assert states(out) == {"c": "failed"}
    assert {path: path.read_bytes() for path in out.glob("c.*")} == before
    assert "1 failed before" in run(videos / "c.mp4", "-o", out, "--stride", "2").stderr
    assert "0 made, 1 kept, 0 made again, 0 failed" in run(videos / "c.mp4", "-o", out).stderr
    assert states(out) == {"c": "done"}
    assert not list((out / "failures").iterdir())
    assert "1 made again" in run(videos / "c.mp4", "-o", out, "--stride", "2").stderr


@pytest.mark.usefixtures("colours")
@pytest.mark.parametrize("name", ["manifest.jsonl", "failures", "failures/b.json"])
def test_what_is_somebody_else_s_is_left_alone(videos: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text('{"format": "mine"}\n')
    result = run(videos, "-o", out)
    assert result.exit_code in (1, 2)
    assert f"{name} is there and no batch's: choose another folder with -o" in " ".join(result.stderr.split())
    assert (out / name).read_text() == '{"format": "mine"}\n'


@pytest.mark.usefixtures("colours")
def test_no_link_leads_out_of_the_folder(videos: Path, tmp_path: Path) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    for name in ("failures", "manifest.jsonl"):
        out.mkdir(exist_ok=True)
        (out / name).symlink_to(elsewhere)
        result = run(videos, "-o", out)
        assert result.exit_code == 2
        assert "leads elsewhere by a link" in " ".join(result.stderr.split())
        (out / name).unlink()
    assert not list(elsewhere.iterdir())


@pytest.mark.usefixtures("colours")
def test_features_in_a_folder_that_is_called_failures_are_no_failures(videos: Path, tmp_path: Path, make_video: Any) -> None:
    """Their record lies where the failure of another video would."""
    for folder in ("failures", "z"):
        make_video(f"videos/{folder}/b.mp4", [("red", 3.0)])
    result = run(videos / "failures", videos / "z", "-o", tmp_path / "out")
    assert result.exit_code == 0
    record = (tmp_path / "out" / "failures" / "b.json").read_bytes()
    result = run(videos / "b.mp4", videos / "c.mp4", "-o", tmp_path / "out")
    assert "1 made, 0 kept, 0 made again, 1 failed" in result.stderr
    assert states(tmp_path / "out") == {"b": "failed", "c": "done", "failures/b": "gone", "z/b": "gone"}
    (failure,) = (tmp_path / "out" / "failures").glob("b~*.json")
    assert "1 failed before" in run(videos / "b.mp4", "-o", tmp_path / "out").stderr
    make_video("videos/b.mp4", [("red", 3.0)])
    assert "1 made" in run(videos / "b.mp4", "-o", tmp_path / "out").stderr
    assert not failure.exists()
    assert (tmp_path / "out" / "failures" / "b.json").read_bytes() == record


@pytest.mark.usefixtures("colours")
def test_again_makes_everything_again_but_what_another_run_has_just_made(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def noting(video: str, **how: Any) -> Any:
        made.append(Path(video).parent.name)
        (out / "x" / "a.json").touch()  # another run has just made it
        return extract(video, **how)

    extract, out = feature_batch.extract, tmp_path / "out"
    (videos / "b.mp4").unlink()
    run(videos, "-o", out)
    monkeypatch.setattr(feature_batch, "extract", noting)
    assert "0 made, 1 kept, 2 made again, 0 failed" in run(videos, "-o", out, "--again").stderr
    assert made == ["videos", "y"]
    assert set(states(out).values()) == {"done"}


@pytest.mark.usefixtures("colours")
def test_shares_together_make_everything_and_nothing_twice(make_video: Any, tmp_path: Path) -> None:
    for number in range(8):
        make_video(f"videos/{number}.mp4", [("red", 1.0)])
    found: list[set[str]] = []
    for index in (1, 2):
        out = tmp_path / f"share{index}"
        result = run(tmp_path / "videos", "-o", out, "--shard", f"{index}/2")
        assert result.exit_code == 0
        found.append(set(FeatureFolder(out).video_ids))
        counts = {state: list(states(out).values()).count(state) for state in ("done", "left")}
        assert counts == {"done": len(found[-1]), "left": 8 - len(found[-1])}
        assert f"all shares: {counts['done']} done, {counts['left']} left" in result.stderr
    assert all(found)
    assert not found[0] & found[1]
    assert found[0] | found[1] == set(map(str, range(8)))
    run(tmp_path / "videos", "-o", tmp_path / "share1", "--shard", "2/2")  # in one folder, one after the other
    assert set(states(tmp_path / "share1").values()) == {"done"}


def test_a_video_that_takes_too_long_costs_itself(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "Limits", partial(workers.Limits, base_s=0.0, bytes_per_s=1e9))
    result = run(videos / "x" / "a.mp4", videos / "c.mp4", "-o", tmp_path / "out", *STARTER, "--time-limit", "0.0001")
    assert result.exit_code == 1
    assert "0 made, 0 kept, 0 made again, 2 failed" in result.stderr
    failures = [json.loads(path.read_text()) for path in (tmp_path / "out" / "failures").iterdir()]
    assert [(failure["kind"], failure["attempts"]) for failure in failures] == [("time", 1)] * 2
    assert not list((tmp_path / "out").rglob(".tal-run-*"))


def test_a_worker_that_cannot_begin_is_no_video_s_failure(videos: Path, tmp_path: Path) -> None:
    result = run(videos / "c.mp4", "-o", tmp_path / "out", *STARTER, "--memory-limit", "1M")
    assert result.exit_code == 2
    assert "memory" in result.stderr
    assert not (tmp_path / "out").exists()


def test_killed_and_run_again_it_comes_to_the_same_bytes(make_video: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in range(5):
        make_video(f"videos/{number % 2}/{number // 2}.mp4", [("grey", 1.0), ("red", 2.0)])
    (tmp_path / "videos" / "bad.mp4").write_text("no video")
    calm = tmp_path / "calm"
    assert run(tmp_path / "videos", "-o", calm, *STARTER).exit_code == 1
    for more_s in (0.0, 0.3):
        process = start(tmp_path / "videos", "-o", out, *STARTER, "--quiet")
        before = len(list(out.rglob("*.npz"))) if out.exists() else 0
        wait_for(lambda: process.poll() is not None or len(list(out.rglob("*.npz"))) > before)  # noqa: B023
        time.sleep(more_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    result = run(tmp_path / "videos", "-o", out, *STARTER, "--retry-failed")
    assert result.exit_code == 1
    expected = {path.relative_to(calm): path for path in calm.rglob("*") if path.is_file()}
    there = {path.relative_to(out): path for path in out.rglob("*") if path.is_file()}
    assert sorted(there) == sorted(expected)  # nothing half-written, no lock
    for name, path in expected.items():
        if name.parts[0] not in ("failures", "manifest.jsonl"):  # which say how long it took
            assert there[name].read_bytes() == path.read_bytes()
    assert states(out) == states(calm)
    assert not (out / ".tal-run-locks").exists()


def test_ctrl_c_finishes_the_video_in_hand(make_video: Any, tmp_path: Path) -> None:
    for number in range(6):
        make_video(f"videos/{number}.mp4", [("grey", 4.0), ("red", 4.0)])
    out = tmp_path / "out"
    process = start(tmp_path / "videos", "-o", out, *STARTER)
    wait_for(lambda: (out / "0.json").exists() or process.poll() is not None)
    os.kill(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "finishing the videos in hand (Ctrl-C again stops now)" in said
    done = [name for name, state in states(out).items() if state == "done"]
    assert 1 <= len(done) < 6
    assert f"{len(done)} made, 0 kept, 0 made again, 0 failed, {6 - len(done)} left" in said
    assert FeatureFolder(out).video_ids == done
    assert not list(out.glob(".tal-run-*"))
    result = run(tmp_path / "videos", "-o", out, *STARTER)
    assert f"{6 - len(done)} made, {len(done)} kept" in result.stderr
