"""Whole-pipeline runs on real video, minutes each: what the benchmarks report must stay true (`make test-slow`)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
BENCHMARKS = Path(__file__).parent / "benchmarks"


def output_of(script: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_queries_are_localized_in_composed_videos(clips: Path, weights: Path) -> None:
    text = output_of("untrimmed.py", "--clips", str(clips), "--seed", "7")
    lines = [line.partition(": ") for line in text.splitlines() if line.startswith(("hits by", "absent"))]
    shares = {
        kind: [int(hits) / int(total) for hits, total in re.findall(r"(\d+) of (\d+)", counts)] for kind, _, counts in lines
    }
    # of all clips, and of those whose class the backbone knows when it sees them trimmed
    assert shares["hits by class name"][0] >= 0.8
    assert shares["hits by class name"][1] >= 0.9
    assert shares["hits by other words"][1] >= 0.6
    assert shares["absent, random classes, returned something"][0] <= 0.05


def test_an_hour_is_faster_than_25_times_real_time_in_bounded_memory(clips: Path, weights: Path) -> None:
    text = output_of("speed.py", "--clips", str(clips))
    (speed,) = re.findall(r"^ 60 min: .*? ([\d.]+)x real time", text, flags=re.MULTILINE)
    (growth,) = re.findall(r"60 min needs ([+-]\d+) MiB", text)
    (start_up,) = re.findall(r"^start-up .*?: ([\d.]+) s", text, flags=re.MULTILINE)
    assert float(speed) >= 25
    assert int(growth) <= 50
    assert float(start_up) <= 3
