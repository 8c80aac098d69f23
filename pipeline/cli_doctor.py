"""The command that looks whether all is as it should be. Nothing heavy is imported before it runs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from tal_run.pipeline.exits import DONE, SOME_FAILED

MARKS = {"good": "ok", "note": "note", "wrong": "WRONG"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for a report of a fault.")
@click.option("--quiet", is_flag=True, help="No progress, no cures: the findings only.")
def doctor(as_json: bool, quiet: bool) -> None:
    """Look at this machine: versions, devices, decoders, flow, weights, space; and for each problem its cure.

    Everything is tried for a moment on the video that comes with tal-run; it takes some ten seconds. Exit status: 0 all that
    is needed works, 1 something does not.
    """
    from tal_run.pipeline.doctor import examine
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=quiet)
    with display.progress() as hook:
        findings = list(examine(hook=hook))
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=1))
    else:
        display.table(("", "what", "found"), [(MARKS[finding.state], finding.what, finding.found) for finding in findings])
        for finding in findings:
            if finding.cure:
                display.say(f"{finding.what}: {finding.cure}")
    sys.exit(SOME_FAILED if any(finding.state == "wrong" for finding in findings) else DONE)
