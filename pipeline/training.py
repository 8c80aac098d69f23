"""Train a head: from a ``TrainingSet`` to a file that ``load_head`` reads, through any number of interruptions.

    every iteration      sample -> batch -> update
    every so often       FILE.training.safetensors   weights, optimizers, schedules, random states, iteration
    and at the end       FILE.safetensors            the head as it is by then, as ``load_head`` reads it

The first is all that the rest of the training depends on, so a training that was cut off, by whatever and wherever, goes on
where it was saved last and comes to the same weights, bit for bit, as one that was not: on one machine, with as many
threads. (A GPU adds up in an order of its own; there the results are close, not equal.) When the training is done the
second file is all that stays. Both appear whole or not at all, and neither is unpickled.

A method that makes labels of its own (``Head.mine``) is asked before every iteration whether they are due. What it gives is
part of what is saved, and optimizers begin anew with it.

Batches and cuts are drawn by one NumPy generator, all else (dropout) by torch's; both begin with the seed, and torch's is
given back as it was. Nothing depends on the clock but when something is saved.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tal_run.extractors.files import held_alone, remove_parts, written_whole
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.wire import printable
from tal_run.models.head import (
    Head,
    HeadError,
    TrainedHead,
    load_head,
    make_batch,
    save_head,
    update,
)
from tal_run.pipeline.outputs import OutputError, cannot_write, check_writable, is_stream
from tal_run.pipeline.tensor_files import write_tensors
from tal_run.pipeline.training_data import TrainingError, TrainingSet
from tal_run.pipeline.training_size import TrainingSize, size_of

if TYPE_CHECKING:
    from torch import nn

FORMAT = "tal-run training 1"  # the one entry of the metadata
STEP = "training"
LONGEST_NAME = 255  # bytes, of all file systems in use
ENDING = ".training.safetensors"
# of what a training is, the entries of a head's recipe that say so
KEPT_AS = {"seed": "seed", "data": "data_sha256", "device": "device", "start": "start_sha256"}

Tell = Callable[[int, Mapping[str, float]], None]
Began = Callable[[Path, Any, TrainingSet, TrainingSize], None]


class Interrupted(KeyboardInterrupt):
    """Somebody asked the training to stop; what is done is saved.

    Attributes:
        iteration: iterations that are done.
    """

    def __init__(self, iteration: int) -> None:
        super().__init__(f"stopped after {iteration} iterations")
        self.iteration = iteration


def _ignore(*_: object) -> None:
    """Of those who do not want to be told."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a head is trained, beside its own configuration.

    Attributes:
        seed: of the weights' beginning and of all that is drawn.
        device: where, as torch names it.
        save_every_s: seconds after which what is done is saved.
        tell_every: iterations whose mean losses are told together.
        recipe: more to be kept in the file, for people.
    """

    seed: int = 0
    device: str = "cpu"
    save_every_s: float = 60.0
    tell_every: int = 100
    recipe: Mapping[str, Any] = field(default_factory=dict)


# ---- the training ----


@dataclass(kw_only=True)
class _State:
    """All that the rest of a training depends on."""

    head: Head[Any]
    config: Any
    network: nn.Module
    rng: np.random.Generator
    device: torch.device
    iteration: int = 0
    mined: NDArray[np.bool_] | None = None  # pseudo-labels [V, K]

    def __post_init__(self) -> None:
        self.steps = self.head.steps(self.network, self.config)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything that is an array, by name."""
        found = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for number, step in enumerate(self.steps):
            for index, values in step.optimizer.state_dict()["state"].items():
                of_weight = {f"optimizer.{number}.{index}.{name}": value for name, value in values.items() if value is not None}
                found |= {name: torch.as_tensor(value) for name, value in of_weight.items()}
        if self.mined is not None:
            found["mined"] = torch.from_numpy(self.mined)
        found["random.torch"] = torch.get_rng_state()
        if self.device.type == "cuda":
            found["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def card(self) -> dict[str, Any]:
        """Everything else, as JSON has it."""
        return {
            "iteration": self.iteration,
            "mined": self.mined is not None,
            "rng": self.rng.bit_generator.state,
            "schedules": [step.schedule.state_dict() for step in self.steps],
            "rates": [[group["lr"] for group in step.optimizer.param_groups] for step in self.steps],
        }

    def restore(self, tensors: Mapping[str, torch.Tensor], card: Mapping[str, Any]) -> None:
        """Be what ``tensors`` and ``card`` were. Raises KeyError, TypeError, ValueError, RuntimeError: they cannot be."""
        prefix = "network."
        weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        self.network.load_state_dict(weights)
        self.steps = self.head.steps(self.network, self.config)  # which weights they change may depend on how far it is
        self.mined = tensors["mined"].numpy() if card["mined"] else None
        self.rng.bit_generator.state = card["rng"]
        for number, step in enumerate(self.steps):
            state: dict[int, dict[str, torch.Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith(f"optimizer.{number}."):
                    _, _, index, key = name.split(".", 3)
                    state.setdefault(int(index), {})[key] = value
            groups = step.optimizer.state_dict()["param_groups"]
            for group, rate in zip(groups, card["rates"][number], strict=True):
                group["lr"] = float(rate)
            step.optimizer.load_state_dict({"state": state, "param_groups": groups})
            if card["schedules"][number].keys() != step.schedule.state_dict().keys():  # it would take any attribute
                raise ValueError(f"schedule {number} is another one")
            step.schedule.load_state_dict(card["schedules"][number])
        torch.set_rng_state(tensors["random.torch"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        self.iteration = int(card["iteration"])
        if not 0 <= self.iteration < self.config.iterations:
            raise ValueError(f"iteration {self.iteration} of {self.config.iterations}")


def train(
    target: str | os.PathLike[str],
    head: Head[Any],
    data: TrainingSet,
    *,
    config: Any,
    options: TrainOptions | None = None,
    start: TrainedHead | None = None,
    hook: Hook = ignore_progress,
    tell: Tell = _ignore,
    began: Began = _ignore,
    stopping: Callable[[], None] = _ignore,
) -> TrainedHead:
    """Train a head on videos into a file; one that was begun there, with the same of everything, goes on.

    Args:
        target: the file. If it holds the trained head already, nothing is done.
        head: the method.
        data: what to learn from.
        config: the method's.
        options: seed, device and so on.
        start: what the method starts from, where it can start from something.
        hook: told of iterations.
        tell: told of the losses, means over the iterations since it was told last.
        began: told, before the first iteration, of the target, the configuration, the data and what all of it takes; not if
            there is nothing left to do.
        stopping: told, in a thread of its own, as soon as somebody asks the training to stop.

    Raises:
        TrainingError, HeadError: the target holds something else, the losses are no numbers any more, or there is too little
            to learn from.
        OutputError: the file cannot be written, or another process trains into it.
        Interrupted: asked to stop (SIGINT, SIGTERM, SIGHUP); what is done is saved.
    """
    options = options or TrainOptions()
    target = Path(target)
    device = _device(options.device)
    identity = _identity(head, data, config=config, options=options, start=start)
    finished = _finished(target, identity)
    if finished:
        training_file(target).unlink(missing_ok=True)  # cut off before it could be removed
        return finished
    with _alone(target), torch.random.fork_rng(devices=_generators(device)):
        if finished := _finished(target, identity):  # by another, since
            return finished
        _check_pairs(head, config, data)
        torch.manual_seed(options.seed)
        network = head.new_network(data.needs.dim or 0, len(data.labels), config=config, seed=options.seed).to(device)
        state = _State(head=head, config=config, network=network, device=device, rng=np.random.default_rng(options.seed))
        resumed = _resume(target, state, identity, videos=len(data.videos))
        saved = _Saved(target, state, data, identity, options)
        began(target, config, data, size_of(head, network, state.steps, data.videos, start=start))
        if head.begin and not resumed:
            head.begin(network, data.videos, config, start=start, rng=state.rng, hook=hook)
            saved.write()  # it may have taken long
        with _asked_to_stop(stopping) as asked:
            _learn(state, data, saved, asked, options=options, hook=hook, tell=tell)
        trained = saved.trained()
        network.eval().requires_grad_(False)
    training_file(target).unlink(missing_ok=True)
    return trained


def _check_pairs(head: Head[Any], config: Any, data: TrainingSet) -> None:
    """See that methods that learn from pairs of videos with a label in common, as W-TALC does, have any.

    Raises:
        HeadError: they have not.
    """
    if not getattr(config, "pairs", 0):
        return
    occurs = Counter(label for video in data.videos for label in video.classes)
    if not any(count > 1 for count in occurs.values()):
        raise HeadError(
            f"{head.name} learns from pairs of videos that share a label, and no label occurs in two of these "
            f"{len(data.videos)}: give more videos, or --config pairs=0"
        )


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Be the only one that trains into a file; what those that were killed had half written is removed.

    Raises:
        OutputError: somebody else does, or the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            alone = stack.enter_context(held_alone(target)) and stack.enter_context(held_alone(training_file(target)))
        except OSError as error:
            raise cannot_write(target, error) from error
        if not alone:
            raise OutputError(f"another training writes {printable(target)}: let it end, or give another -o")
        for path in (target, training_file(target)):
            remove_parts(path)
        yield


def training_file(target: Path) -> Path:
    """Where the state of a training that is not done lies, beside its head."""
    return target.with_name(target.name.removesuffix(".safetensors") + ENDING)


def is_done(trained: TrainedHead) -> bool:
    """Whether a head was trained to the end."""
    return bool(trained.recipe.get("iterations_done", trained.config.iterations) == trained.config.iterations)


def _learn(
    state: _State, data: TrainingSet, saved: _Saved, asked: threading.Event, *, options: TrainOptions, hook: Hook, tell: Tell
) -> None:
    """The iterations that are left, saved in between and at the end."""
    labels = np.zeros((len(data.videos), len(data.labels)))
    for row, video in enumerate(data.videos):
        labels[row, list(video.classes)] = 1
    total, since = state.config.iterations, list[Mapping[str, float]]()
    state.network.train()
    hook(STEP, completed=state.iteration, total=total)
    last_s = time.monotonic()
    while state.iteration < total:
        losses = _iterate(state, data, labels)
        since.append(losses)
        wrong = next((name for name, value in losses.items() if not math.isfinite(value)), None)
        if wrong:
            raise TrainingError(_no_number(f"the loss {wrong} became {losses[wrong]}", state, saved))
        state.iteration += 1
        if state.iteration % options.tell_every == 0 or state.iteration == total:
            names = dict.fromkeys(name for each in since for name in each)  # of parts that end, fewer
            found = {name: [each[name] for each in since if name in each] for name in names}
            tell(state.iteration, {name: sum(values) / len(values) for name, values in found.items()})
            since.clear()
        hook(STEP, completed=state.iteration, total=total)
        if asked.is_set() and state.iteration < total:
            saved.write()
            raise Interrupted(state.iteration)
        if time.monotonic() - last_s >= options.save_every_s or state.iteration == total:
            saved.write()
            last_s = time.monotonic()


def _iterate(state: _State, data: TrainingSet, labels: np.ndarray[Any, Any]) -> dict[str, float]:
    """One iteration; the losses that something in it minimises."""
    try:
        if state.head.iterate:
            return state.head.iterate(state.network, state.steps, state.config, rng=state.rng, iteration=state.iteration)
        _mine(state, data)
        chosen = np.empty(0, np.int64)
        if state.head.draw:
            videos = state.head.draw(data.videos, state.config, rng=state.rng)
        else:
            chosen = state.head.sample(labels if state.mined is None else state.mined, state.config, rng=state.rng)
            videos = [data.videos[index] for index in chosen]
        batch = make_batch(videos, num_classes=len(data.labels), rng=state.rng, max_snippets=state.config.max_snippets)
        if state.mined is not None:
            batch = replace(batch, labels=torch.cat([batch.labels, torch.from_numpy(state.mined[chosen]).float()], dim=1))
        losses = update(state.head, state.network, state.steps, batch.to(str(state.device)), config=state.config)
    except RuntimeError as error:  # torch's word for no memory and for numbers that do not fit
        raise TrainingError(
            f"iteration {state.iteration + 1} could not be computed ({printable(str(error), limit=200)}): with too "
            "little memory, give smaller batches (--config); with numbers too large, a smaller rate of learning"
        ) from error
    minimized = {name for step in state.steps for name in step.minimizes or losses}
    return {name: value for name, value in losses.items() if name in minimized}


def _mine(state: _State, data: TrainingSet) -> None:
    """Labels that the method makes itself, when they are due; what it learns them with begins anew."""
    if state.head.mine is None:
        return
    features = [video.features for video in data.videos]
    mined = state.head.mine(state.network, features, state.config, iteration=state.iteration, rng=state.rng)
    if mined is not None:
        state.mined, state.steps = mined, state.head.steps(state.network, state.config)


def _no_number(what: str, state: _State, saved: _Saved) -> str:
    since = f"what was saved after iteration {saved.iteration} stays" if saved.iteration else "nothing was saved"
    return (
        f"{what} in iteration {state.iteration + 1} of {state.config.iterations}, so the training was stopped, and {since}: "
        f"begin anew with a smaller rate of learning (--config {_rate_of(state.config)}=...), or check the features"
    )


def _rate_of(config: Any) -> str:
    return next((entry.name for entry in fields(config) if entry.name.endswith("learning_rate")), "learning_rate")


@contextmanager
def _asked_to_stop(stopping: Callable[[], None]) -> Iterator[threading.Event]:
    """Signals that ask for an end, kept until an iteration is whole; a second one is not kept.

    Who asks is answered at once, and from another thread: a signal may come in the midst of a line that is being written.
    """
    asked, over = threading.Event(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # signals are none of its business
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # what is ignored (as nohup does) stays so
    before = {number: handler for number in numbers if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(*_: object) -> None:
        asked.set()
        restore()

    def answer() -> None:
        asked.wait()
        if not over.is_set():
            stopping()

    answering = threading.Thread(target=answer, daemon=True)
    answering.start()
    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        restore()
        if not asked.is_set():
            over.set()
            asked.set()
        answering.join()


# ---- files ----


@dataclass
class _Saved:
    """What lies on the disk of a training."""

    target: Path
    state: _State
    data: TrainingSet
    identity: Mapping[str, Any]
    options: TrainOptions

    def __post_init__(self) -> None:
        self.iteration = self.state.iteration

    def write(self) -> None:
        """Save it as it is: first what can be gone on with, which does without the head beside it.

        Raises:
            TrainingError: its weights are no numbers.
            OutputError: it cannot be written.
        """
        if not all(tensor.isfinite().all() for tensor in self.state.network.state_dict().values()):
            raise TrainingError(_no_number("the weights became infinite or NaN", self.state, self))
        try:
            if self.state.iteration < self.state.config.iterations:
                card = {"identity": self.identity, **self.state.card()}
                with written_whole(training_file(self.target)) as part:
                    write_tensors(part, self.state.tensors(), {FORMAT: json.dumps(card, allow_nan=False)})
            save_head(self.target, self.trained())
        except OSError as error:
            raise cannot_write(self.target, error) from error
        self.iteration = self.state.iteration

    def trained(self) -> TrainedHead:
        """The head as it is."""
        recipe = {
            **self.options.recipe,
            "seed": self.options.seed,
            "device": self.identity["device"],
            "data_sha256": self.data.sha256,
            "start_sha256": self.identity["start"],
            "videos": len(self.data.videos),
            "watching": self.data.watching,
            "iterations_done": self.state.iteration,
            "tal_run": version("tal-run"),
            "torch": str(torch.__version__),
        }
        head, config, network = self.state.head, self.state.config, self.state.network
        return TrainedHead(
            head=head, config=config, network=network, labels=self.data.labels, needs=self.data.needs, recipe=recipe
        )


def _identity(
    head: Head[Any], data: TrainingSet, *, config: Any, options: TrainOptions, start: TrainedHead | None
) -> dict[str, Any]:
    """What makes a training the one that it is: with all of it the same, it comes to the same end."""
    identity = {
        "head": head.name,
        "config": asdict(config),
        "seed": options.seed,
        "data": data.sha256,
        "labels": data.labels,
        "device": torch.device(options.device).type,
        "start": None if start is None else weights_sha256(start.network),
    }
    return dict(json.loads(json.dumps(identity)))


def _identity_of(trained: TrainedHead) -> dict[str, Any]:
    recipe = trained.recipe
    identity = {"head": trained.head.name, "config": asdict(trained.config), "labels": trained.labels}
    known = {name: recipe.get(key) for name, key in KEPT_AS.items()}
    return dict(json.loads(json.dumps({**identity, **known})))


def _check_same(path: Path, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on with, or to write over, another training."""
    what = next(
        (name for name in ("head", "seed", "device", "labels", "data", "start", "config") if there.get(name) != wanted[name]),
        None,
    )
    if what is None:
        return
    if what == "config":
        old, new = dict(there["config"]), wanted["config"]
        name = next(name for name in sorted({*old, *new}) if old.get(name) != new.get(name))
        difference = f"with {name}={old.get(name)} instead of {new.get(name)}"
    elif what in ("data", "labels"):
        difference = "on other features or annotations"
    elif what == "start":
        difference = "that started from other weights"
    else:
        difference = f"with {what} {printable(there.get(what))} instead of {wanted[what]}"
    raise TrainingError(
        f"{printable(path)} is there, of a training {difference}: go on with the same of everything, delete it to begin "
        "anew, or give another -o"
    )


def check_target(target: str | os.PathLike[str]) -> None:
    """Find out before hours of reading that a head could not be written.

    Raises:
        TrainingError, OutputError: it could not.
    """
    target = Path(target)
    if target.name and len(os.fsencode(training_file(target).name)) > LONGEST_NAME:
        raise OutputError(f"the name {printable(target.name, limit=40)} is too long for a file: give -o a shorter one")
    try:
        if is_stream(target):
            raise TrainingError(f"{printable(target)} is no file that a head can be kept in: give -o a file name")
        if target.is_dir():
            raise OutputError(f"{printable(target)} is a folder: give a file name in it, such as {target / 'head.safetensors'}")
        check_writable(target)
        check_writable(training_file(target))
    except OSError as error:  # a path that is too long
        raise cannot_write(target, error) from error


def _finished(target: Path, identity: Mapping[str, Any]) -> TrainedHead | None:
    """The trained head, if the target holds it already; None: it may be written."""
    check_target(target)
    if not target.exists():
        return None
    try:
        there = load_head(target)
    except HeadError as error:
        raise TrainingError(
            f"{printable(target)} would be overwritten, and is not of this training ({error}): give another -o"
        ) from error
    _check_same(target, _identity_of(there), identity)
    return there if is_done(there) else None


def weights_sha256(network: nn.Module) -> str:
    """What tells a network's weights from others."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(np.array(tensor.detach().cpu().numpy(), order="C").data)
    return digest.hexdigest()


def _resume(target: Path, state: _State, identity: Mapping[str, Any], *, videos: int) -> bool:
    """Go on where a training was saved, if one was; whether it was."""
    path = training_file(target)
    if not path.exists():
        return False
    try:
        with safe_open(path, framework="np") as file:
            card = json.loads((file.metadata() or {})[FORMAT])
            names = file.keys()
            tensors = {name: torch.from_numpy(file.get_tensor(name)) for name in names}
        _check_same(path, dict(card["identity"]), identity)
        state.restore(tensors, card)
        if state.mined is not None and (state.mined.ndim != 2 or len(state.mined) != videos):
            raise ValueError(f"labels of shape {state.mined.shape} for {videos} videos")
    except OSError as error:
        raise TrainingError(f"{printable(path)} cannot be read ({error.strerror or error}): delete it to begin anew") from error
    except (SafetensorError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise TrainingError(
            f"{printable(path)} holds no training that can be gone on with ({printable(str(error), limit=200)}): delete it to "
            "begin anew"
        ) from error
    return True


def _generators(device: torch.device) -> list[int]:
    """The GPUs whose random numbers a training draws."""
    if device.type != "cuda":
        return []
    return [torch.cuda.current_device() if device.index is None else device.index]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter of a torch without CUDA
        raise TrainingError(
            f"there is no device {printable(name)!r} to train on ({printable(str(error), limit=120)}): "
            "choose cpu, or cuda where there is a GPU"
        ) from error
    return device
