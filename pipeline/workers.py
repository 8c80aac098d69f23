"""Processes that do one thing after the other, each told what in a line of JSON: a crash costs the one thing in hand.

    parent                                     child: ``python -P -m MODULE``
      how to work ────────────────────────────▶ begins
      a task ─────────────────────────────────▶ works ──▶ an answer, or {"error": sentence}
      … until standard input ends, or SIGTERM: what it is writing is then given up whole

Nothing but JSON passes between them. A child has a process group of its own, so that Ctrl-C reaches the parent alone, which
stops it; a child whose parent was killed finishes its task and ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tal_run.extractors.errors import TalRunError

JSONObject = dict[str, Any]
STOP_S = 10.0  # a child may take to give up what it is writing


class WorkerError(TalRunError):
    """A task that was not done: the child's own sentence, or how it ended."""


class Worker:
    """One child; begun at the first task, and anew after it has died.

    Args:
        module: what it runs; its ``main`` is ``serve``.
        how: the first line that it is told.
    """

    def __init__(self, module: str, how: Mapping[str, Any]) -> None:
        self._module, self._how = module, dict(how)
        self._child: subprocess.Popen[str] | None = None
        self._is_stopped = False

    def do(self, task: Mapping[str, Any]) -> JSONObject:
        """The answer to a task.

        Raises:
            WorkerError: it could not be done, or the child died of it.
        """
        child = self._child = self._child or self._begun()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(dict(task)) + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
        except (OSError, ValueError):  # its end of a pipe is closed
            line = ""
        if not line:
            self._child = None
            status = child.wait()
            _close_pipes(child)
            raise WorkerError(f"the process that worked on it {_ending(status)}; the other videos are not affected")
        answer: JSONObject = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def stop(self) -> None:
        """End the child: what it was writing is given up."""
        self._is_stopped = True
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        _close_pipes(child)

    def _begun(self) -> subprocess.Popen[str]:
        if self._is_stopped:
            raise WorkerError("stopped")
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="ascii",
            start_new_session=True,
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(self._how) + "\n")
        return child


def share(workers: Sequence[Worker], tasks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, JSONObject | WorkerError]]:
    """Tasks done by whichever worker is free, as they are done: the number of the task, and its answer or what went wrong.

    Leaving early stops all workers.
    """
    left: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, JSONObject | WorkerError] | None] = queue.SimpleQueue()
    for number in range(len(tasks)):
        left.put(number)

    def work(worker: Worker) -> None:
        while True:
            try:
                number = left.get_nowait()
            except queue.Empty:
                done.put(None)
                return
            try:
                done.put((number, worker.do(tasks[number])))
            except WorkerError as error:
                done.put((number, error))

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        working = len(threads)
        while working:
            item = done.get()
            if item is None:
                working -= 1
            else:
                yield item
    finally:
        while not left.empty():
            left.get()
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join()


def serve(begin: Callable[[JSONObject], Callable[[JSONObject], JSONObject]]) -> None:
    """A child's whole life: be told how, then answer one task after the other.

    Args:
        begin: makes of the first line what answers each task.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # whatever a library prints must not get between the answers
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    try:
        answer: Callable[[JSONObject], JSONObject] | None = None
        how: JSONObject | None = None
        for line in sys.stdin:
            if how is None:
                how = json.loads(line)
                continue
            try:
                answer = answer or begin(how)
                reply = answer(json.loads(line))
            except TalRunError as error:
                reply = {"error": str(error)}
            except (OSError, ValueError, OverflowError, MemoryError, RuntimeError) as error:
                reply = {"error": f"not foreseen: {type(error).__name__}: {error}; please report this"}
            answers.write(json.dumps(reply) + "\n")
            answers.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        return


def _close_pipes(child: subprocess.Popen[str]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):  # what was not sent any more
                pipe.close()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    hint = " (is there enough memory?)" if status == -signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-status).name}{hint}"
