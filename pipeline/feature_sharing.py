"""Features of many videos as work that several runs share, with the claims and workers of a batch (``batch.py``).

Where a video stands is told by its record (``feature_batch.py``), which the worker reads; what failed is tried again each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.pipeline import batch
from tal_run.pipeline.batch_locks import Run
from tal_run.pipeline.batch_store import sweep_parts, told
from tal_run.pipeline.batch_videos import FoundVideo, iter_files
from tal_run.pipeline.feature_batch import KEPT, Outcome
from tal_run.pipeline.workers import WorkerError

LOCKS = ".tal-run-locks"  # the folder; it is gone when nobody is at work


@contextmanager
def at_work(folder: Path, recipe: str) -> Iterator[Run]:
    """A run's time in a folder of features. What killed ones left half-written goes, where no other run is at work.

    Raises:
        StoreError: the folder cannot be written, or another run, which began earlier, works there with other options.
    """
    with told(folder), Run(folder / LOCKS, recipe=recipe) as run:
        batch.check_others(run, recipe, folder)
        _sweep(folder, run)
        yield run
        run.leave()
        _sweep(folder, run)


def _sweep(folder: Path, run: Run) -> None:
    before_ns = run.sweep()
    if before_ns is not None:
        sweep_parts(iter_files(folder), before_ns)


class SharedFeatures:
    """Videos whose features are to be made, by one of the runs that share a folder.

    Args:
        run: this run, entered.
        names: what each video is called, by its path.
    """

    def __init__(self, run: Run, names: Mapping[str, str]) -> None:
        self._run, self._names = run, names
        self.done: dict[str, Outcome] = {}

    def attend(self, video: FoundVideo, worker: batch.Works, hook: Hook = ignore_progress) -> batch.Outcome | None:
        """See to it that a video has features: what became of it; None: another run is at it.

        Raises:
            WorkerError: the worker cannot begin, or was stopped.
        """
        task = {"video": video.name, "video_id": self._names[video.name]}
        if not self._run.claim(task["video_id"]):
            return None
        try:
            for attempt in range(1, batch.ATTEMPTS + 1):
                try:
                    outcome = Outcome(**worker.do(task, hook=hook, input_bytes=video.bytes))
                    break
                except WorkerError as error:
                    if error.kind in ("begin", "stopped"):
                        raise
                    if error.kind != "died" or attempt == batch.ATTEMPTS:
                        return batch.Outcome("failed", str(error))
        finally:
            self._run.give_back(task["video_id"])
        self.done[video.name] = outcome
        notes = (outcome.line, *(f"{video.name}: note: {note}" for note in outcome.notes))
        return batch.Outcome("kept" if outcome.kind == KEPT else "done", notes=notes)
