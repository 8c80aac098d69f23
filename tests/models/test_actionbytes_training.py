"""ActionBytes' mining, network and localization on features whose sub-actions are known, and against numbers by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tal_run.extractors.features import FeatureNeeds, Features  # noqa: E402
from tal_run.extractors.timegrid import TimeGrid  # noqa: E402
from tal_run.models import wtalc  # noqa: E402
from tal_run.models.actionbytes_mining import clusters_of, fragment_borders, fragment_means, pseudo_labels  # noqa: E402
from tal_run.models.actionbytes_network import (  # noqa: E402
    HEAD,
    ActionBytesHeadConfig,
    ActionBytesNetwork,
    Outputs,
    carry_over,
    decode,
    loss,
    mine,
    on_top_of,
    steps,
)
from tal_run.models.head import (  # noqa: E402
    Batch,
    HeadError,
    TrainedHead,
    TrainingVideo,
    head_named,
    make_batch,
    save_head,
    update,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# what each class is made of: "run" and "jump" share sub-action 0, "jump" and "throw" sub-action 2
CLASSES = {"run": (0, 1), "jump": (0, 2), "throw": (2, 3, 4)}
SUB_ACTIONS, DIM = 5, 8
QUICK = ActionBytesHeadConfig(clusters=SUB_ACTIONS, dropout=0.0, learning_rate=1e-2, iterations=400, percentile=80)


def clip(parts: tuple[int, ...], *, seed: int, noise: float = 0.02) -> np.ndarray:
    """A trimmed clip: its sub-actions one after the other, each for a few snippets, each a place in the feature vector."""
    dice = np.random.default_rng(seed)
    rows = np.repeat(np.eye(DIM)[list(parts)], dice.integers(3, 8, len(parts)), axis=0)
    return np.asarray(np.maximum(rows + dice.normal(0, noise, rows.shape), 0), np.float32)


def clips(count: int = 30) -> list[TrainingVideo]:
    kinds = list(CLASSES.values())
    return [TrainingVideo(features=clip(kinds[n % 3], seed=n), classes=(n % 3,)) for n in range(count)]


def seeing(config: ActionBytesHeadConfig = QUICK) -> ActionBytesNetwork:
    """A network whose L is its features."""
    network = HEAD.new_network(DIM, len(CLASSES), config=config, seed=0)
    assert isinstance(network, ActionBytesNetwork)
    with torch.no_grad():
        network.projection.weight.copy_(torch.eye(DIM))
    return network


def outputs_of(latent: Any, logits: Any) -> Outputs[np.ndarray]:
    logits = np.asarray(logits, np.float32)[None]
    return Outputs(np.asarray(latent, np.float32)[None], logits, logits, logits[:, :, :0], np.zeros(1, np.int64))


class TestFragments:
    def test_they_are_the_parts_that_a_clip_is_made_of(self) -> None:
        latent = np.repeat(np.eye(4), [3, 5, 2, 4], axis=0)
        borders = fragment_borders(latent, percentile=70, include_ends=True)
        assert borders.tolist() == [0, 3, 8, 10, 14]
        assert np.array_equal(fragment_means(latent, borders), np.eye(4))

    def test_by_equation_one_alone_the_ends_are_lost(self) -> None:
        latent = np.repeat(np.eye(4), [3, 5, 2, 4], axis=0)
        borders = fragment_borders(latent, percentile=70, include_ends=False)
        assert borders.tolist() == [3, 8, 10]
        assert np.array_equal(fragment_means(latent, borders), np.eye(4)[1:3])
        assert fragment_means(latent, borders[:1]).shape == (0, 4)

    @pytest.mark.parametrize(("length", "expected"), [(6, [0, 2, 4, 6]), (7, [0, 2, 4, 6, 7]), (1, [0, 1]), (0, [0])])
    def test_fixed_ones_are_two_snippets_long(self, length: int, expected: list[int]) -> None:
        latent = np.random.default_rng(0).uniform(size=(length, 3))
        assert fragment_borders(latent, fragments="fixed", percentile=50, include_ends=False).tolist() == expected

    @given(st.integers(1, 50), st.integers(0, 99))
    def test_means_are_those_of_a_plain_loop(self, length: int, seed: int) -> None:
        dice = np.random.default_rng(seed)
        latent = dice.uniform(size=(length, 3))
        borders = np.unique(dice.integers(0, length + 1, 6))
        expected = [latent[first:last].mean(axis=0) for first, last in pairwise(borders)]
        assert fragment_means(latent, borders) == pytest.approx(np.array(expected, np.float32).reshape(-1, 3))


class TestClusters:
    @given(st.integers(0, 1000), st.integers(2, 6))
    def test_blobs_far_apart_are_the_clusters(self, seed: int, count: int) -> None:
        dice = np.random.default_rng(seed)
        truth = dice.permutation(np.repeat(np.arange(count), 12))
        points = 100 * np.eye(6)[truth] + dice.normal(0, 0.5, (len(truth), 6))
        assigned = clusters_of(points, count, seed=seed)
        assert len({*zip(truth.tolist(), assigned.tolist(), strict=True)}) == count  # one to one

    def test_the_seed_decides_and_nothing_else_does(self) -> None:
        import cv2

        points = np.random.default_rng(0).normal(size=(500, 4))
        first = clusters_of(points, 20, seed=1)
        cv2.setRNGSeed(77)
        threads = cv2.getNumThreads()
        try:
            cv2.setNumThreads(3)
            assert np.array_equal(clusters_of(points, 20, seed=1), first)
        finally:
            cv2.setNumThreads(threads)
        assert not np.array_equal(clusters_of(points, 20, seed=2), first)

    def test_a_clip_has_the_labels_of_all_its_fragments(self) -> None:
        corners = 10 * np.eye(3, dtype=np.float32)
        labels = pseudo_labels(
            [corners[[0, 1]], corners[[1, 2, 1]], corners[[2]], corners[:0]],
            clusters=3,
            least_per_cluster=1,
            normalize=False,
            seed=0,
        )
        assert labels.sum(axis=1).tolist() == [2, 2, 1, 0]
        (shared,) = np.flatnonzero(labels[0] & labels[1])  # corner 1
        assert not labels[2, shared]
        assert (labels[1] & labels[2]).sum() == 1  # corner 2

    def test_few_fragments_make_few_clusters(self) -> None:
        points = [np.eye(4, dtype=np.float32)] * 5  # 20 fragments
        for least, made in ((5, 4), (10, 2), (21, 1)):
            labels = pseudo_labels(points, clusters=500, least_per_cluster=least, normalize=False, seed=0)
            assert labels.shape == (5, 500)
            assert labels.any(axis=0).sum() == made
            assert not labels[:, made:].any()
        assert not pseudo_labels([points[0][:0]], clusters=3, least_per_cluster=1, normalize=False, seed=0).any()

    def test_normalised_it_is_directions_that_are_alike(self) -> None:
        near, far = np.array([[1.0, 0], [0, 1]], np.float32), np.array([[50.0, 0], [0, 50]], np.float32)
        plain = pseudo_labels([near, far], clusters=2, least_per_cluster=1, normalize=False, seed=0)
        normalised = pseudo_labels([near, far], clusters=2, least_per_cluster=1, normalize=True, seed=0)
        assert not plain[0].all()
        assert normalised.all()


class TestMining:
    def test_sub_actions_that_classes_share_are_found(self) -> None:
        made, network = clips(), seeing(replace(QUICK, dropout=0.9))
        labels = mine(network, [c.features for c in made], QUICK, iteration=100, rng=np.random.default_rng(0))
        assert labels is not None
        parts = np.zeros((len(made), SUB_ACTIONS), bool)
        for row, kind in enumerate(made):
            parts[row, list(list(CLASSES.values())[kind.classes[0]])] = True
        # one to one: every column of the truth is a column of what was mined, whatever its number
        assert sorted(map(tuple, labels.T.tolist())) == sorted(map(tuple, parts.T.tolist()))

    def test_it_is_due_when_a_part_begins_and_leaves_all_as_it_is_before(self) -> None:
        network, rng = seeing(), np.random.default_rng(0)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        assert QUICK.minings == (100, 200, 300)
        for iteration in (0, 1, 99, 101, 399):
            assert mine(network, [], QUICK, iteration=iteration, rng=rng) is None
        assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def test_the_projection_goes_on_and_what_was_made_of_clusters_begins_anew(self) -> None:
        made, network = clips(), seeing()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        mine(network, [c.features for c in made], QUICK, iteration=100, rng=np.random.default_rng(0))
        after = network.state_dict()
        changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert changed == {"cluster_classifier.weight", "transfer.weight", "mined"}
        assert network.training
        learning = {id(weight) for weight in network.learning()}
        assert learning.isdisjoint(map(id, network.classifier.parameters()))
        assert {
            id(weight) for group in steps(network, QUICK)[0].optimizer.param_groups for weight in group["params"]
        } == learning

    def test_without_a_cluster_in_two_clips_there_is_nothing_to_learn(self) -> None:
        alone = replace(QUICK, clusters=4, least_per_cluster=1)
        features = [np.float32([[1, 0, 0, 0, 0, 0, 0, 0]]), np.float32([[0, 9, 0, 0, 0, 0, 0, 0]])]
        with pytest.raises(HeadError, match=r"2 ActionBytes in 2 videos.*fewer clusters"):
            mine(seeing(alone), features, alone, iteration=100, rng=np.random.default_rng(0))

    def test_the_baseline_and_weak_supervision_mine_nothing_and_hold_nothing_for_it(self) -> None:
        for config in (replace(QUICK, rounds=0), replace(QUICK, regime="weak")):
            assert config.minings == ()
            names = {name.split(".")[0] for name in seeing(config).state_dict()}
            assert names == {"projection", "classifier", "mined"}


def batch_of(made: list[TrainingVideo], pseudo: Any = None) -> Batch:
    batch = make_batch(made, num_classes=len(CLASSES), rng=np.random.default_rng(0))
    if pseudo is None:
        return batch
    return replace(batch, labels=torch.cat([batch.labels, torch.as_tensor(pseudo, dtype=torch.float32)], dim=1))


class TestLosses:
    def test_the_first_part_is_w_talc_on_the_classes(self) -> None:
        network, batch = seeing().requires_grad_(False), batch_of(clips(10))
        outputs = network(batch.features, batch.lengths)
        losses = loss(outputs, batch, config=QUICK)
        expected = wtalc.loss(wtalc.Outputs(outputs.latent, outputs.logits), batch, config=wtalc.WTALCConfig())
        assert float(losses["mil"]) == pytest.approx(float(expected["mil"]))
        assert float(losses["co_activity"]) == pytest.approx(float(expected["co_activity"]))
        assert float(losses["cluster_mil"]) == float(losses["cluster_co_activity"]) == 0

    def test_after_mining_it_is_w_talc_on_the_clusters_and_the_k_max_loss_on_the_classes(self) -> None:
        network = seeing().requires_grad_(False)
        network.begin_round()
        pseudo = np.random.default_rng(0).integers(0, 2, (10, SUB_ACTIONS))
        batch = batch_of(clips(10), pseudo)
        outputs = network(batch.features, batch.lengths)
        losses = loss(outputs, batch, config=QUICK)
        of_clusters = replace(batch, labels=torch.as_tensor(pseudo, dtype=torch.float32))
        expected = wtalc.loss(wtalc.Outputs(outputs.latent, outputs.cluster_logits), of_clusters, config=wtalc.WTALCConfig())
        assert float(losses["cluster_mil"]) == pytest.approx(float(expected["mil"]))
        assert float(losses["cluster_co_activity"]) == pytest.approx(float(expected["co_activity"]))
        of_classes = wtalc.k_max_mil_loss(outputs.logits, batch.lengths, batch.labels[:, : len(CLASSES)])
        assert float(losses["mil"]) == pytest.approx(float(of_classes))
        assert float(losses["co_activity"]) == 0

    @pytest.mark.parametrize("through", [False, True])
    def test_the_classes_teach_what_lies_below_only_if_asked_to(self, through: bool) -> None:
        config = replace(QUICK, transfer_gradient=through)
        network = seeing(config)
        network.begin_round()
        batch = batch_of(clips(10), np.ones((10, SUB_ACTIONS)))
        loss(network(batch.features, batch.lengths), batch, config=config)["mil"].backward()
        assert network.transfer is not None
        assert network.cluster_classifier is not None
        assert network.transfer.weight.grad is not None
        assert network.transfer.weight.grad.abs().sum() > 0
        below = (network.projection.weight.grad, network.cluster_classifier.weight.grad)
        assert all((grad is not None and bool(grad.abs().sum() > 0)) == through for grad in below)

    def test_the_transfer_layer_by_hand(self) -> None:
        config = replace(QUICK, clusters=2)
        network = HEAD.new_network(2, 3, config=config, seed=0)
        assert isinstance(network, ActionBytesNetwork)
        layers = (network.projection, network.cluster_classifier, network.transfer)
        weights = ([[1, 0], [0, -1]], [[1, 2], [3, 4]], [[1, 0], [0, 1], [1, -1]])
        with torch.no_grad():
            for layer, weight in zip(layers, weights, strict=True):
                assert layer is not None
                layer.weight.copy_(torch.tensor(weight, dtype=torch.float32))
                layer.bias.fill_(0.5)
            network.mined.fill_(1)
            outputs = network.eval()(torch.tensor([[[2.0, 3.0]]]), torch.tensor([1]))
        assert outputs.latent[0, 0].tolist() == [2.5, 0.0]  # ReLU(2 + 0.5), ReLU(-3 + 0.5)
        assert outputs.cluster_logits[0, 0].tolist() == [3.0, 8.0]  # 2.5 + 0.5, 7.5 + 0.5
        assert outputs.logits[0, 0].tolist() == [3.5, 8.5, -4.5]  # 3 + 0.5, 8 + 0.5, 3 - 8 + 0.5


def taught(config: ActionBytesHeadConfig) -> tuple[ActionBytesNetwork, list[np.ndarray]]:
    """A network after its whole training, and what was mined on the way; as ``pipeline/training.py`` goes about it."""
    made, rng = clips(), np.random.default_rng(0)
    network = HEAD.new_network(DIM, len(CLASSES), config=config, seed=0)
    assert isinstance(network, ActionBytesNetwork)
    torch.manual_seed(0)
    learnt = np.eye(len(CLASSES))[[c.classes[0] for c in made]]
    pseudo, mined, updates = None, [], steps(network, config)
    for iteration in range(config.iterations):
        labels = mine(network, [c.features for c in made], config, iteration=iteration, rng=rng)
        if labels is not None:
            mined.append(labels)
            learnt, pseudo, updates = labels, labels, steps(network, config)
        chosen = HEAD.sample(learnt, config, rng=rng)
        batch = batch_of([made[index] for index in chosen], None if pseudo is None else pseudo[chosen])
        update(HEAD, network, updates, batch, config=config)
    return network.eval(), mined


def test_from_trimmed_clips_it_learns_to_localize_in_untrimmed_video() -> None:
    """The clips hold no background; in the video, "run" (11..22) and "throw" (32..47) lie between what none was made of."""
    network, mined = taught(QUICK)
    assert len(mined) == 3
    parts = [5, 6, 0, 1, 7, 5, 2, 3, 4, 6]
    lengths = [6, 5, 5, 6, 4, 6, 5, 6, 4, 7]
    video = np.repeat(np.eye(DIM, dtype=np.float32)[parts], lengths, axis=0)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(video)[None], torch.tensor([len(video)]))
    # of three classes that share what they are made of, one is always less confident than their mean
    found = decode(Outputs(*(value.numpy() for value in outputs)), replace(QUICK, first_stage=False))
    best = [tuple(found.segments[found.classes == label][0]) for label in range(3)]
    assert best[0] == (16, 22)  # of "run", what is its alone; its first part is one of "jump", too
    assert best[1] in ((11, 16), (32, 37))  # the two parts of "jump", which are apart here
    assert 32 <= best[2][0] < best[2][1] <= 47  # "throw", and nothing of what is around it


class TestDecoding:
    LATENT = np.repeat(np.eye(3), [10, 6, 14], axis=0)  # changes at 10 and 16

    def cas(self, *columns: dict[range, float]) -> np.ndarray:
        activation = np.full((30, len(columns)), -1.0)
        for column, values in enumerate(columns):
            for where, value in values.items():
                activation[where.start : where.stop, column] = value
        return activation

    def test_two_thresholds_by_hand(self) -> None:
        config = ActionBytesHeadConfig(proposals=False, score="max", confidence_weight=0.7)
        cas = self.cas({range(10, 16): 3.0, range(20, 22): 2.0, range(25, 28): 0.5}, {range(0, 3): 1.0})
        found = decode(outputs_of(self.LATENT, cas), config)
        # confidences, k = 4: 3 and (3 * 1 - 1) / 4 = 0.5, mean 1.75; the threshold over time is (3 - 1) / 2 = 1
        assert found.classes.tolist() == [0, 0]
        assert found.segments.tolist() == [[10, 16], [20, 22]]
        assert found.scores.tolist() == pytest.approx([3 + 0.7 * 3, 2 + 0.7 * 3])
        everything = decode(outputs_of(self.LATENT, cas), replace(config, first_stage=False))
        assert everything.segments[everything.classes == 1].tolist() == [[0, 3]]

    def test_proposals_find_what_thresholds_do_not(self) -> None:
        # a dip in the middle splits the action for the threshold; L says that it is one
        cas = self.cas({range(10, 12): 3.0, range(12, 14): 0.9, range(14, 16): 3.0})
        without = decode(outputs_of(self.LATENT, cas), ActionBytesHeadConfig(proposals=False))
        assert sorted(without.segments.tolist()) == [[10, 12], [14, 16]]
        found = decode(
            outputs_of(self.LATENT, cas), ActionBytesHeadConfig(score="mean", nms_tiou=1.0, proposal_percentiles=(90,))
        )
        assert [10, 16] in found.segments.tolist()
        # the means of its jittered ones are above the threshold, too; those of ActionBytes that hold more are not
        assert {tuple(found.segments[n]) for n in range(len(found.scores))} == {
            (10, 12),
            (14, 16),
            (10, 16),
            (9, 16),
            (10, 17),
            (9, 17),
        }

    def test_the_better_of_two_that_overlap_stays(self) -> None:
        cas = self.cas({range(10, 12): 3.0, range(12, 14): 0.9, range(14, 16): 3.0})
        config = ActionBytesHeadConfig(score="contrast", margin_fraction=1.0, nms_tiou=0.0, proposal_percentiles=(90,))
        found = decode(outputs_of(self.LATENT, cas), config)
        assert found.segments[0].tolist() == [10, 16]  # contrast 2.3 + 1; of [10, 12]: 3 - (2 * -1 + 2 * 0.9) / 4
        assert len(found.scores) == 1

    def test_fixed_fragments_and_several_percentiles_are_pooled(self) -> None:
        dice = np.random.default_rng(0)
        latent, cas = dice.uniform(size=(30, 4)), self.cas({range(0, 30): 1.0, range(0, 1): -1.0})
        lone = ActionBytesHeadConfig(score="mean", nms_tiou=1.0, jitter=0, merge=(1,), include_ends=False)

        def found(**changes: Any) -> set[tuple[float, ...]]:
            segments = decode(outputs_of(latent, cas), replace(lone, **changes)).segments
            return {tuple(segment) for segment in segments.tolist()}

        thresholds = found(proposals=False)
        fixed = found(fragments="fixed")
        assert fixed - thresholds == {(n, n + 2) for n in range(2, 30, 2)}  # of 0..2 the mean is 0, and so is the threshold
        each = [found(proposal_percentiles=(p,)) for p in (50.0, 90.0)]
        assert each[0] != each[1]
        assert found(proposal_percentiles=(50.0, 90.0)) == each[0] | each[1]

    def test_proposals_of_one_snippet_video_and_of_none(self) -> None:
        for length in (0, 1):
            assert not len(decode(outputs_of(np.ones((length, 3)), np.ones((length, 2))), ActionBytesHeadConfig()).scores)


class TestOtherClasses:
    OUTPUTS = outputs_of(np.ones((2, 3)), [[1.0, 3.0], [2.0, 0.0]])
    AFFINITIES = np.array([[0.5, 1.0, 0.0], [0.25, 0.0, 0.0]])

    def test_activations_are_summed_by_affinity(self) -> None:
        carried = carry_over(self.OUTPUTS, self.AFFINITIES, ActionBytesHeadConfig())
        assert carried.activation[0].tolist() == [[0.5 * 1 + 0.25 * 3, 1.0, 0.0], [0.5 * 2, 2.0, 0.0]]
        assert carried.latent is self.OUTPUTS.latent

    def test_probabilities_may_be_what_is_localized_and_carried_over(self) -> None:
        trained = self.head("actionbytes", replace(QUICK, activation="probabilities"))
        plain = self.head("actionbytes", QUICK).outputs(self.features()).activation[0]
        expected = np.exp(plain) / np.exp(plain).sum(axis=1, keepdims=True)
        assert trained.outputs(self.features()).activation[0] == pytest.approx(expected, rel=1e-5)
        carried = trained.carried_over(["sprint"], [[0.5], [0.25], [0]]).outputs(self.features())
        assert carried.activation[0, :, 0] == pytest.approx(expected @ [0.5, 0.25, 0], rel=1e-5)

    def head(self, name: str, config: Any) -> TrainedHead:
        head = head_named(name)
        network = head.new_network(DIM, 3, config=config, seed=0).eval()
        needs = FeatureNeeds(dim=DIM, step_s=0.5)
        return TrainedHead(head=head, config=config, network=network, labels=tuple(CLASSES), needs=needs)

    def features(self) -> Features:
        data = np.random.default_rng(0).uniform(0, 1, (40, DIM)).astype(np.float32)
        return Features(data=data, grid=TimeGrid(step_s=0.5, window_s=0.5, count=40, duration_s=20.0))

    def test_a_head_for_other_labels_finds_what_stands_in_for_them(self) -> None:
        trained = self.head("actionbytes", replace(QUICK, first_stage=False))
        carried = trained.carried_over(["sprint", "nothing"], [[1, 0], [0, 0], [0, 0]])
        found = carried.localize(self.features())
        assert {detection.label for detection in found} == {"sprint"}
        as_learnt = [d for d in trained.localize(self.features()) if d.label == "run"]
        assert [(d.start_s, d.end_s, d.score) for d in found] == [(d.start_s, d.end_s, d.score) for d in as_learnt]

    def test_what_cannot_be_carried_over_or_saved_so_says_so(self, tmp_path: Any) -> None:
        trained = self.head("actionbytes", QUICK).carried_over(["sprint"], [[1], [0], [0]])
        with pytest.raises(ValueError, match="the labels that it has learnt"):
            save_head(tmp_path / "head", trained)
        with pytest.raises(HeadError, match="nothing else"):
            trained.carried_over(["dash"], [[1]])
        with pytest.raises(HeadError, match="wtalc finds what it has learnt"):
            self.head("wtalc", wtalc.WTALCConfig()).carried_over(["dash"], [[1], [0], [0]])

    def test_on_top_of_w_talc_scores_are_its_own(self) -> None:
        below = self.head("wtalc", wtalc.WTALCConfig())
        above = on_top_of(below)
        first, second = below.outputs(self.features()), above.outputs(self.features())
        assert np.array_equal(first.logits, second.logits)
        assert np.array_equal(first.embedded, second.latent)
        without = replace(above, config=replace(above.config, proposals=False, score="max", first_stage=False))
        plain = replace(below, config=replace(below.config, class_threshold=None, min_snippets=1))
        assert without.localize(self.features()) == plain.localize(self.features())
        pooled = replace(without, config=replace(without.config, proposals=True, nms_tiou=1.0)).localize(self.features())
        assert {*pooled} > {*without.localize(self.features())}
        for wrong, config in ((above, None), (below, QUICK)):
            with pytest.raises(HeadError, match="goes on top of a W-TALC"):
                on_top_of(wrong, config=config)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"regime": "zero-shot"}, "zero-shot needs unseen"),
        ({"unseen": ("run",)}, "nothing else takes it"),
        ({"unseen_affinity": 0.5}, "belongs to unseen"),
        ({"clusters": 0}, "clusters must be at least 1"),
        ({"rounds": -1}, "rounds must be at least 0"),
        ({"merge": (0,)}, "merge from 1 on"),
        ({"proposal_percentiles": (101.0,)}, "percentiles must lie in 0..100"),
        ({"nms_tiou": 2.0}, "nms_tiou must lie in 0..1"),
        ({"pairs": 6}, "room for 6 pairs"),
    ],
)
def test_what_cannot_be_configured_is_a_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ActionBytesHeadConfig(**changes)
