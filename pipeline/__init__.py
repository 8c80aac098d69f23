"""Composition: configuration, detection, queries, outputs and the command line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tal_run.pipeline.detector import DetectConfig, Detector, VideoResult, detect

__all__ = ["DetectConfig", "Detector", "VideoResult", "detect"]


def __getattr__(name: str) -> Any:
    # Loaded at first use: `tal-run --help` imports this package and must answer at once.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.detector"), name)
