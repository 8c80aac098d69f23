"""Detections as a page: the video, a timeline with a lane a label, a table; a click on either plays the segment.

One file without scripts or styles from elsewhere; only the video is linked, by its path relative to the page.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from tal_run.extractors.wire import printable
from tal_run.models import Detection
from tal_run.pipeline.outputs import writable_text

if TYPE_CHECKING:
    from tal_run.pipeline.detector import VideoResult
    from tal_run.pipeline.query import QueryMatch

NAME_LIMIT = 300
TICKS = 6


@dataclass(frozen=True, kw_only=True)
class _Section:
    """One video on the page."""

    name: str
    link: str
    duration_s: float
    lanes: dict[str, list[Detection]]
    detections: tuple[Detection, ...]
    ticks_s: tuple[float, ...]
    notes: tuple[str, ...]


def rendered(
    results: Mapping[str, VideoResult], matches: Sequence[QueryMatch], *, backbone: str, beside: Path | None = None
) -> str:
    """The page's text.

    Args:
        results: what was found, by video.
        matches: what was asked for, and the classes that stand in for it; none without a query.
        backbone: the network's name.
        beside: where the page will lie, so that it can link the videos; None: absolute paths.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["clock"] = clock
    template = environment.from_string(
        resources.files("tal_run.pipeline").joinpath("data/page.html.j2").read_text(encoding="utf-8")
    )
    text = template.render(
        sections=[_section(name, result, beside) for name, result in results.items()],
        summaries=[printable(match.summary(), limit=NAME_LIMIT) for match in matches],
        backbone=backbone,
        version=version("tal-run"),
    )
    return writable_text(text)


def _section(name: str, result: VideoResult, beside: Path | None) -> _Section:
    lanes: dict[str, list[Detection]] = {}
    for found in sorted(result.detections, key=lambda found: (found.label, found.start_s)):
        lanes.setdefault(found.label, []).append(found)
    duration_s = max([result.video.duration_s, *(found.end_s for found in result.detections), 1e-3])
    return _Section(
        name=printable(name, limit=NAME_LIMIT),
        link=_link(result.path, beside),
        duration_s=duration_s,
        lanes=lanes,
        detections=result.detections,
        ticks_s=tuple(duration_s * k / TICKS for k in range(TICKS + 1)),
        notes=result.notes,
    )


def _link(video: Path, beside: Path | None) -> str:
    """A path for ``src``: percent-encoded, bytes that are no UTF-8 included, and never taken for a scheme."""
    path = os.path.realpath(video)
    if beside is None:
        return "file://" + quote(os.fsencode(path))
    return "./" + quote(os.fsencode(os.path.relpath(path, os.path.realpath(beside.parent))))


def clock(seconds: float) -> str:
    """Seconds as players show them: 0:07.2, 1:02:07.2."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    tail = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{tail}" if hours else f"{minutes}:{tail}"
