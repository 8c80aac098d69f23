"""What this machine has of what tal-run needs, and, for what is missing, the cure.

Each check gives one ``Finding``: good, worth knowing, or wrong. What can be tried is tried, on the video that comes with
tal-run, and how long it took stands beside it; nothing is downloaded and nothing but a trial file is written.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.hooks import Hook, ignore_progress

STEP = "looking around"
PACKAGES = (
    "torch",
    "numpy",
    "av",
    "decord",
    "opencv-contrib-python-headless",
    "numba",
    "ai-edge-litert",
    "pytorchvideo",
    "gensim",
    "safetensors",
)
LEAST_FREE = 1 << 30  # bytes, below which features of a data set will not fit
FLOW_SIDE = (340, 256)  # width and height at which the field computes flow

State = Literal["good", "note", "wrong"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: which.
        state: good; note: tal-run works, and something could be better; wrong: something does not work.
        found: what it is like.
        cure: what to do about it; empty where nothing has to be done.
    """

    what: str
    state: State
    found: str
    cure: str = ""


def examine(*, hook: Hook = ignore_progress) -> Iterator[Finding]:
    """Look at everything, one finding after the other."""
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("machine", _machine),
        ("packages", _packages),
        ("torch", _torch),
        ("decoding", _decoding),
        ("optical flow", _flow),
        ("weights", _weights),
        ("watching", _watching),
        ("cache", _cache),
    )
    for number, (name, check) in enumerate(checks):
        hook(STEP, completed=number, total=len(checks))
        try:
            yield from check()
        except TalRunError as error:
            yield Finding(what=name, state="wrong", found=str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other checks go on
            yield Finding(
                what=name,
                state="wrong",
                found=f"{type(error).__name__}: {error}",
                cure="install tal-run anew in a fresh environment",
            )
    hook(STEP, completed=len(checks), total=len(checks))


def sample() -> Path:
    """The video that comes with tal-run."""
    return Path(str(resources.files("tal_run.pipeline") / "data" / "athletics.mp4"))


def _machine() -> Iterator[Finding]:
    from tal_run.extractors.flow import usable_cores

    yield Finding(what="tal-run", state="good", found=f"{metadata.version('tal-run')}, Python {platform.python_version()}")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    found = f"{platform.system()} {platform.machine()}, {usable_cores()} cores, {pages / 2**30:.0f} GiB of memory"
    if sys.platform == "linux":
        yield Finding(what="machine", state="good", found=found)
    else:
        yield Finding(what="machine", state="note", found=found, cure="tal-run is made and tested on Linux: expect rough edges")


def _packages() -> Iterator[Finding]:
    there, missing = [], []
    for name in PACKAGES:
        try:
            there.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    without = {
        "decord": "PyAV decodes alone, more slowly",
        "ai-edge-litert": "movinet-a0-stream cannot run",
        "opencv-contrib-python-headless": "",
    }
    if "opencv-contrib-python-headless" in missing and _has_module("cv2"):
        missing.remove("opencv-contrib-python-headless")  # a build of its own
        there.append("OpenCV, not from the registry")
    yield Finding(what="packages", state="good", found=", ".join(there))
    for name in missing:
        known = without.get(name)
        found = f"{name} is not installed" + (f": {known}" if known else "")
        yield Finding(what="packages", state="note" if known else "wrong", found=found, cure=f"pip install {name}")


def _has_module(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def _torch() -> Iterator[Finding]:
    import torch

    from tal_run.extractors.fast_inference import resolved_precision

    precision = resolved_precision("auto")
    yield Finding(what="torch, CPU", state="good", found=f"{torch.get_num_threads()} threads, networks compute in {precision}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            yield Finding(what=f"torch, cuda:{index}", state="good", found=f"{card.name}, {card.total_memory / 2**30:.0f} GiB")
    elif Path("/proc/driver/nvidia").exists():
        yield Finding(
            what="torch, CUDA",
            state="note",
            found=f"there is an NVIDIA driver, and torch {torch.__version__} does not see a GPU",
            cure="install a CUDA build of torch that fits the driver (nvidia-smi says which CUDA it has)",
        )
    else:
        yield Finding(what="torch, CUDA", state="good", found="no GPU here; all runs on the CPU")


def _decoding() -> Iterator[Finding]:
    from tal_run.extractors.video import open_video

    for decoder in ("decord", "pyav"):
        if decoder == "decord" and not _has_module("decord"):
            continue  # said already
        began_s = time.perf_counter()
        try:
            with open_video(sample(), decoder=decoder) as video:
                frames = sum(len(chunk.frames) for chunk in video.frames(fps=25))
        except TalRunError as error:
            yield Finding(
                what=f"decoder {decoder}",
                state="wrong",
                found=str(error),
                cure=f"pip install --force-reinstall {decoder.replace('py', '')}",
            )
            continue
        rate = frames / (time.perf_counter() - began_s)
        yield Finding(what=f"decoder {decoder}", state="good", found=f"{rate:,.0f} frames a second (320 x 240, H.264)")


def _flow() -> Iterator[Finding]:
    from tal_run.extractors.flow import BACKENDS, TVL1Params, best_backend, tvl1_flow

    pair = _pair()
    for name in BACKENDS:
        try:
            tvl1_flow(pair, backend=name)  # compiled, where it is
            began_s = time.perf_counter()
            tvl1_flow(pair, backend=name)
        except TalRunError as error:
            cure = "make opencv-cuda, on a machine with an NVIDIA GPU" if name == "opencv-cuda" else ""
            yield Finding(what=f"flow {name}", state="note", found=str(error), cure=cure)
            continue
        yield Finding(
            what=f"flow {name}",
            state="good",
            found=f"{time.perf_counter() - began_s:.2f} s a pair ({FLOW_SIDE[0]} x {FLOW_SIDE[1]})",
        )
    yield Finding(what="flow auto", state="good", found=best_backend("auto", params=TVL1Params(), device="cpu"))


def _pair() -> NDArray[np.uint8]:
    """Two frames of the sample in grey [2, H, W]."""
    import cv2

    from tal_run.extractors.video import open_video

    with open_video(sample()) as video:
        frames = next(video.frames(fps=25)).frames[:2]
    grey = [cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), FLOW_SIDE) for frame in frames]
    return np.stack(grey).astype(np.uint8)


def _weights() -> Iterator[Finding]:
    from tal_run.extractors.registry import AUTO, EXTRACTORS, resolve, stronger
    from tal_run.extractors.weights import SEARCH_VARIABLE, search_folders, state_of

    here = [name for name, backbone in EXTRACTORS.items() if all(state_of(file).path for file in backbone.files)]
    better = stronger(resolve(AUTO))
    cure = f"tal-run weights pull {better}" if better else ""
    yield Finding(
        what="weights",
        state="note" if better else "good",
        found=f"here: {', '.join(here)}; auto takes {resolve(AUTO)}",
        cure=cure,
    )
    for file in dict.fromkeys(file for backbone in EXTRACTORS.values() for file in backbone.files):
        for path, fault in state_of(file).impostors:
            yield Finding(
                what="weights", state="wrong", found=f"{path}: {fault}", cure="remove it, or put the right file there"
            )
    for folder in search_folders():
        if not folder.is_dir():
            yield Finding(
                what="weights", state="wrong", found=f"{SEARCH_VARIABLE} names {folder}, which is no folder", cure="correct it"
            )


def _watching() -> Iterator[Finding]:
    from tal_run.pipeline.detector import DetectConfig, Detector

    detector = Detector(DetectConfig())
    began_s = time.perf_counter()
    watched = detector.watch(sample())
    taken_s = time.perf_counter() - began_s
    speed = f"{watched.grid.duration_s / taken_s:.0f} times real time" if taken_s else "at once"
    yield Finding(
        what="watching", state="good", found=f"{detector.backbone.name}: {speed} (a video of {watched.grid.duration_s:.0f} s)"
    )


def _cache() -> Iterator[Finding]:
    from tal_run.extractors.weights import cache_folder

    folder = cache_folder()
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(nearest).free
    found = f"{folder}, {free / 2**30:.0f} GiB free"
    if not os.access(nearest, os.W_OK):
        yield Finding(
            what="cache", state="wrong", found=f"{found}, not writable", cure="let TAL_RUN_CACHE name a folder that is"
        )
    elif free < LEAST_FREE:
        yield Finding(
            what="cache", state="wrong", found=found, cure="free some space there, or let TAL_RUN_CACHE name another disk"
        )
    else:
        yield Finding(what="cache", state="good", found=found)
