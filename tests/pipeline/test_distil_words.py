"""The pieces of the distillation that need neither the sentence model nor WordNet itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tal_run.pipeline.distil_words import WordNet, WordNetError, main, quantise, write_word2vec
from tal_run.pipeline.word_vectors import load_word_vectors


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    """WordNet's files with three synsets, in the formats of wndb(5WN) and cntlist(5WN)."""
    licence = "  1 This software and database is being provided to you \n"
    for pos in ("noun", "verb", "adj", "adv"):
        for name in (f"index.{pos}", f"data.{pos}"):
            (tmp_path / name).write_text(licence)
        (tmp_path / f"{pos}.exc").write_text("")
    with (tmp_path / "data.noun").open("a") as data:
        data.write('00000010 04 n 02 table_tennis 0 Ping-Pong 0 000 | a game resembling tennis; "he plays table tennis"  \n')
    with (tmp_path / "index.noun").open("a") as index:
        index.write("table_tennis n 1 0 1 0 00000010  \n")
    with (tmp_path / "data.verb").open("a") as data:
        data.write("00000020 38 v 01 run 0 000 00 | move fast on foot  \n")
        data.write("00000030 41 v 01 run 1 000 00 | direct or control  \n")
    with (tmp_path / "index.verb").open("a") as index:
        index.write("run v 2 0 2 1 00000020 00000030  \n")
    (tmp_path / "verb.exc").write_text("ran run\n")
    (tmp_path / "cntlist.rev").write_text("run%2:38:00:: 1 9\n")
    return tmp_path


def test_meanings_carry_their_words_and_definitions(wordnet: Path) -> None:
    ((synset, weight),) = WordNet(wordnet).senses("table_tennis", 3)
    assert synset.text == "table tennis, Ping-Pong: a game resembling tennis"
    assert weight == 1.0


@pytest.mark.parametrize("form", ["run", "ran", "running", "runs"])
def test_forms_have_the_meanings_of_their_base_weighed_by_use_and_rank(wordnet: Path, form: str) -> None:
    senses = WordNet(wordnet).senses(form, 3)
    assert [synset.definition for synset, _ in senses] == ["move fast on foot", "direct or control"]
    assert [weight for _, weight in senses] == pytest.approx([10 / 10.5, 0.5 / 10.5])


def test_a_missing_wordnet_says_how_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WordNetError, match="apt-get install wordnet-base"):
        WordNet(tmp_path)
    assert main([str(tmp_path / "out"), str(tmp_path)]) == 2
    assert "wordnet-base" in capsys.readouterr().err


def test_the_table_reads_back_as_it_was_quantised_and_is_the_same_every_time(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 8))
    vectors[7] *= 1e-6  # all of it would round to nothing
    quantised = quantise(vectors, step=1 / 32)
    assert np.abs(quantised - vectors).max() <= 1 / 32
    assert quantised[7].any()
    words = [f"word{index}" for index in range(49)] + ["table_tennis"]
    paths = [tmp_path / "first.bin.gz", tmp_path / "second.bin.gz"]
    for path in paths:
        write_word2vec(path, words, quantised)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    table = load_word_vectors(paths[0])
    assert table.index_to_key == words
    assert np.array_equal(table.vectors, quantised)
