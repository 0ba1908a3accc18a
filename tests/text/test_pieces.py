"""Word pieces: any English word can be written and read back; damaged and foreign files refused."""

import io
import pickle
from pathlib import Path

import pytest

from solomonic.core import CheckpointError, ConfigError, DataError, StorageError, VocabularyError
from solomonic.text.pieces import WordPieces

TEXTS = ["set a timer for ten minutes", "don't stop the music", "call anna on her mobile",
         "turn the lights off in the kitchen", "what is the time", "play some jazz in the bedroom",
         "wake me up at half past seven", "add milk and bread to the shopping list",
         "will it rain in london tomorrow", "how long is the timer"] * 20  # fmt: skip
SIZE = 64


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    return WordPieces.train(TEXTS, SIZE)


def test_blank_is_zero_and_nothing_is_encoded_to_it(pieces: WordPieces) -> None:
    assert pieces.pieces[0] == "<blank>" and pieces.size == len(pieces.pieces) == SIZE
    assert set("abcdefghijklmnopqrstuvwxyz'") <= set(pieces.pieces), "every word can be written"
    assert pieces.encode("") == [] and pieces.decode([]) == ""
    for text in (*TEXTS[:5], "zyx qj vwk", "'em"):  # letters that the texts do not have
        ids = pieces.encode(text)
        assert min(ids) >= 1 and pieces.decode(ids) == text
        assert sum(map(pieces.starts_word, ids)) == len(text.split())


def test_common_words_are_few_pieces(pieces: WordPieces) -> None:
    assert len(pieces.encode("the")) < len(pieces.encode("zqx"))


def test_nbest_are_different_spellings_of_the_text(pieces: WordPieces) -> None:
    best = pieces.encode_nbest("set a timer", 6)
    assert best[0] == pieces.encode("set a timer") and len({tuple(ids) for ids in best}) == 6
    assert {pieces.decode(ids) for ids in best} == {"set a timer"}
    assert pieces.encode_nbest("", 3) == [[]] and pieces.encode_nbest("a", 1) == [
        pieces.encode("a")
    ]
    with pytest.raises(ConfigError, match="at least 1"):
        pieces.encode_nbest("a", 0)


@pytest.mark.parametrize("text", ["Anna", "café", "a1", "a▁b", "tab\there", "nul\0"])
def test_other_characters_are_refused_by_name(pieces: WordPieces, text: str) -> None:
    with pytest.raises(VocabularyError, match="normalise"):
        pieces.encode(text)
    with pytest.raises(VocabularyError):
        pieces.encode_nbest(text, 3)


@pytest.mark.parametrize("token", [0, -1, 64])
def test_decoding_other_ids_is_refused(pieces: WordPieces, token: int) -> None:
    with pytest.raises(VocabularyError, match="1 to 63"):
        pieces.decode([1, token])


def test_training_is_repeatable_and_equality_is_of_the_model(pieces: WordPieces) -> None:
    again = WordPieces.train(iter(TEXTS), SIZE)
    assert again.to_bytes() == pieces.to_bytes() and again == pieces and hash(again) == hash(pieces)
    assert WordPieces.train(TEXTS, 48) != pieces
    assert pickle.loads(pickle.dumps(pieces)) == pieces  # for worker processes


def test_other_alphabets_are_learned_when_they_occur() -> None:
    german = WordPieces.train(["schöne grüße"] * 9, 60)
    assert german.decode(german.encode("grüße")) == "grüße"


def test_long_lines_are_not_dropped() -> None:
    assert WordPieces.train(["w " * 5000 + "ö"], 64).encode("ö")


def test_what_cannot_be_learned_from() -> None:
    with pytest.raises(DataError, match="no text"):
        WordPieces.train(["", "  "])
    with pytest.raises(ConfigError, match="at least 29"):
        WordPieces.train(["abc"], 28)
    with pytest.raises(DataError, match="reserved"):
        WordPieces.train(["a▁b"])
    assert WordPieces.train(["abc"], 29).size == 29


def test_saved_and_loaded_as_a_sentencepiece_model(tmp_path: Path, pieces: WordPieces) -> None:
    file = tmp_path / "new" / "pieces.model"
    pieces.save(file)
    assert WordPieces.load(file) == pieces
    sentencepiece = pytest.importorskip("sentencepiece")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(file))
    assert theirs.encode("set a timer") == pieces.encode("set a timer")
    assert [p.name for p in file.parent.iterdir()] == ["pieces.model"], "nothing left behind"


def test_every_cut_file_is_refused(pieces: WordPieces) -> None:
    model = pieces.to_bytes()
    for end in range(len(model)):
        with pytest.raises(CheckpointError, match="cut short"):
            WordPieces.from_bytes(model[:end])


def test_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    with pytest.raises(CheckpointError, match="cannot read"):
        WordPieces.load(tmp_path / "none.model")
    (tmp_path / "text.model").write_text("hello there, this is text")
    with pytest.raises(CheckpointError, match=r"text\.model: cut short or no SentencePiece"):
        WordPieces.load(tmp_path / "text.model")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=60, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="without the blank at id 0"):
        WordPieces.from_bytes(model.getvalue())


def test_a_place_that_cannot_be_written(tmp_path: Path, pieces: WordPieces) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        pieces.save(tmp_path / "file" / "pieces.model")
