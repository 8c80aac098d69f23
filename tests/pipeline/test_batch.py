"""`tal-run batch` as whole processes: every video ends as one record, whatever is wrong with it, the disk or the run."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tal_run.eval.detections import read_detections
from tal_run.pipeline import batch_store, workers


@pytest.fixture
def case(batches: Any, tmp_path: Path) -> Any:
    return batches.Case(tmp_path)


def test_every_video_ends_as_one_record_and_the_lists_are_made_of_these(case: Any, batches: Any) -> None:
    for name, text in {
        "a.mp4": "found 2",
        "sub/a.mp4": "found 1",
        "sub/a.mkv": "found 0",
        "b.mp4": "error",
        "c.mp4": "odd",
        "d.mp4": "crash",
        "notes.txt": "found 9",
    }.items():
        case.write(name, text)
    status, said = case.run()
    assert status == 1
    assert said.splitlines()[-2].startswith("3 done, 0 kept, 3 failed; ")
    assert said.splitlines()[-1].startswith("why: ")
    assert sorted(case.results()) == ["a.mp4.json", "sub/a.mkv.json", "sub/a.mp4.json"]
    assert json.loads(case.results()["a.mp4.json"])["results"] == {
        "a": [
            {"label": "jump", "score": 0.5, "segment": [0.0, 0.5]},
            {"label": "jump", "score": 0.51, "segment": [1.0, 1.5]},
        ]
    }
    failures = case.failures()
    assert {name: (record["kind"], record["attempts"]) for name, record in failures.items()} == {
        "b.mp4": ("error", 1),
        "c.mp4": ("unforeseen", 1),
        "d.mp4": ("died", 2),
    }
    assert failures["b.mp4"]["error"] == "is broken: mend it"
    assert failures["b.mp4"]["stage"] == "watching"
    assert failures["b.mp4"]["elapsed_s"] >= 0
    assert "SIGSEGV" in failures["d.mp4"]["error"]
    manifest = case.manifest()
    assert {name: line["state"] for name, line in manifest.items()} == {
        "a.mp4": "done",
        "b.mp4": "failed",
        "c.mp4": "failed",
        "d.mp4": "failed",
        "sub/a.mkv": "done",
        "sub/a.mp4": "done",
    }
    assert manifest["b.mp4"]["error"] == failures["b.mp4"]["error"]
    assert all((case.out / line["file"]).is_file() for line in manifest.values())
    table = read_detections(case.out / "detections.csv")
    assert len(table) == 3
    assert batches.leftovers(case.out) == []


def test_a_second_run_does_nothing_and_a_third_what_is_asked(case: Any) -> None:
    for name, text in {"a.mp4": "found 1", "b.mp4": "error"}.items():
        case.write(name, text)
    case.run()
    before, lists = case.results(), (case.out / "manifest.jsonl").read_bytes()
    assert sorted(case.watched()) == ["a.mp4", "b.mp4"]
    status, said = case.run()
    assert status == 1
    assert "0 done, 1 kept, 0 failed, 1 failed before (--retry-failed tries again); " in said
    assert case.watched() == []
    assert case.results()["a.mp4.json"] == before["a.mp4.json"]
    assert (case.out / "manifest.jsonl").read_bytes() == lists
    case.run("--retry-failed")
    assert case.watched() == ["b.mp4"]


def test_what_has_changed_is_done_again_and_what_was_only_touched_is_not(case: Any) -> None:
    for name in ("same.mp4", "touched.mp4", "other.mp4", "sly.mp4", "mended.mp4"):
        case.write(name, "error" if name == "mended.mp4" else "found 2")
    for path in case.videos.iterdir():
        os.utime(path, (1e9, 1e9))
    case.run()
    case.watched()
    (case.videos / "touched.mp4").touch()
    case.write("other.mp4", "found 31")
    case.write("sly.mp4", "found 3")  # as long, and as old, as it was
    case.write("mended.mp4", "found 4")
    os.utime(case.videos / "sly.mp4", (1e9, 1e9))
    status, said = case.run()
    assert sorted(case.watched()) == ["mended.mp4", "other.mp4", "sly.mp4"]
    assert status == 0
    assert "3 done, 2 kept, 0 failed" in said
    assert {name: line["detections"] for name, line in case.manifest().items()} == {
        "mended.mp4": 4,
        "other.mp4": 31,
        "same.mp4": 2,
        "sly.mp4": 3,
        "touched.mp4": 2,
    }


def test_other_options_or_weights_make_everything_anew(case: Any) -> None:
    case.write("a.mp4")
    case.write("b.mp4", "error")
    case.run()
    case.watched()
    for arguments, environment in ((("--query", "jump"), {}), ((), {}), ((), {"FAKE_WEIGHTS": "2"})):
        case.run(*arguments, **environment)
        assert sorted(case.watched()) == ["a.mp4", "b.mp4"]
    assert case.manifest()["a.mp4"]["state"] == "done"


@pytest.mark.parametrize("harm", ["cut", "edited", "emptied", "swapped", "nested", "unreadable"])
def test_a_damaged_result_is_made_again(harm: str, case: Any) -> None:
    case.write("a.mp4", "found 1")
    case.write("b.mp4", "found 2")
    case.run()
    case.watched()
    whole = case.results()
    path = case.out / "results" / "a.mp4.json"
    content = {
        "cut": whole["a.mp4.json"][:-9],
        "edited": whole["a.mp4.json"].replace(b"0.5", b"0.6"),
        "emptied": b"",
        "swapped": whole["b.mp4.json"],
        "nested": b"[" * 100_000,
        "unreadable": b"\xff\xfe{}",
    }[harm]
    path.write_bytes(content)
    assert case.run()[0] == 0
    assert case.watched() == ["a.mp4"]
    assert case.results() == whole


def test_hangs_and_floods_cost_their_video_and_the_pool_goes_on(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.mp4", "c.mp4", "e.mp4", "g.mp4"):
        case.write(name, "sleep 0.1 found 1")
    case.write("b.mp4", "hang")
    case.write("d.mp4", "memory")
    case.write("f.mp4", f"once {case.folder / 'died'} found 3")
    monkeypatch.setattr(workers, "Limits", partial(workers.Limits, base_s=3.0))
    status, said = case.run("--workers", "2", "--time-limit", "1", "--memory-limit", "300M")
    assert status == 1, said
    assert {name: (record["kind"], record["attempts"]) for name, record in case.failures().items()} == {
        "b.mp4": ("time", 1),
        "d.mp4": ("memory", 1),
    }
    assert sorted(case.results()) == [f"{name}.mp4.json" for name in "acefg"]
    assert 4 <= case.failures()["b.mp4"]["elapsed_s"] < 30


def test_two_runs_share_the_work_and_do_nothing_twice(case: Any, batches: Any) -> None:
    for number in range(30):
        case.write(f"{number:02}.mp4", "sleep 0.1 found 1")
    runs = [case.start(), case.start("--workers", "2")]
    said = [run.communicate(timeout=100)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    watched = case.watched()
    assert sorted(watched) == sorted(path.name for path in case.videos.iterdir())
    assert len(case.manifest()) == 30
    assert all(" 0 done" not in text for text in said)
    assert batches.leftovers(case.out) == []


def test_a_folder_is_marked_though_another_run_sweeps_it_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by two runs that began at once: neither is known to be at work before the folder is marked."""
    whole, swept = batch_store.written_whole, []

    @contextmanager
    def written_whole(target: Any) -> Iterator[Path]:
        with whole(target) as part:
            yield part
            if len(swept) < 2:
                swept.append(part)
                part.unlink()

    monkeypatch.setattr(batch_store, "written_whole", written_whole)
    batch_store.Store(tmp_path / "out")
    assert len(swept) == 2
    assert batch_store.Store.as_it_is(tmp_path / "out").locks == tmp_path / "out" / batch_store.LOCKS
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"failures", "results", batch_store.MARK_FILE}


