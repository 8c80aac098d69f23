"""What happens in a made video, before a single picture is drawn: shots, who acts in them, when, and what is true of it.

An untrimmed video is a row of shots with cuts between them. In each, one lead or two do background things, near misses
and actions by turns, each at one tempo of their own, among bystanders who never act::

    shot 0                                       shot 1              shot 2
    |standing|LONG JUMP|walking|near miss|WAVING|fidgeting|near miss|walking|LONG J|
             [instance)                  [inst.)                            [ambig.)
    lead 2   |jogging|near miss|SQUAT   |walking|
                               [instance)

A trimmed clip shows one action from end to end, or background only: near misses, what comes before or after an action, or
plain waiting and walking.

Every plan is drawn from (seed, kind of plan, look, number) alone, so that the first ten of twenty are the ten of ten. An
action that a cut leaves unfinished is an ambiguous stretch; near misses are background, for nothing is left open in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tal_run.eval.annotations import SUBSETS, Instance, Stretch, VideoTruth
from tal_run.eval.synthetic_actions import ACTIONS
from tal_run.eval.synthetic_figure import FPS, JOINT, Body, Motion, Performance, Span, perform
from tal_run.eval.synthetic_looks import LOOKS, Clothes, Look, sample_body, sample_clothes
from tal_run.eval.synthetic_motions import BACKGROUND
from tal_run.eval.synthetic_scene import Actor, Scene, render, sample_scene

LABELS = tuple(ACTIONS)
PLAIN = tuple(name for name in BACKGROUND if not name.startswith("near miss"))
# who goes far in these is seen from the side, in their near misses too
SEEN_ASIDE = ("long jump", "high jump", "javelin throw", "cartwheel", "soccer kick")
STILL = "still"  # what a performance does after its end
STAYING = ("standing", "fidgeting")
REPEATED = ("jumping jacks", "waving", "punching", "squat")  # half of these is the same action, shorter

TEMPO = (0.6, 1.8)
CLIP_FRAMES = (2 * FPS, 10 * FPS)  # shortest and longest trimmed clip
SHORTEST_SHOT_FRAMES = round(0.5 * FPS)
STUB_FRAMES = round(1.6 * FPS)  # what is left of a video is not made a shot of its own if it is shorter
UNDECIDED_FRAMES = round(0.3 * FPS)  # less of an action before a cut than this is nothing to wonder about
SIDEWAYS = 1.6  # the camera is at least so many times as far away as leads go to a side
FAR_AND_NEAR_M = 4.0  # nobody comes closer by more than this
ONE_PICTURE_M = 8.0  # two leads who need more room than this would be small in the picture
# how often, in untrimmed video
KINDS_SHARES = (0.08, 0.24, 0.36, 0.32)  # none, one, two, three kinds of action
TWO_LEADS_SHARE = 0.6
UNFINISHED_SHARE = 0.08
DISTRACTION_SHARE = 0.2
HIDDEN_SHARE = 0.25  # of a shot, at most, may one bystander stand before a lead
SHOULDERS_M = 0.45
TURNED_SHARE = 0.2  # of the performances that are seen from any side
STANDS_ABOUT_SHARE = 0.15  # of the performances that need no fixtures and have some of another action beside them
# of trimmed clips
COMPANY_SHARE = 0.4  # a second lead, who does nothing that has a name
BACKGROUND_CLIPS = {"near misses": 0.5, "around an action": 0.3, "plain": 0.2}
OPENING_S = 0.8  # of a near miss: as long as it takes to turn to us or to address a ball
EMPTY_S = (0.5, 2.0)  # how long the camera stays when the only lead has gone under
NUMBER = {"stadium": 0, "street": 1}  # of each look, for its random numbers: never to be changed
IMPLEMENTS = ("club", "javelin", "ball", "barbell")
# the subsets of videos 0, 1, 2 … : three of five to train on
SUBSET_CYCLE = (SUBSETS[0], SUBSETS[1], SUBSETS[0], SUBSETS[2], SUBSETS[0])
# a round of clips has each action once and background this often
BACKGROUND_PER_ROUND = 6


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What one camera sees between two cuts."""

    scene: Scene
    actors: tuple[Actor, ...]
    frame_count: int


