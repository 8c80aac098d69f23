"""What every head keeps, checked on all of them: one contract, whatever the method."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tal_run.extractors.features import FeatureError, FeatureNeeds, Features  # noqa: E402
from tal_run.extractors.timegrid import TimeGrid  # noqa: E402
from tal_run.models import actionbytes_network, ahernet, autoloc, scnn, wsad, wtalc  # noqa: E402
from tal_run.models.ahernet_network import AherNetConfig, AherNetOutput, anchors  # noqa: E402
from tal_run.models.head import (  # noqa: E402
    FORMAT,
    HEADS,
    Batch,
    Found,
    Head,
    HeadError,
    TrainedHead,
    TrainingVideo,
    _from_json,
    found,
    head_named,
    load_head,
    make_batch,
    needs_of,
    save_head,
    to_arrays,
    update,
)
from tal_run.models.postprocess import tiou  # noqa: E402

DIM, LABELS = 16, ("run", "jump", "throw")
CLASSES = len(LABELS)

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A head as the contract tries it.

    ``config`` is small and quick to learn; ``action`` makes outputs of a video of so many snippets with one action of a class,
    from a snippet to another, both included; ``moved`` shifts outputs in time, ``slowed`` has each snippet twice; ``reach`` is
    how far from a border the head may find it, ``context`` how much of the video around an action it looks at, ``period`` by
    how many snippets a video must move to look the same to it, ``learning`` how many iterations teach it the made videos.
    """

    config: Any
    action: Callable[[int, int, int, int], Any]
    moved: Callable[[Any, int], Any]
    slowed: Callable[[Any], Any]
    reach: float = 0.0
    context: int = 0
    period: int = 1
    learning: int = 150


def cas_of(count: int, first: int, last: int, label: int, *, high: float, low: float) -> np.ndarray:
    cas = np.full((1, count, CLASSES), low, np.float32)
    cas[0, first : last + 1, label] = high
    return cas


def rolled(*names: str) -> Callable[[Any, int], Any]:
    """Shifts the named outputs [1, T, ...]."""
    return lambda outputs, shift: outputs._replace(**{name: np.roll(getattr(outputs, name), shift, axis=1) for name in names})


def doubled(*names: str) -> Callable[[Any], Any]:
    """Repeats the named outputs [1, T, ...]."""
    return lambda outputs: outputs._replace(**{name: np.repeat(getattr(outputs, name), 2, axis=1) for name in names})


def actionbytes_action(count: int, first: int, last: int, label: int) -> Any:
    cas = cas_of(count, first, last, label, high=4.0, low=-4.0)
    latent = cas[:, :, [label, label]] + 4  # changes where the action begins and ends
    return actionbytes_network.Outputs(latent, cas, cas, np.zeros((1, count, 0), np.float32), np.zeros(1, np.int64))


def autoloc_action(count: int, first: int, last: int, label: int) -> Any:
    config = CASES["autoloc"].config
    offsets = np.zeros((1, count, len(config.anchors), 2), np.float32)
    offsets[..., 1] = -0.05  # or anchors end midway between snippets
    return autoloc.Outputs(
        class_logits=np.zeros((1, config.streams, count, CLASSES), np.float32),
        attention=np.zeros((1, config.streams, count), np.float32),
        cas=cas_of(count, first, last, label, high=0.9, low=0.0),
        offsets=offsets,
    )


def scnn_action(count: int, first: int, last: int, label: int) -> Any:
    config = CASES["scnn"].config
    candidates = scnn.windows(count, config=config)
    best = tiou(candidates, [[first, last + 1]]).argmax()
    proposal, localization = np.zeros((len(candidates), 2), np.float32), np.zeros((len(candidates), CLASSES + 1), np.float32)
    proposal[best, 1] = localization[best, label + 1] = 6.0
    prior = np.zeros((CLASSES, len(config.window_lengths)), np.float32)
    return scnn.ScnnOutput(candidates[None], proposal[None], localization[None], prior)


def ahernet_action(count: int, first: int, last: int, label: int) -> Any:
    config = CASES["ahernet"].config
    default, span = anchors(config), np.array([first + last + 1, 2.0 * (last + 1 - first)]) / 2 / count
    offsets = ahernet.offsets_to(torch.tensor(default), torch.tensor(span), config=config).numpy()[None]
    classes = np.zeros((1, len(default), CLASSES), np.float32)
    classes[..., label] = 5.0
    empty = np.zeros(1)
    return AherNetOutput(np.array([count]), classes, offsets, np.zeros(offsets.shape[:3], np.float32), *([empty] * 7))


