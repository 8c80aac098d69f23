"""Feature files: every layout comes back, lies in time where its own readers say, and no damage goes unnoticed."""

from __future__ import annotations

import json
import os
import re
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tal_run.extractors.array_files import ArrayFileError
from tal_run.extractors.errors import TalRunError
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.feature_layouts import LAYOUTS, recognised
from tal_run.extractors.feature_record import FeatureRecipe, FlowRecipe, RecordError, from_json, to_json
from tal_run.extractors.features import FeatureError, FeatureNeeds, Features, FeatureSequence, joined
from tal_run.extractors.timegrid import Sampling
from tal_run.extractors.video import VideoInfo

SAMPLING = Sampling(fps=25, stride_frames=16, window_frames=16, offset_frames=8)  # W-TALC's, so that it fits all layouts
RECIPE = FeatureRecipe(
    video_sha256="ab" * 32,
    backbone="i3d",
    weights={"rgb.pt": "cd" * 32},
    sampling=SAMPLING,
    flow=FlowRecipe(backend="numba", parameters={"tau": 0.25, "warps": 5, "median": False}),
)
DURATION_S = 5.0
COUNT = SAMPLING.grid(1).expected_count(DURATION_S)
LAYOUT_NAMES = list(LAYOUTS)


def sequence(name: str = "a", *, dims: Any = (("rgb", 1024), ("flow", 1024)), count: int = COUNT) -> FeatureSequence:
    """Features that know where they belong: random, from a seed of their own."""
    dice = np.random.default_rng(list(name.encode("utf-8", "surrogateescape")))
    info = VideoInfo(
        path=Path(f"{name}.mp4"),
        container="mp4",
        codec="h264",
        pixel_format="yuv420p",
        width=64,
        height=48,
        stored_size=(64, 48),  # type: ignore[arg-type]
        rotation_deg=0,
        pixel_aspect=Fraction(1),
        duration_s=DURATION_S,
        frame_count=125,
        frame_rate=25.0,
        is_variable_rate=False,
        has_reordering=False,
        discarded_count=0,
        is_damaged=False,
    )
    return FeatureSequence(
        data=dice.normal(size=(count, sum(width for _, width in dims))).astype(np.float32),
        stream_dims=dims,
        grid=SAMPLING.grid(count, duration_s=DURATION_S),
        logits=dice.normal(size=(count, 2)).astype(np.float32),
        labels=("long jump", "squat"),
        multi_label=True,
        video=info,
        decoder="pyav",
        notes=("a note",),
    )


def saved(folder: Path, layout: str, *names: str) -> FeatureFolder:
    store = FeatureFolder(folder, layout=layout)
    for name in names:
        store.save(name, sequence(name), RECIPE)
    if store.layout.packs:
        store.pack(names)
    return store