def test_a_run_with_other_options_is_refused_while_one_is_at_work(case: Any) -> None:
    case.write("a.mp4", "sleep 60 found 1")
    with case.start() as first:
        wait_for(lambda: case.log.exists())
        status, said = case.run("--query", "jump")
        assert status == 2
        assert f"another run (process {first.pid} on " in " ".join(said.split())
        first.terminate()
    assert case.manifest()["a.mp4"]["state"] == "left"


def wait_for(condition: Any, limit_s: float = 30) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_ctrl_c_finishes_what_is_in_hand(case: Any, batches: Any) -> None:
    for number in range(4):
        case.write(f"{number}.mp4", "sleep 1.5 found 1")
    run = case.start("--workers", "1")
    wait_for(lambda: case.log.exists())
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert "finishing the videos in hand (Ctrl-C again stops now)" in said
    assert "1 done, 0 kept, 0 failed, 3 left" in said
    assert {line["state"] for line in case.manifest().values()} == {"done", "left"}
    assert batches.leftovers(case.out) == []
    case.watched()
    assert case.run()[0] == 0
    assert sorted(case.watched()) == ["1.mp4", "2.mp4", "3.mp4"]


@pytest.mark.parametrize("signals", [[signal.SIGINT, signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP]])
def test_twice_or_a_batch_system_s_signal_stops_now(signals: list[signal.Signals], case: Any, batches: Any) -> None:
    case.write("a.mp4", "sleep 60 found 1")
    run = case.start()
    wait_for(lambda: case.log.exists())
    began_s = time.monotonic()
    for number in signals:
        run.send_signal(number)
        time.sleep(0.6)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130
    assert "1 left" in said
    assert time.monotonic() - began_s < 15
    assert case.failures() == {}
    assert batches.leftovers(case.out) == []


