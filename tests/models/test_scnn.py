"""S-CNN: windows by construction, the rules of 3.2 against plain loops, losses against their equations, and what it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")

from tal_run.extractors.starter_network import StarterConfig, StarterNetwork  # noqa: E402
from tal_run.models.head import Batch, TrainingVideo, make_batch, to_arrays  # noqa: E402
from tal_run.models.postprocess import tiou  # noqa: E402
from tal_run.models.scnn import (  # noqa: E402
    AUTHORS_CODE,
    HEAD,
    UNUSED,
    LabelledVideo,
    assign,
    augment,
    decode,
    length_prior,
    loss,
    overlap_loss,
    predict,
    sample,
    stage_loss,
    steps,
    training_set,
)
from tal_run.models.scnn_network import (  # noqa: E402
    C3DTrunk,
    Scnn,
    ScnnConfig,
    ScnnOutput,
    SegmentNetwork,
    SequenceTrunk,
    StarterTrunk,
    sampled_steps,
    scnn_on_features,
    windows,
)

Array = NDArray[np.float64]

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES = ScnnConfig(step_frames=1)
SMALL = ScnnConfig(window_frames=(4, 8, 16), step_frames=1, segment_steps=8)


# ---- 3.1 ----


def test_windows_are_of_the_six_lengths_and_three_quarters_of_each_are_the_next_ones_too() -> None:
    found = windows(600, config=FRAMES)
    lengths = found[:, 1] - found[:, 0]
    assert sorted(set(lengths.tolist())) == [16, 32, 64, 128, 256, 512]
    for length in (16, 32, 64, 128, 256, 512):
        starts = found[lengths == length, 0]
        assert starts[0] == 0
        assert (np.diff(starts) == length // 4).all()
        assert 600 - length // 4 < starts[-1] + length <= 600  # as many as fit, and none that does not


def test_windows_in_rows_of_features_are_the_same_stretches_of_video() -> None:
    assert ScnnConfig().window_lengths == (1, 2, 4, 8, 16, 32)
    assert ScnnConfig(window_frames=(16, 20, 64)).window_lengths == (1, 4)


@pytest.mark.parametrize(("steps_there", "expected"), [(0, []), (3, [[0, 3]]), (4, [[0, 4]]), (5, [[0, 4], [1, 5]])])
def test_a_video_shorter_than_all_windows_is_one(steps_there: int, expected: list[list[int]]) -> None:
    assert windows(steps_there, config=SMALL).tolist() == expected


@given(st.integers(0, 100), st.integers(1, 600), st.integers(1, 16))
def test_sampled_steps_are_evenly_spread_within_the_segment(start: int, length: int, count: int) -> None:
    (found,) = sampled_steps([[start, start + length]], count=count)
    assert found.tolist() == [start + math.floor(i * length / count) for i in range(count)]
    assert found[0] == start
    assert found[-1] < start + length


def test_frames_are_taken_at_one_stride_from_windows_of_the_papers_lengths() -> None:
    for length in (16, 32, 64, 128, 256, 512):
        assert set(np.diff(sampled_steps([[7, 7 + length]], count=16)[0]).tolist()) == {length // 16}


def test_the_trunk_is_an_argument() -> None:
    clips = torch.randint(0, 256, (2, 16, 24, 32, 3), dtype=torch.uint8)
    starter = StarterTrunk(StarterNetwork(StarterConfig(classes=3, widths=(8, 8, 8), depths=(1, 1, 1))))
    assert SegmentNetwork(starter, outputs=5)(clips).shape == (2, 5)
    rows = SequenceTrunk(6, steps=7, width=4)
    assert SegmentNetwork(rows, outputs=2)(rows.embed(torch.rand(3, 7, 6))).shape == (3, 2)


def test_an_untrained_trunk_passes_on_what_it_sees_in_full() -> None:
    """Else a new fc8, whose weights begin at 0.01, gets next to no signal, and the trunk next to no gradient, for hundreds of
    iterations: with PyTorch's own weights the vectors are a fiftieth of the rows."""
    torch.manual_seed(0)
    rows = torch.randn(64, 8, 100).relu()
    trunk = SequenceTrunk(100, steps=8, width=32)
    vectors = trunk(trunk.embed(rows))
    assert 0.3 < (vectors.detach().square().mean() / rows.square().mean()).item() < 6
    vectors.sum().backward()
    first, last = (layer.weight.grad for layer in (trunk.row, trunk.dense))
    assert first is not None
    assert last is not None
    assert 0.2 < (first.square().mean().sqrt() / last.square().mean().sqrt()).item() < 5


