"""ActionBytes' network: learns from trimmed clips, or from untrimmed videos, to localize actions.

Jain, Ghodrati & Snoek, CVPR 2020, Sections 3.2 and 3.3. The card of the paper is ``actionbytes.py``; the pseudo-labels come
from ``actionbytes_mining.py``.

    F [T, D] -> L = ReLU(W_proj F + b) [T, l] -+- classifier ------------> activation of the classes [T, C]      first part
                                               +- classifier of clusters -> [T, K] -> transfer layer -> [T, C]   after mining

A training has 1 + ``rounds`` parts, equally long. In the first one the localization model (projection and classifier) learns
the classes; without any rounds, that is the paper's Baseline. Each round mines ActionBytes from all clips and learns their
pseudo-labels: k-max multiple-instance and co-activity loss (W-TALC) on the clusters' activation, and on top of that the
transfer layer, by the k-max loss alone, the classes.

    what2when  trimmed clips, mined; classes of other data sets by word vectors (``carry_over``)
    zero-shot  the same, and what is like the classes to be found later (``unseen``) is left out of the training
    weak       untrimmed videos: the localization model alone, no mining, no transfer layer (3.3)

``on_top_of`` puts ActionBytes proposals on a W-TALC that was trained elsewhere, as in the paper's 4.4.

Open in the paper, with the option in ``ActionBytesHeadConfig`` where there is one:

- *The classes' loss of the first part*: it says "we initialize the localization model by training"; both losses, as later.
- *l* (``latent_dim``): D, as in W-TALC. *Dropout* of L, the losses' weights and margin, the batch and its pairs, and how long
  videos are cut: W-TALC's. Pairs share a label of what is learnt just then, that is a pseudo-label once there are any.
- *From round to round*: the numbers of clusters mean nothing in the next one, so the clusters' classifier and the transfer
  layer begin anew, and so do the optimizers; the projection goes on.
- *The transfer layer's gradient* ends there (``transfer_gradient``): training with pseudo-labels is to "avoid the risk of
  overfitting the model to class labels".
- *How long* to train (``iterations``) is not said.
- *Proposals*: the second threshold is applied to them as well: one counts where the class's mean activation in it is above.
- *Scores* (``score``) and *non-maximum suppression* (``nms_tiou``) of the pool. The score is the outer-inner contrast of the
  activation (see ``actionbytes.py``) plus a share of the class's confidence for the video (W-TALC's). W-TALC's own, the
  largest activation inside (``max``), is the better one for what the threshold gives, but equal for all pieces of an action
  around its peak, so it cannot choose among proposals. Without those, nothing overlaps and nothing is suppressed. The
  numbers were chosen on made sequences of features.
- *Activation* (``activation``): logits, as in W-TALC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from tal_run.models import wtalc
from tal_run.models.actionbytes import proposals, segment_scores
from tal_run.models.actionbytes_mining import Fragments, fragment_borders, fragment_means, pseudo_labels
from tal_run.models.head import Batch, Found, Head, HeadError, Step, TrainedHead, found
from tal_run.models.postprocess import nms
from tal_run.models.thresholds import K_DIVISOR, k_max_mean, largest_within, second_stage_segments

A = TypeVar("A")

Regime = Literal["what2when", "zero-shot", "weak"]
Score = Literal["contrast", "mean", "max"]


@dataclass(frozen=True, kw_only=True)
class ActionBytesHeadConfig:
    """Training, and localization with what was learnt. "Open" is what the paper does not say.

    Attributes:
        regime: what is learnt from (see above).
        unseen: in zero-shot, classes to be found later: what is one of them is left out of the training.
        unseen_affinity: ... and so are classes whose word vectors are at least so close to one of them; None: by name alone.
        rounds: of mining; the paper's. 0: the paper's Baseline.
        clusters: K; the paper's best.
        least_per_cluster: fewer clusters are made where there are less fragments for each; open.
        normalize: k-means on directions alone; open.
        fragments: ``actionbytes``, or ``fixed``, with which the paper compares them.
        fixed_snippets: length of fixed ones; the paper's.
        percentile: p of Eq. 1 in mining; the paper's for THUMOS14.
        include_ends: count a video's ends as boundaries; open.
        latent_dim: l; None: as wide as the features. Open.
        dropout: share of L dropped in training; W-TALC's.
        k_divisor: a video's k is its length divided by it; the paper's.
        margin: of the co-activity loss; W-TALC's.
        mil_weight: the multiple-instance loss's share, the co-activity loss has the rest; W-TALC's.
        transfer_gradient: let the transfer layer's loss teach what lies below it; open.
        batch_size: videos in a batch; W-TALC's.
        pairs: pairs of videos with a label in common that it begins with; W-TALC's.
        max_snippets: longer videos are cut to so many in training; W-TALC's.
        learning_rate: Adam's; the paper's. With weak, its settings "are kept similar to" W-TALC's, whose is 1e-4.
        weight_decay: Adam's; W-TALC's.
        iterations: of the whole training; open.
        proposals: look at ActionBytes proposals too, not only at what the threshold gives.
        proposal_percentiles: p of Eq. 1 at test time, pooled; the paper's for THUMOS14 (ActivityNet: 92,95,97.5,99,99.5).
        merge: M of Eq. 2; the paper's.
        jitter: snippets that a proposal may take in at either end; the paper's.
        first_stage: drop classes less confident than the mean of all; the paper's.
        score: how a segment is judged; open.
        margin_fraction: for ``contrast``, length of the margin on either side as a fraction of the segment's; 0.25 in AutoLoc.
        confidence_weight: of a class's confidence for the video, in the score of its segments; W-TALC's.
        nms_tiou: segments that overlap a better one of their class by more are dropped; open.
        activation: what is localized and carried over to other classes, ``logits`` or ``probabilities`` (softmax); open. Fixed
            with the network: other than the rest of localization, it cannot be changed for one that is loaded.
    """

    regime: Regime = "what2when"
    unseen: tuple[str, ...] = ()
    unseen_affinity: float | None = None
    rounds: int = 3
    clusters: int = 500
    least_per_cluster: int = 4
    normalize: bool = False
    fragments: Fragments = "actionbytes"
    fixed_snippets: int = 2
    percentile: float = 50.0
    include_ends: bool = True
    latent_dim: int | None = None
    dropout: float = 0.7
    k_divisor: int = K_DIVISOR
    margin: float = 0.5
    mil_weight: float = 0.5
    transfer_gradient: bool = False
    batch_size: int = 10
    pairs: int = 3
    max_snippets: int | None = 750
    learning_rate: float = 1e-3
    weight_decay: float = 5e-4
    iterations: int = 40_000
    proposals: bool = True
    proposal_percentiles: tuple[float, ...] = (50.0,)
    merge: tuple[int, ...] = (1, 2)
    jitter: int = 1
    first_stage: bool = True
    score: Score = "contrast"
    margin_fraction: float = 1.0
    confidence_weight: float = 0.7
    nms_tiou: float = 0.3
    activation: Literal["logits", "probabilities"] = "logits"

    def __post_init__(self) -> None:
        if (self.regime == "zero-shot") != bool(self.unseen):
            raise ValueError("zero-shot needs unseen=... (the classes to leave out of the training), and nothing else takes it")
        if self.unseen_affinity is not None and not (self.unseen and 0 < self.unseen_affinity <= 1):
            raise ValueError(f"unseen_affinity belongs to unseen=... and lies in 0..1, got {self.unseen_affinity:g}")
        least = {"clusters": 1, "least_per_cluster": 1, "fixed_snippets": 1, "k_divisor": 1, "rounds": 0, "jitter": 0}
        least |= {"iterations": 0, "latent_dim": 1}
        for name, smallest in least.items():
            if (value := getattr(self, name)) is not None and value < smallest:
                raise ValueError(f"{name} must be at least {smallest}, got {value}")
        for name in ("mil_weight", "nms_tiou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name):g}")
        if not (0 <= self.dropout < 1 and self.margin_fraction > 0 and all(m >= 1 for m in self.merge)):
            raise ValueError(f"dropout must lie in 0..1, margin_fraction above 0 and merge from 1 on, got {self}")
        if not all(0 <= p <= 100 for p in (self.percentile, *self.proposal_percentiles)):
            raise ValueError(f"percentiles must lie in 0..100, got {self.percentile:g} and {self.proposal_percentiles}")
        _ = self.pairing  # refuses batches without room for their pairs

    @property
    def is_mined(self) -> bool:
        """Whether there is any mining."""
        return self.regime != "weak" and self.rounds > 0

    @property
    def minings(self) -> tuple[int, ...]:
        """The iterations before which ActionBytes are mined: where the parts of the training but the first begin."""
        parts = 1 + self.rounds if self.is_mined else 1
        return tuple(self.iterations * part // parts for part in range(1, parts))

    @property
    def pairing(self) -> wtalc.WTALCConfig:
        """How W-TALC draws a batch."""
        return wtalc.WTALCConfig(batch_size=self.batch_size, pairs=self.pairs)


class Outputs(NamedTuple, Generic[A]):
    """What the network makes of videos.

    Attributes:
        latent: L [B, T, l].
        logits: of the classes [B, T, C]: the transfer layer's, once something was mined.
        activation: what is localized, the logits or their softmax over the classes [B, T, C].
        cluster_logits: activation of the pseudo-classes [B, T, K]; K is 0 where nothing is mined.
        mined: 1 once something was, else 0 [1].
    """

    latent: A
    logits: A
    activation: A
    cluster_logits: A
    mined: A


class ActionBytesNetwork(nn.Module):
    """Features in, latent features and class activation sequences out; each snippet is judged alone.

    Args:
        feature_dim: D.
        num_classes: C.
        config: widths, the dropout, and what is learnt.
    """

    mined: Tensor

    def __init__(self, feature_dim: int, num_classes: int, *, config: ActionBytesHeadConfig) -> None:
        super().__init__()
        latent_dim = config.latent_dim or feature_dim
        clusters = config.clusters if config.is_mined else 0
        self.config = config
        self.projection = nn.Linear(feature_dim, latent_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(latent_dim, num_classes)
        self.cluster_classifier = nn.Linear(latent_dim, clusters) if clusters else None
        self.transfer = nn.Linear(clusters, num_classes) if clusters else None
        self.register_buffer("mined", torch.zeros(1, dtype=torch.int64))
        _begin(self.projection, self.classifier, self.cluster_classifier, self.transfer)

    def forward(self, features: Tensor, lengths: Tensor) -> Outputs[Tensor]:
        """Features [B, T, D] of videos of so many snippets [B]."""
        latent = self.dropout(F.relu(self.projection(features)))  # L = ReLU(W_proj F)
        logits = self.classifier(latent)
        if self.cluster_classifier is None or self.transfer is None:
            cluster_logits = latent[:, :, :0]
        else:
            cluster_logits = self.cluster_classifier(latent)
            carried = self.transfer(cluster_logits if self.config.transfer_gradient else cluster_logits.detach())
            logits = torch.where(self.mined > 0, carried, logits)
        activation = logits.softmax(dim=2) if self.config.activation == "probabilities" else logits
        return Outputs(latent, logits, activation, cluster_logits, self.mined)

    def begin_round(self) -> None:
        """Forget the clusters, which are others now, and what was made of them; the projection stays as it is."""
        _begin(self.cluster_classifier, self.transfer)
        self.mined.fill_(1)

    def learning(self) -> list[nn.Parameter]:
        """The weights that there is something to learn for."""
        parts = (self.projection, self.cluster_classifier, self.transfer) if self.mined else (self.projection, self.classifier)
        return [weight for part in parts if part is not None for weight in part.parameters()]


def _begin(*layers: nn.Linear | None) -> None:
    """As W-TALC's layers begin."""
    for layer in layers:
        if layer is not None:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


