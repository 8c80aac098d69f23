"""How the starter is trained: windows out of clips, what is done to them, learning, judging, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")
pytest.importorskip("safetensors")

from click.testing import CliRunner  # noqa: E402

from tal_run.eval.annotations import GroundTruth, Instance, Stretch, TrimmedClip, VideoTruth, write_clips  # noqa: E402
from tal_run.extractors.starter import Starter  # noqa: E402
from tal_run.extractors.video_errors import VideoError  # noqa: E402
from tal_run.extractors.weights import sha256_of  # noqa: E402
from tal_run.pipeline import starter_clips, train_starter  # noqa: E402
from tal_run.pipeline.starter_clips import (  # noqa: E402  # noqa: E402
    BACKGROUND,
    AugmentConfig,
    ClipFile,
    Clips,
    TimedVideos,
    WindowSampler,
    augment,
    centre_windows,
    read_clips,
    read_grey,
)
from tal_run.pipeline.train_starter import LABELS, TrainConfig, judge, loss_of, one_cycle, train  # noqa: E402

STILL = AugmentConfig(camera_share=0, flicker=0, noise=0, boundary_share=0, mixed_share=0)


pytestmark = pytest.mark.usefixtures("one_thread")


def make_clips(frames: list[NDArray[np.uint8]], classes: list[int]) -> Clips:
    starts = np.concatenate([[0], np.cumsum([len(clip) for clip in frames])]).astype(np.int64)
    return Clips(np.concatenate(frames), starts, np.array(classes, np.int64))


def counting(length: int) -> NDArray[np.uint8]:
    """A clip whose frames' grey is their own number."""
    return np.broadcast_to(np.arange(length, dtype=np.uint8)[:, None, None], (length, 2, 2)).copy()


def plain(length: int, grey: int) -> NDArray[np.uint8]:
    return np.full((length, 2, 2), grey, np.uint8)


class TestWindowsOfUntrimmedVideos:
    """Videos of 9 s at 24 stored frames a second, whose frames' grey is their number."""

    LABELS = ("squat", "waving")

    def sampler(self, *truths: VideoTruth, frames: int = 216) -> WindowSampler:
        return WindowSampler(
            make_clips([plain(60, 255)], [0]),
            classes=2,
            config=replace(STILL, untrimmed_share=1.0, untrimmed_speed=(1.0, 1.0)),
            seed=0,
            videos=TimedVideos(make_clips([counting(frames)] * len(truths), [BACKGROUND] * len(truths)), truths, self.LABELS),
        )

    def test_they_tell_what_happens_at_their_time_and_nothing_else(self) -> None:
        actions = Instance(4.0, 5.0, "v", "squat"), Instance(4.5, 8.5, "v", "waving")
        sampler = self.sampler(VideoTruth(video_id="v", subset="training", duration_s=9.0, instances=actions))
        seen = set()
        for _ in range(300):
            frames, target = sampler.example()
            assert (np.diff(frames[:, 0, 0].astype(int)) == 3).all()
            first_s = frames[0, 0, 0] / 24
            for index, (start_s, end_s) in enumerate([(4.0, 5.0), (4.5, 8.5)]):
                share = (min(first_s + 2, end_s) - max(first_s, start_s)) / min(2.0, end_s - start_s)
                # the first frame is the nearest stored one, 1/48 s away at most
                assert target[index] == pytest.approx(np.clip((share - 0.25) / 0.5, 0, 1), abs=0.05 / min(2.0, end_s - start_s))
            seen.add(tuple(np.round(target)))
        assert seen == {(0, 0), (1, 0), (0, 1), (1, 1)}

    def test_half_of_them_lie_about_actions_the_classes_evenly(self) -> None:
        often = tuple(Instance(at, at + 0.5, "v", "waving") for at in (4.0, 4.1, 4.2, 4.3, 4.4, 4.5))
        videos = (
            VideoTruth(video_id="v", subset="training", duration_s=9.0, instances=often),
            VideoTruth(video_id="w", subset="training", duration_s=9.0, instances=(Instance(4.2, 4.7, "w", "squat"),)),
            *(VideoTruth(video_id=f"x{i}", subset="training", duration_s=9.0) for i in range(8)),
        )
        sampler = self.sampler(*videos)
        targets = np.stack([sampler.example()[1] for _ in range(1000)])
        squats, waves = (targets > 0.5).sum(axis=0)
        assert 200 < squats < 330
        assert 200 < waves < 330

    def test_what_nobody_could_tell_is_not_asked(self) -> None:
        unclear = VideoTruth(video_id="v", subset="training", duration_s=9.0, ambiguous=(Stretch(3.0, 9.0),))
        sampler = self.sampler(unclear)
        for _ in range(100):
            frames, target = sampler.example()
            # of the clip instead, which is white; or before it
            assert target[0] == 1 if frames[0, 0, 0] == 255 else frames[0, 0, 0] / 24 <= 1.05

    def test_a_video_shorter_than_a_window_is_held(self) -> None:
        short = VideoTruth(video_id="v", subset="training", duration_s=1.0, instances=(Instance(0.0, 1.0, "v", "squat"),))
        frames, target = self.sampler(short, frames=24).example()
        assert frames[:, 0, 0].tolist() == [*range(0, 24, 3), *[23] * 8]
        assert target.tolist() == [1, 0]

    def test_a_strange_label_is_named(self) -> None:
        strange = VideoTruth(video_id="v", subset="training", duration_s=9.0, instances=(Instance(0.0, 1.0, "v", "curling"),))
        with pytest.raises(ValueError, match="v shows 'curling', which is none of squat, waving"):
            self.sampler(strange)