def ahernet_moved(outputs: Any, shift: int) -> Any:
    config = CASES["ahernet"].config
    offsets = outputs.offsets.copy()
    offsets[..., 0] += shift / outputs.lengths[0] / config.alpha_center / anchors(config)[..., 1]
    return outputs._replace(offsets=offsets)


CASES = {
    "actionbytes": Case(
        config=actionbytes_network.ActionBytesHeadConfig(dropout=0.1, learning_rate=1e-2, clusters=12),
        action=actionbytes_action,
        moved=rolled("latent", "activation"),
        slowed=doubled("latent", "activation"),
        context=10,
    ),
    "scnn": Case(
        config=scnn.ScnnConfig(
            window_frames=(4, 6, 8, 11),
            step_frames=1,
            segment_steps=4,
            width=32,
            new_learning_rate=0.1,
            iterations=100,
            proposal_until=1.0,
            batch_size=4,
        ),
        action=scnn_action,
        moved=lambda outputs, shift: outputs._replace(windows=outputs.windows + shift),
        slowed=lambda outputs: outputs._replace(windows=2 * outputs.windows),
        reach=2.0,
        learning=100,
    ),
    "ahernet": Case(
        config=AherNetConfig(
            length=32,
            moment_length=16,
            stem=(16, 16),
            widths=(16,) * 4,
            learning_rate=3e-3,
            foreground_iou=0.5,
            batch_size=6,
        ),
        action=ahernet_action,
        moved=ahernet_moved,
        slowed=lambda outputs: outputs._replace(lengths=2 * outputs.lengths),
        reach=1e-3,
        learning=60,
    ),
    "wtalc": Case(
        config=wtalc.WTALCConfig(dropout=0.1, learning_rate=1e-2),
        action=lambda *where: wtalc.Outputs(np.zeros((1, where[0], DIM), np.float32), cas_of(*where, high=4.0, low=-4.0)),
        moved=rolled("embedded", "logits"),
        slowed=doubled("embedded", "logits"),
    ),
    "wsad": Case(
        config=wsad.WSADConfig(dropout=0.1, learning_rate=1e-2, groups=3, block=10, k=2, metric_weight=0.1),
        action=lambda *where: wsad.Outputs(
            np.zeros((1, where[0], DIM), np.float32),
            cas_of(*where, high=4.0, low=-4.0),
            np.zeros((CLASSES, DIM), np.float32),
        ),
        moved=rolled("embedded", "logits"),
        slowed=doubled("embedded", "logits"),
        period=10,
    ),
    "autoloc": Case(
        config=autoloc.AutoLocConfig(
            classification_iterations=60, localization_iterations=10, classification_learning_rate=0.1
        ),
        action=autoloc_action,
        moved=rolled("cas", "offsets"),
        slowed=doubled("cas", "offsets"),
        reach=1.0,
        context=10,
        learning=70,
    ),
}


