"""How much sooner the published networks give their features than eager float32, in the same run, and how near they stay.

    python tests/benchmarks/backbones.py [--rounds 5] [--batch 1] [--threads N] [--device cpu] [--network NAME]...

Eager float32 is the network as its checkpoint's port runs it: batch norms apart, channels first, no bfloat16. Runs take turns,
and the ratio is the median over pairs. Weights and clips are random: only time and nearness are measured. The first run of
each, which plans its convolutions, does not count.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from tal_run.extractors.c3d import C3D
from tal_run.extractors.fast_inference import for_inference, has_bfloat16
from tal_run.extractors.hub_networks import HubNetwork
from tal_run.extractors.i3d import InceptionI3D
from tal_run.extractors.p3d import P3D199
from tal_run.extractors.recipes import HUB

# what each network takes: channels, frames, side
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "i3d": (InceptionI3D, (3, 16, 224)),
    "i3d, 64 frames": (InceptionI3D, (3, 64, 224)),
    "c3d": (C3D, (3, 16, 112)),
    "p3d": (P3D199, (3, 16, 160)),
    **{name: (partial(HubNetwork, name), (3, recipe.frames, recipe.side)) for name, recipe in HUB.items()},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", action="append", choices=NETWORKS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    precision = "bfloat16" if has_bfloat16(options.device) else "float32"
    print(f"torch {torch.__version__}, {options.device}, {options.threads} threads, batch {options.batch}; fast is {precision}")
    for name in options.network or NETWORKS:
        measure(name, rounds=options.rounds, batch=options.batch, device=options.device)


def measure(name: str, *, rounds: int, batch: int, device: str) -> None:
    torch.manual_seed(0)
    make, (channels, frames, side) = NETWORKS[name]
    clips = torch.rand(batch, channels, frames, side, side, device=device) * 2 - 1
    eager = lively(make()).to(device)
    ways = {
        "eager float32": eager,
        "fast float32": for_inference(eager, precision="float32", device=device),
        "fast": for_inference(eager, device=device),
    }
    features, seconds = {}, {way: [] for way in ways}
    with torch.inference_mode():
        for way, network in ways.items():
            features[way] = network.features(clips)
        for _ in range(rounds):
            for way, network in ways.items():
                seconds[way].append(timed(network, clips))
    for way, network_s in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(seconds["eager float32"], network_s, strict=True))
        near = torch.nn.functional.cosine_similarity(features[way], features["eager float32"]).min().item()
        print(
            f"{name:15s} {way:14s} {1000 * statistics.median(network_s) / batch:7.1f} ms a clip, {ratio:5.2f} x as fast, "
            f"cosine {near:.6f}"
        )


def lively(network: nn.Module) -> nn.Module:
    """Weights under which no layer dies out and, as in a trained residual network, no block drowns what goes past it."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, *((0.1, 0.3) if "expand" in name or "conv_c" in name else (0.8, 1.2)))
    return network.eval()


def timed(network: nn.Module, clips: Tensor) -> float:
    start = time.perf_counter()
    network.features(clips)
    if clips.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
