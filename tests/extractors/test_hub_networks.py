"""The hub's networks give what PyTorchVideo's own give for the same weights, from clips as these were trained on."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")
pytest.importorskip("safetensors")

from torch import nn  # noqa: E402

from tal_run.extractors import clip_networks, hub_networks, registry  # noqa: E402
from tal_run.extractors.backbone import BackboneError, BackboneOptions  # noqa: E402
from tal_run.extractors.fast_inference import for_inference, has_bfloat16  # noqa: E402
from tal_run.extractors.hub_networks import LEAST_CLIP, HubNetwork, _hub, _pathways  # noqa: E402
from tal_run.extractors.published_weights import PUBLISHED, load  # noqa: E402
from tal_run.extractors.recipes import HUB, InputRecipe  # noqa: E402
from tal_run.extractors.weights import WeightsError, pin_of  # noqa: E402

NAMES = tuple(LEAST_CLIP)
CLASSES = 7
SLOW_OF_32 = [0, 4, 8, 13, 17, 22, 26, 31]  # written out, not computed
NORMS = nn.modules.batchnorm._BatchNorm

pytestmark = pytest.mark.usefixtures("one_thread")


def lively(network: Any) -> Any:
    """Weights under which no layer dies out; as built, each block's last norm gives zeros."""
    torch.manual_seed(0)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.weight, *((0.1, 0.3) if name.endswith("norm_c") else (0.8, 1.2)))
    return network.eval()


def the_hubs_own(name: str) -> Any:
    """PyTorchVideo's network, without the softmax that two of them end in."""
    network = getattr(_hub(), name)(pretrained=False, model_num_class=CLASSES)
    network.blocks[-1].activation = None
    return network


def little(network: Any) -> Any:
    """With a last pool of 2 x 2 places instead of 5 x 5 or 7 x 7, which clips of 33 x 33 fill."""
    for module in network.modules():
        if isinstance(module, nn.AvgPool3d):
            module.kernel_size = (module.kernel_size[0], 2, 2)
    return network


def built(name: str) -> HubNetwork:
    with torch.device("meta"):
        return HubNetwork(name, num_classes=CLASSES)


@functools.cache
def without_numbers(name: str) -> HubNetwork:
    """A network that has shapes only, and takes next to no time."""
    return built(name)


@functools.cache
def theirs_without_numbers(name: str) -> Any:
    with torch.device("meta"):
        return the_hubs_own(name)


@pytest.fixture(scope="module", params=NAMES)
def pair(request: pytest.FixtureRequest) -> tuple[str, Any, HubNetwork]:
    """A network of PyTorchVideo's and ours with its weights."""
    theirs = little(lively(the_hubs_own(request.param)))
    ours = little(HubNetwork(request.param, num_classes=CLASSES).eval())
    ours.load_published(theirs.state_dict())
    return request.param, theirs, ours


class TestAgainstTheHub:
    def test_features_and_logits_are_the_hubs(self, pair: tuple[str, Any, HubNetwork], monkeypatch: pytest.MonkeyPatch) -> None:
        """And so they stay when batch norms are folded and, by direction, in bfloat16."""
        name, theirs, ours = pair
        frames = LEAST_CLIP[name][0]
        monkeypatch.setitem(LEAST_CLIP, name, (frames, 33, 33))
        # one more place in width than the pool's window: it slides
        clips = torch.rand(2, 3, frames, 33, 65, generator=torch.Generator().manual_seed(1)) * 4 - 2
        given = [clips[:, :, SLOW_OF_32], clips] if name == "slowfast_r50" else clips
        seen: list[Any] = []
        theirs.blocks[-1].proj.register_forward_pre_hook(lambda _, projected: seen.append(projected[0]))
        with torch.inference_mode():
            logits = theirs(given)
            (projected,) = seen  # [B, t, h, w, D]
            assert projected.shape[1:4] == (1, 1, 2)
            features = projected.mean(dim=(1, 2, 3))
            vectors = ours.features(clips)
            near(vectors, features, 1e-5)
            near(ours.classify(vectors), logits, 1e-5)
            fast = for_inference(ours, precision="float32")
            near(fast.features(clips), features, 1e-4)
            assert not [module for module in fast.modules() if isinstance(module, NORMS)]
            if not has_bfloat16() and name != "x3d_s":
                pytest.skip("bfloat16 is emulated on this processor, and slow")
            fast = for_inference(ours, precision="bfloat16")
            rounded = fast.features(clips)
            assert rounded.dtype == fast.classify(rounded).dtype == torch.float32
            assert torch.nn.functional.cosine_similarity(rounded, features).min() > 0.999