@dataclass(frozen=True, kw_only=True)
class VideoPlan:
    """A made video, ready to be drawn.

    Attributes:
        shots: in order.
        truth: id, subset, duration, instances and ambiguous stretches.
        label: of a trimmed clip, the action that it shows; None: background, or no trimmed clip.
        crf: how hard the encoder is to press.
    """

    shots: tuple[Shot, ...]
    truth: VideoTruth
    label: str | None
    crf: int

    @property
    def frame_count(self) -> int:
        """Frames of all shots."""
        return sum(shot.frame_count for shot in self.shots)


def clip_frames(plan: VideoPlan) -> Iterator[NDArray[np.uint8]]:
    """Draw a plan: RGB pictures [240, 320, 3], one after the other."""
    for shot in plan.shots:
        yield from render(shot.scene, shot.actors, frame_count=shot.frame_count)


def plan_video(*, look: str, seed: int, index: int, min_s: float = 20.0, max_s: float = 60.0) -> VideoPlan:
    """Untrimmed video number ``index`` of a data set, between ``min_s`` and ``max_s`` seconds long."""
    style = LOOKS[look]
    rng = _generator(seed, look, "video", index)
    target = int(rng.integers(round(min_s * FPS), round(max_s * FPS) + 1))
    cast = tuple(_Person(sample_body(style, rng), sample_clothes(style, rng)) for _ in range(2))
    kinds = [str(kind) for kind in rng.permutation(LABELS)[: rng.choice(4, p=KINDS_SHARES)]]
    video_id = f"synthetic_{look}_{index:06d}"
    shots: list[Shot] = []
    instances: list[Instance] = []
    ambiguous: list[Stretch] = []
    done = 0
    while done < target:
        left = target - done
        wanted = min(round(float(rng.uniform(*style.shot_s)) * FPS), left)
        if left - wanted < STUB_FRAMES:
            wanted = left  # no stub at the end
        leads, frame_count = _play(rng, kinds=kinds, cast=cast, wanted=wanted, longest=left)
        for label, start, stop in _actions(leads, frame_count):
            if stop <= frame_count:
                instances.append(Instance((done + start) / FPS, (done + stop) / FPS, video_id, label))
            elif frame_count - start >= UNDECIDED_FRAMES:
                ambiguous.append(Stretch((done + start) / FPS, (done + frame_count) / FPS))
        shots.append(_shot(style, rng, leads=leads, frame_count=frame_count))
        done += frame_count
    truth = VideoTruth(
        video_id=video_id,
        subset=SUBSET_CYCLE[index % len(SUBSET_CYCLE)],
        duration_s=done / FPS,
        instances=tuple(sorted(instances)),
        ambiguous=tuple(sorted(ambiguous)),
        resolution="320x240",
    )
    return VideoPlan(shots=tuple(shots), truth=truth, label=None, crf=shots[0].scene.crf)


def clip_label(index: int) -> str | None:
    """The action that trimmed clip number ``index`` shows: each comes once a round, None (background) several times."""
    return (*LABELS, *[None] * BACKGROUND_PER_ROUND)[index % _round_length()]


def plan_clip(*, look: str, seed: int, index: int, label: str | None) -> VideoPlan:
    """Trimmed clip number ``index``, 2 to 10 s long, of one action or (``label`` None) of background.

    The action fills the clip; one of less than 2 s stands in its middle, with equally much before and after it. As in
    untrimmed video, somebody else may be in the picture, who does no action.
    """
    style = LOOKS[look]
    rng = _generator(seed, look, "clip", index)
    cast = tuple(_Person(sample_body(style, rng), sample_clothes(style, rng)) for _ in range(2))
    lead = _clip_of_background(cast[0], rng) if label is None else _clip_of_action(label, cast[0], rng)
    leads = [_Lead(lead, cast[0].clothes)]
    if rng.random() < COMPANY_SHARE:
        other = _company(cast[1], len(lead.joints), rng)
        if max(_room_m(lead), _room_m(other)) <= ONE_PICTURE_M:
            leads.append(_Lead(other, cast[1].clothes))
    shot = _shot(style, rng, leads=leads, frame_count=len(lead.joints))
    place, number = index % _round_length(), index // _round_length()
    truth = VideoTruth(
        video_id=f"synthetic_{look}_clip_{index:06d}",
        subset=SUBSET_CYCLE[(place + number) % len(SUBSET_CYCLE)],  # every label comes to every subset
        duration_s=shot.frame_count / FPS,
        resolution="320x240",
    )
    return VideoPlan(shots=(shot,), truth=truth, label=label, crf=shot.scene.crf)


