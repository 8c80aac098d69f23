"""From files to a page: detections in any form, the videos that they are of, what is annotated there.

Each is untrusted. What a file of ``tal-run detect`` says of itself (``external_data``) is used where it is what it should be,
and passed over where it is not; of the name of a video that stands there, only the last part counts.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.annotations import GroundTruth, Instance
from tal_run.eval.detections import read_detections
from tal_run.eval.protocols import EvaluationError
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.video import MAX_FPS
from tal_run.extractors.video_errors import VIDEO_ENDINGS
from tal_run.extractors.weights import sha256_of
from tal_run.models import Detection, best_first
from tal_run.pipeline import formats_reading, outputs
from tal_run.pipeline.batch_store import MARK_FILE, RESULTS
from tal_run.pipeline.detector import Curve
from tal_run.pipeline.formats_base import FormatError, FoundVideo
from tal_run.pipeline.outputs import OutputError
from tal_run.pipeline.report import ReportVideo

STEP = "reading results"
ENDINGS = (".json", ".jsonl", ".csv", ".txt")  # of files that may hold detections
MOST_SCORES = 10_000_000  # of a curve
LONGEST_S = 1e7  # a video of four months


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """One video of one file."""

    name: str
    source: Path
    detections: list[Detection]
    card: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is to be shown, and what is to be said of it.

    Attributes:
        videos: for the page.
        made_by: ``external_data`` of the one file that was read, without scores over time; empty of several.
        whole: all that the files say of themselves, as one: what each says of its videos, and the rest by file.
        backbone: the network's name, where it is the same for all.
        notes: files that could not be read, true videos without detections.
    """

    videos: list[ReportVideo]
    made_by: Mapping[str, Any]
    whole: Mapping[str, Any]
    backbone: str
    notes: list[str]


def gather(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    videos: Sequence[str | os.PathLike[str]] = (),
    truth: GroundTruth | None = None,
    verify: bool = True,
    rate: Fraction | None = None,
    hook: Hook = ignore_progress,
) -> Found:
    """What lies in files of detections, and in folders of such files, with the videos and the truth that belong to it.

    Args:
        inputs: files, and folders that are searched with all below them.
        videos: where the videos lie, files or folders; without, beside the detections.
        truth: what is annotated.
        verify: read the videos, to see whether they are those that the detections were made of.
        rate: frames a second, for forms that count frames; None: their video's.
        hook: told of files.

    Raises:
        EvaluationError: a file that was given holds no detections, or none of a folder's does.
        OutputError: a video that was given is not there.
    """
    places = _Places(videos)
    listed, notes, cards = [], list[str](), dict[Path, Mapping[str, Any]]()
    files = list(_files(inputs))
    for number, (path, is_given) in enumerate(files):
        hook(STEP, completed=number, total=len(files))
        try:
            card = _card(path)
            listed += (
                _read_back(path, places, rate, alone=len(files) == 1) if formats_reading.is_form(path) else _listed(path, card)
            )
            cards[path] = card
        except (EvaluationError, FormatError) as error:
            if is_given:
                raise
            notes.append(f"left out: {error}")
    hook(STEP, completed=len(files), total=len(files))
    if not listed:
        raise EvaluationError(f"there are no detections in {', '.join(map(str, inputs))}" + (f" ({notes[0]})" if notes else ""))
    by_video = {video.video_id: video for video in truth.videos} if truth else {}
    names = _named(listed)
    shown = []
    for name, entry in zip(names, listed, strict=True):
        true = by_video.get(entry.name)
        place = places.find(entry, alone=len(listed) == 1)
        shown.append(
            _shown(name, entry, true.instances if true else (), true.duration_s if true else None, place, verify=verify)
        )
    if truth and not any(entry.name in by_video for entry in listed):
        notes.append(
            f"the ground truth says nothing of these videos: it names {', '.join(list(by_video)[:3])}, "
            f"the detections {', '.join(entry.name for entry in listed[:3])}"
            + (" (a video is called as its file without the ending)" if _have_endings(by_video) else "")
        )
    backbones = {_text(_part(card, "backbone").get("name")) for card in cards.values()}
    return Found(
        videos=shown,
        made_by=_without_curves(next(iter(cards.values()))) if len(cards) == 1 else {},
        whole=_joined(cards, names, listed),
        backbone=backbones.pop() if len(backbones) == 1 else "",
        notes=notes,
    )


