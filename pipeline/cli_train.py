"""The command that trains a head on features. Nothing heavy is imported before it runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tal_run.pipeline.cli_completion import datasets as known_datasets
from tal_run.pipeline.exits import DONE, STOPPED, WrongUse, errors_as_wrong_use

if TYPE_CHECKING:
    from tal_run.eval.annotations import GroundTruth
    from tal_run.extractors.timegrid import Sampling
    from tal_run.pipeline.experiments import Experiment
    from tal_run.pipeline.screen import Screen
    from tal_run.pipeline.training_data import MomentSource, TrainingSet
    from tal_run.pipeline.training_size import TrainingSize

# as ``models.head.HEADS`` and ``eval.annotations.SUBSETS``, without importing them; a test compares them
HEAD_NAMES = ("actionbytes", "ahernet", "autoloc", "scnn", "wsad", "wtalc")
SUBSET_NAMES = ("training", "validation", "testing", "all")
TOLD = 20  # times in a training


@click.command()
@click.option("--head", "head_name", type=click.Choice(HEAD_NAMES), help="The method.")
@click.option(
    "--experiment",
    metavar="NAME",
    help="One of the papers' (`tal-run experiments list`): its method, data set, subset, numbers and seed.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    shell_complete=known_datasets,
    help="A data set whose annotations to learn from (`tal-run datasets list`).",
)
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR", help="Where it lies. [default: ./NAME; a made one: the cache]"
)
@click.option(
    "--annotations",
    metavar="PATH",
    help="Instead of --dataset: ActivityNet JSON, THUMOS's folder of text files, CSV, or a list of clips (as --moments).",
)
@click.option(
    "--subset", type=click.Choice(SUBSET_NAMES), help="Videos to learn from. [default: training or, without, validation]"
)
@click.option("--features", "folder", metavar="DIR", help="Features of the videos, in any layout.")
@click.option(
    "--videos",
    "videos",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Of scnn, instead of features: learn from frames.",
)
@click.option(
    "--trunk",
    type=click.Choice(["c3d", "starter"]),
    help="With --videos: what the networks are made of. [default: c3d, as in the paper]",
)
@click.option(
    "--cache", type=click.Path(path_type=Path), metavar="DIR", help="With --videos: for decoded frames. [default: beside -o]"
)
@click.option("--fps", type=float, help="Of features that do not say: frames a second ... (With --videos: to look at.)")
@click.option("--window", type=float, help="... frames in one window ...")
@click.option("--stride", type=float, help="... and from window to window.")
@click.option(
    "--moments",
    metavar="PATH",
    help="Of ahernet and scnn: trimmed clips of one action each: annotations in any form, or Kinetics' or UCF101's lists.",
)
@click.option("--moment-features", metavar="DIR", help="Their features. [default: as --features]")
@click.option(
    "--moment-subset",
    type=click.Choice(SUBSET_NAMES),
    help="Moments to learn from. [default: training or, without, validation, whatever --subset is]",
)
@click.option(
    "--moment-classes",
    metavar="A,B|FILE",
    help="Actions whose instances in the annotations are cut out as moments, and their times not used otherwise.",
)
@click.option("--start-from", metavar="FILE", help="Of ahernet: a head trained with variant=star. [default: trained first]")
@click.option(
    "-o", "--output", "target", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Write the head there."
)
@click.option(
    "--config",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="One of the method's numbers. Repeatable. [default: the paper's, for the data set]",
)
@click.option("--iterations", type=click.IntRange(1), metavar="N", help="Of the training. [default: the paper's]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Another one draws otherwise. [default: 0]")
@click.option("--device", default="cpu", show_default=True, help="What to compute on: cpu, cuda, cuda:1.")
@click.option(
    "--save-every",
    "save_every_s",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Seconds between saves.",
)
@click.option("--tensorboard", metavar="DIR", help="Write the losses there for TensorBoard, too.")
@click.option("--quiet", is_flag=True, help="No progress, no notes: errors only.")
def train(
    head_name: str | None,
    experiment: str | None,
    dataset: str | None,
    data: Path | None,
    annotations: str | None,
    subset: str | None,
    folder: str | None,
    videos: Path | None,
    trunk: str | None,
    cache: Path | None,
    fps: float | None,
    window: float | None,
    stride: float | None,
    moments: str | None,
    moment_features: str | None,
    moment_subset: str | None,
    moment_classes: str | None,
    start_from: str | None,
    target: Path,
    settings: tuple[str, ...],
    iterations: int | None,
    seed: int | None,
    device: str,
    save_every_s: float,
    tensorboard: str | None,
    quiet: bool,
) -> None:
    """Train a head on features and annotations.

    \b
    tal-run features videos/ -o features --backbone i3d
    tal-run train --head wtalc --annotations truth.csv --features features -o wtalc.safetensors
    tal-run detect video.mp4 --checkpoint wtalc.safetensors

    wtalc, wsad, autoloc and actionbytes learn from which actions are in which videos (actionbytes from trimmed clips, unless
    --config regime=weak), scnn and ahernet from their times too, and from trimmed moments; scnn learns from frames, too
    (--videos). ahernet finds actions of which it has seen only moments, learning what surrounds them from others. With
    --dataset or --experiment, numbers are those that the paper has for it, and said. Started again after an interruption, the
    same command goes on where it was and comes to the same head. Exit status: 0 done, 2 wrong use or a training that cannot
    go on, 130 stopped.
    """
    from tal_run.pipeline.screen import Screen

    display = Screen(quiet=quiet)
    with errors_as_wrong_use(), ExitStack() as stack:
        # what is asked for is checked before anything takes time
        values = settings_of(settings)
        paper = _paper(experiment, head_name, dataset, frames=videos is not None)
        if experiment is not None and paper is not None:
            given = {
                "--dataset": dataset,
                "--annotations": annotations,
                "--subset": subset,
                "--seed": seed,
                "--iterations": iterations,
            }
            for option in (option for option, value in given.items() if value is not None):
                display.say(f"note: not quite {experiment}, as {option} is given")
            head_name, subset = paper.head, subset or paper.train.subset
            dataset = dataset if annotations is not None else dataset or paper.train.dataset
            seed = paper.seed if seed is None else seed
        if head_name is None:
            raise WrongUse(f"say what is to learn: --head {', '.join(HEAD_NAMES)}, or --experiment NAME")
        _check_frames(
            head_name, values, videos, {"--trunk": trunk, "--cache": cache}, {"--features": folder, "--stride": stride}
        )
        if paper is not None:
            values = _with_paper(paper, values, display)
        sampling = sampling_of(fps, window, stride) if videos is None else None
        if videos is not None:
            values = {"trunk": trunk or "c3d", **values}
        write = stack.enter_context(_tensorboard(tensorboard)) if tensorboard else None
        of_moments = {"--moments": moments, "--moment-features": moment_features, "--moment-subset": moment_subset}
        _check_moments(head_name, {**of_moments, "--moment-classes": moment_classes, "--start-from": start_from})
        if folder is None and moment_features is None and videos is None:
            raise WrongUse("say what to learn from, with --features DIR (`tal-run features` makes them)")
        with display.progress() as hook:
            truth, names = _truth(head_name, dataset, data, annotations, hook, optional=moments is not None)

        from dataclasses import replace

        from tal_run.extractors.feature_files import FeatureFolder
        from tal_run.models.head import head_named, load_head
        from tal_run.pipeline import ahernet_stages, cross_dataset, training, training_data, training_size
        from tal_run.pipeline.head_config import configured

        head = head_named(head_name)
        config = configured(head, values, iterations=iterations)
        training.check_target(target)
        chosen, unseen = training_data.ALL, tuple[str, ...]()
        if truth is not None:
            truth, chosen = training_data.to_learn_from(truth, subset)
            truth, unseen = cross_dataset.without_unseen(truth, config)
        if unseen:
            display.say(f"note: left out what is not to be seen: {', '.join(unseen)}")
        start = load_head(start_from) if start_from else None
        moment_subset = moment_subset or (paper.moments.subset if experiment and paper and paper.moments else None)
        source = _source(moments, moment_features or folder, moment_classes, moment_subset)
        with display.progress() as hook:
            if videos is not None:
                from tal_run.models.scnn_frames import head_on
                from tal_run.pipeline.scnn_clips import read_clips, videos_in

                found, clips = read_clips(
                    truth,
                    videos_in(videos),
                    config=configured(head, values, iterations=iterations),
                    cache=cache or target.with_name(target.name.removesuffix(".safetensors") + ".clips"),
                    moments=source.moments,
                    fps=fps,
                    seed=seed or 0,
                    hook=hook,
                )
                head, found = head_on(clips), replace(found, repeated=source.repeated)
            else:
                features = FeatureFolder(folder or moment_features or "")
                found = training_data.read_training_set(
                    truth, features, timed=head.name in training_data.TIMED, source=source, sampling=sampling, hook=hook
                )
        config = configured(
            head,
            values,
            iterations=iterations,
            streams=len(found.needs.streams or ()) or None,
            moment_classes=found.moment_classes,
        )
        _say_what_is_not_there(found, display)
        wanted = paper.features.get("backbone") if experiment and paper else None
        if wanted and found.needs.backbone not in (None, wanted):
            display.say(f"note: not quite {experiment}, as the features are {found.needs.backbone}'s, not {wanted}'s")
        options = training.TrainOptions(
            seed=seed or 0,
            device=device,
            save_every_s=save_every_s,
            tell_every=max(1, config.iterations // TOLD),
            recipe={**names, "subset": chosen, **({"experiment": paper.name} if paper else {})},
        )
        current = [target, config]

        def began(file: Path, config: Any, data: TrainingSet, size: TrainingSize) -> None:
            current[:] = file, config
            if file != target:
                display.say(f"first, {file}, to start from:")
            counts = _counts(data) if videos is None else [f"{len(clips.labels)} segments of frames"]
            display.say(
                f"{head.name} learns {len(data.labels)} actions from {_of_subsets(counts, chosen, source, data)}, "
                f"for {config.iterations} iterations: {training_size.counted(size.weights)} weights"
            )
            if size.is_large:
                state = training.training_file(file).name
                how: dict[str, Any] = {"dim": data.needs.dim or 0, "device": device, "save_every_s": save_every_s}
                display.say(f"note: {training_size.sentence(size, head, config, state=state, **how)}")

        def tell(iteration: int, losses: Mapping[str, float]) -> None:
            _tell(display, write, iteration, current[1].iterations, losses)

        def stopping() -> None:
            display.say("stopping after this iteration; again to stop now, without what is not saved")

        try:
            with display.progress() as hook:
                more: dict[str, Any] = {"options": options, "hook": hook, "tell": tell, "began": began, "stopping": stopping}
                if head.name == "ahernet":
                    trained = ahernet_stages.train_ahernet(target, found, config=config, start=start, **more)
                else:
                    trained = training.train(target, head, found, config=config, **more)
        except training.Interrupted as stopped:
            display.error(
                f"stopped after {stopped.iteration} of {current[1].iterations} iterations, which are saved in "
                f"{training.training_file(current[0])}: the same command goes on from there"
            )
            sys.exit(STOPPED)
    display.say(f"{target}: {trained.head.name}, {len(trained.labels)} actions, {config.iterations} iterations")
    sys.exit(DONE)


def _paper(experiment: str | None, head_name: str | None, dataset: str | None, *, frames: bool) -> Experiment | None:
    """The experiment asked for or, for a data set by its name, the one that has the paper's numbers for it."""
    from tal_run.pipeline import experiments

    if experiment is None:
        return experiments.paper_numbers(head_name, dataset, frames=frames) if head_name and dataset else None
    paper = experiments.experiment_named(experiment)
    if head_name not in (None, paper.head):
        raise WrongUse(f"{experiment} is an experiment with {paper.head}: leave out --head {head_name}")
    if bool(paper.frames) != frames:
        raise WrongUse(f"{experiment} learns from {'frames: give --videos' if paper.frames else 'features: give --features'}")
    if paper.checkpoint != paper.name:
        raise WrongUse(f"{experiment} takes the head that {paper.checkpoint} trains: train --experiment {paper.checkpoint}")
    return paper


