"""Made video's pictures: performances, dressed and put into a place, seen by a camera: uint8 RGB [240, 320, 3] at 25 fps.

What a shot consists of is ``synthetic_shot.py``'s matter, where the camera looks ``synthetic_camera.py``'s. Every thing in a
scene is a set of solids (people: ``synthetic_solids.py``, the rest: ``synthetic_things.py``), and every solid is the convex
hull of up to eight balls. The hull of balls is easy in a picture, for all frames at once: its outermost point in a direction d
is that of the ball that reaches furthest, argmax_i (c_i · d + r_i); sixteen directions give sixteen corners. A frame is then a
warp of the place's panorama (``synthetic_background.py``), the shadows, and the polygons from far to near.

The same ``Scene`` and actors give the same frames, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.synthetic_background import Picture, View, paint
from tal_run.eval.synthetic_camera import Camera, plan_camera, tremble, view_of
from tal_run.eval.synthetic_looks import LOOKS, Clothes, Look, sample_body, sample_clothes
from tal_run.eval.synthetic_shot import HEIGHT, INDOORS, WIDTH, Actor, Scene, sample_scene
from tal_run.eval.synthetic_solids import BALLS, Solid, figure
from tal_run.eval.synthetic_things import props, surroundings

__all__ = [
    "HEIGHT",
    "INDOORS",
    "LOOKS",
    "WIDTH",
    "Actor",
    "Clothes",
    "Look",
    "Scene",
    "render",
    "sample_body",
    "sample_clothes",
    "sample_scene",
]

FloatArray = NDArray[np.float32]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_CORNERS = 16  # of a hull
_CHUNK = 200  # frames projected at once
_SHIFT = 4  # polygons are given in 1/16 pixels


def render(scene: Scene, actors: Sequence[Actor], *, frame_count: int) -> Iterator[Picture]:
    """The shot's frames, uint8 RGB [240, 320, 3], each an array of its own.

    A performance that is shorter than the shot holds its last pose. OpenCV is kept to one thread while a frame is made, and
    only then.
    """
    import cv2

    rng = np.random.default_rng(scene.seed)
    camera = plan_camera(scene, actors, frame_count, np.random.default_rng(rng.integers(2**32)))
    place_rng, prop_rng, crowd_rng, effect_rng = (np.random.default_rng(seed) for seed in rng.integers(2**32, size=4))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        view = view_of(scene, camera)
        places = [_graded(picture, scene) for picture in paint(scene.place, view, rng=place_rng)]
        eye = np.array([0.0, -camera.distance_m, camera.height_m], np.float32)
        solids: list[Solid] = []
        for actor in actors:
            solids += figure(actor, frame_count) + props(actor, frame_count, prop_rng, eye=eye)
        solids += surroundings(scene, camera, frame_count, crowd_rng)
        effects = _Effects(scene, frame_count, effect_rng)
    finally:
        cv2.setNumThreads(threads)
    for start in range(0, frame_count, _CHUNK):
        frames = np.arange(start, min(frame_count, start + _CHUNK))
        drawing = _project(solids, scene, camera, frames)
        for index, frame in enumerate(frames):
            threads = cv2.getNumThreads()
            cv2.setNumThreads(1)
            try:
                picture = _draw(places, view, drawing, index=index, frame=int(frame))
                picture = effects.apply(picture, int(frame))
            finally:
                cv2.setNumThreads(threads)
            yield picture


# --- from solids to pixels -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Drawing:
    """Polygons of a stretch of frames, ready to be filled.

    Attributes:
        affine: [T, 2, 3], from the picture plane to the frame.
        corners: int32 [T, S, 16, 2], in 1/16 pixels.
        colours: for each frame, for each polygon.
        orders: for each frame, the polygons in sight from far to near.
        flats: how many polygons at the head of each order lie on the ground.
        shadows: int32 [T, C, 16, 2], in 1/16 of half-size pixels.
        darkness: grey level of a full shadow, 255 for none.
    """

    affine: FloatArray
    corners: NDArray[np.int32]
    colours: list[list[tuple[float, float, float]]]
    orders: list[list[int]]
    flats: list[int]
    shadows: NDArray[np.int32]
    darkness: int


def _hull(centres: FloatArray, radii: FloatArray) -> FloatArray:
    """Corners [..., 16, 2] of the convex hull of discs at [..., N, 2] with radii [..., N]."""
    angles = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
    directions = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)  # [2, 16]
    furthest = (centres @ directions + radii[..., None]).argmax(axis=-2)  # [..., 16]
    corner = np.take_along_axis(centres, furthest[..., None], axis=-2)
    radius = np.take_along_axis(radii, furthest, axis=-1)
    return np.asarray(corner + radius[..., None] * directions.T, np.float32)


def _gathered(solids: Sequence[Solid], frames: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Centres [T, S, 8, 3] and radii [T, S, 8] of all solids; a solid of fewer balls repeats its last."""
    points = np.empty((len(frames), len(solids), BALLS, 3), np.float32)
    radii = np.empty((len(frames), len(solids), BALLS), np.float32)
    for index, solid in enumerate(solids):
        count = solid.points.shape[1]
        points[:, index, :count] = _during(solid.points, frames)
        points[:, index, count:] = points[:, index, count - 1 : count]
        radii[:, index, :count] = _during(solid.radii, frames)
        radii[:, index, count:] = radii[:, index, count - 1 : count]
    return points, radii


