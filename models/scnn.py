"""S-CNN: Temporal Action Localization in Untrimmed Videos via Multi-stage CNNs.

Shou, Wang & Chang, CVPR 2016 (arXiv:1601.02129). Windows of six lengths slide over the video, sixteen frames are taken from
each, and networks of one shape look at them:

    windows -> 16 frames -> proposal network -> P_pro >= 0.7? -> localization network -> class, P_loc
                            (background or action)               (classification network, tuned by the overlap loss)
        -> times how often the class's actions are of that length -> NMS

Notation: k label, 0 for background and 1..K; v overlap (IoU) of a segment with its ground truth instance; P softmax of fc8.
A step is a frame or, on stored features, a row of them (``step_frames``). A segment is half open, (first step, step behind
the last), where the paper counts frames from 1.

Two ways to use it. On frames, as in the paper: ``scnn_frames.py`` trains a ``C3DTrunk`` or a ``StarterTrunk`` with
``training_set`` and ``stage_loss``, and localizes. On features: ``HEAD``, with a ``SequenceTrunk``, trained like every other
head.

What the paper leaves open, or is done otherwise here:

- *Theta_cls and Theta_loc* are one network at two times: the localization network is trained by Eq. 2 first, when it is the
  classification network, and tuned by Eq. 1 then. ``classification_share=1`` is the ablation without localization of 4.3, 0
  the one without classification.
- *On features* a row is that of 16 frames, so windows are of 1 to 32 rows. The background is not drawn but weighted, in each
  batch, so that it counts as much as the paper's draw; the length prior is learnt, see below; all layers are new and learn at
  fc8's rate. A trimmed video's actions are the windows that overlap all of it by more than 0.7, with v = 1, and it has no
  background.
- *Which sixteen*: every (length / 16)-th step, from the first on.
- *The video's end*: windows that do not fit are dropped, as in the authors' code. A video shorter than the shortest window is
  one window itself.
- *Ties* in the rules of 3.2: a segment belongs to the instance that it overlaps most, the first of equals. The best one of an
  instance that no segment overlaps by more than 0.7 keeps the label that it has by the first rule, if any.
- *Figure 3*: at v = 1 and P = 1, Eq. 1 gives 0, where the text says 1; the gradients (Eqs. 5-6) are those of Eqs. 2-3.
- *The length prior*: instances of the class that last between half and twice the window's length, as shares over the lengths
  (authors' code, which takes a window for one frame shorter, and the longest for 22.44 s where its rule gives 20.44). Counted
  by ``length_prior``, or learnt: the shares that make those lengths most likely are the counted ones. All lengths are alike
  for a class without instances.
- *NMS* is within a class.
- *The classification network's learning rate* halves each 10,000 iterations and so does the localization network's, "the same"
  by the text; the authors' solver halves that each 5,000 (``AUTHORS_CODE``).
- *Biases* learn at twice the rate of weights and do not decay, as in the authors' prototxt; the paper does not tell them apart.
- *The proposal network* learns for 30,000 iterations on THUMOS 2014 and MEXaction2 alike, the others for 30,000 each on the one
  and 20,000 on the other (4.2): ``proposal_until``, of 60,000 iterations or 40,000, on features; ``proposal_share`` on frames.
- *New layers* begin as He's (ICCV 2015), fc8 at 0.01 (authors' prototxt).
- *Crops* while training are the authors': 112 x 112 anywhere, mirrored half of the time, for each clip by itself
  (``augment``).
- *The mean* that is subtracted is Sports-1M's, cut to the centre; in the authors' prototxt it is UCF101's, cut where the clip
  is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from tal_run.extractors.c3d import CLIP
from tal_run.models.head import Batch, Found, Head, Step, found, to_arrays
from tal_run.models.postprocess import nms, tiou
from tal_run.models.scnn_network import Scnn, ScnnConfig, ScnnOutput, SegmentNetwork, sampled_steps, scnn, windows

Stage = Literal["proposal", "classification", "localization"]
AUTHORS_CODE = ScnnConfig(localization_decay_every=5_000)  # where the paper says otherwise
UNUSED = -1  # label of windows that are neither action nor background


# ---- 3.2 training sets ----


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledVideo:
    """A video as the training sets see it.

    Attributes:
        step_count: T.
        instances: half open [M, 2]; of no account if it is trimmed.
        labels: of the instances, 1..K [M]; of the video, if it is trimmed [1].
        trimmed: it is one action and nothing else.
    """

    step_count: int
    instances: ArrayLike
    labels: ArrayLike
    trimmed: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentSet:
    """Training segments: S_pro, S_cls or S_loc.

    Attributes:
        videos: index of the video that each is from [N].
        segments: half open [N, 2].
        labels: k [N]; 0 is background, and 1 every action in S_pro.
        overlaps: v [N]; 1 for trimmed videos and background.
    """

    videos: NDArray[np.int64]
    segments: NDArray[np.int64]
    labels: NDArray[np.int64]
    overlaps: NDArray[np.float64]


def assign(
    candidates: ArrayLike, instances: ArrayLike, labels: ArrayLike, *, config: ScnnConfig
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels of windows by their overlap with the ground truth.

    Args:
        candidates: windows [H, 2].
        instances: [M, 2].
        labels: of the instances, 1..K [M].
        config: the overlaps that decide.

    Returns:
        k [H], 0 for background and ``UNUSED`` in between, and v [H], 1 but for actions.
    """
    segments, kinds = np.asarray(candidates).reshape(-1, 2), np.asarray(labels, np.int64).reshape(-1)
    given, overlap = np.full(len(segments), UNUSED, np.int64), np.ones(len(segments))
    if not len(kinds) or not len(segments):
        return np.zeros_like(given), overlap
    iou = tiou(segments, instances)  # [H, M]
    nearest, highest = iou.argmax(axis=1), iou.max(axis=1)
    action = highest > config.positive_iou  # (1)
    given[action], overlap[action] = kinds[nearest[action]], highest[action]
    given[highest < config.negative_iou] = 0  # (2)
    taken = np.where(action, np.inf, config.rescue_iou)
    for instance in np.flatnonzero(iou.max(axis=0) <= config.positive_iou):
        best = iou[:, instance].argmax()
        if iou[best, instance] > taken[best]:  # "largest IoU with this ground truth and its IoU is higher than 0.5"
            given[best], overlap[best] = kinds[instance], iou[best, instance]
            taken[best] = iou[best, instance]
    return given, overlap


