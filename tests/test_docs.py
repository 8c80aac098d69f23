"""README's commands are run, its transcripts compared, its Python executed, its links followed."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from tal_run.pipeline.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# these make the environment that the tests themselves run in
NOT_RUN = ("make",)
# int8 kernels differ a little from processor to processor
SCORE_TOLERANCE, TIME_TOLERANCE_S = 0.05, 0.81

Transcript = tuple[str, list[str]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def transcripts() -> Iterator[Transcript]:
    """Every command of README with the output shown for it (perhaps none)."""
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.rstrip("\n").split("\n")
            yield command, output


COMMANDS = [transcript for transcript in transcripts() if not transcript[0].startswith(NOT_RUN)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, clips: Path, weights: Path) -> Path:
    """A folder with README's video in it."""
    path = tmp_path_factory.mktemp("readme")
    load_compose().write_example(path / "video.mp4", clips)
    (path / "thumos14").symlink_to(clips.parent / "annotations" / "thumos14" / "test")
    (path / "autoloc.csv").symlink_to(clips.parent / "goldens" / "autoloc_thumos14" / "detections.csv")
    return path


def load_compose() -> ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location("compose", ROOT / "tests/benchmarks/compose.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["compose"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def on_a_terminal(command: str, folder: Path) -> tuple[int, list[str]]:
    """Run a command on a terminal of 80 columns; what it leaves on the screen, line by line."""
    program, *arguments = shlex.split(command)
    program = str(Path(sys.executable).with_name(Path(program).name))
    environment = {**os.environ, "TERM": "dumb", "NO_COLOR": "1"}
    master, terminal = pty.openpty()
    with subprocess.Popen([program, *arguments], cwd=folder, stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        screen = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # Linux's way to say that the other side is closed
                break
            if not piece:
                break
            screen += piece
        os.close(master)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode()).replace("\r\n", "\n")
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return process.returncode, [line for line in lines if line and not line.startswith("watching")]


@pytest.mark.parametrize(("command", "shown"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_commands_do_what_readme_shows(command: str, shown: list[str], folder: Path) -> None:
    status, screen = on_a_terminal(command, folder)
    assert status == 0, "\n".join(screen)
    if shown:
        assert [shape(line) for line in screen] == [shape(line) for line in shown]
        for line, expected in zip(screen, shown, strict=True):
            assert numbers(line) == pytest.approx(numbers(expected), abs=TIME_TOLERANCE_S)
            assert scores(line) == pytest.approx(scores(expected), abs=SCORE_TOLERANCE)


NUMBER = r"\d+:\d\d\.\d|\d+\.\d+"


def shape(line: str) -> list[str]:
    return re.sub(NUMBER, "#", line).split()


def numbers(line: str) -> list[float]:
    """All numbers of a line; clock times in seconds."""
    found = (text.split(":") for text in re.findall(NUMBER, line))
    return [sum(60**power * float(part) for power, part in enumerate(reversed(parts))) for parts in found]


def scores(line: str) -> list[float]:
    """The numbers that are no clock time and below one: scores and affinities."""
    return [float(text) for text in re.findall(NUMBER, line) if ":" not in text and float(text) < 1]


def shell_commands() -> list[str]:
    """Commands that need what only their users have (checkpoints, folders of video): they must at least be understood."""
    lines = (line for block in blocks("sh") for line in block.replace("\\\n", "").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("command", shell_commands())
def test_commands_that_are_not_run_are_understood(command: str) -> None:
    program, name, *arguments = shlex.split(command)
    assert program == "tal-run"
    parent = click.Context(main, info_name=program, **main.context_settings)  # who has the settings for -h
    main.commands[name].make_context(name, arguments, parent=parent)


def test_the_python_example_runs(folder: Path) -> None:
    (example,) = blocks("python")
    result = subprocess.run([sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.match(r"1[12]\.\d to (19|20|21)\.\d s: arm wrestling \(0\.\d\d\)\n", result.stdout)
    assert result.stdout.count("Detection(") == 2


def test_make_knows_every_target_that_readme_names() -> None:
    named = set(re.findall(r"make ([a-z-]+)", "\n".join(blocks("console")) + "\n".join(re.findall(r"`([^`]+)`", README))))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert named
    assert named <= targets


def test_files_that_documents_name_are_there() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README) + re.findall(
        r"`((?:pipeline|models|extractors)/[^`]*)`", README
    ):
        assert (ROOT / target).exists(), target


def test_the_first_screen_shows_the_main_command_and_its_output() -> None:
    first_screen = README.split("\n")[:24]
    assert any(line.startswith("$ tal-run detect") for line in first_screen)
    assert any("arm wrestling" in line and "0:1" in line for line in first_screen)


def test_no_document_names_a_path_of_one_machine() -> None:
    for document in (README, (ROOT / "CHANGELOG.md").read_text()):
        assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", document)
