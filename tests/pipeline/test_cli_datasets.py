"""The commands about data sets as their users meet them: what is printed, what is made, and the exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from tal_run.eval.datasets import DATASETS, ON_DEMAND_VIDEOS
from tal_run.pipeline.cli_datasets import datasets


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(datasets, [str(argument) for argument in arguments], catch_exceptions=False)


def test_list_has_a_line_a_data_set() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(DATASETS)


def test_a_data_set_is_made_found_right_and_found_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    result = run("synthesize", folder, "--videos", "2", "--min-s", "4", "--max-s", "4", "--look", "street", "--workers", "1")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "2 videos (0.1 min" in result.stderr

    result = run("check", "synthetic-street", "--data", folder)
    assert (result.exit_code, result.stderr) == (0, "")
    heads, training, validation = (line.split() for line in result.stdout.splitlines())
    assert heads == ["subset", "videos", "there", "missing", "actions", "faults"]
    assert [training[:4], validation[:4]] == [["training", "1", "1", "0"], ["validation", "1", "1", "0"]]

    next((folder / "validation").glob("*.mp4")).unlink()
    result = run("check", "synthetic-street", "--data", folder)
    assert result.exit_code == 1
    assert "synthetic_street_000001 is missing" in result.stderr


def test_check_says_that_it_may_draw_first() -> None:
    assert "is drawn first, if the cache has none: ten videos" in " ".join(run("check", "--help").stdout.split())
    assert ON_DEMAND_VIDEOS == 10


def test_wrong_use_is_a_sentence_and_status_2(tmp_path: Path) -> None:
    for arguments, said in (
        (("synthesize", tmp_path / "set", "--look", "beach"), "stadium, street"),
        (("check", "thumos"), "thumos14"),
        (("check", "thumos14", "--data", tmp_path / "nowhere"), "nowhere"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert said in result.stderr.replace("\n", "")


def test_nothing_heavy_is_imported_before_a_command_runs() -> None:
    script = "import sys, tal_run.pipeline.cli_datasets; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "av", "cv2", "rich"} & set(loaded)