def test_c3d_sees_the_centre_of_the_frames_less_the_mean_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Stub(torch.nn.Module):
        def features(self, clips: Any, *, layer: str) -> Any:
            seen.append((clips, layer))
            return torch.zeros(len(clips), 4096)

    trunk = C3DTrunk(Stub(), mean_clip=torch.full((16, 112, 112, 3), 2.0))  # type: ignore[arg-type]
    frames = torch.randint(0, 256, (1, 16, 128, 171, 3), dtype=torch.uint8)
    assert SegmentNetwork(trunk, outputs=21)(frames).shape == (1, 21)
    (clips, layer) = seen[0]
    assert layer == "fc7"
    assert torch.equal(clips, frames[:, :, 8:120, 29:141].flip(4).permute(0, 4, 1, 2, 3).float() - 2)


def test_augmentation_cuts_and_mirrors() -> None:
    frames = torch.arange(171).expand(1, 2, 128, 171)[..., None].repeat(1, 1, 1, 1, 3)
    generator = torch.Generator().manual_seed(0)
    firsts = set()
    for _ in range(20):
        cut = augment(frames, generator=generator)
        assert cut.shape == (1, 2, 112, 112, 3)
        steps_seen = set(cut[0, 0, 0, :, 0].diff().tolist())
        assert steps_seen in ({1}, {-1})
        firsts.add(steps_seen.pop())
    assert firsts == {1, -1}
    many = augment(frames.expand(30, -1, -1, -1, -1), generator=generator)  # each by itself, its frames alike
    assert torch.equal(many[:, 0], many[:, 1])
    assert len({tuple(clip[0, 0, :2, 0].tolist()) for clip in many}) > 10


# ---- 3.2 training sets ----


def slow_assign(candidates: Array, instances: Array, kinds: list[int]) -> tuple[list[int], list[float]]:
    """The paper's three sentences, one after the other."""
    labels, overlaps = [], []
    iou = tiou(candidates, instances)
    for row in iou:
        if max(row) > 0.7:
            labels.append(kinds[int(np.argmax(row))])
            overlaps.append(max(row))
        else:
            labels.append(0 if max(row) < 0.3 else UNUSED)
            overlaps.append(1.0)
    for m in range(len(instances)):
        if max(iou[:, m]) <= 0.7:
            best = int(np.argmax(iou[:, m]))
            already = labels[best] > 0 and overlaps[best] >= iou[best, m]
            if iou[best, m] > 0.5 and not max(iou[best]) > 0.7 and not already:
                labels[best], overlaps[best] = kinds[m], iou[best, m]
    return labels, overlaps


@st.composite
def annotated(draw: st.DrawFn) -> tuple[int, Array, list[int]]:
    length = draw(st.integers(1, 60))
    spans = draw(st.lists(st.tuples(st.integers(0, 55), st.integers(1, 30)), max_size=4))
    instances = np.array([[start, start + span] for start, span in spans], np.float64).reshape(-1, 2)
    return length, instances, [draw(st.integers(1, 3)) for _ in spans]


@given(annotated())
def test_labels_are_those_of_the_rules_in_plain_loops(video: tuple[int, Array, list[int]]) -> None:
    length, instances, kinds = video
    candidates = windows(length, config=SMALL)
    labels, overlaps = assign(candidates, instances, kinds, config=SMALL)
    if not kinds:
        assert (labels == 0).all()
        return
    expected = slow_assign(candidates.astype(np.float64), instances, kinds)
    assert labels.tolist() == expected[0]
    assert overlaps.tolist() == pytest.approx(expected[1])