def without_records(folder: Path) -> None:
    for path in folder.rglob("*.json"):
        path.unlink()


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
class TestEveryLayout:
    def test_comes_back_with_what_made_it(self, tmp_path: Path, layout: str) -> None:
        saved(tmp_path, layout, "b", "a", "sub/a.b")
        store = FeatureFolder(tmp_path, layout=layout)
        assert store.video_ids == ["a", "b", "sub/a.b"]
        for name in store.video_ids:
            read, expected = store.read(name), sequence(name)
            np.testing.assert_array_equal(read.data, expected.data)
            assert read.data.dtype == np.float32
            assert read.grid == expected.grid
            assert list(read.streams) == ["rgb", "flow"]
            np.testing.assert_array_equal(read.streams["flow"], expected.streams["flow"])
            assert read.record is not None
            assert read.record.recipe == RECIPE
            assert (read.record.video_file, read.record.notes) == (Path(f"{name}.mp4").name, ("a note",))
            assert store.fault(name, RECIPE) is None

    def test_comes_back_without_its_record_at_the_same_times(self, tmp_path: Path, layout: str) -> None:
        saved(tmp_path, layout, "a")
        without_records(tmp_path)
        given_sampling = SAMPLING if layout in ("actionformer", "opentad") else None
        read = FeatureFolder(tmp_path).read("a", sampling=given_sampling, duration_s=DURATION_S)
        np.testing.assert_array_equal(read.data, sequence().data)
        np.testing.assert_allclose(read.grid.edges_s, sequence().grid.edges_s, atol=1e-9)
        assert read.grid.window_s == pytest.approx(0.64)
        assert read.record is None

    def test_is_recognised_by_its_files(self, tmp_path: Path, layout: str) -> None:
        saved(tmp_path, layout, "a")
        assert recognised(tmp_path) == layout
        np.save(tmp_path / "foreign.npy", np.ones((3, 4)))
        np.savez(tmp_path / "damaged.npz")
        (tmp_path / "damaged.npz").write_bytes(b"PK")
        (tmp_path / "foreign.json").write_text("{}")
        assert recognised(tmp_path) == layout
        without_records(tmp_path)
        assert recognised(tmp_path) == ("actionformer" if layout == "opentad" else layout)

    def test_does_not_depend_on_the_order_of_streams(self, tmp_path: Path, layout: str) -> None:
        both = sequence().streams
        data, dims = joined({"flow": both["flow"], "rgb": both["rgb"]})
        assert dims == (("rgb", 1024), ("flow", 1024))
        np.testing.assert_array_equal(data, sequence().data)

    def test_every_damage_is_noticed(self, tmp_path: Path, layout: str) -> None:
        store = saved(tmp_path, layout, "a")
        files = [
            path for path in store.file("a").parent.iterdir() if path.suffix in (".npy", ".npz") and path.name.startswith("a")
        ]
        assert files
        for path in files:
            whole = path.read_bytes()
            for damaged in (whole[:-1], whole + b"x", whole[:-200] + b"\xff" + whole[-199:], b""):
                path.write_bytes(damaged)
                assert store.fault("a", RECIPE) == f"{path.name} is damaged or was changed"
                if not store.layout.packs:
                    with pytest.raises(TalRunError):
                        store.read("a")
            path.unlink()
            assert store.fault("a", RECIPE) == f"{path.name} is missing"
            path.write_bytes(whole)
        assert store.fault("a", RECIPE) is None

    def test_a_kill_before_the_record_leaves_what_will_be_made_again(self, tmp_path: Path, layout: str) -> None:
        store = FeatureFolder(tmp_path, layout=layout)
        assert not store.has("a")
        store.save("a", sequence(), RECIPE)
        record = store.file("a").parent / "a.json"
        record.unlink()
        assert store.has("a")
        assert store.fault("a", RECIPE) == "it has no record a.json"

    def test_a_kill_between_new_files_and_the_old_record(self, tmp_path: Path, layout: str) -> None:
        store = saved(tmp_path, layout, "a")
        old = (store.file("a").parent / "a.json").read_bytes()
        store.save("a", sequence("other"), RECIPE)
        (store.file("a").parent / "a.json").write_bytes(old)
        assert "is damaged or was changed" in str(store.fault("a", RECIPE))


# --- time, as each reader's own code computes it --------------------------------------------------------------------------


@given(st.sampled_from([25.0, 29.97, 30.0, 15.0]), st.sampled_from([4, 8, 16]), st.sampled_from([16, 32]), st.integers(0, 3000))
def test_actionformers_grid(fps: float, stride: int, num_frames: int, k: int) -> None:
    """libs/datasets/thumos14.py: a time t is at (t * fps - 0.5 * num_frames) / feat_stride of the feature grid."""
    grid = Sampling(fps=fps, stride_frames=stride, window_frames=num_frames).grid(k + 1)
    middle_s = float(grid.centers_s[k])
    assert (middle_s * fps - 0.5 * num_frames) / stride == pytest.approx(k, abs=1e-6)


@given(
    st.sampled_from([4, 8, 16]), st.sampled_from([0, 8]), st.integers(0, 3000), st.floats(10, 300), st.sampled_from([25, 30])
)
def test_opentads_grid(snippet_stride: int, offset_frames: int, k: int, duration_s: float, rate: int) -> None:
    """opentad/datasets/thumos.py: frame = t / duration * frames; it is at (frame - offset_frames) / snippet_stride."""
    frames = round(duration_s * rate)
    sampling = Sampling(
        fps=frames / duration_s, stride_frames=snippet_stride, window_frames=16, offset_frames=float(offset_frames)
    )
    middle_s = float(sampling.grid(k + 1).centers_s[k])
    assert (middle_s / duration_s * frames - offset_frames) / snippet_stride == pytest.approx(k, abs=1e-6)


def test_wtalcs_snippets() -> None:
    """detectionMAP.py: a segment from s to e seconds is the snippets round(s * 25 / 16) to round(e * 25 / 16)."""
    sampling = LAYOUTS["wtalc"].sampling
    assert sampling is not None
    grid = sampling.grid(100)
    for k in range(100):
        start_s, end_s = grid.segments_to_seconds([[k, k]])[0]
        assert (round(start_s * 25 / 16), round(end_s * 25 / 16)) == (k, k + 1)