# ---- learning ----


def loss(outputs: Outputs[Tensor], batch: Batch, *, config: ActionBytesHeadConfig) -> dict[str, Tensor]:
    """The losses, times their weights, of labels [B, C] or, once there are pseudo-labels behind them, [B, C + K].

    What is not learnt at the time, the clusters before mining and the co-activity of the classes after it, adds 0.
    """
    classes, clusters = outputs.logits.shape[2], outputs.cluster_logits.shape[2]
    known = batch.labels[:, :classes]
    mil, co_activity = _losses(outputs, outputs.logits, batch.lengths, known, config=config)
    is_first = outputs.mined[0] == 0  # from then on, the transfer layer learns by the k-max loss alone
    losses = {
        "mil": torch.where(is_first, config.mil_weight, 1.0) * mil,
        "co_activity": torch.where(is_first, 1 - config.mil_weight, 0.0) * co_activity,
    }
    if clusters:
        pseudo = batch.labels[:, classes:] if outputs.mined else known.new_zeros(len(known), clusters)
        mil, co_activity = _losses(outputs, outputs.cluster_logits, batch.lengths, pseudo, config=config)
        losses |= {"cluster_mil": config.mil_weight * mil, "cluster_co_activity": (1 - config.mil_weight) * co_activity}
    return losses


