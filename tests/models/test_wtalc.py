"""W-TALC's losses against the published implementation's numbers and against plain loops; its thresholds at test time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tal_run.models.head import HeadError  # noqa: E402
from tal_run.models.wtalc import (  # noqa: E402
    Outputs,
    WTALCConfig,
    co_activity_loss,
    decode,
    high_and_low,
    k_max_mil_loss,
    sample,
    top_k_mean,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def some_batch(seed: int, *, videos: int = 4, classes: int = 3, width: int = 5) -> dict[str, Any]:
    """Random features, logits, lengths and labels; what lies behind a video's end is not to be looked at."""
    dice = np.random.default_rng(seed)
    lengths = dice.integers(1, 20, videos)
    longest = int(lengths.max()) + int(dice.integers(0, 3))
    labels = dice.random((videos, classes)) < 0.5
    labels[:, 0] |= ~labels.any(axis=1)
    return {
        "features": torch.from_numpy(dice.uniform(0, 1, (videos, longest, width))),
        "logits": torch.from_numpy(dice.uniform(-6, 6, (videos, longest, classes))),
        "lengths": torch.from_numpy(lengths),
        "labels": torch.from_numpy(labels.astype(np.float64)),
    }


def slow_mil(logits: Any, lengths: Any, labels: Any, k_divisor: int) -> float:
    total = 0.0
    for row, length in enumerate(lengths.tolist()):
        scores = []
        for label in range(labels.shape[1]):
            activations = sorted(logits[row, :length, label].tolist(), reverse=True)
            k = math.ceil(length / k_divisor)
            scores.append(sum(activations[:k]) / k)
        normalizer = math.log(sum(math.exp(score) for score in scores))
        wanted = [label for label in range(labels.shape[1]) if labels[row, label]]
        total -= sum(scores[label] - normalizer for label in wanted) / len(wanted)
    return total / len(lengths)


def slow_high_and_low(features: Any, logits: Any, length: int, label: int) -> tuple[np.ndarray, np.ndarray]:
    odds = [math.exp(value) for value in logits[:length, label].tolist()]
    attention = [value / sum(odds) for value in odds]
    high = sum(a * features[t].numpy() for t, a in enumerate(attention))
    low = sum((1 - a) * features[t].numpy() for t, a in enumerate(attention)) / max(length - 1, 1)
    return np.asarray(high), np.asarray(low)


def slow_distance(first: np.ndarray, second: np.ndarray) -> float:
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    return float(1 - (first @ second / norms if norms > 0 else 0.0))


def slow_co_activity(features: Any, logits: Any, lengths: Any, labels: Any, margin: float) -> float:
    total, count = 0.0, 0
    for m in range(0, len(lengths), 2):
        n = m + 1
        for label in range(labels.shape[1]):
            if not (labels[m, label] and labels[n, label]):
                continue
            high_m, low_m = slow_high_and_low(features[m], logits[m], int(lengths[m]), label)
            high_n, low_n = slow_high_and_low(features[n], logits[n], int(lengths[n]), label)
            alike = slow_distance(high_m, high_n)
            total += 0.5 * max(0.0, alike - slow_distance(high_m, low_n) + margin)
            total += 0.5 * max(0.0, alike - slow_distance(low_m, high_n) + margin)
            count += 1
    return total / max(count, 1)


def test_the_losses_are_the_published_ones(published_losses: Any) -> None:
    given_, expected = published_losses.inputs("wtalc"), published_losses.expected("wtalc")
    logits, lengths, labels = given_["logits"], given_["lengths"], given_["labels"]
    mil = k_max_mil_loss(logits, lengths, labels)
    pairs = slice(0, 6)
    co_activity = co_activity_loss(given_["features"][pairs], logits[pairs], lengths[pairs], labels[pairs])
    (mil + co_activity).backward()
    assert mil.item() == pytest.approx(expected["mil_k_max"], rel=1e-6)
    assert co_activity.item() == pytest.approx(expected["co_activity"], rel=1e-6)
    assert logits.grad.abs().sum().item() == pytest.approx(expected["grad_abs_sum"], rel=1e-6)


@given(st.integers(0, 10_000), st.sampled_from([1, 3, 8]))
def test_the_multiple_instance_loss_is_the_slow_one(seed: int, k_divisor: int) -> None:
    batch = some_batch(seed)
    del batch["features"]
    assert k_max_mil_loss(**batch, k_divisor=k_divisor).item() == pytest.approx(slow_mil(**batch, k_divisor=k_divisor))


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 2.0]))
def test_the_co_activity_loss_is_the_slow_one(seed: int, margin: float) -> None:
    batch = some_batch(seed)
    assert co_activity_loss(**batch, margin=margin).item() == pytest.approx(slow_co_activity(**batch, margin=margin))


@given(st.integers(0, 10_000), st.floats(0.1, 10))
def test_neither_the_order_in_a_pair_nor_the_scale_of_features_matters(seed: int, factor: float) -> None:
    batch = some_batch(seed)
    swapped = {name: value[[1, 0, 3, 2]] for name, value in batch.items()}
    scaled = {**batch, "features": batch["features"] * factor}
    expected = co_activity_loss(**batch).item()
    assert co_activity_loss(**swapped).item() == pytest.approx(expected)
    assert co_activity_loss(**scaled).item() == pytest.approx(expected)


