"""W-TALC: Weakly-supervised Temporal Activity Localization and Classification.

Paul, Roy & Roy-Chowdhury, ECCV 2018 (arXiv:1807.10418). Labels of whole videos are all it learns from: the k largest
activations of a class, averaged, must name the video's labels (k-max multiple-instance loss), and what is attended to for a
label must look alike in two videos that share it, and unlike the rest of either (co-activity similarity loss).

    features F [T, D] -> X = dropout(ReLU(W F + b)) [T, D] -> class activation sequence A = W_a X + b_a [T, C]

Notation: l a video's length; k = ceil(l / 8); s [C] a class's score for the video, the mean of its k largest activations;
Â [T, C] the softmax of A over time; H, L [C, D] high and low attention features; d cosine distance; delta margin; lambda the
first loss's weight.

Open in the paper, or otherwise in the authors' code:

- *k* is rounded up, as in their loss; their test code rounds down.
- *Scores.* The paper does not say how a detection is scored. Their code: largest activation in it plus 0.7 times the class's
  score for the video; and it drops detections of a single snippet (``min_snippets``).
- *The first threshold*, also theirs: classes that score 0 or less for the video are dropped (``class_threshold``).
- *Pairs.* A batch is 10 videos that begin with 3 pairs, each of a class drawn anew. The two videos of a pair are different
  ones here; their code may draw the same one twice, of which nothing can be learnt.
- *Low attention* of a video of one snippet would be nothing divided by nothing; it is taken to be 0.
- *Weights* begin as Xavier's uniform, biases as 0; long videos are cut to 750 snippets in training (their code).

The thresholds at test time stand in ``thresholds.py``, as ActionBytes needs them without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from tal_run.models.head import Batch, Found, Head, HeadError, Step, found, labelled_videos
from tal_run.models.thresholds import K_DIVISOR, k_max_mean, largest_within, second_stage_segments

A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class WTALCConfig:
    """The method's numbers, all as in the authors' code.

    Attributes:
        k_divisor: s; a video's k is its length divided by it.
        margin: delta of the ranking loss.
        mil_weight: lambda, the multiple-instance loss's share; the co-activity loss has the rest.
        dropout: share of the embedded features dropped in training.
        batch_size: videos in a batch.
        pairs: pairs of videos with a label in common that it begins with.
        max_snippets: longer videos are cut to so many in training.
        learning_rate: Adam's.
        weight_decay: Adam's.
        iterations: of training.
        class_threshold: classes that score so much or less for a video are not looked for; None: all are.
        min_snippets: detections that are shorter are dropped.
        confidence_weight: of a class's score for the video, in the score of its detections.
    """

    k_divisor: int = K_DIVISOR
    margin: float = 0.5
    mil_weight: float = 0.5
    dropout: float = 0.7
    batch_size: int = 10
    pairs: int = 3
    max_snippets: int | None = 750
    learning_rate: float = 1e-4
    weight_decay: float = 5e-4
    iterations: int = 100_000
    class_threshold: float | None = 0.0
    min_snippets: int = 2
    confidence_weight: float = 0.7

    def __post_init__(self) -> None:
        if self.k_divisor < 1 or self.min_snippets < 1 or self.iterations < 0:
            raise ValueError(f"k_divisor and min_snippets must be at least 1 and iterations not negative, got {self}")
        if not (0 <= self.mil_weight <= 1 and 0 <= self.dropout < 1):
            raise ValueError(f"mil_weight must lie in 0..1 and dropout in 0..1, got {self.mil_weight:g}, {self.dropout:g}")
        if not 0 <= 2 * self.pairs <= self.batch_size or self.batch_size < 1:
            raise ValueError(f"a batch of {self.batch_size} videos must have room for {self.pairs} pairs")


class Outputs(NamedTuple, Generic[A]):
    """What the network makes of videos.

    Attributes:
        embedded: X [B, T, D].
        logits: class activation sequences A [B, T, C].
    """

    embedded: A
    logits: A


class WTALC(nn.Module):
    """Features in, class activation sequences out; each snippet is judged alone.

    Args:
        feature_dim: D.
        num_classes: C.
        config: the dropout.
    """

    def __init__(self, feature_dim: int, num_classes: int, *, config: WTALCConfig) -> None:
        super().__init__()
        self.embedding = nn.Linear(feature_dim, feature_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(feature_dim, num_classes)
        for layer in (self.embedding, self.classifier):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, lengths: Tensor) -> Outputs[Tensor]:
        """Features [B, T, D] of videos of so many snippets [B]."""
        embedded = self.dropout(F.relu(self.embedding(features)))
        return Outputs(embedded, self.classifier(embedded))


def k_max_mil_loss(logits: Tensor, lengths: Tensor, labels: Tensor, *, k_divisor: int = K_DIVISOR) -> Tensor:
    """The k-max multiple-instance loss: cross-entropy of the videos' labels, shared out evenly, with the softmax of s.

    Args:
        logits: A [B, T, C].
        lengths: [B], at least 1.
        labels: 0 and 1 [B, C]; a video without any adds nothing.
        k_divisor: k = ceil(length / k_divisor).

    Returns:
        Scalar, the mean over videos.
    """
    scores = top_k_mean(logits, lengths, -(-lengths // k_divisor))  # s [B, C]
    wanted = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
    return -(wanted * scores.log_softmax(dim=1)).sum(dim=1).mean()


def co_activity_loss(features: Tensor, logits: Tensor, lengths: Tensor, labels: Tensor, *, margin: float = 0.5) -> Tensor:
    """The co-activity similarity loss, over pairs of videos: 0 and 1, 2 and 3, and so on.

    For a label that both have, d(H_m, H_n) is to be smaller than d(H_m, L_n) and than d(L_m, H_n), by the margin.

    Args:
        features: X [2P, T, D].
        logits: A [2P, T, C].
        lengths: [2P], at least 1.
        labels: 0 and 1 [2P, C].
        margin: delta.

    Returns:
        Scalar, the mean over shared labels of all pairs; 0 where there are none.
    """
    high, low = high_and_low(features, logits, lengths)  # [2P, C, D]
    first_high, second_high, first_low, second_low = high[0::2], high[1::2], low[0::2], low[1::2]
    alike = _cosine_distance(first_high, second_high)  # [P, C]
    rankings = 0.5 * F.relu(alike - _cosine_distance(first_high, second_low) + margin)
    rankings = rankings + 0.5 * F.relu(alike - _cosine_distance(first_low, second_high) + margin)
    shared = labels[0::2] * labels[1::2]
    return (rankings * shared).sum() / shared.sum().clamp(min=1)


def high_and_low(features: Tensor, logits: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """What a video looks like where a class is attended to, and where it is not.

    Args:
        features: X [B, T, D].
        logits: A [B, T, C].
        lengths: [B], at least 1.

    Returns:
        H = sum_t Â_t X_t and L = sum_t (1 - Â_t) X_t / (l - 1), each [B, C, D].
    """
    inside = is_inside(lengths, logits.shape[1])  # [B, T, 1]
    attention = logits.masked_fill(~inside, -torch.inf).softmax(dim=1)  # Â [B, T, C]
    present = torch.where(inside, features, 0.0)
    high = torch.einsum("btc,btd->bcd", attention, present)
    rest = torch.einsum("btc,btd->bcd", torch.where(inside, 1 - attention, 0.0), present)
    return high, rest / (lengths - 1).clamp(min=1)[:, None, None]


def top_k_mean(values: Tensor, lengths: Tensor, k: Tensor) -> Tensor:
    """Mean of the k largest values of each row, of those before its length.

    Args:
        values: [N, T, C].
        lengths: [N], at least 1.
        k: [N], at least 1 and at most the row's length.

    Returns:
        [N, C].
    """
    before_end = values.masked_fill(~is_inside(lengths, values.shape[1]), -torch.inf)
    most = int(k.max())
    largest = before_end.topk(most, dim=1).values  # [N, most, C]
    return torch.where(is_inside(k, most), largest, 0.0).sum(dim=1) / k[:, None]


def is_inside(lengths: Tensor, count: int) -> Tensor:
    """Which of ``count`` snippets are before a video's end, for videos of so many snippets [B], as [B, count, 1]."""
    return (torch.arange(count, device=lengths.device) < lengths[:, None])[:, :, None]


