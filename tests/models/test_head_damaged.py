"""What `make fuzz` found in trained heads, made small."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tal_run.extractors.features import FeatureNeeds, Features  # noqa: E402
from tal_run.extractors.timegrid import TimeGrid  # noqa: E402
from tal_run.models.head import FORMAT, HeadError, TrainedHead, head_named, load_head, save_head  # noqa: E402

DIM, LABELS = 6, ("run", "jump", "throw")
FEATURES = Features(
    data=np.random.default_rng(0).normal(size=(24, DIM)).astype(np.float32),
    grid=TimeGrid(step_s=0.64, window_s=0.64, count=24, duration_s=24 * 0.64),
    stream_dims=(("rgb", 4), ("flow", 2)),
)


@pytest.fixture(params=["wtalc", "wsad", "autoloc"])
def trained(request: pytest.FixtureRequest) -> TrainedHead:
    head = head_named(request.param)
    config = head.config(streams=2) if request.param == "autoloc" else head.config()
    network = head.new_network(DIM, len(LABELS), config=config, seed=0).eval()
    needs = FeatureNeeds(dim=DIM, streams=("rgb", "flow"), step_s=0.64, backbone="i3d")
    return TrainedHead(head=head, config=config, network=network, labels=LABELS, needs=needs)


def test_weights_that_make_infinite_numbers_are_a_sentence(trained: TrainedHead, tmp_path: Path) -> None:
    """They are finite themselves, so nothing is wrong with the file: "a detection needs ... a finite score"."""
    assert isinstance(trained.localize(FEATURES), list)
    for tensor in trained.network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.sign(tensor) * 3e38)
    save_head(tmp_path / "head.safetensors", trained)
    with pytest.raises(HeadError, match="of finite features, so its weights are damaged: fetch its file again"):
        load_head(tmp_path / "head.safetensors").localize(FEATURES)


def with_card(path: Path, change: Any) -> None:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    card = json.loads(header["__metadata__"][FORMAT])
    change(card)
    header["__metadata__"][FORMAT] = json.dumps(card)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_a_number_that_no_float_holds_is_a_damaged_head(trained: TrainedHead, tmp_path: Path) -> None:
    """ "OverflowError: int too large to convert to float"."""
    path = tmp_path / "head.safetensors"
    save_head(path, replace(trained))
    with_card(path, lambda card: card["needs"].update(step_s=10**400))
    with pytest.raises(HeadError, match="holds a damaged head"):
        load_head(path)


def test_a_count_that_nothing_has_is_a_damaged_head(tmp_path: Path) -> None:
    """ "ValueError: Overflow when unpacking long long", when the head was used."""
    head = head_named("autoloc")
    config = head.config()
    network = head.new_network(DIM, len(LABELS), config=config, seed=0).eval()
    path = tmp_path / "head.safetensors"
    save_head(path, TrainedHead(head=head, config=config, network=network, labels=LABELS, needs=FeatureNeeds(dim=DIM)))
    with_card(path, lambda card: card["config"]["anchors"].__setitem__(0, 10**30))
    with pytest.raises(HeadError, match="more than anything counts"):
        load_head(path)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_none_is_a_damaged_head(number: float, tmp_path: Path) -> None:
    """Scores were NaN, and the sentence was about the file that they went to."""
    head = head_named("wtalc")
    config = head.config()
    network = head.new_network(DIM, len(LABELS), config=config, seed=0).eval()
    path = tmp_path / "head.safetensors"
    save_head(path, TrainedHead(head=head, config=config, network=network, labels=LABELS, needs=FeatureNeeds(dim=DIM)))
    with_card(path, lambda card: card["config"].update(confidence_weight=number))
    with pytest.raises(HeadError, match=r"(nan|inf) is no number"):
        load_head(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "field"), [("ahernet", "transfer_layers"), ("ahernet", "moment_length"), ("autoloc", "streams")]
)
def test_layers_without_end_are_not_begun(name: str, field: str, tmp_path: Path) -> None:
    """A head with 10^30 layers was put together layer by layer; with moments of 16,000,000 cells, a video took minutes."""
    head = head_named(name)
    small = {"variant": "star", "length": 32, "moment_length": 16, "stem": (4, 4), "widths": (4, 4, 4, 4)}
    config = head.config(**(small if name == "ahernet" else {}))
    network = head.new_network(DIM, len(LABELS), config=config, seed=0).eval()
    path = tmp_path / "head.safetensors"
    save_head(path, TrainedHead(head=head, config=config, network=network, labels=LABELS, needs=FeatureNeeds(dim=DIM)))
    with_card(path, lambda card: card["config"].update({field: 2**31}))
    with pytest.raises(HeadError, match=f"{field} must be at most"):
        load_head(path)