class TestWindows:
    def test_they_lie_in_the_clip_and_run_at_the_speed_asked_for(self) -> None:
        config = AugmentConfig(speed=(1.25, 1.25), boundary_share=0, mixed_share=0, background_share=0)
        sampler = WindowSampler(make_clips([counting(100)], [0]), classes=1, config=config, seed=0)
        starts = set()
        for _ in range(60):
            frames, _ = sampler.example()
            numbers = np.asarray(frames[:, 0, 0], int)
            assert len(numbers) == 16
            assert set(np.diff(numbers)) == {3, 4}  # 3 stored frames a step, a quarter faster
            starts.add(numbers[0])
        assert min(starts) < 8
        assert max(starts) > 100 - 56 - 8

    def test_one_is_not_played_faster_than_its_clip_lasts(self) -> None:
        config = AugmentConfig(speed=(1.3, 1.3), centre_jitter_s=0, boundary_share=0, mixed_share=0, background_share=0)
        frames, _ = WindowSampler(make_clips([counting(50)], [0]), classes=1, config=config, seed=0).example()
        assert (frames[0, 0, 0], frames[-1, 0, 0]) == (0, 49)
        assert set(np.diff(frames[:, 0, 0].astype(int))) == {3, 4}

    def test_of_a_short_clip_they_stay_about_the_middle(self) -> None:
        config = AugmentConfig(speed=(1, 1), centre_jitter_s=0.16, boundary_share=0, mixed_share=0, background_share=0)
        sampler = WindowSampler(make_clips([counting(48)], [0]), classes=1, config=config, seed=0)
        middles = [float(sampler.example()[0][[0, -1], 0, 0].mean()) for _ in range(60)]
        assert max(abs(middle - 23.5) for middle in middles) <= 0.16 * 24 + 0.5
        assert np.ptp(middles) > 3

    def test_a_clip_shorter_than_a_window_holds_its_ends(self) -> None:
        config = AugmentConfig(speed=(1, 1), centre_jitter_s=0, boundary_share=0, mixed_share=0, background_share=0)
        frames, _ = WindowSampler(make_clips([counting(11)], [0]), classes=1, config=config, seed=0).example()
        assert frames[:, 0, 0].tolist() == [0] * 5 + [2, 3, 5, 7, 9] + [10] * 6 or list(frames[:, 0, 0]) == sorted(
            frames[:, 0, 0]
        )
        assert (frames[0, 0, 0], frames[-1, 0, 0]) == (0, 10)

    def test_at_a_boundary_the_target_is_the_share_of_action(self) -> None:
        config = AugmentConfig(boundary_share=1, mixed_share=0, background_share=0)
        clips = make_clips([plain(80, 200), plain(80, 10)], [0, BACKGROUND])
        sampler = WindowSampler(clips, classes=1, config=config, seed=0)
        begins_with = set()
        for _ in range(40):
            frames, target = sampler.example()
            acting = frames[:, 0, 0] == 200
            assert target[0] == pytest.approx(acting.mean())
            assert 0 < target[0] < 1
            assert np.abs(np.diff(acting.astype(int))).sum() == 1
            begins_with.add(bool(acting[0]))
        assert begins_with == {True, False}

    def test_two_scenes_in_one_have_both_labels(self) -> None:
        config = AugmentConfig(boundary_share=0, mixed_share=1, background_share=0)
        clips = make_clips([plain(80, 200), plain(80, 100)], [0, 1])
        sampler = WindowSampler(clips, classes=2, config=config, seed=0)
        targets = set()
        for _ in range(40):
            frames, target = sampler.example()
            targets.add(tuple(target))
            if target.sum() == 2:
                assert (frames > 130).all()
                assert (frames < 170).all()
        assert targets == {(1, 0), (0, 1), (1, 1)}

    def test_classes_come_equally_often_however_many_clips_they_have(self) -> None:
        clips = make_clips([plain(60, 0)] * 11, [0] * 9 + [1, BACKGROUND])
        config = AugmentConfig(background_share=0.25, boundary_share=0, mixed_share=0)
        sampler = WindowSampler(clips, classes=2, config=config, seed=0)
        mean = np.mean([sampler.example()[1] for _ in range(1500)], axis=0)
        assert mean == pytest.approx([0.375, 0.375], abs=0.05)

    def test_without_an_action_there_is_nothing_to_learn(self) -> None:
        with pytest.raises(ValueError, match="nothing to learn"):
            WindowSampler(make_clips([plain(60, 0)], [BACKGROUND]), classes=2, config=STILL, seed=0)

    def test_in_earnest_they_follow_the_stride_and_short_clips_give_their_middle(self) -> None:
        clips = make_clips([counting(75), counting(48), counting(20)], [0, 0, 0])
        assert centre_windows(clips, 0)[:, 0, 0, 0].tolist() == [0, 9, 18, 27]
        assert centre_windows(clips, 0)[0, :, 0, 0].tolist() == list(range(0, 48, 3))
        (middle,) = centre_windows(clips, 1)
        assert middle[:, 0, 0].mean() == pytest.approx(23.5, abs=0.5)
        assert centre_windows(clips, 2).shape[:2] == (1, 16)