def test_the_three_rules_on_one_video() -> None:
    candidates = [[0, 10], [1, 11], [4, 14], [20, 30], [50, 60]]
    instances = [[0, 10], [22, 38]]  # overlaps: 1, 9/11, 6/14, 8/18 = 0.44, 0
    labels, overlaps = assign(candidates, instances, [3, 1], config=FRAMES)
    assert labels.tolist() == [3, 3, UNUSED, UNUSED, 0]
    assert overlaps.tolist() == pytest.approx([1, 9 / 11, 1, 1, 1])
    instances[1] = [22, 34]  # 8/14 = 0.57: no segment overlaps it by more than 0.7, so its best one is taken
    labels, overlaps = assign(candidates, instances, [3, 1], config=FRAMES)
    assert labels.tolist() == [3, 3, UNUSED, 1, 0]
    assert overlaps[3] == pytest.approx(8 / 14)


def test_exactly_on_a_threshold_is_neither_action_nor_background() -> None:
    labels, _ = assign([[0, 7], [0, 3]], [[0, 10]], [1], config=replace(FRAMES, rescue_iou=0.7))
    assert labels.tolist() == [UNUSED, UNUSED]


def videos_of_three_kinds() -> list[LabelledVideo]:
    return [
        LabelledVideo(step_count=60, instances=[[8, 16], [30, 46]], labels=[1, 2]),
        LabelledVideo(step_count=33, instances=[], labels=[2], trimmed=True),
        LabelledVideo(step_count=200, instances=[], labels=[]),
    ]


@pytest.mark.parametrize("stage", ["proposal", "classification", "localization"])
def test_the_sets_hold_all_actions_and_balance_the_background(stage: Any) -> None:
    found = training_set(videos_of_three_kinds(), stage=stage, num_classes=2, config=SMALL, rng=np.random.default_rng(0))
    actions, background = int((found.labels > 0).sum()), int((found.labels == 0).sum())
    assert background == round(actions / (1 if stage == "proposal" else 2))
    assert set(found.labels.tolist()) == ({0, 1} if stage == "proposal" else {0, 1, 2})
    trimmed = found.videos == 1
    assert found.segments[trimmed].tolist() == [[0, 33]]
    assert found.overlaps[trimmed | (found.labels == 0)].tolist() == [1.0] * (background + 1)
    in_first = found.videos == 0
    exact = (found.segments[in_first] == [8, 16]).all(axis=1) & (found.labels[in_first] > 0)
    assert found.overlaps[in_first][exact].tolist() == [1.0]
    assert (found.overlaps > 0.5).all()


def test_the_background_is_drawn_from_all_videos_and_differs_from_draw_to_draw() -> None:
    def drawn(seed: int) -> list[tuple[int, ...]]:
        found = training_set(
            videos_of_three_kinds(), stage="proposal", num_classes=2, config=SMALL, rng=np.random.default_rng(seed)
        )
        chosen = found.labels == 0
        return [(int(v), *s) for v, s in zip(found.videos[chosen], found.segments[chosen].tolist(), strict=True)]

    draws = [drawn(seed) for seed in range(8)]
    assert len(set(map(tuple, draws))) > 1
    assert {entry[0] for draw in draws for entry in draw} == {0, 2}
    assert all(len(set(draw)) == len(draw) for draw in draws)


# ---- 3.2 losses ----


@given(st.integers(0, 10_000), st.sampled_from([0.25, 0.5, 1.0]))
def test_the_overlap_loss_is_equation_3_in_plain_loops(seed: int, alpha: float) -> None:
    dice = np.random.default_rng(seed)
    count, classes = int(dice.integers(1, 9)), int(dice.integers(1, 6))
    logits, labels = dice.normal(0, 3, (count, classes + 1)), dice.integers(0, classes + 1, count)
    overlaps = dice.uniform(0.05, 1, count)
    total = 0.0
    for o, k, v in zip(logits, labels, overlaps, strict=True):
        p = math.exp(o[k]) / sum(math.exp(x) for x in o)
        total += 0.5 * (p**2 / v**alpha - 1) * (k > 0)
    found = overlap_loss(torch.tensor(logits), torch.tensor(labels), torch.tensor(overlaps), alpha=alpha)
    assert found.shape == ()
    assert float(found) == pytest.approx(total / count, abs=1e-9)


