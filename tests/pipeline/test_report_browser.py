"""The page in a real browser: clicks seek, filters filter, keys work, and nothing appears in its console.

Where no Chromium is installed these are skipped; `apt-get install chromium` (or Chrome) brings one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tal_run.eval.annotations import Instance
from tal_run.models import Detection
from tal_run.pipeline import report, report_thumbnails
from tal_run.pipeline.detector import Curve
from tal_run.pipeline.report import ReportVideo

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

SIZES = {"desktop": (1100, 900), "phone": (390, 800)}
HOURS_S = 36_000.0  # ten


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield browser
        browser.close()


@pytest.fixture(params=SIZES)
def tab(request: pytest.FixtureRequest, chromium: Any) -> Iterator[Any]:
    """A page of either size; what its console says in the end is the test's failure."""
    width, height = SIZES[request.param]
    page = chromium.new_page(viewport={"width": width, "height": height}, accept_downloads=True)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    page.close()
    assert said == []


def _until(tab: Any, condition: str, *, limit_s: float = 20.0) -> None:
    """Wait for something to be true in the page, whose policy forbids the browser's own way to wait."""
    end_s = time.monotonic() + limit_s
    while not tab.evaluate(condition):
        assert time.monotonic() < end_s, f"never: {condition}"
        tab.wait_for_timeout(50)


FOUND = (
    Detection(2.0, 3.0, "diving", 0.9),
    Detection(5.0, 7.5, "squat", 0.6),
    Detection(1.0, 4.0, "squat", 0.4),
    Detection(8.0, 9.0, "=squat", 0.2),
)


@pytest.fixture
def opened(tab: Any, tmp_path: Path, make_video: Callable[..., Path]) -> Any:
    """The tab with one video of ten seconds in it."""
    path = make_video("a b#1.mp4", [("red", 5.0), ("blue", 5.0)])
    curves = {"squat": Curve(start_s=0.0, step_s=1.0, scores=np.linspace(0, 1, 10))}
    truth = [Instance(1.5, 3.5, "a", "diving"), Instance(8.0, 9.0, "a", "golf swing")]
    shown = ReportVideo(
        name="a", path=path, duration_s=10.0, detections=FOUND, truth=truth, curves=curves, boundaries_s=np.array([2.0, 6.0])
    )
    target = tmp_path / "page.html"
    target.write_text(report.rendered([shown], beside=target))
    tab.goto(target.as_uri())
    _until(tab, "page.current.player.readyState >= 2")
    return tab


def _time(tab: Any) -> float:
    return float(tab.evaluate("page.current.player.currentTime"))


def _rows(tab: Any) -> list[str]:
    return [str(text) for text in tab.locator("tbody tr:not(.spacer) td:nth-child(3)").all_inner_texts()]


def _click(tab: Any, number: int) -> None:
    """Click the middle of a segment on the timeline, where it is drawn."""
    box = tab.evaluate(f"page.current.timeline.box(page.current.video.found[{number}])")
    canvas = tab.locator(".stage canvas")
    canvas.scroll_into_view_if_needed()
    canvas.click(position={"x": (box["left"] + box["right"]) / 2, "y": box["top"] + box["height"] / 2})


def test_a_click_on_a_segment_plays_it_to_its_end(opened: Any) -> None:
    _click(opened, 0)
    assert 2.0 <= _time(opened) < 3.0
    _until(opened, "page.current.player.paused && page.current.player.currentTime >= 3.0")
    assert _time(opened) < 3.3
    assert opened.locator("tr.picked td").first.inner_text() == "0:02.0"


def test_a_click_beside_segments_and_a_drag_on_the_times_seek(opened: Any) -> None:
    x = opened.evaluate("page.current.timeline.x(6.0)")
    canvas = opened.locator(".stage canvas")
    lane = opened.evaluate("page.current.timeline.lanes().find(lane => lane.label === 'diving').bar")
    canvas.click(position={"x": x, "y": lane + 5})
    assert _time(opened) == pytest.approx(6.0, abs=0.1)
    box = canvas.bounding_box()
    opened.mouse.move(box["x"] + x, box["y"] + 5)
    opened.mouse.down()
    opened.mouse.move(box["x"] + opened.evaluate("page.current.timeline.x(4.0)"), box["y"] + 5)
    opened.mouse.up()
    assert _time(opened) == pytest.approx(4.0, abs=0.1)


