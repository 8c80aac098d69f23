"""Detections for annotation tools, to be looked through and corrected: ELAN, Label Studio, CVAT.

- *ELAN* (EAF 3.0, its schema EAFv3.0.xsd): a tier a label, an annotation a segment with its score as text. Annotations of a
  tier must not overlap, so segments of one label that do go to a second tier, ``label 2``. The video is given by its place
  beside the file.
- *Label Studio*: a task a video with a prediction of ``timelinelabels``; their frames count from 1, and the last one belongs
  to the segment (its editor's TimelineRegion: a range of one frame has start = end). The labelling configuration that fits is
  beside it. Where Label Studio finds the videos is for its storage to say: the task has the file's name, to be prefixed
  (``/data/local-files/?d=``, ``s3://``). Its player wants a constant frame rate, which stands in the task.
- *CVAT* (CVAT for video 1.1): a track a segment, a box as large as the picture from its first frame (from 0) until
  ``outside`` in the frame behind its last; no such frame where it lasts to the video's end. Beside it the labels, as the
  task's constructor takes them (Raw): CVAT adds annotations only to a task that has their labels.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree

from tal_run.pipeline.formats_base import FormatError, FoundVideo, milliseconds, printable_name, writable_text, xml_text

if TYPE_CHECKING:
    from tal_run.models import Detection

# told apart by people who see no red or no green (Okabe & Ito 2008)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#f0e442")
CONTROL, OBJECT = "action", "video"  # names in Label Studio's configuration
SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
VIDEO_PROPERTY = "tal-run-video"  # of ELAN's header: what the video is called
EAF_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


def labels_of(videos: Sequence[FoundVideo]) -> list[str]:
    """Every label that occurs, as XML holds it, sorted."""
    return sorted({xml_text(found.label) for video in videos for found in video.detections})


def eaf(video: FoundVideo, *, beside: Path | None = None) -> str:
    """ELAN's annotations."""
    schema: dict[str, Any] = {"xmlns:xsi": SCHEMA_INSTANCE, "xsi:noNamespaceSchemaLocation": EAF_SCHEMA}
    # a date of its own would make two files of one content differ
    date = "1970-01-01T00:00:00+00:00"
    root = ElementTree.Element("ANNOTATION_DOCUMENT", AUTHOR="tal-run", DATE=date, FORMAT="3.0", VERSION="3.0", **schema)
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if video.path or video.file:
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", _media(video, beside))
    ElementTree.SubElement(header, "PROPERTY", NAME=VIDEO_PROPERTY).text = xml_text(video.name)  # whatever the file is called
    count = ElementTree.SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId")
    order = ElementTree.SubElement(root, "TIME_ORDER")
    slots: list[tuple[int, ElementTree.Element, str]] = []
    number = 0
    for name, tier in _tiers(video):
        element = ElementTree.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="default-lt", TIER_ID=name)
        if name != (label := xml_text(tier[0].label)):
            element.set("PARTICIPANT", label)  # so that who reads it back knows which label the second tier is of
        for found in tier:
            number += 1
            annotation = ElementTree.SubElement(ElementTree.SubElement(element, "ANNOTATION"), "ALIGNABLE_ANNOTATION")
            annotation.set("ANNOTATION_ID", f"a{number}")
            slots += [(at, annotation, f"TIME_SLOT_REF{end}") for end, at in enumerate(milliseconds(found), 1)]
            ElementTree.SubElement(annotation, "ANNOTATION_VALUE").text = f"{found.score:.6g}"
    for place, (at, annotation, reference) in enumerate(sorted(slots, key=lambda slot: slot[0]), 1):
        ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=f"ts{place}", TIME_VALUE=str(at))
        annotation.set(reference, f"ts{place}")
    count.text = str(number)
    ElementTree.SubElement(
        root, "LINGUISTIC_TYPE", GRAPHIC_REFERENCES="false", LINGUISTIC_TYPE_ID="default-lt", TIME_ALIGNABLE="true"
    )
    return _as_text(root)


def _media(video: FoundVideo, beside: Path | None) -> dict[str, str]:
    kind = mimetypes.guess_type(video.file_name)[0] or "video/mp4"
    if video.path is None:
        link = quote(video.file_name)
        return {"MEDIA_URL": f"./{link}", "MIME_TYPE": kind, "RELATIVE_MEDIA_URL": f"./{link}"}
    real = os.path.realpath(video.path)
    media = {"MEDIA_URL": "file://" + quote(os.fsencode(real)), "MIME_TYPE": kind}
    if beside is not None:
        media["RELATIVE_MEDIA_URL"] = "./" + quote(os.fsencode(os.path.relpath(real, os.path.realpath(beside.parent))))
    return media


def _tiers(video: FoundVideo) -> list[tuple[str, list[Detection]]]:
    """Names, no two alike, and segments that do not overlap, by time."""
    by_label: dict[str, list[list[Detection]]] = {}
    for found in video.in_time:
        tiers = by_label.setdefault(xml_text(found.label), [])
        start = milliseconds(found)[0]
        free = next((tier for tier in tiers if milliseconds(tier[-1])[1] <= start), None)
        if free is None:
            tiers.append(free := [])
        free.append(found)
    named: dict[str, list[Detection]] = {label: tiers[0] for label, tiers in sorted(by_label.items())}
    for label, tiers in by_label.items():
        number = 2
        for tier in tiers[1:]:
            while f"{label} {number}" in named:
                number += 1
            named[f"{label} {number}"] = tier
    return sorted(named.items())