def training_set(
    videos: Sequence[LabelledVideo], *, stage: Stage, num_classes: int, config: ScnnConfig, rng: np.random.Generator
) -> SegmentSet:
    """S_pro, S_cls or S_loc: all actions, and so many background segments, drawn from all, that they are in balance."""
    origins, segments, labels, overlaps = [], [], [], []
    for index, video in enumerate(videos):
        if video.trimmed:
            pool = np.array([[0, video.step_count]], np.int64)
            given, overlap = np.asarray(video.labels, np.int64).reshape(-1)[:1], np.ones(1)
        else:
            pool = windows(video.step_count, config=config)
            given, overlap = assign(pool, video.instances, video.labels, config=config)
        origins.append(np.full(len(pool), index, np.int64))
        segments.append(pool)
        labels.append(given)
        overlaps.append(overlap)
    every = np.concatenate(labels)
    actions, background = np.flatnonzero(every > 0), np.flatnonzero(every == 0)
    wanted = round(len(actions) / (1 if stage == "proposal" else num_classes))  # N_b
    drawn = rng.choice(background, min(wanted, len(background)), replace=False)
    chosen = np.concatenate([actions, np.sort(drawn)]).astype(np.int64)
    return SegmentSet(
        videos=np.concatenate(origins)[chosen],
        segments=np.concatenate(segments)[chosen],
        labels=np.minimum(every[chosen], 1) if stage == "proposal" else every[chosen],
        overlaps=np.concatenate(overlaps)[chosen],
    )


