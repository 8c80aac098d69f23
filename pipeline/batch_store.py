"""What a batch has on disk: a result or a failure a video, each written whole, and lists that are made from these alone.

::

    OUT/
      batch.json                what this folder is, and what its results were made with (for people; each result says it too)
      results/sub/a.mp4.json    detections in FOLDER/sub/a.mp4: ActivityNet's results form, with what made them
      failures/sub/b.mp4.json   why there are none: stage, error, seconds, attempts
      manifest.jsonl            a line a video: done, failed, left, or gone from the folder; the last line counts them
      detections.csv            all detections, as `tal-run eval` reads them
      locks/                    who is at work here (``batch_locks.py``)

A result is of a video's bytes and of options, and says of which: the video's sha256, the options' (``recipe``), and its own,
over all that is in it, so that damage shows. A video whose size, inode and times (of its content, and of its last change, which
no program sets at will) are as they were is taken to have the bytes that it had. Where any of these differs, or the record was
not written at least ``RACY_S`` seconds after the last change, the bytes are hashed again. A failure is of options, and of a
file by these marks alone.

The lists are made anew when a run ends and no other is at work, and are removed when one begins: whatever is killed whenever,
they are either true or not there. Nothing but files below OUT is written, and no link in it is followed.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TextIO

from tal_run.extractors.array_files import opened
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.files import PART, PART_ENDING, written_whole
from tal_run.extractors.spreadsheets import as_cell
from tal_run.extractors.wire import printable
from tal_run.pipeline.batch_videos import FoundVideo, file_name, iter_files

# a number rises when the same recipe gives other results than before
FORMAT = "tal-run batch 1"
RESULT, FAILURE, MANIFEST = f"{FORMAT} result", f"{FORMAT} failure", f"{FORMAT} manifest"
RESULTS, FAILURES, LOCKS = "results", "failures", "locks"
MARK_FILE, MANIFEST_FILE, TABLE_FILE = "batch.json", "manifest.jsonl", "detections.csv"
MOST_BYTES = 1 << 28  # of a record: detections of weeks of video are less
MARK_TRIES = 5
RACY_S = 2.0  # clocks of file systems are no coarser
COLUMNS = ("video_id", "label", "start_s", "end_s", "score")

JSONObject = dict[str, Any]
State = Literal["done", "failed", "left", "gone"]


class StoreError(TalRunError):
    """The folder of results cannot be used, or not any more: it concerns the whole job."""


@dataclass(frozen=True)
class Standing:
    """Where a video stands.

    Attributes:
        state: ``done``, ``failed``, or ``left`` to be done.
        reason: why it is to be done again, completing "it …"; empty: it is new. Or why it failed.
        known_sha256: of a video whose result is there and right if these are still its bytes.
        written_ns: when its failure was written.
    """

    state: State
    reason: str = ""
    known_sha256: str | None = None
    written_ns: int = 0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a video has no result.

    Attributes:
        stage: where it failed: ``opening``, ``watching``, ``finding``.
        kind: ``error``, ``unforeseen``, ``time``, ``memory``, ``died``.
        error: a sentence.
        elapsed_s: how long it was worked on, all attempts together.
        attempts: how often it was tried.
    """

    stage: str
    kind: str
    error: str
    elapsed_s: float
    attempts: int


