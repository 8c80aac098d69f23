"""Measured differences between tal-run's losses and what they must be, for ``methods.py``.

W-TALC's and WSAD's against the authors' code (``reference/losses.json``), AutoLoc's gradients against Equations 2 to 5 in plain
loops, S-CNN's loss against its gradients (Equations 4 to 6) and against where Section 3.2 says that it is least.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tal_run.models.autoloc import oic_loss
from tal_run.models.scnn import ScnnConfig, stage_loss
from tal_run.models.wsad import balanced_bce_loss, metric_triplet_loss
from tal_run.models.wtalc import co_activity_loss, k_max_mil_loss

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
CLASSES, WIDTH, CASES = 20, 64, 300


@dataclass(frozen=True)
class Difference:
    """One thing measured: what, against what, and by how much it differs at most (relative where ``is_relative``)."""

    what: str
    against: str
    found: str
    difference: float
    is_relative: bool


def differences() -> Iterator[Difference]:
    """All of them; those against the authors' code where its numbers are at hand."""
    if (REFERENCE / "losses.json").is_file():
        yield from published()
    yield from autoloc_gradients()
    yield from scnn_minimum()
    yield scnn_gradient()


# ---- W-TALC and WSAD ----


def published() -> Iterator[Difference]:
    """Losses and the sum of their absolute gradients by the logits."""
    pairs = slice(0, 6)
    given = _published_inputs("wtalc")
    logits, lengths, labels = given["logits"], given["lengths"], given["labels"]
    first = k_max_mil_loss(logits, lengths, labels)
    second = co_activity_loss(given["features"][pairs], logits[pairs], lengths[pairs], labels[pairs])
    yield from _compared("W-TALC", given, {"mil_k_max": first, "co_activity": second})
    given = _published_inputs("wsad")
    logits, lengths, labels = given["logits"], given["lengths"], given["labels"]
    first = balanced_bce_loss(logits, lengths, labels)
    second = metric_triplet_loss(given["features"], logits, given["weight"], lengths, labels)
    yield from _compared("WSAD", given, {"balanced_bce": first, "metric_triplet": second})


