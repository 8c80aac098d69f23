"""ActionBytes: Learning from Trimmed Videos to Localize Actions.

Jain, Ghodrati & Snoek, CVPR 2020. Held here: localization at test time (3.1, 3.3, "Localization at test time"), for the
scores of a backbone as it comes. The trained head is in ``actionbytes_network.py``, mining in ``actionbytes_mining.py``.

Notation: L [l, T] latent features, here [T, l]; B boundaries; tau the p-th percentile of the change; M how many
neighbours merge; CAS the class activation sequence.

What the paper leaves open or is done otherwise here, with its option in ``ActionBytesConfig`` where there is one.
Measured effects stand in ``BENCHMARKS.md``, under "One default changed at a time"; most are small, evening out and the
contrast are not, and the proposals bring no hit there that the thresholds did not find.

- *The latent projection* L = ReLU(W_proj F) is learned by mining. Without a trained one, L is the backbone's own feature,
  non-negative as a ReLU's output is.
- *Snippets* overlap by half (the paper's are non-overlapping), so the change from one to the next is softer.
- *The percentile* (``percentile``) is 50 for THUMOS14; for ActivityNet the paper pools proposals of p = 92, 95, 97.5, 99
  and 99.5. Here it is one p; at 0.8 s a snippet, 80 makes ActionBytes of 4 s on average.
- *The video's ends* (``include_ends``). By Eq. 1 neither t = 0 nor T is a boundary, so what lies before the first and
  after the last change belongs to no ActionByte. ``boundaries`` and ``proposals`` keep to the equations; ``localize``
  adds both ends to B, for an action may begin or end with the video.
- *Jitter* "to include up to one neighboring time-step": each proposal is also offered one snippet longer at its start,
  at its end, at both.
- *The first threshold* (``first_stage``) drops classes whose confidence for the video is below the mean over all classes.
  It is off: the mean of the T / 8 largest probabilities falls as the video grows, so five seconds of an action in an
  hour would be lost, and a query is not on one scale with the classes. ``min_score`` does its work.
- *Evening out* (``power``, ``smooth``). The paper's CAS comes from a head trained for localization. Probabilities of a
  classifier that sees 1.6 s at a time flicker, so segments are sought on their cube roots, averaged over 5 snippets.
- *As long as the action* (``smooth_share``). An average over a fixed time flattens a kick and still cuts a slow squat
  between its repetitions. Where a class's typical length is known, the average may be over a share of that instead, as
  a matched filter is as long as what it looks for (that lengths differ from class to class is used by S-CNN, CVPR 2016,
  too, when it weighs its scores). Widths need not be whole: the outermost two snippets then count in part.
- *The second threshold* (``floor``) is the midpoint of the CAS's largest value and 0, its smallest value in any video
  that is not the action from end to end. On cube roots it lies where the probability is an eighth of the largest.
- *Which segment is better* (``score``, ``margin``): its outer-inner contrast (AutoLoc, ECCV 2018, Eq. 1, with the sign
  turned), mean of the CAS inside minus mean over a margin on either side. AutoLoc's margin is a quarter of the segment,
  which lies within the ramp that averaging makes at each border, so it is the whole length here. The plain mean
  (``score="mean"``) prefers a short piece of an action to the whole of it. Segments compete (NMS) by the contrast of the
  evened-out CAS; the score that is reported is that of the CAS as it came.
- *Non-maximum suppression* (``nms_tiou``) at 0, always: segments of one label do not overlap. A person expects neither a
  loose one around every tight one nor a splinter inside it.
- *An absolute threshold* (``min_score``) stands beside the relative ones: those always find something. At 0.17, in
  videos composed for calibration, one in twenty queries for another video's action found anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tal_run.models.postprocess import nms
from tal_run.models.thresholds import second_stage_segments

SegmentScore = Literal["contrast", "mean"]


@dataclass(frozen=True, kw_only=True)
class ActionBytesConfig:
    """Localization at test time.

    Attributes:
        percentile: p of Eq. 1; the paper's values are 50 (THUMOS14) and 92, 95, 97.5, 99, 99.5 together (ActivityNet).
        merge: M of Eq. 2; the paper's value.
        jitter: neighbouring snippets that a proposal may take in; the paper's value.
        include_ends: count the video's ends as boundaries (not in Eq. 1).
        first_stage: without a query, drop classes less confident than the mean of all, as the paper does.
        power: the CAS is raised to this power before it is averaged; the paper's is 1.
        smooth: snippets of the moving average over the CAS, odd; the paper has none, that is 1.
        smooth_share: where the class's typical length is known, average over this share of it instead; None: never.
        floor: lower end of the midpoint threshold; None: the CAS's smallest value, as in W-TALC's code.
        score: how a segment is judged on the CAS (open in the paper).
        margin: for ``contrast``, length of the margin on either side as a fraction of the segment's; 0.25 in AutoLoc.
        min_score: segments that score lower are dropped (not in the paper).
        nms_tiou: segments that overlap a better one by more are dropped (open in the paper).
    """

    percentile: float = 80.0
    merge: tuple[int, ...] = (1, 2)
    jitter: int = 1
    include_ends: bool = True
    first_stage: bool = False
    power: float = 1 / 3
    smooth: int = 5
    smooth_share: float | None = None
    floor: float | None = 0.0
    score: SegmentScore = "contrast"
    margin: float = 1.0
    min_score: float = 0.17
    nms_tiou: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile must lie in 0..100, got {self.percentile:g}")
        for name in ("min_score", "nms_tiou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name.replace('_', '-')} must lie in 0..1, got {getattr(self, name):g}")
        if self.smooth < 1 or self.smooth % 2 == 0 or self.jitter < 0:
            raise ValueError(f"smooth must be odd and jitter not negative, got {self.smooth} and {self.jitter}")
        if self.smooth_share is not None and not self.smooth_share > 0:
            raise ValueError(f"smooth_share must be above 0, got {self.smooth_share:g}")
        if self.score not in ("contrast", "mean") or any(m < 1 for m in self.merge):
            raise ValueError(f"score must be contrast or mean and merge numbers from 1 on, got {self.score}, {self.merge}")
        if not (self.power > 0 and self.margin > 0):
            raise ValueError(f"power and margin must be above 0, got {self.power:g} and {self.margin:g}")


def boundaries(latent: ArrayLike, *, percentile: float) -> NDArray[np.int64]:
    """Where the latent features change abruptly (Eq. 1).

    Args:
        latent: [T, L].
        percentile: p in 0..100; about T * (100 - p) / 100 boundaries are found.

    Returns:
        The snippets t in 1..T-1 whose change from t - 1 is above the percentile, rising.
    """
    features = np.asarray(latent)
    if len(features) < 2:
        return np.empty(0, np.int64)
    change = np.abs(np.diff(features, axis=0)).sum(axis=1)  # sum_i |L[i, t] - L[i, t-1]|  [T - 1]
    tau = np.percentile(change, percentile)
    return np.flatnonzero(change > tau) + 1  # Eq. 1


def proposals(boundaries: ArrayLike, length: int, *, merge: tuple[int, ...] = (1, 2), jitter: int = 1) -> NDArray[np.int64]:
    """Action proposals from merged ActionBytes (Eq. 2), jittered.

    Args:
        boundaries: B, rising snippet indices; ``length`` itself may be the last one, as the border behind the video.
        length: T, number of snippets; proposals stay in 0..T-1.
        merge: M, numbers of neighbouring ActionBytes to join.
        jitter: by how many snippets a proposal may grow at either end.

    Returns:
        Snippet ranges, both ends included, without repeats, sorted [N, 2].
    """
    borders = np.asarray(boundaries, np.int64)
    merged = [np.stack([borders[:-m], borders[m:] - 1], axis=1) for m in merge if 0 < m < len(borders)]  # Eq. 2
    if not merged:
        return np.empty((0, 2), np.int64)
    ranges = np.concatenate(merged)  # [N, 2]
    grown = [ranges + (-before, after) for before in range(jitter + 1) for after in range(jitter + 1)]
    return np.unique(np.clip(np.concatenate(grown), 0, length - 1), axis=0)


def localize(
    latent: ArrayLike, activation: ArrayLike, *, config: ActionBytesConfig, typical: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Segments of one class, from two pools: the CAS above its midpoint (W-TALC), and ActionBytes proposals.

    Args:
        latent: latent features [T, L].
        activation: the class's activation sequence (CAS) [T], not negative.
        config: thresholds.
        typical: how many snippets an instance of the class usually lasts; None: not known. For ``smooth_share``.

    Returns:
        Snippet ranges, both ends included [N, 2], best first, and their scores [N], all at least ``min_score``.

    Raises:
        ValueError: an activation is negative, and so has no root.
    """
    cas = np.asarray(activation, np.float64)
    if cas.min() < 0:
        raise ValueError(f"activations must not be negative (probabilities, say), the smallest is {cas.min():g}")
    if cas.max() < config.min_score:  # no mean can be larger than the largest activation
        return np.empty((0, 2), np.int64), np.empty(0)
    width: float = config.smooth
    if config.smooth_share is not None and typical is not None:
        width = max(1.0, config.smooth_share * typical)
    even = _moving_average(cas**config.power, width)
    found = boundaries(latent, percentile=config.percentile)
    if config.include_ends:
        found = np.concatenate([[0], found, [len(cas)]])
    pool = np.concatenate(
        [
            second_stage_segments(even, floor=config.floor),
            proposals(found, len(cas), merge=config.merge, jitter=config.jitter),
        ]
    )
    worth = segment_scores(even, pool, score=config.score, margin=config.margin)
    pool, worth = pool[worth > 0], worth[worth > 0]
    # compete first: a splinter must not win because the whole that it belongs to is below the threshold
    pool = pool[nms(pool + (0, 1), worth, tiou_threshold=config.nms_tiou)]  # the end as a border, not as an index
    scores = segment_scores(cas, pool, score=config.score, margin=config.margin)
    best_first = np.argsort(-scores, kind="stable")
    best_first = best_first[scores[best_first] >= config.min_score]
    return pool[best_first], scores[best_first]


