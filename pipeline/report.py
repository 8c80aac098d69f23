"""Detections as a page: a player, a timeline with a lane a label, filters and a table for each video; of several, a list.

The page is one file (``data/report.html.j2``, ``.css``, ``.js``) that loads nothing but the videos, which it links by their
paths relative to it or, on request, holds itself; the list's small pictures are part of it. All that was found lies in it as
JSON; its policy lets no script run but its own, and that sets names and labels as text only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.annotations import Instance
from tal_run.extractors.wire import printable
from tal_run.models import Detection
from tal_run.pipeline.outputs import OutputError, writable_text

if TYPE_CHECKING:
    from tal_run.pipeline.detector import Curve, VideoResult
    from tal_run.pipeline.query import QueryMatch

NAME_LIMIT = 300
EMBED_LIMIT = 256 << 20  # bytes of video in a page, beyond which browsers give up
LEVELS = 255  # of a curve


@dataclass(frozen=True, kw_only=True)
class ReportVideo:
    """One video on a page.

    Attributes:
        name: what it is called.
        path: its file; None: not known.
        duration_s: its length.
        detections: what was found.
        truth: what is annotated, if that is known.
        curves: scores over time by label.
        boundaries_s: where ActionBytes meet, seconds [B].
        notes: sentences on it.
        trouble: why there is no video to play, where ``path`` is None.
        file: its file's name, as what made the detections says.
        rate: frames a second, as that says; None: it does not.
        size: width and height, likewise.
    """

    name: str
    path: Path | None
    duration_s: float
    detections: Sequence[Detection]
    truth: Sequence[Instance] = ()
    curves: Mapping[str, Curve] = field(default_factory=dict)
    boundaries_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    notes: Sequence[str] = ()
    trouble: str = "There is no video to play: where it lies is not known."
    file: str = ""
    rate: Fraction | None = None
    size: tuple[int, int] | None = None


def of_results(results: Mapping[str, VideoResult]) -> list[ReportVideo]:
    """What was just found, as the page has it."""
    return [
        ReportVideo(
            name=name,
            path=result.path,
            duration_s=result.video.duration_s,
            detections=result.detections,
            curves=result.curves,
            boundaries_s=result.boundaries_s,
            notes=result.notes,
        )
        for name, result in results.items()
    ]


def rendered(
    videos: Sequence[ReportVideo],
    *,
    beside: Path | None = None,
    title: str | None = None,
    matches: Sequence[QueryMatch] = (),
    backbone: str = "",
    made_by: Mapping[str, Any] | None = None,
    embed: bool = False,
    thumbnails: Mapping[int, bytes] | None = None,
) -> str:
    """The page's text.

    Args:
        videos: what to show.
        beside: where the page will lie, so that it can link the videos; None: absolute paths.
        title: of the page; None: the video's name, or how many there are.
        matches: what was asked for, and the classes that stand in for it; none without a query.
        backbone: the network's name; empty: not known.
        made_by: all that made the results.
        embed: put the videos into the page.
        thumbnails: small pictures as WebP, by a video's place among the videos (``report_thumbnails.py``).

    Raises:
        OutputError: the videos are too large to be put into it, or cannot be read.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    script = _part("report.js")
    template = environment.from_string(_part("report.html.j2"))
    inside = _embedded(videos) if embed else {}
    shown = [_shown(video, beside, f"video-{number}" if number in inside else None) for number, video in enumerate(videos)]
    for number, picture in (thumbnails or {}).items():
        shown[number]["picture"] = base64.b64encode(picture).decode()
    text = template.render(
        title=title or (shown[0]["name"] if len(shown) == 1 else f"{len(shown)} videos"),
        style=Markup(_part("report.css")),
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data={"version": version("tal-run"), "videos": shown},
        embedded=[{"id": f"video-{number}", **content} for number, content in inside.items()],
        summaries=[printable(match.summary(), limit=NAME_LIMIT) for match in matches],
        backbone=backbone,
        made_by=json.dumps(made_by, ensure_ascii=False, indent=1) if made_by else "",
        version=version("tal-run"),
    )
    return writable_text(text)


def _part(name: str) -> str:
    return resources.files("tal_run.pipeline").joinpath("data", name).read_text(encoding="utf-8")


def _shown(video: ReportVideo, beside: Path | None, embedded: str | None) -> dict[str, Any]:
    """A video as the page's script reads it."""
    duration_s = max([video.duration_s, *(found.end_s for found in video.detections), 1e-3])
    return {
        "name": _name(video.name),
        "link": None if embedded or video.path is None else _link(video.path, beside),
        "embedded": embedded,
        "picture": None,
        "trouble": video.trouble,
        "duration": round(duration_s, 3),
        "found": [
            [round(found.start_s, 3), round(found.end_s, 3), _name(found.label), round(found.score, 6)]
            for found in video.detections
        ],
        "truth": [[round(true.start_s, 3), round(true.end_s, 3), _name(true.label)] for true in video.truth],
        "curves": [
            {
                "label": _name(label),
                "start": round(curve.start_s, 6),
                "step": curve.step_s,
                "scores": base64.b64encode(_levels(curve.scores)).decode(),
            }
            for label, curve in video.curves.items()
        ],
        "boundaries": np.round(video.boundaries_s, 3).tolist(),
        "notes": [printable(note, limit=NAME_LIMIT) for note in video.notes],
    }


def _name(text: str) -> str:
    """As it can be shown; surrogates, which JSON would keep, as text."""
    return writable_text(printable(text, limit=NAME_LIMIT))


def _levels(scores: NDArray[np.floating[Any]]) -> bytes:
    levels: NDArray[np.uint8] = np.rint(np.clip(scores, 0, 1) * LEVELS).astype(np.uint8)
    return levels.tobytes()


def _embedded(videos: Sequence[ReportVideo]) -> dict[int, dict[str, str]]:
    """The videos that are there, by their place, as base64."""
    inside: dict[int, dict[str, str]] = {}
    left = EMBED_LIMIT
    for number, video in enumerate(videos):
        if video.path is None:
            continue
        try:
            size = video.path.stat().st_size
            left -= size
            if left < 0:
                raise OutputError(
                    f"the videos are too large for one page (more than {EMBED_LIMIT >> 20} MiB in all): leave out --embed, "
                    "which links them, or give fewer"
                )
            content = base64.b64encode(video.path.read_bytes()).decode()
        except OSError as error:
            raise OutputError(
                f"{printable(str(video.path))} cannot be put into the page ({error.strerror}): check it"
            ) from error
        kind = mimetypes.guess_type(video.path.name)[0] or "video/mp4"
        inside[number] = {"type": kind, "content": content}
    return inside


def _link(video: Path, beside: Path | None) -> str:
    """A path for ``src``: percent-encoded, bytes that are no UTF-8 included, and never taken for a scheme."""
    path = os.path.realpath(video)
    if beside is None:
        return "file://" + quote(os.fsencode(path))
    return "./" + quote(os.fsencode(os.path.relpath(path, os.path.realpath(beside.parent))))
