"""Made data sets: the truth is that of the pictures, the same seed gives the same bytes, and stopping loses nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tal_run.eval import synthetic, synthetic_plan
from tal_run.eval.annotations import read, read_clips
from tal_run.eval.synthetic import SyntheticError, synthesize
from tal_run.eval.synthetic_actions import ACTIONS
from tal_run.eval.synthetic_figure import FPS, JOINT, Body, Motion, Performance, perform
from tal_run.eval.synthetic_motions import BACKGROUND
from tal_run.eval.synthetic_plan import (
    BACKGROUND_PER_ROUND,
    CLIP_FRAMES,
    LABELS,
    VideoPlan,
    clip_frames,
    clip_label,
    excerpt,
    held,
    plan_clip,
    plan_video,
)
from tal_run.extractors.video import probe

PLANS = [(look, index) for look in ("stadium", "street") for index in range(6)]
SMALL = {"videos": 2, "trimmed": 1, "min_s": 4.0, "max_s": 5.0}


def bytes_below(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def acting(plan: VideoPlan) -> list[tuple[str, int, int]]:
    """Label, first frame and end of every action that somebody performs in the pictures."""
    found, offset = [], 0
    for shot in plan.shots:
        for actor in shot.actors:
            for span in actor.performance.spans:
                if span.is_action:
                    found.append((span.label, offset + round(span.start_s * FPS), offset + round(span.end_s * FPS)))
        offset += shot.frame_count
    return sorted(found)


@pytest.mark.parametrize(("look", "index"), PLANS)
def test_the_annotations_are_what_is_performed(look: str, index: int) -> None:
    plan = plan_video(look=look, seed=3, index=index)
    truth = plan.truth
    assert 20 <= plan.frame_count / FPS <= 60
    assert truth.duration_s == plan.frame_count / FPS
    annotated = [(i.label, round(i.start_s * FPS), round(i.end_s * FPS)) for i in truth.instances]
    open_ends = [(round(s.start_s * FPS), round(s.end_s * FPS)) for s in truth.ambiguous]
    assert all(instance.start_s * FPS == pytest.approx(round(instance.start_s * FPS)) for instance in truth.instances)
    unfinished = [action for action in acting(plan) if action not in annotated]
    assert all((start, end) in open_ends or end - start < 0.3 * FPS for _, start, end in unfinished)
    assert set(annotated) <= set(acting(plan))


@pytest.mark.parametrize(("look", "index"), PLANS)
def test_no_action_is_cut_and_only_leads_act(look: str, index: int) -> None:
    plan = plan_video(look=look, seed=3, index=index)
    cuts = np.cumsum([0, *(shot.frame_count for shot in plan.shots)]) / FPS
    for instance in plan.truth.instances:
        assert not ((cuts > instance.start_s + 1e-9) & (cuts < instance.end_s - 1e-9)).any()
    for shot in plan.shots:
        for actor in shot.actors:
            assert len(actor.performance.joints) == shot.frame_count
            assert actor.is_lead or not any(span.is_action for span in actor.performance.spans)


def test_the_same_action_never_goes_on_twice_at_a_time() -> None:
    for look, index in PLANS:
        found = plan_video(look=look, seed=3, index=index).truth.instances
        for first in found:
            for second in found:
                if first is not second and first.label == second.label:
                    assert first.end_s <= second.start_s or second.end_s <= first.start_s


def test_everything_that_was_asked_for_comes_up() -> None:
    plans = [plan_video(look=look, seed=1, index=index) for look in ("stadium", "street") for index in range(22)]
    instances = [plan.truth.instances for plan in plans]
    assert {i.label for found in instances for i in found} == set(LABELS)
    kinds = [len({i.label for i in found}) for found in instances]
    assert set(kinds) == {0, 1, 2, 3}
    overlapping = sum(
        any(a.start_s < b.end_s and b.start_s < a.end_s for a in found for b in found if a is not b) for found in instances
    )
    assert overlapping >= 4  # in a tenth of the videos two people act at the same time
    assert any(plan.truth.ambiguous for plan in plans)
    assert {plan.truth.subset for plan in plans} == {"training", "validation", "testing"}


@pytest.mark.parametrize("label", LABELS)
def test_a_clip_is_its_action_from_end_to_end_or_has_it_in_its_middle(label: str) -> None:
    for index in range(6):
        plan = plan_clip(look="street", seed=0, index=index, label=label)
        assert CLIP_FRAMES[0] <= plan.frame_count <= CLIP_FRAMES[1]
        ((found, start, end),) = acting(plan)
        assert found == label
        before, after = start, plan.frame_count - end
        assert abs(before - after) <= 1
        if plan.frame_count > CLIP_FRAMES[0]:
            assert before == after == 0


ROUND = len(LABELS) + BACKGROUND_PER_ROUND


def test_every_round_of_clips_has_every_label_and_background() -> None:
    labels = [clip_label(index) for index in range(ROUND)]
    assert sorted(filter(None, labels)) == sorted(LABELS)
    assert labels.count(None) == BACKGROUND_PER_ROUND
    assert [clip_label(index) for index in range(ROUND, 2 * ROUND)] == labels
    seen = {
        (clip_label(index), plan_clip(look="stadium", seed=0, index=index, label=clip_label(index)).truth.subset)
        for index in range(5 * ROUND)
    }
    assert len(seen) == 3 * 13
    for index in range(len(LABELS), ROUND):
        assert not acting(plan_clip(look="stadium", seed=0, index=index, label=None))


def test_seeds_looks_and_numbers_give_different_plans_and_the_same_ones_the_same() -> None:
    def print_of(look: str, seed: int, index: int) -> str:
        plan = plan_video(look=look, seed=seed, index=index)
        arrays = b"".join(actor.performance.joints.tobytes() for shot in plan.shots for actor in shot.actors)
        return hashlib.sha256(arrays + repr([plan.truth, [shot.scene for shot in plan.shots]]).encode()).hexdigest()

    given = [("stadium", 0, 0), ("stadium", 0, 1), ("stadium", 1, 0), ("street", 0, 0)]
    assert [print_of(*each) for each in given] == [print_of(*each) for each in given]
    assert len({print_of(*each) for each in given}) == len(given)


@pytest.fixture(scope="module")
def performance() -> Performance:
    from tal_run.eval.synthetic_actions import ACTIONS

    rng = np.random.default_rng(0)
    return perform([ACTIONS["golf swing"](rng), ACTIONS["golf swing"](rng)], body=Body(), tempo=1.0, rng=rng)


def test_an_excerpt_is_the_same_frames_with_the_same_truth(performance: Performance) -> None:
    count = len(performance.joints)
    whole = excerpt(performance, 0, count)
    parts = [excerpt(performance, 0, 70), excerpt(performance, 70, count)]
    assert np.array_equal(np.concatenate([part.joints for part in parts]), performance.joints)

    def by_frame(shown: Performance) -> list[str]:
        return [span.label for span in shown.spans for _ in range(round(span.start_s * FPS), round(span.end_s * FPS))]

    assert by_frame(parts[0]) + by_frame(parts[1]) == by_frame(whole) == by_frame(performance)


def test_what_is_held_stands_still_and_is_no_action(performance: Performance) -> None:
    count = len(performance.joints)
    longer = held(performance, count + 30)
    assert np.array_equal(longer.joints[:count], performance.joints)
    assert (longer.joints[count:] == performance.joints[-1]).all()
    assert all(len(prop.points) == len(prop.visible) == count + 30 for prop in longer.props)
    assert not longer.spans[-1].is_action
    assert longer.spans[-1].end_s == pytest.approx((count + 30) / FPS)
    assert held(performance, count - 5) is performance


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "set"
    synthesize(folder, **SMALL)
    return folder


def test_the_folder_has_the_data_sets_usual_shape(made: Path) -> None:
    truth = read(made / "annotations.json")
    assert [video.video_id for video in truth.videos] == ["synthetic_stadium_000000", "synthetic_stadium_000001"]
    assert [video.subset for video in truth.videos] == ["training", "validation"]
    for video in truth.videos:
        info = probe(made / str(video.subset) / f"{video.video_id}.mp4")
        assert info.duration_s == video.duration_s
        assert info.frame_count == round((video.duration_s or 0) * FPS)
        assert (info.frame_rate, info.is_variable_rate, info.has_reordering) == (FPS, False, False)
        assert (info.width, info.height, info.codec, info.pixel_format) == (320, 240, "h264", "yuv420p")
    (clip,) = read_clips(made / "trimmed.csv")
    assert clip.label == LABELS[0]
    assert probe(made / "trimmed" / clip.subset / f"{clip.video_id}.mp4").duration_s == clip.duration_s
    assert (made / "annotations_thumos").is_dir()
    assert not [path for path in made.rglob("*") if path.name.startswith(".")]


def test_each_picture_in_the_file_is_the_one_that_was_drawn(made: Path) -> None:
    drawn = np.stack(list(clip_frames(plan_clip(look="stadium", seed=0, index=0, label=LABELS[0])))).astype(np.float32)
    with av.open(str(made / "trimmed" / "training" / "synthetic_stadium_clip_000000.mp4")) as container:
        shown = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)]).astype(np.float32)
    assert shown.shape == drawn.shape
    for index in range(0, len(drawn), 7):
        distances = np.abs(drawn - shown[index]).mean(axis=(1, 2, 3))
        assert distances[index] < 8
        assert abs(int(distances.argmin()) - index) <= 1


def test_any_number_of_workers_gives_the_same_bytes_and_a_smaller_set_is_the_beginning(made: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "set", workers=2, **{**SMALL, "videos": 3})
    larger = bytes_below(tmp_path / "set")
    for name, digest in bytes_below(made).items():
        if name.endswith(".mp4"):
            assert larger[name] == digest
    assert read(tmp_path / "set" / "annotations.json").videos[:2] == read(made / "annotations.json").videos


def test_neither_unset_memory_nor_the_order_of_sets_shows_in_the_bytes(made: Path, tmp_path: Path) -> None:
    script = f"from tal_run.eval.synthetic import synthesize; synthesize({str(tmp_path / 'set')!r}, **{SMALL!r})"
    disturbed = {**os.environ, "MALLOC_PERTURB_": "1", "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", script], check=True, env=disturbed)
    assert bytes_below(tmp_path / "set") == bytes_below(made)


def test_what_was_interrupted_goes_on(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, written = tmp_path / "set", []

    def stop_in_the_second(plan: VideoPlan) -> object:
        written.append(plan.truth.video_id)
        for index, picture in enumerate(clip_frames(plan)):
            if len(written) == 2 and index == 30:
                raise KeyboardInterrupt
            yield picture

    with monkeypatch.context() as patch:
        patch.setattr("tal_run.eval.synthetic_plan.clip_frames", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            synthesize(out, **SMALL)
    assert [path.name for path in out.rglob("*.mp4")] == ["synthetic_stadium_000000.mp4"]
    assert not (out / "annotations.json").exists()
    (kept,) = out.rglob("*.mp4")
    before = kept.stat().st_mtime_ns
    steps: list[float] = []
    synthesize(out, **SMALL, hook=lambda step, *, completed, total: steps.append(completed))
    assert kept.stat().st_mtime_ns == before
    assert bytes_below(out) == bytes_below(made)
    assert steps == [0, 1, 2, 3]


def test_a_folder_with_something_else_in_it_is_left_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(SyntheticError, match="choose an empty folder"):
        synthesize(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    before = bytes_below(made)
    for other in ({"seed": 1}, {"look": "street"}, {"max_s": 6.0}):
        with pytest.raises(SyntheticError, match="another recipe"):
            synthesize(made, **{**SMALL, **other})
    assert bytes_below(made) == before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"look": "beach"}, "stadium, street"),
        ({"min_s": 9.0, "max_s": 5.0}, "9 to 5 s"),
        ({"min_s": float("nan")}, "nan"),
        ({"seed": -1}, "negative"),
        ({"videos": 0, "trimmed": 0}, "at least"),
        ({"workers": 0}, "at least"),
    ],
)
def test_what_cannot_be_made_is_said_before_anything_is_written(tmp_path: Path, wrong: dict[str, object], said: str) -> None:
    with pytest.raises(SyntheticError, match=said):
        synthesize(tmp_path / "set", **{**SMALL, **wrong})
    assert not (tmp_path / "set").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SyntheticError, match="cannot write into"):
        synthesize(tmp_path / "file" / "set", **SMALL)


def test_the_recipe_names_the_code(made: Path) -> None:
    recipe = json.loads((made / "recipe.json").read_text())
    assert recipe == {"look": "stadium", "seed": 0, "min_s": 4.0, "max_s": 5.0, "generator": synthetic.fingerprint()}


@pytest.mark.parametrize("label", ["golf swing", "waving", "clean and jerk", "cartwheel"])
def test_a_near_miss_is_seen_from_where_its_action_is(label: str) -> None:
    """What is seen of people must not tell: towards us (or not) in as many near misses as actions."""

    def to_us(motion: Callable[[np.random.Generator], Motion], index: int) -> bool:
        rng = np.random.default_rng([5, index])
        tempo = float(rng.uniform(0.8, 1.3))
        motions = [BACKGROUND["standing"](rng, 1.0), motion(rng)]
        performance = synthetic_plan._performed(motions, Body(), tempo, rng)
        span = next(span for span in performance.spans if span.label in (label, f"near miss: {label}"))
        opening_s = 0.0 if span.is_action else synthetic_plan.OPENING_S / tempo
        frame = min(round((span.start_s + opening_s) * FPS), len(performance.joints) - 1)
        x, y, _ = performance.joints[frame, JOINT["l_hip"]] - performance.joints[frame, JOINT["r_hip"]]
        return bool(np.sin(np.arctan2(-x, y)) < -0.35)

    near_miss = BACKGROUND[f"near miss: {label}"]
    actions = np.mean([to_us(ACTIONS[label], index) for index in range(40)])
    misses = np.mean([to_us(lambda rng: near_miss(rng, 2.0), index) for index in range(40)])
    assert abs(actions - misses) < 0.3  # was 0.5 and more when misses were turned before their opening


def test_the_height_of_the_bar_does_not_tell() -> None:
    def heights(make: Callable[[np.random.Generator], Motion]) -> list[float]:
        found = []
        for index in range(40):
            rng = np.random.default_rng([6, index])
            performance = perform([make(rng)], body=Body(), tempo=1.0, rng=rng)
            found += [float(prop.points[0, 0, 2]) for prop in performance.props if prop.kind == "high bar"]
        return found

    actions = heights(ACTIONS["high jump"])
    misses = heights(lambda rng: BACKGROUND["near miss: high jump"](rng, 2.0))
    assert np.median(actions) == pytest.approx(np.median(misses), abs=0.08)
    assert np.quantile(actions, 0.1) == pytest.approx(np.quantile(misses, 0.1), abs=0.12)
    assert np.quantile(actions, 0.9) == pytest.approx(np.quantile(misses, 0.9), abs=0.12)


def test_bars_and_pits_stand_about_where_nobody_jumps() -> None:
    with_fixtures = 0
    for index in range(60):
        rng = np.random.default_rng([7, index])
        performance = synthetic_plan._performed([ACTIONS["squat"](rng)], Body(), 1.0, rng)
        with_fixtures += any(prop.kind in ("sand", "mat") for prop in performance.props)
    assert 3 <= with_fixtures <= 18
