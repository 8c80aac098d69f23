"""The command that evaluates detections. Nothing heavy is imported before it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tal_run.pipeline import eval_tables
from tal_run.pipeline.cli_choices import Choice
from tal_run.pipeline.exits import WrongUse, errors_as_wrong_use

if TYPE_CHECKING:
    from tal_run.eval.case import Case
    from tal_run.eval.diagnosis import Diagnosis
    from tal_run.eval.evaluation import EvaluationResult
    from tal_run.eval.protocols import Protocol
    from tal_run.pipeline.screen import Screen

ALL = "all"
DIAGNOSED_TIOU = 0.5
# as ``eval.protocols.PROTOCOLS``, without importing it; a test compares them
NAMES = ("thumos14", "activitynet", "wtalc", "wsad", "mexaction2", "multithumos")


@click.command("eval")
@click.argument("files", nargs=-1, metavar="[A [B]]")
@click.option(
    "--ground-truth",
    required=True,
    metavar="PATH",
    help="ActivityNet's or MultiTHUMOS's JSON, THUMOS's folder of text files, or CSV.",
)
@click.option("--detections", "named", multiple=True, metavar="FILE", help="ActivityNet's results, JSON lines, CSV or THUMOS.")
@click.option("--protocol", "protocol", type=Choice([*NAMES, ALL]), help="Whose rules to reckon by; all: beside one another.")
@click.option(
    "--tiou", metavar="FIRST:LAST:STEP", help="Overlaps from which on a detection is right; or A,B,C. [default: the protocol's]"
)
@click.option("--subset", metavar="NAME", help="training, validation, testing or all. [default: that of the detections]")
@click.option("--exclude", "excluded", multiple=True, metavar="VIDEO", help="Leave a video out on both sides. Repeatable.")
@click.option("--also", multiple=True, metavar="A=B", help="Instances of A count as B, too: CliffDiving=Diving. Repeatable.")
@click.option("--lenient", is_flag=True, help="Leave out detections that cannot be true, instead of stopping at the first.")
@click.option(
    "--bootstrap",
    type=click.IntRange(0, 1_000_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="Samples of the videos for the 95 % intervals; 0: none.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@click.option(
    "--proposals", is_flag=True, help="Instead of mAP: how many instances are covered, whatever the class (AR@AN, AUC)."
)
@click.option(
    "--most",
    type=click.FloatRange(0, min_open=True),
    metavar="AN",
    help="With --proposals: the largest average number of them a video. [default: 100, ActivityNet's; for THUMOS14 up to 1000]",
)
@click.option(
    "--diagnose", "folder", metavar="DIR", help="Say what goes wrong, at tIoU 0.5 or the one given; figures go there."
)
@click.option("--per-class", is_flag=True, help="Print each class's AP, too.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON; fractions instead of percent.")
@click.option("--quiet", is_flag=True, help="No notes: numbers and errors only.")
def evaluate(
    files: tuple[str, ...],
    ground_truth: str,
    named: tuple[str, ...],
    protocol: str | None,
    tiou: str | None,
    subset: str | None,
    excluded: tuple[str, ...],
    also: tuple[str, ...],
    lenient: bool,
    bootstrap: int,
    seed: int,
    proposals: bool,
    most: float | None,
    folder: str | None,
    per_class: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say what detections are worth: mean average precision, by the rules of a protocol that is named.

    \b
    tal-run eval --ground-truth annotations --detections found.json --protocol activitynet
    tal-run eval old.json new.json --ground-truth annotations --protocol thumos14

    The second form compares two sets of detections, video by video. Files are told apart by content. Percent, with the
    interval in which the mAP lies in 95 % of samples of as many videos. Exit status: 0 done, 2 wrong use or files
    that cannot be evaluated.
    """
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=quiet)
    found = (*named, *files)
    with errors_as_wrong_use():
        from tal_run.eval.protocols import TENTHS, checked_tious

        if not 1 <= len(found) <= 2:
            raise WrongUse(f"{len(found)} files of detections were given: give one to evaluate, or two to compare")
        tious = None if tiou is None else checked_tious(_thresholds(tiou))
        options = {"subset": subset, "excluded_videos": excluded, "also": _also(also), "lenient": lenient}
        if proposals and protocol:
            raise WrongUse(f"--proposals has rules of its own: leave out --protocol {protocol}")
        if most is not None and not proposals:
            raise WrongUse("--most is a number of proposals: it goes with --proposals")
        if not proposals and protocol is None:
            raise WrongUse(f"say by whose rules to reckon: --protocol {', '.join(NAMES)} or {ALL}")
        if folder is not None and (len(found) > 1 or protocol in (None, ALL)):
            raise WrongUse("--diagnose takes one file of detections and one protocol")
        if per_class and (proposals or len(found) > 1):
            raise WrongUse(
                "--per-class takes one file of detections and a protocol: proposals and comparisons are of all classes"
            )
        cases = _cases(ground_truth, found, {**options, "class_agnostic": proposals})
        for path, case in zip(found, cases, strict=True):
            for note in case.notes:
                display.say(f"note: {f'{path}: ' if len(cases) > 1 else ''}{note}")
        if bootstrap and protocol and len(cases[0].video_ids) == 1:
            display.say("note: one video has no interval, for all samples of it are alike")
        if protocol is None:
            _proposals(cases, found, tious, most=most, as_json=as_json)
            return
        chosen = _protocols(protocol, cases[0], display)
        thresholds = {rules.name: tious or (TENTHS if protocol == ALL else rules.tious) for rules in chosen}
        if len(cases) == 2:
            _compare(cases, found, chosen, thresholds, samples=bootstrap, seed=seed, as_json=as_json)
            return
        # first what may not be writable: samples take time
        diagnosis = None if folder is None else _diagnosis(cases[0], chosen[0], tious, Path(folder), display)
        results = _results(cases[0], chosen, thresholds, bootstrap, seed)
    if as_json:
        documents = {result.protocol: eval_tables.document(result) for result in results}
        if diagnosis:
            documents[results[0].protocol]["diagnosis"] = asdict(diagnosis)
        eval_tables.print_json(documents if protocol == ALL else documents[protocol])
        return
    if protocol == ALL:
        eval_tables.side_by_side(results, bootstrap)
    else:
        eval_tables.one(results[0])
    if per_class:
        for result in results:
            eval_tables.classes(result)
    if diagnosis:
        eval_tables.what_goes_wrong(diagnosis)


