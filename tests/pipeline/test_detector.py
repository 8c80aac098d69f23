"""The pipeline from file to detections, on videos whose truth is known to the frame."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tal_run.extractors.backbone import WindowConfig
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.features import FeatureError
from tal_run.extractors.video import VideoError
from tal_run.models import LOCALIZERS
from tal_run.models.actionbytes import ActionBytesConfig
from tal_run.pipeline import DetectConfig, Detector, detect
from tal_run.pipeline.detector import NothingMatchesError
from tal_run.pipeline.query import ClassAffinity, QueryMatch

GREY_RED_GREY = [("grey", 6.0), ("red", 7.0), ("grey", 5.0)]
EVERY_FRAME = WindowConfig(fps=25.0, window_frames=1, stride_frames=1)


def jittered(length_s: float, seed: int) -> list[float]:
    """Frame times at 10 to 50 frames a second, at random."""
    dice, times = random.Random(seed), [0.0]
    while times[-1] < length_s - 0.1:
        times.append(times[-1] + dice.uniform(0.02, 0.1))
    return times


def test_the_action_is_found_where_it_is(colours: str, make_video: Any) -> None:
    (found,) = detect(make_video("a.mp4", GREY_RED_GREY), query="arm wrestling", backbone=colours)
    assert found.label == "arm wrestling"
    assert found.start_s == pytest.approx(6.0, abs=0.8)
    assert found.end_s == pytest.approx(13.0, abs=0.8)


@pytest.mark.parametrize(
    ("rate", "times"),
    [
        (25, None),
        (Fraction(30000, 1001), None),
        (Fraction(24000, 1001), None),
        (50, None),
        (25, jittered(18.0, 1)),
        (25, jittered(18.0, 2)),
        # first timestamp not zero: t = 0 is where the file starts
        (25, [2.0 + k / 25 for k in range(450)]),
    ],
    ids=["25", "29.97", "23.976", "50", "variable 1", "variable 2", "starts at 2 s"],
)
def test_times_are_true_to_the_frame_whatever_the_frame_rate(
    colours: str, make_video: Any, rate: Any, times: list[float] | None
) -> None:
    timeline = GREY_RED_GREY if times is None or times[0] == 0 else [("grey", 8.0), ("red", 7.0), ("grey", 5.0)]
    path = make_video("a.mp4", timeline, rate=rate, times=times)
    detector = Detector(DetectConfig(backbone=colours, windows=EVERY_FRAME))
    (found,) = detector.detect(path, matches=detector.match(["arm wrestling"])).detections
    shown = np.array(times if times is not None else [float(k / Fraction(rate)) for k in range(round(18 * Fraction(rate)))])
    border = 6.0 + shown[0]
    first_red = shown[shown >= border][0] - shown[0]
    first_grey = shown[shown >= border + 7.0][0] - shown[0]
    one_frame = 1 / 25
    assert found.start_s == pytest.approx(first_red, abs=one_frame)
    assert found.end_s == pytest.approx(first_grey, abs=one_frame)


def test_several_queries_are_answered_independently(colours: str, make_video: Any) -> None:
    path = make_video("a.mp4", [("grey", 5.0), ("red", 6.0), ("grey", 6.0), ("green", 5.0), ("grey", 5.0)])
    together = detect(path, query=["arm wrestling", "flipping pancakes", "cleaning pool"], backbone=colours)
    assert {found.label for found in together} == {"arm wrestling", "flipping pancakes"}
    for label in ("arm wrestling", "flipping pancakes"):
        assert detect(path, query=label, backbone=colours) == [found for found in together if found.label == label]


def test_what_is_not_there_is_not_found(colours: str, make_video: Any) -> None:
    assert detect(make_video("a.mp4", GREY_RED_GREY), query="cleaning pool", backbone=colours) == []


def test_without_a_query_the_videos_classes_come_best_first(colours: str, make_video: Any) -> None:
    path = make_video("a.mp4", [("red", 6.0), ("grey", 12.0), ("green", 4.0)])
    found = detect(path, backbone=colours)
    assert {detection.label for detection in found} == {"arm wrestling", "standing around", "flipping pancake"}
    assert [detection.score for detection in found] == sorted((detection.score for detection in found), reverse=True)
    detector = Detector(DetectConfig(backbone=colours, top_classes=1))
    assert len({detection.label for detection in detector.detect(path).detections}) == 1


def test_a_query_in_other_words_carries_the_classes_scores_over(colours: str, make_video: Any) -> None:
    path = make_video("a.mp4", GREY_RED_GREY)
    detector = Detector(DetectConfig(backbone=colours))
    features = detector.watch(path)
    match = QueryMatch("hand duel", (ClassAffinity("arm wrestling", 0, 0.8),), exact=False, unknown_words=(), nearest=())
    (by_words,), (by_name,) = detector.find(features, [match]), detector.find(features, detector.match(["arm wrestling"]))
    assert by_words.label == "hand duel"
    assert (by_words.start_s, by_words.end_s) == (by_name.start_s, by_name.end_s)
    assert by_words.score == pytest.approx(0.8 * by_name.score)


def test_a_querys_typical_length_is_its_classes_in_snippets(
    colours: str, make_video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float | None] = []

    def localize(latent: Any, activation: Any, *, config: Any, typical: float | None) -> Any:
        asked.append(typical)
        return np.empty((0, 2), np.int64), np.empty(0)

    monkeypatch.setitem(LOCALIZERS, "actionbytes", localize)
    detector = Detector(DetectConfig(backbone=colours))
    features = detector.watch(make_video("a.mp4", GREY_RED_GREY))
    first, second, third = detector.backbone.labels[:3]
    classes = tuple(
        ClassAffinity(label, index, affinity)
        for index, (label, affinity) in enumerate([(first, 0.6), (second, 0.2), (third, 0.9)])
    )
    match = QueryMatch("a duel", classes, exact=False, unknown_words=(), nearest=())
    detector.find(features, [match])
    monkeypatch.setattr(detector.backbone, "lengths_s", {first: 4.0, second: 8.0}, raising=False)
    detector.find(features, [match])
    step_s = features.grid.step_s
    assert asked == [None, pytest.approx((0.6 * 4 + 0.2 * 8) / 0.8 / step_s)]


@pytest.mark.parametrize("seconds", [0.04, 0.2, 1.0])
def test_a_very_short_video_is_padded_answered_and_flagged(colours: str, make_video: Any, seconds: float) -> None:
    detector = Detector(DetectConfig(backbone=colours))
    result = detector.detect(make_video("a.mp4", [("red", seconds)]), matches=detector.match(["arm wrestling"]))
    (found,) = result.detections
    assert (found.start_s, found.end_s) == (0.0, pytest.approx(seconds))
    assert any("shorter" in note for note in result.notes)


def test_the_videos_end_is_never_passed(colours: str, make_video: Any) -> None:
    for frames in range(40, 60):
        path = make_video("a.mp4", [("red", frames / 25)])
        for found in detect(path, backbone=colours):
            assert 0 <= found.start_s < found.end_s <= frames / 25 + 1e-9


def test_a_timestamp_that_jumps_is_noted_and_costs_no_time(colours: str, make_video: Any) -> None:
    times = [k / 25 for k in range(100)] + [3000 + k / 25 for k in range(100)]  # less than DecodeLimits.max_stay_s
    detector = Detector(DetectConfig(backbone=colours))
    result = detector.detect(make_video("a.mp4", [("grey", 4.0), ("red", 3000.0)], times=times))
    assert any("timestamps are probably broken" in note for note in result.notes)
    assert result.video.duration_s == pytest.approx(3004.0)


def test_progress_rises_to_the_whole_video(colours: str, make_video: Any) -> None:
    reports: list[tuple[str, float, float | None]] = []
    detect(
        make_video("a.mp4", GREY_RED_GREY),
        query="arm wrestling",
        backbone=colours,
        hook=lambda step, *, completed, total: reports.append((step, completed, total)),
    )
    seconds = [completed for step, completed, _ in reports if step == "watching"]
    assert seconds == sorted(seconds)
    assert seconds[0] == 0.0
    assert seconds[-1] == pytest.approx(18.0)


def test_nothing_at_all_to_look_for_is_an_error(colours: str) -> None:
    with pytest.raises(NothingMatchesError, match="quarterly earnings"):
        Detector(DetectConfig(backbone=colours)).match(["quarterly earnings report"])


@pytest.mark.parametrize(
    "wrong", [{"head": "scnnn"}, {"top_classes": 0}, {"head": "curves", "localization": ActionBytesConfig()}]
)
def test_impossible_configurations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TalRunError):
        DetectConfig(**wrong)


def test_a_missing_video_is_a_sentence(colours: str) -> None:
    with pytest.raises(VideoError, match=r"absent\.mp4"):
        detect("absent.mp4", query="arm wrestling", backbone=colours)


class TestCurves:
    """A backbone that brings what reads its scores over time."""

    @pytest.fixture
    def read(self, colours: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A network of random weights for the backbone that knows colours; it says "here" everywhere."""
        torch = pytest.importorskip("torch")
        from tal_run.models.curves import CurveNetwork, CurveSize, write_curves

        plain = Detector(DetectConfig(backbone=colours)).backbone
        torch.manual_seed(0)
        network = CurveNetwork(CurveSize(classes=len(plain.labels), width=4)).requires_grad_(False)
        network.middle.bias.fill_(4.0)
        path = tmp_path / "curves.safetensors"
        lengths_s = dict.fromkeys(plain.labels, 2.0)
        write_curves(path, network, lengths_s=lengths_s, backbone="of colours", recipe={})
        begin = type(plain).__init__

        def begin_with(self: Any, *arguments: Any, **options: Any) -> None:
            begin(self, *arguments, **options)
            self.curves_file, self.weights = path, {"colours.safetensors": "of colours"}

        monkeypatch.setattr(type(plain), "__init__", begin_with)
        return path

    def test_it_is_asked_unless_thresholds_are_given(self, colours: str, read: Path) -> None:
        def head(**how: Any) -> str:
            return str(Detector(DetectConfig(backbone=colours, **how)).head_card["name"])

        assert [head(), head(head="curves"), head(head="actionbytes")] == ["curves", "curves", "actionbytes"]
        assert head(localization=ActionBytesConfig()) == "actionbytes"

    def test_of_other_weights_it_is_not_asked(self, colours: str, read: Path) -> None:
        from tal_run.models.curves import read_curves, write_curves

        found = read_curves(read)
        write_curves(read, found.network, lengths_s=found.lengths_s, backbone="others", recipe={})
        detector = Detector(DetectConfig(backbone=colours))
        assert detector.reader is None
        assert "has learnt from other weights" in detector.notes[0]
        with pytest.raises(TalRunError, match=r"has learnt from other weights of colours: .* leave out the head 'curves'"):
            Detector(DetectConfig(backbone=colours, head="curves"))

    def test_a_damaged_one_is_said(self, colours: str, read: Path) -> None:
        read.write_bytes(read.read_bytes()[:100])
        with pytest.raises(TalRunError, match="is damaged"):
            Detector(DetectConfig(backbone=colours))

    def test_a_query_is_answered_by_its_classes_by_affinity(self, colours: str, read: Path, make_video: Any) -> None:
        detector = Detector(DetectConfig(backbone=colours, min_score=0.0))
        features = detector.watch(make_video("a.mp4", GREY_RED_GREY))
        first, second = detector.backbone.labels[:2]
        of_first = detector.find(features, detector.match([first]))
        both = QueryMatch(
            "a duel",
            (ClassAffinity(first, 0, 0.9), ClassAffinity(second, 1, 0.5)),
            exact=False,
            unknown_words=(),
            nearest=(),
        )
        found = detector.find(features, [both])
        assert {each.label for each in found} == {"a duel"}
        of_second = detector.find(features, detector.match([second]))
        likely = {(each.start_s, each.end_s): 0.9 * each.score for each in of_first}
        likely |= {(each.start_s, each.end_s): 0.5 * each.score for each in of_second}
        assert found[0].score == pytest.approx(max(likely.values()))
        assert all(each.score == pytest.approx(likely[each.start_s, each.end_s]) for each in found)
        spans = sorted((each.start_s, each.end_s) for each in found)
        assert all(before[1] <= after[0] for before, after in pairwise(spans))

    def test_the_network_s_threshold_is_for_classes_and_the_user_s_for_what_is_shown(
        self, colours: str, read: Path, make_video: Any
    ) -> None:
        """A query that a class half stands in for finds what the class does, unless scores so low are not wanted."""
        detector = Detector(DetectConfig(backbone=colours))
        features, first = detector.watch(make_video("a.mp4", GREY_RED_GREY)), detector.backbone.labels[0]
        (by_name, *_) = detector.find(features, detector.match([first]))
        assert by_name.score > detector.threshold > 0.5
        half = QueryMatch("half", (ClassAffinity(first, 0, 0.5),), exact=False, unknown_words=(), nearest=())
        (in_words, *_) = detector.find(features, [half])
        assert in_words == replace(by_name, label="half", score=0.5 * by_name.score)
        wanted = Detector(DetectConfig(backbone=colours, min_score=0.6))
        assert wanted.find(features, [half]) == []
        assert wanted.find(features, wanted.match([first]))

    def test_features_of_others_are_refused(self, colours: str, read: Path, make_video: Any) -> None:
        detector = Detector(DetectConfig(backbone=colours))
        features = detector.watch(make_video("a.mp4", GREY_RED_GREY))
        with pytest.raises(FeatureError, match="compute the features anew"):
            detector.find(replace(features, labels=tuple(reversed(features.labels))))
        made_by = SimpleNamespace(recipe=SimpleNamespace(weights={"colours.safetensors": "of others"}))
        with pytest.raises(FeatureError, match="compute the features anew"):
            detector.find(replace(features, record=made_by))
        made_by.recipe.weights = detector.backbone.weights
        assert detector.find(replace(features, record=made_by)) == detector.find(features)

    def test_that_it_cannot_be_asked_is_said(self, colours: str, read: Path) -> None:
        usual = Detector(DetectConfig(backbone=colours))
        assert usual.notes == ()
        other = replace(usual.windows, window_frames=usual.windows.window_frames + 1)
        detector = Detector(DetectConfig(backbone=colours, windows=other))
        assert detector.reader is None
        assert "has only learnt from windows of" in detector.notes[0]
        finer = replace(usual.windows, stride_frames=1)
        assert Detector(DetectConfig(backbone=colours, windows=finer)).head == "curves"
        read.unlink()
        assert "is not beside colours's weights" in Detector(DetectConfig(backbone=colours)).notes[0]
        assert Detector(DetectConfig(backbone=colours, head="actionbytes")).notes == ()

    def test_scores_below_the_threshold_are_left_out(self, colours: str, read: Path, make_video: Any) -> None:
        path = make_video("a.mp4", GREY_RED_GREY)
        every = detect(path, backbone=colours)
        config = DetectConfig(backbone=colours, min_score=every[0].score)
        (best, *_) = Detector(config).detect(path).detections
        assert best == every[0]
        assert not Detector(replace(config, min_score=1.0)).detect(path).detections


@pytest.mark.parametrize("min_score", [-0.1, 1.1])
def test_a_threshold_outside_0_to_1_is_refused(min_score: float) -> None:
    with pytest.raises(ValueError, match=r"min-score must lie in 0\.\.1"):
        DetectConfig(min_score=min_score)
