"""Formats, each read back by the library of its users: times to the millisecond or frame, labels whatever they hold, order.

Where a library is not installed (`pip install -e .[dev]` has them), its tests say so and are skipped.
"""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_run.eval.detections import read_detections
from tal_run.models import Detection
from tal_run.pipeline import formats, formats_annotation, formats_editing, formats_subtitles
from tal_run.pipeline.formats import FORMATS, Place, rendered
from tal_run.pipeline.formats_base import FormatError, FoundVideo, lines_of, milliseconds, one_line, xml_text

NASTY = "<i>a</i> & \"b\" --> 'c'; {\\an8} = #d 🏃 日本"
RATES = [Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, Fraction(60000, 1001), 60]
LABELS = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(
    [
        NASTY,
        "a\n\nb",
        "1\n00:00:01,000 --> 00:00:02,000\nx",
        "NOTE",
        "a\r\n \tb",
        "\x00\x1b[2J",
        "\ud800",
        "WEBVTT\n\n",
        "2",
        "]]>",
    ]
)
FOUND = st.builds(
    lambda start_s, length_s, label, score: Detection(start_s, start_s + length_s, label, score),
    st.floats(0, 5000),
    st.floats(0.001, 500),
    LABELS,
    st.floats(0, 1).map(lambda score: round(score, 4)),
)
SEVERAL = st.lists(FOUND, max_size=6)
SOME = settings(max_examples=60)


def video(*found: Detection, rate: Fraction | int = 25, **more: Any) -> FoundVideo:
    known = {"name": "v", "file": "v.mp4", "rate": Fraction(rate), "size": (64, 48), "duration_s": 6000.0}
    return FoundVideo(**{**known, "detections": found, **more})


def in_time(found: list[Detection]) -> list[Detection]:
    """By an oracle of its own."""
    return sorted(found, key=lambda one: (one.start_s, -one.score, one.end_s, one.label))


def spans(found: list[Detection]) -> list[tuple[int, int]]:
    return [(round(one.start_s * 1000), max(round(one.start_s * 1000) + 1, round(one.end_s * 1000))) for one in found]


# ---- tables, read by tal-run itself ----


@pytest.mark.parametrize("name", ["json", "jsonl"])
@given(found=SEVERAL)
@SOME
def test_tables_come_back(name: str, found: list[Detection], tmp_path: Path) -> None:
    path = tmp_path / f"x{FORMATS[name].ending}"
    path.write_text(rendered(name, [video(*found)]), encoding="utf-8")
    if not found and name == "jsonl":
        assert path.read_text() == ""
        return
    table = read_detections(path)
    assert [table.labels[number] for number in table.classes] == [
        one.label.encode(errors="backslashreplace").decode() for one in found
    ]
    expected = np.array([[one.start_s, one.end_s] for one in found]).reshape(-1, 2)
    assert np.abs(table.segments - expected).max(initial=0) <= 0.0006


def test_a_csv_file_is_read_by_any_reader() -> None:
    (row,) = csv.DictReader(io.StringIO(rendered("csv", [video(Detection(1, 2.5, NASTY + '\n,"', 0.5))])))
    assert (row["label"], float(row["end_s"])) == (NASTY + '\n,"', 2.5)


