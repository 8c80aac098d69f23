"""Detections as files and rows. Every file is written to a temporary name and renamed: it is whole or not there.

``json`` is ActivityNet's results form; what made it goes under ``external_data``. ``csv`` has the columns of a ground
truth file and ``score``; ``jsonl`` has one detection a line; ``html`` is a page to look at (``report.py``).
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.files import written_whole
from tal_run.extractors.two_streams import FlowConfig
from tal_run.extractors.video_errors import VIDEO_ENDINGS
from tal_run.extractors.weights import sha256_of
from tal_run.models import Detection
from tal_run.pipeline.detector import Detector, VideoResult
from tal_run.pipeline.query import QueryMatch

FORMATS = ("json", "jsonl", "csv", "html")
COLUMNS = ("video_id", "label", "start_s", "end_s", "score")

Results = Mapping[str, Sequence[Detection]]


class OutputError(TalRunError):
    """A result that cannot be written where it was asked to be."""


def video_ids(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A name for each video, no two alike: its file's stem.

    Videos that share a stem go by their paths below the folder that all have in common; where that leaves two alike, with
    their endings. The others keep their stems, so that a newcomer renames none but its namesakes.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - no "..", which leads out of folders; links stay
    common = Path(os.path.commonpath([path.parent for path in absolute])) if absolute else Path()
    relative = [path.relative_to(common) for path in absolute]
    # of each video, what it may be called, the shortest first; the last is its own for sure
    forms = [[path.stem, path.with_suffix("").as_posix(), path.as_posix()] for path in relative]
    while True:
        counts = Counter(names[0] for names in forms)
        alike = [names for names in forms if counts[names[0]] > 1 and len(names) > 1]
        if not alike:
            return [names[0] for names in forms]
        for names in alike:
            del names[0]


def writable_text(name: str) -> str:
    """A name that can be written as UTF-8: bytes that are none in it become ``\\udcff`` and the like."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def format_of(target: Path) -> str:
    """The format that a file's ending asks for.

    Raises:
        OutputError: it asks for none that is known.
    """
    ending = target.suffix.lstrip(".").lower()
    if is_stream(target):
        return "json"
    if ending not in FORMATS:
        raise OutputError(f"{target} has no ending that names a format ({', '.join(FORMATS)}): give it one, or --format")
    return ending


def videos_in(inputs: Sequence[str]) -> list[str]:
    """The given files, and every video in the given folders and their subfolders, sorted.

    Raises:
        OutputError: a folder holds no video.
    """
    found: list[str] = []
    for entry in inputs:
        if not Path(entry).is_dir():
            found.append(entry)
            continue
        inside = sorted(str(path) for path in Path(entry).rglob("*") if path.suffix.lower() in VIDEO_ENDINGS)
        if not inside:
            raise OutputError(f"{entry} holds no video ({', '.join(sorted(VIDEO_ENDINGS))})")
        found += inside
    return found


def rendered(format_name: str, results: Results, external_data: Mapping[str, Any] | None = None) -> str:
    """The text of a file in one of ``FORMATS``; times in seconds with three decimals, scores with six."""
    if format_name == "json":
        return _activitynet(results, external_data or {})
    rows = [
        {"video_id": writable_text(video_id), **_rounded(found)}
        for video_id, detections in results.items()
        for found in detections
    ]
    if format_name == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _activitynet(results: Results, external_data: Mapping[str, Any]) -> str:
    """ActivityNet's results form."""
    by_video = {
        writable_text(video_id): [
            {"label": row["label"], "score": row["score"], "segment": [row["start_s"], row["end_s"]]}
            for row in map(_rounded, detections)
        ]
        for video_id, detections in results.items()
    }
    document = {"version": f"tal-run {version('tal-run')}", "results": by_video, "external_data": dict(external_data)}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _rounded(found: Detection) -> dict[str, Any]:
    return {
        "label": writable_text(found.label),
        "start_s": round(found.start_s, 3),
        "end_s": round(found.end_s, 3),
        "score": round(found.score, 6),
    }


