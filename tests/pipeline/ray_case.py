"""A Ray cluster of several nodes on this machine, each of processes of its own, to be killed one by one.

A keeper process starts them, adds more when it is told to, and takes them down when its standard input closes, as it does when
whoever started it ends. Nodes import from a folder and write the log that ``batch_case.py`` reads.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

KEEPER = """
import json, os, sys
from ray.cluster_utils import Cluster
said = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
MEMORY = 80 << 20  # of each node's object store, the least that Ray allows
head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False, "temp_dir": sys.argv[1] + "/ray"}
cluster = Cluster(initialize_head=True, head_node_args=head)

def pids(node):
    return [process.process.pid for processes in node.all_processes.values() for process in processes]

try:
    print(json.dumps({"address": cluster.address}), file=said, flush=True)
    for line in sys.stdin:
        for left in (2, 1, 0):
            try:
                node = cluster.add_node(wait=False, object_store_memory=MEMORY, **json.loads(line))
                break
            except Exception:  # a busy machine misses Ray's 30 s
                if not left:
                    raise
        print(json.dumps({"pids": pids(node)}), file=said, flush=True)
finally:
    cluster.shutdown()
"""
# no report to Ray's makers, and no processes started before they are needed
TRIES = 3
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}


class RayCluster:
    """A cluster; its head has no CPUs, so that no worker is there.

    Args:
        modules: folder from which nodes may import.
        log: what their workers write.
    """

    def __init__(self, modules: Path, log: Path) -> None:
        path = os.pathsep.join(filter(None, [str(modules), os.environ.get("PYTHONPATH")]))
        self._environment = {**os.environ, **QUIET, "PYTHONPATH": path, "FAKE_LOG": str(log)}
        self.nodes: list[int] = []
        for attempt in range(TRIES):
            self._begin()
            try:
                self.address = str(self._heard()["address"])
                return
            except AssertionError:  # Ray's own start has limits of time, which a busy machine may miss
                self.close()
                if attempt == TRIES - 1:
                    raise
            except BaseException:
                self.close()
                raise
        raise AssertionError

    def _begin(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the names of sockets must be short
        (Path(self._folder) / "ray").mkdir()
        with (Path(self._folder) / "keeper.log").open("wb") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-c", KEEPER, self._folder],
                env={**self._environment, "TMPDIR": self._folder},  # nor is it then taken for the machine's own cluster
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def _heard(self) -> dict[str, Any]:
        assert self._keeper.stdout
        line = self._keeper.stdout.readline()
        assert line, (Path(self._folder) / "keeper.log").read_text()[-2000:]
        said: dict[str, Any] = json.loads(line)
        return said

    def add(self, **resources: float) -> int:
        """Another node: the number of its first process."""
        assert self._keeper.stdin
        self._keeper.stdin.write(json.dumps(resources) + "\n")
        self._keeper.stdin.flush()
        self.nodes.append(self._heard()["pids"][0])
        return self.nodes[-1]

    def lose(self, node: int) -> None:
        """Kill a node with all that runs on it, as if its machine had lost power."""
        self.nodes.remove(node)
        for pid in [node, *descendants(node)]:
            _kill(pid)

    def close(self) -> None:
        """Take it down, surely."""
        assert self._keeper.stdin
        assert self._keeper.stdout
        with suppress(OSError):
            self._keeper.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._keeper.wait(20)
        ours = [int(process.name) for process in Path("/proc").iterdir() if process.name.isdecimal()]
        for pid in ours:
            if self._folder in _line(pid):
                _kill(pid)
        self._keeper.wait()
        self._keeper.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def disturbed(batches: Any, case: Any, cluster: RayCluster, *, kills: int, rng: random.Random) -> dict[str, int]:
    """Kill nodes, runs, their bridges and workers on nodes at random moments; each job, once done, must equal a calm one.

    Args:
        batches: ``batch_case.py``.
        case: its case, whose log is the cluster's.
        cluster: with two nodes; what is killed is put in again.
        kills: how often.
        rng: what is killed, and when.

    Returns:
        How often what was killed, and how many jobs came to their end.
    """
    for number in range(24):
        case.write(f"{number % 3}/{number:02}.mp4", f"sleep {rng.random() / 2:.3f} found {rng.randrange(40)}")
    case.write("bad.mp4", "error")
    calm = case.folder / "calm"
    status, said = case.run("--workers", "2", out=calm)
    assert status == 1, said
    engine = ("--engine", "ray", "--ray-address", cluster.address, "--workers", "2")
    counts = {"nodes": 0, "runs": 0, "bridges": 0, "workers": 0, "jobs": 0}
    done = 0
    while done < kills:
        shutil.rmtree(case.out, ignore_errors=True)
        is_done = False
        while not is_done and done < kills:
            runs = [case.start(*engine) for _ in range(rng.choice([1, 1, 2]))]
            before = case.log.stat().st_size if case.log.exists() else 0
            if rng.random() < 0.85:  # else anywhere, also while it begins
                end_s = time.monotonic() + 60
                while time.monotonic() < end_s and runs[0].poll() is None:
                    if case.log.exists() and case.log.stat().st_size > before:
                        break
                    time.sleep(0.005)
            time.sleep(rng.random() * 2)
            what = rng.choice(["nodes", "nodes", "runs", "runs", "bridges", "workers"])
            alive = [run.pid for run in runs if run.poll() is None]
            bridges = [child for pid in alive for child in batches.children(pid)]
            workers = [
                pid
                for node in cluster.nodes
                for pid in descendants(node)
                if "ray::Station" in _line(pid) or "fake_detector" in _line(pid)
            ]
            if alive and what == "nodes":
                cluster.lose(rng.choice(cluster.nodes))
                cluster.add(num_cpus=2)
            elif alive and what == "runs":
                for pid in alive:
                    _kill(pid)
            elif victims := {"bridges": bridges, "workers": workers}.get(what):
                _kill(rng.choice(victims))
            else:
                what = ""
            if what:
                counts[what] += 1
                done += 1
            ended = [run.communicate(timeout=300) and run.returncode for run in runs]
            for name, content in case.results().items():
                if not Path(name).name.startswith(".tal-run-"):  # what was being written goes with the next run
                    json.loads(content)  # none is half-written
            is_done = any(status in (0, 1) for status in ended)
        status, said = case.run("--retry-failed", "--workers", "1")  # the other engine: what is there is there for both
        assert status == 1, said
        assert case.results().keys() == case.results(calm).keys()
        for name, content in case.results(calm).items():
            assert json.loads(case.results()[name])["results"] == json.loads(content)["results"]
        assert set(case.failures()) == set(case.failures(calm)) == {"bad.mp4"}
        assert (case.out / "detections.csv").read_bytes() == (calm / "detections.csv").read_bytes()
        time.sleep(1)  # whoever might still write something has had the time
        assert batches.leftovers(case.out) == []
        counts["jobs"] += 1
    return counts


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """The processes that a process has begun, and theirs."""
    found: list[int] = []
    with suppress(OSError):
        for task in list(Path(f"/proc/{pid}/task").iterdir()):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(condition: Any, limit_s: float = 120) -> None:
    """Wait until it holds."""
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)
