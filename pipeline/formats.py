"""The forms in which detections are written: what each is called, and for whom it is. Read only, and light: the help needs it.

Tables and THUMOS's text are made here; what players, editors and annotation tools read, in ``formats_subtitles.py``,
``formats_editing.py`` and ``formats_annotation.py``. A page (``html``) is made by ``report.py``.

- ``json`` is ActivityNet's results form; what made it goes under ``external_data``. ``jsonl`` has one detection a line,
  ``csv`` the columns of a ground truth file and ``score``, and no cell that a spreadsheet takes for a formula.
- ``thumos`` is what THUMOS's evaluation reads, ``video_id start end class score`` a line. Where all labels are among
  THUMOS14's 20 classes they stand as the numbers that it knows them by, elsewhere as THUMOS writes names: ``long jump`` is
  ``LongJump``.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tal_run.extractors.spreadsheets import as_cell
from tal_run.pipeline import formats_annotation, formats_editing, formats_subtitles
from tal_run.pipeline.formats_base import FormatError, FoundVideo, printable_name, writable_text

if TYPE_CHECKING:
    from tal_run.models import Detection

COLUMNS = ("video_id", "label", "start_s", "end_s", "score")
PAGE = "html"


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a text may have to know beside the videos.

    Attributes:
        target: where it will lie, so that it can link the video; None: nowhere.
        made_by: all that made the results.
    """

    target: Path | None = None
    made_by: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One form.

    Attributes:
        ending: of files, with the dot; the longest that fits a name tells its format.
        about: what it is, in a few words.
        render: makes the text.
        is_of_one: holds one video a file.
        counts_frames: needs the frames a second.
        companion: the ending of a second file that is needed beside it, and what makes its text.
    """

    ending: str
    about: str
    render: Callable[[Sequence[FoundVideo], Place], str]
    is_of_one: bool = False
    counts_frames: bool = False
    companion: tuple[str, Callable[[Sequence[FoundVideo]], str]] | None = None


def _of_one(render: Callable[[FoundVideo], str]) -> Callable[[Sequence[FoundVideo], Place], str]:
    return lambda videos, place: render(videos[0])


def activitynet(videos: Sequence[FoundVideo], place: Place) -> str:
    """ActivityNet's results form; times in seconds with three decimals, scores with six."""
    from importlib.metadata import version

    by_video = {
        writable_text(video.name): [
            {"label": row["label"], "score": row["score"], "segment": [row["start_s"], row["end_s"]]}
            for row in map(_rounded, video.detections)
        ]
        for video in videos
    }
    document = {"version": f"tal-run {version('tal-run')}", "results": by_video, "external_data": dict(place.made_by)}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def json_lines(videos: Sequence[FoundVideo], place: Place) -> str:
    """One detection a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(videos))


def table(videos: Sequence[FoundVideo], place: Place) -> str:
    """Comma-separated, with a heading."""
    return _table(videos, COLUMNS)


def truth_table(videos: Sequence[FoundVideo]) -> str:
    """What is true, as ``eval --ground-truth`` and ``train --annotations`` read it: a table without scores."""
    return _table(videos, [column for column in COLUMNS if column != "score"])


def _table(videos: Sequence[FoundVideo], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in _rows(videos):
        writer.writerow({**row, "video_id": as_cell(row["video_id"]), "label": as_cell(row["label"])})
    return text.getvalue()


def thumos(videos: Sequence[FoundVideo], place: Place) -> str:
    """THUMOS's text."""
    from tal_run.eval.annotations import camel_case
    from tal_run.eval.multithumos import THUMOS_CLASSES

    names: dict[str, str] = {}
    labels: dict[str, str] = {}
    for label in dict.fromkeys(found.label for video in videos for found in video.detections):
        names[label] = name = writable_text(camel_case(label))
        if not name:
            raise FormatError(
                f"the label {printable_name(label)!r} has no letter, and THUMOS's text needs one: use another format"
            )
        if labels.setdefault(name, label) != label:
            raise FormatError(
                f"THUMOS's text would call both {printable_name(labels[name])!r} and {printable_name(label)!r} {name}: "
                "use another format, or one of them (--label)"
            )
    if set(names.values()) <= set(THUMOS_CLASSES):
        names = {label: str(THUMOS_CLASSES.index(name) + 1) for label, name in names.items()}
    lines = []
    for video in videos:
        if re.search(r"\s", video.name) or not video.name:
            raise FormatError(
                f"{printable_name(video.name)!r} has a space, and THUMOS's text no place for it: use another format"
            )
        lines += [
            f"{writable_text(video.name)} {found.start_s:.3f} {found.end_s:.3f} {names[found.label]} {found.score:.6f}\n"
            for found in video.detections
        ]
    return "".join(lines)


