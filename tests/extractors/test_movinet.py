"""The real network on real video; skipped where the weights or the clips are not at hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tal_run.extractors import FeatureSequence, create_backbone, extract
from tal_run.extractors.backbone import BackboneError, BackboneOptions, WindowConfig
from tal_run.extractors.movinet import NETWORK, MoViNetA0Stream
from tal_run.extractors.registry import resolve
from tal_run.extractors.weights import locate


@pytest.fixture(scope="module")
def movinet(weights: Path) -> MoViNetA0Stream:
    return MoViNetA0Stream()


@pytest.fixture(scope="module")
def window() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (8, 172, 172, 3), dtype=np.uint8)


def test_it_is_the_published_signature_run_frame_by_frame(movinet: MoViNetA0Stream, window: Any) -> None:
    """Our feeding back of states by tensor index equals LiteRT's own signature runner with all 43 of them."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(locate(NETWORK)[0]), num_threads=1).get_signature_runner()
    inputs = runner.get_input_details()
    state = {name: np.zeros(entry["shape"], entry["dtype"]) for name, entry in inputs.items() if name != "image"}
    for frame in window:
        state = runner(image=frame[None, None].astype(np.float32) / 255, **state)
        logits = state.pop("logits")
    features, ours = movinet(window)
    assert ours == pytest.approx(logits[0], abs=1e-4)
    assert features == pytest.approx(state["state_head_pool_buffer"].ravel() / len(window), abs=1e-6)
    assert features.shape == (movinet.feature_dim,)
    assert ours.shape == (len(movinet.labels),) == (600,)
    assert (features >= 0).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda"}, "computes on the CPU: leave out --device cuda, or take another"),
        ({"precision": "bfloat16"}, "computes in its own precision: leave out --precision bfloat16, or"),
        (
            {"crop": "ten", "device": "cuda:1"},
            "CPU and sees the centre of each frame: leave out --device cuda:1 and --crop ten",
        ),
    ],
)
def test_what_it_cannot_do_is_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BackboneError, match=words):
        BackboneOptions(**options).check_plain("movinet-a0-stream")
    BackboneOptions(device="cuda").check_plain("starter", device=True)


def test_every_window_starts_afresh(movinet: MoViNetA0Stream, window: Any) -> None:
    first = movinet(window)
    movinet(255 - window)
    again = movinet(window)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


@pytest.mark.parametrize(
    ("clip", "label"),
    [("mmaction2/demo.mp4", "arm wrestling"), ("decord/flipping_a_pancake.mkv", "flipping pancake")],
)
def test_it_knows_what_it_sees(movinet: MoViNetA0Stream, clips: Path, clip: str, label: str) -> None:
    features = extract(clips / clip, backbone=movinet)
    mean = features.probabilities().mean(axis=0)
    second, best = np.argsort(mean)[-2:]
    assert features.labels[int(best)] == label
    assert mean[best] > 5 * mean[second]


def test_the_grid_follows_the_windows(movinet: MoViNetA0Stream, clips: Path) -> None:
    windows = WindowConfig(fps=4.0, window_frames=6, stride_frames=3)
    features: FeatureSequence = extract(clips / "mmaction2/demo.mp4", backbone=movinet, windows=windows)
    assert features.grid.step_s == pytest.approx(0.75)
    assert features.grid.window_s == pytest.approx(1.5)
    assert len(features.data) == windows.count(round(features.grid.duration_s * 4))


def test_an_unknown_backbone_lists_the_known() -> None:
    with pytest.raises(BackboneError, match="choose one of auto, i3d"):
        create_backbone("i4d")


def test_a_package_that_is_not_installed_is_named(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert resolve("auto") == "starter"
    with pytest.raises(BackboneError, match="pip install ai-edge-litert, or take --backbone starter"):
        create_backbone("movinet-a0-stream")
