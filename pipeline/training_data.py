"""What a head learns from: features of videos with what is annotated in them, seconds made borders between snippets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tal_run.eval.annotations import SUBSETS, GroundTruth, VideoTruth
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.feature_record import FeatureRecipe
from tal_run.extractors.features import FeatureError, FeatureNeeds, Features
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.timegrid import Sampling, TimeGrid
from tal_run.extractors.wire import printable
from tal_run.models.head import TrainingVideo, needs_of

STEP = "reading features"
ALL = "all"
TIMED = frozenset({"ahernet", "scnn"})  # heads that learn from times; the others get labels of videos and nothing else
SHOWN = 5  # names in a sentence


class TrainingError(TalRunError):
    """A training that cannot begin, or cannot go on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingSet:
    """Videos to learn from, all of them in memory.

    Attributes:
        videos: with features, classes and, for methods that learn from them, times.
        labels: names of the classes, sorted.
        needs: what all features have in common, which a head that was trained on them will ask for.
        sha256: of all that is learnt from: names, features, labels and times.
        watching: how the videos were watched (``fps``, None: each one's own; ``window_frames``, ``stride_frames``, and
            ``settings``), where the features' records say so, all the same.
        missing: annotated videos that have no features.
        unlabelled: videos that were left out as nothing is annotated in them.
    """

    videos: tuple[TrainingVideo, ...]
    labels: tuple[str, ...]
    needs: FeatureNeeds
    sha256: str
    watching: Mapping[str, Any] | None = None
    missing: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Read:
    """What was read of one video, before it is known which classes there are."""

    name: str
    data: NDArray[np.float32]
    labels: tuple[str, ...]
    segments: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    segment_labels: tuple[str, ...] = ()


def to_learn_from(truth: GroundTruth, subset: str | None = None) -> tuple[GroundTruth, str]:
    """The videos of a subset, and its name: the one asked for or, if none is, the first there is to be learnt from.

    Args:
        truth: all that is annotated.
        subset: one of ``SUBSETS``, or ``all``; None: training or, as in THUMOS'14, validation; all, if there are no subsets.

    Raises:
        AnnotationError: it is not there.
        TrainingError: only what is to be tested on is there, and was not asked for.
    """
    there = {video.subset for video in truth.videos}
    if subset is None:
        subset = next((name for name in SUBSETS[:2] if name in there), ALL)
        if subset == ALL and "testing" in there:
            raise TrainingError(
                "only videos to test on (subset testing) are annotated: if they are what to learn from, say --subset testing"
            )
    return (truth, subset) if subset == ALL else (truth.subset(subset), subset)


def read_training_set(
    truth: GroundTruth,
    folder: FeatureFolder,
    *,
    timed: bool,
    sampling: Sampling | None = None,
    hook: Hook = ignore_progress,
) -> TrainingSet:
    """Read the features of all annotated videos that have any.

    Args:
        truth: the videos to learn from.
        folder: their features.
        timed: the method learns from times; otherwise it gets none.
        sampling: how features made elsewhere lie in time, where nothing there says so.
        hook: told of videos.

    Raises:
        TrainingError: there is nothing left to learn from.
        FeatureError, ArrayFileError: features are damaged, or not of one kind.
    """
    present = set(folder.video_ids)
    digest, needs, recipes, first = hashlib.sha256(), FeatureNeeds(), _Recipes(), ""
    read: list[_Read] = []
    missing: list[str] = []
    unlabelled: list[str] = []
    for number, video in enumerate(truth.videos):
        hook(STEP, completed=number, total=len(truth.videos))
        name = next((name for name in names_of(video.video_id) if name in present), None)
        if name is None:
            missing.append(video.video_id)
        elif not video.instances and not timed:
            unlabelled.append(video.video_id)
        else:
            features = folder.read(name, sampling=sampling, duration_s=video.duration_s)
            _check(needs, features, name, first)
            if not read:
                needs, first = needs_of(features), name
            recipes.add(features)
            read.append(_annotated(name, features, video, timed=timed))
            _add_to(digest, read[-1])
    hook(STEP, completed=len(truth.videos), total=len(truth.videos))
    labels = tuple(sorted({label for video in read for label in video.labels}))
    if not labels:
        raise TrainingError(
            f"there is nothing to learn from in {printable(folder.path)}: of {len(truth.videos)} annotated videos, "
            f"{len(missing)} have no features there ({some(missing) or 'none'}) and the others no actions: check --features, "
            "and that its files are called as the videos in the annotations"
        )
    index = {label: number for number, label in enumerate(labels)}
    return TrainingSet(
        videos=tuple(_numbered(video, index) for video in read),
        labels=labels,
        needs=needs,
        sha256=digest.hexdigest(),
        watching=recipes.watching(),
        missing=tuple(missing),
        unlabelled=tuple(unlabelled),
    )


