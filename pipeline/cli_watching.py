"""Options of every command that watches videos, and the configuration that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import click

from tal_run.pipeline.cli_choices import Choice
from tal_run.pipeline.cli_completion import backbones
from tal_run.pipeline.exits import WrongUse

if TYPE_CHECKING:
    from tal_run.extractors.hooks import Hook
    from tal_run.pipeline.detector import DetectConfig, Detector
    from tal_run.pipeline.query import QueryMatch

NATIVE = "native"
Command = Callable[..., Any]


class Display(Protocol):
    """What takes notes."""

    def say(self, text: str) -> None:
        """A note on what is going on."""


class FrameRate(click.ParamType[Any]):
    """A number of frames a second, or ``native``: each of the video's own."""

    name = "fps|native"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """The number, or ``native``."""
        if value == NATIVE:
            return NATIVE
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor {NATIVE}", param, ctx)


def watching_options(command: Command) -> Command:
    """The options of every command that watches videos."""
    for option in reversed(
        [
            click.option(
                "--backbone",
                metavar="NAME",
                shell_complete=backbones,
                help="Network to watch with. [default: auto, the strongest at hand]",
            ),
            click.option("--fps", type=FrameRate(), help="Frames to look at, a second of video. [default: the backbone's]"),
            click.option("--window", type=int, help="Frames in one window. [default: the backbone's]"),
            click.option("--stride", type=int, help="Frames from window to window. [default: the backbone's]"),
            click.option(
                "--decoder",
                type=Choice(["auto", "decord", "pyav"]),
                default="auto",
                show_default=True,
                help="Library that decodes.",
            ),
            click.option(
                "--device",
                default="cpu",
                show_default=True,
                help="What networks and flow run on: cpu, cuda, cuda:1. `batch` and `features` take several, with commas.",
            ),
            click.option(
                "--flow",
                "flow_backend",
                type=Choice(["auto", "opencv", "opencv-cuda", "numba", "torch"]),
                default="auto",
                show_default=True,
                help="What computes optical flow, for backbones that look at motion.",
            ),
            click.option("--quiet", is_flag=True, help="No progress, no notes: results and errors only."),
            click.option("-v", "--verbose", is_flag=True, help="Say what is chosen and why."),
        ]
    ):
        command = option(command)
    return command


def detecting_options(command: Command) -> Command:
    """The options of every command that finds actions in videos."""
    for option in reversed(
        [
            click.option(
                "-q", "--query", "queries", multiple=True, metavar="TEXT", help="What to look for, in words. Repeatable."
            ),
            click.option(
                "--word-vectors", metavar="FILE", help="word2vec, GloVe or fastText vectors, instead of tal-run's own."
            ),
            click.option(
                "--names-only", is_flag=True, help="Match a query to the classes' names alone, not to their paraphrases."
            ),
            click.option(
                "--min-score", type=float, metavar="S", help="Leave out what scores lower. [default: fits the backbone]"
            ),
            click.option("--top", type=int, help="Without --query: classes to report. [default: 5; of a checkpoint, all]"),
            click.option("--curves", is_flag=True, help="Keep the scores over time in a .json, for `tal-run report` to draw."),
            click.option(
                "--checkpoint",
                metavar="FILE",
                help="Find what a head was trained to find (`tal-run train`), with its backbone.",
            ),
            click.option(
                "--config",
                "settings",
                multiple=True,
                metavar="KEY=VALUE",
                help="With --checkpoint: one of the head's thresholds. Repeatable.",
            ),
        ]
    ):
        command = option(command)
    return command


def config_of(watching: Mapping[str, Any], display: Display, *, checkpoint: str | None = None) -> DetectConfig:
    """The configuration that the common options ask for; what is not given stays as the checkpoint or backbone has it."""
    from dataclasses import replace

    from tal_run.extractors.backbone import BackboneOptions
    from tal_run.extractors.registry import AUTO, DEFAULT_BACKBONE, EXTRACTORS, resolve, stronger
    from tal_run.extractors.two_streams import FlowConfig
    from tal_run.pipeline.detector import DetectConfig

    asked_for, usual = watching["backbone"] or DEFAULT_BACKBONE, None
    if checkpoint:
        from tal_run.pipeline.frames_detector import frames_config
        from tal_run.pipeline.trained_detector import as_trained

        if (of_frames := frames_config(checkpoint, dict(watching))) is not None:
            return of_frames
        asked_for, usual = as_trained(checkpoint, watching["backbone"] or AUTO)
    name = resolve(asked_for)
    if asked_for == AUTO:
        better = stronger(name)
        display.say(f"backbone: {name}" + (f" ({EXTRACTORS[name].knows})" if better else ""))
        if better:
            display.say(f"a stronger one: --backbone {better} ({EXTRACTORS[better].knows}), downloaded once")
    given: dict[str, Any] = {
        field: None if watching[option] == NATIVE else watching[option]
        for option, field in (
            ("fps", "fps"),
            ("window", "window_frames"),
            ("stride", "stride_frames"),
            ("last", "last"),
            ("short", "short"),
        )
        if watching.get(option) is not None
    }
    windows = replace(usual or EXTRACTORS[name].default_windows, **given) if given else usual
    chosen = {option: watching[option] for option in ("device", "precision", "crop") if option in watching}
    return DetectConfig(
        backbone=name,
        windows=windows,
        decoder=watching["decoder"],
        options=BackboneOptions(**chosen),
        flow=FlowConfig(backend=watching["flow_backend"]),
    )


def detector_of(options: Mapping[str, Any], display: Display, *, hook: Hook) -> tuple[Detector, list[QueryMatch]]:
    """The detector that options ask for, and what each query stands for.

    Args:
        options: the values of ``detecting_options`` and ``watching_options``.
        display: told which backbone is taken.
        hook: told of downloads.

    Raises:
        TalRunError, WrongUse: it cannot be had.
    """
    from dataclasses import replace
    from functools import partial
    from pathlib import Path

    from tal_run.pipeline.cli_train import settings_of
    from tal_run.pipeline.detector import Detector
    from tal_run.pipeline.feature_detection import seeking
    from tal_run.pipeline.frames_detector import trained_detector
    from tal_run.pipeline.query import NAMES_ONLY, QueryConfig
    from tal_run.pipeline.word_vectors import load_word_vectors

    checkpoint, word_vectors, min_score = options["checkpoint"], options["word_vectors"], options["min_score"]
    queries: Sequence[str] = options["queries"]
    if options["settings"] and not checkpoint:
        raise WrongUse("--config is of a trained head: it goes with --checkpoint")
    if word_vectors and not Path(word_vectors).is_file():
        raise WrongUse(f"there is no file {word_vectors} to read word vectors from: check --word-vectors")
    config = config_of(options, display, checkpoint=checkpoint)
    if options["top"] is not None or checkpoint:
        config = replace(config, top_classes=options["top"])
    config = replace(config, query=NAMES_ONLY if options["names_only"] else QueryConfig())
    vectors = partial(load_word_vectors, word_vectors) if word_vectors else None
    if checkpoint:
        trained = trained_detector(checkpoint, config, min_score=min_score, vectors=vectors, hook=hook)
        trained.trained = seeking(trained.trained, settings_of(options["settings"]))
        return trained, trained.match(queries)
    if min_score is not None:
        config = replace(config, min_score=min_score)
    detector = Detector(config, vectors=vectors, hook=hook)
    return detector, detector.match(queries)
