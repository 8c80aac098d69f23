"""Detections: one content in every form, and what cannot be true is refused with its place, its field and the cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_run.eval import evaluate
from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, write_activitynet, write_csv
from tal_run.eval.case import read_ground_truth
from tal_run.eval.detections import Detections, from_results, read_detections
from tal_run.eval.protocols import EvaluationError
from tal_run.models import Detection

ROWS = [("a", "run", 1.0, 2.5, 0.75), ("b", "long jump", 0.0, 4.0, -3.5), ("a", "run", 7.0, 8.0, 0.5)]


def as_csv(rows: Any = ROWS) -> str:
    return "\n".join(["video_id,label,start_s,end_s,score", *(",".join(map(str, row)) for row in rows)]) + "\n"


def as_json(rows: Any = ROWS) -> str:
    results: dict[str, list[Any]] = {}
    for v, c, s, e, score in rows:
        results.setdefault(v, []).append({"label": c, "score": score, "segment": [s, e]})
    return json.dumps({"version": "x", "results": results, "external_data": {"label": "x", "score": 1, "segment": [0, 1]}})


def as_json_lines(rows: Any = ROWS) -> str:
    names = ("video_id", "label", "start_s", "end_s", "score")
    return "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)


def rows_of(found: Detections) -> list[tuple[Any, ...]]:
    return [
        (found.video_ids[v], found.labels[c], *segment, score)
        for v, c, segment, score in zip(
            found.videos, found.classes, found.segments.tolist(), found.scores.tolist(), strict=True
        )
    ]


@pytest.mark.parametrize(
    "text",
    [
        as_csv(),
        "\ufeff" + as_csv().replace("\n", "\r\n"),
        "\n\n" + as_csv(),
        as_json_lines(),
        as_json(),
        json.dumps(json.loads(as_json()), indent=2),
        "score,end_s,start_s,label,video_id,more\n.75,2.5,1,run,a,x\n-3.5,4,0,long jump,b,\n.5,8,7,run,a,\n",
    ],
)
def test_one_content_in_every_form(tmp_path: Path, text: str) -> None:
    (tmp_path / "found").write_text(text, encoding="utf-8")
    assert sorted(rows_of(read_detections(tmp_path / "found"))) == sorted(ROWS)


def test_thumos_text_names_classes_by_number(tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "LongJump_test.txt").write_text("v1 1.0 2.0\n")
    (truth / "PoleVault_test.txt").write_text("v1 5.0 9.0\n")
    (truth / "detclasslist.txt").write_text("51 LongJump\n68 PoleVault\n")
    (tmp_path / "found.txt").write_text("v1 1.0 2.0 51 0.9\nv1  5.0\t9.0 PoleVault 0.1\n\nv1 50 60 68 0.05\n")
    result = evaluate(truth, tmp_path / "found.txt", protocol="thumos14")
    assert result.per_class == {
        "LongJump": dict.fromkeys(result.map, 1.0),
        "PoleVault": dict.fromkeys(result.map, 1.0),
    }


names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6)
numbers = st.floats(0, 1e4, allow_subnormal=False)


@settings(max_examples=40)
@given(st.lists(st.tuples(names, names, numbers, numbers, numbers), max_size=6))
def test_json_keeps_every_bit(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    target = tmp_path_factory.mktemp("json") / "found.json"
    target.write_text(as_json(rows), encoding="utf-8")
    assert sorted(rows_of(read_detections(target))) == sorted(rows)


def test_what_detect_returns_is_taken() -> None:
    found = from_results({"a": [Detection(1.0, 2.0, "run", 0.5)], "b": []})
    assert (found.video_ids, found.labels, len(found)) == (("a", "b"), ("run",), 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["is empty", "ActivityNet's results JSON"]),
        ("one two\n", ["in a known form", "'one two'"]),
        ("a,b\n1,2\n", ["no column 'video_id'"]),
        ("video_id,label,start_s,end_s\na,run,0,1\n", ["no column 'score'", "ground truth"]),
        (as_csv() + "a,run,1,x,0.5\n", ["line 5", "end_s is 'x'", "give a number"]),
        ("\n\n" + as_csv() + "a,run,1,x,0.5\n", ["line 7", "end_s is 'x'"]),
        ("\n\nv 1 2 7 0.5\nv 1 two 7 0.5\n", ["line 4", "end_s is 'two'"]),
        (as_csv() + "a,run,1,2\n", ["line 5", "4 fields where there should be 5"]),
        (as_csv() + "a,run,1,2,\n", ["line 5", "score is ''"]),
        ("v 1 2 7 0.5\nv 1 2 7\n", ["line 2", "4 fields"]),
        ("v 1 2 7 0.5\nv 1 two 7 0.5\n", ["line 2", "end_s is 'two'"]),
        ('{"results": {"a": [{"label": "run", "score": 1}]}}', ["a, detection 0", "no 'segment'"]),
        ('{"results": {"a": [{"label": "run", "score": true, "segment": [0, 1]}]}}', ["a, detection 0", "score is True"]),
        (
            '{"results": {"a": [{"label": "run", "score": 1, "segment": [0, 1, 2]}]}}',
            ["detection 0", "segment is [0, 1, 2]"],
        ),
        ('{"results": {"a": [{"label": 7, "score": 1, "segment": [0, 1]}]}}', ["a, detection 0", "label is 7"]),
        ('{"results": {"a": [0]}}', ["a, detection 0", "0 is no detection"]),
        ('{"results": {"a": 1}}', ["a: 1 is no list"]),
        ('{"results": {"a": {"label": "x", "score": 1, "segment": [0, 1]}}}', ["a: one detection is no list", "put [] around"]),
        (as_csv().replace(",score", ",score,score"), ["two columns 'score'", "keep the one"]),
        (as_csv().replace(",", "\t"), ["no column 'video_id'", "with commas between"]),
        ('{"results": {"a": [], "a": []}}', ["'a' is listed twice"]),
        ('{"results": []}', ["needs 'results'"]),
        ("[1, 2]", ["needs 'results'"]),
        ('{"database": {}}', ["holds ground truth"]),
        ('{"results": ', ["broken JSON"]),
        ("[" * 100_000, ["broken JSON"]),
        (as_json_lines() + '{"video_id": "a"}\n', ["line 4", "no 'label'"]),
        (
            as_json_lines() + '{"video_id": 1, "label": "x", "start_s": 0, "end_s": 1, "score": 1}\n',
            ["line 4", "video_id is 1: give text"],
        ),
        (as_json_lines() + "nonsense\n", ["line 4", "broken JSON"]),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(tmp_path: Path, text: str, said: list[str]) -> None:
    (tmp_path / "found").write_text(text)
    with pytest.raises(EvaluationError) as caught:
        read_detections(tmp_path / "found")
    for part in said:
        assert part in str(caught.value)


def test_files_that_are_none_cost_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    for name, said in (("bytes", "no text in UTF-8"), ("nowhere", "No such file"), (".", "is a folder")):
        with pytest.raises(EvaluationError, match=said):
            read_detections(tmp_path / name)


def truth() -> GroundTruth:
    return GroundTruth(
        videos=(
            VideoTruth(video_id="a", subset="validation", duration_s=20.0, instances=(Instance(1.0, 3.0, "a", "LongJump"),)),
            VideoTruth(video_id="b", subset="validation", duration_s=20.0, instances=(Instance(4.0, 9.0, "b", "run"),)),
            VideoTruth(video_id="c", subset="training", duration_s=20.0, instances=(Instance(4.0, 9.0, "c", "swim"),)),
        )
    )


GOOD = [("a", "LongJump", 1.0, 3.0, 0.5), ("b", "run", 4.0, 9.0, 0.5)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("a", "run", 1, 2, "nan"), ["score is nan"]),
        (("a", "run", 1, 2, "inf"), ["score is inf"]),
        (("a", "run", "nan", 2, 1), ["start_s is nan"]),
        (("a", "run", 1, "inf", 1), ["end_s is inf"]),
        (("a", "run", 1, 1e10, 1), ["end_s is 10000000000.0, beyond any video"]),
        (("a", "run", 5, 2, 1), ["end_s (2.0) is before start_s (5.0)", "swap"]),
        (("a", "run", -0.5, 2, 1), ["start_s is -0.5", "cut it off at 0"]),
        (("a", "run", 15, 22, 1), ["15.0 to 22.0 s lies past its video's end"]),
        (("a", "run", 20.5, 20.9, 1), ["lies past its video's end"]),
        (("z", "run", 1, 2, 1), ["video_id 'z' is not in the ground truth"]),
        (("a", "long jump", 1, 2, 1), ["label 'long jump' is not in the ground truth", "did you mean 'LongJump'?"]),
        (("a", "rum", 1, 2, 1), ["label 'rum'", "did you mean 'run'? Or have such detections left out"]),
        (("b", "run", 4.0, 9.0, 0.5), ["listed twice"]),
    ],
)
def test_what_cannot_be_true_is_refused_or_left_out(tmp_path: Path, row: Any, said: list[str]) -> None:
    (tmp_path / "found.csv").write_text(as_csv([*GOOD, row]))
    with pytest.raises(EvaluationError) as caught:
        evaluate(truth(), tmp_path / "found.csv", protocol="activitynet")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'found.csv'}, line 4 ({row[0]}): ")
    for part in said:
        assert part in message
    result = evaluate(truth(), tmp_path / "found.csv", protocol="activitynet", lenient=True)
    assert (result.average_map, result.detections) == (1.0, 2)
    assert any(note.startswith("1 detection left out: ") for note in result.notes)


def test_a_fault_in_json_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(as_json([*GOOD, ("a", "run", 1, 2, 1), ("a", "run", 2, 1, 1), ("b", "run", 2, 1, 1)]))
    with pytest.raises(EvaluationError, match=r"found.json: a, detection 2: end_s .* \(1 more such\); or have .*--lenient"):
        evaluate(truth(), tmp_path / "found.json", protocol="activitynet")


def test_up_to_a_second_past_the_end_is_rounding(tmp_path: Path) -> None:
    (tmp_path / "found.csv").write_text(as_csv([*GOOD, ("a", "run", 19.5, 20.9, 0.1)]))
    assert evaluate(truth(), tmp_path / "found.csv", protocol="activitynet").detections == 3


def test_the_subset_is_that_of_the_detections() -> None:
    found = {"a": [Detection(1.0, 3.0, "LongJump", 0.5)], "v_b": [Detection(4.0, 9.0, "run", 0.5)]}
    result = evaluate(truth(), found, protocol="activitynet")
    assert (result.videos, result.average_map) == (2, 1.0)
    assert result.notes == ("evaluated on the subset 'validation', of which the detections are",)
    assert evaluate(truth(), found, protocol="activitynet", subset="all").average_map == pytest.approx(2 / 3)
    assert evaluate(truth(), found, protocol="activitynet", subset="training").average_map == 0.0
    with pytest.raises(EvaluationError, match=r"several subsets, validation \(1 video\), training \(1 video\): say on which"):
        evaluate(truth(), {"a": [], "c": []}, protocol="activitynet")
    with pytest.raises(EvaluationError, match="name it"):
        evaluate(truth(), {}, protocol="activitynet")


def test_excluded_videos_are_left_out_on_both_sides() -> None:
    found = {"a": [Detection(1.0, 3.0, "LongJump", 0.5)], "b": [Detection(14.0, 19.0, "run", 0.5)]}
    result = evaluate(truth(), found, protocol="activitynet", subset="validation", excluded_videos=["b", "elsewhere"])
    assert (result.map[0.5], result.videos, result.detections, list(result.per_class)) == (1.0, 1, 1, ["LongJump"])
    assert "excluded, but not there anyway: elsewhere" in result.notes
    with pytest.raises(EvaluationError, match="nothing to evaluate on"):
        evaluate(truth(), found, protocol="activitynet", subset="validation", excluded_videos=["a", "b"])


def test_a_label_may_count_as_another_and_is_not_doubled_where_the_set_says_so() -> None:
    cliff, plain = Instance(1.0, 3.0, "a", "CliffDiving"), Instance(1.0, 3.0, "a", "Diving")
    found = {"a": [Detection(1.0, 3.0, "Diving", 0.5)]}
    both = {"CliffDiving": ["Diving"]}
    for instances in ((cliff,), (cliff, plain)):
        result = evaluate(
            GroundTruth(videos=(VideoTruth(video_id="a", instances=instances),)), found, protocol="thumos14", also=both
        )
        assert {label: values[0.5] for label, values in result.per_class.items()} == {"CliffDiving": 0.0, "Diving": 1.0}
        assert result.instances == 2
    with pytest.raises(EvaluationError, match=r"'CliffDivin' is no label of the ground truth: did you mean 'CliffDiving'"):
        evaluate(
            GroundTruth(videos=(VideoTruth(video_id="a", instances=(cliff,)),)),
            found,
            protocol="thumos14",
            also={"CliffDivin": ["Diving"]},
        )


def test_what_is_worth_knowing_is_noted() -> None:
    again = GroundTruth(
        videos=(
            VideoTruth(video_id="a", instances=(Instance(1.0, 3.0, "a", "run"),) * 2),
            VideoTruth(video_id="b", instances=(Instance(1.0, 3.0, "b", "run"),)),
        )
    )
    notes = evaluate(again, {"a": [Detection(1.0, 3.0, "run", 0.5)]}, protocol="activitynet").notes
    assert notes == (
        "1 video with instances, but without a detection",
        "1 instance listed again in the ground truth: each counts",
    )


def test_every_form_of_ground_truth_gives_the_same(tmp_path: Path) -> None:
    write_activitynet(truth(), tmp_path / "truth.json")
    write_csv(truth(), tmp_path / "truth.csv")
    (tmp_path / "found.csv").write_text(as_csv(GOOD))
    results = [
        evaluate(given, tmp_path / "found.csv", protocol="wsad", subset=subset)
        for given, subset in ((truth(), "all"), (tmp_path / "truth.json", "all"), (tmp_path / "truth.csv", None))
    ]
    assert results[0].per_class == results[1].per_class == results[2].per_class


def test_a_list_of_classes_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "LongJump_test.txt").write_text("v1 1.0 2.0\n")
    for text, said in (("51 Long Jump\n", "line 1 is '51 Long Jump'"), ("51 A\n51 B\n", "line 2: class 51 has two names")):
        (tmp_path / "detclasslist.txt").write_text(text)
        with pytest.raises(EvaluationError, match=said):
            read_ground_truth(tmp_path)


def test_columns_are_small() -> None:
    found = from_results({"a": [Detection(0.0, 1.0, "run", 0.5)] * 10})
    columns = (found.videos, found.classes, found.segments, found.scores)
    assert sum(column.nbytes for column in columns) == 10 * 40
    assert found.segments.dtype == np.float64


@pytest.mark.parametrize("times", ["0,1e308", "1e10,2e10"])
def test_ground_truth_beyond_any_video_is_said(times: str, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text(f"video_id,label,start_s,end_s\na,run,{times}\n")
    with pytest.raises(EvaluationError, match=r"ground truth of a has a segment from .*, beyond any video: give seconds"):
        evaluate(tmp_path / "truth.csv", {"a": [Detection(0.0, 1.0, "run", 0.5)]}, protocol="multithumos")


def test_a_label_to_count_as_is_one_that_is_there(tmp_path: Path) -> None:
    found = {"a": [Detection(1.0, 2.0, "sport", 0.5)]}
    (tmp_path / "truth.csv").write_text("video_id,label,start_s,end_s\na,run,1,2\na,jump,4,5\n")
    with pytest.raises(EvaluationError, match=r"'spotr', as which instances should count, .*did you mean 'sport'"):
        evaluate(tmp_path / "truth.csv", found, protocol="activitynet", also={"run": ["spotr"]})
    assert evaluate(tmp_path / "truth.csv", found, protocol="activitynet", also={"run": ["sport"]}).per_class["sport"][0.5] == 1
