"""Load word vectors: the table that comes with tal-run, or a word2vec, GloVe or fastText file.

A file is recognised by its content, not by its name:

    ================  ============================================  =======================
    form              how it begins                                 read by
    ================  ============================================  =======================
    word2vec binary   "words dimensions", then word, space, floats  gensim
    word2vec text     "words dimensions", then lines                this module
    fastText .vec     as word2vec text                              this module
    GloVe             lines at once                                 this module
    fastText .bin     fastText's magic number                       gensim (with subwords)
    ================  ============================================  =======================

Each may be gzip-compressed. The text forms are read here because GloVe 840B has words with spaces in them, which gensim 4.4
splits wrongly. gensim's own ``save`` format is a pickle, which runs whatever code it holds, and is refused. Sizes promised by
a header are checked against the file before anything is allocated: gensim 4.4 would reserve memory for any number it reads,
and loops for ever in a fastText file that ends inside its dictionary.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tal_run.extractors.errors import TalRunError

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

SHIPPED = Path(__file__).parent / "data" / "minilm_l6_words.bin.gz"
MAX_WORDS = 500_000  # tables are sorted by frequency: of GoogleNews' 3,000,000 "words" the rest are names and typos

_GZIP = b"\x1f\x8b"
_FASTTEXT_MAGIC = struct.pack("<i", 793_712_314)  # fasttext.cc: FASTTEXT_FILEFORMAT_MAGIC_INT32
_FASTTEXT_ARGS = struct.Struct("<2i12id")  # magic, version, args::save
_MAX_DIMENSIONS = 2048
_MAX_FASTTEXT_WORDS = 5_000_000  # the largest published have two million
_MAX_BYTES = 8 << 30  # of numbers in memory
_MAX_LINE = 1 << 17  # bytes; 4,096 dimensions of 20 characters, and a word
_GZIP_BEST = 1032  # times deflate can shrink at most
_FORMS = "word2vec (text or binary), GloVe and fastText (.vec or .bin) files are read"


class WordVectorsError(TalRunError):
    """A word-vector file that cannot be used."""


@functools.cache
def shipped_word_vectors() -> KeyedVectors:
    """Load the English table that comes with tal-run (``data/README.md``); once a process.

    Returns:
        36,000 words and 2,225 phrases, 192 dimensions; a vector's length weighs its word in an average.
    """
    return load_word_vectors(SHIPPED)


def load_word_vectors(path: str | Path, *, max_words: int = MAX_WORDS) -> KeyedVectors:
    """Load a word2vec, GloVe or fastText file.

    Args:
        path: the file, plain or gzip-compressed.
        max_words: words read from the file's beginning (a fastText ``.bin`` is always read whole).

    Raises:
        WordVectorsError: not there, not a word-vector file, truncated, a pickle, or numbers that are not finite.
    """
    path = Path(path)
    try:
        head = _head(path)
        kind = _recognise(path, head)
        table = _READERS[kind](path, max_words)
    except OSError as error:  # gzip.BadGzipFile is one
        raise WordVectorsError(f"cannot read word vectors from {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise WordVectorsError(f"the word vectors {path} are truncated or damaged ({error}); fetch the file again") from error
    except MemoryError as error:
        raise WordVectorsError(f"the word vectors {path} do not fit in memory; use a smaller table") from error
    if not np.isfinite(table.vectors).all():
        raise WordVectorsError(f"the word vectors {path} hold numbers that are not finite; fetch the file again")
    return table


# --- recognising ---------------------------------------------------------------------------------------------------------


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open a file, gzip-compressed or not, for reading its plain content."""
    with path.open("rb") as raw:
        compressed = raw.read(2) == _GZIP
        raw.seek(0)
        if compressed:
            with gzip.open(raw) as content:
                yield content
        else:
            yield raw


def _head(path: Path) -> bytes:
    with _open(path) as file:
        return file.read(2 * _MAX_LINE)


