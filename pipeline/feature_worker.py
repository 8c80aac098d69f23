"""A process a device that makes features of one video after the other (``workers.py``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tal_run.extractors import create_backbone
from tal_run.extractors.backbone import BackboneOptions, WindowConfig
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.flow import TVL1Params
from tal_run.extractors.two_streams import FlowConfig
from tal_run.pipeline.feature_batch import FeatureBatch
from tal_run.pipeline.workers import JSONObject, Worker, serve

MODULE = "tal_run.pipeline.feature_worker"


def workers(
    devices: Iterable[str],
    *,
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
    """A worker a device, each told all that ``FeatureBatch`` is made of, as JSON holds it."""
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
        Worker(MODULE, {**how, "options": asdict(replace(options or BackboneOptions(), device=device))}) for device in devices
    ]


def begin(how: Mapping[str, Any]) -> Callable[[JSONObject], JSONObject]:
    """Load the network; then make each video's features, and say so in a line."""
    flow = how["flow"]
    batch = FeatureBatch(
        FeatureFolder(Path(how["folder"]), layout=how["layout"]),
        backbone=create_backbone(how["backbone"], options=BackboneOptions(**how["options"])),
        windows=how["windows"] and WindowConfig(**how["windows"]),
        decoder=how["decoder"],
        flow=FlowConfig(backend=flow["backend"], params=TVL1Params(**flow["params"]), jpeg=flow["jpeg"]),
        again=how["again"],
        inputs=how["inputs"],
    )

    def made(task: JSONObject) -> JSONObject:
        return asdict(batch.make(task["video"], task["video_id"]))

    return made


if __name__ == "__main__":
    serve(begin)