def videos(count: int = 24, *, seed: int = 0) -> list[TrainingVideo]:
    """Videos of noise in which something shows up for a while, in the place in the feature vector that is its class's.

    Every other one has a second action, or one class could be learnt as the absence of the others.
    """
    dice = np.random.default_rng(seed)
    made = []
    for index in range(count):
        length = int(dice.integers(26, 36))
        actions = [(index % CLASSES, int(dice.integers(2, 6)), int(dice.integers(9, 13)))]
        if index % 2:
            actions.append(((index + 1) % CLASSES, int(dice.integers(15, 18)), int(dice.integers(20, 24))))
        features = dice.normal(0, 0.1, (length, DIM)).astype(np.float32)
        for label, first, last in actions:
            features[first : last + 1, [label, label + DIM // 2]] += 1  # in both halves, as in two streams
        made.append(
            TrainingVideo(
                features=np.maximum(features, 0),
                classes=tuple(label for label, _, _ in actions),
                segments=np.array([[first, last + 1.0] for _, first, last in actions]),
                segment_classes=np.array([label for label, _, _ in actions]),
            )
        )
    return made


def labels_of(made: list[TrainingVideo]) -> np.ndarray:
    labels = np.zeros((len(made), CLASSES))
    for row, video in enumerate(made):
        labels[row, list(video.classes)] = 1
    return labels


def features_of(data: np.ndarray, *, step_s: float = 0.5, **more: Any) -> Features:
    grid = TimeGrid(step_s=step_s, window_s=step_s, count=len(data), duration_s=step_s * len(data))
    return Features(data=data.astype(np.float32), grid=grid, **more)


@pytest.fixture(params=sorted(HEADS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture
def head(name: str) -> Head[Any]:
    return head_named(name)


@pytest.fixture
def network(head: Head[Any], case: Case) -> Any:
    return head.new_network(DIM, CLASSES, config=case.config, seed=0)


def batch_for(head: Head[Any], case: Case, *, seed: int = 0) -> Batch:
    dice, made = np.random.default_rng(seed), videos()
    chosen = head.sample(labels_of(made), case.config, rng=dice)
    return make_batch([made[index] for index in chosen], num_classes=CLASSES, rng=dice)


def trained(head: Head[Any], case: Case, *, iterations: int, seed: int = 0) -> tuple[Any, list[float]]:
    """The network after so many iterations, and the sum of its losses over time."""
    dice, made = np.random.default_rng(seed), videos()
    network = head.new_network(DIM, CLASSES, config=case.config, seed=seed)
    steps = head.steps(network, case.config)
    labels, history = labels_of(made), []
    torch.manual_seed(seed)
    for _ in range(iterations):
        chosen = head.sample(labels, case.config, rng=dice)
        batch = make_batch([made[index] for index in chosen], num_classes=CLASSES, rng=dice)
        history.append(sum(update(head, network, steps, batch, config=case.config).values()))
    return network.eval(), history


def as_trained(head: Head[Any], case: Case, network: Any, **needs: Any) -> TrainedHead:
    return TrainedHead(
        head=head,
        config=case.config,
        network=network.eval(),
        labels=LABELS,
        needs=FeatureNeeds(dim=DIM, step_s=0.5, **needs),
        recipe={"data set": "made", "seed": 0},
    )


class TestNetwork:
    def test_it_is_the_head_of_its_name(self, head: Head[Any], name: str, case: Case) -> None:
        assert head.name == name
        assert isinstance(case.config, head.config)
        assert case.config.iterations > 0
        assert case.config.max_snippets is None or case.config.max_snippets > 0

    def test_the_configuration_is_frozen_and_sound_by_default(self, head: Head[Any]) -> None:
        config = head.config()
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.iterations = 3

    def test_outputs_are_always_the_same_tuple(self, network: Any, head: Head[Any], case: Case) -> None:
        batch = batch_for(head, case)
        training = network.train()(batch.features, batch.lengths)
        with torch.inference_mode():
            evaluating = network.eval()(batch.features, batch.lengths)
        assert type(training) is type(evaluating)
        assert [tensor.shape for tensor in training] == [tensor.shape for tensor in evaluating]
        assert all(tensor.isfinite().all() for tensor in (*training, *evaluating))

    def test_a_video_is_judged_alone_and_padding_does_not_matter(self, network: Any, head: Head[Any], case: Case) -> None:
        made, dice = videos(4), np.random.default_rng(0)
        network.eval()

        def seen(batch: Batch) -> Any:
            with torch.inference_mode():
                return network(batch.features, batch.lengths)

        together = make_batch(made, num_classes=CLASSES, rng=dice)
        disturbed = together.features.clone()
        for row, length in enumerate(together.lengths):
            disturbed[row, length:] = 7.0
        for batch in (together, replace(together, features=disturbed)):
            outputs = seen(batch)
            for row, video in enumerate(made):
                alone = seen(make_batch([video], num_classes=CLASSES, rng=dice))
                for field in alone._fields:
                    one, many = getattr(alone, field), getattr(outputs, field)
                    if len(many) != len(made) or one.shape[0] != 1:
                        continue  # weights, which are no video's
                    within = tuple(slice(0, size) for size in one.shape[1:])
                    assert torch.allclose(many[(row, *within)], one[0], atol=1e-5), field

    def test_the_same_seed_makes_the_same_network_and_draws_from_no_one_else(self, head: Head[Any], case: Case) -> None:
        first = head.new_network(DIM, CLASSES, config=case.config, seed=3)
        torch.manual_seed(99)
        expected = torch.rand(3)
        torch.manual_seed(99)
        second = head.new_network(DIM, CLASSES, config=case.config, seed=3)
        assert torch.equal(torch.rand(3), expected)
        other = head.new_network(DIM, CLASSES, config=case.config, seed=4)
        values = [list(network.state_dict().values()) for network in (first, second, other)]
        assert all(map(torch.equal, values[0], values[1]))
        assert not all(map(torch.equal, values[0], values[2]))


class TestLearning:
    def test_losses_are_finite_and_so_are_gradients(self, network: Any, head: Head[Any], case: Case) -> None:
        batch = batch_for(head, case)
        losses = head.loss(network.train()(batch.features, batch.lengths), batch, config=case.config)
        assert losses
        assert all(loss.shape == () and loss.isfinite() for loss in losses.values())
        assert {name for step in head.steps(network, case.config) for name in step.minimizes} <= losses.keys()
        sum(losses.values()).backward()
        gradients = {name: weight.grad for name, weight in network.named_parameters()}
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
        assert any(gradient.abs().sum() > 0 for gradient in gradients.values())

    def test_padding_is_no_part_of_the_loss(self, network: Any, head: Head[Any], case: Case) -> None:
        batch = batch_for(head, case)
        wider = torch.cat([batch.features, torch.full_like(batch.features, 5.0)], dim=1)
        network.eval()
        with torch.no_grad():
            plain = head.loss(network(batch.features, batch.lengths), batch, config=case.config)
            padded = replace(batch, features=wider)
            again = head.loss(network(wider, batch.lengths), padded, config=case.config)
        assert {n: float(v) for n, v in again.items()} == pytest.approx({n: float(v) for n, v in plain.items()}, rel=1e-4)

    def test_videos_of_one_snippet_teach_something_finite(self, network: Any, head: Head[Any], case: Case) -> None:
        dice, made = np.random.default_rng(0), videos()
        short = [
            replace(
                video, features=video.features[5:6], segments=np.array([[0.0, 1.0]]), segment_classes=video.segment_classes[:1]
            )
            for video in made
        ]
        chosen = head.sample(labels_of(made), case.config, rng=dice)
        batch = make_batch([short[index] for index in chosen], num_classes=CLASSES, rng=dice)
        losses = head.loss(network.train()(batch.features, batch.lengths), batch, config=case.config)
        assert all(loss.isfinite() for loss in losses.values())
        sum(losses.values()).backward()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in network.parameters())

    def test_videos_without_any_action_do_no_harm(self, network: Any, head: Head[Any], case: Case) -> None:
        dice, made = np.random.default_rng(0), videos()
        empty = [replace(video, classes=(), segments=np.empty((0, 2)), segment_classes=np.empty(0, int)) for video in made]
        chosen = head.sample(labels_of(made), case.config, rng=dice)
        batch = make_batch([empty[index] for index in chosen], num_classes=CLASSES, rng=dice)
        losses = head.loss(network.train()(batch.features, batch.lengths), batch, config=case.config)
        sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values())
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in network.parameters())

    @pytest.mark.parametrize("name", ["actionbytes", "autoloc", "wsad", "wtalc"])
    def test_who_learns_from_labels_alone_draws_videos_that_have_some(self, name: str) -> None:
        head, config, dice = head_named(name), CASES[name].config, np.random.default_rng(0)
        labels = np.concatenate([np.zeros((30, CLASSES)), labels_of(videos())])
        assert min(head.sample(labels, config, rng=dice).min() for _ in range(10)) >= 30
        with pytest.raises(HeadError, match="label"):
            head.sample(np.zeros((30, CLASSES)), config, rng=dice)

    def test_it_learns_and_the_same_seed_learns_the_same(self, head: Head[Any], case: Case) -> None:
        network, history = trained(head, case, iterations=60)
        assert np.mean(history[-10:]) < np.mean(history[:10])
        again, repeated = trained(head, case, iterations=60)
        assert repeated == history
        assert all(map(torch.equal, network.state_dict().values(), again.state_dict().values()))

    def test_a_batch_is_drawn_from_the_generator_alone(self, head: Head[Any], case: Case) -> None:
        labels = labels_of(videos())
        first, second = (head.sample(labels, case.config, rng=np.random.default_rng(5)) for _ in range(2))
        assert first.dtype == np.int64
        assert first.tolist() == second.tolist()
        assert ((first >= 0) & (first < len(labels))).all()


class TestDecoding:
    def test_an_action_is_found_where_it_is(self, head: Head[Any], case: Case) -> None:
        for first, last, label in ((20, 27, 0), (31, 34, 2), (5, 12, 1)):
            segments, scores, classes = head.decode(case.action(48, first, last, label), case.config)
            assert classes[0] == label
            assert np.abs(segments[0] - (first, last + 1)).max() <= case.reach
            assert np.isfinite(scores).all()

    def test_what_is_found_is_well_formed_and_best_first(self, network: Any, head: Head[Any], case: Case) -> None:
        dice = np.random.default_rng(1)
        network.eval()
        for length in (2, 3, 17, 80):
            with torch.inference_mode():
                video = torch.from_numpy(dice.uniform(0, 3, (1, length, DIM)).astype(np.float32))
                result = head.decode(to_arrays(network(video, torch.tensor([length]))), case.config)
            assert_sound(result, length)

    @given(fraction=st.floats(-1, 1))
    @pytest.mark.parametrize("name", sorted(HEADS))
    def test_moving_the_video_moves_what_is_found(self, name: str, fraction: float) -> None:
        head, case = head_named(name), CASES[name]
        shift = int(fraction * 10 / case.period) * case.period
        outputs = case.action(60, 25, 33, 1)
        here, there = head.decode(outputs, case.config), head.decode(case.moved(outputs, shift), case.config)
        near = (here.segments[:, 0] >= 15 + case.context) & (here.segments[:, 1] <= 45 - case.context) | (case.context == 0)
        assert len(here.scores) == len(there.scores)
        assert there.scores[:1] == pytest.approx(here.scores[:1])
        assert there.segments[near] == pytest.approx(here.segments[near] + shift)

    def test_an_action_that_takes_twice_as_long_is_found_twice_as_long(self, head: Head[Any], case: Case) -> None:
        outputs = case.action(48, 20, 27, 1)
        once, twice = head.decode(outputs, case.config), head.decode(case.slowed(outputs), case.config)
        assert twice.classes[0] == once.classes[0] == 1
        assert np.abs(twice.segments[0] - 2 * once.segments[0]).max() <= 2 * case.reach

    def test_the_same_features_at_twice_the_step_are_found_at_twice_the_seconds(self, head: Head[Any], case: Case) -> None:
        network, _ = trained(head, case, iterations=60)
        data = np.concatenate([video.features for video in videos(3)])
        plain = replace(as_trained(head, case, network), needs=FeatureNeeds(dim=DIM))
        once = plain.localize(features_of(data))
        twice = plain.localize(features_of(data, step_s=1.0))
        assert once
        assert [(2 * found.start_s, 2 * found.end_s, found.label, found.score) for found in once] == [
            (found.start_s, found.end_s, found.label, found.score) for found in twice
        ]

    @pytest.mark.parametrize("length", [0, 1])
    def test_there_may_be_nothing_or_next_to_nothing(self, length: int, network: Any, head: Head[Any], case: Case) -> None:
        with torch.inference_mode():
            outputs = to_arrays(network.eval()(torch.ones(1, length, DIM), torch.tensor([length])))
        result = head.decode(outputs, case.config)
        assert_sound(result, length)
        if length == 0:
            assert len(result.scores) == 0

    def test_outputs_are_left_as_they_are(self, head: Head[Any], case: Case) -> None:
        outputs = case.action(40, 10, 20, 0)
        kept = [array.copy() for array in outputs]
        head.decode(outputs, case.config)
        assert all(map(np.array_equal, outputs, kept))

    def test_it_is_all_found_in_video_like_that_it_learnt_from(self, head: Head[Any], case: Case) -> None:
        """Not how well a method works: that features, labels and times keep together on the way through it."""
        network, _ = trained(head, case, iterations=case.learning)
        hits, actions = 0, 0
        for video in videos(12, seed=7):
            found = as_trained(head, case, network).localize(features_of(video.features))
            for (start, end), label in zip(video.segments * 0.5, video.segment_classes, strict=True):
                near = [one for one in found if one.label == LABELS[label] and one.score > found[0].score - 1]
                shared = [min(end, one.end_s) - max(start, one.start_s) for one in near]
                hits += max(shared, default=0) > 0.5 * (end - start)
                actions += 1
        assert hits >= 0.75 * actions


class TestFile:
    def test_what_is_saved_is_what_is_loaded(self, head: Head[Any], case: Case, network: Any, tmp_path: Path) -> None:
        before = as_trained(head, case, network, streams=("rgb", "flow"), backbone="i3d")
        save_head(tmp_path / "head.safetensors", before)
        after = load_head(tmp_path / "head.safetensors")
        assert (after.head, after.config, after.labels, after.needs, after.recipe) == (
            before.head,
            before.config,
            before.labels,
            before.needs,
            before.recipe,
        )
        assert not after.network.training
        features = features_of(videos(1)[0].features)
        assert all(map(np.array_equal, before.outputs(features), after.outputs(features)))
        assert before.localize(features) == after.localize(features)
        save_head(tmp_path / "again.safetensors", after)
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "head.safetensors").read_bytes()

    def test_other_features_are_refused(self, head: Head[Any], case: Case, network: Any) -> None:
        trained_head = as_trained(head, case, network, streams=("rgb", "flow"))
        for wrong in (
            features_of(np.ones((9, 2 * DIM))),
            features_of(np.ones((9, DIM)), step_s=0.8),
            features_of(np.ones((9, DIM)), stream_dims=(("rgb", DIM),)),
        ):
            with pytest.raises(FeatureError, match="the head"):
                trained_head.localize(wrong)

    def test_every_cut_and_most_changes_are_noticed(self, head: Head[Any], case: Case, network: Any, tmp_path: Path) -> None:
        path = tmp_path / "head.safetensors"
        save_head(path, as_trained(head, case, network))
        whole = path.read_bytes()
        card = whole.index(FORMAT.encode())
        for damaged in (
            b"",
            whole[:7],
            whole[: len(whole) // 2],
            whole[:-1],
            whole.replace(b"tal-run head 1", b"tal-run head 9"),
            whole.replace(b"iterations", b"iteratiens"),
            whole.replace(b'\\"run\\", ', b"         "),
            whole.replace(b'\\"dim\\": 16', b'\\"dim\\": 17'),
            whole.replace(b'\\"dim\\": 16', b'\\"dim\\": -1'),
            whole[:-400] + b"\xff" * 400,
            whole[:card] + b"\0" + whole[card + 1 :],
        ):
            assert damaged != whole
            path.write_bytes(damaged)
            with pytest.raises(HeadError):
                load_head(path)


def assert_sound(result: Found, length: int) -> None:
    segments, scores, classes = result
    assert segments.dtype == scores.dtype == np.float64
    assert classes.dtype == np.int64
    assert segments.shape == (len(scores), 2)
    assert classes.shape == scores.shape
    assert ((classes >= 0) & (classes < CLASSES)).all()
    assert ((segments >= 0) & (segments <= length)).all()
    assert (segments[:, 0] < segments[:, 1]).all()
    assert (np.diff(scores) <= 0).all()


def test_every_head_is_tried() -> None:
    assert CASES.keys() == HEADS.keys()


def test_an_unknown_head_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match=r"'scmm' that learns: choose one of .*wtalc"):
        head_named("scmm")


