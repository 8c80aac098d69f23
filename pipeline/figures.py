"""Detections on paper: timelines with the scores over time, and contact sheets, as PNG, SVG or PDF.

- *Timeline*: a block a video, in it a lane a label, the best label on top. A bar is a segment, the darker the surer; where
  they overlap the surer one lies above. Under it, black, what is annotated; behind it, grey, the score over time, from 0 to 1
  over the lane's height.
- *Contact sheet*: the best detections, of each the picture in its middle, or those at its start, middle and end, with label,
  score and time.

matplotlib is imported when something is drawn, and without pyplot: no window, no state. Characters that its font lacks are
boxes in PNG; in SVG, text stays text and the viewer's fonts draw it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.files import written_whole
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.wire import printable
from tal_run.models import Detection
from tal_run.pipeline.clips import ClipSource
from tal_run.pipeline.outputs import OutputError, cannot_write, writable_text
from tal_run.pipeline.report import ReportVideo

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = ("png", "svg", "pdf")
STEP = "taking pictures"
WIDTH_IN, LANE_IN, BLOCK_IN = 7.2, 0.34, 0.62  # two columns of a paper; a lane; what a block has beside its lanes
MOST_LANES = 300
NAME_LIMIT = 40  # characters of a label
SHORT_SIDE = 180  # pixels of a picture on a contact sheet
COLUMNS, SMALL_COLUMNS = 4, 6  # of pictures, where each is of another detection, and where several are of one
GAP = 0.06  # between the pictures of two detections, of a picture's width
DPI = 200
LIGHTEST = 0.25  # of the colour map, so that the least sure segment is seen on white
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "text.parse_math": False,  # a label with $ in it is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "tal-run",
    "pdf.fonttype": 42,
}


class FigureError(TalRunError):
    """A figure that cannot be drawn."""


def write_timeline(videos: Sequence[ReportVideo], target: Path, *, title: str | None = None) -> None:
    """Draw timelines into a file, whole or not at all; its ending says in which form.

    Raises:
        FigureError: there are too many lanes for one figure.
        OutputError: it cannot be written.
    """
    lanes = [_labels(video) for video in videos]
    count = sum(map(len, lanes))
    if count > MOST_LANES:
        raise FigureError(
            f"{count} lanes are too many for one figure ({MOST_LANES}): give fewer videos or labels (--label, --min-score)"
        )
    with _drawing():
        figure = _figure(WIDTH_IN, sum(BLOCK_IN + LANE_IN * max(1, len(labels)) for labels in lanes) + (0.3 if title else 0.0))
        grid = figure.subplots(len(videos), 1, squeeze=False, height_ratios=[max(1, len(labels)) + 1 for labels in lanes])
        scores = [found.score for video in videos for found in video.detections]
        shade = _shades(scores)
        for axes, video, labels in zip(grid[:, 0], videos, lanes, strict=True):
            _block(axes, video, labels, shade, is_named=len(videos) > 1)
        if title:
            figure.suptitle(_shown(title), fontsize=10)
        if scores:
            bar = figure.colorbar(
                shade, ax=list(grid[:, 0]), fraction=0.018, pad=0.012, aspect=18, shrink=min(1.0, 4 / max(count, 4))
            )
            bar.set_label("score")
            bar.outline.set_linewidth(0.6)
        _legend(figure, videos)
        _save(figure, target)


def write_contact_sheet(
    videos: Sequence[ReportVideo],
    target: Path,
    *,
    top: int = 24,
    pictures: int = 1,
    title: str | None = None,
    hook: Hook = ignore_progress,
) -> list[str]:
    """Draw a contact sheet of the best detections into a file, whole or not at all; its ending says in which form.

    Args:
        videos: with their files, as far as they are known.
        target: the file.
        top: how many detections.
        pictures: of each; 1: its middle, otherwise evenly from start to end.
        title: over it.
        hook: told of detections.

    Returns:
        Sentences on what is not shown.

    Raises:
        FigureError: there is nothing to show.
        OutputError: it cannot be written.
    """
    best = sorted(
        ((video, found) for video in videos if video.path is not None for found in video.detections),
        key=lambda pair: (-pair[1].score, pair[1].start_s),
    )[:top]
    if not best:
        raise FigureError(
            videos[0].trouble if any(video.detections for video in videos) else "there is no detection to take a picture of"
        )
    taken, notes = _pictures(best, pictures, hook)
    if not taken:
        raise FigureError(notes[0])
    with _drawing():
        _save(_sheet(taken, pictures, title, is_named=len(videos) > 1), target)
    return notes


# ---- the timeline ----


def _labels(video: ReportVideo) -> list[str]:
    """A video's labels, the best on top; then what is annotated, and was not found."""
    best: dict[str, float] = {}
    for found in video.detections:
        best[found.label] = max(best.get(found.label, -math.inf), found.score)
    found_labels = sorted(best, key=lambda label: (-best[label], label))
    return found_labels + sorted({true.label for true in video.truth} - set(found_labels))


