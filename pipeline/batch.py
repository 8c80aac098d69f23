"""Thousands of videos: one piece of work is one video, and ends as one result or one failure record under OUT.

::

    FOLDER ─ videos (batch_videos.py) ─ share i/n ─┐
                                                   ▼      claim (batch_locks.py)
                        engine: batch_pool.py ─ attend ── worker (workers.py, batch_worker.py), here or on a
                                                   │             Ray cluster (ray_engine.py)
                                                   │
                                                   ▼
                                 OUT/results or OUT/failures (batch_store.py) ─ manifest, table

``Batch.attend`` is all that is done about a video: find out where it stands, take it, have it watched within limits, write
down what came of it, give it back. What calls it, threads here or another engine on many machines, decides about speed alone:
who has the claim of a video works on it, what is written is whole, and a second run over what is left comes to the same.

What is wrong with a video costs that video. What concerns all of them (a full disk, no network, options that changed under the
run) ends the run: the videos are left, not failed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.wire import printable
from tal_run.pipeline.batch_locks import Run
from tal_run.pipeline.batch_store import Failure, State, Store, StoreError, recipe_of, seen_of, told
from tal_run.pipeline.batch_videos import FoundVideo
from tal_run.pipeline.workers import JSONObject, WorkerError

ATTEMPTS = 2  # of a video whose worker crashed or was killed, which may have had another reason; all else fails at once
# a video is left, not failed, where its worker
NOT_OF_THE_VIDEO = ("begin", "waiting", "stopped")

What = Literal["done", "kept", "failed", "failed before"]


class Works(Protocol):
    """What does a task: a ``Worker``, or whatever another engine has in its place."""

    def begin(self, *, hook: Hook = ignore_progress) -> JSONObject:
        """Get ready; what there is to say of it. Raises WorkerError: it cannot."""

    def do(self, task: Mapping[str, Any], *, hook: Hook = ignore_progress, input_bytes: int = 0) -> JSONObject:
        """The answer to a task. Raises WorkerError: it could not be done."""


@dataclass(frozen=True)
class Outcome:
    """What became of a video: a sentence on its failure, the number of detections, the seconds watched, notes."""

    what: What
    error: str = ""
    detections: int = 0
    watched_s: float = 0.0
    notes: tuple[str, ...] = ()


class Batch:
    """A folder of results that videos are to be turned into, by one of the runs that share it.

    Args:
        store: the folder.
        run: this run, entered.
        recipe: the hash of the options.
        retry_failed: try again what failed.
    """

    def __init__(self, store: Store, run: Run, *, recipe: str, retry_failed: bool = False) -> None:
        self._store, self._run, self._recipe, self._retry_failed = store, run, recipe, retry_failed

    def attend(self, video: FoundVideo, worker: Works, hook: Hook = ignore_progress) -> Outcome | None:
        """See to it that a video is done.

        Returns:
            What became of it; None: another run is at it.

        Raises:
            StoreError: nothing can be written.
            WorkerError: the worker cannot begin, not yet, or was stopped; the video is left.
        """
        if before := self._stands(video):
            return before
        with told(self._store.folder):
            if not self._run.claim(video.name):
                return None
        try:
            # somebody may have done it since
            return self._stands(video) or self._work(video, worker, hook)
        finally:
            with told(self._store.folder):
                self._run.give_back(video.name)

    def _stands(self, video: FoundVideo) -> Outcome | None:
        """What became of a video before; None: it is left to be done."""
        standing = self._store.standing(video, self._recipe)
        if standing.state == "done":
            return Outcome("kept")
        # what failed since this run began, another one has tried again
        if standing.state == "failed" and (not self._retry_failed or standing.written_ns >= self._run.began_ns):
            return Outcome("failed before", standing.reason)
        return None

    def conclude(self, videos: Sequence[FoundVideo], video_ids: Mapping[str, str]) -> Counter[State] | None:
        """Give all claims back and make the lists of the whole, unless another run is at work, which will.

        Args:
            videos: all of the folder's, not only this run's share.
            video_ids: what each is called in the table, by name.

        Returns:
            How many videos are in which state; None: another run is at work.

        Raises:
            StoreError: they cannot be written.
        """
        with told(self._store.folder):
            self._run.leave()  # first: of two that end at the same time, one at least must see that it is the last
            if not _sweep(self._store, self._run):
                return None
            counts = self._store.write_lists(videos, self._recipe, video_ids)
            if self._run.others():  # one has just begun
                self._store.remove_lists()
                return None
            return counts

    def _work(self, video: FoundVideo, worker: Works, hook: Hook) -> Outcome:
        began_s, attempts, stage, length_s = time.monotonic(), 0, "opening", 0.0

        def noting(step: str, *, completed: float, total: float | None) -> None:
            nonlocal stage, length_s
            stage, length_s = step, total or length_s
            hook(step, completed=completed, total=total)

        known = self._store.standing(video, self._recipe).known_sha256
        task: JSONObject = {"path": str(video.path), "video_id": video.video_id, "known_sha256": known}
        while True:
            attempts += 1
            seen = seen_of(video.path)
            # for those who can keep a result themselves (ray_station.py)
            keep = {"folder": str(self._store.real), "run": self._run.run_id}
            task["keep"] = {**keep, "video": video.name, "recipe": self._recipe, "seen": seen}
            try:
                self._check_recipe(worker)
                answer = worker.do(task, hook=noting, input_bytes=seen["bytes"] if seen else 0)
                if seen_of(video.path) != seen:
                    raise WorkerError("it changed while it was watched; wait until it is complete and try again", kind="error")
                return self.keep(video, answer, known, seen)
            except WorkerError as error:
                if error.kind in NOT_OF_THE_VIDEO:
                    raise
                if error.kind == "died" and attempts < ATTEMPTS:
                    continue
                sentence = printable(error, limit=2000)
                failure = Failure(
                    stage=stage, kind=error.kind, error=sentence, elapsed_s=time.monotonic() - began_s, attempts=attempts
                )
                self._store.keep_failure(video, failure, recipe=self._recipe, seen=seen)
                return Outcome("failed", sentence)

    def _check_recipe(self, worker: Works) -> None:
        if recipe_of(worker.begin()["made_by"]) != self._recipe:
            raise WorkerError(
                "the weights, word vectors or checkpoint have changed since this began: start again", kind="begin"
            )

    def keep(self, video: FoundVideo, answer: JSONObject, known: str | None, seen: JSONObject | None) -> Outcome:
        """Write down what a worker answered. Raises StoreError."""
        if answer.get("is_unchanged"):
            assert known is not None
            self._store.keep_again(video, recipe=self._recipe, seen=seen, sha256=known)
            return Outcome("kept")
        if answer.get("is_kept"):
            return Outcome("done", detections=int(answer["detections"]), watched_s=float(answer["duration_s"]))
        document = answer["document"]
        self._store.keep_result(video, document, recipe=self._recipe, seen=seen, sha256=answer["video_sha256"])
        count = sum(map(len, document["results"].values()))
        return Outcome("done", detections=count, watched_s=float(answer["duration_s"]))


@contextmanager
def at_work(store: Store, made_by: Mapping[str, Any], *, retry_failed: bool = False) -> Iterator[Batch]:
    """A run's time in a folder. What killed ones left half-written goes, where no other run is at work.

    Args:
        store: the folder.
        made_by: all that decides which detections come out, as a worker says it.
        retry_failed: try again what failed.

    Raises:
        StoreError: the folder cannot be written, or another run, which began earlier, works there with other options: each
            would do again what the other has done.
    """
    recipe = recipe_of(made_by)
    with entered(store, made_by, recipe) as run:
        yield Batch(store, run, recipe=recipe, retry_failed=retry_failed)


@contextmanager
def entered(store: Store, made_by: Mapping[str, Any], recipe: str) -> Iterator[Run]:
    """A run among those in a folder, for ``at_work`` and for other jobs than detecting."""
    with told(store.folder), Run(store.locks, recipe=recipe) as run:
        check_others(run, recipe, store.folder)
        _sweep(store, run)
        store.describe(made_by, recipe)
        yield run


def check_others(run: Run, recipe: str, folder: Path) -> None:
    """Refuse to work beside a run that has other options and began earlier. Raises StoreError."""
    for other in run.others():
        if other.recipe != recipe and other.run_id < run.run_id:
            raise StoreError(
                f"another run ({other.where}) is at work in {printable(folder)} with other options: wait for its end, or "
                "choose another folder with -o"
            )


def _sweep(store: Store, run: Run) -> bool:
    """Remove what the dead left, unless another run is at work. Whether none is."""
    before_ns = run.sweep()
    if before_ns is not None:
        store.sweep(before_ns)
    return before_ns is not None