def test_under_nohup_it_outlives_the_terminal(case: Any) -> None:
    case.write("a.mp4", "sleep 2 found 1")
    run = case.start(before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); ")
    wait_for(lambda: case.log.exists())
    run.send_signal(signal.SIGHUP)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 0
    assert "1 done" in said


def test_shares_are_of_all_and_of_nobody_else(case: Any) -> None:
    for number in range(20):
        case.write(f"{number:02}.mp4", "found 1")
    shares = []
    for index in (1, 2, 3):
        status, said = case.run("--shard", f"{index}/3", out=case.folder / "one by one")
        assert status == 0
        shares.append(case.watched())
    assert sorted(shares[0] + shares[1] + shares[2]) == [f"{number:02}.mp4" for number in range(20)]
    assert all(shares)
    assert "all shares: 20 done" in said
    for wrong in ("0/3", "4/3", "3", "1/0", "a/b", "-1/2", "1/2/3"):
        assert case.run("--shard", wrong)[0] == 2
    assert not case.out.exists()


def test_strange_names(case: Any, batches: Any) -> None:
    names = [
        "with space.mp4",
        "-rf.mp4",
        "--query.mp4",
        "new\nline.mp4",
        "\x1b[31mred.mp4",
        "🤸 emoji.mp4",
        "..a..mp4",
        os.fsdecode(b"caf\xe9.mp4"),
        "x" * 251 + ".mp4",
        "y" * 240 + ".mp4",
        "y" * 241 + ".mp4",
        "d.json/a.mp4",
        "d.mp4.json/a.mp4",
        "d.mp4",
        f"a~{'0' * 32}/a.mp4",
        "/".join(["deep" * 40] * 12) + "/a.mp4",
        "quote'\"`$(id).mp4",
        "percent%s{0}.MP4",
        "back\\slash.mp4",
        "[markup].mp4",
        "=1+1.mp4",
    ]
    for name in names:
        case.write(name, "found 1")
    (case.videos / "loop").symlink_to("..")
    (case.videos / "self.mp4").symlink_to("self.mp4")
    (case.videos / "nowhere.mp4").symlink_to("not there")
    (case.videos / "link.mp4").symlink_to("d.mp4")
    outside = case.folder / "outside"
    outside.mkdir()
    (outside / "far.mp4").write_text("found 1")
    (outside / "back").symlink_to(case.videos)
    (case.videos / "elsewhere").symlink_to(outside)
    before = batches.contents(case.videos)
    status, said = case.run("--verbose")
    assert status == 1, said
    assert "\x1b" not in said
    manifest = case.manifest()
    assert {name for name, line in manifest.items() if line["state"] == "done"} == {*names, "link.mp4", "elsewhere/far.mp4"}
    assert {name for name, line in manifest.items() if line["state"] == "failed"} == {"self.mp4", "nowhere.mp4"}
    assert len({line["file"] for line in manifest.values()}) == len(manifest)
    assert batches.contents(case.videos) == before
    names = {path.name for path in case.folder.iterdir()} - {"__pycache__"}
    assert names == {"fake_detector.py", "log", "out", "outside", "videos"}
    assert "\n'=1+1,jump," in (case.out / "detections.csv").read_text()  # no formula
    case.watched()
    case.run()
    assert case.watched() == []


def test_videos_that_vanish_or_change_under_the_run_fail_and_are_done_when_they_are_back(case: Any) -> None:
    case.write("a.mp4", "sleep 1.5 found 1")
    case.write("b.mp4", "found 1")
    case.write("c.mp4", "grow found 1")
    run = case.start("--workers", "1")
    wait_for(lambda: case.log.exists())
    (case.videos / "b.mp4").unlink()
    run.communicate(timeout=60)
    assert run.returncode == 1
    failures = case.failures()
    assert "cannot be read" in failures["b.mp4"]["error"]
    assert "changed while it was watched" in failures["c.mp4"]["error"]
    case.write("b.mp4", "found 1")
    case.write("c.mp4", "found 1")
    assert case.run()[0] == 0
    assert case.failures() == {}
    (case.videos / "a.mp4").unlink()
    assert case.run()[0] == 0
    assert {name: line["state"] for name, line in case.manifest().items()} == {
        "a.mp4": "gone",
        "b.mp4": "done",
        "c.mp4": "done",
    }