class TestAugment:
    def test_it_is_decided_by_the_generator(self) -> None:
        window = np.random.default_rng(0).integers(0, 256, (6, 24, 32), dtype=np.uint8)
        before = window.copy()
        first, again, other = (augment(window, AugmentConfig(), rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert first.shape == window.shape
        assert first.dtype == np.float32
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
        assert 0 <= first.min() <= first.max() <= 255
        assert np.array_equal(window, before)

    def test_what_stands_still_stays_still_under_a_still_camera(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(16):
            window = np.repeat(rng.integers(0, 256, (1, 24, 32), dtype=np.uint8), 6, axis=0)
            varied = augment(window, STILL, rng=rng)
            assert np.abs(varied - varied[:1]).max() < 1e-3
            assert np.abs(varied - window).mean() > 10

    def test_a_moving_camera_moves_every_frame(self) -> None:
        rng = np.random.default_rng(0)
        config = AugmentConfig(camera_share=1, flicker=0, noise=0, cover_share=0)
        for _ in range(16):
            picture = cv2.resize(rng.integers(0, 256, (6, 8), dtype=np.uint8), (64, 48))
            varied = augment(np.repeat(picture[None], 6, axis=0), config, rng=rng)
            assert (np.abs(np.diff(varied, axis=0)).max(axis=(1, 2)) > 0.05).all()

    def test_the_turned_picture_keeps_its_shapes(self) -> None:
        """A disc stays a disc: turning is not to shear where pictures are wider than high."""
        rows, columns = np.mgrid[:48, :64]
        disc = np.where((rows - 23.5) ** 2 + (columns - 31.5) ** 2 < 100, 255, 0).astype(np.uint8)
        config = AugmentConfig(camera_share=0, zoom=(1, 1), shift=0, turn_deg=45)
        for seed in range(8):
            varied = starter_clips._move_camera(np.stack([disc, disc]), config, np.random.default_rng(seed))
            assert np.abs(varied.astype(float) - disc).mean() < 2.5

    def test_the_picture_goes_where_it_is_shifted_and_zoomed(self) -> None:
        """Twice as large about the middle: what stood halfway to the border stands at it."""
        dot = np.zeros((1, 49, 65), np.uint8)
        dot[0, 24 - 10 : 24 - 7, 32 + 12 : 32 + 15] = 255
        config = AugmentConfig(camera_share=0, zoom=(2, 2), shift=0, turn_deg=0)
        (frame,) = starter_clips._move_camera(dot, config, np.random.default_rng(0))
        row, column = (np.average(grid, weights=frame) for grid in np.mgrid[:49, :65])
        assert row == pytest.approx(24 - 2 * 9, abs=0.5)
        assert abs(column - 32) == pytest.approx(2 * 13, abs=0.5)  # mirrored or not

    def test_noise_is_noise(self) -> None:
        noise = starter_clips._noise((16, 96, 128), np.random.default_rng(0))
        assert noise.mean() == pytest.approx(0, abs=0.02)
        assert noise.std() == pytest.approx(1, abs=0.02)
        assert np.abs(np.diff(noise, axis=0)).min(axis=(1, 2)).max() < 1  # no frame equals the next
        assert (np.diff(noise, axis=0).std(axis=(1, 2)) > 1).all()


class TestTraining:
    @pytest.mark.parametrize("target", [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.4, 0.0, 0.0]])
    def test_descending_the_loss_leads_to_the_truth(self, target: list[float]) -> None:
        """Its least value is where the sigmoids say how much of each class there is, but for the smoothing's sake."""
        logits = torch.zeros(1, 3, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> object:
            optimizer.zero_grad()
            loss = loss_of(logits, torch.tensor([target]), smoothing=0.01)
            loss.backward()
            return loss

        optimizer.step(closure)
        assert logits.sigmoid()[0].tolist() == pytest.approx(target, abs=0.12)

    def test_of_an_untrained_network_the_loss_is_known(self) -> None:
        """Logits of 0: a binary question costs log 2, the choice among three classes and background log 4."""
        loss = loss_of(torch.zeros(7, 3), torch.eye(7, 3), smoothing=0.1)
        assert loss.item() == pytest.approx(3 * np.log(2) + np.log(4))

    def test_the_learning_rate_rises_once_and_falls_to_nothing(self) -> None:
        rates = [one_cycle(progress, warm_up=0.2) for progress in np.linspace(0, 1, 101)]
        assert max(rates) == rates[20] == pytest.approx(1)
        assert rates[0] < 0.1
        assert rates[-1] == pytest.approx(0, abs=1e-6)
        assert all(np.diff(rates[:21]) > 0)
        assert all(np.diff(rates[20:]) < 0)

    def test_it_tells_ways_of_moving_apart_that_no_single_frame_shows(self) -> None:
        """The same bar on the same ground rises or falls; where it starts says nothing."""
        rng = np.random.default_rng(0)

        def bar(speed: float) -> NDArray[np.uint8]:
            ground = rng.integers(60, 120, (48, 64))
            frames = np.repeat(ground[None], 40, axis=0)
            offset, left = rng.uniform(0, 48), rng.integers(8, 40)
            for index, frame in enumerate(frames):
                top = int(offset + speed * index) % 48
                frame[top : top + 6, left : left + 12] = 230
            return frames.astype(np.uint8)

        moves = {0: 0.8, 1: -0.8, BACKGROUND: 0.0}
        learnt, held_out = (
            make_clips([bar(moves[kind]) for _ in range(n) for kind in moves], [kind for _ in range(n) for kind in moves])
            for n in (16, 8)
        )
        config = TrainConfig(steps=70, batch=12, average_steps=10)
        network = train(learnt, classes=2, config=config, augment=AugmentConfig(noise=2, zoom=(0.9, 1.1))).network
        verdict = judge(train_starter.clip_scores(network, held_out), held_out.classes, ("up", "down"))
        assert verdict["accuracy"] > 0.9

    def test_the_same_seed_gives_the_same_network(self) -> None:
        clips = make_clips([np.random.default_rng(k).integers(0, 256, (60, 16, 32), dtype=np.uint8) for k in range(2)], [0, 1])
        first, again, other = (
            train(clips, classes=2, config=TrainConfig(steps=2, batch=2, seed=seed)).network.state_dict() for seed in (1, 1, 2)
        )
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["classifier.weight"], other["classifier.weight"])

    def test_time_ends_it(self) -> None:
        clips = make_clips([np.zeros((60, 16, 32), np.uint8)], [0])
        train(clips, classes=1, config=TrainConfig(steps=10**9, batch=2, minutes=1 / 300))


def test_judgement_of_a_handful_of_clips() -> None:
    scores = np.array([[0.9, 0.1], [0.4, 0.2], [0.6, 0.7], [0.1, 0.3], [0.2, 0.3], [0.2, 0.8]], np.float32)
    verdict = judge(scores, np.array([0, 0, 0, 1, BACKGROUND, BACKGROUND]), ("kick", "squat"))
    assert verdict == {
        "clips": 6,
        "accuracy": 0.75,
        "found": 0.5,
        "false_alarms": 0.5,
        "classes": {
            "kick": {"clips": 3, "accuracy": 0.6667, "found": 0.6667, "taken_for": "squat"},
            "squat": {"clips": 1, "accuracy": 1.0, "found": 0.0, "taken_for": None},
        },
    }
    lines = train_starter.table_lines("street", verdict)
    assert lines[1].split() == ["kick", "3", "66.7%", "66.7%", "squat"]
    assert "accuracy 75.0%, found 50.0%, false alarms in 50.0% of the background clips" in lines[-1]


def write_video(path: Path, greys: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for grey in greys:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((240, 320, 3), grey, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))


class TestReading:
    def test_every_frame_is_kept_and_mapped_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        greys = {"a": [20, 120, 220] * 4, "b": [200, 40] * 3}
        for name, values in greys.items():
            write_video(tmp_path / f"{name}.mp4", values)
        files = [ClipFile(tmp_path / "a.mp4", "waving", "training"), ClipFile(tmp_path / "b.mp4", None, "training")]
        clips = read_clips(files, ("squat", "waving"), cache=tmp_path / "clips.grey")
        assert clips.classes.tolist() == [1, BACKGROUND]
        assert clips.starts.tolist() == [0, 12, 18]
        assert clips.frames.shape == (18, 96, 128)
        assert clips.frames.mean(axis=(1, 2)) == pytest.approx(np.array(greys["a"] + greys["b"]), abs=4)

        monkeypatch.setattr(starter_clips, "read_grey", lambda path: pytest.fail("read anew"))
        again = read_clips(files, ("squat", "waving"), cache=tmp_path / "clips.grey")
        assert np.array_equal(again.frames, clips.frames)
        monkeypatch.setattr(starter_clips, "read_grey", read_grey)
        assert len(read_clips(files[1:], ("squat", "waving"), cache=tmp_path / "clips.grey").frames) == 6

    def test_a_broken_clip_leaves_nothing_behind(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").write_bytes(b"no video")
        with pytest.raises(VideoError):
            read_clips([ClipFile(tmp_path / "a.mp4", None, "training")], (), cache=tmp_path / "clips.grey")
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]

    def test_a_strange_label_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="'curling'"):
            read_clips([ClipFile(tmp_path / "a.mp4", "curling", "training")], ("squat",), cache=tmp_path / "clips.grey")


def test_typical_lengths_are_the_medians_of_the_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(*, look: str, seed: int, index: int) -> SimpleNamespace:
        last = index + (10 if look == "street" else 0)
        instances = (Instance(1.0, 1.0 + last, "v", "squat"), Instance(2.0, 2.5, "v", "waving"))
        return SimpleNamespace(truth=SimpleNamespace(instances=instances[: 1 + (seed == 7)]))

    monkeypatch.setattr(train_starter, "plan_video", plan)
    monkeypatch.setattr(train_starter, "PLANNED_VIDEOS", 5)
    assert train_starter.typical_lengths(["stadium"], seed=7) == {"squat": 2.0, "waving": 0.5}
    assert train_starter.typical_lengths(["stadium", "street"], seed=8) == {"squat": 7.0}


class TestCommand:
    @pytest.fixture
    def made(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
        """In place of the generator: a few short grey clips; what was asked for."""
        asked: list[tuple[str, int]] = []

        def synthesize(out: Path, *, look: str, videos: int, trimmed: int = 0, **_: object) -> GroundTruth:
            asked.append((look, trimmed or videos))
            if videos:
                truths = tuple(
                    VideoTruth(
                        video_id=f"v{i}", subset="training", duration_s=0.4, instances=(Instance(0.0, 0.2, f"v{i}", "squat"),)
                    )
                    for i in range(videos)
                )
                for truth in truths:
                    write_video(out / "training" / f"{truth.video_id}.mp4", [50, 90] * 5)
                return GroundTruth(videos=truths)
            rows = [
                TrimmedClip(video_id=f"{look}_{index}", subset=subset, label=label, duration_s=0.4)
                for index, (subset, label) in enumerate(
                    [("training", "squat"), ("testing", None), ("validation", "waving"), ("validation", None)]
                )
            ]
            for row in rows:
                path = out / "trimmed" / row.subset / f"{row.video_id}.mp4"
                if not path.is_file():
                    write_video(path, [50, 90] * 5)
            write_clips(rows, out / "trimmed.csv")
            return GroundTruth(videos=())

        monkeypatch.setattr(train_starter, "synthesize", synthesize)
        monkeypatch.setattr(train_starter, "PLANNED_VIDEOS", 2)
        return asked

    def test_it_leaves_weights_and_their_figures(self, tmp_path: Path, made: list[tuple[str, int]]) -> None:
        out = tmp_path / "new" / "w.safetensors"
        arguments = ["--out", str(out), "--data", str(tmp_path / "data"), "--clips", "40", "--videos", "3", "--steps", "1"]
        ran = CliRunner().invoke(train_starter.main, arguments, catch_exceptions=False)
        assert ran.exit_code == 0
        assert made == [("stadium", 40), ("street", 32), ("stadium", 3)]
        assert Starter(path=out).labels == LABELS
        card = json.loads(out.with_suffix(".json").read_text())
        assert card["sha256"] == sha256_of(out)
        assert card["data"]["clips"] == 2  # the two that are not held out
        assert card["data"]["videos"] == 3
        assert {look: verdict["clips"] for look, verdict in card["validation"].items()} == {"stadium": 2, "street": 4}
        assert card["training"]["steps"] == 1
        assert set(card["lengths_s"]) <= set(LABELS)
        assert Starter(path=out).lengths_s == card["lengths_s"]
        assert Starter(path=out).recipe["training"] == card["training"]

    @pytest.mark.parametrize("during", ["train", "judge"])
    def test_interrupted_it_leaves_what_was_there(
        self, during: str, tmp_path: Path, made: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        (tmp_path / "w.safetensors").write_bytes(b"the old ones")
        monkeypatch.setattr(train_starter, during, interrupt)
        arguments = ["--data", str(tmp_path / "data"), "--clips", "40", "--videos", "3", "--steps", "1"]
        ran = CliRunner().invoke(train_starter.main, ["--out", str(tmp_path / "w.safetensors"), *arguments])
        assert ran.exit_code == 1
        assert "Aborted!" in ran.output
        assert (tmp_path / "w.safetensors").read_bytes() == b"the old ones"
        assert not (tmp_path / "w.json").exists()
