import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from tal_run.eval import synthetic_scene
from tal_run.eval.synthetic_background import PLACES
from tal_run.eval.synthetic_camera import plan_camera
from tal_run.eval.synthetic_figure import JOINTS, Body, Performance, PropTrack, Span
from tal_run.eval.synthetic_scene import LOOKS, Actor, Scene, render, sample_body, sample_clothes, sample_scene

# a person who stands facing +x: pelvis, neck, head, then arms and legs, left is +y
# fmt: off
STANDING = np.array([
    (0, 0, 0.95), (0, 0, 1.45), (0, 0, 1.62),
    (0, 0.18, 1.42), (0, 0.2, 1.14), (0, 0.2, 0.88), (0, -0.18, 1.42), (0, -0.2, 1.14), (0, -0.2, 0.88),
    (0, 0.1, 0.92), (0, 0.1, 0.5), (0, 0.1, 0.08), (0.16, 0.1, 0.03),
    (0, -0.1, 0.92), (0, -0.1, 0.5), (0, -0.1, 0.08), (0.16, -0.1, 0.03),
], np.float32)
# fmt: on


def performance(joints: np.ndarray, *props: PropTrack) -> Performance:
    spans = (Span(label="standing", start_s=0, end_s=len(joints) / 25, is_action=False),)
    return Performance(joints=joints.astype(np.float32), body=Body(), props=props, spans=spans)


def runner(frame_count: int, *, metres: float) -> Performance:
    """Someone who glides along x, with a leap in the middle."""
    path = np.zeros((frame_count, 1, 3), np.float32)
    path[:, 0, 0] = np.linspace(0, metres, frame_count)
    path[:, 0, 2] = np.maximum(0, 0.8 * np.sin(np.linspace(-np.pi, 2 * np.pi, frame_count)))
    return performance(STANDING + path)


def dressed(seed: int = 0, **changes: object) -> synthetic_scene.Clothes:
    return dataclasses.replace(sample_clothes(LOOKS["street"], np.random.default_rng(seed)), **changes)


def plain_scene(**changes: object) -> Scene:
    """A scene with nothing that blurs, hides or moves by itself."""
    scene = sample_scene(LOOKS["stadium"], np.random.default_rng(3), frame_count=2, actors=())
    # fmt: off
    calm = {
        "place": "hall", "camera_mode": "static", "figure_px": 120.0,
        "occluder": "none", "weather": "clear", "car_m_s": 0.0,
        "brightness": 0.0, "contrast": 1.0, "gamma": 1.0, "cast": (1.0, 1.0, 1.0), "saturation": 1.0, "vignette": 0.0,
        "flicker": 0.0, "sun": 0.0,
        "blur_px": 0.0, "ghost": 0.0, "noise": 0.0, "low_res": 1.0, "interlaced": False, "shake_px": 0.0, "roll_deg": 0.0,
    }
    # fmt: on
    return dataclasses.replace(scene, **{**calm, **changes})


