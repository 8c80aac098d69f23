"""``tal-run eval`` as its users meet it: what is printed, and the exit status."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from threading import Thread

import pytest
from click.testing import CliRunner, Result

from tal_run.eval.protocols import PROTOCOLS
from tal_run.pipeline.cli import main
from tal_run.pipeline.cli_eval import NAMES

TRUTH = """video_id,label,start_s,end_s
a,run,0,10
a,run,20,30
b,run,5,15
b,jump,40,60
c,jump,0,8
c,Ambiguous,30,40
"""
FOUND = """video_id,label,start_s,end_s,score
a,run,0,9,0.9
a,run,0,10,0.8
a,run,20,29,0.7
b,run,50,55,0.6
b,jump,40,52,0.9
c,jump,31,33,0.8
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("truth.csv").write_text(TRUTH)
    Path("found.csv").write_text(FOUND)
    Path("better.csv").write_text(FOUND + "b,run,5,15,0.95\nc,jump,0,8,0.95\n")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["eval", "--ground-truth", "truth.csv", *arguments], catch_exceptions=False)


def test_the_names_are_the_protocols() -> None:
    assert tuple(PROTOCOLS) == NAMES


@pytest.mark.usefixtures("files")
def test_one_protocol_is_a_row_a_threshold() -> None:
    result = run("--detections", "found.csv", "--protocol", "thumos14", "--tiou", "0.5:0.7:0.2", "--bootstrap", "0")
    assert result.exit_code == 0
    # run: at 0.5 the second of a fits better than the first; jump: the one in c is spared
    run_ap, jump_ap = (1 / 2 + 2 / 3) / 3, 1 / 2
    half, seventy = 100 * (run_ap + jump_ap) / 2, 100 * (run_ap + 0) / 2
    assert result.stdout.splitlines() == [
        "thumos14: 3 videos, 5 instances, 6 detections",
        "tIoU    mAP",
        f" 0.5  {half:5.2f}",
        f" 0.7  {seventy:5.2f}",
        f"mean  {(half + seventy) / 2:5.2f}",
    ]


@pytest.mark.usefixtures("files")
def test_intervals_stand_beside_and_hold_the_value() -> None:
    result = run("found.csv", "--protocol", "activitynet", "--tiou", "0.5", "--per-class")
    _, heads, row, blank, classes, *rows = result.stdout.splitlines()
    assert heads.split() == ["tIoU", "mAP", "95", "%", "interval"]
    tiou, value, low, to, high = row.split()
    assert (tiou, to) == ("0.5", "to")
    assert float(low) <= float(value) <= float(high)
    assert (blank, classes.split()) == ("", ["activitynet", "0.5", "mean"])
    assert [line.split()[0] for line in rows] == ["jump", "run"]


@pytest.mark.usefixtures("files")
def test_all_protocols_stand_side_by_side() -> None:
    result = run("found.csv", "--protocol", "all", "--bootstrap", "20")
    assert result.exit_code == 0
    head, heads, *rows, last = result.stdout.splitlines()
    assert head == "mAP in percent; 3 videos, 5 instances"
    assert heads.split() == ["tIoU", "thumos14", "activitynet", "wtalc", "wsad", "multithumos"]
    assert [row.split()[0] for row in rows] == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "mean", "frames"]
    assert all(row.count("±") == 5 for row in rows[:-1])
    assert "20 samples" in last
    assert "left out mexaction2, which knows other classes" in result.stderr


@pytest.mark.usefixtures("files")
def test_two_files_are_compared() -> None:
    result = run("found.csv", "better.csv", "--protocol", "wtalc", "--tiou", "0.5,0.7")
    assert result.exit_code == 0
    first, second, head, heads, *rows = result.stdout.splitlines()
    assert (first, second) == ("A = found.csv", "B = better.csv")
    assert head == "wtalc: 3 videos, 5 instances, 1000 samples of the videos"
    assert heads.split() == ["tIoU", "A", "B", "B", "-", "A", "95", "%", "interval", "B", "is", "better", "in"]
    for row in rows:
        _, before, after, gain, *_ = row.split()
        assert float(gain) == pytest.approx(float(after) - float(before), abs=0.011)
        assert float(gain) > 0


