"""Processes that take tasks: one that dies costs its task and nothing else, and none is left behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tal_run.pipeline.workers import Worker, WorkerError, share

MODULE = "a_worker"
SOURCE = """
import os, signal, time
from pathlib import Path
from tal_run.extractors.errors import TalRunError
from tal_run.pipeline.workers import serve

def begin(how):
    if how.get("broken"):
        raise TalRunError("cannot begin: mend it")
    def answer(task):
        print("a library prints")
        os.write(1, b"and so does one in C")
        if "signal" in task:
            os.kill(os.getpid(), task["signal"])
        if "exit" in task:
            os._exit(task["exit"])
        if "error" in task:
            raise TalRunError(task["error"])
        if "fault" in task:
            raise ValueError(task["fault"])
        if "sleep_s" in task:
            Path(how["folder"], f"begun-{os.getpid()}").touch()
            try:
                time.sleep(task["sleep_s"])
            finally:
                Path(how["folder"], f"given-up-{os.getpid()}").touch()
        return {"double": 2 * task["number"], "name": task.get("name"), "pid": os.getpid()}
    return answer

serve(begin)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    return tmp_path


def workers(count: int, folder: Path, **how: object) -> list[Worker]:
    return [Worker(MODULE, {"folder": str(folder), **how}) for _ in range(count)]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_task_is_answered_once_and_all_workers_work(folder: Path) -> None:
    tasks = [{"number": number, "sleep_s": 0.05} for number in range(12)]
    answers = dict(share(workers(2, folder), tasks))
    assert sorted(answers) == list(range(12))
    assert all(not isinstance(answer, WorkerError) and answer["double"] == 2 * number for number, answer in answers.items())
    pids = {answer["pid"] for answer in answers.values() if not isinstance(answer, WorkerError)}
    assert len(pids) == 2
    assert not any(map(is_running, pids))


def test_names_that_are_no_text_pass(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x8e\xac\n.mp4")
    ((_, answer),) = share(workers(1, folder), [{"number": 1, "name": name}])
    assert not isinstance(answer, WorkerError)
    assert answer["name"] == name


@pytest.mark.parametrize(
    ("deadly", "sentence"),
    [
        ({"signal": int(signal.SIGKILL)}, r"was ended by SIGKILL \(is there enough memory\?\); the other"),
        ({"signal": int(signal.SIGSEGV)}, "was ended by SIGSEGV; the other"),
        ({"exit": 3}, "ended with status 3"),
    ],
)
def test_a_worker_that_dies_costs_its_task_alone(deadly: dict[str, int], sentence: str, folder: Path) -> None:
    tasks = [{"number": number, **(deadly if number in (1, 4) else {})} for number in range(6)]
    answers = dict(share(workers(1, folder), tasks))
    for number, answer in answers.items():
        assert isinstance(answer, WorkerError) == (number in (1, 4))
    with pytest.raises(WorkerError, match=sentence):
        raise answers[4]  # type: ignore[misc]


def test_what_cannot_be_done_is_said_and_the_worker_lives(folder: Path) -> None:
    tasks = [{"number": 1, "error": "no: do otherwise"}, {"number": 2, "fault": "odd"}, {"number": 3}]
    first, second, third = (answer for _, answer in sorted(share(workers(1, folder), tasks), key=lambda item: item[0]))
    assert str(first) == "no: do otherwise"
    assert str(second) == "not foreseen: ValueError: odd; please report this"
    assert not isinstance(third, WorkerError)


def test_what_cannot_begin_says_so_for_every_task(folder: Path) -> None:
    answers = [answer for _, answer in share(workers(1, folder, broken=True), [{"number": 1}, {"number": 2}])]
    assert [str(answer) for answer in answers] == ["cannot begin: mend it"] * 2


def test_whoever_leaves_early_has_the_work_in_hand_given_up(folder: Path) -> None:
    shared = share(workers(2, folder), [{"number": 0}, *({"number": 1, "sleep_s": 60} for _ in range(3))])
    next(shared)
    while len(list(folder.glob("begun-*"))) < 2:
        time.sleep(0.02)
    began_s = time.monotonic()
    shared.close()  # type: ignore[attr-defined]  # a generator
    assert time.monotonic() - began_s < 5
    pids = [int(path.name.partition("-")[2]) for path in folder.glob("begun-*")]
    assert sorted(path.name for path in folder.glob("given-up-*")) == sorted(f"given-up-{pid}" for pid in pids)
    assert not any(map(is_running, pids))
