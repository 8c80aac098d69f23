"""Timed labels read back from the forms of players, editors and annotation tools, so that what was corrected there comes home.

What each form keeps (``formats_*.py`` write them):

==============  ===================  ====================  ===========================================================
form            times                scores                labels
==============  ===================  ====================  ===========================================================
WebVTT, SubRip  milliseconds         two decimals, behind  lines; in SubRip one line
chapters        milliseconds         none                  as in WebVTT; what overlapped a better one was left out
ELAN            milliseconds         six digits            as they are
Label Studio    frames               six decimals          as they are
CVAT            frames               six digits            as they are
EDL             frames               two decimals, behind  one line
==============  ===================  ====================  ===========================================================

A video is called what the file says (ELAN's header, CVAT's and Label Studio's task, an edit list's title) or as its own file;
where neither is known, as the file that is read. What a person adds has no score and gets 1. Of ELAN, a tier is a label; of a
second tier that we made because segments of one label overlap, its ``PARTICIPANT`` is. Of a task in Label Studio what people
annotated counts, the last of it that was not cancelled; what was predicted, where nobody has. Files are untrusted: XML that
declares anything is refused, as is what is large.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from tal_run.eval.protocols import EvaluationError
from tal_run.extractors.wire import printable
from tal_run.models import Detection
from tal_run.pipeline.formats_annotation import VIDEO_PROPERTY
from tal_run.pipeline.formats_editing import nominal_rate

NAMELESS = (".vtt", ".srt")  # that do not say of which video they are
ENDINGS = (".vtt", ".srt", ".eaf", ".edl", ".xml")  # of files that are told by their names; Label Studio's by its content
MOST_BYTES = 64 << 20
PIECE = 1 << 16  # characters
BY_A_PERSON = 1.0  # the score of what has none
RateOf = Callable[[str, str], Fraction]  # of a video by its name and its file's name

_TIMES = re.compile(r"^((?:\d+:)?\d+:\d\d[.,]\d{3})\s+-->\s+((?:\d+:)?\d+:\d\d[.,]\d{3})(?:\s.*)?$")
_SCORED = re.compile(r"\((-?\d+\.\d\d)\)$")
_EVENT = re.compile(r"^\d+\s+\S+\s+\S+\s+\S.*?\s(\d\d:\d\d:\d\d[:;]\d\d)\s+(\d\d:\d\d:\d\d[:;]\d\d)(?:\s+\d\d:\S+){2}\s*$")


@dataclass(frozen=True, kw_only=True)
class ReadVideo:
    """One video of one file.

    Attributes:
        name: what it is called.
        file: the name of its file; empty: not known.
        detections: in the order of the file.
    """

    name: str
    file: str
    detections: list[Detection]


def is_form(path: Path) -> bool:
    """Whether a file is in one of these forms: by its ending or, of Label Studio's, by how it begins."""
    if path.suffix.lower() in ENDINGS:
        return True
    if path.suffix.lower() != ".json":
        return False
    try:
        with path.open("rb") as file:
            begin = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return False
    return begin.startswith(b"[")


def read(path: Path, *, rate_of: RateOf) -> list[ReadVideo]:
    """The videos of a file.

    Args:
        path: the file.
        rate_of: frames a second of a video, for forms that count frames and do not say; asked only then.

    Raises:
        EvaluationError: it holds no timed labels, or what cannot be read; what ``rate_of`` raises.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise EvaluationError(
                f"{printable(path)} has more than {MOST_BYTES >> 20} MiB: no annotation tool writes that much"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise EvaluationError(f"cannot read {printable(path)} ({error.strerror}): check the path") from None
    except UnicodeDecodeError:
        raise EvaluationError(f"{printable(path)} is no text in UTF-8: save it as that") from None
    name = path.name.removesuffix(path.suffix).removesuffix(".chapters")
    kind = path.suffix.lower()
    try:
        if kind == ".json":
            return list(_label_studio(text, rate_of))
        if kind == ".eaf":
            return [_eaf(text, name)]
        if kind == ".xml":
            return [_cvat(text, name, rate_of)]
        if kind == ".edl":
            return [_edl(text, name, rate_of)]
        return [ReadVideo(name=name, file="", detections=list(_cues(text, is_webvtt=kind == ".vtt")))]
    except (
        ValueError,
        ArithmeticError,  # numbers beyond all clocks
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        ElementTree.ParseError,
    ) as error:
        raise EvaluationError(f"{printable(path)} cannot be read ({printable(error)}): write it anew from the tool") from error


def _scored(text: str) -> tuple[str, float]:
    """A label and the score behind it."""
    match = _SCORED.search(text)
    return (text[: match.start()].rstrip(), float(match[1])) if match else (text, BY_A_PERSON)


def _number(text: str | None) -> float:
    """A score that stands by itself; of what is none, a person's."""
    try:
        value = float(text or "")
    except ValueError:
        return BY_A_PERSON
    return value if math.isfinite(value) else BY_A_PERSON