def _compared(method: str, given: dict[str, Any], losses: dict[str, torch.Tensor]) -> Iterator[Difference]:
    sum(losses.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    values = {name: loss.item() for name, loss in losses.items()} | {"grad_abs_sum": given["logits"].grad.abs().sum().item()}
    for name, value in values.items():
        wanted = given["expected"][name]
        yield Difference(f"{method}: {name}", f"{wanted:.7g} (authors' code)", f"{value:.7g}", abs(value / wanted - 1), True)


def _published_inputs(kind: str) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("deterministic", REFERENCE / "deterministic.py")
    assert spec is not None
    assert spec.loader is not None
    formula = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(formula)
    numbers = json.loads((REFERENCE / "losses.json").read_text(encoding="utf-8"))[kind]
    shape = (len(numbers["seq_len"]), max(numbers["seq_len"]))
    labels = torch.zeros(shape[0], CLASSES)
    for row, classes in enumerate(numbers["labels"]):
        labels[row, classes] = 1
    logits = torch.tensor(formula.uniform(f"public/{kind}/logits", (*shape, CLASSES), -6, 6), requires_grad=True)
    return {
        "features": torch.from_numpy(np.maximum(formula.uniform(f"public/{kind}/features", (*shape, WIDTH)), 0)),
        "logits": logits,
        "weight": torch.from_numpy(formula.uniform(f"public/{kind}/weight", (CLASSES, WIDTH))),
        "lengths": torch.tensor(numbers["seq_len"]),
        "labels": labels,
        "expected": numbers,
    }


# ---- AutoLoc ----


def autoloc_gradients() -> Iterator[Difference]:
    """Of the loss by x1, x2, X1, X2, of so many random segments in random activation."""
    dice, worst, loss_worst = np.random.default_rng(0), np.zeros(4), 0.0
    for _ in range(CASES):
        cas = dice.uniform(0, 1, 60)
        o1, x1, x2, o2 = np.sort(dice.choice(60, 4, replace=False))
        inner, outer = (torch.tensor([pair], dtype=torch.float64, requires_grad=True) for pair in ([x1, x2], [o1, o2]))
        loss = oic_loss(torch.from_numpy(cas), inner, outer)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        assert inner.grad is not None
        assert outer.grad is not None
        equal, gradients = _plainly(cas.tolist(), int(x1), int(x2), int(o1), int(o2))
        worst = np.maximum(worst, np.abs([*inner.grad[0].tolist(), *outer.grad[0].tolist()] - np.array(gradients)))
        loss_worst = max(loss_worst, abs(loss.item() - equal))
    yield Difference("AutoLoc: OIC loss", f"Eq. 1, {CASES} segments", "", loss_worst, False)
    for name, number, value in zip(("x1", "x2", "X1", "X2"), (2, 3, 4, 5), worst, strict=True):
        yield Difference(f"AutoLoc: gradient by {name}", f"Eq. {number}, {CASES} segments", "", float(value), False)


def _plainly(f: list[float], x1: int, x2: int, o1: int, o2: int) -> tuple[float, list[float]]:
    """Eq. 1, and Eq. 2 to 5, as the paper writes them."""
    inner, outer = f[x1 : x2 + 1], f[o1:x1] + f[x2 + 1 : o2 + 1]
    a_i, a_o = sum(inner) / (x2 - x1 + 1), sum(outer) / (o2 - o1 + 1 - (x2 - x1 + 1))
    n_i, n_o = x2 - x1 + 1, (o2 - o1 + 1) - (x2 - x1 + 1)
    return a_o - a_i, [
        (f[x1] - a_o) / n_o - (a_i - f[x1]) / n_i,
        (a_o - f[x2]) / n_o - (f[x2] - a_i) / n_i,
        (a_o - f[o1]) / n_o,
        (f[o2] - a_o) / n_o,
    ]


# ---- S-CNN ----


def scnn_minimum() -> Iterator[Difference]:
    """Where P_k of one action is when its loss is least, by search, against sqrt(v^alpha)."""
    for alpha in (0.25, 0.5, 1.0):
        worst, shown = 0.0, []
        for overlap in (0.5, 0.7, 0.9):
            found, wanted = _least(alpha, overlap), overlap ** (alpha / 2)
            shown.append(f"{found:.4f}")
            worst = max(worst, abs(found - wanted))
        against = ", ".join(f"{overlap ** (alpha / 2):.4f}" for overlap in (0.5, 0.7, 0.9))
        yield Difference(f"S-CNN: P at the minimum, alpha {alpha:g}, v 0.5 0.7 0.9", against, ", ".join(shown), worst, False)


def _least(alpha: float, overlap: float) -> float:
    config = ScnnConfig(alpha=alpha)
    low, high = 0.01, 0.9999
    for _ in range(80):  # golden section
        first, second = low + 0.382 * (high - low), low + 0.618 * (high - low)
        if _scnn_loss(first, overlap, config) < _scnn_loss(second, overlap, config):
            high = second
        else:
            low = first
    return (low + high) / 2


def _scnn_loss(probability: float, overlap: float, config: ScnnConfig) -> float:
    logits = torch.tensor([[1 - probability, probability]], dtype=torch.float64).log()
    loss = stage_loss(logits, torch.tensor([1]), torch.tensor([overlap]).double(), stage="localization", config=config)
    return float(loss)


def scnn_gradient() -> Difference:
    """Autograd of the whole loss against central differences."""
    dice, config, worst = np.random.default_rng(1), ScnnConfig(), 0.0
    for _ in range(CASES // 10):
        logits = torch.from_numpy(dice.normal(0, 2, (5, 6))).requires_grad_()
        labels, overlaps = torch.from_numpy(dice.integers(0, 6, 5)), torch.from_numpy(dice.uniform(0.5, 1, 5))
        how: dict[str, Any] = {"stage": "localization", "config": config}
        (gradient,) = torch.autograd.grad(stage_loss(logits, labels, overlaps, **how), logits)
        for place in np.ndindex(5, 6):
            step = torch.zeros(5, 6, dtype=torch.float64)
            step[place] = 1e-5
            around = [float(stage_loss(logits.detach() + sign * step, labels, overlaps, **how)) for sign in (1, -1)]
            worst = max(worst, abs((around[0] - around[1]) / 2e-5 - float(gradient[place])))
    return Difference("S-CNN: gradient of Eq. 1 by the logits", "central differences", "", worst, False)


def table(measured: Callable[[], Iterator[Difference]] = differences) -> str:
    """As Markdown."""
    rows = ["| what | must be | is | largest difference |", "|---|---|---|---|"]
    for row in measured():
        kind = "relative" if row.is_relative else "absolute"
        rows.append(f"| {row.what} | {row.against} | {row.found} | {row.difference:.1e} {kind} |")
    return "\n".join(rows)
