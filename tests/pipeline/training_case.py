"""Tiny videos, as features and annotations, in which each action is a step in channels of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, write_activitynet

LABELS = ("jump", "run", "throw")
DIM = 8
STEP_S = 0.5
# numbers with which these videos teach the methods in seconds
QUICK: dict[str, dict[str, Any]] = {
    "actionbytes": {"dropout": 0.1, "learning_rate": 1e-2, "clusters": 12, "latent_dim": 16, "iterations": 800},
    "wtalc": {"dropout": 0.1, "learning_rate": 1e-2, "iterations": 60},
    "wsad": {
        "dropout": 0.1,
        "learning_rate": 1e-2,
        "groups": 3,
        "group_size": 4,
        "block": 10,
        "k": 2,
        "metric_weight": 0.1,
        "iterations": 120,
    },
    "autoloc": {
        "classification_iterations": 60,
        "localization_iterations": 10,
        "classification_learning_rate": 0.1,
        "streams": 2,
    },
    "scnn": {
        "window_frames": "4,6,8,11",
        "step_frames": 1,
        "segment_steps": 4,
        "width": 32,
        "new_learning_rate": 0.1,
        "iterations": 100,
        "proposal_until": 1.0,
        "batch_size": 4,
    },
    "ahernet": {
        "variant": "star",
        "length": 32,
        "moment_length": 16,
        "stem": "16,16",
        "widths": "16,16,16,16",
        "learning_rate": 3e-3,
        "foreground_iou": 0.5,
        "batch_size": 6,
        "iterations": 60,
    },
}


def texts(name: str, **changes: Any) -> dict[str, str]:
    """The quick configuration as a command line has it."""
    return {key: str(value) for key, value in {**QUICK[name], **changes}.items()}


def made(count: int = 24, *, seed: int = 0) -> tuple[dict[str, np.ndarray], GroundTruth]:
    """Features by video, and where in them the actions are, in seconds."""
    dice, features, truths = np.random.default_rng(seed), {}, []
    for index in range(count):
        name, length = f"video{index:02}", int(dice.integers(26, 36))
        actions = [(index % 3, int(dice.integers(2, 6)), int(dice.integers(9, 13)))]
        if index % 2:
            actions.append(((index + 1) % 3, int(dice.integers(15, 18)), int(dice.integers(20, 24))))
        data = dice.normal(0, 0.1, (length, DIM)).astype(np.float32)
        for label, first, last in actions:
            data[first : last + 1, [label, label + DIM // 2]] += 1  # in both halves, as in two streams
        features[name] = np.maximum(data, 0)
        instances = [Instance(first * STEP_S, (last + 1) * STEP_S, name, LABELS[label]) for label, first, last in actions]
        truths.append(VideoTruth(video_id=name, subset="training", duration_s=length * STEP_S, instances=tuple(instances)))
    return features, GroundTruth(videos=tuple(truths))


def write_features(folder: Path, features: dict[str, np.ndarray], *, step_s: float = STEP_S) -> Path:
    """In tal-run's own layout; windows are as long as the steps between them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in features.items():
        starts_s = step_s * np.arange(len(data))
        np.savez(
            folder / f"{name}.npz",
            features=data,
            seconds=np.stack([starts_s, starts_s + step_s], axis=1),
            labels=np.array([], np.str_),
            multi_label=np.array(False),
        )
    return folder


def written(folder: Path, count: int = 24) -> tuple[Path, Path]:
    """A folder of features and a file of annotations."""
    features, truth = made(count)
    write_activitynet(truth, folder / "truth.json")
    return write_features(folder / "features", features), folder / "truth.json"
