"""The command that makes a page of detections. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tal_run.pipeline.cli_convert import check_labels, choosing_options, chosen
from tal_run.pipeline.exits import DONE, WrongUse, errors_as_wrong_use

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tal_run.pipeline.report import ReportVideo
    from tal_run.pipeline.report_files import Found
    from tal_run.pipeline.screen import Screen

FIGURES = (".png", ".svg", ".pdf")
ON_A_SHEET = 24
MOST_NOTES = 3  # on videos without a picture


@click.command()
@click.argument("detections", nargs=-1, required=True, metavar="DETECTIONS...")
@click.option(
    "--video",
    "videos",
    multiple=True,
    metavar="PATH",
    help="A video, or a folder of them. Repeatable. [default: beside the detections]",
)
@click.option(
    "--ground-truth", metavar="PATH", help="What is annotated: ActivityNet JSON, THUMOS's folder of text files, or CSV."
)
@click.option("--embed", is_flag=True, help="Put the videos into the page, so that it can be sent by itself.")
@click.option("--title", metavar="TEXT", help="Of the page. [default: the video's name]")
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the page there (.html), or a figure (.png, .svg, .pdf).",
)
@choosing_options
@click.option(
    "--contact-sheet", is_flag=True, help=f"A figure of pictures: of the best {ON_A_SHEET} (--top N), each in its middle."
)
@click.option(
    "--pictures", type=click.IntRange(1, 8), default=1, show_default=True, help="On a contact sheet, of each detection."
)
@click.option("--no-thumbnails", is_flag=True, help="No small picture of each video in the list of several.")
@click.option("--quiet", is_flag=True, help="No progress, no notes: errors only.")
def report(
    detections: tuple[str, ...],
    videos: tuple[str, ...],
    ground_truth: str | None,
    embed: bool,
    title: str | None,
    target: Path,
    min_score: float | None,
    top: int | None,
    labels: tuple[str, ...],
    contact_sheet: bool,
    pictures: int,
    no_thumbnails: bool,
    quiet: bool,
) -> None:
    """Make a page to look at of detections, or a figure.

    \b
    tal-run detect video.mp4 --curves -o found.json
    tal-run report found.json -o found.html
    tal-run report found.json --ground-truth truth.csv -o timeline.svg
    tal-run report found.json --contact-sheet -o sheet.png

    DETECTIONS are files in any form that `tal-run eval` reads, and folders of them. A page is one file that needs no network:
    open it in any browser. Of several videos it begins with a list, with a small picture of each whose file is at hand: some 6
    kB a video, part of the page. A figure has a lane a label, segments the darker the surer, what is annotated, and the scores
    over time that `detect --curves` kept.
    """
    from dataclasses import replace

    from tal_run.eval.annotations import read
    from tal_run.pipeline import report as page
    from tal_run.pipeline import report_files
    from tal_run.pipeline.outputs import check_writable, is_stream, write
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=quiet)
    with errors_as_wrong_use():
        size = ""
        is_figure = not is_stream(target) and target.suffix.lower() in FIGURES
        if not is_stream(target) and target.suffix.lower() not in (".html", ".htm", *FIGURES):
            raise WrongUse(f"{target} is to be a page or a figure: let its name end in .html, .png, .svg or .pdf")
        if contact_sheet and not is_figure:
            raise WrongUse(f"{target} is to be a contact sheet: let its name end in .png, .svg or .pdf")
        if embed and is_figure:
            raise WrongUse("a figure holds no video: leave out --embed")
        check_writable(target, inputs=(*detections, *videos))
        truth = read(ground_truth) if ground_truth else None
        with display.progress() as hook:
            found = report_files.gather(
                detections, videos=videos, truth=truth, verify=not is_figure or contact_sheet, hook=hook
            )
        check_labels(found.videos, labels)
        # on a sheet, --top counts all videos' detections together
        each = None if contact_sheet else top
        found = replace(found, videos=[chosen(v, min_score=min_score, top=each, labels=labels) for v in found.videos])
        if is_figure:
            _draw(found, target, title, (top or ON_A_SHEET, pictures) if contact_sheet else None, display)
        else:
            text = page.rendered(
                found.videos,
                beside=None if is_stream(target) else target,
                title=title,
                backbone=found.backbone,
                made_by=found.made_by,
                embed=embed,
                thumbnails=None if no_thumbnails else thumbnails_of(found.videos, display),
            )
            write(target, text)
            size = f", {_size(len(text.encode()))}" if len(found.videos) > 1 else ""
    for note in found.notes:
        display.say(f"note: {note}")
    lacking = [video.trouble for video in found.videos if video.path is None]
    if lacking and (contact_sheet or not is_figure):
        several = f"{len(lacking)} videos were not found beside their detections: --video says where they lie"
        display.say(f"note: {lacking[0] if len(lacking) == 1 else several}")
    segments = sum(len(video.detections) for video in found.videos)
    display.say(f"{target}: {_many(len(found.videos), 'video')}, {_many(segments, 'segment')}{size}")
    sys.exit(DONE)


def thumbnails_of(videos: Sequence[ReportVideo], display: Screen) -> dict[int, bytes]:
    """A small picture of each video, where a page lists several."""
    from tal_run.pipeline import report_thumbnails

    if len(videos) < 2:
        return {}
    with display.progress() as hook:
        pictures, notes = report_thumbnails.thumbnails(videos, hook=hook)
    for note in notes[:MOST_NOTES]:
        display.say(f"note: {note}")
    if len(notes) > MOST_NOTES:
        display.say(f"note: nor of {len(notes) - MOST_NOTES} more")
    return pictures


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(1, round(count / 1e3))} kB"


def _draw(found: Found, target: Path, title: str | None, sheet: tuple[int, int] | None, display: Screen) -> None:
    """A timeline or, with how many detections and pictures, a contact sheet."""
    from tal_run.pipeline import figures

    if sheet is None:
        figures.write_timeline(found.videos, target, title=title)
        return
    with display.progress() as hook:
        top, pictures = sheet
        notes = figures.write_contact_sheet(found.videos, target, top=top, pictures=pictures, title=title, hook=hook)
    for note in notes:
        display.say(f"note: {note}")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
