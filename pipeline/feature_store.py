"""Features of many videos as a batch (``batch.py``): the same claims, workers, failure records, manifest and shares.

What differs is where results lie. Features are written by the worker, where and as their layout wants them, each beside a
record of what made it (``feature_batch.py``): that record tells what is kept. The batch adds, below the same folder::

    failures/ID.json     why a video has no features: stage, error, seconds, attempts (ID~HASH.json where features lie there)
    manifest.jsonl       a line a video: done, failed, left, or gone (it has features here, and is not among the videos given)
    .tal-run-locks/      who is at work here; gone when nobody is

A video goes by its ID, the name that its features have, so two runs never write the same files, whatever folders they were
given. Features from before that could not be made again stay: they say what they were made of, and a disk that cannot be read
for an hour must not cost a data set. Nothing that is not ours is written over or removed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from tal_run.extractors.backbone import WindowConfig
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.feature_record import FeatureRecipe, FlowRecipe, is_record
from tal_run.extractors.files import written_whole
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.pipeline import batch
from tal_run.pipeline.batch_locks import Run
from tal_run.pipeline.batch_store import (
    FAILURE,
    FAILURES,
    MANIFEST,
    MANIFEST_FILE,
    Standing,
    State,
    Store,
    StoreError,
    foreign_error,
    format_in,
    recipe_of,
    seen_of,
    sweep_parts,
    told,
    write_manifest,
)
from tal_run.pipeline.batch_videos import FoundVideo, file_name, iter_files, second_file_name
from tal_run.pipeline.feature_batch import KEPT, Outcome
from tal_run.pipeline.workers import JSONObject

LOCKS = ".tal-run-locks"


@dataclass(frozen=True)
class NamedVideo(FoundVideo):
    """A video whose name is that of its features."""

    @property
    def video_id(self) -> str:
        """The same."""
        return self.name


def named(paths: Sequence[str], names: Sequence[str]) -> list[FoundVideo]:
    """Videos with the names of their features; the size of one that cannot be looked at is 0."""
    return [
        NamedVideo(name, Path(path), (seen_of(Path(path)) or {"bytes": 0})["bytes"])
        for path, name in zip(paths, names, strict=True)
    ]


class FeatureStore(Store):
    """What a batch keeps in a folder of features.

    Args:
        folder: the features'; it is made.
        made_by: all that decides which features come out of a video, as a worker says it.

    Raises:
        StoreError: it cannot be made or written, or holds what a batch would write over.
    """

    lists: ClassVar[tuple[str, ...]] = (MANIFEST_FILE,)

    def __init__(self, folder: FeatureFolder, made_by: Mapping[str, Any]) -> None:
        self._features, self._made_by = folder, made_by
        self._verified: set[str] = set()
        super().__init__(folder.path)

    def _prepare(self) -> None:
        self.check()

    def check(self) -> None:
        """Refuse what a batch would write over. Raises StoreError."""
        manifest, failures = self.real / MANIFEST_FILE, self.real / FAILURES
        self._check_inside(manifest)
        if manifest.exists() and format_in(manifest) != MANIFEST:
            raise foreign_error(self.folder / MANIFEST_FILE)
        self._check_inside(failures)
        if failures.exists() and not failures.is_dir():
            raise foreign_error(self.folder / FAILURES)

    @property
    def locks(self) -> Path:
        """The folder of locks."""
        return self.real / LOCKS

    def describe(self, made_by: Mapping[str, Any], recipe: str) -> None:
        """Old lists go."""
        self.remove_lists()

    def standing(self, video: FoundVideo, recipe: str, *, is_racy_fine: bool = False) -> Standing:
        """Whether a video failed; whether its features are there and right, only who reads the video can tell."""
        return self._failed(video, recipe, seen_of(video.path)) or Standing("left")

    def keep(self, video: FoundVideo) -> None:
        """A video has features, which were made or verified; a failure that was there goes."""
        failure_file = self._files(video.name)[1]
        if format_in(failure_file) == FAILURE:
            self._remove(failure_file)
        self._verified.add(video.name)

    def written_ns(self, video: FoundVideo) -> int:
        """When a video's features were written, by the file system's clock; 0: there are none."""
        record = self._features.finished(video.name)
        return record.written_ns if record else 0

    def _files(self, name: str) -> tuple[Path, Path]:
        failure = self.real / FAILURES / f"{file_name(name)}.json"
        if is_record(failure):  # features of a video in a folder that is called so
            failure = self.real / FAILURES / f"{second_file_name(name)}.json"
        return self.real / name, failure  # the first is as the layout wants it

    def _forget_result(self, video: FoundVideo) -> None:
        pass  # what there is says what it was made of

    def _write(self, target: Path, text: str) -> None:
        if target.exists() and format_in(target) != FAILURE:
            raise foreign_error(target)
        super()._write(target, text)

    # --- the whole -------------------------------------------------------------------------------------------------------

    def write_lists(self, videos: Sequence[FoundVideo], recipe: str, video_ids: Mapping[str, str]) -> Counter[State]:
        """Make the manifest. Raises StoreError: it cannot be written."""
        manifest = self.real / MANIFEST_FILE
        self._check_inside(manifest)
        with told(self.folder), written_whole(manifest) as part, part.open("w", encoding="ascii") as file:
            return write_manifest(file, self._lines(videos, recipe), recipe)

    def _lines(self, videos: Sequence[FoundVideo], recipe: str) -> Iterator[JSONObject]:
        for video in videos:
            yield self._line(video, recipe)[0]
        yield from self._gone({video.name for video in videos})

    def _line(self, video: FoundVideo, recipe: str) -> tuple[JSONObject, list[JSONObject]]:
        line: JSONObject = {"video": video.name, "state": "left"}
        if self.standing(video, recipe).state == "failed":
            return {**line, "state": "failed", **self._failure_line(video)}, []
        found = self._features.finished(video.name)
        if found is None:
            return line, []
        reason = found.record.difference(self._wanted(found.record.recipe))
        seen = seen_of(video.path)
        if not reason and video.name not in self._verified:  # another run made it, or none got to it
            changed_ns = max(seen["changed_ns"], seen["content_ns"]) if seen else found.written_ns
            reason = "may be of a video that has changed" if changed_ns >= found.written_ns else None
        if reason:
            return {**line, "reason": f"it {reason}"}, []
        line |= {"state": "done", "file": self._file(video.name), "snippets": found.record.count}
        return {**line, "video_sha256": found.record.recipe.video_sha256}, []

    def _wanted(self, made: FeatureRecipe) -> FeatureRecipe:
        """What is asked for now of the video that features were made of."""
        how = self._made_by
        windows = WindowConfig(**how["windows"])
        return FeatureRecipe(
            video_sha256=made.video_sha256,
            backbone=how["backbone"],
            weights=how["weights"],
            sampling=made.sampling if windows.fps is None else windows.sampling,
            decoder=how["decoder"],
            settings=how["settings"],
            flow=how["flow"] and FlowRecipe(**how["flow"]),
        )

    def _gone(self, listed: set[str]) -> Iterator[JSONObject]:
        known = set(listed)
        for name in self._features.recorded():
            if name not in known and self._features.finished(name):
                known.add(name)
                yield {"video": name, "state": "gone", "file": self._file(name)}
        yield from super()._gone(known)  # of which there is a failure record

    def _file(self, name: str) -> str:
        return os.path.relpath(self._features.file(name), self._features.path)

    def there(self, videos: Sequence[FoundVideo], recipe: str) -> list[str]:
        """The names of those videos that have features, as the manifest has it."""
        return [video.name for video in videos if self._line(video, recipe)[0]["state"] == "done"]

    def sweep(self, before_ns: int) -> int:
        """Remove what was being written, before that time of the file system's clock, by those that were killed."""
        return sweep_parts(iter_files(self.real), before_ns)


