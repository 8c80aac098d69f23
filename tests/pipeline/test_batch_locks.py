"""Claims: one has it, the dead have none, and nobody else's clock is asked."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tal_run.pipeline import batch_locks
from tal_run.pipeline.batch_locks import LEASE_S, Run

HOLDER = """
import sys, time
from pathlib import Path
from tal_run.pipeline.batch_locks import Run
with Run(Path(sys.argv[1]), recipe="r") as run:
    for name in sys.argv[2:]:
        assert run.claim(name)
    print(run.run_id, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Any]:
    """Begins a process that holds claims; it is killed in the end."""
    begun = []

    def begin(*names: str) -> Any:
        command = [sys.executable, "-c", HOLDER, str(tmp_path / "locks"), *names]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        assert process.stdout
        process.run_id = process.stdout.readline().strip()  # type: ignore[attr-defined]
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "locks"


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def from_elsewhere(locks: Path, run_id: str) -> None:
    """Make a run one of another machine."""
    path = locks / "runs" / run_id
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "machine": "another"}))


def test_one_of_many_gets_it(locks: Path) -> None:
    for _ in range(20):
        taken: list[int] = []
        barrier = threading.Barrier(4)

        def take(number: int, taken: list[int] = taken, barrier: threading.Barrier = barrier) -> None:
            with Run(locks, recipe="r") as run:
                barrier.wait()
                if run.claim("a video"):
                    taken.append(number)
                barrier.wait()

        threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
    assert not locks.exists()


def test_what_is_given_back_can_be_taken_and_what_is_not_cannot(locks: Path) -> None:
    with Run(locks, recipe="r") as first, Run(locks, recipe="r") as second:
        assert first.claim("a")
        assert not first.claim("a")
        assert not second.claim("a")
        assert second.claim("b")
        second.give_back("a")  # which it has not got
        assert not second.claim("a")
        first.give_back("a")
        assert second.claim("a")
    assert not locks.exists()


def test_the_living_keep_theirs_and_the_dead_lose_it_at_once(locks: Path, holder: Any) -> None:
    process = holder("a", "b")
    with Run(locks, recipe="r") as run:
        assert [(other.run_id, other.recipe) for other in run.others()] == [(process.run_id, "r")]
        assert not run.claim("a")
        age(locks / "runs" / process.run_id, 10 * LEASE_S)  # its heart has stopped, but it holds its lock
        assert not run.claim("a")
        process.kill()
        process.wait()
        assert run.claim("a")
        assert run.others() == []
        assert len(list((locks / "claims").iterdir())) == 1  # both of the dead one's are gone
        assert run.claim("b")


def test_a_dead_one_s_claims_are_free_wherever_its_burial_was_cut_off(locks: Path, holder: Any) -> None:
    process = holder("a", "b")
    process.kill()
    process.wait()
    with Run(locks, recipe="r") as run:
        (locks / "runs" / process.run_id).unlink()
        assert run.claim("a")
        (locks / "runs" / ".tal-run-x.part").touch()
        time.sleep(0.05)
        assert run.sweep() is not None
        assert [path.read_text() for path in (locks / "claims").iterdir()] == [run.run_id]
        assert [path.name for path in (locks / "runs").iterdir()] == [run.run_id]


def test_a_run_that_begins_during_a_sweep_stays(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It wrote its file before the sweep's time, and gave it its name after the sweep had looked for others."""
    with Run(locks, recipe="r") as run:
        newcomer = locks / "runs" / f"{7:020}-1-0123abcd"

        def nobody_yet() -> list[batch_locks.OtherRun]:
            newcomer.touch()
            age(newcomer, 5)
            return []

        monkeypatch.setattr(run, "others", nobody_yet)
        assert run.sweep() is not None
        assert newcomer.exists()
        newcomer.unlink()


def test_a_run_on_another_machine_is_dead_when_its_lease_is_over(locks: Path, holder: Any) -> None:
    """Its lock cannot be seen from here, as it is of another kernel."""
    process = holder("a")
    process.kill()
    process.wait()
    from_elsewhere(locks, process.run_id)
    with Run(locks, recipe="r") as run:
        assert not run.claim("a")
        assert run.sweep() is None
        age(locks / "runs" / process.run_id, LEASE_S - 20)
        assert not run.claim("a")
        age(locks / "runs" / process.run_id, 40)
        assert run.claim("a")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_without_locks_the_lease_decides(locks: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with Run(locks, recipe="r") as first, Run(locks, recipe="r") as second:
        assert first.claim("a")
        assert not second.claim("a")
        age(locks / "runs" / first.run_id, LEASE_S + 20)
        assert second.claim("a")
        assert not first.claim("a")
    assert list(locks.rglob("*.part")) == []


def test_the_heart_beats(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_locks, "BEAT_S", 0.05)
    with Run(locks, recipe="r") as run:
        path = locks / "runs" / run.run_id
        age(path, 1000)
        for _ in range(100):
            time.sleep(0.05)
            if time.time() - path.stat().st_mtime < 60:
                break
        else:
            pytest.fail("no beat")


def test_a_claim_that_says_nothing_is_respected_for_a_while(locks: Path) -> None:
    """Its owner is about to say who it is, or was killed before."""
    with Run(locks, recipe="r") as run:
        assert run.claim("a")
        (path,) = (locks / "claims").iterdir()
        path.write_text("")
        with Run(locks, recipe="r") as other:
            assert not other.claim("a")
            age(path, LEASE_S + 10)
            assert other.claim("a")


@pytest.mark.parametrize("text", ["../../precious", "/etc/passwd", ".", "x" * 9999, "\0", "\xff"])
def test_claims_that_talk_nonsense_lead_nowhere(locks: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "precious").write_text("precious")
    with Run(locks, recipe="r") as run:
        assert run.claim("a")
        (path,) = (locks / "claims").iterdir()
        path.write_bytes(text.encode("latin-1"))
        with Run(locks, recipe="r") as other:
            assert other.claim("a")
    assert (tmp_path / "precious").read_text() == "precious"


def test_the_later_of_two_runs_has_the_greater_name(locks: Path) -> None:
    with Run(locks, recipe="r") as first:
        time.sleep(0.01)
        with Run(locks, recipe="s") as second:
            assert second.run_id > first.run_id
            assert [other.recipe for other in first.others()] == ["s"]
