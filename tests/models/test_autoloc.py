"""AutoLoc: the OIC loss and its gradients against Eq. 1-5, plain loops and differences; boundaries, selection, ablations."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tal_run.models import autoloc  # noqa: E402
from tal_run.models.autoloc import (  # noqa: E402
    ACTIVITYNET,
    AUTHORS_CODE,
    AUTHORS_CODE_ACTIVITYNET,
    AutoLoc,
    AutoLocConfig,
    LocalizationBranch,
    decode,
    direct_optimization,
    gated_scores,
    inflated,
    inner_loss,
    lengths_of,
    localization_loss,
    oic_loss,
    oic_selection,
    segments_of,
    select,
    soft_selection_loss,
)
from tal_run.models.head import HeadError, to_arrays  # noqa: E402
from tal_run.models.postprocess import nms  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = AutoLocConfig()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An activation [T], and inner and outer boundaries [N, 2], continuous, that are in order when rounded."""
    count = draw(st.integers(3, 40))
    dice = np.random.default_rng(draw(st.integers(0, 10_000)))
    corners = np.sort(dice.integers(0, count, (draw(st.integers(0, 6)), 4)), axis=1)
    corners = corners + dice.uniform(-0.49, 0.49, corners.shape)
    return dice.uniform(0, 1, count), corners[:, 1:3], corners[:, [0, 3]]


def nearest(value: float) -> int:
    return math.floor(value + 0.5)


