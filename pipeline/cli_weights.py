"""The commands about weights: which there are, fetching them, checking them, where they lie. Nothing heavy is imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from tal_run.pipeline.exits import DONE, SOME_FAILED, WrongUse

if TYPE_CHECKING:
    from tal_run.extractors.weights import WeightsFile

HERE = "here"


@click.group()
def weights() -> None:
    """Weights of backbones: list, fetch, check and find them."""


@weights.command("list")
@click.option("--names", "names_only", is_flag=True, help="Names alone, one a line.")
def list_(names_only: bool) -> None:
    """Say which backbones there are, what each knows, and whether its weights are on this machine."""
    from tal_run.extractors.registry import EXTRACTORS
    from tal_run.pipeline.screen import Screen

    if names_only:
        click.echo("\n".join(EXTRACTORS))
        return
    rows = [(name, _state(files_of(name)), backbone.knows) for name, backbone in EXTRACTORS.items()]
    Screen().table(("backbone", "weights", "knows"), rows, dim=[not state.startswith(HERE) for _, state, _ in rows])


def files_of(name: str) -> tuple[WeightsFile, ...]:
    """All that a backbone needs, and the names of its classes."""
    from tal_run.extractors.published_weights import PUBLISHED
    from tal_run.extractors.registry import EXTRACTORS

    if name not in EXTRACTORS:
        from tal_run.extractors.names import choices

        raise WrongUse(f"there is no backbone {name!r}: {choices(name, EXTRACTORS)}")
    backbone = EXTRACTORS[name]
    networks = getattr(backbone, "published", {}).values()
    labels = [file for network in networks if (file := PUBLISHED[network].label_file) is not None]
    return tuple(dict.fromkeys((*backbone.files, *labels)))


def _state(files: tuple[WeightsFile, ...]) -> str:
    from tal_run.extractors.weights import state_of

    if not files:
        return f"{HERE}, with tal-run"
    states = [state_of(file) for file in files]
    if all(state.path for state in states):
        return HERE if all(state.verified for state in states) else f"{HERE}, no checksum known"
    missing = [file for file, state in zip(files, states, strict=True) if state.path is None]
    if any(state.impostors for state in states):
        return "damaged (tal-run weights verify)"
    size = sum(file.size_bytes or 0 for file in missing)
    much = f" ({size / 1e6:.1f} MB)" if size and all(file.size_bytes for file in missing) else ""
    return f"to be put into place by hand{much}" if any(file.url is None for file in missing) else f"to be fetched{much}"


@weights.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--quiet", is_flag=True, help="No progress, no notes: errors only.")
def pull(names: tuple[str, ...], quiet: bool) -> None:
    """Fetch the weights of backbones into the cache, and check them; what is here already is not fetched again."""
    from tal_run.extractors.errors import TalRunError
    from tal_run.extractors.weights import locate
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=quiet)
    wanted = {name: files_of(name) for name in names}
    status = DONE
    for name, files in wanted.items():
        try:
            with display.progress() as hook:
                paths = locate(*files, hook=hook)
        except TalRunError as error:
            display.error(f"{name}: {error}")
            status = SOME_FAILED
            continue
        display.say(f"{name}: " + (", ".join(map(str, paths)) or "comes with tal-run"))
    sys.exit(status)


@weights.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--quiet", is_flag=True, help="No notes: the files and errors only.")
def verify(names: tuple[str, ...], quiet: bool) -> None:
    """Check every byte of the weights on this machine, or of the named backbones'.

    Exit status 1: something has the right name and the wrong bytes.
    """
    from tal_run.extractors.registry import EXTRACTORS
    from tal_run.extractors.weights import state_of
    from tal_run.pipeline.screen import Screen

    display, status, seen = Screen(quiet=quiet), DONE, 0
    files = dict.fromkeys(file for name in (names or EXTRACTORS) for file in files_of(name))
    for file in files:
        state = state_of(file)
        for path, fault in state.impostors:
            status = SOME_FAILED
            display.error(f"{path}: {fault}; remove it, or put the right {file.file_name} there ({file.url or file.source})")
        if state.path is not None:
            seen += 1
            click.echo(f"{state.path}\t{'verified' if state.verified else 'authors gave no checksum, not pinned yet'}")
    if not seen and status == DONE:
        display.say(
            "no weights are on this machine but those that come with tal-run; `tal-run weights list` says what there is"
        )
    sys.exit(status)


@weights.command()
@click.argument("name")
def path(name: str) -> None:
    """Print where the weights of a backbone lie, a path a line; exit status 1 if they are not all here."""
    from tal_run.extractors.weights import cache_folder, state_of
    from tal_run.pipeline.screen import Screen

    states = {file: state_of(file) for file in files_of(name)}
    for state in states.values():
        if state.path is not None:
            click.echo(state.path)
    missing = [file for file, state in states.items() if state.path is None]
    if missing:
        file = missing[0]
        Screen().error(
            f"{file.file_name} is not here: `tal-run weights pull {name}` fetches it"
            if file.url
            else f"{file.file_name} is not here: get it from {file.source} and put it into {cache_folder()}"
        )
        sys.exit(SOME_FAILED)
    if not states:
        Screen().say(f"the weights of {name} come with tal-run")