def label_studio(videos: Sequence[FoundVideo]) -> str:
    """Label Studio's tasks, each with a prediction."""
    tasks = []
    for video in videos:
        results = [_timeline(video, found, number) for number, found in enumerate(video.in_time)]
        prediction = {"model_version": "tal-run", "score": max((r["score"] for r in results), default=0.0), "result": results}
        data = {"video": video.file_name, "fps": float(video.known_rate), "video_id": writable_text(video.name)}
        tasks.append({"data": data, "predictions": [prediction]})
    return json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"


def _timeline(video: FoundVideo, found: Detection, number: int) -> dict[str, Any]:
    first, end = video.frames_of(found)
    identity = hashlib.sha256(repr((video.name, number, found)).encode("utf-8", "backslashreplace")).hexdigest()[:10]
    return {
        "id": identity,
        "type": "timelinelabels",
        "from_name": CONTROL,
        "to_name": OBJECT,
        "value": {"ranges": [{"start": first + 1, "end": end}], "timelinelabels": [xml_text(found.label)]},
        "score": round(found.score, 6),
    }


def label_studio_config(videos: Sequence[FoundVideo]) -> str:
    """The labelling configuration for the tasks."""
    root = ElementTree.Element("View")
    labels = ElementTree.SubElement(root, "TimelineLabels", name=CONTROL, toName=OBJECT)
    for number, label in enumerate(labels_of(videos)):
        ElementTree.SubElement(labels, "Label", value=label, background=COLOURS[number % len(COLOURS)])
    ElementTree.SubElement(root, "Video", name=OBJECT, value="$video", frameRate="$fps", timelineHeight="120")
    return _as_text(root).split("\n", 1)[1]  # its readers take no XML declaration


def cvat(video: FoundVideo) -> str:
    """CVAT's annotations."""
    if video.size is None:
        raise FormatError(
            f"CVAT's boxes need the size of {printable_name(video.name)}, which is not known: give the video (--video PATH)"
        )
    width, height = video.size
    if video.duration_s:
        frames = max(1, round(Fraction(video.duration_s) * video.known_rate))
    else:
        frames = max([1, *(video.frames_of(found)[1] for found in video.detections)])
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    for name, value in (
        ("name", xml_text(video.name)),
        ("size", frames),
        ("mode", "interpolation"),
        ("overlap", 0),
        ("start_frame", 0),
        ("stop_frame", frames - 1),
    ):
        ElementTree.SubElement(task, name).text = str(value)
    labels = ElementTree.SubElement(task, "labels")
    for entry in _cvat_label_list([video]):
        label = ElementTree.SubElement(labels, "label")
        for name in ("name", "color", "type"):
            ElementTree.SubElement(label, name).text = xml_text(entry[name])
        attribute = ElementTree.SubElement(ElementTree.SubElement(label, "attributes"), "attribute")
        for name, value in (
            ("name", "score"),
            ("mutable", "False"),
            ("input_type", "text"),
            ("default_value", ""),
            ("values", ""),
        ):
            ElementTree.SubElement(attribute, name).text = value
    size = ElementTree.SubElement(task, "original_size")
    ElementTree.SubElement(size, "width").text = str(width)
    ElementTree.SubElement(size, "height").text = str(height)
    ElementTree.SubElement(task, "source").text = xml_text(video.file_name)
    for number, found in enumerate(video.in_time):
        track = ElementTree.SubElement(root, "track", id=str(number), label=xml_text(found.label), source="auto")
        first, end = video.frames_of(found)
        first = min(first, frames - 1)
        for frame, outside in ((first, "0"), (end, "1")):
            if frame < frames:
                _box(track, frame, outside, (width, height), found)
    return _as_text(root)


def _box(track: ElementTree.Element, frame: int, outside: str, size: tuple[int, int], found: Detection) -> None:
    place: dict[str, Any] = {"xtl": "0.00", "ytl": "0.00", "xbr": f"{size[0]:.2f}", "ybr": f"{size[1]:.2f}", "z_order": "0"}
    box = ElementTree.SubElement(track, "box", frame=str(frame), keyframe="1", outside=outside, occluded="0", **place)
    ElementTree.SubElement(box, "attribute", name="score").text = f"{found.score:.6g}"


def cvat_labels(videos: Sequence[FoundVideo]) -> str:
    """The labels, as CVAT's task constructor takes them."""
    return json.dumps(_cvat_label_list(videos), ensure_ascii=False, indent=1) + "\n"


def _cvat_label_list(videos: Sequence[FoundVideo]) -> list[dict[str, Any]]:
    score = {"name": "score", "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    return [
        {"name": label, "color": COLOURS[number % len(COLOURS)], "type": "rectangle", "attributes": [score]}
        for number, label in enumerate(labels_of(videos))
    ]


def _as_text(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'
