"""The starter network, its weights file and its extractor."""

from __future__ import annotations

import builtins
import hashlib
import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

from tal_run.extractors.backbone import BackboneError, BackboneOptions  # noqa: E402
from tal_run.extractors.starter import (  # noqa: E402
    CARD_NAME,
    PREPROCESSING,
    WEIGHTS_NAME,
    Starter,
    read_weights,
    write_card,
    write_weights,
)
from tal_run.extractors.starter_network import DIFFERENCE_GAIN, StarterConfig, StarterNetwork, planes  # noqa: E402
from tal_run.extractors.weights import WeightsError  # noqa: E402

LABELS = ("long jump", "squat", "waving")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> StarterNetwork:
    """An untrained network whose batch normalisation has seen something, so that no block is a mere way past."""
    torch.manual_seed(0)
    network = StarterNetwork(StarterConfig(classes=len(LABELS)))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    network.train()
    with torch.no_grad():
        network(torch.randint(0, 256, (2, 8, 48, 64)).float())
    return network.eval()


@pytest.fixture(scope="module")
def file(network: StarterNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    write_weights(path, network, labels=LABELS, recipe={"steps": 3})
    return path


@pytest.fixture(scope="module")
def window() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, *PREPROCESSING.crop, 3), dtype=np.uint8)


class TestPlanes:
    def test_a_still_picture_has_nothing_that_moves(self) -> None:
        still = torch.randint(0, 256, (2, 1, 8, 12)).expand(2, 5, 8, 12)
        seen = planes(still)
        assert seen.shape == (2, 12, 5, 4, 6)
        assert seen[:, :4].std() > 0.5
        assert seen[:, 4:].abs().max() < 1e-5

    def test_change_stands_where_and_when_it_happens(self) -> None:
        clip = torch.zeros(1, 6, 8, 8)
        clip[0, 3, 5, 2] = 255  # row 5, column 2: cell (2, 1), its corner below left
        change = planes(clip)[0, 4:8]
        assert {tuple(place) for place in torch.nonzero(change).tolist()} == {(2, 3, 2, 1), (2, 4, 2, 1)}
        assert change[2, 3, 2, 1] == -change[2, 4, 2, 1] > DIFFERENCE_GAIN

    def test_neither_light_nor_contrast_matter(self) -> None:
        clip = torch.randint(0, 256, (3, 4, 8, 8)).float()
        assert torch.allclose(planes(clip * 0.4 + 70), planes(clip), atol=1e-4)

    def test_colours_count_as_grey(self) -> None:
        grey = torch.randint(0, 256, (1, 4, 8, 8), dtype=torch.uint8)
        assert torch.allclose(planes(grey[..., None].expand(-1, -1, -1, -1, 3)), planes(grey), atol=1e-4)

    def test_noise_on_black_is_not_blown_up(self) -> None:
        assert planes(torch.randint(0, 2, (1, 16, 8, 8))).abs().max() < 1


class TestNetwork:
    def test_a_clip_is_judged_alone(self, network: StarterNetwork) -> None:
        clips = torch.randint(0, 256, (3, 16, 48, 64))
        with torch.inference_mode():
            together, alone = network(clips), torch.cat([network(clip[None]) for clip in clips])
        assert together.shape == (3, len(LABELS))
        assert torch.allclose(together, alone, atol=1e-4)

    def test_logits_are_made_of_the_features(self, network: StarterNetwork) -> None:
        clips = torch.randint(0, 256, (2, 16, 48, 64))
        with torch.inference_mode():
            features = network.features(clips)
            assert features.shape == (2, network.config.feature_dim)
            assert torch.equal(network.classify(features), network(clips))

    def test_the_order_of_frames_matters(self, network: StarterNetwork) -> None:
        clips = torch.randint(0, 256, (1, 16, 48, 64))
        with torch.inference_mode():
            assert (network(clips) - network(clips.flip(1))).abs().max() > 1e-4

    @pytest.mark.parametrize("frames", [1, 2, 7, 16, 25])
    def test_windows_may_have_any_length(self, network: StarterNetwork, frames: int) -> None:
        with torch.inference_mode():
            assert network(torch.randint(0, 256, (1, frames, 48, 64))).isfinite().all()

    def test_it_is_small(self) -> None:
        assert sum(weight.numel() for weight in StarterNetwork(StarterConfig(classes=12)).parameters()) < 2.2e6