def test_filters_filter_the_table_and_the_timeline(opened: Any) -> None:
    assert _rows(opened) == ["diving", "squat", "squat", "=squat"]  # best first
    opened.locator("input[type=range]").fill("0.5")
    assert _rows(opened) == ["diving", "squat"]
    assert opened.evaluate("page.current.timeline.view.shown.length") == 2
    opened.get_by_role("button", name="diving").click()
    assert _rows(opened) == ["squat"]
    assert opened.evaluate("page.current.timeline.box(page.current.video.found[0])") is None  # its lane is gone
    opened.get_by_role("button", name="all").click()
    opened.locator("input[type=range]").fill("0")
    opened.get_by_role("button", name="from", exact=True).click()
    assert [text.split()[0] for text in opened.locator("tbody tr").all_inner_texts()] == [
        "0:01.0",
        "0:02.0",
        "0:05.0",
        "0:08.0",
    ]
    assert opened.locator("th[aria-sort=ascending]").inner_text().startswith("from")


def test_keys(opened: Any) -> None:
    press = opened.keyboard.press
    press("n")
    assert 1.0 <= _time(opened) < 2.0
    press("n")
    assert 2.0 <= _time(opened) < 3.0
    press("p")
    assert 1.0 <= _time(opened) < 2.0
    press("Space")
    assert opened.evaluate("page.current.player.paused")
    before = _time(opened)
    press("ArrowRight")
    assert _time(opened) == pytest.approx(before + 5, abs=0.1)
    press("Shift+ArrowLeft")
    assert _time(opened) == pytest.approx(before + 4, abs=0.1)
    press("+")
    assert float(opened.locator(".stage canvas").get_attribute("data-to")) - float(
        opened.locator(".stage canvas").get_attribute("data-from")
    ) == pytest.approx(5.0, abs=0.01)
    press("0")
    assert opened.locator(".stage canvas").get_attribute("data-to") == "10.000"
    press("?")
    assert opened.locator("dialog").is_visible()


def test_the_wheel_zooms_to_where_the_pointer_is(opened: Any) -> None:
    canvas = opened.locator(".stage canvas")
    canvas.scroll_into_view_if_needed()
    box, x = canvas.bounding_box(), opened.evaluate("page.current.timeline.x(7.0)")
    opened.mouse.move(box["x"] + x, box["y"] + 5)
    opened.mouse.wheel(0, -300)
    _until(opened, "page.current.timeline.to - page.current.timeline.from < 9")
    assert opened.evaluate("page.current.timeline.x(7.0)") == pytest.approx(x, abs=1.5)  # pointers move by whole pixels
    length = opened.evaluate("page.current.timeline.to - page.current.timeline.from")
    assert length == pytest.approx(10 / np.e, rel=0.05)