def near(ours: Any, theirs: Any, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 1e-3
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("name", NAMES)
class TestEach:
    def test_every_published_number_is_taken_by_its_name(self, name: str) -> None:
        network = without_numbers(name)
        published = theirs_without_numbers(name).state_dict()
        shapes = {network._published[own]: value.shape for own, value in network.state_dict().items()}
        assert shapes == {key: value.shape for key, value in published.items()}

    def test_its_shortest_and_smallest_clip(self, name: str) -> None:
        network, clips = without_numbers(name), torch.empty(2, 3, *LEAST_CLIP[name], device="meta")
        assert network.features(clips).shape == (2, registry.EXTRACTORS[name].feature_dim)
        assert network(clips).shape == (2, CLASSES)
        theirs = theirs_without_numbers(name)
        for axis in (2, 3, 4):
            less = clips.narrow(axis, 1, clips.shape[axis] - 1)
            with pytest.raises(BackboneError, match=rf"{name} takes clips \[B, 3, T, H, W\] with T from .* got \["):
                network.features(less)
            with pytest.raises(RuntimeError, match=r"pool|size"):
                theirs([less[:, :, ::4], less] if name == "slowfast_r50" else less)

    def test_the_clips_of_its_recipe_fit(self, name: str) -> None:
        recipe = HUB[name]
        clips = torch.empty(1, 3, recipe.frames, recipe.side, recipe.side, device="meta")
        assert without_numbers(name)(clips).shape == (1, CLASSES)

    def test_it_is_published_where_the_hub_says(self, name: str) -> None:
        modules = [importlib.import_module(f"pytorchvideo.models.hub.{part}") for part in ("resnet", "slowfast", "x3d", "csn")]
        modules.append(importlib.import_module("pytorchvideo.models.hub.r2plus1d"))
        paths = {key: path for module in modules for key, path in module.checkpoint_paths.items()}
        file = PUBLISHED[name].file
        assert file.url == paths[name]
        assert file.url.endswith(f"/{file.file_name}")
        assert file.licence == "Apache-2.0"

    def test_its_windows(self, name: str) -> None:
        backbone = registry.EXTRACTORS[name]
        windows = backbone.default_windows
        assert windows.window_frames == HUB[name].frames
        assert 2.1 < windows.window_s < 2.85
        assert 0.9 <= round(windows.step_s, 9) < 1.1
        assert backbone.name == name
        assert backbone.streams == ("rgb",)
        assert backbone.has_labels
        assert [file.file_name for file in backbone.files] == [PUBLISHED[name].file.file_name]
        assert name not in registry.STRENGTH


def test_the_zoos_frames_rates_and_sizes() -> None:
    """The model zoo's table, `frame length x sample rate` at 30 frames a second, and the examples' and PySlowFast's sizes."""

    def every(recipe: InputRecipe) -> float:
        """So many times as many frames lie from the first to the last, both counted."""
        assert recipe.fps is not None
        return round(((recipe.frames - 1) * 30 / recipe.fps + 1) / recipe.frames, 6)

    table = {name: (recipe.frames, every(recipe), recipe.size, recipe.side) for name, recipe in HUB.items()}
    assert table == {
        "i3d_r50": (8, 8, 256, 256),
        "slow_r50": (8, 8, 256, 256),
        "slowfast_r50": (32, 2, 256, 256),
        "x3d_s": (13, 6, 182, 182),
        "x3d_m": (16, 5, 256, 256),
        "r2plus1d_r50": (16, 4, 256, 256),
        "csn_r101": (32, 2, 256, 256),
    }
    for recipe in HUB.values():
        assert np.allclose(np.array(recipe.mean) / 255, 0.45)
        assert np.allclose(np.array(recipe.deviation) / 255, 0.225)


class TestSlowFast:
    def test_the_slow_pathway_sees_one_frame_in_four(self) -> None:
        clips = torch.arange(32.0).reshape(1, 1, 32, 1, 1)
        slow, fast = _pathways(clips)
        assert slow.flatten().tolist() == SLOW_OF_32
        assert fast is clips

    @pytest.mark.parametrize("frames", [33, 36, 64])
    def test_other_numbers_of_frames_are_refused_as_their_pools_would_part(self, frames: int) -> None:
        clips = torch.empty(1, 3, frames, 193, 193, device="meta")
        with pytest.raises(BackboneError, match=f"slowfast_r50 takes clips of exactly 32 frames, got {frames}: let its "):
            without_numbers("slowfast_r50").features(clips)
        with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
            theirs_without_numbers("slowfast_r50")([clips[:, :, : frames // 4], clips])

    def test_what_goes_in_is_left_alone(self) -> None:
        clips = torch.rand(1, 3, 32, 2, 2)
        kept = clips.clone()
        slow, fast = _pathways(clips)
        slow.zero_()
        assert torch.equal(fast, kept)


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(BackboneError, match=r"no network 'x3d_xl' .*: choose one of i3d_r50, slow_r50, .*, csn_r101$"):
        HubNetwork("x3d_xl")


def test_as_a_backbone_it_sees_the_middle_in_its_range() -> None:
    network = HubNetwork("x3d_s", num_classes=CLASSES)
    lively(network)
    backbone = clip_networks.X3DSmall(options=BackboneOptions(precision="float32"), networks={"rgb": network})
    frames = np.random.default_rng(0).integers(0, 256, (13, 182, 200, 3), dtype=np.uint8)
    features, logits = backbone(frames)
    assert features.shape == (2048,)
    assert features.dtype == np.float32
    assert logits is None  # nobody named the classes of a network that was given
    middle = torch.from_numpy((frames[:, :, 9:191] / 255 - 0.45) / 0.225).float().permute(3, 0, 1, 2)[None]
    with torch.inference_mode():
        expected = network.features(middle)[0].numpy()
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()
    assert backbone.preprocessing.short_side == 182


class TestWeights:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("TAL_RUN_WEIGHTS", str(tmp_path / "mine"))
        (tmp_path / "mine").mkdir()
        return tmp_path / "mine"

    def test_a_checkpoint_as_its_training_left_it_is_read_and_pinned(self, folder: Path) -> None:
        with torch.no_grad():
            trained = lively(_hub().x3d_s(pretrained=False))
        state = trained.state_dict()
        left = {"optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}}
        torch.save({"epoch": 1, "model_state": state, "cfg": "X3D: {}", **left}, folder / "X3D_S.pyth")
        network = load("x3d_s")
        assert isinstance(network, HubNetwork)
        assert not network.training
        for own, value in network.state_dict().items():
            assert torch.equal(value, state[network._published[own]])
        assert pin_of(PUBLISHED["x3d_s"].file).is_file()

    def test_that_of_another_network_is_refused_and_not_pinned(self, folder: Path) -> None:
        torch.save({"model_state": {"blocks.0.conv.weight": torch.zeros(1)}}, folder / "CSN_32x2_R101.pyth")
        with pytest.raises(WeightsError, match=r"not a checkpoint of PyTorchVideo's csn_r101 with 400 classes: it lacks "):
            load("csn_r101")
        assert not pin_of(PUBLISHED["csn_r101"].file).exists()


class TestTorchvision:
    """``pytorchvideo.models`` imports it; these networks need nothing of it."""

    @pytest.fixture(autouse=True)
    def unimported(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """PyTorchVideo's models as if never imported, and torchvision too; all is put back."""
        import pytorchvideo

        _hub()  # whatever is there is noted, and so put back
        monkeypatch.setattr(pytorchvideo, "models", pytorchvideo.models)
        for name in [name for name in sys.modules if name.startswith(("pytorchvideo.models", "torchvision"))]:
            monkeypatch.delitem(sys.modules, name)
        yield
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]

    def test_where_it_loads_it_is_used_and_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        package, ops = ModuleType("torchvision"), ModuleType("torchvision.ops")
        vars(ops).update(RoIAlign=dict)
        monkeypatch.setitem(sys.modules, "torchvision", package)
        monkeypatch.setitem(sys.modules, "torchvision.ops", ops)
        _hub()
        assert sys.modules["torchvision"] is package
        assert sys.modules["torchvision.ops"] is ops
        assert sys.modules["pytorchvideo.models.head"].RoIAlign is dict
        assert built("x3d_s").classifier.out_features == CLASSES

    def test_where_there_is_none_nothing_is_left_in_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torchvision", None)  # how Python says that there is none
        _hub()
        assert sys.modules["torchvision"] is None
        assert "torchvision.ops" not in sys.modules
        assert built("slow_r50").classifier.out_features == CLASSES
        with pytest.raises(BackboneError, match=r"RoIAlign is torchvision's, .*: install the torchvision that belongs to"):
            sys.modules["pytorchvideo.models.head"].RoIAlign(7, spatial_scale=1.0)

    @pytest.mark.parametrize("failure", ["RuntimeError('operator torchvision::nms does not exist')", "OSError('libcudart')"])
    def test_where_it_is_for_another_torch_nothing_is_left_either(
        self, failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "torchvision").mkdir()
        (tmp_path / "torchvision" / "__init__.py").write_text(f"raise {failure}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        _hub()
        assert not [name for name in sys.modules if name.startswith("torchvision")]
        assert built("r2plus1d_r50").classifier.out_features == CLASSES

    def test_once_imported_nothing_is_looked_for_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torchvision", None)
        first = _hub()
        monkeypatch.setattr(hub_networks, "_something_for_torchvision", None)
        assert _hub() is first
