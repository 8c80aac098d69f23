"""Train what reads the starter's curves: ``python -m tal_run.pipeline.train_curves`` (``make starter-curves``).

    make untrimmed videos ─ watch them with the starter ─ train on its logits and the true times ─ write beside its weights

The videos are of the look and the seed that the starter itself learnt from: untrimmed ones, which it has not seen, in their
own half of the generator's numbers.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np

from tal_run.eval.annotations import VideoTruth
from tal_run.eval.synthetic import fingerprint
from tal_run.eval.synthetic_plan import plan_video
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.features import Features, extract
from tal_run.extractors.starter import CURVES_SHA256, Starter, curves_beside, read_card, write_card
from tal_run.extractors.weights import sha256_of
from tal_run.models.curves import CurveSize, CurveTraining, TimedCurves, train_curves, write_curves
from tal_run.pipeline.train_starter import CLIPS_FOLDER, LOOK, PACKAGED, SEED, TELL_EVERY_S, make_videos

logger = logging.getLogger(__name__)

VIDEOS = 180
PORTION = 4  # videos that a worker watches before it answers


def timed(features: Features, truth: VideoTruth, labels: Sequence[str]) -> TimedCurves:
    """A watched video and what is true of it, to learn from."""
    return TimedCurves(
        logits=np.asarray(features.logits, np.float32),
        grid=features.grid,
        segments=np.array([(found.start_s, found.end_s) for found in truth.instances], np.float64).reshape(-1, 2),
        classes=np.array([labels.index(found.label) for found in truth.instances], np.int64),
        ambiguous=np.array([(found.start_s, found.end_s) for found in truth.ambiguous], np.float64).reshape(-1, 2),
    )


def watch(videos: Sequence[tuple[Path, VideoTruth]], *, weights: Path) -> list[TimedCurves]:
    """In a worker: what the starter makes of videos, and what is true of them."""
    starter = Starter(path=weights)
    return [timed(extract(file, backbone=starter), truth, starter.labels) for file, truth in videos]


def watch_all(videos: Sequence[tuple[Path, VideoTruth]], *, weights: Path) -> list[TimedCurves]:
    """Watch videos on all cores; in their order."""
    told_s, portions = time.monotonic(), [videos[first : first + PORTION] for first in range(0, len(videos), PORTION)]
    watched: list[TimedCurves] = []
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=get_context("spawn")) as pool:
        for found in pool.map(partial(watch, weights=weights), portions):
            watched += found
            if time.monotonic() - told_s > TELL_EVERY_S or len(watched) == len(videos):
                told_s = time.monotonic()
                logger.info("watched %d of %d videos", len(watched), len(videos))
    return watched


def run(weights: Path, *, data: Path, look: str, count: int, seed: int, config: CurveTraining) -> Path:
    """Make the data, train, and write the network beside the starter's ``weights``, its sha256 into their card; its path."""
    began_s = time.monotonic()
    starter = Starter(path=weights)
    lengths_s = starter.lengths_s
    if missing := [label for label in starter.labels if label not in lengths_s]:
        raise TalRunError(
            f"{weights.with_suffix('.json')} does not say how long {missing[0]!r} lasts: make it anew with `make starter`"
        )
    planned = (plan_video(look=look, seed=seed, index=index).truth for index in range(count))
    shown = {instance.label for truth in planned for instance in truth.instances}
    if absent := [label for label in starter.labels if label not in shown]:
        raise TalRunError(f"of {count} videos none shows {absent[0]!r}: give more --videos")
    (sha256,) = starter.weights.values()
    videos = watch_all(make_videos(data / f"{look}_untrimmed", look=look, count=count, seed=seed), weights=weights)
    logger.info("%d actions to learn from after %.0f s", sum(len(v.classes) for v in videos), time.monotonic() - began_s)
    typical_s = [lengths_s[label] for label in starter.labels]
    network = train_curves(videos, typical_s, size=CurveSize(classes=len(starter.labels)), config=config)
    recipe = {
        "data": {"made": "tal_run.eval.synthetic", "look": look, "videos": count, "seed": seed},
        "generator": fingerprint(),
        "training": asdict(config),
    }
    out = curves_beside(weights)
    lengths = dict(zip(starter.labels, typical_s, strict=True))
    write_curves(out, network, lengths_s=lengths, backbone=sha256, recipe=recipe)
    write_card(weights, {**read_card(weights), CURVES_SHA256: sha256_of(out)})
    logger.info("%s: %.0f kB after %.0f s", out, out.stat().st_size / 1e3, time.monotonic() - began_s)
    return out


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--weights", type=click.Path(path_type=Path, dir_okay=False), default=PACKAGED, help="Of the starter.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), default=CLIPS_FOLDER, help="Folder of the videos.")
@click.option("--videos", type=click.IntRange(4), default=VIDEOS, help="Untrimmed videos to make.")
@click.option("--look", type=LOOK, default="stadium", help="To learn from.")
@click.option("--seed", type=click.IntRange(0), default=SEED, help="Of the videos.")
@click.option("--steps", type=click.IntRange(1), default=CurveTraining.steps, help="Batches to learn from.")
def main(weights: Path, data: Path, videos: int, look: str, seed: int, steps: int) -> None:
    """Make video, watch it with the starter and train what reads its scores over time.

    What was made is kept and used again. Interrupted, it leaves the old network as it was.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("tal_run.extractors").setLevel(logging.WARNING)  # readers tell of every video
    try:
        run(weights, data=data, look=look, count=videos, seed=seed, config=CurveTraining(steps=steps))
    except TalRunError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
