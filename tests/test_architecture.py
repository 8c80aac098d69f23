"""The shape of the house, checked: who may import whom, and what must not be imported at all."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ("extractors", "models", "eval", "pipeline")  # each may import itself and those before it
MODULES = [path for package in ORDER for path in sorted((ROOT / package).glob("*.py"))]


def imported_by(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, anywhere in it; relative ones made absolute."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            yield f"tal_run.{path.parent.name}.{node.module or ''}".rstrip(".")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
class TestModule:
    def test_imports_only_what_stands_before_it(self, path: Path) -> None:
        allowed = ORDER[: ORDER.index(path.parent.name) + 1]
        ours = [name.split(".")[1] for name in imported_by(path) if name.startswith("tal_run.")]
        assert set(ours) <= set(allowed)

    def test_never_imports_our_packages_by_their_bare_names(self, path: Path) -> None:
        assert not {name.split(".")[0] for name in imported_by(path)} & set(ORDER)

    def test_never_unpickles(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & {name.split(".")[0] for name in imported_by(path)}
        assert "allow_pickle=True" not in text

    def test_begins_with_a_docstring(self, path: Path) -> None:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_packages_are_flat() -> None:
    assert not [path for package in ORDER for path in (ROOT / package).glob("*/*.py")]


def test_the_command_line_imports_nothing_heavy() -> None:
    script = "import sys, tal_run.pipeline.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "av", "decord", "cv2", "torch", "gensim", "scipy", "ai_edge_litert", "rich"} & set(loaded)
    assert "click" in loaded


def test_the_decoding_child_imports_only_what_it_needs() -> None:
    script = "import sys, tal_run.extractors.decoder; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"gensim", "scipy", "torch", "ai_edge_litert", "click", "rich", "platformdirs"} & set(loaded)


def test_help_answers_at_once() -> None:
    """By the processor's time, which says the same on a machine that others use too."""
    import resource

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "tal_run.pipeline.cli", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(5)) < 0.3
