"""`tal-run features` over many videos: what is right is kept, the rest is made again and said, and nothing stops the others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tal_run.eval.annotations import GroundTruth, VideoTruth, write_activitynet
from tal_run.extractors import registry
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.feature_layouts import LAYOUTS
from tal_run.extractors.video import probe
from tal_run.pipeline import cli, feature_batch
from tal_run.pipeline.cli import main
from tal_run.pipeline.detector import DetectConfig, Detector

pytestmark = pytest.mark.usefixtures("colours")
WTALC = ("--fps", "25", "--window", "16", "--stride", "16")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["features", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture
def videos(make_video: Any, tmp_path: Path) -> Path:
    for name, colour in (("a", "red"), ("b", "green"), ("c", "blue")):
        make_video(f"videos/{name}.mp4", [("grey", 1.0), (colour, 3.0)])
    return tmp_path / "videos"


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the videos that are really watched, one after the other."""
    names: list[str] = []

    def counting(video: str, **arguments: Any) -> Any:
        names.append(Path(video).stem)
        return extract(video, **arguments)

    extract = feature_batch.extract
    monkeypatch.setattr(feature_batch, "extract", counting)
    return names


def oneline(result: Result) -> str:
    return " ".join(result.stderr.split())


def lines(result: Result) -> list[str]:
    return result.stderr.splitlines()


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_what_is_verified_is_not_watched_again(videos: Path, tmp_path: Path, watched: list[str], layout: str) -> None:
    out = tmp_path / "out"
    arguments = (videos, "-o", out, "--layout", layout, *WTALC)
    first = run(*arguments)
    assert first.exit_code == 0
    assert watched == ["a", "b", "c"]
    assert "3 made, 0 kept, 0 made again, 0 failed" in lines(first)
    store = FeatureFolder(out, layout=layout)
    assert store.video_ids == ["a", "b", "c"]
    made = {name: store.read(name).data for name in store.video_ids}

    second = run(*arguments)
    assert second.exit_code == 0
    assert watched == ["a", "b", "c"]
    assert "0 made, 3 kept, 0 made again, 0 failed" in lines(second)
    assert f"{store.file('a')}: kept" in lines(second)

    third = run(videos / "c.mp4", videos / "a.mp4", *arguments[1:])  # fewer, in another order
    assert watched == ["a", "b", "c"]
    assert "0 made, 2 kept, 0 made again, 0 failed" in lines(third)
    store = FeatureFolder(out, layout=layout)
    for name in ("a", "c"):
        np.testing.assert_array_equal(store.read(name).data, made[name])

    run(*arguments, "--again")
    assert watched == ["a", "b", "c"] * 2


def test_what_is_damaged_or_outdated_is_made_again_and_said(
    videos: Path, tmp_path: Path, watched: list[str], make_video: Any
) -> None:
    out = tmp_path / "out"
    run(videos, "-o", out)
    whole = (out / "a.npz").read_bytes()
    watched.clear()
    (out / "a.npz").write_bytes(whole[:-7])
    record = json.loads((out / "b.json").read_text())
    (out / "b.json").write_text(json.dumps({**record, "files": {}}))  # killed between the two
    make_video("videos/c.mp4", [("red", 4.0)])
    result = run(videos, "-o", out)
    assert result.exit_code == 0
    assert watched == ["a", "b", "c"]
    assert lines(result) == [
        f"{out / 'a.npz'}: 4 x 3, made again: a.npz is damaged or was changed",
        f"{out / 'b.npz'}: 4 x 3, made again: it was not finished",
        f"{out / 'c.npz'}: 4 x 3, made again: it is of another video, or the video has changed: it was made of c.mp4",
        "0 made, 0 kept, 3 made again, 0 failed",
    ]
    with np.load(out / "a.npz") as repaired, np.load(out / "c.npz") as changed:
        assert repaired["features"].shape == changed["features"].shape == (4, 3)
    assert "0 made, 3 kept" in run(videos, "-o", out).stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--stride", "8"), "it has 8 frames at 5 fps, every 4 frames, not 8 frames at 5 fps, every 8 frames"),
        (("--decoder", "decord"), "it was decoded with pyav, not decord"),
    ],
)
def test_other_options_make_other_features(
    videos: Path, tmp_path: Path, watched: list[str], options: tuple[str, ...], words: str
) -> None:
    run(videos / "a.mp4", "-o", tmp_path / "out")
    result = run(videos / "a.mp4", "-o", tmp_path / "out", *options)
    assert watched == ["a", "a"]
    assert f"made again: {words}" in result.stderr
    assert "0 made, 1 kept" in run(videos / "a.mp4", "-o", tmp_path / "out", *options).stderr


