"""The starter: the small network that comes with tal-run, made from nothing but tal-run's own made video.

``starter_network.py`` is the network, ``pipeline/train_starter.py`` how it was trained (``make starter``). Its weights are a
safetensors file of half-precision numbers, whose metadata say what they must not be parted from: the labels, the
preprocessing, the network's size and the recipe. Computation is in single precision. Beside it lies a card, ``.json``, with
what is known of it; from the one that comes with tal-run the sha256 is taken that the weights must have.

Its scores are answers to independent questions, one a label: two people may act at once, and background is "none of them".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.backbone import ANY_LENGTH, BackboneError, BackboneOptions, Preprocessing, Rows, WindowConfig
from tal_run.extractors.files import written_whole
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.weights import WeightsError, WeightsFile, sha256_of
from tal_run.extractors.wire import printable

if TYPE_CHECKING:
    from tal_run.extractors.starter_network import StarterConfig, StarterNetwork

WEIGHTS_NAME = "starter.safetensors"
FORMAT = "tal-run starter 1"  # the one entry of the metadata
CARD_NAME = "starter.json"
SHA256 = "sha256"  # the card's entry of that
CURVES_SUFFIX = "_curves.safetensors"  # behind the stem of the weights' name
LENGTHS_S = "lengths_s"  # the card's entry of how long each action usually lasts
CURVES_SHA256 = "curves_sha256"  # and of what reads the scores over time

# What made video is drawn at (320 x 240), shrunk: people are mostly 24 to 76 pixels tall.
CROP = (96, 128)
PREPROCESSING = Preprocessing(short_side=96, crop=CROP)
# 2 s tell a squat from a clean and jerk, a run-up with a javelin from one without; a look each 0.375 s places the ends
WINDOWS = WindowConfig(fps=8, window_frames=16, stride_frames=3)

# what a network of this kind may be at most: a damaged file must not ask for all of the memory
MOST_STAGES, MOST_BLOCKS, MOST_CHANNELS, MOST_CLASSES, MOST_STRIDE = 8, 64, 1024, 10_000, 16


@dataclass(frozen=True, kw_only=True)
class StarterWeights:
    """A trained network with what belongs to it.

    Attributes:
        network: in evaluation mode.
        labels: names of its K classes.
        recipe: how it was trained, for people: names and values that JSON can hold.
        sha256: of the file's bytes.
    """

    network: StarterNetwork
    labels: tuple[str, ...]
    recipe: dict[str, Any]
    sha256: str


class Starter:
    """The shipped network with its preprocessing and its labels.

    Args:
        options: the device; it sees the centre of frames only, in single precision.
        path: other weights of the same kind; None: those that come with tal-run.
        hook: never called; nothing is downloaded.

    Raises:
        WeightsError: the weights are missing or not of this kind.
        BackboneError: torch or another package that it needs is not installed, or it cannot work as asked.
    """

    name: ClassVar[str] = "starter"
    knows: ClassVar[str] = "12 actions, learnt from drawn video: not to be relied on in real video"
    streams: ClassVar[tuple[str, ...]] = ("rgb",)
    has_labels: ClassVar[bool] = True
    feature_dim: ClassVar[int] = 256
    preprocessing = PREPROCESSING
    default_windows: ClassVar[WindowConfig] = WINDOWS
    window_lengths: ClassVar[range] = ANY_LENGTH
    files: ClassVar[tuple[WeightsFile, ...]] = ()
    multi_label: ClassVar[bool] = True  # a sigmoid a class, not a softmax over them

    def __init__(
        self,
        *,
        options: BackboneOptions | None = None,
        path: str | os.PathLike[str] | None = None,
        hook: Hook = ignore_progress,
    ) -> None:
        options = options or BackboneOptions()
        options.check_plain(self.name, device=True)
        with _importing():
            import torch
        self._torch = torch
        weights = packaged() if path is None else read_weights(path)
        if weights.network.config.feature_dim != self.feature_dim:
            raise WeightsError(f"the weights give {weights.network.config.feature_dim} features, not {self.feature_dim}")
        self.labels = weights.labels
        self.recipe = weights.recipe
        file = Path(__file__).parent / "data" / WEIGHTS_NAME if path is None else Path(path)
        card = read_card(file)
        self.lengths_s: Mapping[str, float] = lengths_in(card, file)
        # what reads its scores over time, where there is such a network beside the weights, and the sha256 it must have
        self.curves_file, self.curves_sha256 = curves_beside(file), card.get(CURVES_SHA256)
        self.weights: Mapping[str, str] = {WEIGHTS_NAME: weights.sha256}
        try:
            self._network = weights.network.to(options.device)
        except (RuntimeError, AssertionError) as error:
            raise BackboneError(f"the starter cannot work on {options.device!r} ({error}): use --device cpu") from error
        self.device = options.device
        self.settings: Mapping[str, str] = {}

    def __call__(self, frames: NDArray[np.uint8], flow: NDArray[np.float32] | None = None, /) -> Rows:
        """One window of frames, uint8 RGB [T, 96, 128, 3], as (features [256], logits [K])."""
        with self._torch.inference_mode(), _one_thread(self._torch):
            features = self._network.features(self._torch.from_numpy(np.array(frames[None])).to(self.device))  # [1, D]
            logits = self._network.classify(features)
        return features[0].cpu().numpy(), logits[0].cpu().numpy()


@contextmanager
def _one_thread(torch: ModuleType) -> Iterator[None]:
    """Compute on one core: a window is too little work to share, and the decoder wants the other cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_weights(
    path: str | os.PathLike[str], network: StarterNetwork, *, labels: Sequence[str], recipe: dict[str, Any]
) -> None:
    """Write a network as ``read_weights`` reads it, rounded to half precision; whole or not at all.

    Raises:
        ValueError: the network has not one class a label.
        OSError: the file cannot be written.
    """
    from safetensors.numpy import save

    if len(labels) != network.config.classes:
        raise ValueError(f"{len(labels)} labels for {network.config.classes} classes")
    tensors = {
        name: np.ascontiguousarray(tensor.detach().cpu().numpy().astype(np.float16))
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point()  # the rest are batch normalisation's counters
    }
    card = {"labels": list(labels), "preprocessing": _preprocessing(), "network": asdict(network.config), "recipe": recipe}
    # one entry: safetensors writes several in an order that changes from run to run
    content = save(tensors, {FORMAT: json.dumps(card)})
    with written_whole(path) as part:
        part.write_bytes(content)


