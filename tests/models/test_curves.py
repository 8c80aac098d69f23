"""What reads a backbone's scores over time: its geometry, its loss, what it can learn, and its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tal_run.extractors.starter import Starter, curves_beside  # noqa: E402
from tal_run.extractors.timegrid import TimeGrid  # noqa: E402
from tal_run.extractors.weights import WeightsError  # noqa: E402
from tal_run.models.curves import (  # noqa: E402
    FORMAT,
    NOTHING,
    OFFSET_UNIT,
    Crops,
    CurveConfig,
    CurveNetwork,
    CurveReader,
    CurveSize,
    CurveTraining,
    Reading,
    TimedCurves,
    _crop,
    curve_loss,
    curves_at,
    curves_of,
    read_curves,
    train_curves,
    write_curves,
)
from tal_run.models.postprocess import tiou  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS, LENGTHS_S = ("kick", "squat"), {"kick": 1.6, "squat": 6.0}
SIZE = CurveSize(classes=2, width=8)
ALL = CurveConfig(min_score=0.0, nms_tiou=1.0)


def reader(network: CurveNetwork, lengths_s: dict[str, float] | None = None) -> CurveReader:
    return CurveReader(network=network.eval(), labels=LABELS, lengths_s=lengths_s or LENGTHS_S, backbone="b", sha256="c")


def random_network(seed: int = 0) -> CurveNetwork:
    torch.manual_seed(seed)
    return CurveNetwork(SIZE).requires_grad_(False)


def grid_of(count: int, step_s: float = 0.4) -> TimeGrid:
    return TimeGrid(step_s=step_s, window_s=step_s, count=count, duration_s=count * step_s)


def bump(grid: TimeGrid, start_s: float, end_s: float, *, high: float = 3.0) -> Any:
    """Logits [T, 2] of a kick between two times."""
    logits = np.full((grid.count, 2), -6.0, np.float32)
    logits[(grid.centers_s > start_s) & (grid.centers_s < end_s), 0] = high
    return logits


class TestCurves:
    def test_a_class_sees_itself_the_best_other_one_and_all(self) -> None:
        logits = np.array([[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]])
        assert curves_of(logits, 1).tolist() == [[5, 0], [2, 4], [1, 4], [5, 0], [2, 3]]

    def test_one_class_has_no_other(self) -> None:
        assert curves_of([[1.0], [2.0]], 0).tolist() == [[1, 2], [NOTHING, NOTHING], [1, 2]]

    def test_between_windows_lie_straight_lines_and_outside_the_video_nothing(self) -> None:
        grid = grid_of(3, step_s=1.0)  # middles at 0.5, 1.5, 2.5
        found = curves_at(np.array([-0.1, 0.2, 0.5, 1.0, 2.5, 2.9, 3.1]), np.array([[0, 2, 4]], np.float32), grid)
        assert found[0].tolist() == [NOTHING, 0, 0, 1, 4, 4, NOTHING]

    def test_where_nobody_watched_is_nothing_either(self) -> None:
        """Of a minute, three seconds were decoded; windows of 2 s that lie 1 s apart."""
        grid = TimeGrid(step_s=1.0, window_s=2.0, count=3, duration_s=60.0, start_s=10.0)  # middles at 11, 12, 13
        found = curves_at(np.array([0.5, 8.9, 9.1, 11.0, 13.0, 14.9, 15.1, 59.0]), np.array([[0, 2, 4]], np.float32), grid)
        assert found[0].tolist() == [NOTHING, NOTHING, 0, 0, 4, 4, NOTHING, NOTHING]


class TestLocalization:
    @given(steps=st.integers(1, 40), seed=st.integers(0, 5))
    def test_what_happens_later_is_found_later(self, steps: int, seed: int) -> None:
        """With nothing before it, in steps of the class's own clock."""
        of, step_s = reader(random_network(seed)), LENGTHS_S["kick"] / SIZE.per_length
        rng = np.random.default_rng(seed)
        logits = np.concatenate([np.full((80, 2), NOTHING), rng.normal(size=(30, 2)), np.full((80, 2), NOTHING)])
        early, late = (
            of.localize(np.roll(logits, shift, axis=0).astype(np.float32), grid_of(190, step_s), 0, config=ALL)
            for shift in (-20, -20 + steps)
        )
        inside = early[0][((early[0] > 2.0) & (early[0] < 26.0)).all(axis=1)]  # what the video's ends cannot reach
        later = inside + steps * step_s
        apart = np.abs(late[0][:, None] - later[None]).max(axis=2)  # [late, early]
        assert len(inside) > 20
        assert (apart.min(axis=0) < 1e-3).all()

    @given(times=st.floats(0.5, 3.0), seed=st.integers(0, 5))
    def test_slower_video_and_longer_actions_are_the_same(self, times: float, seed: int) -> None:
        logits = np.random.default_rng(seed).normal(size=(60, 2)).astype(np.float32)
        network = random_network(seed)
        plain = reader(network).localize(logits, grid_of(60, 0.4), 0, config=ALL)
        longer = {label: times * length_s for label, length_s in LENGTHS_S.items()}
        slow = reader(network, longer).localize(logits, grid_of(60, 0.4 * times), 0, config=ALL)
        np.testing.assert_allclose(slow[1], plain[1], atol=1e-5)
        np.testing.assert_allclose(np.sort(slow[0], axis=0), times * np.sort(plain[0], axis=0), atol=1e-3)

    def test_segments_lie_in_the_video_best_first_above_the_threshold_and_apart(self) -> None:
        logits = np.random.default_rng(3).normal(scale=3, size=(200, 2)).astype(np.float32)
        network = random_network(3)
        network.middle.bias.fill_(0.0)
        segments, scores = reader(network).localize(logits, grid_of(200), 0, config=CurveConfig(min_score=0.45, nms_tiou=0.0))
        assert len(scores) > 3
        assert (np.diff(scores) <= 0).all()
        assert scores.min() >= 0.45
        assert segments.min() >= 0
        assert segments.max() <= 80
        assert (segments[:, 1] > segments[:, 0]).all()
        overlaps = tiou(segments, segments)
        assert (overlaps[~np.eye(len(segments), dtype=bool)] == 0).all()

    def test_in_long_video_nothing_is_left_out(self) -> None:
        """A kick every 8 s for two hours, each as likely as the next."""
        network, grid = random_network(1), grid_of(18_000)
        network.middle.bias.fill_(0.0)
        one = np.random.default_rng(1).normal(scale=3, size=(20, 2)).astype(np.float32)
        segments, _ = reader(network).localize(np.tile(one, (900, 1)), grid, 0, config=CurveConfig(min_score=0.5, nms_tiou=0.0))
        _, counts = np.unique(segments[:, 0] // 8.0, return_counts=True)
        assert len(counts) == 900
        assert set(counts[1:-1].tolist()) <= {counts[1] - 1, counts[1], counts[1] + 1}

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_a_video_of_a_window_or_two_is_read(self, count: int) -> None:
        segments, scores = reader(random_network()).localize(np.zeros((count, 2), np.float32), grid_of(count), 1, config=ALL)
        assert 1 <= len(scores) <= max(1, round(count * 0.4 / (6.0 / SIZE.per_length)))
        assert segments.min() >= 0
        assert segments.max() <= count * 0.4 + 1e-9


class TestBouts:
    """What lasts longer than the network sees, read by the one that comes with tal-run."""

    STEP_S = 0.375

    def find(self, label: str, spans: list[tuple[float, float]], *, length_s: float = 100.0, **config: float) -> Any:
        found = read_curves(Starter().curves_file)
        grid = TimeGrid(step_s=self.STEP_S, window_s=2.0, count=int(length_s / self.STEP_S), duration_s=length_s, start_s=-0.8)
        rng = np.random.default_rng(0)
        logits = rng.normal(-5, 0.8, (grid.count, len(found.labels)))
        index = found.labels.index(label)
        for start_s, end_s in spans:
            inside = (grid.centers_s > start_s) & (grid.centers_s < end_s)
            logits[inside, index] = rng.normal(5, 1, inside.sum())
        return found.localize(logits, grid, index, config=CurveConfig(**config))

    @pytest.mark.parametrize("length_s", [3, 10, 20, 60])
    @pytest.mark.parametrize("label", ["waving", "jumping jacks", "squat", "punching"])
    def test_a_bout_is_one_however_long_it_lasts(self, label: str, length_s: float) -> None:
        (segment, *more), scores = self.find(label, [(20.0, 20.0 + length_s)])
        assert not more
        assert scores[0] > 0.9
        assert tiou([segment], [[20.0, 20.0 + length_s]]).item() > 0.75

    def test_a_network_alone_finds_pieces(self) -> None:
        assert len(self.find("waving", [(20.0, 80.0)], long=100.0)[0]) > 3

    def test_what_is_short_stays_apart(self) -> None:
        """Kicks so close to one another that the score hardly falls between them."""
        segments, _ = self.find("soccer kick", [(start_s, start_s + 1.6) for start_s in (10.0, 13.0, 16.0)])
        assert len(segments) == 3
        assert (np.ptp(segments, axis=1) < 3.5).all()

    def test_a_pause_divides(self) -> None:
        segments, _ = self.find("waving", [(10.0, 25.0), (32.0, 50.0)])
        assert np.sort(segments, axis=0) == pytest.approx(np.array([[10.0, 25.0], [32.0, 50.0]]), abs=1.1)


class TestLearning:
    @given(st.lists(st.floats(0.0, 5.0), min_size=4, max_size=4))
    def test_the_loss_of_a_segment_is_one_minus_its_tiou(self, ends: list[float]) -> None:
        """Seen from a point: ``before`` and ``behind`` it, of what is found and of what is true."""
        before, behind, true_before, true_behind = (end + 0.1 for end in ends)
        of_found, of_truth = ([5 - a, 5 + b] for a, b in ((before, behind), (true_before, true_behind)))
        read = Reading(torch.full((1, 1), 50.0), torch.tensor([[[before], [behind]]]))
        one = torch.ones(1, 1)
        crops = Crops(torch.zeros(1, 4, 1), torch.tensor([0]), one, one, torch.tensor([[[true_before], [true_behind]]]))
        assert curve_loss(read, crops).item() == pytest.approx(1 - tiou([of_found], [of_truth]).item(), abs=1e-4)

    def test_the_loss_of_the_middles_is_focal_cross_entropy(self) -> None:
        """Of two points, one is a middle with probability 0.2, the other one is none with 0.6; a third does not count."""
        chances = torch.tensor([[0.2, 0.4, 0.9]])
        ends = torch.full((1, 2, 3), 1.0)
        is_middle, counts = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])
        crops = Crops(torch.zeros(1, 4, 3), torch.tensor([0]), is_middle, counts, ends)
        expected = -0.8 * np.log(0.2) - 0.4 * np.log(0.6)
        assert curve_loss(Reading(torch.logit(chances), ends), crops).item() == pytest.approx(expected, rel=1e-5)

    def test_a_crop_asks_for_middles_and_not_where_nobody_could_tell(self) -> None:
        """Steps of 0.2 s: a kick from 2.0 to 4.0, a stretch from 5.0 to 6.0 that is ambiguous, the video's end at 7.0."""
        grid = TimeGrid(step_s=0.2, window_s=0.2, count=35, duration_s=7.0)
        logits = np.random.default_rng(0).normal(size=(35, 2)).astype(np.float32)
        video = TimedCurves(
            logits=logits,
            grid=grid,
            segments=np.array([[2.0, 4.0], [0.0, 7.0]]),
            classes=np.array([0, 1]),
            ambiguous=np.array([[5.0, 6.0]]),
        )
        exact = CurveTraining(points=40, tempo=0.0, gain=(1.0, 1.0), shift=0.0, noise=0.0, middle=0.3)
        rng = np.random.default_rng(0)
        seen, index, middles, counted, ends = _crop(video, 0, curves_of(logits, 0), 0.2, rng=rng, size=SIZE, config=exact)
        times_s = (np.arange(40) + 0.5) * 0.2
        inside = times_s < 7.0
        np.testing.assert_allclose(seen[:, SIZE.reach : -SIZE.reach][:, inside], curves_of(logits, 0), atol=1e-5)
        assert (seen[:, : SIZE.reach] == NOTHING).all()
        assert int(index) == 0
        near = np.abs(times_s - 3.0) <= 0.6
        assert middles.tolist() == near.tolist()
        asked = inside & ~((times_s > 5.0) & (times_s < 6.0)) & (near | (times_s < 2.0) | (times_s > 4.0))
        assert counted.tolist() == asked.tolist()
        np.testing.assert_allclose(ends[:, near] * OFFSET_UNIT * 0.2, [times_s[near] - 2.0, 4.0 - times_s[near]], atol=1e-5)
        assert not ends[:, ~near].any()

    def test_it_learns_that_an_action_begins_before_its_scores_do(self) -> None:
        """Kicks whose run-up of 1 s the backbone does not see; a threshold would find the half of each."""
        rng, videos, grid = np.random.default_rng(0), [], grid_of(100)
        for number in range(30):
            peak_s = float(rng.uniform(5, 35))
            there = number % 3 > 0
            videos.append(
                TimedCurves(
                    logits=bump(grid, peak_s, peak_s + 1.0) if there else np.full((100, 2), -6.0, np.float32),
                    grid=grid,
                    segments=np.array([[peak_s - 1.0, peak_s + 1.0]] if there else []).reshape(-1, 2),
                    classes=np.zeros(int(there), np.int64),
                    ambiguous=np.empty((0, 2)),
                )
            )
        network = train_curves(videos, [1.6, 6.0], size=SIZE, config=CurveTraining(steps=150, batch=16, noise=0.1, shift=0.1))
        segments, _ = reader(network).localize(bump(grid, 20.0, 21.0), grid, 0, config=CurveConfig(min_score=0.3))
        assert tiou(segments[:1], [[19.0, 21.0]]).item() > 0.75
        assert tiou([[20.0, 21.0]], [[19.0, 21.0]]).item() == pytest.approx(0.5)
        nothing, _ = reader(network).localize(np.full((100, 2), -6.0), grid, 0, config=CurveConfig(min_score=0.3))
        assert len(nothing) == 0

    def test_the_same_seed_learns_the_same(self) -> None:
        grid = grid_of(60)
        none = np.empty((0, 2))
        videos = [
            TimedCurves(
                logits=bump(grid, 5, 7), grid=grid, segments=np.array([[5.0, 7.0]]), classes=np.array([0]), ambiguous=none
            )
        ]
        first, second, other = (
            train_curves(videos, [1.6, 6.0], size=SIZE, config=CurveTraining(steps=3, batch=4, seed=seed)).state_dict()
            for seed in (1, 1, 2)
        )
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not torch.equal(first["ends.weight"], other["ends.weight"])

    def test_actions_everywhere_teach_nothing_about_where_there_are_none(self) -> None:
        grid = grid_of(60)
        every = {"segments": np.array([[5.0, 7.0]] * 2), "classes": np.array([0, 1]), "ambiguous": np.empty((0, 2))}
        both = TimedCurves(logits=bump(grid, 5, 7), grid=grid, **every)
        with pytest.raises(ValueError, match="with and without an action"):
            train_curves([both], [1.6, 6.0], size=SIZE, config=CurveTraining(steps=1))

    def test_offsets_are_in_units_that_the_network_can_say(self) -> None:
        """A typical action, seen from its middle, reaches one unit to either side."""
        assert SIZE.per_length / 2 == OFFSET_UNIT


