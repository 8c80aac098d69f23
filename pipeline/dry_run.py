"""``--dry-run``: what a command would do, said instead of done. Nothing is written, downloaded or watched.

What is said goes to standard output, a line each; what would go wrong is said as the command itself would say it, with its exit
status. Only what is quick is found out: of many videos, the length of a few. Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tal_run.pipeline.exits import DONE, SOME_FAILED

if TYPE_CHECKING:
    from tal_run.extractors.feature_files import FeatureFolder
    from tal_run.pipeline.batch_videos import FoundVideo
    from tal_run.pipeline.detector import DetectConfig
    from tal_run.pipeline.screen import Screen

MOST_PROBED = 20  # videos whose length is looked up; of more, the others' is reckoned from their bytes
MOST_LISTED = 20  # names in a list

Command = Callable[..., Any]


def dry_run_option(command: Command) -> Command:
    """The option of every command that has it."""
    decorated: Command = click.option(
        "--dry-run", is_flag=True, help="Say what would be done, and whether it could be; write, download and watch nothing."
    )(command)
    return decorated


def said(line: str) -> None:
    """A line on what would be done."""
    from tal_run.extractors.wire import printable

    click.echo(printable(line, limit=2000))


class _Noted:
    """Says what the command would say, once, but for the network, of which ``said_backbone`` says more."""

    def __init__(self, display: Screen) -> None:
        self._display, self._said = display, set[str]()

    def say(self, text: str) -> None:
        """A note."""
        if not text.startswith("backbone: ") and text not in self._said:
            self._said.add(text)
            self._display.say(text)


# ---- networks ----


def said_backbone(config: DetectConfig) -> bool:
    """Say which network would watch, and where its weights are.

    Returns:
        Whether it can be loaded with nothing downloaded and nothing written.

    Raises:
        WeightsError: they cannot be had.
    """
    from tal_run.extractors.registry import EXTRACTORS
    from tal_run.extractors.weights import locate, state_of
    from tal_run.pipeline.cli_weights import files_of

    if config.backbone not in EXTRACTORS:
        said(f"network: {config.backbone}, which the checkpoint holds")
        return True
    files = files_of(config.backbone)
    states = {file: state_of(file) for file in files}
    locate(*(file for file, state in states.items() if state.path is None and file.url is None))  # has its own sentence
    device = config.options.device if config.options else "cpu"
    said(f"backbone: {config.backbone} ({EXTRACTORS[config.backbone].knows}), on {device}")
    for file, state in states.items():
        size = f", {file.size_bytes / 1e6:.1f} MB" if file.size_bytes else ""
        said(f"weights: {state.path}" if state.path else f"weights: {file.file_name}, to be downloaded from {file.url}{size}")
    if not files:
        said("weights: they come with tal-run")
    return all(state.verified for state in states.values())


def said_detector(options: Mapping[str, Any], display: Screen) -> None:
    """Say what would be looked for and with what.

    Args:
        options: the values of ``detecting_options`` and ``watching_options``.
        display: told what the command itself would tell.

    Raises:
        TalRunError, WrongUse: it cannot be had.
    """
    from tal_run.pipeline.cli_watching import config_of, detector_of

    noted = _Noted(display)
    if said_backbone(config_of(options, noted, checkpoint=options["checkpoint"])):
        with display.progress() as hook:
            _, matches = detector_of(options, noted, hook=hook)
        for match in matches:
            said(f"looking for: {match.summary()}")
    else:
        for query in options["queries"]:
            said(f'looking for: "{query}", in the classes that the weights know')
    if not options["queries"]:
        said(
            "looking for: " + (f"what {options['checkpoint']} was trained to find" if options["checkpoint"] else "all classes")
        )


# ---- videos ----


def said_videos(paths: Sequence[str], display: Screen) -> int:
    """Say how much there is to watch, and what of it cannot be.

    Returns:
        The exit status, as far as it can be told.
    """
    from tal_run.extractors.errors import TalRunError
    from tal_run.extractors.video import probe

    sample = paths if len(paths) <= MOST_PROBED else [paths[len(paths) * k // MOST_PROBED] for k in range(MOST_PROBED)]
    seconds, count, wrong = 0.0, 0, set[str]()
    with display.progress() as hook:
        for number, path in enumerate(sample):
            hook("looking at videos", completed=number, total=len(sample))
            try:
                length_s = probe(path).duration_s
            except TalRunError as error:
                display.error(str(error))
                wrong.add(path)
                continue
            seconds, count = seconds + length_s, count + _bytes(path)
    whole = sum(map(_bytes, paths))
    if len(sample) < len(paths) and count:
        said(f"videos: {len(paths)}, about {length(seconds * whole / count)} (by {len(sample)} of them), {amount(whole)}")
    else:
        said(f"videos: {len(paths) - len(wrong)}, {length(seconds)}, {amount(whole)}")
    if len(paths) <= MOST_LISTED:
        for path in paths:
            if path not in wrong:
                said(f"- {path}")
    return SOME_FAILED if wrong else DONE


def _bytes(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return 0


def length(seconds: float) -> str:
    """``12.0 s``, ``3.4 min``, ``96.0 h``, of video."""
    for unit, scale in (("h", 3600), ("min", 60)):
        if seconds >= 2 * scale:
            return f"{seconds / scale:.1f} {unit} of video"
    return f"{seconds:.1f} s of video"


def amount(count: int) -> str:
    """``1.2 GB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{max(1, round(count / 1e3))} kB"