def _during(values: NDArray[_Scalar], frames: NDArray[np.int64]) -> NDArray[_Scalar]:
    """What is given once, or for every frame, in these frames."""
    return values if len(values) == 1 else values[frames]


def _framed(plane: FloatArray, affine: FloatArray) -> FloatArray:
    """Points of the picture plane [T, S, N, 2] in the frame."""
    moved = plane @ affine[:, None, :, :2].swapaxes(-1, -2) + affine[:, None, None, :, 2]
    return np.asarray(moved, np.float32)


def _project(solids: Sequence[Solid], scene: Scene, camera: Camera, frames: NDArray[np.int64]) -> _Drawing:
    """All solids of a stretch of frames as polygons, sorted."""
    affine = camera.affine(frames)
    zoom = camera.zoom[frames]
    points, radii = _gathered(solids, frames)

    plane, scale = camera.on_plane(points)
    centres = _framed(plane, affine)
    thick = radii * scale * zoom[:, None, None]
    thick = np.where(radii > 0, np.maximum(thick, 0.62), 0.0).astype(np.float32)  # a javelin is never thinner than a pixel
    corners = _hull(centres, thick)  # [T, S, 16, 2]

    depth = points[..., 1].mean(axis=-1) - np.array([solid.nearer_m for solid in solids], np.float32)
    depth += np.array([1e4 if solid.flat else 0.0 for solid in solids], np.float32)
    present = np.stack([np.broadcast_to(_during(solid.visible, frames), len(frames)) for solid in solids], axis=1)
    low, high = corners.min(axis=2), corners.max(axis=2)
    seen = present & (high > 0).all(axis=-1) & (low < (WIDTH, HEIGHT)).all(axis=-1)
    shade = np.stack([np.broadcast_to(_during(solid.shade, frames), len(frames)) for solid in solids], axis=1)
    paints = _grade(np.array([solid.colour for solid in solids], np.float64), scene)

    # the side towards the light: the same solid, smaller, shifted, brighter, just before itself
    lit = np.flatnonzero([solid.lit for solid in solids])
    towards = np.array([-np.sign(scene.sun_slope[0] or 1.0) * 0.32, -0.25], np.float32)
    bright = _hull(centres[:, lit] + thick[:, lit, :, None] * towards, thick[:, lit] * 0.55)
    corners = np.concatenate([corners, bright], axis=1)
    depth = np.concatenate([depth, depth[:, lit] - 0.0015], axis=1)
    seen = np.concatenate([seen, seen[:, lit]], axis=1)
    shade = np.concatenate([shade * (1 - 0.12 * scene.sun * np.isin(np.arange(len(solids)), lit)), shade[:, lit]], axis=1)
    paints = np.concatenate([paints, np.clip(paints[lit] * (1.06 + 0.25 * scene.sun) + 6, 0, 255)])

    colours = np.clip(shade[..., None] * paints, 0, 255).tolist()
    order = np.argsort(-depth, axis=1, kind="stable")
    orders = [row[kept[row]].tolist() for row, kept in zip(order, seen, strict=True)]
    flats = ((depth > 5e3) & seen).sum(axis=1).tolist()
    casting = [index for index, solid in enumerate(solids) if solid.casts]
    return _Drawing(
        affine=affine,
        corners=np.round(corners * (1 << _SHIFT)).astype(np.int32),
        colours=[[(red, green, blue) for red, green, blue in row] for row in colours],
        orders=orders,
        flats=flats,
        shadows=_shadows(points[:, casting], radii[:, casting], present[:, casting], scene=scene, camera=camera, frames=frames),
        darkness=round(255 * (1 - 0.85 * scene.sun)),
    )


