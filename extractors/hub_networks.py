"""The networks of PyTorchVideo's hub that see pictures and know Kinetics-400, built by its own functions.

    i3d_r50        Carreira & Zisserman, CVPR 2017 (arXiv:1705.07750), on a ResNet-50          8 frames    2048
    slow_r50       Feichtenhofer et al., ICCV 2019 (arXiv:1812.03982), the slow pathway alone  8           2048
    slowfast_r50   the same paper, both pathways                                               32          2304
    x3d_s, x3d_m   Feichtenhofer, CVPR 2020 (arXiv:2004.04730)                                 13, 16      2048
    r2plus1d_r50   Tran et al., CVPR 2018 (arXiv:1711.11248), on a ResNet-50                   16          2048
    csn_r101       Tran et al., ICCV 2019 (arXiv:1904.02811), channel-separated ResNet-101     32          2048

    clips [B, 3, T, H, W] -> trunk -> maps -> pool [B, D, t, h, w] -> past_pool -> mean of places = features [B, D]
        -> classifier = logits [B, K]

Features are what the head's projection sees. X3D's head has a convolution before its pool, which here ends the trunk, and one
with a rectifier behind it, ``past_pool``. The pools' windows are those of training: on larger maps they slide, so places at
the margin count less often, as in the hub.

SlowFast takes one clip, of exactly 32 frames: over longer ones the windows of its two pools would part. The fast pathway sees
all of it, the slow one a frame in four (alpha = 4), the first, the last, and what falls between them evenly, rounded down, as
in the hub's example: 0, 4, 8, 13, 17, 22, 26, 31.

Deviations. The hub's X3D and R(2+1)D end in a softmax and give the mean of the places' probabilities; here logits are given,
of the mean of places, which is the mean of their logits. Each convolution stands in a sequence with its norm, so that
``for_inference`` folds them; the sums are the same, and checkpoints are read by the names that the hub gives.

``pytorchvideo.models`` imports torchvision for ``RoIAlign``, of which detection networks are made and none of these. Where
torchvision is missing or does not load beside this torch, a stand-in takes its place during that import, and only then.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tal_run.extractors.backbone import BackboneError
from tal_run.extractors.published import check_clips, like_weights, load_published

ALPHA = 4  # SlowFast's paper, Section 3.1: frames of the fast pathway for each of the slow one, as published
# Frames, height and width that leave the head's pool as many places as its window has. Halved five times, rounded up, 193
# leaves 7 and 129 leaves 5; in time, I3D halves once (rounded down), R(2+1)D twice and CSN three times (rounded up), down to 4.
LEAST_CLIP: dict[str, tuple[int, int, int]] = {
    "i3d_r50": (8, 193, 193),
    "slow_r50": (8, 193, 193),
    "slowfast_r50": (32, 193, 193),
    "x3d_s": (13, 129, 129),
    "x3d_m": (16, 193, 193),
    "r2plus1d_r50": (13, 193, 193),
    "csn_r101": (25, 193, 193),
}
_HUB = "pytorchvideo.models.hub"
_BORROWED = ("torchvision", "torchvision.ops")
# Attributes of the hub's blocks: a convolution, and the norm that is applied to what it gives
_NORMED = (
    ("conv", "norm"),  # stems
    ("conv_a", "norm_a"),
    ("conv_b", "norm_b"),
    ("conv_c", "norm_c"),
    ("branch1_conv", "branch1_norm"),  # shortcuts
    ("conv_t", "norm"),  # the first half of R(2+1)D's convolutions
    ("conv_fast_to_slow", "norm"),
)


class HubNetwork(nn.Module):
    """Clips of RGB in, class logits out.

    Args:
        name: the hub's, one of ``LEAST_CLIP``.
        num_classes: K; 400 are Kinetics'.

    Raises:
        BackboneError: there is no such network.
    """

    def __init__(self, name: str, *, num_classes: int = 400) -> None:
        super().__init__()
        if name not in LEAST_CLIP:
            raise BackboneError(f"there is no network {name!r} of the hub here: choose one of {', '.join(LEAST_CLIP)}")
        model = getattr(_hub(), name)(pretrained=False, model_num_class=num_classes)
        # a weight keeps the name that the hub gave it, wherever it is put
        published = {id(value): key for key, value in model.state_dict(keep_vars=True).items()}
        *blocks, head = model.blocks
        pool, past_pool = head.pool, nn.Sequential()
        if name.startswith("slowfast"):
            pool = blocks.pop()  # of both pathways, each by a window of its own
        elif name.startswith("x3d"):
            blocks.append(nn.Sequential(head.pool.pre_conv, head.pool.pre_norm, head.pool.pre_act))
            pool, past_pool = head.pool.pool, nn.Sequential(head.pool.post_conv, head.pool.post_act)
        self.name = name
        self.trunk = nn.Sequential(*blocks)
        self.pool: nn.Module = pool
        self.past_pool = past_pool
        self.dropout = nn.Dropout(head.dropout.p if head.dropout is not None else 0.0)
        self.classifier: nn.Linear = head.proj
        _join_norms(self.trunk)
        self._published = {own: published[id(value)] for own, value in self.state_dict(keep_vars=True).items()}

    def forward(self, clips: Tensor) -> Tensor:
        """Clips [B, 3, T, H, W] as class logits [B, K], before the softmax."""
        return self.classify(self.features(clips))

    def features(self, clips: Tensor) -> Tensor:
        """Clips [B, 3, T, H, W] as feature vectors [B, D], float32.

        Raises:
            BackboneError: the clips have another shape, or are shorter or smaller than ``LEAST_CLIP``.
        """
        check_clips(clips, channels=3, least=LEAST_CLIP[self.name], what=self.name)
        ready = like_weights(clips, next(self.trunk.parameters()))
        if self.name.startswith("slowfast"):
            paths = self.trunk(_pathways(ready))
            pooled = self.pool([maps.float() for maps in paths])
        else:
            pooled = self.pool(self.trunk(ready).float())  # [B, D, t, h, w]
        if len(self.past_pool):
            pooled = self.past_pool(pooled.to(next(self.past_pool.parameters()).dtype))
        places: Tensor = pooled.float()
        return places.mean(dim=(2, 3, 4))

    def classify(self, features: Tensor) -> Tensor:
        """Feature vectors [B, D] as class logits [B, K]; linear, so that the mean's logits are the logits' mean."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits

    def load_published(self, state_dict: Mapping[str, Tensor]) -> None:
        """Take the weights of a checkpoint with the keys of the hub's own network.

        Raises:
            WeightsError: it is not one of this network, with these classes.
        """
        what = f"PyTorchVideo's {self.name} with {self.classifier.out_features} classes"
        load_published(self, state_dict, published_name=self._published.__getitem__, what=what)