def seconds_to_borders(grid: TimeGrid, seconds: ArrayLike) -> NDArray[np.float64]:
    """Times of any shape as places among the cells: ``TimeGrid.borders_to_seconds`` the other way round.

    Cells that lie behind the video's end are empty, and nothing is in them.
    """
    edges, cells = np.unique(grid.edges_s, return_index=True)
    return np.interp(np.asarray(seconds, np.float64), edges, cells)


def names_of(video_id: str) -> tuple[str, ...]:
    """What a video's features may be called: ActivityNet's files have a prefix that its annotations have not."""
    return (video_id, f"v_{video_id}", video_id.removeprefix("v_"))


def some(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(printable(name, limit=80) for name in names[:SHOWN]) + more


def _check(needs: FeatureNeeds, features: Features, name: str, first: str) -> None:
    """Refuse features of another kind than the first video's."""
    try:
        needs.check(features)
    except FeatureError as error:
        raise FeatureError(
            f"the features of {printable(name)} are not like those of {printable(first)}, with which a head would be "
            f"trained: {error}"
        ) from error


def _annotated(name: str, features: Features, video: VideoTruth, *, timed: bool) -> _Read:
    if not timed:
        return _Read(name=name, data=features.data, labels=tuple(sorted({found.label for found in video.instances})))
    times = np.array([(found.start_s, found.end_s) for found in video.instances], np.float64).reshape(-1, 2)
    borders = seconds_to_borders(features.grid, times)
    real = borders[:, 1] > borders[:, 0]
    labels = tuple(found.label for found, is_real in zip(video.instances, real, strict=True) if is_real)
    return _Read(name=name, data=features.data, labels=tuple(sorted({*labels})), segments=borders[real], segment_labels=labels)


def _add_to(digest: Any, video: _Read) -> None:
    """Put all that is learnt from a video into a digest."""
    head = (video.name, video.data.shape, video.labels, video.segment_labels)
    digest.update(repr(head).encode("utf-8", "surrogateescape"))
    digest.update(np.ascontiguousarray(video.data, "<f4").data)
    digest.update(np.ascontiguousarray(video.segments, "<f8").data)


def _numbered(video: _Read, index: Mapping[str, int]) -> TrainingVideo:
    return TrainingVideo(
        features=video.data,
        classes=tuple(index[label] for label in video.labels),
        segments=video.segments,
        segment_classes=np.array([index[label] for label in video.segment_labels], np.int64),
    )


class _Recipes:
    """How the videos were watched, as far as it is the same for all."""

    def __init__(self) -> None:
        self._recipes: list[FeatureRecipe | None] = []

    def add(self, features: Features) -> None:
        self._recipes.append(features.record.recipe if features.record else None)

    def watching(self) -> dict[str, Any] | None:
        known = [recipe for recipe in self._recipes if recipe]
        if not known or len(known) < len(self._recipes):
            return None

        def same(of: Callable[[FeatureRecipe], Any], recipes: Iterable[FeatureRecipe] = known) -> bool:
            values = [of(recipe) for recipe in recipes]
            return all(value == values[0] for value in values)

        first = known[0]
        if not same(lambda r: (r.sampling.window_frames, r.sampling.stride_frames, dict(r.settings))):
            return None
        return {
            "fps": first.sampling.fps if same(lambda r: r.sampling.fps) else None,  # None: each video's own
            "window_frames": first.sampling.window_frames,
            "stride_frames": first.sampling.stride_frames,
            "settings": dict(first.settings),
        }
