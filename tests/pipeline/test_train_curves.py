"""Training what reads the starter's curves: the whole command, with what is drawn and watched put in its place."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from tal_run.eval.annotations import GroundTruth, VideoTruth
from tal_run.eval.synthetic_plan import plan_video
from tal_run.extractors.starter import WINDOWS, Starter
from tal_run.extractors.timegrid import TimeGrid
from tal_run.models.curves import CurveConfig, TimedCurves, read_curves
from tal_run.models.postprocess import tiou
from tal_run.pipeline import train_curves
from tal_run.pipeline.train_starter import PACKAGED

pytestmark = pytest.mark.usefixtures("one_thread")


def as_watched(truth: VideoTruth, labels: Sequence[str]) -> TimedCurves:
    """A video on which the starter is as sure as can be of what is true, a quarter of a second late."""
    step_s = WINDOWS.stride_frames / (WINDOWS.fps or 1)
    grid = TimeGrid(step_s=step_s, window_s=step_s, count=int(truth.duration_s / step_s), duration_s=truth.duration_s)
    logits = np.full((grid.count, len(labels)), -6.0, np.float32)
    for found in truth.instances:
        inside = (grid.centers_s > found.start_s + 0.25) & (grid.centers_s < found.end_s + 0.25)
        logits[inside, labels.index(found.label)] = 4.0
    return TimedCurves(
        logits=logits,
        grid=grid,
        segments=np.array([(i.start_s, i.end_s) for i in truth.instances]).reshape(-1, 2),
        classes=np.array([labels.index(i.label) for i in truth.instances], np.int64),
        ambiguous=np.array([(s.start_s, s.end_s) for s in truth.ambiguous]).reshape(-1, 2),
    )


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The starter's weights in a folder of their own; videos are planned only."""

    def planned(folder: Path, *, videos: int, seed: int, look: str, workers: int) -> GroundTruth:
        return GroundTruth(videos=tuple(plan_video(look=look, seed=seed, index=index).truth for index in range(videos)))

    def watched(videos: Sequence[tuple[Path, VideoTruth]], *, weights: Path) -> list[TimedCurves]:
        assert [file.name for file, _ in videos] == [f"{truth.video_id}.mp4" for _, truth in videos]
        return [as_watched(truth, Starter(path=weights).labels) for _, truth in videos]

    monkeypatch.setattr(train_curves, "synthesize", planned)
    monkeypatch.setattr(train_curves, "watch_all", watched)
    for suffix in (".safetensors", ".json"):
        shutil.copy(PACKAGED.with_suffix(suffix), tmp_path / f"starter{suffix}")
    return tmp_path / "starter.safetensors"


def test_the_command_leaves_a_network_that_the_starter_takes(weights: Path, tmp_path: Path) -> None:
    arguments = ["--weights", str(weights), "--data", str(tmp_path / "data"), "--videos", "24", "--steps", "150", "--seed", "3"]
    result = CliRunner().invoke(train_curves.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    starter = Starter(path=weights)
    reader = read_curves(starter.curves_file)
    assert reader.labels == starter.labels
    assert [reader.backbone] == list(starter.weights.values())
    # on a video that it has not seen
    truth = plan_video(look="stadium", seed=4, index=0).truth
    seen = as_watched(truth, starter.labels)
    right = [
        tiou(reader.localize(seen.logits, seen.grid, int(index), config=CurveConfig(min_score=0.3))[0], [segment]).max(
            initial=0
        )
        for segment, index in zip(seen.segments, seen.classes, strict=True)
    ]
    assert np.mean(np.array(right) > 0.5) > 0.8


def test_without_lengths_it_says_what_is_missing(weights: Path) -> None:
    weights.with_suffix(".json").unlink()
    result = CliRunner().invoke(train_curves.main, ["--weights", str(weights)])
    assert result.exit_code == 1
    assert "does not say how long 'long jump' lasts: make it anew with `make starter`" in result.output
    assert not list(weights.parent.glob("*_curves*"))