def segment_scores(
    activation: ArrayLike, segments: ArrayLike, *, score: SegmentScore = "contrast", margin: float = 1.0
) -> NDArray[np.float64]:
    """How well each segment [N, 2] (snippets, ends included) captures the activation [T], as [N].

    ``contrast``: mean inside minus mean of the margins, each ``margin`` times the segment and at least one snippet long;
    what of them lies beyond the video does not count. ``mean``: mean inside.
    """
    cas = np.asarray(activation, np.float64)
    ranges = np.asarray(segments, np.int64).reshape(-1, 2)
    area = np.concatenate([[0.0], np.cumsum(cas)])
    start, stop = ranges[:, 0], ranges[:, 1] + 1
    inner_sum, inner_length = area[stop] - area[start], stop - start
    inner: NDArray[np.float64] = inner_sum / inner_length
    if score == "mean":
        return inner
    width = np.maximum(1, np.round(inner_length * margin).astype(np.int64))
    outer_start, outer_stop = np.maximum(start - width, 0), np.minimum(stop + width, len(cas))
    outer_length = (outer_stop - outer_start) - inner_length
    outer_sum = (area[outer_stop] - area[outer_start]) - inner_sum
    inner -= np.divide(outer_sum, outer_length, out=np.zeros_like(inner), where=outer_length > 0)
    return inner


def _moving_average(curve: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Centred mean over ``width`` snippets (the outermost two may count in part); at the ends, over those that exist."""
    if width == 1:
        return curve
    whole, part = divmod((width - 1) / 2, 1)  # on either side
    reach = int(whole) + (part > 0)
    kernel = np.ones(2 * reach + 1)
    if part > 0:
        kernel[[0, -1]] = part
    sums = np.convolve(curve, kernel, mode="full")[reach:][: len(curve)]
    counts = np.convolve(np.ones_like(curve), kernel, mode="full")[reach:][: len(curve)]
    return np.asarray(sums / counts)
