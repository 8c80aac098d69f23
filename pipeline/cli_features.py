"""The command that saves what networks make of videos. Nothing heavy is imported before it runs, no network in this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tal_run.pipeline import dry_run as dry
from tal_run.pipeline.cli_batch import introduced, limiting_options, seen_to, workers_of
from tal_run.pipeline.cli_choices import Choice
from tal_run.pipeline.cli_completion import datasets as known_datasets
from tal_run.pipeline.cli_watching import watching_options
from tal_run.pipeline.dry_run import dry_run_option
from tal_run.pipeline.exits import DONE, SOME_FAILED, STOPPED, WrongUse, errors_as_wrong_use

if TYPE_CHECKING:
    from tal_run.eval.datasets import DatasetFiles
    from tal_run.pipeline.screen import Screen

MODULE = "tal_run.pipeline.feature_worker"


@click.command()
@click.argument("inputs", nargs=-1, metavar="VIDEO|FOLDER...")
@click.option("-o", "--output", "output_name", type=click.Path(), required=True, metavar="DIR", help="Write there.")
@click.option(
    "--dataset",
    metavar="NAME",
    shell_complete=known_datasets,
    help="The videos of a data set (`tal-run datasets list`), which lies in FOLDER.",
)
@click.option(
    "--layout",
    type=Choice(["tal-run", "actionformer", "opentad", "wtalc", "video_features"]),
    default="tal-run",
    show_default=True,
    help="Form of the files.",
)
@click.option("--again", is_flag=True, help="Make everything again, also what is verified or not ours.")
@click.option(
    "--crop",
    type=Choice(["center", "ten", "whole"]),
    default="center",
    show_default=True,
    help="What published networks see of a frame; of ten crops, the mean.",
)
@click.option(
    "--precision",
    type=Choice(["auto", "bfloat16", "float32"]),
    default="auto",
    show_default=True,
    help="Of published networks; auto: bfloat16 where the hardware has it.",
)
@click.option(
    "--flow-preset",
    type=Choice(["opencv", "opencv-cuda"]),
    default="opencv",
    show_default=True,
    help="TV-L1's parameters: the defaults of OpenCV on CPUs, or on GPUs.",
)
@click.option("--flow-jpeg", is_flag=True, help="Round flow to 8 bits, as by way of stored pictures.")
@click.option(
    "--last",
    type=Choice(["pad", "drop"]),
    default="pad",
    show_default=True,
    help="Frames behind the last whole window: fill a window up, or leave them out.",
)
@click.option(
    "--short",
    type=Choice(["repeat", "loop", "refuse"]),
    default="repeat",
    show_default=True,
    help="Video shorter than one window: repeat its last frame or all of it, or make nothing of it.",
)
@limiting_options
@dry_run_option
@watching_options
def features(
    inputs: tuple[str, ...],
    output_name: str,
    dataset: str | None,
    shard: tuple[int, int] | None,
    retry_failed: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Save what the backbone makes of videos.

    Features, class logits and their place in time, one .npz a video, by the video's name (below FOLDER where two videos
    share one), or in the form that another tool reads; beside it a .json that says what made them. What is there already, is
    whole and was made of the same video in the same way is kept; what tal-run did not make is not overwritten. Why a video has
    none, DIR/failures says; DIR/manifest.jsonl lists them all. `--dataset synthetic` needs no FOLDER: its videos are made.
    Start it again, and it goes on where it was, whatever stopped it. Several runs, on one machine or many that see the same
    DIR, share the work. Ctrl-C lets the videos in hand be finished; twice stops now. Exit status: 0 done, 1 some videos failed,
    2 wrong use.
    """
    from contextlib import ExitStack

    from tal_run.extractors.errors import TalRunError
    from tal_run.extractors.feature_files import FeatureFolder
    from tal_run.pipeline import feature_batch, feature_store, outputs
    from tal_run.pipeline.batch_display import BatchDisplay
    from tal_run.pipeline.batch_pool import Pool
    from tal_run.pipeline.batch_store import FAILURES, recipe_of
    from tal_run.pipeline.batch_videos import share_of
    from tal_run.pipeline.screen import Screen
    from tal_run.pipeline.workers import STOP_S

    screen = Screen(quiet=options["quiet"], verbose=options["verbose"])
    if not inputs and not dataset:
        raise WrongUse("there is nothing to watch: give videos, folders, or --dataset NAME")
    with errors_as_wrong_use(), ExitStack() as ending:
        if not output_name:
            raise WrongUse("-o is empty: give a folder to write to, or . for this one")
        dry.check_folder(Path(output_name))
        folder = FeatureFolder(Path(output_name), layout=options["layout"])
        files = _dataset_files(dataset, inputs, screen) if dataset else None
        paths = list(map(str, files.videos().values())) if files else outputs.each_once(outputs.videos_in(inputs))
        videos = feature_store.named(paths, outputs.video_ids(paths))
        mine = share_of(videos, *shard) if shard else videos
        if dry_run:
            sys.exit(dry.of_features(folder, mine, options, retry_failed, screen))
        options["workers"] = options["workers"] or len(options["device"].split(","))
        workers = workers_of(MODULE, {**options, "folder": output_name, "inputs": paths}, stop_s=STOP_S)
        for worker in workers:
            ending.callback(worker.close)
        made_by = introduced(workers[0], screen)
        outputs.make_folder(folder.path)
        store = feature_store.FeatureStore(folder, made_by)
        again = {"again": options["again"], "retry_failed": retry_failed}
        job = ending.enter_context(feature_store.at_work(store, made_by, **again))
        display = BatchDisplay(screen, mine, quiet=options["quiet"], name="features")
        status, counts = DONE, None
        try:
            status = seen_to(Pool(workers, job.attend), mine, display)
            counts = job.conclude(videos, {})
        except TalRunError as error:  # it concerns all videos: the disk is full, say
            screen.error(str(error))
            status = SOME_FAILED
        failed = {"failed": display.counts["failed"], "failed_before": display.counts["failed before"]}
        screen.say(feature_batch.summary(job.kinds.values(), left=display.left, **failed))
        if display.failed:
            screen.say(f"why: {folder.path / FAILURES}")
        if counts is not None and len(mine) < len(videos):
            screen.say("all shares: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
        if counts is not None and status != STOPPED:  # else another run will, the next one at the latest
            try:
                if packed := feature_batch.pack(folder):
                    screen.say(packed)
                if files:
                    there = store.there(videos, recipe_of(made_by))
                    screen.say(feature_batch.list_missing(files, there, folder.path))
            except TalRunError as error:
                screen.error(str(error))
                status = SOME_FAILED
    sys.exit(status)


def _dataset_files(name: str, inputs: Sequence[str], display: Screen) -> DatasetFiles:
    """A data set that lies in the one folder given, or (none given) where it belongs."""
    from tal_run.eval.datasets import find

    if len(inputs) > 1:
        raise WrongUse(f"--dataset takes one folder, in which {name} lies; {len(inputs)} were given")
    with display.progress() as hook:
        return find(name, *inputs, hook=hook)
