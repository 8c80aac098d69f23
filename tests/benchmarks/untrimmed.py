"""How well queries are localized in untrimmed videos composed of real clips (``compose.py``).

    python tests/benchmarks/untrimmed.py --clips CLIPS [--split report|calibration] [--rounds N] [--ablations] [--names-only]

For every action, the first detection must overlap the true stretch with tIoU >= 0.5: once asked for by its class name,
once in other words (``compose.CLIPS``). Queries for what is absent must return nothing: the split's other actions, by
name and in other words, and twenty random classes of the backbone a video. ``--ablations`` repeats the class names with
one default changed at a time.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compose import CLIPS, Truth, compose

from tal_run.extractors import FeatureSequence
from tal_run.models import Detection
from tal_run.models.actionbytes import ActionBytesConfig
from tal_run.models.postprocess import tiou
from tal_run.pipeline import DetectConfig, Detector
from tal_run.pipeline.query import NAMES_ONLY, QueryConfig, QueryMatch, match_query

HIT_TIOU = 0.5
RANDOM_CLASSES = 20

ABLATIONS: dict[str, dict[str, object]] = {
    "defaults": {},
    "percentile=50 (paper, THUMOS14)": {"percentile": 50.0},
    "percentile=92 (paper, ActivityNet)": {"percentile": 92.0},
    "include_ends=False (Eq. 1 alone)": {"include_ends": False},
    "jitter=0": {"jitter": 0},
    "merge=() (no ActionBytes proposals)": {"merge": ()},
    "merge=(1, 2, 3, 4)": {"merge": (1, 2, 3, 4)},
    "power=1 (paper)": {"power": 1.0},
    "power=1/2": {"power": 0.5},
    "smooth=1 (paper)": {"smooth": 1},
    "power=1, smooth=1 (paper)": {"power": 1.0, "smooth": 1},
    "smooth=3": {"smooth": 3},
    "smooth=7": {"smooth": 7},
    "floor=None (W-TALC's code)": {"floor": None},
    "margin=0.25 (AutoLoc)": {"margin": 0.25},
    "score=mean": {"score": "mean"},
    "nms_tiou=0.4": {"nms_tiou": 0.4},
}


@dataclass(frozen=True)
class Tally:
    """So many of so many."""

    hits: int
    total: int

    def __str__(self) -> str:
        return f"{self.hits} of {self.total} ({self.hits / max(1, self.total):.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--split", choices=tuple(CLIPS), default="report")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--names-only", action="store_true", help="match queries to class names alone")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        truths = compose(Path(folder), clips=options.clips, split=options.split, rounds=options.rounds, seed=options.seed)
        detector = Detector(DetectConfig(query=NAMES_ONLY if options.names_only else QueryConfig()))
        watched = {name: detector.watch(Path(folder) / f"{name}.mp4") for name in {truth.video_id for truth in truths}}
    known = {clip for clip in {truth.clip for truth in truths} if knows(detector, options.clips / clip, label_of(clip, truths))}
    seconds = sum(features.grid.duration_s for features in watched.values())
    print(f"{len(truths)} actions in {len(watched)} videos, {seconds / 60:.1f} minutes, split {options.split}")

    if options.ablations:
        for name, change in ABLATIONS.items():
            changed = ActionBytesConfig(**change)  # type: ignore[arg-type]
            anything = asker(replace(changed, min_score=0.02))
            with_threshold = asker(changed)
            print(
                f"{name:36s} hits {by_name(anything, watched, truths)}, above min_score "
                f"{by_name(with_threshold, watched, truths)}; classes of the backbone that are absent, returned: "
                f"{all_absent_classes(with_threshold, watched, truths)}"
            )
        return

    print(f"{'asked for':40s} {'tIoU':>5s} {'score':>5s}  matched")
    for attribute, manner in (("label", "class name"), ("words", "other words")):
        hits = report(detector, watched, truths, attribute)
        print(f"hits by {manner}: {tally(hits)}; where the backbone knows the trimmed clip: {tally(hits, among=known)}")
    for kind, share in absent(detector, watched, truths, random.Random(options.seed)).items():
        print(f"absent, {kind}, returned something: {share}")


def asker(localization: ActionBytesConfig) -> Detector:
    return Detector(DetectConfig(localization=localization))


def label_of(clip: str, truths: Sequence[Truth]) -> str:
    return next(truth.label for truth in truths if truth.clip == clip)


def knows(detector: Detector, clip: Path, label: str) -> bool:
    """Whether the backbone ranks a class first when it sees the trimmed clip: what it does not know, none can localize."""
    features = detector.watch(clip)
    return features.labels[int(features.probabilities().mean(axis=0).argmax())] == label


def tally(hits: Sequence[tuple[str, bool]], *, among: Collection[str] | None = None) -> Tally:
    """Count the hits of (clip, hit) pairs, of some clips only if so asked."""
    counted = [hit for clip, hit in hits if among is None or clip in among]
    return Tally(sum(counted), len(counted))


def report(
    detector: Detector, watched: dict[str, FeatureSequence], truths: Sequence[Truth], attribute: str
) -> list[tuple[str, bool]]:
    """Ask for every action and print what came; whether each was hit, as (clip, hit)."""
    hits = []
    for truth in sorted(truths, key=lambda truth: truth.label):
        query = getattr(truth, attribute)
        match = match_query(query, detector.backbone.labels, config=detector.config.query)
        found = detector.find(watched[truth.video_id], [match])
        overlap = overlap_of_first(found, truth)
        hits.append((truth.clip, overlap >= HIT_TIOU))
        score = f"{found[0].score:5.2f}" if found else "    -"
        print(f"{query:40s} {overlap:5.2f} {score}  {described(match)}")
    return hits


def described(match: QueryMatch) -> str:
    return ", ".join(f"{found.label} {found.affinity:.2f}" for found in match.classes) or "nothing"


def overlap_of_first(found: Sequence[Detection], truth: Truth) -> float:
    if not found:
        return 0.0
    return float(tiou([[found[0].start_s, found[0].end_s]], [[truth.start_s, truth.end_s]])[0, 0])


def by_name(detector: Detector, watched: dict[str, FeatureSequence], truths: Sequence[Truth]) -> Tally:
    hits = 0
    for truth in truths:
        found = detector.find(watched[truth.video_id], [match_query(truth.label, detector.backbone.labels)])
        hits += overlap_of_first(found, truth) >= HIT_TIOU
    return Tally(hits, len(truths))


def all_absent_classes(detector: Detector, watched: dict[str, FeatureSequence], truths: Sequence[Truth]) -> Tally:
    returned = total = 0
    for video_id, features in watched.items():
        present = {truth.label for truth in truths if truth.video_id == video_id}
        matches = [match_query(label, detector.backbone.labels) for label in detector.backbone.labels if label not in present]
        returned += len({found.label for found in detector.find(features, matches)})
        total += len(matches)
    return Tally(returned, total)


def absent(
    detector: Detector, watched: dict[str, FeatureSequence], truths: Sequence[Truth], dice: random.Random
) -> dict[str, Tally]:
    """Queries for what is not in a video, by kind."""
    tallies = {}
    labels = detector.backbone.labels
    for kind in ("other actions by name", "other actions in other words", "random classes"):
        returned = total = 0
        for video_id, features in sorted(watched.items()):
            present = {truth.label for truth in truths if truth.video_id == video_id}
            others = [truth for truth in truths if truth.label not in present]
            queries = {
                "other actions by name": sorted({truth.label for truth in others}),
                "other actions in other words": sorted({truth.words for truth in others}),
                "random classes": dice.sample(sorted(set(labels) - present), RANDOM_CLASSES),
            }[kind]
            matches = [match_query(query, labels, config=detector.config.query) for query in queries]
            returned += len({found.label for found in detector.find(features, matches)})
            total += len(matches)
        tallies[kind] = Tally(returned, total)
    return tallies


if __name__ == "__main__":
    sys.exit(main())
