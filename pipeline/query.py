"""Match a query in words to a backbone's classes and carry the classes' scores over to the query.

Source: ActionBytes (Jain, Ghodrati, Snoek, CVPR 2020), section 3.2 "Knowledge transfer", after Objects2Action (Jain, van
Gemert, Mensink, Snoek, ICCV 2015). A label of several words is embedded as the average of its words' vectors, the affinity of a
query and a class is the cosine of their embeddings, and the query's score is the affinity-weighted sum of the scores of the
few closest classes (Objects2Action's convex combination with its sparsity over source classes):

    s(w) = mean of vector(word), word in w                                      embed
    g(q, c) = cos(s(q), s(c))                                                   affinities
    score(q, t) = sum over c in best few of g(q, c) * p_c(t)                    QueryMatch.transfer

The papers leave open, and this module settles:

- Exact matches. The papers embed every label; here a query that *is* a class name (up to case, spaces, CamelCase, articles
  and simple plurals) takes that class alone with affinity 1 and needs no vectors.
- Words without a vector. word2vec has none for CamelCase or rare words; here they are stemmed or split in two
  (``weightlifting`` -> ``weight`` + ``lifting``), and failing that left out of the average and named.
- Closed-class words (``the``, ``of`` …) are left out, as GoogleNews word2vec itself leaves most of them out, and so is what
  a class name says it is *not* (``opening bottle (not wine)``).
- Fixed phrases: neighbouring words that the table holds as one entry (``table_tennis``; word2vec's tables have them) count
  as one word, in queries and in class names.
- How many classes: see ``QueryConfig``.

And it departs from the papers in one thing, unless ``QueryConfig.paraphrases`` is off: a class is known not by its name alone
but also by a few paraphrases (``paraphrases.py``), and the affinity is the mean of the best two cosines among them all.
Names are terse ("using segway"), and people ask in other words; describing classes at length for zero-shot recognition
follows Elaborative Rehearsal (Chen, Huang, ICCV 2021). With it a right class is among the first three for 99 % of the
report queries, without it for 86 %.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.errors import TalRunError
from tal_run.extractors.names import alike
from tal_run.pipeline.paraphrases import paraphrases

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

    Vectors: TypeAlias = KeyedVectors | Callable[[], KeyedVectors] | None

FloatArray: TypeAlias = NDArray[np.floating[Any]]

MAX_CHARACTERS = 500
_ARTICLES = frozenset({"a", "an", "the"})
# Closed-class words and the placeholders of class names; what is left carries the meaning.
# fmt: off
_STOP_WORDS = _ARTICLES | {
    "and", "as", "at", "between", "by", "for", "from", "her", "his", "in", "into", "is", "it", "its", "of", "on", "one",
    "onto", "or", "person", "someone", "something", "that", "their", "to", "with",
}
# fmt: on
_SHORTEST_PART = 3  # letters; "weight" + "lifting", not "we" + "ightlifting"
_LONGEST_PHRASE = 3  # words
_SPELT_ALIKE = 0.75  # difflib's ratio: a letter in four may be wrong or missing


_TINY = float(np.finfo(np.float32).tiny)


class QueryError(TalRunError):
    """A query that cannot be read as words."""


@dataclass(frozen=True)
class ClassAffinity:
    """How close a backbone's class is to a query.

    Args:
        label: the class name.
        index: its column in the class scores.
        affinity: cosine in [-1, 1]; 1.0 for an exact match.
    """

    label: str
    index: int
    affinity: float


@dataclass(frozen=True)
class QueryConfig:
    """Which classes stand in for a query. The papers leave these open; figures are in ``data/README.md``.

    The cosines' scale is the shipped table's; another table (``--word-vectors``) may want another ``min_affinity``.

    Args:
        max_classes: the best few, as Objects2Action keeps only the closest classes; for 99 % of queries a right class is
            among the first three.
        min_affinity: a class below this affinity does not stand in for a query; of the ``tune`` and ``dev`` off-topic
            queries 48 in 50 lie below, of the actions 5 in 150.
        min_ratio: nor does one below this fraction of the best, so that a clear best class is not diluted.
        nearest: how many classes ``QueryMatch.nearest`` lists.
        paraphrases: know a class by its paraphrases too; False: by its name alone, as the papers do (``NAMES_ONLY``).
    """

    max_classes: int = 3
    min_affinity: float = 0.5
    min_ratio: float = 0.85
    nearest: int = 5
    paraphrases: bool = True

    def __post_init__(self) -> None:
        """Check the numbers once."""
        if self.max_classes < 1 or self.nearest < 1:
            raise ValueError(f"max_classes and nearest must be 1 or more, found {self.max_classes} and {self.nearest}")
        if not 0 <= self.min_affinity <= 1 or not 0 <= self.min_ratio <= 1:
            raise ValueError(f"min_affinity and min_ratio must lie in [0, 1], found {self.min_affinity} and {self.min_ratio}")


# As the papers do; with names alone, cosines are lower and the first class is less often the right one.
NAMES_ONLY = QueryConfig(min_affinity=0.45, min_ratio=0.7, paraphrases=False)


@dataclass(frozen=True)
class QueryMatch:
    """The classes that stand in for a query.

    Args:
        query: as it was given.
        classes: the best few, best first; empty if the query matches nothing.
        exact: the query is the name of one class.
        unknown_words: the query's words that have no vector, in order.
        nearest: the nearest classes whatever their affinity, best first; empty if no word has a vector.
        meant: the query as it may have been meant, in the classes' words, if some of its words are unknown; empty: no idea.
    """

    query: str
    classes: tuple[ClassAffinity, ...]
    exact: bool
    unknown_words: tuple[str, ...]
    nearest: tuple[ClassAffinity, ...]
    meant: str = ""

    def transfer(self, class_scores: FloatArray) -> FloatArray:
        """Carry class scores over to the query (Objects2Action's combination, over the best few classes).

        Args:
            class_scores: [T, K], any unit that may be added, as probabilities.

        Returns:
            [T]; at most the best affinity for scores that sum to 1 over the classes; zeros if nothing matched.
        """
        columns = [match.index for match in self.classes]
        affinities = np.array([match.affinity for match in self.classes], dtype=class_scores.dtype)
        scores: FloatArray = class_scores[:, columns] @ affinities  # [T, best few] -> [T]
        return scores

    def summary(self) -> str:
        """Say in one line what matched and how strongly, and what has no vector."""
        if self.exact:
            return f'"{self.query}" is the class "{self.classes[0].label}"'
        if self.classes:
            text = f'"{self.query}" matches ' + _listing(self.classes)
        elif self.nearest:
            text = f'"{self.query}" matches no class; the nearest are ' + _listing(self.nearest)
        else:
            text = f'"{self.query}" matches no class'
        if self.unknown_words:
            text += "; no vector for " + ", ".join(f'"{word}"' for word in self.unknown_words)
        if self.meant:
            text += f'; did you mean "{self.meant}"?'
        return text


def _listing(classes: Sequence[ClassAffinity]) -> str:
    return ", ".join(f"{match.label} ({match.affinity:.2f})" for match in classes)


def match_query(query: str, labels: Sequence[str], *, vectors: Vectors = None, config: QueryConfig | None = None) -> QueryMatch:
    """Find the classes that stand in for a query.

    Args:
        query: words, such as ``"arm wrestling"`` or ``"ArmWrestling"``.
        labels: [K] the backbone's class names.
        vectors: word vectors, or a function that loads them, called only if the query is no class name;
            None is the table that comes with tal-run.
        config: thresholds; None is ``QueryConfig()``.

    Raises:
        QueryError: the query holds no word or more than 500 characters.
        WordVectorsError: the vectors cannot be loaded.
    """
    config = config or QueryConfig()
    words = _query_words(query)
    found = exact_match(query, labels)
    if found is not None:
        match = ClassAffinity(labels[found], found, 1.0)
        return QueryMatch(query, (match,), exact=True, unknown_words=(), nearest=(match,))

    table = load_vectors(vectors)
    unknown = tuple(dict.fromkeys(word for word in words if not word_vectors(word, table)))
    respelt = _respelt(words, unknown, labels) if unknown else ""
    embedded = embed(words, table)
    if embedded is None or not labels:
        return QueryMatch(query, (), exact=False, unknown_words=unknown, nearest=(), meant=respelt)
    affinity = affinities(embedded, labels, table, with_paraphrases=config.paraphrases)
    order = np.argsort(-affinity, kind="stable")  # ties: the earlier class first
    ranked = [ClassAffinity(labels[k], int(k), float(affinity[k])) for k in order[: max(config.max_classes, config.nearest)]]
    floor = max(config.min_affinity, config.min_ratio * ranked[0].affinity)
    classes = tuple(match for match in ranked[: config.max_classes] if match.affinity >= floor)
    return QueryMatch(
        query, classes, exact=False, unknown_words=unknown, nearest=tuple(ranked[: config.nearest]), meant=respelt
    )


def _respelt(words: Sequence[str], unknown: Sequence[str], labels: Sequence[str]) -> str:
    """A query with the classes' words in place of those that are spelt nearly so; empty where none is."""
    if whole := alike(" ".join(words), labels, most=1, cutoff=_SPELT_ALIKE):
        return whole[0]
    there = dict.fromkeys(word for label in labels for word in _label_words(label) if len(word) >= _SHORTEST_PART)
    close = {word: found[0] for word in unknown if (found := alike(word, there, most=1, cutoff=_SPELT_ALIKE))}
    return " ".join(close.get(word, word) for word in words) if close else ""


def load_vectors(vectors: Vectors) -> KeyedVectors:
    """The table itself; None: the one that comes with tal-run. Raises WordVectorsError: it cannot be loaded."""
    if vectors is None:
        from tal_run.pipeline.word_vectors import shipped_word_vectors

        return shipped_word_vectors()
    if hasattr(vectors, "key_to_index"):
        return vectors
    return vectors()


# --- words ---------------------------------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """Split a query or a class name into case-folded words: at spaces, hyphens, underscores and inside CamelCase."""
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    text = re.sub(r"['’]s\b", "", text.casefold()).replace("'", "").replace("’", "")
    return re.findall(r"[^\W_]+", text)


def _query_words(query: str) -> list[str]:
    if len(query) > MAX_CHARACTERS:
        raise QueryError(
            f"the query has {len(query):,} characters; give one action in a few words, at most {MAX_CHARACTERS} characters"
        )
    words = split_words(query)
    if not words:
        raise QueryError(f'the query "{query}" holds no word; name an action, such as "arm wrestling"')
    return words


def _singular(word: str) -> str:
    """Fold singular and plural of a word into one key (dishes, dish -> dish; axes, axe -> ax; parties -> party)."""
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if word.endswith("ie"):
        return word[:-2] + "y"
    return re.sub(r"(?<=[sxzo])e$|(?<=[cs]h)e$", "", word)


def _key(words: Sequence[str]) -> str:
    return "".join(_singular(word) for word in words if word not in _ARTICLES)


def _stem_key(words: Sequence[str]) -> str:
    """As ``_key``, with the forms of a verb folded too: riding, ride; running, run."""
    return "".join(_verb_stem(_singular(word)) for word in words if word not in _ARTICLES)


def _verb_stem(word: str) -> str:
    stem = word.removesuffix("ing")
    if len(stem) >= _SHORTEST_PART and re.search("[aeiouy]", stem):  # not "sing", "string"
        word = stem
    return re.sub(r"([^aeiou])\1$", r"\1", word).removesuffix("e")


def _names(label: str) -> Iterator[tuple[str, ...]]:
    """Yield the names a class goes by: in full, without its parenthesis, and each side of its "or"."""
    yield tuple(split_words(label))
    words = split_words(re.sub(r"\(.*?\)", " ", label))
    yield tuple(words)
    for i in range(1, len(words) - 1):  # "catching or throwing baseball": one word for the other
        if words[i] == "or":
            yield (*words[:i], *words[i + 2 :])
            yield (*words[: i - 1], *words[i + 1 :])


@functools.lru_cache(maxsize=4096)
def _keys(label: str) -> tuple[str, ...]:
    return tuple(_key(name) for name in _names(label))


@functools.lru_cache(maxsize=4096)
def _stem_keys(label: str) -> tuple[str, ...]:
    return tuple(_stem_key(name) for name in _names(label))


def exact_match(query: str, labels: Sequence[str]) -> int | None:
    """Find the one class that a query names; None if there is none, or several share the short name.

    Case, spaces, hyphens, underscores, CamelCase, articles, simple plurals and ``-ing`` do not matter. A name in full goes
    before a name without its parenthesis (``"backflip"`` is the class ``"backflip (human)"``), and that before another form
    of the verb (``"deadlift"`` is ``"deadlifting"``).
    """
    key = _key(split_words(query))
    if not key:
        return None
    in_full = [k for k, label in enumerate(labels) if _keys(label)[0] == key]
    if in_full:
        return in_full[0] if len(in_full) == 1 else None
    short = [k for k, label in enumerate(labels) if key in _keys(label)]
    if short:
        return short[0] if len(short) == 1 else None
    stem = _stem_key(split_words(query))
    inflected = [k for k, label in enumerate(labels) if stem in _stem_keys(label)]
    return inflected[0] if len(inflected) == 1 else None


# --- vectors -------------------------------------------------------------------------------------------------------------


def word_vectors(word: str, table: KeyedVectors) -> list[FloatArray]:
    """Look a word up: itself (any case), its subwords (fastText), its stem, or its two halves.

    Returns:
        one vector [D], two for a word that had to be split, none for a word that is unknown.
    """
    for form in (word, word.capitalize(), word.upper(), *_stems(word)):
        if form in table.key_to_index:
            return [table[form]]
    if word in table:  # fastText's own: a vector from the word's n-grams
        return [table[word]]
    return [table[part] for part in _halves(word, table)]


def _stems(word: str) -> Iterator[str]:
    """Yield simpler forms, nearest first: skis, ski; carries, carry; juggling, juggle, juggl; hopped, hop."""
    for suffix, endings in (
        ("ies", ("y",)),
        ("es", ("",)),
        ("s", ("",)),
        ("ing", ("", "e")),
        ("ed", ("", "e")),
        ("er", ("", "e")),
    ):
        stem = word.removesuffix(suffix)
        if stem == word or len(stem) < _SHORTEST_PART:
            continue
        yield from (stem + ending for ending in endings)
        if suffix in ("ing", "ed", "er") and stem[-1] == stem[-2]:
            yield stem[:-1]


def _halves(word: str, table: KeyedVectors) -> tuple[str, ...]:
    """Split an unknown compound into two known words, the more frequent (tables are sorted by frequency) the better."""
    rank = table.key_to_index
    cuts = range(_SHORTEST_PART, len(word) - _SHORTEST_PART + 1)
    splits = [(word[:i], word[i:]) for i in cuts if word[:i] in rank and word[i:] in rank]
    return min(splits, key=lambda halves: max(rank[half] for half in halves), default=())


def embed(words: Sequence[str], table: KeyedVectors) -> FloatArray | None:
    """Average the words' vectors (ActionBytes 3.2).

    Returns:
        [D]; None if no word has a vector. Closed-class words count only where there are no others.
    """
    words = join_phrases(words, table)
    content = [word for word in words if word not in _STOP_WORDS] or words
    found = [vector for word in content for vector in word_vectors(word, table)]
    return np.mean(found, axis=0) if found else None


def join_phrases(words: Sequence[str], table: KeyedVectors) -> list[str]:
    """Join neighbours that the table holds as one phrase (``table_tennis``, as word2vec writes them), the longest first."""
    joined: list[str] = []
    start = 0
    while start < len(words):
        for length in range(min(_LONGEST_PHRASE, len(words) - start), 1, -1):
            phrase = _phrase(words[start : start + length], table)
            if phrase is not None:
                break
        else:
            length, phrase = 1, words[start]
        joined.append(phrase)
        start += length
    return joined


def _phrase(words: Sequence[str], table: KeyedVectors) -> str | None:
    """Find the entry for a phrase, in small letters or capitalised, its last word as it is or in the singular."""
    for form in (words, (*words[:-1], _singular(words[-1]))):
        for phrase in ("_".join(form), "_".join(word.capitalize() for word in form)):
            if phrase in table.key_to_index:
                return phrase
    return None


def _label_words(label: str) -> list[str]:
    """Words of a class name without what it says it is not: "opening bottle (not wine)"."""
    return split_words(re.sub(r"\(not\b.*?\)", " ", label))


def _unit(vector: FloatArray) -> FloatArray:
    scaled: FloatArray = vector / max(float(np.linalg.norm(vector)), _TINY)
    return scaled


@functools.lru_cache(maxsize=2)  # many queries, one backbone
def _class_directions(labels: tuple[str, ...], table: KeyedVectors, with_paraphrases: bool) -> FloatArray:
    """Embed what each class is known by, scaled to length 1 -> [K, R, D], its name first; NaN beyond the last."""
    known_by = [[_label_words(label)] for label in labels]
    if with_paraphrases:
        for label, phrases in zip(labels, known_by, strict=True):
            phrases += [split_words(paraphrase) for paraphrase in paraphrases(label)]
    directions = np.full((len(labels), max(map(len, known_by)), table.vector_size), np.nan, dtype=np.float32)
    for k, phrases in enumerate(known_by):
        embedded = [vector for words in phrases if (vector := embed(words, table)) is not None]
        for r, vector in enumerate(embedded or [np.zeros(table.vector_size, np.float32)]):
            directions[k, r] = _unit(vector)
    return directions


def affinities(
    embedded: FloatArray, labels: Sequence[str], table: KeyedVectors, *, with_paraphrases: bool = False
) -> FloatArray:
    """Cosine between a query's embedding [D] and each class name (ActionBytes 3.2) -> [K]; 0 where a name has no vector.

    With paraphrases: the mean of the best two cosines among a class's name and its paraphrases.
    """
    cosines = _class_directions(tuple(labels), table, with_paraphrases) @ _unit(embedded)  # [K, R, D] -> [K, R]
    best_two = -np.sort(-cosines, axis=1)[:, :2]  # NaN sorts last
    affinity: FloatArray = np.nanmean(best_two, axis=1)
    return np.clip(affinity, -1.0, 1.0)