def _block(axes: Axes, video: ReportVideo, labels: Sequence[str], shade: Any, *, is_named: bool) -> None:
    from matplotlib.patheffects import Normal, Stroke

    last_s = max([video.duration_s, *(found.end_s for found in video.detections), *(true.end_s for true in video.truth), 1e-3])
    for lane, label in enumerate(labels):
        if lane % 2:
            axes.axhspan(lane - 0.5, lane + 0.5, color="0.965", linewidth=0, zorder=0)
        if curve := video.curves.get(label):
            edges = curve.start_s + curve.step_s * np.arange(len(curve.scores) + 1)
            heights = lane + 0.44 - 0.88 * np.clip(curve.scores, 0, 1)
            axes.stairs(heights, edges, baseline=lane + 0.44, fill=True, color="0.86", linewidth=0, zorder=1)
            halo = [Stroke(linewidth=1.8, foreground="white"), Normal()]  # so that it is seen on a dark bar
            axes.stairs(heights, edges, baseline=None, color="0.35", linewidth=0.7, zorder=2.5, path_effects=halo)
        for found in sorted((found for found in video.detections if found.label == label), key=lambda found: found.score):
            axes.barh(
                lane - 0.06,
                found.end_s - found.start_s,
                left=found.start_s,
                height=0.5,
                color=shade.to_rgba(found.score),
                edgecolor="white",
                linewidth=0.5 if found.end_s - found.start_s > last_s / 150 else 0.0,  # which would hide a short one
                zorder=2,
            )
        for true in video.truth:
            if true.label == label:
                axes.barh(
                    lane + 0.33, true.end_s - true.start_s, left=true.start_s, height=0.13, color="black", linewidth=0, zorder=3
                )
    axes.set_yticks(range(len(labels)), [_shown(label) for label in labels])
    axes.set(xlim=(0, last_s), ylim=(max(1, len(labels)) - 0.5, -0.5))
    axes.xaxis.set_major_locator(_clock_locator(last_s))
    axes.xaxis.set_major_formatter(lambda value, _: _clock(value, tenths=last_s < 4))
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    if is_named:
        axes.set_title(_shown(video.name), loc="left", fontsize=8, fontweight="bold", pad=3)


def _clock_locator(last_s: float) -> Any:
    """Ticks at whole numbers of the units that clocks have, some eight of them."""
    from matplotlib.ticker import MultipleLocator

    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 4 * 3600)
    return MultipleLocator(next((step for step in steps if last_s / step <= 9), math.ceil(last_s / 8 / 86400) * 86400))


def _clock(value_s: float, *, tenths: bool) -> str:
    seconds, rest = divmod(round(abs(value_s) * 10), 10)
    hours = f"{seconds // 3600}:{seconds // 60 % 60:02d}" if seconds >= 3600 else f"{seconds // 60}"
    return f"{hours}:{seconds % 60:02d}" + (f".{rest}" if tenths else "")