def video_features_files(folder: Path, *, frames: int, fps: float, stack: int, step: int) -> int:
    """What models/i3d/extract_i3d.py leaves: of a stack of frames and one more, the last one's timestamp."""
    times_ms: list[float] = []
    held: list[int] = []
    for frame in range(frames):
        held.append(frame)
        if len(held) - 1 == stack:
            times_ms.append(frame * 1000 / fps)
            held = held[step:]
    for name in ("rgb", "flow"):
        np.save(folder / f"v_{name}.npy", np.ones((len(times_ms), 1024)))
    np.save(folder / "v_fps.npy", np.array(fps))
    np.save(folder / "v_timestamps_ms.npy", np.array(times_ms))
    return len(times_ms)


@pytest.mark.parametrize(("stack", "step"), [(64, 64), (24, 24), (64, 16), (16, 24)])
@pytest.mark.parametrize("fps", [25.0, 29.97])
def test_video_features_timestamps(tmp_path: Path, stack: int, step: int, fps: float) -> None:
    count = video_features_files(tmp_path, frames=500, fps=fps, stack=stack, step=step)
    read = FeatureFolder(tmp_path).read("v", duration_s=500 / fps)
    really = min(step, stack + 1)  # it holds no more frames than that, so cannot step further
    expected_s = [(k * really + stack / 2) / fps for k in range(count)]
    np.testing.assert_allclose(read.grid.centers_s, expected_s, atol=1e-9)
    assert read.grid.window_s == pytest.approx(stack / fps)
    assert read.stream_dims == (("rgb", 1024), ("flow", 1024))


def test_video_features_of_single_frames(tmp_path: Path) -> None:
    np.save(tmp_path / "v_clip.npy", np.ones((50, 512)))
    np.save(tmp_path / "v_fps.npy", np.array(25.0))
    np.save(tmp_path / "v_timestamps_ms.npy", np.arange(50) * 40.0)
    read = FeatureFolder(tmp_path).read("v")
    np.testing.assert_allclose(read.grid.centers_s, np.arange(50) / 25 + 0.02)
    assert read.stream_dims == (("clip", 512),)


def test_timestamps_that_no_grid_fits_are_refused(tmp_path: Path) -> None:
    video_features_files(tmp_path, frames=500, fps=25.0, stack=24, step=24)
    times_ms = np.load(tmp_path / "v_timestamps_ms.npy")
    for wrong, words in (
        (times_ms**1.5, "not equally far apart"),
        (times_ms[::-1].copy(), "not equally far apart"),
        (times_ms[:-1], "do not belong to 20 snippets"),
        (np.where(times_ms > 5000, np.nan, times_ms), "times that are none"),
        (times_ms.astype(str), "do not belong to 20 snippets"),
    ):
        np.save(tmp_path / "v_timestamps_ms.npy", wrong)
        with pytest.raises(FeatureError, match=words):
            FeatureFolder(tmp_path).read("v")


# --- made elsewhere -------------------------------------------------------------------------------------------------------


def test_actionformers_files_need_to_be_told_how_they_lie_in_time(tmp_path: Path) -> None:
    np.save(tmp_path / "video_test_0000004.npy", np.ones((100, 2048)))
    np.save(tmp_path / "v_abc.npy", np.ones((10, 512), np.float16))
    np.savez(tmp_path / "P01_01.npz", feats=np.ones((10, 2304)))
    store = FeatureFolder(tmp_path)
    with pytest.raises(FeatureError, match="give fps, stride and window"):
        store.read("video_test_0000004")
    sampling = Sampling(fps=30, stride_frames=4, window_frames=16)
    read = store.read("video_test_0000004", sampling=sampling)
    assert read.grid.centers_s[1] == pytest.approx(12 / 30)
    assert read.stream_dims == ()
    assert list(read.streams) == ["features"]
    assert store.read("abc", sampling=sampling).data.shape == (10, 512)
    assert store.read("P01_01", sampling=sampling).data.shape == (10, 2304)


