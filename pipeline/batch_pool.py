"""Threads that hand out work to processes: each takes the next thing that is left and sees to it with a worker of its own."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.pipeline.workers import JSONObject, WorkerError

AGAIN_S = 2.0  # until what another run works on is asked for again
TICK_S = 0.25
BEGIN_TRIES = 3

Unit = TypeVar("Unit")
Result = TypeVar("Result")


class Hand(Protocol):
    """What works for one thread: a ``Worker``, or whatever another engine has in its place."""

    def begin(self, *, hook: Hook = ignore_progress) -> JSONObject:
        """Get ready. Raises WorkerError."""

    def do(self, task: Mapping[str, Any], *, hook: Hook = ignore_progress, input_bytes: int = 0) -> JSONObject:
        """The answer to a task. Raises WorkerError."""

    def stop(self) -> None:
        """End what is being done, from any thread."""

    def close(self) -> None:
        """Give back what is held, when no thread is in here any more."""


@dataclass(frozen=True)
class Progress(Generic[Unit]):
    """A thing is being worked on: seconds of video watched, and its length."""

    unit: Unit
    completed: float
    total: float | None


@dataclass(frozen=True)
class Done(Generic[Unit, Result]):
    """A thing has been seen to."""

    unit: Unit
    result: Result


class Pool(Generic[Unit, Result]):
    """Workers, and the things that they are to see to.

    Args:
        workers: processes, not yet begun or begun.
        attend: sees to a thing with a worker; None: somebody else is at it, so ask again later. Called from several threads.
    """

    def __init__(self, workers: Sequence[Hand], attend: Callable[[Unit, Hand, Hook], Result | None]) -> None:
        self._workers, self._attend = workers, attend
        self._left: deque[Unit] = deque()
        self._later: deque[Unit] = deque()
        self._in_hand = 0
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._events: queue.SimpleQueue[Progress[Unit] | Done[Unit, Result] | BaseException | None] = queue.SimpleQueue()

    def finish(self) -> None:
        """Begin nothing new."""
        self._enough.set()

    def stop(self) -> None:
        """Begin nothing new, and end what is being done."""
        self._enough.set()
        stopping = [threading.Thread(target=worker.stop) for worker in self._workers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    def run(self, units: Iterable[Unit]) -> Iterator[Progress[Unit] | Done[Unit, Result] | WorkerError | None]:
        """What happens, as it happens; None, a few times a second, when nothing does. Ends when no more is to be done.

        A worker that cannot begin, after some tries, is done without, and why is among what happens; one for which there is no
        room is waited for. Leaving early ends all.

        Raises:
            WorkerError: no worker can begin; the first one's reason.
            Exception: what ``attend`` raised, after all workers were ended.
        """
        self._left.extend(units)
        threads = [threading.Thread(target=self._work, args=(worker,), daemon=True) for worker in self._workers]
        for thread in threads:
            thread.start()
        working, cannot_begin = len(threads), list[WorkerError]()
        try:
            while working:
                try:
                    event = self._events.get(timeout=TICK_S)
                except queue.Empty:
                    yield None
                    continue
                if event is None:
                    working -= 1
                elif isinstance(event, WorkerError):
                    cannot_begin.append(event)
                    if len(cannot_begin) < len(threads) and not self._enough.is_set():
                        yield event
                elif isinstance(event, BaseException):
                    raise event
                else:
                    yield event
            if len(cannot_begin) == len(threads) and not self._enough.is_set():
                raise cannot_begin[0]
        finally:
            self.stop()
            for thread in threads:
                thread.join()
            for worker in self._workers:
                worker.close()

    def _work(self, worker: Hand) -> None:
        tries = 0
        try:
            while (unit := self._next()) is not None:
                try:
                    result = self._attend(unit, worker, partial(self._tell, unit))
                except WorkerError as error:  # there is nothing wrong with the thing in hand
                    self._put(unit, back_to=self._left)
                    tries += error.kind != "waiting"
                    if tries == BEGIN_TRIES or self._enough.wait(AGAIN_S):
                        raise
                    continue
                tries = 0
                self._put(unit, back_to=self._later if result is None else None)
                if result is not None:
                    self._events.put(Done(unit, result))
        except BaseException as error:  # noqa: BLE001 - it is raised where the events are read
            self._events.put(error)
        finally:
            self._events.put(None)

    def _tell(self, unit: Unit, step: str, *, completed: float, total: float | None) -> None:
        if step == "watching":
            self._events.put(Progress(unit, completed, total))

    def _next(self) -> Unit | None:
        """The next thing to see to; None: there is none, and no thread has one in hand that it might put back."""
        while not self._enough.is_set():
            with self._lock:
                if self._left:
                    self._in_hand += 1
                    return self._left.popleft()
                is_later = bool(self._later)
                if not is_later and not self._in_hand:
                    return None
            self._enough.wait(AGAIN_S if is_later else TICK_S)
            if is_later:
                with self._lock:
                    self._left.extend(self._later)
                    self._later.clear()
        return None

    def _put(self, unit: Unit, *, back_to: deque[Unit] | None) -> None:
        with self._lock:
            self._in_hand -= 1
            if back_to is not None:
                back_to.append(unit)