def slow_parts(cas: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> tuple[float, float]:
    """A_o and A_i of Eq. 1 by their snippets."""
    inside = range(nearest(inner[0]), nearest(inner[1]) + 1)
    outside = [x for x in range(nearest(outer[0]), nearest(outer[1]) + 1) if x not in inside]
    around = sum(cas[x] for x in outside) / len(outside) if outside else 0.0
    return around, sum(cas[x] for x in inside) / len(inside)


def slow_gradients(cas: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> list[float]:
    """Eq. 2-5, by x1, x2, X1 and X2."""
    x1, x2, X1, X2 = (nearest(value) for value in (*inner, *outer))  # noqa: N806 - the paper's names
    a_o, a_i = slow_parts(cas, inner, outer)
    n_i, n_o = x2 - x1 + 1, (X2 - X1 + 1) - (x2 - x1 + 1)
    if n_o == 0:
        return [-(a_i - cas[x1]) / n_i, -(cas[x2] - a_i) / n_i, 0.0, 0.0]
    return [
        (cas[x1] - a_o) / n_o - (a_i - cas[x1]) / n_i,
        (a_o - cas[x2]) / n_o - (cas[x2] - a_i) / n_i,
        (a_o - cas[X1]) / n_o,
        (cas[X2] - a_o) / n_o,
    ]


def continuous_loss(cas: np.ndarray, x1: float, x2: float, o1: float, o2: float) -> float:
    """Eq. 1 with its integrals: snippet u is the stretch from u - 1/2 to u + 1/2, on which the activation is constant."""

    def integral(start: float, end: float) -> float:
        return sum(cas[u] * max(0.0, min(end, u + 0.5) - max(start, u - 0.5)) for u in range(len(cas)))

    inner, outer = integral(x1 - 0.5, x2 + 0.5), integral(o1 - 0.5, o2 + 0.5)
    n_i, n_o = x2 - x1 + 1, (o2 - o1 + 1) - (x2 - x1 + 1)
    return (outer - inner) / n_o - inner / n_i


class TestContrast:
    @given(cases())
    def test_the_loss_is_equation_1(self, case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        cas, inner, outer = case
        parts = [slow_parts(cas, *pair) for pair in zip(inner, outer, strict=True)]
        loss = oic_loss(*map(torch.from_numpy, case))
        assert loss.shape == (len(inner),)
        assert loss.tolist() == pytest.approx([around - inside for around, inside in parts])
        assert inner_loss(torch.from_numpy(cas), torch.from_numpy(inner)).tolist() == pytest.approx([-a for _, a in parts])

    @given(cases())
    def test_the_gradients_are_equations_2_to_5(self, case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        cas = torch.from_numpy(case[0])
        inner, outer = (torch.from_numpy(array).requires_grad_() for array in case[1:])
        weights = torch.arange(1.0, len(inner) + 1, dtype=torch.float64)
        (oic_loss(cas, inner, outer) * weights).sum().backward()
        expected = [slow_gradients(case[0], *pair) for pair in zip(case[1], case[2], strict=True)]
        assert inner.grad is not None
        assert outer.grad is not None
        found = torch.cat([inner.grad, outer.grad], dim=1) / weights[:, None]
        assert found.numpy() == pytest.approx(np.reshape(expected, (-1, 4)))

    @given(st.integers(0, 10_000))
    def test_they_are_the_differences_of_the_integral(self, seed: int) -> None:
        """Where the activation jumps at a boundary, the difference is taken into the area: Eq. 2-5 look at x1, x2, X1, X2."""
        dice = np.random.default_rng(seed)
        cas = dice.uniform(0, 1, 20)
        o1, x1, x2, o2 = np.sort(dice.choice(20, 4, replace=False)).astype(float)
        inner, outer = torch.tensor([[x1, x2]], requires_grad=True), torch.tensor([[o1, o2]], requires_grad=True)
        oic_loss(torch.from_numpy(cas), inner, outer).sum().backward()
        step, here = 1e-6, continuous_loss(cas, x1, x2, o1, o2)
        expected = [
            (continuous_loss(cas, x1 + step, x2, o1, o2) - here) / step,
            (here - continuous_loss(cas, x1, x2 - step, o1, o2)) / step,
            (continuous_loss(cas, x1, x2, o1 + step, o2) - here) / step,
            (here - continuous_loss(cas, x1, x2, o1, o2 - step)) / step,
        ]
        assert inner.grad is not None
        assert outer.grad is not None
        assert torch.cat([inner.grad, outer.grad], dim=1)[0].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-5)

    @given(cases())
    def test_inner_only_gradients_are_the_inner_halves(self, case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        cas, inner = torch.from_numpy(case[0]), torch.from_numpy(case[1]).requires_grad_()
        inner_loss(cas, inner).sum().backward()
        expected = [slow_gradients(case[0], pair, pair)[:2] for pair in case[1]]  # with an empty outer area
        assert inner.grad is not None
        assert inner.grad.numpy() == pytest.approx(np.reshape(expected, (-1, 2)))

    def test_a_plateau_pulls_boundaries_towards_its_ends(self) -> None:
        """The paper's reading of Eq. 2: below 0, x1 moves right; above 0, left."""
        cas = torch.zeros(30)
        cas[10:20] = 1.0
        inner = torch.tensor([[7.0, 17.0], [12.0, 22.0]], requires_grad=True)
        oic_loss(cas, inner, torch.tensor([[4.0, 20.0], [9.0, 25.0]])).sum().backward()
        assert inner.grad is not None
        (early_start, early_end), (late_start, late_end) = inner.grad.tolist()
        assert early_start < 0 < late_start
        assert early_end < 0 < late_end

    @given(st.floats(0.1, 10), st.floats(-3, 3))
    def test_it_does_not_see_a_constant_and_scales_with_the_activation(self, factor: float, constant: float) -> None:
        cas = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, 20))
        inner, outer = torch.tensor([[5.0, 9.0]], dtype=torch.float64), torch.tensor([[2.0, 12.0]], dtype=torch.float64)
        assert oic_loss(cas * factor + constant, inner, outer).item() == pytest.approx(
            factor * oic_loss(cas, inner, outer).item()
        )

    @pytest.mark.parametrize(
        ("inner", "outer"), [((3, 2), (1, 8)), ((3, 5), (4, 8)), ((3, 5), (1, 4)), ((3, 5), (-1, 8)), ((3, 5), (1, 10))]
    )
    def test_boundaries_out_of_order_are_refused(self, inner: tuple[int, int], outer: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="0 <= X1 <= x1 <= x2 <= X2 <= 9"):
            oic_loss(torch.zeros(10), torch.tensor([inner]).float(), torch.tensor([outer]).float())

    def test_whole_snippets_may_be_whole_numbers(self) -> None:
        cas, inner, outer = torch.rand(10), torch.tensor([[3, 5]]), torch.tensor([[1, 7]])
        assert torch.equal(oic_loss(cas, inner, outer), oic_loss(cas, inner.float(), outer.float()))

    def test_the_activation_gets_no_gradient(self) -> None:
        cas = torch.rand(10, requires_grad=True)
        assert not oic_loss(cas, torch.tensor([[3.0, 5.0]]), torch.tensor([[1.0, 7.0]])).requires_grad


class TestBoundaries:
    def test_without_regression_they_are_the_anchors(self) -> None:
        inner, outer = segments_of(torch.zeros(100, 6, 2), config=CONFIG)
        assert inner.shape == outer.shape == (100, 6, 2)
        for index, anchor in enumerate(CONFIG.anchors):
            assert inner[50, index].tolist() == [50 - anchor / 2, 50 + anchor / 2]
            margin = max(1.0, anchor / 4)
            assert outer[50, index].tolist() == [50 - anchor / 2 - margin, 50 + anchor / 2 + margin]

    @given(st.floats(-2, 2), st.floats(-1, 1), st.sampled_from(CONFIG.anchors))
    def test_regression_is_the_papers(self, t_x: float, t_w: float, anchor: int) -> None:
        offsets = torch.tensor([t_x, t_w], dtype=torch.float64).expand(401, 1, 2)
        inner, outer = segments_of(offsets, config=AutoLocConfig(anchors=(anchor,)))
        center, width = 200 + anchor * t_x, anchor * math.exp(t_w)
        assert inner[200, 0].tolist() == pytest.approx([center - width / 2, center + width / 2])
        margin = max(1.0, width / 4)
        assert outer[200, 0].tolist() == pytest.approx([center - width / 2 - margin, center + width / 2 + margin])

    @given(st.integers(1, 12), st.integers(0, 1000))
    def test_all_stay_in_the_video_and_have_an_outer_area(self, count: int, seed: int) -> None:
        offsets = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (count, 6, 2)))
        inner, outer = (part.flatten(0, 1) for part in segments_of(offsets, config=CONFIG))
        assert ((inner >= 0) & (inner <= count - 1)).all()
        assert ((outer >= -1) & (outer <= count)).all()
        beyond = torch.zeros(count + 2)
        assert oic_loss(beyond, inner + 1, outer + 1).isfinite().all()
        rounded_inner, rounded_outer = ((part + 0.5).floor() for part in (inner, outer))
        assert (rounded_outer[:, 0] < rounded_inner[:, 0]).all()
        assert (rounded_inner[:, 1] < rounded_outer[:, 1]).all()

    @given(st.floats(-0.5, 0.5), st.floats(-0.4, 0.4), st.sampled_from([2, 16, 32]), st.integers(0, 1000))
    def test_the_loss_reaches_the_regressions_through_both_boundaries(
        self, t_x: float, t_w: float, anchor: int, seed: int
    ) -> None:
        """c_x = s_x + w_a t_x, w = w_a exp(t_w); X is w alpha further out, or one snippet if that is more."""
        cas = np.random.default_rng(seed).uniform(0, 1, 201)
        offsets = torch.tensor([t_x, t_w], dtype=torch.float64).repeat(201, 1, 1).requires_grad_()
        inner, outer = segments_of(offsets, config=AutoLocConfig(anchors=(anchor,)))
        oic_loss(torch.from_numpy(cas), inner[100], outer[100]).sum().backward()
        x1, x2, o1, o2 = slow_gradients(cas, inner[100, 0].tolist(), outer[100, 0].tolist())
        width = anchor * math.exp(t_w)
        wider = 1.5 if width * 0.25 > 1 else 1.0  # of X2 - X1, as w grows by one
        assert offsets.grad is not None
        assert offsets.grad[100, 0].tolist() == pytest.approx(
            [anchor * (x1 + x2 + o1 + o2), width / 2 * ((x2 - x1) + wider * (o2 - o1))], abs=1e-9
        )

    @pytest.mark.parametrize(("sign", "gradient"), [(1, [0, 0]), (-1, [-32, 16])])
    def test_gradients_pass_where_things_are_clipped_unless_they_lead_out(self, sign: int, gradient: list[int]) -> None:
        offsets = torch.zeros(3, 1, 2, requires_grad=True)
        inner, _ = segments_of(offsets, config=AutoLocConfig(anchors=(32,)))
        (sign * inner[0, 0, 0]).backward()  # of c_x - w / 2 = -16; to descend on it leads out, on its negative in
        assert offsets.grad is not None
        assert offsets.grad[0, 0].tolist() == gradient

    def test_even_regressions_beyond_all_measure_stay_in_the_video(self) -> None:
        inner, outer = segments_of(torch.full((5, 2, 2), 1000.0), config=AutoLocConfig(anchors=(1, 2)))
        assert inner.isfinite().all()
        assert outer.isfinite().all()


