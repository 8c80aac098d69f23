"""Detection in stored features: a trained head over a folder of them, one video in memory at a time, no network, no video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.features import FeatureError
from tal_run.extractors.timegrid import Sampling
from tal_run.extractors.weights import sha256_of
from tal_run.extractors.wire import printable
from tal_run.models import Detection
from tal_run.models.head import HeadError, TrainedHead
from tal_run.pipeline.head_config import parsed, what_is_wrong
from tal_run.pipeline.training_data import names_of

# the numbers of a head that count when actions are sought and not before; the others are in its weights
SOUGHT_BY: dict[str, tuple[str, ...]] = {
    "actionbytes": (
        *("proposals", "proposal_percentiles", "merge", "jitter", "first_stage", "score", "margin_fraction"),
        *("confidence_weight", "nms_tiou"),
    ),
    "ahernet": ("scored_by", "thresholds", "nms_tiou", "most"),
    "autoloc": ("min_activation", "max_loss", "nms_tiou", "top_classes", "proposals", "inflation", "objective"),
    "scnn": ("proposal_threshold", "use_prior", "evaluation_tiou", "nms_margin"),
    "wsad": ("inference", "gamma", "block", "k", "clip"),
    "wtalc": ("k_divisor", "class_threshold", "min_snippets", "confidence_weight"),
}


def seeking(trained: TrainedHead, values: Mapping[str, str]) -> TrainedHead:
    """A trained head that seeks with other numbers than it was trained with.

    Args:
        trained: the head.
        values: texts by the names of its configuration's fields, as ``head_config.configured`` takes them.

    Raises:
        HeadError: one of them counts in training, or cannot have that value.
    """
    allowed = SOUGHT_BY.get(trained.head.name, ())
    for name in values:
        if name not in allowed:
            raise HeadError(
                f"{trained.head.name} was trained with its {printable(name)!r}, or has none: when actions are sought, "
                f"choose among {', '.join(allowed) or 'nothing'}"
            )
    changes = parsed(trained.head, values)

    def made(changes: Mapping[str, Any]) -> Any:
        return replace(trained.config, **changes)

    try:
        config = made(changes)
    except ValueError as error:
        raise HeadError(f"{trained.head.name} cannot seek {what_is_wrong(made, changes, error)}") from error
    if hasattr(trained.network, "config"):
        setattr(trained.network, "config", config)  # noqa: B010 - S-CNN's on frames asks there
    return replace(trained, config=config)


def chosen_videos(folder: FeatureFolder, wanted: Sequence[str] | None) -> tuple[dict[str, str], list[str]]:
    """Videos to look at, each with the name of its features, and those that have none.

    Args:
        folder: the features.
        wanted: the videos' names, as annotated; None: all that are there.

    Raises:
        FeatureError: there is nothing to look at.
    """
    present = folder.video_ids
    if wanted is None:
        chosen = {name: name for name in present}
    else:
        known = set(present)
        named = {video: next((name for name in names_of(video) if name in known), "") for video in wanted}
        chosen = {video: name for video, name in named.items() if name}
    if not chosen:
        asked = "" if wanted is None else f" of any of the {len(wanted)} videos asked for"
        raise FeatureError(f"there are no features{asked} in {printable(folder.path)}: check --features")
    return chosen, [video for video in wanted or () if video not in chosen]


def detections_in(
    trained: TrainedHead,
    folder: FeatureFolder,
    videos: Mapping[str, str],
    *,
    sampling: Sampling | None = None,
    min_score: float | None = None,
    failed: Callable[[str, TalRunError], None],
) -> Iterator[tuple[str, list[Detection]]]:
    """What the head finds, video by video, best first.

    Args:
        trained: the head, on the device that it is to compute on.
        folder: the features.
        videos: name of a video -> of its features.
        sampling: how features made elsewhere lie in time, where nothing there says so.
        min_score: leave out what scores lower.
        failed: told of videos whose features cannot be read or do not fit; the others go on.
    """
    for video, name in videos.items():
        try:
            found = trained.localize(folder.read(name, sampling=sampling))
        except TalRunError as error:
            failed(video, error)
            continue
        yield video, [one for one in found if min_score is None or one.score >= min_score]


def made_by(trained: TrainedHead, checkpoint: Path, folder: FeatureFolder, *, min_score: float | None) -> dict[str, Any]:
    """What made the results: the head, its numbers, and what it was trained on."""
    return {
        "tal_run": version("tal-run"),
        "head": {
            "name": trained.head.name,
            "checkpoint": checkpoint.name,
            "sha256": sha256_of(checkpoint),
            "config": asdict(trained.config),
            "min_score": min_score,
        },
        "features": {"folder": folder.path.name, "layout": folder.layout_name, "needs": asdict(trained.needs)},
    }
