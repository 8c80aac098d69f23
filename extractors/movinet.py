"""MoViNet-A0-Stream: the video network that runs anywhere.

Kondratyuk et al., "MoViNets: Mobile Video Networks for Efficient Video Recognition", CVPR 2021. The weights are
Google's int8 TensorFlow Lite export (Kinetics-600), run by LiteRT on the CPU.

The network is causal: it takes one frame at a time and carries state (the paper's 3.2: stream buffers, cumulative
averages). Fed a whole video as one stream, that average remembers everything it saw, so scores rise late and stay up
long after an action ended. Here every window starts afresh from zero state, as a clip of the training set would.

A window's feature vector is the state of the last average pool divided by the number of frames: the mean over the
window of the 480 channels that enter the classification head.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.backbone import ANY_LENGTH, BackboneError, BackboneOptions, Preprocessing, Rows, WindowConfig
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.weights import WeightsFile, locate

PACKAGE = "ai_edge_litert"
_REPOSITORY = "https://raw.githubusercontent.com/tensorflow/flutter-tflite/7045e30722790910e5735b43d3f7e18a25008e6b"
_ASSETS = f"{_REPOSITORY}/example/movinet/assets"

NETWORK = WeightsFile(
    file_name="movinet_a0_stream_int8.tflite",
    url=f"{_ASSETS}/movinet_int8.tflite",
    sha256="6125b36e2485eeb5cc1fd6206cf5e5d70235593fbc84610d1dce97fe3aa9c2ac",
    size_bytes=3_276_048,
    licence="Apache-2.0",
)
LABELS = WeightsFile(
    file_name="kinetics600_label_map.txt",
    url=f"{_ASSETS}/label/kinetics600_label_map.txt",
    sha256="8dfca4202520ea8291ce0242ef33b006d0a0772b409663c090a2876bc1978dcf",
    size_bytes=9_209,
    licence="Apache-2.0",
)


class MoViNetA0Stream:
    """The pretrained network with its preprocessing and its labels.

    Args:
        options: nothing but the defaults.
        hook: told of downloads.

    Raises:
        WeightsError: the weights are not on this machine and cannot be downloaded.
        BackboneError: the package that runs it is not installed, or cannot be loaded; or it cannot work as asked.
    """

    name: ClassVar[str] = "movinet-a0-stream"
    knows: ClassVar[str] = "600 actions of Kinetics"
    streams: ClassVar[tuple[str, ...]] = ("rgb",)
    has_labels: ClassVar[bool] = True
    multi_label: ClassVar[bool] = False
    feature_dim: ClassVar[int] = 480
    files: ClassVar[tuple[WeightsFile, ...]] = (NETWORK, LABELS)
    # 172 pixels is A0's resolution; short side and centre crop, as networks of its kind are evaluated
    preprocessing = Preprocessing(short_side=172, crop=(172, 172))
    # 5 frames a second is what A0 was trained at; 8 frames see 1.6 s, a new window each 0.8 s
    default_windows: ClassVar[WindowConfig] = WindowConfig(fps=5.0, window_frames=8, stride_frames=4)
    window_lengths: ClassVar[range] = ANY_LENGTH

    def __init__(self, *, options: BackboneOptions | None = None, hook: Hook = ignore_progress) -> None:
        (options or BackboneOptions()).check_plain(self.name)
        self.device = "cpu"
        self.settings: Mapping[str, str] = {}
        network_path, labels_path = locate(*self.files, hook=hook)
        self.weights: Mapping[str, str] = {file.file_name: file.sha256 for file in self.files if file.sha256 is not None}
        self.labels = tuple(labels_path.read_text(encoding="utf-8").splitlines())
        self._network = _StatefulNetwork(network_path)

    def __call__(self, frames: NDArray[np.uint8], flow: NDArray[np.float32] | None = None, /) -> Rows:
        """One window of frames, uint8 RGB [T, 172, 172, 3], as (features [480], logits [600])."""
        return self._network.run(frames)


class _StatefulNetwork:
    """The TensorFlow Lite graph, with its state fed back by tensor index.

    The signature runner copies all 43 states in and out at every frame. Only 13 of them ever change in this export
    (the squeeze-excitation pools pass through), so only those are carried: 1.3 instead of 2.3 ms a frame.
    """

    def __init__(self, path: Path) -> None:
        # imported here: the command line must answer at once
        try:
            from ai_edge_litert.interpreter import Interpreter
        except (ImportError, OSError, RuntimeError) as error:  # not there, or with a shared library that does not fit
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise BackboneError(
                f"movinet-a0-stream needs ai-edge-litert, which cannot be loaded ({reason}): pip install ai-edge-litert, "
                "or take --backbone starter"
            ) from error

        with _native_stderr_muted():
            # One thread: the layers are so small that a second one makes each frame slower, and decoding wants a core.
            self._interpreter = Interpreter(str(path), num_threads=1)
            self._interpreter.allocate_tensors()
        inputs, outputs = self._signature_tensors()
        self._image, self._logits = inputs.pop("image"), outputs["logits"]
        self._states = [(index, outputs[name]) for name, index in inputs.items() if outputs[name] != index]
        self._pool_sum, self._pool_count = outputs["state_head_pool_buffer"], outputs["state_head_pool_frame_count"]
        details = {detail["index"]: detail for detail in self._interpreter.get_input_details()}
        self._zeros = [np.zeros(details[index]["shape"], details[index]["dtype"]) for index, _ in self._states]

    def run(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        network = self._interpreter
        states = self._zeros
        for frame in frames:
            for (target, _), state in zip(self._states, states, strict=True):
                network.set_tensor(target, state)
            network.set_tensor(self._image, frame[None, None] * np.float32(1 / 255))  # [1, 1, 172, 172, 3]
            network.invoke()
            states = [network.get_tensor(source) for _, source in self._states]
        features = network.get_tensor(self._pool_sum).reshape(-1) / np.float32(network.get_tensor(self._pool_count)[0])
        return features, network.get_tensor(self._logits)[0]

    def _signature_tensors(self) -> tuple[dict[str, int], dict[str, int]]:
        # pairs of names and tensor indices are in no public call of LiteRT's Python API
        signature: dict[str, Any] = self._interpreter._get_full_signature_list()["serving_default"]
        return dict(signature["inputs"]), dict(signature["outputs"])


@contextmanager
def _native_stderr_muted() -> Iterator[None]:
    """LiteRT greets every interpreter with a line on the process's standard error, and has no switch for it."""
    if sys.stderr is not None:
        with suppress(OSError):  # nobody reads it any more
            sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
