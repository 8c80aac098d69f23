"""A diagnosis on paper: two figures, each as SVG and PNG, the list of missed actions as CSV, and all of it as JSON.

::

    wrong.svg, wrong.png    what the best n G detections are; what each kind of wrong detection costs
    sorts.svg, sorts.png    mAP and missed actions by length, coverage and number
    missed.csv              video_id,label,start_s,end_s,best_tiou,best_tiou_of_any
    diagnosis.json          every figure

matplotlib is imported when something is drawn, and without pyplot: no window, no state.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tal_run.eval.diagnosis import KINDS, PROFILE, Diagnosis, Sort
from tal_run.eval.protocols import EvaluationError
from tal_run.extractors.files import written_whole
from tal_run.extractors.spreadsheets import as_cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# right, then KINDS; told apart by people who see no red or no green (Okabe & Ito 2008)
COLOURS = ("#009e73", "#56b4e9", "#cc79a7", "#e69f00", "#d55e00", "#999999")
UNITS = {"length": "s", "coverage": "%", "instances": ""}
TITLES = {"length": "length", "coverage": "share of the video", "instances": "number of its class in the video"}
COLUMNS = ("video_id", "label", "start_s", "end_s", "best_tiou", "best_tiou_of_any")
ENDINGS = ("svg", "png")


def write_diagnosis(diagnosis: Diagnosis, folder: str | os.PathLike[str]) -> list[Path]:
    """Write all of it into a folder, each file whole or not at all.

    Returns:
        The files.

    Raises:
        EvaluationError: matplotlib is not installed.
        OSError: the folder cannot be made or written to.
    """
    figures = {"wrong": wrong_figure(diagnosis), "sorts": sorts_figure(diagnosis)}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        for ending in ENDINGS:
            target = folder / f"{name}.{ending}"
            with _drawing(), written_whole(target) as part:
                figure.savefig(part, format=ending, dpi=150, metadata={"Date": None} if ending == "svg" else None)
            written.append(target)
    for name, text in (("missed.csv", _missed_text(diagnosis)), ("diagnosis.json", _json_text(diagnosis))):
        with written_whole(folder / name) as part:
            part.write_text(text, encoding="utf-8", newline="")
        written.append(folder / name)
    return written


def wrong_figure(diagnosis: Diagnosis) -> Figure:
    """What the best detections are, and what each kind of wrong one costs."""
    figure = _figure(9.0, 3.6)
    shares, costs = figure.subplots(1, 2, width_ratios=[3, 2])
    bottom = [0.0] * len(PROFILE)
    for kind, colour in zip(("right", *KINDS), COLOURS, strict=True):
        heights = [100 * step[kind] for step in diagnosis.profile]
        shares.bar([f"{times} G" for times in PROFILE], heights, bottom=bottom, color=colour, label=kind, width=0.85)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    shares.set(xlabel="best detections of each class (G: its instances)", ylabel="share in percent", ylim=(0, 100))
    gains = [100 * diagnosis.gain[kind] for kind in KINDS]
    costs.barh(KINDS, gains, color=COLOURS[1:])
    for place, gain in enumerate(gains):
        costs.text(max(gain, 0.0), place, f" {gain:+.1f}", va="center")
    costs.set(xlabel="points of mAP without them", xlim=(min(0.0, *gains), 1.25 * max(1.0, *gains)))
    costs.invert_yaxis()
    _bare(shares, costs)
    figure.suptitle(f"{diagnosis.protocol}, tIoU {diagnosis.tiou:g}: mAP {100 * diagnosis.map:.1f}")
    figure.legend(loc="outside lower center", ncols=len(COLOURS), frameon=False)
    return figure


def sorts_figure(diagnosis: Diagnosis) -> Figure:
    """mAP and missed instances by sort; a line marks all sorts together."""
    figure = _figure(3.2 * len(diagnosis.sorts), 5.0)
    grid = figure.subplots(2, len(diagnosis.sorts), squeeze=False, sharey="row")
    share = len(diagnosis.missed) / max(diagnosis.instances, 1)
    for column, (name, sorts) in enumerate(diagnosis.sorts.items()):
        labels = [span(name, sort) for sort in sorts]
        for axes, values, everything in (
            (grid[0, column], [sort.map for sort in sorts], diagnosis.map),
            (grid[1, column], [sort.missed for sort in sorts], share),
        ):
            axes.bar(range(len(sorts)), [100 * value for value in values], color=COLOURS[1], width=0.85)
            axes.axhline(100 * everything, color="black", linewidth=0.8, linestyle="--")
            axes.set_xticks(range(len(sorts)), labels, rotation=30, ha="right")
            _bare(axes)
        grid[0, column].set_title(TITLES[name])
    figure.suptitle(f"{diagnosis.protocol}, tIoU {diagnosis.tiou:g}; dashed: all instances")
    grid[0, 0].set_ylabel("mAP, normalised, percent")
    grid[1, 0].set_ylabel("missed, percent")
    return figure


def span(name: str, sort: Sort) -> str:
    """What a sort holds, in words: ``1.7 to 3.2 s``."""
    scale = 100 if name == "coverage" else 1
    low, high = (f"{scale * value:.3g}" for value in (sort.low, sort.high))
    unit = UNITS[name] and f" {UNITS[name]}"
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EvaluationError("figures are drawn with matplotlib, which is not installed: pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def _drawing() -> Iterator[None]:
    """Text stays text in SVG, and the same diagnosis gives the same bytes."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tal-run"}):
        yield


def _bare(*several: Axes) -> None:
    for axes in several:
        axes.spines[["top", "right"]].set_visible(False)


def _missed_text(diagnosis: Diagnosis) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for missed in diagnosis.missed:
        tious: Sequence[Any] = [round(missed.best_tiou, 4), round(missed.best_tiou_of_any, 4)]
        writer.writerow([as_cell(missed.video_id), as_cell(missed.label), missed.start_s, missed.end_s, *tious])
    return text.getvalue()


def _json_text(diagnosis: Diagnosis) -> str:
    return json.dumps(asdict(diagnosis), ensure_ascii=False, indent=1) + "\n"
