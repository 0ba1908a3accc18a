"""The end head: small, cut-invariant, its gradients right, and it tells a pause from an end."""

import itertools

import numpy as np
import pytest
import torch

from solomonic.core import ConfigError, DataError, ShapeError
from solomonic.speech.endpoint.features import (
    PAUSE_FEATURES,
    EndFeatures,
    pause_vector,
    trailing_silence,
)
from solomonic.speech.endpoint.head import EndHead, EndHeadConfig
from solomonic.speech.endpoint.training import (
    EndSequence,
    EndTraining,
    end_loss,
    end_targets,
    train_end_head,
)
from solomonic.state import gather, reset

CONFIG = EndHeadConfig(hidden_size=12, label_size=10, width=6, memory=5)


def features(batch: int, frames: int, dtype: torch.dtype = torch.float32) -> EndFeatures:
    return EndFeatures(
        torch.randn(batch, frames, 12, dtype=dtype),
        torch.randn(batch, frames, 10, dtype=dtype),
        torch.rand(batch, frames, PAUSE_FEATURES, dtype=dtype),
    )


def cut(whole: EndFeatures, low: int, high: int) -> EndFeatures:
    return EndFeatures(*(x[:, low:high] for x in whole))


def test_it_is_small() -> None:
    head = EndHead(EndHeadConfig(hidden_size=512, label_size=512))
    assert sum(p.numel() for p in head.parameters()) < 60_000


def test_streaming_does_not_depend_on_cuts_or_company() -> None:
    head, whole = EndHead(CONFIG).eval(), features(3, 23)
    at_once, last = head.stream(whole, head.init_state(3))
    logits, state = head(whole)
    torch.testing.assert_close(at_once, torch.sigmoid(logits.detach()))
    torch.testing.assert_close(last.memory, state.memory.detach())
    rng = np.random.default_rng(0)
    for _ in range(5):
        cuts = sorted({0, 23, *rng.integers(0, 24, size=4).tolist()})
        memory, parts = head.init_state(3), []
        for low, high in itertools.pairwise(cuts):
            part, memory = head.stream(cut(whole, low, high), memory)
            parts.append(part)
        assert torch.equal(torch.cat(parts, 1), at_once)
        assert torch.equal(memory.memory, last.memory)
    alone, _ = head.stream(EndFeatures(*(x[1:2] for x in whole)), head.init_state(1))
    assert torch.equal(alone[0], at_once[1])


def test_it_is_causal_and_its_state_a_value() -> None:
    head, whole = EndHead(CONFIG).eval(), features(2, 9)
    before, state = head.stream(cut(whole, 0, 5), head.init_state(2))
    after, _ = head.stream(whole, head.init_state(2))
    assert torch.equal(after[:, :5], before)
    kept = state.memory.clone()
    head.stream(cut(whole, 5, 9), state)
    assert torch.equal(state.memory, kept)
    assert torch.equal(gather(state, torch.tensor([1, 1])).memory[0], kept[1])
    assert not reset(state, torch.tensor([True, False])).memory[0].any()
    assert head.stream(cut(whole, 0, 0), state)[0].shape == (2, 0)


def test_gradients_reach_the_head_and_nothing_before_it() -> None:
    head = EndHead(CONFIG).double()
    whole = features(2, 4, torch.float64)
    hidden = whole.hidden.requires_grad_()
    targets = torch.tensor([[0.0, 0, 1, 1], [0, 0, 0, 1]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 4, 0, 1], [1, 1, 1, 1]], dtype=torch.float64)
    end_loss(head(whole)[0], targets, weights).backward()
    assert hidden.grad is None and all(p.grad is not None for p in head.parameters())

    def loss(weight: torch.Tensor) -> torch.Tensor:
        logits = torch.func.functional_call(head, {"pauses.weight": weight}, (whole,))[0]
        return end_loss(logits, targets, weights, balance=2.0)

    assert torch.autograd.gradcheck(loss, (head.pauses.weight.detach().requires_grad_(),))


def test_frames_of_weight_0_do_not_count() -> None:
    logits = torch.tensor([[0.3, 9.0]])
    weights = torch.tensor([[1.0, 0.0]])
    one = end_loss(logits, torch.zeros(1, 2), weights)
    assert one == pytest.approx(np.log1p(np.exp(0.3)))
    assert end_loss(logits, torch.zeros(1, 2), torch.zeros(1, 2)) == 0.0


def test_targets_mark_pauses_and_grace() -> None:
    blank = np.zeros((12, 1), dtype=np.float32)
    sequence = EndSequence(blank, blank, blank, end=6, gaps=((2, 4),))
    targets, weights = end_targets(sequence, EndTraining(grace=2, hold=5, early_cost=3.0))
    assert targets.tolist() == [0] * 6 + [1] * 6
    assert weights.tolist() == [1, 1, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0]


