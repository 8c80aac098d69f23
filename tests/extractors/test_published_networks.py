"""I3D, C3D and P3D-199: what the implementations behind the public checkpoints give, and one contract over all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")

from tal_run.extractors.backbone import BackboneError  # noqa: E402
from tal_run.extractors.c3d import C3D  # noqa: E402
from tal_run.extractors.i3d import InceptionI3D, _SamePad, _SamePool  # noqa: E402
from tal_run.extractors.p3d import P3D199, _published_name  # noqa: E402
from tal_run.extractors.published import COUNTER  # noqa: E402
from tal_run.extractors.weights import WeightsError  # noqa: E402

KINDS = ("i3d_rgb", "i3d_flow", "c3d", "p3d199_rgb", "p3d199_flow")


def relative_error(ours: Any, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.linalg.norm(ours.numpy() - theirs) / np.linalg.norm(theirs))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """Untrained networks of few classes, in evaluation mode."""
    torch.manual_seed(0)
    networks = {
        "i3d": InceptionI3D(in_channels=2, num_classes=5),
        "p3d": P3D199(in_channels=2, num_classes=5),
        "c3d": C3D(num_classes=5),
    }
    return {name: network.eval() for name, network in networks.items()}


@pytest.fixture(scope="module")
def loaded(reference: Any) -> tuple[Any, dict[str, Any]]:
    """A network of which nothing is known, and a checkpoint that fits it."""
    return InceptionI3D(), reference.checkpoint("i3d_rgb")


def clips_for(name: str) -> Any:
    shape = (2, 3, 16, 112, 112) if name == "c3d" else (2, 2, 16, 32, 32)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


class TestAgainstTheReference:
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "c3d"])
    def test_features_and_logits_are_the_published_ones(self, kind: str, reference: Any) -> None:
        network, expected = reference.network(kind), reference.outputs(kind)
        with torch.inference_mode():
            features = network.features(reference.clips(kind))
            assert relative_error(features, expected["feature"]) < 1e-5
            assert relative_error(network.classify(features), expected["logits"]) < 1e-5

    def test_c3d_too(self, reference: Any) -> None:
        network, expected = reference.network("c3d"), reference.outputs("c3d")
        clips = reference.clips("c3d")
        with torch.inference_mode():
            assert relative_error(network.features(clips, layer="fc6"), expected["fc6"]) < 1e-5
            fc7 = network.features(clips, layer="fc7")
            assert relative_error(fc7, expected["fc7"]) < 1e-5
            assert relative_error(network.classify(fc7), expected["logits"]) < 1e-5

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_published_number_is_taken(self, kind: str, reference: Any) -> None:
        network = reference.network(kind)
        published = sum(int(np.prod(shape)) for key, shape in reference.shapes[kind].items() if not key.endswith(COUNTER))
        assert published == sum(value.numel() for name, value in network.state_dict().items() if not name.endswith(COUNTER))


class TestCheckpoint:
    def test_step_counters_are_no_part_of_it(self, loaded: tuple[Any, dict[str, Any]]) -> None:
        network, checkpoint = loaded
        network.load_published({key: value for key, value in checkpoint.items() if not key.endswith(COUNTER)})
        taken = network.state_dict()["trunk.Mixed_5c.b3b.bn.running_var"]
        assert torch.equal(taken, checkpoint["Mixed_5c.b3b.bn.running_var"])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda c: c.pop("logits.conv3d.bias"),
                "I3D .* with 3 input channels and 400 classes: it lacks logits.conv3d.bias$",
            ),
            (lambda c: c.update(extra=torch.zeros(1)), "it has the unknown extra$"),
            (
                lambda c: c.update({"Conv3d_1a_7x7.conv3d.weight": torch.zeros(64, 2, 7, 7, 7)}),
                r"it differs in shape: Conv3d_1a_7x7.conv3d.weight is \[64, 2, 7, 7, 7\], not \[64, 3, 7, 7, 7\]$",
            ),
            (lambda c: [c.pop(key) for key in list(c) if key.startswith("Mixed")], "it lacks Mixed_3b.* and 267 more$"),
            (lambda c: c.update(state_dict={}), "this is no state dictionary: 'state_dict' is not a tensor"),
        ],
    )
    def test_a_wrong_one_is_refused_and_changes_nothing(
        self, change: Callable[[dict[str, Any]], object], message: str, loaded: tuple[Any, dict[str, Any]]
    ) -> None:
        network, checkpoint = loaded[0], dict(loaded[1])
        before = {name: value.clone() for name, value in network.state_dict().items()}
        change(checkpoint)
        with pytest.raises(WeightsError, match=message):
            network.load_published(checkpoint)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def test_that_of_another_network_is_refused(self, loaded: tuple[Any, dict[str, Any]]) -> None:
        for other in (C3D, P3D199):
            with pytest.raises(WeightsError, match=r"this is not a checkpoint of .* it lacks .* it has the unknown "):
                other(num_classes=2).load_published(loaded[1])


@pytest.mark.parametrize("name", ["i3d", "c3d", "p3d"])
class TestContract:
    def test_logits_are_made_of_features(self, name: str, small: dict[str, Any]) -> None:
        network, clips = small[name], clips_for(name)
        with torch.inference_mode():
            features = network.features(clips, layer="fc7") if name == "c3d" else network.features(clips)
            assert features.shape == (2, {"i3d": 1024, "c3d": 4096, "p3d": 2048}[name])
            logits = network(clips)
            assert logits.shape == (2, 5)
            assert torch.equal(network.classify(features), logits)

    def test_the_same_clips_give_the_same_bytes_and_a_clip_is_judged_alone(self, name: str, small: dict[str, Any]) -> None:
        network, clips = small[name], clips_for(name)
        with torch.inference_mode():
            together = network.features(clips)
            assert torch.equal(network.features(clips), together)
            alone = torch.cat([network.features(clip[None]) for clip in clips])
        assert torch.allclose(alone, together, rtol=1e-3, atol=1e-5)

    def test_what_goes_in_is_left_alone(self, name: str, small: dict[str, Any]) -> None:
        clips = clips_for(name)
        kept = clips.clone()
        with torch.inference_mode():
            small[name](clips)
        assert torch.equal(clips, kept)

    @pytest.mark.parametrize("index", [0, 1, 2, 3, 4])
    def test_clips_of_another_shape_are_refused(self, index: int, name: str, small: dict[str, Any]) -> None:
        shape = list(clips_for(name).shape)
        shapes = [
            shape[1:],
            [*shape[:1], 5, *shape[2:]],
            [*shape[:2], 8, *shape[3:]],
            [*shape[:3], 16, shape[4]],
            [*shape[:4], 0],
        ]
        with pytest.raises(BackboneError, match=r"takes clips \[B, [23], T, H, W\] with T from .* got \["):
            small[name].features(torch.zeros(shapes[index]))


class TestI3D:
    def test_it_goes_on_in_time(self, small: dict[str, Any]) -> None:
        network = small["i3d"]
        clips = torch.rand(1, 2, 64, 32, 32)
        with torch.inference_mode():
            over_time = network.features_over_time(clips)
            assert over_time.shape == (1, 1024, 7)
            assert torch.allclose(over_time.mean(dim=2), network.features(clips))
            # the classifier is linear: it does not matter whether features or logits are averaged
            logits = torch.stack([network.classify(vector) for vector in over_time.unbind(2)]).mean(dim=0)
            assert torch.allclose(network(clips), logits, atol=1e-5)

    @pytest.mark.parametrize("frames", [9, 15, 17, 24])
    def test_any_length_from_nine_frames(self, frames: int, small: dict[str, Any]) -> None:
        with torch.inference_mode():
            assert small["i3d"].features_over_time(torch.rand(1, 2, frames, 33, 47)).shape == (1, 1024, -(-frames // 8) - 1)

    @pytest.mark.parametrize("size", [5, 6, 7, 8])
    @pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (2, 2), (3, 1), (3, 2), (7, 2)])
    def test_same_padding_is_tensorflows(self, size: int, kernel: int, stride: int) -> None:
        """The rule of TensorFlow's documentation, window by window."""
        line = torch.arange(1.0, size + 1)
        missing = max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
        begins = [index * stride - missing // 2 for index in range(-(-size // stride))]
        windows = [[line[place].item() for place in range(begin, begin + kernel) if 0 <= place < size] for begin in begins]
        cube = line.expand(1, 1, 5, 5, size)
        padded = _SamePad(kernel, stride)(cube)
        ones = torch.ones(1, 1, 1, 1, kernel)
        sums = torch.nn.functional.conv3d(padded, ones, stride=stride)[0, 0, (padded.shape[2] - 1) // stride // 2]
        assert sums.max(dim=0).values.tolist() == [sum(window) for window in windows]
        if kernel <= 3:
            pooled = _SamePool((1, 1, kernel), (1, 1, stride))(cube)
            assert pooled[0, 0, 0, 0].tolist() == [max(window) for window in windows]

    @pytest.mark.parametrize("shape", [(2, 3, 5, 6, 7), (1, 2, 1, 1, 3), (1, 1, 2, 1, 1)])
    def test_the_quick_pool_is_the_pool(self, shape: tuple[int, ...]) -> None:
        pool, maps = _SamePool((3, 3, 3), (1, 1, 1)), torch.randn(shape, generator=torch.Generator().manual_seed(0))
        expected = pool(maps)  # with gradients, PyTorch's own
        assert torch.equal(expected, torch.nn.functional.max_pool3d(maps, 3, 1, padding=1))
        with torch.inference_mode():
            assert torch.equal(pool(maps), expected)
            last = pool(maps.to(memory_format=torch.channels_last_3d))
        assert torch.equal(last, expected)
        assert last.is_contiguous(memory_format=torch.channels_last_3d)


class TestC3D:
    @pytest.mark.parametrize("shape", [(1, 3, 17, 112, 112), (1, 3, 16, 128, 171)])
    def test_only_its_own_size_fits(self, shape: tuple[int, ...], small: dict[str, Any]) -> None:
        with pytest.raises(BackboneError, match="exactly 16 frames of 112 x 112, got"):
            small["c3d"](torch.zeros(shape))

    def test_an_unknown_layer_is_refused(self, small: dict[str, Any]) -> None:
        with pytest.raises(BackboneError, match="features of fc6 and fc7, not of 'fc8'"):
            small["c3d"].features(clips_for("c3d"), layer="fc8")


class TestP3D:
    def test_long_clips_are_their_sixteens(self, small: dict[str, Any]) -> None:
        """Convolutions see a little over the seam, so halves apart are near the whole, and twice the same comes nearest."""
        network = small["p3d"]
        clip = clips_for("p3d")[:1]
        with torch.inference_mode():
            once, twice = network.features(clip), network.features(torch.cat([clip, clip], dim=2))
        assert torch.nn.functional.cosine_similarity(once, twice).item() > 0.99

    def test_names(self) -> None:
        assert _published_name("res2.0.middle.conv_xy.norm.weight") == "layer1.0.bn2.weight"
        assert _published_name("res5.0.past.conv.weight") == "layer4.0.downsample.0.weight"
