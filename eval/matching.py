"""Who gets whom: detections matched one to one with ground truth, every video, class and threshold in arrays.

Each evaluator's loop is a serial dictatorship. One side, the choosers (detections by falling score; in the THUMOS toolkit
the ground truth in its order), comes one by one, and each takes of those still free the one that it likes best. The others
have no say but this: whoever comes earlier in the line goes before. That is the stable matching of Gale & Shapley (1962)
in which all of the wanted side rank the choosers alike, and it is unique; so it can be found in parallel rounds as well.
In each round every chooser without a partner asks the next on its list; whoever is asked keeps the earliest in the line
and sends the others, also one that it had kept so far, back to their lists. Rounds are few, and each is a handful of
array operations over all videos and classes at once.

Only pairs that overlap enough are ever held. Segments are [N, 2], (start, end) in any one unit; a group is a class in a
video, given by number: only what is in the same group can match.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tal_run.extractors.errors import TalRunError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# best: by falling score, each detection takes the free instance that it overlaps most (ActivityNet's toolkit); of equal
#     overlaps the instance listed last, as the toolkit does (on a coarse grid equal overlaps are common);
# first: by falling score, the free instance listed first (W-TALC's code);
# truth: in the order listed, each instance takes the free detection that overlaps it most (the THUMOS toolkit); of equal
#     overlaps the detection that comes first.
Rule = Literal["best", "first", "truth"]

PAIRS_AT_ONCE = 1 << 16  # overlaps computed at a time: what fits into a processor's cache
MOST_PAIRS = 1 << 26  # held at a time: 1.6 GB, and as much again while they are put together
UNMATCHED = -1


class TooManyPairsError(TalRunError):
    """So many detections and instances lie on top of one another that their pairs would fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Detections and instances of one group that overlap, each pair by its two rows.

    Attributes:
        found: row of the detection [P].
        truth: row of the instance [P].
        tiou: how far they overlap [P].
    """

    found: IntArray
    truth: IntArray
    tiou: FloatArray


def pair_tiou(segments: FloatArray, others: FloatArray) -> FloatArray:
    """Temporal intersection over union of each segment [P, 2] with the other in its row [P, 2], as [P] in 0..1.

    The union of two that overlap reaches from the earlier start to the later end. Taken so it is rounded once, not three
    times as a sum of lengths is; where times are decimals and the overlap is the threshold, the last bit decides.
    """
    inner = np.minimum(segments[:, 1], others[:, 1]) - np.maximum(segments[:, 0], others[:, 0])
    union = np.maximum(segments[:, 1], others[:, 1]) - np.minimum(segments[:, 0], others[:, 0])
    overlap: FloatArray = np.divide(inner, union, out=np.zeros_like(inner), where=inner > 0)
    return overlap


def pairs_in_groups(groups: IntArray, truth_groups: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Rows of detections and instances of the same group, every pair once, about ``PAIRS_AT_ONCE`` at a time."""
    order = np.argsort(truth_groups, kind="stable")
    names, begins, sizes = np.unique(truth_groups[order], return_index=True, return_counts=True)
    place = np.searchsorted(names, groups)
    some = np.flatnonzero(np.append(names, -1)[place] == groups)
    first, count = begins[place[some]], sizes[place[some]]
    total = np.cumsum(count)
    begin = 0
    while begin < len(some):
        before = total[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, before + PAIRS_AT_ONCE, side="right")))
        counts = count[begin:end]
        starts = np.repeat(total[begin:end] - counts - before, counts)
        within = np.arange(len(starts)) - starts  # 0 .. count - 1 of each detection
        yield np.repeat(some[begin:end], counts), order[np.repeat(first[begin:end], counts) + within]
        begin = end


