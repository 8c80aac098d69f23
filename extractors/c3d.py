"""C3D: eight 3 x 3 x 3 convolutions, the first network whose spatio-temporal features were taken everywhere.

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015 (arXiv:1412.0767), Figure 3; trained
on Sports-1M. Layers carry the paper's names.

    clips [B, 3, 16, 112, 112] -> conv1a pool1 conv2a pool2 conv3a conv3b pool3 conv4a conv4b pool4 conv5a conv5b pool5
        [B, 512, 1, 4, 4] -> fc6 [B, 4096] -> fc7 [B, 4096] -> logits [B, K]

All pools halve time and space, except the first, which leaves time as it is, not to merge it too early. pool5 rounds its
7 x 7 places up to 4 x 4, or fc6 would not find its 8,192 values: Caffe does so by a last window cut short, the PyTorch port by
a place of padding on every side, and the port's way is the one here. Its checkpoint, though, was converted from Caffe's: fc6
sees places half a window off from those that it was trained on, in the port as here.

Features are taken after the rectifier. There is no batch norm. The layers are PyTorch's: PyTorchVideo has no plain convolution.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tal_run.extractors.backbone import BackboneError
from tal_run.extractors.published import check_clips, like_weights, load_published

FEATURE_DIM = 4096
DROPOUT = 0.5  # authors' training prototxt
CLIP = (16, 112, 112)  # frames, height, width: fc6 fits nothing else
_POOLED = 512 * 1 * 4 * 4


class C3D(nn.Module):
    """Clips of 16 frames of 112 x 112 in, class logits out.

    Args:
        num_classes: K; 487 are Sports-1M's.
    """

    def __init__(self, *, num_classes: int = 487) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            OrderedDict(
                conv1=_convolution(3, 64),
                relu1=_relu(),
                pool1=nn.MaxPool3d((1, 2, 2)),
                conv2=_convolution(64, 128),
                relu2=_relu(),
                pool2=nn.MaxPool3d(2),
                conv3a=_convolution(128, 256),
                relu3a=_relu(),
                conv3b=_convolution(256, 256),
                relu3b=_relu(),
                pool3=nn.MaxPool3d(2),
                conv4a=_convolution(256, 512),
                relu4a=_relu(),
                conv4b=_convolution(512, 512),
                relu4b=_relu(),
                pool4=nn.MaxPool3d(2),
                conv5a=_convolution(512, 512),
                relu5a=_relu(),
                conv5b=_convolution(512, 512),
                relu5b=_relu(),
                pool5=nn.MaxPool3d(2, padding=(0, 1, 1)),
            )
        )
        self.fc6 = nn.Linear(_POOLED, FEATURE_DIM)
        self.fc7 = nn.Linear(FEATURE_DIM, FEATURE_DIM)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(FEATURE_DIM, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips [B, 3, 16, 112, 112] as class logits [B, K], before the softmax."""
        return self.classify(self.features(clips, layer="fc7"))

    def features(self, clips: Tensor, *, layer: Literal["fc6", "fc7"] = "fc6") -> Tensor:
        """Clips [B, 3, 16, 112, 112] as feature vectors [B, 4096], float32, not negative.

        Raises:
            BackboneError: the clips have another shape, or there are no features of that layer.
        """
        if layer not in ("fc6", "fc7"):
            raise BackboneError(f"C3D gives features of fc6 and fc7, not of {layer!r}")
        check_clips(clips, channels=3, least=CLIP, what="C3D")
        if tuple(clips.shape[2:]) != CLIP:
            raise BackboneError(f"C3D takes clips of exactly 16 frames of 112 x 112, got {list(clips.shape)}: crop them first")
        maps: Tensor = self.trunk(like_weights(clips, self.trunk.get_parameter("conv1.weight")))  # [B, 512, 1, 4, 4]
        fc6 = F.relu(self.fc6(maps.flatten(1))).float()
        return fc6 if layer == "fc6" else self.fc7_of(fc6)

    def fc7_of(self, fc6: Tensor) -> Tensor:
        """Feature vectors of fc6 [B, 4096] as those of fc7 [B, 4096], float32."""
        return F.relu(self.fc7(self.dropout(fc6).to(self.fc7.weight.dtype))).float()

    def classify(self, features: Tensor) -> Tensor:
        """Feature vectors of fc7 [B, 4096] as class logits [B, K]."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits

    def load_published(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the weights of a checkpoint with the keys of DavideA's PyTorch port (``c3d.pickle``).

        Raises:
            WeightsError: it is not one of this network, with these classes.
        """
        what = f"C3D with {self.classifier.out_features} classes"
        load_published(self, state_dict, published_name=_published_name, what=what)


def _convolution(in_channels: int, out_channels: int) -> nn.Conv3d:
    return nn.Conv3d(in_channels, out_channels, 3, padding=1)


def _relu() -> nn.ReLU:
    return nn.ReLU(inplace=True)


def _published_name(own: str) -> str:
    return own.removeprefix("trunk.").replace("classifier.", "fc8.")
