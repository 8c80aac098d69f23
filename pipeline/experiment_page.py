"""Experiments for people: one as a shell script, all as a page, docs/reproduce.md (``make reproduce`` writes it).

``MEASURED`` holds what was obtained here, by experiment and key of ``published``; what is not in it was not measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

from tal_run.pipeline.experiments import (
    Experiment,
    experiments,
    feature_commands,
    result_commands,
    training_commands,
)

MEASURED: Mapping[str, Mapping[str, float]] = {}
INTRODUCTION = """\
# The papers' tables, and how to obtain them again

Each row has an experiment, and each experiment all that tal-run needs to be told: the videos, the features, the method's
numbers where they are not its defaults, the seed, the protocol and the overlaps. `tal-run experiments show NAME` prints what to
type, from videos to numbers; below a table stand the commands of its first row. They are typed in a folder that holds each
data set in a folder of its name; `tal-run datasets check NAME` says whether one is whole.

**None of these numbers has been measured with tal-run yet**: the data sets' videos could not be had where it was written. The
tests go through the commands on made files that are laid out like the data sets. "Ours" is empty until somebody measures it.

All numbers are percent. *AP rules* are those of `tal-run eval --protocol`; do not compare across them.
This page is made from `pipeline/data/experiments` (`make reproduce`).
"""


def script(experiment: Experiment) -> str:
    """What to type, with what was published as comments."""
    lines = [
        f"# {experiment.name}: {experiment.title}",
        f"# {experiment.paper}, {experiment.table}: {', '.join(published(experiment))}",
    ]
    if experiment.config or experiment.detection:
        lines.append(f"# with {_numbers({**experiment.config, **experiment.detection})}")
    lines += [f"# note: {note}" for note in experiment.notes]
    lines += feature_commands(experiment)
    if experiment.checkpoint != experiment.name:
        lines.append(f"# the head is that of {experiment.checkpoint}")
    return "\n".join([*lines, *training_commands(experiment), *result_commands(experiment), ""])


def page() -> str:
    """All experiments as Markdown, a section a paper."""
    parts = [INTRODUCTION]
    by_paper = sorted(experiments().values(), key=lambda found: found.paper)  # stable: else in their order
    for paper, members in itertools.groupby(by_paper, key=lambda found: found.paper):
        parts.append(_section(paper, list(members)))
    return "\n".join(parts)


def _section(paper: str, members: Iterable[Experiment]) -> str:
    lines = [f"## {paper}", ""]
    of_file: dict[str, list[Experiment]] = {}
    for found in members:
        of_file.setdefault(found.file, []).append(found)
    for first, *variants in of_file.values():
        lines += [f"### {first.title}", ""]
        lines += ["| experiment | what | AP rules | published | ours |", "|---|---|---|---|---|"]
        lines += [_row(found) for found in (first, *variants)]
        lines += ["", *(f"- {note}" for note in first.notes)]
        lines += [f"- `{found.name}`: {note}" for found in variants for note in found.notes]
        lines += ["", "```sh", *_steps(first), "```", ""]
    return "\n".join(lines)


def _row(found: Experiment) -> str:
    values = _numbers({**found.config, **found.detection})
    what = f"{found.table}: {found.title}" + (f"; {values}" if values else "")
    ours = ", ".join(f"{key}: {value:g}" for key, value in MEASURED.get(found.name, {}).items())
    return f"| `{found.name}` | {what} | {found.protocol} | {', '.join(published(found))} | {ours} |"


def _steps(found: Experiment) -> list[str]:
    return [*feature_commands(found), *training_commands(found), *result_commands(found)]


def published(experiment: Experiment) -> list[str]:
    """What was published, as ``0.5: 29.6`` and so on."""
    return [f"{key}: {value:g}" for key, value in experiment.published.items()]


def _numbers(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={text}" for name, text in values.items())


if __name__ == "__main__":
    Path("docs/reproduce.md").write_text(page(), encoding="utf-8")
