"""AherNet: Learning to Localize Actions from Moments.

Long, Yao, Qiu, Tian, Luo & Mei, ECCV 2020 (arXiv:2008.13705). Learns to localize classes of which it has seen only moments,
clips that are one action from end to end, by what it learns from untrimmed videos of other classes whose times are known:
how the weights that tell moments apart become weights that tell anchors apart (``WeightTransfer``), and what surrounds an
action (``ContextGenerator``). The networks are in ``ahernet_network.py``, Algorithm 1 in ``ahernet_training.py``, AherNet^0
in ``ahernet_baseline.py``; here are the losses (3.4), what each run minimises, and prediction (3.5).

Notation: m_c, m_w an anchor's default center and width; phi_c, phi_w refined ones; g_c, g_w those of the closest instance, all
as shares of the video; g_iou its overlap with the default anchor; y_ov that overlap as predicted; b_u, b_m background anchors.

A batch holds both kinds: moments (``trimmed``) and untrimmed videos; foreground segments, cut out of these, are moments.
Classes of both kinds are in one list.

What the paper leaves open, or is done otherwise here; numbers are in ``AherNetConfig``:

- *Sizes* of all layers, the resizing to 512 and 256 bins, and how much of a synthetic video the moment is: the authors' code.
  The paper's Eq. 2 by itself would put each moment at the same place. Here it lies anywhere in the room that is left, with
  equal chance, and its width is drawn alike; the code has six widths, 0.70, 0.75 ... 0.95, half of what is left at least on
  one side, and errs in its times for every other video.
- *Generators* end in a rectifier (``context_activation``), as in the authors' code: so do the networks that features are
  commonly from, and a feature below 0 would tell D at once that it is made up.
- *Who learns in line 3*: the 1-D ConvNet with W_regv. In lines 4 to 6 each set of weights has an optimizer of its own and
  whatever is not named there is fixed: the discriminators learn with the 1-D ConvNet in line 6, which lessens L_ad_D as the
  paper writes; theta is fixed in line 6.
- *Who learns in lines 4 and 6 of the authors' code* (``updates="code"``): L_cls has an Adam of its own, beside that of L_prop,
  so that its weight is without effect there; here one Adam lessens their sum, for which nobody has published weights: the
  paper names none, and the code's 2 for a mean over cells is 2 for a sum over the 255 cells there. The discriminators learn
  by themselves, and the 1-D ConvNet nothing from L_ad_D; generators learn from L_cls and L_prop first, then D, then
  generators from L_ad_G, and the 1-D ConvNet last. Not taken over: that foreground segments teach W_regv alone in line 3, and
  that the rate does not decay for adversaries.
- *Batches*: half of the videos are moments (``moment_share``), and a foreground segment of each untrimmed one is added. Of
  whatever length: the code leaves out segments of less than 32 features (8 frames apart) and moments of less than 8.
- *Line 1* starts from a model that is trained first, on the untrimmed videos alone and by their L_cls and L_prop: AherNet^* of
  those videos. AherNet_A- starts from it too. What it says of classes is not taken over.
- *Anchors are cut to the video* before their overlap with instances is taken, as in the authors' code: what is proposed cannot
  leave the video. Nowhere else: m_c and m_w of Eqs. 3 and 5 are those of the whole anchor.
- *Foreground* anchors are few (``best_is_foreground``); the paper and the authors' code have 0.8, so that is the default.
- *Synthetic videos of foreground segments*: those are treated as moments in line 6 too.
- *A cell's class* is that of all its anchors, by a layer of width 1. All cells learn it (``class_cells``), background too: that
  "regularizes the generated context of each moment to preserve semantic information of action category" (3.3).
- *Weights before training*, as in the authors' code: uniform after Xavier (AISTATS 2010) in all layers, zero biases, and the
  identity in the transfer.
- *L_of and alphas* are the authors' code's by default: smooth L1 of offsets and those that they should be (``offsets_to``),
  alphas of 0.1. Eq. 6 as printed compares refined anchors with instances, in shares of the video, and 4.2 has alphas of 1
  (``AS_PRINTED``). Which of them made the tables could not be tried, for want of the data; but as printed, refinement, which is
  there to move anchors to instances, moves them away. L_of is then 0.003 before anything is learnt, beside L_cls and L_ov of 3.
  How much foreground anchors overlap their instances in unseen made videos (AherNet^*, ``foreground_iou`` 0.8):

  ======================  =====================  ===============
  L_of, alphas            small, three seeds     larger, earlier
  ======================  =====================  ===============
  not moved               0.848                  0.884
  as printed, 1           0.672 (0.652 - 0.702)  0.734, 0.737
  as printed, 0.1         0.873 (0.857 - 0.882)  0.900
  of offsets, 1           0.756 (0.713 - 0.778)  0.797, 0.801
  of offsets, 0.1 (here)  0.911 (0.906 - 0.917)  0.921, 0.924
  ======================  =====================  ===============

  Small: four layers, 32 bins, one instance a video, 240 iterations of 12 at a rate of 0.003; mean, least and largest. Larger:
  six layers, 128 bins, up to four instances, a rate of 0.001, after 500 and (where there are two) 1000 iterations of 16; one
  seed, before weights began as they do now. Most of it is the alphas, the rest what is compared.
- *L_of* is a mean over foreground anchors; the code divides their sum by as many mined background anchors, too, and so halves
  it. *L_ov* is a mean over all anchors, as Eq. 7 restricts nothing; in the code, over those that overlap any instance. The
  code has a foreground classifier beside them and hard negatives, which the paper has not.
- *L_ad* is a mean over a layer's background anchors, then over layers. An anchor inside a moment that overlaps it by less than
  0.3, being short, is background by the paper's rule; those of the last layer, all of the video, never are beside a moment.
- *Closest* is what overlaps most and, of those, what is nearest by its center.
- *Weights* of the losses, which the paper does not name: the authors' code, as far as known. Where the two disagree, on
  the rate's decay, the generators' steps and how segments are scored, defaults are the paper's, and ``AUTHORS_CODE`` is a
  configuration with the code's.
- *One softmax over both sets* where ``moment_classes`` does not say which classes are whose.
- *NMS* is within a class. Segments are cut to the video before it.
- *AherNet^-*: each proposal gets its class from the cell that proposes it, by the segment classifier's weights as they are.
- *AherNet_M*: the synthetic video is the moment and nothing else, so the instance is all of it.
- *AherNet^** learns W_regv through the transfer, from L_cls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import StepLR

from tal_run.models.ahernet_baseline import SnippetClassifier, SnippetOutput, decode_snippets, snippet_loss
from tal_run.models.ahernet_network import AherNet, AherNetConfig, AherNetOutput, AnchorLayer, anchors
from tal_run.models.ahernet_training import begin, draw
from tal_run.models.head import Batch, Found, Head, Step, found
from tal_run.models.postprocess import nms, tiou

KINETICS = AherNetConfig(decay_every=15_000)  # 4.2, "the final setting": from ActivityNet to Kinetics-600
AS_PRINTED = AherNetConfig(offset_loss="refined", alpha_center=1.0, alpha_width=1.0)  # Eq. 6 and 4.2
AUTHORS_CODE = AherNetConfig(
    alpha_center=0.1,
    alpha_width=0.1,
    offset_loss="encoded",
    decay=0.1,
    decay_every=15_000 // 16,  # of samples
    start_iterations=95_000,
    generator_steps=2,
    updates="code",
    scored_by="video",
)
NEAR = 1e-6  # how much a distance between centers counts beside an overlap
MOST_GROWTH = 10.0  # exponent of a refined width: no action is so much wider than its anchor


def network(feature_dim: int, num_classes: int, *, config: AherNetConfig) -> AherNet | SnippetClassifier:
    """AherNet, or what ``config.variant`` puts in its place."""
    if config.variant == "0":
        return SnippetClassifier(feature_dim, num_classes)
    return AherNet(feature_dim, num_classes, config=config)


# ---- 3.3, 3.4 anchors and instances ----


def refined(defaults: Tensor, offsets: Tensor, *, config: AherNetConfig) -> Tensor:
    """Anchors (m_c, m_w) [..., 2] moved by (delta c, delta w) [..., 2]: (phi_c, phi_w) [..., 2]."""
    center = defaults[..., 0] + config.alpha_center * defaults[..., 1] * offsets[..., 0]  # Eq. 5
    width = defaults[..., 1] * (config.alpha_width * offsets[..., 1]).clamp(max=MOST_GROWTH).exp()  # Eq. 5
    return torch.stack([center, width], dim=-1)


def offsets_to(defaults: Tensor, wanted: Tensor, *, config: AherNetConfig) -> Tensor:
    """The offsets [..., 2] that move anchors (m_c, m_w) to centers and widths (g_c, g_w): Eq. 5 the other way round."""
    center = (wanted[..., 0] - defaults[..., 0]) / (config.alpha_center * defaults[..., 1])
    width = (wanted[..., 1] / defaults[..., 1]).log() / config.alpha_width
    return torch.stack([center, width], dim=-1)


class Matched(NamedTuple):
    """What is closest to the anchors of videos.

    Attributes:
        iou: g_iou [B, cells, R].
        closest: (g_c, g_w) [B, cells, R, 2].
        classes: of the instance that the cell's best anchor overlaps, int64 [B, cells].
        best: the anchors that overlap an instance most, bool [B, cells, R].
    """

    iou: Tensor
    closest: Tensor
    classes: Tensor
    best: Tensor


def match(borders: ArrayLike, classes: ArrayLike, *, config: AherNetConfig) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """``Matched`` for the instances of one video, as arrays without the first axis, all but ``best``.

    Args:
        borders: start and end as shares of the video [M, 2]; none: overlaps are 0 and the rest is of no account.
        classes: [M].
        config: the anchors.
    """
    default, instances = anchors(config), np.asarray(borders, np.float64).reshape(-1, 2)
    shape = default.shape[:2]  # cells, R
    if not len(instances):
        return np.zeros(shape), np.zeros((*shape, 2)), np.zeros(shape[0], np.int64)
    iou, nearest = _nearest(instances, config)
    size = np.stack([instances.mean(axis=1), instances[:, 1] - instances[:, 0]], axis=1)
    closest = size[nearest].reshape(*shape, 2)
    overlap, index = iou.max(axis=1).reshape(shape), nearest.reshape(shape)
    best = index[np.arange(shape[0]), overlap.argmax(axis=1)]  # [cells]
    return overlap, closest, np.asarray(classes, np.int64)[best]


def _nearest(instances: NDArray[np.float64], config: AherNetConfig) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """How anchors, cut to the video, overlap instances [A, M], and which instance is closest to each [A]."""
    center, width = anchors(config).reshape(-1, 2).T  # [A]
    iou = tiou(np.stack([center - width / 2, center + width / 2], axis=1).clip(0, 1), instances)  # [A, M]
    return iou, (iou - NEAR * np.abs(center[:, None] - instances.mean(axis=1))).argmax(axis=1)


def best_anchors(borders: ArrayLike, *, config: AherNetConfig) -> NDArray[np.bool_]:
    """For each instance of a video [M, 2], the anchor that overlaps it most, of those that it is closest to [cells, R]."""
    instances = np.asarray(borders, np.float64).reshape(-1, 2)
    chosen = np.zeros(anchors(config).shape[:2], np.bool_)
    if len(instances):
        iou, nearest = _nearest(instances, config)
        own = np.where(nearest[:, None] == np.arange(len(instances)), iou, 0.0)  # [A, M]
        chosen.reshape(-1)[own.argmax(axis=0)[own.max(axis=0) > 0]] = True
    return chosen


def _matched(borders: Iterable[ArrayLike], classes: Iterable[ArrayLike], like: Tensor, config: AherNetConfig) -> Matched:
    """``Matched`` for some videos, where and of what type ``like`` is."""
    rows = [
        (*match(of_video, kinds, config=config), best_anchors(of_video, config=config))
        for of_video, kinds in zip(borders, classes, strict=True)
    ]
    iou, closest, kinds, best = (torch.from_numpy(np.stack(part)).to(like.device) for part in zip(*rows, strict=True))
    return Matched(iou.to(like), closest.to(like), kinds, best)


# ---- 3.4 losses ----


def loss(outputs: AherNetOutput | SnippetOutput, batch: Batch, *, config: AherNetConfig) -> dict[str, Tensor]:
    """All losses by name; which of them are minimised by what is for ``steps`` to say.

    ``segment`` L_reg; ``classification``, ``offset``, ``overlap`` of untrimmed videos and, with ``synthetic_`` before it, of
    moments with context; ``discriminator`` L_ad_D and ``generator`` L_ad_G.
    """
    timed = torch.tensor([len(of_video) > 0 for of_video in batch.segments], device=batch.labels.device)  # [B]
    moment = torch.zeros_like(timed) if batch.trimmed is None else batch.trimmed  # [B]
    if isinstance(outputs, SnippetOutput):
        return snippet_loss(outputs, batch, moment=moment)
    kinds = batch.labels.argmax(dim=1)  # of moments
    shares = [part.cpu().numpy() / int(length) for part, length in zip(batch.segments, batch.lengths, strict=True)]
    real = _matched(shares, [part.cpu().numpy() for part in batch.segment_classes], outputs.overlaps, config)
    whole = outputs.borders.cpu().numpy()
    synthetic = _matched(whole[:, None], kinds.cpu().numpy()[:, None], outputs.overlaps, config)

    proper = _localization_losses(outputs.classes, outputs.offsets, outputs.overlaps, real, ~moment, timed, config)
    made = _localization_losses(
        outputs.synthetic_classes, outputs.synthetic_offsets, outputs.synthetic_overlaps, synthetic, moment, moment, config
    )
    discriminator, generator = adversarial_losses(
        outputs.critics,
        outputs.synthetic_critics,
        real=(real.iou < config.background_iou) & ~moment[:, None, None],  # b_u
        synthetic=(synthetic.iou < config.background_iou) & moment[:, None, None],  # b_m
        cells=config.cells,
    )
    return {
        "segment": config.segment_weight * _segment_loss(outputs.segment, kinds, moment, config),
        **proper,
        **{f"synthetic_{name}": value for name, value in made.items()},
        "discriminator": config.adversarial_weight * discriminator,
        "generator": config.adversarial_weight * generator,
    }


def _segment_loss(logits: Tensor, kinds: Tensor, moment: Tensor, config: AherNetConfig) -> Tensor:
    """L_reg, a mean over moments and layers: logits [B, J, C], classes [B], which are moments [B]."""
    terms = _class_losses(logits, kinds[:, None].expand(logits.shape[:2]), config)
    return _mean(terms, moment[:, None].expand_as(terms))


def _class_losses(logits: Tensor, kinds: Tensor, config: AherNetConfig) -> Tensor:
    """Softmax losses (Eq. 4) of logits [..., C] with classes [...], over the set that each class belongs to."""
    of_moments = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    of_moments[list(config.moment_classes)] = True
    rivals = of_moments == of_moments[kinds][..., None]  # [..., C]
    own = logits.gather(-1, kinds[..., None])[..., 0]
    return logits.masked_fill(~rivals, -torch.inf).logsumexp(dim=-1) - own  # Eq. 4


def _localization_losses(
    classes: Tensor, offsets: Tensor, overlaps: Tensor, matched: Matched, used: Tensor, named: Tensor, config: AherNetConfig
) -> dict[str, Tensor]:
    """L_cls, L_of and L_ov of the videos that are ``used`` [B]; of those that are ``named`` [B], classes are known."""
    counted = used[:, None, None].expand_as(matched.iou)
    foreground = matched.iou > config.foreground_iou
    if config.best_is_foreground:
        foreground = foreground | matched.best
    foreground = foreground & counted  # [B, cells, R]
    cells = named[:, None].expand(classes.shape[:2])
    if config.class_cells == "foreground":
        cells = cells & foreground.any(dim=2)
    default = torch.from_numpy(anchors(config)).to(offsets)  # [cells, R, 2]
    distance = _distances(offsets, default, torch.where(foreground[..., None], matched.closest, default), config)
    missed = (overlaps.sigmoid() - matched.iou).square()  # Eq. 7
    return {
        "classification": config.classification_weight * _mean(_class_losses(classes, matched.classes, config), cells),
        "offset": config.offset_weight * _mean(distance, foreground),
        "overlap": config.overlap_weight * _mean(missed, counted),
    }


def _distances(offsets: Tensor, default: Tensor, wanted: Tensor, config: AherNetConfig) -> Tensor:
    """How far offsets are from moving anchors (m_c, m_w) [cells, R, 2] to (g_c, g_w); both [B, cells, R, 2]: [B, cells, R]."""
    if config.offset_loss == "refined":
        moved = refined(default, offsets, config=config)
        return F.smooth_l1_loss(moved, wanted, reduction="none").sum(dim=3)  # Eq. 6
    there = offsets_to(default, wanted, config=config)
    return F.smooth_l1_loss(offsets, there, reduction="none").sum(dim=3)  # Eq. 6, of what Eq. 5 is given


def adversarial_losses(
    real_logits: Tensor, synthetic_logits: Tensor, *, real: Tensor, synthetic: Tensor, cells: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """L_ad_D and L_ad_G (Eq. 8).

    Args:
        real_logits: of D for the anchors of untrimmed videos [B, cells, R].
        synthetic_logits: of D for those of synthetic videos.
        real: which anchors are b_u, bool [B, cells, R].
        synthetic: which are b_m.
        cells: of each layer.
    """
    on_real = _mean_of_layers(F.softplus(-real_logits), real, cells)  # -E log D(b_u)
    on_synthetic = _mean_of_layers(F.softplus(synthetic_logits), synthetic, cells)  # -E log(1 - D(b_m))
    fooled = _mean_of_layers(F.softplus(-synthetic_logits), synthetic, cells)  # -E log D(b_m)
    return on_real + on_synthetic, fooled  # Eq. 8


def _mean_of_layers(terms: Tensor, mask: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Mean over the layers that have any, of the mean over what the mask [B, cells, R] leaves of them."""
    parts = list(zip(torch.split(terms, list(cells), dim=1), torch.split(mask, list(cells), dim=1), strict=True))
    means = torch.stack([_mean(values, chosen) for values, chosen in parts])
    return _mean(means, torch.stack([chosen.any() for _, chosen in parts]))


