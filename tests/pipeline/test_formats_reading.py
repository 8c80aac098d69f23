"""Forms of players and tools come back: written, read, equal up to what the form can hold; and what tools make of them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tal_run.eval.annotations import read as read_annotations
from tal_run.eval.protocols import EvaluationError
from tal_run.models import Detection
from tal_run.pipeline import formats_reading, report_files
from tal_run.pipeline.cli import main
from tal_run.pipeline.formats import FORMATS, rendered
from tal_run.pipeline.formats_base import FoundVideo, lines_of, one_line, xml_text

RATES = [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)]
# what is a label: some text in which something is to be seen, in any script, markup and all
LABELS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20).map(str.strip).filter(
    lambda text: bool(one_line(text))
) | st.sampled_from(['<i>a</i> & "b" --> c', "jump 2", "jump", "long jump (2)", "{\\an8}x", "NOTE", "🏃 日本", "]]>", "&amp;"])
FOUND = st.builds(
    lambda start_s, length_s, label, score: Detection(start_s, start_s + length_s, label, round(score, 2)),
    st.floats(0, 5000),
    st.floats(0.05, 500),
    LABELS,
    st.floats(0, 1),
)
SEVERAL = st.lists(FOUND, min_size=1, max_size=6)
SOME = settings(max_examples=60)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def written(kind: str, found: Sequence[Detection], folder: Path, rate: Fraction) -> Path:
    video = FoundVideo(name="v", detections=found, file="v.mp4", rate=rate, size=(64, 48), duration_s=6000.0)
    path = folder / f"v{FORMATS[kind].ending}"
    path.write_text(rendered(kind, [video]), encoding="utf-8", newline="")
    return path


def back(path: Path, rate: Fraction) -> list[Detection]:
    (video,) = report_files.gather([path], rate=rate).videos
    assert video.name == "v"
    return list(video.detections)


def _ordered(found: Sequence[tuple[int, int, str, float]]) -> list[tuple[int, int, str, float]]:
    return sorted(found)


HELD = {"vtt": lambda label: "\n".join(lines_of(label)), "srt": one_line, "edl": one_line, "eaf": xml_text,
        "label-studio": xml_text, "cvat": xml_text}  # fmt: skip


@pytest.mark.parametrize("kind", HELD)
@given(found=SEVERAL, rate=st.sampled_from(RATES))
@SOME
def test_what_is_written_comes_back(kind: str, found: list[Detection], rate: Fraction, tmp_path: Path) -> None:
    """Times in milliseconds or whole frames, scores to two decimals, labels as the form holds them."""
    per_s = rate if FORMATS[kind].counts_frames else Fraction(1000)

    def expected(one: Detection) -> tuple[int, int, str, float]:
        start = round(Fraction(one.start_s) * per_s) if per_s != 1000 else round(one.start_s * 1000)
        end = round(Fraction(one.end_s) * per_s) if per_s != 1000 else round(one.end_s * 1000)
        return start, max(start + 1, end), HELD[kind](one.label), one.score

    read = back(written(kind, found, tmp_path, rate), rate)
    ticks = [(float(Fraction(one.start_s) * per_s), float(Fraction(one.end_s) * per_s), one) for one in read]
    for start, end, _ in ticks:  # a whole number of frames, but for the last bits
        assert start == pytest.approx(round(start), abs=1e-6)
        assert end == pytest.approx(round(end), abs=1e-6)
    assert _ordered([(round(s), round(e), one.label, one.score) for s, e, one in ticks]) == _ordered(list(map(expected, found)))


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", *HELD])
@given(found=SEVERAL)
@example(found=[Detection(0.0, 1.0, "0", 0.0), Detection(0.0, 2.0, "0", 0.0), Detection(4e-7, 1.0000004, "0", 0.0)])
@SOME
def test_a_second_time_nothing_changes(kind: str, found: list[Detection], tmp_path: Path) -> None:
    once = back(written(kind, found, tmp_path, Fraction(25)), Fraction(25))
    again = back(written(kind, once, tmp_path, Fraction(25)), Fraction(25))
    assert again == once


@given(found=SEVERAL)
@SOME
def test_chapters_come_back_without_scores(found: list[Detection], tmp_path: Path) -> None:
    found = [Detection(one.start_s, one.end_s, f"{one.label} x", one.score) for one in found]  # none ends like a score
    read = back(written("chapters", found, tmp_path, Fraction(25)), Fraction(25))
    assert {one.score for one in read} == {1.0}
    assert {one.label for one in read} <= {"\n".join(lines_of(one.label)) for one in found}


def test_of_label_studio_what_people_did_counts(tmp_path: Path) -> None:
    def result(first: int, last: int, label: str) -> dict[str, object]:
        value = {"ranges": [{"start": first, "end": last}], "timelinelabels": [label]}
        return {"type": "timelinelabels", "value": value}

    tasks = [
        {
            "id": 1,
            "data": {"video": "/data/local-files/?d=in/a%20b.mp4", "fps": 29.97002997},
            "predictions": [{"result": [{**result(1, 30, "guess"), "score": 0.5}]}],
            "annotations": [
                {"result": [result(1, 60, "first")]},
                {"result": [result(31, 60, "jump"), {"type": "choices", "value": {}}]},
                {"result": [result(1, 2, "thrown away")], "was_cancelled": True},
            ],
        },
        {"id": 2, "data": {"video": "c.mp4", "fps": 25, "video_id": "C"}, "predictions": [{"result": [result(1, 1, "x")]}]},
        {"id": 3, "data": {"video": "d.mp4"}, "annotations": [{"result": []}]},
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    found = {video.name: list(video.detections) for video in report_files.gather([tmp_path / "export.json"]).videos}
    # a prefix of the storage's is no part of the name
    assert found["a b"] == [Detection(30 * 1001 / 30000, 60 * 1001 / 30000, "jump", 1.0)]
    assert found["C"] == [Detection(0.0, 0.04, "x", 1.0)]
    assert found["d"] == []


def test_of_cvat_each_stretch_in_which_a_track_is_seen(tmp_path: Path) -> None:
    boxes = "".join(
        f'<box frame="{frame}" outside="{outside}" keyframe="0"><attribute name="score">{score}</attribute></box>'
        for frame, outside, score in [(50, 0, "0.25"), (51, 0, "0.25"), (75, 1, ""), (100, 0, "mine"), (124, 0, "")]
    )
    text = (
        f'<annotations><meta><task><name>v</name><size>125</size></task></meta><track label="run">{boxes}</track></annotations>'
    )
    (tmp_path / "v.xml").write_text(text)
    assert back(tmp_path / "v.xml", Fraction(25)) == [Detection(4.0, 5.0, "run", 1.0), Detection(2.0, 3.0, "run", 0.25)]


def test_of_elan_a_speaker_s_name_is_no_label(tmp_path: Path) -> None:
    text = (
        '<ANNOTATION_DOCUMENT><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="b" '
        'TIME_VALUE="2500"/></TIME_ORDER><TIER TIER_ID="waving" PARTICIPANT="Anna"><ANNOTATION><ALIGNABLE_ANNOTATION '
        'ANNOTATION_ID="1" TIME_SLOT_REF1="a" TIME_SLOT_REF2="b"><ANNOTATION_VALUE>twice</ANNOTATION_VALUE>'
        "</ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"
    )
    (tmp_path / "v.eaf").write_text(text)
    assert back(tmp_path / "v.eaf", Fraction(25)) == [Detection(1.0, 2.5, "waving", 1.0)]


def test_subtitles_of_other_makers_are_read(tmp_path: Path) -> None:
    (tmp_path / "v.vtt").write_text(
        "WEBVTT - a title\n\nNOTE 00:00 is no time\n\n00:01.500 --> 00:03.000 align:start\n<v Anna>high <b>jump</b></v>\n"
    )
    assert back(tmp_path / "v.vtt", Fraction(25)) == [Detection(1.5, 3.0, "high jump", 1.0)]
    (tmp_path / "v.srt").write_bytes(b"\xef\xbb\xbf1\r\n01:00:00,040 --> 01:00:01,000\r\nlong jump\r\n\r\n")
    assert back(tmp_path / "v.srt", Fraction(25)) == [Detection(3600.04, 3601.0, "long jump", 1.0)]


ELAN = (
    '<ANNOTATION_DOCUMENT><TIME_ORDER><TIME_SLOT TIME_SLOT_ID="a" TIME_VALUE="1"/>'
    '<TIME_SLOT TIME_SLOT_ID="b" TIME_VALUE="500"/></TIME_ORDER>'
    '<TIER TIER_ID="jump"><ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="a" TIME_SLOT_REF2="b">'
    "<ANNOTATION_VALUE>0.5</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"
)
LABEL_STUDIO = (
    '[{"data": {"video": "v.mp4", "fps": 25}, "annotations": [{"result": [{"type": "timelinelabels", "score": 1, "value": '
    '{"ranges": [{"start": 1, "end": 500}], "timelinelabels": ["jump"]}}]}]}]'
)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("v.vtt", "1\n00:00.000 --> 00:01.000\nx\n", "does not begin with WEBVTT"),
        ("v.srt", "hello", "has no times"),
        ("v.srt", "1\n00:00:02,000 --> 00:00:01,000\nx\n", "needs 0 <= start < end"),
        ("v.eaf", "<!DOCTYPE x [<!ENTITY a 'b'>]><ANNOTATION_DOCUMENT/>", "declares entities"),
        ("v.eaf", "<ANNOTATION_DOCUMENT>", "cannot be read"),
        ("v.xml", "<other/>", "not CVAT"),
        ("v.edl", "hello", "no edit list"),
        ("v.json", "[1]", "cannot be read"),
        ("v.json", '[{"data": {"fps": -1}, "annotations": [{"result": [{"type": "timelinelabels"}]}]}]', "no number of frames"),
        ("v.json", "[" * 100_000, "cannot be read"),
        ("v.vtt", f"WEBVTT\n\n00:01.000 --> {'9' * 400}:00:00.000\nx\n", "cannot be read"),
        ("v.eaf", ELAN.replace("500", "9" * 400), "cannot be read"),
        ("v.json", LABEL_STUDIO.replace("500", "9" * 400), "cannot be read"),
        ("v.json", LABEL_STUDIO.replace("500", "Infinity"), "cannot be read"),
        ("v.json", LABEL_STUDIO.replace("25", "9" * 400), "cannot be read"),
        # of what a parser takes for no comment, too
        ("v.eaf", f"<?x <!-- ?><!DOCTYPE x [<!ENTITY a 'b'>]><?x --> ?>{ELAN.replace('jump', '&a;')}", "declares entities"),
        ("v.eaf", "<!--" * 1_000_000, "cannot be read"),  # at once
        ("v.csv", "video_id,label,start_s,end_s,score\nv,x,1,inf,1\n", "v.csv, line 2 .* cannot be shown"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(EvaluationError, match=words):
        report_files.gather([tmp_path / name])


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("v.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\n" + "<" * 1_000_000, 1),
        ("v.vtt", "WEBVTT\n\n" + "00:01.000 --> 00:02.000\nx\n" * 60_000, 60_000),
        ("v.srt", "1\n00:00:01,000 --> 00:00:02,000\nx" + " " * 1_000_000 + "y", 1),
        ("v.json", json.dumps({"results": {f"v{number}": [] for number in range(60_000)}}), 0),
    ],
    ids=["tags without an end", "cues without blank lines", "white", "videos"],
)
def test_what_takes_twice_the_room_takes_twice_the_time(name: str, text: str, count: int, tmp_path: Path) -> None:
    """Minutes or hours where it takes four times."""
    (tmp_path / name).write_text(text)
    began_s = time.process_time()
    found = report_files.gather([tmp_path / name]).videos
    assert sum(len(video.detections) for video in found) == count
    if count == 1:
        assert one_line(found[0].detections[0].label)
    assert time.process_time() - began_s < 30


@given(content=st.binary(max_size=200), ending=st.sampled_from([*formats_reading.ENDINGS, ".json"]))
@SOME
def test_whatever_a_file_holds_it_is_read_or_a_sentence(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"v{ending}"
    path.write_bytes((b"[" if ending == ".json" else b"WEBVTT\n" if ending == ".vtt" else b"") + content)
    with suppress(EvaluationError):  # and nothing else
        formats_reading.read(path, rate_of=lambda name, file: Fraction(25))


def test_corrections_come_back_by_the_command_line(tmp_path: Path) -> None:
    table = "video_id,label,start_s,end_s,score\nv,long jump,1,2,0.25\nv,long jump,1.5,3,0.5\n"
    (tmp_path / "found.csv").write_text(table)
    assert run("convert", tmp_path / "found.csv", "-o", tmp_path / "v.eaf").exit_code == 0
    corrected = (tmp_path / "v.eaf").read_text().replace('TIME_VALUE="3000"', 'TIME_VALUE="4000"')
    (tmp_path / "v.eaf").write_text(corrected)
    assert run("convert", tmp_path / "v.eaf", "-o", tmp_path / "back.csv").exit_code == 0
    rows = (tmp_path / "back.csv").read_text().splitlines()
    assert rows == [table.splitlines()[0], "v,long jump,1.5,4.0,0.5", "v,long jump,1.0,2.0,0.25"]
    # what counts frames needs to know how many there are a second
    assert run("convert", tmp_path / "found.csv", "--fps", "25", "-o", tmp_path / "v.edl").exit_code == 0
    result = run("convert", tmp_path / "v.edl", "-o", tmp_path / "again.csv")
    assert (result.exit_code, "--fps" in result.stderr) == (2, True)
    assert run("convert", tmp_path / "v.edl", "--fps", "25", "-o", tmp_path / "again.csv").exit_code == 0
    assert (tmp_path / "again.csv").read_text().count("long jump") == 2


@pytest.mark.parametrize("kind", ["eaf", "edl", "label-studio", "cvat"])
@pytest.mark.parametrize("name", ["v", "day 1/v", "Ünïcode & <v>"])
def test_a_video_keeps_its_name_whatever_the_file_is_called(kind: str, name: str, tmp_path: Path) -> None:
    file = f"{Path(name).name}.mp4"
    video = FoundVideo(
        name=name, detections=[Detection(1, 2, "x", 0.5)], file=file, rate=Fraction(25), size=(64, 48), duration_s=9
    )
    path = tmp_path / f"corrected{FORMATS[kind].ending}"
    path.write_text(rendered(kind, [video]), encoding="utf-8", newline="")
    assert [back.name for back in report_files.gather([path], rate=Fraction(25)).videos] == [name]


def test_of_elan_s_own_files_and_editors_titles_the_video_s_file_counts(tmp_path: Path) -> None:
    (tmp_path / "a.eaf").write_text(
        '<ANNOTATION_DOCUMENT><HEADER><MEDIA_DESCRIPTOR MEDIA_URL="file:///in/my%20video.mp4"/></HEADER></ANNOTATION_DOCUMENT>'
    )
    event = "001  AX V C 00:00:01:00 00:00:02:00 00:00:00:00 00:00:01:00"
    (tmp_path / "b.edl").write_text(f"TITLE: Timeline 1\n{event}\n* FROM CLIP NAME: clip.mov\n* COMMENT: x\n")
    (tmp_path / "c.edl").write_text(f"TITLE: Timeline 1\n{event}\n* COMMENT: x\n")
    names = [
        [v.name for v in report_files.gather([tmp_path / f], rate=Fraction(25)).videos] for f in ("a.eaf", "b.edl", "c.edl")
    ]
    assert names == [["my video"], ["clip"], ["c"]]


def test_subtitles_are_of_the_one_video_that_is_given(tmp_path: Path) -> None:
    subtitles = "1\n00:00:01,000 --> 00:00:02,000\nx (0.50)\n"
    (tmp_path / "found.srt").write_text(subtitles)
    for name in ("bout.mp4", "other.mp4"):
        (tmp_path / name).write_bytes(b"")
    (one,) = report_files.gather([tmp_path / "found.srt"], videos=[tmp_path / "bout.mp4"]).videos
    assert (one.name, one.path) == ("bout", tmp_path / "bout.mp4")
    assert [video.name for video in report_files.gather([tmp_path / "found.srt"], videos=[tmp_path]).videos] == ["found"]


def test_what_was_corrected_can_be_learnt_from(tmp_path: Path) -> None:
    """Scores are left out, so that it is read as what is true; of all files in a folder at once."""
    (tmp_path / "in").mkdir()
    for name, start_s in (("a", 1), ("b", 3)):
        video = FoundVideo(name=name, detections=[Detection(start_s, 5, "open, the valve", 0.5)])
        (tmp_path / "in" / f"corrected {name}.eaf").write_text(rendered("eaf", [video]), encoding="utf-8")
    assert run("convert", tmp_path / "in", "-o", tmp_path / "truth.csv", "--annotations").exit_code == 0
    truth = {
        v.video_id: [(i.start_s, i.end_s, i.label) for i in v.instances]
        for v in read_annotations(tmp_path / "truth.csv").videos
    }
    assert truth == {"a": [(1, 5, "open, the valve")], "b": [(3, 5, "open, the valve")]}
    for target in ("truth.json", "folder/"):
        result = run("convert", tmp_path / "in", "-o", f"{tmp_path}/{target}", "--format", "json", "--annotations")
        assert result.exit_code == 2
        assert "ends in .csv" in result.stderr


def test_a_folder_of_subtitles_alone_is_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nx (0.50)\n")
    assert [video.name for video in report_files.gather([tmp_path]).videos] == ["a", "b"]
    (tmp_path / "found.csv").write_text("video_id,label,start_s,end_s,score\nc,x,1,2,0.5\n")  # of which they may be made
    assert [video.name for video in report_files.gather([tmp_path]).videos] == ["c"]
