"""Processes that make features of one video after the other (``workers.py``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from tal_run.extractors import create_backbone
from tal_run.extractors.backbone import BackboneOptions, WindowConfig
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.flow import TVL1Params
from tal_run.extractors.hooks import Hook
from tal_run.extractors.two_streams import FlowConfig
from tal_run.pipeline.feature_batch import FeatureBatch
from tal_run.pipeline.workers import Answer, JSONObject, Limits, Worker, serve

MODULE = "tal_run.pipeline.feature_worker"


def workers(
    devices: Iterable[str],
    *,
    limits: Limits | None = None,
    threads: int | None = None,
    folder: Path,
    layout: str,
    backbone: str,
    options: BackboneOptions | None,
    windows: WindowConfig | None,
    decoder: str,
    flow: FlowConfig,
    again: bool,
    inputs: list[str],
) -> list[Worker]:
    """A worker for each of the devices, told all that ``FeatureBatch`` is made of, as JSON holds it."""
    how = {
        "folder": str(folder),
        "layout": layout,
        "backbone": backbone,
        "windows": windows and asdict(windows),
        "decoder": decoder,
        "flow": asdict(flow),
        "again": again,
        "inputs": inputs,
    }
    return [
        Worker(
            MODULE,
            {**how, "options": asdict(replace(options or BackboneOptions(), device=device))},
            limits=limits,
            threads=threads,
        )
        for device in devices
    ]


def begin(how: JSONObject, hook: Hook) -> tuple[JSONObject, Answer]:
    """Load the network; then make each video's features, and say so in a line."""
    flow = how["flow"]
    maker = FeatureBatch(
        FeatureFolder(Path(how["folder"]), layout=how["layout"]),
        backbone=create_backbone(how["backbone"], options=BackboneOptions(**how["options"]), hook=hook),
        windows=how["windows"] and WindowConfig(**how["windows"]),
        decoder=how["decoder"],
        flow=FlowConfig(backend=flow["backend"], params=TVL1Params(**flow["params"]), jpeg=flow["jpeg"]),
        again=how["again"],
        inputs=how["inputs"],
    )

    def made(task: JSONObject, hook: Hook) -> JSONObject:
        return asdict(maker.make(task["video"], task["video_id"], hook=hook))

    return {}, made


if __name__ == "__main__":
    serve(begin)
