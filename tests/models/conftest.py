"""Losses as the published implementations compute them, for inputs made by formula."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
CLASSES, WIDTH = 20, 64


class PublishedLosses:
    """``kind`` is wtalc or wsad."""

    def __init__(self, folder: Path) -> None:
        spec = importlib.util.spec_from_file_location("deterministic", folder / "deterministic.py")
        assert spec is not None
        assert spec.loader is not None
        self._formula = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._formula)
        self._numbers = json.loads((folder / "losses.json").read_text())

    def expected(self, kind: str) -> dict[str, float]:
        return {name: value for name, value in self._numbers[kind].items() if isinstance(value, float)}

    def inputs(self, kind: str) -> dict[str, Any]:
        """Features [B, T, 64], logits [B, T, 20] to be differentiated by, weight [20, 64], lengths [B], labels [B, 20]."""
        import torch

        lengths, labelled = self._numbers[kind]["seq_len"], self._numbers[kind]["labels"]
        shape = (len(lengths), max(lengths))
        labels = torch.zeros(len(lengths), CLASSES)
        for row, classes in enumerate(labelled):
            labels[row, classes] = 1
        features = self._formula.uniform(f"public/{kind}/features", (*shape, WIDTH))
        return {
            "features": torch.from_numpy(np.maximum(features, 0)),
            "logits": torch.tensor(
                self._formula.uniform(f"public/{kind}/logits", (*shape, CLASSES), -6, 6), requires_grad=True
            ),
            "weight": torch.from_numpy(self._formula.uniform(f"public/{kind}/weight", (CLASSES, WIDTH))),
            "lengths": torch.tensor(lengths),
            "labels": labels,
        }


@pytest.fixture(scope="session")
def published_losses() -> PublishedLosses:
    if not (REFERENCE / "losses.json").is_file():
        pytest.skip("the published implementations' losses (../shared/reference) are not on this machine")
    return PublishedLosses(REFERENCE)
