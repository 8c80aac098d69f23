"""Detections as files. Every file is written to a temporary name and renamed: it is whole or not there.

The forms are in ``formats.py``; here is what made the results, and where they may be written. ``html`` is a page to look at
(``report.py``).
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.files import PART, PART_ENDING, written_whole
from tal_run.extractors.two_streams import FlowConfig
from tal_run.extractors.video import VideoInfo, native_rate
from tal_run.extractors.video_errors import VIDEO_ENDINGS
from tal_run.extractors.weights import sha256_of
from tal_run.models import Detection
from tal_run.pipeline.detector import Detector, VideoResult
from tal_run.pipeline.formats import FORMATS, PAGE, Place, by_ending, check, companion_of
from tal_run.pipeline.formats import rendered as rendered_videos
from tal_run.pipeline.formats_base import FormatError, FoundVideo, printable_name, writable_text
from tal_run.pipeline.query import QueryMatch

__all__ = ["FORMATS", "FormatError", "writable_text"]  # of the forms, for who writes them

NAME_BYTES = 150  # of a video's name in a file's, which may have 255
STREAMED = ("json", "jsonl", "csv")  # that can be written video by video

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


def format_of(target: Path) -> str:
    """The format that a file's ending asks for.

    Raises:
        OutputError: it asks for none that is known.
    """
    if is_stream(target):
        return "json"
    format_name = by_ending(target.name)
    if format_name is None:
        endings = ", ".join([*(form.ending for form in FORMATS.values()), f".{PAGE}"])
        raise OutputError(f"{target} has no ending that names a format ({endings}): give it one, or --format")
    return format_name


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


def each_once(paths: Sequence[str]) -> list[str]:
    """The paths without those that name the same file again."""
    return list({os.path.realpath(path): path for path in reversed(paths)}.values())[::-1]


def rendered(format_name: str, results: Results, external_data: Mapping[str, Any] | None = None) -> str:
    """The text of a file in one of ``FORMATS`` that needs to know nothing of the videos but their names."""
    videos = [FoundVideo(name=name, detections=detections) for name, detections in results.items()]
    return rendered_videos(format_name, videos, Place(made_by=external_data or {}))


def texts(
    format_name: str, videos: Sequence[FoundVideo], target: Path | None, *, made_by: Mapping[str, Any] | None = None
) -> list[tuple[Path | None, str]]:
    """The text for a file in one of ``FORMATS``, and that of the second file that some need beside it, with their places.

    Args:
        format_name: of ``FORMATS``.
        videos: what was found.
        target: where the file will lie; None: nowhere, and there is no second one.
        made_by: all that made the results.

    Raises:
        FormatError: the format cannot hold these detections.
    """
    made = [(target, rendered_videos(format_name, videos, Place(target=target, made_by=made_by or {})))]
    companion = FORMATS[format_name].companion
    beside = companion_of(format_name, target) if target else None
    return [*made, (beside, companion[1](videos))] if companion and beside else made


def file_names(names: Sequence[str], ending: str, *, limit: int = NAME_BYTES) -> list[str]:
    """A file's name for each of some names, which may hold anything; no two alike, also where no case is told apart."""
    taken: set[str] = set()
    made = []
    for name in names:
        stem, number = safe_name(name, limit=limit) or "video", 1
        candidate = stem
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{stem}_{number}"
        taken.add(candidate.casefold())
        made.append(candidate + ending)
    return made


def safe_name(text: str, *, limit: int) -> str:
    """Text as part of a file's name on any system: at most ``limit`` bytes, and nothing that leads elsewhere."""
    kept = re.sub(r'[\s<>:"/\\|?*]+', "-", "".join(c if c.isprintable() else " " for c in writable_text(text).strip()))
    return kept.encode()[:limit].decode(errors="ignore").strip("-. ")


def check_holds(format_name: str, count: int) -> None:
    """Find out before hours of work that a format holds one video a file.

    Raises:
        FormatError: there are more.
    """
    if format_name in FORMATS and count:
        check(format_name, [FoundVideo(name="", detections=())] * count)


