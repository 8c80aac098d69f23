"""Moments in the forms that they are published in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tal_run.eval.annotations import (
    AnnotationError,
    GroundTruth,
    Instance,
    TrimmedClip,
    VideoTruth,
    write_activitynet,
    write_clips,
    write_csv,
    write_thumos,
)
from tal_run.eval.moments import Moment, is_clip_list, moments_of, read_moments, to_learn_from, truth_of

TRUTH = GroundTruth(
    videos=(
        VideoTruth(video_id="a", subset="training", duration_s=9.0, instances=(Instance(0.0, 9.0, "a", "Run"),)),
        VideoTruth(
            video_id="b",
            subset="validation",
            instances=(Instance(1.0, 2.5, "b", "Jump"), Instance(3.0, 4.0, "b", "Run")),
        ),
    )
)


def test_instances_of_all_forms_of_ground_truth_are_moments(tmp_path: Path) -> None:
    expected = (
        Moment(video_id="a", label="Run", start_s=0.0, end_s=9.0, subset="training"),
        Moment(video_id="b", label="Jump", start_s=1.0, end_s=2.5, subset="validation"),
        Moment(video_id="b", label="Run", start_s=3.0, end_s=4.0, subset="validation"),
    )
    assert moments_of(TRUTH) == expected
    write_activitynet(TRUTH, tmp_path / "truth.json")
    write_csv(TRUTH, tmp_path / "truth.csv")
    write_thumos(TRUTH, tmp_path / "thumos")
    assert read_moments(tmp_path / "truth.json") == expected
    assert {(m.video_id, m.label, m.start_s, m.end_s) for m in read_moments(tmp_path / "truth.csv")} == {
        (m.video_id, m.label, m.start_s, m.end_s) for m in expected
    }
    assert set(read_moments(tmp_path / "thumos")) == set(expected)


def test_clips_are_moments_from_end_to_end_if_they_show_an_action(tmp_path: Path) -> None:
    write_clips(
        [
            TrimmedClip(video_id="c0", subset="training", label="squat", duration_s=2.0),
            TrimmedClip(video_id="c1", subset="training", label=None, duration_s=2.0),
            TrimmedClip(video_id="c2", subset="testing", label="diving", duration_s=2.0),
        ],
        tmp_path / "trimmed.csv",
    )
    assert read_moments(tmp_path / "trimmed.csv") == (
        Moment(video_id="c0", label="squat", subset="training"),
        Moment(video_id="c2", label="diving", subset="testing"),
    )


def test_the_lists_of_kinetics_and_ucf101(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\ntestifying,---QUuC4vJs,84,94,train\nzumba,-abc,5,15,val\n"
    )
    kinetics = (
        Moment(video_id="---QUuC4vJs_000084_000094", label="testifying", subset="training"),
        Moment(video_id="-abc_000005_000015", label="zumba", subset="validation"),
    )
    assert read_moments(tmp_path / "train.csv") == read_moments(tmp_path) == kinetics
    ucf = tmp_path / "ucf"
    ucf.mkdir()
    (ucf / "trainlist01.txt").write_text("Archery/v_Archery_g08_c01.avi 2\nBiking/v_Biking_g08_c02.avi 11\n")
    (ucf / "trainlist02.txt").write_text("Archery/v_Archery_g08_c01.avi 2\n\nArchery/v_Archery_g09_c01.avi 2\n")
    (ucf / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\n")
    names = ["v_Archery_g08_c01", "v_Biking_g08_c02"]
    assert [(m.video_id, m.label) for m in read_moments(ucf / "trainlist01.txt")] == list(
        zip(names, ("Archery", "Biking"), strict=True)
    )
    assert [m.video_id for m in read_moments(ucf)] == [*names, "v_Archery_g09_c01"]


def test_a_subset_is_chosen_where_there_are_any() -> None:
    every = moments_of(TRUTH)
    assert [m.video_id for m in to_learn_from(every)] == ["a"]
    assert len(to_learn_from(every, "all")) == 3
    assert [m.video_id for m in to_learn_from(every, "validation")] == ["b", "b"]
    plain = (Moment(video_id="a", label="Run"),)
    assert to_learn_from(plain, "training") == plain
    tests = (Moment(video_id="a", label="Run", subset="testing"),)
    with pytest.raises(AnnotationError, match="--moment-subset all"):
        to_learn_from(tests)
    with pytest.raises(
        AnnotationError, match="no moments of the subset 'validation', but of testing: choose among them, or all"
    ):
        to_learn_from(tests, "validation")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("clips.csv", "video_id,subset,label,duration_s\na,training,,2.0\n", "holds no moments"),
        ("train.csv", "youtube_id,time_start,time_end,split\na,1,2,train\n", "no column 'label'"),
        ("train.csv", "label,youtube_id,time_start,time_end,split\nrun,a,soon,2,train\n", "line 2: no clip"),
        ("trainlist01.txt", "Archery/v_Archery_g08_c01.avi 2\nv_Archery_g08_c01.avi 2\n", "line 2 names no clip"),
        ("list.txt", "what is this", "no ground truth that is known"),
    ],
)
def test_what_is_no_list_of_moments_is_a_sentence(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(AnnotationError, match=said):
        read_moments(tmp_path / name)
    with pytest.raises(AnnotationError, match="cannot read"):
        read_moments(tmp_path / "absent.csv")


class TestTruthOf:
    """What methods that need no times learn from."""

    def test_every_form_says_which_actions_are_in_which_clips(self, tmp_path: Path) -> None:
        made, kinetics, ucf101 = tmp_path / "trimmed.csv", tmp_path / "val.csv", tmp_path / "trainlist01.txt"
        clips = [("c0", "squat"), ("c1", None), ("c2", "diving")]
        write_clips([TrimmedClip(video_id=name, subset="training", label=label, duration_s=2.0) for name, label in clips], made)
        kinetics.write_text("label,youtube_id,time_start,time_end,split\nsquat,x,1,11,val\ndiving,x,1,11,val\n")
        ucf101.write_text("Archery/v_Archery_g08_c01.avi 1\n")
        assert all(map(is_clip_list, (made, kinetics, ucf101)))
        found = [
            [
                (video.video_id, video.subset, [instance.label for instance in video.instances])
                for video in truth_of(path).videos
            ]
            for path in (made, kinetics, ucf101)
        ]
        assert found == [
            [("c0", "training", ["squat"]), ("c2", "training", ["diving"])],
            [("x_000001_000011", "validation", ["squat", "diving"])],
            [("v_Archery_g08_c01", "training", ["Archery"])],
        ]

    def test_ground_truth_is_what_it_was(self, tmp_path: Path) -> None:
        write_activitynet(TRUTH, tmp_path / "truth.json")
        write_csv(TRUTH, tmp_path / "truth.csv")
        assert not is_clip_list(tmp_path / "truth.json")
        assert not is_clip_list(tmp_path / "truth.csv")
        assert [video.video_id for video in truth_of(tmp_path / "truth.json").videos] == ["a", "b"]

    def test_what_is_not_there_is_no_list(self, tmp_path: Path) -> None:
        with pytest.raises(AnnotationError, match="cannot read"):
            truth_of(tmp_path / "none.csv")
