"""WSAD: Weakly Supervised Temporal Action Localization Using Deep Metric Learning.

Islam & Radke, WACV 2020 (arXiv:2001.07793). Videos' labels are all it learns from. Some block of a video must show each of
them (balanced cross-entropy), and what is attended to for a label must lie together in all videos that have it, apart from the
rest of them, by a metric that is the label's own: its row of the classifier's weights.

    features x [T, D] -> u = dropout(ReLU(W x + b)) [T, D] -> class scores s = phi_kappa(W_f u + b_f) [T, C]

Notation: n a video's length; l_w segments of a block; phi_kappa clipping to -kappa..kappa; pi [T, C] the softmax of s over
time; z, z' [C, D] a video's features aggregated with pi and with 1 - pi (z' is the paper's z^¬c); W_c row c of W_f; alpha
margin; gamma the video's share in the score of a detection. The paper's segments are snippets here, as everywhere.

Open in the paper, or otherwise in the authors' code (``AUTHORS_CODE`` has the latter's numbers):

- *The remainder* of a video that is no multiple of l_w belongs to the last block, which so has l_w to 2 l_w - 1 snippets
  (their code, and what floor(n / l_w) of Eq. 2 amounts to).
- *Weights of the losses.* The paper's total is Eq. 5-6 plus the metric loss (Eq. 12, its factor 1). Their code halves the
  first's two terms, then takes half of either loss. ``balanced_bce_loss`` is the first as their code has it, half of Eq. 5-6;
  the configuration's weights are of the paper's terms. Eq. 5-6 sum over the classes of one video; videos are averaged, and
  1e-8 is added before logarithms are taken (their code).
- *Batches.* "batch size 20 with 4 different activity instances per batch such that at least 5 videos have the same activity":
  4 labels, and 5 videos of each. Their code takes 5 labels, of which some may be the same, and 4 videos of each.
- *Long videos* give 300 snippets "randomly"; their code cuts out one stretch of 300, and so does this.
- *The learning rate* is 1e-4; in their code 2e-4. *Dropout* is 0.7 in their code, where weights begin as Xavier's, biases as 0.
- *Clipping* leaves no slope beyond kappa: a class whose action has fallen below -kappa is not learnt back. On a handful of
  made features the metric loss at its full weight does that to some classes, at a tenth of it to none.
- *Distances.* The mean over the ordered pairs of different videos, for both d+ and d-. A label counts for a group of videos
  if all of them have it; the loss is the mean over groups and such labels.
- *Localization.* The paper's: sigmoids of the clipped scores of at least 0.5, every class, one snippet is enough; scored by the
  largest sigmoid plus gamma times the class's probability for the video. Their code's (``inference="code"``): scores as they
  are, above the midpoint of their smallest and largest, two snippets at least; scored by the largest plus gamma times
  the largest block's top-k mean. The midpoint always finds something, also of labels that the video does not have.
- *Ablations.* ``classifier``: plain cross-entropy is the mean over classes; softmax, "according to the multiple-instance
  learning loss in [27]" (W-TALC) with "the same block-based processing", is taken over the log odds of P(c | V). ``distance``:
  cosine stands for D^2 as 1 - cos; the custom metric's M begins as the identity, which is the Euclidean distance, and M is
  used as it is, though nothing keeps it positive. ``block=None``: the video is one block, with the same k.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from tal_run.models.head import Batch, Found, Head, HeadError, Step, found
from tal_run.models.postprocess import runs_above
from tal_run.models.thresholds import largest_within, second_stage_segments, top_mean
from tal_run.models.wtalc import high_and_low, top_k_mean

Classifier = Literal["balanced", "bce", "softmax"]
Distance = Literal["class", "learned", "euclidean", "cosine"]
MetricLoss = Literal["triplet", "contrastive", "none"]

LEAST = 1e-8  # is added to probabilities before their logarithm is taken (authors' code)

A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class WSADConfig:
    """The method's numbers; the paper's, in 4.2 and 3.5, where nothing else is said.

    Attributes:
        block: l_w, snippets of a block; None: the whole video is one.
        k: largest scores of a block that are averaged; of shorter videos, at most all.
        clip: kappa; None: nothing is clipped.
        classifier: the first loss: the paper's balanced one, or one of its ablations' (Figure 2).
        metric_loss: the second loss (3.4, Table 3).
        distance: the metric: the class's own weights, or one of the ablations' (Figure 3).
        margin: alpha.
        classification_weight: of the first loss, in the paper's terms.
        metric_weight: lambda of Eq. 12.
        dropout: share of the embedded features dropped in training (authors' code).
        groups: labels in a batch.
        group_size: videos of each.
        max_snippets: longer videos are cut to so many in training.
        learning_rate: Adam's.
        iterations: of training (authors' code, which tests every 100 and keeps the best of the test set, as nobody should).
        inference: the paper's, or that of the authors' code.
        gamma: share of the class's score for the video in that of its detections.
    """

    block: int | None = 60
    k: int = 10
    clip: float | None = 4.0
    classifier: Classifier = "balanced"
    metric_loss: MetricLoss = "triplet"
    distance: Distance = "class"
    margin: float = 3.0
    classification_weight: float = 1.0
    metric_weight: float = 1.0
    dropout: float = 0.7
    groups: int = 4
    group_size: int = 5
    max_snippets: int | None = 300
    learning_rate: float = 1e-4
    iterations: int = 4_401
    inference: Literal["paper", "code"] = "paper"
    gamma: float = 0.7

    def __post_init__(self) -> None:
        if min(self.k, self.groups, self.iterations + 1, 1 if self.block is None else self.block) < 1:
            raise ValueError(f"block, k and groups must be at least 1 and iterations not negative, got {self}")
        if self.group_size < 2:
            raise ValueError(f"group_size must be at least 2, or there is nothing to compare, got {self.group_size}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be above 0, got {self.clip:g}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in 0..1, got {self.dropout:g}")


# the numbers of the authors' code, where they are not the paper's
AUTHORS_CODE = WSADConfig(
    classification_weight=0.25, metric_weight=0.5, groups=5, group_size=4, learning_rate=2e-4, inference="code"
)


class Outputs(NamedTuple, Generic[A]):
    """What the network makes of videos.

    Attributes:
        embedded: u [B, T, D].
        logits: class scores before clipping, W_f u + b_f [B, T, C].
        metric: W_f [C, D], or the learned metric's M [C, D, D].
    """

    embedded: A
    logits: A
    metric: A


class WSAD(nn.Module):
    """Features in, class scores out; each snippet is judged alone.

    Args:
        feature_dim: D.
        num_classes: C.
        config: the dropout, and whether a metric is learned.
    """

    def __init__(self, feature_dim: int, num_classes: int, *, config: WSADConfig) -> None:
        super().__init__()
        self.embedding = nn.Linear(feature_dim, feature_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(feature_dim, num_classes)
        for layer in (self.embedding, self.classifier):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.metric: nn.Parameter | None = None
        if config.distance == "learned":
            self.metric = nn.Parameter(torch.eye(feature_dim).repeat(num_classes, 1, 1))  # [C, D, D]

    def forward(self, features: Tensor, lengths: Tensor) -> Outputs[Tensor]:
        """Features [B, T, D] of videos of so many snippets [B]."""
        embedded = self.dropout(F.relu(self.embedding(features)))
        metric = self.classifier.weight if self.metric is None else self.metric
        return Outputs(embedded, self.classifier(embedded), metric)


def video_probabilities(
    logits: Tensor, lengths: Tensor, *, block: int | None = 60, k: int = 10, clip: float | None = 4.0
) -> Tensor:
    """P(c | V): whether videos have classes, by noisy-OR over blocks.

    Args:
        logits: class scores before clipping [B, T, C].
        lengths: [B], at least 1.
        block: l_w; None: the whole video is one block.
        k: largest scores that a block is judged by; all, if it has fewer.
        clip: kappa; None: nothing is clipped.

    Returns:
        [B, C].
    """
    size = logits.shape[1] if block is None else block
    scores = _clipped(logits, clip)  # s, Eq. 1
    counts = (lengths // size).clamp(min=1)  # n_B(V), below Eq. 1, and one block where a video is shorter
    most = int(counts.max())
    # windows of all that the last block may hold; blocks but the last are only the first ``size`` snippets of it
    padded = F.pad(scores, (0, 0, 0, max(0, (most + 1) * size - scores.shape[1])))
    windows = padded.unfold(1, 2 * size, size)[:, :most].movedim(3, 2)  # [B, N, 2 l_w, C]
    index = torch.arange(most, device=lengths.device)
    exists = index < counts[:, None]  # [B, N]
    held = torch.where(index == counts[:, None] - 1, lengths[:, None] - index * size, size)
    held = held.masked_fill(~exists, 1).flatten()  # a block that there is not is taken to be one snippet, and left out
    evidence = top_k_mean(windows.flatten(0, 1), held, held.clamp(max=k)).view(*exists.shape, -1)  # [B, N, C]
    absent = torch.where(exists[:, :, None], 1 - evidence.sigmoid(), 1.0)  # 1 - P(c | B_i), Eq. 4
    return 1 - absent.prod(dim=1)  # Eq. 3


def balanced_bce_loss(
    logits: Tensor,
    lengths: Tensor,
    labels: Tensor,
    *,
    block: int | None = 60,
    k: int = 10,
    clip: float | None = 4.0,
) -> Tensor:
    """Balanced binary cross-entropy of P(c | V), halved as in the authors' code.

    Args:
        logits: class scores before clipping [B, T, C].
        lengths: [B], at least 1.
        labels: 0 and 1 [B, C].
        block: l_w.
        k: of Eq. 4.
        clip: kappa.

    Returns:
        Scalar, half of Eq. 5-6, with the minus that the paper leaves out.
    """
    present = video_probabilities(logits, lengths, block=block, k=k, clip=clip)
    of_labels = (labels * _log(present)).sum(dim=1) / labels.sum(dim=1).clamp(min=1)  # Eq. 5
    of_others = ((1 - labels) * _log(1 - present)).sum(dim=1) / (1 - labels).sum(dim=1).clamp(min=1)  # Eq. 6
    return -0.5 * (of_labels + of_others).mean()


def metric_triplet_loss(
    features: Tensor,
    logits: Tensor,
    weight: Tensor,
    lengths: Tensor,
    labels: Tensor,
    *,
    group_size: int = 4,
    clip: float | None = 4.0,
    margin: float = 3.0,
) -> Tensor:
    """The triplet loss of 3.4 with each class's own metric.

    Args:
        features: u [B, T, D], videos in groups of ``group_size``.
        logits: class scores before clipping [B, T, C].
        weight: W_f [C, D].
        lengths: [B], at least 1.
        labels: 0 and 1 [B, C].
        group_size: videos that are compared with each other.
        clip: kappa.
        margin: alpha.

    Returns:
        Scalar, the mean over the labels that a group shares, of all groups.
    """
    return metric_loss(
        features, logits, weight, lengths, labels, group_size=group_size, clip=clip, margin=margin, distance="class"
    )


def metric_loss(
    features: Tensor,
    logits: Tensor,
    metric: Tensor,
    lengths: Tensor,
    labels: Tensor,
    *,
    group_size: int = 4,
    clip: float | None = 4.0,
    margin: float = 3.0,
    distance: Distance = "class",
    kind: MetricLoss = "triplet",
) -> Tensor:
    """The metric loss of 3.4 by any of its distances, as triplet or as contrastive loss; arguments as above."""
    shared = labels.reshape(-1, group_size, labels.shape[1]).prod(dim=1)  # [G, C]
    asked = shared.any(dim=0).nonzero()[:, 0]  # of most classes, no group has enough
    shared, metric = shared[:, asked], metric[asked]
    parts = high_and_low(features, _clipped(logits[:, :, asked], clip), lengths)  # z, z' [B, C, D]
    high, low = (F.normalize(part, dim=-1).reshape(len(shared), group_size, *part.shape[1:]) for part in parts)  # [G, S, C, D]
    one, other = (~torch.eye(group_size, dtype=torch.bool, device=high.device)).nonzero(as_tuple=True)  # ordered pairs
    together = squared_distance(high[:, one], high[:, other], metric, distance=distance).mean(dim=1)  # d+ [G, C]
    apart = squared_distance(high[:, one], low[:, other], metric, distance=distance).mean(dim=1)  # d- [G, C]
    if kind == "triplet":
        of_class = F.relu(together - apart + margin)  # as Eq. 9
    else:
        of_class = together + F.relu(margin - apart)  # as Eq. 7-8
    return (of_class * shared).sum() / shared.sum().clamp(min=1)


def squared_distance(first: Tensor, second: Tensor, metric: Tensor, *, distance: Distance) -> Tensor:
    """D_c^2 of features [..., C, D], as [..., C].

    Args:
        first: u.
        second: v.
        metric: W_f [C, D] for ``class``, M [C, D, D] for ``learned``; the others need none.
        distance: which.
    """
    if distance == "cosine":
        return 1 - F.cosine_similarity(first, second, dim=-1)
    difference = first - second
    if distance == "euclidean":
        return difference.square().sum(dim=-1)
    if distance == "class":
        return (difference * metric).sum(dim=-1).square()  # Eq. 10
    mahalanobis: Tensor = torch.einsum("...cd,cde,...ce->...c", difference, metric, difference)  # Eq. 11
    return mahalanobis


def loss(outputs: Outputs[Tensor], batch: Batch, *, config: WSADConfig) -> dict[str, Tensor]:
    """Both losses, times their weights (Eq. 12)."""
    logits, lengths, labels = outputs.logits, batch.lengths, batch.labels
    if config.classifier == "balanced":
        halved = balanced_bce_loss(logits, lengths, labels, block=config.block, k=config.k, clip=config.clip)
        classification = 2 * halved
    else:
        probabilities = video_probabilities(logits, lengths, block=config.block, k=config.k, clip=config.clip)
        present, absent = _log(probabilities), _log(1 - probabilities)
        if config.classifier == "bce":
            classification = -(labels * present + (1 - labels) * absent).mean()
        else:
            wanted = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
            classification = -(wanted * (present - absent).log_softmax(dim=1)).sum(dim=1).mean()
    losses = {"classification": config.classification_weight * classification}
    if config.metric_loss != "none":
        losses["metric"] = config.metric_weight * metric_loss(
            outputs.embedded,
            logits,
            outputs.metric,
            lengths,
            labels,
            group_size=config.group_size,
            clip=config.clip,
            margin=config.margin,
            distance=config.distance,
            kind=config.metric_loss,
        )
    return losses


def decode(outputs: Outputs[NDArray[np.float32]], config: WSADConfig) -> Found:
    """Segments of every class (3.5), as the paper or as the authors' code has it."""
    logits = outputs.logits[0].astype(np.float64)  # [T, C]
    if not len(logits):
        return found((), (), ())
    segments, scores = [], []
    if config.inference == "paper":
        clipped = logits if config.clip is None else np.clip(logits, -config.clip, config.clip)  # s, Eq. 1
        curves = _sigmoid(clipped)  # y
        of_video = 1 - np.prod(1 - _sigmoid(block_scores(clipped, block=config.block, k=config.k)), axis=0)  # Eq. 3
    else:
        curves, of_video = logits, block_scores(logits, block=config.block, k=config.k).max(axis=0)
    for label in range(logits.shape[1]):
        curve = curves[:, label]
        if config.inference == "paper":
            runs = runs_above(curve >= 0.5, 0)
        else:
            runs = second_stage_segments(curve)
            runs = runs[runs[:, 1] > runs[:, 0]]
        segments.append(runs + (0, 1))
        scores.append(largest_within(curve, runs) + config.gamma * of_video[label])  # q
    return found(segments, scores, range(logits.shape[1]))


def block_scores(scores: ArrayLike, *, block: int | None = 60, k: int = 10) -> NDArray[np.float64]:
    """Mean of the k largest scores of each block, of a video's scores [T, C], as [N, C]; the remainder is the last block's."""
    activations = np.asarray(scores)
    size = len(activations) if block is None else block
    starts = [index * size for index in range(max(1, len(activations) // size))]
    ends = [*starts[1:], len(activations)]
    return np.stack([top_mean(activations[start:end], k) for start, end in zip(starts, ends, strict=True)])


def sample(labels: ArrayLike, config: WSADConfig, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """A batch's videos [B], in groups that share a label; different ones in a group, and different labels if there are enough.

    Args:
        labels: 0 and 1 [V, C].
        config: the groups.
        rng: what draws.

    Raises:
        HeadError: no label occurs in as many videos as make a group.
    """
    occurs = np.asarray(labels) > 0
    frequent = np.flatnonzero(occurs.sum(axis=0) >= config.group_size)
    if not len(frequent):
        raise HeadError(
            f"WSAD learns from groups of {config.group_size} videos that share a label, and no label has so many: "
            "give more videos, or a smaller group_size"
        )
    chosen = rng.choice(frequent, config.groups, replace=len(frequent) < config.groups)
    groups = [rng.choice(np.flatnonzero(occurs[:, label]), config.group_size, replace=False) for label in chosen]
    return np.concatenate(groups).astype(np.int64)


def steps(network: nn.Module, config: WSADConfig) -> tuple[Step, ...]:
    """Adam with one learning rate throughout."""
    adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    return (Step(optimizer=adam, schedule=LambdaLR(adam, lambda _: 1.0)),)


def _clipped(logits: Tensor, clip: float | None) -> Tensor:
    """phi_kappa of Eq. 1."""
    return logits if clip is None else logits.clamp(-clip, clip)


def _log(probabilities: Tensor) -> Tensor:
    return (probabilities + LEAST).log()


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * values))


HEAD = Head(name="wsad", config=WSADConfig, network=WSAD, loss=loss, decode=decode, sample=sample, steps=steps)
