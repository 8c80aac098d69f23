"""The page: whole, harmless whatever the names, its links lead to the video, and it shows what files say or says why not."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from click.testing import CliRunner

from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, write_activitynet
from tal_run.eval.protocols import EvaluationError
from tal_run.models import Detection
from tal_run.pipeline import report, report_files, report_thumbnails
from tal_run.pipeline.cli import main
from tal_run.pipeline.detector import Curve
from tal_run.pipeline.outputs import OutputError
from tal_run.pipeline.outputs import rendered as as_file
from tal_run.pipeline.report import ReportVideo

NASTY = "</script><script>alert(1)</script>"


def _video(path: Path | None, *found: Detection, name: str = "a", **more: Any) -> ReportVideo:
    return ReportVideo(name=name, path=path, duration_s=more.pop("duration_s", 60.0), detections=found, **more)


class _Tags(HTMLParser):
    """Every tag with its attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.in_script = tag == "script"
        if self.in_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.in_script = False

    def handle_data(self, data: str) -> None:
        if self.in_script:
            self.scripts[-1] += data

    @property
    def data(self) -> dict[str, Any]:
        scripts = [attributes for tag, attributes in self.tags if tag == "script"]
        place = next(number for number, attributes in enumerate(scripts) if attributes.get("id") == "data")
        found: dict[str, Any] = json.loads(self.scripts[place])
        return found


def test_the_page_holds_what_was_found(tmp_path: Path) -> None:
    found = [Detection(45.0, 60.0, "diving", 0.9), Detection(15.0, 30.1234, "squat", 0.5)]
    curve = Curve(start_s=0.4, step_s=0.8, scores=np.array([0.0, 0.5, 1.0]))
    shown = _video(
        tmp_path / "a.mp4",
        *found,
        truth=[Instance(14.0, 31.0, "a", "squat")],
        curves={"squat": curve},
        boundaries_s=np.array([3.0, 9.5]),
        notes=["cut short"],
    )
    (video,) = _Tags(report.rendered([shown])).data["videos"]
    assert video["found"] == [[45.0, 60.0, "diving", 0.9], [15.0, 30.123, "squat", 0.5]]
    assert video["truth"] == [[14.0, 31.0, "squat"]]
    assert (video["boundaries"], video["notes"], video["duration"]) == ([3.0, 9.5], ["cut short"], 60.0)
    (over_time,) = video["curves"]
    assert (over_time["label"], over_time["start"], over_time["step"]) == ("squat", 0.4, 0.8)
    assert list(base64.b64decode(over_time["scores"])) == [0, 128, 255]


