"""Made video's camera: where it looks, planned over the whole shot so that the leads stay in the picture.

It is a pinhole with a level axis at (0, -distance, height), which pans, tilts, zooms and trembles within its picture plane; so
whatever stands still keeps its place in the panorama (``synthetic_background.py``), and a frame is an affine cut of that plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.synthetic_background import View
from tal_run.eval.synthetic_figure import FPS, JOINT
from tal_run.eval.synthetic_shot import HEIGHT, WIDTH, Actor, Scene, placed

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Where the camera looks, frame by frame.

    A point at (x, y, z) lies at ``focal_px / (y + distance_m) * (x, height_m - z)`` in the picture plane; of that plane the
    frame shows what is around ``centre`` [T, 2], ``zoom`` [T] times as large and turned by ``angle`` [T] radians. The leads'
    middle is at ``subject`` [T, 2].
    """

    focal_px: float
    distance_m: float
    height_m: float
    centre: FloatArray
    zoom: FloatArray
    angle: FloatArray
    subject: FloatArray

    def on_plane(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Points [..., 3] in the picture plane [..., 2], and pixels a metre there [...]."""
        scale = self.focal_px / np.maximum(points[..., 1] + self.distance_m, 0.3 * self.distance_m)
        plane = np.stack([points[..., 0], self.height_m - points[..., 2]], axis=-1) * scale[..., None]
        return plane.astype(np.float32), scale.astype(np.float32)

    def affine(self, frames: NDArray[np.int64]) -> FloatArray:
        """From the picture plane to the frame, [T, 2, 3]."""
        cos, sin = np.cos(self.angle[frames]) * self.zoom[frames], np.sin(self.angle[frames]) * self.zoom[frames]
        turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)  # [T, 2, 2]
        shift = np.array([WIDTH / 2, HEIGHT / 2]) - np.einsum("tij,tj->ti", turn, self.centre[frames])
        return np.concatenate([turn, shift[..., None]], -1).astype(np.float32)


def _smooth(curve: NDArray[np.floating], sigma_frames: float) -> NDArray[np.float64]:
    """Gaussian smoothing along the first axis, its ends held."""
    reach = int(3 * sigma_frames) + 1
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma_frames, 1e-3)) ** 2)
    padded = np.pad(np.asarray(curve, np.float64), [(reach, reach), *[(0, 0)] * (curve.ndim - 1)], mode="edge")
    columns = padded.reshape(len(padded), -1).T
    smooth = np.stack([np.convolve(column, weights / weights.sum(), "valid") for column in columns], -1)
    return smooth.reshape(curve.shape)


def tremble(rng: np.random.Generator, frame_count: int, columns: int) -> NDArray[np.float64]:
    """The path of an unsteady hand, of unit deviation: slow wander and some tremor, [T, columns]."""
    slow = _smooth(rng.standard_normal((frame_count + 100, columns)), 11.0)[50 : 50 + frame_count] * 6.0
    fast = _smooth(rng.standard_normal((frame_count + 100, columns)), 2.2)[50 : 50 + frame_count] * 2.6
    return np.asarray(0.85 * slow + 0.3 * fast, np.float64)


def _lead_extent(scene: Scene, actors: Sequence[Actor], frame_count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Top-left and bottom-right of what the leads take up, in metres at the leads' distance, [T, 2] each."""
    lows, highs = [], []
    for actor in [actor for actor in actors if actor.is_lead] or actors:
        points = placed(actor, actor.performance.joints, frame_count)
        pelvis = points[:, JOINT["pelvis"]]
        everything = [points]
        for prop in actor.performance.props:
            if not prop.fixed:  # what it holds, until it flies away
                track = placed(actor, prop.points, frame_count)
                near = np.linalg.norm(track - pelvis[:, None], axis=-1) < 1.8
                everything.append(np.where(near[..., None], track, pelvis[:, None]))
        cloud = np.concatenate(everything, axis=1)  # [T, N, 3]
        scale = scene.distance_m / np.maximum(cloud[..., 1] + scene.distance_m, 0.3 * scene.distance_m)
        plane = np.stack([cloud[..., 0], scene.camera_height_m - np.maximum(cloud[..., 2], -0.2)], -1) * scale[..., None]
        lows.append(plane.min(axis=1) - 0.12)
        highs.append(plane.max(axis=1) + 0.12)
    return np.min(lows, axis=0).astype(np.float64), np.max(highs, axis=0).astype(np.float64)


def plan_camera(scene: Scene, actors: Sequence[Actor], frame_count: int, rng: np.random.Generator) -> Camera:
    """Choose scale and path so that the leads are in the picture in nearly every frame: the whole shot is known beforehand."""
    half_view = np.array([WIDTH, HEIGHT]) / 2
    room = half_view * 0.93
    low, high = (
        _lead_extent(scene, actors, frame_count) if actors else (np.full((frame_count, 2), -1.0), np.ones((frame_count, 2)))
    )
    tall = max((actor.performance.body.height_m for actor in actors if actor.is_lead), default=1.75)
    ramp = np.linspace(0, 1, frame_count)
    ramp = ramp**2 * (3 - 2 * ramp)
    zoom = scene.zoom**ramp if scene.camera_mode == "zoom" else np.ones(frame_count)

    def fitted(path: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Pixels a metre that keep the leads in, and how far they reach from the path [2]."""
        reach = np.quantile(np.maximum(np.abs(low - path), np.abs(high - path)) * zoom[:, None], 0.99, axis=0)
        return float(min(scene.figure_px / tall / zoom.max(), np.min(room / reach))), reach

    middle = (low + high) / 2
    whole = np.broadcast_to((low.min(axis=0) + high.max(axis=0)) / 2, middle.shape)
    path = whole.astype(np.float64)
    scale, reach = fitted(path)
    if scene.camera_mode in ("follow", "zoom") or scale * tall < 0.75 * min(scene.figure_px, 110.0):
        for lag_s in (scene.lag_s, 0.5 * scene.lag_s, 0.08):  # an able cameraman where the picture gets too small otherwise
            trail = round(0.4 * lag_s * FPS)
            path = _smooth(np.concatenate([middle[:1].repeat(trail, 0), middle])[:frame_count], max(lag_s * FPS, 1.0))
            scale, reach = fitted(path)
            if scale * tall > 0.75 * min(scene.figure_px, 110.0):
                break
    slack = np.maximum(half_view * 0.9 - reach * scale, 0.0)
    offset = np.array(scene.aim) * slack / np.array([1.0, 1.6])
    centre = path * scale - offset / zoom[:, None]
    if scene.camera_mode == "drift":
        wander = np.clip(tremble(rng, frame_count, 2), -2, 2)
        centre = centre + _smooth(wander, 20.0) * np.minimum(slack * 0.3, 14.0)
    centre = centre + tremble(rng, frame_count, 2) * scene.shake_px
    angle = np.deg2rad(tremble(rng, frame_count, 1)[:, 0] * scene.roll_deg)
    return Camera(
        focal_px=scale * scene.distance_m,
        distance_m=scene.distance_m,
        height_m=scene.camera_height_m,
        centre=centre.astype(np.float32),
        zoom=zoom.astype(np.float32),
        angle=angle.astype(np.float32),
        subject=(middle * scale).astype(np.float32),
    )


def view_of(scene: Scene, camera: Camera) -> View:
    """The panorama that holds all that the camera will see, up to a limit (beyond it the edge is mirrored)."""
    frames = np.arange(len(camera.zoom))
    affine = camera.affine(frames)
    corners = np.array([[0, 0], [WIDTH, 0], [0, HEIGHT], [WIDTH, HEIGHT]], np.float32)
    plane = np.linalg.solve(affine[:, None, :, :2], (corners[None] - affine[:, None, :, 2])[..., None])[..., 0]  # [T, 4, 2]
    low, high = plane.min(axis=(0, 1)) - 6, plane.max(axis=(0, 1)) + 6
    middle, size = (low + high) / 2, np.minimum(high - low, (3600, 1000))
    return View(
        width=int(size[0]),
        height=int(size[1]),
        left_px=float(middle[0] - size[0] / 2),
        top_px=float(middle[1] - size[1] / 2),
        focal_px=camera.focal_px,
        camera_height_m=camera.height_m,
        wall_m=scene.distance_m + scene.depth_m,
    )
