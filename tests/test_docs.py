"""The commands of README and docs/ are run, their transcripts compared, their Python executed, their links followed."""

from __future__ import annotations

import os
import pkgutil
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

from tal_run.models import HEADS
from tal_run.pipeline.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# these make the environment that the tests themselves run in
NOT_RUN = ("make",)
# int8 kernels differ a little from processor to processor
SCORE_TOLERANCE, TIME_TOLERANCE_S = 0.05, 0.81

# a block that is marked so is run with --run-slow alone
MINUTES = "minutes"
PAGES = [path.relative_to(ROOT) for path in sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [*map(Path, ("README.md", "BENCHMARKS.md", "SCALING.md", "SECURITY.md")), *PAGES]

Transcript = tuple[str, list[str]]


def blocks(language: str, text: str = README) -> list[str]:
    return [block for _, block in marked_blocks(language, text)]


def marked_blocks(language: str, text: str) -> list[tuple[str, str]]:
    """The blocks of a language, each with what the comment right before it says (perhaps nothing)."""
    return re.findall(rf"(?:^<!-- ([^\n]*) -->\n)?^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def transcripts(text: str = README, *, without: str | None = None) -> Iterator[Transcript]:
    """Every command of a document with the output shown for it (perhaps none); not those in blocks that are marked so."""
    for mark, block in marked_blocks("console", text):
        if mark == without:
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *output = part.rstrip("\n").split("\n")
            yield command, output


COMMANDS = [transcript for transcript in transcripts() if not transcript[0].startswith(NOT_RUN)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, clips: Path, weights: Path) -> Path:
    """A folder with README's video in it."""
    path = tmp_path_factory.mktemp("readme")
    load("compose", "tests/benchmarks/compose.py").write_example(path / "video.mp4", clips)
    (path / "thumos14").symlink_to(clips.parent / "annotations" / "thumos14" / "test")
    (path / "autoloc.csv").symlink_to(clips.parent / "goldens" / "autoloc_thumos14" / "detections.csv")
    return path


def load(name: str, path: str) -> ModuleType:
    """A module that is in no package."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up
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
    check(command, shown, folder)


def check(command: str, shown: list[str], folder: Path) -> None:
    """Whether a command does its work in a folder, and leaves on the screen what is shown, if anything is."""
    status, screen = on_a_terminal(command, folder)
    assert status == 0, "\n".join([command, *screen])
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


def shell_commands(text: str = README) -> list[str]:
    """Commands that need what only their users have (checkpoints, folders of video): they must at least be understood."""
    lines = (line for block in blocks("sh", text) for line in block.replace("\\\n", "").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("command", shell_commands())
def test_commands_that_are_not_run_are_understood(command: str) -> None:
    check_understood(command)


def check_understood(command: str) -> None:
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_make_knows_every_target_that_documents_name(document: Path) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(
        re.findall(r"make ([a-z-]+)", "\n".join(blocks("console", text)) + "\n".join(re.findall(r"`(make [^`]+)`", text)))
    )
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert named <= targets


def test_files_that_readme_names_are_there() -> None:
    for target in re.findall(r"`((?:pipeline|models|extractors)/[^`]*)`", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    """Files and pictures are there, and in them the headings, functions and classes that are meant."""
    for target in links((ROOT / document).read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        file = (ROOT / document.parent / path).resolve() if path else ROOT / document
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        if anchor and file.suffix == ".py":
            load("code_places", "docs/code_places.py").line_of(file, anchor)
        elif anchor:
            assert anchor in headings(file.read_text(encoding="utf-8")), target


def links(text: str) -> list[str]:
    """Where the links and pictures outside of blocks lead, but for those out of the project."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose)


def headings(text: str) -> set[str]:
    """The anchors of a document's headings."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


# ---- docs/ alone ----


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which the pages' commands find what they would find in a checkout, and may write."""
    for name in ("pipeline", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def pages_with(language: str, *, mark: str | None = None) -> list[Path]:
    texts = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    return [page for page, text in texts.items() if any(mark in (None, m) for m, _ in marked_blocks(language, text))]


@pytest.mark.parametrize("page", [page for page in pages_with("console") if page in pages_with("console", mark="")], ids=str)
def test_commands_do_what_a_page_shows(page: Path, checkout: Path) -> None:
    for command, shown in transcripts((ROOT / page).read_text(encoding="utf-8"), without=MINUTES):
        if not command.startswith(NOT_RUN):
            check(command, shown, checkout)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", pages_with("console", mark=MINUTES), ids=str)
def test_commands_that_take_minutes_do_what_a_page_shows(page: Path, checkout: Path) -> None:
    for command, shown in transcripts((ROOT / page).read_text(encoding="utf-8")):
        if not command.startswith(NOT_RUN):
            check(command, shown, checkout)


@pytest.mark.parametrize("page", pages_with("sh"), ids=str)
def test_commands_of_a_page_that_are_not_run_are_understood(page: Path) -> None:
    for command in shell_commands((ROOT / page).read_text(encoding="utf-8")):
        if not command.startswith("grep "):  # of docs/reproduce.md, which picks clips from a list
            check_understood(command)


@pytest.mark.parametrize("page", pages_with("console", mark=MINUTES), ids=str)
def test_commands_of_a_page_that_are_rarely_run_are_understood(page: Path) -> None:
    for command, _ in transcripts((ROOT / page).read_text(encoding="utf-8")):
        if not command.startswith((*NOT_RUN, "python")):
            check_understood(command)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_that_are_not_run_say_what_they_need(page: Path) -> None:
    """All of docs/reproduce.md needs data sets, as it says at its head."""
    text = (ROOT / page).read_text(encoding="utf-8")
    marks = [mark for mark, _ in marked_blocks("sh", text)]
    assert page.name == "reproduce.md" or all(mark.startswith("needs ") for mark in marks)
    assert {mark for mark, _ in marked_blocks("console", text)} <= {"", MINUTES}
    known = {"console", "sh", "text", "python", "math"}  # nothing that is neither run nor read
    assert set(re.findall(r"^```(\S*)\n.*?^```$", text, flags=re.DOTALL | re.MULTILINE)) <= known


@pytest.mark.parametrize("page", pages_with("python"), ids=str)
def test_the_python_of_a_page_runs(page: Path, checkout: Path) -> None:
    for example in blocks("python", (ROOT / page).read_text(encoding="utf-8")):
        result = subprocess.run([sys.executable, "-c", example], cwd=checkout, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert "long jump" in result.stdout


def test_every_page_is_in_the_sites_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    assert sorted(re.findall(r"[\w/-]+\.md", menu)) == sorted(page.relative_to("docs").as_posix() for page in PAGES)


def test_the_command_lines_page_is_what_its_help_says() -> None:
    script = "from tal_run.pipeline.cli_page import page; print(page())"  # in a process where no command was asked before
    page = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    there = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert there.split() == page.split(), "run `make reference`"  # whatever click breaks lines at


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name in ("reference", "methods")], ids=str)
def test_names_whose_docstrings_a_page_shows_are_there(page: Path) -> None:
    names = re.findall(r"^::: (\S+)$", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name in names:
        found = pkgutil.resolve_name(name)
        assert found.__doc__, name
    assert names or page.name in ("cli.md", "index.md")


EQUATION = re.compile(r"^\*\*(Eqs?\. [\d-]+)\*\* · \[`[^`]+`\]\(([^)#]+)#([^)]+)\)", re.MULTILINE)


def test_every_method_has_its_page() -> None:
    assert {page.stem for page in PAGES if page.parent.name == "methods"} == {*HEADS, "index"}


@pytest.mark.parametrize("method", HEADS)
def test_equations_are_where_their_page_says_and_all_are_on_it(method: str) -> None:
    places = load("code_places", "docs/code_places.py")
    page = ROOT / "docs/methods" / f"{method}.md"
    text = page.read_text(encoding="utf-8")
    shown: set[int] = set()
    for equation, path, symbol in EQUATION.findall(text):
        places.line_of((page.parent / path).resolve(), symbol, equation)  # LookupError: it does not bear that number
        shown |= places.numbers(equation)
    assert text.count("**Eq") == len(EQUATION.findall(text))
    code = [file.read_text(encoding="utf-8") for file in (ROOT / "models").glob(f"{method}*.py")]
    implemented = {number for file in code for comment in re.findall(r"#(.*)", file) for number in places.numbers(comment)}
    assert implemented <= shown
    assert len(blocks("math", text)) >= len(EQUATION.findall(text))


# ---- README and other documents ----


def test_the_first_screen_shows_the_main_command_and_its_output() -> None:
    first_screen = README.split("\n")[:24]
    assert any(line.startswith("$ tal-run detect") for line in first_screen)
    assert any("arm wrestling" in line and "0:1" in line for line in first_screen)


def test_no_document_names_a_path_of_one_machine() -> None:
    for document in (*DOCUMENTS, Path("CHANGELOG.md")):
        assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", (ROOT / document).read_text(encoding="utf-8"))
