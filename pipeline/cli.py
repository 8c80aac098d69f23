"""The command line: arguments in, tables and files out. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tal_run.pipeline import dry_run as dry
from tal_run.pipeline.cli_batch import batch
from tal_run.pipeline.cli_choices import Choice
from tal_run.pipeline.cli_clips import clips
from tal_run.pipeline.cli_completion import completion
from tal_run.pipeline.cli_convert import convert
from tal_run.pipeline.cli_datasets import datasets
from tal_run.pipeline.cli_doctor import doctor
from tal_run.pipeline.cli_eval import evaluate
from tal_run.pipeline.cli_experiments import experiments
from tal_run.pipeline.cli_feature_detection import detect_in_features, feature_options
from tal_run.pipeline.cli_features import features
from tal_run.pipeline.cli_report import report, thumbnails_of
from tal_run.pipeline.cli_train import train
from tal_run.pipeline.cli_watching import detecting_options, detector_of, watching_options
from tal_run.pipeline.cli_weights import weights
from tal_run.pipeline.dry_run import dry_run_option
from tal_run.pipeline.exits import DONE, SOME_FAILED, STOPPED, WrongUse, discard, errors_as_wrong_use
from tal_run.pipeline.formats import FORMATS, PAGE

if TYPE_CHECKING:
    from tal_run.pipeline.screen import Screen

Result = TypeVar("Result")


class Program(click.Group):
    """The whole command line, as a process: where it may be cut off, and with what streams."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run it; Ctrl-C anywhere is exit status 130, a full standard output a sentence and 1."""
        _open_missing_streams()
        # read when torch is loaded: its threads sleep while they wait, and leave the cores to decoding and optical flow
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
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
            discard(sys.stdout)
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


