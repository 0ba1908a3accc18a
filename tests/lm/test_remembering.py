"""A model with memory: the bound, causality, batches, branches, citations that resolve, files."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from needs import needs_core
from solomonic.core import CheckpointError, ConfigError, DataError, ShapeError
from solomonic.lm.generate import GenerateConfig, Generation
from solomonic.lm.native import NativeModel
from solomonic.lm.remembering import RememberConfig, Remembering, RememberingState
from solomonic.lm.score import token_log_probs
from solomonic.memory import Memory, NewItem
from solomonic.memory.reader.gate import bound
from solomonic.memory.reader.neighbours import Datastore
from solomonic.text import ByteTokenizer
from tiny import tiny_model

TEXT = "Ada keeps the blue key under the third stair. Bruno’s violin is in the attic. "
TOKENIZER = ByteTokenizer()
GREEDY = GenerateConfig(max_new_tokens=24, temperature=0)


def ids(text: str) -> list[int]:
    return [TOKENIZER.eos_id, *TOKENIZER.encode(text)]


def reader(**changes: Any) -> Remembering:
    return Remembering(tiny_model("BM"), TOKENIZER, RememberConfig(chunk=16), **changes)


def test_it_never_costs_more_than_the_bound_and_saves_on_what_was_seen() -> None:
    rng = np.random.default_rng(0)
    noise, model = [TOKENIZER.eos_id, *rng.integers(0, 256, 150).tolist()], tiny_model("BM")
    for tokens, gains in ((noise, False), (ids(TEXT * 3), True)):
        alone, _ = token_log_probs(model, torch.tensor([tokens]))
        alone = -alone[0].numpy() / math.log(2)
        paid = reader().score(tokens)
        steps = np.arange(1, len(paid) + 1)
        above = np.cumsum(paid) - np.cumsum(alone)
        assert (above <= np.array([bound(int(n)) for n in steps]) + 1e-6).all()
        assert not gains or paid[-len(TEXT) :].sum() < 0.5 * alone[-len(TEXT) :].sum()


def test_any_cut_into_calls_gives_the_same_numbers_and_nothing_is_seen_ahead() -> None:
    tokens = ids(TEXT + TEXT[:20])
    whole = reader().score(tokens)
    apart, other = reader(), reader()
    state, found = apart.init_state(1), []
    for token, following in itertools.pairwise(tokens):
        logs, state = apart.next_logits(torch.tensor([[token]]), state)
        assert logs.exp().sum() == pytest.approx(1, abs=1e-4)
        found.append(-float(logs[0, following]) / math.log(2))
    np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-4)
    changed = [*tokens[:60], *[7] * (len(tokens) - 60)]
    np.testing.assert_allclose(other.score(changed)[:59], whole[:59], rtol=1e-9)


def test_rows_of_a_batch_are_alone_and_branches_go_their_own_way() -> None:
    with_memory = reader()
    with_memory.learn(TEXT, "notes")
    prompts = [ids("Ada keeps the")[1:], ids("Where is the violin? Bruno")[1:], [3]]
    together = Generation(with_memory, prompts, GREEDY)
    rows = torch.stack(list(together), dim=1)
    for row, prompt in enumerate(prompts):
        alone = Generation(with_memory, [prompt], GREEDY)
        assert rows[row].tolist() == [int(token) for token in alone]
    state = together.state
    branch = state.gather([1, 0])
    before = [len(row.recall.match) for row in state.rows]
    with_memory.next_logits(torch.tensor([[1], [2]]), branch)
    assert [len(row.recall.match) for row in state.rows] == before
    assert state.nbytes > 0 and state.time.tolist() == [row.read for row in state.rows]


def test_a_stored_sentence_is_continued_and_cited_to_the_letter() -> None:
    with_memory = reader()
    filler = "Très été — nothing here. "
    with_memory.learn(filler + TEXT, "notes.md", offset=100, read=False)
    generation = Generation(with_memory, [ids("Bruno’s violin is")[1:]], GREEDY)
    output = [int(token) for token in generation]
    assert TOKENIZER.decode(output).startswith(" in the attic. ")
    source = " " * 100 + filler + TEXT
    cited = with_memory.citations(generation.state, output)
    assert cited
    for one in cited:
        assert one.source == "notes.md" and 0.5 < one.weight <= 1
        assert source[one.offset : one.offset + len(one.text)] == one.text
        assert TOKENIZER.decode(output[one.start : one.end]) == one.text
        assert one.to_json()["source"] == "notes.md"
    assert " in the attic. " in " ".join(one.text for one in cited)


def test_a_store_is_searched_as_the_text_goes_on() -> None:
    with Memory.open(":memory:") as memory:
        memory.write_many(
            NewItem(text=text, source="book", offset=offset)
            for offset, text in ((0, "Nothing of that kind."), (40, TEXT), (500, "Stairs, stairs."))
        )
        with_memory = reader(memory=memory)
        generation = Generation(with_memory, [ids("the blue key under")[1:]], GREEDY)
        output = [int(token) for token in generation]
        assert TOKENIZER.decode(output).startswith(" the third stair.")
        cited = with_memory.citations(generation.state, output)
        assert any(
            one.source == "book" and 40 <= one.offset <= 40 + len(TEXT) and "stair" in one.text
            for one in cited
        )
        without = [int(t) for t in Generation(reader(), [ids("the blue key under")[1:]], GREEDY)]
        assert not TOKENIZER.decode(without).startswith(" the third")


def test_skimmed_text_is_matched_as_if_it_had_been_read() -> None:
    with_memory = reader()
    state = with_memory.init_state(1)
    with_memory.skim(ids(TEXT), state)
    read = with_memory.init_state(1)
    with_memory.score(ids(TEXT), read)
    plain, other = state.rows[0].recall, read.rows[0].recall
    np.testing.assert_array_equal(plain.match.history.tokens, other.match.history.tokens)
    assert len(plain.cache) == len(other.cache) == len(TEXT.encode())
    np.testing.assert_allclose(
        plain.cache.to_arrays()["keys"], other.cache.to_arrays()["keys"], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(plain.cache.positions, other.cache.positions)
    assert state.time.tolist() == [len(ids(TEXT))]
    generation = Generation(with_memory, [ids("Bruno’s violin")[1:]], GREEDY, state)
    output = [int(token) for token in generation]
    assert TOKENIZER.decode(output).startswith(" is in the attic")
    with pytest.raises(ShapeError, match="one row at a time"):
        with_memory.skim([1], with_memory.init_state(2))


@needs_core
def test_the_native_core_remembers_as_torch_does() -> None:
    model = tiny_model("BM").float()
    pair = [Remembering(one, TOKENIZER) for one in (model, NativeModel(model))]
    for one in pair:
        one.learn(TEXT, "notes")
    scores = [one.score(ids(TEXT[:60])) for one in pair]
    np.testing.assert_allclose(*scores, rtol=2e-3, atol=2e-3)
    state = pair[1].init_state(2)
    branch = state.gather([0])
    assert isinstance(branch, RememberingState) and len(branch) == 1


def test_a_datastore_is_an_expert_of_its_own() -> None:
    model = tiny_model("BM")
    tokens = torch.tensor([ids(TEXT)])
    with torch.no_grad():
        hidden, _ = model.hidden(tokens)
    data = Datastore(hidden[0, :-1].float().numpy(), tokens[0, 1:].numpy(), nearest=8)
    with_data = Remembering(model, TOKENIZER, datastore=data)
    names = with_data.init_state(1).rows[0].recall.names
    assert sum(name.startswith("neighbours") for name in names) == 4
    assert with_data.score(ids(TEXT)).sum() < 0.9 * reader().score(ids(TEXT)).sum()


def test_files_bring_the_memory_back_and_refuse_what_is_foreign(tmp_path: Path) -> None:
    with_memory, path = reader(), tmp_path / "stream"
    state = with_memory.init_state(1)
    tokens = ids(TEXT)
    with_memory.next_logits(torch.tensor([tokens[:-1]]), state)
    with_memory.save(path, state, "mine")
    again = with_memory.load(path, state.gather([0]).model, "mine")
    for token in tokens[-1], 65, 66, 67:
        mine, _ = with_memory.next_logits(torch.tensor([[token]]), state)
        theirs, _ = with_memory.next_logits(torch.tensor([[token]]), again)
        assert torch.equal(mine, theirs)
    with pytest.raises(CheckpointError, match="another model"):
        with_memory.load(path, state.model, "other")
    with pytest.raises(CheckpointError, match="other settings"):
        Remembering(tiny_model("BM"), TOKENIZER).load(path, state.model, "mine")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="cut short|damaged"):
        with_memory.load(path, state.model, "mine")


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to score"):
        reader().score([1])
    with pytest.raises(ShapeError, match="2 rows and the state 1"):
        reader().next_logits(torch.tensor([[1], [2]]), reader().init_state(1))
    with pytest.raises(ConfigError, match="passages = -1"):
        RememberConfig(passages=-1)
    small = tiny_model("BM", vocab_size=300)
    with pytest.raises(ConfigError, match="give the tokenizer saved beside the model"):
        Remembering(small, TOKENIZER)
