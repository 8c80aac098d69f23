"""The command that lets a shell complete the others: names of commands, options, choices, backbones and data sets."""

from __future__ import annotations

import click

from tal_run.pipeline.cli_choices import Choice

PROGRAM, VARIABLE = "tal-run", "_TAL_RUN_COMPLETE"  # by which click knows that a shell asks


@click.command()
@click.argument("shell", type=Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete tal-run's commands and options.

    \b
    bash  eval "$(tal-run completion bash)"       in ~/.bashrc
    zsh   eval "$(tal-run completion zsh)"        in ~/.zshrc
    fish  tal-run completion fish | source        in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source())


def backbones(context: click.Context, option: click.Parameter, begun: str) -> list[str]:
    """Names of backbones that begin so."""
    from tal_run.extractors.registry import AUTO, EXTRACTORS

    return [name for name in (AUTO, *EXTRACTORS) if name.startswith(begun)]


def datasets(context: click.Context, option: click.Parameter, begun: str) -> list[str]:
    """Names of data sets that begin so."""
    from tal_run.eval.datasets import DATASETS

    return [name for name in DATASETS if name.startswith(begun)]