@dataclass(frozen=True)
class _Person:
    body: Body
    clothes: Clothes


@dataclass(frozen=True)
class _Lead:
    performance: Performance
    clothes: Clothes


def _round_length() -> int:
    return len(LABELS) + BACKGROUND_PER_ROUND


def _generator(seed: int, look: str, kind: str, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, NUMBER[look], ("video", "clip").index(kind), index])


def _play(
    rng: np.random.Generator, *, kinds: Sequence[str], cast: Sequence[_Person], wanted: int, longest: int
) -> tuple[list[_Lead], int]:
    """Who acts in a shot, and its length: about ``wanted`` frames, so that actions end before the cut."""
    order = [str(kind) for kind in rng.permutation(np.array(kinds, dtype=str))]
    together = rng.random() < TWO_LEADS_SHARE
    backgrounds = STAYING if together else PLAIN
    # never the same action twice at one time: to whom would the detection belong?
    shared = (order[0::2], order[1::2]) if together else (order, [])
    leads = [_Lead(_lead_performance(shared[0], cast[0].body, wanted, rng, backgrounds=backgrounds), cast[0].clothes)]
    if together:
        other = _lead_performance(shared[1], cast[1].body, wanted, rng, backgrounds=backgrounds)
        if max(_room_m(leads[0].performance), _room_m(other)) <= ONE_PICTURE_M:
            leads.append(_Lead(other, cast[1].clothes))
    if len(leads) == 1 and (last := leads[0].performance.spans[-1]).label == STILL:
        wanted = min(wanted, _frames_of(last)[0] + round(float(rng.uniform(*EMPTY_S)) * FPS))
    end = _end_of_shot(leads, wanted, longest, rng)
    return [_Lead(held(lead.performance, end), lead.clothes) for lead in leads], end


def _actions(leads: Sequence[_Lead], before: int | None = None) -> list[tuple[str, int, int]]:
    """Label, first frame and frame after the last of every action (that starts before a frame)."""
    spans = [span for lead in leads for span in lead.performance.spans if span.is_action]
    found = [(span.label, *_frames_of(span)) for span in spans]
    return [action for action in found if before is None or action[1] < before]


def _end_of_shot(leads: Sequence[_Lead], wanted: int, longest: int, rng: np.random.Generator) -> int:
    """The frame to cut at: after an action or before it, hardly ever within."""
    actions = [(start, stop) for _, start, stop in _actions(leads)]
    once = [(start, stop) for label, start, stop in _actions(leads) if label not in REPEATED]
    end = wanted
    while late := [stop for start, stop in actions if start < end < stop <= longest]:
        end = min(max(late) + int(rng.integers(0, FPS)), longest)
    while early := [start for start, stop in actions if SHORTEST_SHOT_FRAMES <= start < end < stop]:
        end = min(early)
    whole = [(start, stop) for start, stop in once if stop <= end]
    if whole and rng.random() < UNFINISHED_SHARE:
        start, stop = max(whole)
        end = max(SHORTEST_SHOT_FRAMES, start + round(float(rng.uniform(0.35, 0.65)) * (stop - start)))
    if longest - end < STUB_FRAMES and not any(end <= start < longest for start, _ in actions):
        end = longest
    return end


def _lead_performance(
    kinds: Sequence[str], body: Body, wanted: int, rng: np.random.Generator, *, backgrounds: Sequence[str]
) -> Performance:
    """Background, near misses and actions of these kinds (none, perhaps) by turns, for ``wanted`` frames or longer."""
    tempo = _tempo(rng)
    motions = _script(kinds, wanted / FPS * tempo, rng, backgrounds=backgrounds)
    return held(_performed(motions, body, tempo, rng), wanted)


