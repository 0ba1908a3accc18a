"""Vectors of texts: what they are, that batching changes nothing, and whose they are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from solomonic.core import CheckpointError, ConfigError, DataError
from solomonic.lm.embed import (
    EmbedConfig,
    Embedder,
    check_vectors,
    claim_vectors,
    load_embedder,
)
from solomonic.lm.pretrained import save_pretrained
from solomonic.memory import Memory
from solomonic.text import ByteTokenizer
from tiny import tiny_model

TEXTS = ["a", "so much depends upon", "a red wheel barrow glazed with rain water", "ü—"]


def definition(embedder: Embedder, text: str) -> np.ndarray:
    """Token by token: the mean of the states, weighed by what each token cost."""
    model, tokenizer = embedder.model, embedder.tokenizer
    total, state, token = torch.zeros(embedder.dim, dtype=torch.float64), None, tokenizer.eos_id
    with torch.no_grad():
        for following in tokenizer.encode(text)[: embedder.config.max_tokens]:
            hidden, state = model.hidden(torch.tensor([[token]]), state)
            cost = -model.head(hidden[0, -1]).log_softmax(-1)[following]
            after, _ = model.hidden(torch.tensor([[following]]), state)
            total += (cost + 1e-3) * after[0, -1]
            token = following
    return (total / total.norm()).numpy()


def test_vectors_are_the_definition_however_texts_are_batched() -> None:
    model = tiny_model("BM")
    for config in (EmbedConfig(), EmbedConfig(batch_tokens=30), EmbedConfig(max_tokens=5)):
        embedder = Embedder(model, ByteTokenizer(), "tiny", config)
        found = embedder(TEXTS)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, [definition(embedder, text) for text in TEXTS], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    with pytest.raises(DataError, match="an empty text has no vector"):
        embedder(["a", ""])
    with pytest.raises(ConfigError, match="max_tokens must be at least 1"):
        EmbedConfig(max_tokens=0)


def test_a_memory_knows_whose_vectors_it_holds(tmp_path: Path) -> None:
    mine, other = (Embedder(tiny_model(seed=n), ByteTokenizer(), f"m{n}") for n in (0, 1))
    shorter = Embedder(mine.model, mine.tokenizer, "m0", EmbedConfig(max_tokens=9))
    with Memory.open(tmp_path / "m.db") as memory:
        with pytest.raises(ConfigError, match="has no vectors of a language model"):
            check_vectors(memory, mine)
        claim_vectors(memory, mine)
        claim_vectors(memory, mine)
        check_vectors(memory, mine)
        for foreign in (other, shorter):
            for use in (claim_vectors, check_vectors):
                with pytest.raises(ConfigError, match="were written by the model 'm0'"):
                    use(memory, foreign)
    with Memory.open(tmp_path / "other.db") as memory:
        memory.write("somebody else's", vector=[1.0, 2.0])
        with pytest.raises(ConfigError, match="has no vectors of a language model"):
            claim_vectors(memory, mine)


def test_models_by_their_places(tmp_path: Path) -> None:
    model = tiny_model().float()
    save_pretrained(tmp_path / "model", model, ByteTokenizer())
    loaded = load_embedder(tmp_path / "model")
    assert loaded.name == "model"
    assert loaded.identity == load_embedder(tmp_path / "model").identity
    shipped = load_embedder()
    assert shipped(["turn on the light"]).shape == (1, shipped.dim)
    with pytest.raises(CheckpointError, match="there is no language model at"):
        load_embedder(tmp_path / "none")
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    with pytest.raises(CheckpointError, match="are no numbers"):
        Embedder(model, ByteTokenizer())(["a"])
