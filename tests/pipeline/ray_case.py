"""A Ray cluster of several nodes on this machine, each of processes of its own, to be killed one by one.

A keeper process starts them, adds more when it is told to, and takes them down when its standard input closes, as it does when
whoever started it ends. Nodes import from a folder and write the log that ``batch_case.py`` reads.
"""

from __future__ import annotations

import json
import os
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
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False,
    "temp_dir": sys.argv[1]})

def pids(node):
    return [process.process.pid for processes in node.all_processes.values() for process in processes]

try:
    print(json.dumps({"address": cluster.address, "pids": pids(cluster.head_node)}), file=said, flush=True)
    for line in sys.stdin:
        node = cluster.add_node(wait=False, object_store_memory=MEMORY, **json.loads(line))
        print(json.dumps({"pids": pids(node)}), file=said, flush=True)
finally:
    cluster.shutdown()
"""
# no report to Ray's makers, and no processes started before they are needed
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}


class RayCluster:
    """A cluster; its head has no CPUs, so that no worker is there.

    Args:
        modules: folder from which nodes may import.
        log: what their workers write.
    """

    def __init__(self, modules: Path, log: Path) -> None:
        path = os.pathsep.join(filter(None, [str(modules), os.environ.get("PYTHONPATH")]))
        self._folder = tempfile.mkdtemp(prefix="tal-run-ray-", dir="/tmp")  # the names of sockets must be short
        self._keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER, self._folder],
            env={**os.environ, **QUIET, "PYTHONPATH": path, "FAKE_LOG": str(log)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._pids: list[int] = []
        self.nodes: list[int] = []
        self.address = str(self._heard()["address"])

    def _heard(self) -> dict[str, Any]:
        assert self._keeper.stdout
        line = self._keeper.stdout.readline()
        assert line, "no Ray cluster could be started"
        said: dict[str, Any] = json.loads(line)
        self._pids += said["pids"]
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
        for pid in self._pids:
            for each in [pid, *descendants(pid)]:
                with suppress(OSError):
                    if self._folder in Path(f"/proc/{each}/cmdline").read_text():  # and nobody else's by now
                        _kill(each)
        self._keeper.kill()
        self._keeper.wait()
        self._keeper.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


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


def wait_for(condition: Any, limit_s: float = 60) -> None:
    """Wait until it holds."""
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)