def augment(frames: Tensor, *, size: tuple[int, int] = CLIP[1:], generator: torch.Generator | None = None) -> Tensor:
    """Segments of frames [N, S, H, W, 3], each cut to that size somewhere, and mirrored half of the time."""
    height, width, cuts = *frames.shape[2:4], []
    for segment in frames:
        top = int(torch.randint(height - size[0] + 1, (), generator=generator))
        left = int(torch.randint(width - size[1] + 1, (), generator=generator))
        cut = segment[:, top : top + size[0], left : left + size[1]]
        cuts.append(cut.flip(2) if torch.rand((), generator=generator) < 0.5 else cut)
    return torch.stack(cuts)


# ---- 3.2 losses ----


def overlap_loss(logits: Tensor, labels: Tensor, overlaps: Tensor, *, alpha: float = 0.25) -> Tensor:
    """L_overlap (Eq. 3): high scores for what overlaps the ground truth well, lower ones for the rest.

    Args:
        logits: O, of fc8 [N, K + 1]; class 0 is background.
        labels: k [N].
        overlaps: v in 0..1, above 0 for actions [N]; of no account for background.
        alpha: how far v moves the target.

    Returns:
        Scalar.
    """
    return _overlap_terms(logits, labels, overlaps, alpha=alpha).mean()


def _overlap_terms(logits: Tensor, labels: Tensor, overlaps: Tensor, *, alpha: float) -> Tensor:
    """Eq. 3 before the mean over n [N]."""
    probability = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]  # P^(k)  [N]
    action = labels > 0  # [k > 0]
    target = torch.where(action, overlaps.to(logits), 1.0) ** alpha  # v^alpha
    return 0.5 * (probability.square() / target - 1) * action  # Eq. 3


def stage_loss(logits: Tensor, labels: Tensor, overlaps: Tensor, *, stage: Stage, config: ScnnConfig) -> Tensor:
    """What a stage of the training on frames lessens; arguments as ``overlap_loss``.

    Eq. 2 for the first two. Eq. 1 for the localization network, which is least for an action where P = sqrt(v^alpha).
    """
    softmax_loss = F.cross_entropy(logits, labels)  # Eq. 2
    if stage != "localization":
        return softmax_loss
    return softmax_loss + config.overlap_weight * overlap_loss(logits, labels, overlaps, alpha=config.alpha)  # Eq. 1


def loss(outputs: ScnnOutput, batch: Batch, *, config: ScnnConfig) -> dict[str, Tensor]:
    """The losses of all stages on features: ``classification`` and ``overlap`` are the terms of Eq. 1.

    Args:
        outputs: of the network.
        batch: with segments.
        config: the rules of 3.2.
    """
    assigned = [_labels_of_video(outputs.windows[video], batch, video, config) for video in range(len(outputs.windows))]
    labels, overlaps = (torch.stack(parts).flatten() for parts in zip(*assigned, strict=True))  # [B H]
    used = labels != UNUSED
    labels, overlaps = labels[used], overlaps[used]
    proposal, localization = outputs.proposal.flatten(0, 1)[used], outputs.localization.flatten(0, 1)[used]
    num_classes = localization.shape[1] - 1

    def balanced(terms: Tensor, *, background: float) -> Tensor:
        """Mean of terms [N], those of the background weighted as if ``background`` times as many as actions were drawn."""
        weights = torch.where(labels > 0, 1.0, background * (labels > 0).sum() / (labels == 0).sum().clamp(min=1)).to(terms)
        return (weights * terms).sum() / weights.sum().clamp(min=1e-12)

    overlap = balanced(_overlap_terms(localization, labels, overlaps, alpha=config.alpha), background=1 / num_classes)
    return {
        "proposal": balanced(F.cross_entropy(proposal, labels.clamp(max=1), reduction="none"), background=1.0),
        "classification": balanced(F.cross_entropy(localization, labels, reduction="none"), background=1 / num_classes),
        "overlap": config.overlap_weight * overlap,
        "prior": _prior_loss(outputs.prior, batch, config),
    }


