"""Why a detector fails: wrong detections by kind, AP by the sort of action, actions that were missed.

After DETAD (Alwassel, Caba Heilbron, Escorcia & Ghanem, "Diagnosing Error in Temporal Action Detectors", ECCV 2018), for one
protocol and one threshold. A detection is right if the protocol says so; else it is, the first of these that holds, where
overlap is with any instance in its video, free or taken:

====================  ==========================================================================================
``double detection``  it overlaps an instance of its class enough, but another detection was right about that one
``wrong label``       it overlaps an instance of another class enough
``localization``      it overlaps an instance of its class by 0.1 or more
``confusion``         it overlaps an instance of another class by 0.1 or more
``background``        none of these
====================  ==========================================================================================

- *Order.* DETAD looks at the instance that is overlapped most, and at its class. Here its own class goes first in each of the
  two grades: where two classes are annotated at once (THUMOS14's Diving and CliffDiving), chance would decide otherwise.
- *What a kind costs*: how much mAP rises if all wrong detections of that kind are taken out.
- *Profile*: of each class the best G, 2 G … 10 G detections, with G its number of instances, all classes together.
- *AP by the sort of action*: length, share of the video that it fills (coverage), number of instances of its class in its
  video. The right detections of other sorts are neither right nor wrong. With few instances of a sort the wrong detections
  would outweigh it, so precision is normalised (Hoiem, Chodpathumwan & Dai, ECCV 2012): R N / (R N + F), with R the recall
  within the sort, F the wrong detections so far and N the instances of the class. (DETAD takes one N for all classes; with the
  class's own, what is of one sort only has its ordinary AP.) mAP is over the classes that have that sort.
- *Sorts* hold a fifth of the instances each, as far as equal values allow: DETAD's bounds suit ActivityNet, where actions last
  minutes. ``DETAD_BOUNDS`` has them.
- *Missed* is an instance that no detection is right about, at whatever score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tal_run.eval.case import Case
from tal_run.eval.evaluation import Judged, average_precisions, judge, require_labels, rows_by_class
from tal_run.eval.matching import UNMATCHED, BoolArray, FloatArray, IntArray, Pairs, overlapping
from tal_run.eval.protocols import Protocol, checked_tious

KINDS = ("double detection", "wrong label", "localization", "confusion", "background")
RIGHT, SPARED = -1, len(KINDS)  # beside the places in KINDS
NEAR = 0.1  # DETAD: what overlaps less is background
PROFILE = tuple(range(1, 11))  # DETAD: up to 10 G
FIFTHS = (0.2, 0.4, 0.6, 0.8)
# DETAD, ActivityNet: seconds, share of the video, instances; bounds between XS, S, M, L, XL
DETAD_BOUNDS: Mapping[str, tuple[float, ...]] = {
    "length": (30.0, 60.0, 120.0, 180.0),
    "coverage": (0.2, 0.4, 0.6, 0.8),
    "instances": (1.0, 4.0, 8.0),
}


@dataclass(frozen=True, kw_only=True)
class Sort:
    """Instances of one sort.

    Attributes:
        low: the least that one of them has.
        high: the most.
        instances: how many there are.
        map: their mAP, normalised.
        missed: the share of them that no detection is right about.
    """

    low: float
    high: float
    instances: int
    map: float
    missed: float


@dataclass(frozen=True, kw_only=True)
class Missed:
    """An instance that no detection is right about.

    Attributes:
        video_id: its video.
        label: its class.
        start_s: where it begins.
        end_s: where it ends.
        best_tiou: the largest overlap of a detection of its class.
        best_tiou_of_any: the largest overlap of any detection.
    """

    video_id: str
    label: str
    start_s: float
    end_s: float
    best_tiou: float
    best_tiou_of_any: float


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What goes wrong, under one protocol at one threshold.

    Attributes:
        protocol: its name.
        tiou: the threshold.
        map: mAP as it is.
        right: how many detections are right.
        wrong: how many are wrong, by kind.
        gain: by how much mAP rises without the wrong ones of a kind.
        profile: of each class the best n G detections, for n in ``PROFILE``: the share that is right or of each kind.
        sorts: by length (seconds), coverage (share of the video) and instances (of the class in the video), in that order
            and as far as they are known: the sorts.
        missed: instances that no detection is right about, in the order listed.
        instances: how many instances there are.
    """

    protocol: str
    tiou: float
    map: float
    right: int
    wrong: Mapping[str, int]
    gain: Mapping[str, float]
    profile: tuple[Mapping[str, float], ...]
    sorts: Mapping[str, tuple[Sort, ...]]
    missed: tuple[Missed, ...]
    instances: int