def _script(kinds: Sequence[str], length_s: float, rng: np.random.Generator, *, backgrounds: Sequence[str]) -> list[Motion]:
    """Motions that last ``length_s`` at tempo 1 or longer; only the last may take the figure out of sight."""
    theme = kinds[0] if kinds else str(rng.choice(LABELS))
    to_come = ACTIONS[theme](rng)  # nothing may be done that leaves no place for it
    motions = [_background(rng, float(rng.uniform(0.5, 2.5)), backgrounds)]
    while sum(motion.duration_s + 0.4 for motion in motions) < length_s and not motions[-1].ends_performance:
        draw = rng.random()
        if motions[-1].name in LABELS:
            draw = 0.6 + 0.4 * draw  # something else before the next action
        label = theme if rng.random() < 0.5 else str(rng.choice(kinds if kinds and draw < 0.6 else LABELS))
        if draw < 0.75:
            make = ACTIONS.__getitem__ if kinds and draw < 0.6 else _near_miss
            motion = make(label)(rng)
            if not _fit([*motions, to_come], motion):
                motion = make(theme)(rng)
        else:
            motion = _background(rng, float(rng.uniform(0.5, 3.0)), backgrounds)
        motions.append(motion)
    return motions


def _fit(motions: Sequence[Motion], motion: Motion) -> bool:
    """Whether one person can do it after the others: with the same thing in the hands, at the same place."""
    needs = {m.needs for m in (*motions, motion) if m.needs}
    places = {tuple(sorted(fixture.kind for fixture in m.fixtures)) for m in (*motions, motion) if m.fixtures}
    return len(needs) <= 1 and len(places) <= 1


def _background(rng: np.random.Generator, duration_s: float, names: Sequence[str] = PLAIN) -> Motion:
    return BACKGROUND[str(rng.choice(names))](rng, duration_s)


def _near_miss(label: str) -> Callable[[np.random.Generator], Motion]:
    return lambda rng: BACKGROUND[f"near miss: {label}"](rng, float(rng.uniform(1.0, 3.0)))


def _tempo(rng: np.random.Generator) -> float:
    """Between 0.6 and 1.8, as often slower as faster than 1."""
    slow, fast = np.log(TEMPO)
    return float(np.exp(rng.uniform(slow, 0.0) if rng.random() < 0.5 else rng.uniform(0.0, fast)))


def _performed(motions: Sequence[Motion], body: Body, tempo: float, rng: np.random.Generator) -> Performance:
    """Motions performed by somebody whose first action, or near miss, mostly shows us their front or, if far, their right side.

    What is done with the right hand is then done in sight; the scene mirrors half of all people. What they do after that may
    turn them anywhere, and some are seen from any side from the first.
    """
    needs = {motion.needs for motion in motions if motion.needs}
    implement = str(rng.choice(IMPLEMENTS)) if rng.random() < DISTRACTION_SHARE and not needs else None
    sway = int(rng.integers(1 << 32))

    def seen(turn_deg: float) -> Performance:
        dice = np.random.default_rng(sway)
        return perform(motions, body=body, tempo=tempo, rng=dice, implement=implement, turn_deg=turn_deg)

    performance = seen(0.0)
    facing_deg = _facing_deg(performance, tempo)
    to_us_deg = float(rng.uniform(-180.0, 180.0) if rng.random() < TURNED_SHARE else rng.triangular(-110.0, -60.0, -10.0))
    aside_deg = float(rng.uniform(-25.0, 25.0))
    turned = seen(aside_deg - facing_deg)
    shown = [span.label.removeprefix("near miss: ") for span in _deciding(performance)[:1]]
    if not set(shown) & set(SEEN_ASIDE):
        to_us = seen(to_us_deg - facing_deg)
        if np.ptp(to_us.joints[:, JOINT["pelvis"], 1]) < FAR_AND_NEAR_M:
            turned = to_us
    has_fixtures = any(motion.fixtures for motion in motions)
    return turned if has_fixtures or rng.random() >= STANDS_ABOUT_SHARE else _with_things_about(turned, rng)


