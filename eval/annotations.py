"""Ground truth: which action happens when in which video, and the three forms it is kept in.

=================  =================================================================  ========================
form               looks like                                                         keeps
=================  =================================================================  ========================
ActivityNet JSON   ``{"version", "taxonomy", "database": {id: {"subset", ...}}}``     everything
THUMOS folder      ``LongJump_val.txt`` with lines ``video_id start end``, and so on  instances and ambiguous
                   for each class and for ``Ambiguous``                               stretches, file by file
CSV                ``video_id,label,start_s,end_s``                                   the same, without subsets
=================  =================================================================  ========================

``read`` goes by content. All that is written is read back as it was, as far as the form keeps it. Ambiguous stretches,
which ActivityNet's own files do not know, go under an extra key ``ambiguous`` that other readers pass over.

Published files are kept as they are where evaluators have always taken them so: ActivityNet has instances of length zero,
and some that end up to 0.85 s past the video's end.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.files import written_whole

SUBSETS = ("training", "validation", "testing")
THUMOS_ENDINGS = {"train": "training", "val": "validation", "test": "testing"}
AMBIGUOUS = "Ambiguous"
COLUMNS = ("video_id", "label", "start_s", "end_s")
CLIP_COLUMNS = ("video_id", "subset", "label", "duration_s")
PAST_END_S = 1.0  # ActivityNet 1.3 has an instance that ends 0.848 s after its video


class AnnotationError(TalRunError):
    """Ground truth that cannot be read, or that cannot be true."""


@dataclass(frozen=True, order=True)
class Stretch:
    """From ``start_s`` to ``end_s``, seconds of the video, 0 <= start <= end."""

    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and math.isfinite(self.end_s)):
            raise AnnotationError(f"a segment from {self.start_s} to {self.end_s} s is no time: give seconds as numbers")
        if self.start_s < 0:
            raise AnnotationError(f"a segment starts at {self.start_s} s, before its video: times are 0 or later")
        if self.end_s < self.start_s:
            raise AnnotationError(f"a segment ends ({self.end_s} s) before it starts ({self.start_s} s): swap the two")


@dataclass(frozen=True, order=True)
class Instance(Stretch):
    """One action in one video."""

    video_id: str
    label: str

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("video_id", "label"):
            if not getattr(self, name).strip():
                raise AnnotationError(f"an instance from {self.start_s} to {self.end_s} s has an empty {name}: fill it in")


@dataclass(frozen=True, kw_only=True)
class VideoTruth:
    """What is known of one video.

    Attributes:
        video_id: its name, as detections refer to it.
        subset: one of ``SUBSETS``; None where the form does not say.
        duration_s: its length in seconds; None where the form does not say.
        instances: its actions, in the file's order (some protocols depend on it).
        ambiguous: stretches of which nobody can say whether they show an action.
        resolution: ``320x240`` and the like.
        url: where it was published.
    """

    video_id: str
    subset: str | None = None
    duration_s: float | None = None
    instances: tuple[Instance, ...] = ()
    ambiguous: tuple[Stretch, ...] = ()
    resolution: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if self.subset is not None and self.subset not in SUBSETS:
            raise AnnotationError(f"the subset {self.subset!r} is unknown: use one of {', '.join(SUBSETS)}")
        if self.duration_s is not None and not 0 < self.duration_s < math.inf:
            raise AnnotationError(f"a duration of {self.duration_s} s is none: give the video's length in seconds")
        limit_s = math.inf if self.duration_s is None else self.duration_s
        for found in (*self.instances, *self.ambiguous):
            if found.end_s > limit_s + PAST_END_S or found.start_s > limit_s:
                raise AnnotationError(
                    f"a segment from {found.start_s} to {found.end_s} s lies past the video's end ({limit_s} s): "
                    "correct the one or the other"
                )
        strangers = {instance.video_id for instance in self.instances} - {self.video_id}
        if strangers:
            raise AnnotationError(f"an instance of {strangers.pop()} is listed under {self.video_id}: move it there")


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """A data set's truth: its videos in the file's order, no id twice."""

    videos: tuple[VideoTruth, ...]
    version: str = ""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for video in self.videos:
            if video.video_id in seen:
                raise AnnotationError(f"the video {video.video_id} is listed twice: put its instances under one entry")
            seen.add(video.video_id)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that occurs, sorted."""
        return tuple(sorted({instance.label for video in self.videos for instance in video.instances}))

    def subset(self, name: str) -> GroundTruth:
        """The videos of one subset.

        Raises:
            AnnotationError: none of ``SUBSETS`` is called so, or it has no video here.
        """
        kept = tuple(video for video in self.videos if video.subset == name)
        if not kept:
            there = sorted({video.subset or "none" for video in self.videos})
            raise AnnotationError(f"there is no video of the subset {name!r}: there are {', '.join(there) or 'no videos'}")
        return replace(self, videos=kept)


