"""Processes that do one thing after the other, each told what in a line of JSON: a crash or a hang costs the one in hand.

    parent                                     child: ``python -P -m MODULE LIFELINE``
      how to work ────────────────────────────▶ begins ──▶ {"ready": {…}} or {"error": sentence}
      a task ─────────────────────────────────▶ works  ──▶ {"step": …, "completed": …, "total": …}, again and again
                                                       ──▶ {"answer": {…}} or {"error": sentence}
      … until standard input ends, or SIGTERM: what it is writing is then given up whole

Nothing but JSON passes between them. A child has a session of its own, so that Ctrl-C reaches the parent alone, which decides;
it dies with its parent (``extractors/lifeline.py``), even of SIGKILL.

The parent watches, four times a second: how long nothing has been said, how long the task has taken, and the memory of the
child and its own children (their resident pages, as Linux tells in ``/proc``). What goes beyond its ``Limits`` is killed.
Should the machine itself run out of memory, the child is the first that Linux takes.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.lifeline import die_with_parent, lifeline
from tal_run.extractors.wire import printable

JSONObject = dict[str, Any]
Kind = Literal["error", "unforeseen", "time", "memory", "died", "lost", "stopped", "begin", "waiting"]
Answer = Callable[[JSONObject, Hook], JSONObject]
Begin = Callable[[JSONObject, Hook], tuple[JSONObject, Answer]]

STOP_S = 10.0  # a child may take to give up what it is writing
TICK_S = 0.25  # between two looks at the clock and at memory
TELL_S = 0.25  # between two lines on progress
MOST_LINE_BYTES = 1 << 28  # of one message: detections of weeks of video are less
PIECE_BYTES = 1 << 16
GIB = 1 << 30
# what a library reads to decide on the number of its threads
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one task may cost: guards against what would never end, far from what any network here needs.

    Attributes:
        stall_s: without a word from the child, which has one after each window of video.
        base_s: for any task.
        real_times: seconds a second of video, on top.
        bytes_per_s: of the file, which may be read whole before it is watched; on top.
        memory_bytes: of the child and its own children; None: as much as there is.
    """

    stall_s: float = 600.0
    base_s: float = 300.0
    real_times: float = 300.0
    bytes_per_s: float = 1e6
    memory_bytes: int | None = None


class WorkerError(TalRunError):
    """A task that was not done.

    Args:
        sentence: the child's own, or how it ended.
        kind: ``error``: the child foresaw it; ``unforeseen``: an exception that nobody did; ``time``, ``memory``: beyond its
            limits; ``died``: it crashed or was killed; ``lost``: the machines that worked on it were, one after the other;
            ``stopped``: by us; ``begin``: it is not even ready to work; ``waiting``: nor is there room for it, for now.
    """

    def __init__(self, sentence: str, *, kind: Kind) -> None:
        super().__init__(sentence)
        self.kind = kind