def _labels_of_video(candidates: Tensor, batch: Batch, video: int, config: ScnnConfig) -> tuple[Tensor, Tensor]:
    """k and v of the windows of one video in a batch [H], [H]."""
    borders, classes = batch.segments[video].cpu().numpy(), batch.segment_classes[video].cpu().numpy()
    ranges, present = candidates.cpu().numpy(), np.flatnonzero(batch.labels[video].cpu().numpy())
    if batch.trimmed is not None and bool(batch.trimmed[video]):
        labels, _ = assign(ranges, [[0, int(batch.lengths[video])]], present[:1] + 1, config=config)
        labels[(labels == 0) | (len(present) > 1)] = UNUSED
        overlaps = np.ones(len(ranges))
    else:
        labels, overlaps = assign(ranges, borders, classes + 1, config=config)
    labels[ranges[:, 1] == ranges[:, 0]] = UNUSED  # behind the video's own
    return torch.from_numpy(labels).to(candidates.device), torch.from_numpy(overlaps).to(candidates.device)


def _prior_loss(prior: Tensor, batch: Batch, config: ScnnConfig) -> Tensor:
    """Minus the likelihood of the instances' lengths; least where the shares are those of ``length_prior``."""
    borders, classes = torch.cat(batch.segments), torch.cat(batch.segment_classes)
    near = torch.from_numpy(_lengths_near((borders[:, 1] - borders[:, 0]).cpu().numpy(), config.window_lengths)).to(prior)
    return -(near * prior.log_softmax(dim=1)[classes]).sum() / near.sum().clamp(min=1.0)


# ---- 3.2 optimization ----


class TakingTurns(torch.optim.SGD):
    """Stochastic gradient descent that rests, and remembers no gradients, while its rates are 0."""

    def step(self, closure: Any = None) -> Any:
        """Change the weights, if it is its turn."""
        return super().step(closure) if any(group["lr"] for group in self.param_groups) else None


def optimizer_of(network: SegmentNetwork, config: ScnnConfig) -> TakingTurns:
    """Stochastic gradient descent: fc8 learns at the rate of new layers, the trunk at its own; biases faster, if at all so."""
    trunk_rate = config.new_learning_rate if network.trunk.is_new else config.learning_rate
    groups: list[dict[str, Any]] = []
    for part, rate in ((network.trunk, trunk_rate), (network.fc8, config.new_learning_rate)):
        named = list(part.named_parameters())
        weights, biases = ([weight for name, weight in named if name.endswith("bias") is of] for of in (False, True))
        groups.append({"params": weights, "lr": rate})
        groups.append({"params": biases, "lr": config.bias_rate * rate, "weight_decay": config.bias_weight_decay})
    return TakingTurns(groups, momentum=config.momentum, weight_decay=config.weight_decay)


