"""Figures: what was found is drawn where it is, whatever labels hold; pictures are those of the time; nothing half written."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tal_run.eval.annotations import Instance
from tal_run.models import Detection
from tal_run.pipeline import figures
from tal_run.pipeline.cli import main
from tal_run.pipeline.detector import Curve
from tal_run.pipeline.outputs import OutputError, rendered
from tal_run.pipeline.report import ReportVideo

NASTY = "$x^2$ & <b>\n\x00日本 🏃"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def video(*found: Detection, path: Path | None = None, **more: Any) -> ReportVideo:
    return ReportVideo(name=more.pop("name", "v"), path=path, duration_s=more.pop("duration_s", 60.0), detections=found, **more)


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figure_video_factory", Path(__file__).parents[1] / "video_factory.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dark(path: Path) -> np.ndarray[Any, Any]:
    """Where a picture is blue or black [H, W]."""
    from matplotlib.image import imread

    return np.asarray(imread(path))[..., 0] < 0.5


def test_a_segment_is_drawn_where_it_is_and_moves_with_its_time(tmp_path: Path) -> None:
    def middle_of_the_bar(start_s: float) -> float:
        figures.write_timeline([video(Detection(start_s, start_s + 10, "x", 0.99))], tmp_path / "x.png")
        picture = dark(tmp_path / "x.png")
        height, width = picture.shape
        lane = picture[: int(0.55 * height), : int(0.85 * width)]  # without the axis and the colour bar
        columns = np.flatnonzero(lane.sum(axis=0) > 15)
        return float(columns.mean())

    early, middle, late = (middle_of_the_bar(start_s) for start_s in (5.0, 25.0, 45.0))
    assert late - middle == pytest.approx(middle - early, abs=2)  # pixels
    assert middle - early > 200


def test_texts_stay_texts_and_no_label_is_markup_or_a_formula(tmp_path: Path) -> None:
    truth = [Instance(1.0, 2.0, "v", "only annotated")]
    shown = video(
        Detection(1.0, 2.0, NASTY, 0.5), truth=truth, curves={NASTY: Curve(start_s=0.0, step_s=1.0, scores=np.ones(60))}
    )
    figures.write_timeline([shown], tmp_path / "x.svg", title=NASTY)
    texts = [
        "".join(element.itertext()).strip()
        for element in ElementTree.parse(tmp_path / "x.svg").iter("{http://www.w3.org/2000/svg}text")
    ]
    assert {"$x^2$ & <b> 日本 🏃", "only annotated", "annotated", "score over time", "score"} <= set(texts)


def test_one_content_is_one_figure(tmp_path: Path) -> None:
    for name in ("a", "b"):
        figures.write_timeline([video(Detection(1.0, 2.0, "x", 0.5))], tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    "videos", [[video()], [video(), video(Detection(0, 1, "x", 7.5), duration_s=1e5)], [video(duration_s=0.4)]]
)
def test_odd_videos_can_be_drawn(videos: list[ReportVideo], tmp_path: Path) -> None:
    figures.write_timeline(videos, tmp_path / "x.pdf")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")


def test_too_many_lanes_are_a_sentence(tmp_path: Path) -> None:
    found = [Detection(0, 1, f"l{number}", 0.5) for number in range(figures.MOST_LANES + 1)]
    with pytest.raises(figures.FigureError, match="--min-score"):
        figures.write_timeline([video(*found)], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_ticks_are_at_round_times() -> None:
    for last_s in (0.5, 3, 40, 75, 600, 5000, 90_000, 1e6):
        step = figures._clock_locator(last_s)._edge.step
        assert 1 <= last_s / step <= 9.01
    assert figures._clock(3723.4, tenths=True) == "1:02:03.4"
    assert figures._clock(59.96, tenths=True) == "1:00.0"


# ---- contact sheets ----


def test_pictures_are_those_of_the_middle_or_of_start_middle_and_end(factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    factory.make_video(path, frame_count=100)
    found = Detection(1.0, 3.0, "x", 0.9)
    shown = video(found, path=path, duration_s=4.0)
    for count, expected in ((1, [50]), (3, [26, 50, 74])):
        ((_, _, pictures),), notes = figures._pictures([(shown, found)], count, lambda *_, **__: None)
        assert [factory.read_index(picture) for picture in pictures] == expected
        assert notes == []


def test_the_best_are_on_the_sheet(factory: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    factory.make_video(path, frame_count=100)
    found = [Detection(0.1 * k, 0.1 * k + 1, f"label {k}", k / 10) for k in range(8)]
    notes = figures.write_contact_sheet([video(*found, path=path)], tmp_path / "x.svg", top=3)
    text = (tmp_path / "x.svg").read_text()
    assert re.findall(r"label \d", text) == ["label 7", "label 6", "label 5"]
    assert text.count("<image") == 3
    assert notes == []


def test_a_video_that_cannot_be_read_costs_its_pictures(factory: ModuleType, tmp_path: Path) -> None:
    factory.make_video(tmp_path / "v.mp4", frame_count=50)
    (tmp_path / "w.mp4").write_bytes(b"\0" * 5000)
    good, bad = (video(Detection(0, 1, name, 0.5), path=tmp_path / f"{name}.mp4", name=name) for name in "vw")
    (note,) = figures.write_contact_sheet([good, bad], tmp_path / "x.png")
    assert "not shown" in note
    with pytest.raises(figures.FigureError, match="not shown"):
        figures.write_contact_sheet([bad], tmp_path / "y.png")
    with pytest.raises(figures.FigureError, match="no detection"):
        figures.write_contact_sheet([video(path=tmp_path / "v.mp4")], tmp_path / "y.png")
    assert not (tmp_path / "y.png").exists()


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        figures.write_timeline([video()], tmp_path / "absent" / "x.png")


# ---- the command ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "x.gif"], "page or a figure"),
        (["-o", "x.html", "--contact-sheet"], "is to be a contact sheet"),
        (["-o", "x.png", "--contact-sheet"], "was not found beside"),
        (["-o", "x.png", "--embed"], "leave out --embed"),
        (["-o", "x.png", "--label", "q"], "nothing here has the label"),
    ],
)
def test_wrong_use_is_a_sentence(arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.json").write_text(rendered("json", {"a": [Detection(0, 1, "x", 0.5)]}))
    result = run("report", "a.json", *arguments)
    assert (result.exit_code, words in result.stderr) == (2, True), result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_report_draws_and_chooses(factory: ModuleType, tmp_path: Path) -> None:
    factory.make_video(tmp_path / "v.mp4", frame_count=50)
    path = tmp_path / "v.json"
    path.write_text(rendered("json", {"v": [Detection(0, 1, "x", 0.9), Detection(1, 2, "y", 0.2)]}))
    assert run("report", path, "-o", tmp_path / "a.svg", "--min-score", "0.5").exit_code == 0
    text = (tmp_path / "a.svg").read_text()
    assert ">x</text>" in text
    assert ">y</text>" not in text
    assert run("report", path, "-o", tmp_path / "b.png", "--contact-sheet", "--top", "1", "--pictures", "2").exit_code == 0
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
