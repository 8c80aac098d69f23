"""Detections to be judged, in columns, and the forms in which they are read.

================  ===================================================================  ==================================
form              looks like                                                           made by
================  ===================================================================  ==================================
ActivityNet JSON  ``{"version", "results": {id: [{"label", "score", "segment"}]}}``    ``tal-run detect -o x.json``, most
JSON lines        ``{"video_id", "label", "start_s", "end_s", "score"}`` a line        ``tal-run detect -o x.jsonl``
CSV               ``video_id,label,start_s,end_s,score``                               ``tal-run detect -o x.csv``
THUMOS text       ``video_id start end class score`` a line; class by name or number   S-CNN and others
================  ===================================================================  ==================================

In a CSV file, text that a spreadsheet would take for a formula has an apostrophe before it (``spreadsheets.py``).
``read_detections`` goes by content and keeps of every detection where it stood, so that what is wrong with it can be said
with its place. A million detections take some 60 MB in columns, and in all forms less than 500 MB while they are read.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tal_run.eval.matching import FloatArray, IntArray
from tal_run.eval.protocols import EvaluationError
from tal_run.extractors.spreadsheets import from_cell
from tal_run.models.detection import Detection

COLUMNS = ("video_id", "label", "start_s", "end_s", "score")
FORMS = (
    "ActivityNet's results JSON, JSON lines, a CSV file with the columns "
    f"{','.join(COLUMNS)}, or THUMOS's text (video_id start end class score)"
)
MISSING = -1  # where a column stands that is not there
LINE_LIMIT = 1 << 16  # characters; what is longer is no line of a table


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections:
    """Detections in the order in which they were listed, one a row.

    Attributes:
        video_ids: every video that occurs, once.
        labels: every label that occurs, once.
        videos: of each detection, its video's place in ``video_ids`` [M].
        classes: of each, its label's place in ``labels`` [M].
        segments: from where to where, seconds [M, 2].
        scores: how sure [M].
        source: what they were read from, for messages.
        lines: of each, its line in the source [M]; None where there are no lines, and it is told by its number in its video.
    """

    video_ids: tuple[str, ...]
    labels: tuple[str, ...]
    videos: IntArray
    classes: IntArray
    segments: FloatArray
    scores: FloatArray
    source: str = "detections"
    lines: IntArray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def place(self, row: int) -> str:
        """Where a detection stands, for messages."""
        video = self.video_ids[self.videos[row]]
        if self.lines is not None:
            return f"{self.source}, line {self.lines[row]} ({video})"
        number = int((self.videos[:row] == self.videos[row]).sum())
        return f"{self.source}: {video}, detection {number}"


class _Columns:
    """Columns that grow; names are kept once and stand as numbers."""

    def __init__(self) -> None:
        self.video_numbers: dict[str, int] = {}
        self.label_numbers: dict[str, int] = {}
        self.videos, self.classes, self.lines = array("q"), array("q"), array("q")
        self.starts, self.ends, self.scores = array("d"), array("d"), array("d")

    def video(self, name: str) -> int:
        return self.video_numbers.setdefault(name, len(self.video_numbers))

    def add(self, label: str, start_s: float, end_s: float, score: float) -> None:
        self.classes.append(self.label_numbers.setdefault(label, len(self.label_numbers)))
        self.starts.append(start_s)
        self.ends.append(end_s)
        self.scores.append(score)

    def table(self, source: str, *, rows: IntArray | None = None, videos: IntArray | None = None) -> Detections:
        """What was gathered; with ``rows``, these in this order."""
        chosen = slice(None) if rows is None else rows
        lines = np.array(self.lines, np.int64)
        return Detections(
            video_ids=tuple(self.video_numbers),
            labels=tuple(self.label_numbers),
            videos=np.array(self.videos, np.int64) if videos is None else videos,
            classes=np.array(self.classes, np.int64)[chosen],
            segments=np.stack([np.array(self.starts, np.float64)[chosen], np.array(self.ends, np.float64)[chosen]], axis=1),
            scores=np.array(self.scores, np.float64)[chosen],
            source=source,
            lines=lines if len(lines) else None,
        )


def from_results(results: Mapping[str, Sequence[Detection]], *, source: str = "detections") -> Detections:
    """Detections as ``tal_run.pipeline`` makes them, by video."""
    columns = _Columns()
    for video_id, found in results.items():
        number = columns.video(video_id)
        for detection in found:
            columns.videos.append(number)
            columns.add(detection.label, detection.start_s, detection.end_s, detection.score)
    return columns.table(source)


def read_detections(path: str | os.PathLike[str], *, class_agnostic: bool = False) -> Detections:
    """Detections in any of the forms, told apart by content.

    Values are taken as they are written; whether they can be true is for the evaluation to say, which knows the videos.
    With ``class_agnostic``, labels may be missing (proposals have none), but not in THUMOS's text.

    Raises:
        EvaluationError: there are none, they are in no known form, or an entry cannot be read; the message says which.
    """
    path = Path(path)
    if path.is_dir():
        raise EvaluationError(f"{path} is a folder: give the file of detections in it")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(path, file, optional=("label",) if class_agnostic else ())
    except UnicodeDecodeError:
        raise EvaluationError(f"{path} is no text in UTF-8: give {FORMS}") from None
    except OSError as error:
        raise EvaluationError(f"cannot read {path} ({error.strerror}): check the path to the detections") from None


def _read(path: Path, file: TextIO, *, optional: Sequence[str]) -> Detections:
    number, first = 0, ""
    for number, first in enumerate(file, 1):  # noqa: B007 - the number of the first line that is not empty
        if first.strip():
            break
    begin = first[:LINE_LIMIT].strip()
    if not begin:
        raise EvaluationError(f"{path} is empty: give {FORMS}")
    lines = itertools.chain([first], file)
    if begin.startswith("{") and len(first) < LINE_LIMIT and _is_json_line(begin):
        return _from_json_lines(path, lines, number, optional)
    if begin.startswith(("{", "[")):
        return _from_json(path, first + file.read(), optional)
    if "video_id" in begin or "," in begin:
        return _from_csv(path, lines, number, optional)
    if len(begin.split()) == len(COLUMNS):
        return _from_thumos(path, lines, number)
    raise EvaluationError(f"{path} holds no detections in a known form (it begins with {begin[:40]!r}): give {FORMS}")


def _from_csv(path: Path, lines: Iterable[str], before: int, optional: Sequence[str]) -> Detections:
    reader = csv.reader(lines)
    try:
        heads = [head.strip() for head in next(reader)]
        missing = [name for name in COLUMNS if name not in (*heads, *optional)]
        if missing == ["score"]:
            raise EvaluationError(f"{path} has no column 'score', so it is ground truth: give the detections")
        if missing:
            raise EvaluationError(
                f"{path} has no column {missing[0]!r}: its first line should be {','.join(COLUMNS)}, with commas between"
            )
        if twins := [name for name in COLUMNS if heads.count(name) > 1]:
            raise EvaluationError(f"{path} has two columns {twins[0]!r}: keep the one that counts")
        places = [heads.index(name) if name in heads else MISSING for name in COLUMNS]
        rows = ((reader.line_num + before - 1, row) for row in reader if row)
        return _from_rows(path, rows, places, width=len(heads), text_of=from_cell)
    except csv.Error as error:
        raise EvaluationError(f"{path} is no CSV file that can be read ({error}): is a quotation mark missing?") from None


def _from_thumos(path: Path, lines: Iterable[str], first: int) -> Detections:
    rows = ((number, fields) for number, line in enumerate(lines, first) if (fields := line.split()))
    return _from_rows(path, rows, [0, 3, 1, 2, 4], width=len(COLUMNS))


def _from_rows(
    path: Path,
    rows: Iterable[tuple[int, list[str]]],
    places: Sequence[int],
    *,
    width: int,
    text_of: Callable[[str], str] = str,
) -> Detections:
    """Rows of text with their line numbers; ``places`` says in which field each of ``COLUMNS`` stands, if in any."""
    columns = _Columns()
    at_video, at_label, at_start, at_end, at_score = places
    for line, row in rows:
        try:
            if len(row) != width:
                raise ValueError
            # in this order: what cannot be read leaves no half row
            start_s, end_s, score = float(row[at_start]), float(row[at_end]), float(row[at_score])
        except ValueError:
            raise EvaluationError(f"{path}, line {line}: {_what_is_wrong(row, places, width)}") from None
        columns.videos.append(columns.video(text_of(row[at_video].strip())))
        columns.add("" if at_label == MISSING else text_of(row[at_label].strip()), start_s, end_s, score)
        columns.lines.append(line)
    return columns.table(str(path))


def _what_is_wrong(row: Sequence[str], places: Sequence[int], width: int) -> str:
    if len(row) != width:
        return f"{len(row)} fields where there should be {width}: quote what has a comma in it, fill in what is missing"
    for name, place in list(zip(COLUMNS, places, strict=True))[2:]:
        try:
            float(row[place])
        except ValueError:
            return f"{name} is {row[place]!r}: give a number"
    return "this cannot be read"


def _is_json_line(line: str) -> bool:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "video_id" in document


def _from_json_lines(path: Path, lines: Iterable[str], first: int, optional: Sequence[str]) -> Detections:
    columns = _Columns()
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise EvaluationError(f"{path}, line {number} is broken JSON ({error}): write it again") from None
        if not isinstance(entry, dict) or (missing := [name for name in COLUMNS if name not in (*entry, *optional)]):
            lacking = missing[0] if isinstance(entry, dict) else "video_id"
            raise EvaluationError(f"{path}, line {number} has no {lacking!r}: each line needs {', '.join(COLUMNS)}")
        entry["segment"] = [entry["start_s"], entry["end_s"]]
        fault = _fault_of_entry(entry, optional)
        if not fault and not isinstance(entry["video_id"], str):
            fault = f"video_id is {_shown(entry['video_id'])}: give text"
        if fault:
            raise EvaluationError(f"{path}, line {number}: {fault}")
        columns.videos.append(columns.video(entry["video_id"]))
        columns.add(entry.get("label", ""), float(entry["start_s"]), float(entry["end_s"]), float(entry["score"]))
        columns.lines.append(number)
    return columns.table(str(path))


class _Row(int):
    """The number of a detection that has been put into columns; a type of its own, so that no number in a file is one."""

    __slots__ = ()


def _from_json(path: Path, text: str, optional: Sequence[str]) -> Detections:
    """ActivityNet's results; each entry goes into columns as it is parsed, so that no million of objects stand at once."""
    columns = _Columns()

    def in_columns(pairs: list[tuple[str, Any]]) -> Any:
        entry = dict(pairs)
        if len(entry) < len(pairs):
            names = [name for name, _ in pairs]
            twin = next(name for name in names if names.count(name) > 1)
            raise EvaluationError(f"{path}: {twin!r} is listed twice: put what belongs together under one entry")
        if "segment" not in entry or "score" not in entry or _fault_of_entry(entry, optional):
            return entry
        start, end = entry["segment"]
        columns.add(entry.get("label", ""), float(start), float(end), float(entry["score"]))
        return _Row(len(columns.scores) - 1)

    try:
        document = json.loads(text, object_pairs_hook=in_columns)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} is broken JSON ({error}): write it again") from None
    if isinstance(document, dict) and "database" in document:
        raise EvaluationError(f"{path} holds ground truth (it has 'database'): give the detections, which have 'results'")
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, dict):
        raise EvaluationError(f"{path} is JSON, but holds no detections: it needs 'results' with a list for each video")
    for video_id, entries in results.items():
        if not isinstance(entries, list):
            what = "one detection" if isinstance(entries, _Row) else _shown(entries)
            raise EvaluationError(f"{path}: {video_id}: {what} is no list of detections: put [] around one, give [] for none")
        for number, entry in enumerate(entries):
            if not isinstance(entry, _Row):
                raise EvaluationError(f"{path}: {video_id}, detection {number}: {_fault_of_entry(entry, optional)}")
        columns.video(video_id)
    counts = [len(entries) for entries in results.values()]
    rows = np.fromiter(itertools.chain.from_iterable(results.values()), np.int64, sum(counts))
    return columns.table(str(path), rows=rows, videos=np.repeat(np.arange(len(counts)), counts))


def _fault_of_entry(entry: object, optional: Sequence[str]) -> str:
    """What keeps one entry of a JSON file from being a detection; empty: nothing."""
    if not isinstance(entry, dict):
        return f"{_shown(entry)} is no detection: give label, score and segment"
    for name in ("label", "score", "segment"):
        if name not in (*entry, *optional):
            return f"it has no {name!r}: give label, score and segment"
    if not isinstance(entry.get("label", ""), str):
        return f"label is {_shown(entry['label'])}: give text"
    if not _is_number(entry["score"]):
        return f"score is {_shown(entry['score'])}: give a number"
    segment = entry["segment"]
    if not isinstance(segment, list) or len(segment) != 2 or not all(map(_is_number, segment)):
        return f"segment is {_shown(segment)}: give [start, end] in seconds"
    return ""


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _shown(value: object) -> str:
    return repr(value)[:60]
