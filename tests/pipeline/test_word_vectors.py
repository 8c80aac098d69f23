"""Word-vector files: every published form read back as written, everything else refused in one sentence."""

from __future__ import annotations

import gzip
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tal_run.pipeline.word_vectors import SHIPPED, WordVectorsError, load_word_vectors, shipped_word_vectors

WORDS = ["the", "golf", "Swing", "größe", "2007"]
RNG = np.random.default_rng(7)
VECTORS = RNG.normal(size=(len(WORDS), 6)).astype(np.float32)


def _rows(words: list[str] = WORDS, end: str = "\n") -> str:
    return "".join(f"{word} {' '.join(repr(float(x)) for x in row)}{end}" for word, row in zip(words, VECTORS, strict=False))


def _word2vec_binary(*, newline: bool) -> bytes:
    """Google's word2vec.c ends each vector with a newline, gensim does not."""
    end = b"\n" if newline else b""
    body = b"".join(w.encode() + b" " + v.tobytes() + end for w, v in zip(WORDS, VECTORS, strict=True))
    return f"{len(WORDS)} {VECTORS.shape[1]}\n".encode() + body


FORMS = {
    "word2vec text": f"{len(WORDS)} 6\n{_rows()}".encode(),
    "fastText .vec": f"{len(WORDS)} 6\n{_rows(end=' ' + chr(10))}".encode(),
    "windows line ends": f"{len(WORDS)} 6\r\n{_rows(end=chr(13) + chr(10))}".encode(),
    "GloVe": _rows().encode(),
    "word2vec binary": _word2vec_binary(newline=False),
    "word2vec.c binary": _word2vec_binary(newline=True),
}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_reads_back_as_written(form: str, compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("table.gz" if compressed else "table")  # the name says nothing about the form
    path.write_bytes(gzip.compress(FORMS[form]) if compressed else FORMS[form])
    table = load_word_vectors(path)
    assert table.index_to_key == WORDS
    np.testing.assert_array_equal(table.vectors, VECTORS)


@pytest.mark.parametrize("form", FORMS)
def test_only_the_first_words_are_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_bytes(FORMS[form])
    table = load_word_vectors(path, max_words=2)
    assert table.index_to_key == WORDS[:2]
    np.testing.assert_array_equal(table.vectors, VECTORS[:2])


def test_gensims_own_word2vec_files_are_read(tmp_path: Path) -> None:
    written = load_word_vectors(_write(tmp_path, FORMS["GloVe"]))
    for binary in (False, True):
        path = tmp_path / f"from_gensim_{binary}"
        written.save_word2vec_format(str(path), binary=binary)
        np.testing.assert_allclose(load_word_vectors(path).vectors, VECTORS, rtol=1e-6)


def test_glove_words_may_hold_spaces(tmp_path: Path) -> None:
    table = load_word_vectors(_write(tmp_path, _rows([",", ". . .", "at name@domain.com"]).encode()))
    assert table.index_to_key == [",", ". . .", "at name@domain.com"]


def test_a_repeated_word_keeps_its_first_vector(tmp_path: Path) -> None:
    table = load_word_vectors(_write(tmp_path, _rows(["golf", "golf", "swing"]).encode()))
    assert table.index_to_key == ["golf", "swing"]
    np.testing.assert_array_equal(table["golf"], VECTORS[0])


# --- fastText's own binary -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fasttext_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gensim.models.fasttext import FastText, save_facebook_model

    model = FastText(
        [["arm", "wrestling"], ["golf", "swing", "wrestling"]],
        vector_size=8, min_count=1, bucket=50, workers=1, seed=1, epochs=1,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("fasttext") / "model.bin"
    save_facebook_model(model, str(path))
    return path


def test_fasttext_bin_gives_unseen_words_a_vector(fasttext_bin: Path) -> None:
    table = load_word_vectors(fasttext_bin)
    assert set(table.index_to_key) == {"arm", "wrestling", "golf", "swing"}
    assert table["wrestlers"].shape == (8,)


@pytest.mark.parametrize("part", [0.02, 0.1, 0.15, 0.3, 0.9])
def test_a_truncated_fasttext_bin_is_refused(fasttext_bin: Path, part: float, tmp_path: Path) -> None:
    content = fasttext_bin.read_bytes()
    with pytest.raises(WordVectorsError, match=r"fetch the file again|is not a word-vector file"):
        load_word_vectors(_write(tmp_path, content[: int(len(content) * part)]))


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, struct.pack("<i", 2_000_000_000), "promises"),  # dimensions
        (40, struct.pack("<i", 2_000_000_000), "promises 4 words"),  # buckets
        (64, struct.pack("<ii", 2_000_000_000, 2_000_000_000), "promises 2,000,000,000 words"),  # words
        (72, struct.pack("<i", 3), "classifier"),  # labels
    ],
)
def test_false_numbers_in_a_fasttext_bin_are_refused(
    fasttext_bin: Path, offset: int, value: bytes, message: str, tmp_path: Path
) -> None:
    content = bytearray(fasttext_bin.read_bytes())
    content[offset : offset + len(value)] = value
    with pytest.raises(WordVectorsError, match=message):
        load_word_vectors(_write(tmp_path, bytes(content)))


