"""SCALING.md's arithmetic is what its script prints, from figures that stand in BENCHMARKS.md."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("batch_benchmark", ROOT / "tests" / "benchmarks" / "batch.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_what_the_script_prints(script: ModuleType) -> None:
    page = (ROOT / "SCALING.md").read_text(encoding="utf-8")
    assert page.split("<!-- model: begin -->\n")[1].split("<!-- model: end -->")[0] == script.model()


def test_what_it_begins_with_was_measured(script: ModuleType) -> None:
    measured = (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8")
    hour, minutes, starter, i3d = script.TIMES_REAL_TIME.values()
    assert f"| 60 min | 66.1 s | {hour:g} |" in measured
    assert f"| 2 min | 2.60 s | {minutes:g} |" in measured
    assert f"Watched at {starter:g} times real time on two cores" in measured
    assert f"| {i3d:g} times real time |" in measured
    shares = f"flow takes {script.FLOW_SHARE:.0%} of the processor's time, the networks {script.NETWORK_SHARE:.0%}"
    assert shares in measured.replace(" %", "%")


def test_the_arithmetic_by_hand(script: ModuleType) -> None:
    """A million hours of I3D: 0.89 / 2 hours a core-hour; 6,400 cores; 24 hours a day."""
    row = next(line for line in script.model().splitlines() if line.startswith("| two-stream I3D"))
    hours, core_hours, days = (cell.strip() for cell in row.split("|")[4:7])
    assert float(hours) == pytest.approx(0.89 / 2)
    assert int(core_hours.replace(",", "")) == round(1e6 * 2 / 0.89)
    assert float(days) == pytest.approx(1e6 * 2 / 0.89 / 6400 / 24, rel=0.05)
