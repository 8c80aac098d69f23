"""Published PyTorch checkpoints, read without trusting them.

They are pickles, which can run anything when opened. PyTorch's restricted reader (``weights_only``) opens them here, once: what
holds more than tensors is refused, the tensors go to a safetensors file in the cache, and from then on only that is read. The
copy is named after the sha256 of what it was made from, and its own sha256 is noted beside it, so that neither a changed
original nor a damaged copy goes unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tal_run.extractors.files import written_whole
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.weights import WeightsError, WeightsFile, cache_folder, locate, pin_of, sha256_of

if TYPE_CHECKING:
    from torch import Tensor

# training scripts save the network inside a dictionary with the epoch and the optimizer
INNER = "state_dict"


def read_checkpoint(weights: WeightsFile, *, hook: Hook = ignore_progress) -> dict[str, Tensor]:
    """The state dictionary in a published file, by its authors' names; found or downloaded, converted at the first reading.

    Raises:
        WeightsError: the file cannot be had, is damaged, or holds more than tensors.
    """
    (original,) = locate(weights, hook=hook)
    digest = sha256_of(original)
    copy = converted_path(weights, digest)
    if (state := _verified(copy)) is not None:
        return state
    hook(f"converting {weights.file_name}", completed=0, total=1)
    state = _unpickled(original, weights)
    try:
        _convert(state, copy)
    except OSError:
        return state  # a cache that cannot be written, or is full, costs a conversion each time
    hook(f"converting {weights.file_name}", completed=1, total=1)
    verified = _verified(copy)
    if verified is None or not _same(state, verified):
        raise WeightsError(f"{copy} did not keep what was written to it: the disk or the memory is failing")
    return verified


def converted_path(weights: WeightsFile, digest: str) -> Path:
    """Where the safetensors copy is kept of a file with that sha256; the copy's own stands beside it, ``.sha256`` added."""
    return cache_folder() / f"{weights.file_name}-{digest[:16]}.safetensors"


def _note_of(copy: Path) -> Path:
    return copy.with_name(f"{copy.name}.sha256")


def _verified(copy: Path) -> dict[str, Tensor] | None:
    """The tensors of a converted copy; None: there is none, or not with the content that was noted."""
    from safetensors.torch import load_file

    try:
        if _note_of(copy).read_text(encoding="ascii").strip() != sha256_of(copy):
            return None
        state: dict[str, Tensor] = load_file(copy)
    except OSError:
        return None
    return state


def _convert(state: Mapping[str, Tensor], copy: Path) -> None:
    from safetensors.torch import save_file

    copy.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(copy) as part:
        save_file(dict(state), part)
        digest = sha256_of(part)
    with written_whole(_note_of(copy)) as part:
        part.write_text(f"{digest}\n", encoding="ascii")


def _unpickled(path: Path, weights: WeightsFile) -> dict[str, Tensor]:
    """The tensors in a checkpoint, each with memory of its own."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or a hostile pickle may raise anything
        reason = str(error).strip().partition("\n")[0].partition(". ")[0]
        raise WeightsError(
            f"{path} is not opened, as it is damaged or holds more than tensors ({reason or type(error).__name__}): "
            f"remove it{_and_pin(weights)} and get the published one from {weights.url or weights.source}"
        ) from error
    if isinstance(content, dict) and isinstance(content.get(INNER), dict):
        content = content[INNER]
    if not isinstance(content, dict) or not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(
            f"{path} holds no state dictionary, which is names with a tensor each: is it another network's file?"
        )
    return {str(name): value.detach().clone().contiguous() for name, value in content.items()}


def _and_pin(weights: WeightsFile) -> str:
    return f" and {pin_of(weights)}" if pin_of(weights).is_file() else ""


def _same(written: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> bool:
    import torch

    # bytes rather than numbers: a NaN is kept too
    return written.keys() == read.keys() and all(
        value.dtype == read[name].dtype
        and value.shape == read[name].shape
        and torch.equal(value.reshape(-1).view(torch.uint8), read[name].reshape(-1).view(torch.uint8))
        for name, value in written.items()
    )
