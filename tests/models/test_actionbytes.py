"""ActionBytes' equations on sequences whose answer is known by construction, and against plain loops."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tal_run.models.actionbytes import (
    ActionBytesConfig,
    _moving_average,
    boundaries,
    localize,
    proposals,
    segment_scores,
)
from tal_run.models.postprocess import tiou
from tal_run.models.thresholds import first_stage_classes, k_max_mean, second_stage_segments

Array = NDArray[np.float64]

sequences = arrays(np.float64, st.integers(1, 60), elements=st.integers(0, 100).map(lambda percent: percent / 100))
PLAIN = ActionBytesConfig(power=1.0, smooth=1)


def stepped(lengths: list[int], width: int = 7) -> Array:
    """Latent features that are constant within pieces and jump between them."""
    dice = np.random.default_rng(0)
    return np.repeat(dice.uniform(0, 1, (len(lengths), width)), lengths, axis=0)


def test_boundaries_are_where_the_features_jump() -> None:
    lengths = [4, 9, 3, 12]
    assert boundaries(stepped(lengths), percentile=80).tolist() == [4, 13, 16]


@given(st.integers(2, 200), st.sampled_from([0.0, 50.0, 80.0, 92.0]))
def test_their_number_is_the_papers(length: int, percentile: float) -> None:
    """ "In general, the pth percentile leads to T x (100 - p) / 100 ActionBytes"."""
    latent = np.random.default_rng(length).uniform(0, 1, (length, 5))
    assert abs(len(boundaries(latent, percentile=percentile)) - length * (100 - percentile) / 100) <= 2


@given(st.integers(2, 60), st.floats(0.1, 100.0))
def test_boundaries_do_not_care_for_the_scale_of_the_features(length: int, factor: float) -> None:
    latent = np.random.default_rng(length).uniform(0, 1, (length, 5))
    assert boundaries(latent * factor, percentile=70).tolist() == boundaries(latent, percentile=70).tolist()


def test_a_still_or_single_snippet_has_no_boundary() -> None:
    assert boundaries(np.ones((10, 3)), percentile=50).size == 0
    assert boundaries(np.ones((1, 3)), percentile=50).size == 0


@given(st.sets(st.integers(1, 50), max_size=12), st.sampled_from([(1,), (1, 2), (2, 3)]), st.integers(0, 2))
def test_proposals_are_equation_2_in_plain_loops(borders: set[int], merge: tuple[int, ...], jitter: int) -> None:
    found, length = sorted(borders), 51
    expected = set()
    for m, (before, after) in itertools.product(merge, itertools.product(range(jitter + 1), repeat=2)):
        for i in range(len(found) - m):
            start, end = found[i], found[i + m] - 1  # (B_i, B_{i+m} - 1)
            expected.add((max(start - before, 0), min(end + after, length - 1)))
    assert set(map(tuple, proposals(found, length, merge=merge, jitter=jitter).tolist())) == expected


def test_k_is_an_eighth_of_the_video_rounded_up() -> None:
    assert k_max_mean(np.arange(17.0)[:, None])[0] == pytest.approx((16 + 15 + 14) / 3)
    assert k_max_mean([[0.3, 0.7]]).tolist() == [0.3, 0.7]


def test_the_second_threshold_is_the_midpoint() -> None:
    curve = [0.2, 0.2, 0.9, 0.61, 0.2, 0.55, 1.0]
    assert second_stage_segments(curve).tolist() == [[2, 3], [6, 6]]
    assert second_stage_segments(curve, floor=0.0).tolist() == [[2, 3], [5, 6]]


@given(sequences, st.data(), st.sampled_from(["contrast", "mean"]), st.sampled_from([0.25, 1.0]))
def test_segment_scores_are_the_plain_means(cas: Array, data: st.DataObject, score: str, margin: float) -> None:
    start = data.draw(st.integers(0, len(cas) - 1))
    end = data.draw(st.integers(start, len(cas) - 1))
    width = max(1, round((end - start + 1) * margin))
    outside = [cas[t] for t in range(start - width, end + width + 1) if 0 <= t < len(cas) and not start <= t <= end]
    expected = np.mean(cas[start : end + 1])
    if score == "contrast" and outside:
        expected -= np.mean(outside)
    assert segment_scores(cas, [[start, end]], score=score, margin=margin)[0] == pytest.approx(expected, abs=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", [0, 3, 20, 33])
@pytest.mark.parametrize("length", [1, 4, 7])
def test_one_clean_action_is_found_exactly(start: int, length: int) -> None:
    cas = np.zeros(40)
    cas[start : start + length] = 0.9
    latent = np.random.default_rng(0).uniform(0, 1, (40, 3))
    segments, scores = localize(latent, cas, config=PLAIN)
    assert segments.tolist() == [[start, start + length - 1]]
    assert scores == pytest.approx([0.9])


def test_a_video_that_is_the_action_from_end_to_end_comes_whole() -> None:
    cas = 0.9 + 0.05 * np.sin(np.arange(15))
    segments, scores = localize(stepped([5, 5, 5]), cas, config=ActionBytesConfig())
    assert segments[0].tolist() == [0, 14]
    assert scores[0] == pytest.approx(cas.mean(), abs=0.05)


def test_proposals_find_a_weak_action_beside_a_strong_one() -> None:
    """The midpoint threshold alone is relative to the strongest moment; ActionBytes are not."""
    cas = np.zeros(40)
    cas[5:10], cas[25:31] = 0.95, 0.4
    latent = stepped([5, 5, 15, 6, 9])
    assert [25, 30] in localize(latent, cas, config=PLAIN)[0].tolist()
    assert [25, 30] not in localize(latent, cas, config=replace(PLAIN, merge=()))[0].tolist()


def test_nothing_in_the_video_gives_nothing() -> None:
    """The relative thresholds of the paper always find something; the absolute one stands before them."""
    noise = np.random.default_rng(0).uniform(0, 0.1, 200)
    latent = np.random.default_rng(1).uniform(0, 1, (200, 8))
    assert len(localize(latent, noise, config=ActionBytesConfig())[0]) == 0
    assert len(localize(latent, noise, config=ActionBytesConfig(min_score=0.0, smooth=1))[0]) > 0


@given(sequences, st.integers(0, 30))
def test_localization_moves_with_the_action(cas: Array, shift: int) -> None:
    """Shifting activation and features in time shifts every segment, ends of the video aside."""
    margin = 70  # as wide as the margin of the longest segment
    config = replace(PLAIN, include_ends=False, min_score=0.05)

    def padded(before: int) -> tuple[Array, Array]:
        latent = np.random.default_rng(3).uniform(0, 1, (len(cas), 4))
        after = 2 * margin + 30 - before
        return (
            np.concatenate([np.zeros((before, 4)), latent, np.zeros((after, 4))]),
            np.concatenate([np.zeros(before), cas, np.zeros(after)]),
        )

    here, scores_here = localize(*padded(margin), config=config)
    there, scores_there = localize(*padded(margin + shift), config=config)
    assert scores_there == pytest.approx(scores_here, abs=1e-9)
    # of equal scores, rounding may choose another order
    if len(np.unique(np.round(scores_here, 6))) == len(scores_here):
        assert there.tolist() == (here + shift).tolist()


@given(sequences)
def test_segments_are_within_the_video_sorted_and_above_the_threshold(cas: Array) -> None:
    latent = np.random.default_rng(len(cas)).uniform(0, 1, (len(cas), 4))
    config = ActionBytesConfig(min_score=0.1)
    segments, scores = localize(latent, cas, config=config)
    assert ((segments >= 0) & (segments < len(cas))).all()
    assert (segments[:, 0] <= segments[:, 1]).all()
    assert (np.diff(scores) <= 0).all()
    assert (scores >= config.min_score).all()


def test_boundaries_are_equation_1_in_plain_loops() -> None:
    dice = np.random.default_rng(0)
    for length in range(2, 40):
        latent = dice.normal(size=(length, 6))  # of both signs
        change = [sum(abs(latent[t][i] - latent[t - 1][i]) for i in range(6)) for t in range(1, length)]
        for percentile in (0.0, 50.0, 80.0):
            tau = np.percentile(change, percentile)
            expected = [t for t in range(1, length) if change[t - 1] > tau]
            assert boundaries(latent, percentile=percentile).tolist() == expected


def test_change_is_the_sum_of_absolute_differences() -> None:
    """Not of the signed ones, nor of squares, nor the largest: each of those would choose another snippet here."""
    assert boundaries([[0.0, 0.0], [3.0, -3.0], [3.0, -1.5], [3.0, -1.5]], percentile=50).tolist() == [1]
    spread, single = [2.0, 2.0, 2.0], [5.0, 0.0, 0.0]  # L1 6 and 5, L2 3.5 and 5, largest 2 and 5
    assert boundaries(np.cumsum([[0.0] * 3, spread, single], axis=0), percentile=50).tolist() == [1]


@pytest.mark.parametrize(("weak", "strong"), [((0, 5), (20, 26)), ((34, 39), (10, 16))])
def test_a_weak_action_at_either_end_of_the_video_needs_the_ends_as_boundaries(
    weak: tuple[int, int], strong: tuple[int, int]
) -> None:
    cas = np.zeros(40)
    cas[weak[0] : weak[1] + 1], cas[strong[0] : strong[1] + 1] = 0.3, 0.95
    edges = sorted({0, 40, weak[0], weak[1] + 1, strong[0], strong[1] + 1})
    latent = stepped(np.diff(edges).tolist())
    assert list(weak) in localize(latent, cas, config=PLAIN)[0].tolist()
    assert list(weak) not in localize(latent, cas, config=replace(PLAIN, include_ends=False))[0].tolist()


def test_smoothing_keeps_a_flickering_action_whole() -> None:
    cas = np.zeros(40)
    cas[10:22] = np.tile([0.9, 0.1], 6)
    latent = np.ones((40, 3))
    assert len(localize(latent, cas, config=PLAIN)[0]) > 1
    ((start, end),) = localize(latent, cas, config=replace(PLAIN, smooth=5))[0].tolist()
    assert abs(start - 10) <= 1
    assert abs(end - 21) <= 1


def test_the_root_joins_a_strong_and_a_weak_half() -> None:
    cas = np.zeros(40)
    cas[10:15], cas[15:20] = 0.9, 0.3
    latent = np.ones((40, 3))
    assert localize(latent, cas, config=PLAIN)[0][0].tolist() == [10, 14]
    assert localize(latent, cas, config=replace(PLAIN, power=1 / 3))[0][0].tolist() == [10, 19]


def test_segments_compete_on_the_evened_out_curve_and_score_on_the_raw_one() -> None:
    cas = np.zeros(40)
    cas[10:20] = [0.5, 0.9, 0.5, 0.9, 0.5, 0.9, 0.5, 0.9, 0.5, 0.9]
    segments, scores = localize(np.ones((40, 3)), cas, config=ActionBytesConfig())
    assert segments.tolist() == [[10, 19]]
    assert scores == pytest.approx([0.7])


LENGTHS = replace(PLAIN, smooth=5, smooth_share=0.9, min_score=0.3)


def test_a_moment_of_a_short_action_is_found_as_it_is() -> None:
    """Two snippets of a kick: five of average would make them five, of which three hold nothing."""
    cas = np.zeros(40)
    cas[20:22] = 0.99
    latent = np.ones((40, 3))
    segments, scores = localize(latent, cas, config=LENGTHS, typical=3)
    assert segments.tolist() == [[20, 21]]
    assert scores == pytest.approx([0.99])
    by_default, lower = localize(latent, cas, config=LENGTHS)
    assert np.ptp(by_default[0]) + 1 >= 4
    assert lower.max() < 0.6


def test_repetitions_of_a_long_action_come_whole() -> None:
    """Slow squats: of a second and a half between two, the network says nothing."""
    cas = np.zeros(80)
    cas[20:45] = np.tile([0.9, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0, 0.9], 4)[:25]
    latent = np.ones((80, 3))
    assert len(localize(latent, cas, config=LENGTHS, typical=3)[0]) == 4
    ((start, end),) = localize(latent, cas, config=LENGTHS, typical=16)[0].tolist()
    truth = [[20.0, 45.0]]
    assert tiou([[start, end + 1]], truth).item() >= 0.75


def test_the_typical_length_counts_only_where_it_is_asked_for() -> None:
    cas = np.random.default_rng(5).uniform(0, 1, 60)
    latent = np.random.default_rng(6).uniform(0, 1, (60, 4))
    for config in (ActionBytesConfig(), PLAIN):
        (here, scores), (there, others) = localize(latent, cas, config=config), localize(latent, cas, config=config, typical=9)
        assert (here.tolist(), scores.tolist()) == (there.tolist(), others.tolist())
    five = localize(latent, cas, config=LENGTHS, typical=5 / 0.9)
    assert five[0].tolist() == localize(latent, cas, config=replace(PLAIN, smooth=5, min_score=0.3))[0].tolist()


@given(arrays(np.float64, 20, elements=st.floats(0, 1)), st.floats(1, 30), st.floats(0, 20))
def test_an_average_of_any_width_is_the_mean_of_the_curve_drawn_as_steps(curve: Array, width: float, extra: float) -> None:
    """Snippet t covers t - 1/2 to t + 1/2: what of it lies in the window counts."""
    edges = np.arange(len(curve) + 1) - 0.5

    def plain(t: int) -> float:
        inside = np.clip(np.minimum(edges[1:], t + width / 2) - np.maximum(edges[:-1], t - width / 2), 0, 1)
        return float((curve * inside).sum() / inside.sum())

    assert _moving_average(curve, width) == pytest.approx([plain(t) for t in range(len(curve))], abs=1e-9)
    constant = _moving_average(np.ones(20), width + extra)
    assert constant == pytest.approx(np.ones(20))


@given(st.sampled_from([3.0, 6.5, 16.0]), st.integers(0, 30))
def test_with_a_typical_length_too_segments_move_with_the_action(typical: float, shift: int) -> None:
    pattern = np.array([0.2, 0.9, 0.99, 0.1, 0.0, 0.0, 0.7, 0.95, 0.6])

    def at(start: int) -> tuple[NDArray[np.int64], Array]:
        cas = np.zeros(120)
        cas[start : start + len(pattern)] = pattern
        return localize(np.ones((120, 2)), cas, config=LENGTHS, typical=typical)

    (here, scores), (there, others) = at(40), at(40 + shift)
    assert len(here)
    assert there.tolist() == (here + shift).tolist()
    assert others == pytest.approx(scores)


@given(sequences, st.sampled_from([1, 3, 5, 7]))
def test_the_moving_average_is_that_of_plain_windows(curve: Array, width: int) -> None:
    half = width // 2
    expected = [curve[max(0, t - half) : t + half + 1].mean() for t in range(len(curve))]
    assert _moving_average(curve, width) == pytest.approx(expected)


def test_the_first_threshold_is_the_mean_confidence() -> None:
    cas = np.zeros((16, 4))
    cas[:2] = [0.9, 0.5, 0.1, 0.1]  # confidences 0.9, 0.5, 0.1, 0.1: mean 0.4
    assert first_stage_classes(cas).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"percentile": 101.0},
        {"min_score": -0.1},
        {"smooth": 4},
        {"power": 0.0},
        {"merge": (0,)},
        {"score": "best"},
        {"smooth_share": 0.0},
    ],
)
def test_impossible_configurations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        ActionBytesConfig(**wrong)


def test_logits_are_refused_rather_than_rooted() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        localize(np.ones((3, 2)), [-1.0, 2.0, 0.0], config=ActionBytesConfig())
