"""Detection with a trained head: its checkpoint says what to watch with, what it looks for, and what it will not take.

Most heads are asked for the labels that they have learnt. One whose method carries scores over to other classes
(``Head.carry_over``: ActionBytes) takes any words: what names no label is matched to labels by word vectors.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors import create_backbone
from tal_run.extractors.backbone import Backbone, BackboneError, BackboneOptions, WindowConfig
from tal_run.extractors.features import STEP_TOLERANCE, FeatureError, Features
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.names import choices, meant
from tal_run.extractors.registry import AUTO, EXTRACTORS
from tal_run.extractors.weights import sha256_of
from tal_run.extractors.wire import printable
from tal_run.models import Detection, best_first
from tal_run.models.head import HeadError, TrainedHead, load_head
from tal_run.pipeline.cross_dataset import affinities_of
from tal_run.pipeline.detector import Curve, DetectConfig, Detector, NothingMatchesError
from tal_run.pipeline.query import ClassAffinity, QueryConfig, QueryError, QueryMatch, exact_match, match_query

if TYPE_CHECKING:
    from tal_run.pipeline.query import Vectors


class TrainedDetector(Detector):
    """A trained head and the backbone that it was trained on, loaded once, for any number of videos.

    Args:
        checkpoint: what `tal-run train` wrote.
        config: what to use and how; its backbone is the checkpoint's if it is ``auto``, and so are its windows if it has none.
        min_score: leave out what scores lower; None: nothing.
        vectors: word vectors for queries that name no label, of a head that takes such; None: those of tal-run.
        hook: told of downloads.

    Raises:
        HeadError: the checkpoint cannot be read.
        QueryError: it is asked for other than its labels, and cannot be.
        FeatureError: the backbone, as it is to be used, makes other features than the head was trained on.
        BackboneError, WeightsError: the backbone cannot be had.
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        config: DetectConfig | None = None,
        *,
        min_score: float | None = None,
        vectors: Vectors = None,
        hook: Hook = ignore_progress,
    ) -> None:
        config = config or DetectConfig(top_classes=None)
        self.checkpoint, self.min_score = Path(checkpoint), min_score
        trained = load_head(checkpoint)
        self._vectors, self.takes_any_words = vectors, trained.head.carry_over is not None
        if not self.takes_any_words and (vectors is not None or not config.query.paraphrases):
            raise QueryError("a trained head is asked for its own labels: leave out --word-vectors and --names-only")
        backbone = EXTRACTORS[backbone_of(trained, config.backbone, self.checkpoint)]
        windows = config.windows or windows_of(trained, self.checkpoint) or backbone.default_windows
        options = options_of(trained, config.options or BackboneOptions())
        self.config = replace(config, backbone=backbone.name, windows=windows, options=options)
        check_needs(trained, backbone, windows)
        self.backbone = create_backbone(backbone.name, options=options, hook=hook)
        self.trained = replace(trained, network=trained.network.to(options.device))

    @property
    def head(self) -> str:
        """The method's name (``HEADS``)."""
        return self.trained.head.name

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what a reader of its results should know."""
        done, whole = self.trained.recipe.get("iterations_done"), self.trained.config.iterations
        if not isinstance(done, int) or done >= whole:
            return ()
        return (f"{self.checkpoint.name} is not done learning: it has had {done} of {whole} iterations",)

    @property
    def head_card(self) -> dict[str, Any]:
        """What makes the head what it is."""
        return {
            "name": self.trained.head.name,
            "checkpoint": self.checkpoint.name,
            "sha256": sha256_of(self.checkpoint),
            "config": asdict(self.trained.config),
            "min_score": self.min_score,
        }

    def match(self, queries: str | Sequence[str]) -> list[QueryMatch]:
        """The labels that queries name, or that stand in for them by word vectors, if the method can carry scores over.

        Raises:
            NothingMatchesError: one names none; or, by word vectors, none has anything to look for.
            QueryError: a query cannot be read as words.
            WordVectorsError: the vectors cannot be had.
        """
        queries = [queries] if isinstance(queries, str) else queries
        return matches_of(self.trained, queries, source=self.checkpoint.name, vectors=self._vectors, config=self.config.query)

    def curves(self, features: Features, matches: Sequence[QueryMatch] = (), *, labels: Collection[str]) -> dict[str, Curve]:
        """None: heads give segments."""
        return {}

    def boundaries_s(self, features: Features) -> NDArray[np.float64]:
        """None: those are of the detector that did not learn."""
        return np.empty(0)

    def find(self, features: Features, matches: Sequence[QueryMatch] = ()) -> list[Detection]:
        """Actions in a watched video, best first: those asked for or, without a query, all (of the best classes).

        Raises:
            FeatureError: the head was trained on other features.
        """
        if matches:
            return self._scoring(sought(self.trained, matches)(features))
        return self.chosen(self.trained.localize(features), matches)

    def chosen(self, every: Sequence[Detection], matches: Sequence[QueryMatch]) -> list[Detection]:
        """Of all that was found in a video, what is asked for, best first."""
        found = self._scoring(every)
        if matches:
            return renamed(found, matches)
        best = list(dict.fromkeys(detection.label for detection in found))[: self.config.top_classes]
        return best_first([detection for detection in found if detection.label in best])

    def _scoring(self, every: Sequence[Detection]) -> list[Detection]:
        """Without what scores too low."""
        return [found for found in every if self.min_score is None or found.score >= self.min_score]


def matches_of(
    trained: TrainedHead, queries: Sequence[str], *, source: str, vectors: Vectors = None, config: QueryConfig | None = None
) -> list[QueryMatch]:
    """The labels that queries name, or that stand in for them by word vectors, if the method can carry scores over.

    Args:
        trained: the head.
        queries: what is asked for.
        source: the checkpoint's name.
        vectors: word vectors; None: those of tal-run.
        config: how words are matched.

    Raises:
        NothingMatchesError, QueryError, WordVectorsError: as ``TrainedDetector.match``.
    """
    labels, asked = trained.labels, dict.fromkeys(queries)
    matches = []
    if trained.head.carry_over is not None:
        matches = [match_query(query, labels, vectors=vectors, config=config) for query in asked]
        if matches and not any(match.classes for match in matches):
            raise NothingMatchesError(
                "; ".join(match.summary() for match in matches)
                + f": {source} was trained to find {_listed(labels)}, and what is like them"
            )
        return matches
    if vectors is not None or not (config or QueryConfig()).paraphrases:
        raise QueryError("a trained head is asked for its own labels: leave out --word-vectors and --names-only")
    for query in asked:
        index = exact_match(query, labels)
        if index is None:
            likely = meant(query, labels)
            raise NothingMatchesError(
                f'"{printable(query)}" is no action that {source} was trained to find'
                + (f" ({likely})" if likely else "")
                + f": ask for one of {_listed(labels)}, or for nothing, to get all"
            )
        found = ClassAffinity(labels[index], index, 1.0)
        matches.append(QueryMatch(query, (found,), exact=True, unknown_words=(), nearest=(found,)))
    return matches


def sought(trained: TrainedHead, matches: Sequence[QueryMatch]) -> Callable[[Features], list[Detection]]:
    """What finds in features what is asked for, best first, under the names by which it is asked for."""
    if trained.head.carry_over is None:
        return lambda features: renamed(trained.localize(features), matches)
    # a head for each query alone: what is found for it does not depend on what else is asked for
    heads = [
        trained.carried_over([match.query], affinities_of([match], len(trained.labels))) for match in matches if match.classes
    ]
    return lambda features: best_first([found for head in heads for found in head.localize(features)])


def renamed(found: Sequence[Detection], matches: Sequence[QueryMatch]) -> list[Detection]:
    """Of what was found, what is asked for by its label, under the name by which it is, best first."""
    return best_first(
        [
            replace(detection, label=match.query)
            for match in matches
            for detection in found
            if detection.label == match.classes[0].label
        ]
    )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(printable(label, limit=80) for label in labels)


def backbone_of(trained: TrainedHead, asked_for: str, checkpoint: Path) -> str:
    """The backbone to watch with.

    Raises:
        FeatureError: it is not the one that the head was trained on.
        HeadError: nobody says which.
        BackboneError: it is unknown here.
    """
    needed = trained.needs.backbone
    if needed is None and asked_for == AUTO:
        raise HeadError(
            f"{printable(checkpoint)} was trained on features that do not say which network made them: name it with "
            "--backbone, and --fps, --window and --stride as they were then"
        )
    name = needed if asked_for == AUTO or needed is None else asked_for
    name = asked_for if name is None else name
    if name not in EXTRACTORS:
        raise BackboneError(f"there is no backbone {printable(name)!r} here: {choices(name, EXTRACTORS)}")
    if needed is not None and name != needed:
        raise FeatureError(
            f"{printable(checkpoint)} was trained on features of {needed}, and takes none of {name}: leave out --backbone"
        )
    return name


def check_needs(trained: TrainedHead, backbone: type[Backbone], windows: WindowConfig) -> None:
    """Refuse, before anything is watched, what the head would refuse afterwards.

    Raises:
        FeatureError: the features would not fit; the message says why.
    """
    needs = trained.needs
    if needs.dim is not None and backbone.feature_dim != needs.dim:
        raise FeatureError(
            f"{backbone.name} makes features {backbone.feature_dim} wide, and the head was trained on {needs.dim}: choose the "
            "--backbone that it was trained on"
        )
    if needs.streams is not None and tuple(backbone.streams) != needs.streams:
        raise FeatureError(
            f"{backbone.name} makes features of {' and '.join(backbone.streams)}, and the head was trained on "
            f"{' and '.join(needs.streams)}: choose the --backbone that it was trained on"
        )
    if needs.step_s is None or windows.fps is None:  # of each video's own rate, the head will judge itself
        return
    if not math.isclose(windows.step_s, needs.step_s, rel_tol=STEP_TOLERANCE):
        raise FeatureError(
            f"snippets would lie {windows.step_s:.4g} s apart, and the head was trained on {needs.step_s:.4g} s: give the "
            "--fps and --stride of the features that it was trained on"
        )


def windows_of(trained: TrainedHead, checkpoint: Path) -> WindowConfig | None:
    """How the videos that it was trained on were cut, if that is known. Raises HeadError: it makes no sense."""
    watching = trained.recipe.get("watching")
    if watching is None:
        return None
    try:
        return WindowConfig(
            fps=None if watching["fps"] is None else float(watching["fps"]),
            window_frames=int(watching["window_frames"]),
            stride_frames=int(watching["stride_frames"]),
            **{name: watching["settings"][name] for name in ("last", "short") if name in watching["settings"]},
        )
    except (KeyError, TypeError, ValueError, OverflowError, BackboneError) as error:
        raise HeadError(
            f"{printable(checkpoint)} does not say how its videos were watched ({printable(str(error))}): train it anew"
        ) from error


def options_of(trained: TrainedHead, options: BackboneOptions) -> BackboneOptions:
    """How the backbone computes: as asked, but sees of a frame what it saw in training. Raises BackboneError: it cannot."""
    watching = trained.recipe.get("watching")
    settings = watching.get("settings") if isinstance(watching, Mapping) else None
    crop = settings.get("crop") if isinstance(settings, Mapping) else None
    return options if crop is None else replace(options, crop=crop)


def as_trained(checkpoint: str | os.PathLike[str], asked_for: str) -> tuple[str, WindowConfig | None]:
    """The backbone to watch with, and its windows if they are known, of the head in a file.

    Raises:
        HeadError, FeatureError, BackboneError: as ``TrainedDetector``.
    """
    path = Path(checkpoint)
    trained = load_head(path)
    return backbone_of(trained, asked_for, path), windows_of(trained, path)