def _mean(terms: Tensor, mask: Tensor) -> Tensor:
    """Of what the mask leaves; 0 of nothing."""
    return torch.where(mask, terms, 0.0).sum() / mask.sum().clamp(min=1)


# ---- 3.4 optimization ----

LOCALIZATION = ("classification", "offset", "overlap")
SYNTHETIC = ("synthetic_classification", "synthetic_offset", "synthetic_overlap")


def steps(network: nn.Module, config: AherNetConfig) -> tuple[Step, ...]:
    """The updates of an iteration: lines 3 to 6 of Algorithm 1, or what a run of Tables 1 and 2 has of them."""
    if isinstance(network, SnippetClassifier):
        return (_step(network.parameters(), ("snippets",), config),)
    assert isinstance(network, AherNet)
    layers, apart = [layer for layer in network.layers if isinstance(layer, AnchorLayer)], config.updates == "code"

    def of(*names: str) -> list[nn.Parameter]:
        return [weight for layer in layers for name in names for weight in getattr(layer, name).parameters()]

    convolutions, heads = [*network.stem.parameters(), *of("convolution")], of("offset", "overlap")
    theta, segment = of("transfer", "bias_transfer"), of("segment")
    generators = [*network.before.parameters(), *network.after.parameters()]

    def localizing(names: tuple[str, ...], *more: nn.Parameter) -> list[Step]:
        """The 1-D ConvNet and what judges cells, by L_cls and L_prop: together, or one after the other."""
        if not apart:
            return [_step([*convolutions, *heads, *more], names, config)]
        return [_step([*convolutions, *more], names[:1], config), _step([*convolutions, *heads], names[1:], config)]

    line_3 = _step([*convolutions, *segment], ("segment",), config)
    match config.variant:
        case "star":
            return tuple(localizing(LOCALIZATION, *theta, *segment))
        case "minus":
            return line_3, _step([*convolutions, *heads], ("offset", "overlap"), config)
        case "M":
            return line_3, *localizing(SYNTHETIC, *theta)
    line_4 = localizing(LOCALIZATION, *theta)
    if config.variant == "A-":
        return line_3, *line_4, *localizing(SYNTHETIC)

    def adversary(weights: Iterable[nn.Parameter], *minimizes: str) -> Step:
        return _step(weights, minimizes, config, beta1=config.adversarial_beta1)

    if apart:
        fool = [adversary(generators, "generator") for _ in range(config.generator_steps)]
        tell = adversary(of("critic"), "discriminator")
        return line_3, *line_4, _step(generators, SYNTHETIC, config), tell, *fool, *localizing(SYNTHETIC)
    fool = [adversary(generators, "generator", *SYNTHETIC) for _ in range(config.generator_steps)]
    tell = adversary([*convolutions, *heads, *of("critic")], "discriminator", *SYNTHETIC)
    return line_3, *line_4, *fool, tell  # line 6: generators first


