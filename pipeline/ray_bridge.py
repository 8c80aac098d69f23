"""The process that talks to a Ray cluster for its parent (``ray_engine.py``), so that the parent never waits for Ray.

Ray's driver retries for minutes what does not answer, writes to standard error, and ends the process that it is in when its own
node dies. In here all of that costs a process that can be killed. Lines of JSON come and go::

    parent                                             bridge
      {plan} ────────────────────────────────────────▶ connects ──▶ {"id": 0, "answer": {"room": …, "nodes": …}}
      {"id": 7, "worker": 2, "do": "begin"} ─────────▶ ──▶ {"id": 7, "step": …}, again and again
                                                       ──▶ {"id": 7, "answer": …} or {"id": 7, "error": …, "kind": …}
      {"id": 8, "worker": 2, "do": "task", "task": …}  ──▶ the same
      {"stop": true} ────────────────────────────────▶ halts all, and ends

Each worker is an actor (``ray_station.Station``) that reserves CPUs and GPUs. When it is lost with its node, or does not
answer for ``SILENT_S``, another is begun where there is room, and the video in hand is tried again there: ``LOSSES`` times,
after which the video itself is under suspicion. A node on which no worker can begin gets no more of this job.

Ray has no retries of its own here (``max_restarts=0``): a loss is to be seen, counted and said. Arguments and results are
strings. (Ray itself pickles between its nodes; see SECURITY.md.)
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tal_run.extractors.hooks import Hook
from tal_run.extractors.lifeline import die_with_parent
from tal_run.extractors.wire import printable
from tal_run.pipeline.ray_station import Station, unlike
from tal_run.pipeline.workers import JSONObject, WorkerError, speech

if TYPE_CHECKING:
    from ray import ObjectRef

ANSWER_S = 5.0  # that the port of a cluster may take to answer
HELLO_S = 60.0  # that an actor may take to come up, once there is room
ROOM_S = 60.0  # to wait for room while no worker of this job has any
POLL_S = 1.0
SILENT_S = 60.0  # that a node may be silent
HALT_S = 3.0
FIRST_TRIES = 3  # nodes on which the first worker may fail to begin
LOSSES = 3  # of nodes under one video, before it is the video's own


class LostError(Exception):
    """An actor is gone, with its node or alone."""


class Cluster:
    """The connection, and what is known of the nodes.

    Args:
        plan: see ``ray_engine.RayEngine``.
        note: told what a person is to know.

    Raises:
        WorkerError: there is none at that address, or none that could hold a worker.
    """

    def __init__(self, plan: JSONObject, note: Callable[[str], None]) -> None:
        self._plan, self.note = plan, note
        self._address = plan["address"] or os.environ.get("RAY_ADDRESS") or "auto"
        self._connect()
        import ray

        self._ray = ray
        self._need = {"CPU": float(plan["cpus"]), "GPU": float(plan["gpus"])}
        self._station = ray.remote(Station)
        self._unfit: dict[str, str] = {}
        self._losses: Counter[str] = Counter()
        self._made_by: Any = None
        self._lock = threading.Lock()
        self.alive_s = time.monotonic()
        self.actors: dict[int, Any] = {}  # by worker; None: about to be

    def _connect(self) -> None:
        host, _, port = self._address.rpartition(":")
        if host and port.isdigit():
            try:
                socket.create_connection((host, int(port)), ANSWER_S).close()
            except OSError as error:
                raise WorkerError(
                    f"no Ray cluster answers at {printable(self._address)} ({error.strerror or error}): start one with "
                    "`ray start --head --port=6379`, or give its address with --ray-address",
                    kind="begin",
                ) from error
        import ray

        # Ray lets nodes import from here; what lies beside the videos is not for that
        os.chdir("/")
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR)
        except (Exception, SystemExit) as error:
            said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise WorkerError(
                f"the Ray cluster at {printable(self._address)} cannot be joined ({printable(said)}): this machine must be one "
                "of its nodes (`ray start --address=HEAD:6379`), with the same versions of Ray and Python",
                kind="begin",
            ) from error

    def room(self) -> JSONObject:
        """How many workers all nodes together could hold, and how many nodes there are; none takes more CPUs than there are.

        Raises:
            WorkerError: there is room for none.
        """
        nodes = self._nodes()
        while (room := sum(map(self._holds, nodes))) < (self._plan["workers"] or 1) and self._need["CPU"] > 1:
            self._need["CPU"] -= 1
        if not room:
            self._no_room(nodes)
        self._plan["station"]["threads"] = int(self._need["CPU"])
        return {"room": room, "nodes": len(nodes)}

    def _no_room(self, nodes: list[JSONObject]) -> None:
        have = {kind: sum(node["Resources"].get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
        if self._unfit:
            why = f"no node of the Ray cluster is left that could work: {next(reversed(self._unfit.values()))}"
        elif self._need["GPU"] and have["GPU"] < self._need["GPU"]:
            why = (
                f"the Ray cluster has no GPU ({len(nodes)} nodes, {have['CPU']:.0f} CPUs): add a node that has one, or give "
                "--device cpu"
            )
        else:
            why = (
                f"no node of the Ray cluster has room for a worker, which takes {self._need['CPU']:.0f} CPUs and "
                f"{self._need['GPU']:.0f} GPUs ({len(nodes)} nodes, {have['CPU']:.0f} CPUs, {have['GPU']:.0f} GPUs): add a node"
            )
        raise WorkerError(why, kind="begin")

    def _nodes(self) -> list[JSONObject]:
        return [node for node in self._ray.nodes() if node["Alive"] and node["NodeID"] not in self._unfit]

    def _holds(self, node: JSONObject) -> int:
        """How many workers a node could hold."""
        have = node["Resources"]
        return int(min(have.get(kind, 0.0) // amount for kind, amount in self._need.items() if amount))

    def share(self, node_id: str) -> float:
        """A worker's share of a node."""
        holds = [self._holds(node) for node in self._ray.nodes() if node["NodeID"] == node_id]
        return 1 / max(1, *holds, 1)

    def placed(self, number: int) -> tuple[Any, str, str]:
        """A new actor for that worker, its node and the node's name. Raises WorkerError: there is no room for it."""
        while True:
            nodes = self._nodes()
            room = sum(map(self._holds, nodes))
            if not room:
                self._no_room(nodes)
            if self._is_free() and self._reserves(number, room):
                try:
                    if found := self._tried():
                        self.actors[number] = found[0]
                        return found
                finally:
                    if self.actors[number] is None:
                        self.free(number)
            if self.actors:  # others of this job are at work: let them go on with what is in hand here
                raise WorkerError("there is no room for another worker in the Ray cluster now", kind="waiting")
            if (since_s := time.monotonic() - self.alive_s) > ROOM_S:
                raise WorkerError(
                    f"the Ray cluster has had no room for a worker for {since_s:.0f} s, as other jobs hold its CPUs or GPUs: "
                    "wait for their end, or add nodes",
                    kind="begin",
                )
            time.sleep(POLL_S)

    def _is_free(self) -> bool:
        free = self._ray.available_resources()
        return all(free.get(kind, 0.0) >= amount for kind, amount in self._need.items())

    def _reserves(self, number: int, room: int) -> bool:
        """Take one of so many places, before there is an actor: Ray would let it wait for a node that is not fit."""
        with self._lock:
            if len(self.actors) >= room:
                return False
            self.actors[number] = None
            return True

    def free(self, number: int) -> None:
        """Give a worker's place back."""
        with self._lock:
            self.actors.pop(number, None)

    def _tried(self) -> tuple[Any, str, str] | None:
        options: JSONObject = {"num_cpus": self._need["CPU"], "max_restarts": 0, "max_concurrency": 4}
        if self._need["GPU"]:
            options["num_gpus"] = self._need["GPU"]
        if self._unfit:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(self._unfit)})"}
        actor = self._station.options(**options).remote(json.dumps(self._plan["station"]))
        try:
            hello = json.loads(self._ray.get(actor.hello.remote(), timeout=HELLO_S))
        except self._ray.exceptions.RayTaskError as error:
            self.kill(actor)
            raise WorkerError(_cannot_begin(error), kind="begin") from error
        except self._ray.exceptions.RayActorError as error:
            if "creation" in str(error) or "import" in str(error).lower():
                raise WorkerError(_cannot_begin(error), kind="begin") from error
            return None  # its node was just lost
        except self._ray.exceptions.RayError:
            self.kill(actor)
            return None
        if hello["fault"]:
            self.kill(actor)
            why = self.blame(hello["node"], f"node {hello['host']}: {hello['fault']}")
            if self.is_worth_another():
                return None
            raise why
        return actor, hello["node"], hello["host"]

    def kill(self, actor: Any) -> None:
        """End an actor, if it can be reached."""
        with suppress(Exception):
            self._ray.kill(actor)

    def blame(self, node: str, why: str) -> WorkerError:
        """Give a node no more work; the reason, to be raised."""
        self._unfit[node] = why
        self.note(f"{why}; no more is given to it")
        return WorkerError(why, kind="begin")

    def is_worth_another(self) -> bool:
        """Whether no worker has begun yet, few nodes were tried, and others are left."""
        return self._made_by is None and len(self._unfit) < FIRST_TRIES and any(map(self._holds, self._nodes()))

    def count_loss(self, path: str) -> int:
        """How many nodes were lost under a video."""
        with self._lock:
            self._losses[path] += 1
            return self._losses[path]

    def is_of_the_same(self, made_by: Any) -> bool:
        """Whether a worker has what the first had: weights, versions."""
        with self._lock:
            self._made_by = self._made_by or made_by
            return bool(self._made_by == made_by)

    def is_probe_there(self) -> bool:
        """Whether the video that nodes are tried with is still as it was, here."""
        probe = self._plan["station"]["probe"]
        return bool(probe) and not unlike(**probe)

    def watched(self, actor: Any, ref: ObjectRef[str], hook: Hook) -> JSONObject:
        """What a call of an actor comes to.

        Raises:
            LostError: the actor is gone.
            WorkerError: what it said.
        """
        errors = self._ray.exceptions
        try:
            while not self._ray.wait([ref], timeout=POLL_S)[0]:
                step = json.loads(self._ray.get(actor.progress.remote(), timeout=SILENT_S))
                self.alive_s = time.monotonic()
                _tell(hook, step)
            reply: JSONObject = json.loads(self._ray.get(ref, timeout=SILENT_S))
        except errors.RayTaskError as error:
            raise WorkerError(f"not foreseen: {_first(error)}; please report this", kind="unforeseen") from error
        except errors.RayError as error:
            raise LostError(_first(error)) from error
        self.alive_s = time.monotonic()
        _tell(hook, reply["at"])  # a failure says where it was
        if "error" in reply:
            raise WorkerError(reply["error"], kind=reply["kind"])
        answer: JSONObject = reply["answer"]
        return answer

    def halt(self) -> None:
        """End all actors, and have them write nothing any more."""
        with self._lock:
            actors = [actor for actor in self.actors.values() if actor is not None]
        with suppress(Exception):
            self._ray.wait([actor.halt.remote() for actor in actors], num_returns=len(actors), timeout=HALT_S)
        for actor in actors:
            self.kill(actor)


