"""Kill `tal-run batch` and its workers with SIGKILL at random moments, many times; every job must end as an undisturbed one.

python tests/tools/kill_batch.py [--kills 200] [--seed 1]
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    spec = importlib.util.spec_from_file_location("batch_case", Path(__file__).parents[1] / "pipeline" / "batch_case.py")
    assert spec
    assert spec.loader
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = cases.disturbed(cases.Case(Path(folder)), kills=arguments.kills, rng=random.Random(arguments.seed))
    print(
        f"{counts['runs']} runs and {counts['workers']} workers killed, {counts['jobs']} jobs done, equal to the undisturbed "
        f"one, {time.monotonic() - began_s:.0f} s"
    )


if __name__ == "__main__":
    main()