def slow_selection(
    cas: np.ndarray,
    inner: np.ndarray,
    outer: np.ndarray,
    config: AutoLocConfig,
    length: tuple[float, float] | None = None,
) -> list[tuple[int, float]]:
    """The OIC layer as 4.3 tells it, snippet by snippet; with lengths, as the authors' code chooses anchors."""
    beyond, kept = np.concatenate([[0.0], cas, [0.0]]), []
    for position in range(len(cas)):
        if cas[position] < config.min_activation:
            continue
        losses = []
        for anchor in range(inner.shape[1]):
            around, inside = slow_parts(beyond, inner[position, anchor] + 1, outer[position, anchor] + 1)
            losses.append((around if config.objective == "oic" else 0.0) - inside)
        worth = [1 - loss for loss in losses]
        if length is not None:
            spans = inner[position, :, 1] - inner[position, :, 0] + 1
            worth = [w * math.exp(-(((span - length[0]) / length[1]) ** 2) / 2) for w, span in zip(worth, spans, strict=True)]
        best = max(range(len(losses)), key=worth.__getitem__)
        if losses[best] <= config.max_loss:
            kept.append((position * inner.shape[1] + best, losses[best]))
    if not kept:
        return []
    segments = inner.reshape(-1, 2)[[index for index, _ in kept]] + (0, 1)
    order = nms(segments, [1 - loss for _, loss in kept], tiou_threshold=config.nms_tiou)
    return [kept[index] for index in order]


