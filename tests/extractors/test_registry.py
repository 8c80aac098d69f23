"""Which backbone ``auto`` takes: the strongest one whose weights are on this machine, and never one to download."""

from __future__ import annotations

from pathlib import Path

import pytest

from tal_run.extractors import registry, weights
from tal_run.extractors.backbone import BackboneError
from tal_run.extractors.weights import WeightsFile, sha256_of


class _Stand:
    """As much of a backbone as the registry looks at."""

    def __init__(self, *contents: WeightsFile) -> None:
        self.files = contents


def _file(folder: Path, name: str, content: bytes, *, is_there: bool) -> WeightsFile:
    path = folder / name
    path.write_bytes(content)
    file = WeightsFile(file_name=name, url=f"http://localhost:1/{name}", sha256=sha256_of(path), size_bytes=1, licence="none")
    if not is_there:
        path.unlink()
    return file


def only(monkeypatch: pytest.MonkeyPatch, big: _Stand) -> None:
    """Let there be a big backbone, and one that needs nothing."""
    monkeypatch.setattr(registry, "EXTRACTORS", {"big": big, "own": _Stand()})
    monkeypatch.setattr(registry, "STRENGTH", ("big", "own"))
    monkeypatch.setattr(registry, "RECOMMENDED", "big")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(weights.SEARCH_VARIABLE, str(tmp_path))
    monkeypatch.setenv("TAL_RUN_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(
    ("big_is_there", "labels_are_there", "taken"), [(True, True, "big"), (True, False, "own"), (False, True, "own")]
)
def test_auto_takes_the_strongest_whose_every_file_is_at_hand(
    big_is_there: bool, labels_are_there: bool, taken: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = _file(folder, "big.bin", b"big", is_there=big_is_there)
    labels = _file(folder, "labels.txt", b"labels", is_there=labels_are_there)
    only(monkeypatch, _Stand(big, labels))
    assert registry.resolve("auto") == taken
    assert registry.stronger(taken) == (None if taken == "big" else "big")
    assert registry.resolve("big") == "big"  # who names it gets it, by download if need be


def test_a_file_with_the_right_name_and_other_content_is_not_at_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = _file(folder, "big.bin", b"big", is_there=True)
    (folder / "big.bin").write_bytes(b"cut short")
    only(monkeypatch, _Stand(big))
    assert registry.resolve("auto") == "own"


def test_auto_passes_over_what_has_its_weights_and_not_its_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = _file(folder, "big.bin", b"big", is_there=True)
    only(monkeypatch, _Stand(big))
    monkeypatch.setattr(registry, "PACKAGES", {"big": "big_package"})
    assert registry.resolve("auto") == "own"
    monkeypatch.setattr(registry, "PACKAGES", {"big": "json"})
    assert registry.resolve("auto") == "big"


@pytest.mark.parametrize("variable", [weights.SEARCH_VARIABLE, "TAL_RUN_CACHE"])
def test_auto_needs_no_folder_that_can_be_looked_into(variable: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/" + "x" * 300)
    big = _file(folder, "big.bin", b"big", is_there=False)
    only(monkeypatch, _Stand(big))
    assert registry.resolve("auto") == "own"


def test_every_package_belongs_to_a_backbone() -> None:
    assert set(registry.PACKAGES) < set(registry.EXTRACTORS)


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(BackboneError, match=r"'resnet': choose one of auto, i3d, i3d-rgb, .*, starter$"):
        registry.resolve("resnet")


def test_auto_ends_with_a_backbone_that_needs_no_file_and_names_what_it_sees() -> None:
    assert registry.EXTRACTORS[registry.STRENGTH[-1]].files == ()
    assert all(registry.EXTRACTORS[name].has_labels for name in registry.STRENGTH)


@pytest.mark.parametrize(
    ("name", "better"), [("starter", "movinet-a0-stream"), ("movinet-a0-stream", None), ("i3d", None), ("c3d", None)]
)
def test_only_who_has_a_weaker_one_is_told_of_the_recommended_one(name: str, better: str | None) -> None:
    assert registry.stronger(name) == better
