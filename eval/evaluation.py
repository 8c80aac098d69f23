"""Mean average precision under a named protocol: ``evaluate``. What the protocols are is told in ``protocols``.

The way of the data: files or objects -> ``case_of`` (checked, in arrays) -> ``judge`` (which detection is right, at each
threshold) -> ``average_precisions`` (class by class) -> ``EvaluationResult``. Bootstrap and diagnosis begin at ``judge``.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from tal_run.eval.annotations import GroundTruth
from tal_run.eval.average_precision import mean_average_precision, precision_at_hits
from tal_run.eval.case import Also, Case, case_of, read_ground_truth
from tal_run.eval.detections import Detections, from_results, read_detections
from tal_run.eval.frames import average_precision_of, frame_counts
from tal_run.eval.matching import UNMATCHED, BoolArray, FloatArray, IntArray, matched, overlapping, touches
from tal_run.eval.protocols import EvaluationError, Protocol, checked_tious, protocol_named
from tal_run.models.detection import Detection

GivenTruth = GroundTruth | str | os.PathLike[str]
GivenDetections = Detections | Mapping[str, Sequence[Detection]] | str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """What a set of detections is worth under one protocol; every value a fraction, 0..1.

    Attributes:
        protocol: the protocol's name.
        map: mean average precision at each threshold.
        per_class: average precision of each class at each threshold.
        frame_map: mean average precision over frames; None: the protocol has none, or no frame shows a class.
        frame_per_class: average precision over frames of each class of which there is a frame.
        frame_interval: where the mAP over frames lies in 95 % of bootstrap samples; None: there is none.
        intervals: where the mAP at each threshold lies in 95 % of bootstrap samples; empty: none were drawn.
        average_interval: the same of the mean over thresholds.
        videos: how many videos were evaluated on.
        instances: how many actions there are in them.
        detections: how many detections were judged.
        notes: what a reader of the numbers should know, in sentences.
    """

    protocol: str
    map: Mapping[float, float]
    per_class: Mapping[str, Mapping[float, float]]
    frame_map: float | None = None
    frame_per_class: Mapping[str, float] = field(default_factory=dict)
    frame_interval: tuple[float, float] | None = None
    intervals: Mapping[float, tuple[float, float]] = field(default_factory=dict)
    average_interval: tuple[float, float] | None = None
    videos: int = 0
    instances: int = 0
    detections: int = 0
    notes: tuple[str, ...] = ()

    @property
    def average_map(self) -> float:
        """The mean over the thresholds."""
        return float(np.mean(list(self.map.values())))


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Which detections of a case are right.

    Attributes:
        rows: those that are judged at all, rows of the case by falling score [M].
        partner: the instance that each is matched with at each threshold, or -1 [K, M].
        spared: those that do not count where they are wrong [M].
        tious: the thresholds [K].
        segments: from where to where, as the protocol sees time [M, 2].
        truth: the instances, likewise [N, 2].
    """

    rows: IntArray
    partner: IntArray
    spared: BoolArray
    tious: tuple[float, ...]
    segments: FloatArray
    truth: FloatArray

    @property
    def right(self) -> BoolArray:
        """Whether each is right at each threshold [K, M]."""
        right: BoolArray = self.partner != UNMATCHED
        return right