def test_a_folder_keeps_its_layout(videos: Path, tmp_path: Path, watched: list[str]) -> None:
    run(videos / "a.mp4", "-o", tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    result = run(videos / "a.mp4", "-o", tmp_path / "out", "--layout", "video_features")
    assert result.exit_code == 2
    assert "holds features in the layout tal-run: choose another folder with -o, or add --layout tal-run" in result.stderr
    assert watched == ["a"]
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_other_weights_make_other_features(
    videos: Path, tmp_path: Path, watched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(videos / "a.mp4", "-o", tmp_path / "out")
    backbone = registry.EXTRACTORS["colours"]

    class Retrained(backbone):  # type: ignore[misc, valid-type]
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.weights = {"colours.pt": "ab"}

    monkeypatch.setitem(registry.EXTRACTORS, "colours", Retrained)
    assert "made again: it was made with other weights" in run(videos / "a.mp4", "-o", tmp_path / "out").stderr
    assert watched == ["a", "a"]


def test_a_kill_costs_the_video_that_was_being_watched(
    videos: Path, tmp_path: Path, watched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = feature_batch.extract

    def killed_at_the_second(video: str, **arguments: Any) -> Any:
        if Path(video).stem == "b":
            raise KeyboardInterrupt
        return counting(video, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(feature_batch, "extract", killed_at_the_second)
        result = run(videos, "-o", tmp_path / "out")
    assert result.exit_code == 130
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.npz"]
    result = run(videos, "-o", tmp_path / "out")
    assert watched == ["a", "b", "c"]
    assert "2 made, 1 kept, 0 made again, 0 failed" in lines(result)


def test_a_kill_while_a_file_is_written_leaves_no_half_a_file(
    videos: Path, tmp_path: Path, watched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def killed_halfway(file: Any, **_: Any) -> None:
        file.write(b"PK\x03\x04half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", killed_halfway)
        assert run(videos / "a.mp4", "-o", out).exit_code == 130
    assert list(out.iterdir()) == []
    assert "1 made" in run(videos / "a.mp4", "-o", out).stderr


def test_a_video_that_fails_costs_a_sentence_and_the_rest_goes_on(videos: Path, tmp_path: Path) -> None:
    (videos / "b.mp4").write_text("no video")
    result = run(videos, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "2 made, 0 kept, 0 made again, 1 failed" in lines(result)
    assert "b.mp4 is a text file" in result.stderr


def test_a_disk_that_is_full_is_a_sentence(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    result = run(videos / "a.mp4", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "a.npz (No space left on device): free some space there" in result.stderr
    assert "0 made, 0 kept, 0 made again, 0 failed, 1 left" in lines(result)  # it says nothing of the video
    assert not (tmp_path / "out" / "failures").exists()


def test_missing_videos_of_a_data_set_are_listed_as_opentad_reads_them(make_video: Any, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    make_video("data/training/there.mp4", [("red", 3.0)])
    make_video("data/training/v_prefixed.mp4", [("red", 3.0)])
    (data / "training" / "broken.mp4").write_bytes(b"\0" * 100)
    truth = GroundTruth(
        videos=tuple(
            VideoTruth(video_id=name, subset="training") for name in ("there", "prefixed", "broken", "gone", "gone too")
        )
    )
    write_activitynet(truth, data / "annotations.json")
    result = run("--dataset", "synthetic", data, "-o", out)
    assert result.exit_code == 1  # of the broken one
    assert f"3 of 5 annotated videos have no features: they are listed in {out / 'missing_files.txt'}" in lines(result)
    # opentad/datasets/base: blocked_videos = [line.rstrip("\n") for line in f]
    with (out / "missing_files.txt").open() as file:
        assert [line.rstrip("\n") for line in file] == ["broken", "gone", "gone too"]
    (data / "training" / "broken.mp4").unlink()
    assert run("--dataset", "synthetic", data, "-o", out).exit_code == 0  # what is not there is no failure


def test_without_annotations_nobody_knows_what_is_missing(make_video: Any, tmp_path: Path) -> None:
    make_video("data/test/video_test_1.mp4", [("red", 3.0)])
    result = run("--dataset", "thumos14", tmp_path / "data", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "note: which videos are missing cannot be told" in result.stderr
    assert not (tmp_path / "out" / "missing_files.txt").exists()


def test_wtalcs_one_file_is_as_its_own_code_loads_it(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(videos / "c.mp4", videos / "a.mp4", "-o", out, "--layout", "wtalc", *WTALC)
    assert result.exit_code == 0
    assert f"{out / 'JOINTFeatures.npy'}: 2 videos" in lines(result)
    features = np.load(out / "JOINTFeatures.npy", encoding="bytes", allow_pickle=True)
    names = [name.decode("utf-8") for name in np.load(out / "videoname.npy")]
    assert names == ["a", "c"]
    assert [array.shape for array in features] == [(7, 3)] * 2
    assert features[0][-1].argmax() == 0  # a ends in red, c in blue
    assert features[1][-1].argmax() == 2


def test_wtalcs_one_file_grows_with_the_folder(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(videos / "c.mp4", "-o", out, "--layout", "wtalc", *WTALC)
    assert f"{out / 'JOINTFeatures.npy'}: 1 video" in lines(run(videos / "c.mp4", "-o", out, "--layout", "wtalc", *WTALC))
    result = run(videos / "a.mp4", "-o", out, "--layout", "wtalc", *WTALC)
    assert f"{out / 'JOINTFeatures.npy'}: 2 videos" in lines(result)
    assert FeatureFolder(out).video_ids == ["a", "c"]
    (out / "per-video" / "c.npy").write_bytes(b"damaged")
    run(videos / "a.mp4", "-o", out, "--layout", "wtalc", *WTALC)
    assert FeatureFolder(out).video_ids == ["a"]


def test_wtalcs_layout_takes_wtalcs_windows_only(videos: Path, tmp_path: Path) -> None:
    result = run(videos, "-o", tmp_path / "out", "--layout", "wtalc")
    assert result.exit_code == 2
    assert "add --fps 25 --window 16 --stride 16" in result.stderr


def test_records_say_what_made_the_features(videos: Path, tmp_path: Path) -> None:
    import hashlib

    run(videos / "a.mp4", "-o", tmp_path)
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["video"]["sha256"] == hashlib.sha256((videos / "a.mp4").read_bytes()).hexdigest()
    assert record["backbone"] == "colours"
    assert (record["fps"], record["stride_frames"], record["offset_frames"]) == (5, 4, 4)
    assert record["files"] == {"a.npz": hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()}


def test_features_from_a_file_are_as_good_as_the_video(videos: Path, tmp_path: Path) -> None:
    run(videos, "-o", tmp_path / "out")
    detector = Detector(DetectConfig(backbone="colours"))
    matches = detector.match("arm wrestling")
    read = FeatureFolder(tmp_path / "out").read("a")
    assert detector.find(read, matches) == detector.find(detector.watch(videos / "a.mp4"), matches)


def test_two_videos_of_one_name_keep_their_files_apart(make_video: Any, tmp_path: Path) -> None:
    first, second = make_video("x/a.mp4", [("red", 3.0)]), make_video("y/a.mp4", [("green", 3.0)])
    run(first, second, "-o", tmp_path / "out")
    assert FeatureFolder(tmp_path / "out").video_ids == ["x/a", "y/a"]
    assert "0 made, 2 kept" in run(second, first, "-o", tmp_path / "out").stderr


def test_the_command_line_offers_every_layout() -> None:
    (option,) = (option for option in cli.features.params if option.name == "layout")
    assert list(option.type.choices) == list(LAYOUTS)  # type: ignore[attr-defined]


# --- what is not tal-run's ------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[Path, bytes]:
    """All files but those that a batch keeps beside features."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.jsonl")
    return {path: path.read_bytes() for path in files if path.relative_to(folder).parts[0] != "failures"}


@pytest.mark.parametrize("again", [(), ("--again",)])
@pytest.mark.parametrize("ending", [".npz", ".json"])
def test_a_video_is_never_written_over(
    videos: Path, tmp_path: Path, watched: list[str], ending: str, again: tuple[str, ...]
) -> None:
    """Whatever it is called: a file that is named is tried."""
    (videos / "a.mp4").rename(videos / f"a{ending}")
    before = contents(videos)
    result = run(videos / f"a{ending}", "-o", videos, *again)
    assert result.exit_code == 1
    assert f"a{ending} is a video and would be overwritten: choose another folder with -o" in result.stderr
    assert contents(videos) == before
    assert watched == []


@pytest.mark.parametrize("name", ["a.npz", "a.json"])
def test_a_link_to_a_video_is_never_written_over(videos: Path, tmp_path: Path, name: str) -> None:
    before = contents(videos)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(videos / "b.mp4")
    result = run(videos / "a.mp4", "-o", tmp_path / "out", "--again")
    assert result.exit_code == 1
    assert "is a video and would be overwritten" in result.stderr
    assert contents(videos) == before


def test_w_talcs_one_file_is_never_written_over_a_video(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "JOINTFeatures.npy").symlink_to(videos / "b.mp4")
    before = contents(videos)
    assert run(videos / "a.mp4", "-o", tmp_path / "out", "--layout", "wtalc", *WTALC, "--again").exit_code == 2
    assert contents(videos) == before


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("tal-run", "a.json"),
        ("tal-run", "a.npz"),
        ("opentad", "a.npy"),
        ("video_features", "a_fps.npy"),
        ("wtalc", "per-video/a.npy"),
        ("wtalc", "JOINTFeatures.npy"),
        ("wtalc", "videoname.npy"),
        ("wtalc", "JOINTFeatures.json"),
    ],
)
def test_what_tal_run_did_not_make_is_not_overwritten(
    videos: Path, tmp_path: Path, watched: list[str], layout: str, name: str
) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text('{"mine": 1}')
    arguments = (videos / "a.mp4", "-o", out, "--layout", layout, *WTALC)
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert f"{out / name} is not tal-run's (no record of it is there): choose another folder with -o" in result.stderr
    assert contents(out) == {out / name: b'{"mine": 1}'}
    assert watched == []
    assert run(*arguments, "--again").exit_code == 0
    assert FeatureFolder(out, layout=layout).read("a").data.shape == (7, 3)


def test_a_kill_before_the_record_leaves_files_that_are_tal_runs(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed so that nothing more is done, not even what `finally` says."""
    from tal_run.extractors import feature_files

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        calls = iter([feature_files._write_record])
        patch.setattr(feature_files, "_write_record", lambda *arguments: next(calls, lambda *_: None)(*arguments))
        run(videos / "a.mp4", "-o", out)
    assert {path.name for path in contents(out)} == {"a.npz", "a.json"}
    with pytest.raises(TalRunError, match="it was not finished; have them made again"):
        FeatureFolder(out, layout="tal-run").read("a")
    assert "made again: it was not finished" in run(videos / "a.mp4", "-o", out).stderr
    assert "1 kept" in run(videos / "a.mp4", "-o", out).stderr


@pytest.mark.parametrize("layout", ["tal-run", "wtalc"])
def test_a_name_that_is_too_long_is_a_sentence(videos: Path, tmp_path: Path, layout: str) -> None:
    (videos / "a.mp4").rename(videos / f"{'a' * 251}.mp4")
    result = run(videos, "-o", tmp_path / "out", "--layout", layout, *WTALC)
    assert result.exit_code == 1
    assert "(its name is too long): rename the video" in result.stderr
    assert "2 made, 0 kept, 0 made again, 1 failed" in lines(result)


def test_a_disk_that_is_full_is_suspected_where_numpy_does_not_say(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("480 requested and 12 written")

    monkeypatch.setattr(np, "savez", full)
    result = run(videos / "a.mp4", "-o", tmp_path / "out")
    assert "(480 requested and 12 written): the disk may be full: free some space there, or choose" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_an_empty_name_is_no_folder(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(videos)
    before = contents(videos)
    result = run("a.mp4", "-o", "")
    assert result.exit_code == 2
    assert "-o is empty: give a folder" in result.stderr
    assert contents(videos) == before


def test_a_pipe_in_the_way_is_not_waited_for(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(videos / "a.mp4", "-o", out)
    for name in ("a.npz", "a.json"):
        (out / name).unlink()
        os.mkfifo(out / name)
        assert "is there and is no file" in run(videos / "a.mp4", "-o", out, "--retry-failed").stderr


def test_without_a_video_nothing_is_packed(videos: Path, tmp_path: Path) -> None:
    (videos / "a.mp4").write_text("no video")
    assert run(videos / "a.mp4", "-o", tmp_path / "out", "--layout", "wtalc", *WTALC).exit_code == 1
    assert contents(tmp_path / "out") == {}


def test_a_newcomer_renames_none_but_its_namesake(videos: Path, tmp_path: Path, watched: list[str], make_video: Any) -> None:
    run(videos, "-o", tmp_path / "out")
    make_video("videos/sub/a.mp4", [("red", 3.0)])
    assert "1 made, 3 kept" in run(videos, "-o", tmp_path / "out").stderr
    assert watched == ["a", "b", "c", "a"]


def test_a_kill_before_the_packs_record_leaves_a_pack_that_is_tal_runs(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tal_run.extractors import feature_pack

    out = tmp_path / "out"
    arguments = (videos, "-o", out, "--layout", "wtalc", *WTALC)
    with monkeypatch.context() as patch:
        calls = iter([feature_pack.Pack._write_record])
        patch.setattr(feature_pack.Pack, "_write_record", lambda *values: next(calls, lambda *_: None)(*values))
        run(*arguments)
    with pytest.raises(TalRunError, match=r"is not what JOINTFeatures\.json says of it, perhaps as its making was cut off"):
        FeatureFolder(out).read("a")
    assert "0 made, 3 kept" in run(*arguments).stderr
    assert FeatureFolder(out).read("a").data.shape == (7, 3)


def test_the_list_of_missing_videos_is_never_written_over_a_video(make_video: Any, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    make_video("data/training/there.mp4", [("red", 3.0)])
    write_activitynet(GroundTruth(videos=(VideoTruth(video_id="gone", subset="training"),)), data / "annotations.json")
    out.mkdir()
    (out / "missing_files.txt").symlink_to(data / "training" / "there.mp4")
    before = contents(data)
    result = run("--dataset", "synthetic", data, "-o", out)
    assert result.exit_code == 1
    assert "missing_files.txt leads to a video" in result.stderr
    assert contents(data) == before


@pytest.mark.parametrize("options", [("--crop", "ten"), ("--precision", "bfloat16"), ("--device", "cuda")])
def test_what_a_backbone_cannot_do_is_refused_before_anything_is_watched(options: tuple[str, str], videos: Path) -> None:
    result = run(videos, "-o", videos.parent / "out", "--backbone", "starter", *options)
    assert result.exit_code == 2
    assert "starter" in result.stderr
    assert not list((videos.parent / "out").glob("*.npz"))


def test_the_video_s_own_rate_and_its_end_are_in_the_record_and_decide(videos: Path, watched: list[str]) -> None:
    out = videos.parent / "out"
    run(videos, "-o", out, "--fps", "native", "--last", "drop")
    record = json.loads((out / "a.json").read_text())
    assert record["settings"] == {"last": "drop"}
    assert record["fps"] == probe(videos / "a.mp4").frame_rate != 5.0  # which is the backbone's
    run(videos, "-o", out, "--fps", "native", "--last", "drop")
    assert watched == ["a", "b", "c"]
    result = run(videos, "-o", out, "--fps", "native")
    assert watched == ["a", "b", "c"] * 2
    assert "made again: it was made with last drop, not the default settings" in result.stderr


def test_several_processes_make_the_same_features(make_video: Any, tmp_path: Path) -> None:
    for name, colour in (("a", "red"), ("b", "green"), ("c", "blue")):
        make_video(f"videos/{name}.mp4", [("grey", 1.0), (colour, 2.0)])
    (tmp_path / "videos" / "d.mp4").write_bytes(b"nothing")
    one = run(tmp_path / "videos", "-o", tmp_path / "one", "--backbone", "starter")
    two = run(tmp_path / "videos", "-o", tmp_path / "two", "--backbone", "starter", "--device", "cpu,cpu")
    for result in (one, two):
        assert result.exit_code == 1
        assert "3 made, 0 kept, 0 made again, 1 failed" in result.stderr
        assert result.stderr.count("d.mp4") == 1
    for name in "abc":
        records = [json.loads((tmp_path / out / f"{name}.json").read_text()) for out in ("one", "two")]
        assert records[0] == records[1]
        with np.load(tmp_path / "one" / f"{name}.npz") as first, np.load(tmp_path / "two" / f"{name}.npz") as second:
            assert np.array_equal(first["features"], second["features"])


def test_a_short_video_that_is_refused_stops_no_other(videos: Path, make_video: Any) -> None:
    make_video("videos/blink.mp4", [("red", 0.2)])
    result = run(videos, "-o", videos.parent / "out", "--short", "refuse")
    assert result.exit_code == 1
    assert "fewer than one window of 8: leave out --short refuse" in result.stderr
    assert "3 made, 0 kept, 0 made again, 1 failed" in result.stderr


def test_a_rate_that_windows_cannot_have_names_video_and_cure(videos: Path, make_video: Any) -> None:
    make_video("videos/quick.mp4", [("red", 0.01)], rate=5000)
    result = run(videos, "-o", videos.parent / "out", "--fps", "native")
    assert result.exit_code == 1
    assert "quick.mp4: the video has 5000 frames a second, and windows take 0.001 to 1,000: give a number with" in oneline(
        result
    )
    assert "3 made, 0 kept, 0 made again, 1 failed" in result.stderr


def test_windows_that_the_backbone_cannot_see_are_refused_at_once(
    videos: Path, watched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.EXTRACTORS["colours"], "window_lengths", range(8, 9))
    result = run(videos, "-o", videos.parent / "out", "--window", "9")
    assert result.exit_code == 2
    assert "colours sees windows of exactly 8 frames, not of 9: leave out --window, or give --window 8" in result.stderr
    assert not watched


def test_what_a_library_raises_costs_one_video(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(video: str, **arguments: Any) -> Any:
        if Path(video).stem == "b":
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        return extract(video, **arguments)

    extract = feature_batch.extract
    monkeypatch.setattr(feature_batch, "extract", failing)
    result = run(videos, "-o", videos.parent / "out")
    assert result.exit_code == 1
    assert "b.mp4: not foreseen: RuntimeError: DefaultCPUAllocator: not enough memory" in oneline(result)
    assert "2 made, 0 kept, 0 made again, 1 failed" in result.stderr


def test_what_is_wrong_with_a_video_is_said_once(videos: Path, make_video: Any) -> None:
    make_video("videos/blink.mp4", [("red", 0.2)])
    note = "blink.mp4: note: the video is shorter (0.20 s) than one window"
    assert oneline(run(videos, "-o", videos.parent / "out")).count(note) == 1
    assert "note:" not in run(videos, "-o", videos.parent / "out").stderr  # it is kept
    assert "note:" not in run(videos, "-o", videos.parent / "out", "--again", "--quiet").stderr