@dataclass(frozen=True, kw_only=True)
class TrimmedClip:
    """A short video that is one action from end to end, or background (``label`` None)."""

    video_id: str
    subset: str
    label: str | None
    duration_s: float

    def __post_init__(self) -> None:
        VideoTruth(video_id=self.video_id, subset=self.subset, duration_s=self.duration_s)  # the same rules


def read(path: str | os.PathLike[str]) -> GroundTruth:
    """Ground truth in any of the three forms, told apart by content; a folder is THUMOS's, subfolders included.

    Raises:
        AnnotationError: there is none, it is in no known form, or an entry cannot be true; the message says which.
    """
    path = Path(path)
    if path.is_dir():
        return _read_thumos(path)
    text = _text_of(path)
    if text.lstrip().startswith("{"):
        return _read_json(path, text)
    try:
        if set(COLUMNS) <= set(next(csv.reader(io.StringIO(text)), [])):
            return _read_csv(path, text)
    except csv.Error as error:
        raise AnnotationError(f"{path} is no CSV file that can be read ({error}): is a quotation mark missing?") from None
    raise AnnotationError(
        f"{path} is no ground truth that is known (it begins with {text[:40]!r}): give ActivityNet JSON, "
        f"a CSV file with the columns {','.join(COLUMNS)}, or the folder that holds THUMOS's text files"
    )