def evaluate(
    ground_truth: GivenTruth,
    detections: GivenDetections,
    *,
    protocol: str,
    tiou_thresholds: Sequence[float] | None = None,
    excluded_videos: Collection[str] = (),
    subset: str | None = None,
    also: Also | None = None,
    lenient: bool = False,
    bootstrap: int = 0,
    seed: int = 0,
) -> EvaluationResult:
    """Mean average precision of detections under a named protocol.

    Args:
        ground_truth: annotations, or a path to them in any form (ActivityNet JSON, THUMOS folder, CSV).
        detections: by video, or a path to them in any form (ActivityNet's results, JSON lines, CSV, THUMOS text).
        protocol: one of ``PROTOCOLS``.
        tiou_thresholds: overlaps from which on a detection is right, above 0 and up to 1; None: the protocol's usual ones.
        excluded_videos: videos to leave out on both sides.
        subset: training, validation, testing or all; None: the one that the detections are of.
        also: labels whose instances count as others, too, such as ``{"CliffDiving": ["Diving"]}``; what the ground truth
            lists under both anyway (THUMOS14 does) is not doubled. Detections count as what they are labelled.
        lenient: leave out detections that cannot be true and say so in the notes; else the first one is an error.
        bootstrap: samples of the videos to draw for the intervals; 0: none.
        seed: of the bootstrap; the same one draws the same samples.

    Raises:
        EvaluationError: something cannot be evaluated as asked; the message says what, where it stands, and the cure.
        AnnotationError: the ground truth cannot be true.
    """
    rules = protocol_named(protocol)
    tious = checked_tious(rules.tious if tiou_thresholds is None else tiou_thresholds)
    case = load_case(ground_truth, detections, subset=subset, excluded_videos=excluded_videos, also=also, lenient=lenient)
    return result_of(case, rules, tious, bootstrap=bootstrap, seed=seed)


def load_case(
    ground_truth: GivenTruth,
    detections: GivenDetections,
    *,
    subset: str | None = None,
    excluded_videos: Collection[str] = (),
    also: Also | None = None,
    lenient: bool = False,
    class_agnostic: bool = False,
) -> Case:
    """Read, where paths are given, and check; see ``evaluate``. With ``class_agnostic`` detections need no labels."""
    (case,) = load_cases(
        ground_truth,
        [detections],
        subset=subset,
        excluded_videos=excluded_videos,
        also=also,
        lenient=lenient,
        class_agnostic=class_agnostic,
    )
    return case


def load_cases(
    ground_truth: GivenTruth,
    several: Sequence[GivenDetections],
    *,
    subset: str | None = None,
    excluded_videos: Collection[str] = (),
    also: Also | None = None,
    lenient: bool = False,
    class_agnostic: bool = False,
) -> list[Case]:
    """The same for several sets of detections; ground truth is read once, for it may come through a pipe."""
    names: dict[str, str] = {}
    if not isinstance(ground_truth, GroundTruth):
        ground_truth, names = read_ground_truth(ground_truth)
    cases = []
    for detections in several:
        if isinstance(detections, Mapping):
            detections = from_results(detections)
        elif not isinstance(detections, Detections):
            detections = read_detections(detections, class_agnostic=class_agnostic)
        case = case_of(
            ground_truth,
            detections,
            subset=subset,
            excluded_videos=excluded_videos,
            also=also,
            class_names=names,
            lenient=lenient,
            class_agnostic=class_agnostic,
        )
        cases.append(case)
    return cases


def result_of(case: Case, rules: Protocol, tious: tuple[float, ...], *, bootstrap: int = 0, seed: int = 0) -> EvaluationResult:
    """A case under a protocol; see ``evaluate``."""
    require_labels(case, rules)
    judged = judge(case, rules, tious)
    by_class = average_precisions(case, judged, interpolated=rules.interpolated)
    frames = [] if rules.frame_fps is None else frame_counts(case, fps=rules.frame_fps)
    frame_aps = [float(average_precision_of(counts, np.ones((1, len(case.video_ids))))[0]) for counts in frames]
    per_frame = {label: ap for label, ap in zip(case.labels, frame_aps, strict=False) if not np.isnan(ap)}
    frame_map = float(np.mean(list(per_frame.values()))) if per_frame else None
    intervals: dict[float, tuple[float, float]] = {}
    average_interval = frame_interval = None
    if bootstrap < 0:
        raise EvaluationError(f"{bootstrap} bootstrap samples cannot be drawn: give 1000 or so, or 0 for none")
    if bootstrap:
        from tal_run.eval.bootstrap import bootstrap_frame_maps, bootstrap_maps, interval_of_share

        samples = bootstrap_maps(case, judged, interpolated=rules.interpolated, samples=bootstrap, seed=seed)
        means = mean_average_precision(by_class)
        intervals = {
            tiou: interval_of_share(column, value) for tiou, column, value in zip(tious, samples.T, means.tolist(), strict=True)
        }
        average_interval = interval_of_share(samples.mean(axis=1), float(means.mean()))
        if frame_map is not None:
            frame_interval = interval_of_share(bootstrap_frame_maps(frames, samples=bootstrap, seed=seed), frame_map)
    return EvaluationResult(
        protocol=rules.name,
        map=dict(zip(tious, mean_average_precision(by_class).tolist(), strict=True)),
        per_class={
            label: dict(zip(tious, row, strict=True)) for label, row in zip(case.labels, by_class.tolist(), strict=True)
        },
        frame_map=frame_map,
        frame_per_class=per_frame,
        frame_interval=frame_interval,
        intervals=intervals,
        average_interval=average_interval,
        videos=len(case.video_ids),
        instances=len(case.truth),
        detections=len(judged.rows),
        notes=case.notes,
    )