def external_data(
    detector: Detector, matches: Sequence[QueryMatch], results: Mapping[str, VideoResult], *, curves: bool = False
) -> dict[str, Any]:
    """What made a set of results: every input's hash and every parameter that could change the outcome.

    Args:
        detector: what made them.
        matches: what was asked for.
        results: by video.
        curves: keep the scores over time, and where ActionBytes meet, with each video.
    """
    backbone, windows = detector.backbone, detector.windows
    flow = (detector.config.flow or FlowConfig()).recipe(backbone.device) if "flow" in backbone.streams else None
    return {
        "tal_run": version("tal-run"),
        "backbone": {
            "name": backbone.name,
            "weights": dict(backbone.weights),
            **({"settings": dict(backbone.settings)} if backbone.settings else {}),
            **({"flow": asdict(flow)} if flow else {}),
            "windows": {
                "fps": windows.fps or "native",
                "window_frames": windows.window_frames,
                "stride_frames": windows.stride_frames,
            },
        },
        "head": detector.head_card,
        "queries": {
            writable_text(match.query): {
                "exact": match.exact,
                "classes": {found.label: round(found.affinity, 4) for found in match.classes},
                "words_without_vector": [writable_text(word) for word in match.unknown_words],
            }
            for match in matches
        },
        "query_matching": asdict(detector.config.query),
        "top_classes": None if matches else detector.config.top_classes,
        "videos": {
            writable_text(video_id): _video(result) | (_over_time(result) if curves else {})
            for video_id, result in results.items()
        },
    }


def _video(result: VideoResult) -> dict[str, Any]:
    info = result.video
    try:
        digest = sha256_of(result.path)
    except OSError:
        digest = None  # it is gone by now; what was found in it stays true
    return {
        "file": writable_text(result.path.name),
        "sha256": digest,
        "duration_s": round(info.duration_s, 3),
        "frames": info.frame_count,
        "decoder": result.decoder,
        "notes": list(result.notes),
    }


def _over_time(result: VideoResult) -> dict[str, Any]:
    """Scores and boundaries, as ``report_files`` reads them."""
    return {
        "curves": {
            writable_text(label): {
                "start_s": round(curve.start_s, 6),
                "step_s": curve.step_s,
                "scores": [round(float(score), 3) for score in curve.scores],
            }
            for label, curve in result.curves.items()
        },
        "boundaries_s": [round(float(at_s), 3) for at_s in result.boundaries_s],
    }


def check_writable(target: Path, *, inputs: Sequence[str] = ()) -> None:
    """Find out before hours of work, not after, that a result could not be written.

    Raises:
        OutputError: the folder is missing or not writable, or the target is a folder, a video or one of the inputs.
    """
    if is_video(target, inputs={os.path.realpath(video) for video in inputs}):
        raise OutputError(f"{target} would be overwritten with detections: give -o a file of its own, such as found.json")
    if target.is_dir():
        raise OutputError(f"{target} is a folder: give a file name in it, such as {target / 'detections.json'}")
    if is_stream(target):
        return
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist: create it first (mkdir -p {target.parent})")
    try:
        if target.exists() and not os.access(target, os.W_OK):
            raise OutputError(f"{target} is there and must not be overwritten (no permission): choose another name")
        with written_whole(target.with_name(f".{os.getpid()}.tal-run-trial")) as trial:
            trial.write_bytes(b"\n")
        target.with_name(f".{os.getpid()}.tal-run-trial").unlink()
    except OSError as error:
        raise cannot_write(target, error) from error


def is_video(target: Path, *, inputs: Collection[str] = ()) -> bool:
    """Whether a target is, or leads to, what is named like a video or is one of the inputs, given by their real paths."""
    real = os.path.realpath(target)
    return Path(real).suffix.lower() in VIDEO_ENDINGS or real in inputs


def make_folder(folder: Path) -> None:
    """A folder for results, with those above it.

    Raises:
        OutputError: it cannot be made, or a file has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder} ({error.strerror}): choose another with -o") from error
    check_writable(folder / "features.npz")


def is_stream(target: Path) -> bool:
    """Whether a target is a device or a pipe, such as ``/dev/stdout``: written into, never replaced."""
    if re.fullmatch(r"/dev/(stdout|stderr|fd/\d+)|/proc/[^/]+/fd/\d+", str(target)):
        return True  # even where it leads to a file: that is the caller's, open already
    return target.exists() and not target.is_file() and not target.is_dir()


def write(target: Path, text: str) -> None:
    """Write a result whole or not at all.

    Raises:
        OutputError: the folder is missing, not writable or full, or the text is none that UTF-8 can hold.
    """
    try:
        if is_stream(target):
            with target.open("a", encoding="utf-8") as stream:
                stream.write(text)
            return
        with written_whole(target) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(target, error) from error
    except ValueError as error:
        raise OutputError(f"cannot write {target} ({writable_text(str(error))}): choose another format") from error


def cannot_write(target: Path, error: OSError) -> OutputError:
    """What to say when a result could not be written."""
    if error.errno == errno.ENAMETOOLONG:
        return OutputError(f"cannot write {target} (its name is too long): rename the video")
    cure = "free some space there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    if error.errno is None:  # NumPy, which says how much of an array was written and not why
        cure = "the disk may be full: free some space there, or "
    return OutputError(f"cannot write {target} ({error.strerror or error}): {cure}choose another place with -o")