# ---- subtitles ----


def _cues(text: str, *, is_webvtt: bool) -> Iterator[Detection]:
    lines = re.split(r"\r\n|\n|\r", text)
    if is_webvtt and not lines[0].startswith("WEBVTT"):
        raise ValueError("it does not begin with WEBVTT")
    found = False
    for number, line in enumerate(lines):
        if not (match := _TIMES.match(line.strip())):
            continue
        found = True
        payload = []
        for other in lines[number + 1 :]:
            if not other.strip() or _TIMES.match(other.strip()):
                break
            payload.append(other)
        label = "\n".join(payload)
        if is_webvtt:
            label = html.unescape(_untagged(label))
        label, score = _scored(label)
        yield Detection(_clock(match[1]), _clock(match[2]), label, score)
    if not found and not is_webvtt and text.strip():
        raise ValueError("it has no times such as 00:00:01,000 --> 00:00:02,000")


def _untagged(text: str) -> str:
    """Without tags such as ``<v Name>``; behind the last ``>`` there is none, and no looking for one's end."""
    tagged, end, rest = text.rpartition(">")
    return re.sub(r"<[^>]*>", "", tagged + end) + rest


def _clock(text: str) -> float:
    *higher, seconds = re.split(r":", text.replace(",", "."))
    whole = 0
    for part in higher:
        whole = whole * 60 + int(part)
    return float(whole * 60 + Fraction(seconds))


# ---- ELAN and CVAT ----


class _Undeclared(ElementTree.TreeBuilder):
    """A tree of XML in which nothing is declared. Where a declaration is and where a comment, the parser alone can tell."""

    def doctype(self, *_: object) -> None:
        """Refuse it: entities are declared nowhere else."""
        raise ValueError("it declares entities or a document type, which no annotations need")


def _xml(text: str) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_Undeclared())
    for start in range(0, len(text), PIECE):  # what is refused is refused at the end of a piece
        parser.feed(text[start : start + PIECE])
    root: ElementTree.Element = parser.close()
    return root


def _eaf(text: str, name: str) -> ReadVideo:
    root = _xml(text)
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    media = next(root.iter("MEDIA_DESCRIPTOR"), None)
    link = "" if media is None else media.get("RELATIVE_MEDIA_URL") or media.get("MEDIA_URL") or ""
    file = Path(unquote(link)).name
    said = next((entry.text for entry in root.iter("PROPERTY") if entry.get("NAME") == VIDEO_PROPERTY), None)
    detections = []
    for tier in root.iter("TIER"):
        label, ours = tier.get("TIER_ID") or "", tier.get("PARTICIPANT")
        if ours is not None and re.fullmatch(re.escape(ours) + r" \d+", label):
            label = ours
        for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
            ends = [times[annotation.get(f"TIME_SLOT_REF{end}")] for end in (1, 2)]
            if None in ends:
                raise ValueError(f"an annotation of the tier {label!r} has no time")
            start_ms, end_ms = (int(str(end)) for end in ends)
            detections.append(
                Detection(start_ms / 1000, end_ms / 1000, label, _number(annotation.findtext("ANNOTATION_VALUE")))
            )
    return ReadVideo(name=said or Path(file).stem or name, file=file, detections=detections)


