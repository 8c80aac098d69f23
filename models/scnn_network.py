"""S-CNN's windows and networks: Sections 3.1 of the paper that ``scnn.py`` cites, and its configuration.

A trunk makes a vector of a segment: C3D up to fc7, as in the paper, or what stands in for it. What can be done to each step
alone is done once for all segments that hold it (``embed``).

    C3DTrunk       frames, RGB [N, 16, H, W, 3]            -> fc7 [N, 4096]
    StarterTrunk   frames, grey or RGB [N, S, H, W(, 3)]   -> the starter network's features [N, 256]; for CPUs
    SequenceTrunk  rows of features [N, S, D]              -> C3D's order of things in one dimension [N, width]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tal_run.extractors.c3d import C3D, CLIP, DROPOUT, FEATURE_DIM

if TYPE_CHECKING:
    from tal_run.extractors.starter_network import StarterNetwork

LEAST_SHARE = 1e-6  # of a window's length in the prior: its logarithm must be finite


@dataclass(frozen=True, kw_only=True)
class ScnnConfig:
    """Windows, training and prediction.

    Attributes:
        trunk: what the networks are made of: ``c3d`` on frames (3.1), ``starter`` on frames where there is no GPU, ``rows`` on
            features, as they are stored.
        pretrained: on frames, whether trunks begin with published weights (3.2: C3D's of Sports-1M) and learn slowly.
        window_frames: lengths of windows (3.1), rising.
        window_overlap: share of a window that the next one covers too (3.1).
        step_frames: frames from one step to the next: 1 where the steps are frames, 16 as the backbones make features.
        segment_steps: steps that are taken from a window (3.1).
        width: of the layers of a ``SequenceTrunk`` (not in the paper).
        positive_iou: a segment that overlaps more with an instance is an action (3.2, rule 1).
        negative_iou: a segment that overlaps less with all is background (3.2, rule 2).
        rescue_iou: an instance that no segment overlaps by ``positive_iou`` takes its best one, if by more than this (3.2).
        alpha: of the overlap loss (4.2); 0.25 to 1 do equally well (4.3).
        overlap_weight: lambda of Eq. 1 (3.2).
        learning_rate: of layers that were trained before (3.2).
        new_learning_rate: of those that were not, fc8 in the paper (3.2).
        momentum: of stochastic gradient descent (3.2).
        weight_decay: likewise.
        proposal_decay: the proposal network's rates are multiplied by it each ``decay_every`` iterations (3.2) ...
        decay: ... and the others' by this (3.2).
        decay_every: as said.
        localization_decay_every: for the localization network; None: as for the others, "the same" (3.2); 5,000 in the code.
        bias_rate: how many times faster biases learn (authors' prototxt) ...
        bias_weight_decay: ... and their weight decay (likewise).
        iterations: on THUMOS 2014, 30,000 for the classification network and as many for the localization network (4.2).
        classification_share: how many of those are for the classification network.
        proposal_until: on features, the share of the iterations after which the proposal network, and the prior, learn no more
            (4.2: 30,000 iterations; of 40,000 on MEXaction2, 0.75).
        proposal_share: on frames, how many of all are for the proposal network, which learns before the others (4.2: as many
            as for each of them, so that there are 90,000); on features it learns beside them.
        batch_size: segments (authors' prototxt); videos, on features.
        max_snippets: on features, stretches so long bound the work of an iteration (not in the paper).
        proposal_threshold: segments that are less probably actions are dropped (3.3); 0: no proposal network (4.3).
        use_prior: whether scores are multiplied by the class's share of the window's length (3.3).
        evaluation_tiou: theta, the overlap that detections will be judged by.
        nms_margin: NMS drops what overlaps a better one by more than theta less this (3.3).
    """

    trunk: Literal["rows", "c3d", "starter"] = "rows"
    pretrained: bool = True
    window_frames: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    window_overlap: float = 0.75
    step_frames: int = 16
    segment_steps: int = 16
    width: int = 128
    positive_iou: float = 0.7
    negative_iou: float = 0.3
    rescue_iou: float = 0.5
    alpha: float = 0.25
    overlap_weight: float = 1.0
    learning_rate: float = 1e-4
    new_learning_rate: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    proposal_decay: float = 0.1
    decay: float = 0.5
    decay_every: int = 10_000
    localization_decay_every: int | None = None
    bias_rate: float = 2.0
    bias_weight_decay: float = 0.0
    iterations: int = 60_000
    classification_share: float = 0.5
    proposal_until: float = 0.5
    proposal_share: float = 1 / 3
    batch_size: int = 3
    max_snippets: int | None = 256
    proposal_threshold: float = 0.7
    use_prior: bool = True
    evaluation_tiou: float = 0.5
    nms_margin: float = 0.1

    def __post_init__(self) -> None:
        if not self.window_frames or list(self.window_frames) != sorted({*self.window_frames}) or self.window_frames[0] < 1:
            raise ValueError(f"window_frames must rise from 1 on, got {self.window_frames}")
        if min(self.step_frames, self.segment_steps, self.width) < 1 or not 0 <= self.window_overlap < 1:
            raise ValueError("step_frames, segment_steps and width must be at least 1 and window_overlap in 0..1, 1 excluded")
        if not 0 <= self.negative_iou <= self.rescue_iou <= self.positive_iou <= 1:
            raise ValueError("negative_iou, rescue_iou and positive_iou must rise within 0..1")
        if not 0 <= self.classification_share <= 1 or min(self.iterations, self.batch_size) < 1:
            raise ValueError("classification_share must lie in 0..1; iterations and batch_size must be at least 1")
        if min(self.decay_every, self.localization_every) < 1 or min(self.bias_rate, self.bias_weight_decay) < 0:
            raise ValueError("decay_every must be at least 1, for all; bias_rate and bias_weight_decay must not be negative")
        if not (0 <= self.proposal_share <= 1 and 0 <= self.proposal_until <= 1):
            raise ValueError(f"proposal_share must lie in 0..1 and so must proposal_until, got {self.proposal_until:g}")
        if self.trunk != "rows" and self.step_frames != 1:
            raise ValueError(f"step_frames must be 1 on frames, got {self.step_frames}")

    @property
    def window_lengths(self) -> tuple[int, ...]:
        """Lengths of windows in steps, rising."""
        return tuple(sorted({max(1, round(frames / self.step_frames)) for frames in self.window_frames}))

    @property
    def localization_every(self) -> int:
        """After how many iterations the localization network's rates fall."""
        return self.decay_every if self.localization_decay_every is None else self.localization_decay_every

    @property
    def nms_tiou(self) -> float:
        """What two detections of a class may overlap: "a little bit smaller than the overlap threshold theta" (3.3)."""
        return max(0.0, self.evaluation_tiou - self.nms_margin)


# ---- 3.1 segments ----


def windows(step_count: int, *, config: ScnnConfig) -> NDArray[np.int64]:
    """Multi-scale windows of a video, half open [H, 2], by length and then by start.

    ::

        step    0   4   8   12  16  20  24
        length  [---------------)                 hop = (1 - overlap) x length, one step at least
        16          [---------------)
                        [---------------)
    """
    lengths = config.window_lengths
    if 0 < step_count < lengths[0]:
        return np.array([[0, step_count]], np.int64)
    pool = [np.empty((0, 2), np.int64)]
    for length in lengths:
        hop = max(1, round(length * (1 - config.window_overlap)))
        starts = np.arange(0, step_count - length + 1, hop, dtype=np.int64)
        pool.append(np.stack([starts, starts + length], axis=1))
    return np.concatenate(pool)


def sampled_steps(segments: ArrayLike, *, count: int) -> NDArray[np.int64]:
    """Steps that stand for each segment [N, 2], uniformly sampled, as indices [N, count]; short segments repeat some."""
    ranges = np.asarray(segments, np.int64).reshape(-1, 2)
    taken: NDArray[np.int64] = ranges[:, :1] + np.arange(count) * (ranges[:, 1:] - ranges[:, :1]) // count
    return taken


# ---- 3.1 networks ----


class Trunk(nn.Module):
    """Segments in, vectors out.

    Attributes:
        feature_dim: length of the vectors.
        is_new: nothing in it has been trained before, so it learns at the rate of new layers.
    """

    feature_dim: int
    is_new: bool

    def embed(self, sequence: Tensor) -> Tensor:
        """Steps, one a row, as ``forward`` wants to find them in segments; as they are, unless a trunk says otherwise."""
        return sequence

    def forward(self, segments: Tensor) -> Tensor:
        """Segments of embedded steps [N, S, ...] as vectors [N, feature_dim]."""
        raise NotImplementedError


class C3DTrunk(Trunk):
    """Frames, uint8 RGB of 171 x 128 [N, 16, H, W, 3], as fc7 [N, 4096]; what is larger than 112 x 112 is cut to its centre.

    The network sees blue first, as Caffe's weights do.

    Args:
        network: C3D with weights, which is taken over and loses its classifier; None: an untrained one.
        mean_clip: Sports-1M's, float [16, 112, 112, 3]; None: nothing is subtracted.
    """

    def __init__(self, network: C3D | None = None, *, mean_clip: Tensor | None = None) -> None:
        super().__init__()
        self.feature_dim, self.is_new = FEATURE_DIM, network is None
        self.network = network or C3D(num_classes=1)
        self.network.classifier = nn.Identity()  # type: ignore[assignment]
        self.mean_clip: Tensor
        self.register_buffer("mean_clip", torch.zeros(*CLIP, 3) if mean_clip is None else mean_clip)

    def forward(self, segments: Tensor) -> Tensor:
        """Frames as fc7 [N, 4096]."""
        height, width = segments.shape[2:4]
        top, left = (height - CLIP[1]) // 2, (width - CLIP[2]) // 2
        centre = segments[:, :, top : top + CLIP[1], left : left + CLIP[2]].float() - self.mean_clip
        return self.network.features(centre.flip(4).permute(0, 4, 1, 2, 3), layer="fc7")


class StarterTrunk(Trunk):
    """Frames, grey [N, S, H, W] or RGB [N, S, H, W, 3], as the starter network's features [N, 256].

    Args:
        network: with weights, which is taken over and loses its classifier; None: an untrained one.
    """

    def __init__(self, network: StarterNetwork | None = None) -> None:
        from tal_run.extractors.starter_network import StarterConfig, StarterNetwork

        super().__init__()
        self.is_new = network is None
        self.network = network or StarterNetwork(StarterConfig(classes=1))
        self.network.classifier = nn.Identity()  # type: ignore[assignment]
        self.feature_dim = self.network.config.feature_dim

    def forward(self, segments: Tensor) -> Tensor:
        """Frames as features [N, 256]."""
        return self.network.features(segments)


class SequenceTrunk(Trunk):
    """Rows of stored features [N, S, D] as vectors [N, width], by convolutions, pools and a dense layer.

    Args:
        input_dim: D.
        steps: S.
        width: of all maps and of the vectors.
    """

    def __init__(self, input_dim: int, *, steps: int, width: int = 128) -> None:
        super().__init__()
        self.feature_dim, self.is_new = width, True
        self.row = nn.Linear(input_dim, width)
        self.maps = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool1d(2, ceil_mode=True),
            nn.Conv1d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool1d(2, ceil_mode=True),
        )
        self.dense = nn.Linear(width * -(-steps // 4), width)
        for layer in (self.row, self.maps[0], self.maps[3], self.dense):
            # He's: with PyTorch's own, maps shrink to a third from layer to layer, and so do the gradients of a new fc8
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def embed(self, sequence: Tensor) -> Tensor:
        """Rows [..., D] as [..., width]."""
        return F.relu(self.row(sequence))

    def forward(self, segments: Tensor) -> Tensor:
        """Embedded rows [N, S, width] as vectors [N, width], not negative."""
        maps = self.maps(segments.transpose(1, 2))  # [N, width, S / 4]
        return F.relu(self.dense(maps.flatten(1)))


class SegmentNetwork(nn.Module):
    """The one shape of all networks: a trunk, dropout, and fc8.

    Args:
        trunk: C3D's layers up to fc7, or what stands in for them.
        outputs: width of fc8; the first is the background's.
    """

    def __init__(self, trunk: Trunk, *, outputs: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(DROPOUT)
        self.fc8 = nn.Linear(trunk.feature_dim, outputs)
        nn.init.normal_(self.fc8.weight, std=0.01)
        nn.init.zeros_(self.fc8.bias)

    def forward(self, segments: Tensor) -> Tensor:
        """Segments of embedded steps [N, S, ...] as logits [N, outputs]."""
        logits: Tensor = self.fc8(self.dropout(self.trunk(segments)))
        return logits


class ScnnOutput(NamedTuple):
    """What the networks say of windows.

    Attributes:
        windows: half open, int64 [B, H, 2]; those of a video that has fewer than others are followed by empty ones.
        proposal: logits of background and action [B, H, 2].
        localization: logits [B, H, K + 1]; background first.
        prior: logarithms of the windows' shares, up to a constant [K, W].
    """

    windows: Tensor
    proposal: Tensor
    localization: Tensor
    prior: Tensor


class Scnn(nn.Module):
    """The proposal network, the localization network, and the length prior that goes with their classes.

    Args:
        num_classes: K, without the background.
        config: the windows.
        make_trunk: makes a trunk; called twice.
    """

    def __init__(self, num_classes: int, *, config: ScnnConfig, make_trunk: Callable[[], Trunk]) -> None:
        super().__init__()
        self.config = config
        self.proposal = SegmentNetwork(make_trunk(), outputs=2)
        self.localization = SegmentNetwork(make_trunk(), outputs=num_classes + 1)
        self.prior = nn.Parameter(torch.zeros(num_classes, len(config.window_lengths)))

    def forward(self, sequences: Tensor, lengths: Tensor) -> ScnnOutput:
        """All windows of some videos, by both networks.

        Args:
            sequences: steps as the trunk takes them [B, T, ...].
            lengths: of each video, 1..T [B].
        """
        by_video = [windows(int(length), config=self.config) for length in lengths]
        count = max(map(len, by_video))
        table = np.stack([np.pad(found, ((0, count - len(found)), (0, 0))) for found in by_video])  # [B, H, 2]
        size = self.config.segment_steps
        steps = sampled_steps(table, count=size).reshape(len(table), count, size)  # [B, H, S]
        video = torch.arange(len(table), device=sequences.device)[:, None, None]

        def judged(network: SegmentNetwork) -> Tensor:
            segments = network.trunk.embed(sequences)[video, torch.from_numpy(steps).to(sequences.device)]  # [B, H, S, ...]
            logits: Tensor = network(segments.flatten(0, 1))
            return logits.view(len(table), count, logits.shape[1])

        return ScnnOutput(
            windows=torch.from_numpy(table).to(sequences.device),
            proposal=judged(self.proposal),
            localization=judged(self.localization),
            prior=self.prior,
        )

    def set_prior(self, shares: ArrayLike) -> None:
        """Take shares that were counted (``length_prior``), [K, W]."""
        with torch.no_grad():
            self.prior.copy_(torch.from_numpy(np.log(np.maximum(np.asarray(shares, np.float32), LEAST_SHARE))))


FRAME_SIZES: dict[str, tuple[int, int]] = {"c3d": (128, 171), "starter": (96, 128)}  # height and width of what is decoded
SEEN_SIZES: dict[str, tuple[int, int]] = {"c3d": CLIP[1:], "starter": (96, 128)}  # and of what is seen of that
VECTOR_DIMS: dict[str, int] = {"c3d": FEATURE_DIM, "starter": 256}


def scnn(feature_dim: int, num_classes: int, *, config: ScnnConfig) -> Scnn:
    """S-CNN for rows of features of that width or, by ``config.trunk``, for frames; nothing of it is trained."""
    if config.trunk == "rows":
        return scnn_on_features(feature_dim, num_classes, config=config)
    return Scnn(num_classes, config=config, make_trunk=C3DTrunk if config.trunk == "c3d" else StarterTrunk)


def scnn_on_features(feature_dim: int, num_classes: int, *, config: ScnnConfig) -> Scnn:
    """S-CNN for rows of features of that width."""

    def make_trunk() -> Trunk:
        return SequenceTrunk(feature_dim, steps=config.segment_steps, width=config.width)

    return Scnn(num_classes, config=config, make_trunk=make_trunk)