def test_a_length_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """Features of 25 fps taken for 30, and the other way round; on their side."""
    sampling = {fps: Sampling(fps=fps, stride_frames=16, window_frames=16) for fps in (25, 30)}
    np.save(tmp_path / "v.npy", np.ones((312, 2048)))
    np.save(tmp_path / "turned.npy", np.ones((2048, 312)))
    store = FeatureFolder(tmp_path)
    store.read("v", sampling=sampling[25], duration_s=200.0)
    with pytest.raises(FeatureError, match=r"are 312 snippets 0.5333 s apart, and a video of 200.0 s makes about 375"):
        store.read("v", sampling=sampling[30], duration_s=200.0)
    for duration_s in (None, 200.0):
        with pytest.raises(FeatureError, match=r"2048 x 312.*on its side|2048 x 312, turned on their side"):
            store.read("turned", sampling=sampling[25], duration_s=duration_s)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((3, 4), np.int64), "holds int64, not floating-point numbers"),
        (np.ones((3, 4), complex), "neither numbers nor text"),
        (np.array(["a"]), "holds <U1"),
        (np.array([None]), "holds Python objects, a pickle"),
        (np.ones(4), r"has the shape \(4,\), not \[T, D\]"),
        (np.ones((3, 10, 4)), "of several crops, save the mean"),
        (np.ones((0, 4)), "was the video shorter than one window"),
        (np.array([[1.0], [np.nan], [np.inf]]), "NaN or infinite.* in 2 of 3 snippets, first in snippet 1"),
        (np.full((2, 2), 1e300), "infinite"),
    ],
)
def test_what_is_no_feature_is_refused(tmp_path: Path, array: Any, words: str) -> None:
    np.save(tmp_path / "v.npy", array)
    np.save(tmp_path / "right.npy", np.ones((3, 4)))
    store = FeatureFolder(tmp_path, layout="actionformer")
    with pytest.raises(TalRunError, match=words):
        store.read("v", sampling=SAMPLING)
    assert store.read("right", sampling=SAMPLING).data.shape == (3, 4)  # the rest goes on


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "..", "", ".", "a\0b"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, layout: str, name: str) -> None:
    store = saved(tmp_path / "inner", layout, "a")
    with pytest.raises(FeatureError):
        store.read(name)
    with pytest.raises(FeatureError, match="leads out of the folder"):
        store.save(name, sequence(), RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


def wtalc_file(folder: Path, elements: list[Any], names: Any) -> Path:
    """The features as W-TALC publishes them, with the annotations in their own folder."""
    array = np.empty(len(elements), object)
    for index, element in enumerate(elements):
        array[index] = element
    np.save(folder / "Thumos14reduced-I3D-JOINTFeatures.npy", array)
    (folder / "Thumos14reduced-Annotations").mkdir(exist_ok=True)
    np.save(folder / "Thumos14reduced-Annotations" / "videoname.npy", names)
    return folder / "Thumos14reduced-I3D-JOINTFeatures.npy"


def test_wtalcs_own_file_is_read_as_published(tmp_path: Path) -> None:
    elements = [np.full((t, 2048), t, np.float32) for t in (3, 5)]
    path = wtalc_file(tmp_path, elements, np.array([b"video_validation_0000051", b"video_test_0000004"]))
    store = FeatureFolder(path)
    assert store.video_ids == FeatureFolder(tmp_path).video_ids == ["video_test_0000004", "video_validation_0000051"]
    read = store.read("video_test_0000004")
    np.testing.assert_array_equal(read.data, elements[1])
    assert (read.grid.step_s, read.grid.window_s, read.grid.start_s) == (0.64, 0.64, 0.0)
    assert list(read.streams) == ["rgb", "flow"]
    with pytest.raises(FeatureError, match="there are no features of absent"):
        store.read("absent")


def test_of_wtalcs_file_one_bad_element_costs_one_video(tmp_path: Path) -> None:
    elements = [np.ones((3, 2048), np.float32), "no array", np.full((3, 2048), np.nan), {"a": 1}]
    store = FeatureFolder(wtalc_file(tmp_path, elements, np.array([b"a", b"b", b"c", b"d"])))
    assert store.read("a").data.shape == (3, 2048)
    for name, words in (("b", "holds str"), ("c", "NaN"), ("d", "holds dict")):
        with pytest.raises(FeatureError, match=rf"\({name}\).*{words}"):
            store.read(name)


def test_wtalcs_names_must_be_those_of_the_file(tmp_path: Path) -> None:
    elements = [np.ones((3, 2048), np.float32)]
    for names, words in (
        (np.array([b"a", b"b"]), "has 1 elements and .* 2 names"),
        (np.array([1.5]), "holds float64, not names"),
    ):
        with pytest.raises(FeatureError, match=words):
            _ = FeatureFolder(wtalc_file(tmp_path, elements, names)).video_ids
    (tmp_path / "Thumos14reduced-Annotations" / "videoname.npy").unlink()
    with pytest.raises(FeatureError, match=r"put the one from the data set's annotations beside it"):
        _ = FeatureFolder(tmp_path / "Thumos14reduced-I3D-JOINTFeatures.npy").video_ids


class Hostile:
    """A pickle that makes a folder."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.sentinel,)


def test_a_hostile_file_of_features_runs_nothing(tmp_path: Path) -> None:
    path = wtalc_file(tmp_path, [Hostile(tmp_path / "sentinel")], np.array([b"a"]))
    with pytest.raises(ArrayFileError, match="is more than data"):
        FeatureFolder(path).read("a")
    path.rename(tmp_path / "b.npy")
    with pytest.raises(ArrayFileError, match="holds Python objects, a pickle"):
        FeatureFolder(tmp_path, layout="actionformer").read("b", sampling=SAMPLING)
    assert not (tmp_path / "sentinel").exists()


def test_folders_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="there are no features"):
        FeatureFolder(tmp_path)
    with pytest.raises(FeatureError, match="choose one of tal-run, actionformer, opentad, wtalc, video_features"):
        FeatureFolder(tmp_path, layout="anet")
    for name in LAYOUT_NAMES:
        with pytest.raises(TalRunError, match=r"there (is|are) no"):
            FeatureFolder(tmp_path, layout=name).read("absent")


@pytest.mark.parametrize("name", ["features", "features.npy"])
def test_a_folder_may_be_called_anything(tmp_path: Path, name: str) -> None:
    with pytest.raises(FeatureError, match="there are no features"):
        FeatureFolder(tmp_path / name)
    saved(tmp_path / name, "opentad", "a")
    assert FeatureFolder(tmp_path / name).video_ids == ["a"]


def test_what_tal_run_wrote_before_there_were_records_is_read(tmp_path: Path) -> None:
    arrays = {"features": np.ones((3, 4), np.float32), "labels": np.array(["a", "b"]), "multi_label": np.array(True)}
    seconds = np.array([[0.0, 1.6], [0.8, 2.4], [1.6, 3.2]])
    np.savez(tmp_path / "bout.npz", seconds=seconds, logits=np.zeros((3, 2), np.float32), **arrays)
    read = FeatureFolder(tmp_path).read("bout", duration_s=3.0)
    np.testing.assert_allclose(read.grid.edges_s, [0.0, 1.2, 2.0, 3.0])
    assert read.labels == ("a", "b")
    np.testing.assert_allclose(read.probabilities(), 0.5)
    np.savez(tmp_path / "bout.npz", seconds=seconds[:2], **arrays)
    with pytest.raises(FeatureError, match="do not belong together"):
        FeatureFolder(tmp_path).read("bout")
    np.savez(tmp_path / "bout.npz", seconds=seconds.astype(str), **arrays)
    with pytest.raises(FeatureError, match="do not belong together"):
        FeatureFolder(tmp_path).read("bout")


def test_activitynets_files_have_a_prefix_that_its_annotations_lack(tmp_path: Path) -> None:
    store = saved(tmp_path, "tal-run", "v_abc")
    np.testing.assert_array_equal(store.read("abc").data, store.read("v_abc").data)


# --- records --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"video_sha256": "ef" * 32}, "the video has changed"),
        ({"backbone": "c3d"}, "is of the backbone i3d, not c3d"),
        ({"weights": {"rgb.pt": "00" * 32}}, "other weights"),
        ({"sampling": replace(SAMPLING, stride_frames=8)}, "has 16 frames at 25 fps, every 16 frames, not .* every 8 frames"),
        ({"decoder": "decord"}, "was decoded with pyav, not decord"),
        ({"flow": None}, "other optical flow"),
        ({"flow": FlowRecipe(backend="numba", parameters={"tau": 0.2})}, "other optical flow"),
    ],
)
def test_every_change_of_the_recipe_is_noticed(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    store = saved(tmp_path, "tal-run", "a")
    assert store.fault("a", RECIPE) is None
    fault = store.fault("a", replace(RECIPE, **change))
    assert fault is not None
    assert re.match(f"it .*{words}", fault)


def test_the_decoder_that_was_used_will_do(tmp_path: Path) -> None:
    store = saved(tmp_path, "tal-run", "a")  # asked for auto, used pyav
    for decoder in ("auto", "pyav"):
        assert store.fault("a", replace(RECIPE, decoder=decoder)) is None


def test_a_record_says_what_readers_of_features_ask_for(tmp_path: Path) -> None:
    saved(tmp_path, "tal-run", "a")
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["video"] == {"file": "a.mp4", "sha256": "ab" * 32, "duration_s": 5.0}
    assert [record[key] for key in ("fps", "stride_frames", "window_frames", "offset_frames")] == [25, 16, 16, 8]
    assert record["decoder"] == {"asked_for": "auto", "used": "pyav"}
    assert record["flow"] == {"backend": "numba", "parameters": {"tau": 0.25, "warps": 5, "median": False}}
    assert record["streams"] == {"rgb": 1024, "flow": 1024}
    assert record["weights"] == {"rgb.pt": "cd" * 32}
    assert set(record) >= {"format", "tal_run", "backbone", "layout", "count", "files", "notes"}


def test_layouts_do_not_pass_for_each_other(tmp_path: Path) -> None:
    saved(tmp_path, "opentad", "a")
    assert FeatureFolder(tmp_path, layout="actionformer").fault("a", RECIPE) == "its record is of the layout opentad"


def test_damaged_records_are_noticed_and_never_followed(tmp_path: Path) -> None:
    store = saved(tmp_path, "tal-run", "a")
    path = tmp_path / "a.json"
    document = json.loads(path.read_text())
    outside = tmp_path.parent / "a.npz"
    nan, inf = float("nan"), float("inf")
    for damaged in (
        "",
        "[]",
        "null",
        "[" * 100_000,
        path.read_text()[:-10],
        '{"format": "tal-run features 1"}',
        "\xff" * 10,
        " " * (2 << 20),
        *(json.dumps({**document, key: None}) for key in document if key != "flow"),
        json.dumps({**document, "fps": float("nan")}),
        json.dumps({**document, "fps": -1}),
        json.dumps({**document, "fps": 10**400}),
        json.dumps({**document, "count": True}),
        json.dumps({**document, "files": {}}),
        json.dumps({**document, "format": "tal-run features 0"}),
        json.dumps({**document, "files": {str(outside): "ab"}}),
        json.dumps({**document, "files": {**document["files"], "a.npy": "ab"}}),
        *(json.dumps({**document, "files": {name: "ab"}}) for name in ("", "..", "a\0", "\ud800", "b" * 5000, "b.npz")),
        *(json.dumps({**document, "video": {**document["video"], "duration_s": it}}) for it in (nan, -5, 0, inf, 1e300)),
        *(json.dumps({**document, "streams": it}) for it in ({}, {"rgb": 0}, {"x": -1, "rgb": 2049})),
        *(json.dumps({**document, "fps": it}) for it in (1e-320, 1e308, inf)),
        *(json.dumps({**document, "count": it}) for it in (0, -3, 10**400)),
        *(json.dumps({**document, "offset_frames": it}) for it in (1e308, -1e308, -10_000)),
    ):
        path.write_text(damaged, encoding="latin-1")
        fault = store.fault("a", RECIPE)
        assert fault
        with pytest.raises(FeatureError, match="cannot be trusted"):
            store.read("a")
    path.unlink()
    path.mkdir()
    assert store.fault("a", RECIPE) == "its record a.json cannot be read"
    path.rmdir()
    os.mkfifo(path)  # into which nobody will ever write
    assert store.fault("a", RECIPE) == "its record a.json cannot be read"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert store.fault("a", RECIPE) == "its record a.json cannot be read"
    with pytest.raises(FeatureError, match="there are no features"):
        FeatureFolder(tmp_path / "elsewhere")


def test_a_pipe_for_features_is_not_waited_for(tmp_path: Path) -> None:
    store = saved(tmp_path, "tal-run", "a")
    (tmp_path / "a.npz").unlink()
    os.mkfifo(tmp_path / "a.npz")
    assert store.fault("a", RECIPE) == "a.npz is no file"
    for _ in range(2):
        with pytest.raises(TalRunError):
            FeatureFolder(tmp_path, layout="tal-run").read("a")
        (tmp_path / "a.json").unlink(missing_ok=True)


def test_only_what_the_record_names_is_read(tmp_path: Path) -> None:
    """Strays that a reader without a record would prefer, or add."""
    joint = saved(tmp_path / "joint", "opentad", "a")
    np.savez(tmp_path / "joint" / "a.npz", feats=np.zeros_like(sequence().data))
    streams = saved(tmp_path / "streams", "video_features", "a")
    np.save(tmp_path / "streams" / "a_clip.npy", np.zeros((COUNT, 512)))
    for store in (joint, streams):
        np.testing.assert_array_equal(store.read("a").data, sequence().data)


def test_features_are_read_in_the_layout_of_their_record(tmp_path: Path) -> None:
    saved(tmp_path, "opentad", "a")
    with pytest.raises(FeatureError, match="are in the layout opentad, not actionformer: name that one"):
        FeatureFolder(tmp_path, layout="actionformer").read("a")


def test_what_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    good = sequence()
    assert good.logits is not None
    for bad in (replace(good, data=good.data * np.float32("nan")), replace(good, logits=good.logits + np.float32("inf"))):
        with pytest.raises(FeatureError, match="the weights of i3d may be damaged"):
            FeatureFolder(tmp_path, layout="tal-run").save("a", bad, RECIPE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["tal-run", "opentad"])
def test_names_may_begin_with_a_dot(tmp_path: Path, layout: str) -> None:
    saved(tmp_path, layout, ".hidden", "a")
    (tmp_path / f".tal-run-x{LAYOUTS[layout].endings[0]}").write_bytes(b"half")
    assert FeatureFolder(tmp_path).video_ids == [".hidden", "a"]
    FeatureFolder(tmp_path).read(".hidden")


@pytest.mark.parametrize(
    "seconds",
    [
        [[-1e308, 1.0], [1e308, 2.0]],
        [[1e308, 1e308], [1e308, 1e308]],
        [[-100.0, -99.0], [-99.0, -98.0]],
        [[0.0, 5e-324], [1.0, 1.0]],
        [[0.0, 1.0], [5e-324, 1.0]],
        [[np.inf, np.inf], [np.inf, np.inf]],
    ],
    ids=str,
)
def test_times_that_cannot_be_are_refused(tmp_path: Path, seconds: Any) -> None:
    np.savez(tmp_path / "a.npz", features=np.ones((2, 3), np.float32), seconds=np.array(seconds))
    with pytest.raises(FeatureError, match=r"times that (are none|are not equally far apart)"):
        FeatureFolder(tmp_path).read("a", duration_s=5.0)


def test_a_damaged_archive_costs_one_video(tmp_path: Path) -> None:
    arrays = {"features": np.ones((2, 3), np.float32), "seconds": np.array([[0.0, 1.0], [1.0, 2.0]])}
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04")
    np.savez(tmp_path / "b.npz", **arrays)  # type: ignore[arg-type]
    np.save(tmp_path / "stray.npy", np.ones((3, 4)))
    store = FeatureFolder(tmp_path)
    assert store.layout_name == "tal-run"
    assert store.read("b").data.shape == (2, 3)
    with pytest.raises(ArrayFileError, match=r"a\.npz is damaged"):
        store.read("a")


# --- what was packed ------------------------------------------------------------------------------------------------------


def test_a_kill_between_the_pack_and_its_names_is_noticed(tmp_path: Path) -> None:
    """Whatever two of the three files are of another time than the third."""
    files = ("JOINTFeatures.npy", "videoname.npy", "JOINTFeatures.json")
    store = saved(tmp_path, "wtalc", "a", "b")
    before = {name: (tmp_path / name).read_bytes() for name in files}
    store.pack(["b", "a"])
    after = {name: (tmp_path / name).read_bytes() for name in files}
    np.testing.assert_array_equal(FeatureFolder(tmp_path).read("a").data, sequence("a").data)
    for name in files:
        (tmp_path / name).write_bytes(before[name])
        with pytest.raises(FeatureError, match=r"is not what JOINTFeatures\.json says of it"):
            FeatureFolder(tmp_path).read("a")
        (tmp_path / name).write_bytes(after[name])
    for damaged in (after[files[2]][:-20], b'{"format": "tal-run pack 1"}', b'{"format": "tal-run pack 2", "videos": {}}'):
        (tmp_path / files[2]).write_bytes(damaged)
        with pytest.raises(FeatureError, match=r"is not what JOINTFeatures\.json says of it"):
            FeatureFolder(tmp_path).read("a")


def test_what_was_made_anew_since_it_was_packed_is_not_verified(tmp_path: Path) -> None:
    store = saved(tmp_path, "wtalc", "a", "b")
    store.save("a", sequence("other"), RECIPE)
    with pytest.raises(FeatureError, match=r"JOINTFeatures\.npy was packed of others"):
        FeatureFolder(tmp_path).read("a")
    assert FeatureFolder(tmp_path).read("b").record is not None
    store.pack(["a", "b"])
    np.testing.assert_array_equal(FeatureFolder(tmp_path).read("a").data, sequence("other").data)


def test_a_pack_made_elsewhere_has_no_record_of_ours(tmp_path: Path) -> None:
    saved(tmp_path, "wtalc", "a")
    (tmp_path / "JOINTFeatures.json").unlink()
    assert FeatureFolder(tmp_path).read("a").record is None


def test_nothing_is_not_packed(tmp_path: Path) -> None:
    saved(tmp_path, "wtalc", "a")
    with pytest.raises(FeatureError, match="there are no features to put into"):
        FeatureFolder(tmp_path).pack([])
    with pytest.raises(ArrayFileError, match="cannot be packed"):
        FeatureFolder(tmp_path).pack(["a", "absent"])
    assert FeatureFolder(tmp_path).video_ids == ["a"]


def test_records_come_back(tmp_path: Path) -> None:
    saved(tmp_path, "tal-run", "\udcff")  # a name that is no UTF-8
    text = (tmp_path / "\udcff.json").read_text()
    record = from_json(text)
    assert record.video_file == "\udcff.mp4"
    assert from_json(to_json(record)) == record
    with pytest.raises(RecordError):
        from_json(struct.pack("<I", 7).decode("latin-1"))


def test_a_sampling_that_contradicts_the_record_is_refused(tmp_path: Path) -> None:
    store = saved(tmp_path, "actionformer", "a")
    assert store.read("a", sampling=Sampling(fps=25, stride_frames=16, window_frames=16)).grid == sequence().grid
    with pytest.raises(FeatureError, match="were made with 16 frames at 25 fps, every 16 frames, not 16 frames at 30 fps"):
        store.read("a", sampling=Sampling(fps=30, stride_frames=16, window_frames=16))


# --- what a head takes ----------------------------------------------------------------------------------------------------

NEEDS = FeatureNeeds(dim=2048, streams=("rgb", "flow"), step_s=0.64, backbone="i3d")


def test_features_that_fit_a_head_pass(tmp_path: Path) -> None:
    NEEDS.check(sequence())
    NEEDS.check(saved(tmp_path, "tal-run", "a").read("a"))
    FeatureNeeds().check(Features(data=np.ones((3, 4), np.float32), grid=SAMPLING.grid(3)))
    NEEDS.check(
        Features(data=np.ones((3, 2048), np.float32), grid=Sampling(fps=24.97, stride_frames=16, window_frames=16).grid(3))
    )


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (Features(data=np.ones((3, 1024), np.float32), grid=SAMPLING.grid(3)), "are 1024 wide, the head takes 2048"),
        (Features(data=np.ones((2048, 300), np.float32), grid=SAMPLING.grid(2048)), "turned on their side"),
        (sequence(dims=(("flow", 1024), ("rgb", 1024))), "are flow and rgb, the head takes rgb and flow"),
        (
            Features(data=np.ones((3, 2048), np.float32), grid=replace(SAMPLING, fps=30.0).grid(3)),
            "lie 0.5333 s apart, the head was trained on 0.64 s",
        ),
    ],
)
def test_features_that_do_not_fit_a_head_are_refused_with_the_reason(features: Features, words: str) -> None:
    with pytest.raises(FeatureError, match=words):
        NEEDS.check(features)


def test_features_of_another_backbone_are_refused(tmp_path: Path) -> None:
    read = saved(tmp_path, "tal-run", "a").read("a")
    with pytest.raises(FeatureError, match="are of i3d, the head was trained on movinet"):
        FeatureNeeds(backbone="movinet").check(read)


def test_streams_of_different_lengths_are_refused() -> None:
    with pytest.raises(FeatureError, match="rgb 3, flow 4"):
        joined({"flow": np.ones((4, 2), np.float32), "rgb": np.ones((3, 2), np.float32)})
    with pytest.raises(ValueError, match="do not make up"):
        Features(data=np.ones((3, 4), np.float32), grid=SAMPLING.grid(3), stream_dims=(("rgb", 3),))


def test_features_that_are_no_numbers_are_not_saved_and_the_cure_is_said(tmp_path: Path) -> None:
    store, broken = FeatureFolder(tmp_path, layout="tal-run"), sequence()
    broken.data[1, 3] = np.nan
    names = " and ".join(RECIPE.weights)
    with pytest.raises(FeatureError, match=f"NaN or infinite.* so delete {names} and have them fetched again"):
        store.save("a", broken, RECIPE)
    assert not list(tmp_path.iterdir())
