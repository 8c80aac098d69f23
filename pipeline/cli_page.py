"""The command line's help as a page, docs/reference/cli.md (``make reference`` writes it)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from tal_run.pipeline.cli import main

WIDTH = 100
INTRODUCTION = """\
# Command line

What `--help` says of every command. This page is made from that (`make reference`).

Everywhere: exit status 0 is done, 1 is that some videos failed, 2 is wrong use. `-h` is `--help`.
"""


def page() -> str:
    """All commands, each with its help."""
    parts = [INTRODUCTION]
    for name, text in helps(main, "tal-run"):
        parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def helps(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """The names and helps of a command and of those below it, in order."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent, **settings)
    yield name, "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found and not found.hidden:
                yield from helps(found, f"{name} {child}", context)


if __name__ == "__main__":
    Path("docs/reference/cli.md").write_text(page(), encoding="utf-8")
