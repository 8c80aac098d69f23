"""How fast detections are evaluated, and how much memory a million of them takes.

    python tests/benchmarks/evaluation.py [--rounds N] [--coverage]

Made at random: 1,000 videos, 100 detections each, 10 thresholds (0.5 to 0.95), in two sorts: of 200 classes with 1.5 instances
a video, as ActivityNet has them, and of 20 classes with 15 instances a video, as THUMOS14. ActivityNet's own toolkit takes
33 to 73 s for such a set. Then a million detections in 2,000 videos, read from a file of each form and evaluated in a process
of its own. Times are the median of N rounds, by the clock and on the CPU; memory is the process's peak, the interpreter and
NumPy (some 40 MB) included.

With ``--coverage`` instead: 150 made test sets of 120 videos and 20 classes, and how many of their 95 % intervals hold the mAP
that such sets have on average, for three ways to make an interval of the same samples.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tal_run.eval import evaluate
from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, write_csv
from tal_run.eval.bootstrap import bootstrap_maps, interval
from tal_run.eval.detections import Detections
from tal_run.eval.evaluation import average_precisions, judge, load_case
from tal_run.eval.protocols import ACTIVITYNET_TIOUS, PROTOCOLS

LENGTH_S = 200.0
TOOLKIT_S = (33.0, 73.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--alone", nargs=2, metavar=("TRUTH", "DETECTIONS"), help="evaluate these and print the peak memory")
    options = parser.parse_args()
    if options.coverage:
        coverage()
        return
    if options.alone:
        alone(*options.alone)
        return
    for name, classes, instances in (("200 classes, 1.5 instances a video", 200, 1.5), ("20 classes, 15 instances", 20, 15.0)):
        truth, found = made(videos=1000, detections=100, classes=classes, instances=instances)
        print(f"1,000 videos x 100 detections x 10 thresholds, {name}")
        for protocol in ("activitynet", "thumos14", "wtalc", "wsad"):
            took = [timed(truth, found, protocol) for _ in range(options.rounds)]
            middle = statistics.median(clock for clock, _ in took)
            worked = statistics.median(work for _, work in took)
            low, high = (limit / worked for limit in TOOLKIT_S)
            beside = f" (the toolkit: {low:.0f} to {high:.0f} times that)" if protocol == "activitynet" else ""
            print(f"  {protocol:12s} {middle:6.3f} s, {worked:6.3f} s on the CPU{beside}")
    print(f"load: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        million(Path(folder))


def timed(truth: GroundTruth, found: Detections, protocol: str) -> tuple[float, float]:
    begin, begin_work = time.perf_counter(), time.process_time()
    evaluate(truth, found, protocol=protocol, tiou_thresholds=ACTIVITYNET_TIOUS)
    return time.perf_counter() - begin, time.process_time() - begin_work


def made(*, videos: int, detections: int, classes: int, instances: float, seed: int = 0) -> tuple[GroundTruth, Detections]:
    """Ground truth, and detections of which half are instances with blurred ends; each video shows two classes."""
    dice = np.random.default_rng(seed)
    names = [f"video_{number:06d}" for number in range(videos)]
    labels = [f"class {number:03d}" for number in range(classes)]
    counts = 1 + dice.poisson(instances - 1, size=videos)
    shown = [dice.integers(classes, size=2)[dice.integers(2, size=count)] for count in counts]
    present = np.unique(np.concatenate(shown))
    truths, columns = [], []
    for number, (name, count, kinds) in enumerate(zip(names, counts, shown, strict=True)):
        start = dice.uniform(0, LENGTH_S * 0.8, count)
        end = np.minimum(start + dice.gamma(2.0, LENGTH_S / instances / 8, count) + 0.5, LENGTH_S)
        truths.append(
            VideoTruth(
                video_id=name,
                duration_s=LENGTH_S,
                instances=tuple(
                    Instance(float(s), float(e), name, labels[kind]) for s, e, kind in zip(start, end, kinds, strict=True)
                ),
            )
        )
        near = dice.integers(count, size=detections)
        blur = (end - start)[near, None] * dice.normal(0, 0.2, (detections, 2))
        segments = np.sort(np.clip(np.stack([start, end], axis=1)[near] + blur, 0, LENGTH_S), axis=1)
        stray = dice.random(detections) < 0.5
        segments[stray] = np.sort(dice.uniform(0, LENGTH_S, (int(stray.sum()), 2)), axis=1)
        of = np.where(dice.random(detections) < 0.8, kinds[near], dice.choice(present, size=detections))
        columns.append((np.full(detections, number), of, segments, dice.random(detections)))
    return GroundTruth(videos=tuple(truths)), Detections(
        video_ids=tuple(names),
        labels=tuple(labels),
        videos=np.concatenate([column[0] for column in columns]),
        classes=np.concatenate([column[1] for column in columns]),
        segments=np.concatenate([column[2] for column in columns]),
        scores=np.concatenate([column[3] for column in columns]),
    )


def million(folder: Path) -> None:
    truth, found = made(videos=2000, detections=500, classes=20, instances=15.0)
    write_csv(truth, folder / "truth.csv")
    rows = [
        (found.video_ids[v], found.labels[c], start, end, score)
        for v, c, (start, end), score in zip(
            found.videos, found.classes, found.segments.tolist(), found.scores.tolist(), strict=True
        )
    ]
    lines = (",".join([v, c, f"{s:.6f}", f"{e:.6f}", f"{score:.8f}"]) for v, c, s, e, score in rows)
    (folder / "found.csv").write_text("video_id,label,start_s,end_s,score\n" + "\n".join(lines))
    results: dict[str, list[object]] = {}
    for v, c, s, e, score in rows:
        results.setdefault(v, []).append({"label": c, "score": round(score, 8), "segment": [round(s, 6), round(e, 6)]})
    (folder / "found.json").write_text(json.dumps({"version": "", "results": results, "external_data": {}}))
    (folder / "pretty.json").write_text(json.dumps({"version": "", "results": results, "external_data": {}}, indent=1))
    print(f"{len(rows):,} detections in 2,000 videos with {sum(len(v.instances) for v in truth.videos):,} instances")
    for name in ("found.csv", "found.json", "pretty.json"):
        command = [sys.executable, __file__, "--alone", str(folder / "truth.csv"), str(folder / name)]
        took = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        print(f"  {name} ({(folder / name).stat().st_size / 1e6:.0f} MB): {took}")


def coverage(sets: int = 150, samples: int = 200, tiou: float = 0.5) -> None:
    for name in ("activitynet", "wtalc", "thumos14", "wsad"):
        rules = PROTOCOLS[name]
        values, spans = [], []
        for seed in range(sets):
            case = load_case(*made(videos=120, detections=20, classes=20, instances=5.0, seed=seed))
            judged = judge(case, rules, (tiou,))
            value = float(average_precisions(case, judged, interpolated=rules.interpolated).mean())
            drawn = bootstrap_maps(case, judged, interpolated=rules.interpolated, samples=samples, seed=1)[:, 0]
            low, high = np.percentile(drawn, [2.5, 97.5])
            values.append(value)
            spans.append([(low, high), (2 * value - high, 2 * value - low), interval(drawn, value)])
        bounds = np.array(spans)  # [sets, ways, 2]
        held = ((bounds[..., 0] <= np.mean(values)) & (np.mean(values) <= bounds[..., 1])).mean(axis=0)
        ways = ", ".join(f"{way} {share:.0%}" for way, share in zip(("as drawn", "reflected", "centred"), held, strict=True))
        print(f"{name:12s} 95 % intervals that hold the average mAP of such sets: {ways}")


def alone(truth: str, found: str) -> None:
    begin = time.perf_counter()
    result = evaluate(truth, found, protocol="activitynet", tiou_thresholds=ACTIVITYNET_TIOUS)
    took = time.perf_counter() - begin
    # ru_maxrss would begin with the parent's memory, from which this process was forked
    (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(f"{took:.1f} s, peak {int(peak) / 1024:.0f} MiB, average mAP {result.average_map:.4f}")


if __name__ == "__main__":
    main()
