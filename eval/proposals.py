"""Proposals: how much of the ground truth they cover, whatever the class. AR@AN, its area, and recall at each tIoU.

ActivityNet's measure for its proposal task, by which AherNet's Table 2 is made (AUC). Recall at a tIoU: the share of the
instances that some proposal overlaps by at least that much; an instance may be covered by many, a proposal may cover many.
Average recall (AR): the mean over the thresholds 0.5, 0.55 … 0.95.

AN, the average number of proposals a video: a budget, shared out in proportion. With P proposals in V videos, a video that
has n of them may use its best floor(n * AN * V / P), none more than n. First each video's list is cut to AN = ``most`` in
this way; then AN goes from 1 % to 100 % of what is left, in hundred steps. AUC is the area under AR over AN in percent of the
largest AN (by trapezoids, from the first step on, as the toolkit has it: nothing lies to the left of 1 %).

Only videos with an instance count. Proposals elsewhere are dropped, yet they weigh in P, as in the toolkit. A score decides
the order within its video; of equal scores the one listed first goes first. Shares are rounded down in floating point as the
toolkit does it: 0.29 of 100 proposals are 28.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tal_run.eval.case import Case
from tal_run.eval.matching import FloatArray, IntArray, overlapping
from tal_run.eval.protocols import ACTIVITYNET_TIOUS, EvaluationError, checked_tious

MOST = 100  # ActivityNet's proposal task
STEPS = 100


@dataclass(frozen=True, kw_only=True)
class ProposalResult:
    """How well proposals cover the ground truth.

    Attributes:
        auc: area under AR over AN, 0..1.
        numbers: average numbers of proposals a video, rising [S].
        average_recall: AR at each of them [S].
        recall: recall at each threshold, with every proposal that is left at the largest AN.
        videos: videos with an instance.
        instances: how many there are.
        proposals: how many were given.
    """

    auc: float
    numbers: tuple[float, ...]
    average_recall: tuple[float, ...]
    recall: Mapping[float, float]
    videos: int
    instances: int
    proposals: int

    def average_recall_at(self, number: float) -> float:
        """AR@AN for any AN up to the largest, on straight lines between the steps; beyond it, that of the largest."""
        return float(np.interp(number, self.numbers, self.average_recall))


def evaluate_proposals(case: Case, *, most: float = MOST, tious: Sequence[float] = ACTIVITYNET_TIOUS) -> ProposalResult:
    """Average recall over the number of proposals; detections count as proposals, their labels for nothing.

    Raises:
        EvaluationError: ``most`` is no number of proposals, or a threshold is none.
    """
    thresholds = checked_tious(tious)
    if not 0 < most < np.inf:
        raise EvaluationError(f"{most} proposals a video are none: give a number above 0, such as {MOST}")
    truth_videos, place = np.unique(case.truth_videos, return_inverse=True)  # videos with an instance
    given = len(case.videos)
    of_video = np.searchsorted(truth_videos, case.videos)
    is_there = of_video < len(truth_videos)
    is_there[is_there] = truth_videos[of_video[is_there]] == case.videos[is_there]
    rows = np.flatnonzero(is_there)
    rank = rank_in_group(of_video[rows])
    counts = np.bincount(of_video[rows], minlength=len(truth_videos))
    share = most * len(truth_videos) / max(given, 1)
    left = _shared_out(counts, share)
    kept = rank < left[of_video[rows]]
    rows, rank = rows[kept], rank[kept]
    numbers, allowed = _budgets(left, most)
    first = first_hits(case, rows, rank, thresholds)  # [K, N]
    recall = (first[:, None, :] < allowed[:, place]).mean(axis=2)  # [K, S]
    average = recall.mean(axis=0)
    auc = float(np.trapezoid(average, numbers) / numbers[-1]) if numbers[-1] > 0 else 0.0
    return ProposalResult(
        auc=auc,
        numbers=tuple(numbers.tolist()),
        average_recall=tuple(average.tolist()),
        recall=dict(zip(thresholds, recall[:, -1].tolist(), strict=True)),
        videos=len(truth_videos),
        instances=len(case.truth),
        proposals=given,
    )


def _shared_out(counts: IntArray, share: float) -> IntArray:
    """Of each video's proposals as many as its share allows [V]."""
    allowed: IntArray = np.minimum(np.floor(counts * share).astype(np.int64), counts)
    return allowed


def _budgets(left: IntArray, most: float) -> tuple[FloatArray, IntArray]:
    """Average numbers of proposals in equal steps [S], and what each video may use at each [S, V]."""
    total = int(left.sum())
    if not total:
        return np.zeros(STEPS), np.zeros((STEPS, len(left)), np.int64)
    share = np.arange(1, STEPS + 1) / STEPS * (most * len(left) / total)
    return share * total / len(left), np.stack([_shared_out(left, one) for one in share])


def rank_in_group(groups: IntArray) -> IntArray:
    """Of each entry, how many of its group stand before it [M]."""
    order = np.argsort(groups, kind="stable")
    in_order = groups[order]
    rank = np.empty(len(groups), np.int64)
    rank[order] = np.arange(len(groups)) - np.searchsorted(in_order, in_order, side="left")
    return rank


def first_hits(case: Case, rows: IntArray, rank: IntArray, tious: Sequence[float]) -> IntArray:
    """The rank of the first proposal that covers each instance at each threshold [K, N]; beyond all ranks where none does."""
    pairs = overlapping(
        case.segments[rows], case.videos[rows], truth=case.truth, truth_groups=case.truth_videos, at_least=min(tious)
    )
    first = np.full((len(tious), len(case.truth)), np.iinfo(np.int64).max)
    ranks = rank[pairs.found]
    for row, tiou in zip(first, tious, strict=True):
        enough = pairs.tiou >= tiou
        np.minimum.at(row, pairs.truth[enough], ranks[enough])
    return first