@pytest.mark.parametrize("name", ["a video.mp4", "50%#?.mp4", "javascript:alert(1).mp4", "ünï.mp4", '"><script>.mp4'])
def test_the_link_leads_to_the_video(name: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / name
    for beside in (tmp_path / "out" / "page.html", tmp_path / "page.html"):
        (video,) = _Tags(report.rendered([_video(path)], beside=beside)).data["videos"]
        assert video["link"].startswith("./")
        assert os.path.normpath(os.fsencode(beside.parent) + b"/" + unquote_to_bytes(video["link"])) == os.fsencode(path)
    (video,) = _Tags(report.rendered([_video(path)])).data["videos"]
    assert unquote_to_bytes(video["link"]) == b"file://" + os.fsencode(path)


def test_names_and_labels_are_data_whatever_they_hold(tmp_path: Path) -> None:
    shown = _video(tmp_path / "a.mp4", Detection(0.0, 1.0, NASTY, 0.5), name=NASTY, notes=(NASTY,), curves={
        NASTY: Curve(start_s=0.0, step_s=1.0, scores=np.zeros(1))})  # fmt: skip
    text = report.rendered([shown], title=NASTY, backbone=NASTY, made_by={NASTY: NASTY})
    parsed = _Tags(text)
    assert len(parsed.scripts) == 2  # the data and the page's own
    assert parsed.data["videos"][0]["name"] == NASTY == parsed.data["videos"][0]["found"][0][2]


def test_the_policy_lets_only_the_page_s_own_script_run(tmp_path: Path) -> None:
    parsed = _Tags(report.rendered([_video(tmp_path / "a.mp4")]))
    digest = base64.b64encode(hashlib.sha256(parsed.scripts[-1].encode()).digest()).decode()
    policy = next(str(attributes["content"]) for _, attributes in parsed.tags if attributes.get("http-equiv"))
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = report.rendered([_video(tmp_path / "a.mp4")], beside=tmp_path / "p.html")
    assert not re.search(r"https?:", text)
    assert not [tag for tag, attributes in _Tags(text).tags if tag in ("link", "img", "iframe") or "src" in attributes]


def test_bytes_that_are_no_utf8_can_be_written(tmp_path: Path) -> None:
    odd = os.fsdecode(b"jump \xff")
    shown = _video(tmp_path / f"{odd}.mp4", Detection(0.0, 1.0, odd, 0.5), name=odd, notes=(odd,))
    text = report.rendered([shown], title=odd, backbone=odd, beside=tmp_path / "p.html")
    assert b"\\udcff" in text.encode("utf-8")
    assert _Tags(text).data["videos"][0]["link"] == "./jump%20%FF.mp4"


def test_a_video_can_be_part_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "a.webm"
    path.write_bytes(bytes(range(256)))
    parsed = _Tags(report.rendered([_video(path), _video(None)], embed=True))
    inside = json.loads(parsed.scripts[0])
    assert (inside["type"], base64.b64decode(inside["content"])) == ("video/webm", bytes(range(256)))
    first, second = parsed.data["videos"]
    assert (first["link"], first["embedded"], second["embedded"]) == (None, "video-0", None)


def test_too_much_to_embed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with path.open("wb") as file:
        file.truncate(report.EMBED_LIMIT + 1)
    with pytest.raises(OutputError, match="leave out --embed"):
        report.rendered([_video(path)], embed=True)


# ---- from files ----


def _written(folder: Path, name: str, *found: Detection, **card: Any) -> Path:
    path = folder / f"{name}.json"
    path.write_text(as_file("json", {name: found}, {"backbone": {"name": "starter"}, "videos": {name: card}}))
    return path


def test_a_file_and_its_video_are_brought_together(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    path = make_video("bout.mp4", [("red", 1.0)])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    curves = {"fight": {"start_s": 0.0, "step_s": 0.5, "scores": [0.1, 0.9]}}
    card = {"file": "bout.mp4", "sha256": digest, "duration_s": 1.0, "notes": ["dark"], "curves": curves, "boundaries_s": [0.5]}
    found = report_files.gather([_written(tmp_path, "bout", Detection(0.2, 0.8, "fight", 0.7), **card)])
    (video,) = found.videos
    assert (video.path, video.duration_s, list(video.notes)) == (path, 1.0, ["dark"])
    assert list(video.curves["fight"].scores) == [0.1, 0.9]
    assert (found.backbone, found.notes) == ("starter", [])
    assert "curves" not in found.made_by["videos"]["bout"]  # for people

    path.write_bytes(path.read_bytes() + b"\0")
    (video,) = report_files.gather([tmp_path / "bout.json"]).videos
    assert "sha256 is another" in video.notes[-1]


def test_the_name_of_a_video_leads_nowhere_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"x")
    inner = tmp_path / "in"
    inner.mkdir()
    for name in ("../secret.mp4", str(secret), "..", "a\0b"):
        (video,) = report_files.gather([_written(inner, "a", Detection(0.0, 1.0, "x", 0.5), file=name)]).videos
        assert video.path is None


@pytest.mark.parametrize(
    "card",
    [
        {"videos": 3},
        {"videos": {"a": []}},
        {"videos": {"a": {"file": 5, "sha256": [], "duration_s": "long", "notes": {"x": 1}}}},
        {"videos": {"a": {"duration_s": -1.0, "curves": {"x": 4, "y": {"scores": [1, "2a"], "start_s": 0, "step_s": 1}}}}},
        {"videos": {"a": {"duration_s": True, "curves": {"x": {"scores": [[1], [2, 3]], "start_s": 0, "step_s": 1}}}}},
        {"videos": {"a": {"boundaries_s": ["x", None, -3], "curves": {"x": {"scores": [1], "start_s": 0, "step_s": 0}}}}},
        {"videos": {"a": {"curves": {"x": {"scores": [1], "start_s": 10**400, "step_s": 1}}, "boundaries_s": [10**400]}}},
        {"videos": {"a": {"file": "x" * 300}}},
        {"backbone": ["x"]},
    ],
)
def test_what_a_file_says_of_itself_is_passed_over_where_it_is_nonsense(card: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(as_file("json", {"a": [Detection(0.0, 7.5, "x", 0.5)]}, card))
    found = report_files.gather([path])
    (video,) = found.videos
    assert (video.duration_s, dict(video.curves), len(video.boundaries_s), found.backbone) == (7.5, {}, 0, "")
    report.rendered(found.videos, made_by=found.made_by)


@pytest.mark.parametrize("segment", ["[1, 1]", "[3, 2]", "[-1, 2]", "[0, 1e300]", "[NaN, 2]"])
def test_what_cannot_be_shown_is_named(segment: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'{{"results": {{"a": [{{"label": "x", "score": 1, "segment": {segment}}}]}}}}')
    with pytest.raises(EvaluationError, match=r"a, detection 0.*cannot be shown"):
        report_files.gather([path])


def test_a_folder_gives_all_that_it_holds_and_says_what_it_left_out(tmp_path: Path) -> None:
    inner = tmp_path / "in" / "deeper"
    inner.mkdir(parents=True)
    _written(inner.parent, "b", Detection(0.0, 1.0, "x", 0.5))
    _written(inner, "a", Detection(0.0, 1.0, "x", 0.5))
    (inner / "c.csv").write_text("video_id,label,start_s,end_s,score\na,y,1,2,0.5\n")
    (inner / "broken.json").write_text("{")
    (inner / "loop").symlink_to(tmp_path / "in")
    found = report_files.gather([tmp_path / "in"])
    assert [video.name for video in found.videos] == ["b", "a (a.json)", "a (c.csv)"]  # of one name, two files
    assert len(found.notes) == 1
    assert "broken.json" in found.notes[0]
    with pytest.raises(EvaluationError, match="broken JSON"):  # asked for by name
        report_files.gather([inner / "broken.json"])


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    _written(tmp_path, "a", Detection(0.0, 1.0, "x", 0.5))
    os.mkfifo(tmp_path / "b.json")
    assert len(report_files.gather([tmp_path]).videos) == 1


def test_a_name_that_no_file_can_have_is_a_name(tmp_path: Path) -> None:
    """``x…x.mp4`` can be one where ``x…x.webm`` cannot."""
    (tmp_path / "a.json").write_text(as_file("json", {"x" * 251: [Detection(0.0, 1.0, "x", 0.5)]}))
    (video,) = report_files.gather([tmp_path / "a.json"]).videos
    assert (video.name, video.path) == ("x" * 251, None)


def test_of_a_batch_s_folder_its_results_are_shown_once(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    _written(tmp_path / "results", "a", Detection(0.0, 1.0, "x", 0.5))
    (tmp_path / "batch.json").write_text("{}")
    (tmp_path / "detections.csv").write_text("video_id,label,start_s,end_s,score\na,x,0,1,0.5\n")
    found = report_files.gather([tmp_path])
    assert ([video.name for video in found.videos], found.notes) == (["a"], [])


def test_truth_comes_by_the_video_s_name(tmp_path: Path) -> None:
    truth = GroundTruth(videos=(VideoTruth(video_id="a", duration_s=9.0, instances=(Instance(1.0, 2.0, "a", "x"),)),))
    (video,) = report_files.gather([_written(tmp_path, "a", Detection(0.0, 1.0, "x", 0.5))], truth=truth).videos
    assert ([true.start_s for true in video.truth], video.duration_s) == ([1.0], 9.0)
    other = report_files.gather([_written(tmp_path, "b", Detection(0.0, 1.0, "x", 0.5))], truth=truth)
    assert "says nothing of these videos" in other.notes[0]
    assert "without the ending" not in other.notes[0]
    named = replace(truth, videos=(VideoTruth(video_id="b.MP4", duration_s=9.0, instances=()),))
    (note,) = report_files.gather([_written(tmp_path, "b", Detection(0.0, 1.0, "x", 0.5))], truth=named).notes
    assert note.endswith("(a video is called as its file without the ending)")


def test_the_command_line_tells_what_it_made(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    make_video("bout.mp4", [("red", 1.0)])
    path = _written(tmp_path, "bout", Detection(0.2, 0.8, "fight", 0.7), file="bout.mp4")
    write_activitynet(GroundTruth(videos=(VideoTruth(video_id="bout", duration_s=1.0),)), tmp_path / "truth.json")
    target = tmp_path / "out.html"
    result = CliRunner().invoke(main, ["report", str(path), "--ground-truth", str(tmp_path / "truth.json"), "-o", str(target)])
    assert (result.exit_code, result.stderr) == (0, f"{target}: 1 video, 1 segment\n")
    assert _Tags(target.read_text()).data["videos"][0]["link"] == "./bout.mp4"

    (tmp_path / "bout.mp4").unlink()
    result = CliRunner().invoke(main, ["report", str(path), "-o", str(target)])
    assert "--video says where it lies" in result.stderr
    for wrong in (["-o", str(tmp_path / "out.json")], ["--video", "nowhere", "-o", str(target)]):
        assert CliRunner().invoke(main, ["report", str(path), *wrong]).exit_code == 2


@pytest.mark.parametrize("shape", [(240, 427), (427, 240), (240, 240), (240, 24_000), (50, 60)])
def test_a_thumbnail_is_small_whatever_it_shows(shape: tuple[int, int]) -> None:
    height, width = shape
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)  # the worst there is to compress
    for picture in (noise, np.zeros_like(noise)):
        text = report_thumbnails.encoded(picture)
        assert (text[:4], text[8:12]) == (b"RIFF", b"WEBP")
        assert len(text) <= report_thumbnails.MOST_BYTES


def test_a_thumbnail_looks_like_its_picture() -> None:
    import cv2

    across, down = np.meshgrid(np.linspace(0, 255, 427), np.linspace(0, 255, 240))
    picture = np.stack([across, down, np.full_like(across, 40)], axis=2).astype(np.uint8)
    back = cv2.imdecode(np.frombuffer(report_thumbnails.encoded(picture), np.uint8), cv2.IMREAD_COLOR)
    assert back is not None
    assert back.shape == (135, 240, 3)
    wanted = cv2.resize(picture, (240, 135), interpolation=cv2.INTER_AREA)
    assert np.abs(back[..., ::-1].astype(int) - wanted).mean() < 4


def test_a_thumbnail_is_of_the_best_detection_s_middle() -> None:
    found = [Detection(0.0, 1.0, "a", 0.2), Detection(10.0, 20.0, "a", 0.9), Detection(3.0, 4.0, "b", 0.5)]
    assert report_thumbnails.moment(_video(None, *found)) == 15.0
    assert report_thumbnails.moment(_video(None, truth=[Instance(4.0, 6.0, "a", "squat")])) == 5.0
    assert report_thumbnails.moment(_video(None, duration_s=50.0)) == 25.0


def test_pages_of_several_videos_have_thumbnails_and_say_their_size(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    for name in ("a", "b"):
        make_video(f"{name}.mp4", [("red", 2.0)]).rename(tmp_path / f"{name}.mp4")
    (tmp_path / "c.mp4").write_bytes(b"no video")  # costs a sentence
    rows = "".join(f"{name},squat,0,1,0.5\n" for name in "abcd")
    (tmp_path / "found.csv").write_text("video_id,label,start_s,end_s,score\n" + rows)
    arguments = ["report", str(tmp_path / "found.csv"), "-o", str(tmp_path / "page.html")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    videos = _Tags((tmp_path / "page.html").read_text()).data["videos"]
    assert [video["picture"] is not None for video in videos] == [True, True, False, False]
    assert base64.b64decode(videos[0]["picture"])[8:12] == b"WEBP"
    assert re.search(r"page.html: 4 videos, 4 segments, \d+ kB$", result.stderr, re.MULTILINE)
    assert "no picture" in result.stderr
    assert "c.mp4" in result.stderr
    assert CliRunner().invoke(main, [*arguments, "--no-thumbnails"]).exit_code == 0
    assert not any(video["picture"] for video in _Tags((tmp_path / "page.html").read_text()).data["videos"])
