"""The command line: arguments in, tables and files out. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tal_run.extractors.hooks import Hook
    from tal_run.pipeline.detector import DetectConfig
    from tal_run.pipeline.screen import Screen

DONE, SOME_FAILED, WRONG_USE, STOPPED = 0, 1, 2, 130

Command = Callable[..., Any]
Result = TypeVar("Result")


class WrongUse(click.ClickException):
    """Arguments that cannot be carried out (exit status 2)."""

    exit_code = WRONG_USE

    def __init__(self, message: str) -> None:
        from tal_run.extractors.wire import printable

        super().__init__(printable(message, limit=2000))  # it may quote a name that commands a terminal


class Program(click.Group):
    """The whole command line, as a process: where it may be cut off, and with what streams."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; Ctrl-C anywhere is exit status 130, a full standard output a sentence and 1."""
        _open_missing_streams()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)  # a batch system's way to stop: as Ctrl-C, what is done is kept
        try:
            return super().main(*args, **{"standalone_mode": False, **kwargs})
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("stopped", err=True)
            sys.exit(STOPPED)
        except OSError as error:
            click.echo(f"Error: cannot write to standard output ({error.strerror})", err=True)
            sys.exit(SOME_FAILED)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _open_missing_streams() -> None:
    """Give a process that was started without standard streams (by a daemon, say) empty ones."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - for the life of the process


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tal-run")
def main() -> None:
    """Raw video to timed, labelled actions.

    \b
    tal-run detect video.mp4 --query "arm wrestling"
    """


def _watching_options(command: Command) -> Command:
    """The options of every command that watches videos."""
    for option in reversed(
        [
            click.option("--backbone", metavar="NAME", help="Network to watch with. [default: movinet-a0-stream]"),
            click.option("--fps", type=float, help="Frames to look at, a second of video. [default: the backbone's, 5]"),
            click.option("--window", type=int, help="Frames in one window. [default: the backbone's, 8]"),
            click.option("--stride", type=int, help="Frames from window to window. [default: the backbone's, 4]"),
            click.option(
                "--decoder",
                type=click.Choice(["auto", "decord", "pyav"]),
                default="auto",
                show_default=True,
                help="Library that decodes.",
            ),
            click.option("--quiet", is_flag=True, help="No progress, no notes: results and errors only."),
            click.option("-v", "--verbose", is_flag=True, help="Say what is chosen and why."),
        ]
    ):
        command = option(command)
    return command


@main.command()
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("-q", "--query", "queries", multiple=True, metavar="TEXT", help="What to look for, in words. Repeatable.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the detections there.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["json", "jsonl", "csv"]),
    help="[default: by FILE's ending; without -o, a table]",
)
@click.option("--word-vectors", metavar="FILE", help="word2vec, GloVe or fastText vectors, instead of tal-run's own.")
@click.option("--names-only", is_flag=True, help="Match a query to the classes' names alone, not to their paraphrases.")
@click.option("--min-score", type=float, metavar="S", help="Leave out what scores lower. [default: 0.17]")
@click.option("--top", type=int, default=5, show_default=True, help="Without --query: classes to report.")
@_watching_options
def detect(
    videos: tuple[str, ...],
    queries: tuple[str, ...],
    output: Path | None,
    format_name: str | None,
    word_vectors: str | None,
    names_only: bool,
    min_score: float | None,
    top: int,
    **watching: Any,
) -> None:
    """Find actions in videos.

    Those asked for with --query or, without one, each video's best classes. Prints a table (plain tab-separated rows
    when piped), or writes a file with -o. Exit status: 0 done, 1 some videos failed, 2 wrong use.
    """
    from dataclasses import replace
    from functools import partial

    from tal_run.models.actionbytes import ActionBytesConfig
    from tal_run.pipeline import outputs
    from tal_run.pipeline.detector import Detector
    from tal_run.pipeline.query import NAMES_ONLY, QueryConfig
    from tal_run.pipeline.screen import Screen
    from tal_run.pipeline.word_vectors import load_word_vectors

    display = Screen(quiet=watching["quiet"], verbose=watching["verbose"])
    with _errors_as_wrong_use():
        localization = ActionBytesConfig() if min_score is None else ActionBytesConfig(min_score=min_score)
        query = NAMES_ONLY if names_only else QueryConfig()
        config = replace(_config(watching), localization=localization, query=query, top_classes=top)
        if output:
            outputs.check_writable(output, inputs=videos)
            format_name = format_name or outputs.format_of(output)
        if word_vectors and not Path(word_vectors).is_file():
            raise WrongUse(f"there is no file {word_vectors} to read word vectors from: check --word-vectors")
        with display.progress() as hook:
            vectors = partial(load_word_vectors, word_vectors) if word_vectors else None
            detector = Detector(config, vectors=vectors, hook=hook)
            matches = detector.match(queries)
    display.matches(matches)

    paths = _each_once(videos)
    done, status = _watch_all(paths, partial(detector.detect, matches=matches), display)
    names = dict(zip(paths, outputs.video_ids(paths), strict=True))
    results = {names[path]: result for path, result in done.items()}
    if format_name:
        text = outputs.rendered(
            format_name,
            {video_id: result.detections for video_id, result in results.items()},
            outputs.external_data(detector, matches, results) if format_name == "json" else None,
        )
    if not format_name:
        display.detections(results, matches)
    elif not output:
        click.echo(text, nl=False)
    else:
        _write_or_show(output, text, display)
        display.detections(results, matches, on_stderr=True)
        display.say(f"wrote {output}")
    sys.exit(status)


@main.command()
@click.argument("inputs", nargs=-1, required=True, metavar="VIDEO|FOLDER...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Write there.")
@_watching_options
def features(inputs: tuple[str, ...], output: Path, **watching: Any) -> None:
    """Save what the backbone makes of videos.

    Features, class logits and their place in time, one .npz a video, by the video's name (below FOLDER where two videos
    share one).
    """
    from tal_run.extractors import create_backbone, extract
    from tal_run.pipeline import outputs
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=watching["quiet"], verbose=watching["verbose"])
    with _errors_as_wrong_use():
        config = _config(watching)
        videos = _each_once(outputs.videos_in(inputs))
        outputs.make_folder(output)
        with display.progress() as hook:
            backbone = create_backbone(config.backbone, hook=hook)
    names = dict(zip(videos, outputs.video_ids(videos), strict=True))

    def extract_and_save(video: str, *, hook: Hook) -> None:
        found = extract(video, backbone=backbone, windows=config.windows, decoder=config.decoder, hook=hook)
        target = output / f"{names[video]}.npz"
        outputs.write_features(target, found)
        display.say(f"{target}  {found.data.shape[0]} x {found.data.shape[1]}")

    _, status = _watch_all(videos, extract_and_save, display)
    sys.exit(status)


def _config(watching: Mapping[str, Any]) -> DetectConfig:
    """The configuration that the common options ask for; what is not given stays as the backbone has it."""
    from dataclasses import replace

    from tal_run.extractors import EXTRACTORS
    from tal_run.extractors.registry import DEFAULT_BACKBONE, require_known
    from tal_run.pipeline.detector import DetectConfig

    name = require_known(watching["backbone"] or DEFAULT_BACKBONE)
    given = {
        field: watching[option]
        for option, field in (("fps", "fps"), ("window", "window_frames"), ("stride", "stride_frames"))
        if watching[option] is not None
    }
    windows = replace(EXTRACTORS[name].default_windows, **given) if given else None
    return DetectConfig(backbone=name, windows=windows, decoder=watching["decoder"])


def _each_once(paths: Sequence[str]) -> list[str]:
    """The paths without those that name the same file again."""
    return list({os.path.realpath(path): path for path in reversed(paths)}.values())[::-1]


def _watch_all(paths: Sequence[str], watch: Callable[..., Result], display: Screen) -> tuple[dict[str, Result], int]:
    """Watch one video after the other; one that fails costs a sentence, and Ctrl-C keeps what is done.

    Returns:
        What was made of each video that was watched, and the exit status.
    """
    from tal_run.extractors.errors import TalRunError

    done: dict[str, Result] = {}
    for path in paths:
        try:
            with display.progress(path if len(paths) > 1 else None) as hook:
                done[path] = watch(path, hook=hook)
        except TalRunError as error:
            display.error(str(error))
        except (OSError, ValueError, OverflowError, MemoryError) as error:
            # not foreseen, and no reason to lose the other videos
            display.error(f"{path} could not be watched ({type(error).__name__}: {error}); please report this")
        except KeyboardInterrupt:
            display.error(f"stopped; {len(done)} of {len(paths)} videos are done")
            return done, STOPPED
    return done, SOME_FAILED if len(done) < len(paths) else DONE


def _write_or_show(target: Path, text: str, display: Screen) -> None:
    """Write a result; where that fails at the last moment, hand it out on standard output: nothing is lost."""
    from tal_run.pipeline import outputs

    try:
        outputs.write(target, text)
    except outputs.OutputError as error:
        click.echo(text, nl=False)
        display.error(f"{error}; what was to be written is on standard output")
        sys.exit(SOME_FAILED)


@contextmanager
def _errors_as_wrong_use() -> Iterator[None]:
    from tal_run.extractors.errors import TalRunError

    try:
        yield
    except (TalRunError, OSError, ValueError) as error:
        raise WrongUse(str(error)) from error


if __name__ == "__main__":
    main()