def read_weights(path: str | os.PathLike[str]) -> StarterWeights:
    """The network in a file that ``write_weights`` wrote.

    Raises:
        WeightsError: the file is missing, damaged, of another kind, or made for other preprocessing.
        BackboneError: a package that it needs is not installed.
    """
    with _importing():
        import torch
        from safetensors import SafetensorError, safe_open

        from tal_run.extractors.starter_network import StarterConfig, StarterNetwork
    shown = os.fspath(path)
    try:
        with safe_open(shown, framework="np") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise WeightsError(f"{shown} is not a file of starter weights ({FORMAT!r}): make it anew with `make starter`")
            names = file.keys()
            state = {name: torch.from_numpy(file.get_tensor(name).astype(np.float32)) for name in names}
        card = json.loads(metadata[FORMAT])
        labels = _labels(card["labels"])
        size: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in card["network"].items()
        }
        trained_on, recipe = card["preprocessing"], dict(card["recipe"])
        config = StarterConfig(**size)
        _check_size(config)
        network = StarterNetwork(config)
        missing, unknown = network.load_state_dict(state, strict=False)
        if strange := next((name for name, tensor in state.items() if not tensor.isfinite().all()), None):
            raise ValueError(f"{strange} has weights that are no finite numbers")
    except FileNotFoundError as error:
        raise WeightsError(
            f"there are no starter weights at {shown}: make them with `make starter`, or take --backbone movinet-a0-stream"
        ) from error
    except OSError as error:
        raise WeightsError(f"the starter's weights {shown} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(
            f"{shown} holds damaged starter weights ({printable(error)}): make them anew with `make starter`"
        ) from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unknown or len(labels) != network.config.classes:
        raise WeightsError(f"{shown} does not hold the network that it says it holds: make it anew with `make starter`")
    if trained_on != _preprocessing():
        raise WeightsError(f"{shown} was trained on other pictures ({trained_on}): make it anew with `make starter`")
    return StarterWeights(
        network=network.eval().requires_grad_(False), labels=labels, recipe=recipe, sha256=sha256_of(Path(path))
    )


def write_card(weights: str | os.PathLike[str], card: Mapping[str, Any]) -> dict[str, Any]:
    """Write what is known of a file of weights beside it, with the suffix ``.json``, its sha256 first; whole or not at all.

    Raises:
        OSError: the weights cannot be read, or the card not be written.
    """
    whole = {SHA256: sha256_of(Path(weights)), **{key: value for key, value in card.items() if key != SHA256}}
    with written_whole(Path(weights).with_suffix(".json")) as part:
        part.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return whole


