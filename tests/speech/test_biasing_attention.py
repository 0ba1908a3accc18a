"""Attention over phrases: the identity at first, no order, no neighbours in time, and it learns."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from solomonic.core import ConfigError, ShapeError, VocabularyError
from solomonic.speech.biasing.attention import (
    GRAINS,
    Context,
    ContextBiasing,
    ContextConfig,
    guided_attention_loss,
    trainable_parameters,
)
from solomonic.state import concatenate, gather

CONFIG = ContextConfig(vocab_size=20, hidden_size=12, embedding_size=8, size=16, heads=4)
PHRASES = [[3, 4, 5], [6], [7, 8], [3, 4], [9, 1, 2, 3, 4]]


@pytest.fixture(params=GRAINS)
def grain(request: pytest.FixtureRequest) -> str:
    return request.param


def trained(grain: str = "phrase", combiner: str = "gate") -> ContextBiasing:
    """A module whose output is not zero any more, in float64."""
    torch.manual_seed(0)
    module = ContextBiasing(CONFIG.replace(grain=grain, combiner=combiner)).double()
    nn.init.normal_(module.output.weight)
    nn.init.normal_(module.no_bias)
    return module


def frames(batch: int = 2, time: int = 7, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, time, CONFIG.hidden_size, generator=generator, dtype=torch.float64)


def same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-12)


def test_untrained_it_is_the_identity() -> None:
    torch.manual_seed(0)
    module = ContextBiasing(CONFIG)
    hidden = frames().float()
    assert torch.equal(module(hidden, module.embed(PHRASES)), hidden)


def test_it_can_start_from_what_the_joint_network_hears() -> None:
    """A frame then looks for the piece that the joint network hears in it, and nothing changes."""
    torch.manual_seed(0)
    config = CONFIG.replace(grain="piece", heads=1, embedding_size=16)
    module, output, project = ContextBiasing(config), torch.randn(20, 10), torch.randn(10, 12)
    module.start_from(output, project)
    hidden = torch.randn(1, 200, 12)
    phrases = [[3], [7], [11], [19]]
    context = module.embed(phrases)
    assert torch.equal(module(hidden, context), hidden)
    weights = module.attend(hidden, context)[1][0, 0, :, 1:]
    heard = (hidden @ project.T @ (output - output.mean(0)).T)[0][:, [3, 7, 11, 19]]
    assert (weights.argmax(-1) == heard.argmax(-1)).float().mean() > 0.9
    with pytest.raises(ShapeError, match=r"logits of 19 pieces from 12 hidden units do not fit"):
        module.start_from(output[1:], project)
    with pytest.raises(ConfigError, match=r'only an attention with grain "piece"'):
        ContextBiasing(CONFIG).start_from(output, project)


@pytest.mark.parametrize("combiner", ["add", "gate"])
def test_without_phrases_it_is_the_identity_for_ever(combiner: str, grain: str) -> None:
    module, hidden = trained(grain, combiner), frames()
    assert torch.equal(module(hidden, module.embed([])), hidden)
    mixed = module(hidden, [module.embed(PHRASES), module.embed([])])
    assert torch.equal(mixed[1], hidden[1]), "beside a row that has some"
    assert not torch.allclose(mixed[0], hidden[0], atol=1e-3)


def test_the_order_of_phrases_does_not_matter(grain: str) -> None:
    module, hidden = trained(grain), frames()
    assert same(module(hidden, module.embed(PHRASES)), module(hidden, module.embed(PHRASES[::-1])))
    other = [*PHRASES[:-1], [9, 1, 2, 4, 3]]
    assert not same(module(hidden, module.embed(PHRASES)), module(hidden, module.embed(other)))


def test_rows_with_lists_of_their_own(grain: str) -> None:
    module, hidden = trained(grain), frames(3)
    lists = [PHRASES, [], PHRASES[:2]]
    contexts = [module.embed(phrases) for phrases in lists]
    alone = torch.cat(
        [module(row[None], context) for row, context in zip(hidden, contexts, strict=True)]
    )
    assert same(module(hidden, contexts), alone)
    batch = module.embed_batch(lists)
    assert same(module(hidden, batch), alone)
    weights = module.attend(hidden, batch)[1]
    assert torch.equal(weights[1, ..., 1:], torch.zeros_like(weights[1, ..., 1:]))
    last = module.entries(PHRASES[:2])[-1].stop
    assert torch.equal(weights[2, ..., last:], torch.zeros_like(weights[2, ..., last:]))
    assert weights.shape[-1] == (1 + len(PHRASES) if grain == "phrase" else 14)
    assert same(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_keys_and_values_by_definition(grain: str) -> None:
    """One phrase after the other, one entry after the other."""
    module = trained(grain)
    keys, values = [module.no_bias], [torch.zeros(16, dtype=torch.float64)]
    for phrase, places in zip(PHRASES, module.entries(PHRASES), strict=True):
        embedded = module.pieces(torch.tensor(phrase))
        states, (last, _) = module.encoder(embedded)
        read = [torch.cat((last[0], last[1]))]
        if grain == "piece":
            read = [torch.cat((s, e)) for s, e in zip(states, embedded, strict=True)]
        assert [*places] == [*range(len(keys), len(keys) + len(read))]
        keys += [module.key(module.phrase_norm(one)) for one in read]
        values += [module.value(module.phrase_norm(one)) for one in read]
    context = module.embed(PHRASES)
    assert same(context.keys[0], torch.stack(keys)) and same(context.values[0], torch.stack(values))
    hidden = frames(1, 2)
    query = module.query(module.frame_norm(hidden))[0, 1, 4:8]  # frame 1, head 1 of 4
    scores = torch.stack([query @ key[4:8] / 2 for key in keys]).softmax(0)
    taken, weights = module.attend(hidden, context)
    assert same(weights[0, 1, 1], scores)
    mixed = sum(w * value[4:8] for w, value in zip(scores, values, strict=True))
    assert same(taken[0, 1, 4:8], mixed)


def test_what_fills_up_a_list_is_not_seen() -> None:
    module, hidden = trained(), frames()
    context = module.embed_batch([PHRASES, PHRASES[:2]])
    spoiled = Context(context.keys.clone(), context.values.clone(), context.exists)
    spoiled.keys[1, 3:], spoiled.values[1, 3:] = 1e6, 1e6
    assert torch.equal(module(hidden, context), module(hidden, spoiled))


def test_one_context_serves_every_row(grain: str) -> None:
    module, hidden = trained(grain), frames(3)
    one = module.embed(PHRASES)
    assert len(one.keys) == 1
    assert same(module(hidden, one), module(hidden, [one] * 3))


def test_a_context_is_a_state() -> None:
    module = trained()
    context = concatenate([module.embed(PHRASES), module.embed(PHRASES[:1])])
    assert context.exists.tolist() == [[True] * 6, [True, True] + [False] * 4]
    swapped = gather(context, torch.tensor([1, 0]))
    assert same(module(frames(), swapped), module(frames().flip(0), context).flip(0))
    assert context.nbytes == 2 * 6 * (2 * 16 * 8 + 1)


@pytest.mark.parametrize("cuts", [[1] * 7, [3, 4], [6, 1]])
def test_frames_are_read_one_by_one(cuts: list[int], grain: str) -> None:
    module, hidden = trained(grain), frames()
    context = module.embed(PHRASES)
    parts = [module(part, context) for part in hidden.split(cuts, dim=1)]
    assert same(torch.cat(parts, 1), module(hidden, context))


def test_gradients_reach_every_parameter(grain: str) -> None:
    module = trained(grain)
    module(frames(), module.embed(PHRASES)).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    fresh = ContextBiasing(CONFIG.replace(grain=grain)).double()
    fresh(frames(), fresh.embed(PHRASES)).square().sum().backward()
    grad = fresh.output.weight.grad
    assert grad is not None and grad.abs().sum() > 0, "the zeros can be left"


def test_what_does_not_fit_is_refused() -> None:
    module = trained()
    with pytest.raises(ConfigError, match=r"size 16 is not a multiple of heads 5"):
        CONFIG.replace(heads=5)
    with pytest.raises(ConfigError, match=r"combiner 'sum' is unknown; choose from add, gate"):
        CONFIG.replace(combiner="sum")
    with pytest.raises(ConfigError, match=r"grain 'word' is unknown; choose from phrase, piece"):
        CONFIG.replace(grain="word")
    with pytest.raises(ConfigError, match=r"hidden_size must be positive"):
        CONFIG.replace(hidden_size=0)
    with pytest.raises(ShapeError, match=r"a phrase of the context is empty"):
        module.embed([[1], []])
    for phrase in ([0, 1], [20]):
        with pytest.raises(VocabularyError, match=r"outside 1 to 19; spell it"):
            module.embed([phrase])
    with pytest.raises(ShapeError, match=r"hidden must be \(B, T, 12\), not \(2, 7, 11\)"):
        module(frames()[..., 1:], module.embed(PHRASES))
    with pytest.raises(ShapeError, match=r"the context has 2 rows and the batch 3"):
        module(frames(3), [module.embed(PHRASES)] * 2)
    with pytest.raises(ShapeError, match=r"no list of phrases"):
        module.embed_batch([])


def test_the_rest_of_a_model_is_frozen() -> None:
    model = nn.ModuleDict({"encoder": nn.Linear(3, 3), "biasing": ContextBiasing(CONFIG)})
    parameters = trainable_parameters(model)
    assert len(parameters) == len(list(model["biasing"].parameters()))
    assert all(p.requires_grad for p in parameters)
    assert not any(p.requires_grad for p in model["encoder"].parameters())


def test_guided_attention_by_hand() -> None:
    weights = torch.tensor([[[[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]]]]).expand(1, 2, 3, 2)
    loss = guided_attention_loss(weights, torch.tensor([[0, 1, -1]]))
    expected = -(torch.tensor([0.5, 0.8]).log().mean())
    assert torch.allclose(loss, expected)
    assert guided_attention_loss(weights, torch.full((1, 3), -1)) == 0


class Toy:
    """Ten sounds that each spell two names, and a fixed reader that is torn between the two.

    Frame t of a sound is a random vector; what is asked of it is piece t of the name that was
    meant. Only a list that holds that name, and not the other, can tell.
    """

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.names = torch.randint(1, 30, (20, 4), generator=self.generator)  # n and n + 10 alike
        self.sounds = torch.randn(10, 4, 48, generator=self.generator)
        wanted = torch.zeros(10, 4, 30)
        for half in (self.names[:10], self.names[10:]):
            wanted.scatter_(-1, half[..., None], 4.0)
        self.reader = torch.linalg.lstsq(self.sounds.flatten(0, 1), wanted.flatten(0, 1)).solution

    def lists(self, meant: Tensor, listed: int, place: Tensor) -> Tensor:
        """(B, K): other names, and at `place` (B,), where it is not -1, the one that was meant."""
        order = torch.rand(len(meant), 20, generator=self.generator).argsort(1)
        alike = (order % 10) == (meant % 10)[:, None]
        lists = order[~alike].view(-1, 18)[:, :listed]
        inside = torch.nonzero(place >= 0)[:, 0]
        lists[inside, place[inside]] = meant[inside]
        return lists

    def run(
        self, module: ContextBiasing, size: int, listed: int, positive: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Right answers (a share) with the list and without it, the loss to train by, and the
        attention on the right name, or on "none of them" where it is not listed."""
        meant = torch.randint(20, (size,), generator=self.generator)
        place = torch.randint(listed, (size,), generator=self.generator)
        place[torch.rand(size, generator=self.generator) >= positive] = -1
        noise = 0.1 * torch.randn(size, 4, 48, generator=self.generator)
        hidden = self.sounds[meant % 10] + noise
        lists = self.lists(meant, listed, place)
        context = module.embed_batch([self.names[row].tolist() for row in lists])
        taken, weights = module.attend(hidden, context)
        right = (place + 1)[:, None].expand(-1, 4)
        if module.config.grain == "piece":
            right = torch.where(right > 0, 4 * (right - 1) + 1 + torch.arange(4), 0)
        logits, pieces = module.combine(hidden, taken) @ self.reader, self.names[meant]
        loss = cross_entropy(logits.flatten(0, 1), pieces.flatten())
        loss = loss + 2 * guided_attention_loss(weights, right)
        mass = weights.mean(1).gather(-1, right[..., None]).mean()
        answers = (x.argmax(-1).eq(pieces).float().mean() for x in (logits, hidden @ self.reader))
        return *answers, loss, mass


@pytest.mark.parametrize("combiner", ["add", "gate"])
def test_it_learns_to_look_at_what_is_said(combiner: str, grain: str) -> None:
    toy = Toy()
    torch.manual_seed(0)
    config = ContextConfig(vocab_size=30, hidden_size=48, embedding_size=32, size=32)
    module = ContextBiasing(config.replace(combiner=combiner, grain=grain))
    optimiser = torch.optim.Adam(module.parameters(), lr=6e-3)
    for _ in range(250):
        _, _, loss, _ = toy.run(module, 32, 12, 0.6)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        listed, plain, _, mass = toy.run(module, 400, 15, 1.0)
        assert plain < 0.6, "the reader cannot tell"
        assert listed > 0.95
        # One frame alone does not tell a piece from the same piece of another name.
        assert mass > (0.8 if grain == "phrase" else 0.5), "on the name that is said, of 15"
        listed, plain, _, mass = toy.run(module, 400, 15, 0.0)
        assert listed < plain + 0.05, "distractors alone help nothing"
        assert mass > (0.6 if grain == "phrase" else 0.5), "and are mostly left alone"
