"""Processes that take tasks: one that dies, hangs or takes too much costs its task alone, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tal_run.pipeline import batch_pool
from tal_run.pipeline.batch_pool import Done, Pool
from tal_run.pipeline.workers import Limits, Worker, WorkerError, resident_bytes

MODULE = "a_worker"
SOURCE = """
import os, signal, time
from pathlib import Path
from tal_run.extractors.errors import TalRunError
from tal_run.pipeline.workers import serve

def begin(how, hook):
    if how.get("broken"):
        raise TalRunError("cannot begin: mend it")
    if "breaks_once" in how:
        Path(how["breaks_once"]).unlink()  # fails the second time
    def answer(task, hook):
        if "exit" not in task and "signal" not in task:
            print("a library prints")
            os.write(1, b"and so does one in C")
        if "words" in task:
            os.write(2, task["words"].encode())
        if "signal" in task:
            os.kill(os.getpid(), task["signal"])
        if "exit" in task:
            os._exit(task["exit"])
        if "error" in task:
            raise TalRunError(task["error"])
        if "fault" in task:
            raise ValueError(task["fault"])
        if "length_s" in task:
            hook("watching", completed=0.0, total=task["length_s"])
        if "beats" in task:
            for beat in range(task["beats"]):
                time.sleep(0.3)
                hook("watching", completed=float(beat), total=float(task["beats"]))
        if "bytes" in task:
            kept = bytearray(os.urandom(1 << 20) * (task["bytes"] >> 20))
            time.sleep(60)
        if "stop" in task:
            os.kill(os.getpid(), signal.SIGSTOP)
        if "sleep_s" in task:
            Path(how["folder"], f"begun-{os.getpid()}").touch()
            try:
                time.sleep(task["sleep_s"])
            finally:
                Path(how["folder"], f"given-up-{os.getpid()}").touch()
        return {"double": 2 * task["number"], "name": task.get("name"), "pid": os.getpid()}
    return {"hello": how.get("name")}, answer

serve(begin)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    return tmp_path


@pytest.fixture
def worker(folder: Path) -> Iterator[Any]:
    """Makes workers, which are ended after the test."""
    made: list[Worker] = []

    def make(limits: Limits | None = None, **how: Any) -> Worker:
        made.append(Worker(MODULE, {"folder": str(folder), **how}, limits=limits))
        return made[-1]

    yield make
    for one in made:
        one.close()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def share(workers: list[Worker], tasks: list[dict[str, Any]]) -> dict[int, Any]:
    """All tasks done: the answers by number, or what went wrong."""

    def attend(number: int, one: Worker, hook: Any) -> Any:
        try:
            return one.do(tasks[number], hook=hook)
        except WorkerError as error:
            if error.kind == "begin":
                raise
            return error

    return {event.unit: event.result for event in Pool(workers, attend).run(range(len(tasks))) if isinstance(event, Done)}


def test_every_task_is_answered_once_and_all_workers_work(worker: Any) -> None:
    answers = share([worker(), worker()], [{"number": number, "sleep_s": 0.05} for number in range(12)])
    assert {number: answer["double"] for number, answer in answers.items()} == {number: 2 * number for number in range(12)}
    pids = {answer["pid"] for answer in answers.values()}
    assert len(pids) == 2
    assert not any(map(is_running, pids))


def test_it_says_what_there_is_to_say_once(worker: Any) -> None:
    one = worker(name="Anna")
    assert one.begin() == one.begin() == {"hello": "Anna"}


def test_names_that_are_no_text_pass(worker: Any) -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x8e\xac\n.mp4")
    assert worker().do({"number": 1, "name": name})["name"] == name


@pytest.mark.parametrize(
    ("deadly", "sentence"),
    [
        ({"signal": int(signal.SIGKILL)}, r"was ended by SIGKILL \(is there enough memory\?\)$"),
        ({"signal": int(signal.SIGSEGV)}, "was ended by SIGSEGV$"),
        ({"exit": 3}, "ended with status 3$"),
        (
            {"exit": 3, "words": "one\nterminate called: no\x1b[2J room\n"},
            r"status 3; its last words: terminate called: no \[2J",
        ),
    ],
)
def test_a_worker_that_dies_costs_its_task_alone(deadly: dict[str, Any], sentence: str, worker: Any) -> None:
    answers = share([worker()], [{"number": number, **(deadly if number in (1, 4) else {})} for number in range(6)])
    for number, answer in answers.items():
        assert isinstance(answer, WorkerError) == (number in (1, 4))
    assert answers[4].kind == "died"
    with pytest.raises(WorkerError, match=sentence):
        raise answers[4]