def _with_things_about(performance: Performance, rng: np.random.Generator) -> Performance:
    """The performance with a pit, or a bar and its mat, of no concern to it behind: they must not tell what is done."""
    action = ACTIONS[str(rng.choice(["long jump", "high jump"]))](rng)
    other = perform([action], body=performance.body, tempo=1.0, rng=rng, turn_deg=float(rng.uniform(-25.0, 25.0)))
    fixed = [prop for prop in other.props if prop.fixed]
    corners = np.concatenate([prop.points[0] for prop in fixed])
    pelvis = performance.joints[:, JOINT["pelvis"]]
    away = pelvis.mean(axis=0) - corners.mean(axis=0)
    away[0] += rng.uniform(-2.5, 2.5)
    away[1] = pelvis[:, 1].max() + rng.uniform(0.8, 2.5) - corners[:, 1].min()
    away[2] = 0.0
    always = np.ones(len(performance.joints), bool)
    things = tuple(
        replace(prop, points=np.repeat(prop.points[:1] + away.astype(np.float32), len(always), axis=0), visible=always)
        for prop in fixed
    )
    return replace(performance, props=(*performance.props, *things))


def _deciding(performance: Performance) -> list[Span]:
    """The actions and the near misses, in order: what is to be seen alike of both."""
    return [span for span in performance.spans if span.is_action or span.label.startswith("near miss")]


def _facing_deg(performance: Performance, tempo: float) -> float:
    """Whither the hips face in the first action or near miss (or at the start), degrees to the left of +x.

    A near miss has its opening, in which people turn to us, within its span; an action has it before.
    """
    frame = 0
    for span in _deciding(performance)[:1]:
        frame = _frames_of(span)[0] + (0 if span.is_action else round(OPENING_S / tempo * FPS))
    frame = min(frame, len(performance.joints) - 1)
    x, y, _ = performance.joints[frame, JOINT["l_hip"]] - performance.joints[frame, JOINT["r_hip"]]
    return float(np.degrees(np.arctan2(-x, y)))  # the way to the left hip, turned to the right by 90 degrees


def _room_m(performance: Performance) -> float:
    """Metres along x that a performance takes."""
    return float(np.ptp(performance.joints[:, JOINT["pelvis"], 0])) + 1.2