def loss_at(probability: float, overlap: float, config: ScnnConfig) -> float:
    """Eq. 1 of one action whose true class has that probability, among three classes."""
    rest = math.log((1 - probability) / 2)
    logits = torch.tensor([[rest, math.log(probability), rest]], dtype=torch.float64)
    return float(stage_loss(logits, torch.tensor([1]), torch.tensor([overlap]), stage="localization", config=config))


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("overlap", [0.2, 0.55, 0.7, 0.95])
def test_the_localization_loss_is_least_where_the_paper_says(alpha: float, overlap: float) -> None:
    """ "L reaches the minimum at P = sqrt(v^alpha)"."""
    config = ScnnConfig(alpha=alpha)
    target = math.sqrt(overlap**alpha)
    grid = np.linspace(0.01, 0.999, 2000)
    values = [loss_at(p, overlap, config) for p in grid]
    assert grid[int(np.argmin(values))] == pytest.approx(target, abs=1e-3)
    assert loss_at(target, overlap, config) < min(
        loss_at(target - 0.01, overlap, config), loss_at(target + 0.004, overlap, config)
    )


def test_it_rises_as_the_overlap_falls_and_ends_at_zero_for_a_perfect_segment() -> None:
    """ "L is designed to increase as v decreases"; at v = 1 it "gradually decreases" - to 0, by the equations."""
    config = ScnnConfig()
    assert loss_at(0.9, 0.5, config) > loss_at(0.9, 0.75, config) > loss_at(0.9, 1.0, config)
    falling = [loss_at(p, 1.0, config) for p in (0.1, 0.5, 0.9, 0.999999)]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(0.0, abs=1e-4)


def test_the_background_feels_only_the_softmax_loss() -> None:
    logits, labels = torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)
    for overlaps in (torch.ones(4), torch.tensor([0.0, 0.1, 0.5, 1.0])):
        assert float(overlap_loss(logits, labels, overlaps)) == 0
    by_stage = [float(stage_loss(logits, labels, torch.ones(4), stage=s, config=FRAMES)) for s in ("proposal", "localization")]
    assert by_stage[0] == pytest.approx(by_stage[1])


@given(st.integers(0, 10_000), st.sampled_from([0.25, 1.0]), st.sampled_from([0.0, 1.0, 2.5]))
@settings(max_examples=30)
def test_gradients_are_equations_4_to_6_and_the_finite_differences(seed: int, alpha: float, weight: float) -> None:
    dice = np.random.default_rng(seed)
    count, classes = int(dice.integers(1, 6)), int(dice.integers(1, 5))
    config = ScnnConfig(alpha=alpha, overlap_weight=weight)
    logits = torch.tensor(dice.normal(0, 2, (count, classes + 1)), requires_grad=True)
    labels, overlaps = torch.tensor(dice.integers(0, classes + 1, count)), torch.tensor(dice.uniform(0.3, 1, count))

    def value(at: Any) -> Any:
        return stage_loss(at, labels, overlaps, stage="localization", config=config)

    (gradient,) = torch.autograd.grad(value(logits), logits)
    p = logits.detach().softmax(dim=1)
    for n in range(count):
        k, v = int(labels[n]), float(overlaps[n])
        for i in range(classes + 1):
            softmax = (p[n, k] - 1) / count if i == k else p[n, i] / count  # Eq. 5
            sign = 1 - p[n, k] if i == k else -p[n, i]
            overlap = p[n, k] ** 2 / v**alpha * sign / count * (k > 0)  # Eq. 6
            assert float(gradient[n, i]) == pytest.approx(float(softmax + weight * overlap), abs=1e-9)  # Eq. 4
            nudge = torch.zeros_like(p)
            nudge[n, i] = 1e-5
            with torch.no_grad():
                slope = (value(logits + nudge) - value(logits - nudge)) / 2e-5
            assert float(gradient[n, i]) == pytest.approx(float(slope), abs=1e-6)


# ---- 3.3 ----


