"""Generation equals rerunning the whole text at every step, and its memory does not grow."""

from types import SimpleNamespace

import pytest
import torch

from solomonic.core import ConfigError, ShapeError, VocabularyError
from solomonic.lm.generate import (
    GenerateConfig,
    Generation,
    adjust,
    choose,
    generate,
    stream_text,
)
from solomonic.state import nbytes
from solomonic.text import ByteTokenizer
from tiny import PATTERNS, REFRESH, WINDOW, tiny_model, tokens

GREEDY = GenerateConfig(max_new_tokens=3 * WINDOW + REFRESH, temperature=0)


@torch.no_grad()
def rerun(model, prompt, steps):
    """The slow law: the whole text through the model for every new token."""
    ids = list(prompt)
    for _ in range(steps):
        logits, _ = model(torch.tensor([ids]))
        ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("length", [1, REFRESH, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 13])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_generate_is_forward_greedy_across_every_boundary(pattern, length):
    model, prompt = tiny_model(pattern), tokens(length, seed=length).tolist()
    assert list(generate(model, prompt, GREEDY)) == rerun(model, prompt, GREEDY.max_new_tokens)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_batch_of_uneven_prompts_is_its_rows_alone(pattern):
    model = tiny_model(pattern)
    prompts = [tokens(length, seed=length).tolist() for length in (2, 11, WINDOW, 1)]
    together = torch.stack(list(Generation(model, prompts, GREEDY)), dim=1)
    for row, prompt in enumerate(prompts):
        assert together[row].tolist() == list(generate(model, prompt, GREEDY))


@pytest.mark.parametrize("cut", [1, WINDOW, 2 * WINDOW + 1])
def test_a_state_goes_on_where_it_stopped(cut):
    model, prompt = tiny_model(), tokens(4).tolist()
    whole = list(generate(model, prompt, GREEDY))
    first = Generation(model, [prompt], GREEDY.replace(max_new_tokens=cut))
    begun = [int(token) for token in first]
    assert first.state.time.tolist() == [len(prompt) + cut - 1]  # all but the last yielded
    rest = generate(model, begun[-1:], GREEDY.replace(max_new_tokens=len(whole) - cut), first.state)
    assert begun + list(rest) == whole


def test_memory_does_not_grow():
    generation = Generation(tiny_model("BF"), [tokens(3).tolist()], GREEDY)
    sizes = set()
    for _ in generation:
        sizes.add(nbytes(generation.state))
    assert len(sizes) == 1


def test_a_row_ends_at_eos_and_its_state_stands_still():
    model = tiny_model()
    prompts = [tokens(4, seed=2).tolist(), tokens(7, seed=3).tolist()]
    alone = [list(generate(model, prompt, GREEDY)) for prompt in prompts]
    eos = next(t for t in alone[0][2:] if t not in alone[1] and alone[0].index(t) >= 2)
    stop = alone[0].index(eos)
    config = GREEDY.replace(eos_id=eos)
    assert list(generate(model, prompts[0], config)) == alone[0][: stop + 1]
    generation = Generation(model, prompts, config)
    together = torch.stack(list(generation), dim=1)
    assert together[0].tolist() == alone[0][: stop + 1] + [eos] * (len(alone[1]) - stop - 1)
    assert together[1].tolist() == alone[1]
    assert generation.done.tolist() == [True, False]
    assert generation.state.time.tolist() == [4 + stop, 7 + len(alone[1]) - 1]


def test_generation_ends_when_all_rows_have():
    model, prompt = tiny_model(), tokens(4).tolist()
    eos = next(iter(generate(model, prompt, GREEDY)))
    assert len(list(Generation(model, [prompt] * 3, GREEDY.replace(eos_id=eos)))) == 1


def test_nothing_is_generated_for_no_tokens():
    assert list(generate(tiny_model(), [1], GenerateConfig(max_new_tokens=0))) == []


def test_gradients_stay_on_for_the_caller():
    generation = generate(tiny_model(), [1, 2], GREEDY)
    next(generation)
    assert torch.is_grad_enabled()