def diagnose(
    case: Case, rules: Protocol, *, tiou: float = 0.5, bounds: Mapping[str, Sequence[float]] | None = None
) -> Diagnosis:
    """Find out what goes wrong.

    Args:
        case: ground truth and detections.
        rules: by which a detection is right.
        tiou: at which overlap.
        bounds: between the sorts of ``length``, ``coverage`` and ``instances``; what is not named goes by fifths.

    Raises:
        EvaluationError: the protocol does not know a class, or the threshold is none.
    """
    tious = checked_tious([tiou])
    require_labels(case, rules)
    judged = judge(case, rules, tious)
    same, other = _overlaps(case, judged)
    kinds = kinds_of(case, judged, same, other, strict=rules.strict)
    table = average_precisions(case, judged, interpolated=rules.interpolated)[:, 0]
    found = np.zeros(len(case.truth), np.bool_)
    found[judged.partner[0][judged.partner[0] != UNMATCHED]] = True
    return Diagnosis(
        protocol=rules.name,
        tiou=tious[0],
        map=float(table.mean()),
        right=int((kinds == RIGHT).sum()),
        wrong={kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)},
        gain={
            kind: float(_without(case, judged, kinds == number, rules).mean() - table.mean())
            for number, kind in enumerate(KINDS)
        },
        profile=_profile(case, judged, kinds),
        sorts={
            name: _sorts(case, judged, kinds, found, values, (bounds or {}).get(name), rules)
            for name, values in characteristics(case).items()
        },
        missed=_missed(case, judged, found, same, other),
        instances=len(case.truth),
    )


def _overlaps(case: Case, judged: Judged) -> tuple[Pairs, Pairs]:
    """Pairs of detections and instances of one video that are near: of the same class, and of different classes."""
    pairs = overlapping(
        judged.segments,
        case.videos[judged.rows],
        truth=judged.truth,
        truth_groups=case.truth_videos,
        at_least=min(NEAR, judged.tious[0]),
    )
    alike = case.classes[judged.rows][pairs.found] == case.truth_classes[pairs.truth]
    return _some(pairs, alike), _some(pairs, ~alike)


def _some(pairs: Pairs, which: BoolArray) -> Pairs:
    return Pairs(found=pairs.found[which], truth=pairs.truth[which], tiou=pairs.tiou[which])


def _largest(rows: IntArray, tious: FloatArray, count: int) -> FloatArray:
    """The largest overlap of each row [count]; 0 where there is none."""
    largest = np.zeros(count)
    np.maximum.at(largest, rows, tious)
    return largest


def kinds_of(case: Case, judged: Judged, same: Pairs, other: Pairs, *, strict: bool) -> IntArray:
    """Of each judged detection its place in ``KINDS``, or ``RIGHT``, or ``SPARED`` (it does not count) [M]."""
    count = len(judged.rows)
    own, others = (_largest(pairs.found, pairs.tiou, count) for pairs in (same, other))
    tiou = judged.tious[0]

    def enough(overlap: FloatArray) -> BoolArray:
        reached: BoolArray = overlap > tiou if strict else overlap >= tiou
        return reached

    kinds = np.full(count, KINDS.index("background"), np.int64)
    for kind, holds in (  # the last one that holds stays
        ("confusion", others >= NEAR),
        ("localization", own >= NEAR),
        ("wrong label", enough(others)),
        ("double detection", enough(own)),
    ):
        kinds[holds] = KINDS.index(kind)
    kinds[judged.spared] = SPARED
    kinds[judged.partner[0] != UNMATCHED] = RIGHT
    return kinds