def test_thumos_has_numbers_for_its_own_classes_and_names_for_others(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    for labels, classes in (
        (["long jump", "Diving"], ["14", "8"]),
        (["long jump", "arm wrestling"], ["LongJump", "ArmWrestling"]),
    ):
        path.write_text(rendered("thumos", [video(*(Detection(1, 2, label, 0.5) for label in labels))]))
        assert [line.split()[3] for line in path.read_text().splitlines()] == classes
        assert read_detections(path).labels == tuple(classes)


@pytest.mark.parametrize(
    ("labels", "name", "words"),
    [(["🏃"], "v", "no letter"), (["long jump", "LongJump"], "v", "would call both"), (["a"], "v w", "has a space")],
)
def test_what_thumos_cannot_hold_is_a_sentence(labels: list[str], name: str, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        rendered("thumos", [video(*(Detection(1, 2, label, 0.5) for label in labels), name=name)])


# ---- subtitles and chapters ----


@given(found=SEVERAL)
@SOME
def test_webvtt_is_read_by_webvtt_py(found: list[Detection]) -> None:
    webvtt = pytest.importorskip("webvtt", reason="webvtt-py reads WebVTT")
    captions = list(webvtt.WebVTT.from_string(rendered("vtt", [video(*found)])))
    assert [(_as_ms(caption.start), _as_ms(caption.end)) for caption in captions] == spans(in_time(found))
    for caption, one in zip(captions, in_time(found), strict=True):
        assert html.unescape(caption.raw_text) == f"{chr(10).join(lines_of(one.label))} ({one.score:.2f})".lstrip()


def _as_ms(clock: str) -> int:
    hours, minutes, seconds = clock.split(":")
    return (int(hours) * 60 + int(minutes)) * 60_000 + round(float(seconds) * 1000)


@given(found=SEVERAL)
@SOME
def test_ffmpeg_reads_webvtt_and_subrip_alike(found: list[Detection], tmp_path: Path) -> None:
    for name in ("vtt", "srt"):
        path = tmp_path / f"x.{name}"
        path.write_text(rendered(name, [video(*found)]), encoding="utf-8")
        if not found:
            continue
        with av.open(str(path)) as container:
            stream = container.streams.subtitles[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            times = [
                (round(packet.pts * stream.time_base * 1000), round(packet.duration * stream.time_base * 1000))
                for packet in packets
            ]
        texts = [bytes(packet).decode() for packet in packets]
        words = [one_line(one.label) if name == "srt" else "\n".join(lines_of(one.label)) for one in in_time(found)]
        shown = [f"{label} ({one.score:.2f})".lstrip() for label, one in zip(words, in_time(found), strict=True)]
        expected = [(start, end - start, text) for (start, end), text in zip(spans(in_time(found)), shown, strict=True)]
        read = [(*time, html.unescape(text) if name == "vtt" else text) for time, text in zip(times, texts, strict=True)]
        assert sorted(read) == sorted(set(expected))  # of two that are alike in all, FFmpeg shows one


@given(found=SEVERAL)
@SOME
def test_subrip_is_read_by_srt_and_pysubs2(found: list[Detection]) -> None:
    srt = pytest.importorskip("srt", reason="srt reads SubRip")
    text = rendered("srt", [video(*found)])
    cues = list(srt.parse(text))
    assert [(round(c.start.total_seconds() * 1000), round(c.end.total_seconds() * 1000)) for c in cues] == spans(in_time(found))
    assert [cue.content for cue in cues] == [f"{one_line(one.label)} ({one.score:.2f})".lstrip() for one in in_time(found)]
    assert [cue.index for cue in cues] == list(range(1, len(found) + 1))
    pysubs2 = pytest.importorskip("pysubs2", reason="pysubs2 reads SubRip")
    if any(one.label.count(":") >= 4 for one in found):
        return  # it takes any line with two clock times for a cue's
    events = pysubs2.SSAFile.from_string(text, format_="srt") if found else []
    assert [(event.start, event.end) for event in events] == spans(in_time(found))


@given(found=SEVERAL)
@SOME
def test_chapters_do_not_overlap_and_the_best_are_there(found: list[Detection], tmp_path: Path) -> None:
    kept = formats_subtitles.apart(video(*found))
    for one, other in itertools.pairwise(kept):
        assert milliseconds(one)[1] <= milliseconds(other)[0]
    for one in found:
        if one not in kept:  # a better one, or one as good, is in its place
            start, end = milliseconds(one)
            assert any(start < milliseconds(k)[1] and milliseconds(k)[0] < end and k.score >= one.score for k in kept)
    path = tmp_path / "x.ffmeta"
    path.write_text(rendered("ffmetadata", [video(*found)]), encoding="utf-8")
    with av.open(str(path), format="ffmetadata") as container:
        chapters = container.chapters()
    assert [(c["start"] * c["time_base"] * 1000, c["end"] * c["time_base"] * 1000) for c in chapters] == list(
        map(milliseconds, kept)
    )
    assert [c["metadata"].get("title", "").strip() for c in chapters] == [one_line(one.label) for one in kept]
    webvtt = pytest.importorskip("webvtt", reason="webvtt-py reads WebVTT")
    captions = list(webvtt.WebVTT.from_string(rendered("chapters", [video(*found)])))
    assert [_as_ms(caption.start) for caption in captions] == [milliseconds(one)[0] for one in kept]


# ---- edit lists ----


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_an_edit_list_is_read_by_opentimelineio(rate: Fraction | int) -> None:
    otio = pytest.importorskip("opentimelineio", reason="OpenTimelineIO reads edit lists")
    pytest.importorskip("otio_cmx3600_adapter", reason="otio-cmx3600-adapter reads edit lists")
    found = [
        Detection(4000.0, 4100.25, NASTY, 0.75),
        Detection(0.0, 0.01, "long jump", 0.5),
        Detection(3990.0, 4050.0, "b", 0.25),
    ]
    base = formats_editing.nominal_rate(Fraction(rate))
    timeline = otio.adapters.read_from_string(rendered("edl", [video(*found, rate=rate)]), adapter_name="cmx_3600", rate=base)
    track = timeline.video_tracks()[0]
    listed = [item for item in track if isinstance(item, otio.schema.Clip)]
    assert len(listed) == len(track) == len(found)  # no gaps
    for clip, one in zip(listed, in_time(found), strict=True):
        first = clip.source_range.start_time.to_frames()
        end = first + clip.source_range.duration.to_frames()
        # half a frame, by an oracle of its own; one frame at least
        assert abs(first - one.start_s * rate) <= 0.5
        assert abs(end - one.end_s * rate) <= 0.5 or end == first + 1
        (marker,) = clip.markers
        assert marker.name == f"{one.label} ({one.score:.2f})"
        assert marker.color == "RED"
        assert clip.name == "v.mp4"
        assert list(clip.metadata["cmx_3600"]["comments"]) == [f"COMMENT: {one.label} ({one.score:.2f})"]


@given(found=st.lists(FOUND, min_size=1, max_size=6), rate=st.sampled_from(RATES))
@SOME
def test_no_label_breaks_an_edit_list(found: list[Detection], rate: Fraction | int) -> None:
    lines = rendered("edl", [video(*found, rate=rate)]).split("\n")
    assert lines[1] == "FCM: NON-DROP FRAME"
    events = [line for line in lines if re.match(r"\d", line)]
    clock = r"\d\d:[0-5]\d:[0-5]\d:\d\d"
    assert all(re.fullmatch(rf"\d{{3}}  AX       V     C        {clock} {clock} {clock} {clock}", event) for event in events)
    assert len(events) == len(found)
    assert len(lines) == 3 + 5 * len(found)
    record = [event.split()[-2:] for event in events]
    assert [begin for begin, _ in record[1:]] == [end for _, end in record[:-1]]  # one behind the other


@pytest.mark.parametrize(
    ("rate", "clock"),
    [
        (Fraction(24000, 1001), "00:59:56:10"),  # an hour is 86313.7 frames, and 24 of them a second on its clock
        (25, "01:00:00:00"),
        (Fraction(30000, 1001), "00:59:56:12"),
        (60, "01:00:00:00"),
    ],
)
def test_timecode_counts_frames(rate: Fraction | int, clock: str) -> None:
    event = rendered("edl", [video(Detection(3600.0, 3601.0, "x", 0.5), rate=rate)]).split("\n")[3]
    assert event.split()[4] == clock


def test_what_a_clock_cannot_show_is_a_sentence() -> None:
    with pytest.raises(FormatError, match="24 hours"):
        rendered("edl", [video(Detection(86399.0, 86401.0, "x", 0.5))])
    with pytest.raises(FormatError, match="no timecode for 240"):
        rendered("edl", [video(Detection(1, 2, "x", 0.5), rate=240)])


# ---- annotation tools ----


@given(found=SEVERAL)
@SOME
def test_elan_s_tiers_are_read_by_pympi(found: list[Detection], tmp_path: Path) -> None:
    elan = pytest.importorskip("pympi.Elan", reason="pympi-ling reads ELAN's files")
    path = tmp_path / "x.eaf"
    path.write_text(rendered("eaf", [video(*found)]), encoding="utf-8")
    file = elan.Eaf(str(path))
    back: list[tuple[int, int, str, float]] = []
    for tier in file.get_tier_names():
        annotations = sorted(file.get_annotation_data_for_tier(tier))
        for one, other in itertools.pairwise(annotations):
            assert one[1] <= other[0]  # a tier's annotations do not overlap
        back += [(start, end, tier, float(value)) for start, end, value in annotations]
    expected = sorted((*milliseconds(one), xml_text(one.label), one.score) for one in found)
    assert sorted((start, end) for start, end, *_ in back) == sorted((start, end) for start, end, *_ in expected)
    for start, end, label, score in expected:
        near = [tier for s, e, tier, value in back if (s, e) == (start, end) and value == pytest.approx(score, abs=1e-4)]
        assert any(re.fullmatch(re.escape(label) + r"( \d+)?", tier, re.DOTALL) for tier in near)


def test_overlapping_segments_of_one_label_get_tiers_that_no_other_label_has() -> None:
    found = [Detection(0, 5, "a", 0.9), Detection(1, 6, "a", 0.8), Detection(2, 7, "a", 0.7), Detection(0, 1, "a 2", 0.6)]
    root = ElementTree.fromstring(rendered("eaf", [video(*found)]))
    assert [tier.get("TIER_ID") for tier in root.iter("TIER")] == ["a", "a 2", "a 3", "a 4"]
    assert sum(1 for _ in root.iter("ALIGNABLE_ANNOTATION")) == 4


@pytest.mark.parametrize("name", ["a video.mp4", "50%#?.mp4", "ünï.mp4", "a&<b>.mp4"])
def test_elan_finds_the_video_beside_its_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / name
    root = ElementTree.fromstring(rendered("eaf", [video(path=path)], Place(target=tmp_path / "out" / "x.eaf")))
    (media,) = root.iter("MEDIA_DESCRIPTOR")
    relative = unquote_to_bytes(media.get("RELATIVE_MEDIA_URL", ""))
    assert (tmp_path / "out" / relative.decode()).resolve() == path.resolve()
    assert unquote_to_bytes(media.get("MEDIA_URL", "")) == b"file://" + str(path.resolve()).encode()


@given(found=SEVERAL, rate=st.sampled_from(RATES))
@SOME
def test_label_studio_counts_frames_from_one(found: list[Detection], rate: Fraction | int) -> None:
    shown = video(*found, rate=rate)
    (task,) = json.loads(rendered("label-studio", [shown]))
    assert task["data"]["fps"] == pytest.approx(float(rate))
    results = task["predictions"][0]["result"]
    assert len({result["id"] for result in results}) == len({(number, one) for number, one in enumerate(found)})
    config = ElementTree.fromstring(formats_annotation.label_studio_config([shown]))
    (control,) = config.iter("TimelineLabels")
    (player,) = config.iter("Video")
    assert (player.get("value"), player.get("frameRate")) == ("$video", "$fps")
    for result, one in zip(results, in_time(found), strict=True):
        (span,) = result["value"]["ranges"]
        assert 1 <= span["start"] <= span["end"]
        assert abs(span["start"] - 1 - one.start_s * rate) <= 0.5
        assert abs(span["end"] - one.end_s * rate) <= 0.5 or span["end"] == span["start"]
        assert (result["from_name"], result["to_name"], result["type"]) == (
            control.get("name"),
            player.get("name"),
            "timelinelabels",
        )
        assert control.get("toName") == player.get("name")
        assert result["value"]["timelinelabels"][0] in {label.get("value") for label in control}


@given(found=SEVERAL, rate=st.sampled_from(RATES))
@SOME
def test_cvat_s_tracks_are_shown_from_the_first_frame_to_the_last(found: list[Detection], rate: Fraction | int) -> None:
    shown = video(*found, rate=rate)
    root = ElementTree.fromstring(rendered("cvat", [shown]))
    frames = int(root.findtext("meta/task/size") or 0)
    assert root.findtext("version") == "1.1"
    assert int(root.findtext("meta/task/stop_frame") or 0) == frames - 1
    known = {label.findtext("name") for label in root.iter("label")}
    assert known == {entry["name"] for entry in json.loads(formats_annotation.cvat_labels([shown]))}
    tracks = list(root.iter("track"))
    for track, one in zip(tracks, in_time(found), strict=True):
        assert track.get("label", "") in known
        # as CVAT interpolates: shown from a key frame until one that is outside
        visible = np.zeros(frames, bool)
        for box in track:
            visible[int(box.get("frame", "")) :] = box.get("outside") == "0"
            assert [box.get(side) for side in ("xtl", "ytl", "xbr", "ybr")] == ["0.00", "0.00", "64.00", "48.00"]
        first, end = np.flatnonzero(visible)[[0, -1]] + [0, 1]
        assert abs(first - one.start_s * rate) <= 0.5
        assert abs(end - one.end_s * rate) <= 0.5 or end == first + 1


def test_a_segment_up_to_the_end_needs_no_frame_behind_it() -> None:
    root = ElementTree.fromstring(rendered("cvat", [video(Detection(1.0, 2.0, "x", 0.5), duration_s=2.0)]))
    assert [(box.get("frame"), box.get("outside")) for box in root.iter("box")] == [("25", "0")]
    assert root.findtext("meta/task/size") == "50"


# ---- the registry ----


@pytest.mark.parametrize("name", FORMATS)
@given(found=SEVERAL)
@settings(max_examples=15)
def test_every_form_is_text_that_can_be_written(name: str, found: list[Detection]) -> None:
    plain = [Detection(one.start_s, one.end_s, f"l{number}", one.score) for number, one in enumerate(found)]
    text = rendered(name, [video(*(plain if name == "thumos" else found))])
    text.encode("utf-8")
    if name in ("eaf", "cvat"):
        ElementTree.fromstring(text)
    if FORMATS[name].companion:
        FORMATS[name].companion[1]([video(*found)]).encode("utf-8")  # type: ignore[index]


def test_endings_tell_forms_apart() -> None:
    endings = [form.ending for form in FORMATS.values()]
    assert len(set(endings)) == len(endings)
    for name, form in FORMATS.items():
        assert formats.by_ending(f"a.b{form.ending.upper()}") == name
    assert formats.by_ending("x.chapters.vtt") == "chapters"
    assert formats.by_ending("chapters.vtt") == "vtt"
    assert formats.by_ending("x.htm") == "html"
    assert formats.by_ending("x.mp4") is None


def test_the_registry_is_light() -> None:
    import subprocess

    script = "import sys, tal_run.pipeline.formats; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "torch", "av", "matplotlib"} & set(loaded)


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.counts_frames])
def test_frames_need_a_rate(name: str) -> None:
    with pytest.raises(FormatError, match=r"--video PATH.*--fps"):
        rendered(name, [FoundVideo(name="v", detections=(Detection(1, 2, "x", 0.5),), size=(64, 48))])


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.is_of_one])
def test_several_videos_in_a_file_of_one_are_a_sentence(name: str) -> None:
    with pytest.raises(FormatError, match="holds one video, and there are 2"):
        rendered(name, [video(), video()])