def _cvat(text: str, name: str, rate_of: RateOf) -> ReadVideo:
    root = _xml(text)
    if root.tag != "annotations":
        raise ValueError("it is not CVAT for video 1.1")
    task = next(root.iter("task"), None)
    said = {} if task is None else {entry: task.findtext(entry) or "" for entry in ("name", "size", "source")}
    name, file = said.get("name") or name, Path(said.get("source") or "").name
    spans = [
        (first, end, track.get("label") or "", score)
        for track in root.iter("track")
        for first, end, score in _shown(track, int(said.get("size") or 0))
    ]
    rate = rate_of(name, file) if spans else Fraction(1)
    detections = [Detection(float(first / rate), float(end / rate), label, score) for first, end, label, score in spans]
    return ReadVideo(name=name, file=file, detections=detections)


def _shown(track: ElementTree.Element, frames: int) -> Iterator[tuple[int, int, float]]:
    """Where a track is to be seen: the first frame, the one behind the last, the score at the first."""
    first, score, last = None, BY_A_PERSON, 0
    for shape in sorted((shape for shape in track if shape.get("frame")), key=lambda shape: int(str(shape.get("frame")))):
        last = int(str(shape.get("frame")))
        if shape.get("outside") == "1":
            if first is not None:
                yield first, last, score
            first = None
        elif first is None:
            first, score = last, _number(next((a.text for a in shape.iter("attribute") if a.get("name") == "score"), None))
    if first is not None:
        yield first, max(frames, last + 1), score


# ---- Label Studio ----


def _label_studio(text: str, rate_of: RateOf) -> Iterator[ReadVideo]:
    tasks = json.loads(text)
    for task in tasks:
        data = task["data"]
        file = Path(unquote(str(data.get("video") or ""))).name
        name = str(data.get("video_id") or Path(file).stem or f"task {task.get('id')}")
        results = [entry for entry in _results(task) if entry.get("type") == "timelinelabels"]
        given = data.get("fps")
        rate = _meant(float(given)) if given else rate_of(name, file) if results else Fraction(1)
        detections = [
            # frames count from 1, and the last one belongs to the segment
            Detection(float((int(span["start"]) - 1) / rate), float(int(span["end"]) / rate), str(label), _score_of(entry))
            for entry in results
            for span in entry["value"]["ranges"]
            for label in entry["value"]["timelinelabels"]
        ]
        yield ReadVideo(name=name, file=file, detections=detections)


def _results(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    done = [entry for entry in task.get("annotations") or () if not entry.get("was_cancelled")]
    predicted = task.get("predictions") or ()
    for entry in (*done[::-1][:1], *(predicted[-1:] if not done else ())):
        return list(entry.get("result") or ())
    return []


def _score_of(entry: Mapping[str, Any]) -> float:
    score = entry.get("score")
    return _number(str(score)) if isinstance(score, (int, float)) else BY_A_PERSON


def _meant(rate: float) -> Fraction:
    """The fraction that a rate stands for: 29.97002997 is 30000/1001."""
    if not 0 < rate <= 10_000:
        raise ValueError(f"{rate:g} is no number of frames a second")
    return Fraction(rate).limit_denominator(1001)


# ---- edit lists ----


def _edl(text: str, name: str, rate_of: RateOf) -> ReadVideo:
    title, file, spans = "", "", list[tuple[str, str, str]]()
    for line in text.splitlines():
        if match := _EVENT.match(line):
            spans.append((match[1], match[2], ""))
        elif line.startswith("TITLE:"):
            title = line.partition(":")[2].strip()
        elif line.startswith("* FROM CLIP NAME:"):
            file = line.partition(":")[2].strip()
        elif line.startswith("* COMMENT:") and spans:
            spans[-1] = (*spans[-1][:2], line.partition(":")[2].strip())
    if not spans and not text.startswith("TITLE:"):
        raise ValueError("it is no edit list after CMX 3600")
    stem = Path(file).stem
    name = title if stem and Path(title).name == stem else stem or name  # an editor's own title is the timeline's
    rate = rate_of(name, file) if spans else Fraction(1)
    base = nominal_rate(rate)
    detections = [
        Detection(float(_frame(first, base) / rate), float(_frame(end, base) / rate), *_scored(title))
        for first, end, title in spans
    ]
    return ReadVideo(name=name, file=file, detections=detections)


def _frame(clock: str, base: int) -> int:
    hours, minutes, seconds, frames = (int(part) for part in re.split("[:;]", clock))
    return ((hours * 60 + minutes) * 60 + seconds) * base + frames