def frame_notes(format_name: str, videos: Sequence[FoundVideo]) -> list[str]:
    """Sentences on videos whose frames a format cannot number as they are."""
    if format_name not in FORMATS or not FORMATS[format_name].counts_frames:
        return []
    return [
        f"{printable_name(video.name)} shows its frames at uneven times, and {format_name} numbers them evenly, "
        f"{float(video.known_rate):g} a second: they fit a copy with an even rate (ffmpeg -i IN -fps_mode cfr OUT.mp4)"
        for video in videos
        if video.rate_varies
    ]


def found_videos(results: Mapping[str, VideoResult]) -> list[FoundVideo]:
    """What was just found, as files have it."""
    return [
        FoundVideo(
            name=name,
            detections=result.detections,
            path=result.path,
            file=result.path.name,
            duration_s=result.video.duration_s,
            rate=rate_of(result.video),
            size=(result.video.width, result.video.height),
            rate_varies=result.video.is_variable_rate,
        )
        for name, result in results.items()
    ]


def rate_of(info: VideoInfo) -> Fraction:
    """A video's frames a second: 30000/1001 where that is meant; of a rate that varies, the average."""
    return Fraction(native_rate(info)).limit_denominator(1001)


def pieces(
    format_name: str, results: Iterable[tuple[str, Sequence[Detection]]], external_data: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """What ``rendered`` gives, video by video: however many there are, one is held at a time."""
    if format_name != "json":
        heading = rendered(format_name, {})
        yield heading
        for video_id, detections in results:
            yield rendered(format_name, {video_id: detections}).removeprefix(heading)
        return
    before, after = rendered("json", {}, external_data).split('"results": {}', 1)  # the version alone is before it
    yield before + '"results": {'
    ending = "}"
    for index, (video_id, detections) in enumerate(results):
        whole = rendered("json", {video_id: detections})
        yield ("," if index else "") + "\n" + whole[whole.index("{\n  ") + 2 : whole.rindex("\n },")]
        ending = "\n }"
    yield ending + after


def queries_card(matches: Sequence[QueryMatch]) -> dict[str, Any]:
    """What was asked for, and what stands in for it."""
    return {
        writable_text(match.query): {
            "exact": match.exact,
            "classes": {found.label: round(found.affinity, 4) for found in match.classes},
            "words_without_vector": [writable_text(word) for word in match.unknown_words],
        }
        for match in matches
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
        "queries": queries_card(matches),
        "query_matching": asdict(detector.config.query),
        "top_classes": None if matches else detector.config.top_classes,
        "videos": {writable_text(video_id): video_card(result, curves=curves) for video_id, result in results.items()},
    }


def video_card(result: VideoResult, *, curves: bool = False) -> dict[str, Any]:
    """What a set of results says of one video: its hash, what was found out about the file, and, if asked, scores over time."""
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
        "fps": str(rate_of(info)),
        **({"fps_varies": True} if info.is_variable_rate else {}),
        "size": [info.width, info.height],
        "decoder": result.decoder,
        "notes": list(result.notes),
        **(_over_time(result) if curves else {}),
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
        with tempfile.TemporaryFile(dir=target.parent, prefix=PART, suffix=PART_ENDING) as trial:  # without a name
            trial.write(b"\n")
            trial.flush()
            os.fsync(trial.fileno())
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


def write(target: Path, text: str | Iterable[str]) -> None:
    """Write a result, perhaps in pieces, whole or not at all.

    Raises:
        OutputError: the folder is missing, not writable or full, or the text is none that UTF-8 can hold.
    """
    parts = [text] if isinstance(text, str) else text
    try:
        if is_stream(target):
            with target.open("a", encoding="utf-8") as stream:
                stream.writelines(parts)
            return
        with written_whole(target) as part:
            if isinstance(text, str):
                part.write_text(text, encoding="utf-8")
                return
            with part.open("w", encoding="utf-8") as file:
                file.writelines(parts)
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