def loss(outputs: Outputs[Tensor], batch: Batch, *, config: WTALCConfig) -> dict[str, Tensor]:
    """Both losses, times their weights."""
    mil = k_max_mil_loss(outputs.logits, batch.lengths, batch.labels, k_divisor=config.k_divisor)
    pairs = slice(0, 2 * config.pairs)
    co_activity = co_activity_loss(
        outputs.embedded[pairs], outputs.logits[pairs], batch.lengths[pairs], batch.labels[pairs], margin=config.margin
    )
    return {"mil": config.mil_weight * mil, "co_activity": (1 - config.mil_weight) * co_activity}


def decode(outputs: Outputs[NDArray[np.float32]], config: WTALCConfig) -> Found:
    """Two thresholds: which classes the video has, and where."""
    logits = outputs.logits[0].astype(np.float64)  # [T, C]
    if not len(logits):
        return found((), (), ())
    confidence = k_max_mean(logits, k_divisor=config.k_divisor)  # s [C]
    segments, scores, classes = [], [], []
    for label in range(len(confidence)):
        if config.class_threshold is not None and confidence[label] <= config.class_threshold:
            continue
        runs = second_stage_segments(logits[:, label])
        runs = runs[runs[:, 1] - runs[:, 0] + 1 >= config.min_snippets]
        segments.append(runs + (0, 1))
        scores.append(largest_within(logits[:, label], runs) + config.confidence_weight * confidence[label])
        classes.append(label)
    return found(segments, scores, classes)


def sample(labels: ArrayLike, config: WTALCConfig, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """A batch's videos [B]: pairs that share a label first, then any that have one.

    Args:
        labels: 0 and 1 [V, C].
        config: the batch's size.
        rng: what draws.

    Raises:
        HeadError: pairs are wanted, and no label occurs in two videos; or no video has any.
    """
    occurs = np.asarray(labels) > 0
    labelled = labelled_videos(occurs)
    frequent = np.flatnonzero(occurs.sum(axis=0) >= 2)
    if config.pairs and not len(frequent):
        raise HeadError("W-TALC learns from pairs of videos, and no label occurs in two: give more videos, or pairs=0")
    drawn = [rng.choice(np.flatnonzero(occurs[:, rng.choice(frequent)]), 2, replace=False) for _ in range(config.pairs)]
    drawn.append(rng.choice(labelled, config.batch_size - 2 * config.pairs))
    return np.concatenate(drawn).astype(np.int64)


def steps(network: nn.Module, config: WTALCConfig) -> tuple[Step, ...]:
    """Adam with one learning rate throughout."""
    adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return (Step(optimizer=adam, schedule=LambdaLR(adam, lambda _: 1.0)),)


def _cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(first, second, dim=-1)


HEAD = Head(name="wtalc", config=WTALCConfig, network=WTALC, loss=loss, decode=decode, sample=sample, steps=steps)
