"""From one data set's classes to another's: what is trained on, and how scores are carried over, by word vectors.

ActionBytes (Jain, Ghodrati & Snoek, CVPR 2020), 3.2 "Knowledge transfer" and 4.3. With g the cosine of two labels' word
vectors (``query.py``) and A_c the activation of a class that was learnt,

    activation of an unseen class u = sum over c of g(c, u) A_c

over the classes that stand in for it: the best few by default, ``ALL_CLASSES`` for as many as have any affinity, by name alone,
which is nearest to the paper's words. Beyond those, what ``query.py`` settles holds here, too: a class of the same name
stands in alone.

For zero-shot localization, what is like the unseen classes stays out of the training: the paper leaves out 18 classes of
Kinetics for THUMOS14 and 72 for ActivityNet and names none, so here it is by name and, if asked for, by word vectors. A
video in which one of them occurs is left out as a whole, for it shows the action whatever its labels say.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.annotations import GroundTruth
from tal_run.models.head import TrainedHead, TrainingVideo
from tal_run.pipeline.query import (
    QueryConfig,
    QueryMatch,
    affinities,
    embed,
    exact_match,
    load_vectors,
    match_query,
    split_words,
)
from tal_run.pipeline.training_data import TrainingError, TrainingSet, some

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

    from tal_run.pipeline.query import Vectors

MANY = 1_000_000  # more classes than there are
ALL_CLASSES = QueryConfig(max_classes=MANY, min_affinity=0.0, min_ratio=0.0, paraphrases=False)


def affinities_of(matches: Sequence[QueryMatch], num_classes: int) -> NDArray[np.float64]:
    """How close each of the C classes is to what was asked for, as [C, Q]; 0 for those that do not stand in for it."""
    table = np.zeros((num_classes, len(matches)))
    for column, match in enumerate(matches):
        for stand_in in match.classes:
            table[stand_in.index, column] = stand_in.affinity
    return table


def carried_over(
    trained: TrainedHead, labels: Sequence[str], *, vectors: Vectors = None, config: QueryConfig | None = None
) -> TrainedHead:
    """A head that finds other labels than it has learnt: one to which no class is close is never found.

    Args:
        trained: what can be carried over, such as ActionBytes.
        labels: what to find.
        vectors: word vectors; None: those of tal-run.
        config: which classes stand in for a label; None: the best few, as for queries.

    Raises:
        HeadError: the method cannot do that.
        QueryError, WordVectorsError: a label holds no word, or the vectors cannot be had.
    """
    matches = [match_query(label, trained.labels, vectors=vectors, config=config) for label in labels]
    return trained.carried_over(labels, affinities_of(matches, len(trained.labels)))


def without_unseen(truth: GroundTruth, config: Any, *, vectors: Vectors = None) -> tuple[GroundTruth, tuple[str, ...]]:
    """What a zero-shot training may learn from, and the labels that are left out.

    Args:
        truth: what is annotated.
        config: a head's, with ``unseen`` and ``unseen_affinity``; without them, everything may be learnt from.
        vectors: word vectors for the latter; None: those of tal-run.

    Raises:
        TrainingError: nothing is left.
        WordVectorsError: the vectors cannot be had.
    """
    unseen: tuple[str, ...] = getattr(config, "unseen", ())
    if not unseen:
        return truth, ()
    left_out = like(truth.labels, unseen, affinity=config.unseen_affinity, vectors=vectors)
    kept = tuple(video for video in truth.videos if not {instance.label for instance in video.instances} & {*left_out})
    if not any(video.instances for video in kept):
        raise TrainingError(
            f"nothing is left to learn from without {some(left_out)}: give other unseen=..., or a higher unseen_affinity"
        )
    return replace(truth, videos=kept), left_out


def like(labels: Sequence[str], others: Sequence[str], *, affinity: float | None, vectors: Vectors = None) -> tuple[str, ...]:
    """The labels that are one of the others by name, or at least as close by word vectors (of names alone)."""
    by_name = {label for label in labels if any(exact_match(other, [label]) is not None for other in others)}
    if affinity is None:
        return tuple(label for label in labels if label in by_name)
    table: KeyedVectors = load_vectors(vectors)
    embedded = [vector for other in others if (vector := embed(split_words(other), table)) is not None]
    close = np.max([np.full(len(labels), -1.0), *(affinities(vector, labels, table) for vector in embedded)], axis=0)
    return tuple(label for label, most in zip(labels, close, strict=True) if label in by_name or most >= affinity)


def trimmed(data: TrainingSet) -> TrainingSet:
    """Every annotated action of untrimmed videos as a clip of its own: training data for What2When.

    Args:
        data: read with times (``timed=True``).

    Raises:
        TrainingError: there are no times.
    """
    clips = [clip for video in data.videos for clip in _clips(video)]
    if not clips:
        raise TrainingError(f"{len(data.videos)} videos hold no times by which to trim them: read them with timed=True")
    sha256 = hashlib.sha256(f"trimmed {data.sha256}".encode()).hexdigest()
    return replace(data, videos=tuple(clips), sha256=sha256)


def _clips(video: TrainingVideo) -> list[TrainingVideo]:
    """One clip for each segment: the snippets that are at least half inside, or the one it is nearest to."""
    clips = []
    for (start, end), label in zip(video.segments, video.segment_classes, strict=True):
        first = min(math.floor(start + 0.5), len(video.features) - 1)
        last = max(first + 1, math.floor(end + 0.5))
        clips.append(TrainingVideo(features=video.features[first:last], classes=(int(label),)))
    return clips
