"""Trimmed moments: clips, or stretches of videos, that are one action from end to end, in the forms they are published in.

=================  =====================================================  ============================================
form               looks like                                             moments
=================  =====================================================  ============================================
ground truth       ActivityNet JSON, ``video_id,label,start_s,end_s``,    every instance, from its start to its end
                   THUMOS's folder (``annotations.read``)
made clips         ``video_id,subset,label,duration_s``                   every clip that has a label
Kinetics           ``label,youtube_id,time_start,time_end,split``         every clip, called YOUTUBE_000012_000022
UCF101             ``trainlist01.txt``: ``Archery/v_Archery_g08_c01.avi`` every clip; its folder is its label
=================  =====================================================  ============================================

``read_moments`` goes by content. A folder is searched for Kinetics' and UCF101's training lists, or else is THUMOS's.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tal_run.eval.annotations import (
    CLIP_COLUMNS,
    SUBSETS,
    AnnotationError,
    GroundTruth,
    Instance,
    VideoTruth,
    read,
    read_clips,
)
from tal_run.eval.clip_lists import KINETICS_COLUMNS, KINETICS_SPLITS


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One action.

    Attributes:
        video_id: of the clip, or of the video that it is part of.
        label: the action.
        start_s: where it starts in that video; None, with ``end_s``: it is all of it.
        end_s: where it ends.
        subset: one of ``SUBSETS``; None where the form does not say.
    """

    video_id: str
    label: str
    start_s: float | None = None
    end_s: float | None = None
    subset: str | None = None


def read_moments(path: str | os.PathLike[str]) -> tuple[Moment, ...]:
    """Moments in any of the forms, in the file's order.

    Raises:
        AnnotationError: there are none, or an entry cannot be true; the message says which.
    """
    path = Path(path)
    if path.is_dir():
        lists = _lists_in(path)
        listed = (moment for each in lists for moment in _of_list(each))
        found = tuple(dict.fromkeys(listed)) if lists else moments_of(read(path))  # UCF101's lists name clips again
    else:
        found = _of_file(path)
    if not found:
        raise AnnotationError(f"{path} holds no moments: give clips, or stretches of videos, with a label each")
    return found


def moments_of(truth: GroundTruth) -> tuple[Moment, ...]:
    """Every instance of a ground truth."""
    return tuple(
        Moment(video_id=video.video_id, label=found.label, start_s=found.start_s, end_s=found.end_s, subset=video.subset)
        for video in truth.videos
        for found in video.instances
    )


def truth_of(path: str | os.PathLike[str]) -> GroundTruth:
    """Ground truth, or the clips of a list as videos of one action each, for methods that need no times.

    How long a clip is, is not taken from the list: its instance is a second that stands for all of it.

    Raises:
        AnnotationError: it is neither, or an entry cannot be true.
    """
    if not is_clip_list(path):
        return read(path)
    labels: dict[str, dict[str, str | None]] = {}
    for moment in read_moments(path):
        labels.setdefault(moment.video_id, {}).setdefault(moment.label, moment.subset)
    return GroundTruth(
        videos=tuple(
            VideoTruth(
                video_id=video_id,
                subset=next(iter(found.values())),
                instances=tuple(Instance(0.0, 1.0, video_id, label) for label in found),
            )
            for video_id, found in labels.items()
        )
    )


def is_clip_list(path: str | os.PathLike[str]) -> bool:
    """Whether it lists trimmed clips, in one of the forms that ``annotations.read`` does not know."""
    path = Path(path)
    if path.is_dir():
        return bool(_lists_in(path))
    if not path.is_file():
        return False
    first = _first_line(path)
    columns = set(next(csv.reader([first]), []))
    return columns >= set(CLIP_COLUMNS) or columns >= KINETICS_COLUMNS or _names_clip(first)


def to_learn_from(moments: Sequence[Moment], subset: str | None = None) -> tuple[Moment, ...]:
    """The moments of a subset: of the one asked for or, if none is, of training or, without, of validation.

    Those whose form does not say of which subset they are are of any.

    Raises:
        AnnotationError: what there is is of other subsets.
    """
    there = {moment.subset for moment in moments}
    if subset == "all" or there == {None}:
        return tuple(moments)
    chosen = subset or next((name for name in SUBSETS[:2] if name in there), None)
    kept = tuple(moment for moment in moments if moment.subset in (chosen, None))
    if not kept and subset:
        others = ", ".join(sorted(name for name in there if name))
        raise AnnotationError(f"there are no moments of the subset {subset!r}, but of {others}: choose among them, or all")
    if not kept:
        raise AnnotationError(
            "there are only moments to test on (subset testing): if they are to learn from, say --moment-subset all"
        )
    return kept


def _of_file(path: Path) -> tuple[Moment, ...]:
    first = _first_line(path)
    columns = set(next(csv.reader([first]), []))
    if columns >= set(CLIP_COLUMNS):
        return tuple(
            Moment(video_id=clip.video_id, label=clip.label, subset=clip.subset) for clip in read_clips(path) if clip.label
        )
    if columns >= KINETICS_COLUMNS or _names_clip(first):
        return tuple(_of_list(path))
    return moments_of(read(path))


def _lists_in(folder: Path) -> list[Path]:
    """Kinetics' CSV files and UCF101's training lists."""
    places = [folder, folder / "annotations", folder / "ucfTrainTestlist"]
    lists = [path for place in places for path in sorted(place.glob("trainlist*.txt"))]
    tables = [path for place in places for path in sorted(place.glob("*.csv"))]
    return lists + [path for path in tables if set(next(csv.reader([_first_line(path)]), [])) >= KINETICS_COLUMNS | {"label"}]


def _of_list(path: Path) -> Iterator[Moment]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    if path.suffix.lower() != ".csv":
        seen: set[str] = set()
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words:
                continue
            if not _names_clip(line):
                raise AnnotationError(f"{path}, line {number} names no clip ({line[:40]!r}): it needs CLASS/CLIP.avi")
            clip = PurePosixPath(words[0])
            if clip.stem not in seen:
                seen.add(clip.stem)
                yield Moment(video_id=clip.stem, label=clip.parent.name, subset="training")
        return
    rows = csv.DictReader(io.StringIO(text))
    if "label" not in (rows.fieldnames or ()):
        raise AnnotationError(f"{path} has no column 'label': give the list that says what the clips show")
    try:
        for row in rows:
            start, end = (int(float(row[name])) for name in ("time_start", "time_end"))
            name = f"{row['youtube_id']}_{start:06d}_{end:06d}"
            if not row["label"]:
                raise ValueError("no label")
            yield Moment(video_id=name, label=row["label"], subset=KINETICS_SPLITS.get(row.get("split") or ""))
    except (TypeError, ValueError, OverflowError, csv.Error) as error:
        raise AnnotationError(f"{path}, line {rows.line_num}: no clip ({error}): correct or remove it") from error


def _names_clip(line: str) -> bool:
    """Whether it is a line of UCF101's lists: ``Archery/v_Archery_g08_c01.avi 1``."""
    words = line.split()
    return 1 <= len(words) <= 2 and len(PurePosixPath(words[0]).parts) == 2 and words[0].lower().endswith(".avi")


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.readline(10_000)
    except OSError as error:
        raise AnnotationError(f"cannot read {path} ({error.strerror}): check the path to the moments") from None
