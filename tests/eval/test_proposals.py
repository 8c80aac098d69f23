"""Average recall against its loops, worked examples, and AherNet's way to say it in one number."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth
from tal_run.eval.detections import Detections
from tal_run.eval.evaluation import load_case
from tal_run.eval.proposals import evaluate_proposals
from tal_run.eval.protocols import EvaluationError
from tal_run.models import Detection

TIOUS = [0.25, 0.5, 1.0]
videos = st.sampled_from(["a", "b", "c"])
starts, lengths = st.integers(0, 12), st.integers(0, 6)
truths = st.lists(st.builds(lambda v, s, n: (v, float(s), float(s + n)), videos, starts, lengths), min_size=1, max_size=6)
proposals = st.lists(
    st.builds(
        lambda v, s, n, score: (v, float(s), float(s + n), score), videos, starts, lengths, st.sampled_from([0.1, 0.5, 0.9])
    ),
    unique=True,
    max_size=20,
)


def truth_of(rows: Any) -> GroundTruth:
    return GroundTruth(
        videos=tuple(
            VideoTruth(video_id=name, instances=tuple(Instance(s, e, v, f"class {e % 3}") for v, s, e in rows if v == name))
            for name in ("a", "b", "c")
        )
    )


def columns(rows: Any) -> Detections:
    return Detections(
        video_ids=("a", "b", "c"),
        labels=("",),
        videos=np.array(["abc".index(row[0]) for row in rows], np.int64),
        classes=np.zeros(len(rows), np.int64),
        segments=np.array([row[1:3] for row in rows], np.float64).reshape(-1, 2),
        scores=np.array([row[3] for row in rows], np.float64),
    )


@settings(max_examples=100)
@given(truth=truths, found=proposals, most=st.sampled_from([1.0, 2.5, 100.0]))
def test_it_is_the_slow_one(proposals_reference: ModuleType, truth: Any, found: Any, most: float) -> None:
    case = load_case(truth_of(truth), columns(found), class_agnostic=True)
    result = evaluate_proposals(case, most=most, tious=TIOUS)
    auc, numbers, average, recall = proposals_reference.average_recall(truth, found, TIOUS, most)
    assert result.numbers == pytest.approx(numbers, abs=1e-9)
    assert result.average_recall == pytest.approx(average, abs=1e-9)
    assert list(result.recall.values()) == pytest.approx(recall, abs=1e-9)
    assert result.auc == pytest.approx(auc, abs=1e-9)


def of(truth: Any, found: Any, **options: Any) -> Any:
    return evaluate_proposals(load_case(truth_of(truth), columns(found), class_agnostic=True), **options)


def test_labels_count_for_nothing() -> None:
    truth = GroundTruth(
        videos=(VideoTruth(video_id="a", instances=(Instance(0, 10, "a", "run"), Instance(20, 30, "a", "jump"))),)
    )
    found = {"a": [Detection(0, 10, "anything", 0.9), Detection(20, 30, "else", 0.8), Detection(20, 30, "or", 0.8)]}
    assert evaluate_proposals(load_case(truth, found, class_agnostic=True)).recall[0.95] == 1.0


def test_a_hundred_steps_to_a_hundred_proposals() -> None:
    truth = [("a", 0.0, 10.0)]
    # the right one is the 40th of 100
    found = [("a", 100.0 + n, 101.0 + n, 1 - n / 100) for n in range(39)] + [("a", 0.0, 10.0, 0.605)]
    found += [("a", 200.0 + n, 201.0 + n, 0.6 - n / 200) for n in range(60)]
    result = of(truth, found)
    assert result.numbers == pytest.approx(range(1, 101))
    assert result.average_recall == tuple([0.0] * 39 + [1.0] * 61)
    assert result.auc == pytest.approx((60 + 0.5) / 100)
    assert (result.average_recall_at(39), result.average_recall_at(40), result.average_recall_at(1000)) == (0.0, 1.0, 1.0)


def test_a_budget_is_shared_out_in_proportion() -> None:
    truth = [("a", 0.0, 10.0), ("b", 0.0, 10.0)]
    # of 8 proposals 6 are in a: one each on average means a has 1 (1.5 rounded down) and b none (0.5)
    found = [("a", 0.0, 10.0, 0.9), *(("a", 50.0 + n, 51.0 + n, 0.1) for n in range(5))]
    found += [("b", 0.0, 10.0, 0.9), ("b", 50.0, 51.0, 0.1)]
    assert of(truth, found, most=1.0).recall[0.5] == 0.5
    assert of(truth, found, most=2.0).recall[0.5] == 1.0


def test_nothing_covers_nothing() -> None:
    result = of([("a", 0.0, 10.0)], [])
    assert (result.auc, set(result.average_recall), set(result.recall.values())) == (0.0, {0.0}, {0.0})
    # a proposal in a video without instances is there, but covers nothing
    assert of([("a", 0.0, 10.0)], [("b", 0.0, 10.0, 0.5)]).auc == 0.0


def test_what_is_no_number_of_proposals_is_said() -> None:
    with pytest.raises(EvaluationError, match="0 proposals a video are none"):
        of([("a", 0.0, 10.0)], [], most=0)
