"""The other files that tal-run takes from strangers: a sound one of each kind, how it is damaged, and what reads it.

Text is damaged as text and as JSON, archives and checkpoints also inside, with their sums made right again, so that damage is
met by what comes behind the first check.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from mutate import EXTREMES, MUTATIONS, mutated

BYTE_DAMAGE = (
    "truncate",
    "truncate_little",
    "behead",
    "flip_bits",
    "flip_header_bits",
    "overwrite",
    "delete",
    "extreme_number",
)
STRANGE_VALUES: tuple[Any, ...] = (
    *(None, True, False, "", " ", "x" * 100_000, "\ud800", "\x00", "=1+1", "../../x", -1, 0, 1.5, -0.0, 1e308, 1e-320),
    *(float("nan"), float("inf"), 10**30, 10**400, -(2**63), 2**64, [], {}, [[]], {"": {}}, [None] * 3, ["a", "a"], [1e9, 0]),
)
STRANGE_TEXT = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b",", b"\n", b"\r", b"\t", b"nan", b"inf", b"-1", b"1e999", b"9" * 5000),
    *("\u2028".encode(), b"'", b";", b"{", b"}", b"[" * 5000, b"\\ud800", b"=", b" ", b"video_id", b"score", b"Ambiguous"),
)


@dataclass
class Prepared:
    """Sound files, what reads them, and the damage that was done to them last."""

    files: dict[Path, bytes]
    read: Callable[[], object]
    reset: Callable[[], object] = lambda: None
    _changed: set[Path] = field(default_factory=set)

    def damage(self, rng: Random) -> list[str]:
        """Make the last damage good, and do another; what it is."""
        for path in self._changed or self.files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.files[path])
        self._changed = {path for path in self.files if rng.random() < 0.2} or {rng.choice(sorted(self.files))}
        self.reset()
        done = []
        for path in sorted(self._changed):
            content, what = damaged(self.files[path], path.suffix, rng)
            path.write_bytes(content)
            done.append(f"{path.name}: {what}")
        return done


def damaged(content: bytes, ending: str, rng: Random) -> tuple[bytes, str]:
    """A file with damage of its kind, and what that is."""
    if rng.random() < 0.3:
        data, names = mutated(content, rng)
        return data, "+".join(names)
    if ending == ".json":
        return _damaged_json(content, rng), "json"
    if ending == ".safetensors":
        return _damaged_safetensors(content, rng), "safetensors"
    if content.startswith(b"PK"):
        return _damaged_zip(content, rng), "inside"
    if ending in (".csv", ".txt", ".jsonl"):
        return _damaged_text(content, rng), "text"
    name = rng.choice(BYTE_DAMAGE)
    if rng.random() < 0.5:  # where the header is
        return MUTATIONS[name](content[:256], rng) + content[256:], f"head: {name}"
    return MUTATIONS[name](content, rng), name


def _damaged_text(content: bytes, rng: Random) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 5))):
        lines = content.split(b"\n")
        at = rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[rng.randrange(len(lines))])
            case 2:
                fields = lines[at].split(b",")
                fields[rng.randrange(len(fields))] = rng.choice(STRANGE_TEXT)
                lines[at] = b",".join(fields)
            case 3:
                place = rng.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:place] + rng.choice(STRANGE_TEXT) + lines[at][place:]
            case _:
                fields = lines[at].split()
                rng.shuffle(fields)
                lines[at] = b" ".join(fields)
        content = b"\n".join(lines)
    return content


def _damaged_json(content: bytes, rng: Random) -> bytes:
    try:
        document = json.loads(content)
    except ValueError:
        return _damaged_text(content, rng)
    if rng.random() < 0.05:
        depth = rng.choice((500, 100_000))
        return b'{"format": ' + b"[" * depth + b"]" * depth + b"}"
    for _ in range(rng.choice((1, 1, 2, 4))):
        document = _with_strange_value(document, rng)
    return json.dumps(document).encode()


def _with_strange_value(document: Any, rng: Random) -> Any:
    """Some value in a document, at any depth, is another, missing, or under another name."""
    if rng.random() < 0.02:
        return rng.choice(STRANGE_VALUES)
    node, parents = document, []
    while isinstance(node, (dict, list)) and node and (not parents or rng.random() < 0.85):
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        parents.append((node, key))
        node = node[key]
    if not parents:
        return rng.choice(STRANGE_VALUES)
    parent, key = parents[-1]
    match rng.randrange(4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice(("", "x", "__metadata__", f"{key} "))] = parent.pop(key)
        case 2 if isinstance(node, (int, float)) and not isinstance(node, bool):
            parent[key] = rng.choice((-node, node * 10**6, node + 1, node // 3, rng.choice(EXTREMES)))
        case _:
            parent[key] = rng.choice(STRANGE_VALUES)
    return document


def _damaged_safetensors(content: bytes, rng: Random) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    if rng.random() < 0.6 and header.get("__metadata__"):
        ((name, card),) = header["__metadata__"].items()
        header["__metadata__"][name] = _damaged_json(card.encode(), rng).decode(errors="replace")
    elif rng.random() < 0.5:
        header = _with_strange_value(header, rng)
    else:  # the numbers
        body = MUTATIONS[rng.choice(("overwrite", "flip_bits"))](body, rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def _damaged_zip(content: bytes, rng: Random) -> bytes:
    """An archive in which one member is damaged, or twice there, or packed; its sums are right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(file, "w") as output:
        names = archive.namelist()
        small = [name for name in names if archive.getinfo(name).file_size < 20_000]
        chosen = rng.choice(small or names)
        for name in names:
            data = archive.read(name)
            if name == chosen and data:
                data, _ = damaged(data, ".npy", rng)
                if rng.random() < 0.1:
                    continue
                if rng.random() < 0.1:
                    name = rng.choice(("../../x.npy", "/x.npy", "", "x", names[0]))
            kind = zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED
            output.writestr(zipfile.ZipInfo(name), data, kind)
    return file.getvalue()