def test_what_one_task_said_at_its_death_is_not_laid_to_the_next(worker: Any) -> None:
    one = worker()
    one.do({"number": 1, "words": "of the first\n"})
    with pytest.raises(WorkerError, match=r"status 3$"):
        one.do({"number": 2, "exit": 3})


def test_what_cannot_be_done_is_said_and_the_worker_lives(worker: Any) -> None:
    one = worker()
    pid = one.do({"number": 0})["pid"]
    with pytest.raises(WorkerError, match=r"^no: do otherwise$") as foreseen:
        one.do({"number": 1, "error": "no: do otherwise"})
    with pytest.raises(WorkerError, match=r"^not foreseen: ValueError: odd; please report this$") as unforeseen:
        one.do({"number": 1, "fault": "odd"})
    assert (foreseen.value.kind, unforeseen.value.kind) == ("error", "unforeseen")
    assert one.do({"number": 3})["pid"] == pid


@pytest.mark.parametrize(
    ("limits", "task", "kind", "sentence"),
    [
        (Limits(stall_s=4), {"sleep_s": 60}, "time", "nothing was heard of it for 4 s"),
        (Limits(stall_s=4), {"stop": True}, "time", "nothing was heard of it"),  # not even signals reach it
        (Limits(base_s=0.2, real_times=0.1), {"length_s": 5, "sleep_s": 60}, "time", "longer than --time-limit"),
        (Limits(base_s=0.2, real_times=0.1), {"beats": 100}, "time", "longer than --time-limit"),
        (Limits(memory_bytes=200 << 20), {"bytes": 400 << 20}, "memory", r"it took 0\.\d\d GiB of memory, more than .*0.20G"),
    ],
)
def test_what_goes_beyond_its_limits_is_ended(
    limits: Limits, task: dict[str, Any], kind: str, sentence: str, worker: Any
) -> None:
    one = worker(limits)
    pid = one.do({"number": 1})["pid"]
    began_s = time.monotonic()
    with pytest.raises(WorkerError, match=sentence) as refused:
        one.do({"number": 2, **task})
    assert refused.value.kind == kind
    assert time.monotonic() - began_s < 30
    assert not is_running(pid)
    assert one.do({"number": 3})["pid"] != pid


@pytest.mark.parametrize(
    ("limits", "task", "input_bytes"),
    [
        (Limits(stall_s=4), {"beats": 20}, 0),  # says something now and then
        (Limits(base_s=0.1, real_times=10), {"length_s": 1, "sleep_s": 1}, 0),  # a longer video takes longer
        (Limits(base_s=0.1, bytes_per_s=100), {"sleep_s": 1}, 1000),  # and so does a larger file
        (Limits(memory_bytes=2 << 30), {"number": 1}, 0),
    ],
)
def test_what_keeps_within_its_limits_is_not(limits: Limits, task: dict[str, Any], input_bytes: int, worker: Any) -> None:
    assert worker(limits).do({"number": 2, **task}, input_bytes=input_bytes)["double"] in (2, 4)


def test_memory_counts_children() -> None:
    script = "import subprocess, sys; print(1, flush=True); subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = "b = b'x' * (200 << 20); print(2, flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script, child], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.stdout.readline()
        taken = resident_bytes(process.pid)
        subprocess.run(["pkill", "-P", str(process.pid)], check=True)
    assert 200 << 20 < taken < 300 << 20


