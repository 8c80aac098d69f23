"""A process that finds actions in one video after the other (``workers.py``): a detector, loaded once, and nothing written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from tal_run.extractors.array_files import opened
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.hooks import Hook
from tal_run.extractors.video_errors import VideoError, check_file
from tal_run.pipeline import outputs
from tal_run.pipeline.cli_watching import detector_of
from tal_run.pipeline.detector import Detector
from tal_run.pipeline.query import QueryMatch
from tal_run.pipeline.workers import Answer, JSONObject, serve

MODULE = "tal_run.pipeline.batch_worker"
CHUNK_BYTES = 1 << 22


class Notes:
    """Takes down what a person is to be told."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, text: str) -> None:
        """One of them."""
        self.sentences.append(text)


def begin(how: JSONObject, hook: Hook) -> tuple[JSONObject, Answer]:
    """Load what ``how`` asks for, the options of ``tal-run batch``; say what decides which detections come out.

    Raises:
        TalRunError: it cannot be had.
    """
    notes = Notes()
    try:
        detector, matches = detector_of(how, notes, hook=hook)
    except click.ClickException as error:
        raise TalRunError(error.message) from error
    for match in matches:
        if not match.exact:
            notes.say(match.summary())
    for note in detector.notes:
        notes.say(f"note: {note}")
    made_by = {**outputs.external_data(detector, matches, {}), "decoder": detector.config.decoder}
    curves = how["curves"]

    def answer(task: JSONObject, hook: Hook) -> JSONObject:
        return found(task, detector=detector, matches=matches, made_by=made_by, curves=curves, hook=hook)

    return {"made_by": {**made_by, **({"curves": True} if curves else {})}, "notes": notes.sentences}, answer


def found(
    task: JSONObject, *, detector: Detector, matches: Sequence[QueryMatch], made_by: JSONObject, curves: bool, hook: Hook
) -> JSONObject:
    """What is found in the video of a task; or that it is what it was, where that was in doubt.

    Raises:
        TalRunError: the video cannot be read.
    """
    path, video_id = task["path"], task["video_id"]
    check_file(path)
    if task["known_sha256"] and hashed(path, hook) == task["known_sha256"]:
        return {"is_unchanged": True}
    result = detector.detect(path, matches=matches, hook=hook)
    hook("finishing", completed=0, total=None)
    card = outputs.video_card(result, curves=curves)
    if card["sha256"] is None:
        raise VideoError("the file vanished while it was watched; see to it that it stays, and start again")
    external = {**made_by, "videos": {outputs.writable_text(video_id): card}}
    document = json.loads(outputs.rendered("json", {video_id: result.detections}, external))
    return {"document": document, "video_sha256": card["sha256"], "duration_s": result.video.duration_s}


def hashed(path: str | os.PathLike[str], hook: Hook) -> str:
    """Hexadecimal sha256 of a file; the hook is told how far it is. Raises VideoError: it cannot be read."""
    digest, done = hashlib.sha256(), 0
    try:
        with opened(Path(path)) as file:
            while block := file.read(CHUNK_BYTES):
                digest.update(block)
                done += len(block)
                hook("hashing", completed=done, total=None)
    except OSError as error:
        raise VideoError(f"the file cannot be read ({error.strerror}); check the disk") from error
    return digest.hexdigest()


if __name__ == "__main__":
    serve(begin)
