"""The command line as its users meet it: what is printed, what is written, and the exit status."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tal_run.pipeline import detector, outputs
from tal_run.pipeline.cli import main

pytestmark = pytest.mark.usefixtures("colours")

TIMELINE = [("grey", 6.0), ("red", 7.0), ("grey", 5.0)]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


BUFFERED = {**os.environ, "PYTHONUNBUFFERED": ""}  # what a stream could not take stays in it, as on most machines


@pytest.fixture
def video(make_video: Any) -> Path:
    path: Path = make_video("bout.mp4", TIMELINE)
    return path


def test_piped_rows_are_tab_separated(video: Path) -> None:
    result = run("detect", video, "--query", "arm wrestling")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    row = line.split("\t")
    assert row[0] == "bout"
    assert float(row[1]) == pytest.approx(6.0, abs=0.8)
    assert float(row[2]) == pytest.approx(13.0, abs=0.8)
    assert row[3] == "arm wrestling"
    assert 0.3 < float(row[4]) <= 1.0
    assert row[5] == "arm wrestling 1.00"


def test_on_a_bare_machine_it_says_what_its_network_knows_and_which_knows_more(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAL_RUN_WEIGHTS", "")
    monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path))
    result = run("detect", video, "--backbone", "auto", "--query", "long jump")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[:2] == [
        "backbone: starter (12 actions, learnt from drawn video: not to be relied on in real video)",
        "a stronger one: --backbone movinet-a0-stream (600 actions of Kinetics), downloaded once",
    ]
    result = run("detect", video, "--backbone", "auto", "--query", "photosynthesis")
    assert result.exit_code == 2
    assert "; starter knows only long jump, high jump, javelin throw" in result.stderr
    assert "; --backbone movinet-a0-stream knows 600 actions of Kinetics" in result.stderr


def test_json_is_activitynets_results_form_with_all_that_made_it(video: Path, tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    assert run("detect", video, "--query", "ArmWrestling", "-o", target).exit_code == 0
    document = json.loads(target.read_text())
    assert set(document) == {"version", "results", "external_data"}
    (found,) = document["results"]["bout"]
    assert set(found) == {"label", "score", "segment"}
    assert found["label"] == "ArmWrestling"
    made = document["external_data"]
    assert made["videos"]["bout"]["sha256"] == hashlib.sha256(video.read_bytes()).hexdigest()
    assert made["backbone"]["windows"] == {"fps": 5.0, "window_frames": 8, "stride_frames": 4}
    assert made["head"]["name"] == "actionbytes"
    assert made["head"]["percentile"] == 80.0
    assert made["queries"]["ArmWrestling"]["classes"] == {"arm wrestling": 1.0}


@pytest.mark.parametrize("name", ["found.csv", "found.jsonl"])
def test_the_ending_chooses_the_format_and_all_formats_agree(video: Path, tmp_path: Path, name: str) -> None:
    run("detect", video, "--query", "arm wrestling", "-o", tmp_path / name)
    run("detect", video, "--query", "arm wrestling", "-o", tmp_path / "found.json")
    (expected,) = json.loads((tmp_path / "found.json").read_text())["results"]["bout"]
    text = (tmp_path / name).read_text()
    row = next(csv.DictReader(io.StringIO(text))) if name.endswith("csv") else json.loads(text)
    assert list(row) == ["video_id", "label", "start_s", "end_s", "score"]
    assert [float(row["start_s"]), float(row["end_s"])] == expected["segment"]
    assert float(row["score"]) == expected["score"]


def test_a_format_without_a_file_goes_to_standard_output(video: Path) -> None:
    document = json.loads(run("detect", video, "--query", "arm wrestling", "--format", "json").stdout)
    assert len(document["results"]["bout"]) == 1


def test_where_no_video_is_there_no_network_is_loaded(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "Detector", None)  # whoever makes one fails
    result = run("detect", video.with_name("bot.mp4"), tmp_path / "absent.mp4", "-o", tmp_path / "found.json")
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert (result.exit_code, len(errors)) == (1, 2)
    assert "did you mean bout.mp4?" in errors[0]
    assert not (tmp_path / "found.json").exists()


def test_one_bad_video_costs_a_sentence_not_the_others(video: Path, make_video: Any, tmp_path: Path) -> None:
    other = make_video("other.mp4", TIMELINE)
    (tmp_path / "text.mp4").write_text("this is not a video")
    result = run("detect", video, tmp_path / "text.mp4", tmp_path / "absent.mp4", other, "--query", "arm wrestling")
    assert result.exit_code == 1
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == ["bout", "other"]
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert len(errors) == 2
    assert "text.mp4" in errors[0]
    assert "absent.mp4" in errors[1]


@pytest.mark.parametrize("before", [None, "{}"])
def test_if_every_video_fails_what_was_there_stays(tmp_path: Path, before: str | None) -> None:
    for name in ("bad.mp4", "worse.mp4"):
        (tmp_path / name).write_bytes(b"no video")
    targets = [tmp_path / "found.json", tmp_path / "found.csv"]
    for target in targets if before is not None else []:
        target.write_text(before or "")
    options = [word for target in targets for word in ("-o", target)]
    result = run("detect", tmp_path / "bad.mp4", tmp_path / "worse.mp4", *options)
    assert (result.exit_code, result.stderr.count("Error:")) == (1, 2)
    assert f"nothing was written to {targets[0]} and {targets[1]}" in result.stderr
    assert [target.read_text() if target.exists() else None for target in targets] == 2 * [before]


def test_two_videos_of_one_name_keep_their_results_apart(make_video: Any, tmp_path: Path) -> None:
    first, second = make_video("a/bout.mp4", TIMELINE), make_video("b/bout.mp4", [("grey", 6.0), ("green", 6.0)])
    run("detect", first, second, first, "-o", tmp_path / "found.json")
    results = json.loads((tmp_path / "found.json").read_text())["results"]
    assert set(results) == {"a/bout", "b/bout"}


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        (["x/a.mp4", "y/b.mp4"], ["a", "b"]),
        (["x/a.mp4", "x/y/a.mp4", "x/c.mp4"], ["a", "y/a", "c"]),
        (["x/a.mp4", "x/a.avi"], ["a.mp4", "a.avi"]),
        (["x/a.mp4", "x/a.avi", "y/a.mp4"], ["x/a.mp4", "x/a.avi", "y/a"]),
        (["x/a.mp4", "y/b.mp4", "y/a.mp4"], ["x/a", "b", "y/a"]),  # a twin renames none but its twin
    ],
)
def test_ids_are_short_and_never_alike(paths: list[str], ids: list[str]) -> None:
    assert outputs.video_ids(paths) == ids


def test_ids_lead_out_of_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    paths = [f"{tmp_path}/x/y/../../a.mp4", f"{tmp_path}/x/a.mp4", f"{tmp_path}/x/y/a.mp4.mp4"]
    ids = outputs.video_ids(paths)
    assert ids == ["a", "x/a", "a.mp4"]
    assert outputs.video_ids(["x.mp4", "x.mkv", "x.mp4.avi"]) == ["x.mp4", "x.mkv", "x.mp4.avi"]


def test_the_same_file_is_watched_once(video: Path) -> None:
    result = run("detect", video, video.parent / "." / video.name, f"{video.parent}/../{video.parent.name}/{video.name}")
    assert len({line.split("\t")[0] for line in result.stdout.splitlines()}) == 1


def test_names_that_are_not_utf8_are_written_and_lose_nothing(video: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4")
    Path(odd).write_bytes(video.read_bytes())
    target = tmp_path / "found.json"
    assert run("detect", video, odd, "-o", target).exit_code == 0
    assert set(json.loads(target.read_text())["results"]) == {"bout", "\\udcff\\udcfe"}


def test_an_unforeseen_error_costs_one_video(video: Path, make_video: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tal_run.pipeline.detector import Detector

    watch = Detector.watch

    def no_memory(self: Detector, path: Any, **arguments: Any) -> Any:
        if "second" in str(path):
            raise MemoryError("Unable to allocate 80 TiB")
        return watch(self, path, **arguments)

    monkeypatch.setattr(Detector, "watch", no_memory)
    result = run("detect", make_video("second.mp4", TIMELINE), video, "--query", "arm wrestling")
    assert result.exit_code == 1
    assert "second.mp4 could not be watched (MemoryError: Unable to allocate 80 TiB)" in result.stderr
    assert result.stdout.startswith("bout\t")


@pytest.mark.parametrize("redirection", ["2>&-", "<&- >&-", "<&- >&- 2>&-", "2> >(exec true)"])
def test_closed_streams_lose_no_result(weights: Path, video: Path, tmp_path: Path, redirection: str) -> None:
    target = tmp_path / "found.json"
    command = f'"{sys.executable}" -m tal_run.pipeline.cli detect absent.mp4 "{video}" -o "{target}" {redirection}'
    assert subprocess.run(["bash", "-c", command], check=False, env=BUFFERED).returncode == 1  # of absent.mp4
    assert "bout" in json.loads(target.read_text())["results"]


def test_a_full_standard_output_is_a_sentence(weights: Path, video: Path) -> None:
    command = f'"{sys.executable}" -m tal_run.pipeline.cli detect "{video}" --format json >/dev/full'
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, env=BUFFERED)
    assert result.returncode == 1
    assert "No space left" in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_before_the_first_video_is_130(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tal_run.pipeline import detector

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(detector, "create_backbone", interrupted)
    result = run("detect", video)
    assert result.exit_code == 130
    assert "stopped" in result.stderr


def test_results_never_replace_an_input(video: Path) -> None:
    before = video.read_bytes()
    link = video.with_name("link.json")
    link.symlink_to(video)
    for target in (video, link):
        result = run("detect", video, "-o", target)
        assert result.exit_code == 2
        assert "would be overwritten" in result.stderr
    assert video.read_bytes() == before


def test_control_characters_never_reach_the_terminal(make_video: Any) -> None:
    path = make_video("a\x1b[31mred\nline\tb.mp4", TIMELINE)
    result = run("detect", path, "--query", "cleaning\x1b[2Jpool", "--query", "arm wrestling")
    assert "\x1b" not in result.stdout + result.stderr
    assert len(result.stdout.splitlines()) == 1
    assert result.stdout.count("\t") == 5


def test_a_stricter_threshold_only_leaves_out(video: Path) -> None:
    def rows(min_score: str) -> set[str]:
        return set(run("detect", video, "--min-score", min_score, "--top", "9").stdout.splitlines())

    assert rows("0.9") <= rows("0.5") <= rows("0.17") <= rows("0.01")


def test_a_query_for_what_is_absent_says_so_and_is_no_failure(video: Path) -> None:
    result = run("detect", video, "--query", "cleaning pool")
    assert (result.exit_code, result.stdout) == (0, "")
    assert 'nothing like "cleaning pool" was found' in result.stderr


def test_a_query_that_matches_nothing_lists_the_nearest(video: Path) -> None:
    result = run("detect", video, "--query", "quarterly earnings report")
    assert result.exit_code == 2
    assert "matches no class; the nearest are" in result.stderr


def test_a_query_in_other_words_shows_what_it_matched(video: Path) -> None:
    result = run("detect", video, "--query", "elbow wrestle zzyzx")
    assert "arm wrestling (0." in result.stderr
    assert '"zzyzx"' in result.stderr
    assert result.stdout.split("\t")[3] == "elbow wrestle zzyzx"


def test_quiet_says_nothing_but_results(video: Path) -> None:
    assert run("detect", video, "--query", "cleaning pool", "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--query", ""], "holds no word"),
        (["--query", "…!"], "holds no word"),
        (["--backbone", "i4d"], "choose one of"),
        (["--fps", "0"], "windows need fps"),
        (["--fps", "1e-9"], "windows need fps"),
        (["--window", "1000000000"], "windows need fps"),
        (["-o", "\x1b[2Jabsent/x.json"], "does not exist"),
        (["--fps", "nan"], "windows need fps"),
        (["--fps", "often"], "neither a number nor native"),
        (["--flow", "farneback"], "Invalid value for '--flow'"),
        (["--window", "0"], "windows need fps"),
        (["--stride", "-3"], "windows need fps"),
        (["--top", "0"], "at least 1"),
        (["--min-score", "nan"], "min-score must lie in 0..1"),
        (["--format", "xml"], "Invalid value for '--format'"),
        (["--word-vectors", "absent.vec", "--query", "elbow duel"], "absent.vec"),
        (["--word-vectors", "absent.vec", "--query", "arm wrestling"], "absent.vec"),
        (["-o", "found.xyz"], "no ending that names a format"),
        (["-o", "found"], "no ending that names a format"),
        (["-o", "other.mp4"], "would be overwritten"),
        (["-o", "absent/found.json"], "does not exist"),
        (["-o", "."], "is a folder"),
    ],
)
def test_wrong_use_is_a_sentence_and_status_2(video: Path, arguments: list[str], sentence: str) -> None:
    result = run("detect", video, *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_found_out_before_watching(video: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    assert run("detect", video, "-o", closed / "found.json").exit_code == 2


def test_a_disk_that_fills_up_at_the_end_loses_nothing(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "found.json"
    target.write_text("yesterday's")

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    def check_then_fill(path: Path, **_: object) -> None:
        monkeypatch.setattr(Path, "write_text", full)

    monkeypatch.setattr(outputs, "check_writable", check_then_fill)
    result = run("detect", video, "--query", "arm wrestling", "-o", target)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert json.loads(result.stdout)["results"]["bout"]
    assert target.read_text() == "yesterday's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bout.mp4", "found.json"]


def test_a_folder_stands_for_the_videos_in_it(video: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run("detect", tmp_path, "-q", "arm wrestling").stdout.startswith("bout\t")
    result = run("detect", tmp_path / "empty", "-q", "arm wrestling")
    assert (result.exit_code, "holds no video" in result.stderr) == (2, True)


def test_several_files_at_once_and_the_table_beside_them(video: Path, tmp_path: Path) -> None:
    result = run("detect", video, "-q", "arm wrestling", "-o", tmp_path / "a.json", "-o", tmp_path / "a.html")
    assert result.exit_code == 0
    assert result.stdout.startswith("bout\t")
    assert len(json.loads((tmp_path / "a.json").read_text())["results"]["bout"]) == 1
    page = (tmp_path / "a.html").read_text()
    assert '"link": "./bout.mp4"' in page
    assert page.count('"found": [[') == 1
    quiet = run("detect", video, "-q", "arm wrestling", "-o", tmp_path / "a.json", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")


def test_a_query_that_is_no_utf8_is_written_everywhere(video: Path, tmp_path: Path) -> None:
    targets = [tmp_path / f"a{form.ending}" for form in outputs.FORMATS.values()]
    query = os.fsdecode(b"arm wrestling \xff")
    options = [word for target in targets for word in ("-o", str(target))]
    assert run("detect", video, "-q", query, *options).exit_code == 0
    assert all(target.read_text(encoding="utf-8") for target in targets)


def test_a_text_that_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(outputs.OutputError, match=r"cannot write .*a\.html .*surrogates not allowed"):
        outputs.write(tmp_path / "a.html", "\udcff")
    assert not list(tmp_path.iterdir())


def test_of_several_files_one_that_cannot_be_written_costs_only_itself(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = outputs.write

    def one_disk_is_full(target: Path, text: str) -> None:
        if target.suffix == ".csv":
            raise outputs.OutputError(f"cannot write {target} (No space left on device)")
        write(target, text)

    monkeypatch.setattr(outputs, "write", one_disk_is_full)
    result = run("detect", video, "-q", "arm wrestling", "-o", tmp_path / "a.csv", "-o", tmp_path / "a.json")
    assert result.exit_code == 1
    assert next(csv.DictReader(io.StringIO(result.stdout)))["label"] == "arm wrestling"  # and no table in between
    assert json.loads((tmp_path / "a.json").read_text())["results"]["bout"]
    assert "wrote" in result.stderr


def test_ctrl_c_keeps_what_is_done(video: Path, make_video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tal_run.pipeline.detector import Detector

    watch = Detector.watch

    def interrupted_at_the_second(self: Detector, path: Any, **arguments: Any) -> Any:
        if "second" in str(path):
            raise KeyboardInterrupt
        return watch(self, path, **arguments)

    monkeypatch.setattr(Detector, "watch", interrupted_at_the_second)
    target = tmp_path / "found.csv"
    result = run("detect", video, make_video("second.mp4", TIMELINE), "--query", "arm wrestling", "-o", target)
    assert result.exit_code == 130
    assert "1 of 2 videos" in result.stderr
    assert target.read_text().count("bout") == 1


def test_features_of_a_folder(video: Path, make_video: Any, tmp_path: Path) -> None:
    make_video("sub/clip.mp4", [("red", 4.0)])
    result = run("features", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 0
    with np.load(tmp_path / "out" / "bout.npz", allow_pickle=False) as saved:
        assert saved["features"].shape == (22, 3)
        assert saved["logits"].shape == (22, 4)
        assert saved["seconds"][1] == pytest.approx([0.8, 2.4])
        assert saved["labels"].tolist()[0] == "arm wrestling"
    assert (tmp_path / "out" / "clip.npz").exists()


def test_a_folder_without_videos_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("features", tmp_path / "empty", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "holds no video" in result.stderr


def test_features_of_a_data_set(make_video: Any, tmp_path: Path) -> None:
    make_video("thumos/validation/video_validation_1.mp4", [("red", 4.0)])
    make_video("thumos/test/video_test_1.mp4", [("red", 4.0)])
    make_video("thumos/elsewhere/other.mp4", [("red", 4.0)])
    result = run("features", "--dataset", "thumos14", tmp_path / "thumos", "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npz")) == ["video_test_1.npz", "video_validation_1.npz"]


def test_two_videos_of_one_name_in_a_data_set_are_named(make_video: Any, tmp_path: Path) -> None:
    make_video("thumos/validation/a.mp4", [("red", 4.0)])
    make_video("thumos/test/a.mp4", [("red", 4.0)])
    result = run("features", "--dataset", "thumos14", tmp_path / "thumos", "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "both called a" in result.stderr


def test_annotations_of_nothing_do_not_pass(tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text('{"database": {}}')
    result = run("datasets", "check", "synthetic", "--data", tmp_path)
    assert result.exit_code == 1
    assert "name no video" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to watch"),
        (["--dataset", "kinetics9"], "choose one of thumos14"),
        (["--dataset", "thumos14", "a", "b"], "takes one folder"),
        (["--dataset", "thumos14", "absent"], "there is no folder absent"),
    ],
)
def test_features_of_nothing_say_what_is_missing(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = run("features", *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize("command", [[], ["detect"], ["features"], ["datasets"], ["datasets", "synthesize"]])
def test_help_is_there(command: list[str]) -> None:
    for flag in ("-h", "--help"):
        result = run(*command, flag)
        assert result.exit_code == 0
        assert "Usage:" in result.stdout
