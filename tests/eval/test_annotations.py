"""Ground truth: nothing is lost on the way to a file and back, and what cannot be true is refused with its place."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_run.eval.annotations import (
    SUBSETS,
    AnnotationError,
    GroundTruth,
    Instance,
    Stretch,
    TrimmedClip,
    VideoTruth,
    camel_case,
    read,
    read_clips,
    write_activitynet,
    write_clips,
    write_csv,
    write_thumos,
)

ANNOTATIONS = Path(__file__).parents[3] / "shared" / "annotations"

times = st.floats(0, 1e4, allow_subnormal=False)
names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
labels = st.sampled_from(["long jump", "LongJump, women's", 'a "quoted" label', "Weitsprung für Männer"])


@st.composite
def truths(draw: st.DrawFn) -> GroundTruth:
    videos = []
    for video_id in draw(st.lists(names, unique=True, max_size=4)):
        spans = draw(st.lists(st.tuples(times, times).map(sorted), max_size=4))
        marks = draw(st.lists(st.tuples(times, times).map(sorted), max_size=2))
        videos.append(
            VideoTruth(
                video_id=video_id,
                subset=draw(st.sampled_from([None, *SUBSETS])),
                duration_s=draw(st.sampled_from([None, 1e4, 12345.678])),
                instances=tuple(Instance(start, end, video_id, draw(labels)) for start, end in spans),
                ambiguous=tuple(Stretch(start, end) for start, end in marks),
                resolution=draw(st.sampled_from([None, "320x240"])),
                url=draw(st.sampled_from([None, "https://example.org/v"])),
            )
        )
    return GroundTruth(videos=tuple(videos), version=draw(st.sampled_from(["", "1.3"])))


@settings(max_examples=40)
@given(truths())
def test_activitynets_form_keeps_everything(tmp_path_factory: pytest.TempPathFactory, truth: GroundTruth) -> None:
    target = tmp_path_factory.mktemp("json") / "truth.json"
    write_activitynet(truth, target)
    assert read(target) == truth


@settings(max_examples=40)
@given(truths())
def test_csv_keeps_every_segment_to_the_last_bit(tmp_path_factory: pytest.TempPathFactory, truth: GroundTruth) -> None:
    target = tmp_path_factory.mktemp("csv") / "truth.csv"
    write_csv(truth, target)
    kept = {video.video_id: (video.instances, video.ambiguous) for video in read(target).videos}
    assert kept == {v.video_id: (v.instances, v.ambiguous) for v in truth.videos if v.instances or v.ambiguous}


def test_thumos_form_has_a_file_for_each_class_and_subset(tmp_path: Path) -> None:
    truth = GroundTruth(
        videos=(
            VideoTruth(
                video_id="b",
                subset="validation",
                instances=(Instance(1.04, 2.0, "b", "long jump"), Instance(0.0, 0.6, "b", "clean and jerk")),
                ambiguous=(Stretch(3.0, 4.5),),
            ),
            VideoTruth(video_id="a", subset="testing", instances=(Instance(7.0, 9.25, "a", "long jump"),)),
            VideoTruth(video_id="nothing", subset="testing"),
        )
    )
    write_thumos(truth, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "LongJump_val.txt": "b 1.04 2.0\n",
        "LongJump_test.txt": "a 7.0 9.25\n",
        "CleanAndJerk_val.txt": "b 0.0 0.6\n",
        "Ambiguous_val.txt": "b 3.0 4.5\n",
    }
    found = {video.video_id: video for video in read(tmp_path).videos}
    assert set(found) == {"a", "b"}
    assert found["b"].subset == "validation"
    assert found["b"].ambiguous == (Stretch(3.0, 4.5),)
    assert sorted(found["b"].instances) == [Instance(0.0, 0.6, "b", "CleanAndJerk"), Instance(1.04, 2.0, "b", "LongJump")]
    again = tmp_path / "again"
    write_thumos(read(tmp_path), again)
    assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in tmp_path.glob("*.txt")}


def test_activitynets_readers_find_their_own_keys(tmp_path: Path) -> None:
    video = VideoTruth(
        video_id="v", subset="training", duration_s=9.0, instances=(Instance(1, 2, "v", "squat"),), ambiguous=(Stretch(3, 4),)
    )
    write_activitynet(GroundTruth(videos=(video,), version="x"), tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text())
    assert set(document) == {"version", "taxonomy", "database"}
    assert {node["nodeName"] for node in document["taxonomy"]} == {"Root", "squat"}
    entry = document["database"]["v"]
    assert entry["annotations"] == [{"label": "squat", "segment": [1, 2]}]
    assert (entry["subset"], entry["duration"], entry["ambiguous"]) == ("training", 9.0, [[3, 4]])


def test_clips_come_back(tmp_path: Path) -> None:
    clips = (
        TrimmedClip(video_id="a", subset="training", label="golf swing", duration_s=2.0),
        TrimmedClip(video_id="b", subset="testing", label=None, duration_s=3.04),
    )
    write_clips(clips, tmp_path / "trimmed.csv")
    assert read_clips(tmp_path / "trimmed.csv") == clips


@pytest.mark.parametrize(
    ("label", "name"), [("clean and jerk", "CleanAndJerk"), ("LongJump", "LongJump"), ("throw-in, far", "ThrowInFar")]
)
def test_camel_case(label: str, name: str) -> None:
    assert camel_case(label) == name


def database(segment: object = (1, 2), **entry: object) -> str:
    annotations = [{"label": "squat", "segment": [0, 1]}, {"label": "squat", "segment": segment}]
    return json.dumps({"database": {"v_1": {"subset": "training", "duration": 9.5, "annotations": annotations, **entry}}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (database((5, 3)), ["v_1", "annotation 1", "ends (3.0 s) before it starts (5.0 s)"]),
        (database((float("nan"), 3)), ["v_1", "annotation 1", "nan"]),
        (database((-0.5, 3)), ["v_1", "annotation 1", "-0.5"]),
        (database((3, 20)), ["v_1", "20", "past the video's end (9.5 s)"]),
        (database((True, 3)), ["v_1", "annotation 1", "True"]),
        (database((1, 2, 3)), ["v_1", "annotation 1"]),
        (database("12"), ["v_1"]),
        (database(subset="trainig"), ["v_1", "'trainig'", "training, validation, testing"]),
        (database(duration=0), ["v_1", "duration of 0.0"]),
        (database(duration="long"), ["v_1", "'long'"]),
        (database(annotations=[{"label": 3, "segment": [1, 2]}]), ["v_1", "annotation 0"]),
        (database(annotations=[{"segment": [1, 2]}]), ["v_1", "annotation 0", "label"]),
        (database(ambiguous=[[1]]), ["v_1"]),
        ('{"database": {"v": {"annotations": []}, "v": {"annotations": []}}}', ["'v'", "twice"]),
        ('{"results": {}}', ["detections"]),
        ('{"videos": []}', ["database"]),
        ('{"database": ', ["broken JSON"]),
        ("[" * 10, ["no ground truth"]),
        ("", ["no ground truth"]),
        ("video_id,label,start_s,end_s\na,squat,1,2\nb,squat,x,2\n", ["line 3", "'x'"]),
        ("video_id,label,start_s,end_s\na,squat,1\n", ["line 2", "as many fields"]),
        ("video_id,label,start_s,end_s\n,squat,1,2\n", ["line 2", "empty video_id"]),
        ("video_id,label,start_s,end_s,score\na,squat,1,2,0.5\n", ["detections"]),
    ],
)
def test_what_cannot_be_true_is_refused_with_its_place(tmp_path: Path, text: str, said: list[str]) -> None:
    path = tmp_path / "truth"
    path.write_text(text)
    with pytest.raises(AnnotationError) as caught:
        read(path)
    for part in (*said, str(path)):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"LongJump_val.txt": "v 1 2\nv 3\n"}, ["LongJump_val.txt, line 2", "'v 3'"]),
        ({"LongJump_val.txt": "v 2 1\n"}, ["LongJump_val.txt, line 1", "before it starts"]),
        ({"LongJump_val.txt": "v 1 2\n", "LongJump_test.txt": "v 1 2\n"}, ["line 1", "two subsets"]),
        ({"detclasslist.txt": "7 BaseballPitch\n"}, ["no ground truth"]),
    ],
)
def test_text_that_cannot_be_true_is_refused_with_its_place(tmp_path: Path, files: dict[str, str], said: list[str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError) as caught:
        read(tmp_path)
    for part in said:
        assert part in str(caught.value)


def test_what_is_missing_or_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(b"\x00\xff\xfe")
    for path in (tmp_path / "film", tmp_path / "nowhere"):
        with pytest.raises(AnnotationError, match=path.name):
            read(path)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "truth.csv"
    write_csv(GroundTruth(videos=()), target)
    before = target.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_csv(GroundTruth(videos=(VideoTruth(video_id="v", instances=(Instance(0, 1, "v", "squat"),)),)), target)
    assert [path.name for path in tmp_path.iterdir()] == ["truth.csv"]
    assert target.read_bytes() == before


def test_text_form_needs_what_it_cannot_do_without(tmp_path: Path) -> None:
    nameless = GroundTruth(videos=(VideoTruth(video_id="v", instances=(Instance(0, 1, "v", "squat"),)),))
    twins = VideoTruth(video_id="v", subset="testing", instances=(Instance(0, 1, "v", "Squat"), Instance(0, 1, "v", "squat")))
    for truth in (nameless, GroundTruth(videos=(twins,))):
        with pytest.raises(AnnotationError):
            write_thumos(truth, tmp_path)
        assert not list(tmp_path.iterdir())


def test_a_subset_that_is_not_there_is_said() -> None:
    truth = GroundTruth(videos=(VideoTruth(video_id="v", subset="testing"),))
    assert truth.subset("testing") == truth
    with pytest.raises(AnnotationError, match="there are testing"):
        truth.subset("validation")


@pytest.mark.parametrize(
    ("name", "videos", "instances", "ambiguous"),
    [
        # counts by `cut -d' ' -f1 *_test.txt | sort -u | wc -l`, `wc -l` and the data sets' own papers
        ("thumos14/val", 200, 3007, None),
        ("thumos14/test", 213, 3358, 99),
        ("activitynet12/activity_net.v1-2.json", 8906, None, 0),
        ("activitynet13/anet_anno_action.json", 19227, None, 0),
    ],
)
def test_published_truth_is_read(name: str, videos: int, instances: int | None, ambiguous: int | None) -> None:
    if not (ANNOTATIONS / name).exists():
        pytest.skip("the published annotations (../shared/annotations) are not on this machine")
    truth = read(ANNOTATIONS / name)
    with_segments = [video for video in truth.videos if video.instances or video.ambiguous or video.duration_s]
    assert len(with_segments) == videos
    if instances is not None:
        assert sum(len(video.instances) for video in truth.videos) == instances
        assert len(truth.labels) == 20
    if ambiguous is not None:
        assert sum(len(video.ambiguous) for video in truth.videos) == ambiguous


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("\ufeffvideo_id,label,start_s,end_s\nv1,squat,1,2\n", encoding="utf-8")
    (tmp_path / "thumos").mkdir()
    (tmp_path / "thumos" / "Squat_val.txt").write_text("\ufeffv1 1.0 2.0\n", encoding="utf-8")
    for path in (tmp_path / "truth.csv", tmp_path / "thumos"):
        assert [video.video_id for video in read(path).videos] == ["v1"]


@pytest.mark.parametrize(
    "text", ["x" * 200_000, '"' + "y\n" * 100_000, "video_id,label,start_s,end_s\nv1," + "z" * 200_000 + ",1,2\n"]
)
def test_fields_without_end_are_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(AnnotationError, match=r"truth\.csv"):
        read(tmp_path / "truth.csv")
