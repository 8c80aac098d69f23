"""Kill `tal-run batch` and its workers with SIGKILL at random moments, many times; every job must end as an undisturbed one.

python tests/tools/kill_batch.py [--kills 200] [--seed 1]

With ``--ray``, on a Ray cluster of two nodes and a head, whose nodes are killed too: ``--ray --kills 20`` takes some minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import tempfile
import time
from pathlib import Path
from types import ModuleType


def loaded(name: str) -> ModuleType:
    """A module that lies beside the tests."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "pipeline" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_ray(folder: Path, *, kills: int, rng: random.Random) -> dict[str, int]:
    """The same on a cluster."""
    batches, clusters = loaded("batch_case"), loaded("ray_case")
    case = batches.Case(folder)
    cluster = clusters.RayCluster(folder, case.log)
    try:
        cluster.add(num_cpus=2)
        cluster.add(num_cpus=2)
        counts: dict[str, int] = clusters.disturbed(batches, case, cluster, kills=kills, rng=rng)
    finally:
        cluster.close()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ray", action="store_true", help="on a Ray cluster, made for it, whose nodes are killed too")
    arguments = parser.parse_args()
    began_s, rng = time.monotonic(), random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.ray:
            counts = on_ray(Path(folder), kills=arguments.kills, rng=rng)
        else:
            batches = loaded("batch_case")
            counts = batches.disturbed(batches.Case(Path(folder)), kills=arguments.kills, rng=rng)
    jobs = counts.pop("jobs")
    killed = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"{killed} killed, {jobs} jobs done, equal to the undisturbed one, {time.monotonic() - began_s:.0f} s")


if __name__ == "__main__":
    main()