class TestRounding:
    @given(st.integers(0, 10_000), st.sampled_from(["oic", "inner"]))
    def test_down_is_what_the_loss_says_of_the_floor(self, seed: int, objective: Any) -> None:
        """Their code: the activation is read at the snippets that boundaries lie in, and segments compete as such ranges."""
        dice = np.random.default_rng(seed)
        config = replace(CONFIG, objective=objective, max_loss=-0.1, anchors=(2, 5), rounding="down")
        cas = np.where(dice.random(25) < 0.4, 0.0, dice.uniform(0, 1, 25))
        inner, outer = segments_of(torch.from_numpy(dice.normal(0, 0.3, (25, 2, 2))), config=config)
        indices, losses = select(torch.from_numpy(cas), inner, outer, config=config)
        floored = slow_selection(cas, inner.floor().numpy(), outer.floor().numpy(), config)
        assert losses.tolist() == pytest.approx([loss for _, loss in floored])
        assert indices.tolist() == [index for index, _ in floored]

    def test_gradients_pass_through_the_floor(self) -> None:
        cas = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, 60))
        offsets = torch.full((60, 1, 2), 0.05, dtype=torch.float64).requires_grad_()
        config = AutoLocConfig(anchors=(8,), min_activation=0.0, max_loss=1.0, rounding="down")
        localization_loss(cas[:, None], offsets, [0], config=config).backward()
        assert offsets.grad is not None
        assert offsets.grad.abs().sum() > 0

    def test_a_plateau_is_reported_from_border_to_border_or_as_their_code_has_it(self) -> None:
        """Snippets 10 to 18 and 52, as OIC selection finds them, which leaves nothing to regress."""
        cas = np.zeros((60, 2))
        cas[10:19, 0] = cas[52, 1] = 0.9
        ours, theirs = (
            oic_selection(cas, config=replace(CONFIG, max_loss=-0.85, rounding=rounding, last_snippet=last))
            for rounding, last in (("nearest", True), ("down", False))
        )
        assert ours.segments.tolist() == [[10, 19], [52, 53]]
        assert theirs.segments.tolist() == [[10, 18]]  # the segment of one snippet has no length


