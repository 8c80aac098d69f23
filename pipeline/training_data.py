"""What a head learns from: features of videos with what is annotated in them, seconds made borders between snippets."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tal_run.eval.annotations import SUBSETS, GroundTruth, VideoTruth
from tal_run.eval.moments import Moment
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.feature_record import FeatureRecipe
from tal_run.extractors.features import FeatureError, FeatureNeeds, Features
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.timegrid import Sampling, TimeGrid
from tal_run.extractors.video_errors import VIDEO_ENDINGS
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
        repeated: moments that are listed once more, and left out.
        moment_classes: indices of the classes that moments show, rising; none: there are no moments.
    """

    videos: tuple[TrainingVideo, ...]
    labels: tuple[str, ...]
    needs: FeatureNeeds
    sha256: str
    watching: Mapping[str, Any] | None = None
    missing: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    repeated: int = 0
    moment_classes: tuple[int, ...] = ()

    def untrimmed(self) -> TrainingSet:
        """What is left without the moments, and the classes of that."""
        return _part_of(self, [video for video in self.videos if not video.trimmed])

    def moments(self) -> TrainingSet:
        """The moments alone, and their classes."""
        return _part_of(self, [video for video in self.videos if video.trimmed])


@dataclass(frozen=True, kw_only=True)
class MomentSource:
    """Where moments come from, beside the untrimmed videos.

    Attributes:
        moments: clips, or stretches of videos, of one action each; what is listed more than once is there once.
        folder: their features; None: there are no such moments.
        classes: labels in the annotations of the untrimmed videos whose instances are cut out as moments. What is cut out is
            not part of its video any more; a video in which nothing else happens is left out.
        repeated: how many were listed once more.
    """

    moments: tuple[Moment, ...] = ()
    folder: FeatureFolder | None = None
    classes: frozenset[str] = frozenset()
    repeated: int = field(init=False)

    def __post_init__(self) -> None:
        once: dict[tuple[object, ...], Moment] = {}
        for moment in self.moments:  # of whatever subset
            once.setdefault((moment.video_id, moment.start_s, moment.end_s, moment.label), moment)
        object.__setattr__(self, "repeated", len(self.moments) - len(once))
        object.__setattr__(self, "moments", tuple(once.values()))


@dataclass(kw_only=True)
class _Read:
    """What was read of one video, before it is known which classes there are."""

    name: str
    data: NDArray[np.float32]
    labels: tuple[str, ...]
    segments: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    segment_labels: tuple[str, ...] = ()
    trimmed: bool = False


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
    truth: GroundTruth | None,
    folder: FeatureFolder,
    *,
    timed: bool,
    source: MomentSource | None = None,
    sampling: Sampling | None = None,
    hook: Hook = ignore_progress,
) -> TrainingSet:
    """Read the features of all annotated videos that have any, and of moments.

    Args:
        truth: the videos to learn from; None: there are moments alone.
        folder: their features.
        timed: the method learns from times; otherwise it gets none.
        source: where moments come from, of a method that learns from times; None: there are none.
        sampling: how features made elsewhere lie in time, where nothing there says so.
        hook: told of videos.

    Raises:
        TrainingError: there is nothing left to learn from.
        FeatureError, ArrayFileError: features are damaged, or not of one kind.
    """
    source, videos = source or MomentSource(), () if truth is None else truth.videos
    _check_classes(source, videos)
    once = [_with_moments_once(video, source.classes) for video in videos]
    repeated = sum(len(video.instances) - len(kept.instances) for video, kept in zip(videos, once, strict=True))
    reader = _Reader(sampling=sampling, hook=hook, total=len(videos) + len({moment.video_id for moment in source.moments}))
    for video in once:
        if not video.instances and not timed:
            reader.unlabelled(video.video_id, folder)
        elif features := reader.features(video.video_id, folder, duration_s=video.duration_s):
            whole = _annotated(features[0], features[1], video, timed=timed)
            for part in _without_moments(whole, source.classes):
                reader.keep(part)
    for video_id, moments in _by_video(source.moments).items():
        assert source.folder is not None
        if features := reader.features(video_id, source.folder, duration_s=None):
            for moment in moments:
                reader.keep(_moment(features[0], features[1], moment))
    return replace(reader.whole(f"{printable(folder.path)}"), repeated=source.repeated + repeated)


