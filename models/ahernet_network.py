"""AherNet's anchors and networks: Sections 3.1 to 3.3 of the paper that ``ahernet.py`` cites, and its configuration.

video [B, D, 512] -> conv1 conv2 pool -> a1 ... a8, of 128, 64, ... 1 cells -> for each cell: class (transferred weights),
for each of its three anchors: offsets, overlap, critic
moment [B, D, 256] -> the same layers -> each map's mean -> class (weights W_regv), one answer a layer
moment -> G1, G2 -> (G1, moment, G2) [B, D, 512] -> as a video
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["none", "relu", "leaky_relu", "elu"]
Variant = Literal["full", "0", "minus", "M", "A-", "star"]
Layer = TypeVar("Layer", nn.Conv1d, nn.Linear)

ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # slope 0.01, as in the paper that this one cites
    "elu": nn.ELU,
}
SAMPLES_PER_BIN = 3  # authors' code: a video is resized by the mean of so many interpolated places
MOST_LAYERS, MOST_LENGTH = 64, 1 << 16  # of the weight transfer and of moments, beyond which a configuration is damaged


@dataclass(frozen=True, kw_only=True)
class AherNetConfig:
    """Networks, losses, training and prediction. "Code" is a value of the authors' code on which the paper is silent.

    Attributes:
        variant: the runs of Tables 1 and 2: AherNet itself, AherNet^0 (``0``), AherNet^- (``minus``), AherNet_M (``M``),
            AherNet_A- (``A-``) and the oracle AherNet^* (``star``); ``ahernet.steps`` says what each learns from what.
        length: bins of a video (code): four times the first anchor layer's cells, the last of which has one.
        moment_length: bins of a moment before context is added (code).
        stem: channels of the two layers before the anchor layers (code).
        widths: channels of the anchor layers, one a layer (code); eight in the paper (3.1).
        ratios: r_d of Eq. 3 (4.2).
        transfer_layers: dense layers of the weight transfer (Table 1: two are best).
        transfer_activation: behind each of them (Table 1: ELU is best).
        context_activation: behind a generator's last layer (code); ``none`` for features that can be below 0.
        moment_fraction: least and largest share of a synthetic video that is the moment (code).
        alpha_center: alpha_1 of Eq. 5 (code); 1.0 in the paper (4.2), with which anchors get worse: see ``ahernet.py``.
        alpha_width: alpha_2 of Eq. 5, likewise.
        offset_loss: what L_of compares: the offsets with those that Eq. 5 would need (``encoded``; code), or refined anchors
            with instances, in shares of the video (``refined``; Eq. 6 as printed).
        foreground_iou: anchors that overlap more with an instance are foreground (3.3).
        background_iou: anchors that overlap less with all are background (3.3).
        best_is_foreground: whether the anchor that overlaps an instance most is foreground too, however little that is (not in
            the paper; as in SSD). Three in ten of THUMOS'14's instances (validation), and half of ActivityNet 1.3's, have an
            anchor that overlaps them by more than 0.8 and so teaches offsets.
        class_cells: whether all cells learn the class of the nearest instance (code), or those with a foreground anchor.
        moment_classes: the moment set's among all classes. Where they are named, each set has a softmax of its own (3.4), and
            only these are found (3.5); none: one softmax over all classes, and all are found.
        segment_weight: of L_reg; as it is.
        classification_weight: of L_cls (code).
        offset_weight: of L_of; as it is.
        overlap_weight: of L_ov (code); by the words of 3.4, as large as that of L_of.
        adversarial_weight: of L_ad (code).
        learning_rate: of Adam (4.2).
        decay: what the rate is multiplied by, "decreased by 10%" (4.2); 0.1 in the code ...
        decay_every: ... each so many iterations (4.2, the first two settings; ``ahernet.KINETICS`` has the third's).
        adversarial_beta1: of Adam, for the two adversarial steps (code).
        generator_steps: of the generators for one of the networks (Algorithm 1); 2 in the code.
        updates: who learns from what, when: as Algorithm 1 has it, or as the code, where L_cls, L_prop and L_ad are lessened
            one after the other.
        iterations: N of Algorithm 1 (code).
        start_iterations: of the model of untrimmed videos that line 1 starts from, where it has to be trained first; None: as
            many as ``iterations`` (open in the paper; 95,000 in the code).
        context_iterations: in which AherNet_A-'s generators learn real context (open in the paper).
        batch_size: videos and moments (4.2); foreground segments are beside them.
        moment_share: of those, how many are moments, where a run learns from both (open in the paper).
        foregrounds_per_video: foreground segments of each untrimmed video in a batch, drawn anew each time (open in the paper,
            which speaks of one; all of them are more than a GPU holds where a video has a hundred).
        max_snippets: videos are resized, not cut.
        scored_by: p of each cell for itself (3.5), or the mean over all cells, as in the code.
        thresholds: AherNet^0's "multi-threshold strategy".
        nms_tiou: 4.2.
        most: segments that are kept of a video (code).
    """

    variant: Variant = "full"
    length: int = 512
    moment_length: int = 256
    stem: tuple[int, int] = (2048, 1024)
    widths: tuple[int, ...] = (256, 256, 512, 512, 1024, 1024, 2048, 2048)
    ratios: tuple[float, ...] = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
    transfer_layers: int = 2
    transfer_activation: Activation = "elu"
    context_activation: Activation = "relu"
    moment_fraction: tuple[float, float] = (0.70, 0.95)
    alpha_center: float = 0.1
    alpha_width: float = 0.1
    offset_loss: Literal["refined", "encoded"] = "encoded"
    foreground_iou: float = 0.8
    background_iou: float = 0.3
    best_is_foreground: bool = False
    class_cells: Literal["all", "foreground"] = "all"
    moment_classes: tuple[int, ...] = ()
    segment_weight: float = 1.0
    classification_weight: float = 2.0
    offset_weight: float = 1.0
    overlap_weight: float = 25.0
    adversarial_weight: float = 0.1
    learning_rate: float = 1e-4
    decay: float = 0.9
    decay_every: int = 5000
    adversarial_beta1: float = 0.5
    generator_steps: int = 1
    updates: Literal["algorithm", "code"] = "algorithm"
    iterations: int = 15_000
    start_iterations: int | None = None
    context_iterations: int = 1000
    batch_size: int = 16
    moment_share: float = 0.5
    foregrounds_per_video: int = 1
    max_snippets: int | None = None
    scored_by: Literal["anchor", "video"] = "anchor"
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    nms_tiou: float = 0.9
    most: int = 100

    def __post_init__(self) -> None:
        if not self.widths or self.length != 2 ** (len(self.widths) + 1):
            raise ValueError(f"length must be 2 to the power of layers + 1, got {self.length} for {len(self.widths)} layers")
        if self.moment_length < 4 or not self.ratios:
            raise ValueError(f"moment_length must be at least 4 and there must be ratios, got {self.moment_length}")
        if not 0 < self.moment_fraction[0] <= self.moment_fraction[1] <= 1:
            raise ValueError(f"moment_fraction must rise within 0..1, got {self.moment_fraction}")
        if not 0 <= self.background_iou <= self.foreground_iou <= 1:
            raise ValueError(f"background_iou must not be above foreground_iou, got {self.background_iou:g}")
        if self.moment_length > MOST_LENGTH:
            raise ValueError(f"moment_length must be at most {MOST_LENGTH}, got {self.moment_length}")
        if self.transfer_layers > MOST_LAYERS:
            raise ValueError(f"transfer_layers must be at most {MOST_LAYERS}, got {self.transfer_layers}")
        if self.transfer_layers < 0 or self.generator_steps < 1 or min(self.alpha_center, self.alpha_width) <= 0:
            raise ValueError("transfer_layers must not be negative, generator_steps at least 1 and both alphas above 0")

        if not 0 < self.moment_share < 1 or self.batch_size < 2 or self.foregrounds_per_video < 0:
            raise ValueError(
                "moment_share must lie between 0 and 1, batch_size be at least 2, foregrounds_per_video at least 0"
            )
        if self.context_iterations < 0 or (self.start_iterations is not None and self.start_iterations < 1):
            raise ValueError("context_iterations must not be negative, and start_iterations at least 1")

    @property
    def cells(self) -> tuple[int, ...]:
        """T^j, cells of the anchor layers."""
        return tuple(self.length >> (layer + 2) for layer in range(len(self.widths)))

    @property
    def learns_from(self) -> tuple[bool, bool]:
        """Whether the run learns from untrimmed videos, and whether from moments (4.3, 4.4)."""
        return self.variant not in ("0", "M"), self.variant != "star"

    @property
    def starts(self) -> bool:
        """Whether the run starts from a model of the untrimmed videos (Algorithm 1, line 1)."""
        return self.variant in ("full", "A-")

    @property
    def transfers(self) -> int:
        """Dense layers of the weight transfer; AherNet^- has none."""
        return 0 if self.variant == "minus" else self.transfer_layers

    @property
    def placed(self) -> tuple[float, float]:
        """Share of a synthetic video that is the moment; all of it for AherNet_M, which knows no context."""
        return (1.0, 1.0) if self.variant == "M" else self.moment_fraction


@functools.cache
def anchors(config: AherNetConfig) -> NDArray[np.float64]:
    """Default center and width of all anchors as shares of the video, by layer, cell and ratio [cells, R, 2].

    They are not cut at the video's ends, as they are where overlaps are taken. The array is not to be changed.
    """
    of_layers = []
    for cells in config.cells:
        center = (np.arange(cells) + 0.5) / cells  # Eq. 3, m_c
        width = np.asarray(config.ratios) / cells  # Eq. 3, m_w
        of_layers.append(np.stack(np.broadcast_arrays(center[:, None], width), axis=-1))  # [T^j, R, 2]
    return np.concatenate(of_layers)


# ---- 3.1 base ----


def resized(features: Tensor, length: int) -> Tensor:
    """Rows of one video [T, D] as bins [D, length]: the means of three places in each, linearly interpolated; 0 of no rows."""
    if not len(features):
        return features.new_zeros(features.shape[1], length)
    places = F.interpolate(features.T[None], size=SAMPLES_PER_BIN * length, mode="linear", align_corners=False)
    return F.avg_pool1d(places, SAMPLES_PER_BIN)[0]


def _convolution(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Conv1d:
    return _begun(nn.Conv1d(in_channels, out_channels, 3, stride=stride, padding=1))


def _begun(layer: Layer) -> Layer:
    """A layer as it is before anything is learnt (code)."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


# ---- 3.2 weight transfer ----


class WeightTransfer(nn.Module):
    """T of Eq. 1: weights that tell a class's segments to weights that tell its anchors; the same for all classes.

    Args:
        dim: length of a class's weights.
        layers: dense layers, each the identity before anything is learnt (code); none: the weights as they are.
        activation: behind each of them.
    """

    def __init__(self, dim: int, *, layers: int, activation: Activation) -> None:
        super().__init__()
        dense = [nn.Linear(dim, dim) for _ in range(layers)]
        for layer in dense:
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(*itertools.chain.from_iterable((layer, ACTIVATIONS[activation]()) for layer in dense))

    def forward(self, weights: Tensor) -> Tensor:
        """W_regv [C, dim] as W_cls [C, dim]."""
        transferred: Tensor = self.layers(weights)
        return transferred


class AnchorLayer(nn.Module):
    """What belongs to one feature map: its convolution, its classes' weights, and the heads on its cells."""

    def __init__(self, in_channels: int, width: int, *, num_classes: int, config: AherNetConfig) -> None:
        super().__init__()
        ratios = len(config.ratios)
        self.convolution = _convolution(in_channels, width, stride=2)
        self.segment = _begun(nn.Linear(width, num_classes))  # W_regv^j
        self.transfer = WeightTransfer(width, layers=config.transfers, activation=config.transfer_activation)  # theta^j
        self.bias_transfer = WeightTransfer(1, layers=config.transfers, activation=config.transfer_activation)
        self.offset = _convolution(width, 2 * ratios)
        self.overlap = _convolution(width, ratios)
        self.critic = _convolution(width, ratios)

    def classes(self, maps: Tensor) -> Tensor:
        """Class logits of cells: maps [B, width, T^j] as [B, T^j, C]."""
        weight = self.transfer(self.segment.weight)  # Eq. 1
        bias = self.bias_transfer(self.segment.bias[:, None])[:, 0]
        return F.linear(maps.transpose(1, 2), weight, bias)


# ---- 3.3 context ----


class ContextGenerator(nn.Module):
    """G_1 or G_2: a moment [B, D, L] as what comes before or after it [B, D, L / 2]."""

    def __init__(self, dim: int, *, activation: Activation) -> None:
        super().__init__()
        inner = max(1, dim // 2)
        self.layers = nn.Sequential(
            _convolution(dim, inner), nn.ReLU(), _convolution(inner, dim, stride=2), ACTIVATIONS[activation]()
        )

    def forward(self, moments: Tensor) -> Tensor:
        """Moments [B, D, L] as their context [B, D, L / 2]."""
        context: Tensor = self.layers(moments)
        return context


class Placement(nn.Module):
    """Where moments lie in synthetic videos: anywhere while training, in the middle otherwise, as dropout does its part."""

    def __init__(self, config: AherNetConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, moments: Tensor) -> Tensor:
        """First bin and bin behind the last for each of B moments, int64 [B, 2]."""
        least, largest = self.config.placed
        chance = torch.rand(2, len(moments)) if self.training else torch.full((2, len(moments)), 0.5)
        width = (self.config.length * (least + (largest - least) * chance[0])).round()
        start = ((self.config.length - width) * chance[1]).round()
        return torch.stack([start, start + width], dim=1).long()


class Localization(NamedTuple):
    """What is said of the cells and anchors of videos, layer after layer.

    Attributes:
        classes: logits [B, cells, C].
        offsets: (delta c, delta w) [B, cells, R, 2].
        overlaps: logits of y_ov [B, cells, R].
        critics: logits of D, of being of a real video [B, cells, R].
    """

    classes: Tensor
    offsets: Tensor
    overlaps: Tensor
    critics: Tensor


class AherNetOutput(NamedTuple):
    """What the network makes of videos, and of the same as if each were a moment, which it is or is not.

    Attributes:
        lengths: snippets [B].
        classes, offsets, overlaps, critics: of the video, as in ``Localization``.
        segment: logits of the whole as one segment, by each layer [B, J, C].
        borders: of the moment within its synthetic video, as shares of that [B, 2].
        synthetic_classes, synthetic_offsets, synthetic_overlaps, synthetic_critics: of the synthetic video.
    """

    lengths: Tensor
    classes: Tensor
    offsets: Tensor
    overlaps: Tensor
    critics: Tensor
    segment: Tensor
    borders: Tensor
    synthetic_classes: Tensor
    synthetic_offsets: Tensor
    synthetic_overlaps: Tensor
    synthetic_critics: Tensor


class AherNet(nn.Module):
    """The 1-D ConvNet (``stem``, ``layers``) with its heads, weight transfer, generators and discriminators.

    Args:
        feature_dim: D.
        num_classes: C, of the moments and of the untrimmed videos.
        config: sizes.
    """

    def __init__(self, feature_dim: int, num_classes: int, *, config: AherNetConfig) -> None:
        super().__init__()
        self.config = config
        first, second = config.stem
        self.stem = nn.Sequential(
            _convolution(feature_dim, first), nn.ReLU(), _convolution(first, second), nn.ReLU(), nn.MaxPool1d(3, stride=2)
        )
        channels = itertools.pairwise((second, *config.widths))
        self.layers = nn.ModuleList(
            AnchorLayer(before, width, num_classes=num_classes, config=config) for before, width in channels
        )
        self.before = ContextGenerator(feature_dim, activation=config.context_activation)  # G_1
        self.after = ContextGenerator(feature_dim, activation=config.context_activation)  # G_2
        self.placement = Placement(config)

    def forward(self, features: Tensor, lengths: Tensor) -> AherNetOutput:
        """Videos [B, T, D], of which the first ``lengths`` [B] rows count."""
        rows = [video[: int(length)] for video, length in zip(features, lengths, strict=True)]
        moments = torch.stack([resized(video, self.config.moment_length) for video in rows])  # f_m
        synthetic, borders = self.synthesize(moments)
        return AherNetOutput(
            lengths,
            *self.localization(torch.stack([resized(video, self.config.length) for video in rows])),  # f_u
            self.segment_logits(moments),
            borders,
            *self.localization(synthetic),
        )

    def maps(self, videos: Tensor) -> list[Tensor]:
        """Feature maps of all anchor layers [B, width, T^j], of videos [B, D, L] of any length."""
        current, found = self.stem(videos), []
        for layer in self._layers():
            current = F.relu(layer.convolution(current))
            found.append(current)
        return found

    def segment_logits(self, moments: Tensor) -> Tensor:
        """Moments or foreground segments [B, D, L] as class logits of each layer [B, J, C] (3.2, global pooling)."""
        maps = self.maps(moments)
        return torch.stack([layer.segment(found.mean(dim=2)) for layer, found in zip(self._layers(), maps, strict=True)], dim=1)

    def localization(self, videos: Tensor) -> Localization:
        """Untrimmed or synthetic videos [B, D, length] as what is said of all cells."""
        ratios, of_layers = len(self.config.ratios), []
        for layer, maps in zip(self._layers(), self.maps(videos), strict=True):
            heads = (head(maps).transpose(1, 2) for head in (layer.offset, layer.overlap, layer.critic))  # [B, T^j, ...]
            offsets, overlaps, critics = heads
            of_layers.append((layer.classes(maps), offsets.unflatten(2, (ratios, 2)), overlaps, critics))
        return Localization(*(torch.cat(parts, dim=1) for parts in zip(*of_layers, strict=True)))

    def synthesize(self, moments: Tensor) -> tuple[Tensor, Tensor]:
        """Moments [B, D, L] with context on both sides (Eq. 2): videos [B, D, length], and where they lie in them [B, 2]."""
        places = self.placement(moments)
        contexts = zip(self.before(moments), moments, self.after(moments), strict=True)
        videos = []
        for parts, (start, end) in zip(contexts, places.tolist(), strict=True):
            widths = (start, end - start, self.config.length - end)
            scaled = [
                F.interpolate(part[None], size=width, mode="linear", align_corners=False)
                for part, width in zip(parts, widths, strict=True)
                if width
            ]
            videos.append(torch.cat(scaled, dim=2))  # Eq. 2, A
        return torch.cat(videos), (places / self.config.length).to(moments)

    def start_from(self, trained: AherNet) -> None:
        """Initialize the 1-D ConvNet and its offsets and overlaps with a model of other classes (Algorithm 1, line 1)."""
        self.stem.load_state_dict(trained.stem.state_dict())
        for own, other in zip(self._layers(), trained._layers(), strict=True):
            for name in ("convolution", "offset", "overlap"):
                getattr(own, name).load_state_dict(getattr(other, name).state_dict())

    def _layers(self) -> list[AnchorLayer]:
        return list(self.layers)  # type: ignore[arg-type]
