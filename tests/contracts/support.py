"""What the contract suites share: a seeded grid of models, ways to feed them, exact comparison.

Everything is checked in float64 against the minimal models unless a test says otherwise.
"""

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from minimal.stack import stack
from minimal.weights import random_weights
from solomonic.layers import ModelConfig
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.state import State

SMALL: dict[str, Any] = {
    "vocab_size": 31, "hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 0, "window_size": 8, "eidetic_slots": 5, "ssm_state_size": 4,
    "ssm_head_dim": 8, "chunk_size": 4, "pattern": "B",
}  # fmt: skip

# One layer of every kind, then mixtures; the grid below varies the settings of 'F' and 'B'.
KINDS = ("T", "W", "M", "D", "L", "F", "B")
STACKS = ("MMMT", "BF", "WB", "DTB", "BB", "LWL")


def small(**changes: Any) -> ModelConfig:
    """The small configuration with some settings changed."""
    return ModelConfig(**SMALL | changes)


def name(config: ModelConfig) -> str:
    """What a configuration changes, short enough for a test's name."""
    base = small().to_json()
    changed = {key: value for key, value in config.to_json().items() if value != base[key]}
    return ",".join(f"{key}={value}" for key, value in changed.items()) or "default"


def sampled(count: int, seed: int) -> list[ModelConfig]:
    """A seeded sample of the product of all settings that touch a memory."""
    chance = random.Random(seed)
    found = []
    while len(found) < count:
        window = chance.choice((0, 1, 3, 8))
        pattern = chance.choice(("B", "B", "B", "F", "BB", "BFW", "TB", "MBD"))
        if window == 0 and "W" in pattern:
            continue
        found.append(
            small(
                pattern=pattern,
                window_size=window,
                refresh_period=chance.choice((1, max(window // 2, 1), max(window, 1))),
                eidetic_slots=chance.choice((0, 1, 5, 16)),
                fading_slots=chance.choice((1, 3, max(window, 1))),
                fading_lag=chance.choice((0, 1, window)),
                fading_mode=chance.choice(("band", "chunk")),
                keep_duplicates=chance.random() < 0.3,
                fading_skip=chance.random() < 0.3,
                position=chance.choice(("none", "rope")),
                transition=chance.choice(("ssd", "delta")),
                short_conv_layers=chance.choice(("", "B", "BFTW")),
                short_conv_size=chance.choice((1, 2, 4)),
                ssm_conv_size=chance.choice((1, 4)),
                ssm_expand=chance.choice((1, 2)),
                predictor_taps=chance.choice((1, 4)),
                num_key_value_heads=chance.choice((1, 2, 4)),
                head_dim=chance.choice((None, 6)),
                chunk_size=chance.choice((1, 4, 64)),
                intermediate_size=chance.choice((0, 24)),
                tie_word_embeddings=chance.random() < 0.5,
            )
        )
    return found


def lengths_of(config: ModelConfig) -> list[int]:
    """Lengths around every boundary of the window, and odd ones beyond it."""
    w = config.window_size
    return sorted({0, 1, 2, max(w - 1, 0), w, w + 1, 2 * w, 37})


def build(config: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.float64) -> LanguageModel:
    """A model with the seeded weights of the minimal models: names and shapes must agree."""
    model = LanguageModel(config).double()
    weights = random_weights(config, seed)
    if config.tie_word_embeddings:
        weights["head.weight"] = weights["embed.weight"]
    model.load_state_dict(weights, strict=True)
    return model.to(dtype).eval()


def law(model: LanguageModel, tokens: Tensor) -> Tensor:
    """The minimal model's logits for every row of tokens (B, T), with the same weights."""
    weights = dict(model.named_parameters())
    return torch.stack([stack(weights, model.config, row)[0] for row in tokens])


def draw(config: ModelConfig, batch: int, length: int, seed: int = 0) -> Tensor:
    """Random tokens (batch, length)."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randint(0, config.vocab_size, (batch, length), generator=generator)


def cuts_of(length: int, seed: int) -> list[int]:
    """Random segment lengths, empty ones included, that sum to `length`."""
    chance = random.Random(seed)
    marks = sorted(chance.choices(range(length + 1), k=4))
    return [b - a for a, b in pairwise([0, *marks, length])]


def feed(
    model: LanguageModel, tokens: Tensor, cuts: Iterable[int], state: ModelState | None = None
) -> tuple[Tensor, ModelState]:
    """Logits and final state when `tokens` arrive in segments of the given lengths."""
    outs = []
    for part in tokens.split(list(cuts), dim=1):
        out, state = model(part, state)
        outs.append(out)
    assert state is not None
    return torch.cat(outs, dim=1), state


def gap(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the largest entry."""
    assert a.shape == b.shape, f"{tuple(a.shape)} is not {tuple(b.shape)}"
    if a.numel() == 0:
        return 0.0
    assert bool(torch.isfinite(a).all()) and bool(torch.isfinite(b).all())
    return ((a - b).abs().max() / b.abs().max().clamp_min(1)).item()


def state_gap(a: State, b: State) -> float:
    """Largest difference between two states; whole numbers and empty entries must be identical.

    Growing caches may hold unequal amounts of padding, so only entries with a time are compared.
    """
    worst = 0.0
    ours, theirs = dict(a.leaves()), dict(b.leaves())
    assert list(ours) == list(theirs)
    for key, x in ours.items():
        y = theirs[key]
        if key.endswith(("kv", "kv_time")):
            x, y = (real_entries(leaves, key) for leaves in (ours, theirs))
        assert x.dtype == y.dtype and x.shape == y.shape, key
        if not x.is_floating_point():
            assert torch.equal(x, y), f"{key}: {x.tolist()} is not {y.tolist()}"
            continue
        finite = torch.isfinite(x)
        assert torch.equal(finite, torch.isfinite(y)) and torch.equal(x[~finite], y[~finite]), key
        worst = max(worst, gap(x[finite], y[finite]))
    return worst


def real_entries(leaves: dict[str, Tensor], key: str) -> Tensor:
    """The entries of a growing cache (B, S, ...) that are tokens, row after row."""
    return leaves[key][leaves[key.removesuffix("kv").removesuffix("kv_time") + "kv_time"] >= 0]


def identical(a: State, b: State) -> bool:
    """Every tensor of two states has the same type, shape and bits."""
    pairs = zip(a.leaves(), b.leaves(), strict=True)
    return all(n == m and x.dtype == y.dtype and torch.equal(x, y) for (n, x), (m, y) in pairs)


def row(state: ModelState, index: int | Sequence[int]) -> ModelState:
    """Some rows of a state, cut out without the library's own `gather`."""
    rows = [index] if isinstance(index, int) else list(index)
    return state.map(lambda _, x: x[rows].clone())


def kept(state: State) -> list[list[list[int]]]:
    """For every eidetic layer and row, the times of the kept tokens in the order of the slots."""
    slots = [x for key, x in state.leaves() if key.endswith("slot_time") and x.shape[1]]
    return [[[i for i in line if i >= 0] for line in x.tolist()] for x in slots]