class _Reader:
    """Videos as they are read, and what they have in common."""

    def __init__(self, *, sampling: Sampling | None, hook: Hook, total: int) -> None:
        self._sampling, self._hook, self._total = sampling, hook, total
        self._digest, self._needs, self._recipes, self._first = hashlib.sha256(), FeatureNeeds(), _Recipes(), ""
        self._read: list[_Read] = []
        self._missing: list[str] = []
        self._unlabelled: list[str] = []
        self._seen = 0
        self._names: dict[int, set[str]] = {}

    def _find(self, video_id: str, folder: FeatureFolder) -> str | None:
        self._hook(STEP, completed=self._seen, total=self._total)
        self._seen += 1
        if id(folder) not in self._names:
            self._names[id(folder)] = set(folder.video_ids)
        name = next((name for name in names_of(video_id) if name in self._names[id(folder)]), None)
        if name is None:
            self._missing.append(video_id)
        return name

    def unlabelled(self, video_id: str, folder: FeatureFolder) -> None:
        """Leave out a video in which nothing is annotated."""
        if self._find(video_id, folder) is not None:
            self._unlabelled.append(video_id)

    def features(self, video_id: str, folder: FeatureFolder, *, duration_s: float | None) -> tuple[str, Features] | None:
        """A video's features and what they are called there; None: it has none."""
        name = self._find(video_id, folder)
        if name is None:
            return None
        features = folder.read(name, sampling=self._sampling, duration_s=duration_s)
        _check(self._needs, features, name, self._first)
        if not self._first:
            self._needs, self._first = needs_of(features), name
        self._recipes.add(features)
        return name, features

    def keep(self, video: _Read) -> None:
        """Learn from it, if there is anything of it."""
        if len(video.data) or not video.trimmed:
            self._read.append(video)
            _add_to(self._digest, video)

    def whole(self, shown: str) -> TrainingSet:
        """All of it. Raises TrainingError: there is nothing."""
        self._hook(STEP, completed=self._total, total=self._total)
        labels = tuple(sorted({label for video in self._read for label in video.labels}))
        if not labels:
            cure = "check --features, and that its files are called as the videos in the annotations"
            if self._missing and all(name.lower().endswith(tuple(VIDEO_ENDINGS)) for name in self._missing):
                cure = "in annotations a video is called as its file without the ending"
            raise TrainingError(
                f"there is nothing to learn from in {shown}: of {self._total} annotated videos, {len(self._missing)} "
                f"have no features there ({some(self._missing) or 'none'}) and the others no actions: {cure}"
            )
        index = {label: number for number, label in enumerate(labels)}
        return TrainingSet(
            videos=tuple(_numbered(video, index) for video in self._read),
            labels=labels,
            needs=self._needs,
            sha256=self._digest.hexdigest(),
            watching=self._recipes.watching(),
            missing=tuple(self._missing),
            unlabelled=tuple(self._unlabelled),
            moment_classes=tuple(sorted({index[label] for video in self._read if video.trimmed for label in video.labels})),
        )


def _check_classes(source: MomentSource, videos: Sequence[VideoTruth]) -> None:
    there = {found.label for video in videos for found in video.instances}
    if unknown := sorted(source.classes - there):
        raise TrainingError(
            f"no video to learn from has {some(unknown)}, which moments were to be cut out of: there are {some(sorted(there))}"
        )


def _with_moments_once(video: VideoTruth, classes: Collection[str]) -> VideoTruth:
    """A video in which no instance of some classes is annotated twice; the others are as they are."""
    if not classes:
        return video
    every = video.instances
    kept = (one for index, one in enumerate(every) if one.label not in classes or one not in every[:index])
    return replace(video, instances=tuple(kept))


