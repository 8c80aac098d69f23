"""Kinds of wrong detections against a plain telling, what the figures must add up to, and the files."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_run.eval.annotations import GroundTruth, Instance, Stretch, VideoTruth
from tal_run.eval.case import Case
from tal_run.eval.diagnosis import DETAD_BOUNDS, KINDS, PROFILE, Diagnosis, Sort, diagnose
from tal_run.eval.diagnosis_figures import span, write_diagnosis
from tal_run.eval.evaluation import judge, load_case
from tal_run.eval.protocols import PROTOCOLS
from tal_run.models import Detection

NAMES = ("a", "b")
videos, labels = st.sampled_from(NAMES), st.sampled_from(["run", "jump"])
starts, lengths = st.integers(0, 20), st.integers(1, 12)
truths = st.lists(
    st.builds(lambda v, c, s, n: (v, c, float(s), float(s + n)), videos, labels, starts, lengths), min_size=1, max_size=6
)
founds = st.lists(
    st.builds(
        lambda v, c, s, n, score: (v, c, float(s), float(s + n), score),
        videos, labels, starts, lengths, st.sampled_from([0.1, 0.5, 0.9]),
    ),
    unique=True,
    max_size=20,
)  # fmt: skip


def case_of(truth: Any, found: Any, *, duration_s: float | None = None, ambiguous: Any = ()) -> Case:
    known = {row[1] for row in truth}
    annotated = GroundTruth(
        videos=tuple(
            VideoTruth(
                video_id=name,
                duration_s=duration_s,
                instances=tuple(Instance(s, e, v, c) for v, c, s, e in truth if v == name),
                ambiguous=tuple(Stretch(s, e) for v, s, e in ambiguous if v == name),
            )
            for name in NAMES
        )
    )
    by_video = {name: [Detection(s, e, c, x) for v, c, s, e, x in found if v == name and c in known] for name in NAMES}
    return load_case(annotated, by_video)


@settings(max_examples=100)
@given(truth=truths, found=founds, tiou=st.sampled_from([0.25, 0.5]))
def test_kinds_are_what_they_are_told_to_be(reference: ModuleType, truth: Any, found: Any, tiou: float) -> None:
    case = case_of(truth, found)
    result = diagnose(case, PROTOCOLS["activitynet"], tiou=tiou)
    right = judge(case, PROTOCOLS["activitynet"], (tiou,)).right[0]
    counts = dict.fromkeys(KINDS, 0)
    for row in np.flatnonzero(~right):
        segment = tuple(case.segments[row])
        video, label = case.video_ids[case.videos[row]], case.labels[case.classes[row]]
        own = max((reference.tiou(segment, t[2:]) for t in truth if t[0] == video and t[1] == label), default=0.0)
        other = max((reference.tiou(segment, t[2:]) for t in truth if t[0] == video and t[1] != label), default=0.0)
        if own >= tiou:
            counts["double detection"] += 1
        elif other >= tiou:
            counts["wrong label"] += 1
        elif own >= 0.1:
            counts["localization"] += 1
        elif other >= 0.1:
            counts["confusion"] += 1
        else:
            counts["background"] += 1
    assert (result.right, result.wrong) == (int(right.sum()), counts)


@pytest.mark.parametrize("name", ["thumos14", "activitynet", "wtalc", "wsad"])
@settings(max_examples=50)
@given(truth=truths, found=founds)
def test_figures_add_up(name: str, truth: Any, found: Any) -> None:
    case = case_of(truth, found, duration_s=40.0)
    result = diagnose(case, PROTOCOLS[name])
    assert result.right + len(result.missed) == result.instances == len(truth)
    assert all(gain >= -1e-12 for gain in result.gain.values())
    for step in result.profile:
        assert sum(step.values()) == pytest.approx(1.0 if case.rows.size and result.right + sum(result.wrong.values()) else 0.0)
    assert list(result.sorts) == ["length", "coverage", "instances"]
    for sorts in result.sorts.values():
        assert sum(each.instances for each in sorts) == len(truth)
        assert sum(each.instances * each.missed for each in sorts) == pytest.approx(len(result.missed))
        assert all(0 <= each.map <= 1 for each in sorts)
        assert all(before.high < after.low for before, after in pairwise(sorts))


@pytest.mark.parametrize("name", ["thumos14", "activitynet", "wtalc", "wsad"])
@settings(max_examples=50)
@given(truth=truths, found=founds)
def test_what_is_of_one_sort_has_its_ordinary_ap(name: str, truth: Any, found: Any) -> None:
    everything = {"length": [1000.0]}
    result = diagnose(case_of(truth, found), PROTOCOLS[name], bounds=everything)
    (only,) = result.sorts["length"]
    assert only.map == pytest.approx(result.map)


RUN, JUMP = ("a", "run", 0.0, 10.0), ("a", "jump", 20.0, 30.0)
ONE_OF_EACH = [
    ("a", "run", 0.0, 9.0, 0.9),  # right
    ("a", "run", 0.0, 8.0, 0.8),  # double detection
    ("a", "run", 20.0, 30.0, 0.95),  # wrong label
    ("a", "run", 8.0, 12.0, 0.7),  # localization
    ("a", "run", 28.0, 34.0, 0.6),  # confusion
    ("a", "run", 50.0, 60.0, 0.5),  # background
]


def one_of_each(protocol: str = "activitynet", **options: Any) -> Diagnosis:
    return diagnose(case_of([RUN, JUMP], ONE_OF_EACH, **options), PROTOCOLS[protocol])


def test_one_of_each() -> None:
    result = one_of_each()
    assert (result.right, result.wrong) == (1, dict.fromkeys(KINDS, 1))
    # run: one wrong detection before the right one; jump is never found
    assert result.map == pytest.approx((1 / 2 + 0) / 2)
    assert result.gain == {kind: pytest.approx(0.25 if kind == "wrong label" else 0.0) for kind in KINDS}
    assert result.profile[0] == {"right": 0.0, **dict.fromkeys(KINDS, 0.0), "wrong label": 1.0}
    assert len(result.profile) == len(PROFILE)
    assert result.profile[-1]["right"] == pytest.approx(1 / 6)
    (missed,) = result.missed
    assert (missed.label, missed.start_s, missed.best_tiou, missed.best_tiou_of_any) == ("jump", 20.0, 0.0, 1.0)
    assert "coverage" not in result.sorts


def test_what_an_ambiguous_stretch_spares_is_no_mistake() -> None:
    result = one_of_each("thumos14", ambiguous=[("a", 55.0, 56.0)])
    assert result.wrong == {**dict.fromkeys(KINDS, 1), "background": 0}


def test_sorts_by_fifths_and_by_detads_bounds() -> None:
    truth = [("a", "run", 100.0 * n, 100.0 * n + 10 * (n + 1)) for n in range(10)]
    found = [(*row, 0.5) for row in truth[5:]]
    result = diagnose(case_of(truth, found, duration_s=2000.0), PROTOCOLS["activitynet"])
    assert [(each.low, each.high, each.missed) for each in result.sorts["length"]] == [
        (10.0, 20.0, 1.0),
        (30.0, 40.0, 1.0),
        (50.0, 60.0, 0.5),
        (70.0, 80.0, 0.0),
        (90.0, 100.0, 0.0),
    ]
    assert [each.map for each in result.sorts["length"]] == [0.0, 0.0, 0.5, 1.0, 1.0]
    named = diagnose(case_of(truth, found), PROTOCOLS["activitynet"], bounds=DETAD_BOUNDS)
    assert [(each.low, each.high) for each in named.sorts["length"]] == [(10.0, 30.0), (40.0, 60.0), (70.0, 100.0)]
    assert [(each.low, each.instances) for each in named.sorts["instances"]] == [(10.0, 10)]


def test_a_sort_says_what_it_holds() -> None:
    sort = Sort(low=0.25, high=0.5, instances=1, map=0.0, missed=0.0)
    assert [span(name, sort) for name in ("length", "coverage", "instances")] == ["0.25 to 0.5 s", "25 to 50 %", "0.25 to 0.5"]
    assert span("instances", Sort(low=3.0, high=3.0, instances=1, map=0.0, missed=0.0)) == "3"


def test_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures are drawn with matplotlib")
    result = one_of_each(duration_s=100.0)
    written = write_diagnosis(result, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert {path.name for path in written} == {path.name for path in folder.iterdir()}
    assert {path.name for path in written} == {
        "wrong.svg", "wrong.png", "sorts.svg", "sorts.png", "missed.csv", "diagnosis.json",
    }  # fmt: skip
    text = (folder / "wrong.svg").read_text()
    assert all(kind in text for kind in (*KINDS, "right", "activitynet, tIoU 0.5: mAP 25.0"))
    assert "share of the video" in (folder / "sorts.svg").read_text()
    assert (folder / "wrong.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert json.loads((folder / "diagnosis.json").read_text())["wrong"] == dict(result.wrong)
    (row,) = csv.DictReader((folder / "missed.csv").read_text().splitlines())
    assert (row["label"], float(row["best_tiou_of_any"])) == ("jump", 1.0)
    before = {path: path.read_bytes() for path in written}
    assert {path: path.read_bytes() for path in write_diagnosis(result, folder)} == before


def test_without_matplotlib_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from tal_run.eval.protocols import EvaluationError

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EvaluationError, match="pip install matplotlib"):
        write_diagnosis(one_of_each(), tmp_path)


def test_drawing_is_imported_only_when_something_is_drawn() -> None:
    import subprocess
    import sys

    script = "import sys, tal_run.eval.diagnosis_figures; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "False\n"
