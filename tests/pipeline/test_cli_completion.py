"""A shell that asks gets what may follow, as click tells shells."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tal_run.pipeline.cli import main


def _completed(*words: str) -> list[str]:
    """What bash is told may stand for the last of ``words``."""
    asked = {"_TAL_RUN_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    script = "from tal_run.pipeline.cli import main; main(prog_name='tal-run')"
    run = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **asked}, capture_output=True, text=True, check=True, timeout=60
    )
    return [line.partition(",")[2] for line in run.stdout.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_TAL_RUN_COMPLETE" in result.stdout
    assert "tal-run" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("tal-run", "det"), ["detect"]),
        (("tal-run", "detect", "--back"), ["--backbone"]),
        (("tal-run", "detect", "--backbone", "movi"), ["movinet-a0-stream"]),
        (("tal-run", "features", "--dataset", "thu"), ["thumos14"]),
        (("tal-run", "train", "--head", "ws"), ["wsad"]),
    ],
)
def test_what_was_begun_is_completed(words: tuple[str, ...], expected: list[str]) -> None:
    assert _completed(*words) == expected
