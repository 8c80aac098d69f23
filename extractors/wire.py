"""The language between tal-run and its decoder process: JSON headers, each followed by raw bytes. Never pickle.

Requests go down the child's standard input, one JSON object a line. Messages come up its standard output::

    ┌──────────────┬───────────────┬──────────────┬─────────┐
    │ header bytes │ payload bytes │ header       │ payload │
    │ uint32, big  │ uint64, big   │ JSON, ASCII  │         │
    └──────────────┴───────────────┴──────────────┴─────────┘

The parent trusts none of it: a hostile file may own the child.
"""

from __future__ import annotations

import struct
from typing import Any

PREFIX = struct.Struct(">IQ")
MAX_HEADER_BYTES = 1 << 16
MAX_NOTES = 16
MAX_NOTE_CHARACTERS = 300

JSONObject = dict[str, Any]


def printable(text: object, limit: int = MAX_NOTE_CHARACTERS) -> str:
    """`text` on one line, without control characters (a terminal obeys those), at most `limit` characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * limit]).split())[:limit]