def _recognise(path: Path, head: bytes) -> str:
    """Name the form of a file from its first bytes; a sentence with the cure for everything else."""
    if not head:
        raise WordVectorsError(f"{path} is empty; {_FORMS}")
    if head.startswith(_FASTTEXT_MAGIC):
        return "fasttext"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        raise WordVectorsError(
            f"{path} is a pickle, as gensim's save() writes, and could run any code; "
            "write it with gensim's save_word2vec_format() and give that file"
        )
    if head.startswith((b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf")):
        raise WordVectorsError(f"{path} is an archive; unpack it and give the file inside ({_FORMS})")
    first, _, rest = head.partition(b"\n")
    if _header(first) is not None:
        words, dimensions = _checked_header(path, first)
        second = rest.partition(b"\n")[0]
        if _is_text_row(second, dimensions) or not words:
            return "text"
        if rest.lstrip(b"\n")[:1] and b" " in rest[:_MAX_LINE]:
            return "word2vec"
    elif _glove_dimensions(first) is not None:
        return "text"
    raise WordVectorsError(f"{path} is not a word-vector file; {_FORMS}")


def _header(line: bytes) -> tuple[int, int] | None:
    """Read "words dimensions"; None for any other line."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() and len(field) < 12 for field in fields):
        return None
    return int(fields[0]), int(fields[1])


def _checked_header(path: Path, line: bytes) -> tuple[int, int]:
    """Read "words dimensions" and hold it against the file's size."""
    header = _header(line)
    assert header is not None
    words, dimensions = header
    if not 1 <= dimensions <= _MAX_DIMENSIONS or words < 1:
        raise WordVectorsError(
            f"{path} promises {words:,} words of {dimensions:,} dimensions; at least one word and 1 to "
            f"{_MAX_DIMENSIONS:,} dimensions are read"
        )
    smallest_row = 2 * dimensions  # text: a digit and a space each; binary takes four bytes
    if words * smallest_row > _largest_content(path):
        raise WordVectorsError(
            f"{path} promises {words:,} words of {dimensions:,} dimensions and is too short for them; fetch the file again"
        )
    return words, dimensions


def _largest_content(path: Path) -> int:
    """Bytes that a file can hold once unpacked."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        return size * _GZIP_BEST if raw.read(2) == _GZIP else size


def _floats(fields: list[bytes]) -> bool:
    try:
        [float(field) for field in fields]
    except ValueError:
        return False
    return True


def _is_text_row(line: bytes, dimensions: int) -> bool:
    fields = line.rstrip().rsplit(b" ", dimensions)
    return len(fields) == dimensions + 1 and _floats(fields[1:])


def _glove_dimensions(line: bytes) -> int | None:
    """Count the numbers after the word; None if the line is not a word and numbers."""
    fields = line.rstrip().split(b" ")
    numbers = len(list(itertools.takewhile(lambda field: _floats([field]), reversed(fields[1:]))))
    return numbers if 2 <= numbers <= _MAX_DIMENSIONS else None


# --- reading -------------------------------------------------------------------------------------------------------------


def _read_text(path: Path, max_words: int) -> KeyedVectors:
    """Read lines of a word and its numbers, after a header (word2vec, fastText .vec) or none (GloVe)."""
    from gensim.models import KeyedVectors

    words: dict[str, None] = {}
    rows: list[np.ndarray[Any, np.dtype[np.float32]]] = []
    with _open(path) as file:
        first = file.readline(_MAX_LINE)
        promised = _header(first)
        dimensions = promised[1] if promised else _glove_dimensions(first)
        assert dimensions is not None
        lines = _lines(file) if promised else itertools.chain([first], _lines(file))
        number = int(promised is not None)
        for line in itertools.islice(lines, promised[0] if promised else None):
            number += 1
            if len(words) == max_words:
                break
            if not line.strip():
                continue
            fields = line.rstrip().rsplit(b" ", dimensions)
            if len(fields) != dimensions + 1 or not _floats(fields[1:]):
                raise WordVectorsError(
                    f"{path}, line {number}: not a word and {dimensions} numbers, the file is damaged; fetch it again"
                )
            word = fields[0].decode("utf-8", errors="replace")
            if word not in words:
                words[word] = None
                with np.errstate(over="ignore"):  # refused later, as infinite
                    rows.append(np.array([float(field) for field in fields[1:]]).astype(np.float32))
    if promised and len(words) < min(promised[0], max_words) * 0.99:  # published files repeat a few words
        raise WordVectorsError(
            f"{path} promises {promised[0]:,} words and holds {len(words):,}; it is truncated, fetch it again"
        )
    table = KeyedVectors(dimensions, count=0)
    table.add_vectors(list(words), np.stack(rows))
    return table


def _lines(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    while line := file.readline(_MAX_LINE):
        yield line


def _read_word2vec(path: Path, max_words: int) -> KeyedVectors:
    from gensim.models import KeyedVectors

    words, dimensions = _checked_header(path, _first_line(path))
    _need_gz_name(path)
    if words * (4 * dimensions + 2) > _largest_content(path):
        raise WordVectorsError(
            f"{path} promises {words:,} words of {dimensions:,} dimensions and is too short for them; fetch the file again"
        )
    try:
        return KeyedVectors.load_word2vec_format(str(path.resolve()), binary=True, limit=max_words, unicode_errors="replace")
    except (ValueError, AssertionError) as error:  # gensim asserts what it reads
        raise WordVectorsError(f"the word vectors {path} are damaged ({error}); fetch the file again") from error


def _first_line(path: Path) -> bytes:
    with _open(path) as file:
        return file.readline(_MAX_LINE)


def _need_gz_name(path: Path) -> None:
    """gensim goes by the name; say so rather than let it read packed bytes as numbers."""
    with path.open("rb") as raw:
        compressed = raw.read(2) == _GZIP
    if compressed != (path.suffix == ".gz") or path.suffix in {".bz2", ".xz", ".zst"}:
        cure = "add .gz to its name" if compressed else f"take {path.suffix} off its name"
        raise WordVectorsError(f"{path} is {'' if compressed else 'not '}gzip-compressed against its name; {cure}")


def _read_fasttext(path: Path, max_words: int) -> KeyedVectors:
    """Read fastText's own binary with its subwords, so that it has a vector for any word."""
    from gensim.models.fasttext import load_facebook_vectors

    _need_gz_name(path)
    with _open(path) as file:
        _check_fasttext(path, file)
    try:
        return load_facebook_vectors(str(path.resolve()))
    except (ValueError, AssertionError, struct.error, NotImplementedError) as error:
        raise WordVectorsError(
            f"the word vectors {path} are damaged or of an unknown kind ({error}); use a .vec file"
        ) from error


def _check_fasttext(path: Path, file: IO[bytes] | gzip.GzipFile) -> None:
    """Walk through a fastText file's header and dictionary, so that gensim meets neither its end nor false sizes.

    Layout (fasttext.cc, args.cc, dictionary.cc): magic, version, 12 integers and a double, then words, of which labels, tokens,
    pruned entries, then a zero-ended word, its count and its type each, then the input matrix: quantised?, rows, columns.
    """

    def take(size: int) -> bytes:
        data = file.read(size)
        if len(data) < size:
            raise EOFError("it ends early")
        return data

    arguments = _FASTTEXT_ARGS.unpack(take(_FASTTEXT_ARGS.size))
    dimensions, buckets = arguments[2], arguments[10]
    entries, words, labels, _tokens, pruned = struct.unpack("<3i2q", take(28))
    if labels or words != entries:
        raise WordVectorsError(f"{path} is a fastText classifier, not word vectors; give a .vec file or an unsupervised .bin")
    if pruned > 0:
        raise WordVectorsError(f"{path} is a pruned fastText model, whose subwords are gone; give its .vec file")
    too_large = words > _MAX_FASTTEXT_WORDS or (words + max(buckets, 0)) * dimensions * 4 > _MAX_BYTES
    if not (1 <= dimensions <= _MAX_DIMENSIONS and words >= 1 and buckets >= 0) or too_large:
        raise WordVectorsError(f"{path} promises {words:,} words of {dimensions:,} dimensions; fetch the file again")
    for _ in range(words):
        length = 0
        while take(1) != b"\0":
            length += 1
            if length > 10_000:
                raise WordVectorsError(f"{path} holds a word of more than 10,000 bytes; fetch the file again")
        take(9)
    quantised, rows, columns = struct.unpack("<?2q", take(17))
    if quantised:
        raise WordVectorsError(f"{path} is a quantised fastText model (.ftz); give its .bin or .vec file")
    if rows != words + buckets or columns != dimensions:
        raise WordVectorsError(f"{path} contradicts its own header; fetch the file again")
    if rows * columns * 4 > _largest_content(path) - file.tell():
        raise WordVectorsError(f"{path} is too short for the {words:,} words it promises; fetch the file again")


_READERS = {"text": _read_text, "word2vec": _read_word2vec, "fasttext": _read_fasttext}