class TestWeights:
    def test_they_come_back_as_written(self, network: StarterNetwork, file: Path) -> None:
        weights = read_weights(file)
        assert weights.labels == LABELS
        assert weights.recipe == {"steps": 3}
        assert weights.network.config == network.config
        assert not weights.network.training
        for name, value in weights.network.state_dict().items():
            if value.is_floating_point():
                assert torch.equal(value, network.state_dict()[name].half().float()), name

    def test_written_again_they_are_the_same_bytes(self, file: Path, tmp_path: Path) -> None:
        weights = read_weights(file)
        write_weights(tmp_path / "again", weights.network, labels=weights.labels, recipe=weights.recipe)
        assert (tmp_path / "again").read_bytes() == file.read_bytes()
        assert file.stat().st_size < 5e6

    def test_labels_must_fit_the_classes(self, network: StarterNetwork, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="2 labels for 3 classes"):
            write_weights(tmp_path / "w", network, labels=LABELS[:2], recipe={})
        assert not list(tmp_path.iterdir())

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"there are no starter weights at .*make starter"):
            read_weights(tmp_path / "none.safetensors")

    @pytest.mark.parametrize("keep", [0, 7, 1000, 100_000])
    def test_half_a_file_is_damaged(self, file: Path, tmp_path: Path, keep: int) -> None:
        (tmp_path / "half").write_bytes(file.read_bytes()[:keep])
        with pytest.raises(WeightsError, match="make starter"):
            read_weights(tmp_path / "half")

    @pytest.mark.parametrize(
        ("changed", "complaint"),
        [
            ({"labels": ["one"]}, "does not hold the network"),
            ({"labels": None}, "damaged"),
            ({"network": {"classes": 3, "sizes": [1]}}, "damaged"),
            ({"network": {"classes": 3, "widths": [16, 32, 64]}}, "damaged"),
            ({"network": {"classes": 3, "widths": []}}, "widths are"),
            ({"network": {"classes": 3, "widths": 32}}, "widths are"),
            ({"network": {"classes": 3, "temporal_strides": [1]}}, "temporal_strides are"),
            ({"network": {"classes": 3, "temporal_strides": [0, 0, 0]}}, "temporal_strides are"),
            ({"network": {"classes": 3, "depths": [1, 2, -3]}}, "depths are"),
            ({"network": {"classes": 10**30}}, "classes is"),
            ({"network": {"classes": True}}, "classes is"),
            ({"network": {"classes": 3, "stem": 10**9}}, "stem is"),
            ({"network": {"classes": 3, "dropout": float("nan")}}, "dropout is nan"),
            ({"labels": "abc"}, "no list of names"),
            ({"labels": ["a", "b", {}]}, "no list of names"),
            ({"labels": ["a", "b", "\x1b[31m"]}, "no list of names"),
            ({"labels": ["a", "b", "\ud800"]}, "no list of names"),
            ({"labels": ["a", "b", "a"]}, "two labels are the same"),
            ({"preprocessing": {"short_side": 112}}, "trained on other pictures"),
        ],
    )
    def test_what_does_not_belong_together_is_refused(
        self, file: Path, tmp_path: Path, changed: dict[str, object], complaint: str
    ) -> None:
        from safetensors import safe_open

        with safe_open(str(file), framework="np") as whole:
            ((form, card),) = whole.metadata().items()
            names = whole.keys()
            tensors = {name: whole.get_tensor(name) for name in names}
        safetensors_numpy.save_file(tensors, str(tmp_path / "w"), {form: json.dumps({**json.loads(card), **changed})})
        with pytest.raises(WeightsError, match=complaint):
            read_weights(tmp_path / "w")

    def test_another_network_s_weights_are_refused(self, tmp_path: Path) -> None:
        safetensors_numpy.save_file({"weight": np.zeros(3)}, str(tmp_path / "w"), {"format": "pt"})
        with pytest.raises(WeightsError, match="is not a file of starter weights"):
            read_weights(tmp_path / "w")

    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_what_is_no_number_is_refused(self, network: StarterNetwork, number: float, tmp_path: Path) -> None:
        broken = StarterNetwork(network.config)
        broken.load_state_dict(network.state_dict())
        with torch.no_grad():
            broken.classifier.weight[1, 2] = number
        write_weights(tmp_path / "w", broken, labels=LABELS, recipe={})
        with pytest.raises(WeightsError, match=r"classifier\.weight has weights that are no finite numbers.*make starter"):
            read_weights(tmp_path / "w")

    def test_a_tensor_too_few_is_refused(self, file: Path, tmp_path: Path) -> None:
        from safetensors import safe_open

        with safe_open(str(file), framework="np") as whole:
            metadata, names = whole.metadata(), whole.keys()
            tensors = {name: whole.get_tensor(name) for name in names if name != "classifier.bias"}
        safetensors_numpy.save_file(tensors, str(tmp_path / "w"), metadata)
        with pytest.raises(WeightsError, match="does not hold the network"):
            read_weights(tmp_path / "w")


