"""P3D-199: a residual network of 152 layers whose 3-D convolutions are a spatial and a temporal one.

Qiu, Yao & Mei, "Learning Spatio-Temporal Representation with Pseudo-3D Residual Networks", ICCV 2017 (arXiv:1711.10305).
Notation: S is a 1 x 3 x 3 convolution, T a 3 x 1 x 1 one, both with batch norm and rectifier, x what enters a block's middle.

    P3D-A  T(S(x))          one after the other
    P3D-B  S(x) + T(x)      side by side
    P3D-C  S(x) + T(S(x))   one after the other, and S also past T

Blocks of the 3-D stages take turns, A, B, C, A, ..., numbered through all stages.

    clips [B, C, 16, 160, 160] -> conv1, pool [B, 64, 8, 40, 40] -> res2, pool [B, 256, 4, 40, 40]
        -> res3, pool [B, 512, 2, 20, 20] -> res4, pool [B, 1024, 1, 10, 10] -> res5, in two dimensions [B, 2048, 5, 5]
        -> pool5 [B, 2048] -> logits [B, K]

Each pool after a stage halves the time, so that nothing of it is left for res5. With the published weights RGB has C = 3 and
flow C = 2 (x, y).

Deviations: of clips longer than 16 frames the authors' code mixes channels with time on entry to res5; here each 16 frames are
an image of their own and pool5 is their mean, as it is over space at any size (the authors' 5 x 5 is all places at 160 pixels).
PyTorchVideo's ``Conv2plus1d`` is P3D-A; it has neither B nor C. The authors' network (Caffe) has no rectifier on T before the
sums and one behind them, weighs P3D-C's two ways by a half each, and pools first without padding; here all is as in the port,
whose checkpoint is at hand.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from pytorchvideo.layers.convolutions import Conv2plus1d
from torch import Tensor, nn
from torch.nn import functional as F

from tal_run.extractors.published import check_clips, like_weights, load_published

FEATURE_DIM = 2048
DROPOUT = 0.5
EXPANSION = 4  # a block gives four times the channels that it works with, as in ResNet
DEPTHS = (3, 8, 36, 3)  # residual blocks of res2 to res5: ResNet-152's
WIDTHS = (64, 128, 256, 512)
LEAST_CLIP = (16, 32, 32)


class P3D199(nn.Module):
    """Clips in, class logits out.

    Args:
        in_channels: C, 3 for RGB, 2 for flow.
        num_classes: K.
    """

    def __init__(self, *, in_channels: int = 3, num_classes: int = 400) -> None:
        super().__init__()
        self.in_channels = in_channels
        conv1 = nn.Conv3d(in_channels, 64, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False)
        self.stem = nn.Sequential(
            OrderedDict(conv=conv1, norm=nn.BatchNorm3d(64), relu=nn.ReLU(inplace=True)),
        )
        self.stem_pool = nn.MaxPool3d((2, 3, 3), stride=2, padding=(0, 1, 1))
        self.res2 = _stage(0)
        self.res3 = _stage(1)
        self.res4 = _stage(2)
        self.time_pool = nn.MaxPool3d((2, 1, 1))
        self.res5 = _stage(3)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(FEATURE_DIM, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips [B, C, T, H, W] as class logits [B, K]."""
        return self.classify(self.features(clips))

    def features(self, clips: Tensor) -> Tensor:
        """Clips [B, C, T, H, W] as feature vectors [B, 2048], float32: pool5. Frames past the last full 16 are hardly seen.

        Raises:
            BackboneError: the clips have another shape, under 16 frames or under 32 pixels a side.
        """
        check_clips(clips, channels=self.in_channels, least=LEAST_CLIP, what="P3D-199")
        maps = self.stem_pool(self.stem(like_weights(clips, self.stem.get_parameter("conv.weight"))))
        for stage in (self.res2, self.res3, self.res4):
            maps = self.time_pool(stage(maps))
        pictures = maps.transpose(1, 2).flatten(0, 1)  # [B T/16, 1024, H/16, W/16]
        places: Tensor = self.res5(pictures).float().mean(dim=(2, 3))  # [B T/16, 2048]
        return places.reshape(len(clips), -1, FEATURE_DIM).mean(dim=1)

    def classify(self, features: Tensor) -> Tensor:
        """Feature vectors [B, 2048] as class logits [B, K]."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits

    def load_published(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the weights of a checkpoint with the keys of qijiezhao's PyTorch port (``p3d_rgb_199``, ``p3d_flow_199``).

        Raises:
            WeightsError: it is not one of this network, with these channels and classes.
        """
        what = f"P3D-199 with {self.in_channels} input channels and {self.classifier.out_features} classes"
        load_published(self, state_dict, published_name=_published_name, what=what)


