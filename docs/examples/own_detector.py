"""From a video to a detector of one's own, in Python: everything that `tal-run` does can be had piece by piece.

Needs nothing but tal-run; takes seconds. Run it with a folder to write to: python docs/examples/own_detector.py out/example
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

import numpy as np

from tal_run.eval import evaluate
from tal_run.eval.annotations import GroundTruth, Instance, VideoTruth, write_activitynet
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.extractors.timegrid import Sampling
from tal_run.models import Detection
from tal_run.models.head import head_named, load_head
from tal_run.pipeline import DetectConfig, Detector
from tal_run.pipeline.outputs import write
from tal_run.pipeline.report import ReportVideo, rendered
from tal_run.pipeline.training import TrainOptions, train
from tal_run.pipeline.training_data import read_training_set

# One row of features a half second. Those of other tools say no more of time than that: this is what you tell tal-run.
SAMPLING = Sampling(fps=30, stride_frames=15, window_frames=15)
LABELS = ("chop", "pour", "stir")


def watch_a_video(video: Path, target: Path) -> None:
    """A network that comes with tal-run looks at a video once; then ask it what you like, and look at the answer."""
    detector = Detector(DetectConfig(backbone="starter"))
    features = detector.watch(video)  # the slow part
    print(f"features: {features.data.shape[0]} windows of {features.data.shape[1]} numbers, {features.grid.step_s:.2f} s apart")
    found = detector.find(features, detector.match(["long jump", "jumping jacks"]))
    for action in found:
        print(f"{action.start_s:5.1f} to {action.end_s:5.1f} s  {action.label} ({action.score:.2f})")
    page = ReportVideo(name="athletics", path=video, duration_s=features.grid.duration_s, detections=found)
    write(target, rendered([page], beside=target, backbone="starter"))


def make_features(folder: Path, *, videos: int, seed: int) -> GroundTruth:
    """Features as another tool may have left them, and annotations: in each video one action or two, each in two channels."""
    dice, truths = np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(videos):
        name, data = f"kitchen{index:02}", dice.normal(0, 0.1, (32, 8))
        instances = []
        for number, start in enumerate(dice.permutation([3, 18])[: 1 + index % 2]):
            label, length = (index + number) % len(LABELS), int(dice.integers(6, 12))
            data[start : start + length, [label, label + 4]] += 1
            instances.append(Instance(start * 0.5, (start + length) * 0.5, name, LABELS[label]))
        np.save(folder / f"{name}.npy", np.maximum(data, 0).astype(np.float32))
        subset = "testing" if index % 4 == 3 else "training"
        truths.append(VideoTruth(video_id=name, subset=subset, duration_s=16.0, instances=tuple(instances)))
    return GroundTruth(videos=tuple(truths))


def train_and_evaluate(folder: Path) -> float:
    """W-TALC learns from labels alone; what it finds in videos that it has not seen is compared with the truth."""
    truth = make_features(folder / "features", videos=36, seed=0)
    write_activitynet(truth, folder / "truth.json")
    features = FeatureFolder(folder / "features")

    head = head_named("wtalc")
    data = read_training_set(truth.subset("training"), features, timed=False, sampling=SAMPLING)
    config = head.config(iterations=100, learning_rate=1e-2, dropout=0.1)  # the paper's numbers are for THUMOS14
    train(folder / "kitchen.safetensors", head, data, config=config, options=TrainOptions(seed=0))

    trained = load_head(folder / "kitchen.safetensors")
    found: dict[str, list[Detection]] = {}
    for video in truth.subset("testing").videos:
        found[video.video_id] = trained.localize(features.read(video.video_id, sampling=SAMPLING))
    result = evaluate(truth, found, protocol="activitynet", subset="testing", tiou_thresholds=[0.5])
    print(f"mAP at tIoU 0.5 in {len(found)} videos that it has not seen: {100 * result.map[0.5]:.1f} %")
    return result.map[0.5]


def main(folder: Path) -> None:
    """Do both."""
    folder.mkdir(parents=True, exist_ok=True)
    with resources.as_file(resources.files("tal_run.pipeline") / "data" / "athletics.mp4") as video:
        watch_a_video(video, folder / "athletics.html")
    train_and_evaluate(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/example"))