def test_what_is_filtered_can_be_saved(opened: Any, tmp_path: Path) -> None:
    with opened.expect_download() as download:
        opened.get_by_role("button", name="Save as CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "video_id,label,start_s,end_s,score"
    assert lines[1] == "a,diving,2,3,0.9"
    assert lines[4] == "a,'=squat,8,9,0.2"  # a spreadsheet takes it for text
    opened.locator("input[type=range]").fill("0.5")
    with opened.expect_download() as download:
        opened.get_by_role("button", name="Save as JSON").click()
    saved = json.loads(Path(download.value.path()).read_text())
    assert [entry["label"] for entry in saved["results"]["a"]] == ["diving", "squat"]


def test_light_and_dark_differ(opened: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    before = opened.evaluate(paper)
    opened.get_by_role("button", name="◐").click()
    assert opened.evaluate(paper) != before


def test_nothing_is_wider_than_the_window(opened: Any) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_video_that_is_gone_is_said(tab: Any, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text(report.rendered([ReportVideo(name="a", path=None, duration_s=9.0, detections=FOUND)], beside=target))
    tab.goto(target.as_uri())
    assert "There is no video to play" in tab.locator(".note").inner_text()
    _click(tab, 0)
    assert tab.locator("tr.picked").count() == 1


def test_an_embedded_video_plays_without_its_file(tab: Any, tmp_path: Path, make_video: Callable[..., Path]) -> None:
    path = make_video("a.mp4", [("red", 4.0)])
    target = tmp_path / "page.html"
    shown = ReportVideo(name="a", path=path, duration_s=4.0, detections=FOUND[:1])
    target.write_text(report.rendered([shown], beside=target, embed=True))
    path.unlink()
    tab.goto(target.as_uri())
    _until(tab, "page.current.player.readyState >= 2")
    _click(tab, 0)
    assert 2.0 <= _time(tab) < 3.0


def test_of_several_videos_there_is_a_list_with_pictures_and_a_search(
    tab: Any, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    path = make_video("a.mp4", [("red", 10.0)])
    shown = [
        ReportVideo(name=f"take {number}", path=path, duration_s=10.0, detections=FOUND[number : number + 1])
        for number in range(3)
    ]
    target = tmp_path / "page.html"
    target.write_text(report.rendered(shown, beside=target))
    tab.goto(target.as_uri())
    assert tab.locator(".card").count() == 3
    _until(tab, "[...document.querySelectorAll('.card video')].filter(video => video.readyState >= 2).length >= 2")
    tab.locator("input[type=search]").fill("DIV take")
    assert tab.locator(".card:visible").count() == 1
    tab.locator(".card:visible").click()
    assert tab.locator("h1").inner_text() == "take 0"
    tab.go_back()
    _until(tab, "document.querySelectorAll('.card').length === 3")
    tab.goto(target.as_uri() + "#video=3")
    _until(tab, "document.querySelector('h1').textContent === 'take 2'")


def test_the_list_is_in_the_order_it_says(tab: Any, tmp_path: Path) -> None:
    names = ["take 10", "sub/b", "take 9", "a"]
    shown = [ReportVideo(name=name, path=None, duration_s=10.0, detections=FOUND[:1]) for name in names]
    target = tmp_path / "page.html"
    target.write_text(report.rendered(shown, beside=target))
    tab.goto(target.as_uri())
    assert tab.locator("select").first.input_value() == "by name"
    assert tab.locator(".card b").all_inner_texts() == ["a", "sub/b", "take 9", "take 10"]


def test_the_list_s_pictures_need_no_video(tab: Any, tmp_path: Path, make_video: Callable[..., Path]) -> None:
    path = make_video("a.mp4", [("red", 5.0), ("blue", 5.0)])  # blue where the best detection is
    best = Detection(6.0, 8.0, "squat", 0.9)
    shown = [
        ReportVideo(name=name, path=path, duration_s=10.0, detections=found)
        for name, found in (("a", [best]), ("b", FOUND[:1]))
    ]
    shown.append(ReportVideo(name="c", path=None, duration_s=10.0, detections=FOUND[1:2]))
    pictures, notes = report_thumbnails.thumbnails(shown)
    assert (sorted(pictures), notes) == ([0, 1], [])
    tall = np.zeros((160, 90, 3), np.uint8)
    tall[..., 0] = 255
    pictures[1] = report_thumbnails.encoded(tall)
    target = tmp_path / "elsewhere" / "page.html"
    target.parent.mkdir()
    target.write_text(report.rendered(shown, thumbnails=pictures))
    path.unlink()
    tab.goto(target.as_uri())
    _until(tab, "[...document.querySelectorAll('.card img')].filter(image => image.naturalWidth > 0).length === 2")
    colors = tab.evaluate(
        """[...document.querySelectorAll('.card img')].map(image => {
        const canvas = new OffscreenCanvas(9, 9), pen = canvas.getContext("2d");
        pen.drawImage(image, 0, 0, 9, 9);
        return [...pen.getImageData(4, 4, 1, 1).data].slice(0, 3);
    })"""
    )
    assert [color.index(max(color)) for color in colors] == [2, 0]  # blue, in the middle of what was found; red
    assert tab.evaluate("document.querySelectorAll('.card img.whole').length") == 1
    assert tab.locator(".card").nth(2).inner_text().startswith("no picture")
    assert tab.locator(".card video").count() == 0


def test_five_thousand_segments_in_ten_hours_are_smooth(tab: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, HOURS_S - 20, 5000)
    found = [
        Detection(float(s), float(s + rng.uniform(1, 20)), f"action {k % 40}", float(rng.random()))
        for k, s in enumerate(starts)
    ]
    curves = {f"action {k}": Curve(start_s=0.0, step_s=0.8, scores=rng.random(45_000)) for k in range(10)}
    shown = ReportVideo(name="a", path=None, duration_s=HOURS_S, detections=found, curves=curves)
    target = tmp_path / "page.html"
    target.write_text(report.rendered([shown], beside=target))
    began = time.monotonic()
    tab.goto(target.as_uri())
    assert tab.locator("tbody tr").count() < 60  # of 5,000
    assert time.monotonic() - began < 20
    draw_ms = tab.evaluate(
        """() => { const { timeline } = page.current, times = [];
        for (let k = 0; k < 9; k++) {
            const start = performance.now();
            timeline.zoom(1.1);
            timeline.drawNow();
            times.push(performance.now() - start);
        }
        return times.sort((a, b) => a - b)[0]; }"""
    )
    assert draw_ms < 250  # of a machine under load; some 15 on an idle one
    tab.evaluate("document.querySelector('.rows').scrollTop = 34 * 4000")
    _until(tab, "document.querySelectorAll('tbody tr.spacer').length === 2")


def test_names_are_text_in_the_browser_too(tab: Any, tmp_path: Path) -> None:
    nasty = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    shown = [
        ReportVideo(name=nasty, path=None, duration_s=9.0, detections=[Detection(1.0, 2.0, nasty, 0.5)], notes=[nasty])
        for _ in range(2)
    ]
    target = tmp_path / "page.html"
    target.write_text(report.rendered(shown, beside=target, title=nasty))
    asked: list[str] = []
    tab.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    for place in ("", "#video=1"):
        tab.goto(target.as_uri() + place)
        assert tab.locator("#place img").count() == 0
    assert tab.locator("tbody td:nth-child(3)").inner_text() == nasty
    assert asked == []
