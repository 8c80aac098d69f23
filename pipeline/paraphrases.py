"""Other words for action classes, by which people ask for them ("using segway": "electric two wheeled scooter").

``data/paraphrases.tsv``: a line a class, its name, a tab, and phrases between `` | ``. Written by hand without sight of any
query that the matching is measured with; origin and effect in ``data/README.md``.
"""

from __future__ import annotations

import functools
import re
from importlib import resources


def paraphrases(label: str) -> tuple[str, ...]:
    """What else a class is called (case, spaces and CamelCase do not matter); nothing if the table does not know it."""
    return _table().get(_key(label), ())


@functools.cache
def _table() -> dict[str, tuple[str, ...]]:
    text = resources.files("tal_run.pipeline").joinpath("data/paraphrases.tsv").read_text(encoding="utf-8")
    lines = (line.split("\t") for line in text.splitlines())
    return {_key(label): tuple(phrases.split(" | ")) for label, phrases in lines}


def _key(label: str) -> str:
    return "".join(re.findall(r"[^\W_]+", label)).casefold()