def _cases(ground_truth: str, found: Sequence[str], options: Mapping[str, Any]) -> list[Case]:
    from tal_run.eval.evaluation import load_cases

    return load_cases(ground_truth, found, **options)


def _results(
    case: Case, chosen: Sequence[Protocol], thresholds: Mapping[str, tuple[float, ...]], bootstrap: int, seed: int
) -> list[EvaluationResult]:
    from tal_run.eval.evaluation import result_of

    return [result_of(case, rules, thresholds[rules.name], bootstrap=bootstrap, seed=seed) for rules in chosen]


def _protocols(name: str, case: Case, display: Screen) -> list[Protocol]:
    """The protocol of that name or, for all, those that know the ground truth's classes."""
    from tal_run.eval.evaluation import require_labels
    from tal_run.eval.protocols import PROTOCOLS, EvaluationError

    if name != ALL:
        require_labels(case, PROTOCOLS[name])
        return [PROTOCOLS[name]]
    chosen = []
    for rules in PROTOCOLS.values():
        try:
            require_labels(case, rules)
        except EvaluationError:
            display.say(f"note: left out {rules.name}, which knows other classes")
            continue
        chosen.append(rules)
    return chosen


def _thresholds(text: str) -> list[float]:
    """``0.1:0.7:0.1`` (both ends included), ``0.3,0.5`` or ``0.5``."""
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        first, last, step = (float(part) for part in text.split(":"))
        if not (math.isfinite(first) and math.isfinite(last) and 0 < step < math.inf and first <= last):
            raise ValueError
        count = (last - first) / step
        if count > 1000:
            raise ValueError
        return [first + index * step for index in range(math.floor(count + 1e-6) + 1)]
    except ValueError:
        raise WrongUse(f"--tiou {text} is no list of thresholds: give FIRST:LAST:STEP (0.1:0.7:0.1) or 0.3,0.5") from None


def _also(pairs: Sequence[str]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for pair in pairs:
        label, equals, other = pair.partition("=")
        if not (label and equals and other):
            raise WrongUse(f"--also {pair} is no pair of labels: give LABEL=OTHER, such as CliffDiving=Diving")
        named.setdefault(label, []).append(other)
    return named


def _diagnosis(case: Case, rules: Protocol, tious: tuple[float, ...] | None, folder: Path, display: Screen) -> Diagnosis:
    """What goes wrong, written into a folder."""
    from tal_run.eval.diagnosis import diagnose
    from tal_run.eval.diagnosis_figures import write_diagnosis

    diagnosis = diagnose(case, rules, tiou=tious[0] if tious and len(tious) == 1 else DIAGNOSED_TIOU)
    try:
        files = write_diagnosis(diagnosis, folder)
    except OSError as error:
        raise WrongUse(
            f"cannot write into {folder} ({error.strerror}): give --diagnose a folder that can be written to"
        ) from error
    display.say(f"wrote {', '.join(path.name for path in files)} into {folder}")
    return diagnosis


def _compare(
    cases: Sequence[Case],
    found: Sequence[str],
    chosen: Sequence[Protocol],
    thresholds: Mapping[str, tuple[float, ...]],
    *,
    samples: int,
    seed: int,
    as_json: bool,
) -> None:
    from tal_run.eval.bootstrap import compare

    done = {
        rules.name: compare(cases[0], cases[1], rules, thresholds[rules.name], samples=samples, seed=seed) for rules in chosen
    }
    if as_json:
        documents = {name: eval_tables.comparison_document(comparison) for name, comparison in done.items()}
        eval_tables.print_json(documents if len(documents) > 1 else next(iter(documents.values())))
        return
    eval_tables.comparisons(done, found)


def _proposals(
    cases: Sequence[Case], found: Sequence[str], tious: tuple[float, ...] | None, *, most: float | None, as_json: bool
) -> None:
    from tal_run.eval.proposals import MOST, evaluate_proposals
    from tal_run.eval.protocols import ACTIVITYNET_TIOUS

    results = [evaluate_proposals(case, most=most or MOST, tious=tious or ACTIVITYNET_TIOUS) for case in cases]
    if as_json:
        documents = [{**asdict(result), "recall": eval_tables.keyed(result.recall)} for result in results]
        eval_tables.print_json(documents[0] if len(documents) == 1 else dict(zip(("first", "second"), documents, strict=True)))
        return
    eval_tables.proposal_results(results, found, most=most or MOST)
