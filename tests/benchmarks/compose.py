"""Untrimmed videos with known truth, composed of real clips: background, action, background, in random order and length.

    python tests/benchmarks/compose.py OUT --clips CLIPS [--split report|calibration] [--rounds N] [--seed S]

CLIPS is a folder of real clips (their places in it are in ``CLIPS`` below). Every action of the split appears once a
round. The result is a folder of 320x240, 25 fps H.264 files and ``truth.csv`` (video_id,label,start_s,end_s). Decoding
here is plain PyAV, on purpose: the truth must not depend on the reader under test.

The two splits share no clip and no second of background. Thresholds are chosen on ``calibration`` only.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FPS, WIDTH, HEIGHT = 25, 320, 240
BACKGROUND_S = (8.0, 25.0)
SHORTEST_ACTION_S = 4.0
ACTIONS_PER_VIDEO = 3

Frames = Iterator[NDArray[np.uint8]]


@dataclass(frozen=True)
class Clip:
    """A real clip with its Kinetics-600 class, and how a person might ask for it without knowing that name."""

    path: str
    label: str
    words: str


@dataclass(frozen=True)
class Stretch:
    """A piece of a file, seconds."""

    path: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Truth:
    """One action in a composed video; ``words`` is the other way to ask for it, ``clip`` where it comes from."""

    video_id: str
    clip: str
    label: str
    words: str
    start_s: float
    end_s: float


CORRIDOR, CARS = "intel_background/one-by-one-person-detection.mp4", "intel_background/car-detection.mp4"

CLIPS = {
    "report": (
        Clip("mmaction2/demo.mp4", "arm wrestling", "arm fight on a table"),
        Clip("mmaction2/demo_spatiotemporal_det.mp4", "arm wrestling", "wrestle with your hands and elbows"),
        Clip("mmaction2/test.mp4", "cleaning pool", "washing the swimming basin"),
        Clip("mmaction2/test_video_structuralize.mp4", "shooting basketball", "throwing at the hoop"),
        Clip("decord/flipping_a_pancake.mkv", "flipping pancake", "tossing a crepe in a pan"),
        Clip("tiny_ucf101/abseiling_k400.mp4", "abseiling", "rappelling down a cliff with a rope"),
        Clip("torchvision/R6llTwEh07w.mp4", "using segway", "riding an electric two wheeled scooter"),
        Clip("c3d_keras/v_Biking_g05_c02.avi", "riding a bike", "cycling"),
        Clip("c3d_keras/v_Punch_g03_c01.avi", "punching person (boxing)", "boxers fighting in the ring"),
        Clip("tiny_ucf101/v_Basketball_g01_c01.avi", "shooting basketball", "free throw practice"),
        Clip("torchvision/v_SoccerJuggling_g23_c01.avi", "juggling soccer ball", "keeping a football in the air"),
        Clip("paddlevideo/example.avi", "archery", "woman with bow and arrow"),
        Clip("activitynet/v_ZNVhz7ctTq0.mp4", "walking the dog", "taking the puppy for a stroll"),
    ),
    "calibration": (
        Clip("torchvision/basketball.mp4", "dunking basketball", "slam dunk"),
        Clip("torchvision/v_SoccerJuggling_g24_c01.avi", "juggling soccer ball", "football tricks"),
        Clip("ibm_max_sports/baseball.mp4", "catching or throwing baseball", "pitcher"),
        Clip("ibm_max_sports/basketball.mp4", "playing basketball", "hoops game"),
        Clip("torchvision/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi", "cartwheeling", "acrobat"),
        Clip("crossfit/power_clean_262.mp4", "snatch weight lifting", "olympic weightlifting"),
        Clip("crossfit/ghd_79.mp4", "front raises", "lifting weights with straight arms"),
        Clip("paddlevideo/eivideo_example.mp4", "singing", "vocalist on a stage"),
        Clip("torchvision/RATRACE_wave_f_nm_np1_fr_goo_37.avi", "singing", "chanting"),
    ),
}
BACKGROUNDS = {
    "report": (Stretch(CORRIDOR, 62.0, 139.0),),
    "calibration": (Stretch(CORRIDOR, 0.0, 60.0), Stretch(CARS, 0.0, 30.0)),
}


def compose(out: Path, *, clips: Path, split: str = "report", rounds: int = 2, seed: int = 0) -> list[Truth]:
    """Write the videos of a split and their truth into a folder; the same arguments give the same videos."""
    out.mkdir(parents=True, exist_ok=True)
    dice = random.Random(f"{split} {seed}")
    present = [clip for clip in CLIPS[split] if (clips / clip.path).exists()]
    if not present or not (clips / CORRIDOR).exists():
        raise SystemExit(f"{clips} holds none of the clips that the benchmarks are made of; they are listed in {__file__}")
    truths: list[Truth] = []
    for round_index in range(rounds):
        for video_index, actions in enumerate(_deal(present, dice)):
            video_id = f"{split}_{round_index}_{video_index}"
            truths += _compose_one(out / f"{video_id}.mp4", actions, clips, BACKGROUNDS[split], dice)
    with (out / "truth.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "label", "start_s", "end_s"])
        writer.writerows((truth.video_id, truth.label, truth.start_s, truth.end_s) for truth in truths)
    return truths


def _deal(present: list[Clip], dice: random.Random) -> Iterator[list[Clip]]:
    """Hand out every clip once, a few to a video, never two of one class to the same video."""
    left = dice.sample(present, len(present))
    while left:
        hand: list[Clip] = []
        for clip in list(left):
            if len(hand) < ACTIONS_PER_VIDEO and clip.label not in {other.label for other in hand}:
                hand.append(clip)
                left.remove(clip)
        yield hand


def write_video(path: Path, pieces: Sequence[Frames]) -> list[tuple[float, float]]:
    """Write pieces one after the other; returns where each begins and ends, seconds."""
    spans, written = [], 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", FPS, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for piece in pieces:
            start = written
            for picture in piece:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                written += 1
            spans.append((start / FPS, written / FPS))
        container.mux(stream.encode())
    return spans


def write_example(path: Path, clips: Path) -> None:
    """The video of README's examples: a corridor, and in it arm wrestling, a pancake, a segway."""
    pieces = [
        Stretch(CORRIDOR, 62.0, 74.0),
        Stretch("mmaction2/demo.mp4", 0.0, 8.0),
        Stretch(CORRIDOR, 80.0, 95.0),
        Stretch("decord/flipping_a_pancake.mkv", 1.0, 9.0),
        Stretch(CORRIDOR, 100.0, 112.0),
        Stretch("torchvision/R6llTwEh07w.mp4", 0.0, 9.0),
        Stretch(CORRIDOR, 120.0, 130.0),
    ]
    write_video(path, [_pictures(clips / piece.path, piece.start_s, piece.end_s) for piece in pieces])


