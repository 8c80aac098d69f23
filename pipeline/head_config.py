"""A head's configuration, from texts of a command line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_origin, get_type_hints

from tal_run.extractors.wire import printable
from tal_run.models.head import Head, _from_json
from tal_run.pipeline.training_data import TrainingError

LARGEST_BATCH = 100_000  # videos; each takes memory
# what a number can be, by the ending of its name, where methods have it in common
USUAL: dict[str, tuple[Callable[[float], bool], str]] = {
    "learning_rate": (lambda value: value >= 0, "give a rate of 0 or more, such as 0.0001"),
    "weight_decay": (lambda value: value >= 0, "give 0 or more"),
    "momentum": (lambda value: 0 <= value < 1, "give 0 or more, below 1"),
    "max_snippets": (lambda value: value >= 1, "give 1 or more, or none for whole videos"),
    "batch_size": (lambda value: 1 <= value <= LARGEST_BATCH, f"give 1 to {LARGEST_BATCH:,}"),
}


def configured(
    head: Head[Any],
    values: Mapping[str, str],
    *,
    iterations: int | None = None,
    streams: int | None = None,
    moment_classes: Sequence[int] = (),
) -> Any:
    """A head's configuration: what the paper has, but for what is given.

    Args:
        head: the method.
        values: texts by the names of the configuration's fields; tuples with commas, ``none`` for None.
        iterations: of the training; a method in several parts shares them out as it does by default.
        streams: of the features; what a method that treats them apart takes if ``values`` says nothing else.
        moment_classes: of which there are moments; likewise.

    Raises:
        TrainingError: there is no such field, or it cannot have that value.
    """
    known = {entry.name for entry in fields(head.config)}
    if values.get("trunk", "rows") != "rows" and head.name == "scnn":  # on frames
        values = {"step_frames": "1", "iterations": "90000", **values}
    usual: dict[str, Any] = {"streams": streams, "moment_classes": tuple(moment_classes)}
    changes = {name: value for name, value in usual.items() if value and name in known}
    changes |= parsed(head, values)

    def made(changes: Mapping[str, Any]) -> Any:
        config = head.config(**changes)
        return config if iterations is None else replace(config, **_shared_out(config, iterations))

    try:
        config = made(changes)
    except ValueError as error:
        raise TrainingError(f"{head.name} cannot be configured {what_is_wrong(made, changes, error)}") from error
    if config.iterations < 1:
        raise TrainingError(f"{head.name} is to learn for {config.iterations} iterations: give it one at least")
    _check_usual(head.name, config)
    return config


def what_is_wrong(made: Callable[[Mapping[str, Any]], Any], changes: Mapping[str, Any], error: ValueError) -> str:
    """Which of some changes to a configuration it refuses, and its words for it, without the configuration itself.

    Args:
        made: makes the configuration with some of the changes.
        changes: values by name, with all of which it raised ...
        error: ... this.
    """
    guilty = dict(changes)
    for name in changes:
        fewer = {other: value for other, value in guilty.items() if other != name}
        try:
            made(fewer)
        except ValueError as again:
            if _rule(again) == _rule(error):  # it is refused for that without this one, too
                guilty = fewer
    values = ", ".join(f"{name}={_shown(value)}" for name, value in guilty.items())
    return f"{f'with {values}' if values else 'so'}: {_without_whole(str(error))}"


def _rule(error: ValueError) -> str:
    return str(error).partition(", got ")[0]


def _without_whole(text: str) -> str:
    """A sentence without the configuration at its end, ``..., got WSADConfig(...)``."""
    return re.sub(r", got \w+\(.*\)$", "", text, flags=re.DOTALL)


def _shown(value: Any) -> str:
    return printable(",".join(map(str, value)) if isinstance(value, tuple) else str(value))


def _check_usual(name: str, config: Any) -> None:
    """Refuse what no method can learn with. Raises TrainingError."""
    for entry in fields(config):
        value = getattr(config, entry.name)
        for ending, (possible, cure) in USUAL.items():
            if entry.name.endswith(ending) and isinstance(value, int | float) and not possible(value):
                raise TrainingError(f"{name}'s {entry.name} cannot be {value:g}: {cure}")


def parsed(head: Head[Any], values: Mapping[str, str]) -> dict[str, Any]:
    """Texts by the names of a configuration's fields, as values of these. Raises TrainingError: as ``configured``."""
    hints = get_type_hints(head.config)
    known = {entry.name for entry in fields(head.config)}
    changes = {}
    for name, text in values.items():
        if name not in known:
            raise TrainingError(
                f"{head.name} has no {printable(name)!r} to configure: choose one of {', '.join(sorted(known))}"
            )
        changes[name] = _parsed(hints[name], text, f"{head.name}'s {name}")
    return changes


def _shared_out(config: Any, iterations: int) -> dict[str, int]:
    if "iterations" in {entry.name for entry in fields(config)}:
        return {"iterations": iterations}
    parts = {entry.name: getattr(config, entry.name) for entry in fields(config) if entry.name.endswith("_iterations")}
    whole, changes = sum(parts.values()), {}
    for name, part in parts.items():  # what is rounded goes to the next
        changes[name] = round(iterations * part / max(1, whole))
        iterations, whole = iterations - changes[name], whole - part
    return changes


def _parsed(kind: Any, text: str, what: str) -> Any:
    """A text as a value of that type."""

    def one(part: str) -> Any:
        try:
            return None if part.lower() == "none" else json.loads(part, parse_constant=str)
        except (ValueError, RecursionError):
            return part

    many = [one(part.strip()) for part in text.strip("()").split(",") if part.strip()]
    for value in (many,) if get_origin(kind) is tuple else (text, one(text)):
        try:
            parsed = _from_json(kind, value)
        except (TypeError, ValueError, OverflowError):
            continue
        if not isinstance(parsed, float) or math.isfinite(parsed):
            return parsed
    expected = getattr(kind, "__name__", str(kind)) if isinstance(kind, type) else str(kind).replace("typing.", "")
    raise TrainingError(f"{what} cannot be {printable(text)!r}: it is {expected}")