def _prepared(folder: Path, read: Callable[[], object], reset: Callable[[], object] = lambda: None) -> Prepared:
    return Prepared({path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}, read, reset)


# ---- features ----


def _features(layout: str) -> Callable[[Path], Prepared]:
    def prepare(folder: Path) -> Prepared:
        from tal_run.extractors.feature_files import FeatureFolder
        from tal_run.extractors.feature_record import FeatureRecipe
        from tal_run.extractors.features import FeatureSequence
        from tal_run.extractors.timegrid import Sampling
        from tal_run.extractors.video import VideoInfo

        sampling = Sampling(fps=25, stride_frames=16, window_frames=16, offset_frames=8)
        recipe = FeatureRecipe(video_sha256="ab" * 32, backbone="i3d", weights={"rgb.pt": "cd" * 32}, sampling=sampling)
        info = VideoInfo(
            **{"path": Path("a.mp4"), "container": "mp4", "codec": "h264", "pixel_format": "yuv420p"},  # type: ignore[arg-type]
            **{"width": 64, "height": 48, "stored_size": (64, 48), "rotation_deg": 0, "pixel_aspect": Fraction(1)},  # type: ignore[arg-type]
            **{"duration_s": 5.0, "frame_count": 125, "frame_rate": 25.0, "is_variable_rate": False},  # type: ignore[arg-type]
            **{"has_reordering": False, "discarded_count": 0, "is_damaged": False},  # type: ignore[arg-type]
        )
        dice = np.random.default_rng(0)
        grid = sampling.grid(8, duration_s=5.0)
        made = FeatureFolder(folder, layout=layout)
        for name in ("a", "b"):
            features = FeatureSequence(
                data=dice.normal(size=(8, 6)).astype(np.float32),
                grid=grid,
                stream_dims=(("rgb", 4), ("flow", 2)),
                logits=dice.normal(size=(8, 3)).astype(np.float32),
                labels=("run", "jump", "throw"),
                video=info,
                decoder="pyav",
            )
            made.save(name, features, recipe)
        if made.layout.packs:
            made.pack(["a", "b"])

        def read() -> None:
            found = FeatureFolder(folder, layout=layout)
            names = found.video_ids
            for name in names:
                found.fault(name, recipe)
                found.read(name, sampling=None if found.has(name) else sampling)

        def read_without_records() -> None:
            for path in folder.rglob("*.json"):
                path.unlink()
            found = FeatureFolder(folder)
            for name in found.video_ids:
                found.read(name, sampling=sampling, duration_s=5.0)

        turns = itertools.cycle((read, read_without_records))
        prepared = _prepared(folder, lambda: next(turns)())
        prepared.reset = lambda: [path.write_bytes(content) for path, content in prepared.files.items()]
        return prepared

    return prepare


