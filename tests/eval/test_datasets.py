"""Data sets by name: found where they are published to be, made where they can be, and checked against their videos."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tal_run.eval import datasets
from tal_run.eval.annotations import AnnotationError, GroundTruth, Instance, VideoTruth, write_activitynet, write_thumos
from tal_run.eval.datasets import DATASETS, DatasetError, DatasetFiles, check, find


def test_an_unknown_name_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"thumos14, activitynet12, activitynet13, multithumos, .*ucf101, synthetic, synthetic-street"
    ):
        find("thumos", tmp_path)


def test_names_are_what_they_are_listed_under() -> None:
    assert [dataset.name for dataset in DATASETS.values()] == list(DATASETS)


@pytest.mark.parametrize("nested", [".", "annotations", "annotations/deeper"])
def test_thumos_is_found_as_it_is_unpacked(tmp_path: Path, nested: str) -> None:
    for folder, name in (("validation", "video_validation_0000051.mp4"), ("test", "video_test_0000004.mp4")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    (tmp_path / "test" / "notes.txt").touch()
    truth = VideoTruth(
        video_id="video_test_0000004", subset="testing", instances=(Instance(0.0, 1.0, "video_test_0000004", "LongJump"),)
    )
    write_thumos(GroundTruth(videos=(truth,)), tmp_path / nested)
    files = find("thumos14", tmp_path)
    assert files.truth().videos == (truth,)
    assert list(files.videos("testing")) == ["video_test_0000004"]
    assert list(files.videos()) == ["video_test_0000004", "video_validation_0000051"]
    with pytest.raises(DatasetError, match="no subset 'training': choose one of validation, testing"):
        files.videos("training")


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("kinetics", ("train/abseiling/a_000001_000011.mp4", "val/zumba/b_000001_000011.mp4", "val_256/c_000001_000011.mkv")),
        ("ucf101", ("UCF-101/Archery/v_Archery_g01_c01.avi", "UCF-101/Biking/v_Biking_g01_c01.avi")),
        ("ucf101", ("v_Archery_g01_c01.avi", "Biking/v_Biking_g01_c01.avi")),
        ("multithumos", ("validation/video_validation_0000051.mp4", "test/video_test_0000004.mp4")),
    ],
)
def test_trimmed_clips_may_lie_in_a_folder_a_class(name: str, paths: tuple[str, ...], tmp_path: Path) -> None:
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert sorted(find(name, tmp_path).videos().values()) == sorted(tmp_path / path for path in paths)


def test_trimmed_clips_are_those_of_the_published_lists(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "val.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nabseiling,0wR5jVB-WPk,417,427,val\nzumba,-_x,3.0,13.0,val\n"
    )
    (tmp_path / "annotations" / "notes.csv").write_text("a,b\n1,2\n")
    assert find("kinetics", tmp_path).annotated() == ["-_x_000003_000013", "0wR5jVB-WPk_000417_000427"]
    first, second = find("kinetics", tmp_path).truth().videos
    assert first.instances == (Instance(0.0, 10.0, "0wR5jVB-WPk_000417_000427", "abseiling"),)
    assert (second.video_id, second.subset, second.instances[0].end_s) == ("-_x_000003_000013", "validation", 10.0)
    (tmp_path / "annotations" / "val.csv").write_text("label,youtube_id,time_start,time_end,split\nzumba,x,,13,val\n")
    with pytest.raises(AnnotationError, match=r"val\.csv, line 2: no clip's times"):
        find("kinetics", tmp_path).annotated()

    (tmp_path / "ucfTrainTestlist").mkdir()
    (tmp_path / "ucfTrainTestlist" / "trainlist01.txt").write_text("Archery/v_Archery_g08_c01.avi 1\n\n")
    (tmp_path / "ucfTrainTestlist" / "testlist01.txt").write_text("Archery/v_Archery_g01_c01.avi\r\n")
    assert find("ucf101", tmp_path).annotated() == ["v_Archery_g01_c01", "v_Archery_g08_c01"]


def test_without_lists_it_is_said_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no lists of ucf101's clips: put them there, from https"):
        find("ucf101", tmp_path).annotated()


def test_two_clips_of_one_name_are_an_error(tmp_path: Path) -> None:
    for place in ("train/abseiling", "val/abseiling"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.mp4").touch()
    with pytest.raises(DatasetError, match="both called a: keep one"):
        find("kinetics", tmp_path).videos()


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        find("thumos14", tmp_path / "nowhere")
    files = find("activitynet13", tmp_path)
    with pytest.raises(DatasetError, match=r"activity_net.v1-3.min.json"):
        files.truth()
    with pytest.raises(DatasetError, match="no videos"):
        files.videos()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "ON_DEMAND_VIDEOS", 1)
    monkeypatch.setattr(datasets, "ON_DEMAND_S", (4.0, 4.0))
    monkeypatch.setattr("os.cpu_count", lambda: 1)


@pytest.mark.usefixtures("few")
def test_a_made_data_set_is_made_once_in_the_cache_if_no_folder_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path))
    steps: list[str] = []

    def hook(step: str, *, completed: float, total: float | None) -> None:
        steps.append(step)

    files = find("synthetic", hook=hook)
    assert files.folder.is_relative_to(tmp_path)
    assert list(files.videos("training")) == ["synthetic_stadium_000000"] == [v.video_id for v in files.truth().videos]
    made = len(steps)
    assert made
    assert find("synthetic", hook=hook) == files
    assert len(steps) == made
    assert [(tally.subset, tally.present, tally.faults, tally.missing) for tally in check(files)] == [("training", 1, [], [])]


@pytest.mark.usefixtures("few")
def test_each_look_is_made_in_the_folder_that_is_given(tmp_path: Path) -> None:
    assert list(find("synthetic-street", tmp_path / "here").videos()) == ["synthetic_street_000000"]


@pytest.mark.usefixtures("few")
def test_check_says_what_is_wrong_with_which_video(tmp_path: Path) -> None:
    folder = find("synthetic", tmp_path / "made").folder
    video = next((folder / "training").glob("*.mp4"))
    for name in ("short", "broken"):
        (folder / "training" / f"{name}.mp4").write_bytes(video.read_bytes()[: None if name == "short" else 2000])
    late = Instance(3.0, 30.0, "short", "squat")
    truth = GroundTruth(
        videos=(
            VideoTruth(video_id="short", subset="training", duration_s=30.0, instances=(late,)),
            VideoTruth(video_id="broken", subset="training"),
            VideoTruth(video_id="gone", subset="testing"),
        )
    )
    write_activitynet(truth, folder / "annotations.json")
    training, testing = check(DatasetFiles(dataset=DATASETS["synthetic"], folder=folder))
    assert (training.annotated, training.present, training.instances, training.missing) == (2, 2, 1, [])
    length, segments, broken = training.faults
    assert "lasts 4.00 s, but is annotated as 30.00 s" in length
    assert "1 of its segments end later" in segments
    assert "broken.mp4" in broken
    assert f"; delete it and run `tal-run datasets synthesize {folder}` again" in broken
    assert "fetch" not in broken
    assert "ffmpeg" not in broken
    assert (testing.annotated, testing.present, testing.missing) == (1, 0, ["gone"])


@pytest.mark.parametrize("content", [b"", b"\0\0\0\x18ftypmp42" + bytes(5000), bytes(range(256)) * 40, b"text\n" * 900])
def test_a_damaged_video_is_fetched_or_made_again_as_it_came(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "a.mp4").write_bytes(content)
    truth = GroundTruth(videos=(VideoTruth(video_id="a", subset="training"),))
    for name, file, said in (
        ("synthetic", "annotations.json", "delete it and run"),
        ("activitynet13", "activity_net.v1-3.min.json", "fetch it again|convert|give the"),
    ):
        write_activitynet(truth, tmp_path / file)
        (tally,) = check(DatasetFiles(dataset=DATASETS[name], folder=tmp_path))
        (fault,) = tally.faults
        assert re.search(said, fault)
        assert ("datasets synthesize" in fault) == (name == "synthetic")


def test_trimmed_clips_alone_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(DatasetError, match="is not finished"):
        find("synthetic", tmp_path)
    (tmp_path / "trimmed.csv").write_text("")
    with pytest.raises(DatasetError, match=r"holds trimmed clips only, .* synthesize .* --videos N` .*recipe\.json"):
        find("synthetic", tmp_path)