def test_the_prior_counts_actions_of_half_to_twice_the_windows_length() -> None:
    shares = length_prior([8, 16, 17, 40, 100], [1, 1, 1, 1, 3], window_lengths=[16, 32, 64], num_classes=3)
    # 8: 16; 16: 16 and 32; 17: the same; 40: 32 and 64; 100: 64
    assert shares.tolist() == pytest.approx(np.array([[3 / 7, 3 / 7, 1 / 7], [1 / 3, 1 / 3, 1 / 3], [0, 0, 1]]), abs=1e-12)


def outputs_of(candidates: list[list[int]], proposal: list[float], localization: list[list[float]], prior: Any) -> ScnnOutput:
    """As the network gives them, from probabilities."""
    with np.errstate(divide="ignore"):
        action = np.asarray(proposal)
        judged = np.log(np.maximum(np.stack([1 - action, action], axis=1), 1e-30))
        arrays = (np.asarray(candidates), judged, np.log(np.asarray(localization)))
    return ScnnOutput(*(array[None] for array in arrays), np.log(np.asarray(prior)))  # type: ignore[arg-type]


def test_decoding_follows_section_3_3() -> None:
    candidates = [[0, 16], [4, 20], [8, 24], [32, 64], [64, 80], [80, 96]]
    proposal = [0.9, 0.9, 0.9, 0.7 + 1e-9, 0.69, 0.9]
    localization = [
        [0.1, 0.6, 0.3],
        [0.1, 0.8, 0.1],  # overlaps the first by 12/20 and the third likewise
        [0.1, 0.2, 0.7],  # another class
        [0.2, 0.7, 0.1],
        [0.1, 0.8, 0.1],  # no proposal
        [0.5, 0.4, 0.1],  # background
    ]
    prior = [[0.25, 0.75], [0.5, 0.5]]
    config = ScnnConfig(window_frames=(16, 32), step_frames=1)
    found = decode(outputs_of(candidates, proposal, localization, prior), config)
    assert found.segments.tolist() == [[32, 64], [8, 24], [4, 20]]
    assert found.classes.tolist() == [0, 1, 0]
    assert found.scores.tolist() == pytest.approx([0.7 * 0.75, 0.7 * 0.5, 0.8 * 0.25])
    plain = decode(outputs_of(candidates, proposal, localization, prior), replace(config, use_prior=False))
    assert plain.scores.tolist() == pytest.approx([0.8, 0.7, 0.7])
    loose = decode(outputs_of(candidates, proposal, localization, prior), replace(config, evaluation_tiou=0.7))
    assert [0, 16] in loose.segments.tolist()  # theta - 0.1 is 0.6, and 12/20 is not more


def test_prediction_in_two_stages_finds_what_all_windows_at_once_find() -> None:
    torch.manual_seed(0)
    config = replace(SMALL, proposal_threshold=0.5)
    network = Scnn(3, config=config, make_trunk=lambda: SequenceTrunk(5, steps=8, width=6)).eval()
    for part in (network.proposal, network.localization):  # so that some windows are kept and some are not
        torch.nn.init.normal_(part.fc8.weight, std=3.0)
    network.set_prior(np.random.default_rng(0).dirichlet([1, 1, 1], 3))
    video = torch.randn(70, 5)
    with torch.no_grad():
        together = decode(to_arrays(network(video[None], torch.tensor([70]))), config)
    apart = predict(network, video, batch_size=7)
    assert len(apart.scores) > 0
    assert apart.segments.tolist() == together.segments.tolist()
    assert apart.classes.tolist() == together.classes.tolist()
    assert apart.scores == pytest.approx(together.scores, abs=1e-5)
    nothing = predict(network, video[:0])
    assert len(nothing.scores) == 0


# ---- on features, as every other head ----


def steps_in_features(count: int, *, seed: int) -> list[TrainingVideo]:
    """Videos in which a feature rises while an action lasts: dimension 0 for the one class, 1 for the other."""
    dice = np.random.default_rng(seed)
    videos = []
    for number in range(count):
        length, kind = int(dice.integers(4, 9)) * 2, number % 2
        start = int(dice.integers(4, 44 - length))
        features = dice.normal(0, 0.3, (48, 6)).astype(np.float32)
        features[start : start + length, kind] += 2.0
        segments = np.array([[start, start + length]], np.float64)
        videos.append(TrainingVideo(features=features, classes=(kind,), segments=segments, segment_classes=np.array([kind])))
    return videos


