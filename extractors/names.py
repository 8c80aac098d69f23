"""What somebody may have meant who wrote a name that is not there: one way of saying it for all that has a name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MOST_SHOWN = 30  # of what there is to choose from, in one sentence
MOST_COMPARED = 5000  # spelling is slow to compare
CLOSE = 0.6  # difflib's ratio: two in five letters may differ
_SHORTEST_BEGIN = 3  # letters by which a name may be known from its beginning


def alike(name: str, known: Iterable[str], *, most: int = 2, cutoff: float = CLOSE) -> list[str]:
    """Names that are spelt like another one, the likeliest first.

    What differs only in capitals, spaces and punctuation is the one that was meant; then come names that begin so, the
    shortest first, then those that share most letters in order.
    """
    there = list(dict.fromkeys(known))[:MOST_COMPARED]
    plain = {other: _plain(other) for other in there}
    wanted = _plain(name)
    if not wanted:
        return []
    if same := [other for other in there if plain[other] == wanted]:
        return same[:most]
    begun = [other for other in there if len(wanted) >= _SHORTEST_BEGIN and plain[other].startswith(wanted)]
    spelt = difflib.get_close_matches(wanted, plain.values(), n=20, cutoff=cutoff)
    spelt.sort(key=lambda text: (-difflib.SequenceMatcher(a=text, b=wanted).ratio(), len(text)))  # of equal ones, the shortest
    close = [other for text in spelt for other in there if plain[other] == text]
    return list(dict.fromkeys([*sorted(begun, key=len), *close]))[:most]


def meant(name: str, known: Iterable[str]) -> str:
    """``did you mean 'a' or 'b'?``; empty where nothing is spelt alike."""
    close = alike(name, known)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else ""


def choices(name: str, known: Iterable[str]) -> str:
    """What may have been meant, and what there is to choose from: the end of a sentence that says what is not there."""
    there = list(known)
    likely = meant(name, there)
    listed = ", ".join(there[:MOST_SHOWN]) + (f" … ({len(there)} in all)" if len(there) > MOST_SHOWN else "")
    if not likely:
        return f"choose one of {listed}"
    return likely if len(there) > MOST_SHOWN else f"{likely} If not, choose one of {listed}"


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()
