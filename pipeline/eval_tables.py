"""What ``tal-run eval`` prints: tables on standard output, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tal_run.eval.bootstrap import Comparison, Difference
    from tal_run.eval.diagnosis import Diagnosis
    from tal_run.eval.evaluation import EvaluationResult
    from tal_run.eval.proposals import ProposalResult

# average numbers of proposals a video, as ActivityNet's tables have them, and THUMOS14's
SHOWN_NUMBERS = (1, 5, 10, 50, 100, 200, 500, 1000)

Row = Sequence[str]


def one(result: EvaluationResult) -> None:
    """One protocol: a row a threshold."""
    click.echo(f"{result.protocol}: {_counts(result)}, {_counted(result.detections, 'detection')}")
    rows = [[f"{tiou:g}", _percent(value), *_span(result.intervals.get(tiou))] for tiou, value in result.map.items()]
    if len(rows) > 1:
        rows.append(["mean", _percent(result.average_map), *_span(result.average_interval)])
    if result.frame_map is not None:
        rows.append(["frames", _percent(result.frame_map), *_span(result.frame_interval)])
    _table([["tIoU", "mAP", *(["95 % interval"] if result.intervals else [])], *rows])


def side_by_side(results: Sequence[EvaluationResult], bootstrap: int) -> None:
    """All protocols: a row a threshold, a column a protocol."""
    click.echo(f"mAP in percent; {_counts(results[0])}")
    rows = []
    for tiou in results[0].map:
        spans = [(result.map[tiou], result.intervals.get(tiou)) for result in results]
        rows.append([f"{tiou:g}", *(_with_half(value, span) for value, span in spans)])
    if len(rows) > 1:
        rows.append(["mean", *(_with_half(result.average_map, result.average_interval) for result in results)])
    if any(result.frame_map is not None for result in results):
        shown = ((result.frame_map, result.frame_interval) for result in results)
        rows.append(["frames", *("" if value is None else _with_half(value, span) for value, span in shown)])
    _table([["tIoU", *(result.protocol for result in results)], *rows])
    if bootstrap:
        click.echo(f"± half of the 95 % interval over {_counted(bootstrap, 'sample')} of the videos")


def classes(result: EvaluationResult) -> None:
    """A row a class, a column a threshold."""
    frames = result.frame_per_class
    heads = [result.protocol, *(f"{tiou:g}" for tiou in result.map), "mean", *(["frames"] if frames else [])]
    rows = [
        [
            _shown(label),
            *map(_percent, values.values()),
            _percent(sum(values.values()) / len(values)),
            *([_percent(frames[label])] if frames else []),
        ]
        for label, values in result.per_class.items()
    ]
    click.echo()
    _table([heads, *rows], left=True)


def what_goes_wrong(diagnosis: Diagnosis) -> None:
    """Kinds of wrong detections, and sorts of instances."""
    from tal_run.eval.diagnosis_figures import TITLES, span

    click.echo(f"\nat tIoU {diagnosis.tiou:g}: {_counted(diagnosis.right, 'right detection')}")
    wrong = [[kind, str(count), f"{100 * diagnosis.gain[kind]:+.2f}"] for kind, count in diagnosis.wrong.items()]
    _table([["wrong", "detections", "mAP without"], *wrong], left=True)
    click.echo(f"\nmissed: {len(diagnosis.missed)} of {_counted(diagnosis.instances, 'instance')}; mAP here is normalised")
    rows = [
        [f"{TITLES[name]}: {span(name, sort)}", str(sort.instances), _percent(sort.map), f"{_percent(sort.missed)} %"]
        for name, sorts in diagnosis.sorts.items()
        for sort in sorts
    ]
    _table([["sort", "instances", "mAP", "missed"], *rows], left=True)


def comparisons(done: Mapping[str, Comparison], files: Sequence[str]) -> None:
    """Two files, protocol by protocol: a row a threshold."""
    click.echo(f"A = {_shown(files[0])}")
    click.echo(f"B = {_shown(files[1])}")
    for name, comparison in done.items():
        _comparison(name, comparison)


def _comparison(name: str, comparison: Comparison) -> None:
    first, second = comparison.first, comparison.second
    click.echo(f"{name}: {_counts(first)}, {_counted(comparison.samples, 'sample')} of the videos")
    rows = [
        [f"{tiou:g}", _percent(first.map[tiou]), _percent(second.map[tiou]), *_gain(difference)]
        for tiou, difference in comparison.map.items()
    ]
    if len(rows) > 1:
        rows.append(["mean", _percent(first.average_map), _percent(second.average_map), *_gain(comparison.average)])
    _table([["tIoU", "A", "B", "B - A", "95 % interval", "B is better in"], *rows])


def _gain(difference: Difference) -> Row:
    low, high = (f"{100 * bound:+.2f}" for bound in difference.interval)
    return [f"{100 * difference.value:+.2f}", f"{low} to {high}", f"{100 * difference.share_better:.1f} %"]


def proposal_results(results: Sequence[ProposalResult], files: Sequence[str], *, most: float) -> None:
    """Average recall, with up to ``most`` proposals a video: a row a figure, a column a file."""
    for name, path, result in zip("AB", files, results, strict=False):
        is_one = f"{name} = {_shown(path)}: " if len(results) > 1 else ""
        click.echo(f"{is_one}{_counts(result)}, {_counted(result.proposals, 'proposal')}")
    rows = [["AUC", *(_percent(result.auc) for result in results)]]
    rows += [[f"AR@{n}", *(_percent(result.average_recall_at(n)) for result in results)] for n in SHOWN_NUMBERS if n <= most]
    rows += [[f"recall at tIoU {tiou:g}", *(_percent(r.recall[tiou]) for r in results)] for tiou in results[0].recall]
    _table([["percent", *("AB" if len(results) > 1 else ["all"])], *rows], left=True)


def document(result: EvaluationResult) -> dict[str, Any]:
    """A result as JSON has it: thresholds are text, intervals lists."""
    frames = {
        "frame_map": result.frame_map,
        "frame_interval_95": result.frame_interval,
        "frame_per_class": dict(result.frame_per_class),
    }
    return {
        "protocol": result.protocol,
        "map": keyed(result.map),
        "average_map": result.average_map,
        "intervals_95": keyed(result.intervals),
        "average_interval_95": result.average_interval,
        **({} if result.frame_map is None else frames),
        "per_class": {label: keyed(values) for label, values in result.per_class.items()},
        "videos": result.videos,
        "instances": result.instances,
        "detections": result.detections,
        "notes": result.notes,
    }


def comparison_document(comparison: Comparison) -> dict[str, Any]:
    """A comparison as JSON has it."""
    return {
        "protocol": comparison.first.protocol,
        "first": document(comparison.first),
        "second": document(comparison.second),
        "difference": {f"{tiou:g}": asdict(difference) for tiou, difference in comparison.map.items()},
        "average_difference": asdict(comparison.average),
        "samples": comparison.samples,
    }


def keyed(values: Mapping[float, Any]) -> dict[str, Any]:
    """Thresholds as keys of a JSON object."""
    return {f"{tiou:g}": value for tiou, value in values.items()}


def print_json(document: object) -> None:
    """Print a document on standard output."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=1))


def _counts(result: EvaluationResult | ProposalResult) -> str:
    return f"{_counted(result.videos, 'video')}, {_counted(result.instances, 'instance')}"


def _counted(number: int, thing: str) -> str:
    from tal_run.eval.faults import counted

    return counted(number, thing)


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _span(bounds: tuple[float, float] | None) -> Row:
    return [] if bounds is None else [f"{_percent(bounds[0])} to {_percent(bounds[1])}"]


def _with_half(value: float, bounds: tuple[float, float] | None) -> str:
    if bounds is None:
        return _percent(value)
    return f"{_percent(value)} ±{_percent((bounds[1] - bounds[0]) / 2)}"


def _shown(text: str) -> str:
    from tal_run.extractors.wire import printable

    return printable(text)  # it may command a terminal


def _table(rows: Iterable[Row], *, left: bool = False) -> None:
    """Rows in columns, flush right; with ``left``, the first column flush left."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for row in lines:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        if left:
            cells[0] = row[0].ljust(widths[0])
        click.echo("  ".join(cells).rstrip())