def _tell(hook: Hook, step: JSONObject) -> None:
    if step:
        hook(step["step"], completed=step["completed"], total=step["total"])


def _first(error: BaseException) -> str:
    """The line of Ray's many that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1] if isinstance(error, Exception) and lines else type(error).__name__)


def _cannot_begin(error: BaseException) -> str:
    return f"a node cannot begin ({_first(error)}): each needs tal-run[ray] of the same version as here"


class Place:
    """One worker's place in the cluster.

    Args:
        cluster: the connection.
        number: of the worker.
    """

    def __init__(self, cluster: Cluster, number: int) -> None:
        self._cluster, self._number = cluster, number
        self._actor: Any = None
        self._node = self._host = ""
        self._greeting: JSONObject = {}

    def begin(self, hook: Hook) -> JSONObject:
        """What the worker says of itself, once it is there. Raises WorkerError."""
        tries = 0
        while not self._actor:
            actor, self._node, self._host = self._cluster.placed(self._number)
            try:
                share = self._cluster.share(self._node)
                greeting = self._cluster.watched(actor, actor.begin.remote(share), hook)
                if not self._cluster.is_of_the_same(greeting.get("made_by")):
                    raise WorkerError("it has other weights than the first, or another tal-run", kind="begin")
                self._actor, self._greeting = actor, greeting
            except LostError as error:
                self._drop(actor)
                tries += 1
                if tries > LOSSES:
                    raise WorkerError(f"nodes are lost as fast as workers begin: {error}", kind="begin") from error
            except WorkerError as error:
                self._drop(actor)
                why = self._cluster.blame(self._node, f"node {self._host}: {error}")
                if not self._cluster.is_worth_another():
                    raise why from error
        return self._greeting

    def do(self, task: JSONObject, hook: Hook) -> JSONObject:
        """The answer to a task. Raises WorkerError."""
        while True:
            self.begin(hook)
            actor = self._actor
            try:
                return self._cluster.watched(actor, actor.do.remote(json.dumps(task)), hook)
            except LostError as error:
                self._drop(actor)
                losses = self._cluster.count_loss(task["path"])
                if losses > LOSSES:
                    raise WorkerError(
                        f"{losses} workers or their nodes were lost while they were at it, the last on {self._host} ({error})",
                        kind="lost",
                    ) from error
                self._cluster.note(f"a worker on {self._host} was lost; its video is tried again elsewhere")
            except WorkerError as error:
                if error.kind != "begin":
                    raise
                if not self._cluster.is_probe_there():
                    raise WorkerError(str(error), kind="error") from error
                self._drop(actor)
                raise self._cluster.blame(self._node, f"node {self._host}: {error}") from error

    def give(self, hook: Hook) -> JSONObject:
        """The last answer, whole. Raises WorkerError."""
        try:
            return self._cluster.watched(self._actor, self._actor.give.remote(), hook)
        except LostError as error:
            self._drop(self._actor)
            raise WorkerError(f"its result was lost with its node ({error})", kind="died") from error

    def _drop(self, actor: Any) -> None:
        self._actor = None
        self._cluster.free(self._number)
        self._cluster.kill(actor)


def main() -> None:
    """Serve one parent, until it says stop or closes the pipe."""
    die_with_parent(int(sys.argv[1]))
    say = speech()
    plan = json.loads(sys.stdin.readline())
    try:
        cluster = Cluster(plan, lambda text: say({"note": text}))
        say({"id": 0, "answer": cluster.room()})
    except WorkerError as error:
        say({"id": 0, "error": str(error), "kind": error.kind})
        return
    places: dict[int, Place] = {}
    for line in sys.stdin:
        message = json.loads(line)
        if "stop" in message:
            break
        place = places.setdefault(message["worker"], Place(cluster, message["worker"]))
        threading.Thread(target=_answer, args=(place, message, say), daemon=True).start()
    cluster.halt()
    os._exit(0)  # threads may wait for Ray, which would be waited for


def _answer(place: Place, message: JSONObject, say: Callable[[Mapping[str, Any]], None]) -> None:
    number = message["id"]

    def hook(step: str, *, completed: float, total: float | None) -> None:
        say({"id": number, "step": step, "completed": completed, "total": total})

    try:
        if message["do"] == "task":
            answer = place.do(message["task"], hook)
        else:
            answer = place.begin(hook) if message["do"] == "begin" else place.give(hook)
        say({"id": number, "answer": answer})
    except WorkerError as error:
        say({"id": number, "error": str(error), "kind": error.kind})
    except Exception as error:  # noqa: BLE001 - Ray raises what it likes
        what = f"not foreseen: {type(error).__name__}: {_first(error)}; please report this"
        say({"id": number, "error": what, "kind": "unforeseen"})


if __name__ == "__main__":
    main()