def sentence(rng: np.random.Generator) -> EndSequence:
    """Speech, perhaps a pause after which it goes on, speech, silence.

    The label vector says whether the words so far make a command, the hidden frame whether
    somebody speaks; both are noisy, and pauses look like the end in all but the label.
    """
    parts, gap = [(int(rng.integers(5, 12)), 1, 0)], rng.random() < 0.5
    if gap:
        parts += [(int(rng.integers(3, 12)), 0, 0), (int(rng.integers(4, 10)), 1, 0)]
    parts.append((20, 0, 1))
    speech = np.concatenate([np.full(n, s) for n, s, _ in parts])
    done = np.concatenate([np.full(n, d) for n, _, d in parts])
    silence, _ = trailing_silence(speech.astype(float))
    hidden = rng.normal(size=(len(speech), 12)).astype(np.float32)
    hidden[:, 0] += 3 * speech
    label = rng.normal(size=(len(speech), 10)).astype(np.float32)
    label[:, 0] += 4 * done
    pairs = zip(silence.tolist(), speech.tolist(), strict=True)
    pauses = np.stack([pause_vector(s, s, 1 - v, s, 1, 0.06) for s, v in pairs])
    first = parts[0][0]
    gaps = ((first, first + parts[1][0]),) if gap else ()
    return EndSequence(hidden, label, pauses, end=len(speech) - 20, gaps=gaps)


def test_it_learns_that_a_pause_is_not_the_end() -> None:
    rng = np.random.default_rng(0)
    head = EndHead(EndHeadConfig(hidden_size=12, label_size=10, width=8, memory=12))
    seen: list[int] = []
    training = EndTraining(epochs=12, batch=32, lr=1e-2)
    history = train_end_head(
        head, [sentence(rng) for _ in range(300)], training, lambda epoch, _: seen.append(epoch)
    )
    assert history[-1] < 0.2 * history[0] and seen == list(range(1, 13)) and not head.training
    early, late = [], []
    for _ in range(40):
        one = sentence(rng)
        batch = EndFeatures(
            *(torch.from_numpy(x)[None] for x in (one.hidden, one.label, one.pauses))
        )
        p = head.stream(batch, head.init_state(1))[0][0].numpy()
        early += [p[a:b].max() for a, b in one.gaps]
        late.append(p[one.end + 4])
    assert np.mean(np.array(early) > 0.5) < 0.1 and np.mean(np.array(late) > 0.5) > 0.9


def test_training_repeats_exactly() -> None:
    rng = np.random.default_rng(1)
    data = [sentence(rng) for _ in range(20)]
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        head = EndHead(CONFIG)
        results.append(train_end_head(head, data, EndTraining(epochs=2, batch=8)))
    assert results[0] == results[1]


def test_pause_features_are_bounded_and_grow() -> None:
    vectors = [pause_vector(n, n, 0.5, n, 1, 0.06) for n in range(200)]
    table = np.stack(vectors)
    assert table.min() >= 0 and table.max() <= 1 and table.dtype == np.float32
    assert (np.diff(table[:50, 0]) > 0).all() and table[100, 0] == table[199, 0] == 1
    assert pause_vector(0, 0, 2.0, -1, 0, 0.06).tolist() == [0, 0, 1, 0, 0]
    counts, last = trailing_silence(np.array([0.1, 0.9, 0.2, 0.3]), before=4)
    assert counts.tolist() == [5, 0, 1, 2] and last == 2


def test_bad_input_is_named() -> None:
    head = EndHead(CONFIG)
    whole = features(2, 3)
    with pytest.raises(ShapeError, match=r"label must be \(B, T, 10\)"):
        head(EndFeatures(whole.hidden, whole.hidden, whole.pauses))
    with pytest.raises(ShapeError, match=r"pauses must be \(B, T, 5\)"):
        head(EndFeatures(whole.hidden, whole.label, whole.pauses[:, :2]))
    with pytest.raises(DataError, match="no utterances to train the end head on"):
        train_end_head(head, [])
    blank = np.zeros((3, 12), dtype=np.float32)
    with pytest.raises(DataError, match=r"utterance 0 has features of \[2, 3\] frames"):
        train_end_head(head, [EndSequence(blank, blank[:2], blank, end=1)])
    with pytest.raises(ConfigError, match="memory of the end head must be above 0"):
        EndHeadConfig(hidden_size=1, label_size=1, memory=0)
    with pytest.raises(ConfigError, match="early_cost must be above 0"):
        EndTraining(early_cost=0)
