"""What every head is: one protocol for all methods, each of which is one file with the equations of its paper.

    features [B, T, D], lengths [B] -> network -> outputs -+- loss (outputs, batch) -> named losses, to be minimised together
                                                           +- decode (outputs of one video) -> segments, scores, classes

A method's file ends with ``HEAD``, a ``Head`` that names its parts; ``HEADS`` says which file that is, and ``head_named``
imports it, as networks need torch and nothing else here does. A head that has learnt something is a ``TrainedHead``: a file
of safetensors whose metadata say what its numbers must not be parted from.

Conventions that all heads keep:

- ``network(features, lengths)`` gives a named tuple of tensors, always the same one, in training and out of it. What a loss
  needs of the network's weights is in there too, so a loss is a function of what it is given. What lies behind a video's
  length is padding, and must not change what comes out for the snippets before it, nor the loss.
- ``loss`` gives scalars by name, each already times its weight: their sum is the paper's total.
- ``decode`` takes the same tuple as NumPy arrays, of a batch of one video (B = 1) without padding, so that nothing has to be
  said about which axis is whose. It knows nothing of seconds.
- Segments are borders in snippets, float64 [N, 2]: snippet t is the stretch from t to t + 1, so an inclusive range a..b is
  (a, b + 1), 0 <= start < end <= T, and ``TimeGrid.borders_to_seconds`` gives their place in the video.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import import_module
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.features import FeatureNeeds, Features
from tal_run.extractors.files import written_whole
from tal_run.extractors.names import choices
from tal_run.extractors.wire import printable
from tal_run.models.detection import Detection

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

# name -> the module whose HEAD it is
HEADS: dict[str, str] = {
    "actionbytes": "tal_run.models.actionbytes_network",
    "ahernet": "tal_run.models.ahernet",
    "autoloc": "tal_run.models.autoloc",
    "scnn": "tal_run.models.scnn",
    "wsad": "tal_run.models.wsad",
    "wtalc": "tal_run.models.wtalc",
}

FORMAT = "tal-run head 1"  # the one entry of the metadata
MOST_CLASSES, MOST_DIM = 100_000, 1 << 20  # of a head in a file, beyond which it is damaged
MOST_COUNT = 2**31  # of any number in a configuration

C = TypeVar("C")


class HeadError(TalRunError):
    """A head that does not exist, cannot be read, or cannot learn from what it is given."""


class Found(NamedTuple):
    """What ``decode`` finds in one video, best first.

    Attributes:
        segments: borders in snippets, float64 [N, 2].
        scores: float64 [N].
        classes: indices of the labels, int64 [N].
    """

    segments: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]


def found(segments: Sequence[ArrayLike], scores: Sequence[ArrayLike], classes: Sequence[int]) -> Found:
    """Join what was found class by class, best first; of equal scores the one listed first goes first.

    Args:
        segments: for each class, borders in snippets [N_i, 2].
        scores: for each class, [N_i].
        classes: the classes' indices.
    """
    borders = [np.asarray(of_class, np.float64).reshape(-1, 2) for of_class in segments]
    if not borders:
        return Found(np.empty((0, 2)), np.empty(0), np.empty(0, np.int64))
    joined = np.concatenate([np.asarray(of_class, np.float64).reshape(-1) for of_class in scores])
    labels = np.repeat(np.asarray(classes, np.int64), [len(of_class) for of_class in borders])
    order = np.argsort(-joined, kind="stable")
    return Found(np.concatenate(borders)[order], joined[order], labels[order])


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Videos to learn from, side by side, on one device.

    Attributes:
        features: [B, T, D], zero behind a video's length.
        lengths: snippets of each video, int64 [B].
        labels: which classes occur in it, float32 [B, C] of 0 and 1; behind them, once a method has mined some, which
            pseudo-classes [B, C + K].
        segments: of methods that learn from times: for each video, borders in snippets, float32 [N_i, 2].
        segment_classes: for each video, the segments' classes, int64 [N_i].
        trimmed: which of them are one action from end to end, bool [B]; None: none is.
    """

    features: Tensor
    lengths: Tensor
    labels: Tensor
    segments: tuple[Tensor, ...] = ()
    segment_classes: tuple[Tensor, ...] = ()
    trimmed: Tensor | None = None

    def to(self, device: str) -> Batch:
        """The same on another device."""
        return replace(
            self,
            features=self.features.to(device),
            lengths=self.lengths.to(device),
            labels=self.labels.to(device),
            segments=tuple(of_video.to(device) for of_video in self.segments),
            segment_classes=tuple(of_video.to(device) for of_video in self.segment_classes),
            trimmed=None if self.trimmed is None else self.trimmed.to(device),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingVideo:
    """One video to learn from.

    Attributes:
        features: float32 [T, D].
        classes: indices of the labels that occur in it.
        segments: borders in snippets [N, 2], where times are known.
        segment_classes: the segments' classes [N].
        trimmed: it is a moment, one action of its one class from end to end, and has no segments.
    """

    features: NDArray[np.float32]
    classes: tuple[int, ...]
    segments: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    segment_classes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    trimmed: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """One of the updates that make up an iteration of training: most methods have one, adversarial ones several.

    Attributes:
        optimizer: of the weights that it changes.
        schedule: of its learning rate, stepped once an iteration.
        minimizes: names of the losses that it minimises the sum of; none: of all.
    """

    optimizer: Optimizer
    schedule: LRScheduler
    minimizes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Head(Generic[C]):
    """A method: its parts by the names that every method has for them.

    Attributes:
        name: as in ``HEADS``.
        config: the frozen configuration; what it takes by default is the paper's. It has ``iterations`` (of training) and
            ``max_snippets`` (of a video in training, cut out at random; None: all of them).
        network: (feature dim, number of classes, ``config=``) -> the network.
        loss: (outputs, batch, ``config=``) -> named losses.
        decode: (outputs of one video as arrays, config) -> what is found.
        sample: (labels [V, C] of all videos, config, ``rng=``) -> indices of the next batch's videos [B].
        steps: (network, config) -> the updates of an iteration.
        draw: of methods that learn from videos of several kinds, in the place of ``sample``: (videos, config, ``rng=``) ->
            what the next batch is made of, which may be cut out of them.
        iterate: of methods that learn from something else than videos' features, in the place of all of these: (network,
            steps, config, ``rng=``, ``iteration=`` from 0 on) -> the losses of an iteration, which it has lessened.
        begin: what has to be done to a new network before the first iteration: (network, videos, config, ``start=`` a
            ``TrainedHead`` to start from or None, ``rng=``, ``hook=``).
        mine: of methods that make labels of their own: (network, features of all videos, config, ``iteration=``, ``rng=``) ->
            pseudo-labels [V, K], learnt from that iteration on and drawn by (``sample``), or None: none are due. Asked before
            every iteration; the network may be changed, and the updates begin anew after it.
        carry_over: of methods that find what they have not learnt: (outputs of one video as arrays, affinities [C, Q], config)
            -> outputs for Q other classes.
    """

    name: str
    config: type[C]
    network: Callable[..., nn.Module]
    loss: Callable[..., dict[str, Tensor]]
    decode: Callable[[Any, C], Found]
    sample: Callable[..., NDArray[np.int64]]
    steps: Callable[[nn.Module, C], tuple[Step, ...]]
    draw: Callable[..., list[TrainingVideo]] | None = None
    iterate: Callable[..., dict[str, float]] | None = None
    begin: Callable[..., None] | None = None
    mine: Callable[..., NDArray[np.bool_] | None] | None = None
    carry_over: Callable[[Any, ArrayLike, C], Any] | None = None

    def new_network(self, feature_dim: int, num_classes: int, *, config: C, seed: int) -> nn.Module:
        """An untrained network, in training mode: the same for the same seed, whatever was drawn before."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.network(feature_dim, num_classes, config=config)


def head_named(name: str) -> Head[Any]:
    """The head of that name.

    Raises:
        HeadError: there is none.
    """
    if name not in HEADS:
        raise HeadError(f"there is no head {name!r} that learns: {choices(name, HEADS)}")
    head: Head[Any] = import_module(HEADS[name]).HEAD
    return head


@dataclass(frozen=True, kw_only=True)
class TrainedHead:
    """A head that has learnt, with what belongs to it.

    Attributes:
        head: the method.
        config: its configuration, with which it was trained.
        network: the network, in evaluation mode.
        labels: names of the C classes.
        needs: the features that it was trained on; it takes no others. Their width must be known.
        recipe: how it was trained, for people: names and values that JSON can hold.
        affinities: where the labels are not those that it has learnt: how close each of these C is to the Q labels [C, Q].
    """

    head: Head[Any]
    config: Any
    network: nn.Module
    labels: tuple[str, ...]
    needs: FeatureNeeds
    recipe: Mapping[str, Any] = field(default_factory=dict)
    affinities: NDArray[np.float64] | None = None

    def carried_over(self, labels: Sequence[str], affinities: ArrayLike) -> TrainedHead:
        """The same head, for other labels: its classes' scores are carried over to them.

        Args:
            labels: Q names.
            affinities: [C, Q].

        Raises:
            HeadError: the method cannot do that.
        """
        if self.head.carry_over is None or self.affinities is not None:
            raise HeadError(f"{self.head.name} finds what it has learnt, and nothing else: train it on these labels")
        return replace(self, labels=tuple(labels), affinities=np.asarray(affinities, np.float64))

    def outputs(self, features: Features) -> Any:
        """What the network makes of a video: its named tuple, as NumPy arrays, of a batch of one.

        Raises:
            FeatureError: these are not features such as it was trained on.
            HeadError: its weights, finite though they are, make infinite numbers of them.
        """
        import torch

        self.needs.check(features)
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            video = torch.from_numpy(np.array(features.data[None], np.float32)).to(device)  # [1, T, D]
            outputs = to_arrays(self.network.eval()(video, torch.tensor([video.shape[1]], device=device)))
        if not all(np.isfinite(array).all() for array in outputs):
            raise HeadError(
                f"the {self.head.name} head makes numbers that are none (NaN or infinite) of finite features, so its weights "
                "are damaged: fetch its file again, or train it anew"
            )
        if self.affinities is None or self.head.carry_over is None:
            return outputs
        return self.head.carry_over(outputs, self.affinities, self.config)

    def localize(self, features: Features) -> list[Detection]:
        """Actions in a video, best first.

        Raises:
            FeatureError: these are not features such as it was trained on.
        """
        segments, scores, classes = self.head.decode(self.outputs(features), self.config)
        seconds = features.grid.borders_to_seconds(segments)
        return [
            Detection(float(start), float(end), self.labels[index], float(score))
            for (start, end), score, index in zip(seconds, scores, classes, strict=True)
            if end > start  # cells behind the video's end are empty
        ]


def to_arrays(outputs: Any) -> Any:
    """A named tuple of tensors as one of NumPy arrays."""
    return type(outputs)(*(tensor.detach().cpu().numpy() for tensor in outputs))


def needs_of(features: Features) -> FeatureNeeds:
    """What a head that was trained on features such as these will take."""
    return FeatureNeeds(
        dim=features.data.shape[1],
        streams=tuple(name for name, _ in features.stream_dims) or None,
        step_s=features.grid.step_s,
        backbone=features.record.recipe.backbone if features.record else None,
    )


def labelled_videos(labels: ArrayLike) -> NDArray[np.int64]:
    """The videos that have any of the labels [V, C], which is what there is to learn from.

    Raises:
        HeadError: none has.
    """
    labelled = np.flatnonzero((np.asarray(labels) > 0).any(axis=1))
    if not len(labelled):
        raise HeadError("none of the videos has a label to learn from: check the annotations, and the subset")
    return labelled


def make_batch(
    videos: Sequence[TrainingVideo], *, num_classes: int, rng: np.random.Generator, max_snippets: int | None = None
) -> Batch:
    """Videos side by side. Of one that is too long, one stretch is cut out, anywhere with equal chance.

    If its times are known, that stretch has the labels of its own times, and none where nothing happens.

    Args:
        videos: B of them.
        num_classes: C.
        rng: for the cuts; nothing is drawn where there are none.
        max_snippets: a video's largest length; None: any.
    """
    import torch

    limit = max(len(video.features) for video in videos) if max_snippets is None else max_snippets
    lengths = [min(len(video.features), limit) for video in videos]
    features = np.zeros((len(videos), max(lengths), videos[0].features.shape[1]), np.float32)
    labels = np.zeros((len(videos), num_classes), np.float32)
    segments, segment_classes = [], []
    for row, (video, length) in enumerate(zip(videos, lengths, strict=True)):
        spare = len(video.features) - length
        start = int(rng.integers(spare + 1)) if spare else 0
        features[row, :length] = video.features[start : start + length]
        labels[row, list(video.classes)] = 1
        borders = np.clip(video.segments.reshape(-1, 2) - start, 0, length)
        inside = borders[:, 1] > borders[:, 0]
        if len(inside):  # its times are known
            labels[row] = 0
            labels[row, video.segment_classes[inside]] = 1
        segments.append(torch.from_numpy(borders[inside].astype(np.float32)))
        segment_classes.append(torch.from_numpy(video.segment_classes[inside].astype(np.int64)))
    return Batch(
        features=torch.from_numpy(features),
        lengths=torch.tensor(lengths),
        labels=torch.from_numpy(labels),
        segments=tuple(segments),
        segment_classes=tuple(segment_classes),
        trimmed=torch.tensor([video.trimmed for video in videos]),
    )


def update(head: Head[Any], network: nn.Module, steps: Sequence[Step], batch: Batch, *, config: Any) -> dict[str, float]:
    """One iteration of training: each step in turn, on losses of the weights as the steps before it left them.

    Args:
        head: the method.
        network: in training mode.
        steps: of ``head.steps``, once for the whole training.
        batch: what to learn from.
        config: the method's.

    Returns:
        The losses by name, as the last step saw them.
    """
    losses: dict[str, Tensor] = {}
    for step in steps:
        losses = head.loss(network(batch.features, batch.lengths), batch, config=config)
        step.optimizer.zero_grad()
        sum((losses[name] for name in step.minimizes or losses), start=batch.features.new_zeros(())).backward()  # type: ignore[no-untyped-call]
        step.optimizer.step()
        step.schedule.step()
    return {name: float(value.detach()) for name, value in losses.items()}


def save_head(path: str | os.PathLike[str], trained: TrainedHead) -> None:
    """Write a trained head as ``load_head`` reads it; whole or not at all.

    Raises:
        ValueError: it is not said how wide the features are, or its labels are not those that it has learnt.
        OSError: the file cannot be written.
    """
    from safetensors.numpy import save

    if trained.needs.dim is None:
        raise ValueError("a head is saved with the width of its features: give needs a dim")
    if trained.affinities is not None:
        raise ValueError("a head is saved with the labels that it has learnt: save it as it was before they were carried over")
    tensors = {
        name: np.array(tensor.detach().cpu().numpy(), order="C") for name, tensor in trained.network.state_dict().items()
    }
    card = {
        "head": trained.head.name,
        "config": asdict(trained.config),
        "labels": list(trained.labels),
        "needs": asdict(trained.needs),
        "recipe": dict(trained.recipe),
    }
    # one entry: safetensors writes several in an order that changes from run to run
    content = save(tensors, {FORMAT: json.dumps(card, allow_nan=False)})
    with written_whole(path) as part:
        part.write_bytes(content)


def load_head(path: str | os.PathLike[str], *, device: str = "cpu") -> TrainedHead:
    """The trained head in a file of ``save_head``.

    Raises:
        HeadError: the file is missing, damaged, of another kind, or of a head that is unknown here.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    shown = printable(os.fspath(path))
    try:
        with safe_open(os.fspath(path), framework="np") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise HeadError(f"{shown} is no trained head of this version ({FORMAT!r}): train it with `tal-run train`")
            names = file.keys()
            state = {name: torch.from_numpy(file.get_tensor(name)) for name in names}
        card = json.loads(metadata[FORMAT])
        head = head_named(_as(str, card["head"]))
        config = _from_json(head.config, card["config"])
        labels, needs = _from_json(tuple[str, ...], card["labels"]), _from_json(FeatureNeeds, card["needs"])
        if needs.dim is None or not (0 < needs.dim <= MOST_DIM and 0 < len(labels) <= MOST_CLASSES):
            raise ValueError(f"{len(labels)} labels for features of width {needs.dim}")
        network = _filled(head, state, dim=needs.dim, classes=len(labels), config=config)
        recipe = _as(dict, card["recipe"])
    except FileNotFoundError as error:
        raise HeadError(f"there is no trained head at {shown}: train one with `tal-run train`") from error
    except OSError as error:
        raise HeadError(f"the trained head {shown} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        raise HeadError(
            f"{shown} holds a damaged head ({printable(str(error), limit=200)}): fetch it again, or train it anew"
        ) from error
    network = network.to(device).eval().requires_grad_(False)
    return TrainedHead(head=head, config=config, network=network, labels=labels, needs=needs, recipe=recipe)


def _filled(head: Head[Any], state: Mapping[str, Tensor], *, dim: int, classes: int, config: Any) -> nn.Module:
    """The network that a file holds, if it holds all of it; no memory is taken before that is known. Raises ValueError."""
    import torch

    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in head.network(dim, classes, config=config).state_dict().items()}
    there = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != there:
        name = min(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        raise ValueError(f"{name} is {there.get(name, 'missing')}, not {wanted.get(name, 'there')}")
    if strange := next((name for name, tensor in state.items() if not tensor.isfinite().all()), None):
        raise ValueError(f"{strange} has weights that are no finite numbers")
    network = head.new_network(dim, classes, config=config, seed=0)
    network.load_state_dict(state)
    return network


def _from_json(kind: Any, value: Any) -> Any:
    """A value out of JSON as the type that it was, dataclasses and tuples included; TypeError or ValueError: it is none."""
    origin, options = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        hints, given = get_type_hints(kind), _as(dict, value)
        known = {entry.name for entry in fields(kind)}
        if unknown := given.keys() ^ known:
            raise ValueError(f"{min(unknown)} is unknown or missing")
        return kind(**{name: _from_json(hints[name], part) for name, part in given.items()})  # type: ignore[operator]
    if origin in (Union, UnionType):
        if value is None and NoneType in options:
            return None
        (kind,) = (option for option in options if option is not NoneType)
        return _from_json(kind, value)
    if origin is Literal:
        if value not in options:
            raise ValueError(f"{value!r} is none of {options}")
        return value
    if origin is tuple:
        parts = _as(list, value)
        kinds = [options[0]] * len(parts) if options[-1] is Ellipsis else options
        return tuple(_from_json(one, part) for one, part in zip(kinds, parts, strict=True))
    if kind is int and abs(_as(int, value)) > MOST_COUNT:
        raise ValueError(f"{value} is more than anything counts")
    if kind is float and not math.isfinite(_as((int, float), value)):
        raise ValueError(f"{value} is no number")
    return float(value) if kind is float else _as(kind, value)


def _as(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is not what is wanted there")
    return value
