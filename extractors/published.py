"""What the published 3-D networks (I3D, C3D, P3D) share: the checkpoint they load and the clips they take are checked.

A checkpoint is a state dictionary under the names that its authors gave. Each of them must find its place, in its shape, and
no place may stay empty: a network that runs with some weights left random gives features that look like any others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from tal_run.extractors.backbone import BackboneError
from tal_run.extractors.weights import WeightsError

# Batch normalisation's step counters: checkpoints older than PyTorch 0.4.1 have none, and inference needs none.
COUNTER = "num_batches_tracked"
NAMES_SHOWN = 3


def load_published(
    network: nn.Module, published: Mapping[str, Tensor], *, published_name: Callable[[str], str], what: str
) -> None:
    """Copy a published checkpoint into a network.

    Args:
        network: takes the weights; left as it was if anything is wrong.
        published: the checkpoint, by its authors' names.
        published_name: the authors' name of one of the network's own.
        what: the network, for the error's sentence.

    Raises:
        WeightsError: names are missing or unknown, or shapes differ.
    """
    strangers = [name for name, value in published.items() if not isinstance(value, Tensor)]
    if strangers:
        raise WeightsError(f"this is no state dictionary: {strangers[0]!r} is not a tensor; if it is one, give that inside")
    ours = {published_name(name): (name, value) for name, value in network.state_dict().items() if not name.endswith(COUNTER)}
    theirs = {name: value for name, value in published.items() if not name.endswith(COUNTER)}
    faults = (
        _listed("lacks", [name for name in ours if name not in theirs]),
        _listed("has the unknown", [name for name in theirs if name not in ours]),
        _listed(
            "differs in shape:",
            [
                f"{name} is {list(value.shape)}, not {list(ours[name][1].shape)}"
                for name, value in theirs.items()
                if name in ours and value.shape != ours[name][1].shape
            ],
        ),
    )
    if any(faults):
        raise WeightsError(f"this is not a checkpoint of {what}: it {'; it '.join(filter(None, faults))}")
    network.load_state_dict({ours[name][0]: value for name, value in theirs.items()}, strict=False)


def check_clips(clips: Tensor, *, channels: int, least: tuple[int, int, int], what: str) -> None:
    """Refuse what is not a batch of clips [B, C, T, H, W], or is too short or too small for the network to see anything.

    Args:
        clips: of any shape.
        channels: C.
        least: frames, height and width.
        what: the network, for the error's sentence.

    Raises:
        BackboneError: the shape does not fit.
    """
    shape = tuple(clips.shape)
    if len(shape) != 5 or shape[1] != channels or any(size < low for size, low in zip(shape[2:], least, strict=True)):
        frames, height, width = least
        raise BackboneError(
            f"{what} takes clips [B, {channels}, T, H, W] with T from {frames}, H from {height} and W from {width}, "
            f"got {list(shape)}"
        )


def like_weights(clips: Tensor, weight: Tensor) -> Tensor:
    """Clips [B, C, T, H, W] as a convolution with that weight wants them: on its device, in its precision and memory order."""
    last = weight.is_contiguous(memory_format=torch.channels_last_3d)
    memory_format = torch.channels_last_3d if last else torch.contiguous_format
    return clips.to(device=weight.device, dtype=weight.dtype, memory_format=memory_format)


def _listed(verb: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - NAMES_SHOWN} more" if len(items) > NAMES_SHOWN else ""
    return f"{verb} {', '.join(items[:NAMES_SHOWN])}{more}"
