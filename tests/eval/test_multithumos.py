"""MultiTHUMOS's one JSON file: what is in it, what its classes are called, and what is said of one that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tal_run.eval import evaluate
from tal_run.eval.annotations import AnnotationError, read
from tal_run.eval.case import read_ground_truth
from tal_run.eval.datasets import find
from tal_run.eval.multithumos import read_multithumos
from tal_run.models import Detection

SHARED = Path(__file__).parents[3] / "shared"
ENTRY = '{"v": {"subset": "testing", "duration": 9.0, "actions": [[12, 1.0, 3.0], [24, 2.0, 12.5]]}}'


def test_classes_go_by_name_where_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "multithumos.json"
    path.write_text(ENTRY)
    truth, _ = read_ground_truth(path)
    (video,) = truth.videos
    assert (video.subset, video.duration_s) == ("testing", 12.5)
    assert [(i.label, i.start_s, i.end_s) for i in video.instances] == [("HighJump", 1.0, 3.0), ("24", 2.0, 12.5)]
    for name, text in (
        ("class_ids_inferred.json", '{"note": "24 is", "24": "Stand"}'),
        ("class_list.txt", "12 HighJump\n24 Stand\n"),
    ):
        (tmp_path / name).write_text(text)
        assert read_ground_truth(path)[0].labels == ("HighJump", "Stand")
        (tmp_path / name).unlink()


def test_detections_may_name_classes_or_number_them(tmp_path: Path) -> None:
    path = tmp_path / "multithumos.json"
    path.write_text(ENTRY)
    found = tmp_path / "found.txt"
    found.write_text("v 1.0 3.0 12 0.9\nv 2.0 12.5 24 0.8\n")
    by_number = evaluate(path, found, protocol="multithumos")
    named = {"v": [Detection(1.0, 3.0, "HighJump", 0.9), Detection(2.0, 12.5, "24", 0.8)]}
    assert by_number.per_class == evaluate(path, named, protocol="multithumos").per_class
    assert by_number.average_map == by_number.frame_map == 1


def test_the_data_set_by_name_reads_it(tmp_path: Path) -> None:
    (tmp_path / "multithumos.json").write_text(ENTRY)
    assert find("multithumos", tmp_path).truth().labels == ("24", "HighJump")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENTRY.replace("[12, 1.0, 3.0]", "[12, 1.0]"), r"multithumos\.json: v cannot be read .*: it needs subset, duration"),
        (ENTRY.replace("[12,", "[1.7,"), r"v cannot be read \(1\.7 is no class\)"),
        (ENTRY.replace("[12,", "[0,"), r"0 is no class\): .*numbers from 1"),
        (ENTRY.replace("3.0]", "NaN]"), r"multithumos\.json: v: a segment from 1\.0 to nan s is no time"),
        (ENTRY.replace("testing", "test"), r"multithumos\.json: v: the subset 'test' is unknown"),
        (ENTRY.replace('"duration": 9.0, ', ""), r"v has no 'duration': it needs"),
        (ENTRY[:-1] + ', "v": {"actions": []}}', r"multithumos\.json: 'v' is listed twice"),
    ],
)
def test_what_cannot_be_true_is_said_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "multithumos.json").write_text(text)
    with pytest.raises(AnnotationError, match=said):
        read_ground_truth(tmp_path / "multithumos.json")


@pytest.mark.parametrize(
    ("text", "said"), [('{"24": "Stand", "25": "Stand"}', "two numbers the name 'Stand'"), ("[1]", "cannot read the list")]
)
def test_a_list_of_classes_that_cannot_be_is_said(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "multithumos.json").write_text(ENTRY)
    (tmp_path / "class_ids_inferred.json").write_text(text)
    with pytest.raises(AnnotationError, match=said):
        read_multithumos(tmp_path / "multithumos.json")


def test_the_first_twenty_classes_are_thumos14s() -> None:
    path = SHARED / "annotations" / "multithumos" / "multithumos.json"
    if not path.is_file():
        pytest.skip("MultiTHUMOS (../shared/annotations) is not on this machine")
    truth, names = read_ground_truth(path)
    raw = json.loads(path.read_text())
    assert [len(video.instances) for video in truth.videos] == [len(entry["actions"]) for entry in raw.values()]
    assert names["24"] == "Stand"
    thumos = {(i.video_id, i.label) for v in read(SHARED / "annotations" / "thumos14" / "test").videos for i in v.instances}
    dense = {(i.video_id, i.label) for v in truth.subset("testing").videos for i in v.instances}
    named = {pair for pair in dense if pair[1] in {label for _, label in thumos}}
    assert len(named & thumos) / len(named | thumos) > 0.97
