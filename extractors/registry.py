"""The backbones by name."""

from __future__ import annotations

from importlib.util import find_spec

from tal_run.extractors import movinet
from tal_run.extractors.backbone import Backbone, BackboneError
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.starter import Starter
from tal_run.extractors.weights import at_hand

# the strongest first; the last one comes with tal-run
EXTRACTORS: dict[str, type[Backbone]] = {
    "movinet-a0-stream": movinet.MoViNetA0Stream,
    "starter": Starter,
}
# what a backbone needs beside what all of them need: ``auto`` passes over one whose package is not installed
PACKAGES = {"movinet-a0-stream": movinet.PACKAGE}
AUTO = "auto"
DEFAULT_BACKBONE = AUTO


def resolve(name: str) -> str:
    """The name of a backbone; for ``auto``, of the strongest one whose weights and package are on this machine.

    Raises:
        BackboneError: there is no backbone of that name.
    """
    if name == AUTO:
        return next(known for known, backbone in EXTRACTORS.items() if _is_installed(known) and at_hand(*backbone.files))
    if name not in EXTRACTORS:
        raise BackboneError(f"there is no backbone {name!r}: choose one of {', '.join((AUTO, *EXTRACTORS))}")
    return name


def _is_installed(name: str) -> bool:
    return name not in PACKAGES or find_spec(PACKAGES[name]) is not None


def stronger(name: str) -> str | None:
    """The strongest backbone, if that is another one than ``name``."""
    strongest = next(iter(EXTRACTORS))
    return None if name == strongest else strongest


def create_backbone(name: str = DEFAULT_BACKBONE, *, hook: Hook = ignore_progress) -> Backbone:
    """The backbone of that name, its weights found or downloaded; ``auto`` downloads nothing.

    Raises:
        BackboneError: there is no backbone of that name.
        WeightsError: its weights cannot be had.
    """
    return EXTRACTORS[resolve(name)](hook=hook)
