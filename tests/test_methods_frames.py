"""What ``make methods`` does to learn S-CNN from frames: the same as the pipeline, once, and on from where it was killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")
sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import methods_frames
import torch
from methods import on_made
from methods_frames import FROM_FRAMES, FromFrames, detections, frames_file, judge, name_of, run_frames
from methods_tables import tables

from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, write_activitynet
from tal_run.extractors.features import FeatureNeeds
from tal_run.models.head import TrainedHead, save_head
from tal_run.models.scnn import HEAD
from tal_run.models.scnn_network import Scnn, ScnnConfig, StarterTrunk
from tal_run.pipeline import DetectConfig
from tal_run.pipeline.frames_detector import FramesDetector
from tal_run.pipeline.training import Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ScnnConfig(trunk="starter", step_frames=1, window_frames=(8, 16), segment_steps=4, iterations=6, batch_size=2)
TRAINING = FromFrames(config=SMALL, fps=12.5)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which videos are made already; two of each part, 3.2 s long."""
    spec = importlib.util.spec_from_file_location("video_factory", Path(__file__).parent / "video_factory.py")
    assert spec
    assert spec.loader
    factory = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factory)
    folder = tmp_path_factory.mktemp("methods")
    for part in ("training", "test", "validation"):
        truths = []
        for number in range(2):
            name, (start, end) = f"{part}_{number}", ((0.64, 1.28), (1.28, 2.56))[number]
            (folder / "made" / part).mkdir(parents=True, exist_ok=True)
            factory.make_video(folder / "made" / part / f"{name}.mp4", frame_count=80, size=(128, 96))
            instance = Instance(start, end, name, "ab"[number])
            truths.append(VideoTruth(video_id=name, subset="training", duration_s=3.2, instances=(instance,)))
        write_activitynet(GroundTruth(videos=tuple(truths)), folder / "made" / part / "annotations.json")
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A folder of a test's own with these videos."""
    (tmp_path / "made").symlink_to(made / "made")
    methods_frames.data_digest.cache_clear()
    return tmp_path


def test_what_is_found_is_what_the_detector_finds(out: Path, tmp_path: Path) -> None:
    """Whose windows stream by, and which knows one overlap."""
    torch.manual_seed(0)
    network = Scnn(2, config=SMALL, make_trunk=StarterTrunk).eval()
    for part in (network.proposal, network.localization):
        torch.nn.init.normal_(part.fc8.weight, std=3.0)
    config = replace(SMALL, proposal_threshold=0.5)
    network.config = config
    network.set_prior([[0.3, 0.7], [0.6, 0.4]])
    recipe = {"watching": {"frames_of": "starter", "fps": TRAINING.fps}}
    needs = FeatureNeeds(dim=256, streams=None, step_s=None, backbone=None)
    trained = TrainedHead(head=HEAD, config=config, network=network, labels=("a", "b"), needs=needs, recipe=recipe)
    video = out / "made" / "test" / "test_0.mp4"
    said = judge(TRAINING, trained, video)
    assert 0 < len(said.windows) < 35  # some are proposals
    counts = []
    for tiou in (0.2, 0.7):
        at = replace(config, evaluation_tiou=tiou)
        network.config = at
        save_head(file := tmp_path / f"{tiou}.safetensors", replace(trained, config=at))
        wanted = FramesDetector(file, DetectConfig(top_classes=None)).detect(video).detections
        found = detections(trained, said, fps=TRAINING.fps, tiou=tiou)
        places = [sorted((d.label, d.start_s, d.end_s) for d in each) for each in (found, wanted)]
        assert places[0] == places[1]
        scores = [sorted(d.score for d in each) for each in (found, wanted)]
        assert scores[0] == pytest.approx(scores[1])
        counts.append(len(found))
    assert counts[0] < counts[1]  # the overlap has a say