def held(performance: Performance, frame_count: int) -> Performance:
    """The performance, its last moment held where it is shorter than that."""
    short = frame_count - len(performance.joints)
    if short <= 0:
        return performance

    def hold(rows: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([rows, np.repeat(rows[-1:], short, axis=0)])

    last = performance.spans[-1]
    # what is held is no part of an action
    rest = replace(last, label=STILL, is_action=False, start_s=last.end_s, end_s=frame_count / FPS)
    return replace(
        performance,
        joints=hold(performance.joints),
        props=tuple(replace(prop, points=hold(prop.points), visible=hold(prop.visible)) for prop in performance.props),
        spans=(*performance.spans, rest),
    )


def excerpt(performance: Performance, start: int, stop: int) -> Performance:
    """Frames ``start`` to ``stop`` (exclusive) of a performance; its spans are cut with it."""
    spans = []
    for span in performance.spans:
        first, last = (min(max(frame, start), stop) - start for frame in _frames_of(span))
        if first < last:
            spans.append(replace(span, start_s=first / FPS, end_s=last / FPS))
    props = tuple(replace(p, points=p.points[start:stop], visible=p.visible[start:stop]) for p in performance.props)
    return replace(performance, joints=performance.joints[start:stop], props=props, spans=tuple(spans))


def _frames_of(span: Span) -> tuple[int, int]:
    return round(span.start_s * FPS), round(span.end_s * FPS)


def _clip_of_action(label: str, person: _Person, rng: np.random.Generator) -> Performance:
    """The action from its first frame to its last (the middle of one that is too long), with context if it is too short."""
    tempo = _tempo(rng)
    shortest, longest = CLIP_FRAMES
    around_s = 1.2 * shortest / FPS * tempo
    action = ACTIONS[label](rng)
    unhurried = (*STAYING, "walking")  # the way from a jog would leave an action in place to be seen from the side
    motions = [_background(rng, around_s, unhurried), action]
    if not action.ends_performance:
        motions.append(_background(rng, around_s, unhurried))
    performance = _performed(motions, person.body, tempo, rng)
    start, stop = next(_frames_of(span) for span in performance.spans if span.is_action)
    missing = max(0, shortest - (stop - start))
    start, stop = start - missing // 2, stop + missing - missing // 2
    too_long = max(0, stop - start - longest)
    start, stop = start + too_long // 2, stop - (too_long - too_long // 2)
    return excerpt(held(performance, stop), start, stop)


def _clip_of_background(person: _Person, rng: np.random.Generator) -> Performance:
    tempo = _tempo(rng)
    frame_count = int(rng.integers(CLIP_FRAMES[0], CLIP_FRAMES[1] * 6 // 10 + 1))
    length_s = frame_count / FPS * tempo
    kind = str(rng.choice(list(BACKGROUND_CLIPS), p=list(BACKGROUND_CLIPS.values())))
    if kind == "around an action":
        return _around_an_action(person, tempo, frame_count, rng)
    motions = _near_misses(length_s, rng) if kind == "near misses" else [_background(rng, length_s + 0.5)]
    performance = _performed(motions, person.body, tempo, rng)
    start = max(0, min(round(0.5 * FPS / tempo), len(performance.joints) - frame_count))
    return excerpt(held(performance, start + frame_count), start, start + frame_count)


def _around_an_action(person: _Person, tempo: float, frame_count: int, rng: np.random.Generator) -> Performance:
    """What leads up to an action, to its first frame, or what follows its last: neither is a part of it."""
    length_s = frame_count / FPS * tempo
    action = ACTIONS[str(rng.choice(LABELS))](rng)
    motions = [_background(rng, length_s), action]
    if not action.ends_performance:
        motions.append(_background(rng, length_s))
    performance = _performed(motions, person.body, tempo, rng)
    first, last = next(_frames_of(span) for span in performance.spans if span.is_action)
    if action.ends_performance or rng.random() < 0.5:
        return excerpt(performance, max(0, first - frame_count), first)
    return excerpt(held(performance, last + frame_count), last, last + frame_count)


def _near_misses(length_s: float, rng: np.random.Generator) -> list[Motion]:
    """Near misses of one action, after a moment of background, for ``length_s`` at tempo 1 or longer."""
    label = str(rng.choice(LABELS))
    motions = [_background(rng, 0.5)]
    while sum(motion.duration_s for motion in motions) < length_s + 0.5:
        motions.append(_near_miss(label)(rng))
    return motions


def _company(person: _Person, frame_count: int, rng: np.random.Generator) -> Performance:
    """A second lead beside the first, as in untrimmed video, but without actions: waiting, or at near misses."""
    tempo = _tempo(rng)
    length_s = frame_count / FPS * tempo
    motions = _near_misses(length_s, rng) if rng.random() < 0.5 else [_background(rng, length_s + 0.5, STAYING)]
    return excerpt(held(_performed(motions, person.body, tempo, rng), frame_count), 0, frame_count)


def _shot(look: Look, rng: np.random.Generator, *, leads: Sequence[_Lead], frame_count: int) -> Shot:
    """The leads in their places, bystanders and a scene around them."""
    actors = [_lead_actor(lead, frame_count, rng) for lead in leads]
    if len(leads) > 1:
        actors[1] = _beside(actors[0], actors[1], rng)
    left_m, right_m, *_ = np.array([_room_of(lead) for lead in actors]).T  # each [A]
    middle_m = float(left_m.min() + right_m.max()) / 2
    actors = [replace(lead, x_m=lead.x_m - middle_m) for lead in actors]
    scene = sample_scene(look, rng, frame_count=frame_count, actors=actors)
    # seen too much from aside, people would be drawn out: the camera does not turn, it shifts
    away_m = max(scene.distance_m, SIDEWAYS * float(right_m.max() - left_m.min()) / 2)
    scene = replace(scene, distance_m=away_m)
    for _ in range(int(rng.integers(look.bystanders[0], look.bystanders[1] + 1))):
        bystander = _bystander(look, rng, frame_count=frame_count, leads=actors[: len(leads)], distance_m=scene.distance_m)
        if max(_hidden_share(lead, bystander, scene.distance_m) for lead in actors[: len(leads)]) <= HIDDEN_SHARE:
            actors.append(bystander)
    depth_m = max(actor.y_m for actor in actors) + 1.0  # nobody stands in a wall
    return Shot(scene=replace(scene, depth_m=max(scene.depth_m, depth_m)), actors=tuple(actors), frame_count=frame_count)


def _lead_actor(lead: _Lead, frame_count: int, rng: np.random.Generator) -> Actor:
    performance = excerpt(lead.performance, 0, frame_count)
    y = performance.joints[:, JOINT["pelvis"], 1]
    return Actor(
        performance=performance,
        clothes=lead.clothes,
        x_m=0.0,
        y_m=-float(y.min() + y.max()) / 2,  # as far away, on the average, as the camera expects
        mirrored=bool(rng.random() < 0.5),
        is_lead=True,
    )


def _beside(first: Actor, second: Actor, rng: np.random.Generator) -> Actor:
    """The second lead next to the first where there is room for both, else behind: nobody stands in another's sand pit."""
    left, right, _, far = _room_of(first)
    own_left, own_right, own_near, _ = _room_of(second)
    gap_m = float(rng.uniform(0.2, 1.0))
    if (right - left) + (own_right - own_left) + gap_m <= ONE_PICTURE_M:
        x_m = right + gap_m - own_left if rng.random() < 0.5 else left - gap_m - own_right
        return replace(second, x_m=x_m, y_m=second.y_m + float(rng.uniform(-0.6, 1.2)))
    middle_m = (left + right) / 2 - (own_left + own_right) / 2
    return replace(second, x_m=middle_m + float(rng.uniform(-1.5, 1.5)), y_m=second.y_m + far + gap_m - own_near)


def _room_of(actor: Actor) -> tuple[float, float, float, float]:
    """Where an actor and what stands about reach, metres in the scene: to the left, right, near and far."""
    clouds = [
        actor.performance.joints,
        *(prop.points for prop in actor.performance.props if prop.fixed and prop.kind != "water"),
    ]
    points = np.concatenate([cloud.reshape(-1, 3) for cloud in clouds])
    x = points[:, 0] * (-1.0 if actor.mirrored else 1.0) + actor.x_m
    y = points[:, 1] + actor.y_m
    return float(x.min()), float(x.max()), float(y.min()), float(y.max())


def _hidden_share(lead: Actor, other: Actor, distance_m: float) -> float:
    """In how many of the frames somebody stands before a lead, seen from the camera ``distance_m`` away, 0..1."""
    places = [actor.performance.joints[:, JOINT["pelvis"], :2] for actor in (lead, other)]
    (x, y), (other_x, other_y) = (
        (place[:, 0] * (-1.0 if actor.mirrored else 1.0) + actor.x_m, place[:, 1] + actor.y_m)
        for place, actor in zip(places, (lead, other), strict=True)
    )
    away = np.maximum(y + distance_m, 0.1)
    sideways_m = np.abs(other_x / np.maximum(other_y + distance_m, 0.1) * away - x)
    return float(((other_y < y) & (sideways_m < SHOULDERS_M)).mean())


def _bystander(look: Look, rng: np.random.Generator, *, frame_count: int, leads: Sequence[Actor], distance_m: float) -> Actor:
    """Somebody who stands or walks about, behind the leads or, now and then, before them."""
    left, right, near, far = np.array([_room_of(lead) for lead in leads]).T  # each [A]
    behind = rng.random() < 0.8
    x_m = float(rng.uniform(left.min() - 2.0, right.max() + 2.0))
    y_m = near.min() - rng.uniform(0.4, 1.2)
    if behind or y_m < -0.4 * distance_m:
        y_m = far.max() + rng.uniform(0.6, 5.5)
    tempo = _tempo(rng)
    motions = [_background(rng, float(rng.uniform(2.0, 8.0)))]
    while sum(motion.duration_s for motion in motions) < frame_count / FPS * tempo:
        motions.append(_background(rng, float(rng.uniform(2.0, 8.0))))
    performance = perform(
        motions, body=sample_body(look, rng), tempo=tempo, rng=rng, turn_deg=float(rng.choice([0, 180]) + rng.normal(0, 30))
    )
    return Actor(
        performance=excerpt(held(performance, frame_count), 0, frame_count),
        clothes=sample_clothes(look, rng),
        x_m=x_m,
        y_m=float(y_m),
        mirrored=bool(rng.random() < 0.5),
        is_lead=False,
    )
