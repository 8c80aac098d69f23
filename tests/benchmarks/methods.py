"""Do the methods do what their papers say? Losses in numbers, then every method and ablation on made and on real video.

    python tests/benchmarks/methods.py OUT [--clips CLIPS] [--on test|validation] [--seeds 0,1,2] [--only TEXT]... [--workers 2]

OUT gets the videos, their features, the trained heads, every run's result and the tables, ``methods.md``. Whatever is there is
kept: stopped, the same command goes on where it was. What is measured, and on what, is in ``methods_numbers.py``,
``methods_data.py``, ``methods_table.py`` and ``methods_real.py``.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from methods_data import SEEDS, Data, Made, watch
from methods_numbers import table as table_of_numbers
from methods_runs import Training, run
from methods_table import trainings
from methods_tables import tables

PART_FILES = 8  # a worker watches so many videos before it takes more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=Path, help="real clips; without them there is no real video")
    parser.add_argument("--on", choices=("test", "validation"), default="test", help="choose numbers on validation only")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", action="append", default=[], help="methods whose name holds this")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("tal_run").setLevel(logging.ERROR)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print(table_of_numbers(), flush=True)
    prepare(options.out, workers=options.workers)
    wanted = [t for t in trainings() if not options.only or any(o.lower() in t.method.lower() for o in options.only)]
    results = run_all(options.out, wanted, seeds, workers=options.workers, on=options.on)
    text = tables(results, on=options.on)
    (options.out / f"methods_{options.on}.md").write_text(table_of_numbers() + "\n\n" + text, encoding="utf-8")
    print(text)


# ---- data ----


def prepare(out: Path, *, workers: int) -> None:
    """Make and watch all made video."""
    made = Made(out, workers=workers)
    for part in SEEDS:
        made.make(part)
        say(f"{part}: videos made")
    jobs = [
        (out, part, files[first : first + PART_FILES])
        for part in SEEDS
        for files in [made.files(part)]
        for first in range(0, len(files), PART_FILES)
    ]
    with pool(workers) as workers_:
        for number, kinds in enumerate(as_completed([workers_.submit(watch_some, *job) for job in jobs]), start=1):
            if "made" in kinds.result():
                say(f"features: {number} of {len(jobs)} parts")


def watch_some(out: Path, part: str, files: list[Path]) -> list[str]:
    """In a worker: features of some videos."""
    return list(watch(out, part, files))


@cache
def data_in(out: Path) -> Data:
    """In a worker: all there is, read once."""
    return Data(out)


# ---- runs ----


def run_all(out: Path, wanted: list[Training], seeds: list[int], *, workers: int, on: str) -> list[Path]:
    """Every training with every seed; the results' files."""
    tasks = [(training, seed) for seed in seeds for training in wanted]
    files: list[Path] = []
    began_s = time.monotonic()
    with pool(workers) as workers_:
        futures = {workers_.submit(run_one, out, training, seed, on): (training, seed) for training, seed in tasks}
        for number, future in enumerate(as_completed(futures), start=1):
            training, seed = futures[future]
            files += future.result()
            done = f"{number} of {len(tasks)}, {time.monotonic() - began_s:.0f} s"
            say(f"{done}: {training.method} {next(iter(training.rows))} {seed}")
    return files


def run_one(out: Path, training: Training, seed: int, on: str) -> list[Path]:
    """In a worker: one training and its rows."""
    return run(out, training, seed, data_in(out), on=on)


def pool(workers: int) -> ProcessPoolExecutor:
    """Processes that begin afresh and leave Ctrl-C to this one."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_in_worker)


def _in_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("tal_run").setLevel(logging.ERROR)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
