"""What comes with tal-run works by itself: the sample video, the starter, and the long jumps in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tal_run.models.postprocess import tiou
from tal_run.pipeline import DetectConfig, Detector

SAMPLE = Path(__file__).parents[2] / "pipeline" / "data" / "athletics.mp4"
# as its plan says: made video, stadium look, seed 7, number 9, 20 to 36 s
LONG_JUMPS_S = [[13.16, 14.96], [18.72, 20.40], [31.44, 33.12]]


def test_the_sample_is_small() -> None:
    assert SAMPLE.stat().st_size <= 1_000_000


def test_the_truth_of_the_sample_is_its_plans() -> None:
    from tal_run.eval.synthetic_plan import plan_video

    truth = plan_video(look="stadium", seed=7, index=9, min_s=20, max_s=36).truth
    assert [[i.start_s, i.end_s] for i in truth.instances if i.label == "long jump"] == LONG_JUMPS_S


def test_the_starter_finds_the_long_jumps_in_it() -> None:
    detector = Detector(DetectConfig(backbone="starter"))
    features = detector.watch(SAMPLE)
    found = detector.find(features, detector.match("LongJump"))
    overlaps = tiou([[d.start_s, d.end_s] for d in found], LONG_JUMPS_S)
    assert (overlaps.max(axis=0) >= 0.5).sum() >= 2
    assert overlaps[0].max() >= 0.5  # the best one is right
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