def _without(case: Case, judged: Judged, dropped: BoolArray, rules: Protocol) -> FloatArray:
    """AP of each class without some of the detections that are wrong [C]."""
    kept = ~dropped
    rest = Judged(
        rows=judged.rows[kept],
        partner=judged.partner[:, kept],
        spared=judged.spared[kept],
        tious=judged.tious,
        segments=judged.segments[kept],
        truth=judged.truth,
    )
    return average_precisions(case, rest, interpolated=rules.interpolated)[:, 0]


def _profile(case: Case, judged: Judged, kinds: IntArray) -> tuple[Mapping[str, float], ...]:
    counts = np.bincount(case.truth_classes, minlength=len(case.labels))
    classes = rows_by_class(case, judged)
    profile = []
    for times in PROFILE:
        best = [rows[kinds[rows] != SPARED][: times * count] for rows, count in zip(classes, counts, strict=True)]
        shown = kinds[np.concatenate(best)]
        total = max(len(shown), 1)
        profile.append(
            {"right": float((shown == RIGHT).sum() / total)}
            | {kind: float((shown == number).sum() / total) for number, kind in enumerate(KINDS)}
        )
    return tuple(profile)


def characteristics(case: Case) -> dict[str, FloatArray]:
    """What sort each instance is of, by name [N]; coverage only where every video's length is known."""
    lengths = case.truth[:, 1] - case.truth[:, 0]
    known = {"length": lengths}
    durations = case.durations[case.truth_videos]
    if np.isfinite(durations).all():
        known["coverage"] = lengths / durations
    _, group, count = np.unique(case.truth_groups, return_inverse=True, return_counts=True)
    known["instances"] = count[group].astype(np.float64)
    return known


def _sorts(
    case: Case,
    judged: Judged,
    kinds: IntArray,
    found: BoolArray,
    values: FloatArray,
    bounds: Sequence[float] | None,
    rules: Protocol,
) -> tuple[Sort, ...]:
    inner = np.quantile(values, FIFTHS, method="inverted_cdf") if bounds is None else np.asarray(bounds, np.float64)
    edges = np.unique(np.concatenate([[-np.inf], inner, [np.inf]]))
    sort_of = np.searchsorted(edges, values, side="left") - 1  # edges[i] < value <= edges[i + 1]
    sorts = []
    for number in range(len(edges) - 1):
        members = sort_of == number
        if not members.any():
            continue
        sorts.append(
            Sort(
                low=float(values[members].min()),
                high=float(values[members].max()),
                instances=int(members.sum()),
                map=_normalised_map(case, judged, kinds, members, interpolated=rules.interpolated),
                missed=float((~found[members]).mean()),
            )
        )
    return tuple(sorts)


def _normalised_map(case: Case, judged: Judged, kinds: IntArray, members: BoolArray, *, interpolated: bool) -> float:
    """mAP of some of the instances; the right detections of the others do not count."""
    counts = np.bincount(case.truth_classes, minlength=len(case.labels))
    own = np.bincount(case.truth_classes[members], minlength=len(case.labels))
    partner = judged.partner[0]
    is_own = (partner != UNMATCHED) & members[partner]  # members[-1] is looked up, and not used
    aps = []
    for label, rows in enumerate(rows_by_class(case, judged)):
        if not own[label]:
            continue
        hits = np.flatnonzero(is_own[rows])
        is_wrong = (kinds[rows] != RIGHT) & (kinds[rows] != SPARED)
        wrong = np.cumsum(is_wrong)[hits]
        expected = np.arange(1, len(hits) + 1) / own[label] * counts[label]  # R N
        precision = expected / (expected + wrong)
        if interpolated:
            precision = np.maximum.accumulate(precision[::-1])[::-1]
        aps.append(precision.sum() / own[label])
    return float(np.mean(aps))


def _missed(case: Case, judged: Judged, found: BoolArray, same: Pairs, other: Pairs) -> tuple[Missed, ...]:
    own, others = (_largest(pairs.truth, pairs.tiou, len(case.truth)) for pairs in (same, other))
    rows = np.flatnonzero(~found)
    return tuple(
        Missed(
            video_id=case.video_ids[case.truth_videos[row]],
            label=case.labels[case.truth_classes[row]],
            start_s=float(case.truth[row, 0]),
            end_s=float(case.truth[row, 1]),
            best_tiou=float(own[row]),
            best_tiou_of_any=float(max(own[row], others[row])),
        )
        for row in rows
    )
