"""The recogniser's own expectation against its definition, and in the score."""

import pytest
import torch

from lattice_support import command_lattice
from rescore_support import random_lm
from solomonic.serve.rescore import InternalLM, RerankConfig, Reranker
from solomonic.speech.config import TransducerConfig
from solomonic.speech.model import Transducer
from solomonic.speech.pretrained import SpeechModel
from solomonic.text.pieces import WordPieces

TEXTS = ["turn on the light in the kitchen at seven thirty", "call siobhan", "an tern lie like"] * 4


@pytest.fixture(scope="module", params=["lstm", "stateless"])
def model(request: pytest.FixtureRequest) -> SpeechModel:
    pieces = WordPieces.train(TEXTS, 40)
    torch.manual_seed(0)
    config = TransducerConfig(
        vocab_size=pieces.size,
        hidden_size=32,
        front="M",
        pattern="W",
        intermediate_size=0,
        window_size=8,
        ssm_state_size=8,
        num_attention_heads=2,
        predictor=request.param,
        predictor_size=12,
        joint_size=8,
    )
    return SpeechModel(Transducer(config).eval().requires_grad_(False), pieces)


def by_definition(model: SpeechModel, text: str) -> float:
    """Joint network of a zero encoder output and the predictor; softmax without the blank."""
    net = model.transducer
    labels = torch.tensor([model.pieces.encode(text)])
    acoustic = net.acoustic(torch.zeros(1, labels.shape[1], net.config.hidden_size))
    logits = net.joint(acoustic, net.predictor(labels)[:, :-1])[..., 1:]
    return float(logits.log_softmax(-1).gather(2, labels[..., None] - 1).sum())


def test_it_is_its_definition(model: SpeechModel) -> None:
    internal = InternalLM(model)
    sentences = ["turn on the light", "siobhan", "call the light on"]
    rows, totals = [internal.start()] * 3, [0.0] * 3
    for place in range(4):
        due = [at for at, text in enumerate(sentences) if place < len(text.split())]
        words = [sentences[at].split()[place] for at in due]
        found, after = internal.read([rows[at] for at in due], words)
        for at, value, row in zip(due, found, after, strict=True):
            totals[at] += value
            rows[at] = row
    for text, value in zip(sentences, totals, strict=True):
        assert value == pytest.approx(by_definition(model, text), abs=1e-4)


def test_it_is_subtracted(model: SpeechModel) -> None:
    lattice = command_lattice(0)
    config = RerankConfig(lm_scale=0.2, internal_scale=0.3)
    found = Reranker(random_lm(), config, InternalLM(model)).rerank(lattice)
    for one in found.hypotheses:
        assert one.internal == pytest.approx(by_definition(model, one.text), abs=1e-3)
        expected = one.acoustic + one.bias + 0.2 * one.lm - 0.3 * one.internal
        assert one.score == pytest.approx(expected)
    plain = Reranker(random_lm(), config.replace(internal_scale=0.0), InternalLM(model))
    assert plain.rerank(lattice).best.internal == 0.0
