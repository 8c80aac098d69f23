"""The starter network: a small R(2+1)D that looks at grey pictures and at what moves in them.

After Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018: each 3-D convolution is a
spatial one followed by a temporal one, with normalisation and a rectifier between (PyTorchVideo's ``create_conv_2plus1d``).
What differs, and why:

- Input: no colours, which belong to clothes and places. Each clip is brought to zero mean and unit deviation; beside the
  picture stand its change since the frame before and its deviation from the clip's mean picture, in which a still
  background is nothing.
- The stem takes cells of 2 x 2 pixels as channels, 48 x 64 of them, and halves that and the time: most of a video network's
  work is done on the first few maps, and two cores must train this one.
- Pooling: people are small and anywhere, so each channel gives its strongest place (of the mean over time) beside its mean.

    frames [B, T, H, W, 3] -> planes [B, 12, T, H/2, W/2] -> stem [B, 32, T/2, H/4, W/4] -> stages ... [B, 128, T/4, H/16, W/16]
        -> strongest place and mean of each channel [B, D] -> class logits [B, K]
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from pytorchvideo.layers.convolutions import create_conv_2plus1d
from torch import Tensor, nn
from torch.nn import functional as F

# ITU-R BT.601, as decoders and OpenCV weigh red, green and blue
GREY_WEIGHTS = (0.299, 0.587, 0.114)
# A clip's deviation in grey levels is taken to be at least this: noise on a black picture is not to be blown up.
LEAST_DEVIATION = 8.0
# Frame differences are small beside the picture; this makes their deviation about one.
DIFFERENCE_GAIN = 3.0
# Logit of a class before anything is learnt: one in fourteen. Without it the first hundreds of steps learn nothing else.
RARE = -2.6
PLANES = 3  # picture, change, deviation from the mean picture


@dataclass(frozen=True, kw_only=True)
class StarterConfig:
    """The network's size. The defaults hold 1.3 million weights and learn from some 60 clips a second on two cores.

    Attributes:
        classes: number of labels K.
        stem: channels inside the stem.
        widths: channels of the stages; each stage after the first halves the picture's sides.
        depths: residual blocks of the stages.
        temporal_strides: by how much each stage shortens the time.
        dropout: share of the features that a training step does not see.
    """

    classes: int
    stem: int = 16
    widths: tuple[int, ...] = (32, 64, 128)
    depths: tuple[int, ...] = (1, 2, 3)
    temporal_strides: tuple[int, ...] = (1, 2, 1)
    dropout: float = 0.3

    @property
    def feature_dim(self) -> int:
        """Length D of the feature vector."""
        return 2 * self.widths[-1]


class StarterNetwork(nn.Module):
    """Clips in, one logit a class out: each class is a question of its own (sigmoids), and background is "none of them"."""

    def __init__(self, config: StarterConfig) -> None:
        super().__init__()
        self.config = config
        width = config.widths[0]
        self.stem = nn.Sequential(
            _factored(4 * PLANES, width, inner=config.stem, stride=(2, 2, 2)), nn.BatchNorm3d(width), nn.ReLU(inplace=True)
        )
        blocks = OrderedDict[str, nn.Module]()
        for stage, (channels, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            spatial = 1 if stage == 0 else 2
            for index in range(depth):
                stride = (config.temporal_strides[stage], spatial, spatial) if index == 0 else (1, 1, 1)
                blocks[f"{stage}_{index}"] = ResidualBlock(width, channels, stride=stride)
                width = channels
        self.blocks = nn.Sequential(blocks)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.feature_dim, config.classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.constant_(self.classifier.bias, RARE)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips, grey [B, T, H, W] or RGB [B, T, H, W, 3], uint8 or float in 0..255, as class logits [B, K]."""
        return self.classify(self.features(clips))

    def features(self, clips: Tensor) -> Tensor:
        """Clips as for ``forward``, as feature vectors [B, D]."""
        # channels last: a quarter faster on CPUs
        looked_at = planes(clips).contiguous(memory_format=torch.channels_last_3d)
        maps = self.blocks(self.stem(looked_at)).float()  # [B, C, T', H', W']
        in_space = maps.mean(dim=2)  # [B, C, H', W']
        return torch.cat([in_space.amax(dim=(2, 3)), in_space.mean(dim=(2, 3))], dim=1)

    def classify(self, features: Tensor) -> Tensor:
        """Feature vectors [B, D] as class logits [B, K]."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits


class ResidualBlock(nn.Module):
    """Two factored convolutions and a way past them (basic block of the paper's R(2+1)D-18)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.first = nn.Sequential(
            _factored(in_channels, out_channels, stride=stride), nn.BatchNorm3d(out_channels), nn.ReLU(inplace=True)
        )
        last = nn.BatchNorm3d(out_channels)
        nn.init.zeros_(last.weight)  # a new block is only the way past (Goyal et al. 2017, 5.1)
        self.second = nn.Sequential(_factored(out_channels, out_channels, stride=(1, 1, 1)), last)
        self.past: nn.Module = nn.Identity()
        if in_channels != out_channels or max(stride) > 1:
            self.past = nn.Sequential(
                # the mean of the cells rather than one of them: thin limbs must not fall through
                nn.AvgPool3d((1, *stride[1:]), ceil_mode=True),
                nn.Conv3d(in_channels, out_channels, 1, stride=(stride[0], 1, 1), bias=False),
                nn.BatchNorm3d(out_channels),
            )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, C, T, H, W], smaller by the stride."""
        return F.relu(self.past(maps) + self.second(self.first(maps)), inplace=True)


def planes(clips: Tensor) -> Tensor:
    """What the network looks at: picture, change and deviation from the mean picture, cells of 2 x 2 pixels as channels.

    Args:
        clips: grey [B, T, H, W] or RGB [B, T, H, W, 3], uint8 or float in 0..255.

    Returns:
        Float [B, 12, T, H/2, W/2].
    """
    if clips.ndim == 5:
        clips = clips.float() @ torch.tensor(GREY_WEIGHTS, device=clips.device)  # [B, T, H, W]
    # cells first and one plane after the other: each later step then works on long rows, which is three times as fast
    cells = torch.stack([clips[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)], dim=1).float()
    mean = cells.mean(dim=(1, 2, 3, 4), keepdim=True)
    deviation = (cells.square().mean(dim=(1, 2, 3, 4), keepdim=True) - mean.square()).clamp(min=LEAST_DEVIATION**2).sqrt()
    picture = cells.sub_(mean).div_(deviation)  # [B, 4, T, H/2, W/2]
    change = F.pad(picture[:, :, 1:] - picture[:, :, :-1], (0, 0, 0, 0, 1, 0)).mul_(DIFFERENCE_GAIN)
    return torch.cat([picture, change, picture - picture.mean(dim=2, keepdim=True)], dim=1)


def _factored(in_channels: int, out_channels: int, *, stride: tuple[int, int, int], inner: int | None = None) -> nn.Module:
    """A 3 x 3 x 3 convolution as 1 x 3 x 3 and 3 x 1 x 1."""
    module: nn.Module = create_conv_2plus1d(
        in_channels=in_channels, out_channels=out_channels, inner_channels=inner, conv_xy_first=True, stride=stride
    )
    return module