def _rows(videos: Sequence[FoundVideo]) -> list[dict[str, Any]]:
    return [{"video_id": writable_text(video.name), **_rounded(found)} for video in videos for found in video.detections]


def _rounded(found: Detection) -> dict[str, Any]:
    return {
        "label": writable_text(found.label),
        "start_s": round(found.start_s, 3),
        "end_s": round(found.end_s, 3),
        "score": round(found.score, 6),
    }


def _eaf(videos: Sequence[FoundVideo], place: Place) -> str:
    return formats_annotation.eaf(videos[0], beside=place.target)


FORMATS: dict[str, Format] = {
    "json": Format(ending=".json", about="ActivityNet's results, with all that made them", render=activitynet),
    "jsonl": Format(ending=".jsonl", about="one detection a line, as JSON", render=json_lines),
    "csv": Format(ending=".csv", about="a table, for spreadsheets and scripts", render=table),
    "thumos": Format(ending=".txt", about="THUMOS's evaluation", render=thumos),
    "vtt": Format(
        ending=".vtt",
        about="subtitles: players in web pages, VLC, mpv",
        render=_of_one(formats_subtitles.webvtt),
        is_of_one=True,
    ),
    "srt": Format(ending=".srt", about="subtitles: every other player", render=_of_one(formats_subtitles.srt), is_of_one=True),
    "chapters": Format(
        ending=".chapters.vtt",
        about="chapters: players in web pages",
        render=_of_one(formats_subtitles.webvtt_chapters),
        is_of_one=True,
    ),
    "ffmetadata": Format(
        ending=".ffmeta", about="chapters: FFmpeg, mpv", render=_of_one(formats_subtitles.ffmetadata), is_of_one=True
    ),
    "edl": Format(
        ending=".edl",
        about="cuts and markers: Resolve, Premiere, Avid",
        render=_of_one(formats_editing.edl),
        is_of_one=True,
        counts_frames=True,
    ),
    "eaf": Format(ending=".eaf", about="tiers: ELAN", render=_eaf, is_of_one=True),
    "label-studio": Format(
        ending=".label-studio.json",
        about="tasks with predictions: Label Studio",
        render=lambda videos, place: formats_annotation.label_studio(videos),
        counts_frames=True,
        companion=(".config.xml", formats_annotation.label_studio_config),
    ),
    "cvat": Format(
        ending=".xml",
        about="tracks: CVAT for video 1.1",
        render=_of_one(formats_annotation.cvat),
        is_of_one=True,
        counts_frames=True,
        companion=(".labels.json", formats_annotation.cvat_labels),
    ),
}


def by_ending(name: str) -> str | None:
    """The format that a file's name asks for, if any."""
    endings = {form.ending: format_name for format_name, form in FORMATS.items()} | {f".{PAGE}": PAGE, ".htm": PAGE}
    fitting = [ending for ending in endings if name.lower().endswith(ending)]
    return endings[max(fitting, key=len)] if fitting else None


def rendered(format_name: str, videos: Sequence[FoundVideo], place: Place | None = None) -> str:
    """The text of a file in one of ``FORMATS``.

    Raises:
        FormatError: the format cannot hold these detections.
    """
    form = FORMATS[format_name]
    check(format_name, videos)
    return form.render(videos, place or Place())


def check(format_name: str, videos: Sequence[FoundVideo]) -> None:
    """Whether a format can hold so many videos.

    Raises:
        FormatError: it holds one.
    """
    if FORMATS[format_name].is_of_one and not videos:
        raise FormatError(f"a file of {format_name} holds one video, and there is none to write")
    if FORMATS[format_name].is_of_one and len(videos) > 1:
        raise FormatError(
            f"a file of {format_name} holds one video, and there are {len(videos)}: write json, and then a file for each "
            f"(tal-run convert found.json -o folder/ --format {format_name})"
        )


def companion_of(format_name: str, target: Path) -> Path | None:
    """The second file of a format, beside the first; None: it has none."""
    form = FORMATS.get(format_name)
    if form is None or form.companion is None:
        return None
    name = target.name
    stem = name[: -len(form.ending)] if name.lower().endswith(form.ending) else target.stem
    return target.with_name(stem + form.companion[0])
