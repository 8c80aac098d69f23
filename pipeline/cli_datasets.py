"""The commands about data sets: which there are, making one, checking one. Nothing heavy is imported before one runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tal_run.pipeline.cli_choices import Choice
from tal_run.pipeline.exits import DONE, SOME_FAILED, errors_as_wrong_use

if TYPE_CHECKING:
    from tal_run.eval.datasets import SubsetCheck
    from tal_run.pipeline.screen import Screen

# as ``eval.synthetic.LOOKS``, without importing it; a test compares them
LOOK_NAMES = ("stadium", "street")
SHOWN = 20  # of missing or wrong videos, a sentence each


@click.group()
def datasets() -> None:
    """Data sets: list them, make one of our own, check one that is there."""


@datasets.command("list")
@click.option("--names", "names_only", is_flag=True, help="Names alone, one a line.")
def list_(names_only: bool) -> None:
    """Say which data sets there are: name, what it is, where it comes from."""
    from tal_run.eval.datasets import DATASETS

    if names_only:
        click.echo("\n".join(DATASETS))
        return
    width = max(map(len, DATASETS))
    for dataset in DATASETS.values():
        click.echo(f"{dataset.name:{width}}  {dataset.about} ({dataset.source})")


@datasets.command()
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.option(
    "--videos", type=click.IntRange(0, 1_000_000), default=10, show_default=True, metavar="N", help="Untrimmed videos."
)
@click.option("--trimmed", type=click.IntRange(0, 1_000_000), default=0, show_default=True, metavar="N", help="Trimmed clips.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another one gives other videos.")
@click.option("--look", type=Choice(LOOK_NAMES), default="stadium", show_default=True, help="How all but the motion is drawn.")
@click.option("--min-s", type=float, default=20.0, show_default=True, help="Length of the shortest video, seconds.")
@click.option("--max-s", type=float, default=60.0, show_default=True, help="Length of the longest.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Videos to make at a time. [default: one a core]")
@click.option("--quiet", is_flag=True, help="No progress, no notes: errors only.")
def synthesize(
    out: Path,
    videos: int,
    trimmed: int,
    seed: int,
    look: str,
    min_s: float,
    max_s: float,
    workers: int | None,
    quiet: bool,
) -> None:
    """Make a data set of drawn athletes, with exact truth, in the folder OUT.

    The same seed and look give the same videos. Started again after an interruption, or with more videos, it goes on
    with what is there.
    """
    import os

    from tal_run.eval.synthetic import synthesize as make
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=quiet)
    with errors_as_wrong_use(), display.progress() as hook:
        truth = make(
            out,
            videos=videos,
            trimmed=trimmed,
            seed=seed,
            look=look,
            min_s=min_s,
            max_s=max_s,
            workers=workers or os.cpu_count() or 1,
            hook=hook,
        )
    minutes = sum(video.duration_s or 0.0 for video in truth.videos) / 60
    actions = sum(len(video.instances) for video in truth.videos)
    display.say(f"{out}: {videos} videos ({minutes:.1f} min, {actions} actions), {trimmed} trimmed clips")


@datasets.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR", help="Where it lies. [default: ./NAME; a made one: the cache]"
)
@click.option("--quiet", is_flag=True, help="No progress, no notes: the table and errors only.")
def check(name: str, data: Path | None, quiet: bool) -> None:
    """Check a data set: its annotations can be true, its videos are there, can be read, and are as long as annotated.

    A made one that is asked for without --data is drawn first, if the cache has none: ten videos, about a minute.

    Prints a row a subset: name, videos annotated, videos there, videos missing, actions, faults. Exit status: 0 all is
    well, 1 something is missing or wrong, 2 there is no such data set, or no annotations.
    """
    from tal_run.eval import datasets as sets
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=quiet)
    with errors_as_wrong_use(), display.progress() as hook:
        found = sets.check(sets.find(name, data, hook=hook), hook=hook)
    if not found:
        display.error(f"the annotations of {name} name no video: fetch them again")
        sys.exit(SOME_FAILED)
    _table(found)
    faults = [fault for tally in found for fault in tally.faults]
    missing = [f"{video} is missing" for tally in found for video in tally.missing]
    _some(faults, display)
    _some(missing, display)
    sys.exit(SOME_FAILED if faults or missing else DONE)


def _table(found: list[SubsetCheck]) -> None:
    heads = ("subset", "videos", "there", "missing", "actions", "faults")
    rows = [
        (
            tally.subset or "-",
            *(str(n) for n in (tally.annotated, tally.present, len(tally.missing), tally.instances, len(tally.faults))),
        )
        for tally in found
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        first, *rest = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join([first.strip().ljust(widths[0]), *rest]))


def _some(sentences: list[str], display: Screen) -> None:
    for sentence in sentences[:SHOWN]:
        display.error(sentence)
    if len(sentences) > SHOWN:
        display.error(f"… and {len(sentences) - SHOWN} more")
