"""Workers on a Ray cluster, as ``Batch.attend`` takes them: the same job, on other machines.

::

    batch_pool.py ── a thread a worker ── RayWorker ─┐ JSON            Ray           JSON
                                          RayWorker ─┼────── bridge ────────── Station ────── child
                                          …          ┘  (ray_bridge.py)   (ray_station.py)  (batch_worker.py)

Claims, records and lists are the parent's, as with the other engine; a ``Station`` that sees OUT writes results there itself,
and the parent looks whether it sees them. Whatever is lost on the way is asked for again. Ray is not imported here: the bridge
is a process of its own, which is given up if it does not connect within ``CONNECT_S`` or ends, and begun anew.
"""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.pipeline.batch_store import Store, StoreError
from tal_run.pipeline.batch_videos import FoundVideo
from tal_run.pipeline.workers import Child, Deadline, JSONObject, Limits, WorkerError

BRIDGE = "tal_run.pipeline.ray_bridge"
CONNECT_S = 60.0
STOP_S = 10.0
# Ray reports to its makers unless it is told not to, and warns of what it will do one day
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}


class RayEngine:
    """A job's connection to a Ray cluster.

    Args:
        address: HOST:PORT; None: that in ``RAY_ADDRESS``, or the cluster that this machine belongs to.
        module, how, limits: of each worker, as ``Worker`` takes them.
        cpus: that each reserves, if there are so many; fewer if ``workers`` have no room else.
        gpus: that each reserves.
        workers: how many are wanted; None: as many as there is room for.
        probe: a video, and what ``seen_of`` says of it here, to try each node with.
    """

    def __init__(
        self,
        address: str | None,
        module: str,
        how: Mapping[str, Any],
        *,
        limits: Limits | None = None,
        cpus: int = 1,
        gpus: int = 0,
        workers: int | None = None,
        probe: Mapping[str, Any] | None = None,
    ) -> None:
        station = {
            "module": module,
            "how": dict(how),
            "limits": asdict(limits or Limits()),
            "threads": cpus,
            "version": version("tal-run"),
            "probe": probe and dict(probe),
        }
        self._plan = {"address": address, "cpus": cpus, "gpus": gpus, "workers": workers, "station": station}
        self._lock = threading.Lock()
        self._is_stopped = False
        self._connection: _Connection | None = None
        self._notes: queue.SimpleQueue[str] = queue.SimpleQueue()

    def connect(self) -> JSONObject:
        """Join the cluster: for how many workers it has room, on how many nodes. Raises WorkerError: it cannot be had."""
        return self.connection().greeting

    def connection(self) -> _Connection:
        """The connection, made anew if it has ended. Raises WorkerError."""
        with self._lock:
            if self._is_stopped:
                raise WorkerError("stopped", kind="stopped")
            connection = self._connection
            if connection is None or connection.is_over.is_set():
                if connection:
                    connection.end()
                connection = self._connection = _Connection(self._plan, self._notes)
        connection.greet()
        return connection

    def notes(self) -> list[str]:
        """What has happened since this was asked last, for people."""
        found = []
        with suppress(queue.Empty):
            while True:
                found.append(self._notes.get_nowait())
        return found

    def stop(self) -> None:
        """End all that is being done, from any thread."""
        with self._lock:
            self._is_stopped = True
            connection = self._connection
        if connection:
            connection.end(wait_s=STOP_S)

    def has_stopped(self) -> bool:
        """Whether it was stopped from here."""
        return self._is_stopped


class RayWorker:
    """A worker somewhere in the cluster.

    Args:
        engine: the connection.
        number: tells it from the others.
    """

    def __init__(self, engine: RayEngine, number: int) -> None:
        self._engine, self._number = engine, number

    def begin(self, *, hook: Hook = ignore_progress) -> JSONObject:
        """What the worker says of itself, once it is there. Raises WorkerError: it cannot begin, or there is no room for it."""
        try:
            return self._asked({"do": "begin"}, hook)
        except WorkerError as error:
            if error.kind in ("stopped", "waiting"):
                raise
            raise WorkerError(str(error), kind="begin") from error

    def do(self, task: Mapping[str, Any], *, hook: Hook = ignore_progress, input_bytes: int = 0) -> JSONObject:
        """The answer to a task. Raises WorkerError."""
        answer = self._asked({"do": "task", "task": dict(task)}, hook)
        if answer.get("is_kept") and not _is_there(task):
            answer = self._asked({"do": "give"}, hook)
        return answer

    def stop(self) -> None:
        """End the whole job's connection."""
        self._engine.stop()

    def close(self) -> None:
        """Nothing is held here."""
        self._engine.stop()

    def _asked(self, message: JSONObject, hook: Hook) -> JSONObject:
        try:
            return self._engine.connection().ask({**message, "worker": self._number}, hook)
        except WorkerError:
            if self._engine.has_stopped():
                raise WorkerError("stopped", kind="stopped") from None
            raise


