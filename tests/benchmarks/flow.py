"""TV-L1 on real frames: how fast beside OpenCV in the same run, how near to OpenCV's flow, and how near to the truth.

    python tests/benchmarks/flow.py --clips CLIPS [--flow FLOW] [--pairs N] [--backend NAME]

Frames are grey, 340x256, consecutive, from the middle of the clips in ``CLIPS`` below. OpenCV is run in both ways that
one would run it on a machine with several cores: pair by pair on its own threads, and one pair a thread; the faster one
counts. Both sides take turns clip by clip, so that a load on the machine falls on both; the time on the CPU, all threads
together, is given beside the time that passed, for a machine that is not idle. FLOW is the folder of the
RubberWhale frames and their true flow (Middlebury).
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.flow import FlowStream, usable_cores

WIDTH, HEIGHT = 340, 256
CLIPS = (
    "mmaction2/demo.mp4",
    "tiny_ucf101/v_Basketball_g01_c01.avi",
    "activitynet/v_ZNVhz7ctTq0.mp4",
    "crossfit/bar-facing_burpee_1.mp4",
    "ibm_max_sports/basketball.mp4",
    "torchvision/SOX5yA1l24A.mp4",
    "torchvision/R6llTwEh07w.mp4",
    "intel_background/one-by-one-person-detection.mp4",
)

Frames = NDArray[np.uint8]
Flow = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--flow", type=Path, help="folder of the RubberWhale frames (default: beside CLIPS, where it is)")
    parser.add_argument("--pairs", type=int, default=8, help="pairs of frames from each clip")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cores = usable_cores()
    print(f"{cores} cores, load before: {os.getloadavg()[0]:.1f}; OpenCV {cv2.__version__}, numbers are pairs a second")

    def ours(frames: Frames) -> Flow:
        return FlowStream(backend=options.backend, device=options.device).push(frames)

    ways: dict[str, Callable[[Frames], Flow]] = {
        "OpenCV, its threads": opencv_threads,
        "OpenCV, pairs": lambda frames: opencv_pairs(frames, cores),
        "ours": ours,
    }
    ours(np.zeros((2, HEIGHT, WIDTH), np.uint8))  # compiles
    spent_s, worked_s = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    errors: list[float] = []
    for name in CLIPS:
        if not (options.clips / name).exists():
            print(f"{name}: not there, left out")
            continue
        frames = middle_of(options.clips / name, options.pairs + 1)
        took_s, flow = {}, {}
        for way, compute in ways.items():
            began, began_work = time.perf_counter(), time.process_time()
            flow[way] = compute(frames)
            took_s[way] = time.perf_counter() - began
            spent_s[way] += took_s[way]
            worked_s[way] += time.process_time() - began_work
        error = distance(flow["ours"], flow["OpenCV, its threads"]).mean(axis=(1, 2))  # [N]
        errors.extend(error)
        rates = ", ".join(f"{way} {len(error) / seconds:.2f}" for way, seconds in took_s.items())
        pixels = np.linalg.norm(flow["ours"], axis=-1).mean()
        print(f"{name:36s} {rates}; to OpenCV {np.median(error):.3f} px (flow of {pixels:.2f} px)")
    if errors:
        best = min((way for way in ways if way != "ours"), key=lambda way: spent_s[way])
        for way, seconds in spent_s.items():
            print(
                f"{way:20s} {len(errors) / seconds:6.2f} pairs/s, {seconds / len(errors) * 1000:7.1f} ms a pair, "
                f"{worked_s[way] / len(errors) * 1000:7.1f} ms of CPU a pair"
            )
        print(
            f"ours to OpenCV's faster way: {spent_s[best] / spent_s['ours']:.1f} times "
            f"(by CPU time {worked_s[best] / worked_s['ours']:.1f}); to its own threads: "
            f"{spent_s['OpenCV, its threads'] / spent_s['ours']:.1f} times"
        )
        print(
            f"mean end-point error to OpenCV: median over {len(errors)} pairs {np.median(errors):.4f} px, "
            f"90 % below {np.quantile(errors, 0.9):.4f}, largest {max(errors):.4f}"
        )
    rubber_whale(options.flow or options.clips.parent / "flow", {"OpenCV": opencv_threads, "ours": ours})
    print(f"load after: {os.getloadavg()[0]:.1f}")


def middle_of(path: Path, count: int) -> Frames:
    """Consecutive grey frames [N, H, W] around a clip's middle."""
    with av.open(str(path)) as container:
        frames = [
            frame.reformat(width=WIDTH, height=HEIGHT, format="gray").to_ndarray()
            for frame, _ in zip(container.decode(video=0), range(400), strict=False)
        ]
    start = max(0, (len(frames) - count) // 2)
    return np.array(frames[start : start + count])


def opencv_threads(frames: Frames) -> Flow:
    """Pair by pair; OpenCV spreads the loops over its threads."""
    cv2.setNumThreads(usable_cores())
    estimator = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]
    return np.array([estimator.calc(first, second, None) for first, second in itertools.pairwise(frames)])


def opencv_pairs(frames: Frames, cores: int) -> Flow:
    """As many pairs at a time as there are cores, each on one thread."""
    cv2.setNumThreads(1)

    def one(index: int) -> Flow:
        flow: Flow = cv2.optflow.DualTVL1OpticalFlow_create().calc(frames[index], frames[index + 1], None)  # type: ignore[attr-defined]
        return flow

    with ThreadPoolExecutor(cores) as pool:
        return np.array(list(pool.map(one, range(len(frames) - 1))))


def distance(one: Flow, other: Flow) -> NDArray[np.float64]:
    return np.linalg.norm(one.astype(np.float64) - other, axis=-1)


def rubber_whale(folder: Path, ways: dict[str, Callable[[Frames], Flow]]) -> None:
    """Mean end-point error against the true flow, where it is known."""
    if not folder.is_dir():
        print(f"RubberWhale: {folder} is not there, left out")
        return
    pictures = [cv2.imread(str(folder / f"RubberWhale_frame{i}.png"), cv2.IMREAD_GRAYSCALE) for i in (10, 11)]
    frames = np.array(pictures, np.uint8)
    true = np.fromfile(folder / "RubberWhale_flow10.flo", np.float32)[3:].reshape(*frames.shape[1:], 2)
    known = (np.abs(true) < 1e9).all(axis=-1)
    for way, compute in ways.items():
        error = distance(compute(frames)[0], np.where(known[..., None], true, 0))[known].mean()
        print(f"RubberWhale, {way}: {error:.4f} px from the truth")


if __name__ == "__main__":
    main()
