"""Preprocessing as stated: sizes, rounding, crops and ranges, each against its definition."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("cv2")

from tal_run.extractors.backbone import BackboneError
from tal_run.extractors.recipes import (
    C3D_RGB,
    I3D_FLOW,
    I3D_RGB,
    P3D_FLOW,
    P3D_RGB,
    InputRecipe,
    crops,
    grey,
    network_input,
)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 30, 41, 3), dtype=np.uint8)


def test_grey_is_bt601_in_whole_levels(frames: np.ndarray) -> None:
    expected = frames @ np.array([0.299, 0.587, 0.114])
    assert grey(frames).dtype == np.uint8
    assert np.abs(grey(frames) - expected).max() <= 0.51


class TestCrops:
    recipe = dataclasses.replace(C3D_RGB, side=8)

    def test_the_centre_begins_at_half_of_what_is_left(self, frames: np.ndarray) -> None:
        (center,) = crops(frames, self.recipe)
        assert np.array_equal(center, frames[:, 11:19, 16:24])

    def test_ten_are_corners_and_centre_and_their_mirrors(self, frames: np.ndarray) -> None:
        ten = crops(frames, self.recipe, crop="ten")
        assert len(ten) == 10
        assert np.array_equal(ten[0], frames[:, :8, :8])
        assert np.array_equal(ten[1], frames[:, :8, -8:])
        assert np.array_equal(ten[2], frames[:, -8:, :8])
        assert np.array_equal(ten[3], frames[:, -8:, -8:])
        assert np.array_equal(ten[4], crops(frames, self.recipe)[0])
        assert all(np.array_equal(ten[5 + index], ten[index][:, :, ::-1]) for index in range(5))

    def test_a_mirrored_flow_points_the_other_way_in_x(self) -> None:
        flow = np.random.default_rng(0).normal(size=(2, 9, 12, 2)).astype(np.float32)
        ten = crops(flow, self.recipe, crop="ten")
        assert np.array_equal(ten[5][..., 0], -ten[0][:, :, ::-1, 0])
        assert np.array_equal(ten[5][..., 1], ten[0][:, :, ::-1, 1])
        assert ten[5].dtype == np.float32

    def test_a_whole_frame_is_one(self, frames: np.ndarray) -> None:
        (whole,) = crops(frames, self.recipe, crop="whole")
        assert whole is frames

    def test_what_does_not_fit_is_refused(self, frames: np.ndarray) -> None:
        with pytest.raises(BackboneError, match="224 x 224 does not fit into frames of 41 x 30"):
            crops(frames, I3D_RGB)
        with pytest.raises(BackboneError, match="no crop 'five': choose one of center, ten, whole"):
            crops(frames, self.recipe, crop="five")  # type: ignore[arg-type]


class TestNetworkInput:
    @pytest.mark.parametrize(
        ("recipe", "values", "expected"),
        [
            (I3D_RGB, (0, 127.5, 255), (-1, 0, 1)),
            (C3D_RGB, (0, 100, 255), (0, 0, 0)),  # red, which comes last
            (P3D_RGB, (0, 123, 255), (-123, 0, 132)),
            (I3D_FLOW, (-50, 10, 20), (-1, 0.5, 1)),
            (P3D_FLOW, (-50, 0, 10), (-128, -0.5, 63.25)),
        ],
    )
    def test_ranges(self, recipe: InputRecipe, values: tuple[float, ...], expected: tuple[float, ...]) -> None:
        pixels = np.zeros((3, 1, 2, len(recipe.mean)), np.float32)
        pixels[..., 0] = np.array(values)[:, None, None]
        kept = pixels.copy()
        ours = network_input(pixels, recipe)
        assert ours.shape == (len(recipe.mean), 3, 1, 2)
        assert ours.dtype == np.float32
        assert ours.flags.c_contiguous
        assert np.allclose(ours[0, :, 0, 0], expected, atol=1e-5)
        assert np.array_equal(pixels, kept)

    def test_a_mean_clip_is_subtracted(self, frames: np.ndarray) -> None:
        mean = np.random.default_rng(1).uniform(0, 200, frames.shape).astype(np.float32)
        expected = (frames - mean)[..., ::-1].transpose(3, 0, 1, 2)  # blue first
        assert np.allclose(network_input(frames, C3D_RGB, mean_clip=mean), expected, atol=1e-4)
