"""Training what reads the starter's curves: the whole command, with what is drawn and watched put in its place."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from tal_run.eval.annotations import VideoTruth
from tal_run.eval.synthetic import synthesize
from tal_run.eval.synthetic_plan import plan_video
from tal_run.extractors.features import Features, extract
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
    data = np.zeros((grid.count, 1), np.float32)
    features = Features(data=data, grid=grid, labels=tuple(labels), logits=logits, multi_label=True)
    return train_curves.timed(features, truth, labels)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The starter's weights in a folder of their own; videos are planned only."""

    def planned(folder: Path, *, look: str, count: int, seed: int) -> list[tuple[Path, VideoTruth]]:
        truths = (plan_video(look=look, seed=seed, index=index).truth for index in range(count))
        return [(folder / str(truth.subset) / f"{truth.video_id}.mp4", truth) for truth in truths]

    def watched(videos: Sequence[tuple[Path, VideoTruth]], *, weights: Path) -> list[TimedCurves]:
        folder = weights.parent / "data" / "stadium_untrimmed"
        assert [file for file, _ in videos] == [folder / str(truth.subset) / f"{truth.video_id}.mp4" for _, truth in videos]
        return [as_watched(truth, Starter(path=weights).labels) for _, truth in videos]

    monkeypatch.setattr(train_curves, "make_videos", planned)
    monkeypatch.setattr(train_curves, "watch_all", watched)
    for suffix in (".safetensors", ".json"):
        shutil.copy(PACKAGED.with_suffix(suffix), tmp_path / f"starter{suffix}")
    return tmp_path / "starter.safetensors"


def test_the_command_leaves_a_network_that_the_starter_takes(weights: Path, tmp_path: Path) -> None:
    arguments = ["--weights", str(weights), "--data", str(tmp_path / "data"), "--videos", "24", "--steps", "150", "--seed", "6"]
    result = CliRunner().invoke(train_curves.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    starter = Starter(path=weights)
    reader = read_curves(starter.curves_file)
    assert reader.labels == starter.labels
    assert [reader.backbone] == list(starter.weights.values())
    assert reader.sha256 == starter.curves_sha256
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


def test_an_action_that_no_video_shows_is_said_before_any_is_drawn(weights: Path) -> None:
    result = CliRunner().invoke(train_curves.main, ["--weights", str(weights), "--videos", "4", "--seed", "3"])
    assert result.exit_code == 1
    assert "of 4 videos none shows" in result.output
    assert not list(weights.parent.glob("*_curves*"))


def test_videos_are_watched_in_their_order_each_with_its_own_truth(tmp_path: Path) -> None:
    truth = synthesize(tmp_path / "made", videos=2, seed=9, look="stadium", min_s=4.0, max_s=5.0)
    videos = [(tmp_path / "made" / str(video.subset) / f"{video.video_id}.mp4", video) for video in truth.videos]
    watched = train_curves.watch_all(videos, weights=PACKAGED)
    starter = Starter()
    for (file, video), found in zip(videos, watched, strict=True):
        np.testing.assert_allclose(found.logits, extract(file, backbone=starter).logits, atol=1e-5)
        assert found.grid.duration_s == pytest.approx(video.duration_s, abs=0.1)
        assert found.segments.tolist() == [[instance.start_s, instance.end_s] for instance in video.instances]
        assert [starter.labels[index] for index in found.classes] == [instance.label for instance in video.instances]
        assert found.ambiguous.tolist() == [[stretch.start_s, stretch.end_s] for stretch in video.ambiguous]