class TestSelection:
    @given(st.integers(0, 10_000), st.sampled_from(["oic", "inner"]))
    def test_it_is_the_slow_one(self, seed: int, objective: Any) -> None:
        dice = np.random.default_rng(seed)
        config = replace(CONFIG, objective=objective, max_loss=-0.1, anchors=(2, 5))
        cas = np.where(dice.random(25) < 0.4, 0.0, dice.uniform(0, 1, 25))
        inner, outer = segments_of(torch.from_numpy(dice.normal(0, 0.3, (25, 2, 2))), config=config)
        indices, losses = select(torch.from_numpy(cas), inner, outer, config=config)
        expected = slow_selection(cas, inner.numpy(), outer.numpy(), config)
        assert losses.tolist() == pytest.approx([loss for _, loss in expected])
        assert indices.tolist() == [index for index, _ in expected]

    @given(st.integers(0, 10_000), st.floats(1, 12), st.floats(0.5, 4))
    def test_with_lengths_it_is_the_slow_one_too(self, seed: int, mean: float, spread: float) -> None:
        dice = np.random.default_rng(seed)
        config = replace(CONFIG, max_loss=-0.1, anchors=(2, 5, 9))
        cas = np.where(dice.random(25) < 0.4, 0.0, dice.uniform(0, 1, 25))
        inner, outer = segments_of(torch.from_numpy(dice.normal(0, 0.3, (25, 3, 2))), config=config)
        indices, losses = select(torch.from_numpy(cas), inner, outer, config=config, length=(mean, spread))
        expected = slow_selection(cas, inner.numpy(), outer.numpy(), config, (mean, spread))
        assert losses.tolist() == pytest.approx([loss for _, loss in expected])
        assert indices.tolist() == [index for index, _ in expected]

    def test_lengths_choose_among_anchors_and_hardly_any_spread_leaves_one_choice(self) -> None:
        """On a plateau of 8, the anchor of 8 has the least loss; a class whose actions last 4 takes that of 4."""
        cas = torch.zeros(40, 1)
        cas[10:18] = 1.0
        offsets = torch.zeros(40, 2, 2)
        plain = AutoLocConfig(anchors=(3, 7), max_loss=0.0)  # from x1 to x2 inclusive: 4 and 8 snippets

        def found(config: AutoLocConfig) -> set[int]:
            inner, outer = segments_of(offsets, config=config)
            length = config.lengths[0] if config.lengths else None
            indices, _ = select(cas[:, 0], inner, outer, config=config, length=length)
            return {int(index) % 2 for index in indices[:1]}

        assert found(plain) == found(replace(plain, lengths=((8.0, 100.0),))) == {1}
        assert found(replace(plain, lengths=((4.0, 0.5),))) == {0}
        # what the branch learns and what is decoded go by them as well
        assert localization_loss(cas, offsets, [0], config=plain) < localization_loss(
            cas, offsets, [0], config=replace(plain, lengths=((4.0, 0.5),))
        )

    def test_lengths_are_each_classs_own_or_everybodys(self) -> None:
        fitted = lengths_of([2.0, 4.0, 10.0, 10.0, 7.0], [0, 0, 1, 1, 2], num_classes=4)
        everybody = (6.6, float(np.std([2, 4, 10, 10, 7])))
        assert fitted == ((3.0, 1.0), (10.0, 0.5), pytest.approx(everybody), pytest.approx(everybody))

    def test_nothing_active_nothing_kept(self) -> None:
        inner, outer = segments_of(torch.zeros(10, 6, 2), config=CONFIG)
        indices, losses = select(torch.full((10,), 0.05), inner, outer, config=CONFIG)
        assert len(indices) == len(losses) == 0

    def test_the_loss_is_the_sum_of_what_is_kept_over_the_videos_classes(self) -> None:
        cas = torch.zeros(60, 3)
        cas[10:14, 0], cas[30:38, 0], cas[45:55, 2] = 0.9, 0.8, 0.7
        offsets = torch.zeros(60, 6, 2, requires_grad=True)
        inner, outer = segments_of(offsets, config=CONFIG)
        expected = sum(select(cas[:, k], inner, outer, config=CONFIG)[1].sum().item() for k in (0, 2))
        loss = localization_loss(cas, offsets, [0, 2], config=replace(CONFIG, average=False))
        assert expected < -1
        assert loss.item() == pytest.approx(expected)
        kept = sum(len(select(cas[:, k], inner, outer, config=CONFIG)[0]) for k in (0, 2))
        assert localization_loss(cas, offsets, [0, 2], config=CONFIG).item() == pytest.approx((expected / kept + 1) / 2)

    def test_where_nothing_is_kept_the_gradient_is_zero(self) -> None:
        offsets = torch.zeros(10, 6, 2, requires_grad=True)
        localization_loss(torch.zeros(10, 2), offsets, [0], config=CONFIG).backward()
        assert offsets.grad is not None
        assert not offsets.grad.any()

    def test_descent_brings_a_segment_to_the_plateau(self) -> None:
        """The whole chain: from regressions by boundaries to the loss, and back."""
        cas = torch.zeros(60, 1)
        cas[20:30] = 1.0
        offsets = torch.zeros(60, 1, 2, requires_grad=True)
        config = AutoLocConfig(anchors=(8,), average=False)
        descent = torch.optim.SGD([offsets], lr=0.02)
        for _ in range(300):
            descent.zero_grad()
            localization_loss(cas, offsets, [0], config=config).backward()
            descent.step()
        inner, outer = segments_of(offsets.detach(), config=config)
        indices, losses = select(cas[:, 0], inner, outer, config=config)
        assert losses[0] < -0.8  # boundaries hover about half a snippet around the ends, where rounding turns
        start, end = inner.flatten(0, 1)[indices[0]].tolist()
        assert abs(start - 20) <= 1
        assert abs(end + 1 - 30) <= 1


