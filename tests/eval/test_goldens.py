"""Published detections give the numbers that other evaluators give on them, under every protocol and at every threshold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tal_run.eval import evaluate
from tal_run.eval import protocols as module
from tal_run.eval.evaluation import load_case, result_of
from tal_run.eval.protocols import PROTOCOLS, Grid

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = SHARED / "goldens" / "autoloc_thumos14"
TRUTH = SHARED / "annotations" / "thumos14" / "test"
POINTS = 0.01  # percent; they agree to 0.0001


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    if not (GOLDEN / "expected.json").is_file() or not TRUTH.is_dir():
        pytest.skip("the published detections (../shared/goldens) are not on this machine")
    document: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text())
    return document


@pytest.mark.parametrize("name", ["thumos14", "activitynet", "activitynet_210_videos", "wtalc", "wsad"])
def test_autoloc_on_thumos14(name: str, expected: dict[str, Any]) -> None:
    percent = {float(tiou): value for tiou, value in expected["map_percent"][name].items()}
    result = evaluate(
        TRUTH,
        GOLDEN / "detections.csv",
        protocol=name.removesuffix("_210_videos"),
        tiou_thresholds=list(percent),
        excluded_videos=expected["excluded_in_210_videos"] if name.endswith("210_videos") else (),
    )
    assert {tiou: 100 * value for tiou, value in result.map.items()} == pytest.approx(percent, abs=POINTS)
    assert result.videos == (210 if name.endswith("210_videos") else 213)
    assert len(result.per_class) == 20


def test_each_rule_makes_the_difference_that_is_stated(expected: dict[str, Any]) -> None:
    case, rules = load_case(TRUTH, GOLDEN / "detections.csv"), PROTOCOLS["activitynet"]
    snippets, seconds = Grid().snippets, 16 / 25

    def worth(case: Any, rules: Any) -> list[float]:
        return [100 * value for value in result_of(case, rules, (0.1, 0.5)).map.values()]

    changed = {
        "the instance chooses, not the detection": worth(case, replace(rules, rule="truth")),
        "AP not interpolated": worth(case, replace(rules, interpolated=False)),
        "the overlap must be greater": worth(case, replace(rules, strict=True)),
        "the first listed instance, not the best": worth(case, replace(rules, rule="first")),
        "Ambiguous spares what is wrong": worth(case, replace(rules, ambiguous="wrong")),
        "Ambiguous drops all that touch it": worth(case, replace(rules, ambiguous="any")),
        "time in snippets, both sides": worth(case, replace(rules, grid=Grid())),
        "time in snippets, detections alone": worth(replace(case, segments=snippets(case.segments) * seconds), rules),
        "time in snippets, truth alone": worth(replace(case, truth=snippets(case.truth) * seconds), rules),
    }
    before = worth(case, rules)
    for name, after in changed.items():
        (line,) = (line for line in (module.__doc__ or "").splitlines() if line.strip().startswith(name))
        stated = [float(number) for number in line.split()[-2:]]
        assert [new - old for new, old in zip(after, before, strict=True)] == pytest.approx(stated, abs=0.051), name


def test_multithumos_instances_are_judged_as_wtalc_does(expected: dict[str, Any]) -> None:
    both = [
        evaluate(TRUTH, GOLDEN / "detections.csv", protocol=name, tiou_thresholds=[0.5]) for name in ("wtalc", "multithumos")
    ]
    assert both[0].map == both[1].map
    assert both[0].frame_map is None
    assert both[1].frame_map is not None


def test_the_truth_itself_is_perfect_where_overlap_is_exact(expected: dict[str, Any], tmp_path: Path) -> None:
    """S-CNN's and ActivityNet's rules on the whole test set: nothing is lost on the way."""
    from tal_run.eval.annotations import read

    rows = dict.fromkeys(
        f"{i.video_id},{i.label},{i.start_s!r},{i.end_s!r},1.0" for v in read(TRUTH).videos for i in v.instances
    )
    (tmp_path / "truth.csv").write_text("video_id,label,start_s,end_s,score\n" + "\n".join(rows))
    for name in ("thumos14", "activitynet"):
        assert evaluate(TRUTH, tmp_path / "truth.csv", protocol=name).average_map == pytest.approx(1.0, abs=1e-3)