class FeatureJob(batch.Batch):
    """A folder of features that videos are to be turned into, by one of the runs that share it.

    Args:
        store: the folder.
        run: this run, entered.
        recipe: the hash of the options.
        again: make everything again, but for what another run has made since this one began.
        retry_failed: try again what failed.
    """

    def __init__(self, store: FeatureStore, run: Run, *, recipe: str, again: bool = False, retry_failed: bool = False) -> None:
        super().__init__(store, run, recipe=recipe, retry_failed=retry_failed or again)
        self._features, self._again = store, again
        self.kinds: dict[str, str] = {}  # by name, of those seen to: made, kept, made again

    def attend(self, video: FoundVideo, worker: batch.Works, hook: Hook = ignore_progress) -> batch.Outcome | None:
        """As a batch's; a sentence on a failure names the video's file."""
        outcome = super().attend(video, worker, hook)
        if outcome and outcome.what == "failed" and video.path.name not in outcome.error:
            return replace(outcome, error=f"{video.path}: {outcome.error}")
        return outcome

    def _stands(self, video: FoundVideo) -> batch.Outcome | None:
        if self._again and self._features.written_ns(video) >= self._run.began_ns:
            self._features.keep(video)
            self.kinds[video.name] = KEPT
            return batch.Outcome("kept")
        return super()._stands(video)

    def keep(self, video: FoundVideo, answer: JSONObject, known: str | None, seen: JSONObject | None) -> batch.Outcome:
        """Write down that a worker has written or verified features. Raises StoreError: it could not, for want of space."""
        if "cannot_write" in answer:
            raise StoreError(answer["cannot_write"])
        made = Outcome(**answer)
        self._features.keep(video)
        self.kinds[video.name] = made.kind
        notes = (made.line, *(f"{video.path}: note: {note}" for note in made.notes))
        return batch.Outcome("kept" if made.kind == KEPT else "done", notes=notes)


@contextmanager
def at_work(store: FeatureStore, made_by: Mapping[str, Any], **how: bool) -> Iterator[FeatureJob]:
    """A run's time in a folder of features, as ``batch.at_work``; ``how`` is ``FeatureJob``'s. Raises StoreError."""
    recipe = recipe_of(made_by)
    with batch.entered(store, made_by, recipe) as run:
        yield FeatureJob(store, run, recipe=recipe, **how)