FAST = ScnnConfig(
    window_frames=(8, 12, 16),
    step_frames=1,
    segment_steps=8,
    width=48,
    iterations=60,
    proposal_until=1.0,
    decay_every=1000,
    new_learning_rate=0.03,
    batch_size=4,
)


def a_batch(videos: list[TrainingVideo]) -> Batch:
    return make_batch(videos, num_classes=2, rng=np.random.default_rng(0))


def test_padding_changes_nothing() -> None:
    network = HEAD.new_network(6, 2, config=FAST, seed=0).eval()
    video = torch.randn(1, 20, 6)
    padded = torch.cat([video, torch.full((1, 15, 6), 1e3)], dim=1)
    longer = torch.randn(1, 35, 6)
    alone = network(video, torch.tensor([20]))
    beside = network(torch.cat([padded, longer]), torch.tensor([20, 35]))
    count = alone.windows.shape[1]
    assert torch.equal(beside.windows[0, :count], alone.windows[0])
    assert (beside.windows[0, count:] == 0).all()
    assert torch.allclose(beside.localization[0, :count], alone.localization[0], atol=1e-5)
    assert torch.allclose(beside.proposal[0, :count], alone.proposal[0], atol=1e-5)


def test_the_weighted_background_is_what_the_draw_is_on_average() -> None:
    """N_b backgrounds of weight one, or all of them with weight N_b / their number: one loss, the draw apart."""
    videos = steps_in_features(4, seed=1)
    network = HEAD.new_network(6, 2, config=FAST, seed=3).eval()
    batch = a_batch(videos)
    with torch.no_grad():
        outputs = network(batch.features, batch.lengths)
        named = loss(outputs, batch, config=FAST)
    labels, overlaps = [], []
    for video in range(4):
        given, v = assign(
            outputs.windows[video].numpy(), videos[video].segments, videos[video].segment_classes + 1, config=FAST
        )
        labels.append(torch.from_numpy(given))
        overlaps.append(torch.from_numpy(v))
    k, v = torch.cat(labels), torch.cat(overlaps)
    logits, proposal = outputs.localization.flatten(0, 1), outputs.proposal.flatten(0, 1)
    actions, background = (k > 0).nonzero()[:, 0], (k == 0).nonzero()[:, 0]

    def mean_over_draws(judged: Any, given: Any, wanted: float) -> float:
        terms = torch.nn.functional.cross_entropy(judged, given.clamp(min=0), reduction="none")
        of_background = terms[background].mean() * wanted
        return float((terms[actions].sum() + of_background) / (len(actions) + wanted))

    assert float(named["proposal"]) == pytest.approx(mean_over_draws(proposal, k.clamp(max=1), len(actions)), rel=1e-4)
    assert float(named["classification"]) == pytest.approx(mean_over_draws(logits, k, len(actions) / 2), rel=1e-4)
    of_actions = overlap_loss(logits[actions], k[actions], v[actions]) * len(actions)
    assert float(named["overlap"]) == pytest.approx(float(of_actions) / (len(actions) * 1.5), rel=1e-4)


def test_trimmed_videos_are_actions_and_have_no_background() -> None:
    """Of one class: its long windows are actions with v = 1; of several classes: nothing is."""
    trimmed = TrainingVideo(features=np.ones((16, 6), np.float32), classes=(1,), trimmed=True)
    config = replace(FAST, window_frames=(4, 8, 16))
    network = HEAD.new_network(6, 2, config=config, seed=0).eval()
    batch = a_batch([trimmed])
    with torch.no_grad():
        outputs = network(batch.features, batch.lengths)
        named = loss(outputs, batch, config=config)
    (whole,) = np.flatnonzero((outputs.windows[0].numpy() == (0, 16)).all(axis=1))
    logits = outputs.localization[0, whole : whole + 1]
    assert float(named["classification"]) == pytest.approx(float(-logits.log_softmax(dim=1)[0, 2]), rel=1e-5)
    assert float(named["overlap"]) == pytest.approx(float(overlap_loss(logits, torch.tensor([2]), torch.ones(1))), rel=1e-5)
    batch = a_batch([replace(trimmed, classes=(0, 1))])
    assert {float(value.detach()) for value in loss(outputs, batch, config=config).values()} == {0.0}