@main.command()
@click.argument("videos", nargs=-1, metavar="VIDEO|FOLDER...")
@click.option(
    "-o",
    "--output",
    "targets",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the detections there. Repeatable.",
)
@click.option(
    "--format",
    "format_name",
    type=Choice([*FORMATS, PAGE]),
    help="See `tal-run convert -h`. [default: by FILE's ending; without -o, a table]",
)
@detecting_options
@feature_options
@dry_run_option
@watching_options
def detect(
    videos: tuple[str, ...],
    targets: tuple[Path, ...],
    format_name: str | None,
    folder: str | None,
    experiment: str | None,
    data: Path | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Find actions in videos, and in all videos of folders.

    Those asked for with --query or, without one, each video's best classes. Prints a table (plain tab-separated rows
    when piped), and writes files with -o. With --features, a trained head looks at stored features instead, of all videos
    or those named, and writes one file. Exit status: 0 done, 1 some videos failed, 2 wrong use.
    """
    from functools import partial

    if folder is not None:
        if options["top"] is not None:
            raise WrongUse("in stored features all actions are sought, or those that --query names: leave out --top")
        detect_in_features(
            videos,
            folder=folder,
            checkpoint=options["checkpoint"],
            targets=targets,
            format_name=format_name,
            experiment=experiment,
            data=data,
            settings=options["settings"],
            min_score=options["min_score"],
            asked={name: options[name] for name in ("queries", "word_vectors", "names_only")},
            watching=options,
            dry_run=dry_run,
        )
    if experiment or data:
        raise WrongUse("--experiment and --data go with --features")
    if not videos:
        raise click.MissingParameter(ctx=click.get_current_context(), param_hint="'VIDEO|FOLDER...'", param_type="argument")

    from tal_run.extractors.video_errors import check_file
    from tal_run.pipeline import outputs
    from tal_run.pipeline import report as page
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=options["quiet"], verbose=options["verbose"])
    with errors_as_wrong_use():
        paths = outputs.each_once(outputs.videos_in(videos))
        read = [*paths, *(options[name] for name in ("checkpoint", "word_vectors") if options[name])]
        for target in targets:
            outputs.check_writable(target, inputs=read)
        if len(set(map(os.path.realpath, targets))) < len(targets):
            raise WrongUse("two of the files given with -o are one and the same: give each its own")
        formats = {target: format_name or outputs.format_of(target) for target in targets}
        for kind in {*formats.values(), *([format_name] if format_name else [])}:
            outputs.check_holds(kind, len(paths))
        if dry_run:
            dry.said_detector(options, display)
            status = dry.said_videos(paths, display)
            for target, kind in formats.items():
                dry.said_files([target], kind)
            sys.exit(status)
        if not any(map(os.path.exists, paths)):  # no reason to load a network first
            _, status = _watch_all(paths, lambda path, hook: check_file(path), display)
            sys.exit(status)
        with display.progress() as hook:
            detector, matches = detector_of(options, display, hook=hook)
    display.matches(matches)
    for note in detector.notes:
        display.say(f"note: {note}")

    done, status = _watch_all(paths, partial(detector.detect, matches=matches), display)
    if targets and not done:  # an empty result would take the place of what is there
        display.say(f"nothing was written to {' and '.join(map(str, targets))}")
        sys.exit(status)
    names = dict(zip(paths, outputs.video_ids(paths), strict=True))
    results = {names[path]: result for path, result in done.items()}

    def rendered(kind: str, target: Path | None = None) -> list[tuple[Path | None, str]]:
        """The text for a file, and that of the second one that a format may need beside it."""
        if kind == PAGE:
            made_by = outputs.external_data(detector, matches, results)
            shown = page.of_results(results)
            how: dict[str, Any] = {"matches": matches, "backbone": detector.backbone.name, "made_by": made_by}
            return [(target, page.rendered(shown, beside=target, thumbnails=thumbnails_of(shown, display), **how))]
        made_by = outputs.external_data(detector, matches, results, curves=options["curves"]) if kind == "json" else {}
        return outputs.texts(kind, outputs.found_videos(results), target, made_by=made_by)

    if format_name and not targets:
        with errors_as_wrong_use():
            ((_, text),) = rendered(format_name)
        click.echo(text, nl=False)
        sys.exit(status)
    written, beside = list[Path](), list[Path]()
    for target, kind in formats.items():
        for note in outputs.frame_notes(kind, outputs.found_videos(results)):
            display.say(f"note: {note}")
        try:
            texts = rendered(kind, None if outputs.is_stream(target) else target)
        except outputs.FormatError as error:
            display.error(f"{target}: {error}")
            continue
        done_all = [_write_or_show(place or target, text, display) for place, text in texts]  # each, whatever became of one
        if all(done_all):
            written.append(target)
            beside += [place for place, _ in texts[1:] if place]
    # standard output is free for the table unless a result goes there
    is_taken = len(written) < len(formats) or any(map(outputs.is_stream, formats))
    display.detections(results, matches, on_stderr=is_taken, is_written=bool(targets))
    if written:
        *first, last = map(str, [*written, *beside])
        display.say(f"wrote {', '.join(first)}{' and ' * bool(first)}{last}")
    sys.exit(status if len(written) == len(formats) else SOME_FAILED)


def _watch_all(paths: Sequence[str], watch: Callable[..., Result], display: Screen) -> tuple[dict[str, Result], int]:
    """Watch one video after the other; one that fails costs a sentence, and Ctrl-C keeps what is done.

    Returns:
        What was made of each video that was watched, and the exit status.
    """
    from tal_run.extractors.errors import TalRunError
    from tal_run.extractors.wire import printable

    done: dict[str, Result] = {}
    for path in paths:
        try:
            with display.progress(path if len(paths) > 1 else None) as hook:
                done[path] = watch(path, hook=hook)
        except TalRunError as error:
            # what is wrong with a video for this network says nothing of which video it is
            is_named = printable(path) in str(error) or path in str(error)
            display.error(str(error) if is_named or len(paths) == 1 else f"{path}: {error}")
        except Exception as error:  # noqa: BLE001 - torch, OpenCV and others raise what they like
            # not foreseen, and no reason to lose the other videos
            display.error(f"{path} could not be watched ({type(error).__name__}: {error}); please report this")
        except KeyboardInterrupt:
            display.error(f"stopped; {len(done)} of {len(paths)} videos are done")
            return done, STOPPED
    return done, SOME_FAILED if len(done) < len(paths) else DONE


def _write_or_show(target: Path, text: str, display: Screen) -> bool:
    """Write a result; where that fails at the last moment, hand it out on standard output: nothing is lost.

    Returns:
        Whether it was written.
    """
    from tal_run.pipeline import outputs

    try:
        outputs.write(target, text)
    except outputs.OutputError as error:
        click.echo(text, nl=False)
        display.error(f"{error}; what was to be written is on standard output")
        return False
    return True


main.add_command(batch)
main.add_command(clips)
main.add_command(convert)
main.add_command(completion)
main.add_command(datasets)
main.add_command(doctor)
main.add_command(evaluate)
main.add_command(experiments)
main.add_command(features)
main.add_command(report)
main.add_command(train)
main.add_command(weights)

if __name__ == "__main__":
    main()