class TestStarter:
    def test_it_is_the_network(self, file: Path, window: np.ndarray) -> None:
        starter = Starter(path=file)
        window.flags.writeable = False
        features, logits = starter(window)
        assert (features.shape, features.dtype) == ((starter.feature_dim,), np.float32)
        assert (logits.shape, logits.dtype) == ((len(LABELS),), np.float32)
        with torch.inference_mode():
            expected = read_weights(file).network(torch.tensor(window)[None])[0].numpy()
        assert logits == pytest.approx(expected, abs=1e-5)
        assert starter.labels == LABELS
        assert starter.multi_label

    def test_every_window_starts_afresh(self, file: Path, window: np.ndarray) -> None:
        starter = Starter(path=file)
        first = starter(window)
        starter(255 - window)
        for before, after in zip(first, starter(window), strict=True):
            assert np.array_equal(before, after)

    def test_an_absent_device_is_named(self, file: Path) -> None:
        with pytest.raises(BackboneError, match=r"cannot work on 'nonsense' .*: use --device cpu"):
            Starter(path=file, options=BackboneOptions(device="nonsense"))

    def test_torch_waits_until_a_starter_is_made(self) -> None:
        script = "import sys, tal_run.extractors.starter; print('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"

    def test_torchvision_is_not_needed(self) -> None:
        script = "import sys; sys.modules['torchvision'] = None; import tal_run.extractors.starter_network"
        ran = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (ModuleNotFoundError("No module named 'torch'", name="torch"), "needs torch, which is not installed: pip install"),
            (ImportError("libtorch_cpu.so: cannot open shared object file"), r"cannot be loaded \(libtorch_cpu\.so: cannot"),
            (OSError("libcudnn.so.9: cannot open shared object file"), r"cannot be loaded \(libcudnn"),
            (RuntimeError("operator torchvision::nms does not exist"), r"cannot be loaded \(operator"),
        ],
    )
    def test_packages_that_cannot_be_loaded_are_a_sentence(
        self, error: Exception, said: str, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = builtins.__import__

        def broken(name: str, *arguments: Any, **others: Any) -> Any:
            if name == "torch":
                raise error
            return kept(name, *arguments, **others)

        for call in (lambda: Starter(path=file), lambda: read_weights(file)):
            with monkeypatch.context() as patch:
                patch.setattr(builtins, "__import__", broken)
                with pytest.raises(BackboneError, match=said):
                    call()


class TestShipped:
    @pytest.fixture
    def copies(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder with the weights and the card as shipped, taken for the package's."""
        source = resources.files("tal_run.extractors") / "data"
        (tmp_path / "data").mkdir()
        for name in (WEIGHTS_NAME, CARD_NAME):
            (tmp_path / "data" / name).write_bytes((source / name).read_bytes())
        monkeypatch.setattr("tal_run.extractors.starter.resources.files", lambda _: tmp_path)
        return tmp_path / "data"

    def test_the_card_says_what_the_weights_hash_to(self) -> None:
        data = resources.files("tal_run.extractors") / "data"
        card = json.loads((data / CARD_NAME).read_text(encoding="utf-8"))
        assert card["sha256"] == hashlib.sha256((data / WEIGHTS_NAME).read_bytes()).hexdigest()

    def test_one_bit_too_many_is_noticed(self, copies: Path) -> None:
        content = bytearray((copies / WEIGHTS_NAME).read_bytes())
        content[-1000] ^= 1
        (copies / WEIGHTS_NAME).write_bytes(content)
        with pytest.raises(
            WeightsError, match=r"not those that starter\.json tells of .* install tal-run anew, or .*make starter"
        ):
            Starter()

    @pytest.mark.parametrize("card", [None, b"", b"{}", b"[]", b"\xff"])
    def test_a_card_that_does_not_say_is_no_proof(self, card: bytes | None, copies: Path) -> None:
        (copies / CARD_NAME).unlink()
        if card is not None:
            (copies / CARD_NAME).write_bytes(card)
        with pytest.raises(WeightsError, match=r"starter\.json, .* does not say their sha256"):
            Starter()

    def test_a_card_written_anew_is_proof_again(self, file: Path, copies: Path) -> None:
        (copies / WEIGHTS_NAME).write_bytes(file.read_bytes())
        written = write_card(copies / WEIGHTS_NAME, {"steps": 3, "sha256": "of others"})
        assert json.loads((copies / CARD_NAME).read_text(encoding="utf-8")) == written
        assert list(written) == ["sha256", "steps"]
        assert Starter().labels == LABELS


class TestLengths:
    def test_they_stand_in_the_card_beside_the_weights(self, file: Path, tmp_path: Path) -> None:
        copy = tmp_path / "w.safetensors"
        copy.write_bytes(file.read_bytes())
        assert Starter(path=copy).lengths_s == {}
        write_card(copy, {"lengths_s": {"squat": 6, "waving": 2.5}})
        assert Starter(path=copy).lengths_s == {"squat": 6.0, "waving": 2.5}

    @pytest.mark.parametrize(
        "card", ["[]", "{", '{"lengths_s": {"squat": -1}}', '{"lengths_s": {"squat": NaN}}', '{"lengths_s": 3}']
    )
    def test_what_is_no_length_is_refused(self, card: str, file: Path, tmp_path: Path) -> None:
        copy = tmp_path / "w.safetensors"
        copy.write_bytes(file.read_bytes())
        copy.with_suffix(".json").write_text(card)
        with pytest.raises(WeightsError, match=r"(does not say how long actions last|is no card of weights)"):
            Starter(path=copy)

    def test_the_shipped_ones_are_those_of_each_action(self) -> None:
        starter = Starter()
        assert set(starter.lengths_s) == set(starter.labels)
        assert starter.lengths_s["squat"] > 2 * starter.lengths_s["soccer kick"]


def test_the_shipped_weights_know_the_twelve_actions() -> None:
    shipped = resources.files("tal_run.extractors") / "data" / WEIGHTS_NAME
    if not shipped.is_file():
        pytest.skip("the starter has not been trained yet (make starter)")
    starter = Starter()
    assert len(starter.labels) == 12
    assert {"long jump", "squat", "golf swing"} <= set(starter.labels)
    assert len(shipped.read_bytes()) < 5e6
    frames = np.zeros((16, *PREPROCESSING.crop, 3), np.uint8)
    assert (starter(frames)[1] < 0).all()  # nothing happens on a black screen