# ---- what would be written ----


def said_files(targets: Iterable[Path], what: str = "") -> None:
    """Say which files would be written, and what is in their place now."""
    from tal_run.pipeline.outputs import is_stream

    listed = list(targets)
    for target in listed[:MOST_LISTED]:
        there = ", in place of what is there" if target.exists() and not is_stream(target) else ""
        said(f"would write {target}{f' ({what})' if what else ''}{there}")
    if len(listed) > MOST_LISTED:
        said(f"would write {len(listed) - MOST_LISTED} more files like these")


def check_folder(folder: Path) -> None:
    """Whether a folder is there and can be written into, or can be made; nothing is.

    Raises:
        OutputError: it is not, or cannot.
    """
    from tal_run.pipeline.outputs import OutputError

    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        why = os.strerror(errno.EEXIST if there == folder else errno.ENOTDIR)
        raise OutputError(f"cannot make the folder {folder} ({why}): choose another with -o")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into the folder {there} (no permission): choose another with -o")


# ---- folders of results ----


def of_batch(
    folder: Path, output: Path, videos: Sequence[FoundVideo], options: Mapping[str, Any], retry_failed: bool, display: Screen
) -> int:
    """``tal-run batch --dry-run``: the exit status."""
    from collections import Counter

    from tal_run.pipeline.batch_store import Store, recipe_of
    from tal_run.pipeline.batch_worker import begin
    from tal_run.pipeline.cli_watching import config_of

    check_folder(output)
    devices = options["device"].split(",")
    how = {**options, "device": devices[0]}
    left, noted, failed = list(videos), _Noted(display), 0
    store = Store.as_it_is(output)
    if not said_backbone(config_of(how, noted, checkpoint=how["checkpoint"])):
        said("what is done already can be told once the weights are there")
    else:
        with display.progress() as hook:
            greeting, _ = begin(how, hook)
        for note in greeting["notes"]:
            noted.say(note)
        recipe = recipe_of(greeting["made_by"])
        standing = [store.standing(video, recipe) for video in videos] if output.is_dir() else []
        counts = Counter(entry.state for entry in standing)
        reasons = Counter(entry.reason for entry in standing if entry.state == "left" and entry.reason)
        failed = counts["failed"]
        for line in (
            f"done already: {counts['done']}" if counts["done"] else "",
            _failed_before(failed, is_tried_again=retry_failed),
            *(f"to be done again: {count}, of which each {reason}" for reason, count in reasons.items()),
        ):
            if line:
                said(line)
        if standing:
            skipped = {"done"} if retry_failed else {"done", "failed"}
            left = [video for video, entry in zip(videos, standing, strict=True) if entry.state not in skipped]
    status = said_videos([str(video.path) for video in left], display)
    said(f"would write into {output}: results, failures, manifest.jsonl, detections.csv")
    return SOME_FAILED if failed and not retry_failed else status


def _failed_before(count: int, *, is_tried_again: bool) -> str:
    again = "tried again" if is_tried_again else "left out (--retry-failed tries them again)"
    return f"failed before: {count}, {again}" if count else ""


def of_features(
    folder: FeatureFolder, videos: Sequence[FoundVideo], options: Mapping[str, Any], retry_failed: bool, display: Screen
) -> int:
    """``tal-run features --dry-run``: the exit status."""
    from tal_run.extractors.features import FeatureError
    from tal_run.pipeline.batch_store import recipe_of
    from tal_run.pipeline.cli_watching import config_of
    from tal_run.pipeline.feature_batch import foreign_error
    from tal_run.pipeline.feature_store import FeatureStore
    from tal_run.pipeline.feature_worker import begin
    from tal_run.pipeline.outputs import OutputError

    check_folder(folder.path)
    how = {**options, "device": options["device"].split(",")[0]}
    again, failed, there, wrong = options["again"], set[str](), set[str](), set[str]()
    store = FeatureStore.as_it_is(folder.path)
    if said_backbone(config_of(how, _Noted(display))):
        paths = [str(video.path) for video in videos]
        with display.progress() as hook:
            # which refuses what does not go together
            greeting, _ = begin({**how, "folder": str(folder.path), "inputs": paths}, hook)
        recipe = recipe_of(greeting["made_by"])
        failed = {video.name for video in videos if store.standing(video, recipe).state == "failed"}
    is_tried_again = retry_failed or again
    if line := _failed_before(len(failed), is_tried_again=is_tried_again):
        said(line)
    for video in videos:
        try:
            if foreign := None if again else folder.foreign(video.name):
                raise foreign_error(foreign)
            if folder.has(video.name):
                there.add(video.name)
        except (FeatureError, OutputError, OSError) as error:  # among them a name that no file can have
            display.error(f"{video.path}: {error}")
            wrong.add(video.name)
    left_out = wrong if is_tried_again else wrong | failed
    if there:
        kept = "made again (--again)" if again else "each kept if it is whole and was made of the same video in the same way"
        said(f"there already: {len(there)}, {kept}")
    left = [video for video in videos if video.name not in left_out and (again or video.name not in there)]
    status = said_videos([str(video.path) for video in left], display)
    said(f"would write into {folder.path}: a file a video in the layout {folder.layout_name}, with a record each")
    return SOME_FAILED if left_out else status