def frames_of(scene: Scene, *actors: Actor, count: int = 2) -> np.ndarray:
    return np.stack(list(render(scene, actors, frame_count=count)))


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_scene_gives_the_same_frames_and_another_seed_others(look: str, seed: int) -> None:
    import cv2

    rng = np.random.default_rng(seed)
    actor = Actor(performance=runner(8, metres=2.0), clothes=sample_clothes(LOOKS[look], rng))
    scene = sample_scene(LOOKS[look], rng, frame_count=8, actors=[actor])
    threads = cv2.getNumThreads()
    first, again = frames_of(scene, actor, count=8), frames_of(scene, actor, count=8)
    other = frames_of(dataclasses.replace(scene, seed=scene.seed ^ 1), actor, count=8)
    assert first.shape == (8, 240, 320, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert cv2.getNumThreads() == threads


def test_two_shots_drawn_by_turns_do_not_disturb_each_other() -> None:
    actor = Actor(performance=runner(5, metres=1.0), clothes=dressed())
    one, two = plain_scene(ghost=0.3, noise=4.0), plain_scene(seed=9, interlaced=True, noise=4.0)
    by_turns = list(zip(render(one, [actor], frame_count=5), render(two, [actor], frame_count=5), strict=True))
    assert np.array_equal([first for first, _ in by_turns], frames_of(one, actor, count=5))
    assert np.array_equal([second for _, second in by_turns], frames_of(two, actor, count=5))


def test_frames_before_do_not_depend_on_how_they_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    actor = Actor(performance=runner(7, metres=1.0), clothes=dressed())
    whole = frames_of(plain_scene(ghost=0.3), actor, count=7)
    monkeypatch.setattr(synthetic_scene, "_CHUNK", 3)
    assert np.array_equal(frames_of(plain_scene(ghost=0.3), actor, count=7), whole)


@pytest.mark.parametrize("place", PLACES)
def test_every_place_can_be_painted_for_every_camera(place: str) -> None:
    actor = Actor(performance=runner(3, metres=1.0), clothes=dressed())
    for height_m, distance_m in ((1.1, 4.5), (5.0, 32.0)):
        frames = frames_of(plain_scene(place=place, camera_height_m=height_m, distance_m=distance_m), actor, count=3)
        assert frames.std() > 5  # a picture, not a blank


@pytest.mark.parametrize("mode", ["follow", "static", "zoom", "drift"])
@pytest.mark.parametrize("metres", [0.0, 3.0, 16.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_lead_is_in_the_picture_whatever_the_camera_does(mode: str, metres: float, mirrored: bool) -> None:
    count = 60
    actor = Actor(performance=runner(count, metres=metres), clothes=dressed(), x_m=2.0, mirrored=mirrored)
    scene = plain_scene(camera_mode=mode, zoom=1.3, shake_px=2.0, roll_deg=0.5, lag_s=0.6, figure_px=150.0)
    camera = plan_camera(scene, [actor], count, np.random.default_rng(0))
    # the pinhole, written out for one point at a time
    inside, tall = 0, []
    for frame in range(count):
        rows = []
        for x, y, z in actor.performance.joints[frame] * (-1 if mirrored else 1, 1, 1) + (2.0, 0, 0):
            per_m = camera.focal_px / (y + scene.distance_m)
            across, down = x * per_m - camera.centre[frame, 0], (scene.camera_height_m - z) * per_m - camera.centre[frame, 1]
            cos, sin = np.cos(camera.angle[frame]), np.sin(camera.angle[frame])
            column = 160 + camera.zoom[frame] * (cos * across - sin * down)
            row = 120 + camera.zoom[frame] * (sin * across + cos * down)
            inside += 0 <= column < 320 and 0 <= row < 240
            rows.append(row)
        tall.append(max(rows) - min(rows))
    assert inside >= 0.98 * count * len(JOINTS)
    assert np.median(tall) > 45  # and large enough to be seen


def test_a_polygon_touches_the_hull_of_its_discs_in_all_its_directions() -> None:
    rng = np.random.default_rng(0)
    centres, radii = rng.normal(0, 20, (50, 4, 2)).astype(np.float32), rng.uniform(0, 9, (50, 4)).astype(np.float32)
    corners = synthetic_scene._hull(centres, radii)
    for angle in np.arange(16) * 2 * np.pi / 16:
        way = np.array([np.cos(angle), np.sin(angle)])
        assert np.allclose((corners @ way).max(axis=1), (centres @ way + radii).max(axis=1), atol=1e-3)
    for angle in rng.uniform(0, 2 * np.pi, 20):  # in others it stays inside
        way = np.array([np.cos(angle), np.sin(angle)])
        assert ((corners @ way).max(axis=1) <= (centres @ way + radii).max(axis=1) + 1e-3).all()


def test_who_is_nearer_hides_who_is_further_whatever_their_order() -> None:
    still = performance(np.repeat(STANDING[None], 2, axis=0))
    style = {"pattern": "plain", "sleeves": "long", "headwear": "none", "legs": "trousers"}
    red = Actor(performance=still, clothes=dressed(top=(230, 20, 20), bottom=(230, 20, 20), **style), y_m=-1.0)
    blue = Actor(performance=still, clothes=dressed(top=(20, 20, 230), bottom=(20, 20, 230), **style), y_m=1.0, is_lead=False)
    for actors in ((red, blue), (blue, red)):
        frame = frames_of(plain_scene(aim=(0.0, 0.0)), *actors)[0].astype(int)
        redness = (frame[..., 0] - frame[..., 2] > 120).sum()
        blueness = (frame[..., 2] - frame[..., 0] > 120).sum()
        assert redness > 800
        assert blueness < 0.45 * redness


def test_water_hides_whatever_is_below_it() -> None:
    surface = np.array([[[0.4, 0, 0], [2, 0, 0]]] * 2, np.float32)
    pool = PropTrack(kind="water", points=surface, size_m=0.1, visible=np.ones(2, np.bool_), fixed=True)
    lead = Actor(performance=performance(np.repeat(STANDING[None], 2, axis=0)), clothes=dressed())
    rng = np.random.default_rng(0)
    seen = []
    for _ in range(2):  # two different people, wholly under water: nobody can tell them apart
        sunk = np.repeat(STANDING[None] + rng.normal(0, 0.1, STANDING.shape) + (1.2, 0, -2.5), 2, axis=0)
        seen.append(
            frames_of(
                plain_scene(sun=0.5, aim=(0.0, 0.0)),
                lead,
                Actor(performance=performance(sunk, pool), clothes=dressed(), is_lead=False),
            )
        )
    afloat = np.repeat(STANDING[None] + (1.2, 0, -0.9), 2, axis=0)
    half = frames_of(
        plain_scene(sun=0.5, aim=(0.0, 0.0)),
        lead,
        Actor(performance=performance(afloat, pool), clothes=dressed(), is_lead=False),
    )
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], half)


# fmt: off
THINGS = {
    "javelin": [(-1, -0.3, 1.6), (1.4, -0.3, 1.8)], "club": [(0.2, 0, 0.9), (0.9, 0, 0.1)],
    "barbell": [(-0.9, -0.3, 1.0), (0.9, -0.3, 1.0)],
    "ball": [(1, 0, 0.12)], "high bar": [(0.8, -1.5, 1.5), (0.8, 1.5, 1.5)], "mat": [(0.5, -1, 0.5), (2.5, 1, 0.5)],
    "platform": [(-1, -1, 0.4), (1, 1, 0.4)], "water": [(0.8, 0, 0), (3, 0, 0)], "sand": [(0.8, -1, 0), (3, 1, 0)],
}
# fmt: on


@pytest.mark.parametrize("kind", THINGS)
def test_things_are_seen_where_they_are_and_only_while_they_are_visible(kind: str) -> None:
    points = np.repeat(np.array(THINGS[kind], np.float32)[None], 2, axis=0)
    thing = PropTrack(kind=kind, points=points, size_m=0.15, visible=np.array([True, False]), fixed=True)
    joints = np.repeat(STANDING[None], 2, axis=0)
    lead = Actor(performance=performance(joints), clothes=dressed())
    owner = Actor(performance=performance(joints + np.float32(-90), thing), clothes=dressed(), is_lead=False)
    nobody = Actor(performance=performance(joints + np.float32(-90)), clothes=dressed(), is_lead=False)
    changed = (frames_of(plain_scene(), lead, owner) != frames_of(plain_scene(), lead, nobody)).any(axis=-1)
    assert changed[0].sum() > 25
    assert not changed[1].any()


def test_a_rectangle_may_be_given_by_two_corners_or_by_all_four() -> None:
    joints = np.repeat(STANDING[None], 2, axis=0)
    two = np.array([(0.5, -1, 0.5), (2.5, 1, 0.5)], np.float32)
    four = np.array([(0.5, -1, 0.5), (2.5, -1, 0.5), (2.5, 1, 0.5), (0.5, 1, 0.5)], np.float32)
    seen = []
    for corners in (two, four):
        mat = PropTrack(
            kind="mat", points=np.repeat(corners[None], 2, axis=0), size_m=0.1, visible=np.ones(2, np.bool_), fixed=True
        )
        seen.append(frames_of(plain_scene(), Actor(performance=performance(joints, mat), clothes=dressed())))
    assert np.array_equal(*seen)


def test_an_unknown_thing_is_an_error() -> None:
    thing = PropTrack(kind="trombone", points=np.zeros((2, 1, 3), np.float32), size_m=0.1, visible=np.ones(2, np.bool_))
    actor = Actor(performance=performance(np.repeat(STANDING[None], 2, axis=0), thing), clothes=dressed())
    with pytest.raises(ValueError, match="trombone"):
        frames_of(plain_scene(), actor)


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_but_the_performance_tells_the_action(look: str) -> None:
    rng = np.random.default_rng(5)
    waving = np.repeat(STANDING[None], 20, axis=0) + 0
    waving[:, JOINTS.index("r_hand"), 2] += np.abs(np.sin(np.arange(20) / 2)).astype(np.float32)
    scenes = []
    for joints in (np.repeat(STANDING[None], 20, axis=0), waving):
        dice = np.random.default_rng(11)
        actor = Actor(performance=performance(joints), clothes=sample_clothes(LOOKS[look], dice))
        sample_body(LOOKS[look], dice)
        scenes.append((actor.clothes, sample_scene(LOOKS[look], dice, frame_count=20, actors=[actor])))
    assert scenes[0] == scenes[1]
    assert sample_scene(LOOKS[look], rng, frame_count=20, actors=()) != scenes[0][1]


def test_the_looks_differ_in_every_distribution_and_their_ranges_overlap() -> None:
    stadium, street = LOOKS["stadium"], LOOKS["street"]
    for field in dataclasses.fields(stadium):
        ours, theirs = getattr(stadium, field.name), getattr(street, field.name)
        assert ours != theirs, field.name
        if len(np.shape(ours)) == 1 and np.shape(ours) == (2,) and isinstance(ours[0], (int, float)):
            assert max(ours[0], theirs[0]) < min(ours[1], theirs[1]), field.name
    for look in (stadium, street):
        for field in dataclasses.fields(look):
            value = getattr(look, field.name)
            if isinstance(value, tuple) and isinstance(value[0], tuple) and isinstance(value[0][0], str):
                assert sum(share for _, share in value) == pytest.approx(1.0), field.name


def test_opencv_is_not_imported_before_a_frame_is_drawn() -> None:
    check = "import sys, tal_run.eval.synthetic_scene; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
