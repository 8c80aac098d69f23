"""How large a training will be: numbers to learn, files, memory; reckoned from the network before anything is learnt.

    P  the network                                                FILE.safetensors
    O  what optimizers remember: Adam twice what it changes,
       SGD with momentum once, and each optimizer for itself      P + O: FILE.training.safetensors
    G  gradients, as large as what is learnt

    memory = Python and torch + features + a head to start from + P + G + O + 3 P (while the head is saved) + a batch

What a batch takes only the method knows: it is not in the sum. Peaks of resident memory as measured on a CPU with one thread:
AherNet as published, of 256 numbers a snippet and 16 videos a batch, 3.3 GB, where the sum is 2.7 GB; W-TALC, of 8 numbers,
0.33 GB and 0.33 GB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tal_run.models.head import Head, Step, TrainedHead, TrainingVideo

if TYPE_CHECKING:
    from torch import Tensor, nn

PROGRAM_BYTES = 330_000_000  # Python, torch and NumPy (measured: W-TALC's peak, as above)
# the numbers of a head's configuration that say how large it is
WIDTHS: dict[str, tuple[str, ...]] = {
    "actionbytes": ("latent_dim",),
    "ahernet": ("stem", "widths"),
    "autoloc": ("channels",),
    "scnn": ("width",),
    "wsad": (),
    "wtalc": (),
}
SAVING = 3  # copies of the head in memory while it is saved (``models.head.save_head``)
MUCH_BYTES = 1_000_000_000  # of memory, from which on it is worth a word


@dataclass(frozen=True, kw_only=True)
class TrainingSize:
    """What a training takes.

    Attributes:
        weights: numbers that are learnt.
        head_bytes: of the head's file.
        state_bytes: of the file to go on from.
        features_bytes: of what is learnt from, in memory.
        start_bytes: of the head that it starts from, in memory; 0: of none.
        learning_bytes: of the network, its gradients and what its optimizers remember; on a GPU, if there is one.
    """

    weights: int
    head_bytes: int
    state_bytes: int
    features_bytes: int
    start_bytes: int = 0
    learning_bytes: int

    @property
    def other_bytes(self) -> int:
        """Of memory beside what is learnt, a batch not counted."""
        return PROGRAM_BYTES + self.features_bytes + self.start_bytes + SAVING * self.head_bytes

    @property
    def memory_bytes(self) -> int:
        """Of all that lies in memory at once, a batch not counted."""
        return self.learning_bytes + self.other_bytes

    @property
    def is_large(self) -> bool:
        """Whether it is worth a word."""
        return self.memory_bytes >= MUCH_BYTES


def size_of(
    head: Head[Any],
    network: nn.Module,
    steps: Sequence[Step],
    videos: Iterable[TrainingVideo] = (),
    *,
    start: TrainedHead | None = None,
) -> TrainingSize:
    """What a training of a network takes.

    Args:
        head: the method.
        network: not trained yet.
        steps: the updates of an iteration.
        videos: what is learnt from, where that is in memory.
        start: what it starts from, if from anything.
    """
    learnt = [weight for weight in network.parameters() if weight.requires_grad]
    network_bytes, gradients = _bytes(network.state_dict().values()), _bytes(learnt)
    remembered = sum(
        _remembered(group) * _bytes(weight for weight in group["params"] if weight.requires_grad)
        for step in steps
        for group in step.optimizer.param_groups
    )
    if head.mine:  # what is learnt changes on the way: as if it were everything
        remembered = max(remembered, _remembered(steps[0].optimizer.param_groups[0]) * gradients)
    # moments cut out of one video share its memory only as long as it is there: each counts
    features = sum(video.features.nbytes for video in videos)
    return TrainingSize(
        weights=sum(weight.numel() for weight in learnt),
        head_bytes=network_bytes,
        state_bytes=network_bytes + remembered,
        features_bytes=features,
        start_bytes=_bytes(start.network.state_dict().values()) if start else 0,
        learning_bytes=network_bytes + gradients + remembered,
    )


def _remembered(group: dict[str, Any]) -> int:
    """Numbers that an optimizer keeps for each weight of a group: Adam's two moments, SGD's one if it has any."""
    if "betas" in group:
        return 3 if group.get("amsgrad") else 2
    return 1 if group.get("momentum") else 0


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def sentence(
    size: TrainingSize, head: Head[Any], config: Any, *, dim: int, device: str, state: str, save_every_s: float
) -> str:
    """What a training takes and how it would take less, for people.

    Args:
        size: of the training.
        head: the method.
        config: its configuration.
        dim: width of the features.
        device: what is computed on.
        state: name of the file to go on from.
        save_every_s: after how long that is written again.
    """
    memory = f"some {shown(size.memory_bytes)} of memory and what a batch takes"
    if not device.startswith("cpu"):
        there = f"some {shown(size.learning_bytes)} of memory on {device}, what a batch takes there"
        memory = f"{there}, and {shown(size.other_bytes)} here"
    return (
        f"this takes {memory}, a disk for {shown(size.head_bytes)} and, until it is done, {shown(size.state_bytes)} to go on "
        f"from ({state}), written every {save_every_s:g} s (--save-every); {_less(size, head, config, dim)}"
    )


def _less(size: TrainingSize, head: Head[Any], config: Any, dim: int) -> str:
    """How a training would take less: by what takes most of it."""
    if size.features_bytes > size.memory_bytes / 2:
        return f"{shown(size.features_bytes)} of that are features: fewer videos, or fewer snippets a second, take less"
    if getattr(config, "trunk", "") == "c3d":
        return "--trunk starter takes less"
    halved = [f"--config {name}={_half(getattr(config, name), dim)}" for name in WIDTHS[head.name]]
    return f"half as wide, it takes less: {' '.join(halved)}" if halved else "narrower features take less"


def _half(width: int | tuple[int, ...] | None, dim: int) -> str:
    widths = width if isinstance(width, tuple) else (dim if width is None else width,)
    return ",".join(str(max(1, each // 2)) for each in widths)


def counted(count: int) -> str:
    """A number for people: 4,237,332; 56.6 million."""
    return f"{count:,}" if count < 10_000_000 else f"{count / 1e6:,.1f} million"


def shown(count: float) -> str:
    """Bytes for people: 227 MB, 1.2 GB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if count >= 0.9995 * unit:
            return f"{count / unit:.1f} {name}" if count < 10 * unit else f"{count / unit:,.0f} {name}"
    return f"{max(1, round(count / 1e3))} kB"