def _shadows(
    points: FloatArray,
    radii: FloatArray,
    present: NDArray[np.bool_],
    *,
    scene: Scene,
    camera: Camera,
    frames: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Where shadows fall on the ground, int32 [T, C, 16, 2] in 1/16 of half-size pixels; a disc on the ground is seen flat."""
    ground = points.copy()
    ground[..., :2] += np.maximum(points[..., 2:], 0) * np.array(scene.sun_slope, np.float32)
    ground[..., 2] = 0.0
    plane, scale = camera.on_plane(ground)
    centres = _framed(plane, camera.affine(frames))
    squeeze = np.float32(max(camera.height_m / camera.distance_m, 0.05))
    centres[..., 1] /= squeeze
    corners = _hull(centres, radii * scale * camera.zoom[frames][:, None, None])
    corners[..., 1] *= squeeze
    corners[~present] = -99.0  # what is not there throws its shadow out of the picture
    return np.round(corners * ((1 << _SHIFT) / 2)).astype(np.int32)


def _draw(places: list[Picture], view: View, drawing: _Drawing, *, index: int, frame: int) -> Picture:
    """One clean frame."""
    import cv2

    affine = drawing.affine[index].astype(np.float64)
    affine[:, 2] += affine[:, :2] @ (view.left_px, view.top_px)
    state = places[(frame // 3) % len(places)] if len(places) < 3 else places[(0, 1, 2, 1)[(frame // 4) % 4]]
    picture: Picture = np.asarray(
        cv2.warpAffine(state, affine, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    )
    corners, colours, order = drawing.corners[index], drawing.colours[index], drawing.orders[index]
    for polygon in order[: drawing.flats[index]]:
        cv2.fillConvexPoly(picture, corners[polygon], colours[polygon], cv2.LINE_AA, _SHIFT)
    if len(drawing.shadows[index]):
        mask = np.full((HEIGHT // 2, WIDTH // 2), 255, np.uint8)
        for shadow in drawing.shadows[index]:
            cv2.fillConvexPoly(mask, shadow, (drawing.darkness,), cv2.LINE_8, _SHIFT)
        soft = cv2.resize(cv2.blur(mask, (3, 3)), (WIDTH, HEIGHT))
        picture = np.asarray(cv2.multiply(picture, cv2.merge((soft, soft, soft)), scale=1 / 255), np.uint8)
    for polygon in order[drawing.flats[index] :]:
        cv2.fillConvexPoly(picture, corners[polygon], colours[polygon], cv2.LINE_AA, _SHIFT)
    return picture


# --- light and lens --------------------------------------------------------------------------------------------------------


def _grade(colours: NDArray[np.float64], scene: Scene) -> NDArray[np.float64]:
    """Colours [..., 3] in this scene's light, 0..255."""
    grey = colours @ np.array([0.299, 0.587, 0.114])
    colours = np.clip(grey[..., None] + (colours - grey[..., None]) * scene.saturation, 0, 255)
    curve = 255 * (colours / 255) ** scene.gamma
    curve = (curve - 118) * scene.contrast + 118 + scene.brightness
    return np.asarray(np.clip(curve * np.array(scene.cast), 0, 255), np.float64)


def _graded(picture: Picture, scene: Scene) -> Picture:
    """A picture in this scene's light: by matrix and table, which is quick."""
    import cv2

    weights = np.array([0.299, 0.587, 0.114])
    matrix = np.eye(3) * scene.saturation + (1 - scene.saturation) * weights
    levels = np.arange(256, dtype=np.float64)
    table = _grade(np.repeat(levels[:, None], 3, axis=1), scene)[None]  # greys have no saturation to lose
    return np.asarray(cv2.LUT(cv2.transform(picture, matrix), np.round(table).astype(np.uint8)), np.uint8)


class _Effects:
    """What lens, sensor and weather do to a clean frame; everything costly is made once."""

    def __init__(self, scene: Scene, frame_count: int, rng: np.random.Generator) -> None:
        self.scene = scene
        down, across = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
        edge = 255 * (1 - scene.vignette * np.clip((down**2 + across**2) / 2, 0, 1))
        self.edge = np.repeat(np.round(edge)[..., None], 3, axis=2).astype(np.uint8)
        self.glow = 1 + scene.flicker * tremble(rng, frame_count, 1)[:, 0]
        grain = rng.standard_normal((HEIGHT + 64, WIDTH + 64, 1), np.float32) * 0.8
        grain = grain + rng.standard_normal((HEIGHT + 64, WIDTH + 64, 3), np.float32) * 0.6
        self.grain = np.clip(128 + scene.noise * grain, 0, 255).astype(np.uint8)
        self.shifts = rng.integers(64, size=(frame_count, 2))
        self.flakes = self._weather(frame_count, rng)
        self.before: Picture | None = None

    def _weather(self, frame_count: int, rng: np.random.Generator) -> NDArray[np.int32] | None:
        """Ends of streaks, [T, N, 2, 2] in 1/16 pixels: rain falls fast and long, snow and dust slowly as dots."""
        fall = {"rain": (16.0, 9.0), "snow": (2.6, 0.6), "dust": (0.6, 0.3)}.get(self.scene.weather)
        if fall is None:
            return None
        count = int(rng.integers(25, 90))
        speed = np.stack([rng.normal(0, 0.25 * fall[0], count), fall[0] * rng.uniform(0.6, 1.4, count)], -1)
        start = rng.uniform(0, 1, (count, 2)) * (WIDTH, HEIGHT)
        place = (start + speed * np.arange(frame_count)[:, None, None]) % (WIDTH, HEIGHT)  # [T, N, 2]
        streak = speed / np.linalg.norm(speed, axis=-1, keepdims=True) * fall[1]
        return np.asarray(np.round(np.stack([place, place + streak], axis=2) * (1 << _SHIFT)), np.int32)

    def apply(self, picture: Picture, frame: int) -> Picture:
        """The frame as it is recorded; frames are to come in order."""
        import cv2

        scene = self.scene
        if self.flakes is not None:
            tone = {"rain": (190, 196, 204), "snow": (244, 246, 250), "dust": (190, 170, 130)}[scene.weather]
            cv2.polylines(
                picture, list(self.flakes[frame]), False, tone, 2 if scene.weather == "snow" else 1, cv2.LINE_AA, _SHIFT
            )
        clean = picture
        if self.before is not None and scene.ghost > 0.03:
            picture = np.asarray(cv2.addWeighted(picture, 1 - scene.ghost, self.before, scene.ghost, 0), np.uint8)
        if self.before is not None and scene.interlaced:
            if picture is clean:
                picture = picture.copy()
            picture[1::2] = self.before[1::2]
        self.before = clean
        if scene.low_res > 1:
            small = cv2.resize(
                picture, (round(WIDTH / scene.low_res), round(HEIGHT / scene.low_res)), interpolation=cv2.INTER_AREA
            )
            picture = np.asarray(cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.uint8)
        elif scene.blur_px > 0.3:
            picture = np.asarray(cv2.GaussianBlur(picture, (5, 5), scene.blur_px), np.uint8)
        picture = np.asarray(cv2.multiply(picture, self.edge, scale=float(self.glow[frame]) / 255), np.uint8)
        row, column = self.shifts[frame]
        return np.asarray(
            cv2.addWeighted(picture, 1, self.grain[row : row + HEIGHT, column : column + WIDTH], 1, -128), np.uint8
        )