def write_activitynet(truth: GroundTruth, target: str | os.PathLike[str]) -> None:
    """Write ActivityNet's form, whole or not at all. Raises OSError where it cannot be written."""
    root = {"nodeName": "Root", "nodeId": 0, "parentName": None, "parentId": None}
    leaves = [
        {"nodeName": label, "nodeId": node, "parentName": "Root", "parentId": 0} for node, label in enumerate(truth.labels, 1)
    ]
    document = {
        "version": truth.version,
        "taxonomy": [root, *leaves],
        "database": {video.video_id: _entry(video) for video in truth.videos},
    }
    _write(Path(target), json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_csv(truth: GroundTruth, target: str | os.PathLike[str]) -> None:
    """Write rows ``video_id,label,start_s,end_s``, whole or not at all; ambiguous stretches have the label Ambiguous."""
    _write(Path(target), _rows_text(COLUMNS, ((i.video_id, i.label, i.start_s, i.end_s) for i in _with_ambiguous(truth))))


def write_thumos(truth: GroundTruth, folder: str | os.PathLike[str]) -> None:
    """Write THUMOS's form into a folder: a file for each class and subset that occurs, each whole or not at all.

    Raises:
        AnnotationError: a video has no subset, an id has a space in it, or two labels give one file name.
    """
    lines: dict[str, list[str]] = {}
    labels: dict[str, str] = {}
    endings = {subset: ending for ending, subset in THUMOS_ENDINGS.items()}
    subsets = {video.video_id: video.subset for video in truth.videos}
    for found in _with_ambiguous(truth):
        subset, name = subsets[found.video_id], camel_case(found.label)
        if subset is None or not name or re.search(r"\s", found.video_id):
            raise AnnotationError(
                f"{found.label!r} in {found.video_id!r} has no place in THUMOS's form, which needs a subset, "
                "a label with letters and an id without spaces: use another form"
            )
        if labels.setdefault(name, found.label) != found.label:
            raise AnnotationError(f"the labels {labels[name]!r} and {found.label!r} would share one file: rename one")
        lines.setdefault(f"{name}_{endings[subset]}.txt", []).append(f"{found.video_id} {found.start_s!r} {found.end_s!r}\n")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file_name, rows in lines.items():
        _write(folder / file_name, "".join(rows))


def write_clips(clips: Iterable[TrimmedClip], target: str | os.PathLike[str]) -> None:
    """Write rows ``video_id,subset,label,duration_s``; background has an empty label."""
    rows = ((clip.video_id, clip.subset, clip.label or "", clip.duration_s) for clip in clips)
    _write(Path(target), _rows_text(CLIP_COLUMNS, rows))


def read_clips(path: str | os.PathLike[str]) -> tuple[TrimmedClip, ...]:
    """What ``write_clips`` wrote.

    Raises:
        AnnotationError: a row cannot be true; the message says which.
    """
    path = Path(path)
    clips = []
    for where, row in _rows(path, _text_of(path), CLIP_COLUMNS):
        with _at(where):
            duration_s = _seconds(row["duration_s"])
            clip = TrimmedClip(
                video_id=row["video_id"], subset=row["subset"], label=row["label"] or None, duration_s=duration_s
            )
        clips.append(clip)
    return tuple(clips)


def camel_case(label: str) -> str:
    """A label as THUMOS writes its classes: ``long jump`` is ``LongJump``; capitals that are there stay."""
    words = re.findall(r"[^\W_]+", label)
    return "".join(word[0].upper() + word[1:] for word in words)


def _entry(video: VideoTruth) -> dict[str, Any]:
    """One video in ActivityNet's ``database``; what is not known is left out."""
    known = {"subset": video.subset, "duration": video.duration_s, "resolution": video.resolution, "url": video.url}
    entry: dict[str, Any] = {key: value for key, value in known.items() if value is not None}
    entry["annotations"] = [{"label": i.label, "segment": [i.start_s, i.end_s]} for i in video.instances]
    if video.ambiguous:
        entry["ambiguous"] = [[stretch.start_s, stretch.end_s] for stretch in video.ambiguous]
    return entry


def _with_ambiguous(truth: GroundTruth) -> Iterator[Instance]:
    for video in truth.videos:
        yield from video.instances
        for stretch in video.ambiguous:
            yield Instance(stretch.start_s, stretch.end_s, video.video_id, AMBIGUOUS)


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Report what goes wrong inside together with the place in the file."""
    try:
        yield
    except AnnotationError as error:
        raise AnnotationError(f"{where}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AnnotationError(
            f"{where} cannot be read ({type(error).__name__}: {error}): give it the form that the other entries have"
        ) from None


def _read_json(path: Path, text: str) -> GroundTruth:
    try:
        document = json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path} is broken JSON ({error}): download or write it again") from None
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from None
    if "results" in document:
        raise AnnotationError(f"{path} holds detections (it has 'results'): give the annotations, which have 'database'")
    # BMN's rewriting of ActivityNet 1.3 is the database alone
    database = document.get("database", document)
    if not isinstance(database, dict) or not all(isinstance(e, dict) and "annotations" in e for e in database.values()):
        raise AnnotationError(f"{path} is JSON, but not ActivityNet's: it needs 'database' with 'annotations' for each video")
    videos = []
    for video_id, entry in database.items():
        with _at(f"{path}: {video_id}"):
            videos.append(_video_of(video_id, entry))
    version = document.get("version", "") if "database" in document else ""
    return GroundTruth(videos=tuple(videos), version=str(version))


def _video_of(video_id: str, entry: dict[str, Any]) -> VideoTruth:
    duration = entry.get("duration", entry.get("duration_second"))
    instances = []
    for index, annotation in enumerate(entry["annotations"]):
        with _at(f"annotation {index}"):
            if not isinstance(annotation["segment"], list):
                raise AnnotationError(f"{annotation['segment']!r} is no segment: give [start, end]")
            start, end = annotation["segment"]
            instances.append(Instance(_seconds(start), _seconds(end), video_id, annotation["label"]))
    return VideoTruth(
        video_id=video_id,
        subset=entry.get("subset"),
        duration_s=None if duration is None else _seconds(duration),
        instances=tuple(instances),
        ambiguous=tuple(Stretch(_seconds(start), _seconds(end)) for start, end in entry.get("ambiguous", ())),
        resolution=entry.get("resolution"),
        url=entry.get("url"),
    )


def _read_csv(path: Path, text: str) -> GroundTruth:
    instances = []
    for where, row in _rows(path, text, COLUMNS):
        if "score" in row:
            raise AnnotationError(f"{path} holds detections (it has a column 'score'): give the annotations")
        with _at(where):
            instances.append(Instance(_seconds(row["start_s"]), _seconds(row["end_s"]), row["video_id"], row["label"]))
    return GroundTruth(videos=_grouped(instances, {}))


def _read_thumos(folder: Path) -> GroundTruth:
    files = sorted(p for p in folder.rglob("*.txt") if p.stem.rpartition("_")[2] in THUMOS_ENDINGS and p.stem.count("_"))
    if not files:
        raise AnnotationError(f"{folder} holds no ground truth (such as LongJump_val.txt): give the folder of the text files")
    instances: list[Instance] = []
    subsets: dict[str, str] = {}
    for path in files:
        label, _, ending = path.stem.rpartition("_")
        for number, line in enumerate(_text_of(path).splitlines(), 1):
            fields = line.split()
            if not fields:
                continue
            where = f"{path}, line {number}"
            if len(fields) != 3:
                raise AnnotationError(f"{where} has {len(fields)} fields ({line!r}): it needs video_id, start and end")
            video_id, start, end = fields
            with _at(where):
                instances.append(Instance(_seconds(start), _seconds(end), video_id, label))
            if subsets.setdefault(video_id, THUMOS_ENDINGS[ending]) != THUMOS_ENDINGS[ending]:
                raise AnnotationError(f"{where}: {video_id} is in two subsets: keep it in one")
    return GroundTruth(videos=_grouped(instances, subsets))


def _grouped(instances: Sequence[Instance], subsets: dict[str, str]) -> tuple[VideoTruth, ...]:
    """Videos in the order of their first mention, their instances in the file's order."""
    by_video: dict[str, list[Instance]] = {}
    for instance in instances:
        by_video.setdefault(instance.video_id, []).append(instance)
    return tuple(
        VideoTruth(
            video_id=video_id,
            subset=subsets.get(video_id),
            instances=tuple(found for found in own if found.label != AMBIGUOUS),
            ambiguous=tuple(Stretch(found.start_s, found.end_s) for found in own if found.label == AMBIGUOUS),
        )
        for video_id, own in by_video.items()
    )


def _rows(path: Path, text: str, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text))
    missing = set(columns) - set(reader.fieldnames or ())
    if missing:
        raise AnnotationError(f"{path} has no column {sorted(missing)[0]!r}: it needs {','.join(columns)}")
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise AnnotationError(f"{where} has not as many fields as the first line: quote what has a comma in it")
        yield where, row


def _rows_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise AnnotationError(f"{value!r} is no time: give seconds as a number")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise AnnotationError(f"{value!r} is no time: give seconds as a number") from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that is there twice would silently lose the first one's annotations."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise AnnotationError(f"{twin!r} is listed twice: put what belongs together under one entry")
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise AnnotationError(f"{path} is no text in UTF-8: give JSON, CSV or THUMOS's text files") from None
    except OSError as error:
        raise AnnotationError(f"cannot read {path} ({error.strerror}): check the path to the annotations") from None


def _write(target: Path, text: str) -> None:
    with written_whole(target) as part:
        part.write_text(text, encoding="utf-8", newline="")