class Store:
    """The folder of a batch.

    Args:
        folder: OUT; it is made.

    Raises:
        StoreError: it cannot be made or written, or holds what a batch would write over.
    """

    lists: ClassVar[tuple[str, ...]] = (MANIFEST_FILE, TABLE_FILE)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with told(self.folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.real = Path(os.path.realpath(folder))
            self._prepare()

    def _prepare(self) -> None:
        """Make what a batch needs, over nothing that is somebody else's."""
        self.check()
        for left in reversed(range(MARK_TRIES)):
            if self._is_marked():
                break
            try:
                with written_whole(self.real / MARK_FILE) as part:
                    part.write_text(json.dumps({"format": FORMAT}) + "\n", encoding="ascii")
            except FileNotFoundError:
                # a run that has just begun here took it for what a dead one left: nobody knows yet that this one is at work
                if not left:
                    raise
        for name in (RESULTS, FAILURES):
            (self.real / name).mkdir(exist_ok=True)

    def check(self) -> None:
        """Refuse what a batch would write over. Raises StoreError."""
        if not self._is_marked():
            ours = (MARK_FILE, RESULTS, FAILURES, LOCKS, MANIFEST_FILE, TABLE_FILE)
            foreign = [name for name in ours if (self.real / name).is_symlink() or (self.real / name).exists()]
            if foreign:
                raise foreign_error(self.folder / foreign[0])
        for name in (RESULTS, FAILURES, LOCKS):
            self._check_inside(self.real / name)

    @classmethod
    def as_it_is(cls, folder: Path) -> Self:
        """The folder of a batch, only to look into, whether there is one or not. Raises StoreError: it is no batch's."""
        found = cls.__new__(cls)
        found.folder, found.real = folder, Path(os.path.realpath(folder))
        found.check()
        return found

    @property
    def locks(self) -> Path:
        """The folder of locks."""
        return self.real / LOCKS

    def _is_marked(self) -> bool:
        try:
            with opened(self.real / MARK_FILE) as file:
                return bool(json.loads(file.read(MOST_BYTES))["format"] == FORMAT)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def describe(self, made_by: Mapping[str, Any], recipe: str) -> None:
        """Write down, for people, what results are made with from now on; old lists go."""
        self.remove_lists()
        card = {"format": FORMAT, "recipe": recipe, "made_by": dict(made_by)}
        self._write(self.real / MARK_FILE, json.dumps(card, indent=1) + "\n")

    def remove_lists(self) -> None:
        """Lists that are not true any more go."""
        for name in self.lists:
            self._remove(self.real / name)

    # --- one video -------------------------------------------------------------------------------------------------------

    def standing(self, video: FoundVideo, recipe: str, *, is_racy_fine: bool = False) -> Standing:
        """Where a video stands, by what is on the disk; what cannot be read counts for nothing.

        Args:
            video: which.
            recipe: the hash of the options.
            is_racy_fine: the marks of a video that was changed just before its result was written are good enough.
        """
        seen = seen_of(video.path)
        result_file, _ = self._files(video.name)
        reason = ""
        record, written_ns = _read(result_file)
        if record is not None:
            batch = _batch_of(record)
            reason = self._fault(record, batch, video, recipe)
            if not reason and isinstance(known := batch.get("video_sha256"), str):
                if _is_same(batch.get("seen"), seen, None if is_racy_fine else written_ns):
                    return Standing("done")
                return Standing("left", "may be of a video that has changed", known if seen else None)
        elif result_file.exists():
            reason = "has a result that is damaged"
        return self._failed(video, recipe, seen) or Standing("left", reason)

    def _failed(self, video: FoundVideo, recipe: str, seen: JSONObject | None) -> Standing | None:
        """Where a video stands that has no result, by its failure record; None: there is none of these options."""
        record, written_ns = _read(self._files(video.name)[1])
        if record is None or self._fault(record, record, video, recipe):
            return None
        if record.get("seen") != seen:
            return Standing("left", "has changed since it failed")
        return Standing("failed", str(record.get("error", "")), written_ns=written_ns)

    def _fault(self, record: JSONObject, card: JSONObject, video: FoundVideo, recipe: str) -> str:
        if card.get("format") not in (RESULT, FAILURE) or card.get("sha256") != _digest(record, card):
            return "has a record that is damaged"
        if card.get("video") != video.name:
            return "has another video's record"
        if card.get("recipe") != recipe:
            return "was made with other options"
        return ""

    def keep_result(
        self, video: FoundVideo, document: JSONObject, *, recipe: str, seen: JSONObject | None, sha256: str
    ) -> None:
        """Write a result; a failure that was there goes.

        Raises:
            StoreError: it cannot be written.
        """
        card: JSONObject = {"format": RESULT, "video": video.name, "recipe": recipe, "video_sha256": sha256, "seen": seen}
        external = {**document.get("external_data", {}), "batch": card}
        document = {**document, "external_data": external}
        card["sha256"] = _digest(document, card)
        result_file, failure_file = self._files(video.name)
        self._remove(failure_file)  # first: whatever is killed when, a video has one record at most
        self._write(result_file, json.dumps(document, indent=1) + "\n")

    def keep_again(self, video: FoundVideo, *, recipe: str, seen: JSONObject | None, sha256: str) -> None:
        """Note that a result that is there is of a video as it is now, by its hash."""
        record, _ = _read(self._files(video.name)[0])
        if record is None:
            raise StoreError(f"the result of {printable(video.name)} vanished: who else writes into {printable(self.folder)}?")
        self.keep_result(video, record, recipe=recipe, seen=seen, sha256=sha256)

    def keep_failure(self, video: FoundVideo, failure: Failure, *, recipe: str, seen: JSONObject | None) -> None:
        """Write down why there is no result; one of other options or bytes that was there goes.

        Raises:
            StoreError: it cannot be written.
        """
        card: JSONObject = {
            "format": FAILURE,
            "tal_run": version("tal-run"),
            "video": video.name,
            "recipe": recipe,
            "stage": failure.stage,
            "kind": failure.kind,
            "error": failure.error,
            "elapsed_s": round(failure.elapsed_s, 3),
            "attempts": failure.attempts,
            "seen": seen,
        }
        card["sha256"] = _digest(card, card)
        self._forget_result(video)
        self._write(self._files(video.name)[1], json.dumps(card, indent=1) + "\n")

    def _forget_result(self, video: FoundVideo) -> None:
        """A result of other options or bytes goes."""
        self._remove(self._files(video.name)[0])

    def result_file(self, video: FoundVideo) -> Path:
        """Where a video's result is, if there is one."""
        return self._files(video.name)[0]

    def _files(self, name: str) -> tuple[Path, Path]:
        below = f"{file_name(name)}.json"
        return self.real / RESULTS / below, self.real / FAILURES / below

    # --- the whole -------------------------------------------------------------------------------------------------------

    def write_lists(self, videos: Sequence[FoundVideo], recipe: str, video_ids: Mapping[str, str]) -> Counter[State]:
        """Make the manifest and the table of all detections from the records.

        Args:
            videos: all of the folder's.
            recipe: the hash of the options; what was made with others is left to be done.
            video_ids: what each is called in the table, by name.

        Returns:
            How many videos are in which state.

        Raises:
            StoreError: they cannot be written.
        """
        manifest, table = self.real / MANIFEST_FILE, self.real / TABLE_FILE
        self._check_inside(manifest)
        self._check_inside(table)
        with (
            told(self.folder),
            written_whole(table) as table_part,
            written_whole(manifest) as manifest_part,
            table_part.open("w", encoding="utf-8", newline="") as table_file,
            manifest_part.open("w", encoding="ascii") as manifest_file,
        ):
            rows = csv.writer(table_file, lineterminator="\n")
            rows.writerow(COLUMNS)

            def lines() -> Iterator[JSONObject]:
                for video in videos:
                    line, found = self._line(video, recipe)
                    yield line
                    for row in found:
                        names = (as_cell(_writable(video_ids[video.name])), as_cell(row["label"]))
                        rows.writerow([*names, *row["segment"], row["score"]])
                yield from self._gone({video.name for video in videos})

            return write_manifest(manifest_file, lines(), recipe)

    def _line(self, video: FoundVideo, recipe: str) -> tuple[JSONObject, list[JSONObject]]:
        """A video's line in the manifest, and what was found in it."""
        standing = self.standing(video, recipe, is_racy_fine=True)
        result_file, _ = self._files(video.name)
        line: JSONObject = {"video": video.name, "state": standing.state}
        found: list[JSONObject] = []
        if standing.state == "done":
            record, _ = _read(result_file)
            if record is None:
                return {**line, "state": "left"}, []
            found = [row for rows in record["results"].values() for row in rows]
            line |= {"file": str(result_file.relative_to(self.real)), "detections": len(found)}
            line["video_sha256"] = _batch_of(record).get("video_sha256")
        elif standing.state == "failed":
            line |= self._failure_line(video)
        elif standing.reason:
            line["reason"] = f"it {standing.reason}"
        return line, found

    def _failure_line(self, video: FoundVideo) -> JSONObject:
        """What the manifest says of a failure."""
        _, failure_file = self._files(video.name)
        record, _ = _read(failure_file)
        known = {key: (record or {}).get(key) for key in ("stage", "kind", "error", "elapsed_s", "attempts")}
        return {"file": str(failure_file.relative_to(self.real)), **known}

    def _gone(self, listed: set[str]) -> Iterator[JSONObject]:
        """A line for each record of a video that the folder does not hold any more."""
        told = set(listed)
        for kind in (RESULTS, FAILURES):
            for path in iter_files(self.real / kind):
                if path.suffix != ".json":
                    continue
                record, _ = _read(path)
                name = (_batch_of(record) if record and kind == RESULTS else record or {}).get("video")
                if isinstance(name, str) and name not in told:
                    told.add(name)
                    yield {"video": name, "state": "gone", "file": str(path.relative_to(self.real))}

    def sweep(self, before_ns: int) -> int:
        """Remove what was being written, before that time of the file system's clock, by those that were killed."""
        below = (path for folder in (RESULTS, FAILURES) for path in iter_files(self.real / folder))
        return sweep_parts((*self.real.iterdir(), *below), before_ns)

    # --- writing ---------------------------------------------------------------------------------------------------------

    def _write(self, target: Path, text: str) -> None:
        with told(self.folder):
            self._check_inside(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(target) as part:
                part.write_text(text, encoding="ascii")

    def _check_inside(self, target: Path) -> None:
        """Refuse to write by way of a link, which may lead anywhere."""
        if os.path.realpath(target.parent) != str(target.parent) or target.is_symlink():
            raise StoreError(f"{printable(target)} leads elsewhere by a link, and no link is followed: remove it")

    def _remove(self, path: Path) -> None:
        with told(self.folder):
            if os.path.realpath(path.parent) == str(path.parent):
                path.unlink(missing_ok=True)


def write_manifest(file: TextIO, lines: Iterable[JSONObject], recipe: str) -> Counter[State]:
    """Write a head, the lines, and how many videos are in which state, which is returned."""
    counts: Counter[State] = Counter()
    file.write(json.dumps({"format": MANIFEST, "tal_run": version("tal-run"), "recipe": recipe}) + "\n")
    for line in lines:
        counts[line["state"]] += 1
        file.write(json.dumps(line) + "\n")
    file.write(json.dumps({"counts": dict(counts)}) + "\n")
    return counts


def format_in(path: Path) -> str | None:
    """The form that a file of JSON, or of lines of it, says it has; None: it says none."""
    try:
        with opened(path) as file:
            document, _ = json.JSONDecoder().raw_decode(file.read(1 << 20).decode())
    except (OSError, ValueError, RecursionError):
        return None
    found = document.get("format") if isinstance(document, dict) else None
    return found if isinstance(found, str) else None


def foreign_error(path: Path) -> StoreError:
    """What to say of a file that is in the way and none of ours."""
    return StoreError(f"{printable(path)} is there and no batch's: choose another folder with -o")


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Say what goes wrong with files inside as a StoreError."""
    try:
        yield
    except BrokenPipeError:
        raise  # of standard output, which nobody reads any more
    except OSError as error:
        cure = "free some space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another place with -o"
        where = printable(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else printable(folder)
        raise StoreError(f"cannot write {where} ({error.strerror or error}): {cure}, and start again; it goes on") from error


def seen_of(path: Path) -> JSONObject | None:
    """What tells, without reading it, that a file is as it was; None: it is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return {
        "bytes": status.st_size,
        "inode": status.st_ino,
        "changed_ns": status.st_ctime_ns,
        "content_ns": status.st_mtime_ns,
    }


def recipe_of(made_by: Mapping[str, Any]) -> str:
    """The hash of all that decides which detections come out."""
    wanted = {key: value for key, value in made_by.items() if key not in ("tal_run", "videos")}
    return _sha256({"format": FORMAT, **wanted})


def _is_same(then: Any, now: JSONObject | None, written_ns: int | None) -> bool:
    if now is None or then != now:
        return False
    return written_ns is None or bool(written_ns - max(now["changed_ns"], now["content_ns"]) > RACY_S * 1e9)


def _read(path: Path) -> tuple[JSONObject | None, int]:
    """The record in a file and when it was written; None: there is none, or it cannot be read."""
    try:
        with opened(path) as file:
            content = file.read(MOST_BYTES + 1)
            written_ns = os.fstat(file.fileno()).st_mtime_ns
        record = json.loads(content) if len(content) <= MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None, 0
    return (record, written_ns) if isinstance(record, dict) else (None, 0)


def _batch_of(record: JSONObject) -> JSONObject:
    external = record.get("external_data")
    batch = external.get("batch") if isinstance(external, dict) else None
    return batch if isinstance(batch, dict) else {}


def _digest(record: JSONObject, card: JSONObject) -> str:
    """The hash of a record that holds ``card``, but for the hash in the card."""
    bare = {key: value for key, value in card.items() if key != "sha256"}
    if card is record:
        return _sha256(bare)
    return _sha256({**record, "external_data": {**record["external_data"], "batch": bare}})


def _sha256(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode("ascii")).hexdigest()


def sweep_parts(paths: Iterable[Path], before_ns: int) -> int:
    """Remove those among files that were being written before that time; how many there were."""
    return sum(_remove_part(path, before_ns) for path in paths)


def _remove_part(path: Path, before_ns: int) -> bool:
    if not (path.name.startswith(PART) and path.name.endswith(PART_ENDING)):
        return False
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_mtime_ns >= before_ns:
            return False
        path.unlink()
    except OSError:
        return False
    return True


def _writable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