def test_alike_pairs_that_stand_out_cost_nothing() -> None:
    """Two videos, the same direction where the class is active and another one everywhere else: d is 0 and 1."""
    features = torch.zeros(2, 10, 2)
    features[:, :, 1] = 1
    features[:, 3:5] = torch.tensor([1.0, 0.0])
    logits = torch.full((2, 10, 1), -30.0)
    logits[:, 3:5] = 30
    low_still_has = 1 / math.sqrt(65)  # 1 - Â is a half at the two active snippets, and 1 at eight: cos = 1 / |(1, 8)|
    cost = co_activity_loss(features, logits, torch.tensor([10, 10]), torch.ones(2, 1), margin=1.0)
    assert cost.item() == pytest.approx(low_still_has, rel=1e-5)
    assert co_activity_loss(features, logits, torch.tensor([10, 10]), torch.ones(2, 1), margin=0.5).item() == 0


def test_pairs_without_a_common_label_teach_nothing() -> None:
    batch = some_batch(1)
    batch["labels"] = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)
    assert co_activity_loss(**batch).item() == 0


def test_a_single_snippet_has_no_rest() -> None:
    high, low = high_and_low(torch.ones(1, 4, 2), torch.zeros(1, 4, 3), torch.tensor([1]))
    assert high.tolist() == [[[1, 1]] * 3]
    assert low.tolist() == [[[0, 0]] * 3]


@given(st.integers(0, 10_000))
def test_high_and_low_share_out_the_whole_video(seed: int) -> None:
    batch = some_batch(seed)
    high, low = high_and_low(batch["features"], batch["logits"], batch["lengths"])
    for row, length in enumerate(batch["lengths"].tolist()):
        whole = batch["features"][row, :length].sum(dim=0)
        assert torch.allclose(high[row] + low[row] * max(length - 1, 1), whole.expand(3, -1))


def test_the_largest_are_those_before_the_end() -> None:
    values = torch.tensor([[[1.0], [5.0], [3.0], [9.0]], [[4.0], [2.0], [8.0], [6.0]]])
    assert top_k_mean(values, torch.tensor([3, 4]), torch.tensor([1, 3])).tolist() == [[5], [6]]


class TestDecoding:
    CONFIG = WTALCConfig()

    @staticmethod
    def found(*curves: list[float], config: WTALCConfig = CONFIG) -> list[tuple[list[float], float, int]]:
        logits = np.array(curves, np.float32).T[None]  # [1, T, C]
        result = decode(Outputs(np.zeros((1, logits.shape[1], 2), np.float32), logits), config)
        return [(s.tolist(), float(p), int(c)) for s, p, c in zip(*result, strict=True)]

    def test_the_score_is_the_peak_and_the_videos_share(self) -> None:
        """T = 16, so k = 2: the class's score for the video is (6 + 5) / 2, the midpoint (6 - 2) / 2."""
        curve = [-2.0] * 16
        curve[3:6], curve[10:12] = [5, 6, 4], [3, 2.5]
        assert self.found(curve) == [([3, 6], 6 + 0.7 * 5.5, 0), ([10, 12], 3 + 0.7 * 5.5, 0)]

    def test_a_class_that_scores_nothing_is_not_looked_for(self) -> None:
        low, high = [-9.0] * 16, [-3.0] * 16
        low[3:6], high[8:12] = [-1] * 3, [2] * 4
        assert [label for _, _, label in self.found(low, high)] == [1]
        assert {label for _, _, label in self.found(low, high, config=replace(self.CONFIG, class_threshold=None))} == {0, 1}

    def test_single_snippets_are_dropped_or_not(self) -> None:
        curve = [-2.0] * 16
        curve[3], curve[8:10] = 6, [5, 5]
        assert [segment for segment, _, _ in self.found(curve)] == [[8, 10]]
        assert len(self.found(curve, config=replace(self.CONFIG, min_snippets=1))) == 2

    @given(st.integers(0, 1000), st.floats(-5, 5), st.floats(0.5, 3))
    def test_segments_do_not_care_for_the_scale_of_the_logits(self, seed: int, shift: float, factor: float) -> None:
        curve = np.random.default_rng(seed).integers(-8, 8, 30).astype(float)
        config = replace(self.CONFIG, class_threshold=None)

        def segments(values: np.ndarray) -> list[list[float]]:
            return sorted(segment for segment, _, _ in self.found(values.tolist(), config=config))

        middle = (curve.max() + curve.min()) / 2
        curve = curve[curve != middle]  # where rounding would decide
        assert segments(curve) == segments(curve * factor + shift)


class TestSampling:
    LABELS = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 0]])

    @given(st.integers(0, 1000))
    def test_a_batch_begins_with_pairs_of_different_videos_that_share_a_label(self, seed: int) -> None:
        batch = sample(self.LABELS, WTALCConfig(), rng=np.random.default_rng(seed))
        assert len(batch) == 10
        for first, second in batch[:6].reshape(3, 2):
            assert first != second
            assert (self.LABELS[first] * self.LABELS[second]).any()

    def test_every_video_gets_its_turn(self) -> None:
        dice = np.random.default_rng(0)
        assert set(np.concatenate([sample(self.LABELS, WTALCConfig(), rng=dice) for _ in range(50)])) == set(range(5))

    def test_without_a_label_in_common_there_are_no_pairs(self) -> None:
        with pytest.raises(HeadError, match="no label occurs in two"):
            sample(np.eye(3), WTALCConfig(), rng=np.random.default_rng(0))
        assert len(sample(np.eye(3), WTALCConfig(pairs=0), rng=np.random.default_rng(0))) == 10


@pytest.mark.parametrize(
    "wrong", [{"k_divisor": 0}, {"mil_weight": 1.5}, {"dropout": 1.0}, {"pairs": 6}, {"min_snippets": 0}, {"batch_size": 0}]
)
def test_impossible_configurations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        WTALCConfig(**wrong)