class TestClassification:
    def test_soft_selection_is_the_slow_one(self) -> None:
        dice = np.random.default_rng(0)
        logits, attention = dice.normal(size=(3, 2, 7, 4)), dice.normal(size=(3, 2, 7))
        lengths, labels = [7, 1, 4], np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]])
        total = 0.0
        for video, length in enumerate(lengths):
            for stream in range(2):
                weights = np.exp(attention[video, stream, :length])
                scores = np.exp(logits[video, stream, :length])
                scores /= scores.sum(axis=1, keepdims=True)
                of_video = (weights[:, None] * scores).sum(axis=0) / weights.sum()
                total -= np.log(of_video[labels[video] > 0]).mean() / 6
        found = soft_selection_loss(
            torch.from_numpy(logits), torch.from_numpy(attention), torch.tensor(lengths), torch.from_numpy(labels)
        )
        assert found.item() == pytest.approx(total)

    def test_the_gate_by_shares_takes_no_notice_of_a_constant(self) -> None:
        logits, attention = torch.randn(1, 2, 9, 3), torch.randn(1, 2, 9)
        lengths = torch.tensor([9])
        here = gated_scores(logits, attention, lengths, config=CONFIG)
        assert torch.equal(here, gated_scores(logits, attention + 16, lengths, config=CONFIG))
        shares = attention.softmax(dim=2).mean(dim=1)[0] * 9
        passes = (here[0] > 0).all(dim=1)
        assert passes.tolist() == (shares >= 0.5).tolist()
        assert torch.allclose(here[0, passes], logits.softmax(dim=3).mean(dim=1)[0, passes])

    def test_even_attention_passes_all(self) -> None:
        cas = gated_scores(torch.zeros(1, 1, 50, 4), torch.zeros(1, 1, 50), torch.tensor([50]), config=CONFIG)
        assert torch.allclose(cas, torch.tensor(0.25))

    @pytest.mark.parametrize(
        ("gate", "expected"),
        [
            ("score", [0, 0.5, 0.5, 0.5, 0]),  # means 6.5, 7.25, 7, 10, 6.5
            ("streams", [0.25, 0.25, 0.5, 0.25, 0]),  # one, one, both, one and none of the two
        ],
    )
    def test_the_papers_gate_is_by_the_mean_score_and_the_codes_by_each_streams(self, gate: Any, expected: list[float]) -> None:
        attention = torch.tensor([[[6.0, 8.0, 7.0, 0.0, 6.5], [7.0, 6.5, 7.0, 20.0, 6.5]]])
        config = replace(CONFIG, gate=gate, gate_threshold=7.0)
        cas = gated_scores(torch.zeros(1, 2, 5, 2), attention, torch.tensor([5]), config=config)
        assert cas[0, :, 0].tolist() == expected
        assert AUTHORS_CODE.gate == "streams"

    def test_streams_are_seen_apart(self) -> None:
        network = AutoLoc(6, 3, config=replace(CONFIG, streams=3)).eval()
        features = torch.rand(1, 5, 6)
        changed = features.clone()
        changed[:, :, 2:4] = 0
        one, other = (network(each, torch.tensor([5])) for each in (features, changed))
        same = [torch.equal(one.class_logits[:, s], other.class_logits[:, s]) for s in range(3)]
        assert same == [True, False, True]

    def test_features_that_are_not_so_many_streams_are_refused(self) -> None:
        with pytest.raises(HeadError, match="7 wide are not 2 streams of one width"):
            AutoLoc(7, 3, config=CONFIG)

    def test_the_activation_teaches_the_localization_branch_only(self) -> None:
        network = AutoLoc(4, 2, config=replace(CONFIG, min_activation=0.0, max_loss=1.0, nms_tiou=1.0))
        outputs = network(torch.rand(1, 12, 4), torch.tensor([12]))
        localization_loss(outputs.cas[0], outputs.offsets[0], [0], config=network.config).backward()
        assert all(weight.grad is None for weight in network.classifiers.parameters())
        assert any(weight.grad.abs().sum() > 0 for weight in network.boundaries.parameters())


