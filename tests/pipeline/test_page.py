"""The page: whole, harmless whatever the names, and its links lead to the video."""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from tal_run.models import Detection
from tal_run.pipeline import page


def _result(path: Path, *found: Detection, duration_s: float = 60.0, notes: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(path=path, detections=found, video=SimpleNamespace(duration_s=duration_s), notes=notes)


class _Tags(HTMLParser):
    """Every tag with its attributes, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def test_segments_lie_where_they_are_in_the_video(tmp_path: Path) -> None:
    found = [Detection(15.0, 30.0, "squat", 0.5), Detection(45.0, 60.0, "diving", 0.9), Detection(0.0, 6.0, "squat", 1.0)]
    parsed = _Tags(page.rendered({"a": _result(tmp_path / "a.mp4", *found)}, [], backbone="starter"))
    bars = {button["title"]: button["style"] for button in parsed.of("button")}
    assert len(bars) == 3
    assert str(bars["squat, 0:15.0 to 0:30.0, score 0.50"]).startswith("left: 25.0%; width: 25.0%;")
    assert str(bars["diving, 0:45.0 to 1:00.0, score 0.90"]).startswith("left: 75.0%; width: 25.0%;")
    lanes = [attributes for attributes in parsed.of("div") if "data-duration" in attributes]
    assert len(lanes) == 2  # one a label
    assert [row["data-start"] for row in parsed.of("tr")[1:]] == ["15.0", "45.0", "0.0"]  # as they came: best first


@pytest.mark.parametrize("name", ["a video.mp4", "50%#?.mp4", "javascript:alert(1).mp4", "ünï.mp4", '"><script>.mp4'])
def test_the_link_leads_to_the_video(name: str, tmp_path: Path) -> None:
    video = tmp_path / "in" / name
    for beside in (tmp_path / "out" / "page.html", tmp_path / "page.html"):
        (link,) = _Tags(page.rendered({name: _result(video)}, [], backbone="starter", beside=beside)).of("video")
        source = str(link["src"])
        assert source.startswith("./")
        assert os.path.normpath(os.fsencode(beside.parent) + b"/" + unquote_to_bytes(source)) == os.fsencode(video)
    (link,) = _Tags(page.rendered({name: _result(video)}, [], backbone="starter")).of("video")
    assert unquote_to_bytes(str(link["src"])) == b"file://" + os.fsencode(video)


def test_names_and_labels_are_text_whatever_they_hold(tmp_path: Path) -> None:
    nasty = "</title><script>alert(1)</script>"
    result = _result(tmp_path / "a.mp4", Detection(0.0, 1.0, nasty, 0.5), notes=(nasty,))
    parsed = _Tags(page.rendered({nasty: result}, [], backbone=nasty))
    assert len(parsed.of("script")) == 1  # the page's own
    assert parsed.text.count("alert(1)") >= 4


def test_bytes_that_are_no_utf8_can_be_written(tmp_path: Path) -> None:
    odd = os.fsdecode(b"jump \xff")
    result = _result(tmp_path / f"{odd}.mp4", Detection(0.0, 1.0, odd, 0.5), notes=(odd,))
    text = page.rendered({odd: result}, [], backbone=odd, beside=tmp_path / "p.html")
    assert text.encode("utf-8").count(rb"jump \udcff") >= 4


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = page.rendered({"a": _result(tmp_path / "a.mp4")}, [], backbone="starter", beside=tmp_path / "p.html")
    assert "http" not in text
    assert not [tag for tag, attributes in _Tags(text).tags if tag in ("link", "img", "iframe") or "href" in attributes]
    assert "0 segments found" in text
