"""What a worker is on a node of a Ray cluster: the same child process as on one machine (``workers.py``), and its keeper.

::

    parent (ray_engine.py) ── JSON ── ray_bridge.py ── Ray: strings ── Station ── JSON ── child (batch_worker.py)
                                                                          └── OUT/results, where OUT is seen from here

A ``Station`` is an actor: it stays, and with it the child and its networks, until its node is lost or the job ends. The child
is held to its limits here, where it runs. What goes in and comes out are strings of JSON.

A result is written here if OUT is the same folder here as for the parent, which is told by the file that the parent's run keeps
there while it is at work (``batch_locks.py``): a name that nobody else has. The same file keeps those from writing whose parent
is dead and was found so. Where it is not seen, or nothing can be written, the result is returned, and the parent writes it.

A node must see the videos as the parent does: of the same size and age (to 2 s, the coarsest clock of a file system).
"""

from __future__ import annotations

import json
import os
import socket
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tal_run.extractors.array_files import opened
from tal_run.extractors.wire import printable
from tal_run.pipeline.batch_locks import RUNS
from tal_run.pipeline.batch_store import LOCKS, Store, StoreError
from tal_run.pipeline.batch_videos import FoundVideo
from tal_run.pipeline.workers import JSONObject, Limits, Worker, WorkerError

SAME_S = 2.0
SHARE_OF_MEMORY = 0.8  # that all workers of a node may take together


class Station:
    """An actor with one worker.

    Args:
        plan: JSON: what the child runs (``module``), what it is told first (``how``), its ``limits`` and ``threads``, tal-run's
            ``version``, and a ``probe``: a video, and what the parent sees of it.
    """

    def __init__(self, plan: str) -> None:
        self._plan: JSONObject = json.loads(plan)
        self._worker: Worker | None = None
        self._step: JSONObject = {}
        self._last: JSONObject = {}
        self._writing, self._is_over = threading.Lock(), False

    def hello(self) -> str:
        """JSON: on which node this is, and what is wrong with it (``fault``), if anything is."""
        fault = ""
        if (here := version("tal-run")) != self._plan["version"]:
            fault = f"it has tal-run {here}, not {self._plan['version']}: install the same there"
        elif self._plan["probe"]:
            fault = unlike(**self._plan["probe"])
        import ray

        return json.dumps({"node": ray.get_runtime_context().get_node_id(), "host": socket.gethostname(), "fault": fault})

    def begin(self, share: float) -> str:
        """JSON: what the worker says of itself; or why it cannot begin.

        Args:
            share: of the node's memory, which the worker may take as far as the plan names no limit.
        """
        limits = Limits(**self._plan["limits"])
        if limits.memory_bytes is None:
            from tal_run.pipeline.cli_batch import memory_of_machine

            limits = Limits(**{**self._plan["limits"], "memory_bytes": int(SHARE_OF_MEMORY * share * memory_of_machine())})
        if self._worker is None:
            plan = self._plan
            self._worker = Worker(plan["module"], plan["how"], limits=limits, threads=plan["threads"], stop_s=0)
        worker = self._worker
        return self._said(lambda: worker.begin(hook=self._note))

    def do(self, task: str) -> str:
        """JSON: the answer to a task of ``Batch``, ``is_kept`` if its result is written; or why there is none."""
        return self._said(lambda: self._done(json.loads(task)))

    def progress(self) -> str:
        """JSON: the step that it is at, or nothing."""
        return json.dumps(self._step)

    def give(self) -> str:
        """JSON: the last answer, whole."""
        return json.dumps({"answer": self._last, "at": {}})

    def halt(self) -> None:
        """End what is being done, and write nothing any more."""
        with self._writing:
            self._is_over = True
        if self._worker:
            self._worker.stop()

    def _note(self, step: str, *, completed: float, total: float | None) -> None:
        self._step = {"step": step, "completed": completed, "total": total}

    def _said(self, work: Any) -> str:
        self._step = {}
        try:
            return json.dumps({"answer": work(), "at": self._step})
        except WorkerError as error:
            return json.dumps({"error": str(error), "kind": error.kind, "at": self._step})

    def _done(self, task: JSONObject) -> JSONObject:
        assert self._worker
        keep, path = task["keep"], task["path"]
        if keep["seen"] and (fault := unlike(path, keep["seen"])):
            probe = self._plan["probe"]
            # is it the video, or is nothing seen of the folder any more?
            raise WorkerError(fault, kind="begin" if probe and unlike(**probe) else "error")
        size = keep["seen"]["bytes"] if keep["seen"] else 0
        answer = self._worker.do(task, hook=self._note, input_bytes=size)
        if not keep["seen"]:
            raise WorkerError("it is seen on a node, and not on the machine that the run was started on", kind="error")
        if "document" in answer and not unlike(path, keep["seen"]):
            self._last = answer
            if self._kept(FoundVideo(keep["video"], Path(path), size), answer, keep):
                count = sum(map(len, answer["document"]["results"].values()))
                return {"is_kept": True, "detections": count, "duration_s": answer["duration_s"]}
        return answer

    def _kept(self, video: FoundVideo, answer: JSONObject, keep: JSONObject) -> bool:
        folder = Path(keep["folder"])
        with self._writing:
            if self._is_over or not (folder / LOCKS / RUNS / keep["run"]).is_file():
                return False
            try:
                store, sha256 = Store(folder), answer["video_sha256"]
                store.keep_result(video, answer["document"], recipe=keep["recipe"], seen=keep["seen"], sha256=sha256)
            except (StoreError, OSError):
                return False
        return True


def unlike(path: str, seen: JSONObject) -> str:
    """What tells a video here from what the parent has seen of it; nothing if they are alike."""
    where = f"{printable(path)} on the node {socket.gethostname()}"
    try:
        with opened(path) as file:  # and so asked for anew, where the file system keeps what it has heard for a while
            status = os.fstat(file.fileno())
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or error
        return f"{where} cannot be read ({what}): nodes must see the videos under the same names as this machine"
    if status.st_size == seen["bytes"] and abs(status.st_mtime_ns - seen["content_ns"]) <= SAME_S * 1e9:
        return ""
    return f"{where} has another size or age than on this machine: share the folder, or copy it with its times (rsync -a)"
