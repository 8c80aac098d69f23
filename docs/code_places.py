"""Where in the code something is: for the links of the pages, and for the test that follows them."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import Any


@functools.cache
def _tree(path: Path) -> tuple[str, ast.Module]:
    text = path.read_text(encoding="utf-8")
    return text, ast.parse(text)


def line_of(path: Path, symbol: str, equation: str | None = None) -> int:
    """The line of a file on which a symbol (``name`` or ``Class.name``) is defined or, within it, an equation's number stands.

    Raises:
        LookupError: it is not there.
    """
    text, found = _tree(path)
    node: Any = found
    for name in symbol.split("."):
        inside = [child for child in node.body if getattr(child, "name", None) == name]
        if not inside:
            raise LookupError(f"{path.name} has no {symbol}")
        node = inside[0]
    if equation is None:
        return int(node.lineno)
    lines = text.splitlines()
    named = {number: numbers(lines[number - 1]) for number in range(node.lineno, node.end_lineno + 1)}
    missing = numbers(equation) - set().union(*named.values())
    if missing or not numbers(equation):
        raise LookupError(f"{symbol} in {path.name} does not bear the number of {equation}")
    bearing = [number for number, there in named.items() if there & numbers(equation)]
    return next((number for number in bearing if "#" in lines[number - 1]), bearing[0])


def numbers(text: str) -> set[int]:
    """The equations that a text names: ``Eq. 2-5`` are four."""
    named: set[int] = set()
    for first, last in re.findall(r"Eqs?\. (\d+)(?:-(\d+))?", text):
        named |= set(range(int(first), int(last or first) + 1))
    return named