def overlapping(
    segments: FloatArray, groups: IntArray, *, truth: FloatArray, truth_groups: IntArray, at_least: float = 0.0
) -> Pairs:
    """Every pair of a detection [M] and an instance [N] of one group that overlap at all, and by ``at_least``.

    Raises:
        TooManyPairsError: there are more than ``MOST_PAIRS``.
    """
    kept: list[tuple[IntArray, IntArray, FloatArray]] = []
    held = 0
    for found, instance in pairs_in_groups(groups, truth_groups):
        tiou = pair_tiou(segments[found], truth[instance])
        enough = np.flatnonzero((tiou >= at_least) & (tiou > 0))
        kept.append((found[enough], instance[enough], tiou[enough]))
        held += len(enough)
        if held > MOST_PAIRS:
            raise TooManyPairsError(
                f"the detections overlap instances in more than {MOST_PAIRS} pairs: suppress those that lie on one another "
                "(NMS), or leave out low scores"
            )
    if not kept:
        return Pairs(found=np.empty(0, np.int64), truth=np.empty(0, np.int64), tiou=np.empty(0))
    return Pairs(
        found=np.concatenate([rows for rows, _, _ in kept]),
        truth=np.concatenate([rows for _, rows, _ in kept]),
        tiou=np.concatenate([values for _, _, values in kept]),
    )


def touches(segments: FloatArray, groups: IntArray, *, others: FloatArray, other_groups: IntArray) -> BoolArray:
    """Whether each segment [M] shares any time with one of the others [N] of its group, bool [M]."""
    hit = np.zeros(len(segments), np.bool_)
    hit[overlapping(segments, groups, truth=others, truth_groups=other_groups).found] = True
    return hit


def matched(pairs: Pairs, *, count: int, tiou_thresholds: Sequence[float], rule: Rule, strict: bool) -> IntArray:
    """The instance that each detection, listed best first, is matched with at each threshold, [K, M] of rows or -1.

    Args:
        pairs: overlaps of the detections with the instances, each in the order in which it counts.
        count: how many detections there are, M.
        tiou_thresholds: overlaps from which on a pair can match [K], above 0.
        rule: who chooses, and by what.
        strict: the overlap must be greater than the threshold; else equal is enough.
    """
    partner = np.full((len(tiou_thresholds), count), UNMATCHED, np.int64)
    if not len(pairs.tiou):
        return partner
    if rule == "truth":
        order = np.lexsort((pairs.found, -pairs.tiou, pairs.truth))
    elif rule == "best":
        order = np.lexsort((-pairs.truth, -pairs.tiou, pairs.found))
    else:
        order = np.lexsort((pairs.truth, pairs.found))
    found, truth, tiou = pairs.found[order], pairs.truth[order], pairs.tiou[order]
    for row, threshold in zip(partner, tiou_thresholds, strict=True):
        able = np.flatnonzero(tiou > threshold if strict else tiou >= threshold)
        if rule == "truth":
            chosen = able[serial_choice(truth[able], found[able])]
        else:
            chosen = able[serial_choice(found[able], truth[able])]
        row[found[chosen]] = truth[chosen]
    return partner


def serial_choice(choosers: ArrayLike, wanted: ArrayLike) -> IntArray:
    """Each chooser in turn takes the first on its list that is still free; the pairs taken, as indices [R].

    Args:
        choosers: who could take [P], never falling: the pairs of one stand together and those of the earliest in the line
            come first. Of one chooser, the pair that it likes best comes first.
        wanted: whom, by number [P].
    """
    line, goods = np.asarray(choosers, np.int64), np.asarray(wanted, np.int64)
    if not len(line):
        return np.empty(0, np.int64)
    asked = np.flatnonzero(np.concatenate([[True], line[1:] != line[:-1]]))  # of each chooser, the pair it asks for next
    end = np.append(asked[1:], len(line))
    nobody = len(asked)
    holder = np.full(int(goods.max()) + 1, nobody)
    asking = np.arange(nobody)
    while len(asking):
        target = goods[asked[asking]]
        before = holder[target]
        np.minimum.at(holder, target, asking)
        after = holder[target]
        refused = asking[after != asking]
        evicted = before[(before != after) & (before != nobody)]
        asking = np.unique(np.concatenate([refused, evicted]))
        asked[asking] += 1
        asking = asking[asked[asking] < end[asking]]
    taken: IntArray = asked[np.sort(holder[holder != nobody])]
    return taken