def _losses(
    outputs: Outputs[Tensor], logits: Tensor, lengths: Tensor, labels: Tensor, *, config: ActionBytesHeadConfig
) -> tuple[Tensor, Tensor]:
    """The k-max loss of all videos, and the co-activity loss of the pairs that the batch begins with."""
    pairs = slice(0, 2 * config.pairs)
    return (
        wtalc.k_max_mil_loss(logits, lengths, labels, k_divisor=config.k_divisor),
        wtalc.co_activity_loss(outputs.latent[pairs], logits[pairs], lengths[pairs], labels[pairs], margin=config.margin),
    )


def mine(
    network: nn.Module,
    features: Sequence[NDArray[np.float32]],
    config: ActionBytesHeadConfig,
    *,
    iteration: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_] | None:
    """Pseudo-labels of all videos [V, K], and a network that is ready to learn them; None: not before this iteration.

    Args:
        network: an ``ActionBytesNetwork``.
        features: of each of the V videos [T_v, D].
        config: when and how.
        iteration: those that are done.
        rng: gives k-means its seed.

    Raises:
        HeadError: no pseudo-label occurs in two videos.
    """
    if iteration not in config.minings:
        return None
    assert isinstance(network, ActionBytesNetwork)
    fragments = []
    for latent in _latent(network, features):
        borders = fragment_borders(
            latent,
            fragments=config.fragments,
            percentile=config.percentile,
            fixed_snippets=config.fixed_snippets,
            include_ends=config.include_ends,
        )
        fragments.append(fragment_means(latent, borders))
    labels = pseudo_labels(
        fragments,
        clusters=config.clusters,
        least_per_cluster=config.least_per_cluster,
        normalize=config.normalize,
        seed=int(rng.integers(2**31 - 1)),
    )
    if not (labels.sum(axis=0) >= (2 if config.pairs else 1)).any():
        raise HeadError(
            f"mining found {sum(map(len, fragments))} ActionBytes in {len(features)} videos, and no cluster of them occurs in "
            "two: give more videos, or fewer clusters=..."
        )
    network.begin_round()
    return labels


