"""AutoLoc: Weakly-supervised Temporal Action Localization in Untrimmed Videos.

Shou, Gao, Zhang, Miyazawa & Chang, ECCV 2018 (arXiv:1807.08333). A classification branch, learnt from labels of whole videos,
says how active each class is over time. A localization branch regresses segments, and is taught where actions begin and end by
nothing but that activation: it must be high within a segment and low around it (outer-inner-contrastive loss, OIC).

    features [T, D] -+- S: UntrimmedNet's two layers -> class scores, attention -> class activation sequence (CAS) f [T, K]
                     +- B: three temporal convolutions, one more -> (t_x, t_w) for each of M anchors [T, M, 2]
                            -> inner boundary [x1, x2] -> inflated to the outer boundary [X1, X2] -> OIC by the CAS

Notation: f_k(x) activation of class k at snippet x; A_i, A_o mean activation in the inner and in the outer area; s_x a place;
w_a an anchor's length; alpha the inflation. Boundaries name snippets and both ends belong to a segment (Eq. 1 counts
x2 - x1 + 1 of them); what is found therefore goes from x1 to x2 + 1 as borders.

Open in the paper, whose supplement we do not have, or otherwise in the authors' code (``AUTHORS_CODE``, and
``AUTHORS_CODE_ACTIVITYNET`` for ActivityNet v1.2, where rate and length of the training are not the paper's either):

- *S* is an UntrimmedNet trained beforehand, pictures and flow each with a network of its own. Here its two layers a stream are
  learnt on given features, by soft selection after UntrimmedNet (Wang et al., CVPR 2017): the video's class distribution is the
  snippets' softmax scores, weighted by the softmax of attention over time, and its cross-entropy with the labels is minimised.
  The first ``classification_iterations`` train S only, the rest B only; Adam and its rate are a choice of this module.
- *The gate.* The paper sets scores to 0 where attention is lower than 7. Softmax takes no notice of a constant, so such a
  number belongs to one trained network, which is not ours: by default a snippet passes if its share of the video's attention
  is half of an even one at least. ``gate="score"`` is the paper's: streams are averaged first. Their code gates each: a score
  is multiplied by the share of the streams whose attention is enough (``gate="streams"``).
- *Clipping.* [x1, x2] is kept in the video, [X1, X2] within one snippet beyond it, where the activation is taken to be 0, so
  that a segment always has an outer area, of one snippet at least on either side (as in their code). Gradients pass as if
  nothing had been clipped (their code), except those that lead further out: a segment that touches an end of the video would
  grow without end, the faster the longer it is. The w that is inflated is what clipping has left, and gradients pass through
  it; their code inflates first, lets a segment reach one snippet further out, and takes the margin for a constant.
- *Rounding* is to the nearest snippet, up from the middle; theirs is down (``rounding``). *What is reported* are the borders of
  x1 and x2, which the paper converts "before rounding", both snippets included; their code rounds, then has the segment end
  where its last snippet begins (``last_snippet``; it adds a frame at either end, too, which is left out).
- *Layers.* ReLU, and 3 snippets for the last convolution; in their code LeakyReLU (0.1) and 1. That convolution's weights begin
  small, N(0, 0.01), those of the others as He's, ICCV 2015 (their code). Weights decay alike; in their code the last
  convolution's twice as fast, and its biases do not.
- *Batch normalization* counts snippets of videos, not the padding. A batch is one video, so what is known at test time is the
  mean over all videos of the training, each as much as the others (their Caffe's, nearly, which forgets by a thousandth a
  video): a mean that forgets by a tenth knows ten videos.
- *The loss* is the sum over the predictions that are kept in the paper; in their code, and here by default, the mean of
  (OIC + 1) / 2 over them. At the paper's learning rate the sum drives all boundaries apart within some tens of videos: measured
  on made features, where the mean leaves every action found, by fewer segments. Their code also keeps OIC up to 0.4 instead of
  -0.3. One video a batch, drawn at random; the paper goes through all of them once.
- *Lengths*: their configuration for THUMOS14 chooses anchors by (1 - OIC) times the likelihood of the length, a normal
  distribution for each class, fitted to the true segments of the validation set. That is not learning from labels of videos,
  and is done only where ``lengths`` says what they are (``lengths_of`` fits them).
- *Ablations* (5.4): ``proposals="all"`` is OIC selection: every segment there is competes, whatever is active at its middle.
  ``objective="inner"`` drops the outer area: the loss is -A_i, and scores and thresholds go by it in the same way.
  ``direct_optimization`` trains B anew on the video itself, on all classes, and normalizes by the video's own statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from tal_run.models.head import Batch, Found, Head, HeadError, Step, found, labelled_videos
from tal_run.models.postprocess import nms
from tal_run.models.wtalc import is_inside

MOST_STREAMS = 64  # networks side by side; nobody has more than two
CHUNK = 1 << 20  # segments that OIC selection looks at at once

A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class AutoLocConfig:
    """The method's numbers; the paper's for THUMOS14, in 4.2, 4.3 and 5.2, where nothing else is said.

    Attributes:
        streams: parts of equal width that the features consist of, each with classifier and attention of its own.
        gate: what tells whether attention is enough: its ``score``, that of each of the ``streams`` for itself, or its
            ``share`` of the video's, 1 being an even one.
        gate_threshold: what it must be at least; 7 for ``score`` in the paper.
        anchors: w_a, snippets.
        channels: of each convolution of B.
        leak: slope of its rectifiers below 0.
        pred_kernel: snippets that its last convolution sees.
        inflation: alpha.
        rounding: of boundaries to snippets: to the ``nearest``, or ``down`` as in the authors' code.
        last_snippet: whether a segment's last snippet is part of what is reported (not in the authors' code).
        min_activation: positions with less are not looked at.
        max_loss: segments with a higher loss are dropped.
        nms_tiou: segments that overlap a better one of their class by more are dropped.
        lengths: mean and standard deviation of each class's lengths, snippets, by which anchors are chosen as in the authors'
            code for THUMOS14; none: by the loss alone, as in the paper.
        top_classes: at test time, look for so many classes of a video, those with the largest mean activation; None: all.
        objective: the contrast of Eq. 1, or its inner area alone.
        proposals: segments by B, or all that there are.
        average: take the mean of a video's losses (authors' code) instead of their sum (the paper).
        learning_rate: of B, by SGD without momentum.
        decay_every: iterations after which it falls to a tenth.
        weight_decay: of B.
        localization_iterations: of B; one for each video of the training set.
        classification_learning_rate: of S, by Adam (a choice of this module).
        classification_iterations: of S, before B begins (a choice of this module).
        max_snippets: longer videos are cut to so many in training; None: never.
    """

    streams: int = 2
    gate: Literal["share", "score", "streams"] = "share"
    gate_threshold: float = 0.5
    anchors: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    channels: int = 128
    leak: float = 0.0
    pred_kernel: int = 3
    inflation: float = 0.25
    rounding: Literal["nearest", "down"] = "nearest"
    last_snippet: bool = True
    min_activation: float = 0.1
    max_loss: float = -0.3
    nms_tiou: float = 0.4
    lengths: tuple[tuple[float, float], ...] = ()
    top_classes: int | None = None
    objective: Literal["oic", "inner"] = "oic"
    proposals: Literal["network", "all"] = "network"
    average: bool = True
    learning_rate: float = 1e-3
    decay_every: int = 200
    weight_decay: float = 5e-4
    localization_iterations: int = 200
    classification_learning_rate: float = 1e-3
    classification_iterations: int = 2_000
    max_snippets: int | None = None

    def __post_init__(self) -> None:
        counts = (self.streams, self.channels, self.decay_every, 1 if self.top_classes is None else self.top_classes)
        if min(counts) < 1 or not self.anchors or min(self.anchors) < 1:
            raise ValueError(f"streams, channels, decay_every, top_classes and anchors must be at least 1, got {self}")
        if self.streams > MOST_STREAMS:
            raise ValueError(f"streams must be at most {MOST_STREAMS}, got {self.streams}")
        if self.pred_kernel < 1 or self.pred_kernel % 2 == 0:
            raise ValueError(f"pred_kernel must be odd, got {self.pred_kernel}")
        if not (0 <= self.nms_tiou <= 1 and self.inflation >= 0):
            raise ValueError(
                f"nms_tiou must lie in 0..1 and inflation not be negative, got {self.nms_tiou:g}, {self.inflation:g}"
            )
        if any(not spread > 0 for _, spread in self.lengths):
            raise ValueError(f"the standard deviations of lengths must be above 0, got {self.lengths}")

    @property
    def iterations(self) -> int:
        """Of training, of both branches."""
        return self.classification_iterations + self.localization_iterations


# the paper's numbers for ActivityNet v1.2
ACTIVITYNET = AutoLocConfig(anchors=(16, 32, 64, 128, 256, 512), localization_iterations=4_819)
# the numbers of the authors' code for THUMOS14, where they are not the paper's
AUTHORS_CODE = AutoLocConfig(
    gate="streams",
    gate_threshold=7.0,
    leak=0.1,
    pred_kernel=1,
    rounding="down",
    last_snippet=False,
    max_loss=0.4,
    top_classes=2,
)
# ... and for ActivityNet v1.2, of which 4,706 videos could still be had
AUTHORS_CODE_ACTIVITYNET = replace(AUTHORS_CODE, anchors=ACTIVITYNET.anchors, localization_iterations=4_706, decay_every=500)


class Outputs(NamedTuple, Generic[A]):
    """What the network makes of videos, of S streams and M anchors.

    Attributes:
        class_logits: [B, S, T, K].
        attention: before its softmax over time [B, S, T].
        cas: class activation sequences f, in 0..1 [B, T, K]; they pass no gradient on.
        offsets: t_x, t_w of each anchor [B, T, M, 2].
    """

    class_logits: A
    attention: A
    cas: A
    offsets: A


class AutoLoc(nn.Module):
    """Features in; class activation sequences and boundary regressions out.

    Args:
        feature_dim: D, a multiple of the streams.
        num_classes: K.
        config: streams, gate and layers.

    Raises:
        HeadError: the features cannot be parted into the streams.
    """

    def __init__(self, feature_dim: int, num_classes: int, *, config: AutoLocConfig) -> None:
        super().__init__()
        if feature_dim % config.streams:
            raise HeadError(
                f"features {feature_dim} wide are not {config.streams} streams of one width: say how many there are"
            )
        self.config = config
        width = feature_dim // config.streams
        self.classifiers = nn.ModuleList(nn.Linear(width, num_classes) for _ in range(config.streams))
        self.attentions = nn.ModuleList(nn.Linear(width, 1) for _ in range(config.streams))
        self.boundaries = LocalizationBranch(feature_dim, config=config)

    def forward(self, features: Tensor, lengths: Tensor) -> Outputs[Tensor]:
        """Features [B, T, D] of videos of so many snippets [B]."""
        streams = features.chunk(len(self.classifiers), dim=2)
        class_logits = torch.stack([layer(stream) for layer, stream in zip(self.classifiers, streams, strict=True)], dim=1)
        attention = torch.cat([layer(stream) for layer, stream in zip(self.attentions, streams, strict=True)], dim=2).mT
        with torch.no_grad():
            cas = gated_scores(class_logits, attention, lengths, config=self.config)
        return Outputs(class_logits, attention, cas, self.boundaries(features, lengths))


class LocalizationBranch(nn.Module):
    """B: features [B, T, D] as the regressions (t_x, t_w) of M anchors at each snippet [B, T, M, 2]."""

    def __init__(self, feature_dim: int, *, config: AutoLocConfig) -> None:
        super().__init__()
        widths = (feature_dim, config.channels, config.channels, config.channels)
        self.convolutions = nn.ModuleList(nn.Conv1d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(config.channels, momentum=None) for _ in widths[1:])
        self.rectifier = nn.LeakyReLU(config.leak)  # with no leak, a ReLU
        count = 2 * len(config.anchors)
        self.pred = nn.Conv1d(config.channels, count, config.pred_kernel, padding=config.pred_kernel // 2)
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Conv1d)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.normal_(self.pred.weight, std=0.01)
        nn.init.zeros_(self.pred.get_parameter("bias"))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features [B, T, D] of videos of so many snippets [B]."""
        inside = is_inside(lengths, features.shape[1])[:, :, 0]  # [B, T]
        maps = torch.where(inside[:, None], features.mT, 0.0)  # [B, D, T]; behind a video's end is what is before its start
        if not maps.shape[2]:
            return maps.new_zeros(len(maps), 0, self.pred.out_channels // 2, 2)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            maps = self.rectifier(_normalized(convolution(maps), inside, norm))
            maps = torch.where(inside[:, None], maps, 0.0)
        offsets: Tensor = self.pred(maps)  # [B, 2 M, T]
        return offsets.mT.reshape(len(maps), maps.shape[2], -1, 2)


def gated_scores(class_logits: Tensor, attention: Tensor, lengths: Tensor, *, config: AutoLocConfig) -> Tensor:
    """The class activation sequences (4.2): the streams' mean softmax scores, 0 where there is too little attention.

    Args:
        class_logits: [B, S, T, K].
        attention: [B, S, T].
        lengths: [B].
        config: the gate.

    Returns:
        [B, T, K], 0 behind a video's end.
    """
    inside = is_inside(lengths, attention.shape[2])  # [B, T, 1]
    scores = class_logits.softmax(dim=3).mean(dim=1)  # [B, T, K]
    if config.gate == "share":
        attended = _over_time(attention, lengths).exp() * lengths[:, None, None]
    else:
        attended = attention
    if config.gate == "streams":
        passes = (attended >= config.gate_threshold).to(scores).mean(dim=1)[:, :, None]  # share of them [B, T, 1]
    else:
        passes = (attended.mean(dim=1) >= config.gate_threshold)[:, :, None].to(scores)
    return torch.where(inside, scores * passes, 0.0)


def soft_selection_loss(class_logits: Tensor, attention: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
    """UntrimmedNet's loss with soft selection: cross-entropy of the labels and the attended class scores of a video.

    Args:
        class_logits: [B, S, T, K].
        attention: [B, S, T].
        lengths: [B], at least 1.
        labels: 0 and 1 [B, K]; a video without any adds nothing.

    Returns:
        Scalar, the mean over streams and videos.
    """
    attended = _over_time(attention, lengths)[..., None] + class_logits.log_softmax(dim=3)  # [B, S, T, K]
    of_video = torch.where(is_inside(lengths, attention.shape[2])[:, None], attended, -torch.inf).logsumexp(dim=2)
    wanted = labels / labels.sum(dim=1, keepdim=True).clamp(min=1)
    return -(wanted[:, None] * of_video).sum(dim=2).mean()


def oic_loss(cas: Tensor, inner: Tensor, outer: Tensor) -> Tensor:
    """The outer-inner-contrastive loss of segments by a class's activation (Eq. 1), differentiable by their boundaries.

    Args:
        cas: f_k [T]; it gets no gradient.
        inner: x1, x2 [N, 2], snippet indices, both ends included; continuous, and rounded to the nearest snippet.
        outer: X1, X2 [N, 2], around them.

    Returns:
        A_o - A_i [N]. Where the outer area is empty, A_o is taken to be 0, and so is its gradient.

    Raises:
        ValueError: boundaries do not lie as 0 <= X1 <= x1 <= x2 <= X2 <= T - 1 when rounded.
    """
    loss: Tensor = _Contrast.apply(cas.detach(), inner, outer, True)  # type: ignore[no-untyped-call]
    return loss


def inner_loss(cas: Tensor, inner: Tensor) -> Tensor:
    """The inner area's part of ``oic_loss``, -A_i [N]: the ablation of 5.4 that looks at no context."""
    loss: Tensor = _Contrast.apply(cas.detach(), inner, inner, False)  # type: ignore[no-untyped-call]
    return loss


class _Contrast(torch.autograd.Function):
    """Eq. 1 forward, Eq. 2-5 backward; without the contrast, their inner area's part. o1, o2 are the paper's X1, X2."""

    @staticmethod
    def forward(ctx: Any, cas: Tensor, inner: Tensor, outer: Tensor, contrast: bool) -> Tensor:
        activation = cas.double()  # differences of sums over hours must not be rounded away
        (x1, x2), (o1, o2) = _nearest(inner).unbind(1), _nearest(outer).unbind(1)
        places = torch.stack([torch.zeros_like(o1), o1, x1, x2, o2, torch.full_like(o2, len(cas) - 1)])  # [6, N]
        if (wrong := (places.diff(dim=0) < 0).any(dim=0).nonzero()[:, 0]).numel():
            first = int(wrong[0])
            raise ValueError(
                f"boundaries must lie as 0 <= X1 <= x1 <= x2 <= X2 <= {len(cas) - 1} when rounded, got {inner[first].tolist()} "
                f"in {outer[first].tolist()}"
            )
        area = F.pad(activation.cumsum(0), (1, 0))
        inner_sum, inner_length = area[x2 + 1] - area[x1], x2 - x1 + 1
        outer_sum, outer_length = area[o2 + 1] - area[o1] - inner_sum, o2 - o1 + 1 - inner_length
        inside = inner_sum / inner_length  # A_i
        outside = outer_sum / outer_length.clamp(min=1)  # A_o
        per_outer = torch.where(outer_length > 0, 1 / outer_length.clamp(min=1).double(), 0.0)
        ctx.save_for_backward(activation, x1, x2, o1, o2, inside, outside, 1 / inner_length.double(), per_outer)
        ctx.contrast, ctx.dtype = contrast, inner.dtype
        return ((outside if contrast else 0) - inside).to(inner.dtype if inner.is_floating_point() else cas.dtype)  # Eq. 1

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[None, Tensor, Tensor, None]:
        f, x1, x2, o1, o2, inside, outside, per_inner, per_outer = ctx.saved_tensors
        if not ctx.contrast:
            per_outer = torch.zeros_like(per_outer)
        by_x1 = (f[x1] - outside) * per_outer - (inside - f[x1]) * per_inner  # Eq. 2
        by_x2 = (outside - f[x2]) * per_outer - (f[x2] - inside) * per_inner  # Eq. 3
        by_o1 = (outside - f[o1]) * per_outer  # Eq. 4
        by_o2 = (f[o2] - outside) * per_outer  # Eq. 5
        inner = gradients[0][:, None] * torch.stack([by_x1, by_x2], dim=1)
        outer = gradients[0][:, None] * torch.stack([by_o1, by_o2], dim=1)
        return None, inner.to(ctx.dtype), outer.to(ctx.dtype), None


class _Clipped(torch.autograd.Function):
    """Values kept in a range; gradients pass unless descent would lead them further out of it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(values < low, values > high)
        return values.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        (gradient,), (below, above) = gradients, ctx.saved_tensors
        return gradient.masked_fill((below & (gradient > 0)) | (above & (gradient < 0)), 0.0), None, None


def segments_of(offsets: Tensor, *, config: AutoLocConfig) -> tuple[Tensor, Tensor]:
    """Boundary regression and inflation (4.3), clipped to the video.

    Args:
        offsets: t_x, t_w [T, M, 2].
        config: anchors and inflation.

    Returns:
        Inner boundaries x1, x2 within 0..T - 1 and outer boundaries X1, X2 within -1..T, each [T, M, 2].
    """
    count = len(offsets)
    position = torch.arange(count, device=offsets.device)[:, None]  # s_x [T, 1]
    anchor = torch.tensor(config.anchors, device=offsets.device)  # w_a [M]
    center = position + anchor * offsets[..., 0]  # c_x [T, M]
    half = anchor * offsets[..., 1].exp() / 2  # w / 2
    inner = _clipped(torch.stack([center - half, center + half], dim=2), 0, count - 1)
    return inner, inflated(inner, count, inflation=config.inflation)


def inflated(inner: Tensor, count: int, *, inflation: float) -> Tensor:
    """Outer boundaries of inner ones [..., 2], in a video of so many snippets: larger by the ratio and by one at least."""
    margin = (inflation * (inner[..., 1] - inner[..., 0])).clamp(min=1)
    return _clipped(torch.stack([inner[..., 0] - margin, inner[..., 1] + margin], dim=-1), -1, count)


def lengths_of(durations: ArrayLike, classes: ArrayLike, *, num_classes: int) -> tuple[tuple[float, float], ...]:
    """Mean and standard deviation of each class's true lengths, for ``AutoLocConfig.lengths``.

    Of a class with fewer than two lengths, or with one alone, those of all classes; half a snippet at least.

    Args:
        durations: snippets [N], one at least.
        classes: [N].
        num_classes: K.
    """
    spans, kinds = np.asarray(durations, np.float64), np.asarray(classes)
    of_classes = [spans[kinds == label] for label in range(num_classes)]
    fitted = [found if len(found) > 1 else spans for found in of_classes]
    return tuple((float(found.mean()), max(0.5, float(found.std()))) for found in fitted)


def select(
    cas: Tensor, inner: Tensor, outer: Tensor, *, config: AutoLocConfig, length: tuple[float, float] | None = None
) -> tuple[Tensor, Tensor]:
    """The OIC layer (4.3) for one class: which predictions are kept, best first.

    Args:
        cas: [T].
        inner: [T, M, 2].
        outer: [T, M, 2].
        config: thresholds.
        length: mean and standard deviation of the class's lengths, if anchors are to be chosen by them too.

    Returns:
        Indices among the T x M predictions [N], and their losses [N], which pass gradients on to the boundaries.
    """
    anchors = inner.shape[1]
    with torch.no_grad():
        positions = (cas >= config.min_activation).nonzero()[:, 0]
        losses = _losses(cas, inner[positions].flatten(0, 1), outer[positions].flatten(0, 1), config=config)
        lowest, which = losses, losses.long()
        if len(positions):
            worth = 1 - losses.view(-1, anchors)
            if length is not None:
                spans = inner[positions, :, 1] - inner[positions, :, 0] + int(config.last_snippet)
                worth = worth * (-0.5 * ((spans - length[0]) / length[1]).square()).exp()  # authors' code
            which = worth.argmax(dim=1)
            lowest = losses.view(-1, anchors).gather(1, which[:, None])[:, 0]
        likely = lowest <= config.max_loss
        indices = (positions * anchors + which)[likely]
        borders = _borders(inner.flatten(0, 1)[indices], config=config)
        kept = nms(borders, (1 - lowest[likely]).cpu().numpy(), tiou_threshold=config.nms_tiou)
        indices = indices[torch.from_numpy(kept).to(indices.device)]
    return indices, _losses(cas, inner.flatten(0, 1)[indices], outer.flatten(0, 1)[indices], config=config)


def localization_loss(cas: Tensor, offsets: Tensor, classes: Sequence[int], *, config: AutoLocConfig) -> Tensor:
    """What the OIC layer makes B learn from one video, for the classes that it has.

    Args:
        cas: [T, K].
        offsets: [T, M, 2].
        classes: indices.
        config: thresholds.

    Returns:
        Scalar: the losses of all predictions kept, summed, or averaged as (OIC + 1) / 2; 0 if none is.
    """
    inner, outer = segments_of(offsets, config=config)
    losses = torch.cat(
        [offsets.new_zeros(0), *(select(cas[:, k], inner, outer, config=config, length=_length(config, k))[1] for k in classes)]
    )
    if config.average and len(losses):
        return (losses.mean() + 1) / 2
    return losses.sum() + 0 * offsets.sum()  # so that there is a gradient, if one of zeros


def loss(outputs: Outputs[Tensor], batch: Batch, *, config: AutoLocConfig) -> dict[str, Tensor]:
    """UntrimmedNet's loss for S, the mean over videos; the OIC loss for B, summed over videos."""
    classification = soft_selection_loss(outputs.class_logits, outputs.attention, batch.lengths, batch.labels)
    of_videos = [
        localization_loss(cas[:length], offsets[:length], labels.nonzero()[:, 0].tolist(), config=config)
        for cas, offsets, length, labels in zip(outputs.cas, outputs.offsets, batch.lengths, batch.labels, strict=True)
    ]
    return {"classification": classification, "localization": torch.stack(of_videos).sum()}


def decode(outputs: Outputs[NDArray[np.float32]], config: AutoLocConfig) -> Found:
    """Segments of every class by the OIC layer, scored 1 - OIC."""
    cas, offsets = torch.from_numpy(np.array(outputs.cas[0])), torch.from_numpy(np.array(outputs.offsets[0]))
    if not len(cas):
        return found((), (), ())
    if config.proposals == "all":
        return oic_selection(outputs.cas[0], config=config)
    return _found(cas, offsets, config=config)


def oic_selection(cas: ArrayLike, *, config: AutoLocConfig) -> Found:
    """The ablation without B: of all segments of a video, those whose loss is low and that overlap no better one.

    Args:
        cas: [T, K].
        config: thresholds; ``min_activation`` and the anchors have no part in this.
    """
    activation = torch.from_numpy(np.array(cas))
    segments, scores, classes = [], [], _classes(activation, config=config)
    for label in classes:
        likely, worth = [np.empty((0, 2))], [np.empty(0)]
        for inner in _all_segments(len(activation)):
            outer = inflated(inner, len(activation), inflation=config.inflation)
            losses = _losses(activation[:, label], inner, outer, config=config)
            likely.append(_borders(inner[losses <= config.max_loss], config=config))
            worth.append(1 - losses[losses <= config.max_loss].numpy())
        borders, score = np.concatenate(likely), np.concatenate(worth)
        kept = nms(borders, score, tiou_threshold=config.nms_tiou)
        kept = kept[borders[kept, 1] > borders[kept, 0]]
        segments.append(borders[kept])
        scores.append(score[kept])
    return found(segments, scores, classes)


def direct_optimization(
    network: AutoLoc, features: ArrayLike, *, config: AutoLocConfig, iterations: int = 25, seed: int = 0
) -> Found:
    """The ablation that trains B from scratch on the video in which actions are sought.

    Args:
        network: whose S makes the class activation sequence; it is left as it is.
        features: [T, D].
        config: thresholds and B's training.
        iterations: the paper's, on ActivityNet.
        seed: of B's first weights.
    """
    device = next(network.parameters()).device
    video = torch.from_numpy(np.array(features, np.float32))[None].to(device)  # [1, T, D]
    lengths = torch.tensor([video.shape[1]], device=device)
    was_training = network.training
    with torch.no_grad():
        cas = network.eval()(video, lengths).cas[0]
    network.train(was_training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        branch = LocalizationBranch(video.shape[2], config=config).to(device)
    sgd = torch.optim.SGD(branch.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    for _ in range(iterations):
        sgd.zero_grad()
        localization_loss(cas, branch(video, lengths)[0], _classes(cas, config=config), config=config).backward()  # type: ignore[no-untyped-call]
        sgd.step()
    with torch.no_grad():
        return _found(cas, branch(video, lengths)[0], config=config)


def sample(labels: ArrayLike, config: AutoLocConfig, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """A batch: one video, any of those that have one of the labels [V, K]. Raises HeadError: none has."""
    return rng.choice(labelled_videos(labels), 1)


def steps(network: nn.Module, config: AutoLocConfig) -> tuple[Step, ...]:
    """Adam for S first; then SGD for B, with a rate that falls to a tenth again and again."""
    assert isinstance(network, AutoLoc)
    layers = [*network.classifiers.parameters(), *network.attentions.parameters()]
    adam = torch.optim.Adam(layers, lr=config.classification_learning_rate)
    sgd = torch.optim.SGD(network.boundaries.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    first = config.classification_iterations

    def of_localization(iteration: int) -> float:
        return 0.0 if iteration < first else 0.1 ** ((iteration - first) // config.decay_every)

    return (
        Step(
            optimizer=adam,
            schedule=LambdaLR(adam, lambda iteration: float(iteration < first)),
            minimizes=("classification",),
        ),
        Step(optimizer=sgd, schedule=LambdaLR(sgd, of_localization), minimizes=("localization",)),
    )


def _found(cas: Tensor, offsets: Tensor, *, config: AutoLocConfig) -> Found:
    """Of one video, by its class activation sequences [T, K] and B's regressions [T, M, 2]."""
    inner, outer = segments_of(offsets, config=config)
    segments, scores, classes = [], [], _classes(cas, config=config)
    for label in classes:
        indices, losses = select(cas[:, label], inner, outer, config=config, length=_length(config, label))
        borders = _borders(inner.flatten(0, 1)[indices], config=config)
        real = borders[:, 1] > borders[:, 0]  # without its last snippet, one of a single snippet is nothing
        segments.append(borders[real])
        scores.append((1 - losses.cpu().numpy().astype(np.float64))[real])
    return found(segments, scores, classes)


def _length(config: AutoLocConfig, label: int) -> tuple[float, float] | None:
    return config.lengths[label] if config.lengths else None


def _classes(cas: Tensor, *, config: AutoLocConfig) -> list[int]:
    """Classes that are looked for in a video with these activations [T, K]."""
    if config.top_classes is None:
        return list(range(cas.shape[1]))
    best: list[int] = cas.mean(dim=0).sort(descending=True, stable=True).indices[: config.top_classes].tolist()
    return sorted(best)


def _all_segments(count: int) -> Iterator[Tensor]:
    """All ranges of snippets [N, 2] in 0..count - 1, both ends included, in portions."""
    rows = max(1, CHUNK // count)
    for first in range(0, count, rows):
        starts, ends = np.mgrid[first : min(first + rows, count), 0:count]
        yield torch.from_numpy(np.stack([starts, ends], axis=-1)[ends >= starts].astype(np.float64))


def _losses(cas: Tensor, inner: Tensor, outer: Tensor, *, config: AutoLocConfig) -> Tensor:
    """Losses [N] of segments in a video that goes on beyond its ends with an activation [T] of 0."""
    beyond = F.pad(cas, (1, 1))
    shift = 1.0 if config.rounding == "nearest" else 0.5  # half a snippet less, and what is nearest is what is below
    inner, outer = inner + shift, outer + shift
    return oic_loss(beyond, inner, outer) if config.objective == "oic" else inner_loss(beyond, inner)


def _borders(inner: Tensor, *, config: AutoLocConfig) -> NDArray[np.float64]:
    """What is reported of inner boundaries [N, 2], and competes: borders in snippets."""
    first_last = inner.detach().cpu().numpy().astype(np.float64)
    if config.rounding == "down":
        first_last = np.floor(first_last)
    return np.asarray(first_last + (0, 1) if config.last_snippet else first_last)


def _nearest(values: Tensor) -> Tensor:
    return (values + 0.5).floor().long()


def _clipped(values: Tensor, low: float, high: float) -> Tensor:
    kept: Tensor = _Clipped.apply(values, low, high)  # type: ignore[no-untyped-call]
    return kept


def _over_time(attention: Tensor, lengths: Tensor) -> Tensor:
    """Log softmax of attention [B, S, T] over each video's snippets, minus infinity behind its end."""
    inside = is_inside(lengths, attention.shape[2]).mT  # [B, 1, T]
    return attention.masked_fill(~inside, -torch.inf).log_softmax(dim=2)


def _normalized(maps: Tensor, inside: Tensor, norm: nn.Module) -> Tensor:
    """Batch normalization of maps [B, C, T] over the snippets that are inside [B, T]; of a single one, by what is known."""
    assert isinstance(norm, nn.BatchNorm1d)
    rows = maps.mT[inside]  # [N, C]
    if norm.training and len(rows) == 1:
        rows = F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    else:
        rows = norm(rows)
    normalized = maps.new_zeros(maps.mT.shape).masked_scatter(inside[:, :, None], rows)
    return normalized.mT


HEAD = Head(name="autoloc", config=AutoLocConfig, network=AutoLoc, loss=loss, decode=decode, sample=sample, steps=steps)
