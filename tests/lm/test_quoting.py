"""Generation with `Quoting`: quotations verbatim, everything else untouched, on either engine."""

import pytest
import torch

from needs import needs_core
from solomonic.core import ConfigError, DataError
from solomonic.lm.generate import GenerateConfig, Generation
from solomonic.lm.model import LanguageModel
from solomonic.lm.native import NativeModel
from solomonic.lm.quoting import Quoting, token_pieces
from solomonic.memory.quotes import QuoteIndex, SourceText
from solomonic.text import BpeTokenizer, ByteTokenizer
from tiny import tiny_config, tiny_model

TEXT = "So much depends upon a red wheel barrow — glazed with rain water. " * 3
INDEX = QuoteIndex([SourceText("poem", TEXT)])
BYTES = ByteTokenizer()
CONSTRAINT = INDEX.constraint(token_pieces(BYTES))


class Fond(LanguageModel):
    """A model without a mind, fond of quotation marks and not of ends."""

    def next_logits(self, tokens, state=None, lengths=None):  # pyright: ignore
        logits, state = super().next_logits(tokens, state, lengths)
        logits[:, [ord('"'), 256]] += torch.tensor([7.0, -1e9])
        return logits, state


@pytest.fixture(scope="module")
def fond() -> Fond:
    torch.manual_seed(0)
    return Fond(tiny_config()).eval()


def written(reader, prompts: list[bytes], seed: int, count: int = 40) -> list[bytes]:
    config = GenerateConfig(max_new_tokens=count, seed=seed, eos_id=256, temperature=2.0)
    generation = Generation(reader, [list(prompt) for prompt in prompts], config)
    tokens = torch.stack(list(generation), dim=1).tolist()
    return [p + BYTES.decode_bytes(row) for p, row in zip(prompts, tokens, strict=True)]


def test_every_quotation_is_verbatim(fond: Fond) -> None:
    """Two rows of different length, one of which begins inside a quotation."""
    prompts, quoted, free = [b'As he said, "So mu', b"a"], 0, 0
    for seed in range(3):
        for row in written(Quoting(fond, CONSTRAINT), prompts, seed):
            *whole, last = INDEX.check(row.decode(errors="ignore"))
            assert all(verdict.ok for verdict in whole)
            assert last.ok or not last.quotation.closed
            assert last.spans or not last.quotation.text
            quoted += len(whole)
        for row in written(fond, [b"a"], seed):
            free += sum(not verdict.ok for verdict in INDEX.check(row.decode(errors="ignore"))[:-1])
    assert quoted > 8
    assert free > 2  # without the constraint it misquotes


def test_without_quotation_marks_nothing_changes() -> None:
    model = tiny_model().float()
    config = GenerateConfig(max_new_tokens=20, temperature=0.0)
    plain = list(Generation(model, [[97, 98]], config))
    around = Generation(Quoting(model, CONSTRAINT), [[97, 98]], config)
    same = list(around)
    assert ord('"') not in [int(token) for token in plain]
    assert plain == same
    assert around.state.nbytes > 0  # the model's own, to be saved
    logits, _ = Quoting(model, CONSTRAINT).next_logits(torch.tensor([[97]]))
    assert torch.equal(logits, model.next_logits(torch.tensor([[97]]))[0])


@needs_core
def test_the_native_engine_and_ids_without_a_text(fond: Fond) -> None:
    model = NativeModel(fond)
    logits, _ = Quoting(model, CONSTRAINT).next_logits(torch.tensor([list(b'"So')]))
    allowed = (logits[0] > -1e30).nonzero()[:, 0].tolist()
    assert sorted(allowed) == sorted([ord('"'), ord(" ")])
    small = INDEX.constraint(token_pieces(BYTES)[:200])  # a vocabulary smaller than the model's
    inside, _ = Quoting(model, small).next_logits(torch.tensor([[*b'"So', 230]]))
    assert torch.isneginf(inside[0, 200:]).all()
    outside, _ = Quoting(model, small).next_logits(torch.tensor([[*b"So"]]))
    assert not torch.isneginf(outside[0, 200:]).any()


def test_merged_tokens() -> None:
    tokenizer = BpeTokenizer.train([TEXT + 'he said "So much" and "red wheel", ' * 5], 300)
    pieces = token_pieces(tokenizer)
    assert any(b'"' in piece and len(piece) > 1 for piece in pieces)
    constraint = INDEX.constraint(pieces)
    state = constraint.read(constraint.start, tokenizer.encode('he said "So much'))
    assert (constraint.allowed(state) == constraint.allowed_by_definition(state)).all()
    assert not constraint.allowed(state)[tokenizer.eos_id]


def test_what_is_refused() -> None:
    model = tiny_model(vocab_size=200).float()
    with pytest.raises(ConfigError, match="the constraint has 257 tokens and the model 200"):
        Quoting(model, CONSTRAINT)
    misquoting = Generation(Quoting(tiny_model().float(), CONSTRAINT), [[*b'He said "So little']])
    with pytest.raises(DataError, match="ends inside a quotation that the store does not hold"):
        next(misquoting)
