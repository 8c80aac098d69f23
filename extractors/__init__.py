"""Video in, features out: reading, time, weights and backbones, up to a ``FeatureSequence``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tal_run.extractors.features import Features, FeatureSequence, extract
    from tal_run.extractors.registry import EXTRACTORS, create_backbone

__all__ = ["EXTRACTORS", "FeatureSequence", "Features", "create_backbone", "extract"]

# Loaded at first use: the decoding child imports this package too, and must start at once.
_HOMES = {
    "EXTRACTORS": "registry",
    "create_backbone": "registry",
    "Features": "features",
    "FeatureSequence": "features",
    "extract": "features",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
