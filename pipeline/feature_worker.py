"""A process that makes features of one video after the other (``workers.py``): a network, loaded once."""

from __future__ import annotations

import errno
import logging
from dataclasses import asdict, replace
from pathlib import Path

import click

from tal_run.extractors import create_backbone
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.flow import PRESETS
from tal_run.extractors.hooks import Hook
from tal_run.extractors.two_streams import FlowConfig
from tal_run.pipeline.batch_worker import Notes
from tal_run.pipeline.cli_watching import config_of
from tal_run.pipeline.feature_batch import FeatureBatch
from tal_run.pipeline.outputs import OutputError
from tal_run.pipeline.workers import Answer, JSONObject, serve

MODULE = "tal_run.pipeline.feature_worker"
# what concerns all videos; none: NumPy, which says how much of an array was written and not why
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, None)


class _Heard(logging.Handler):
    """Takes down what the library logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.sentences.append(self.format(record))


def begin(how: JSONObject, hook: Hook) -> tuple[JSONObject, Answer]:
    """Load what ``how`` asks for, the options of ``tal-run features``; say what decides which features come out.

    Raises:
        TalRunError: it cannot be had.
    """
    notes, heard = Notes(), _Heard()
    if how["verbose"]:
        logger = logging.getLogger("tal_run")
        logger.addHandler(heard)
        logger.setLevel(logging.INFO)
    try:
        config = config_of(how, notes)
    except click.ClickException as error:
        raise TalRunError(error.message) from error
    maker = FeatureBatch(
        FeatureFolder(Path(how["folder"]), layout=how["layout"]),
        backbone=create_backbone(config.backbone, options=config.options, hook=hook),
        windows=config.windows,
        decoder=config.decoder,
        flow=FlowConfig(backend=how["flow_backend"], params=PRESETS[how["flow_preset"]], jpeg=how["flow_jpeg"]),
        again=how["again"],
        inputs=how["inputs"],
    )

    def made(task: JSONObject, hook: Hook) -> JSONObject:
        heard.sentences.clear()
        try:
            outcome = maker.make(task["path"], task["video_id"], hook=hook)
        except OutputError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in NO_SPACE:
                return {"cannot_write": str(error)}
            raise
        return asdict(replace(outcome, notes=(*heard.sentences, *outcome.notes)))

    return {"made_by": maker.made_by, "notes": notes.sentences}, made


if __name__ == "__main__":
    serve(begin)
