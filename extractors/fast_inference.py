"""The published networks made ready to be run, not trained: the same numbers, sooner.

- Batch norms are folded into the convolutions before them: in evaluation mode both are linear.
- Channels lie last in memory, which is how the processors' and GPUs' convolutions work.
- Computation is in bfloat16 where the machine multiplies it in hardware (AMX, AVX-512 BF16, GPUs from Ampere on): half the
  bytes and two to sixteen times the multiplications. Elsewhere it would be emulated and slower, so there it is float32. Sums
  inside a layer are float32 either way, and so are the last pool, the features and the classifier.

Measured by ``tests/benchmarks/backbones.py``.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tal_run.extractors.backbone import BackboneError, Precision

Network = TypeVar("Network", bound=nn.Module)

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by rank


def for_inference(network: Network, *, precision: Precision = "auto", device: str = "cpu") -> Network:
    """A copy of a published network that gives its features sooner; the one given is left as it is.

    Args:
        network: InceptionI3D, C3D or P3D199 with its weights. Its ``classifier`` stays in float32.
        precision: ``auto`` takes bfloat16 where ``has_bfloat16``. On GPUs PyTorch rounds the inputs of float32 convolutions to
            TF32 unless ``torch.backends.cudnn.allow_tf32`` is false.
        device: where torch computes, ``cpu`` or ``cuda``.

    Raises:
        BackboneError: there is no such precision, or the device is not there.
    """
    precision = resolved_precision(precision, device)
    ready = copy.deepcopy(network).eval().requires_grad_(False)
    fold_batch_norms(ready)
    for name, parameter in ready.named_parameters():
        dtype = torch.float32 if name.startswith("classifier.") else _DTYPES[precision]
        memory_format = _LAST.get(parameter.ndim, torch.contiguous_format)
        parameter.data = parameter.data.to(dtype=dtype, memory_format=memory_format)
    try:
        return ready.to(device)
    except (RuntimeError, AssertionError) as error:
        raise BackboneError(f"{type(network).__name__} cannot work on {device!r} ({error}): use --device cpu") from error


def resolved_precision(precision: Precision, device: str = "cpu") -> Precision:
    """``bfloat16`` or ``float32``: what ``auto`` comes to on that device, or what was asked for.

    Raises:
        BackboneError: there is no such precision, or no such kind of device.
    """
    try:
        torch.device(device)
    except RuntimeError as error:
        raise BackboneError(f"there is no device {device!r}: choose cpu, cuda or, of several GPUs, cuda:1") from error
    if precision == "auto":
        return "bfloat16" if has_bfloat16(device) else "float32"
    if precision not in _DTYPES:
        raise BackboneError(f"there is no precision {precision!r}: choose one of auto, {', '.join(_DTYPES)}")
    return precision


def has_bfloat16(device: str = "cpu") -> bool:
    """Whether the processor or the GPU multiplies bfloat16 in hardware."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    # PyTorch's own switches; older releases lack one or the other
    switches = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(switch() for switch in switches if switch is not None)


def fold_batch_norms(network: nn.Module) -> None:
    """Fold each batch norm that follows a convolution in an ``nn.Sequential`` into it, in place, for evaluation only."""
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for (name, convolution), (norm_name, norm) in list(pairwise(module.named_children())):
            if isinstance(convolution, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                delattr(module, norm_name)