def _latent(network: ActionBytesNetwork, features: Sequence[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """L [T_v, l] of each video, without dropout."""
    device, was_training = next(network.parameters()).device, network.training
    network.eval()
    with torch.no_grad():
        for video in features:
            data = torch.from_numpy(np.ascontiguousarray(video, np.float32)).to(device)[None]
            yield network(data, torch.tensor([len(video)], device=device)).latent[0].cpu().numpy()
    network.train(was_training)


def sample(labels: ArrayLike, config: ActionBytesHeadConfig, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """A batch's videos [B], as W-TALC draws them, by the labels or pseudo-labels [V, C or K] that are learnt just then."""
    return wtalc.sample(labels, config.pairing, rng=rng)


def steps(network: nn.Module, config: ActionBytesHeadConfig) -> tuple[Step, ...]:
    """Adam with one learning rate throughout, on what is learnt just then."""
    assert isinstance(network, ActionBytesNetwork)
    adam = torch.optim.Adam(network.learning(), lr=config.learning_rate, weight_decay=config.weight_decay)
    return (Step(optimizer=adam, schedule=LambdaLR(adam, lambda _: 1.0)),)


# ---- localization ----


def decode(outputs: Outputs[NDArray[np.float32]], config: ActionBytesHeadConfig) -> Found:
    """Two thresholds, as W-TALC's: which classes the video has, and where; beside the second, ActionBytes proposals."""
    activation = outputs.activation[0].astype(np.float64)  # [T, C]
    if not len(activation):
        return found((), (), ())
    confidence = k_max_mean(activation, k_divisor=config.k_divisor)  # [C]
    proposed = _proposals(outputs.latent[0], config) if config.proposals else np.empty((0, 2), np.int64)
    segments, scores, classes = [], [], []
    for label in range(len(confidence)):
        if config.first_stage and confidence[label] < confidence.mean():
            continue
        cas = activation[:, label]
        above = segment_scores(cas, proposed, score="mean") > (cas.max() + cas.min()) / 2
        pool = np.concatenate([second_stage_segments(cas), proposed[above]])
        worth = _scores(cas, pool, config)
        if config.proposals:
            kept = nms(pool + (0, 1), worth, tiou_threshold=config.nms_tiou)  # the end as a border, not as an index
            pool, worth = pool[kept], worth[kept]
        segments.append(pool + (0, 1))
        scores.append(worth + config.confidence_weight * confidence[label])
        classes.append(label)
    return found(segments, scores, classes)


def _proposals(latent: NDArray[np.float32], config: ActionBytesHeadConfig) -> NDArray[np.int64]:
    """Action proposals (Eq. 2) of all percentiles, snippet ranges with both ends included, without repeats [N, 2]."""
    pooled = [
        proposals(
            fragment_borders(
                latent,
                fragments=config.fragments,
                percentile=percentile,
                fixed_snippets=config.fixed_snippets,
                include_ends=config.include_ends,
            ),
            len(latent),
            merge=config.merge,
            jitter=config.jitter,
        )
        for percentile in config.proposal_percentiles
    ]
    return np.unique(np.concatenate([np.empty((0, 2), np.int64), *pooled]), axis=0)


def _scores(cas: NDArray[np.float64], pool: NDArray[np.int64], config: ActionBytesHeadConfig) -> NDArray[np.float64]:
    if config.score == "max":
        return largest_within(cas, pool)
    return segment_scores(cas, pool, score=config.score, margin=config.margin_fraction)


def carry_over(
    outputs: Outputs[NDArray[np.float32]], affinities: ArrayLike, config: ActionBytesHeadConfig
) -> Outputs[NDArray[np.float32]]:
    """Outputs for other classes: the activation of each is that of the C that were learnt, times the affinities [C, Q]."""
    return outputs._replace(activation=np.asarray(outputs.activation @ np.asarray(affinities, np.float32), np.float32))


def on_top_of(trained: TrainedHead, *, config: ActionBytesHeadConfig | None = None) -> TrainedHead:
    """ActionBytes proposals on a W-TALC (4.4): its embedding is the projection, its classifier the classifier.

    Args:
        trained: of head ``wtalc``.
        config: localization; what concerns training is not asked for.

    Raises:
        HeadError: it is another head, or the configuration is not of weak supervision.
    """
    config = config or ActionBytesHeadConfig(regime="weak")
    if trained.head.name != "wtalc" or config.regime != "weak" or config.latent_dim not in (None, trained.needs.dim):
        raise HeadError(f"ActionBytes goes on top of a W-TALC, with regime=weak: got {trained.head.name}, {config.regime}")
    weights = {name.replace("embedding", "projection"): value for name, value in trained.network.state_dict().items()}
    network = ActionBytesNetwork(trained.needs.dim or 0, len(trained.labels), config=config)
    network.load_state_dict({**weights, "mined": network.mined})
    network.to(next(trained.network.parameters()).device).eval().requires_grad_(False)
    return replace(trained, head=HEAD, config=config, network=network)


HEAD = Head(
    name="actionbytes",
    config=ActionBytesHeadConfig,
    network=ActionBytesNetwork,
    loss=loss,
    decode=decode,
    sample=sample,
    steps=steps,
    mine=mine,
    carry_over=carry_over,
)
