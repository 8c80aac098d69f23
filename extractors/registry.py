"""The backbones by name."""

from __future__ import annotations

from importlib.util import find_spec

from tal_run.extractors import movinet
from tal_run.extractors.backbone import Backbone, BackboneError, BackboneOptions
from tal_run.extractors.clip_networks import (
    C3DFc6,
    C3DFc7,
    CSNResNet101,
    I3DFlow,
    I3DResNet50,
    I3DRgb,
    I3DTwoStream,
    P3DRgb,
    P3DTwoStream,
    R2Plus1DResNet50,
    SlowFastResNet50,
    SlowResNet50,
    X3DMedium,
    X3DSmall,
)
from tal_run.extractors.hooks import Hook, ignore_progress
from tal_run.extractors.names import choices
from tal_run.extractors.starter import Starter
from tal_run.extractors.weights import at_hand

EXTRACTORS: dict[str, type[Backbone]] = {
    backbone.name: backbone
    for backbone in (
        I3DTwoStream,
        I3DRgb,
        I3DFlow,
        movinet.MoViNetA0Stream,
        C3DFc6,
        C3DFc7,
        P3DTwoStream,
        P3DRgb,
        I3DResNet50,
        SlowResNet50,
        SlowFastResNet50,
        X3DSmall,
        X3DMedium,
        R2Plus1DResNet50,
        CSNResNet101,
        Starter,
    )
}
# what ``auto`` may take, the strongest first; the last one comes with tal-run
STRENGTH = (I3DTwoStream.name, movinet.MoViNetA0Stream.name, Starter.name)
# what is worth a download to whoever has only weaker ones: small, and quick on any machine
RECOMMENDED = movinet.MoViNetA0Stream.name
# what a backbone needs beside what all of them need: ``auto`` passes over one whose package is not installed
PACKAGES = {movinet.MoViNetA0Stream.name: movinet.PACKAGE}
AUTO = "auto"
DEFAULT_BACKBONE = AUTO


def resolve(name: str) -> str:
    """The name of a backbone; for ``auto``, of the strongest one whose weights and package are on this machine.

    Raises:
        BackboneError: there is no backbone of that name.
    """
    if name == AUTO:
        return next(known for known in STRENGTH if _is_installed(known) and at_hand(*EXTRACTORS[known].files))
    if name not in EXTRACTORS:
        raise BackboneError(f"there is no backbone {name!r}: {choices(name, (AUTO, *EXTRACTORS))}")
    return name


def _is_installed(name: str) -> bool:
    return name not in PACKAGES or find_spec(PACKAGES[name]) is not None


def stronger(name: str) -> str | None:
    """The recommended backbone, if ``name`` is a weaker one."""
    return RECOMMENDED if name in STRENGTH[STRENGTH.index(RECOMMENDED) + 1 :] else None


def create_backbone(
    name: str = DEFAULT_BACKBONE, *, options: BackboneOptions | None = None, hook: Hook = ignore_progress
) -> Backbone:
    """The backbone of that name, its weights found or downloaded; ``auto`` downloads nothing.

    Raises:
        BackboneError: there is no backbone of that name, or it cannot work as the options say.
        WeightsError: its weights cannot be had.
    """
    return EXTRACTORS[resolve(name)](options=options, hook=hook)
