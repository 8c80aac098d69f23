"""The command that makes a page of detections. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tal_run.pipeline.exits import DONE, WrongUse, errors_as_wrong_use


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
    help="Write the page there (.html).",
)
@click.option("--quiet", is_flag=True, help="No progress, no notes: errors only.")
def report(
    detections: tuple[str, ...],
    videos: tuple[str, ...],
    ground_truth: str | None,
    embed: bool,
    title: str | None,
    target: Path,
    quiet: bool,
) -> None:
    """Make a page to look at of detections.

    \b
    tal-run detect video.mp4 --curves -o found.json
    tal-run report found.json -o found.html

    DETECTIONS are files in any form that `tal-run eval` reads, and folders of them; the page of several videos begins with a
    list of them. It is one file that needs no network: open it in any browser.
    """
    from tal_run.eval.annotations import read
    from tal_run.pipeline import report as page
    from tal_run.pipeline import report_files
    from tal_run.pipeline.outputs import check_writable, is_stream, write
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=quiet)
    with errors_as_wrong_use():
        if not is_stream(target) and target.suffix.lower() not in (".html", ".htm"):
            raise WrongUse(f"{target} is to be a page: let its name end in .html")
        check_writable(target, inputs=(*detections, *videos))
        truth = read(ground_truth) if ground_truth else None
        with display.progress() as hook:
            found = report_files.gather(detections, videos=videos, truth=truth, hook=hook)
        text = page.rendered(
            found.videos,
            beside=None if is_stream(target) else target,
            title=title,
            backbone=found.backbone,
            made_by=found.made_by,
            embed=embed,
        )
        write(target, text)
    for note in found.notes:
        display.say(f"note: {note}")
    lacking = [video.trouble for video in found.videos if video.path is None]
    if lacking:
        several = f"{len(lacking)} videos were not found beside their detections: --video says where they lie"
        display.say(f"note: {lacking[0] if len(lacking) == 1 else several}")
    segments = sum(len(video.detections) for video in found.videos)
    display.say(f"{target}: {_many(len(found.videos), 'video')}, {_many(segments, 'segment')}")
    sys.exit(DONE)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
