"""The published networks made ready for inference still give the published features."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")

from tal_run.extractors import fast_inference  # noqa: E402
from tal_run.extractors.backbone import BackboneError  # noqa: E402
from tal_run.extractors.fast_inference import fold_batch_norms, for_inference, has_bfloat16, resolved_precision  # noqa: E402
from tal_run.extractors.i3d import InceptionI3D  # noqa: E402
from tal_run.extractors.p3d import P3D199  # noqa: E402

FEATURE = {"i3d_rgb": "feature", "i3d_flow": "feature", "c3d": "fc6", "p3d199_rgb": "feature", "p3d199_flow": "feature"}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["i3d_rgb", "c3d", "p3d199_rgb"])
def test_folded_float32_is_the_published_float32(kind: str, reference: Any) -> None:
    fast = for_inference(reference.network(kind), precision="float32")
    with torch.inference_mode():
        features = fast.features(reference.clips(kind)).numpy()
    expected = reference.outputs(kind)[FEATURE[kind]]
    assert abs(features - expected).max() < 1e-4 * abs(expected).max()


@pytest.mark.parametrize("kind", ["i3d_rgb", "i3d_flow", "c3d", "p3d199_rgb", "p3d199_flow"])
def test_bfloat16_points_the_same_way(kind: str, reference: Any) -> None:
    if not has_bfloat16() and kind != "i3d_rgb":
        pytest.skip("bfloat16 is emulated on this processor, and slow")
    fast = for_inference(reference.network(kind), precision="bfloat16")
    with torch.inference_mode():
        features = fast.features(reference.clips(kind))
        logits = fast.classify(features)
    assert features.dtype == logits.dtype == torch.float32
    expected = torch.from_numpy(reference.outputs(kind)[FEATURE[kind]])
    assert torch.nn.functional.cosine_similarity(features, expected).min() > 0.999


@pytest.mark.parametrize("make", [InceptionI3D, P3D199])
def test_every_batch_norm_is_folded_and_the_network_given_is_left_alone(make: type[Any]) -> None:
    torch.manual_seed(0)
    network = make(num_classes=3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fast = for_inference(network, precision="float32")
    assert not [module for module in fast.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    clips = torch.rand(1, 3, 16, 32, 32)
    with torch.inference_mode():
        expected, features = network.eval().features(clips), fast.features(clips)
    assert (features - expected).abs().max() < 1e-4 * expected.abs().max()


def test_only_what_follows_a_convolution_is_folded() -> None:
    network = torch.nn.Sequential(
        torch.nn.BatchNorm3d(2), torch.nn.Conv3d(2, 2, 1), torch.nn.ReLU(), torch.nn.BatchNorm3d(2)
    ).eval()
    fold_batch_norms(network)
    assert [type(module).__name__ for module in network] == ["BatchNorm3d", "Conv3d", "ReLU", "BatchNorm3d"]


@pytest.mark.parametrize("hardware", [True, False])
def test_auto_asks_the_hardware(hardware: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_inference, "has_bfloat16", lambda device: hardware)
    fast = for_inference(InceptionI3D(num_classes=3))
    weight = fast.get_parameter("trunk.Mixed_5c.b1b.conv3d.weight")
    assert weight.dtype == (torch.bfloat16 if hardware else torch.float32)
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert fast.classifier.weight.dtype == torch.float32


def test_wrong_wishes_are_refused() -> None:
    with pytest.raises(BackboneError, match="no precision 'float64': choose one of auto, bfloat16, float32"):
        for_inference(InceptionI3D(num_classes=3), precision="float64")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(BackboneError, match=r"InceptionI3D cannot work on 'cuda' .*: use --device cpu"):
            for_inference(InceptionI3D(num_classes=3), device="cuda")


@pytest.mark.parametrize("device", ["tpu", "", "cuda:one"])
def test_a_device_that_does_not_exist_is_a_sentence(device: str) -> None:
    for precision in ("auto", "float32"):
        with pytest.raises(BackboneError, match=f"no device '{device}': choose cpu, cuda or"):
            resolved_precision(precision, device)  # type: ignore[arg-type]