def _files(inputs: Sequence[str | os.PathLike[str]]) -> Iterator[tuple[Path, bool]]:
    """Files, and whether each was given by name; no folder is entered twice, and no link to one is followed.

    Forms of players and tools count in a folder only where no other has detections: they mostly lie beside what they are of.
    """
    for given in map(Path, inputs):
        if not given.is_dir():
            yield given, True
            continue
        is_batch = (given / MARK_FILE).is_file() and (given / RESULTS).is_dir()  # whose table says the same once more
        inside = list[Path]()
        for folder, folders, names in os.walk(given / RESULTS if is_batch else given):
            folders.sort()
            inside += [path for name in sorted(names) if not name.startswith(".") and _is_file(path := Path(folder, name))]
        for endings in (ENDINGS, formats_reading.ENDINGS):
            if fitting := [path for path in inside if path.suffix.lower() in endings]:
                yield from ((path, False) for path in fitting)
                break


def _card(path: Path) -> Mapping[str, Any]:
    """``external_data`` of ActivityNet's form; empty of others."""
    if path.suffix.lower() not in (".json", ""):
        return {}
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # who reads the detections says what is wrong
    return _part(document, "external_data") if isinstance(document, dict) else {}


def _listed(path: Path, card: Mapping[str, Any]) -> list[_Listed]:
    """The videos of one file; those without a detection too.

    Raises:
        EvaluationError: it holds none, or what cannot be true.
    """
    table = read_detections(path)
    by_video: list[list[Detection]] = [[] for _ in table.video_ids]
    for row in range(len(table)):
        start_s, end_s = (float(value) for value in table.segments[row])
        label, score = table.labels[table.classes[row]], float(table.scores[row])
        if not _is_possible(start_s, end_s, score):  # asked first: to find a place, all rows before it are looked at
            raise _impossible(start_s, end_s, label, score, table.place(row))
        by_video[int(table.videos[row])].append(Detection(start_s, end_s, label, score))
    cards = _part(card, "videos")
    return [
        _Listed(
            name=name,
            source=path,
            detections=best_first(found),
            card=_part(cards, name),
        )
        for name, found in zip(table.video_ids, by_video, strict=True)
    ]


def _is_possible(start_s: float, end_s: float, score: float) -> bool:
    return 0 <= start_s < end_s <= LONGEST_S and math.isfinite(score)


def _impossible(start_s: float, end_s: float, label: str, score: float, where: str) -> EvaluationError:
    return EvaluationError(
        f"{where}: {label} from {start_s:g} to {end_s:g} s with score {score:g} cannot be shown: "
        "a segment begins at 0 or later and ends after that, and a score is a number"
    )


def _read_back(path: Path, places: _Places, rate: Fraction | None, *, alone: bool) -> list[_Listed]:
    """The videos of a file in a form of players, editors or annotation tools.

    Raises:
        EvaluationError: it cannot be read, or holds what cannot be true.
        FormatError: it counts frames, and how many a second is not known.
    """

    def rate_of(name: str, file: str) -> Fraction:
        video = places.find(_Listed(name=name, source=path, detections=[], card={"file": file}), alone=alone)
        if rate is None and video is not None:
            from tal_run.extractors.video import probe

            return outputs.rate_of(probe(video))
        return rate or FoundVideo(name=name, detections=()).known_rate

    videos = formats_reading.read(path, rate_of=rate_of)
    for video in videos:
        for number, found in enumerate(video.detections, 1):
            if not _is_possible(found.start_s, found.end_s, found.score):
                where = f"{path}, segment {number} of {video.name}"
                raise _impossible(found.start_s, found.end_s, found.label, found.score, where)
    # subtitles do not say of which video they are; the one that is given is meant
    only = places.only if alone and path.suffix.lower() in formats_reading.NAMELESS else None
    return [
        _Listed(
            name=only.stem if only else video.name,
            source=path,
            detections=best_first(video.detections),
            card={"file": video.file},
        )
        for video in videos
    ]


def _named(listed: Sequence[_Listed]) -> list[str]:
    """A name for each; those that share one get their files' too, and what is alike even then a number."""
    counts = Counter(entry.name for entry in listed)
    names = [f"{entry.name} ({entry.source.name})" if counts[entry.name] > 1 else entry.name for entry in listed]
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return unique


def _shown(
    name: str, entry: _Listed, truth: Sequence[Instance], duration_s: float | None, path: Path | None, *, verify: bool
) -> ReportVideo:
    known_s = _number(entry.card.get("duration_s")) or duration_s
    notes = [text for note in _list(entry.card.get("notes"))[:20] if (text := _text(note))]
    if path is not None and verify:
        wanted = _text(entry.card.get("sha256"))
        if wanted and wanted != _digest(path):
            notes.append(f"{path.name} is not the file that these detections were made of (its sha256 is another one)")
        known_s = known_s or _probed_s(path)
    last_s = max([*(found.end_s for found in entry.detections), *(true.end_s for true in truth)], default=1.0)
    return ReportVideo(
        name=name,
        path=path,
        duration_s=known_s or last_s,
        detections=entry.detections,
        truth=truth,
        curves=_curves(entry.card),
        boundaries_s=_boundaries(entry.card),
        notes=notes,
        trouble=f"The video {entry.name} was not found beside {entry.source.name}: --video says where it lies",
        file=Path(_text(entry.card.get("file"))).name,
        rate=_rate(entry.card.get("fps")),
        size=_size(entry.card.get("size")),
    )