def steps(network: nn.Module, config: ScnnConfig) -> tuple[Step, ...]:
    """The three stages. The second and third share their weights and take turns: one's rate is zero while the other's is not.

    The prior learns beside the proposal network, at ten times the rate of new layers.
    """
    assert isinstance(network, Scnn)
    turn, rest = (round(config.iterations * share) for share in (config.classification_share, config.proposal_until))
    every = config.decay_every

    def rate(decay: float, *, since: int = 0, until: int | None = None, every: int = every) -> Callable[[int], float]:
        def factor(iteration: int) -> float:
            active = since <= iteration and (until is None or iteration < until)
            return decay ** ((iteration - since) // every) if active else 0.0

        return factor

    proposal = optimizer_of(network.proposal, config)
    proposal.add_param_group({"params": [network.prior], "lr": 10 * config.new_learning_rate, "weight_decay": 0.0})
    classification, localization = (optimizer_of(network.localization, config) for _ in range(2))
    return (
        Step(
            optimizer=proposal,
            schedule=LambdaLR(proposal, rate(config.proposal_decay, until=rest)),
            minimizes=("proposal", "prior"),
        ),
        Step(
            optimizer=classification,
            schedule=LambdaLR(classification, rate(config.decay, until=turn)),
            minimizes=("classification",),
        ),
        Step(
            optimizer=localization,
            schedule=LambdaLR(localization, rate(config.decay, since=turn, every=config.localization_every)),
            minimizes=("classification", "overlap"),
        ),
    )


def sample(labels: ArrayLike, config: ScnnConfig, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """A batch of videos, each with equal chance, none twice; given which labels occur in which videos [V, C]."""
    count = len(np.asarray(labels))
    return rng.permutation(count)[: config.batch_size].astype(np.int64)


# ---- 3.3 prediction ----


def length_prior(
    durations: ArrayLike, labels: ArrayLike, *, window_lengths: ArrayLike, num_classes: int
) -> NDArray[np.float64]:
    """How often actions of each class are of each window's length, shares [K, W] that add up to 1 for a class.

    Args:
        durations: of the training instances [M].
        labels: of the instances, 1..K [M].
        window_lengths: [W], in the same unit.
        num_classes: K.
    """
    near, kinds = _lengths_near(durations, window_lengths), np.asarray(labels).reshape(-1)
    counts = np.stack([near[kinds == label].sum(axis=0) for label in range(1, num_classes + 1)]).astype(np.float64)
    counts[counts.sum(axis=1) == 0] = 1.0
    shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _lengths_near(durations: ArrayLike, window_lengths: ArrayLike) -> NDArray[np.bool_]:
    """Which durations [M] lie between half and twice which windows' lengths [W], as [M, W]."""
    spans, lengths = np.asarray(durations, np.float64).reshape(-1, 1), np.asarray(window_lengths, np.float64)
    return np.asarray((spans >= lengths / 2) & (spans <= 2 * lengths))


def decode(outputs: Any, config: ScnnConfig) -> Found:
    """Segments of one video, from what the networks say of its windows.

    Args:
        outputs: ``ScnnOutput`` of arrays, B = 1.
        config: thresholds.
    """
    candidates = np.asarray(outputs.windows[0], np.int64)
    proposal, localization = _softmax(outputs.proposal[0])[:, 1], _softmax(outputs.localization[0])
    labels = localization.argmax(axis=1)
    kept = np.flatnonzero((proposal >= config.proposal_threshold) & (labels > 0))
    candidates, labels, scores = candidates[kept], labels[kept], localization[kept, labels[kept]]  # P_loc
    if config.use_prior:
        lengths = config.window_lengths
        which = np.minimum(np.searchsorted(lengths, candidates[:, 1] - candidates[:, 0]), len(lengths) - 1)
        scores = scores * _softmax(outputs.prior)[labels - 1, which]
    present = np.unique(labels)
    members = [np.flatnonzero(labels == label) for label in present]
    left = [index[nms(candidates[index], scores[index], tiou_threshold=config.nms_tiou)] for index in members]
    return found([candidates[index] for index in left], [scores[index] for index in left], (present - 1).tolist())


def _softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Of rows."""
    values = np.asarray(logits, np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


@torch.no_grad()
def predict(network: Scnn, sequence: Tensor, *, batch_size: int = 25) -> Found:
    """Localize in one video of any length: only what the proposal network keeps goes through the localization network.

    Args:
        network: in evaluation mode.
        sequence: the video's steps as the trunk takes them [T, ...]; only those of one batch are on the network's device.
        batch_size: segments that are looked at together; 25 took a second on a GTX 980 (4.2).
    """
    config, device = network.config, network.prior.device
    pool = windows(len(sequence), config=config)

    def judged(judge: SegmentNetwork, ranges: NDArray[np.int64]) -> Tensor:
        index = torch.from_numpy(sampled_steps(ranges, count=config.segment_steps))  # [N, S]
        return torch.cat([judge(judge.trunk.embed(sequence[part].to(device))).cpu() for part in torch.split(index, batch_size)])

    if len(pool) and config.proposal_threshold > 0:
        proposal = judged(network.proposal, pool)
        kept = (proposal.softmax(dim=1)[:, 1] >= config.proposal_threshold).numpy()
        pool, proposal = pool[kept], proposal[torch.from_numpy(kept)]
    else:
        proposal = torch.zeros(len(pool), 2)
    if not len(pool):
        return found([], [], [])
    localization = judged(network.localization, pool)
    outputs = ScnnOutput(torch.from_numpy(pool)[None], proposal[None], localization[None], network.prior)
    return decode(to_arrays(outputs), config)


HEAD = Head(name="scnn", config=ScnnConfig, network=scnn, loss=loss, decode=decode, sample=sample, steps=steps)