def read_card(weights: str | os.PathLike[str]) -> dict[str, Any]:
    """What the card beside a file of weights says; nothing without one.

    Raises:
        WeightsError: it is no card.
    """
    path = Path(weights).with_suffix(".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(card, dict):
            raise TypeError("no table of entries")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise WeightsError(
            f"{path} is no card of weights ({printable(error)}): make it anew with `make starter`, or remove it"
        ) from error
    return card


def lengths_in(card: Mapping[str, Any], weights: str | os.PathLike[str]) -> dict[str, float]:
    """How many seconds an instance of each action usually lasts, by the card of those weights; empty if it does not say.

    Raises:
        WeightsError: it says something else.
    """
    lengths_s = card.get(LENGTHS_S, {})
    try:
        if not all(type(length_s) in (int, float) and 0 < length_s < float("inf") for length_s in lengths_s.values()):
            raise ValueError("a length is no number of seconds")
    except (ValueError, AttributeError) as error:
        raise WeightsError(
            f"{Path(weights).with_suffix('.json')} does not say how long actions last ({printable(error)}): "
            "make it anew with `make starter`, or remove it"
        ) from error
    return {str(label): float(length_s) for label, length_s in lengths_s.items()}


def curves_beside(weights: Path) -> Path:
    """Where the network lies that reads the curves of what these weights give (``models/curves.py``), if there is one."""
    return weights.with_name(f"{weights.stem}{CURVES_SUFFIX}")


def _labels(names: Any) -> tuple[str, ...]:
    """The labels in a file, if each is a name of its own."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() and name.isprintable() for name in names):
        raise ValueError("the labels are no list of names")
    if len(set(names)) < len(names):
        raise ValueError("two labels are the same")
    return tuple(names)


def _check_size(config: StarterConfig) -> None:
    """Refuse what can be no network, or only one that nobody's memory holds."""
    for key, count, most in (("classes", config.classes, MOST_CLASSES), ("stem", config.stem, MOST_CHANNELS)):
        if not _is_count(count, most):
            raise ValueError(f"{key} is {count!r}, not a whole number from 1 to {most:,}")
    for key, counts, most in (
        ("widths", config.widths, MOST_CHANNELS),
        ("depths", config.depths, MOST_BLOCKS),
        ("temporal_strides", config.temporal_strides, MOST_STRIDE),
    ):
        are_counts = isinstance(counts, tuple) and all(_is_count(count, most) for count in counts)
        if not are_counts or not 1 <= len(counts) == len(config.widths) <= MOST_STAGES:
            raise ValueError(f"{key} are {counts!r}, not a whole number from 1 to {most:,} for each stage")
    if type(config.dropout) not in (int, float) or not 0 <= config.dropout < 1:
        raise ValueError(f"dropout is {config.dropout!r}, not a share from 0 to 1")


def _is_count(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


@contextmanager
def _importing() -> Iterator[None]:
    """What goes wrong at an import, as a sentence: a package that is not there, or one that is there and broken."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or str(error)).partition(".")[0]
        raise BackboneError(f"the starter needs {name}, which is not installed: pip install {name}") from error
    except (ImportError, OSError, RuntimeError) as error:  # the last two: shared libraries that are missing or do not fit
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise BackboneError(
            f"the starter's packages are installed but cannot be loaded ({reason}): "
            "pip install --force-reinstall torch pytorchvideo safetensors"
        ) from error


def _preprocessing() -> dict[str, Any]:
    """What a file of weights was trained on, in JSON's terms."""
    return {
        "short_side": PREPROCESSING.short_side,
        "crop": list(CROP),
        "fps": WINDOWS.fps,
        "window_frames": WINDOWS.window_frames,
    }


def packaged() -> StarterWeights:
    """The weights that come with tal-run, if they are still the bytes that came.

    Raises:
        WeightsError: they are missing, damaged, or not those of the card beside them.
    """
    data = resources.files("tal_run.extractors") / "data"
    with resources.as_file(data / WEIGHTS_NAME) as path:
        weights = read_weights(Path(path))
    try:
        expected = str(json.loads((data / CARD_NAME).read_text(encoding="utf-8"))[SHA256])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{CARD_NAME}, beside the starter's weights, does not say their {SHA256} ({type(error).__name__}): "
            "install tal-run anew, or make both with `make starter`"
        ) from error
    if weights.sha256 != expected:
        raise WeightsError(
            f"the starter's weights are not those that {CARD_NAME} tells of ({SHA256} {weights.sha256[:12]}…, not "
            f"{expected[:12]}…), so they are damaged: install tal-run anew, or make them with `make starter`"
        )
    return weights
