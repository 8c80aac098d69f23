"""WSAD's losses against the published implementation's numbers and against plain loops; both ways to localize."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tal_run.models import wsad  # noqa: E402
from tal_run.models.head import HeadError, make_batch, to_arrays  # noqa: E402
from tal_run.models.head import TrainingVideo as Video  # noqa: E402
from tal_run.models.wsad import (  # noqa: E402
    AUTHORS_CODE,
    WSADConfig,
    balanced_bce_loss,
    block_scores,
    decode,
    metric_loss,
    metric_triplet_loss,
    sample,
    squared_distance,
    video_probabilities,
)

pytestmark = pytest.mark.usefixtures("one_thread")

DISTANCES = ("class", "learned", "euclidean", "cosine")


def some_batch(seed: int, *, groups: int = 2, size: int = 3, classes: int = 3, width: int = 4) -> dict[str, Any]:
    dice = np.random.default_rng(seed)
    count = groups * size
    lengths = dice.integers(2, 40, count)
    labels = dice.random((count, classes)) < 0.4
    for group in range(groups):
        labels[group * size : (group + 1) * size, group % classes] = True
    return {
        "features": torch.from_numpy(dice.uniform(0, 1, (count, lengths.max(), width))),
        "logits": torch.from_numpy(dice.uniform(-6, 6, (count, lengths.max(), classes))),
        "lengths": torch.from_numpy(lengths),
        "labels": torch.from_numpy(labels.astype(np.float64)),
    }


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def slow_probability(curve: list[float], *, block: int, k: int, clip: float) -> float:
    """Eq. 1-4 for one class of one video."""
    clipped = [min(max(value, -clip), clip) for value in curve]
    count = max(1, len(clipped) // block)
    absent = 1.0
    for index in range(count):
        end = len(clipped) if index == count - 1 else (index + 1) * block
        best = sorted(clipped[index * block : end], reverse=True)[:k]
        absent *= 1 - sigmoid(sum(best) / len(best))
    return 1 - absent


def slow_balanced_bce(logits: Any, lengths: Any, labels: Any, *, block: int, k: int, clip: float) -> float:
    """Half of Eq. 5-6, mean over videos."""
    total = 0.0
    for row, length in enumerate(lengths.tolist()):
        chances = [
            slow_probability(logits[row, :length, c].tolist(), block=block, k=k, clip=clip) for c in range(labels.shape[1])
        ]
        has = [math.log(p + 1e-8) for p, y in zip(chances, labels[row], strict=True) if y]
        has_not = [math.log(1 - p + 1e-8) for p, y in zip(chances, labels[row], strict=True) if not y]
        total -= 0.5 * (sum(has) / max(len(has), 1) + sum(has_not) / max(len(has_not), 1))
    return total / len(lengths)


def slow_aggregates(features: Any, curve: Any, clip: float) -> tuple[np.ndarray, np.ndarray]:
    odds = [math.exp(min(max(value, -clip), clip)) for value in curve.tolist()]
    pi = [value / sum(odds) for value in odds]
    high = np.asarray(sum(p * features[t].numpy() for t, p in enumerate(pi)))
    low = np.asarray(sum((1 - p) * features[t].numpy() / (len(pi) - 1) for t, p in enumerate(pi)))
    return high / np.linalg.norm(high), low / np.linalg.norm(low)


def slow_squared_distance(first: np.ndarray, second: np.ndarray, metric: np.ndarray, distance: str) -> float:
    if distance == "cosine":
        return float(1 - first @ second / np.linalg.norm(first) / np.linalg.norm(second))
    difference = first - second
    matrix = {"class": lambda: np.outer(metric, metric), "learned": lambda: metric, "euclidean": lambda: np.eye(len(first))}
    return float(difference @ matrix[distance]() @ difference)


def slow_metric_loss(
    features: Any,
    logits: Any,
    metric: Any,
    lengths: Any,
    labels: Any,
    *,
    size: int,
    clip: float,
    margin: float,
    distance: str,
    kind: str,
) -> float:
    total, count = 0.0, 0
    for start in range(0, len(lengths), size):
        group = range(start, start + size)
        for label in range(labels.shape[1]):
            if not all(labels[video, label] for video in group):
                continue
            parts = [slow_aggregates(features[v, : lengths[v]], logits[v, : lengths[v], label], clip) for v in group]
            pairs = list(itertools.permutations(range(size), 2))
            of_class = metric[label].numpy()
            together = np.mean([slow_squared_distance(parts[i][0], parts[j][0], of_class, distance) for i, j in pairs])
            apart = np.mean([slow_squared_distance(parts[i][0], parts[j][1], of_class, distance) for i, j in pairs])
            total += max(0.0, together - apart + margin) if kind == "triplet" else together + max(0.0, margin - apart)
            count += 1
    return total / max(count, 1)


def test_the_losses_are_the_published_ones(published_losses: Any) -> None:
    given_, expected = published_losses.inputs("wsad"), published_losses.expected("wsad")
    logits, lengths, labels = given_["logits"], given_["lengths"], given_["labels"]
    balanced = balanced_bce_loss(logits, lengths, labels)
    metric = metric_triplet_loss(given_["features"], logits, given_["weight"], lengths, labels)
    (balanced + metric).backward()
    assert balanced.item() == pytest.approx(expected["balanced_bce"], rel=1e-6)
    assert metric.item() == pytest.approx(expected["metric_triplet"], rel=1e-6)
    assert logits.grad.abs().sum().item() == pytest.approx(expected["grad_abs_sum"], rel=1e-6)


class TestClassification:
    @given(st.integers(0, 10_000), st.sampled_from([3, 10, 60]), st.integers(1, 12), st.sampled_from([0.5, 4.0]))
    def test_it_is_the_slow_one(self, seed: int, block: int, k: int, clip: float) -> None:
        batch = some_batch(seed)
        del batch["features"]
        how = {"block": block, "k": k, "clip": clip}
        assert balanced_bce_loss(**batch, **how).item() == pytest.approx(slow_balanced_bce(**batch, **how))

    @pytest.mark.parametrize(("length", "count"), [(1, 1), (59, 1), (60, 1), (119, 1), (120, 2), (179, 2), (300, 5)])
    def test_the_remainder_belongs_to_the_last_block(self, length: int, count: int) -> None:
        assert len(block_scores(np.zeros((length, 1)))) == count
        # scores of 0 make each block a coin toss
        chance = video_probabilities(torch.zeros(1, length, 1), torch.tensor([length]))
        assert chance.item() == pytest.approx(1 - 0.5**count)

    def test_one_block_by_hand(self) -> None:
        """Best two of 1, 9 (clipped to 4), -1 are 2.5 in the mean; of the other class, 0 and -2 are -1."""
        logits = torch.tensor([[[1.0, -3.0], [9.0, 0.0], [-1.0, -2.0]]])
        present, absent = sigmoid(2.5), sigmoid(-1.0)
        loss = balanced_bce_loss(logits, torch.tensor([3]), torch.tensor([[1.0, 0.0]]), k=2)
        assert loss.item() == pytest.approx(-0.5 * (math.log(present) + math.log(1 - absent)), rel=1e-6)

    def test_without_blocks_the_video_is_one(self) -> None:
        batch = some_batch(3)
        whole = video_probabilities(batch["logits"], batch["lengths"], block=None, k=4)
        as_one = video_probabilities(batch["logits"], batch["lengths"], block=1000, k=4)
        assert torch.allclose(whole, as_one)

    def test_scores_beyond_the_clip_are_all_the_same(self) -> None:
        batch = some_batch(4)
        wild = torch.where(batch["logits"].abs() > 4, batch["logits"] * 10, batch["logits"])
        assert torch.equal(video_probabilities(batch["logits"], batch["lengths"]), video_probabilities(wild, batch["lengths"]))
        assert not torch.equal(
            video_probabilities(batch["logits"], batch["lengths"], clip=None),
            video_probabilities(wild, batch["lengths"], clip=None),
        )

    @given(st.integers(1, 200), st.sampled_from([10, 60]), st.sampled_from([1, 10]))
    def test_blocks_are_the_same_with_and_without_torch(self, length: int, block: int, k: int) -> None:
        scores = np.random.default_rng(length).uniform(-4, 4, (length, 2))
        chances = 1 - np.prod(1 - 1 / (1 + np.exp(-block_scores(scores, block=block, k=k))), axis=0)
        logits = torch.from_numpy(scores)[None]
        assert video_probabilities(logits, torch.tensor([length]), block=block, k=k)[0].numpy() == pytest.approx(chances)


class TestMetric:
    @given(st.integers(0, 10_000), st.sampled_from(DISTANCES), st.sampled_from(["triplet", "contrastive"]))
    def test_it_is_the_slow_one(self, seed: int, distance: str, kind: str) -> None:
        batch = some_batch(seed)
        dice = np.random.default_rng(seed)
        metric = torch.from_numpy(dice.normal(size=(3, 4, 4) if distance == "learned" else (3, 4)))
        more: dict[str, Any] = {"clip": 4.0, "margin": 1.0, "distance": distance, "kind": kind}
        assert metric_loss(metric=metric, **batch, group_size=3, **more).item() == pytest.approx(
            slow_metric_loss(metric=metric, **batch, size=3, **more)
        )

    def test_the_identity_is_the_euclidean_distance(self) -> None:
        dice = np.random.default_rng(0)
        first, second = (torch.from_numpy(dice.normal(size=(5, 3, 4))) for _ in range(2))
        identity = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
        assert torch.allclose(
            squared_distance(first, second, identity, distance="learned"),
            squared_distance(first, second, identity, distance="euclidean"),
        )

    def test_the_classs_metric_is_that_of_equation_11(self) -> None:
        dice = np.random.default_rng(0)
        first, second = (torch.from_numpy(dice.normal(size=(5, 3, 4))) for _ in range(2))
        weight = torch.from_numpy(dice.normal(size=(3, 4)))
        matrix = weight[:, :, None] * weight[:, None]  # M_c = W_c^T W_c
        assert torch.allclose(
            squared_distance(first, second, weight, distance="class"),
            squared_distance(first, second, matrix, distance="learned"),
        )

    def test_the_order_within_a_group_does_not_matter(self) -> None:
        batch, weight = some_batch(5), torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)
        expected = metric_triplet_loss(weight=weight, **batch, group_size=3).item()
        shuffled = {name: value[[2, 0, 1, 4, 5, 3]] for name, value in batch.items()}
        assert metric_triplet_loss(weight=weight, **shuffled, group_size=3).item() == pytest.approx(expected)

    def test_labels_that_not_all_of_a_group_have_do_not_count(self) -> None:
        batch, weight = some_batch(5), torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)
        batch["labels"] = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 1]] * 2, dtype=torch.float64)
        assert metric_triplet_loss(weight=weight, **batch, group_size=3).item() == 0

    def test_the_classifier_learns_from_it_too(self) -> None:
        batch, weight = some_batch(5), torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4).requires_grad_()
        metric_triplet_loss(weight=weight, **batch, group_size=3).backward()
        assert weight.grad is not None
        assert weight.grad[:2].abs().sum() > 0


def one_batch(config: WSADConfig) -> Any:
    dice = np.random.default_rng(0)
    made = [
        Video(features=dice.uniform(0, 1, (int(dice.integers(2, 30)), 6)).astype(np.float32), classes=(index % 2, 2))
        for index in range(12)
    ]
    labels = np.array([[index in video.classes for index in range(3)] for video in made])
    return make_batch([made[index] for index in sample(labels, config, rng=dice)], num_classes=3, rng=dice)


class TestTotal:
    @pytest.mark.parametrize("classifier", ["balanced", "bce", "softmax"])
    @pytest.mark.parametrize("distance", DISTANCES)
    @pytest.mark.parametrize("kind", ["triplet", "contrastive", "none"])
    def test_every_ablation_teaches_something_finite(self, classifier: Any, distance: Any, kind: Any) -> None:
        config = WSADConfig(classifier=classifier, distance=distance, metric_loss=kind, block=None if kind == "none" else 60)
        network = wsad.HEAD.new_network(6, 3, config=config, seed=0)
        batch = one_batch(config)
        losses = wsad.loss(network(batch.features, batch.lengths), batch, config=config)
        assert losses.keys() == ({"classification"} if kind == "none" else {"classification", "metric"})
        sum(losses.values()).backward()
        for name, weight in network.named_parameters():
            if weight.grad is None:
                assert name == "metric"
            else:
                assert weight.grad.isfinite().all()
                assert name == "metric" or weight.grad.abs().sum() > 0

    def test_the_authors_total_is_half_of_either_loss(self) -> None:
        batch = one_batch(AUTHORS_CODE)
        network = wsad.HEAD.new_network(6, 3, config=AUTHORS_CODE, seed=0).eval()
        outputs = network(batch.features, batch.lengths)
        total = sum(wsad.loss(outputs, batch, config=AUTHORS_CODE).values())
        balanced = balanced_bce_loss(outputs.logits, batch.lengths, batch.labels)
        metric = metric_triplet_loss(outputs.embedded, outputs.logits, outputs.metric, batch.lengths, batch.labels)
        assert total.item() == pytest.approx(0.5 * balanced.item() + 0.5 * metric.item())

    def test_the_papers_total_is_equation_12(self) -> None:
        config = WSADConfig()
        batch = one_batch(config)
        outputs = wsad.HEAD.new_network(6, 3, config=config, seed=0).eval()(batch.features, batch.lengths)
        total = sum(wsad.loss(outputs, batch, config=config).values())
        twice_half = 2 * balanced_bce_loss(outputs.logits, batch.lengths, batch.labels)
        metric = metric_triplet_loss(
            outputs.embedded, outputs.logits, outputs.metric, batch.lengths, batch.labels, group_size=5
        )
        assert total.item() == pytest.approx((twice_half + metric).item())

    def test_the_learned_metric_begins_euclidean(self) -> None:
        config = WSADConfig(distance="learned")
        network = wsad.HEAD.new_network(6, 3, config=config, seed=0)
        assert to_arrays(network(torch.ones(1, 2, 6), torch.tensor([2]))).metric.tolist() == [np.eye(6).tolist()] * 3


class TestDecoding:
    @staticmethod
    def found(*curves: list[float], config: WSADConfig) -> list[tuple[list[float], float, int]]:
        logits = np.array(curves, np.float32).T[None]  # [1, T, C]
        outputs = wsad.Outputs(np.zeros((1, logits.shape[1], 2), np.float32), logits, np.zeros((len(curves), 2), np.float32))
        result = decode(outputs, config)
        return [(s.tolist(), float(p), int(c)) for s, p, c in zip(*result, strict=True)]

    def test_the_papers_way_by_hand(self) -> None:
        """One block of 6, k = 2: scores clipped to 4; the video's score is (4 + 3) / 2, then a sigmoid."""
        curve = [-1.0, 3.0, 9.0, -2.0, 0.0, -3.0]
        of_video = 0.7 * sigmoid(3.5)
        ((first, best, _), (second, next_best, _)) = self.found(curve, config=WSADConfig(k=2))
        assert first == [1, 3]
        assert best == pytest.approx(sigmoid(4) + of_video)
        assert second == [4, 5]  # a sigmoid of exactly 0.5 is not "less than threshold 0.5"
        assert next_best == pytest.approx(sigmoid(0) + of_video)

    def test_the_codes_way_by_hand(self) -> None:
        """No clip: the midpoint is (9 - 3) / 2, the video's score (9 + 5) / 2; single snippets are dropped."""
        curve = [-1.0, 5.0, 9.0, -2.0, 4.0, -3.0]
        assert self.found(curve, config=replace(AUTHORS_CODE, k=2)) == [([1, 3], 9 + 0.7 * 7, 0)]

    def test_only_the_codes_way_finds_something_in_a_class_that_is_not_there(self) -> None:
        absent = [-3.0, -2.0, -1.5, -3.0]
        assert self.found(absent, config=WSADConfig()) == []
        assert [segment for segment, _, _ in self.found(absent, config=AUTHORS_CODE)] == [[1, 3]]

    def test_every_class_is_looked_for(self) -> None:
        curves = [[-2.0, 2.0, 2.0, -2.0], [3.0, 3.0, -3.0, -3.0], [-1.0] * 4]
        for config in (WSADConfig(), AUTHORS_CODE):
            assert {label for _, _, label in self.found(*curves, config=config)} == {0, 1}

    def test_noisy_or_counts_blocks(self) -> None:
        curve = [2.0] * 10 + [-2.0] * 10
        config = WSADConfig(block=10, k=3)
        ((_, score, _),) = self.found(curve, config=config)
        of_video = 1 - (1 - sigmoid(2)) * (1 - sigmoid(-2))
        assert score == pytest.approx(sigmoid(2) + 0.7 * of_video)