@given(text=st.text(st.characters(codec=None), max_size=40))
def test_one_line_is_one_line_and_xml_text_is_xml(text: str) -> None:
    assert len(one_line(text).splitlines()) <= 1
    assert one_line(one_line(text)) == one_line(text)
    element = ElementTree.fromstring(f"<a>{html.escape(xml_text(text))}</a>")
    assert (element.text or "") == xml_text(text)


# ---- libraries that bring half the world: not among the tools for development, used where they are ----


@given(found=SEVERAL)
@SOME
def test_label_studio_s_own_library_takes_tasks_and_predictions(found: list[Detection]) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface.interface", reason="label-studio-sdk checks its tasks")
    shown = [one for one in found if one.label.strip()]
    if not shown:
        return
    (task,) = json.loads(rendered("label-studio", [video(*shown)]))
    config = interface.LabelInterface(formats_annotation.label_studio_config([video(*shown)]))
    assert config.validate_prediction(task["predictions"][0], return_errors=True) == []


def test_datumaro_reads_cvat_s_tracks(tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason="datumaro reads CVAT's files")
    found = [Detection(1.0, 2.0, NASTY, 0.75), Detection(1.5, 3.0, "b", 0.5)]
    (tmp_path / "annotations.xml").write_text(rendered("cvat", [video(*found)]), encoding="utf-8")
    dataset = datumaro.Dataset.import_from(str(tmp_path), "cvat")
    labels = [category.name for category in dataset.categories()[datumaro.AnnotationType.label]]
    boxes = [
        (item.attributes["frame"], labels[box.label], box.attributes["outside"], box.points)
        for item in dataset
        for box in item.annotations
    ]
    whole = [0.0, 0.0, 64.0, 48.0]
    assert sorted(boxes) == [
        (25, NASTY, False, whole),
        (38, "b", False, whole),
        (50, NASTY, True, whole),
        (75, "b", True, whole),
    ]