def _step(weights: Iterable[nn.Parameter], minimizes: tuple[str, ...], config: AherNetConfig, *, beta1: float = 0.9) -> Step:
    optimizer = Adam(weights, lr=config.learning_rate, betas=(beta1, 0.999))
    return Step(optimizer=optimizer, schedule=StepLR(optimizer, config.decay_every, config.decay), minimizes=minimizes)


def sample(labels: ArrayLike, config: AherNetConfig, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """A batch of videos and moments, each with equal chance, none twice; given what classes are in which [V, C]."""
    return rng.permutation(len(np.asarray(labels)))[: config.batch_size].astype(np.int64)


# ---- 3.5 prediction ----


def decode(outputs: Any, config: AherNetConfig) -> Found:
    """Segments of one video, the best ``config.most``.

    Args:
        outputs: ``AherNetOutput`` of arrays, B = 1.
        config: how scores are made and segments compete.
    """
    if isinstance(outputs, SnippetOutput):
        return decode_snippets(outputs, config)
    logits = np.asarray(outputs.classes[0], np.float64)
    sought = np.asarray(config.moment_classes or range(logits.shape[1]))
    probabilities = torch.from_numpy(logits[:, sought]).softmax(dim=1).numpy()  # p  [cells, C]
    if config.scored_by == "video":
        probabilities = np.broadcast_to(probabilities.mean(axis=0), probabilities.shape)
    offsets = torch.from_numpy(np.asarray(outputs.offsets[0], np.float64))
    center, width = refined(torch.from_numpy(anchors(config)), offsets, config=config).numpy().reshape(-1, 2).T
    overlap = torch.from_numpy(np.asarray(outputs.overlaps[0], np.float64)).sigmoid().numpy()  # y_ov  [cells, R]
    scores = (probabilities.max(axis=1)[:, None] * overlap).reshape(-1)  # s_f = max(p) y_ov
    labels = np.repeat(sought[probabilities.argmax(axis=1)], overlap.shape[1])
    segments = np.clip(np.stack([center - width / 2, center + width / 2], axis=1), 0, 1) * int(outputs.lengths[0])
    real = segments[:, 1] > segments[:, 0]
    present = np.unique(labels[real])
    members = [np.flatnonzero(real & (labels == label)) for label in present]
    left = [index[nms(segments[index], scores[index], tiou_threshold=config.nms_tiou)] for index in members]
    every = found([segments[index] for index in left], [scores[index] for index in left], present.tolist())
    return Found(every.segments[: config.most], every.scores[: config.most], every.classes[: config.most])


HEAD = Head(
    name="ahernet",
    config=AherNetConfig,
    network=network,
    loss=loss,
    decode=decode,
    sample=sample,
    steps=steps,
    draw=draw,
    begin=begin,
)