class TestSampling:
    @given(st.integers(0, 1000), st.sampled_from([(WSADConfig(), 4, 5), (AUTHORS_CODE, 5, 4)]))
    def test_groups_are_of_different_videos_that_share_a_label(self, seed: int, case: tuple[WSADConfig, int, int]) -> None:
        """ "batch size 20 with 4 different activity instances ... such that at least 5 videos have the same activity"."""
        config, groups_wanted, size = case
        dice = np.random.default_rng(seed)
        labels = np.zeros((60, 8), int)
        labels[np.arange(60), np.arange(60) % 8] = 1
        labels[dice.random((60, 8)) < 0.1] = 1
        groups = sample(labels, config, rng=dice).reshape(groups_wanted, size)
        shared = [set(np.flatnonzero(labels[group].all(axis=0))) for group in groups]
        assert all(len(set(group)) == size for group in groups.tolist())
        assert all(shared)
        each_for_another_label = any(len(set(choice)) == groups_wanted for choice in itertools.product(*shared))
        assert each_for_another_label

    def test_few_labels_are_drawn_again(self) -> None:
        labels = np.repeat(np.eye(2, dtype=int), 6, axis=0)
        assert len(sample(labels, WSADConfig(), rng=np.random.default_rng(0))) == 20

    def test_labels_of_too_few_videos_are_passed_over(self) -> None:
        labels = np.array([[1, 0]] * 4 + [[0, 1]] * 3)
        assert set(sample(labels, WSADConfig(group_size=4), rng=np.random.default_rng(0))) == {0, 1, 2, 3}
        with pytest.raises(HeadError, match=r"groups of 5 videos .* smaller group_size"):
            sample(labels, WSADConfig(group_size=5), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "wrong", [{"block": 0}, {"k": 0}, {"clip": 0.0}, {"group_size": 1}, {"groups": 0}, {"dropout": 1.0}, {"iterations": -1}]
)
def test_impossible_configurations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        WSADConfig(**wrong)
