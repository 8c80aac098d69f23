"""Detection in stored features: the options that it adds to ``tal-run detect``, and what they do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tal_run.pipeline.cli_train import sampling_of, settings_of
from tal_run.pipeline.exits import DONE, SOME_FAILED, WrongUse, errors_as_wrong_use

if TYPE_CHECKING:
    from tal_run.extractors.errors import TalRunError
    from tal_run.pipeline.experiments import Experiment

Command = Callable[..., Any]
STEP = "detecting"


class _AllFailedError(Exception):
    """There is nothing to write."""


def feature_options(command: Command) -> Command:
    """The options that only count with --features."""
    for option in reversed(
        [
            click.option(
                "--features",
                "folder",
                metavar="DIR",
                help="With --checkpoint: look at stored features instead of videos, at all or those named VIDEO.",
            ),
            click.option("--experiment", metavar="NAME", help="With --features: its videos and thresholds."),
            click.option(
                "--data",
                type=click.Path(path_type=Path),
                metavar="DIR",
                help="With --experiment: where its data set lies. [default: ./ and its name]",
            ),
        ]
    ):
        command = option(command)
    return command


def detect_in_features(
    names: Sequence[str],
    *,
    folder: str,
    checkpoint: str | None,
    targets: Sequence[Path],
    format_name: str | None,
    experiment: str | None,
    data: Path | None,
    settings: Sequence[str],
    min_score: float | None,
    watching: Mapping[str, Any],
) -> None:
    """``tal-run detect --features``: exits with its status."""
    from tal_run.pipeline import outputs
    from tal_run.pipeline.experiments import experiment_named
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=watching["quiet"], verbose=watching["verbose"])
    failures: list[str] = []

    def failed(video: str, error: TalRunError) -> None:
        failures.append(video)
        display.error(str(error) if video in str(error) else f"{video}: {error}")

    with errors_as_wrong_use():
        if checkpoint is None:
            raise WrongUse("--features takes a trained head: give --checkpoint FILE (`tal-run train`)")
        if len(targets) != 1:
            raise WrongUse("--features takes one -o FILE, to which detections in all of them go")
        if watching["backbone"] is not None:
            raise WrongUse(f"stored features are not watched: leave out --backbone {watching['backbone']}")
        fps = watching["fps"]
        if isinstance(fps, str):
            raise WrongUse("stored features lie in time as they do: give --fps a number, or leave it out")
        sampling = sampling_of(fps, watching["window"], watching["stride"])
        (target,) = targets
        kind = format_name or outputs.format_of(target)
        if kind not in outputs.STREAMED:
            raise WrongUse(f"detections in stored features are written as {', '.join(outputs.STREAMED)}, not as {kind}")
        outputs.check_writable(target, inputs=[checkpoint])
        values = settings_of(settings)
        wanted: Sequence[str] | None = names or None
        paper = None if experiment is None else experiment_named(experiment)
        if paper is not None:
            wanted, labels, values = _of(paper, names, data, values)

        from tal_run.extractors.feature_files import FeatureFolder
        from tal_run.models.head import load_head
        from tal_run.pipeline import cross_dataset, feature_detection

        trained = load_head(checkpoint, device=watching["device"])
        if paper is not None and trained.head.name != paper.head:
            raise WrongUse(f"{paper.name} is an experiment with {paper.head}, and {checkpoint} holds {trained.head.name}")
        trained = feature_detection.seeking(trained, values)
        if paper is not None and paper.carried_over:
            trained = cross_dataset.carried_over(trained, labels, config=cross_dataset.ALL_CLASSES)
        stored = FeatureFolder(folder)
        videos, missing = feature_detection.chosen_videos(stored, wanted)
        if missing:
            from tal_run.pipeline.training_data import some

            display.say(f"note: left out {len(missing)} videos that have no features: {some(missing)}")
        count = 0

        def results() -> Any:
            nonlocal count
            found = feature_detection.detections_in(
                trained, stored, videos, sampling=sampling, min_score=min_score, failed=failed
            )
            for done, (video, detections) in enumerate(found, start=1):
                count += len(detections)
                hook(STEP, completed=done + len(failures), total=len(videos))
                yield video, detections
            if len(failures) == len(videos):  # an empty result would take the place of what is there
                raise _AllFailedError

        card = feature_detection.made_by(trained, Path(checkpoint), stored, min_score=min_score)
        try:
            with display.progress() as hook:
                outputs.write(target, outputs.pieces(kind, results(), card))
        except _AllFailedError:
            display.say(f"nothing was written to {target}")
            sys.exit(SOME_FAILED)
    display.say(f"{target}: {count} detections in {len(videos) - len(failures)} videos")
    sys.exit(SOME_FAILED if failures else DONE)


def _of(
    experiment: Experiment, names: Sequence[str], data: Path | None, given: Mapping[str, str]
) -> tuple[Sequence[str], Sequence[str], dict[str, str]]:
    """The videos that an experiment looks at (of those named), what is annotated there, and the numbers it seeks with."""
    from tal_run.eval import datasets
    from tal_run.eval.annotations import read

    tried = experiment.test
    truth = read(tried.ground_truth) if tried.ground_truth else datasets.find(tried.dataset, data).truth()
    if tried.subset is not None:
        truth = truth.subset(tried.subset)
    videos = [video.video_id for video in truth.videos]
    return [name for name in videos if not names or name in names], truth.labels, {**experiment.detection, **given}
