"""The commands about the papers' experiments: which there are, and how each is obtained again. Nothing heavy is imported."""

from __future__ import annotations

import click

from tal_run.pipeline.exits import errors_as_wrong_use


@click.group()
def experiments() -> None:
    """The papers' experiments: list them, show what to type to obtain one again."""


@experiments.command("list")
@click.option("--names", "names_only", is_flag=True, help="Names alone, one a line.")
def list_(names_only: bool) -> None:
    """Say which experiments there are: name, what was published, what it is."""
    from tal_run.pipeline.experiments import experiments as known

    if names_only:
        click.echo("\n".join(known()))
        return
    width = max(map(len, known()))
    for found in known().values():
        click.echo(f"{found.name:{width}}  {found.title} ({found.paper}, {found.table})")


@experiments.command()
@click.argument("name", metavar="NAME")
def show(name: str) -> None:
    """Print what to type to obtain an experiment again, from videos to numbers, and what the paper got.

    What is printed is a shell script, to be run in a folder that holds each data set in a folder of its name
    (`tal-run datasets list`, `tal-run datasets check NAME`).
    """
    from tal_run.pipeline.experiment_page import script
    from tal_run.pipeline.experiments import experiment_named

    with errors_as_wrong_use():
        click.echo(script(experiment_named(name)), nl=False)