def _have_endings(names: Iterable[str]) -> bool:
    return any(name.lower().endswith(tuple(VIDEO_ENDINGS)) for name in names)


def _digest(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None


def _probed_s(path: Path) -> float | None:
    """A video's length, as far as its file says."""
    from tal_run.extractors.video import probe

    try:
        return probe(path).duration_s
    except TalRunError:
        return None


class _Places:
    """Where videos lie."""

    def __init__(self, videos: Sequence[str | os.PathLike[str]]) -> None:
        self._files: list[Path] = []
        for given in map(Path, videos):
            if given.is_dir():
                inside = [path for path in sorted(given.rglob("*")) if path.suffix.lower() in VIDEO_ENDINGS]
                if not inside:
                    raise OutputError(f"{given} holds no video: check --video")
                self._files += inside
            elif given.is_file():
                self._files.append(given)
            else:
                raise OutputError(f"there is no video {given}: check --video")
        self._given = len(videos) > 0

    @property
    def only(self) -> Path | None:
        """The one video that was given, if it was one."""
        return self._files[0] if self._given and len(self._files) == 1 else None

    def find(self, entry: _Listed, *, alone: bool) -> Path | None:
        """The file of one video, if it is where it may be."""
        called = Path(_text(entry.card.get("file"))).name
        if self._given:
            if alone and len(self._files) == 1:
                return self._files[0]
            wanted = {called, entry.name} - {""}
            near = (
                path
                for path in self._files
                if {path.name, path.stem} & wanted or path.with_suffix("").as_posix().endswith(f"/{entry.name}")
            )
            return next(near, None)
        folder = entry.source.parent
        for name in (called, *(Path(entry.name).name + ending for ending in sorted(VIDEO_ENDINGS))):
            if name and _is_file(folder / name):
                return folder / name
        return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


# ---- what a file says of itself, taken as it should be or not at all ----


def _part(card: object, name: str) -> Mapping[str, Any]:
    part = card.get(name) if isinstance(card, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) and "\0" not in value else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: object) -> float | None:
    """A length in seconds."""
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= LONGEST_S
    return float(value) if is_one else None  # type: ignore[arg-type]


def _rate(value: object) -> Fraction | None:
    """Frames a second, such as 30000/1001."""
    if not re.fullmatch(r"\d{1,7}(/[1-9]\d{0,6})?", _text(value)):
        return None
    rate = Fraction(_text(value))
    return rate if 0 < rate <= MAX_FPS else None


def _size(value: object) -> tuple[int, int] | None:
    """Width and height in pixels."""
    sides = [side for side in _list(value) if type(side) is int and 0 < side < 1 << 16]
    return (sides[0], sides[1]) if len(sides) == len(_list(value)) == 2 else None


def _joined(cards: Mapping[Path, Mapping[str, Any]], names: Sequence[str], listed: Sequence[_Listed]) -> Mapping[str, Any]:
    """What several files say of themselves, as one; what a single one says, as it is."""
    if len(cards) == 1:
        return next(iter(cards.values()))
    said = {path.name: {key: value for key, value in card.items() if key != "videos"} for path, card in cards.items()}
    videos = {name: entry.card for name, entry in zip(names, listed, strict=True) if entry.card}
    return {"sources": {name: card for name, card in said.items() if card}, "videos": videos}


def _curves(card: Mapping[str, Any]) -> dict[str, Curve]:
    curves = {}
    for label in _part(card, "curves"):
        curve = _part(_part(card, "curves"), label)
        scores, start_s, step_s = _list(curve.get("scores")), curve.get("start_s"), _number(curve.get("step_s"))
        if step_s and isinstance(start_s, (int, float)) and abs(start_s) <= LONGEST_S and 0 < len(scores) <= MOST_SCORES:
            values = _numbers(scores)
            if values is not None:
                curves[label] = Curve(start_s=float(start_s), step_s=step_s, scores=values)
    return curves


def _numbers(values: Sequence[object]) -> NDArray[np.float64] | None:
    try:
        numbers = np.array(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        return None
    return numbers if numbers.ndim == 1 and np.isfinite(numbers).all() else None


def _boundaries(card: Mapping[str, Any]) -> NDArray[np.float64]:
    listed = [at_s for value in _list(card.get("boundaries_s"))[:MOST_SCORES] if (at_s := _number(value))]
    return np.array(listed, np.float64)


def _without_curves(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """What made the results, as a person can read it."""
    videos = {
        name: {key: value for key, value in entry.items() if key not in ("curves", "boundaries_s")}
        for name, entry in _part(card, "videos").items()
        if isinstance(entry, Mapping)
    }
    return {**card, "videos": videos} if videos else card