class Bottleneck(nn.Module):
    """Fewer channels, something in the middle, more channels, and a way past (He et al. 2016, Figure 5)."""

    def __init__(self, *, reduce: nn.Module, middle: nn.Module, expand: nn.Module, past: nn.Module) -> None:
        super().__init__()
        self.reduce, self.middle, self.expand, self.past = reduce, middle, expand, past

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, C, T, H, W], or [B, C, H, W] in res5."""
        out: Tensor = self.expand(self.middle(self.reduce(maps)))
        return F.relu(out.add_(self.past(maps)), inplace=True)


class ParallelConv2plus1d(nn.Module):
    """P3D-B: space and time side by side; named like the parts of ``Conv2plus1d``."""

    def __init__(self, *, conv_xy: nn.Module, conv_t: nn.Module) -> None:
        super().__init__()
        self.conv_xy, self.conv_t = conv_xy, conv_t

    def forward(self, maps: Tensor) -> Tensor:
        """S(x) + T(x); the shape stays."""
        spatial: Tensor = self.conv_xy(maps)
        temporal: Tensor = self.conv_t(maps)
        return spatial + temporal


class ResidualConv2plus1d(nn.Module):
    """P3D-C: time after space, and space past it; named like the parts of ``Conv2plus1d``."""

    def __init__(self, *, conv_xy: nn.Module, conv_t: nn.Module) -> None:
        super().__init__()
        self.conv_xy, self.conv_t = conv_xy, conv_t

    def forward(self, maps: Tensor) -> Tensor:
        """S(x) + T(S(x)); the shape stays."""
        spatial: Tensor = self.conv_xy(maps)
        temporal: Tensor = self.conv_t(spatial)
        return spatial + temporal


def _stage(index: int) -> nn.Sequential:
    """Res2 (index 0) to res5 (index 3). The first block of each, but for res2's, halves the sides."""
    flat = index == 3
    width, out_channels = WIDTHS[index], EXPANSION * WIDTHS[index]
    in_channels = EXPANSION * WIDTHS[index - 1] if index else 64
    blocks = list[nn.Module]()
    for position in range(DEPTHS[index]):
        first = position == 0
        stride = 2 if first and index else 1
        middle = _unit(width, width, flat=True, kernel=(1, 3, 3)) if flat else _pseudo_3d(width, sum(DEPTHS[:index]) + position)
        past = _unit(in_channels, out_channels, flat=flat, stride=stride, relu=False) if first else nn.Identity()
        reduce = _unit(in_channels, width, flat=flat, stride=stride)
        expand = _unit(width, out_channels, flat=flat, relu=False)
        blocks.append(Bottleneck(reduce=reduce, middle=middle, expand=expand, past=past))
        in_channels = out_channels
    return nn.Sequential(*blocks)


def _pseudo_3d(width: int, number: int) -> nn.Module:
    """The middle of the network's ``number``-th block: A, B and C take turns."""
    conv_xy = _unit(width, width, kernel=(1, 3, 3))
    conv_t = _unit(width, width, kernel=(3, 1, 1))
    match "ABC"[number % 3]:
        case "A":
            module: nn.Module = Conv2plus1d(conv_xy=conv_xy, conv_t=conv_t, conv_xy_first=True)
            return module
        case "B":
            return ParallelConv2plus1d(conv_xy=conv_xy, conv_t=conv_t)
        case _:
            return ResidualConv2plus1d(conv_xy=conv_xy, conv_t=conv_t)


def _unit(
    in_channels: int,
    out_channels: int,
    *,
    kernel: tuple[int, int, int] = (1, 1, 1),
    flat: bool = False,
    stride: int = 1,
    relu: bool = True,
) -> nn.Sequential:
    """Convolution, batch norm and, if asked for, rectifier; flat ones have no time, others leave it as long as it is."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    unit = OrderedDict[str, nn.Module]()
    if flat:
        unit["conv"] = nn.Conv2d(in_channels, out_channels, kernel[1:], stride=stride, padding=padding[1:], bias=False)
        unit["norm"] = nn.BatchNorm2d(out_channels)
    else:
        unit["conv"] = nn.Conv3d(in_channels, out_channels, kernel, stride=(1, stride, stride), padding=padding, bias=False)
        unit["norm"] = nn.BatchNorm3d(out_channels)
    if relu:
        unit["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(unit)


_STEM = {"stem.conv": "conv1_custom", "stem.norm": "bn1", "classifier": "fc"}
_UNITS = {
    "reduce": ("conv1", "bn1"),
    "middle.conv_xy": ("conv2", "bn2"),
    "middle.conv_t": ("conv3", "bn3"),
    "middle": ("conv_normal", "bn_normal"),  # res5
    "expand": ("conv4", "bn4"),
    "past": ("downsample.0", "downsample.1"),
}


def _published_name(own: str) -> str:
    """``res2.0.middle.conv_xy.norm.weight`` as ``layer1.0.bn2.weight``."""
    module, _, leaf = own.rpartition(".")
    if module in _STEM:
        return f"{_STEM[module]}.{leaf}"
    stage, block, *unit, part = module.split(".")
    convolution, norm = _UNITS[".".join(unit)]
    return f"layer{int(stage.removeprefix('res')) - 1}.{block}.{convolution if part == 'conv' else norm}.{leaf}"
