"""Text in CSV files that a spreadsheet may open, where what begins like a formula is one and may run programs.

A cell of text that could be a formula gets an apostrophe before it, with which spreadsheets mark text (OWASP, "CSV Injection").
Reading takes it off again. Text that has apostrophes and then a formula gets one more, so that every text comes back as it was.

What could be a formula begins with ``=``, ``@``, their full-width forms, a tab or a line break; or with ``+`` or ``-``, unless
letters, digits, ``_``, ``-`` and ``.`` are all that follows. Such a rest calls nothing and opens nothing, and many a
YouTube id begins with ``-``: it stays as it is, for those who join tables by it. Numbers are no text and are left alone.
"""

from __future__ import annotations

import re

FORMULA = re.compile(r"'*(?:\s*[=@＝＠]|[\t\r\n\v\f]|\s*[+\-＋－](?![A-Za-z0-9_.\-]*\Z))")


def as_cell(text: str) -> str:
    """Text as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """The text that ``as_cell`` made a cell of; what others wrote stays as it is, unless it is marked in the same way."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