class TestFiles:
    def written(self, path: Path) -> CurveNetwork:
        network = random_network(4)
        write_curves(path, network, lengths_s=LENGTHS_S, backbone="abc", recipe={"seed": 4})
        return network

    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        network = self.written(tmp_path / "c.safetensors")
        found = read_curves(tmp_path / "c.safetensors")
        assert (found.labels, dict(found.lengths_s), found.backbone, found.network.size) == (LABELS, LENGTHS_S, "abc", SIZE)
        assert all(torch.equal(a, b) for a, b in zip(found.network.parameters(), network.parameters(), strict=True))

    def test_a_missing_file_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="No such file"):
            read_curves(tmp_path / "absent.safetensors")

    @pytest.mark.parametrize("length", [0, 7, 200, 5_000])
    def test_a_cut_file_is_a_sentence(self, tmp_path: Path, length: int) -> None:
        self.written(tmp_path / "c.safetensors")
        cut = (tmp_path / "c.safetensors").read_bytes()[:length]
        (tmp_path / "c.safetensors").write_bytes(cut)
        with pytest.raises(WeightsError, match="make it anew"):
            read_curves(tmp_path / "c.safetensors")

    @pytest.mark.parametrize(
        "change",
        [
            {"lengths_s": {"kick": 1.6}},
            {"lengths_s": {"kick": 1.6, "squat": float("nan")}},
            {"lengths_s": {"kick": 1.6, "squat": 1e-300}},
            {"lengths_s": {"kick": 1.6, "squat": 10**400}},
            {"lengths_s": [1.6, 6.0]},
            {"size": {"classes": 2, "width": 10**9}},
            {"size": {"classes": 2, "kernel": 4}},
            {"size": {"classes": 2, "depth": 4}},
            {"size": {"classes": True}},
            {"size": {"classes": 3, "width": 8}},
        ],
        ids=str,
    )
    def test_a_card_that_lies_is_a_sentence(self, tmp_path: Path, change: dict[str, Any]) -> None:
        from safetensors.numpy import load, save

        self.written(tmp_path / "c.safetensors")
        content = (tmp_path / "c.safetensors").read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        card = {**json.loads(header["__metadata__"][FORMAT]), **change}
        (tmp_path / "c.safetensors").write_bytes(save(load(content), {FORMAT: json.dumps(card)}))
        with pytest.raises(WeightsError, match="is damaged"):
            read_curves(tmp_path / "c.safetensors")

    def test_weights_that_are_no_numbers_are_a_sentence(self, tmp_path: Path) -> None:
        network = random_network()
        network.ends.bias.fill_(float("nan"))
        write_curves(tmp_path / "c.safetensors", network, lengths_s=LENGTHS_S, backbone="abc", recipe={})
        with pytest.raises(WeightsError, match="finite"):
            read_curves(tmp_path / "c.safetensors")

    def test_numbers_that_no_float32_holds_are_a_sentence(self, tmp_path: Path) -> None:
        from safetensors.numpy import load, save

        self.written(tmp_path / "c.safetensors")
        content = (tmp_path / "c.safetensors").read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        tensors = {name: tensor.astype(np.float64) for name, tensor in load(content).items()}
        tensors["ends.bias"][0] = 1e300
        (tmp_path / "c.safetensors").write_bytes(save(tensors, {FORMAT: header["__metadata__"][FORMAT]}))
        with pytest.raises(WeightsError, match="finite"):
            read_curves(tmp_path / "c.safetensors")

    def test_other_bytes_than_the_card_knows_are_a_sentence(self, tmp_path: Path) -> None:
        self.written(tmp_path / "c.safetensors")
        known = read_curves(tmp_path / "c.safetensors").sha256
        assert read_curves(tmp_path / "c.safetensors", sha256=known).sha256 == known
        content = bytearray((tmp_path / "c.safetensors").read_bytes())
        content[-3] ^= 1  # a weight that is a little different
        (tmp_path / "c.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match="its sha256 is not the one"):
            read_curves(tmp_path / "c.safetensors", sha256=known)

    def test_what_comes_with_tal_run_reads_the_starter_that_comes_with_it(self) -> None:
        starter = Starter()
        found = read_curves(starter.curves_file, sha256=starter.curves_sha256)
        assert found.labels == starter.labels
        assert found.sha256 == starter.curves_sha256
        assert [found.backbone] == list(starter.weights.values())
        assert dict(found.lengths_s) == dict(starter.lengths_s)
        assert curves_beside(Path("a/b.safetensors")) == Path("a/b_curves.safetensors")
        assert starter.curves_file.stat().st_size < 100_000


@pytest.mark.parametrize(
    "change", [{"min_score": -0.1}, {"min_score": 2.0}, {"nms_tiou": 1.1}, {"likely": -1}, {"long": -1}, {"long": float("nan")}]
)
def test_thresholds_have_limits(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must (lie in 0\.\.1|be a number of lengths)"):
        replace(CurveConfig(), **change)