def _shades(scores: Sequence[float]) -> Any:
    """Scores as colours; between 0 and 1 where they are probabilities."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    low, high = min(scores, default=0.0), max(scores, default=1.0)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    colours = colormaps["Blues"](np.linspace(LIGHTEST, 1.0, 64))
    return ScalarMappable(Normalize(low, high if high > low else low + 1), LinearSegmentedColormap.from_list("surer", colours))


def _legend(figure: Figure, videos: Sequence[ReportVideo]) -> None:
    from matplotlib.patches import Patch

    handles = []
    if any(video.truth for video in videos):
        handles.append(Patch(color="black", label="annotated", linewidth=0))
    if any(video.curves for video in videos):
        handles.append(Patch(facecolor="0.86", edgecolor="0.55", label="score over time", linewidth=0.6))
    if handles:
        handles.insert(0, Patch(color="#4292c6", label="found", linewidth=0))
        figure.legend(
            handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, handlelength=1.4, handleheight=0.6
        )


# ---- the contact sheet ----

Taken = list[tuple[ReportVideo, Detection, list[NDArray[np.uint8]]]]


def _pictures(best: Sequence[tuple[ReportVideo, Detection]], count: int, hook: Hook) -> tuple[Taken, list[str]]:
    """Pictures of detections, each video opened once; and sentences on those that could not be taken."""
    shown: dict[int, list[NDArray[np.uint8]]] = {}
    notes: list[str] = []
    by_path: dict[Path, list[int]] = {}
    for number, (video, _) in enumerate(best):
        assert video.path is not None
        by_path.setdefault(video.path, []).append(number)
    for path, numbers in by_path.items():
        try:
            with ClipSource(path) as source:
                for number in numbers:
                    hook(STEP, completed=len(shown), total=len(best))
                    found = best[number][1]
                    shown[number] = [source.picture(at_s, short_side=SHORT_SIDE) for at_s in _moments(found, count)]
        except TalRunError as error:
            notes.append(f"not shown: {error}")
    return [(*best[number], shown[number]) for number in sorted(shown)], notes


def _moments(found: Detection, count: int) -> list[float]:
    """When pictures are taken: the middle, or evenly from the start to just before the end."""
    if count == 1:
        return [(found.start_s + found.end_s) / 2]
    inside_s = (found.end_s - found.start_s) * 0.02
    return list(np.linspace(found.start_s + inside_s, found.end_s - inside_s, count))


def _sheet(taken: Taken, pictures: int, title: str | None, *, is_named: bool) -> Figure:
    across = min(len(taken), COLUMNS if pictures == 1 else max(1, SMALL_COLUMNS // pictures))
    rows = math.ceil(len(taken) / across)
    wide = WIDTH_IN / (COLUMNS if pictures == 1 else max(SMALL_COLUMNS, pictures))
    aspect = float(np.median([shown[0].shape[0] / shown[0].shape[1] for _, _, shown in taken]))
    lines = 3 if is_named else 2
    height = wide * aspect + 0.14 * lines + 0.08
    figure = _figure(wide * pictures * across, rows * height + (0.3 if title else 0.0))
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    # between the pictures of two detections, an empty column
    ratios = ([1.0] * pictures + [GAP]) * across
    grid = figure.subplots(rows, len(ratios), squeeze=False, width_ratios=ratios)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (video, found, shown) in enumerate(taken):
        row, column = divmod(number, across)
        begin = column * (pictures + 1)
        for place, picture in enumerate(shown):
            grid[row, begin + place].imshow(picture, interpolation="antialiased")
        limit = int(wide * pictures * 15)
        time = f"{_clock(found.start_s, tenths=True)}\N{EN DASH}{_clock(found.end_s, tenths=True)}"
        caption = [
            _shown(found.label, limit),
            f"{found.score:.2f}   {time}",
            *([_shown(video.name, limit)] if is_named else []),
        ]
        axes = grid[row, begin]
        axes.annotate(
            "\n".join(caption),
            (0, 0),
            (0, -3),
            xycoords="axes fraction",
            textcoords="offset points",
            va="top",
            fontsize=7,
            linespacing=1.15,
        )
    if title:
        figure.suptitle(_shown(title), fontsize=10)
    return figure


# ---- both ----


def _shown(text: str, limit: int = NAME_LIMIT) -> str:
    """As it can be drawn, not too long."""
    kept = writable_text(printable(text, limit=4 * NAME_LIMIT))
    return kept if len(kept) <= limit else kept[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def _drawing() -> Iterator[None]:
    """The style; and no warnings of characters that a font has not."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise FigureError("figures need matplotlib, which is not installed: pip install matplotlib") from error
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _save(figure: Figure, target: Path) -> None:
    ending = target.suffix.lstrip(".").lower()
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending)
    try:
        with written_whole(target) as part:
            figure.savefig(part, format=ending, dpi=DPI, metadata=dates, facecolor="white")
    except OSError as error:
        raise cannot_write(target, error) from error
    except ValueError as error:
        raise OutputError(
            f"cannot draw {target} ({writable_text(str(error))}): choose another form ({', '.join(ENDINGS)})"
        ) from error
