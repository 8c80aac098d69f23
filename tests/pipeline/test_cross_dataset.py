"""Scores carried over from classes to classes, with word vectors of three numbers that can be followed by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gensim")

from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth  # noqa: E402
from tal_run.extractors.features import FeatureNeeds, Features  # noqa: E402
from tal_run.extractors.timegrid import TimeGrid  # noqa: E402
from tal_run.models.actionbytes_network import HEAD, ActionBytesHeadConfig  # noqa: E402
from tal_run.models.head import TrainedHead, TrainingVideo  # noqa: E402
from tal_run.pipeline.cross_dataset import ALL_CLASSES, affinities_of, carried_over, like, trimmed, without_unseen  # noqa: E402
from tal_run.pipeline.query import match_query  # noqa: E402
from tal_run.pipeline.training_data import TrainingError, TrainingSet  # noqa: E402

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

pytestmark = pytest.mark.usefixtures("one_thread")

SEEN = ("golf", "horse riding", "swim")
WORDS = {
    "golf": [1, 0, 0],
    "swim": [0, 1, 0],
    "dive": [0, 0.8, 0.6],
    "horse": [0, 0, 3],
    "riding": [4, 0, 0],
    "putt": [0.6, 0, -0.8],
}


def table() -> KeyedVectors:
    from gensim.models import KeyedVectors

    made = KeyedVectors(3, count=0)
    made.add_vectors(list(WORDS), np.array(list(WORDS.values()), np.float32))
    return made


def seeing_classes() -> TrainedHead:
    """A head whose activations are its features."""
    config = ActionBytesHeadConfig(regime="weak", proposals=False, first_stage=False, score="max", confidence_weight=0.0)
    network = HEAD.new_network(3, 3, config=config, seed=0)
    with torch.no_grad():
        for layer in (network.projection, network.classifier):
            layer.weight.copy_(torch.eye(3))
            layer.bias.zero_()
    return TrainedHead(head=HEAD, config=config, network=network.eval(), labels=SEEN, needs=FeatureNeeds(dim=3))


def features(data: Any) -> Features:
    data = np.asarray(data, np.float32)
    return Features(data=data, grid=TimeGrid(step_s=1.0, window_s=1.0, count=len(data), duration_s=float(len(data))))


class TestCarriedOver:
    def test_affinities_are_cosines_of_mean_vectors(self) -> None:
        # "horse riding" is (4, 0, 3) / 2, of length 5 / 2; "dive" (0, 0.8, 0.6)
        matches = [match_query(label, SEEN, vectors=table(), config=ALL_CLASSES) for label in ("dive", "golf")]
        assert affinities_of(matches, 3) == pytest.approx(np.array([[0, 1], [0.6 * 0.6, 0], [0.8, 0]]), abs=1e-6)

    def test_what_points_the_other_way_takes_no_part(self) -> None:
        match = match_query("putt", SEEN, vectors=table(), config=ALL_CLASSES)
        assert affinities_of([match], 3)[:, 0] == pytest.approx([0.6, 0, 0], abs=1e-6)  # riding: 0.6 * 0.8 - 0.8 * 0.6

    def test_an_unseen_class_is_found_where_those_like_it_are(self) -> None:
        video = features([[0, 0, 0], [0, 1, 2], [0, 1, 2], [0, 0, 0], [5, 0, 0], [0, 0, 0]])
        carried = carried_over(seeing_classes(), ["dive", "GolfSwing"], vectors=table(), config=ALL_CLASSES)
        assert carried.labels == ("dive", "GolfSwing")
        (dive,) = [found for found in carried.localize(video) if found.label == "dive"]
        assert (dive.start_s, dive.end_s) == (1, 3)
        assert dive.score == pytest.approx(0.36 * 1 + 0.8 * 2)
        golf = [found for found in carried.localize(video) if found.label == "GolfSwing"]  # "swing" has no vector
        assert (golf[0].start_s, golf[0].end_s) == (4, 5)

    def test_what_no_class_is_like_is_never_found(self) -> None:
        carried = carried_over(seeing_classes(), ["zorbing", "swim"], vectors=table())
        assert {found.label for found in carried.localize(features([[0, 0, 0], [3, 3, 3]]))} == {"swim"}


def truth() -> GroundTruth:
    def video(name: str, *labels: str) -> VideoTruth:
        return VideoTruth(video_id=name, instances=tuple(Instance(0.0, 1.0, name, label) for label in labels))

    return GroundTruth(
        videos=(video("a", "golf"), video("b", "swim", "golf"), video("c", "horse riding"), video("d"), video("e", "swim"))
    )


class TestUnseen:
    def left(self, unseen: tuple[str, ...], affinity: float | None = None) -> tuple[list[str], tuple[str, ...]]:
        config = ActionBytesHeadConfig(regime="zero-shot", unseen=unseen, unseen_affinity=affinity)
        kept, left_out = without_unseen(truth(), config, vectors=table())
        return [video.video_id for video in kept.videos], left_out

    def test_by_name_and_the_whole_video(self) -> None:
        assert self.left(("Swims",)) == (["a", "c", "d"], ("swim",))
        assert self.left(("HorseRiding", "diving")) == (["a", "b", "d", "e"], ("horse riding",))
        assert self.left(("ironing",)) == (["a", "b", "c", "d", "e"], ())

    def test_by_similarity_from_the_threshold_on(self) -> None:
        assert self.left(("dive",)) == (["a", "b", "c", "d", "e"], ())
        assert self.left(("dive",), 0.79) == (["a", "c", "d"], ("swim",))
        assert self.left(("dive",), 0.81) == (["a", "b", "c", "d", "e"], ())
        assert self.left(("dive",), 0.35) == (["a", "d"], ("horse riding", "swim"))
        assert like(SEEN, ["dive", "putt"], affinity=0.59, vectors=table()) == ("golf", "swim")
        assert like(SEEN, ["zorbing"], affinity=0.01, vectors=table()) == ()

    def test_nothing_left_is_a_sentence(self) -> None:
        with pytest.raises(TrainingError, match=r"nothing is left to learn from without golf, horse riding, swim"):
            self.left(("golf", "swim", "horse riding"))

    def test_other_heads_and_regimes_leave_nothing_out(self) -> None:
        for config in (ActionBytesHeadConfig(), SimpleNamespace()):
            kept, left_out = without_unseen(truth(), config)
            assert (kept, left_out) == (truth(), ())


class TestTrimmed:
    def test_every_action_is_a_clip(self) -> None:
        data = np.arange(10, dtype=np.float32)[:, None]
        video = TrainingVideo(
            features=data,
            classes=(0, 1),
            segments=np.array([[2.0, 5.0], [6.4, 8.6], [9.7, 9.9], [1.6, 1.7]]),
            segment_classes=np.array([1, 0, 1, 0]),
        )
        whole = TrainingSet(videos=(video,), labels=("a", "b"), needs=FeatureNeeds(dim=1), sha256="0")
        clips = trimmed(whole)
        held = [(clip.features[:, 0].tolist(), clip.classes) for clip in clips.videos]
        assert held == [([2, 3, 4], (1,)), ([6, 7, 8], (0,)), ([9], (1,)), ([2], (0,))]
        assert not any(len(clip.segments) for clip in clips.videos)
        assert clips.sha256 != whole.sha256
        with pytest.raises(TrainingError, match="timed=True"):
            trimmed(clips)
