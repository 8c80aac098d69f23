"""Do the methods do what their papers say? Losses in numbers, then every method and ablation on made and on real video.

    python tests/benchmarks/methods.py OUT [--clips CLIPS] [--on test|validation] [--seeds 0,1,2] [--only TEXT]... [--workers 2]

OUT gets the videos, their features, the trained heads, every run's result and the tables, ``methods.md``. Whatever is there is
kept: stopped, the same command goes on where it was. What is measured, and on what, is in ``methods_numbers.py``,
``methods_data.py``, ``methods_table.py``, ``methods_frames.py`` and ``methods_real.py``.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from methods_data import SEEDS, Data, Made, watch
from methods_frames import FROM_FRAMES, FromFrames, frames_file, run_frames
from methods_numbers import table as table_of_numbers
from methods_real import BACKBONE, COUNTS, QUERIES, WINDOWS, Asker, compose_real
from methods_runs import Training, add_scores, digest_of, result_file, run, sources, write_card
from methods_table import on_real, trainings
from methods_tables import table_of_real, tables

from tal_run.extractors.backbone import WindowConfig

AnyTraining = Training | FromFrames
PART_FILES = 8  # a worker watches so many videos before it takes more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=Path, help="real clips; without them there is no real video")
    parser.add_argument("--on", choices=("test", "validation"), default="test", help="choose numbers on validation only")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", action="append", default=[], help="methods whose name holds this")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tables", action="store_true", help="run nothing: tables of what is there (real video with --clips)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("tal_run").setLevel(logging.ERROR)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    if options.tables:
        made = results(options.out, on_made(), seeds, on=options.on)
        real = results(options.out, on_real(), seeds, on=options.on) if options.clips else []
        real += (options.out / "runs").glob("query_*.json") if real else ()
        print(write_tables(options.out, made, real, on=options.on))
        return
    print(table_of_numbers(), flush=True)
    prepare(options.out, workers=options.workers)
    has_real = options.clips is not None and (options.clips / "fight_surv" / "videos.txt").is_file()
    if has_real:
        prepare_real(options.out, options.clips, workers=options.workers)
    elif options.clips:
        say(f"there are no clips of fights in {options.clips}: no real video")

    def wanted(every: list[AnyTraining]) -> list[AnyTraining]:
        return [t for t in every if not options.only or any(only.lower() in t.method.lower() for only in options.only)]

    made = run_all(options.out, wanted(on_made()), seeds, workers=options.workers, on=options.on)
    found: list[Path] = []
    if has_real and options.on == "test":
        found = run_all(options.out, wanted(on_real()), seeds, workers=options.workers, on=options.on)
        found.append(ask(options.out))
    print(write_tables(options.out, made, found, on=options.on))


def write_tables(out: Path, made: list[Path], real: list[Path], *, on: str) -> str:
    """Everything that was measured, as Markdown, into a file."""
    parts = [table_of_numbers(), tables(made, on=on), *([table_of_real(real)] if real else [])]
    text = "\n\n".join(parts)
    (out / f"methods_{on}.md").write_text(text + "\n", encoding="utf-8")
    return text


def on_made() -> list[AnyTraining]:
    """All trainings on made video, in the table's order: S-CNN's on frames behind its others."""
    every: list[AnyTraining] = list(trainings())
    behind = max(number for number, training in enumerate(every) if training.method == FROM_FRAMES.method)
    return [*every[: behind + 1], FROM_FRAMES, *every[behind + 1 :]]


def results(out: Path, every: list[AnyTraining], seeds: list[int], *, on: str) -> list[Path]:
    """Results that are there already."""
    data = data_in(out)
    files: list[Path] = []
    for training in every:
        if isinstance(training, FromFrames):
            files += [frames_file(out, training, seed, on=on) for seed in seeds]
        else:
            fitted = training.fitted(data)
            files += [result_file(out, fitted, row, seed, data, on=on) for row in fitted.rows.values() for seed in seeds]
    return [file for file in files if file.is_file()]


# ---- data ----


def prepare(out: Path, *, workers: int) -> None:
    """Make and watch all made video."""
    made = Made(out, workers=workers)
    for part in SEEDS:
        made.make(part)
        say(f"{part}: videos made")
    watch_all(out, {part: made.files(part) for part in SEEDS}, workers=workers, backbone="starter")


def prepare_real(out: Path, clips: Path, *, workers: int) -> None:
    """Compose and watch all real video."""
    with pool(workers) as workers_:
        folders = {part: out / "real" / part for part in COUNTS}
        for future in [workers_.submit(compose_real, folder, part, clips=clips) for part, folder in folders.items()]:
            future.result()
    say("real video composed")
    files = {f"real_{part}": sorted(folder.glob("*.mp4")) for part, folder in folders.items()}
    watch_all(out, files, workers=workers, backbone=BACKBONE, windows=WINDOWS)


def watch_all(
    out: Path, files: dict[str, list[Path]], *, workers: int, backbone: str, windows: WindowConfig | None = None
) -> None:
    """Features of all videos of all parts."""
    jobs = [
        (part, these[first : first + PART_FILES]) for part, these in files.items() for first in range(0, len(these), PART_FILES)
    ]
    with pool(workers) as workers_:
        futures = [workers_.submit(watch_some, out, *job, backbone=backbone, windows=windows) for job in jobs]
        for number, kinds in enumerate(as_completed(futures), start=1):
            if "made" in kinds.result():
                say(f"features of {backbone}: {number} of {len(jobs)} parts")


def watch_some(out: Path, part: str, files: list[Path], *, backbone: str, windows: WindowConfig | None) -> list[str]:
    """In a worker: features of some videos."""
    return list(watch(out, part, files, backbone=backbone, windows=windows))


@cache
def data_in(out: Path) -> Data:
    """In a worker: all there is, read once."""
    return Data(out)


# ---- runs ----


def run_all(out: Path, wanted: list[AnyTraining], seeds: list[int], *, workers: int, on: str) -> list[Path]:
    """Every training with every seed; the results' files."""
    # the first seed of everything first, of that what takes longest, and what says least of it last
    tasks = sorted(
        ((training, seed) for seed in seeds for training in wanted),
        key=lambda task: (task[1], task[0].late, not isinstance(task[0], FromFrames)),
    )
    done: dict[int, list[Path]] = {}
    began_s = time.monotonic()
    with pool(workers) as workers_:
        futures = {workers_.submit(run_one, out, *task, on): number for number, task in enumerate(tasks)}
        for future in as_completed(futures):
            number = futures[future]
            training, seed = tasks[number]
            done[number] = future.result()
            what = f"{training.method} {next(iter(training.rows))} {seed}"
            say(f"{len(done)} of {len(tasks)}, {time.monotonic() - began_s:.0f} s: {what}")
    order = sorted(done, key=lambda number: (wanted.index(tasks[number][0]), tasks[number][1]))
    return [file for number in order for file in done[number]]


def run_one(out: Path, training: AnyTraining, seed: int, on: str) -> list[Path]:
    """In a worker: one training and its rows."""
    if isinstance(training, FromFrames):
        return run_frames(out, training, seed, on=on)
    return run(out, training, seed, data_in(out), on=on)


def ask(out: Path) -> Path:
    """The zero-shot query on the real test videos."""
    split = data_in(out).split("real/test")
    file = out / "runs" / f"query_{digest_of([split.sha256, QUERIES, sources('actionbytes')])}.json"
    if not file.is_file():
        asker, scores = Asker(), dict[str, Any]()
        found = {video.truth.video_id: asker(video.features) for video in split.videos}
        add_scores(scores, found, split.truth)
        card = {"method": "query", "row": "nothing learnt from these videos", "seed": 0, "scores": scores}
        write_card(file, card)
    return file


def pool(workers: int) -> ProcessPoolExecutor:
    """Processes that begin afresh and leave Ctrl-C to this one."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_in_worker)


def _in_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("tal_run").setLevel(logging.ERROR)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)  # what a training has saved by then, it goes on from


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
