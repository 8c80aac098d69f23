"""Real untrimmed video with known truth, for ``methods.py``: fights in surveillance video, and three more actions.

    noFight  noFight | FIGHT FIGHT | corridor | noFight | JUGGLING | noFight ...     seconds known, cut hard

``fight_surv`` has 300 clips of about 2 s, 150 of them of fights; its list says which of them are cut out of the same video.
Those videos are dealt out to training and test, so no camera is in both, and each composed video keeps to the clips of one or
two of them: what fights is seen where nothing happens, too. A weakly supervised method needs more classes than one, or there
is nothing to tell apart; three more have a clip or two on either side, from different sources, which is too little to say
much of them. Clips whose source is not listed are left out.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from compose import CARS, CORRIDOR, Frames, Stretch, _length_s, _pictures, write_video

from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth
from tal_run.extractors.backbone import WindowConfig
from tal_run.extractors.features import Features
from tal_run.models import Detection
from tal_run.pipeline import DetectConfig, Detector

SEED = 401
BACKBONE = "movinet-a0-stream"
COUNTS = {"training": 40, "test": 30}
FIGHT = "fight"
# of 44 videos on the list, whose fights make up about two thirds
TRAINING_SHARE = 0.6
WINDOWS = WindowConfig(fps=5, window_frames=8, stride_frames=2)  # MoViNet's own window, twice as often
OTHERS = {
    "training": {
        "juggling soccer ball": ("torchvision/v_SoccerJuggling_g23_c01.avi",),
        "waving": ("torchvision/RATRACE_wave_f_nm_np1_fr_goo_37.avi", "torchvision/TrumanShow_wave_f_nm_np1_fr_med_26.avi"),
        "playing basketball": ("ibm_max_sports/basketball.mp4", "torchvision/basketball.mp4"),
    },
    "test": {
        "juggling soccer ball": ("torchvision/v_SoccerJuggling_g24_c01.avi",),
        "waving": ("torchvision/SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi",),
        "playing basketball": ("tiny_ucf101/v_Basketball_g01_c01.avi", "mmaction2/test_video_structuralize.mp4"),
    },
}
BACKGROUND = {
    "training": (Stretch(CORRIDOR, 0.0, 60.0), Stretch(CARS, 0.0, 15.0)),
    "test": (Stretch(CORRIDOR, 64.0, 139.0), Stretch(CARS, 16.0, 30.0)),
}
OTHER_S = (3.0, 7.0)
CORRIDOR_S = (2.0, 6.0)


@dataclass(frozen=True)
class Source:
    """One video that clips were cut from: paths below the folder of clips."""

    fights: tuple[str, ...]
    others: tuple[str, ...]


def sources(clips: Path) -> list[Source]:
    """What is cut from which video, in the list's order."""
    found: list[tuple[list[str], list[str]]] = []
    for line in (clips / "fight_surv" / "videos.txt").read_text(encoding="utf-8", errors="replace").splitlines():
        name = re.match(r"(nofi|fi)\d+", line.strip())
        if line.startswith("http"):
            found.append(([], []))
        elif name and found:
            folder, rows = ("fight", found[-1][0]) if name[1] == "fi" else ("noFight", found[-1][1])
            path = f"fight_surv/{folder}/{name[0]}.mp4"
            if (clips / path).is_file() and path not in rows:
                rows.append(path)
    return [Source(tuple(fights), tuple(others)) for fights, others in found]


def dealt(clips: Path) -> dict[str, list[Source]]:
    """Sources for training and for the test."""
    dice, every = random.Random(SEED), [source for source in sources(clips) if source.fights and source.others]
    dice.shuffle(every)
    wanted, counted, cut = TRAINING_SHARE * sum(len(source.fights) for source in every), 0, 0
    while counted < wanted:
        counted += len(every[cut].fights)
        cut += 1
    return {"training": every[:cut], "test": every[cut:]}


