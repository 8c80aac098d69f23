"""A backbone that sees colours, and videos made of them: the whole pipeline with a truth that is exact.

The colours stand in for actions: a red stretch is "arm wrestling", and so on; grey is background. What is left to be
wrong is what tal-run itself does: decoding, time, windows, queries, segments, files.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from tal_run.extractors import registry
from tal_run.extractors.backbone import ANY_LENGTH, BackboneOptions, Preprocessing, Rows, WindowConfig
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.weights import WeightsFile
from tal_run.pipeline import workers

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 200), "grey": (110, 110, 110)}
LABELS = {"arm wrestling": "red", "flipping pancake": "green", "cleaning pool": "blue", "standing around": "grey"}

Timeline = Sequence[tuple[str, float]]  # colour, seconds
MakeVideo = Callable[..., Path]


class ColourBackbone:
    """One class a colour: the likelier, the nearer the window's mean colour."""

    name: ClassVar[str] = "colours"
    knows: ClassVar[str] = "four colours"
    feature_dim: ClassVar[int] = 3
    streams: ClassVar[tuple[str, ...]] = ("rgb",)
    has_labels: ClassVar[bool] = True
    preprocessing = Preprocessing(short_side=24, crop=(24, 24))
    default_windows: ClassVar[WindowConfig] = WindowConfig(fps=5.0, window_frames=8, stride_frames=4)
    window_lengths: ClassVar[range] = ANY_LENGTH
    files: ClassVar[tuple[WeightsFile, ...]] = ()
    multi_label: ClassVar[bool] = False

    def __init__(self, *, options: BackboneOptions | None = None, hook: Hook = ignore_progress) -> None:
        self.device, self.settings = "cpu", dict[str, str]()
        self.labels = tuple(LABELS)
        self.weights: dict[str, str] = {}
        self._centres = np.array([COLOURS[colour] for colour in LABELS.values()], np.float32)

    def __call__(self, frames: NDArray[np.uint8], flow: NDArray[np.float32] | None = None, /) -> Rows:
        assert frames.shape[1:] == (24, 24, 3)
        mean = frames.mean(axis=(0, 1, 2), dtype=np.float32)
        return mean, -np.linalg.norm(self._centres - mean, axis=1).astype(np.float32) / 10


class Here:
    """In a worker's place: it works in this process, where a test can put a backbone that no other process knows."""

    def __init__(self, module: str, how: Mapping[str, Any], **_: Any) -> None:
        self._begin, self._how = importlib.import_module(module).begin, how
        self._begun: Any = None

    def begin(self, *, hook: Hook = ignore_progress) -> Any:
        if self._begun is None:
            self._begun = self._told("begin", self._begin, self._how, hook)
        return self._begun[0]

    def do(self, task: Mapping[str, Any], *, hook: Hook = ignore_progress, input_bytes: int = 0) -> Any:
        self.begin(hook=hook)
        return self._told("error", self._begun[1], task, hook)

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass

    @staticmethod
    def _told(kind: Any, function: Any, message: Mapping[str, Any], hook: Hook) -> Any:
        try:
            answer = function(json.loads(json.dumps(message)), hook)
        except TalRunError as error:
            raise workers.WorkerError(str(error), kind=kind) from error
        except Exception as error:
            raise workers.WorkerError(f"not foreseen: {type(error).__name__}: {error}", kind="unforeseen") from error
        return answer if kind == "begin" else json.loads(json.dumps(answer))


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the colour backbone, and the default of the command line while the test runs; workers work here."""
    monkeypatch.setattr(workers, "Worker", Here)
    monkeypatch.setitem(registry.EXTRACTORS, ColourBackbone.name, ColourBackbone)
    monkeypatch.setattr(registry, "DEFAULT_BACKBONE", ColourBackbone.name)
    return ColourBackbone.name


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Write a video of colours: ``make_video("a.mp4", [("grey", 4.0), ("red", 6.0)], times=...)``."""

    def write(name: str, timeline: Timeline, *, rate: Any = 25, times: Sequence[float] | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        length_s = sum(seconds for _, seconds in timeline)
        if times is None:
            times = [float(index / Fraction(rate)) for index in range(round(length_s * Fraction(rate)))]
        borders = np.cumsum([seconds for _, seconds in timeline])
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(rate), options={"preset": "ultrafast", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.time_base = stream.time_base = Fraction(1, 90000)
            for time_s in times:
                colour = timeline[min(int(np.searchsorted(borders, time_s, side="right")), len(timeline) - 1)][0]
                picture = np.full((48, 64, 3), COLOURS[colour], np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(time_s * 90000), Fraction(1, 90000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


def beside(name: str) -> ModuleType:
    """A module that lies here and holds no tests."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def clusters() -> ModuleType:
    """``ray_case.py``: Ray clusters of a few nodes."""
    return beside("ray_case")


@pytest.fixture(scope="session")
def lesson() -> ModuleType:
    """``training_case.py``: tiny videos to learn from."""
    return beside("training_case")


@pytest.fixture(scope="session")
def batches() -> ModuleType:
    """``batch_case.py``: texts that pass for videos, and a detector that obeys them."""
    return beside("batch_case")