class TestBranch:
    def test_training_sees_the_statistics_of_snippets_and_not_of_padding(self) -> None:
        features = torch.rand(2, 9, 4)
        torch.manual_seed(0)
        branch = LocalizationBranch(4, config=CONFIG)
        alone = branch(features[:1], torch.tensor([9]))
        padded = torch.cat([features[:1], torch.full((1, 5, 4), 9.0)], dim=1)
        assert torch.allclose(branch(padded, torch.tensor([9]))[:, :9], alone, atol=1e-6)

    def test_statistics_for_later_are_those_of_all_videos_alike(self) -> None:
        """Of the first layer, whose maps are those of the features as long as no weight has changed."""
        branch = LocalizationBranch(4, config=CONFIG).train()
        made = [scale * torch.rand(1, 30, 4) for scale in (1.0, 9.0, 3.0, 0.1)]
        for video in made:
            branch(video, torch.tensor([30]))
        maps = [branch.convolutions[0](video.mT)[0] for video in made]  # [C, T]
        norm = branch.norms[0]
        assert isinstance(norm, torch.nn.BatchNorm1d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert torch.allclose(norm.running_mean, torch.stack([m.mean(dim=1) for m in maps]).mean(dim=0), atol=1e-5)
        assert torch.allclose(norm.running_var, torch.stack([m.var(dim=1) for m in maps]).mean(dim=0), rtol=1e-4)

    def test_layers_are_the_papers_or_the_codes(self) -> None:
        paper, code = (LocalizationBranch(16, config=config) for config in (CONFIG, AUTHORS_CODE))
        assert [c.kernel_size for c in paper.convolutions] == [(3,)] * 3
        assert paper.pred.kernel_size == (3,)
        assert code.pred.kernel_size == (1,)
        assert paper.rectifier(torch.tensor(-1.0)).item() == 0
        assert code.rectifier(torch.tensor(-1.0)).item() == pytest.approx(-0.1)
        assert paper.pred.out_channels == 12
        assert paper.pred.weight.std().item() == pytest.approx(0.01, rel=0.1)
        for convolution in paper.convolutions:  # He's: what comes out is as large as what went in, after a rectifier
            assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (3 * convolution.in_channels)), rel=0.1)


class TestSteps:
    def test_the_classifier_goes_first_and_then_the_boundaries(self) -> None:
        config = AutoLocConfig(classification_iterations=3, localization_iterations=5, decay_every=2)
        classification, localization = autoloc.steps(AutoLoc(4, 2, config=config), config)
        rates = []
        for _ in range(config.iterations):
            rates.append([step.optimizer.param_groups[0]["lr"] for step in (classification, localization)])
            for step in (classification, localization):
                step.optimizer.step()
                step.schedule.step()
        assert np.array(rates)[:, 0].tolist() == [1e-3] * 3 + [0.0] * 5
        assert np.array(rates)[:, 1] == pytest.approx([0, 0, 0, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5])

    def test_presets_are_those_of_the_paper(self) -> None:
        assert CONFIG.iterations - CONFIG.classification_iterations == 200
        assert ACTIVITYNET.anchors == (16, 32, 64, 128, 256, 512)
        assert (AUTHORS_CODE.pred_kernel, AUTHORS_CODE.leak, AUTHORS_CODE.top_classes) == (1, 0.1, 2)

    @pytest.mark.parametrize(
        ("config", "rates"),
        [(ACTIVITYNET, [1e-3, 1e-3, 1e-4, 1e-5, 1e-27]), (AUTHORS_CODE_ACTIVITYNET, [1e-3, 1e-3, 1e-3, 1e-3, 1e-12])],
    )
    def test_the_rate_on_activitynet(self, config: AutoLocConfig, rates: list[float]) -> None:
        """5.2 divides by ten each 200 iterations, of 4,819; their solver each 500, of 4,706."""
        config = replace(config, classification_iterations=0)
        _, localization = autoloc.steps(AutoLoc(4, 2, config=config), config)
        (factor,) = localization.schedule.lr_lambdas
        iterations = (0, 199, 200, 400, config.iterations - 1)
        assert [1e-3 * factor(iteration) for iteration in iterations] == pytest.approx(rates, rel=1e-6)


def outputs_for(cas: np.ndarray) -> autoloc.Outputs[np.ndarray]:
    count, classes = cas.shape
    return autoloc.Outputs(
        np.zeros((1, 2, count, classes), np.float32),
        np.zeros((1, 2, count), np.float32),
        cas[None].astype(np.float32),
        np.zeros((1, count, 6, 2), np.float32),
    )


