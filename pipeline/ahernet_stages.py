"""AherNet's training from end to end: the part of the data that its run learns from, and line 1 of Algorithm 1 before the rest.

    untrimmed videos ── variant=star ── FILE.star.safetensors ─┐
    untrimmed videos, foreground segments, moments ────────────┴─ lines 2 to 7 ── FILE.safetensors

Each of the two is a training of its own: cut off anywhere, it goes on and comes to the same. The first one's head is complete
and stays, so that other runs can be started from it (``start``), which saves training it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tal_run.extractors.features import FeatureError
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.wire import printable
from tal_run.models.ahernet_network import AherNetConfig
from tal_run.models.ahernet_training import check_kinds
from tal_run.models.head import TrainedHead, head_named
from tal_run.pipeline.training import Began, Tell, TrainOptions, train
from tal_run.pipeline.training_data import TrainingError, TrainingSet

STAR = ".star.safetensors"


def star_file(target: str | os.PathLike[str]) -> Path:
    """Where the model that a training starts from is kept, if it has to be trained first."""
    target = Path(target)
    return target.with_name(target.name.removesuffix(".safetensors") + STAR)


def part_for(config: AherNetConfig, data: TrainingSet) -> tuple[AherNetConfig, TrainingSet]:
    """What a run learns from, of all that there is, and its configuration for that.

    Where it learns from both, the moments' classes have a softmax of their own, unless there are no others, and are found.

    Raises:
        HeadError: there is nothing for it.
    """
    trimmed = sum(video.trimmed for video in data.videos)
    check_kinds(config, untrimmed=len(data.videos) - trimmed, moments=trimmed)
    wants_untrimmed, wants_moments = config.learns_from
    if wants_untrimmed and wants_moments:
        return config, data
    if wants_moments:
        return replace(config, moment_classes=()), data.moments() if trimmed < len(data.videos) else data
    if trimmed:
        raise TrainingError(
            "AherNet* learns all actions from their times, and nothing from moments: leave out --moments and --moment-classes"
        )
    return replace(config, moment_classes=()), data


def train_ahernet(
    target: str | os.PathLike[str],
    data: TrainingSet,
    *,
    config: AherNetConfig,
    options: TrainOptions | None = None,
    start: TrainedHead | None = None,
    hook: Hook = ignore_progress,
    tell: Tell | None = None,
    began: Began | None = None,
    stopping: Callable[[], None] | None = None,
) -> TrainedHead:
    """Train any of the paper's runs into a file; one that was begun there, with the same of everything, goes on.

    Args:
        target: the file.
        data: untrimmed videos and moments.
        config: the run's.
        options: seed, device and so on, of both trainings.
        start: what line 1 starts from; None: it is trained first, where the run starts from anything.
        hook: told of iterations.
        tell: told of losses.
        began: told of each of the two trainings before it begins.
        stopping: told as soon as somebody asks to stop.

    Raises:
        TrainingError, HeadError, OutputError, Interrupted: as ``training.train``.
        FeatureError: ``start`` was trained on other features.
    """
    head = head_named("ahernet")
    told = {"tell": tell, "began": began, "stopping": stopping}
    more: dict[str, Any] = {"options": options, "hook": hook} | {name: one for name, one in told.items() if one is not None}
    config, data = part_for(config, data)
    if start is None and config.starts:
        first = replace(config, variant="star", iterations=config.start_iterations or config.iterations, moment_classes=())
        untrimmed = data.untrimmed()
        start = train(star_file(target), head, untrimmed, config=first, **more)
    if start is not None:
        _check_features(start, data)
    return train(target, head, data, config=config, start=start, **more)


def _check_features(start: TrainedHead, data: TrainingSet) -> None:
    for name in ("dim", "streams", "backbone"):
        there, wanted = getattr(start.needs, name), getattr(data.needs, name)
        if there != wanted and None not in (there, wanted):
            raise FeatureError(
                f"the model to start from was trained on features with {name} {printable(there)}, and these have "
                f"{printable(wanted)}: give one that was trained on features such as these"
            )
