"""Published networks as backbones: each sees of a window what its recipe says, and their features stand side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")
pytest.importorskip("cv2")

from tal_run.extractors import c3d as c3d_module  # noqa: E402
from tal_run.extractors import i3d as i3d_module  # noqa: E402
from tal_run.extractors import p3d as p3d_module  # noqa: E402
from tal_run.extractors import published_weights  # noqa: E402
from tal_run.extractors.backbone import BackboneError, BackboneOptions  # noqa: E402
from tal_run.extractors.c3d import C3D  # noqa: E402
from tal_run.extractors.clip_networks import C3DFc6, C3DFc7, ClipNetwork, I3DFlow, I3DRgb, I3DTwoStream, P3DRgb  # noqa: E402
from tal_run.extractors.features import extract  # noqa: E402
from tal_run.extractors.flow import TVL1Params  # noqa: E402
from tal_run.extractors.hub_networks import LEAST_CLIP  # noqa: E402
from tal_run.extractors.i3d import InceptionI3D, _published_name  # noqa: E402
from tal_run.extractors.p3d import P3D199  # noqa: E402
from tal_run.extractors.registry import EXTRACTORS  # noqa: E402
from tal_run.extractors.two_streams import FlowConfig  # noqa: E402
from tal_run.extractors.weights import WeightsError, WeightsFile, sha256_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
FLOAT32 = BackboneOptions(precision="float32")


@pytest.fixture(scope="module")
def i3d() -> dict[str, Any]:
    """Untrained networks for both streams."""
    torch.manual_seed(0)
    return {"rgb": InceptionI3D(num_classes=7).eval(), "flow": InceptionI3D(in_channels=2, num_classes=7).eval()}


@pytest.fixture(scope="module")
def window() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (16, 224, 224, 3), np.uint8)
    return frames, rng.normal(0, 10, (16, 224, 224, 2)).astype(np.float32)


def as_batch(values: NDArray[np.float32]) -> Any:
    return torch.from_numpy(np.ascontiguousarray(values.transpose(3, 0, 1, 2)[None]))


class TestI3D:
    def test_both_streams_stand_side_by_side_each_in_its_range(self, i3d: dict[str, Any], window: Any) -> None:
        frames, flow = window
        features, logits = I3DTwoStream(networks=i3d, options=FLOAT32)(frames, flow)
        with torch.inference_mode():
            rgb = i3d["rgb"].features(as_batch(frames.astype(np.float32) * (2 / 255) - 1))[0].numpy()
            motion = i3d["flow"].features(as_batch(np.clip(flow, -20, 20) / 20))[0].numpy()
        assert features.shape == (2048,)
        assert np.allclose(features[:1024], rgb, rtol=1e-3, atol=1e-6)
        assert np.allclose(features[1024:], motion, rtol=1e-3, atol=1e-6)
        assert logits is None  # nobody named the classes

    def test_logits_are_the_sum_of_both(self, i3d: dict[str, Any], window: Any) -> None:
        frames, flow = window
        backbone = I3DTwoStream(networks=i3d, options=FLOAT32)
        backbone.labels = tuple("abcdefg")
        features, logits = backbone(frames, flow)
        with torch.inference_mode():
            parts = [
                i3d[stream].classify(torch.from_numpy(features[None, half])).numpy()[0]
                for stream, half in (("rgb", slice(0, 1024)), ("flow", slice(1024, 2048)))
            ]
        assert np.allclose(logits, parts[0] + parts[1], atol=1e-5)

    def test_each_half_alone_is_the_half(self, i3d: dict[str, Any], window: Any) -> None:
        frames, flow = window
        both = I3DTwoStream(networks=i3d, options=FLOAT32)(frames, flow)[0]
        rgb = I3DRgb(networks={"rgb": i3d["rgb"]}, options=FLOAT32)(frames)[0]
        motion = I3DFlow(networks={"flow": i3d["flow"]}, options=FLOAT32)(frames, flow)[0]
        assert np.allclose(both, np.concatenate([rgb, motion]), rtol=1e-4, atol=1e-6)

    def test_ten_crops_give_the_mean_of_ten(self, i3d: dict[str, Any]) -> None:
        network = {"rgb": i3d["rgb"]}
        frames = np.random.default_rng(1).integers(0, 256, (16, 226, 230, 3), np.uint8)
        ten = I3DRgb(networks=network, options=replace(FLOAT32, crop="ten"))(frames)[0]
        center = I3DRgb(networks=network, options=FLOAT32)
        pieces = [frames[:, top : top + 224, left : left + 224] for top, left in ((0, 0), (0, 6), (2, 0), (2, 6), (1, 3))]
        each = [center(piece[:, :, ::step])[0] for piece in pieces for step in (1, -1)]
        assert np.allclose(ten, np.mean(each, axis=0), rtol=1e-3, atol=1e-6)

    def test_whole_frames_are_taken_whole(self, i3d: dict[str, Any]) -> None:
        whole = I3DRgb(networks={"rgb": i3d["rgb"]}, options=replace(FLOAT32, crop="whole"))
        assert whole.preprocessing.crop is None
        assert whole.preprocessing.short_side == 256
        frames = np.random.default_rng(1).integers(0, 256, (16, 64, 96, 3), np.uint8)
        assert whole(frames)[0].shape == (1024,)

    def test_no_flow_is_an_error_and_so_are_other_networks(self, i3d: dict[str, Any], window: Any) -> None:
        with pytest.raises(BackboneError, match="i3d looks at optical flow, and was given none"):
            I3DTwoStream(networks=i3d, options=FLOAT32)(window[0])
        with pytest.raises(BackboneError, match="i3d takes a network for each of rgb, flow, got rgb"):
            I3DTwoStream(networks={"rgb": i3d["rgb"]})


def test_c3d_gives_the_layer_that_is_asked_for() -> None:
    torch.manual_seed(0)
    network = C3D(num_classes=5).eval()
    frames = np.random.default_rng(1).integers(0, 256, (16, 112, 112, 3), np.uint8)
    with torch.inference_mode():
        batch = as_batch(frames[..., ::-1].astype(np.float32))  # blue first
        expected = {layer: network.features(batch, layer=layer)[0].numpy() for layer in ("fc6", "fc7")}
        logits = network(batch)[0].numpy()
    for kind, layer in ((C3DFc6, "fc6"), (C3DFc7, "fc7")):
        backbone = kind(networks={"rgb": network}, options=FLOAT32)
        backbone.labels = tuple("abcde")
        found, found_logits = backbone(frames)
        assert np.allclose(found, expected[layer], rtol=1e-3, atol=1e-4)
        assert np.allclose(found_logits, logits, rtol=1e-3, atol=1e-3)
        assert backbone.preprocessing.size == (128, 171)


def test_p3d_names_nothing() -> None:
    torch.manual_seed(0)
    backbone = P3DRgb(networks={"rgb": P3D199(num_classes=5).eval()}, options=FLOAT32)
    frames = np.random.default_rng(1).integers(0, 256, (16, 160, 160, 3), np.uint8)
    features, logits = backbone(frames)
    assert features.shape == (2048,)
    assert logits is None
    assert not P3DRgb.has_labels


@pytest.mark.parametrize("kind", [I3DTwoStream, I3DRgb, I3DFlow, C3DFc6, C3DFc7, P3DRgb])
def test_the_widths_are_those_that_are_promised(kind: type[ClipNetwork]) -> None:
    each = {"i3d": 1024, "c3d": 4096, "p3d": 2048}
    assert kind.feature_dim == sum(each[name.partition("-")[0]] for name in kind.published.values())
    assert kind.streams == tuple(kind.published)


@pytest.mark.parametrize("kind", [backbone for backbone in EXTRACTORS.values() if issubclass(backbone, ClipNetwork)])
def test_windows_are_no_shorter_than_the_networks_can_see(kind: type[ClipNetwork]) -> None:
    least = {"i3d": i3d_module.LEAST_CLIP, "i3d-rgb": i3d_module.LEAST_CLIP, "i3d-flow": i3d_module.LEAST_CLIP}
    least |= {"p3d": p3d_module.LEAST_CLIP, "p3d-two-stream": p3d_module.LEAST_CLIP, **LEAST_CLIP}
    assert kind.window_lengths[0] == least.get(kind.name, c3d_module.CLIP)[0]
    assert kind.window_lengths[-1] == (kind.window_lengths[0] if kind.name in ("c3d", "c3d-fc7", "slowfast_r50") else 1024)
    assert kind.default_windows.window_frames in kind.window_lengths


def test_c3d_sees_no_whole_frames() -> None:
    with pytest.raises(BackboneError, match="c3d sees frames of 112 x 112 only, not whole ones: take --crop center or ten"):
        C3DFc6(networks={"rgb": None}, options=BackboneOptions(crop="whole"))  # type: ignore[dict-item]


class TestFromVideo:
    def test_windows_that_are_too_short_are_refused_before_anything_is_decoded(self, i3d: dict[str, Any]) -> None:
        windows = replace(I3DRgb.default_windows, window_frames=7)
        with pytest.raises(BackboneError, match=r"i3d-rgb sees windows of 9 to 1,024 frames, not of 7.* give --window 9"):
            extract("absent.mp4", backbone=I3DRgb(networks={"rgb": i3d["rgb"]}), windows=windows)

    def test_two_streams_of_a_video(self, i3d: dict[str, Any], factory: ModuleType, tmp_path: Path) -> None:
        path = tmp_path / "video.mp4"
        factory.make_video(path, frame_count=24, rate=25, size=(96, 64))
        backbone = I3DTwoStream(networks=i3d, options=BackboneOptions())
        features = extract(path, backbone=backbone, flow=FlowConfig(backend="numba", params=TVL1Params(scales=1, warps=1)))
        assert features.data.shape == (2, 2048)
        assert features.stream_dims == (("rgb", 1024), ("flow", 1024))
        assert np.isfinite(features.data).all()
        assert set(backbone.settings) == {"crop", "precision"}

    def test_bfloat16_stays_near(self, i3d: dict[str, Any], window: Any) -> None:
        frames, flow = window
        plain = I3DTwoStream(networks=i3d, options=FLOAT32)(frames, flow)[0]
        quick = I3DTwoStream(networks=i3d, options=BackboneOptions(precision="bfloat16"))(frames, flow)[0]
        assert float(plain @ quick / np.linalg.norm(plain) / np.linalg.norm(quick)) > 0.999


class TestWeights:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path))
        files = {}
        for stream in ("rgb", "flow"):
            name = f"i3d-{stream}"
            file = WeightsFile(file_name=f"{stream}.pt", url=None, source="nowhere", licence="none")
            labels = WeightsFile(file_name="labels.txt", url=None, source="nowhere", licence="none")
            files[name] = replace(published_weights.PUBLISHED[name], file=file, label_file=labels)
        monkeypatch.setattr(published_weights, "PUBLISHED", files)
        monkeypatch.setattr("tal_run.extractors.clip_networks.PUBLISHED", files)
        monkeypatch.setattr(I3DTwoStream, "files", tuple(entry.file for entry in files.values()))
        return tmp_path

    def test_missing_files_are_named(self, folder: Path) -> None:
        with pytest.raises(WeightsError, match=r"rgb\.pt"):
            I3DTwoStream()

    def test_loaded_with_what_they_are_and_without_labels_if_need_be(self, folder: Path, window: Any) -> None:
        for stream, channels in (("rgb", 3), ("flow", 2)):
            state = InceptionI3D(in_channels=channels).state_dict()
            torch.save({_published_name(name): value for name, value in state.items()}, folder / f"{stream}.pt")
        backbone = I3DTwoStream()
        assert backbone.weights == {name: sha256_of(folder / name) for name in ("rgb.pt", "flow.pt")}
        assert backbone.labels == ()
        (folder / "labels.txt").write_text("".join(f"action {index}\n" for index in range(400)))
        assert I3DTwoStream().labels[399] == "action 399"
