"""Published PyTorch checkpoints, read without trusting them.

They are pickles, which can run anything when opened. PyTorch's restricted reader (``weights_only``) opens them here, once: what
holds more than tensors is refused, and so are tensors that no checkpoint of ours has: views of more numbers than there are,
sparse or quantized ones, complex numbers. The rest go to a safetensors file in the cache, and from then on only that is read.
The copy is named after the sha256 of what it was made from, and its own sha256 is noted beside it, so that neither a changed
original nor a damaged copy goes unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tal_run.extractors.files import written_whole
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.weights import (
    MOST_BYTES,
    WeightsError,
    WeightsFile,
    cache_folder,
    is_file,
    locate,
    noted_in,
    pin,
    pin_of,
    sha256_of,
)

if TYPE_CHECKING:
    from torch import Tensor

Made = TypeVar("Made")

# training scripts save the network inside a dictionary with the epoch and the optimizer
INNER = ("state_dict", "model_state")
DTYPES = frozenset({"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"})


def read_checkpoint(weights: WeightsFile, *, hook: Hook = ignore_progress) -> dict[str, Tensor]:
    """The state dictionary in a published file, by its authors' names; found or downloaded, converted at the first reading.

    Raises:
        WeightsError: the file cannot be had, is damaged, or holds more than tensors.
    """
    return made_from(weights, lambda state: state, hook=hook)


def made_from(weights: WeightsFile, make: Callable[[dict[str, Tensor]], Made], *, hook: Hook = ignore_progress) -> Made:
    """What is made from the state dictionary in a published file, which is thereby proven to be the right one.

    A file whose authors gave no checksum is pinned only afterwards, so that a stray one of the same name never is.

    Args:
        weights: the file.
        make: is given the state dictionary, and raises ``WeightsError`` where it is not the one that it was taken for.
        hook: told of downloads and conversions.

    Raises:
        WeightsError: the file cannot be had, is damaged, holds more than tensors, or nothing can be made from it.
    """
    (original,) = locate(weights, hook=hook, pin_first=False)
    digest = sha256_of(original)
    state = _read(original, weights, digest, hook)
    try:
        made = make(state)
    except WeightsError as error:
        raise WeightsError(f"{original}: {error}; {_get_another(weights)}") from error
    pin(weights, digest)
    return made


def _read(original: Path, weights: WeightsFile, digest: str, hook: Hook) -> dict[str, Tensor]:
    """The tensors of an original, from its copy, which is made if need be."""
    from safetensors import SafetensorError

    copy = converted_path(weights, digest)
    if (state := _verified(copy)) is not None:
        return state
    hook(f"converting {weights.file_name}", completed=0, total=1)
    state = _unpickled(original, weights)
    try:
        _convert(state, copy)
    except (OSError, SafetensorError):  # the latter is what safetensors makes of a full disk
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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if noted_in(_note_of(copy)) != sha256_of(copy):
            return None
        state: dict[str, Tensor] = load_file(copy)
    except (OSError, SafetensorError):
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
        words = getattr(error, "strerror", None) or str(error)
        reason = words.strip().partition("\n")[0].partition(". ")[0] or (
            "it ends too early" if isinstance(error, EOFError) else ""
        )
        raise WeightsError(
            f"{path} is not opened, as it is damaged or holds more than tensors ({reason or type(error).__name__}): "
            f"{_get_another(weights)}"
        ) from error
    if isinstance(content, dict):
        content = next((content[key] for key in INNER if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(
            f"{path} holds no state dictionary, which is names with a tensor each: is it another network's file?"
        )
    try:
        strange = next((f"{name!r:.80} {why}" for name, value in content.items() if (why := _strangeness(name, value))), None)
        if strange is None and (total := sum(value.numel() * value.element_size() for value in content.values())) > MOST_BYTES:
            strange = f"{total:,} bytes of tensors"
        if strange is None:
            return {name: value.detach().resolve_neg().clone().contiguous() for name, value in content.items()}
    except Exception as error:  # of tensors that are not what they seem
        strange = str(error).strip().partition("\n")[0] or type(error).__name__
        raise WeightsError(f"{path} holds what no checkpoint holds ({strange}): {_get_another(weights)}") from error
    raise WeightsError(f"{path} holds what no checkpoint holds ({strange}): {_get_another(weights)}")


def _strangeness(name: object, value: Tensor) -> str | None:
    """What keeps a tensor from being copied as it is, safely; None: nothing."""
    import torch

    if not isinstance(name, str) or not name.isascii() or not name.isprintable() or name == "__metadata__":
        return "is no name of a tensor"
    if value.layout is not torch.strided or value.is_nested or value.is_quantized:
        return "is sparse, nested or quantized"
    if value.device.type != "cpu":
        return f"has no numbers, being on the device {value.device.type!r}"
    if str(value.dtype).removeprefix("torch.") not in DTYPES:
        return f"holds {value.dtype}"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"shows {value.numel():,} numbers, more than there are"
    return None


def _get_another(weights: WeightsFile) -> str:
    """The cure where a file is not the published one, or what it holds is not what it was taken for."""
    pinned = f" and {pin_of(weights)}" if is_file(pin_of(weights)) else ""
    return f"remove it{pinned} and get the published one from {weights.url or weights.source}"


def _same(written: Mapping[str, Tensor], read: Mapping[str, Tensor]) -> bool:
    import torch

    # bytes rather than numbers: a NaN is kept too
    return written.keys() == read.keys() and all(
        value.dtype == read[name].dtype
        and value.shape == read[name].shape
        and torch.equal(value.reshape(-1).view(torch.uint8), read[name].reshape(-1).view(torch.uint8))
        for name, value in written.items()
    )
