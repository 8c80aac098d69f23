"""How well the starter finds actions in made untrimmed video, of the look that it learnt from and of the other one.

    python tests/benchmarks/made_video.py [--videos 60] [--seed 2]... [--look LOOK]... [--min-s 20] [--max-s 60]
        [--keep FOLDER] [--weights FILE] [--head actionbytes]

For every action: of the videos that hold it, in how many the first detection of a query by its name overlaps a true
stretch with tIoU >= 0.5; AP at that overlap; and of the queries for actions that a video does not hold, how many return
anything. The seeds of training (``train_starter.SEED``) and of choosing thresholds (``CALIBRATION_SEEDS``, of the look learnt
from) are others. Stretches that nobody could tell (ambiguous) count neither for nor against. Of several seeds the videos are
taken together. Behind each share stands its 95 % interval (Wilson's), as an action is in a few videos only.

At the end: of all true actions, how many are found (any detection, tIoU >= 0.5), alone and while somebody else acts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from tal_run.eval.annotations import GroundTruth, VideoTruth
from tal_run.eval.average_precision import average_precision, mean_average_precision
from tal_run.eval.synthetic import LOOKS, synthesize
from tal_run.extractors import FeatureSequence
from tal_run.extractors.starter import Starter
from tal_run.models import Detection
from tal_run.models.postprocess import tiou
from tal_run.pipeline import DetectConfig, Detector
from tal_run.pipeline.query import match_query

HIT_TIOU = 0.5
COMPANY_SHARE = 0.3  # of an action, during which somebody else acts
CALIBRATION_SEEDS = (1, 3, 11)
LOWEST_SCORE = 0.01  # for AP, which ranks detections and needs no threshold

Found = dict[str, dict[str, list[Detection]]]  # video, label


@dataclass(frozen=True)
class Score:
    """One action over all videos."""

    label: str
    hits: int
    videos: int
    average_precision: float
    absent_returned: int
    absent: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--seed", type=int, action="append", help="2; given again, more videos")
    parser.add_argument("--min-s", type=float, default=20.0, help="length of the shortest video")
    parser.add_argument("--max-s", type=float, default=60.0)
    parser.add_argument("--look", action="append", choices=LOOKS)
    parser.add_argument("--keep", type=Path, help="a folder for the videos, used again next time")
    parser.add_argument("--weights", type=Path, help="other weights of the starter")
    parser.add_argument("--head", default="auto", help="actionbytes: thresholds instead of what reads the starter's curves")
    options = parser.parse_args()
    seeds = options.seed or [2]
    if set(seeds) & set(CALIBRATION_SEEDS):
        print("among these are videos that thresholds were chosen on: take the figures for no test")
    with tempfile.TemporaryDirectory() as scratch:
        for look in options.look or LOOKS:
            detector = Detector(
                DetectConfig(backbone="starter", head=options.head), backbone=Starter(path=options.weights or None)
            )
            videos: list[VideoTruth] = []
            watched: dict[str, FeatureSequence] = {}
            took_s = 0.0
            for seed in seeds:
                folder = (options.keep or Path(scratch)) / f"{look}_{seed}"
                truth = synthesize(
                    folder,
                    videos=options.videos,
                    seed=seed,
                    look=look,
                    min_s=options.min_s,
                    max_s=options.max_s,
                    workers=2,
                )
                started = time.monotonic()
                seen = watch_all(detector, folder, truth)
                took_s += time.monotonic() - started
                # videos of two seeds have the same names
                watched |= {f"{seed} {video_id}": features for video_id, features in seen.items()}
                videos += [renamed(video, f"{seed} {video.video_id}") for video in truth.videos]
            length_s = sum(features.grid.duration_s for features in watched.values())
            print(
                f"{look}: {len(watched)} videos, {length_s / 60:.1f} minutes, watched {length_s / took_s:.1f} times real time"
            )
            shown = find_all(detector, watched)
            show(scores(detector, watched, videos, shown))
            show_company(shown, videos)


def renamed(video: VideoTruth, video_id: str) -> VideoTruth:
    instances = tuple(replace(instance, video_id=video_id) for instance in video.instances)
    return replace(video, video_id=video_id, instances=instances)


def watch_all(detector: Detector, folder: Path, truth: GroundTruth) -> dict[str, FeatureSequence]:
    return {v.video_id: detector.watch(folder / str(v.subset) / f"{v.video_id}.mp4") for v in truth.videos}


def scores(detector: Detector, watched: dict[str, FeatureSequence], videos: Sequence[VideoTruth], shown: Found) -> list[Score]:
    low = copy(detector)
    low.threshold = LOWEST_SCORE
    everything = find_all(low, watched)
    return [score(label, shown, everything, videos) for label in detector.backbone.labels]


def find_all(detector: Detector, watched: dict[str, FeatureSequence]) -> Found:
    matches = {label: match_query(label, detector.backbone.labels) for label in detector.backbone.labels}
    return {
        video_id: {label: detector.find(features, [match]) for label, match in matches.items()}
        for video_id, features in watched.items()
    }


def score(label: str, shown: Found, everything: Found, videos: Sequence[VideoTruth]) -> Score:
    hits = with_it = returned = 0
    for video in videos:
        true = stretches(video, label)
        found = decided(shown[video.video_id][label], video, true)
        if len(true):
            with_it += 1
            first = [[d.start_s, d.end_s] for d in found[:1]]
            hits += bool(first) and float(tiou(first, true).max()) >= HIT_TIOU
        else:
            returned += bool(found)
    ranked = [
        (i, d)
        for i, video in enumerate(videos)
        for d in decided(everything[video.video_id][label], video, stretches(video, label))
    ]
    precision = average_precision(
        np.concatenate([stretches(video, label) for video in videos]),
        np.concatenate([[i] * len(stretches(video, label)) for i, video in enumerate(videos)]),
        segments=[[d.start_s, d.end_s] for _, d in ranked],
        videos=[i for i, _ in ranked],
        scores=[d.score for _, d in ranked],
        tiou_thresholds=[HIT_TIOU],
    )
    return Score(label, hits, with_it, float(precision[0]), returned, len(videos) - with_it)


def decided(found: Sequence[Detection], video: VideoTruth, true: NDArray[np.float64]) -> list[Detection]:
    """Detections without those that meet an ambiguous stretch and no true one."""

    def meets(detection: Detection, segments: NDArray[np.float64]) -> bool:
        return bool(((detection.start_s < segments[:, 1]) & (detection.end_s > segments[:, 0])).any())

    open_to_doubt = np.array([[s.start_s, s.end_s] for s in video.ambiguous], np.float64).reshape(-1, 2)
    return [detection for detection in found if meets(detection, true) or not meets(detection, open_to_doubt)]


def stretches(video: VideoTruth, label: str) -> NDArray[np.float64]:
    return np.array([[i.start_s, i.end_s] for i in video.instances if i.label == label], np.float64).reshape(-1, 2)


def show(rows: Sequence[Score]) -> None:
    print(f"{'action':16s} {'first is right':>26s} {'AP@0.5':>7s} {'absent, returned':>17s}")
    for row in rows:
        share = row.hits / max(1, row.videos)
        absent = row.absent_returned / max(1, row.absent)
        print(
            f"{row.label:16s} {row.hits:3d} of {row.videos:3d} {share:4.0%} {interval(row.hits, row.videos)} "
            f"{row.average_precision:7.2f} "
            f"{row.absent_returned:4d} of {row.absent:4d} {absent:4.0%}"
        )
    hits, videos = sum(r.hits for r in rows), sum(r.videos for r in rows)
    returned, absent_all = sum(r.absent_returned for r in rows), sum(r.absent for r in rows)
    mean = mean_average_precision([[row.average_precision] for row in rows])[0]
    print(
        f"{'all':16s} {hits:3d} of {videos:3d} {hits / max(1, videos):4.0%} {interval(hits, videos)} {mean:7.2f} "
        f"{returned:4d} of {absent_all:4d} {returned / max(1, absent_all):4.0%}"
    )


def show_company(shown: Found, videos: Sequence[VideoTruth]) -> None:
    """Of all instances, how many are found, by whether another one overlaps them."""
    found: dict[bool, list[bool]] = {False: [], True: []}
    for video in videos:
        for instance in video.instances:
            common_s = [
                min(instance.end_s, other.end_s) - max(instance.start_s, other.start_s)
                for other in video.instances
                if other is not instance
            ]
            in_company = max(common_s, default=0.0) > COMPANY_SHARE * (instance.end_s - instance.start_s)
            segments = [[each.start_s, each.end_s] for each in shown[video.video_id][instance.label]]
            best = tiou(segments, [[instance.start_s, instance.end_s]]).max(initial=0) if segments else 0
            found[in_company].append(bool(best >= HIT_TIOU))
    for in_company, said in ((False, "alone"), (True, "while somebody else acts")):
        hits, count = sum(found[in_company]), len(found[in_company])
        print(f"actions found, {said}: {hits} of {count} {hits / max(1, count):4.0%} {interval(hits, count)}")


def interval(hits: int, count: int) -> str:
    """Wilson's 95 % interval of a share."""
    if not count:
        return f"{'':10s}"
    found = binomtest(hits, count).proportion_ci(method="wilson")
    return f"({found.low:3.0%}-{found.high:4.0%})"


if __name__ == "__main__":
    sys.exit(main())