class Worker:
    """One child; begun at the first task, and anew after it has died.

    Args:
        module: what it runs; its ``main`` is ``serve``.
        how: the first line that it is told.
        limits: of one task.
        threads: that its libraries may use each, where the environment does not say; None: as they like.
        stop_s: that it may take to give up what it is writing when it is stopped.
    """

    def __init__(
        self,
        module: str,
        how: Mapping[str, Any],
        *,
        limits: Limits | None = None,
        threads: int | None = None,
        stop_s: float = STOP_S,
    ) -> None:
        self._module, self._how, self._limits, self._stop_s = module, dict(how), limits or Limits(), stop_s
        self._environment = {
            **({name: str(threads) for name in THREAD_VARIABLES} if threads else {}),
            **os.environ,
        }
        self._child: Child | None = None
        self._lock = threading.Lock()  # of the two above and below, as `stop` comes from another thread
        self._is_stopped = False
        self.greeting: JSONObject | None = None

    @property
    def pid(self) -> int | None:
        """The child's process number, while there is a child."""
        child = self._child
        return child.pid if child else None

    def begin(self, *, hook: Hook = ignore_progress) -> JSONObject:
        """Start the child, unless there is one, and wait until it is ready: what it has to say of itself.

        Raises:
            WorkerError: it cannot begin.
        """
        with self._lock:
            if self._is_stopped:
                raise WorkerError("stopped", kind="stopped")
            if self._child is None:
                self._child, self.greeting = Child(self._module, self._environment), None
        if self.greeting is None:
            try:
                self.greeting = self._told(self._how, hook, Deadline(math.inf, 0.0))
            except WorkerError as error:
                self._end(self._child)
                raise WorkerError(str(error), kind="stopped" if error.kind == "stopped" else "begin") from error
        return self.greeting

    def do(self, task: Mapping[str, Any], *, hook: Hook = ignore_progress, input_bytes: int = 0) -> JSONObject:
        """The answer to a task.

        Args:
            task: what to do.
            hook: told of progress; in ``watching``, the total is the video's length, which it takes time for.
            input_bytes: size of the video's file, which it takes time for too.

        Raises:
            WorkerError: it could not be done.
        """
        self.begin(hook=hook)
        at_least_s = self._limits.base_s + input_bytes / self._limits.bytes_per_s
        return self._told(task, hook, Deadline(time.monotonic() + at_least_s, self._limits.real_times))

    def stop(self) -> None:
        """End the child, from any thread: what it was writing is given up. No other is begun; ``close`` is still due."""
        with self._lock:
            self._is_stopped = True
            child = self._child
        if child:
            child.end(wait_s=self._stop_s)

    def close(self) -> None:
        """Stop, when no other thread is in here any more."""
        self.stop()
        self._end(self._child)

    def _told(self, message: Mapping[str, Any], hook: Hook, deadline: Deadline) -> JSONObject:
        """Tell the child, and wait for its answer."""
        child = self._child
        assert child is not None
        try:
            child.tell(message)
            for reply in child.replies(self._limits, deadline):
                if "step" in reply:
                    if reply["step"] == "watching" and reply["total"]:
                        deadline.length_s = float(reply["total"])
                    hook(reply["step"], completed=reply["completed"], total=reply["total"])
                elif "error" in reply:
                    raise WorkerError(str(reply["error"]), kind="unforeseen" if reply.get("is_unforeseen") else "error")
                else:
                    answer: JSONObject = reply["ready" if "ready" in reply else "answer"]
                    return answer
            raise WorkerError(child.last_words(), kind="died")
        except WorkerError as error:
            if error.kind in ("error", "unforeseen"):
                raise
            self._end(child)
            raise WorkerError("stopped", kind="stopped") if self._is_stopped else error from None
        except (OSError, ValueError, LookupError, TypeError) as error:  # a closed pipe, or nonsense
            self._end(child)
            kind: Kind = "stopped" if self._is_stopped else "died"
            said = child.last_words() if isinstance(error, OSError) else "the process that worked on it answered nonsense"
            raise WorkerError(said, kind=kind) from error
        except BaseException:
            self._end(child)
            raise

    def _end(self, child: Child | None) -> None:
        with self._lock:
            self._child = None
        if child:
            child.end()
            child.close()


@dataclass
class Deadline:
    """When a task must be done: later for a longer video, whose length is known only after a while."""

    least_s: float
    real_times: float
    length_s: float = 0.0

    @property
    def at_s(self) -> float:
        """By the monotonic clock."""
        return self.least_s + self.real_times * self.length_s


