"""Zero-shot localization by the command line: trained on clips of some actions, asked for another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

torch = pytest.importorskip("torch")
from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, write_activitynet  # noqa: E402
from tal_run.extractors import registry  # noqa: E402
from tal_run.models.head import load_head  # noqa: E402
from tal_run.pipeline.cli import main  # noqa: E402
from tal_run.pipeline.trained_detector import TrainedDetector  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CLIPS = {"sunset": "red", "mowing the lawn": "green", "swimming": "blue"}
QUICK = ("dropout=0.1", "learning_rate=0.01", "clusters=2", "percentile=80", "latent_dim=16", "proposal_percentiles=80,90")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def train(*settings: str) -> Result:
    configured = [part for setting in (*QUICK, *settings) for part in ("--config", setting)]
    arguments = ("--annotations", "truth.json", "--features", "features", "--iterations", "200", "-o", "head.safetensors")
    return run("train", "--head", "actionbytes", *arguments, *configured)


@pytest.fixture
def clips(colours: str, make_video: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of trimmed clips of three actions, what they show, and an untrimmed video."""
    monkeypatch.chdir(tmp_path)
    backbone: Any = registry.EXTRACTORS[colours]
    usual = backbone.__call__

    def near_colours(self: Any, frames: Any, flow: Any = None) -> Any:
        _, logits = usual(self, frames, flow)
        return np.tile(np.exp(logits), 2).astype(np.float32), logits

    monkeypatch.setattr(backbone, "__call__", near_colours)
    monkeypatch.setattr(backbone, "feature_dim", 8)
    truths = []
    for index in range(9):
        label, colour = list(CLIPS.items())[index % 3]
        length_s = 3.2 + 0.4 * (index // 3)
        make_video(f"clips/c{index}.mp4", [(colour, length_s)])
        instance = Instance(0.0, length_s, f"c{index}", label)
        truths.append(VideoTruth(video_id=f"c{index}", subset="training", instances=(instance,)))
    write_activitynet(GroundTruth(videos=tuple(truths)), "truth.json")
    made = run("features", "clips", "-o", "features", "--backbone", colours, "--stride", "2", "--quiet")
    assert made.exit_code == 0, made.stderr
    make_video("untrimmed.mp4", [("grey", 4.0), ("red", 4.0), ("grey", 4.0), ("green", 3.0), ("grey", 2.0)])


def found_for(query: str, *more: str) -> Sequence[dict[str, Any]]:
    result = run("detect", "untrimmed.mp4", "--checkpoint", "head.safetensors", "-q", query, "-o", "found.json", *more)
    assert result.exit_code == 0, result.stderr
    if query not in CLIPS:
        assert f'"{query}" matches ' in result.stderr  # it says what stands in for it
    results: Sequence[dict[str, Any]] = json.loads(Path("found.json").read_text())["results"]["untrimmed"]
    return results


@pytest.mark.usefixtures("clips")
def test_an_action_that_it_has_never_seen_is_found_by_what_is_like_it() -> None:
    trained = train("regime=zero-shot", "unseen=Swim")
    assert trained.exit_code == 0, trained.stderr
    assert "note: left out what is not to be seen: swimming" in trained.stderr
    assert "actionbytes learns 2 actions from 6 videos" in trained.stderr
    head = load_head("head.safetensors")
    assert head.labels == ("mowing the lawn", "sunset")
    assert (head.config.unseen, int(head.network.mined)) == (("Swim",), 1)
    for query, start_s, end_s in (("sundown", 4.0, 8.0), ("sunset", 4.0, 8.0), ("cutting grass", 12.0, 15.0)):
        best = found_for(query)[0]
        assert best["label"] == query
        assert best["segment"] == pytest.approx([start_s, end_s], abs=0.9), query
    by_name = found_for("cutting grass", "--names-only")[0]
    assert by_name["segment"] == pytest.approx([12.0, 15.0], abs=0.9)

    refused = run("detect", "untrimmed.mp4", "--checkpoint", "head.safetensors", "-q", "swimming")
    assert refused.exit_code == 2
    assert '"swimming" matches no class' in refused.stderr
    assert "head.safetensors was trained to find mowing the lawn, sunset, and what is like them" in refused.stderr

    detector = TrainedDetector("head.safetensors")
    matches = detector.match(["dusk", "sunset", "swimming"])
    assert [match.exact for match in matches] == [False, True, False]
    detections = detector.detect("untrimmed.mp4", matches=matches).detections
    assert {found.label for found in detections} == {"dusk", "sunset"}
    everything = detector.detect("untrimmed.mp4").detections
    assert {found.label for found in everything} <= {"mowing the lawn", "sunset"}


@pytest.mark.usefixtures("clips")
def test_nothing_left_to_learn_from_is_a_sentence() -> None:
    result = train("regime=zero-shot", "unseen=swimming,sunset,mowing the lawn")
    assert result.exit_code == 2
    assert "nothing is left to learn from without mowing the lawn, sunset, swimming" in result.stderr
    result = train("regime=zero-shot")
    assert (result.exit_code, "zero-shot needs unseen" in result.stderr) == (2, True)
