"""What one shot of made video consists of: the actors, and a scene, drawn at random from a look; not yet a picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.synthetic_figure import FPS, Performance
from tal_run.eval.synthetic_looks import Clothes, Look, pick

FloatArray = NDArray[np.float32]

WIDTH, HEIGHT = 320, 240
INDOORS = ("hall", "arena", "room")


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A performance, dressed and put into the scene.

    Attributes:
        x_m, y_m: where its origin stands; the camera looks along y from ``-Scene.distance_m``.
        mirrored: left for right, and it faces -x.
        is_lead: the camera keeps it in the picture; bystanders come and go.
    """

    performance: Performance
    clothes: Clothes
    x_m: float = 0.0
    y_m: float = 0.0
    mirrored: bool = False
    is_lead: bool = True


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything of one shot that is drawn at random, but for the people.

    Attributes are those of ``Look``, with one number for each range (``distance_m`` is more where somebody comes near), and:
        seed: for what is too small to be named: bricks, faces in a crowd, grains of noise.
        place: one of ``synthetic_background.PLACES``.
        aim: where in the room that is left the leads are kept, -1..1 (right, down).
        sun_slope: metres of shadow (right, away) for a metre of height.
        car_m_s: speed of a passing car; 0 for none.
    """

    look: str
    seed: int
    place: str
    figure_px: float
    distance_m: float
    depth_m: float
    camera_height_m: float
    camera_mode: str
    lag_s: float
    zoom: float
    aim: tuple[float, float]
    shake_px: float
    roll_deg: float
    occluder: str
    weather: str
    car_m_s: float
    brightness: float
    contrast: float
    gamma: float
    cast: tuple[float, float, float]
    saturation: float
    vignette: float
    flicker: float
    sun: float
    sun_slope: tuple[float, float]
    blur_px: float
    ghost: float
    noise: float
    low_res: float
    interlaced: bool
    crf: int


def sample_scene(look: Look, rng: np.random.Generator, *, frame_count: int, actors: Sequence[Actor]) -> Scene:
    """Draw a scene; of the actors it asks only how far away they stand, so that the place is deep enough."""
    place = pick(look.backdrops, rng)
    inside = place in INDOORS
    cast = rng.uniform(*look.cast)  # warm or cold
    furthest = max((float(actor.performance.joints[..., 1].max()) + actor.y_m for actor in actors), default=0.0)
    nearest = min((float(actor.performance.joints[..., 1].min()) + actor.y_m for actor in actors), default=0.0)
    speed = float(rng.uniform(4, 12)) * (-1 if rng.random() < 0.5 else 1)
    passes = place == "facades" and rng.random() < 0.5
    seconds = frame_count / FPS
    depth_m = min(float(rng.uniform(*look.depth_m)), {"room": 5.0, "hall": 20.0}.get(place, np.inf))
    weather = "clear" if inside else pick((*look.weather, ("snow", 0.5)) if place == "snow" else look.weather, rng)
    sun = float(rng.uniform(*look.sun)) * (0.6 if inside else 1.0)
    return Scene(
        look=look.name,
        seed=int(rng.integers(2**32)),
        place=place,
        figure_px=float(rng.uniform(*look.figure_px)),
        distance_m=max(float(rng.uniform(*look.distance_m)), -2.8 * nearest),  # nobody runs into the camera
        depth_m=max(depth_m, furthest + (4.0 if passes else 1.5)),
        camera_height_m=float(rng.uniform(*look.camera_height_m)),
        camera_mode=pick(look.camera_modes, rng),
        lag_s=float(rng.uniform(*look.lag_s)),
        zoom=float(np.clip(rng.uniform(*look.zoom), 1 - 0.06 * seconds, 1 + 0.06 * seconds)),
        aim=(float(rng.uniform(-0.7, 0.7)), float(rng.uniform(-0.6, 0.9))),
        shake_px=float(rng.uniform(*look.shake_px)),
        roll_deg=float(rng.uniform(*look.roll_deg)),
        occluder=pick(look.occluders, rng),
        weather="clear" if (place, weather) == ("beach", "snow") else weather,
        car_m_s=speed if passes else 0.0,
        brightness=float(rng.uniform(*look.brightness)),
        contrast=float(rng.uniform(*look.contrast)),
        gamma=float(rng.uniform(*look.gamma)),
        cast=(1 + float(cast), 1 + float(rng.uniform(-0.02, 0.02)), 1 - float(cast)),
        saturation=float(rng.uniform(*look.saturation)),
        vignette=float(rng.uniform(*look.vignette)),
        flicker=float(rng.uniform(*look.flicker)),
        sun=sun,
        sun_slope=(0.0, 0.05) if inside else (float(rng.uniform(-1.2, 1.2)), float(rng.uniform(-0.5, 0.9))),
        blur_px=float(rng.uniform(*look.blur_px)),
        ghost=float(rng.uniform(*look.ghost)),
        noise=float(rng.uniform(*look.noise)),
        low_res=float(rng.uniform(*look.low_res)) if rng.random() < look.low_res_share else 1.0,
        interlaced=bool(rng.random() < look.interlaced_share),
        crf=int(rng.integers(look.crf[0], look.crf[1] + 1)),
    )


def placed(actor: Actor, points: FloatArray, frame_count: int) -> FloatArray:
    """An actor's own points [T', N, 3] in the scene, for every frame of the shot [T, N, 3]."""
    held = points[np.minimum(np.arange(frame_count), len(points) - 1)]
    return np.asarray(
        held * np.array([-1.0 if actor.mirrored else 1.0, 1.0, 1.0]) + np.array([actor.x_m, actor.y_m, 0.0]), np.float32
    )