# --- damaged and hostile files -------------------------------------------------------------------------------------------


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("the pickle ran",))


def test_pickles_are_refused_and_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for protocol in (2, 3, 4, 5):
        for content in (pickle.dumps(_Bomb(), protocol), gzip.compress(pickle.dumps(_Bomb(), protocol))):
            with pytest.raises(WordVectorsError, match=r"is a pickle.*save_word2vec_format"):
                load_word_vectors(_write(tmp_path, content))
    with pytest.raises(WordVectorsError, match="is not a word-vector file"):
        load_word_vectors(_write(tmp_path, pickle.dumps(_Bomb(), 0)))
    assert "ran" not in capsys.readouterr().out


def test_gensims_native_save_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "native.kv"
    load_word_vectors(_write(tmp_path, FORMS["GloVe"])).save(str(path))
    with pytest.raises(WordVectorsError, match="is a pickle"):
        load_word_vectors(path)


@pytest.mark.parametrize("form", FORMS)
def test_truncated_files_are_refused(form: str, tmp_path: Path) -> None:
    content = FORMS[form]
    for part in (len(content) // 2, len(content) - 60):
        with pytest.raises(WordVectorsError, match=r"fetch the file again|fetch it again"):
            load_word_vectors(_write(tmp_path, content[:part]))


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    content = gzip.compress(RNG.bytes(100_000))
    with pytest.raises(WordVectorsError, match="truncated or damaged"):
        load_word_vectors(_write(tmp_path, content[: len(content) // 2], "table.gz"))


HOSTILE = {
    "empty": (b"", "is empty"),
    "prose": (b"Once upon a time\nthere was a king\n", "is not a word-vector file"),
    "json": (b'{"results": {}}\n', "is not a word-vector file"),
    "csv": (b"word,x,y\ngolf,1,2\n", "is not a word-vector file"),
    "zeros": (bytes(5000), "is not a word-vector file"),
    "noise": (np.random.default_rng(3).bytes(5000), "is not a word-vector file"),
    "header alone": (b"5 6\n", "too short"),
    "huge header": (b"99999999999 300\n" + b"a" * 99, "too short"),
    "huge dimensions": (b"2 99999999999\n" + b"a " * 99, "promises 2 words"),
    "no words": (b"0 6\n", "at least one word"),
    "binary without spaces": (b"2 3\n" + b"a" * 64, "is not a word-vector file"),
    "a short line": (b"golf 1 2 3\nswing 1 2\n", "line 2: not a word and 3 numbers"),
    "not finite": (b"golf 1 2 3\nswing 1 nan 3\n", "not finite"),
    "infinite": (b"golf 1 2 3\nswing 1 1e99 3\n", "not finite"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    content, message = HOSTILE[case]
    with pytest.raises(WordVectorsError, match=message) as caught:
        load_word_vectors(_write(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_names_that_lie_about_compression_are_named(tmp_path: Path) -> None:
    with pytest.raises(WordVectorsError, match=r"add \.gz to its name"):
        load_word_vectors(_write(tmp_path, gzip.compress(FORMS["word2vec binary"]), "table.bin"))
    with pytest.raises(WordVectorsError, match=r"take \.gz off its name"):
        load_word_vectors(_write(tmp_path, FORMS["word2vec binary"], "table.bin.gz"))


def test_archives_are_to_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("glove.txt", FORMS["GloVe"])
    with pytest.raises(WordVectorsError, match="unpack it"):
        load_word_vectors(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.bin", tmp_path):
        with pytest.raises(WordVectorsError, match="cannot read word vectors from"):
            load_word_vectors(path)


def _write(folder: Path, content: bytes, name: str = "table.dat") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


# --- the table that comes with tal-run -----------------------------------------------------------------------------------


def test_the_shipped_table_is_compact_and_read_by_gensim_alone() -> None:
    from gensim.models import KeyedVectors

    assert SHIPPED.stat().st_size <= 5_000_000
    table = KeyedVectors.load_word2vec_format(str(SHIPPED), binary=True)
    assert 30_000 <= len(table) <= 40_000
    np.testing.assert_array_equal(table.vectors, shipped_word_vectors().vectors)
    assert np.linalg.norm(table.vectors, axis=1).min() > 0


def test_the_shipped_table_knows_the_words_of_actions() -> None:
    table = shipped_word_vectors()
    words = "arm wrestling crepe weightlifting barbell backflip parkour segway unicycle snowboarding guitar dunking tv"
    assert [word for word in words.split() if word not in table] == []
    assert table.similarity("weightlifting", "barbell") > table.similarity("weightlifting", "guitar") + 0.2


def test_the_shipped_table_lies_beside_its_origin_and_licence() -> None:
    import hashlib

    readme = (SHIPPED.parent / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(SHIPPED.read_bytes()).hexdigest() in readme
    assert "Apache-2.0" in readme


def test_gensim_is_not_imported_before_it_is_needed() -> None:
    import subprocess

    code = "import sys, tal_run.pipeline.query, tal_run.pipeline.word_vectors; sys.exit('gensim' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
