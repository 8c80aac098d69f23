"""`tal-run batch` with a real network and made clips: it finds what `tal-run detect` finds, and features share its ways."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tal_run.extractors.feature_files import FeatureFolder
from tal_run.pipeline.cli import main


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def videos(make_video: Any, tmp_path: Path) -> Path:
    for name, colour in (("a", "red"), ("sub/b", "green"), ("sub/a", "blue")):
        make_video(f"videos/{name}.mp4", [("grey", 1.0), (colour, 2.0)])
    return tmp_path / "videos"


def found(document: dict[str, Any]) -> list[Any]:
    (rows,) = document["results"].values()
    return rows  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "options", [["--min-score", "0", "--curves"], ["--query", "long jump", "--min-score", "0", "--stride", "3"]]
)
def test_it_finds_what_detect_finds(videos: Path, tmp_path: Path, options: list[str]) -> None:
    watching = ["--backbone", "starter", *options]
    result = run("batch", videos, "-o", tmp_path / "out", "--workers", "2", *watching)
    assert result.exit_code == 0, result.stderr
    count = 0
    for path in sorted(videos.rglob("*.mp4")):
        run("detect", path, "-o", tmp_path / "one.json", *watching)
        expected = json.loads((tmp_path / "one.json").read_text())
        name = path.relative_to(videos)
        document = json.loads((tmp_path / "out" / "results" / f"{name}.json").read_text())
        assert document["results"] == expected["results"]
        made_by = {key: value for key, value in document["external_data"].items() if key not in ("batch", "decoder")}
        assert made_by == expected["external_data"]
        count += len(found(document))
    assert count
    table = (tmp_path / "out" / "detections.csv").read_text().splitlines()
    assert len(table) == count + 1
    ids = {line.split(",")[0] for line in table[1:]}
    assert ids <= {"a", "b", "sub/a"}


def test_it_finds_what_a_trained_head_finds(videos: Path, tmp_path: Path) -> None:
    assert run("features", videos, "-o", tmp_path / "features", "--backbone", "starter").exit_code == 0
    rows = ["video_id,label,start_s,end_s", "a,one,1,3", "b,two,1,3", "sub/a,one,1,3"]
    (tmp_path / "truth.csv").write_text("\n".join(rows) + "\n")
    checkpoint = tmp_path / "head.safetensors"
    training = ["--annotations", tmp_path / "truth.csv", "--features", tmp_path / "features", "--iterations", "2"]
    trained = run("train", "--head", "wtalc", *training, "-o", checkpoint)
    assert trained.exit_code == 0, trained.stderr
    result = run("batch", videos, "-o", tmp_path / "out", "--checkpoint", checkpoint, "--workers", "1")
    assert result.exit_code == 0, result.stderr
    assert "is not done learning" not in result.stderr
    run("detect", videos / "a.mp4", "--checkpoint", checkpoint, "-o", tmp_path / "one.json")
    document = json.loads((tmp_path / "out" / "results" / "a.mp4.json").read_text())
    assert document["results"] == json.loads((tmp_path / "one.json").read_text())["results"]
    assert document["external_data"]["head"]["sha256"]
    trained = run("train", "--head", "wtalc", *training, "--seed", "1", "-o", tmp_path / "other.safetensors")
    again = run("batch", videos, "-o", tmp_path / "out", "--checkpoint", tmp_path / "other.safetensors", "--workers", "1")
    assert "3 done, 0 kept, 0 failed" in again.stderr  # it is another head


def test_what_is_no_video_is_refused_and_opens_nothing_else(videos: Path, tmp_path: Path) -> None:
    (videos / "a.mp4").write_text("#EXTM3U\nhttp://localhost:9/secret.mp4\n")
    (videos / "sub" / "b.mp4").write_bytes(b"ffconcat version 1.0\nfile /etc/passwd\n")
    (videos / "empty.mp4").touch()
    os.mkfifo(videos / "pipe.mp4")
    (videos / "folder.mp4").mkdir()
    result = run("batch", videos, "-o", tmp_path / "out", "--backbone", "starter")
    assert result.exit_code == 1
    failures = {path.name: json.loads(path.read_text())["error"] for path in (tmp_path / "out" / "failures").rglob("*.json")}
    assert sorted(failures) == ["a.mp4.json", "b.mp4.json", "empty.mp4.json", "pipe.mp4.json"]
    assert "is a playlist" in failures["a.mp4.json"]
    assert "is a playlist" in failures["b.mp4.json"]
    assert "is empty" in failures["empty.mp4.json"]
    assert "is a pipe" in failures["pipe.mp4.json"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backbone", "nothing"], "there is no backbone"),
        (["--backbone", "starter", "--device", "tpu"], "tpu"),
        (["--backbone", "starter", "--query", "\0"], ""),
        (["--checkpoint", "no file"], "no file"),
        (["--word-vectors", "no file"], "there is no file no file to read word vectors from"),
    ],
)
def test_wrong_options_are_told_before_anything_is_watched(
    videos: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    result = run("batch", videos, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert not list((tmp_path / "out").rglob("*.mp4.json"))


def test_two_runs_share_the_features_of_a_folder(make_video: Any, tmp_path: Path) -> None:
    for number in range(8):
        make_video(f"videos/{number}.mp4", [("grey", 1.0), ("red", 2.0)])
    arguments = ["features", str(tmp_path / "videos"), "-o", str(tmp_path / "out"), "--backbone", "starter"]
    command = [sys.executable, "-m", "tal_run.pipeline.cli", *arguments]
    runs = [subprocess.Popen([*command, *extra], stderr=subprocess.PIPE, text=True) for extra in ([], ["--workers", "1"])]
    said = [process.communicate(timeout=110)[1] for process in runs]
    assert [process.returncode for process in runs] == [0, 0], said
    counts = [[int(word) for word in text.splitlines()[-1].split() if word.isdigit()] for text in said]
    assert sum(made for made, *_ in counts) == 8
    assert all(sum(numbers) == 8 for numbers in counts)
    store = FeatureFolder(tmp_path / "out")
    assert len(store.video_ids) == 8
    files = [f"{number}{ending}" for number in range(8) for ending in (".json", ".npz")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*files, "manifest.jsonl"])


def test_features_that_were_killed_leave_nothing_behind(make_video: Any, tmp_path: Path) -> None:
    for number in range(4):
        make_video(f"videos/{number}.mp4", [("grey", 1.0), ("red", 2.0)])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tal_run.pipeline.cli", "features", str(tmp_path / "videos"), "-o", str(out)]
    process = subprocess.Popen([*command, "--backbone", "starter", "--workers", "1"], stderr=subprocess.DEVNULL)
    end_s = time.monotonic() + 60
    while not list(out.glob("*.npz")) and time.monotonic() < end_s:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (out / ".tal-run-dead.part").write_text("half")  # as a kill in the middle of writing leaves it
    time.sleep(0.1)
    result = run("features", tmp_path / "videos", "-o", out, "--backbone", "starter")
    assert result.exit_code == 0
    assert not list(out.glob(".tal-run-*"))
    assert len(FeatureFolder(out).video_ids) == 4