def test_the_learnt_prior_is_the_counted_one() -> None:
    prior = torch.zeros(2, 3, requires_grad=True)
    videos = steps_in_features(12, seed=5)
    batch = a_batch(videos)
    empty = torch.zeros(12, 1, 2, dtype=torch.int64)
    optimizer = torch.optim.SGD([prior], lr=5.0)
    for _ in range(150):
        outputs = ScnnOutput(empty, torch.zeros(12, 1, 2), torch.zeros(12, 1, 3), prior)
        optimizer.zero_grad()
        loss(outputs, batch, config=FAST)["prior"].backward()
        optimizer.step()
    durations = [video.segments[0, 1] - video.segments[0, 0] for video in videos]
    counted = length_prior(
        durations, [video.classes[0] + 1 for video in videos], window_lengths=FAST.window_lengths, num_classes=2
    )
    assert prior.detach().softmax(dim=1).numpy() == pytest.approx(counted, abs=1e-3)


def test_a_batch_without_actions_has_losses_and_gradients() -> None:
    videos = [TrainingVideo(features=np.ones((20, 6), np.float32), classes=())]
    batch = a_batch(videos)
    network = HEAD.new_network(6, 2, config=FAST, seed=0)
    named = loss(network(batch.features, batch.lengths), batch, config=FAST)
    sum(named.values()).backward()
    assert all(bool(value.isfinite()) for value in named.values())
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in network.parameters())