def test_no_link_leads_out_of_the_folder(case: Any, batches: Any) -> None:
    case.write("sub/deep/a.mp4")
    case.write("b.mp4")
    elsewhere = case.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("precious")
    case.run()
    (case.out / "results" / "b.mp4.json").unlink()
    (case.out / "results" / "b.mp4.json").symlink_to(elsewhere / "precious")
    status, said = case.run()
    assert status == 1
    assert "b.mp4.json leads elsewhere by a link" in " ".join(said.split())
    (case.out / "results" / "b.mp4.json").unlink()
    for name in ("results/sub", "results", "locks"):
        path = case.out / name
        if path.exists():
            path.rename(case.folder / f"moved-{path.name}")
        path.symlink_to(elsewhere)
        status, said = case.run()
        assert status in (1, 2)
        assert "leads elsewhere by a link" in " ".join(said.split())
        path.unlink()
        path.mkdir()
    assert batches.contents(elsewhere) == {"precious": b"precious"}


def test_a_folder_of_somebody_else_is_left_alone(case: Any, batches: Any) -> None:
    case.write("a.mp4")
    (case.out / "results").mkdir(parents=True)
    (case.out / "results" / "a.mp4.json").write_text("mine")
    before = batches.contents(case.out)
    status, said = case.run()
    assert status == 2
    assert "results is there and no batch's: choose another folder with -o" in " ".join(said.split())
    assert batches.contents(case.out) == before


def test_wrong_use(case: Any) -> None:
    assert case.run()[0] == 2  # no video
    case.write("a.mp4")
    status, said = case.run("--query", "nonsense")
    assert status == 2
    assert "nothing matches: ask otherwise" in said
    assert not case.out.exists()
    for wrong in (
        ["--workers", "0"],
        ["--memory-limit", "much"],
        ["--memory-limit", "9" * 400],
        ["--time-limit", "0"],
        ["--time-limit", "nan"],
        ["-o", ""],
    ):
        assert case.run(*wrong)[0] == 2
    (case.folder / "file").write_text("")
    assert case.run(out=case.folder / "file")[0] == 2
    case.videos.rename(case.folder / "gone")
    assert case.run()[0] == 2


def test_out_may_lie_among_the_videos(case: Any) -> None:
    case.write("a.mp4")
    case.write("results/b.mp4")
    assert case.run(out=case.videos / "out")[0] == 0
    assert case.run(out=case.videos / "out")[0] == 0
    assert sorted(case.watched()) == ["a.mp4", "b.mp4"]
    case.write("out/results/stray.mp4")
    assert case.run(out=case.videos / "out")[0] == 0
    assert case.watched() == []


def test_a_full_disk_ends_the_run_and_blames_no_video(case: Any, batches: Any) -> None:
    """A limit on the size of files stands in for it: the error is another, its way through the program is the same."""
    for number in range(3):
        case.write(f"{number}.mp4", "found 200" if number == 1 else "found 1")
    limit = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (8000, 8000)); "
    run = case.start("--workers", "1", before=limit)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 1
    assert "cannot write" in said
    assert "start again; it goes on" in " ".join(said.split())
    assert case.failures() == {}
    assert list(case.results()) == ["0.mp4.json"]
    assert batches.leftovers(case.out) == []
    case.watched()
    assert case.run()[0] == 0
    assert case.watched() == ["1.mp4", "2.mp4"]


def test_log_lines_when_nobody_looks_and_silence_when_asked(case: Any) -> None:
    for number in range(3):
        case.write(f"{number}.mp4", "sleep 0.4 found 1")
    case.write("bad.mp4", "error")
    _, said = case.run("--verbose")
    lines = said.splitlines()
    assert lines[0] == "a fake"
    assert "0.mp4: 1 found in 0:01.0" in lines
    assert "Error: bad.mp4: is broken: mend it" in lines
    _, said = case.run("--quiet", "--retry-failed")
    assert said.splitlines() == ["Error: bad.mp4: is broken: mend it"]


def test_killed_at_any_moment_it_comes_to_the_same(case: Any, batches: Any) -> None:
    """A handful; ``make kill`` does it 200 times."""
    counts = batches.disturbed(case, kills=5, rng=random.Random(5))
    assert counts["jobs"] >= 1