def test_missing_and_strange_files_are_sentences(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(HeadError, match=r"there is no trained head at .*tal-run train"):
        load_head(tmp_path / "none.safetensors")
    with pytest.raises(HeadError, match="cannot be read"):
        load_head(tmp_path)
    save_file({"weight": np.ones(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(HeadError, match="no trained head of this version"):
        load_head(tmp_path / "other.safetensors")


def test_a_head_is_not_saved_without_the_width_of_its_features(tmp_path: Path) -> None:
    head, case = head_named("wtalc"), CASES["wtalc"]
    network = head.new_network(DIM, CLASSES, config=case.config, seed=0)
    with pytest.raises(ValueError, match="give needs a dim"):
        save_head(tmp_path / "head", replace(as_trained(head, case, network), needs=FeatureNeeds()))


def test_the_light_parts_leave_torch_alone() -> None:
    script = (
        "import sys, tal_run.models, tal_run.models.head, tal_run.models.actionbytes, tal_run.models.thresholds; "
        "print('torch' in sys.modules, 'safetensors' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_needs_are_those_of_the_features() -> None:
    features = features_of(np.ones((4, 6)), step_s=0.64, stream_dims=(("rgb", 3), ("flow", 3)))
    assert needs_of(features) == FeatureNeeds(dim=6, streams=("rgb", "flow"), step_s=0.64)
    assert needs_of(features_of(np.ones((4, 6)))).streams is None


class TestBatch:
    def test_it_moves_to_a_device_as_a_whole(self) -> None:
        batch = make_batch(videos(2), num_classes=CLASSES, rng=np.random.default_rng(0))
        moved = batch.to("meta")
        tensors = (moved.features, moved.lengths, moved.labels, *moved.segments, *moved.segment_classes)
        assert all(tensor.device.type == "meta" for tensor in tensors)

    def test_videos_stand_side_by_side(self) -> None:
        made = videos(5)
        batch = make_batch(made, num_classes=CLASSES, rng=np.random.default_rng(0))
        assert batch.lengths.tolist() == [len(video.features) for video in made]
        for row, video in enumerate(made):
            assert np.array_equal(batch.features[row, : len(video.features)].numpy(), video.features)
            assert not batch.features[row, len(video.features) :].any()
            assert batch.labels[row].nonzero()[:, 0].tolist() == list(video.classes)
            assert np.array_equal(batch.segments[row].numpy(), video.segments)

    @given(st.integers(1, 40), st.integers(0, 100))
    def test_what_is_cut_out_keeps_its_times(self, limit: int, seed: int) -> None:
        """The features say which snippet they are, so the segments must hold the ones they held before."""
        video = TrainingVideo(
            features=np.arange(40, dtype=np.float32)[:, None] + 1,
            classes=(1,),
            segments=np.array([[3.0, 9.0], [20.0, 31.0]]),
            segment_classes=np.array([1, 1]),
        )
        batch = make_batch([video], num_classes=2, rng=np.random.default_rng(seed), max_snippets=limit)
        inside = set()
        for start, end in batch.segments[0].int().tolist():
            assert 0 <= start < end <= limit
            inside |= set(batch.features[0, start:end, 0].int().tolist())
        kept = set(batch.features[0, :, 0].int().tolist())
        assert inside == kept & {*range(4, 10), *range(21, 32)}
        assert len(batch.segment_classes[0]) == len(batch.segments[0])

    def test_cuts_fall_everywhere(self) -> None:
        video = TrainingVideo(features=np.arange(8, dtype=np.float32)[:, None], classes=(0,))
        dice = np.random.default_rng(0)
        starts = {int(make_batch([video], num_classes=1, rng=dice, max_snippets=5).features[0, 0, 0]) for _ in range(100)}
        assert starts == {0, 1, 2, 3}


class TestFound:
    def test_classes_are_joined_best_first(self) -> None:
        result = found([[[0, 2], [5, 6]], np.empty((0, 2)), [[1, 3]]], [[0.2, 0.9], [], [0.9]], [4, 5, 6])
        assert result.segments.tolist() == [[5, 6], [1, 3], [0, 2]]
        assert result.scores.tolist() == [0.9, 0.9, 0.2]
        assert result.classes.tolist() == [4, 6, 4]

    def test_nothing_is_still_of_the_right_shape(self) -> None:
        for nothing in (found((), (), ()), found([np.empty((0, 2))], [[]], [3])):
            assert_sound(nothing, 0)
            assert len(nothing.scores) == 0


@dataclass(frozen=True, kw_only=True)
class Strange:
    """All kinds of values that configurations have."""

    number: float = 1.0
    maybe: float | None = None
    counts: tuple[int, ...] = (1, 2)
    pair: tuple[int, str] = (1, "a")
    flag: bool = False


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("number", "1"),
        ("number", True),
        ("maybe", "x"),
        ("counts", 3),
        ("counts", [1, 2.5]),
        ("pair", [1]),
        ("flag", 1),
        ("other", 1),
    ],
)
def test_values_of_another_kind_are_refused(name: str, wrong: Any) -> None:
    import json

    good = json.loads(json.dumps(dataclasses.asdict(Strange(maybe=2.0))))
    assert _from_json(Strange, good) == Strange(maybe=2.0)
    with pytest.raises((TypeError, ValueError)):
        _from_json(Strange, {**good, name: wrong})


def test_places_between_snippets_are_places_in_time() -> None:
    grid = TimeGrid(step_s=0.5, window_s=1.0, count=4, duration_s=2.4)
    ranges = np.array([[0, 0], [1, 2], [0, 3]])
    assert grid.borders_to_seconds(ranges + (0, 1)) == pytest.approx(grid.segments_to_seconds(ranges))
    assert grid.borders_to_seconds(1.5) == pytest.approx((grid.edges_s[1] + grid.edges_s[2]) / 2)
