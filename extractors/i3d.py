"""I3D: the Inception network, its filters inflated to look at time as well.

Carreira & Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017 (arXiv:1705.07750),
Figure 3. Modules carry the names of the authors' end points, so that a checkpoint reads like the figure; the widths are those
of Inception-v1 (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, Table 1), in that table's order.

    clips [B, C, T, H, W] -> Conv3d_1a ... Mixed_5c [B, 1024, T/8, H/32, W/32]
        -> mean over space and over two neighbours in time [B, 1024, T/8 - 1] -> mean over time [B, 1024] -> logits [B, K]

The same network takes RGB (C = 3) and optical flow (C = 2: x, y); the two-stream model adds their logits. Values are in -1..1.

TensorFlow's 'SAME'. The weights were trained where padding depends on the input's size: a window of k at stride s over n places
gives ceil(n / s) results, and what is missing for that is added around, the odd one *behind*:

    missing = max((ceil(n / s) - 1) * s + k - n, 0);  before = missing // 2, behind = missing - before

    n = 6, k = 3, s = 2, missing 1:   [0 1 2][ ][ ]        with PyTorch's padding=1 on both sides instead:  [. 0 1]
                                          [2 3 4]          every window is one place off, and the features      [1 2 3]
                                              [4 5 .]      are not those that the heads were trained on             [3 4 5]

At stride 1 and odd k this is k // 2 on both sides, so only the first convolution pads at run time (``_SamePad``). For the
pools, PyTorch's own padding with ``ceil_mode`` comes to the same windows (``_SamePool``), and its padding of minus infinity to
the same maxima as zeros, as nothing before a pool is negative.

Deviations: the paper pools 7 x 7 places, which is all of them at 224 pixels; here it is all of them at any size, so that whole
frames can be looked at. In the place of Inception-v1's 5 x 5 filters stand 3 x 3 x 3 ones, as in the authors' code. The layers
are PyTorch's: PyTorchVideo has ResNet I3Ds only, and no block with this padding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tal_run.extractors.published import check_clips, like_weights, load_published

FEATURE_DIM = 1024
DROPOUT = 0.5  # paper's code, training on Kinetics
NORM_EPSILON = 1e-3  # Sonnet's batch norm, which the weights were trained with; PyTorch's default is 1e-5
POOLED_FRAMES = 2  # the last pool's window in time, of maps that stand for 8 frames each
# More than one map in time, and what 32-fold shrinking leaves a place of.
LEAST_CLIP = (9, 32, 32)

# Inception-v1's Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5 (here 3x3), pool proj
_MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


class InceptionI3D(nn.Module):
    """Clips in, class logits out; fully convolutional in time.

    Args:
        in_channels: C, 3 for RGB, 2 for flow.
        num_classes: K.
    """

    def __init__(self, *, in_channels: int = 3, num_classes: int = 400) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.trunk = nn.Sequential(
            OrderedDict(
                Conv3d_1a_7x7=_unit(in_channels, 64, kernel=7, stride=2),
                MaxPool3d_2a_3x3=_SamePool((1, 3, 3), (1, 2, 2)),
                Conv3d_2b_1x1=_unit(64, 64, kernel=1),
                Conv3d_2c_3x3=_unit(64, 192, kernel=3),
                MaxPool3d_3a_3x3=_SamePool((1, 3, 3), (1, 2, 2)),
                Mixed_3b=Inception(192, _MIXED["Mixed_3b"]),
                Mixed_3c=Inception(256, _MIXED["Mixed_3c"]),
                MaxPool3d_4a_3x3=_SamePool((3, 3, 3), (2, 2, 2)),
                Mixed_4b=Inception(480, _MIXED["Mixed_4b"]),
                Mixed_4c=Inception(512, _MIXED["Mixed_4c"]),
                Mixed_4d=Inception(512, _MIXED["Mixed_4d"]),
                Mixed_4e=Inception(512, _MIXED["Mixed_4e"]),
                Mixed_4f=Inception(528, _MIXED["Mixed_4f"]),
                MaxPool3d_5a_2x2=_SamePool((2, 2, 2), (2, 2, 2)),
                Mixed_5b=Inception(832, _MIXED["Mixed_5b"]),
                Mixed_5c=Inception(832, _MIXED["Mixed_5c"]),
            )
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Conv3d(FEATURE_DIM, num_classes, 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips [B, C, T, H, W] in -1..1 as class logits [B, K]."""
        return self.classify(self.features(clips))

    def features(self, clips: Tensor) -> Tensor:
        """Clips [B, C, T, H, W] as feature vectors [B, 1024], float32: the mean of ``features_over_time``."""
        return self.features_over_time(clips).mean(dim=2)

    def features_over_time(self, clips: Tensor) -> Tensor:
        """Clips [B, C, T, H, W] as feature vectors [B, 1024, ceil(T / 8) - 1], float32.

        The i-th stands for 16 frames from 8 i on, but sees 107: it is not what a clip of just those 16 gives.

        Raises:
            BackboneError: the clips have another shape, under 9 frames or under 32 pixels a side.
        """
        check_clips(clips, channels=self.in_channels, least=LEAST_CLIP, what="I3D")
        maps: Tensor = self.trunk(
            like_weights(clips, self.trunk.get_parameter("Conv3d_1a_7x7.conv3d.weight"))
        )  # [B, 1024, T/8, H/32, W/32]
        return F.avg_pool1d(maps.float().mean(dim=(3, 4)), POOLED_FRAMES, stride=1)

    def classify(self, features: Tensor) -> Tensor:
        """Feature vectors [B, 1024] as class logits [B, K]; linear, so that the mean's logits are the logits' mean."""
        logits: Tensor = self.classifier(self.dropout(features)[:, :, None, None, None])
        return logits.flatten(1)

    def load_published(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the weights of a checkpoint with the keys of piergiaj's PyTorch port (``rgb_imagenet.pt`` and its like).

        Raises:
            WeightsError: it is not one of this network, with these channels and classes.
        """
        what = f"I3D (Inception) with {self.in_channels} input channels and {self.classifier.out_channels} classes"
        load_published(self, state_dict, published_name=_published_name, what=what)


class Inception(nn.Module):
    """Four ways through one layer, side by side (Figure 3, right); ``b0`` to ``b3b`` as in the published checkpoint."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        point, reduced_a, wide_a, reduced_b, wide_b, pooled = widths
        self.b0 = _unit(in_channels, point, kernel=1)
        self.b1a = _unit(in_channels, reduced_a, kernel=1)
        self.b1b = _unit(reduced_a, wide_a, kernel=3)
        self.b2a = _unit(in_channels, reduced_b, kernel=1)
        self.b2b = _unit(reduced_b, wide_b, kernel=3)
        self.b3a = _SamePool((3, 3, 3), (1, 1, 1))
        self.b3b = _unit(in_channels, pooled, kernel=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, C, T, H, W] as [B, C', T, H, W], C' the four widths' sum."""
        ways = [self.b0(maps), self.b1b(self.b1a(maps)), self.b2b(self.b2a(maps)), self.b3b(self.b3a(maps))]
        return torch.cat(ways, dim=1)


class _SamePool(nn.Module):
    """Largest values in 'SAME' windows.

    For the windows of 1 to 3 places that Inception has, ``before`` is 0 or the half window, and ceil_mode gives what is behind.
    """

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, maps: Tensor) -> Tensor:
        before = [missing // 2 for missing in _missing(maps.shape[2:], self.kernel, self.stride)]
        if self.kernel == (3, 3, 3) and self.stride == (1, 1, 1) and not torch.is_grad_enabled():
            return _largest_of_neighbours(maps)
        return F.max_pool3d(maps, self.kernel, self.stride, padding=before, ceil_mode=True)


def _largest_of_neighbours(maps: Tensor) -> Tensor:
    """The largest of 3 x 3 x 3 places, one axis after the other; PyTorch's pool notes where they were and takes longer."""
    for axis in (2, 3, 4):
        rest = maps.shape[axis] - 1
        largest = maps.clone(memory_format=torch.preserve_format)
        for to, of in ((1, 0), (0, 1)):
            part = largest.narrow(axis, to, rest)
            torch.maximum(part, maps.narrow(axis, of, rest), out=part)
        maps = largest
    return maps


class _SamePad(nn.Module):
    """Zeros around, as many as 'SAME' wants for a cubic window."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, maps: Tensor) -> Tensor:
        missing = _missing(maps.shape[2:], (self.kernel,) * 3, (self.stride,) * 3)
        # F.pad begins with the last axis
        return F.pad(maps, [side for total in reversed(missing) for side in (total // 2, total - total // 2)])


def _missing(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Places to add on each axis so that ceil(n / s) windows fit."""
    return [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, kernel, stride, strict=True)]


def _unit(in_channels: int, out_channels: int, *, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm and rectifier; ``conv3d`` and ``bn`` as in the published checkpoint."""
    unit = OrderedDict[str, nn.Module]()
    if stride > 1:
        unit["pad"] = _SamePad(kernel, stride)
    padding = 0 if stride > 1 else kernel // 2
    unit["conv3d"] = nn.Conv3d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False)
    unit["bn"] = nn.BatchNorm3d(out_channels, eps=NORM_EPSILON)
    unit["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(unit)


def _published_name(own: str) -> str:
    return own.removeprefix("trunk.").replace("classifier.", "logits.conv3d.")