def _pathways(clips: Tensor) -> list[Tensor]:
    """What SlowFast's pathways see of clips [B, 3, 32, H, W]: slow [B, 3, 8, H, W] and fast, all of it."""
    (frames, *_), found = LEAST_CLIP["slowfast_r50"], clips.shape[2]
    if found != frames:
        raise BackboneError(f"slowfast_r50 takes clips of exactly {frames} frames, got {found}: let its windows have {frames}")
    slow = torch.linspace(0, frames - 1, frames // ALPHA, device="cpu").long()
    return [clips.index_select(2, slow.to(clips.device)), clips]


def _join_norms(network: nn.Module) -> None:
    """Put each convolution and the norm behind it into a sequence, in place; the hub's blocks pass over norms that are None."""
    for block in list(network.modules()):
        for convolution_name, norm_name in _NORMED:
            norm = getattr(block, norm_name, None)
            convolution = getattr(block, convolution_name, None)
            if norm is None or convolution is None:
                continue
            behind = None
            if isinstance(norm, nn.Sequential):
                norm, behind = norm  # X3D's: then squeeze and excitation
            setattr(block, norm_name, behind)
            owner, last = block, convolution_name
            if hasattr(convolution, "conv_xy"):  # of two halves, of which this is the second to be applied
                owner, last = convolution, "conv_xy"
            setattr(owner, last, nn.Sequential(OrderedDict(conv=getattr(owner, last), norm=norm)))


def _hub() -> ModuleType:
    """PyTorchVideo's functions that build its networks; the first import of them takes a second."""
    if _HUB in sys.modules:
        return sys.modules[_HUB]
    # fvcore, which comes with PyTorchVideo, calls at import what newer torch asks its callers to give up
    with _something_for_torchvision(), warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        return importlib.import_module(_HUB)


@contextmanager
def _something_for_torchvision() -> Iterator[None]:
    """Torchvision can be imported inside: itself, or where it does not load, a stand-in that is taken away again."""
    try:
        importlib.import_module(_BORROWED[1])
    # one for another torch fails in ways of its own: a library that is not found, an operator that does not exist
    except (ImportError, OSError, RuntimeError, AttributeError):
        pass
    else:
        yield
        return
    before = {name: sys.modules[name] for name in _BORROWED if name in sys.modules}
    package, ops = (ModuleType(name) for name in _BORROWED)
    vars(package).update(ops=ops, __path__=[])
    vars(ops).update(RoIAlign=_NoRoIAlign)
    sys.modules.update({_BORROWED[0]: package, _BORROWED[1]: ops})
    try:
        yield
    finally:
        for name in _BORROWED:
            sys.modules.pop(name, None)
        sys.modules.update(before)


class _NoRoIAlign:
    """In the place of torchvision's ``RoIAlign``."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise BackboneError(
            "RoIAlign is torchvision's, which could not be imported: install the torchvision that belongs to this torch"
        )
