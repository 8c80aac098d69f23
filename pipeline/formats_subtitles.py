"""Detections over the picture: subtitles as WebVTT and SubRip, chapters as WebVTT and FFmpeg's metadata.

- *WebVTT* (W3C, Candidate Recommendation, 2019): the label and its score in a cue; ``&``, ``<`` and ``>`` are escaped
  (section 4.2.2), so that no label is markup or ends a cue. Lines of a label stay lines; blank ones, which end a cue, are
  left out.
- *SubRip* (no standard; what VLC, mpv, YouTube and editors read): the same, on one line. It knows no escapes: players take
  ``<i>`` and the like in a label as markup.
- *Chapters* do not overlap. The best segment comes first; what overlaps a better one is left out. As WebVTT they are for
  ``<track kind="chapters">`` (video.js, Plyr, browsers), as FFmpeg's metadata for files: ``ffmpeg -i video.mp4 -i
  video.ffmeta -map_metadata 1 -c copy out.mp4`` gives VLC, mpv and QuickTime a list of chapters, and mpv takes it as
  ``--chapters-file``. VLC reads no WebVTT chapters.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tal_run.pipeline.formats_base import FoundVideo, lines_of, milliseconds, one_line

if TYPE_CHECKING:
    from tal_run.models import Detection

ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def webvtt(video: FoundVideo) -> str:
    """Subtitles for players in web pages."""
    return _webvtt([(found, _with_score(_escaped_lines(found.label), found)) for found in video.in_time])


def webvtt_chapters(video: FoundVideo) -> str:
    """Chapters for players in web pages."""
    return _webvtt([(found, " ".join(_escaped_lines(found.label))) for found in apart(video)])


def srt(video: FoundVideo) -> str:
    """Subtitles for all other players."""
    cues = []
    for number, found in enumerate(video.in_time, 1):
        start, end = (_clock(value, ",") for value in milliseconds(found))
        cues.append(f"{number}\n{start} --> {end}\n{_with_score([one_line(found.label)], found)}\n")
    return "\n".join(cues)


def ffmetadata(video: FoundVideo) -> str:
    """Chapters to be put into a file by FFmpeg."""
    chapters = [";FFMETADATA1\n"]
    for found in apart(video):
        start, end = milliseconds(found)
        title = re.sub(r"([=;#\\])", r"\\\1", one_line(found.label))
        chapters.append(f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start}\nEND={end}\ntitle={title}\n")
    return "".join(chapters)


def apart(video: FoundVideo) -> list[Detection]:
    """Segments that do not overlap, by time: the best ones, each where no better one is."""
    from tal_run.models.detection import best_first  # brings NumPy, which a list of the formats does without

    kept: list[Detection] = []
    for found in best_first(video.detections):
        start, end = milliseconds(found)
        if all(end <= other_start or other_end <= start for other_start, other_end in map(milliseconds, kept)):
            kept.append(found)
    return sorted(kept, key=lambda found: found.start_s)


def _webvtt(cues: list[tuple[Detection, str]]) -> str:
    blocks = ["WEBVTT\n"]
    for number, (found, text) in enumerate(cues, 1):
        start, end = (_clock(value, ".") for value in milliseconds(found))
        blocks.append(f"{number}\n{start} --> {end}\n{text}\n")
    return "\n".join(blocks)


def _escaped_lines(text: str) -> list[str]:
    return ["".join(ESCAPES.get(character, character) for character in line) for line in lines_of(text)]


def _with_score(lines: list[str], found: Detection) -> str:
    return "\n".join([*lines[:-1], f"{lines[-1] if lines else ''} ({found.score:.2f})".lstrip()])


def _clock(value_ms: int, point: str) -> str:
    seconds, rest = divmod(value_ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"
