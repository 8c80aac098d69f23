"""A small picture of each video, for a page that lists several: of the best detection, in its middle.

A picture is part of the page, so that the page shows it wherever it is opened. It is WebP, which every browser of today shows
and which takes two thirds of the bytes that JPEG takes at this size; quality goes down until it fits ``MOST_BYTES``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.pipeline.clips import ClipSource
from tal_run.pipeline.report import ReportVideo

STEP = "taking pictures"
SIDES = (240, 160, 60)  # pixels, the longer side; a card is some 200 wide, and only noise does not fit the first
MOST_BYTES = 4500  # of a picture; as text in the page, 6000
QUALITIES = (75, 65, 55, 45, 35, 25)  # of WebP, from what looks good at this size down to what still can be made out


def thumbnails(videos: Sequence[ReportVideo], *, hook: Hook = ignore_progress) -> tuple[dict[int, bytes], list[str]]:
    """Pictures of videos, by their place in the list, as WebP; each file is opened once.

    Args:
        videos: with their files, as far as they are known.
        hook: told of videos.

    Returns:
        Pictures, and sentences on videos of which there is none although their file is known.
    """
    pictures: dict[int, bytes] = {}
    notes: list[str] = []
    by_path: dict[Path, list[int]] = {}
    for number, video in enumerate(videos):
        if video.path is not None:
            by_path.setdefault(video.path, []).append(number)
    for done, (path, numbers) in enumerate(by_path.items()):
        hook(STEP, completed=done, total=len(by_path))
        try:
            pictures |= _of_file(path, [(number, moment(videos[number])) for number in numbers])
        except (TalRunError, OSError) as error:
            notes.append(f"no picture: {error}")
    hook(STEP, completed=len(by_path), total=len(by_path))
    return pictures, notes


def moment(video: ReportVideo) -> float:
    """When a video shows best what is in it: in the middle of the best detection, of the first annotated one, or its own."""
    best = max(video.detections, key=lambda found: found.score, default=None)
    shown = best or next(iter(video.truth), None)
    return video.duration_s / 2 if shown is None else (shown.start_s + shown.end_s) / 2


def _of_file(path: Path, wanted: Sequence[tuple[int, float]]) -> Iterator[tuple[int, bytes]]:
    with ClipSource(path) as source:
        for number, at_s in wanted:
            # as large as it need be for its longer side, whatever its shape
            yield number, encoded(source.picture(min(at_s, source.duration_s), short_side=SIDES[0]))


def encoded(picture: NDArray[np.uint8]) -> bytes:
    """A picture [H, W, 3] RGB as WebP, its longer side 240 pixels at most, in at most ``MOST_BYTES``."""
    import cv2

    height, width, _ = picture.shape
    for side in SIDES:
        scale = min(1.0, side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)[..., ::-1]
        for quality in QUALITIES:
            text = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
            if len(text) <= MOST_BYTES:
                return text
    raise AssertionError(f"{len(text)} bytes of {SIDES[-1]} pixels")  # more than a byte each
