"""Results as Markdown, for ``methods.py``: every row under every protocol, and whether the papers' orders hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from methods_table import ORDERS
from numpy.typing import NDArray

from tal_run.eval.protocols import TENTHS

Rows = dict[tuple[str, str], list[dict[str, Any]]]
FIRST = "activitynet"  # matches by falling score, in continuous time: what most papers since 2018 report
AT_HALF = TENTHS.index(0.5)


def tables(files: Sequence[Path], *, on: str) -> str:
    """All tables."""
    rows = gathered(files)
    protocols = [name for name in next(iter(rows.values()))[0]["scores"] if name not in ("frames", "classes")] if rows else []
    parts = [overview(rows, protocols, on=on), orders(rows)]
    for protocol in protocols:
        parts.append(f"### mAP under `{protocol}`, {on}\n\n{by_overlap(rows, protocol)}")
    return "\n\n".join(parts) + "\n"


def gathered(files: Sequence[Path]) -> Rows:
    """Results by method and row, seeds in order."""
    rows: Rows = {}
    for file in files:
        card = json.loads(file.read_text(encoding="utf-8"))
        rows.setdefault((card["method"], card["row"]), []).append(card)
    return {key: sorted(cards, key=lambda card: card["seed"]) for key, cards in rows.items()}


def values(cards: Sequence[dict[str, Any]], protocol: str) -> NDArray[np.float64]:
    """mAP in percent, [seeds, thresholds]."""
    return 100 * np.array([card["scores"][protocol] for card in cards], np.float64)


def spread(numbers: NDArray[np.float64]) -> str:
    """Mean and standard deviation over seeds."""
    if len(numbers) == 1:
        return f"{numbers[0]:.1f}"
    return f"{numbers.mean():.1f} ± {numbers.std(ddof=1):.1f}"


def overview(rows: Rows, protocols: Sequence[str], *, on: str) -> str:
    """One line a row: mAP at tIoU 0.5 under all protocols, the mean of 0.1 to 0.7, over frames."""
    others = [protocol for protocol in protocols if protocol not in (FIRST, "multithumos")]  # whose instances are as wtalc's
    heads = [*(f"{tiou:g}" for tiou in TENTHS), "mean", *(f"`{protocol}` 0.5" for protocol in others), "frames", "seeds"]
    lines = [
        f"| method | | {' | '.join(heads)} |",
        "|" + "---|" * (len(heads) + 2),
    ]
    for (method, row), cards in rows.items():
        first = values(cards, FIRST)
        cells = [spread(first[:, column]) for column in range(len(TENTHS))]
        cells.append(f"**{spread(first.mean(axis=1))}**")
        cells += [spread(values(cards, protocol)[:, AT_HALF]) for protocol in others]
        cells.append(spread(100 * np.array([card["scores"]["frames"] for card in cards])))
        cells.append(str(len(cards)))
        lines.append(f"| {method} | {row} | {' | '.join(cells)} |")
    return f"### All, {on}\n\n" + "\n".join(lines)


def by_overlap(rows: Rows, protocol: str) -> str:
    """One line a row, one protocol."""
    lines = [f"| method | | {' | '.join(f'{t:g}' for t in TENTHS)} | mean |", "|" + "---|" * (len(TENTHS) + 3)]
    for (method, row), cards in rows.items():
        table = values(cards, protocol)
        cells = [spread(table[:, column]) for column in range(len(TENTHS))]
        lines.append(f"| {method} | {row} | {' | '.join(cells)} | {spread(table.mean(axis=1))} |")
    return "\n".join(lines)


def orders(rows: Rows) -> str:
    """What the papers found, and what was found here: the mean over tIoU 0.1 to 0.7, seed by seed."""
    lines = [
        "| method | better | worse | published | here: mean of 0.1 to 0.7 | here: at 0.5 | seeds that agree |",
        "|---|---|---|---|---|---|---|",
    ]
    for order in ORDERS:
        pair = [{card["seed"]: card for card in rows.get((order.method, name), [])} for name in (order.better, order.worse)]
        seeds = sorted(pair[0].keys() & pair[1].keys())
        if not seeds:
            continue
        better, worse = (values([cards[seed] for seed in seeds], FIRST) for cards in pair)
        gain = better.mean(axis=1) - worse.mean(axis=1)
        lines.append(
            f"| {order.method} | {order.better} | {order.worse} | {order.published} | {spread(gain)} | "
            f"{spread(better[:, AT_HALF] - worse[:, AT_HALF])} | {int((gain > 0).sum())} of {len(gain)} |"
        )
    return "### The papers' orders\n\n" + "\n".join(lines)


def table_of_real(files: Sequence[Path]) -> str:
    """Real video: mAP by overlap, and each class's AP at 0.5."""
    rows = gathered(files)
    classes = sorted({label for cards in rows.values() for card in cards for label in card["scores"]["classes"]})
    heads = [*(f"{tiou:g}" for tiou in TENTHS), "mean", *(f"{label} 0.5" for label in classes)]
    lines = [f"| method | | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 2)]
    for (method, row), cards in rows.items():
        table = values(cards, FIRST)
        cells = [spread(table[:, column]) for column in range(len(TENTHS))]
        cells.append(f"**{spread(table.mean(axis=1))}**")
        cells += [spread(100 * np.array([card["scores"]["classes"][label] for card in cards])) for label in classes]
        lines.append(f"| {method} | {row} | {' | '.join(cells)} |")
    return f"### Real video, `{FIRST}`\n\n" + "\n".join(lines)