@pytest.mark.usefixtures("files")
def test_json_holds_it_all() -> None:
    one = json.loads(run("found.csv", "--protocol", "multithumos", "--tiou", "0.5", "--json").stdout)
    assert set(one["map"]) == set(one["intervals_95"]) == {"0.5"}
    assert one["average_map"] == one["map"]["0.5"]
    assert set(one["per_class"]) == set(one["frame_per_class"]) == {"run", "jump"}
    every = json.loads(run("found.csv", "--protocol", "all", "--json", "--bootstrap", "0").stdout)
    assert list(every) == ["thumos14", "activitynet", "wtalc", "wsad", "multithumos"]
    both = json.loads(run("found.csv", "better.csv", "--protocol", "thumos14", "--json").stdout)
    assert both["difference"]["0.5"]["value"] == pytest.approx(both["second"]["map"]["0.5"] - both["first"]["map"]["0.5"])


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "0 files of detections were given"),
        (["found.csv", "found.csv", "found.csv"], "3 files of detections were given"),
        (["found.csv"], "--protocol thumos14, activitynet"),
        (["found.csv", "--protocol", "voc"], "'voc' is not there: choose one of thumos14"),
        (["found.csv", "--protocol", "wsad", "--tiou", "0.7:0.1:0.1"], "FIRST:LAST:STEP"),
        (["found.csv", "--protocol", "wsad", "--tiou", "0.1:0.7:0"], "FIRST:LAST:STEP"),
        (["found.csv", "--protocol", "wsad", "--tiou", "0:1:1e-9"], "FIRST:LAST:STEP"),
        (["found.csv", "--protocol", "wsad", "--tiou", "0:1:0.5"], "tIoU threshold of 0"),
        (["found.csv", "--protocol", "wsad", "--also", "run"], "--also run is no pair of labels"),
        (["found.csv", "--protocol", "wsad", "--subset", "testing"], "does not say which videos are 'testing'"),
        (["nowhere.csv", "--protocol", "wsad"], "cannot read nowhere.csv"),
        (["truth.csv", "--protocol", "wsad"], "ground truth"),
        (["found.csv", "--protocol", "mexaction2"], "knows the classes"),
        (["found.csv", "better.csv", "--protocol", "wsad", "--bootstrap", "0"], "needs bootstrap samples"),
        (["found.csv", "better.csv", "--protocol", "wsad", "--per-class"], "--per-class takes one file"),
        (["found.csv", "--proposals", "--per-class"], "--per-class takes one file"),
    ],
)
def test_wrong_use_is_a_sentence_and_status_2(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


@pytest.mark.usefixtures("files")
def test_faults_stop_it_or_are_left_out() -> None:
    Path("bad.csv").write_text(FOUND + "a,walk,1,2,0.1\nz,run,1,2,0.1\n")
    result = run("bad.csv", "--protocol", "wsad")
    assert result.exit_code == 2
    assert "bad.csv, line 9 (z): video_id 'z' is not in the ground truth" in result.stderr
    result = run("bad.csv", "--protocol", "wsad", "--lenient", "--bootstrap", "0")
    assert result.exit_code == 0
    assert result.stdout == run("found.csv", "--protocol", "wsad", "--bootstrap", "0").stdout
    assert "1 detection left out: unknown video" in " ".join(result.stderr.split())


@pytest.mark.usefixtures("files")
def test_proposals_need_no_labels_and_no_protocol() -> None:
    Path("proposals.json").write_text(
        json.dumps({"results": {"a": [{"score": 0.5, "segment": [0, 10]}], "b": [{"score": 0.5, "segment": [40, 60]}]}})
    )
    result = run("proposals.json", "--proposals", "--tiou", "0.5")
    assert result.exit_code == 0
    head, heads, *rows = result.stdout.splitlines()
    assert (head, heads.split()) == ("3 videos, 5 instances, 2 proposals", ["percent", "all"])
    assert dict(row.rsplit(None, 1) for row in rows)["recall at tIoU 0.5"] == "40.00"
    Path("proposals.csv").write_text("video_id,start_s,end_s,score\na,0,10,.5\nb,40,60,.5\n")
    both = run("proposals.json", "proposals.csv", "--proposals").stdout.splitlines()
    assert both[2].split() == ["percent", "A", "B"]
    assert all(len(set(row.rsplit(None, 2)[1:])) == 1 for row in both[3:])
    assert json.loads(run("proposals.csv", "--proposals", "--json").stdout)["recall"]["0.5"] == 0.4
    few = run("proposals.csv", "--proposals", "--most", "1").stdout
    assert "AR@1 " in few
    assert "AR@5 " not in few
    assert "AR@1000" in run("proposals.csv", "--proposals", "--most", "1000").stdout
    assert "it goes with --proposals" in run("proposals.csv", "--protocol", "wsad", "--most", "5").stderr
    refused = run("proposals.json", "--proposals", "--protocol", "wsad")
    assert (refused.exit_code, "leave out --protocol wsad" in refused.stderr) == (2, True)
    assert "no 'label'" in run("proposals.json", "--protocol", "wsad").stderr


@pytest.mark.usefixtures("files")
def test_a_diagnosis_is_printed_and_drawn() -> None:
    pytest.importorskip("matplotlib", reason="figures are drawn with matplotlib")
    result = run("found.csv", "--protocol", "activitynet", "--diagnose", "why", "--bootstrap", "0", "--tiou", "0.5")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "at tIoU 0.5: 3 right detections" in lines
    assert [line.split()[:2] for line in lines if line.startswith("double")] == [["double", "detection"]]
    assert "missed: 2 of 5 instances; mAP here is normalised" in lines
    assert sorted(path.name for path in Path("why").iterdir())[:2] == ["diagnosis.json", "missed.csv"]
    document = json.loads(run("found.csv", "--protocol", "wsad", "--diagnose", "why", "--json", "--bootstrap", "0").stdout)
    assert document["diagnosis"]["tiou"] == 0.5


@pytest.mark.usefixtures("files")
def test_a_diagnosis_is_of_one_thing() -> None:
    for arguments in (["--protocol", "all"], ["better.csv", "--protocol", "wsad"], ["--proposals"]):
        result = run("found.csv", *arguments, "--diagnose", "why")
        assert (result.exit_code, "one file of detections and one protocol" in result.stderr) == (2, True)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("where", ["truth.csv", "truth.csv/below", "/proc/nothing"])
def test_where_no_diagnosis_can_be_written_is_said(where: str) -> None:
    pytest.importorskip("matplotlib", reason="figures are drawn with matplotlib")
    result = run("found.csv", "--protocol", "wsad", "--diagnose", where)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"cannot write into {where} (" in result.stderr
    assert "give --diagnose a folder that can be written to" in result.stderr
    assert Path("truth.csv").read_text() == TRUTH


@pytest.mark.usefixtures("files")
def test_ground_truth_may_come_through_a_pipe() -> None:
    os.mkfifo("pipe")
    writer = Thread(target=Path("pipe").write_text, args=(TRUTH,), daemon=True)
    writer.start()
    files = ["found.csv", "better.csv", "--protocol", "activitynet"]
    piped = CliRunner().invoke(main, ["eval", "--ground-truth", "pipe", *files])
    assert (piped.exit_code, piped.stdout) == (0, run(*files).stdout)


@pytest.mark.usefixtures("files")
def test_one_video_has_no_interval() -> None:
    said = "one video has no interval"
    assert said in run("found.csv", "--protocol", "wsad", "--exclude", "a", "--exclude", "b").stderr
    assert said not in run("found.csv", "--protocol", "wsad").stderr


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("arguments", [["found.csv", "--proposals"], ["found.csv", "better.csv", "--protocol", "wsad"]])
def test_who_reads_only_the_beginning_is_not_told_of_it(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("tal_run.pipeline.eval_tables._table", closed)
    result = run(*arguments)
    assert (result.exit_code, "Broken pipe" in result.stderr) == (1, False)