def _compose_one(
    path: Path, actions: list[Clip], clips: Path, backgrounds: tuple[Stretch, ...], dice: random.Random
) -> list[Truth]:
    pieces = [_background(clips, backgrounds, dice)]
    for clip in actions:
        pieces += [_action(clips / clip.path, dice), _background(clips, backgrounds, dice)]
    return [
        Truth(path.stem, clip.path, clip.label, clip.words, start_s, end_s)
        for clip, (start_s, end_s) in zip(actions, write_video(path, pieces)[1::2], strict=True)
    ]


def _background(clips: Path, backgrounds: tuple[Stretch, ...], dice: random.Random) -> Frames:
    whole = dice.choices(backgrounds, weights=[piece.end_s - piece.start_s for piece in backgrounds])[0]
    length_s = dice.uniform(*BACKGROUND_S)
    start_s = dice.uniform(whole.start_s, whole.end_s - length_s)
    return _pictures(clips / whole.path, start_s, start_s + length_s)


def _action(path: Path, dice: random.Random) -> Frames:
    """A random stretch of a clip; one shorter than the shortest action is shown again until it is long enough."""
    available_s = _length_s(path)
    length_s = dice.uniform(min(SHORTEST_ACTION_S, available_s), available_s)
    start_s = dice.uniform(0.0, available_s - length_s)
    times = max(1, -int(-SHORTEST_ACTION_S // length_s))
    return chain.from_iterable(_pictures(path, start_s, start_s + length_s) for _ in range(times))


def _length_s(path: Path) -> float:
    with av.open(str(path), metadata_errors="ignore") as container:
        return sum(1 for _ in container.decode(video=0)) / float(container.streams.video[0].average_rate)


def _pictures(path: Path, start_s: float, end_s: float) -> Frames:
    """Pictures of a stretch at 25 fps, scaled to cover the frame and cut at its middle."""
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        step = Fraction(1, FPS)
        first = (stream.start_time or 0) * stream.time_base
        due = Fraction(start_s).limit_denominator(1000)
        if start_s > 5:  # begin at the key frame before it, not at the beginning
            container.seek(int((first + due) / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            now = frame.pts * stream.time_base
            if due >= end_s:
                return
            if now - first >= due:
                picture = _covering(frame)
                while due <= now - first and due < end_s:
                    yield picture
                    due += step


def _covering(frame: av.VideoFrame) -> NDArray[np.uint8]:
    scale = max(WIDTH / frame.width, HEIGHT / frame.height)
    width, height = max(WIDTH, round(frame.width * scale)), max(HEIGHT, round(frame.height * scale))
    picture = frame.to_ndarray(format="rgb24", width=width, height=height)
    top, left = (height - HEIGHT) // 2, (width - WIDTH) // 2
    return np.ascontiguousarray(picture[top : top + HEIGHT, left : left + WIDTH])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--split", choices=tuple(CLIPS), default="report")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for truth in compose(options.out, clips=options.clips, split=options.split, rounds=options.rounds, seed=options.seed):
        print(f"{truth.video_id}  {truth.start_s:7.2f} {truth.end_s:7.2f}  {truth.label}")
