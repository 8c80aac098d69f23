"""The starter network, its weights file and its extractor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pytorchvideo")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

from tal_run.extractors.backbone import BackboneError  # noqa: E402
from tal_run.extractors.starter import PREPROCESSING, WEIGHTS_NAME, Starter, read_weights, write_weights  # noqa: E402
from tal_run.extractors.starter_network import DIFFERENCE_GAIN, StarterConfig, StarterNetwork, planes  # noqa: E402
from tal_run.extractors.weights import WeightsError  # noqa: E402

LABELS = ("long jump", "squat", "waving")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for one another make small layers slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
        with pytest.raises(BackboneError, match="cannot work on 'nonsense'"):
            Starter(path=file, device="nonsense")

    def test_torch_waits_until_a_starter_is_made(self) -> None:
        script = "import sys, tal_run.extractors.starter; print('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"

    def test_torchvision_is_not_needed(self) -> None:
        script = "import sys; sys.modules['torchvision'] = None; import tal_run.extractors.starter_network"
        ran = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, "")


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