def _is_there(task: Mapping[str, Any]) -> bool:
    """Whether a result that was written elsewhere is seen here."""
    keep = task["keep"]
    video = FoundVideo(keep["video"], Path(task["path"]), 0)
    try:
        store = Store(Path(keep["folder"]))
        target = store.result_file(video)
        next(target.parent.iterdir(), None)  # which has a network's file system ask anew what is in there
        return store.standing(video, keep["recipe"], is_racy_fine=True).state == "done"
    except (OSError, StoreError):
        return False


class _Connection:
    """A bridge process, and who waits for which of its answers."""

    def __init__(self, plan: JSONObject, notes: queue.SimpleQueue[str]) -> None:
        self._plan, self._notes = plan, notes
        self.is_over = threading.Event()
        self.greeting: JSONObject = {}
        self._lock = threading.Lock()
        self._greeting_lock = threading.Lock()
        self._last = 0
        self._waiting: dict[int, queue.SimpleQueue[JSONObject | None]] = {0: queue.SimpleQueue()}
        self._child = Child(BRIDGE, {**os.environ, **QUIET})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def greet(self) -> None:
        """Have it connect, once. Raises WorkerError: it cannot."""
        with self._greeting_lock:
            if self.greeting:
                return
            try:
                self._tell(self._plan)
                self.greeting = self._heard(0, ignore_progress, within_s=CONNECT_S)
            except WorkerError:
                self.end()
                raise

    def ask(self, message: JSONObject, hook: Hook) -> JSONObject:
        """The answer. Raises WorkerError."""
        with self._lock:
            self._last += 1
            number = self._last
            self._waiting[number] = queue.SimpleQueue()
        try:
            if self.is_over.is_set():
                raise self._ended()
            self._tell({"id": number, **message})
            return self._heard(number, hook)
        finally:
            with self._lock:
                self._waiting.pop(number, None)

    def _tell(self, message: JSONObject) -> None:
        try:
            with self._lock:
                self._child.tell(message)
        except (OSError, ValueError) as error:
            raise self._ended() from error

    def _heard(self, number: int, hook: Hook, *, within_s: float | None = None) -> JSONObject:
        replies = self._waiting[number]
        while True:
            try:
                reply = replies.get(timeout=within_s)
            except queue.Empty:
                where = self._plan["address"] or os.environ.get("RAY_ADDRESS") or "auto"
                raise WorkerError(
                    f"the Ray cluster ({where}) did not answer within {within_s:.0f} s: see that it runs (`ray status`), and "
                    "that --ray-address is that of its head",
                    kind="begin",
                ) from None
            if reply is None:
                raise self._ended()
            if "step" in reply:
                hook(reply["step"], completed=reply["completed"], total=reply["total"])
            elif "error" in reply:
                raise WorkerError(str(reply["error"]), kind=reply["kind"])
            else:
                answer: JSONObject = reply["answer"]
                return answer

    def _ended(self) -> WorkerError:
        return WorkerError(
            "the connection to the Ray cluster ended: see that its head and this machine's own node run (`ray status`)",
            kind="begin",
        )

    def _read(self) -> None:
        try:
            for reply in self._child.replies(Limits(stall_s=math.inf), Deadline(math.inf, 0.0)):
                if "note" in reply:
                    self._notes.put(str(reply["note"]))
                    continue
                with self._lock:
                    waiting = self._waiting.get(reply["id"])
                if waiting:
                    waiting.put(reply)
        except (OSError, ValueError, LookupError, TypeError):
            pass  # a closed pipe, or nonsense: it is over either way
        finally:
            with self._lock:
                self.is_over.set()
                for waiting in self._waiting.values():
                    waiting.put(None)

    def end(self, *, wait_s: float = 0) -> None:
        """End the process; ``wait_s``: that it may take to halt what it has begun."""
        if wait_s and self.greeting:
            with suppress(WorkerError):
                self._tell({"stop": True})
            self.is_over.wait(wait_s)
        self._child.end()
        self._reader.join()
        with self._lock:
            self._child.close()