def _object_arrays(folder: Path) -> Prepared:
    """Objects of all the kinds that are read, as Python itself pickles them; they are never unpickled here."""
    from tal_run.extractors.object_arrays import read_object_array

    elements = np.empty(4, object)
    elements[:] = [np.ones((3, 2), np.float32), {"a": [1, 2.5, "x"], b"b": (None, True)}, {1, 2}, np.float64(1)]
    np.save(folder / "objects.npy", elements, allow_pickle=True)
    return _prepared(folder, lambda: read_object_array(folder / "objects.npy"))


# ---- weights and heads ----


def _head(name: str) -> Callable[[Path], Prepared]:
    def prepare(folder: Path) -> Prepared:
        from tal_run.extractors.features import FeatureNeeds, Features
        from tal_run.extractors.timegrid import TimeGrid
        from tal_run.models.head import TrainedHead, head_named, load_head, save_head
        from tal_run.pipeline.head_config import configured

        small = {
            "scnn": {"window_frames": "4,6,8,11", "step_frames": "1", "segment_steps": "4", "width": "8"},
            "ahernet": {"variant": "star", "length": "32", "moment_length": "16", "stem": "4,4", "widths": "4,4,4,4"},
            "autoloc": {"streams": "2"},
        }
        head = head_named(name)
        config = configured(head, small.get(name, {}))
        needs = FeatureNeeds(dim=6, streams=("rgb", "flow"), step_s=0.64, backbone="i3d")
        network = head.new_network(6, 3, config=config, seed=0).eval()
        trained = TrainedHead(head=head, config=config, network=network, labels=("run", "jump", "throw"), needs=needs)
        save_head(folder / "head.safetensors", trained)
        features = Features(
            data=np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32),
            grid=TimeGrid(step_s=0.64, window_s=0.64, count=24, duration_s=24 * 0.64),
            stream_dims=(("rgb", 4), ("flow", 2)),
        )
        return _prepared(folder, lambda: load_head(folder / "head.safetensors").localize(features))

    return prepare


def _starter(folder: Path) -> Prepared:
    from tal_run.extractors.starter import read_weights

    shipped = Path(__file__).parents[2] / "extractors" / "data" / "starter.safetensors"
    (folder / "starter.safetensors").write_bytes(shipped.read_bytes())
    return _prepared(folder, lambda: read_weights(folder / "starter.safetensors"))


def _checkpoint(folder: Path) -> Prepared:
    """A published checkpoint, a pickle, as PyTorch's restricted reader opens it."""
    import shutil

    import torch

    from tal_run.extractors.checkpoints import read_checkpoint
    from tal_run.extractors.weights import WeightsFile

    inside = folder / "weights"
    inside.mkdir()
    cache = folder / "cache"
    os.environ["TAL_RUN_WEIGHTS"], os.environ["TAL_RUN_CACHE"] = str(inside), str(cache)
    state = {"conv.weight": torch.ones(3, 4), "conv.bias": torch.zeros(3), "steps": torch.tensor(7)}
    torch.save({"state_dict": state, "epoch": 3}, inside / "net.pt")
    weights = WeightsFile(file_name="net.pt", url=None, licence="MIT", source="its authors")
    return _prepared(inside, lambda: read_checkpoint(weights), lambda: shutil.rmtree(cache, ignore_errors=True))


def _word_vectors(ending: str) -> Callable[[Path], Prepared]:
    def prepare(folder: Path) -> Prepared:
        from gensim.models import KeyedVectors

        from tal_run.pipeline.word_vectors import load_word_vectors

        table = KeyedVectors(4)
        table.add_vectors(["run", "jump", "throw"], np.arange(12, dtype=np.float32).reshape(3, 4))
        path = folder / f"vectors.{ending}"
        table.save_word2vec_format(str(path), binary=ending == "bin")
        return _prepared(folder, lambda: load_word_vectors(path))

    return prepare