class TestDecoding:
    CAS = np.zeros((60, 3))
    CAS[10:19, 0], CAS[30:47, 1], CAS[52:55, 2] = 0.9, 0.8, 0.7

    def test_scores_are_one_minus_the_loss(self) -> None:
        segments, scores, classes = decode(outputs_for(self.CAS), CONFIG)
        beyond = np.concatenate([np.zeros((1, 3)), self.CAS, np.zeros((1, 3))])
        for segment, score, label in zip(segments, scores, classes, strict=True):
            inner = torch.from_numpy(segment - (0, 1))[None]
            outer = inflated(inner, 60, inflation=0.25)
            around, inside = slow_parts(beyond[:, label], inner[0].numpy() + 1, outer[0].numpy() + 1)
            assert score == pytest.approx(1 - (around - inside), abs=1e-6)

    def test_selection_finds_plateaus_to_the_snippet(self) -> None:
        segments, scores, classes = decode(outputs_for(self.CAS), replace(CONFIG, proposals="all"))
        best = {int(label): segment.tolist() for segment, label in reversed(list(zip(segments, classes, strict=True)))}
        assert best == {0: [10, 19], 1: [30, 47], 2: [52, 55]}
        assert scores[:3] == pytest.approx([1.9, 1.8, 1.7])

    @given(st.integers(1, 14), st.integers(0, 100))
    def test_selection_is_by_enumeration(self, count: int, seed: int) -> None:
        dice = np.random.default_rng(seed)
        cas = dice.uniform(0, 1, (count, 2))
        segments, scores, classes = oic_selection(cas, config=replace(CONFIG, max_loss=-0.2))
        for label in range(2):
            beyond = np.concatenate([[0.0], cas[:, label], [0.0]])
            candidates = []
            for start in range(count):
                for end in range(start, count):
                    margin = max(1.0, 0.25 * (end - start))
                    outer = np.array([max(start - margin, -1), min(end + margin, count)])
                    around, inside = slow_parts(beyond, np.array([start, end]) + 1, outer + 1)
                    if around - inside <= -0.2:
                        candidates.append((start, end + 1, 1 - around + inside))
            borders = np.array(candidates).reshape(-1, 3)
            kept = nms(borders[:, :2], borders[:, 2], tiou_threshold=0.4)
            assert scores[classes == label] == pytest.approx(borders[kept, 2])
            assert segments[classes == label].tolist() == borders[kept, :2].tolist()

    def test_selection_in_portions_is_selection(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = oic_selection(self.CAS, config=CONFIG)
        monkeypatch.setattr(autoloc, "CHUNK", 150)
        assert all(map(np.array_equal, whole, oic_selection(self.CAS, config=CONFIG)))

    def test_top_classes_are_those_most_active(self) -> None:
        classes = decode(outputs_for(self.CAS), replace(CONFIG, top_classes=2)).classes
        assert set(classes.tolist()) == {0, 1}
        assert set(decode(outputs_for(self.CAS), CONFIG).classes.tolist()) == {0, 1, 2}

    def test_inner_only_prefers_the_inside_of_a_plateau(self) -> None:
        """It has no reason to reach the ends: a piece is as good as the whole."""
        both = [decode(outputs_for(self.CAS), replace(CONFIG, objective=name)) for name in ("oic", "inner")]
        widths = [segments[classes == 1][0] @ (-1, 1) for segments, _, classes in both]
        assert widths[0] > 10
        assert widths[1] < 4


class TestDirectOptimization:
    def test_it_fits_the_video_and_leaves_the_network_alone(self) -> None:
        torch.manual_seed(0)
        config = replace(CONFIG, streams=1, gate_threshold=0.0, anchors=(10,))  # none is as long as the action
        network = AutoLoc(4, 2, config=config).train()
        with torch.no_grad():
            network.classifiers[0].weight.copy_(torch.tensor([[9.0, 0, 0, 0], [0, 0, 0, 9.0]]))
            network.classifiers[0].bias.zero_()
        features = np.zeros((60, 4), np.float32)
        features[:, 3] = 1
        features[20:33] = [1, 0.3, 0, 0]
        before = {name: value.clone() for name, value in network.state_dict().items()}
        few, many, again = (
            [direct_optimization(network, features, config=config, iterations=count, seed=seed) for seed in range(4)]
            for count in (0, 60, 60)
        )
        assert all(
            np.array_equal(one, other) for pair in zip(many, again, strict=True) for one, other in zip(*pair, strict=True)
        )
        assert network.training
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        best = [[found.scores[found.classes == 0][0] for found in runs] for runs in (few, many)]
        assert np.mean(best[1]) > np.mean(best[0]) + 0.03
        assert min(best[1]) > 1.8
        assert all(np.abs(found.segments[found.classes == 0][0] - (20, 33)).max() <= 2 for found in many)


@pytest.mark.parametrize(
    "wrong",
    [{"anchors": ()}, {"anchors": (0,)}, {"streams": 0}, {"pred_kernel": 2}, {"nms_tiou": 2.0}, {"inflation": -1.0}],
)
def test_impossible_configurations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        AutoLocConfig(**wrong)


def test_all_ablations_decode_what_the_network_gives() -> None:
    network = AutoLoc(4, 2, config=CONFIG).eval()
    with torch.inference_mode():
        outputs = to_arrays(network(torch.rand(1, 30, 4), torch.tensor([30])))
    for changes in ({"objective": "inner"}, {"proposals": "all"}, {"proposals": "all", "objective": "inner"}):
        result = decode(outputs, replace(CONFIG, **changes))
        assert (result.segments[:, 0] < result.segments[:, 1]).all()