SETTINGS = [
    {"temperature": 0.7},
    {"top_k": 5},
    {"top_p": 0.6},
    {"min_p": 0.2},
    {"repetition_penalty": 1.7},
    {"temperature": 1.3, "top_k": 20, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_distributions_are_those_of_transformers(settings):
    from transformers import generation as hf

    scores = torch.randn(4, 50, generator=torch.Generator().manual_seed(0)) * 3
    ids = tokens(4, 9, vocab_size=50)
    processors = {
        "repetition_penalty": hf.RepetitionPenaltyLogitsProcessor,
        "temperature": hf.TemperatureLogitsWarper,
        "top_k": hf.TopKLogitsWarper,
        "top_p": hf.TopPLogitsWarper,
        "min_p": hf.MinPLogitsWarper,
    }
    expected = scores
    for name, processor in processors.items():
        if name in settings:
            expected = processor(settings[name])(ids, expected)
    seen = torch.zeros(4, 50, dtype=torch.bool).scatter(1, ids, True)
    ours = adjust(scores, GenerateConfig(**settings), seen)
    torch.testing.assert_close(ours.softmax(-1), expected.softmax(-1))


def test_the_repetition_penalty_remembers_prompt_and_output_but_no_padding():
    model = tiny_model()
    config = GREEDY.replace(repetition_penalty=1e9)
    prompts = [tokens(9, seed=4).tolist(), tokens(3, seed=5).tolist()]
    together = torch.stack(list(Generation(model, prompts, config)), dim=1)
    for row, prompt in enumerate(prompts):
        assert together[row].tolist() == list(generate(model, prompt, config))
        every = prompt + together[row].tolist()
        assert len(set(every)) == len(every)


def test_padding_does_not_count_as_a_repetition():
    model = tiny_model(tie_word_embeddings=False)
    first = next(generate(model, [5], GREEDY))
    with torch.no_grad():  # now the model says 0, which is also what fills short prompts
        model.head.weight[[0, first]] = model.head.weight[[first, 0]]
    config = GREEDY.replace(repetition_penalty=1e9)
    assert next(Generation(model, [[5], [1, 2, 3]], config))[0] == 0


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(20000, 4)
    generator = torch.Generator().manual_seed(0)
    drawn = choose(logits, GenerateConfig(), generator=generator).bincount(minlength=4) / 20000
    torch.testing.assert_close(drawn, logits[0].softmax(-1), rtol=0, atol=0.01)


def test_a_seed_repeats_the_draws():
    model = tiny_model()
    one, same, other = (
        list(generate(model, [1, 2], GenerateConfig(max_new_tokens=20, seed=seed)))
        for seed in (3, 3, 4)
    )
    assert one == same
    assert one != other


@pytest.mark.parametrize("wrong", [257, -1, 10**6])
def test_a_token_outside_the_vocabulary_is_named(wrong):
    message = rf"token {wrong} at position 2 of the prompt .* 257 tokens \(0 to 256\); encode"
    with pytest.raises(VocabularyError, match=message):
        generate(tiny_model(), [1, 2, wrong], GREEDY)
    with pytest.raises(VocabularyError, match="position 2 of row 1 of the prompt"):
        Generation(tiny_model(), [[1], [1, 2, wrong]], GREEDY)


@pytest.mark.parametrize("prompts", [[[]], [[1], []], []])
def test_an_empty_prompt_is_refused(prompts):
    with pytest.raises(ShapeError, match="the prompt is empty; give at least one token"):
        Generation(tiny_model(), prompts, GREEDY)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1}, "temperature = -1 must not be negative"),
        ({"top_k": -1}, "top_k = -1 must not be negative"),
        ({"max_new_tokens": -1}, "max_new_tokens = -1 must not be negative"),
        ({"top_p": 0}, r"top_p = 0 must lie in \(0, 1\]"),
        ({"top_p": 1.1}, r"top_p = 1.1 must lie in \(0, 1\]"),
        ({"min_p": 2}, r"min_p = 2 must lie in \[0, 1\]"),
        ({"repetition_penalty": 0}, "repetition_penalty = 0 must be positive"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        GenerateConfig(**settings)


class Parrot:
    """Stands in for a model: says the given tokens, whatever it reads, and notes what it read."""

    def __init__(self, says):
        self.config = SimpleNamespace(vocab_size=257)
        self.says, self.read = list(says), []

    device = torch.device("cpu")

    def next_logits(self, tokens, state, lengths):
        self.read += tokens[0].tolist()
        return torch.nn.functional.one_hot(torch.tensor([self.says.pop(0)]), 257).float(), state


def test_text_comes_in_whole_characters_and_stops_at_the_end_of_text():
    tokenizer = ByteTokenizer()
    model = Parrot([*"hé€😀!".encode(), tokenizer.eos_id, *b"never said"])
    pieces = list(stream_text(model, tokenizer, "ö", GREEDY))
    assert pieces == ["h", "é", "€", "😀", "!"]
    assert model.read[:2] == list("ö".encode())


def test_a_character_cut_short_shows_as_one():
    model = Parrot([*b"a", *"😀".encode()[:2]])
    config = GREEDY.replace(max_new_tokens=3)
    assert list(stream_text(model, ByteTokenizer(), "x", config)) == ["a", "\ufffd"]


def test_an_empty_text_begins_a_document():
    tokenizer = ByteTokenizer()
    model = Parrot(b"hi")
    assert list(stream_text(model, tokenizer, "", GREEDY.replace(max_new_tokens=2))) == ["h", "i"]
    assert model.read[0] == tokenizer.eos_id


def test_another_token_can_end_the_text():
    config = GREEDY.replace(eos_id=ord("\n"))
    assert list(stream_text(Parrot(b"ab\ncd"), ByteTokenizer(), "x", config)) == ["a", "b"]


def test_a_tokenizer_of_another_model_is_noticed():
    model = Parrot(b"")
    model.config.vocab_size = 100
    with pytest.raises(VocabularyError, match="token 122 at position 1"):
        stream_text(model, ByteTokenizer(), "az", GREEDY)