def test_a_result_is_kept_and_not_made_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = run_frames(out, TRAINING, 0, on="test")
    card = json.loads(file.read_text())
    assert (card["method"], card["row"], card["seed"]) == ("S-CNN", "from frames", 0)
    assert all(len(card["scores"][protocol]) == 7 for protocol in ("activitynet", "thumos14", "wtalc", "wsad"))
    assert "| S-CNN | from frames |" in tables([file], on="test")
    assert not list(out.glob("heads/*.clips"))  # as large as they are
    content = file.read_bytes()

    def fail(*given: Any, **named: Any) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(methods_frames, "train", fail)
    assert run_frames(out, TRAINING, 0, on="test") == [file]
    # killed before the last step: neither what was learnt nor what the networks said is made again
    file.unlink()
    monkeypatch.setattr(methods_frames, "judge", fail)
    run_frames(out, TRAINING, 0, on="test")
    again = json.loads(file.read_text())
    assert again["scores"] == json.loads(content)["scores"]


def test_a_training_that_was_stopped_goes_on_to_the_same(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, asked = methods_frames.train, list[int]()

    def stopped(*given: Any, **named: Any) -> Any:
        def hook(step: str, *, completed: float, total: float | None) -> None:
            asked.append(int(completed))
            if completed == 4:
                os.kill(os.getpid(), signal.SIGINT)

        return usual(*given, **named, hook=hook)

    monkeypatch.setattr(methods_frames, "train", stopped)
    with pytest.raises(Interrupted):
        run_frames(out, TRAINING, 0, on="test")
    asked.clear()
    monkeypatch.setattr(
        methods_frames, "train", lambda *a, **b: usual(*a, **b, hook=lambda s, **k: asked.append(k["completed"]))
    )
    run_frames(out, TRAINING, 0, on="test")
    assert asked[0] >= 4
    (at_once,) = out.glob("heads/*.safetensors")
    through = at_once.read_bytes()
    at_once.unlink()
    for file in out.glob("runs/*"):
        file.unlink()
    monkeypatch.setattr(methods_frames, "train", usual)
    run_frames(out, TRAINING, 0, on="test")
    assert at_once.read_bytes() == through


def test_all_that_decides_a_result_names_it(out: Path) -> None:
    other = replace(TRAINING, config=replace(SMALL, iterations=7))
    several = [TRAINING, other, replace(TRAINING, fps=8.0), replace(TRAINING, bfloat16=True)]
    files = {
        frames_file(out, training, seed, on=on) for training in several for seed in (0, 1) for on in ("test", "validation")
    }
    assert len(files) == 16
    assert len({name_of(out, training, seed) for training in several for seed in (0, 1)}) == 8
    truth = out / "made" / "training" / "annotations.json"
    before = truth.read_text()
    try:
        truth.write_text(before.replace("1.28", "1.27"))
        methods_frames.data_digest.cache_clear()
        assert frames_file(out, TRAINING, 0, on="test") not in files
    finally:
        truth.write_text(before)
        methods_frames.data_digest.cache_clear()


def test_multiplying_in_bfloat16_learns_all_the_while(out: Path) -> None:
    """Autocast keeps the weights of the first iteration for the others, unless told not to."""
    layer, seen = torch.nn.Linear(8, 1), list[float]()
    with replace(TRAINING, bfloat16=True).multiplying():
        for _ in range(3):
            seen.append(float(layer(torch.ones(1, 8)).detach()))
            with torch.no_grad():
                layer.weight += 1.0
    assert np.diff(seen) == pytest.approx([8.0, 8.0], abs=0.2)


def test_what_is_the_papers_own_is_left_as_it_is() -> None:
    paper, used = ScnnConfig(), FROM_FRAMES.config
    own = (
        "window_frames",
        "window_overlap",
        "segment_steps",
        "positive_iou",
        "negative_iou",
        "rescue_iou",
        "alpha",
        "overlap_weight",
        "proposal_threshold",
        "use_prior",
        "nms_margin",
        "proposal_share",
        "classification_share",
        "momentum",
        "weight_decay",
    )
    assert {name: getattr(used, name) for name in own} == {name: getattr(paper, name) for name in own}
    assert [training for training in on_made() if isinstance(training, FromFrames)] == [FROM_FRAMES]
