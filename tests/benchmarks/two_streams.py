"""Two-stream I3D features of a real clip, by tal-run and by the usual script, in the same run; and memory over length.

    python tests/benchmarks/two_streams.py --clips CLIPS [--seconds 4] [--rounds 3] [--long 20]
    python tests/benchmarks/two_streams.py --clips CLIPS --memory [--minutes 60]

The clip is real, 340x256, 25 fps H.264. The usual script (``usual_script``) is what one writes in an afternoon on a machine
without a GPU: decord, then OpenCV's TV-L1 pair by pair on its own threads, then I3D in eager float32 on the
pictures and on the flow, window by window, one after the other. Both make 16-frame windows that do not overlap. Networks have
random weights: time does not depend on them. Loading and compiling (which happens once a machine) do not count for either;
threads that wait sleep; sides take turns, and the ratio is the median over the rounds. ``--long``: seconds of a longer clip
that only tal-run watches.

``--memory``: the peak resident size (VmHWM) of the process and its decoder, for two minutes and for many. All that could grow
with the video's length is there, frames at full size, flow and windows; so that it ends within the hour, flow has one warp and
one scale, and a window is looked at only every 1,600 frames.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

import av
import cv2
import decord
import numpy as np
import torch
from backbones import lively
from numpy.typing import NDArray

from tal_run.extractors.backbone import WindowConfig
from tal_run.extractors.clip_networks import I3DTwoStream
from tal_run.extractors.features import extract
from tal_run.extractors.flow import TVL1Params, usable_cores
from tal_run.extractors.i3d import InceptionI3D
from tal_run.extractors.two_streams import FlowConfig

WIDTH, HEIGHT, FPS, WINDOW, SIDE = 340, 256, 25, 16, 224
SOURCE = "torchvision/SOX5yA1l24A.mp4"
QUICK = TVL1Params(scales=1, warps=1, outer_iterations=1, inner_iterations=5, median=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--long", type=float, default=20.0)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--watch", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        watch_for_memory(options.watch)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.memory:
            memory(options.clips, Path(folder), options.minutes)
        else:
            speed(options, Path(folder))


def speed(options: argparse.Namespace, folder: Path) -> None:
    torch.manual_seed(0)
    networks = {"rgb": lively(InceptionI3D()), "flow": lively(InceptionI3D(in_channels=2))}
    backbone = I3DTwoStream(networks=networks)
    clip = real_clip(options.clips, folder / "clip.mp4", options.seconds)
    extract(real_clip(options.clips, folder / "first.mp4", 1.0), backbone=backbone)  # compiles, plans convolutions
    cores, load = usable_cores(), os.getloadavg()[0]
    print(f"{cores} cores, load before {load:.1f}; torch {torch.__version__}; {backbone.settings['precision']}")
    ratios, ours_s, usual_s = [], [], []
    for _ in range(options.rounds):
        began = time.perf_counter()
        ours = extract(clip, backbone=backbone)
        ours_s.append(time.perf_counter() - began)
        began = time.perf_counter()
        usual = usual_script(clip, networks)
        usual_s.append(time.perf_counter() - began)
        ratios.append(usual_s[-1] / ours_s[-1])
    length = ours.grid.duration_s
    print(f"usual script: {statistics.median(usual_s):6.1f} s for {length:.1f} s of video")
    print(f"tal-run:      {statistics.median(ours_s):6.1f} s, {statistics.median(ratios):.1f} times as fast")
    for stream, features in ours.streams.items():
        theirs = usual[stream]
        near = (features * theirs).sum(axis=1) / (np.linalg.norm(features, axis=1) * np.linalg.norm(theirs, axis=1))
        print(f"cosine of the {stream} features, {len(theirs)} windows: {near.min():.5f} or more, median {np.median(near):.5f}")
    long_clip = real_clip(options.clips, folder / "long.mp4", options.long)
    began = time.perf_counter()
    extract(long_clip, backbone=backbone)
    took_s = time.perf_counter() - began
    print(f"tal-run, {options.long:.0f} s of video: {took_s:.1f} s, {options.long / took_s:.2f} times real time")


def usual_script(path: Path, networks: dict[str, torch.nn.Module]) -> dict[str, NDArray[np.float32]]:
    """Everything after everything else, in memory."""
    reader = decord.VideoReader(str(path))
    frames = reader.get_batch(range(len(reader))).asnumpy()
    cv2.setNumThreads(usable_cores())
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    tvl1 = cv2.optflow.DualTVL1OpticalFlow_create()  # type: ignore[attr-defined]
    flow = [tvl1.calc(grey[k], grey[k + 1], None) for k in range(len(grey) - 1)]
    flow.append(flow[-1])
    pixels = {
        "rgb": frames.astype(np.float32) * (2 / 255) - 1,
        "flow": np.clip(np.array(flow), -20, 20) / 20,
    }
    top, left = (HEIGHT - SIDE) // 2, (WIDTH - SIDE) // 2
    features: dict[str, list[NDArray[np.float32]]] = {"rgb": [], "flow": []}
    with torch.no_grad():
        for stream, values in pixels.items():
            for start in range(0, len(frames) - WINDOW + 1, WINDOW):
                clip = values[start : start + WINDOW, top : top + SIDE, left : left + SIDE]
                batch = torch.from_numpy(np.ascontiguousarray(clip.transpose(3, 0, 1, 2)[None]))
                features[stream].append(networks[stream].features(batch)[0].numpy())  # type: ignore[operator]
    return {stream: np.array(rows) for stream, rows in features.items()}


def real_clip(clips: Path, path: Path, seconds: float) -> Path:
    """A real clip of whole windows, over and over if it is too short, at the size and rate of the field's features."""
    windows = max(1, round(seconds * FPS / WINDOW))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, frame in enumerate(islice(frames_again_and_again(clips / SOURCE), windows * WINDOW)):
            scaled = frame.reformat(width=WIDTH, height=HEIGHT, format="yuv420p")
            scaled.pts, scaled.time_base = index, Fraction(1, FPS)
            output.mux(stream.encode(scaled))
        output.mux(stream.encode())
    return path


def frames_again_and_again(source: Path):  # type: ignore[no-untyped-def]
    while True:
        with av.open(str(source)) as container:
            yield from container.decode(video=0)


def memory(clips: Path, folder: Path, minutes: int) -> None:
    """Peak resident size for two minutes and for many, each in a process of its own."""
    for length in (2, minutes):
        path = real_clip(clips, folder / f"{length}.mp4", length * 60)
        command = [sys.executable, __file__, "--clips", str(clips), "--watch", str(path)]
        began = time.perf_counter()
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print(f"{length:3d} min of video: peak {peak} MiB, {time.perf_counter() - began:.0f} s")


def watch_for_memory(path: Path) -> None:
    torch.manual_seed(0)
    backbone = I3DTwoStream(networks={"rgb": InceptionI3D(), "flow": InceptionI3D(in_channels=2)})
    peaks: dict[int, int] = {}

    def hook(step: str, *, completed: float, total: float | None) -> None:
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        for process in (os.getpid(), *map(int, children)):
            try:
                status = Path(f"/proc/{process}/status").read_text()
            except OSError:
                continue
            peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
            peaks[process] = max(peaks.get(process, 0), int(peak))

    windows = WindowConfig(fps=FPS, window_frames=WINDOW, stride_frames=100 * WINDOW)
    extract(path, backbone=backbone, windows=windows, flow=FlowConfig(params=QUICK), hook=hook)
    hook("end", completed=1, total=1)
    print(round(sum(peaks.values()) / 1024))


if __name__ == "__main__":
    main()
