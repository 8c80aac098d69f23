"""What is said of a training's size beforehand is what it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save  # noqa: E402

from tal_run.extractors.feature_files import FeatureFolder  # noqa: E402
from tal_run.models.head import HEADS, head_named  # noqa: E402
from tal_run.pipeline.head_config import configured  # noqa: E402
from tal_run.pipeline.tensor_files import KINDS, write_tensors  # noqa: E402
from tal_run.pipeline.training import TrainOptions, train, training_file  # noqa: E402
from tal_run.pipeline.training_data import TIMED, MomentSource, TrainingSet, read_training_set  # noqa: E402
from tal_run.pipeline.training_size import WIDTHS, TrainingSize, counted, sentence, shown, size_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

HEADER_BYTES = 60_000  # of names, configurations and labels
PEAK = """
import resource, sys, json
from pathlib import Path
from tal_run.extractors.feature_files import FeatureFolder
from tal_run.eval.annotations import read
from tal_run.models.head import head_named
from tal_run.pipeline.head_config import configured
from tal_run.pipeline.training import TrainOptions, train
from tal_run.pipeline.training_data import read_training_set

name, values, sizes = sys.argv[1], json.loads(sys.argv[2]), []
head = head_named(name)
data = read_training_set(read("truth.json"), FeatureFolder("features"), timed=name == "ahernet")
config = configured(head, values, iterations=2)
options = TrainOptions(save_every_s=0.0)
train("head.safetensors", head, data, config=config, options=options, began=lambda *told: sizes.append(told[3]))
# getrusage's peak is the parent's, where that was larger when it forked
peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([sizes[0].memory_bytes, 1024 * int(peak)]))
"""


class Killed(BaseException):
    """Stands in for a kill."""


@pytest.mark.parametrize("name", HEADS)
def test_files_are_as_large_as_was_said(name: str, lesson: ModuleType, tmp_path: Path) -> None:
    features, truth = lesson.made()
    folder, target, sizes = FeatureFolder(lesson.write_features(tmp_path / "f", features)), tmp_path / "h.safetensors", []
    source = MomentSource(classes=frozenset({"run"})) if name == "ahernet" else None
    data = read_training_set(truth, folder, timed=name in TIMED, source=source)
    head, changes = head_named(name), {"variant": "full", "stem": "64,64"} if name == "ahernet" else {}
    config = configured(head, lesson.texts(name, **changes), iterations=9, moment_classes=data.moment_classes)

    def hook(step: str, *, completed: float, total: float | None) -> None:
        if (step, completed) == ("training", 9):
            raise Killed

    def began(path: Path, config: Any, learnt: TrainingSet, size: TrainingSize) -> None:
        assert (path, learnt) == (target, data)
        sizes.append(size)

    with pytest.raises(Killed):  # AutoLoc's second part begins after the eighth
        train(target, head, data, config=config, options=TrainOptions(save_every_s=0.0), hook=hook, began=began)
    (size,) = sizes
    assert size.head_bytes <= target.stat().st_size <= size.head_bytes + HEADER_BYTES
    with safe_open(training_file(target), framework="pt") as file:
        there = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    assert sum(tensor.nbytes for key, tensor in there.items() if key.startswith("network.")) == size.head_bytes
    counters = (".step",)  # Adam's, a number a tensor
    kept = (tensor.nbytes for key, tensor in there.items() if key.startswith("optimizer.") and not key.endswith(counters))
    remembered = sum(kept)
    if head.mine:  # it learns some of it at a time
        assert 0.8 * (size.state_bytes - size.head_bytes) < remembered <= size.state_bytes - size.head_bytes
    else:
        assert remembered == size.state_bytes - size.head_bytes
    learnt = [key for key in there if key.startswith("network.")]
    assert 0 < size.weights <= sum(there[key].numel() for key in learnt)
    assert size.features_bytes == sum(video.features.nbytes for video in data.videos)


@pytest.mark.parametrize(
    ("name", "dim", "values"),
    [("wtalc", 8, {}), ("ahernet", 64, {"variant": "star", "stem": "1024,1024", "batch_size": "2"})],
)
def test_memory_is_what_was_said(name: str, dim: int, values: dict[str, str], lesson: ModuleType, tmp_path: Path) -> None:
    lesson.DIM = dim
    try:
        lesson.written(tmp_path)
    finally:
        lesson.DIM = 8
    command = [sys.executable, "-c", PEAK, name, json.dumps(values)]
    said, peak = json.loads(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout)
    assert 0.75 * peak < said < 1.25 * peak


def test_fewer_weights_are_those_that_are_recommended() -> None:
    assert sorted(WIDTHS) == sorted(HEADS)
    for name, fields in WIDTHS.items():
        head = head_named(name)
        sizes = []
        for part in (1, 2):
            values = {"stem": (64, 32), "widths": (16,) * 8, "latent_dim": 32} | {"channels": 64, "width": 32}
            halved = {
                field: ",".join(str(one // part) for one in (value if isinstance(value, tuple) else (value,)))
                for field, value in values.items()
                if field in fields
            }
            config = configured(head, halved)
            network = head.new_network(32, 3, config=config, seed=0)
            sizes.append(size_of(head, network, head.steps(network, config)).weights)
        assert sizes[1] < 0.7 * sizes[0] if fields else sizes[1] == sizes[0], name


def test_the_sentence_can_be_typed() -> None:
    head = head_named("ahernet")
    config = configured(head, {})
    mb = 10**6
    size = TrainingSize(
        weights=56 * mb, head_bytes=226 * mb, state_bytes=1150 * mb, features_bytes=mb, learning_bytes=1400 * mb
    )
    how: dict[str, Any] = {"dim": 256, "state": "a.training.safetensors", "save_every_s": 60.0}
    said = sentence(size, head, config, device="cpu", **how)
    assert said.startswith(
        "this takes some 2.4 GB of memory and what a batch takes, a disk for 226 MB and, until it is done, 1.1 GB "
    )
    assert (
        "(a.training.safetensors), written every 60 s (--save-every); half as wide, it takes less: --config stem=1024,512 "
        in said
    )
    given = dict(word.split("=") for word in said.split() if "=" in word)
    assert configured(head, given).widths == (128, 128, 256, 256, 512, 512, 1024, 1024)
    assert "this takes some 1.4 GB of memory on cuda:1, what a batch takes there, and 1.0 GB here" in sentence(
        size, head, config, device="cuda:1", **how
    )
    wtalc = head_named("wtalc")
    assert sentence(size, wtalc, configured(wtalc, {}), device="cpu", **how).endswith("; narrower features take less")
    many = TrainingSize(weights=9, head_bytes=36, state_bytes=108, features_bytes=5 * 10**9, learning_bytes=144)
    assert "5.0 GB of that are features: fewer videos" in sentence(many, wtalc, configured(wtalc, {}), device="cpu", **how)
    scnn = head_named("scnn")
    assert sentence(size, scnn, configured(scnn, {"trunk": "c3d"}), device="cpu", **how).endswith(
        "; --trunk starter takes less"
    )


def test_numbers_for_people() -> None:
    assert [shown(count) for count in (12, 266_000, 999_600_000, 1_150_000_000, 12_340_000_000)] == [
        *("1 kB", "266 kB", "1.0 GB", "1.1 GB", "12 GB"),
    ]
    assert [counted(count) for count in (91, 4_237_332, 56_621_976)] == ["91", "4,237,332", "56.6 million"]


def test_a_file_of_tensors_is_the_librarys_byte_for_byte(tmp_path: Path) -> None:
    tensors = {f"{kind}.{rows}": torch.ones(rows, 3).to(getattr(torch, kind)) for kind in KINDS for rows in (1, 2)}
    tensors |= {"none": torch.empty(0, 4), "one": torch.tensor(3.5), "ä/\n": torch.arange(6.0).reshape(2, 3).T}
    for metadata in ({"format 1": json.dumps({"a": ["é\n", 1.5]})}, {"x": ""}):
        write_tensors(tmp_path / "ours", tensors, metadata)
        assert (tmp_path / "ours").read_bytes() == save({name: one.contiguous() for name, one in tensors.items()}, metadata)


def test_a_state_that_cannot_be_written_is_a_sentence(lesson: ModuleType, tmp_path: Path) -> None:
    """The file may not grow beyond what it needs: as a disk that is full."""
    code = PEAK.replace("name, values", "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\nname, values", 1)
    lesson.written(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code, "wtalc", "{}"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert "OutputError: cannot write head.safetensors (File too large)" in done.stderr
    assert not list(tmp_path.glob(".tal-run-*.part"))