def _without_moments(video: _Read, classes: Collection[str]) -> list[_Read]:
    """A video as what is left of it without the instances of some classes, and these, as moments."""
    of_moments = np.array([label in classes for label in video.segment_labels], np.bool_)
    if not of_moments.any():
        return [video]
    moments, left = [], np.ones(len(video.data), np.bool_)
    for (start, end), label in zip(video.segments[of_moments], np.array(video.segment_labels)[of_moments], strict=True):
        inside = slice(math.floor(start), math.ceil(end))
        moments.append(_Read(name=video.name, data=video.data[inside], labels=(str(label),), trimmed=True))
        left[inside] = False
    before = np.concatenate([[0], np.cumsum(left)])  # snippets left before each border
    segments = np.interp(video.segments[~of_moments], np.arange(len(left) + 1), before)
    real = segments[:, 1] > segments[:, 0]
    labels = [label for label, gone in zip(video.segment_labels, of_moments, strict=True) if not gone]
    kept = tuple(label for label, is_real in zip(labels, real, strict=True) if is_real)
    rest = _Read(
        name=video.name, data=video.data[left], labels=tuple(sorted({*kept})), segments=segments[real], segment_labels=kept
    )
    return [rest, *moments] if kept else moments


def _by_video(moments: Iterable[Moment]) -> dict[str, list[Moment]]:
    found: dict[str, list[Moment]] = {}
    for moment in moments:
        found.setdefault(moment.video_id, []).append(moment)
    return found


def _moment(name: str, features: Features, moment: Moment) -> _Read:
    """The snippets of a moment, with those that it only begins or ends in."""
    data = features.data
    if moment.start_s is not None and moment.end_s is not None:
        start, end = seconds_to_borders(features.grid, [moment.start_s, moment.end_s])
        data = data[math.floor(start) : math.ceil(end)]
    return _Read(name=name, data=data, labels=(moment.label,), trimmed=True)


def _part_of(whole: TrainingSet, videos: Sequence[TrainingVideo]) -> TrainingSet:
    """Some of the videos, with the classes that occur in them."""
    there = sorted({kind for video in videos for kind in video.classes})
    labels, index = tuple(whole.labels[kind] for kind in there), {kind: number for number, kind in enumerate(there)}
    digest, kept = hashlib.sha256(repr(labels).encode("utf-8", "surrogateescape")), []
    for video in videos:
        segments = tuple(index[int(kind)] for kind in video.segment_classes)
        video = replace(
            video,
            classes=tuple(index[kind] for kind in video.classes),
            segment_classes=np.array(segments, np.int64),
        )
        digest.update(repr((video.features.shape, video.classes, segments, video.trimmed)).encode())
        digest.update(np.ascontiguousarray(video.features, "<f4").data)
        digest.update(np.ascontiguousarray(video.segments, "<f8").data)
        kept.append(video)
    moments = tuple(sorted({kind for video in kept if video.trimmed for kind in video.classes}))
    return replace(whole, videos=tuple(kept), labels=labels, sha256=digest.hexdigest(), moment_classes=moments)


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
    head: tuple[object, ...] = (video.name, video.data.shape, video.labels, video.segment_labels)
    head = (*head, "moment") if video.trimmed else head
    digest.update(repr(head).encode("utf-8", "surrogateescape"))
    digest.update(np.ascontiguousarray(video.data, "<f4").data)
    digest.update(np.ascontiguousarray(video.segments, "<f8").data)


def _numbered(video: _Read, index: Mapping[str, int]) -> TrainingVideo:
    return TrainingVideo(
        features=video.data,
        classes=tuple(index[label] for label in video.labels),
        segments=video.segments,
        segment_classes=np.array([index[label] for label in video.segment_labels], np.int64),
        trimmed=video.trimmed,
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