def require_labels(case: Case, rules: Protocol) -> None:
    """Refuse ground truth of classes that a protocol does not know.

    Raises:
        EvaluationError: there is such a class.
    """
    strangers = [] if rules.labels is None else [label for label in case.labels if label not in rules.labels]
    if strangers:
        raise EvaluationError(
            f"{rules.name} knows the classes {' and '.join(rules.labels or ())}, and the ground truth has "
            f"{strangers[0]!r}: evaluate it under another protocol"
        )


def judge(case: Case, rules: Protocol, tious: tuple[float, ...]) -> Judged:
    """Which detections are right under a protocol, at each threshold."""
    rows = np.arange(len(case.segments))
    segments, truth, ambiguous = case.segments, case.truth, case.ambiguous
    if rules.grid:
        segments, truth, ambiguous = map(rules.grid.snippets, (segments, truth, ambiguous))
        rows = np.flatnonzero(segments[:, 1] > segments[:, 0])
    touching = np.zeros(len(rows), np.bool_)
    if rules.ambiguous != "ignored" and len(ambiguous):
        touching = touches(segments[rows], case.videos[rows], others=ambiguous, other_groups=case.ambiguous_videos)
    if rules.ambiguous == "any":
        rows, touching = rows[~touching], np.zeros(int((~touching).sum()), np.bool_)
    pairs = overlapping(segments[rows], case.groups[rows], truth=truth, truth_groups=case.truth_groups, at_least=min(tious))
    partner = matched(pairs, count=len(rows), tiou_thresholds=tious, rule=rules.rule, strict=rules.strict)
    return Judged(rows=rows, partner=partner, spared=touching, tious=tious, segments=segments[rows], truth=truth)


def average_precisions(case: Case, judged: Judged, *, interpolated: bool) -> FloatArray:
    """AP of each class at each threshold [C, K]; every class of a case has an instance."""
    counts = np.bincount(case.truth_classes, minlength=len(case.labels))
    table = np.zeros((len(case.labels), len(judged.tious)))
    for number, rows in enumerate(rows_by_class(case, judged)):
        spared = judged.spared[rows]
        any_spared = bool(spared.any())
        for column, partner in enumerate(judged.partner[:, rows]):
            right = partner != UNMATCHED
            if any_spared:
                right = right[right | ~spared]
            hits = np.flatnonzero(right)
            table[number, column] = precision_at_hits(hits, interpolated=interpolated).sum() / counts[number]
    return table


def rows_by_class(case: Case, judged: Judged) -> list[IntArray]:
    """Of each class its judged detections by falling score, as rows of ``judged``."""
    classes = case.classes[judged.rows]
    order = np.argsort(classes, kind="stable")
    bounds = np.searchsorted(classes[order], np.arange(len(case.labels) + 1))
    return [order[begin:end] for begin, end in pairwise(bounds)]