# ---- annotations and detections ----


def _truth() -> Any:
    from tal_run.eval.annotations import GroundTruth, Instance, Stretch, VideoTruth

    videos = tuple(
        VideoTruth(
            video_id=name,
            subset="validation",
            duration_s=20.0,
            instances=(Instance(1.0, 2.5, name, "Run"), Instance(3.0, 9.0, name, "LongJump")),
            ambiguous=(Stretch(10.0, 11.0),),
        )
        for name in ("a", "b", "c")
    )
    return GroundTruth(videos=videos, version="1")


def _annotations(form: str) -> Callable[[Path], Prepared]:
    def prepare(folder: Path) -> Prepared:
        from tal_run.eval import annotations

        if form == "thumos":
            annotations.write_thumos(_truth(), folder)
            return _prepared(folder, lambda: annotations.read(folder))
        path = folder / f"truth.{form}"
        (annotations.write_csv if form == "csv" else annotations.write_activitynet)(_truth(), path)
        return _prepared(folder, lambda: annotations.read(path))

    return prepare


def _clips(folder: Path) -> Prepared:
    from tal_run.eval.annotations import TrimmedClip, read_clips, write_clips

    clips = [TrimmedClip(video_id=f"v{k}", subset="training", label="Run" if k else None, duration_s=2.0) for k in range(4)]
    write_clips(clips, folder / "trimmed.csv")
    return _prepared(folder, lambda: read_clips(folder / "trimmed.csv"))


def _multithumos(folder: Path) -> Prepared:
    from tal_run.eval.multithumos import read_multithumos

    document = {"a": {"subset": "training", "duration": 20.0, "actions": [[1, 2.0, 3.0], [22, 4.0, 5.0]]}}
    (folder / "multithumos.json").write_text(json.dumps(document))
    (folder / "class_ids_inferred.json").write_text('{"22": "Walk"}')
    return _prepared(folder, lambda: read_multithumos(folder / "multithumos.json"))


def _clip_lists(folder: Path) -> Prepared:
    from tal_run.eval.clip_lists import kinetics_clips, ucf101_clips

    (folder / "train.csv").write_text("label,youtube_id,time_start,time_end,split\nrun,abc,1,11,train\nrun,-de,2,12,train\n")
    (folder / "trainlist01.txt").write_text("Archery/v_Archery_g08_c01.avi 1\nRun/v_Run_g01_c01.avi 2\n")
    return _prepared(folder, lambda: (kinetics_clips(folder), ucf101_clips(folder)))


def _detections(form: str) -> Callable[[Path], Prepared]:
    def prepare(folder: Path) -> Prepared:
        from tal_run.eval import evaluate
        from tal_run.eval.detections import read_detections
        from tal_run.models import Detection
        from tal_run.pipeline.outputs import rendered

        found = {name: [Detection(1.0, 2.0, "Run", 0.9), Detection(3.5, 8.0, "LongJump", 0.25)] for name in ("a", "b")}
        path = folder / f"found.{form}"
        if form == "txt":
            path.write_text("a 1.0 2.0 Run 0.9\nb 3.5 8.0 LongJump 0.25\nb 1 2 7 0.1\n")
        else:
            path.write_text(rendered(form, found))
        truth = _truth()
        return _prepared(folder, lambda: evaluate(truth, read_detections(path), protocol="activitynet"))

    return prepare


READERS: dict[str, Callable[[Path], Prepared]] = {
    **{f"features-{layout}": _features(layout) for layout in ("tal-run", "actionformer", "opentad", "wtalc", "video_features")},
    "object-arrays": _object_arrays,
    **{f"head-{name}": _head(name) for name in ("wtalc", "wsad", "autoloc", "scnn", "ahernet", "actionbytes")},
    "starter-weights": _starter,
    "checkpoint": _checkpoint,
    **{f"word-vectors-{ending}": _word_vectors(ending) for ending in ("txt", "bin")},
    **{f"annotations-{form}": _annotations(form) for form in ("json", "csv", "thumos")},
    "clips": _clips,
    "multithumos": _multithumos,
    "clip-lists": _clip_lists,
    **{f"detections-{form}": _detections(form) for form in ("json", "jsonl", "csv", "txt")},
}