def test_what_cannot_begin_is_nobody_s_task(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tal_run.pipeline.batch_pool.AGAIN_S", 0.05)
    with pytest.raises(WorkerError, match=r"^cannot begin: mend it$") as refused:
        share([worker(broken=True), worker(broken=True)], [{"number": 1}, {"number": 2}])
    assert refused.value.kind == "begin"


def test_one_that_cannot_begin_again_is_done_without(worker: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tal_run.pipeline.batch_pool.AGAIN_S", 0.05)
    (folder / "token").touch()
    fragile, sound = worker(breaks_once=str(folder / "token")), worker()
    fragile.begin()
    with pytest.raises(WorkerError):
        fragile.do({"number": 1, "exit": 1})
    answers = share([fragile, sound], [{"number": number, "sleep_s": 0.1} for number in range(8)])
    assert {number: answer["double"] for number, answer in answers.items()} == {number: 2 * number for number in range(8)}


def test_whoever_leaves_early_has_the_work_in_hand_given_up(worker: Any, folder: Path) -> None:
    tasks = [{"number": 0}, *({"number": 1, "sleep_s": 60} for _ in range(3))]
    shared = Pool([worker(), worker()], lambda number, one, hook: one.do(tasks[number])).run(range(4))
    while not isinstance(next(shared), Done):
        pass
    while len(list(folder.glob("begun-*"))) < 2:
        time.sleep(0.02)
    began_s = time.monotonic()
    shared.close()  # type: ignore[attr-defined]  # a generator
    assert time.monotonic() - began_s < 5
    pids = [int(path.name.partition("-")[2]) for path in folder.glob("begun-*")]
    assert sorted(path.name for path in folder.glob("given-up-*")) == sorted(f"given-up-{pid}" for pid in pids)
    assert not any(map(is_running, pids))


def test_finishing_does_what_is_in_hand_and_no_more(worker: Any, folder: Path) -> None:
    pool = Pool([worker()], lambda number, one, hook: one.do({"number": number, "sleep_s": 1}))
    done = []
    for event in pool.run(range(5)):
        if list(folder.glob("begun-*")):
            pool.finish()
        if isinstance(event, Done):
            done.append(event.unit)
    assert done == [0]


def test_what_others_are_at_is_asked_for_again_when_the_rest_is_done(worker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tal_run.pipeline.batch_pool.AGAIN_S", 0.05)
    asked: list[int] = []

    def attend(number: int, one: Worker, hook: Any) -> int | None:
        asked.append(number)
        return None if number == 1 and asked.count(1) < 3 else number

    done = [event.unit for event in Pool([worker()], attend).run(range(4)) if isinstance(event, Done)]
    assert asked == [0, 1, 2, 3, 1, 1]
    assert done == [0, 2, 3, 1]


def test_it_dies_with_its_parent_even_in_the_middle_of_work(folder: Path) -> None:
    script = (
        "import sys; from tal_run.pipeline.workers import Worker\n"
        f"Worker('{MODULE}', {{'folder': sys.argv[1]}}).do({{'number': 1, 'sleep_s': 60}})"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder)]) as parent:
        while not list(folder.glob("begun-*")):
            time.sleep(0.02)
        parent.kill()
    (begun,) = folder.glob("begun-*")
    for _ in range(100):
        if not is_running(int(begun.name.partition("-")[2])):
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


def test_stopping_from_another_thread(worker: Any, folder: Path) -> None:
    one = worker()
    outcome: list[WorkerError] = []

    def work() -> None:
        try:
            one.do({"number": 1, "sleep_s": 60})
        except WorkerError as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not list(folder.glob("begun-*")):
        time.sleep(0.02)
    one.stop()
    thread.join(10)
    assert [error.kind for error in outcome] == ["stopped"]
    with pytest.raises(WorkerError, match="stopped"):
        one.do({"number": 2})


def test_a_worker_for_which_there_is_no_room_is_waited_for_and_one_that_cannot_begin_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_pool, "AGAIN_S", 0.01)
    kinds: list[Any] = ["waiting"] * 3 * batch_pool.BEGIN_TRIES + ["begin"] * (batch_pool.BEGIN_TRIES - 1)

    def attend(number: int, _worker: Any, _hook: Any) -> int:
        if kinds:
            raise WorkerError("not now", kind=kinds.pop())
        return 2 * number

    pool: Pool[int, int] = Pool([Worker("not begun", {})], attend)
    assert {event.unit: event.result for event in pool.run(range(3)) if event} == {0: 0, 1: 2, 2: 4}
    kinds = ["begin"] * batch_pool.BEGIN_TRIES
    with pytest.raises(WorkerError, match="not now"):
        list(Pool([Worker("not begun", {})], attend).run(range(3)))