class Child:
    """The process behind a worker."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        # a file needs no reader, and so blocks nobody
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        childs, self._lifeline = lifeline()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(childs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                bufsize=0,
                pass_fds=[childs],
                env=dict(environment),
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._lifeline)
            self._stderr.close()
            raise WorkerError(f"no process can be started ({error.strerror})", kind="begin") from error
        finally:
            os.close(childs)
        assert self._process.stdin
        assert self._process.stdout
        self._to, self._from = self._process.stdin, self._process.stdout
        self._unread = bytearray()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a line."""
        self._stderr.truncate(0)
        left = memoryview(json.dumps(dict(message)).encode("ascii") + b"\n")
        while left:
            left = left[self._to.write(left) :]

    def replies(self, limits: Limits, deadline: Deadline) -> Iterator[JSONObject]:
        """What it says, line by line, until its end of the pipe is closed.

        Raises:
            WorkerError: it goes beyond its limits.
        """
        poll = select.poll()
        poll.register(self._from, select.POLLIN)
        heard_s = time.monotonic()
        while True:
            is_ready = poll.poll(TICK_S * 1000)
            now_s = time.monotonic()
            if is_ready:
                piece = os.read(self._from.fileno(), PIECE_BYTES)
                if not piece:
                    return
                heard_s = now_s
                self._unread += piece
                *lines, rest = self._unread.split(b"\n")
                self._unread = bytearray(rest)
                if len(rest) > MOST_LINE_BYTES:
                    raise ValueError("a line without an end")
                for line in lines:
                    yield json.loads(line)
            if now_s - heard_s > limits.stall_s:
                raise WorkerError(f"nothing was heard of it for {limits.stall_s:.0f} s, so it was stopped", kind="time")
            if now_s > deadline.at_s:
                raise WorkerError("it took longer than --time-limit allows a video of its length", kind="time")
            if limits.memory_bytes is not None and (taken := resident_bytes(self.pid)) > limits.memory_bytes:
                raise WorkerError(
                    f"it took {taken / GIB:.2f} GiB of memory, more than --memory-limit {limits.memory_bytes / GIB:.2f}G",
                    kind="memory",
                )

    def last_words(self) -> str:
        """How it ended, once it has."""
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            return "the process that worked on it closed its pipe and went on"
        how = f"the process that worked on it {_ending(status)}"
        try:
            size = self._stderr.seek(0, os.SEEK_END)
            self._stderr.seek(max(0, size - 4096))
            lines = self._stderr.read(4096).decode(errors="replace").replace("\0", "").splitlines()
        except (OSError, ValueError):
            return how
        last = next((printable(line) for line in reversed(lines) if line.strip()), "")
        return f"{how}; its last words: {last}" if last else how

    def end(self, *, wait_s: float = 0) -> None:
        """End the process and wait until it is gone; ``wait_s``: that it may take to give up what it is writing."""
        if wait_s:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(wait_s)
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Give back what it held here."""
        for pipe in (self._to, self._from, self._stderr):
            with suppress(OSError):  # what was not sent any more
                pipe.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def resident_bytes(pid: int) -> int:
    """Memory that a process and its descendants hold; shared pages count for each. 0: it is gone."""
    total, waiting = 0, [pid]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        try:
            total += int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in (process / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, ValueError, IndexError):
            continue
    return total


def serve(begin: Begin) -> None:
    """A child's whole life: be told how, then answer one task after the other.

    Args:
        begin: makes of the first line what there is to say of it, and what answers each task.
    """
    die_with_parent(int(sys.argv[1]))
    signal.signal(signal.SIGTERM, _interrupt)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    say = speech()
    reply: JSONObject
    try:
        answer: Answer | None = None
        for line in sys.stdin:
            try:
                if answer is None:
                    greeting, answer = begin(json.loads(line), _telling(say))
                    reply = {"ready": greeting}
                else:
                    reply = {"answer": answer(json.loads(line), _telling(say))}
            except TalRunError as error:
                reply = {"error": str(error)}
            except Exception as error:  # noqa: BLE001 - torch, OpenCV and others raise what they like
                reply = {"error": f"not foreseen: {type(error).__name__}: {error}; please report this", "is_unforeseen": True}
            say(reply)
    except (KeyboardInterrupt, BrokenPipeError):
        return


def speech() -> Callable[[Mapping[str, Any]], None]:
    """What says a line to the parent; whatever a library prints does not get between the lines."""
    answers, lock = os.fdopen(os.dup(1), "w", encoding="ascii"), threading.Lock()
    os.dup2(2, 1)

    def say(reply: Mapping[str, Any]) -> None:
        with lock:
            answers.write(json.dumps(reply) + "\n")
            answers.flush()

    return say


def _telling(say: Callable[[Mapping[str, Any]], None]) -> Hook:
    """A hook that tells the parent now and then, and whenever a step begins."""
    last: tuple[str, float] = "", 0.0

    def hook(step: str, *, completed: float, total: float | None) -> None:
        nonlocal last
        now_s = time.monotonic()
        if step != last[0] or now_s - last[1] >= TELL_S:
            last = step, now_s
            say({"step": step, "completed": float(completed), "total": None if total is None else float(total)})

    return hook


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    hint = " (is there enough memory?)" if status == -signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-status).name}{hint}"
