"""What comes with tal-run works by itself: the sample video, the starter, and the long jumps in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tal_run.models.postprocess import tiou
from tal_run.pipeline import DetectConfig, Detector

SAMPLE = Path(__file__).parents[2] / "pipeline" / "data" / "athletics.mp4"
# as its plan says: made video, stadium look, seed 5, number 6, 20 to 36 s
LONG_JUMPS_S = [[13.52, 15.56], [22.04, 24.12]]
JUMPING_JACKS_S = [[2.80, 6.52]]


def test_the_sample_is_small() -> None:
    assert SAMPLE.stat().st_size <= 1_000_000


def test_the_truth_of_the_sample_is_its_plans() -> None:
    from tal_run.eval.synthetic_plan import plan_video

    truth = plan_video(look="stadium", seed=5, index=6, min_s=20, max_s=36).truth
    assert [[i.start_s, i.end_s] for i in truth.instances if i.label == "long jump"] == LONG_JUMPS_S


def test_the_starter_finds_the_long_jumps_in_it() -> None:
    detector = Detector(DetectConfig(backbone="starter"))
    features = detector.watch(SAMPLE)
    found = detector.find(features, detector.match("LongJump"))
    overlaps = tiou([[d.start_s, d.end_s] for d in found], LONG_JUMPS_S)
    assert len(found) == len(LONG_JUMPS_S)
    assert (overlaps.max(axis=0) >= 0.5).all()
    (jacks,) = detector.find(features, detector.match("jumping jacks"))
    assert tiou([[jacks.start_s, jacks.end_s]], JUMPING_JACKS_S).item() >= 0.5
    assert not detector.find(features, detector.match("golf swing"))


def test_other_words_find_the_starters_actions() -> None:
    detector = Detector(DetectConfig(backbone="starter"))
    for query, label in {
        "broad jump": "long jump",
        "star jumps": "jumping jacks",
        "fosbury flop": "high jump",
        "kicking a football": "soccer kick",
        "waving goodbye": "waving",
    }.items():
        assert detector.match(query)[0].classes[0].label == label


@pytest.mark.parametrize("query", ["photosynthesis", "quarterly earnings report"])
def test_what_it_does_not_know_matches_nothing(query: str) -> None:
    from tal_run.pipeline.query import match_query

    assert not match_query(query, Detector(DetectConfig(backbone="starter")).backbone.labels).classes
