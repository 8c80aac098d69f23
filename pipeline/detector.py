"""From a video and a question to detections: the whole pipeline, composed.

video -> backbone -> class scores p [T, K], features [T, D]
query -> affinities to the K classes (query.py) -> its activation over time [T]
activation, features -> head (models/) -> segments -> seconds -> Detection

A backbone that brings a network which reads its scores over time (``models/curves.py``) is asked class by class instead:
logits [T, K] -> segments of each class of the query -> the best of them, weighed by affinity.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors import create_backbone
from tal_run.extractors.backbone import BackboneOptions, WindowConfig
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.features import FeatureError, Features, FeatureSequence, extract
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.names import choices
from tal_run.extractors.registry import DEFAULT_BACKBONE, EXTRACTORS, stronger
from tal_run.extractors.two_streams import FlowConfig
from tal_run.extractors.video import VideoInfo
from tal_run.models import LOCALIZERS, Detection, best_first
from tal_run.models.actionbytes import ActionBytesConfig, boundaries
from tal_run.models.postprocess import nms
from tal_run.models.thresholds import first_stage_classes
from tal_run.pipeline.query import QueryConfig, QueryMatch, match_query

if TYPE_CHECKING:
    from tal_run.extractors.backbone import Backbone
    from tal_run.models.curves import CurveReader
    from tal_run.pipeline.query import Vectors


FEW_CLASSES = 20  # are named where none of them matches
AUTO_HEAD, CURVES = "auto", "curves"
# Thresholds that fit a backbone's scores, chosen on videos that nothing is reported on; others take ActionBytesConfig's.
LOCALIZATION: dict[str, ActionBytesConfig] = {
    # made video, stadium look, seeds 1, 3 and 11, 180 videos: of shares from 0.6 to 1.1, 0.8 finds most (0.7 to 1.1 within
    # 1 %); 0.4 finds as many there as 0.35 and leaves 5 % of the queries for absent actions with an answer, not 8 %
    "starter": ActionBytesConfig(power=1.0, smooth_share=0.8, min_score=0.4),
}


class NothingMatchesError(TalRunError):
    """Not one of the queries has anything to do with the backbone's classes."""


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """All that steers a detection; each stage's own configuration says where its defaults come from.

    Attributes:
        backbone: name of the network (``EXTRACTORS``), or ``auto``: the strongest one at hand.
        head: name of the head (``LOCALIZERS``); ``curves``: the network that the backbone brings; ``auto``: that one if there
            is one and ``localization`` says nothing, else ``actionbytes``.
        windows: how the video is cut; None: as the backbone likes it.
        decoder: ``auto``, ``decord`` or ``pyav``.
        options: how the backbone computes.
        flow: how motion is computed for a backbone that looks at it; None: as ``extract`` does.
        localization: thresholds of ActionBytes; None: those that fit the backbone (``LOCALIZATION``).
        min_score: leave out what scores lower; None: as the head has it. What reads curves applies its own to each class's
            score by itself, before a query's affinity to the class lowers it.
        query: how words are matched to classes.
        top_classes: without a query, report at most so many classes of a video, the best first; None: all.
    """

    backbone: str = DEFAULT_BACKBONE
    head: str = AUTO_HEAD
    windows: WindowConfig | None = None
    decoder: str = "auto"
    options: BackboneOptions | None = None
    flow: FlowConfig | None = None
    localization: ActionBytesConfig | None = None
    min_score: float | None = None
    query: QueryConfig = field(default_factory=QueryConfig)
    top_classes: int | None = 5

    def __post_init__(self) -> None:
        if self.head not in (known := (AUTO_HEAD, CURVES, *LOCALIZERS)):
            raise TalRunError(f"there is no head {self.head!r}: {choices(self.head, known)}")
        if self.head == CURVES and self.localization is not None:
            raise TalRunError(f"the head {CURVES!r} takes none of ActionBytes' thresholds: leave out one of them")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise ValueError(f"min-score must lie in 0..1, got {self.min_score:g}")
        if self.top_classes is not None and self.top_classes < 1:
            raise TalRunError(f"the number of classes to report must be at least 1, got {self.top_classes}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A score over time: score k is that of the stretch from ``start_s + k * step_s`` to the next one.

    Attributes:
        start_s: where the first score begins, seconds of the video.
        step_s: seconds from score to score.
        scores: 0 to 1 [T].
    """

    start_s: float
    step_s: float
    scores: NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoResult:
    """What was found in one video, and what a reader of it should know.

    Attributes:
        path: the file.
        detections: best first.
        video: what was found out about the file.
        decoder: the decoder that gave the frames.
        notes: sentences on damage, and on videos too short to judge.
        curves: how likely what was looked for is over time, by label; none of a head that does not say.
        boundaries_s: where ActionBytes meet, seconds [B].
    """

    path: Path
    detections: tuple[Detection, ...]
    video: VideoInfo
    decoder: str
    notes: tuple[str, ...]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    boundaries_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


class Detector:
    """A backbone and a head, loaded once, for any number of videos.

    Args:
        config: what to use and how.
        backbone: the network, if there is one already; None: the one that ``config`` names.
        vectors: word vectors for queries that name no class, or a function that loads them; None: those of tal-run.
        hook: told of downloads.

    Raises:
        BackboneError, WeightsError: the backbone cannot be had.
    """

    def __init__(
        self,
        config: DetectConfig | None = None,
        *,
        backbone: Backbone | None = None,
        vectors: Vectors = None,
        hook: Hook = ignore_progress,
    ) -> None:
        self.config = config or DetectConfig()
        self.backbone = backbone or create_backbone(self.config.backbone, options=self.config.options, hook=hook)
        if not self.backbone.labels:
            raise NothingMatchesError(
                f"{self.backbone.name} gives features without names ({self.backbone.knows}): it serves "
                "`tal-run features`; choose another --backbone to detect"
            )
        self.localization = self.config.localization or localization_for(self.backbone.name)
        self.reader, self._notes = self._reader()
        usual = self.localization if self.reader is None else self.reader.config
        self.threshold = usual.min_score if self.config.min_score is None else self.config.min_score
        self._vectors = vectors

    def _reader(self) -> tuple[CurveReader | None, tuple[str, ...]]:
        """What reads the curves of the backbone, if it is asked for and there is one; a note on why there is none."""
        wanted, head = getattr(self.backbone, "curves_file", None), self.config.head
        usual, windows = self.backbone.default_windows, self.windows
        if head not in (AUTO_HEAD, CURVES) or (head == AUTO_HEAD and self.config.localization is not None):
            return None, ()
        if wanted is None:
            why = f"{self.backbone.name} brings no network that reads its scores"
        elif not wanted.is_file():
            why = f"{wanted.name}, which would read its scores, is not beside {self.backbone.name}'s weights"
        elif (usual.fps, usual.window_frames) != (windows.fps, windows.window_frames):  # however far apart they are
            why = f"{wanted.name} has only learnt from windows of {usual.window_frames} frames at {usual.rate:g} a second"
        else:
            from tal_run.models.curves import read_curves

            reader = read_curves(wanted, sha256=getattr(self.backbone, "curves_sha256", None))
            if reader.labels == self.backbone.labels and reader.backbone in self.backbone.weights.values():
                return reader, ()
            why = f"{wanted.name} has learnt from other weights of {self.backbone.name}: `make starter-curves` makes it anew"
        if head == CURVES:
            raise TalRunError(f"{why}: leave out the head {CURVES!r}")
        return None, (f"{why}; thresholds find the actions, less well",) if wanted is not None else ()

    @property
    def windows(self) -> WindowConfig:
        """How videos are cut."""
        return self.config.windows or self.backbone.default_windows

    @property
    def head(self) -> str:
        """The head that finds (``LOCALIZERS``, or ``curves``)."""
        chosen = "actionbytes" if self.config.head == AUTO_HEAD else self.config.head
        return CURVES if self.reader is not None else chosen

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what a reader of its results should know."""
        return self._notes

    @property
    def head_card(self) -> dict[str, Any]:
        """The head's name and all that steers it."""
        if self.reader is not None:
            return {"name": CURVES, "min_score": self.threshold, "sha256": self.reader.sha256}
        return {"name": self.head, **asdict(replace(self.localization, min_score=self.threshold))}

    def match(self, queries: str | Sequence[str]) -> list[QueryMatch]:
        """Match one query or several to the backbone's classes; one that is given twice is matched once.

        Raises:
            QueryError: a query cannot be read as words.
            NothingMatchesError: no query has a class to look for.
        """
        queries = [queries] if isinstance(queries, str) else queries
        matches = [
            match_query(query, self.backbone.labels, vectors=self._vectors, config=self.config.query)
            for query in dict.fromkeys(queries)
        ]
        if matches and not any(match.classes for match in matches):
            raise NothingMatchesError("; ".join(match.summary() for match in matches) + self._what_there_is())
        return matches

    def _what_there_is(self) -> str:
        """The end of a sentence: the classes, where they are few, and the backbone that has more."""
        better, labels = stronger(self.backbone.name), self.backbone.labels
        few = f"; {self.backbone.name} knows only {', '.join(labels)}" if len(labels) <= FEW_CLASSES else ""
        return few + (f"; --backbone {better} knows {EXTRACTORS[better].knows}" if better else "")

    def detect(
        self, video: str | os.PathLike[str], *, matches: Sequence[QueryMatch] = (), hook: Hook = ignore_progress
    ) -> VideoResult:
        """Find actions in one video: ``watch`` it, then ``find`` them.

        Raises:
            VideoError: the file cannot be read as a video.
        """
        features = self.watch(video, hook=hook)
        detections = tuple(self.find(features, matches))
        return VideoResult(
            path=Path(video),
            detections=detections,
            video=features.video,
            decoder=features.decoder,
            notes=features.notes,
            curves=self.curves(features, matches, labels={found.label for found in detections}),
            boundaries_s=self.boundaries_s(features),
        )

    def curves(self, features: Features, matches: Sequence[QueryMatch] = (), *, labels: Collection[str]) -> dict[str, Curve]:
        """How likely what was asked for, or without a query each of the ``labels``, is over time."""
        probabilities = features.probabilities()
        if matches:
            by_label = {match.query: match.transfer(probabilities) for match in matches if match.classes}
        else:
            places = {label: index for index, label in enumerate(features.labels)}
            by_label = {label: probabilities[:, places[label]] for label in sorted(labels)}
        grid = features.grid
        start_s = float(grid.centers_s[0]) - grid.step_s / 2
        return {label: Curve(start_s=start_s, step_s=grid.step_s, scores=scores) for label, scores in by_label.items()}

    def boundaries_s(self, features: Features) -> NDArray[np.float64]:
        """Where ActionBytes meet (Eq. 1 of that paper), seconds [B]."""
        return features.grid.borders_to_seconds(boundaries(features.data, percentile=self.localization.percentile))

    def watch(self, video: str | os.PathLike[str], *, hook: Hook = ignore_progress) -> FeatureSequence:
        """What the backbone makes of a video: the slow part, needed once for any number of questions.

        Args:
            video: path of a local file.
            hook: told of the seconds of video that have been watched.

        Raises:
            VideoError: the file cannot be read as a video.
        """
        return extract(
            video,
            backbone=self.backbone,
            windows=self.config.windows,
            decoder=self.config.decoder,
            flow=self.config.flow,
            hook=hook,
        )

    def find(self, features: Features, matches: Sequence[QueryMatch] = ()) -> list[Detection]:
        """Actions in a watched video, best first: those asked for or, without a query, the video's best classes.

        Raises:
            FeatureError: there are no class scores, or they are not this backbone's.
        """
        found = self._find_queries(features, matches) if matches else self._find_best_classes(features)
        return best_first(found)

    def _find_queries(self, features: Features, matches: Sequence[QueryMatch]) -> list[Detection]:
        if self.reader is not None:
            return [found for match in matches for found in self._best_of_classes(features, match)]
        probabilities = features.probabilities()
        return [
            detection
            for match in matches
            if match.classes
            for detection in self._localize(
                features, match.transfer(probabilities), match.query, typical_s=self._typical_s(match)
            )
        ]

    def _best_of_classes(self, features: Features, match: QueryMatch) -> list[Detection]:
        """What is found of each class of a query, its score times its affinity; of what overlaps, the best.

        The network's threshold is for classes: a query in other words than theirs is not to find less for it.
        """
        assert self.reader is not None
        found = [
            replace(each, label=match.query, score=kind.affinity * each.score)
            for kind in match.classes
            for each in self._read(features, kind.index)
        ]
        found = [each for each in best_first(found) if each.score >= (self.config.min_score or 0.0)]
        segments = np.array([(each.start_s, each.end_s) for each in found]).reshape(-1, 2)
        kept = nms(segments, [each.score for each in found], tiou_threshold=self.reader.config.nms_tiou)
        return [found[index] for index in kept]

    def _read(self, features: Features, index: int) -> list[Detection]:
        """Detections of one class by what reads the backbone's curves."""
        assert self.reader is not None
        made_by = features.record.recipe.weights.values() if features.record else (self.reader.backbone,)
        if features.labels != self.reader.labels or self.reader.backbone not in made_by:
            raise FeatureError(
                f"these scores are not those of {self.backbone.name} with the weights that are here: compute the features "
                "anew, or take the head 'actionbytes'"
            )
        config = replace(self.reader.config, min_score=self.threshold)
        segments, scores = self.reader.localize(features.known_logits(), features.grid, index, config=config)
        return [
            Detection(float(start_s), float(end_s), features.labels[index], float(score))
            for (start_s, end_s), score in zip(segments, scores, strict=True)
        ]

    def _find_best_classes(self, features: Features) -> list[Detection]:
        if self.reader is not None:
            by_class = [self._read(features, index) for index in range(len(features.labels))]
        else:
            by_class = self._localize_classes(features)
        by_class = sorted(filter(None, by_class), key=lambda found: -found[0].score)
        return [detection for found in by_class[: self.config.top_classes] for detection in found]

    def _localize_classes(self, features: Features) -> list[list[Detection]]:
        """What the head finds of each class."""
        probabilities = features.probabilities()
        # no segment of a class can score above the class's largest activation
        possible = probabilities.max(axis=0) >= self.threshold
        if self.localization.first_stage:
            possible &= first_stage_classes(probabilities)
        return [
            self._localize(
                features,
                probabilities[:, index],
                features.labels[index],
                typical_s=self._lengths_s.get(features.labels[index]),
            )
            for index in np.flatnonzero(possible)
        ]

    @property
    def _lengths_s(self) -> Mapping[str, float]:
        """How long an instance of a class usually lasts, for the classes of which the backbone knows it."""
        lengths_s: Mapping[str, float] = getattr(self.backbone, "lengths_s", {})
        return lengths_s

    def _typical_s(self, match: QueryMatch) -> float | None:
        """The same of a query: the mean over its classes, weighed by affinity."""
        known = [(c.affinity, self._lengths_s[c.label]) for c in match.classes if c.label in self._lengths_s]
        total = sum(affinity for affinity, _ in known)
        return sum(affinity * length_s for affinity, length_s in known) / total if total > 0 else None

    def _localize(
        self, features: Features, activation: NDArray[np.float32], label: str, *, typical_s: float | None
    ) -> list[Detection]:
        localize, config = LOCALIZERS[self.head], replace(self.localization, min_score=self.threshold)
        typical = None if typical_s is None else typical_s / features.grid.step_s
        segments, scores = localize(features.data, activation, config=config, typical=typical)
        seconds = features.grid.segments_to_seconds(segments)
        return [
            Detection(float(start), float(end), label, float(score))
            for (start, end), score in zip(seconds, scores, strict=True)
            if end > start  # cells behind the video's end are empty
        ]


def localization_for(backbone: str) -> ActionBytesConfig:
    """The head's thresholds that fit the scores of the backbone of that name."""
    return LOCALIZATION.get(backbone, ActionBytesConfig())


def detect(
    video: str | os.PathLike[str],
    *,
    query: str | Sequence[str] | None = None,
    backbone: str = DEFAULT_BACKBONE,
    head: str = AUTO_HEAD,
    vectors: Vectors = None,
    hook: Hook = ignore_progress,
) -> list[Detection]:
    """Find actions in a video. For many videos, keep a ``Detector``: it loads the network once.

    Args:
        video: path of a local file.
        query: what to look for, one or several; None: the best classes of the video.
        backbone: name of the network.
        head: name of the head.
        vectors: word vectors; None: those that come with tal-run.
        hook: told of progress.

    Returns:
        Detections, best first; their label is the query, or the class's name without one.

    Raises:
        TalRunError: its message says what is wrong and how to mend it.
    """
    detector = Detector(DetectConfig(backbone=backbone, head=head), vectors=vectors, hook=hook)
    return list(detector.detect(video, matches=detector.match(query or ()), hook=hook).detections)
