"""Detections for video editors: an edit decision list after CMX 3600, which Resolve, Premiere, Avid and OpenTimelineIO read.

Each segment is an event, a cut from the video, one behind the other in the order of time: imported, it is a reel of what was
found. Its label and score stand as a comment and as a locator, which editors show as a marker::

    001  AX       V     C        00:00:11:15 00:00:20:10 00:00:00:00 00:00:08:20
    * FROM CLIP NAME: video.mp4
    * LOC: 00:00:11:15 RED     arm wrestling (0.90)
    * COMMENT: arm wrestling (0.90)

Timecode counts frames, as many a second as the rate rounded up (SMPTE ST 12-1, non-drop): at 30000/1001 frames a second its
clock loses 3.6 s an hour against real time, and each frame has the number it should have. It begins at 00:00:00:00, and so
must the video in the editor. A clock of 24 hours is all it has; more than 999 events, CMX's own limit, are numbered on, as
editors do today.
"""

from __future__ import annotations

import math
from fractions import Fraction

from tal_run.pipeline.formats_base import FormatError, FoundVideo, one_line, printable_name, title_of

DAY_S = 24 * 3600


def edl(video: FoundVideo) -> str:
    """An edit decision list."""
    base, reached = nominal_rate(video.known_rate), 0
    name = one_line(video.file_name)
    lines = [f"TITLE: {one_line(video.name)[:70] or 'tal-run'}", "FCM: NON-DROP FRAME", ""]
    for number, found in enumerate(video.in_time, 1):
        first, end = video.frames_of(found)
        reached_next = reached + end - first
        if max(end, reached_next) >= DAY_S * base:
            raise FormatError(
                f"the segments of {printable_name(video.name)} go beyond the 24 hours of an edit list's clock: "
                "leave some out (--min-score, --top), or choose another format"
            )
        clocks = " ".join(timecode(frame, base) for frame in (first, end, reached, reached_next))
        title = one_line(title_of(found))
        lines += [
            f"{number:03d}  AX       V     C        {clocks}",
            f"* FROM CLIP NAME: {name}",
            f"* LOC: {timecode(first, base)} RED     {title}",
            f"* COMMENT: {title}",
            "",
        ]
        reached = reached_next
    return "\n".join(lines) + ("\n" if lines[-1] else "")


def nominal_rate(rate: Fraction) -> int:
    """Frames that timecode counts a second: 24 for 24000/1001.

    Raises:
        FormatError: there is no timecode for such a rate.
    """
    base = math.ceil(rate - Fraction(1, 1000))
    if not 1 <= base <= 99:
        raise FormatError(
            f"there is no timecode for {float(rate):g} frames a second: give the rate of a copy for editing (--fps)"
        )
    return base


def timecode(frame: int, base: int) -> str:
    """HH:MM:SS:FF of a frame, ``base`` frames a second."""
    seconds, rest = divmod(frame, base)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{rest:02d}"