def test_the_localization_network_is_the_classification_network_until_its_turn() -> None:
    config = replace(FAST, iterations=10, classification_share=0.4, decay_every=3, proposal_until=0.7)
    network = scnn_on_features(6, 2, config=config)
    proposal, classification, localization = steps(network, config)
    assert localization.minimizes == ("classification", "overlap")
    rates: list[tuple[float, ...]] = []
    for _ in range(10):
        rates.append(tuple(step.optimizer.param_groups[0]["lr"] for step in (proposal, classification, localization)))
        for step in (proposal, classification, localization):
            step.optimizer.step()
            step.schedule.step()
    first = config.new_learning_rate
    assert [rate[0] for rate in rates] == pytest.approx([first * 0.1 ** (i // 3) * (i < 7) for i in range(10)])
    assert [rate[1] for rate in rates] == pytest.approx([first * f for f in (1, 1, 1, 0.5, 0, 0, 0, 0, 0, 0)])
    assert [rate[2] for rate in rates] == pytest.approx([first * f for f in (0, 0, 0, 0, 1, 1, 1, 0.5, 0.5, 0.5)])


def test_who_waits_for_its_turn_remembers_nothing_of_before() -> None:
    """The localization network's solver starts afresh, as the paper's did: its first step is the plain gradient's."""
    config = replace(FAST, iterations=10, momentum=0.9, weight_decay=0.0)
    network = scnn_on_features(6, 2, config=config)
    proposal, _, localization = steps(network, config)
    weight = network.localization.fc8.weight
    for iteration in range(6):
        weight.grad = torch.full_like(weight, 100.0 if iteration < 5 else 1.0)
        before = weight.detach().clone()
        localization.optimizer.step()
        localization.schedule.step()
        expected = 0.0 if iteration < 5 else config.new_learning_rate
        assert torch.allclose(before - weight, torch.full_like(weight, expected), atol=1e-6)
    assert proposal.optimizer.param_groups[0]["lr"] > 0


def test_the_papers_lengths_can_be_had_on_features() -> None:
    """4.2: the proposal network has 30,000 iterations on both data sets; the others 30,000 each, and 20,000."""
    for whole, until, others in ((60_000, 0.5, 30_000), (40_000, 0.75, 20_000)):
        config = replace(FAST, iterations=whole, proposal_until=until, decay_every=10**6)
        learning = [0, 0, 0]
        factors = [step.schedule.lr_lambdas[0] for step in steps(scnn_on_features(6, 2, config=config), config)]  # type: ignore[attr-defined]
        for number, factor in enumerate(factors):
            learning[number] = sum(factor(iteration) > 0 for iteration in range(0, whole, 1000)) * 1000
        assert learning == [30_000, others, others]
    assert ScnnConfig().proposal_until * ScnnConfig().iterations == 30_000


def test_the_authors_localization_network_slows_down_sooner() -> None:
    config = replace(AUTHORS_CODE, iterations=40_000, step_frames=1)
    *_, classification, localization = steps(scnn_on_features(6, 2, config=config), config)
    of_one, of_other = (step.schedule.lr_lambdas[0] for step in (classification, localization))  # type: ignore[attr-defined]
    assert [of_one(iteration) for iteration in (0, 5_000, 10_000)] == [1, 1, 0.5]
    assert [of_other(20_000 + iteration) for iteration in (0, 5_000, 10_000)] == [1, 0.5, 0.25]
    plain = replace(config, localization_decay_every=None)
    assert steps(scnn_on_features(6, 2, config=plain), plain)[2].schedule.lr_lambdas[0](25_000) == 1  # type: ignore[attr-defined]


def test_trained_trunks_learn_slowly_and_new_ones_fast() -> None:
    """Biases twice as fast, and without decay."""
    network = StarterNetwork(StarterConfig(classes=3, widths=(8, 8, 8), depths=(1, 1, 1)))
    for trunk, rate in ((StarterTrunk(network), 1e-4), (StarterTrunk(), 1e-2)):
        assert HEAD.config().learning_rate == 1e-4
        scnn = Scnn(2, config=FRAMES, make_trunk=lambda trunk=trunk: trunk)  # type: ignore[misc]
        groups = steps(scnn, FRAMES)[0].optimizer.param_groups
        assert [group["lr"] for group in groups] == [rate, 2 * rate, 1e-2, 2e-2, 0.1]
        assert [group["weight_decay"] for group in groups] == [5e-4, 0, 5e-4, 0, 0]
        assert [weight is scnn.proposal.fc8.bias for weight in groups[3]["params"]] == [True]
        known = {id(weight) for group in groups for weight in group["params"]}
        assert known == {id(weight) for weight in (*scnn.proposal.parameters(), scnn.prior)}


def test_samples_are_videos_none_twice() -> None:
    drawn = sample(np.zeros((10, 2)), FAST, rng=np.random.default_rng(0))
    assert len(set(drawn.tolist())) == 4
    assert sample(np.zeros((2, 2)), FAST, rng=np.random.default_rng(0)).tolist() in ([0, 1], [1, 0])


def test_it_learns_to_localize_a_step_in_features() -> None:
    """Train on 24 videos, and find the actions of 12 others."""
    videos, dice = steps_in_features(24, seed=0), np.random.default_rng(0)
    network = HEAD.new_network(6, 2, config=FAST, seed=0)
    updates = HEAD.steps(network, FAST)
    for _ in range(FAST.iterations):
        chosen = HEAD.sample(np.zeros((24, 2)), FAST, rng=dice)
        batch = make_batch([videos[index] for index in chosen], num_classes=2, rng=dice)
        for step in updates:
            named = HEAD.loss(network(batch.features, batch.lengths), batch, config=FAST)
            step.optimizer.zero_grad()
            sum(named[name] for name in step.minimizes).backward()
            step.optimizer.step()
        for step in updates:
            step.schedule.step()
    network.eval()
    hits = 0
    for video in steps_in_features(12, seed=99):
        with torch.no_grad():
            found = decode(to_arrays(network(torch.from_numpy(video.features[None]), torch.tensor([48]))), FAST)
        if len(found.scores) and found.classes[0] == video.classes[0]:
            hits += tiou(found.segments[:1], video.segments)[0, 0] >= 0.5
    assert hits >= 10


@pytest.mark.parametrize(
    "wrong",
    [{"window_frames": (32, 16)}, {"window_overlap": 1.0}, {"negative_iou": 0.8}, {"classification_share": 1.5}],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ScnnConfig(**wrong)
