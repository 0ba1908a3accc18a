"""Attention of the joint network to phrases: its definition, the search with it, what it learns."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from solomonic.core import ConfigError, ShapeError, VocabularyError
from solomonic.speech.biasing import Biasing
from solomonic.speech.biasing.pointer import DEPTHS, PhraseTree, PointerBiasing, PointerConfig
from solomonic.speech.biasing.protocol import Scaled
from solomonic.speech.decode import DecodeConfig, DecodeResult
from solomonic.speech.recognizer import Recognizer
from speech_tiny import RATE, command, tiny_model

V, J = 20, 12
CONFIG = PointerConfig(vocab_size=V, joint_size=J, embedding_size=6, size=5)
PHRASES = [[3, 4, 5], [6], [7, 8], [3, 4], [9, 1, 2, 3, 4, 11], [3, 4, 5, 3, 4, 12]]
LABELS = [[3, 4, 5, 3, 4], [9, 1, 2, 3, 4], [6, 7, 3, 10, 3], [7, 7, 8, 0, 0]]


def made(seed: int = 0) -> PointerBiasing:
    """A module of which nothing is zero, in float64."""
    torch.manual_seed(seed)
    module = PointerBiasing(CONFIG).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return module


def vectors(rows: int, steps: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, steps, J, generator=generator, dtype=torch.float64)


def by_definition(
    module: PointerBiasing, phrases: Sequence[Sequence[int]], labels: Sequence[int],
    acoustic: Tensor, label: Tensor,
) -> Tensor:  # fmt: skip
    """(V,) added for one frame (J,) and the labels said so far, phrase by phrase."""
    added = acoustic.new_zeros(V)
    asked = module.acoustic_query(module.acoustic_norm(acoustic))
    asked = asked + module.label_query(module.label_norm(label))
    reached = {tuple(p[:d]) for p in phrases for d in range(1, len(p) + 1)}
    for node in reached:
        depth, above = len(node), node[:-1]
        if above != tuple(labels[len(labels) - depth + 1 :]) or depth - 1 > len(labels):
            continue
        h = c = acoustic.new_zeros(CONFIG.embedding_size)
        for piece in node:
            h, c = module.cell(module.pieces.weight[piece], (h, c))
        key = module.key(torch.cat((h, module.pieces.weight[node[-1]])))
        share = sum(tuple(p[:depth]) == node for p in phrases)
        share /= sum(tuple(p[: depth - 1]) == above for p in phrases)
        score = asked @ key / math.sqrt(CONFIG.size)
        score = score + module.depth[min(depth, DEPTHS) - 1] + module.share[0] * math.log(share)
        added[node[-1]] += torch.log1p(score.exp())
    return added


def test_outputs_and_gradients_are_those_of_the_definition() -> None:
    module = made()
    lists = [PHRASES, PHRASES[::-1], [], PHRASES[1:3]]
    acoustic, label = vectors(4, 3, 1), vectors(4, 6, 2)
    weights = torch.randn(4, 3, 6, V, generator=torch.Generator().manual_seed(3)).double()
    fast = module(acoustic, label, module.open(lists, torch.tensor(LABELS)))
    slow = torch.stack([
        torch.stack([
            torch.stack([
                by_definition(module, lists[b], LABELS[b][:u], acoustic[b, t], label[b, u])
                for u in range(6)
            ])
            for t in range(3)
        ])
        for b in range(4)
    ])  # fmt: skip
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    assert (fast[2] == 0).all() and (fast[0] != 0).any()
    parameters = list(module.parameters())
    found, wanted = (torch.autograd.grad((x * weights).sum(), parameters) for x in (fast, slow))
    for (name, _), a, b in zip(module.named_parameters(), found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11, msg=name)


def test_a_stream_hears_what_training_computes() -> None:
    """Along a row's labels, the search's numbers are those of the batch."""
    module = made()
    labels = torch.tensor(LABELS[:1])
    acoustic, label = vectors(1, 2, 1), vectors(1, 6, 2)
    logits = torch.randn(1, 2, 6, V, generator=torch.Generator().manual_seed(4)).double()
    wanted = (logits + module(acoustic, label, module.open([PHRASES], labels))).log_softmax(-1)
    listed = module.embed(PHRASES)
    assert listed is not None
    states = [listed.start]
    for token in LABELS[0]:
        states.append(listed.step(states[-1], token))
    queries = [listed.query(row) for row in label[0].numpy()]
    for t in range(2):
        plain = logits[0, t].log_softmax(-1).numpy()
        before = plain.copy()
        found = listed.add(plain, acoustic[0, t].numpy(), queries, states)
        np.testing.assert_allclose(found, wanted[0, t].detach().numpy(), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(plain, before)


def test_a_tree_opens_what_goes_on_after_the_longest_and_shorter_matches() -> None:
    tree = PhraseTree(PHRASES, V)
    first = sorted({phrase[0] for phrase in PHRASES})
    state, opened = 0, []
    for token in [0, 3, 4, 5, 3]:
        state = tree.step(state, token) if token else 0
        opened.append(sorted(tree.pieces[tree.open(state)].tolist()))
    assert opened == [
        first, sorted([*first, 4]), sorted([*first, 5]), sorted([*first, 3]),
        sorted([*first, 4, 4]),  # of the long phrase, and of those that begin with its fourth
    ]  # fmt: skip
    assert len(tree) == 15
    np.testing.assert_allclose(np.exp(tree.shares[tree.depths == 1]), [3 / 6, 1 / 6, 1 / 6, 1 / 6])


def test_no_list_and_lists_that_cannot_be() -> None:
    module = made()
    assert module.embed([]) is None
    with pytest.raises(ShapeError, match="a phrase of the context is empty"):
        module.embed([[3], []])
    with pytest.raises(VocabularyError, match=r"phrase \[3, 20\] has a piece outside 1 to 19"):
        module.embed([[3, 20]])
    with pytest.raises(ShapeError, match="there are no phrases"):
        PhraseTree([], V)
    with pytest.raises(ShapeError, match="2 lists of phrases for 1 rows"):
        module.open([PHRASES, PHRASES], torch.tensor([[1]]))
    with pytest.raises(ConfigError, match="size must be positive, not 0"):
        CONFIG.replace(size=0)
    nothing = module.open([[], []], torch.tensor([[1], [2]]))
    assert (module(vectors(2, 3, 1), vectors(2, 2, 2), nothing) == 0).all()


def test_it_can_start_from_what_the_joint_network_hears() -> None:
    torch.manual_seed(0)
    module, output = PointerBiasing(CONFIG.replace(embedding_size=16, size=16)), torch.randn(V, J)
    module.start_from(output)
    frames = torch.randn(1, 200, J)
    label = torch.zeros(1, 1, J)
    opened = module.open([[[3], [7], [11], [19]]], torch.zeros(1, 0, dtype=torch.int64))
    added = module(frames, label, opened)[0, :, 0, [3, 7, 11, 19]]
    heard = (frames[0] @ (output - output.mean(0)).T)[:, [3, 7, 11, 19]]
    assert (added.argmax(-1) == heard.argmax(-1)).float().mean() > 0.9
    with pytest.raises(ShapeError, match=r"output weights \(19, 12\) do not fit"):
        module.start_from(output[1:])


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    """The tiny recogniser with an attention that cannot be overheard."""
    model = tiny_model()
    net = model.transducer
    torch.manual_seed(1)
    net.pointer = PointerBiasing(
        PointerConfig(vocab_size=model.pieces.size, joint_size=32, embedding_size=8, size=8)
    )
    torch.nn.init.constant_(net.pointer.depth, 4.0)
    return Recognizer(model, DecodeConfig(beam=3))


def heard(
    recognizer: Recognizer, samples: np.ndarray, step: int = 1 << 20, **options: object
) -> tuple[list[object], object]:
    stream = recognizer.create_stream(**options)  # type: ignore[arg-type]
    events = []
    for start in range(0, len(samples), step):
        stream.accept_waveform(RATE, samples[start : start + step])
        events += stream.events()
    stream.input_finished()
    return [*events, *stream.events()], stream.result()


def test_an_empty_list_changes_nothing_and_another_does(recognizer: Recognizer) -> None:
    sound = command(seed=1)
    plain = Recognizer(tiny_model(), DecodeConfig(beam=3))
    expected = heard(plain, sound)
    assert heard(recognizer, sound) == heard(recognizer, sound, bias=[]) == expected
    words = ["kitchen music", "volume", "brother"]
    assert heard(recognizer, sound, bias=words, attention=False) == heard(plain, sound, bias=words)
    assert heard(recognizer, sound, bias=words)[1] != heard(plain, sound, bias=words)[1]


def test_beside_attention_the_search_pays_a_part(recognizer: Recognizer) -> None:
    words = ["kitchen music", "volume"]
    pieces = recognizer.model.pieces
    graph = Biasing(words, pieces=pieces).graph
    assert graph is not None
    scaled = Scaled(graph, 0.25)
    state, expected = scaled.start, graph.start
    for token in [*pieces.encode("kitchen music"), *pieces.encode("stop")]:
        np.testing.assert_array_equal(scaled.scores(state), graph.scores(expected) / 4)
        assert list(scaled.next_tokens(state)) == list(graph.next_tokens(expected))
        (state, paid), (expected, whole) = scaled.step(state, token), graph.step(expected, token)
        assert state == expected and paid == whole / 4
        assert scaled.final(state) == graph.final(state) / 4
    both, alone = (recognizer._personal(words, attention) for attention in (True, False))
    assert both.listed is not None and isinstance(both.graph, Scaled)
    assert both.graph.step(0, 5)[1] == graph.step(0, 5)[1] / 4
    assert alone.listed is None and not isinstance(alone.graph, Scaled)


@pytest.mark.parametrize("method", ["beam", "greedy"])
def test_no_cut_and_no_neighbour_changes_what_is_heard(method: str, recognizer: Recognizer) -> None:
    asked = Recognizer(recognizer.model, DecodeConfig(method=method, beam=3))
    sounds = [command(seed=seed, before=0.2 * seed) for seed in (1, 2, 4)]
    lists = [["kitchen music", "volume"], [], ["brother", "weather today"]]
    alone = [heard(asked, sound, bias=words) for sound, words in zip(sounds, lists, strict=True)]
    for sound, words, expected in zip(sounds, lists, alone, strict=True):
        assert heard(asked, sound, 777, bias=words) == expected
    streams = [asked.create_stream(bias=words) for words in lists]
    for stream, sound in zip(streams, sounds, strict=True):
        stream.accept_waveform(RATE, sound)
        stream.input_finished()
    asked.decode_streams(streams)
    texts = [stream.result().text for stream in streams]
    assert texts == [result.text for _, result in alone]  # type: ignore[attr-defined]


def test_attention_is_a_probability_and_lattices_hold_it(recognizer: Recognizer) -> None:
    """Alternatives of the search are scored with what was heard, the listed phrases included."""
    decoder = recognizer.decoder
    pointer = recognizer.model.transducer.pointer
    assert pointer is not None
    listed = pointer.embed([recognizer.model.pieces.encode("kitchen")])
    acoustic = torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(2))

    def result(phrases: object) -> DecodeResult:
        search = decoder.start(listed=phrases)  # type: ignore[arg-type]
        decoder.advance([search], acoustic)
        return decoder.finish(search)

    with_list, without = result(listed), result(None)
    assert with_list != without
    assert all(other.log_prob <= 0 and other.bias == 0 for other in with_list.nbest)


def test_it_learns_when_a_listed_phrase_comes() -> None:
    """A label says that a name comes, the frame half of which: only the list tells which."""
    generator = torch.Generator().manual_seed(0)
    names = torch.randint(2, V, (16, 3), generator=generator)
    names[:, 0] = torch.randperm(V - 2, generator=generator)[:16] + 2
    sounds = torch.randn(16 // 2, J, generator=generator)
    known = torch.randn(2, J, generator=generator)  # "a name comes", "none comes"
    torch.manual_seed(0)
    module = PointerBiasing(CONFIG.replace(embedding_size=16, size=16))
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)

    def run(size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Right first pieces with a name and with none, and the loss."""
        meant = torch.randint(16, (size,), generator=generator)
        none = torch.rand(size, generator=generator) < 0.5
        lists = []
        for one in meant.tolist():
            # Names that sound like another of the list are out of it.
            order = torch.randperm(16, generator=generator).tolist()
            others = [i for i in order if i % 8 != one % 8][:5]
            lists.append([names[i].tolist() for i in [one, *others]])
        noise = 0.1 * torch.randn(size, 1, J, generator=generator)
        acoustic = sounds[meant % 8][:, None] + noise
        label = known[none.long()][:, None]
        logits = torch.zeros(size, V)
        logits[:, 1] = 3.0  # what it says of itself
        opened = module.open(lists, torch.zeros(size, 0, dtype=torch.int64))
        logits = logits + module(acoustic, label, opened)[:, 0, 0]
        wanted = torch.where(none, 1, names[meant, 0])
        right = (logits.argmax(-1) == wanted).float()
        return right[~none].mean(), right[none].mean(), cross_entropy(logits, wanted)

    for _ in range(200):
        loss = run(32)[2]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        said, left, _ = run(400)
    assert said > 0.95 and left > 0.95