def compose_real(folder: Path, part: str, *, clips: Path) -> GroundTruth:
    """Write the videos of a part, those that are not there yet; the same every time."""
    folder.mkdir(parents=True, exist_ok=True)
    truth_file = folder / "truth.csv"
    if not truth_file.is_file():
        rows = []
        for number in range(COUNTS[part]):
            dice = random.Random(f"{SEED} {part} {number}")
            name = f"real_{part}_{number:03d}"
            pieces = _pieces(dice, part, clips)
            spans = write_video(folder / f"{name}.mp4", [frames for _, frames in pieces])
            rows += [(name, label, *span) for (label, _), span in zip(pieces, spans, strict=True)]
        part_file = truth_file.with_suffix(".part")
        with part_file.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
        part_file.rename(truth_file)
    return read_real(folder, part)


def read_real(folder: Path, part: str) -> GroundTruth:
    """What is true of the videos that are there."""
    truth_file = folder / "truth.csv"
    videos: dict[str, list[tuple[str, float, float]]] = {}
    with truth_file.open(newline="", encoding="utf-8") as file:
        for name, label, start, end in csv.reader(file):
            videos.setdefault(name, []).append((label, float(start), float(end)))
    return GroundTruth(
        videos=tuple(
            VideoTruth(
                video_id=name,
                subset="testing" if part == "test" else "training",
                duration_s=spans[-1][2],
                instances=tuple(Instance(start, end, name, label) for label, start, end in spans if label),
            )
            for name, spans in videos.items()
        )
    )


def _pieces(dice: random.Random, part: str, clips: Path) -> list[tuple[str, Frames]]:
    """Background and actions by turns: what each is called (background: nothing) and its pictures."""
    pool = dealt(clips)[part]
    here = dice.sample(pool, 2)
    pieces = [("", _quiet(dice, here, part, clips))]
    for _ in range(dice.randint(1, 3)):
        if dice.random() < 0.7:
            source = dice.choice(here)
            chosen = dice.sample(source.fights, min(len(source.fights), dice.randint(1, 3)))
            pieces.append((FIGHT, _joined(clips, chosen)))
        else:
            label = dice.choice(sorted(OTHERS[part]))
            path = clips / dice.choice(OTHERS[part][label])
            length_s = min(_length_s(path), dice.uniform(*OTHER_S))
            start_s = dice.uniform(0.0, _length_s(path) - length_s)
            pieces.append((label, _pictures(path, start_s, start_s + length_s)))
        pieces.append(("", _quiet(dice, here, part, clips)))
    return pieces


def _quiet(dice: random.Random, here: Sequence[Source], part: str, clips: Path) -> Frames:
    """Two to four clips without a fight, or some of them and an empty corridor."""
    calm = [path for source in here for path in source.others]
    chosen = [_joined(clips, dice.sample(calm, min(len(calm), dice.randint(2, 4))))]
    if dice.random() < 0.4:
        whole = dice.choice(BACKGROUND[part])
        length_s = dice.uniform(*CORRIDOR_S)
        start_s = dice.uniform(whole.start_s, whole.end_s - length_s)
        chosen.append(_pictures(clips / whole.path, start_s, start_s + length_s))
    return chain.from_iterable(chosen)


def _joined(clips: Path, paths: Sequence[str]) -> Frames:
    return chain.from_iterable(_pictures(clips / path, 0.0, _length_s(clips / path)) for path in paths)


class Asker:
    """The zero-shot query: MoViNet's Kinetics-600 scores, word vectors and ActionBytes, nothing learnt from these videos."""

    def __init__(self) -> None:
        self._detector = Detector(DetectConfig(backbone=BACKBONE, windows=WINDOWS))
        self._matches = self._detector.match(QUERIES)

    def __call__(self, features: Features) -> list[Detection]:
        """What the four names of the actions find in a video."""
        return self._detector.find(features, self._matches)


QUERIES = [FIGHT, *OTHERS["test"]]
