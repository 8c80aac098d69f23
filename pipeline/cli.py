"""The command line: arguments in, tables and files out. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tal_run.pipeline.cli_batch import batch, limiting_options, limits_of, seen_to, threads_of
from tal_run.pipeline.cli_clips import clips
from tal_run.pipeline.cli_completion import completion
from tal_run.pipeline.cli_completion import datasets as known_datasets
from tal_run.pipeline.cli_convert import convert
from tal_run.pipeline.cli_datasets import datasets
from tal_run.pipeline.cli_doctor import doctor
from tal_run.pipeline.cli_eval import evaluate
from tal_run.pipeline.cli_experiments import experiments
from tal_run.pipeline.cli_feature_detection import detect_in_features, feature_options
from tal_run.pipeline.cli_report import report
from tal_run.pipeline.cli_train import train
from tal_run.pipeline.cli_watching import config_of, detecting_options, detector_of, watching_options
from tal_run.pipeline.cli_weights import weights
from tal_run.pipeline.exits import DONE, SOME_FAILED, STOPPED, WrongUse, errors_as_wrong_use
from tal_run.pipeline.formats import FORMATS, PAGE

if TYPE_CHECKING:
    from tal_run.eval.datasets import DatasetFiles
    from tal_run.extractors.hooks import Hook
    from tal_run.pipeline.batch_locks import Run
    from tal_run.pipeline.feature_batch import Outcome
    from tal_run.pipeline.screen import Screen

Result = TypeVar("Result")
AGAIN_S = 2.0  # until what another run works on is asked for again


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
    type=click.Choice([*FORMATS, PAGE]),
    help="See `tal-run convert -h`. [default: by FILE's ending; without -o, a table]",
)
@detecting_options
@feature_options
@watching_options
def detect(
    videos: tuple[str, ...],
    targets: tuple[Path, ...],
    format_name: str | None,
    folder: str | None,
    experiment: str | None,
    data: Path | None,
    **options: Any,
) -> None:
    """Find actions in videos, and in all videos of folders.

    Those asked for with --query or, without one, each video's best classes. Prints a table (plain tab-separated rows
    when piped), and writes files with -o. With --features, a trained head looks at stored features instead, of all videos
    or those named, and writes one file. Exit status: 0 done, 1 some videos failed, 2 wrong use.
    """
    from functools import partial

    if folder is not None:
        if options["queries"] or options["word_vectors"] or options["names_only"] or options["top"] is not None:
            raise WrongUse(
                "in stored features all actions are sought: leave out --query, --word-vectors, --names-only and --top"
            )
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
            watching=options,
        )
    if experiment or data:
        raise WrongUse("--experiment and --data go with --features")
    if not videos:
        raise click.MissingParameter(ctx=click.get_current_context(), param_hint="'VIDEO|FOLDER...'", param_type="argument")

    from tal_run.pipeline import outputs
    from tal_run.pipeline import report as page
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=options["quiet"], verbose=options["verbose"])
    with errors_as_wrong_use():
        paths = _each_once(outputs.videos_in(videos))
        read = [*paths, *(options[name] for name in ("checkpoint", "word_vectors") if options[name])]
        for target in targets:
            outputs.check_writable(target, inputs=read)
        if len(set(map(os.path.realpath, targets))) < len(targets):
            raise WrongUse("two of the files given with -o are one and the same: give each its own")
        formats = {target: format_name or outputs.format_of(target) for target in targets}
        for kind in {*formats.values(), *([format_name] if format_name else [])}:
            outputs.check_holds(kind, len(paths))
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
            text = page.rendered(shown, beside=target, matches=matches, backbone=detector.backbone.name, made_by=made_by)
            return [(target, text)]
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
        display.say(f"wrote {' and '.join(map(str, [*written, *beside]))}")
    sys.exit(status if len(written) == len(formats) else SOME_FAILED)


@main.command()
@click.argument("inputs", nargs=-1, metavar="VIDEO|FOLDER...")
@click.option("-o", "--output", "output_name", type=click.Path(), required=True, metavar="DIR", help="Write there.")
@click.option(
    "--dataset",
    metavar="NAME",
    shell_complete=known_datasets,
    help="The videos of a data set (`tal-run datasets list`), which lies in FOLDER.",
)
@click.option(
    "--layout",
    type=click.Choice(["tal-run", "actionformer", "opentad", "wtalc", "video_features"]),
    default="tal-run",
    show_default=True,
    help="Form of the files.",
)
@click.option("--again", is_flag=True, help="Make everything again, also what is verified or not ours.")
@click.option(
    "--crop",
    type=click.Choice(["center", "ten", "whole"]),
    default="center",
    show_default=True,
    help="What published networks see of a frame; of ten crops, the mean.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "bfloat16", "float32"]),
    default="auto",
    show_default=True,
    help="Of published networks; auto: bfloat16 where the hardware has it.",
)
@click.option(
    "--flow-preset",
    type=click.Choice(["opencv", "opencv-cuda"]),
    default="opencv",
    show_default=True,
    help="TV-L1's parameters: the defaults of OpenCV on CPUs, or on GPUs.",
)
@click.option("--flow-jpeg", is_flag=True, help="Round flow to 8 bits, as by way of stored pictures.")
@click.option(
    "--last",
    type=click.Choice(["pad", "drop"]),
    default="pad",
    show_default=True,
    help="Frames behind the last whole window: fill a window up, or leave them out.",
)
@click.option(
    "--short",
    type=click.Choice(["repeat", "loop", "refuse"]),
    default="repeat",
    show_default=True,
    help="Video shorter than one window: repeat its last frame or all of it, or make nothing of it.",
)
@limiting_options
@watching_options
def features(
    inputs: tuple[str, ...],
    output_name: str,
    dataset: str | None,
    layout: str,
    again: bool,
    flow_preset: str,
    flow_jpeg: bool,
    **watching: Any,
) -> None:
    """Save what the backbone makes of videos.

    Features, class logits and their place in time, one .npz a video, by the video's name (below FOLDER where two videos
    share one), or in the form that another tool reads; beside it a .json that says what made them. What is there already, is
    whole and was made of the same video in the same way is kept; what tal-run did not make is not overwritten.
    `--dataset synthetic` needs no FOLDER: its videos are made. Several runs with the same DIR share the work; --workers, or
    several devices, make processes of it: one that crashes, hangs or takes too much costs the video in hand.
    """
    from tal_run.extractors import create_backbone
    from tal_run.extractors.errors import TalRunError
    from tal_run.extractors.feature_files import FeatureFolder
    from tal_run.extractors.flow import PRESETS
    from tal_run.extractors.two_streams import FlowConfig
    from tal_run.pipeline import feature_batch, feature_sharing, outputs
    from tal_run.pipeline.batch_store import told
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=watching["quiet"], verbose=watching["verbose"])
    devices = watching["device"].split(",")
    if len(devices) > 1:
        watching["device"] = "cpu"  # of this process, which only finds out whether all is as it should be
    if not inputs and not dataset:
        raise WrongUse("there is nothing to watch: give videos, folders, or --dataset NAME")
    with errors_as_wrong_use():
        config = config_of(watching, display)
        if not output_name:
            raise WrongUse("-o is empty: give a folder to write to, or . for this one")
        output = Path(output_name)
        folder = FeatureFolder(output, layout=layout)
        files = _dataset_files(dataset, inputs, display) if dataset else None
        videos = [str(path) for path in files.videos().values()] if files else _each_once(outputs.videos_in(inputs))
        outputs.make_folder(output)
        with display.progress() as hook:
            backbone = create_backbone(config.backbone, options=config.options, hook=hook)
        flow = FlowConfig(backend=watching["flow_backend"], params=PRESETS[flow_preset], jpeg=flow_jpeg)
        how: dict[str, Any] = {
            "windows": config.windows,
            "decoder": config.decoder,
            "flow": flow,
            "again": again,
            "inputs": videos,
        }
        maker = feature_batch.FeatureBatch(folder, backbone=backbone, **how)
    names = dict(zip(videos, outputs.video_ids(videos), strict=True))

    def make(video: str, *, hook: Hook) -> feature_batch.Outcome | None:
        with told(output):
            if not run.claim(names[video]):
                return None
        try:
            outcome = maker.make(video, names[video], hook=hook)
        finally:
            run.give_back(names[video])
        display.say(outcome.line)
        for note in outcome.notes:
            display.say(f"{video}: note: {note}")
        return outcome

    done: Mapping[str, feature_batch.Outcome]
    recipe = hashlib.sha256(repr((layout, config, {**how, "inputs": None})).encode()).hexdigest()
    with errors_as_wrong_use(), feature_sharing.at_work(output, recipe) as run:
        if len(devices) == 1 and not watching["workers"]:
            done, status = _watch_all(videos, make, display)
        else:
            told_all = {"folder": output, "layout": layout, "backbone": config.backbone, "options": config.options, **how}
            done, status = _share_out(videos, names, devices, watching, told_all, run, display)
    if status != STOPPED:
        display.say(feature_batch.summary(done.values(), failed=len(videos) - len(done)))
        there = [names[video] for video in done]
        try:
            if packed := maker.pack():
                display.say(packed)
            if files:
                display.say(feature_batch.list_missing(files, there, output))
        except TalRunError as error:
            display.error(str(error))
            status = SOME_FAILED
    sys.exit(status)


def _dataset_files(name: str, inputs: Sequence[str], display: Screen) -> DatasetFiles:
    """A data set that lies in the one folder given, or (none given) where it belongs."""
    from tal_run.eval.datasets import find

    if len(inputs) > 1:
        raise WrongUse(f"--dataset takes one folder, in which {name} lies; {len(inputs)} were given")
    with display.progress() as hook:
        return find(name, *inputs, hook=hook)


def _each_once(paths: Sequence[str]) -> list[str]:
    """The paths without those that name the same file again."""
    return list({os.path.realpath(path): path for path in reversed(paths)}.values())[::-1]


def _watch_all(paths: Sequence[str], watch: Callable[..., Result | None], display: Screen) -> tuple[dict[str, Result], int]:
    """Watch one video after the other; one that fails costs a sentence, and Ctrl-C keeps what is done.

    One of which ``watch`` makes None is at work elsewhere, and is asked for again when the others are done.

    Returns:
        What was made of each video that was watched, and the exit status.
    """
    from tal_run.extractors.errors import TalRunError
    from tal_run.extractors.wire import printable

    done: dict[str, Result] = {}
    left, later = deque(paths), deque[str]()
    while left or later:
        try:
            if not left:
                time.sleep(AGAIN_S)
                left, later = later, left
            path = left.popleft()
            with display.progress(path if len(paths) > 1 else None) as hook:
                result = watch(path, hook=hook)
            if result is None:
                later.append(path)
            else:
                done[path] = result
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


def _share_out(
    videos: Sequence[str],
    names: Mapping[str, str],
    devices: Sequence[str],
    limits: Mapping[str, Any],
    how: Mapping[str, Any],
    run: Run,
    display: Screen,
) -> tuple[dict[str, Outcome], int]:
    """Have processes make the videos' features, each the next one that is left; otherwise as ``_watch_all``."""
    from tal_run.pipeline import feature_worker
    from tal_run.pipeline.batch_display import BatchDisplay
    from tal_run.pipeline.batch_pool import Pool
    from tal_run.pipeline.batch_videos import FoundVideo
    from tal_run.pipeline.feature_sharing import SharedFeatures

    count = limits["workers"] or len(devices)
    ordered = [devices[number % len(devices)] for number in range(count)]
    workers = feature_worker.workers(ordered, limits=limits_of(limits, count), threads=threads_of(count), **how)
    found = [FoundVideo(video, Path(video), _size(video)) for video in videos]
    shared = SharedFeatures(run, names)
    status = seen_to(Pool(workers, shared.attend), found, BatchDisplay(display, found, quiet=limits["quiet"], name="features"))
    return {video: shared.done[video] for video in videos if video in shared.done}, status


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return 0  # why, is said when it is opened


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
main.add_command(report)
main.add_command(train)
main.add_command(weights)

if __name__ == "__main__":
    main()