def _with_paper(paper: Experiment, given: Mapping[str, str], display: Screen) -> dict[str, str]:
    """The paper's numbers and, over them, those given; what is not the method's default is said."""
    values = {**paper.config, **given}
    if values:
        said = ", ".join(f"{name}={text}" + (" (given)" if name in given else "") for name, text in values.items())
        display.say(f"numbers of {paper.name} ({paper.paper}): {said}")
    return values


def settings_of(pairs: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE`` as a dictionary. Raises WrongUse."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise WrongUse(f"--config {pair} sets nothing: give KEY=VALUE, such as learning_rate=0.001")
        if name in values:
            raise WrongUse(f"--config {name} is given twice: leave one out")
        values[name] = value
    return values


def sampling_of(fps: float | None, window: float | None, stride: float | None) -> Sampling | None:
    """How features lie in time, if that is given. Raises WrongUse: in part."""
    from tal_run.extractors.timegrid import Sampling

    if fps is None and window is None and stride is None:
        return None
    if fps is None or window is None or stride is None:
        raise WrongUse(
            "--fps, --window and --stride belong together, as all three say how features lie in time: give all or none"
        )
    return Sampling(fps=fps, stride_frames=stride, window_frames=window)


def _check_moments(head: str, given: Mapping[str, str | None]) -> None:
    for name, value in given.items():
        if value is not None and head not in (("ahernet",) if name == "--start-from" else ("ahernet", "scnn")):
            raise WrongUse(f"{head} does not learn from moments: leave out {name}, or take --head ahernet")
    if given["--moments"] is None and given["--moment-features"] is not None:
        raise WrongUse("--moment-features are those of --moments: give both, or --features alone")
    if given["--moments"] is None and given["--moment-subset"] is not None:
        raise WrongUse("--moment-subset chooses among --moments: leave it out, or give both")


def _check_frames(
    head: str, values: Mapping[str, str], videos: Path | None, frames: Mapping[str, Any], features: Mapping[str, Any]
) -> None:
    """Refuse options that do not go with --videos, or without."""
    if "trunk" in values:
        raise WrongUse("the trunk is what --trunk says: leave out --config trunk")
    if videos is not None and head != "scnn":
        raise WrongUse(f"{head} learns from features: give --features instead of --videos, or take --head scnn")
    for name, value in (frames if videos is None else features).items():
        if value is not None:
            raise WrongUse(f"{name} does not go {'without' if videos is None else 'with'} --videos: leave it out")


def _source(moments: str | None, folder: str | None, classes: str | None, subset: str | None) -> MomentSource:
    """Where moments come from, as the options say."""
    from tal_run.eval import moments as forms
    from tal_run.extractors.feature_files import FeatureFolder
    from tal_run.pipeline.training_data import MomentSource

    listed = forms.to_learn_from(forms.read_moments(moments), subset) if moments else ()
    return MomentSource(
        moments=listed, folder=FeatureFolder(folder) if listed and folder else None, classes=frozenset(_names(classes or ""))
    )


def _names(listed: str) -> list[str]:
    """Names with commas between them, or one a line in a file."""
    if listed and Path(listed).is_file():
        try:
            text = Path(listed).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise WrongUse(f"{listed} is no list of actions that can be read ({error}): give one a line") from error
        return [line.strip() for line in text.splitlines() if line.strip()]
    return [name.strip() for name in listed.split(",") if name.strip()]


def _truth(
    head: str, dataset: str | None, data: Path | None, annotations: str | None, hook: Any, *, optional: bool
) -> tuple[GroundTruth | None, dict[str, str]]:
    """What is annotated, and what it is called; None: there are moments alone."""
    from tal_run.eval import datasets
    from tal_run.eval.moments import is_clip_list, truth_of
    from tal_run.pipeline.training_data import TIMED

    if optional and dataset is None and annotations is None:
        return None, {}
    if (dataset is None) == (annotations is None):
        raise WrongUse("say what to learn from, with either --dataset NAME or --annotations PATH")
    if annotations is not None:
        if data is not None:
            raise WrongUse("--data says where a --dataset lies: leave it out")
        if head in TIMED and is_clip_list(annotations):
            raise WrongUse(f"{annotations} lists trimmed clips, which have no times to learn from: give it as --moments")
        return truth_of(annotations), {"annotations": Path(annotations).name}
    assert dataset is not None
    return datasets.find(dataset, data, hook=hook).truth(), {"dataset": dataset}


def _say_what_is_not_there(found: TrainingSet, display: Screen) -> None:
    from tal_run.pipeline.training_data import some

    if found.missing:
        display.say(f"note: left out {len(found.missing)} videos that have no features: {some(found.missing)}")
    if found.repeated:
        display.say(f"note: {found.repeated} moments are listed again, and each counts once")
    if found.unlabelled:
        display.say(f"note: left out {len(found.unlabelled)} videos that have no actions: {some(found.unlabelled)}")


def _counts(found: TrainingSet) -> list[str]:
    moments = sum(video.trimmed for video in found.videos)
    kinds = {"videos": len(found.videos) - moments, "moments": moments}
    snippets = sum(len(video.features) for video in found.videos)
    return [" and ".join(f"{count} {kind}" for kind, count in kinds.items() if count), f"{snippets} snippets"]


def _of_subsets(counts: Sequence[str], subset: str, source: MomentSource, found: TrainingSet) -> str:
    """Counts, the first of them with the others, and with the subsets that they are of, in brackets."""
    from tal_run.pipeline.training_data import ALL

    first, *more = counts
    listed = sorted({moment.subset for moment in source.moments if moment.subset})
    has_moments = any(video.trimmed for video in found.videos) or not found.videos  # S-CNN's are no videos any more
    said = ", ".join([*more, *([subset] if subset != ALL else [])])
    said = "; ".join([*([said] if said else []), *([f"moments: {', '.join(listed)}"] if listed and has_moments else [])])
    return f"{first} ({said})" if said else first


def _tell(display: Screen, write: Any | None, iteration: int, total: int, losses: Mapping[str, float]) -> None:
    listed = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
    display.say(f"iteration {iteration} of {total}: {listed}")
    if write is not None:
        for name, value in losses.items():
            write.add_scalar(f"loss/{name}", value, iteration)


def _tensorboard(folder: str) -> Any:
    """What writes for TensorBoard, if its package is there; closes at the end."""
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        raise WrongUse(
            "--tensorboard needs the package tensorboard, which is not installed: pip install 'tal-run[tensorboard]', or leave "
            "that out"
        )
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder)
