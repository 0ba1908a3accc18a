"""Checks an installed wheel without PyTorch: the core loads, says what it runs on, and decodes.

Run by cibuildwheel (pyproject.toml) on every machine that wheels are built for.
"""

import random
from array import array

import solomonic
from solomonic import _native

VOCAB, WIDTH, STATE, HEAD, TAPS = 64, 32, 16, 16, 4
INNER = 2 * WIDTH
HEADS, MIXED = INNER // HEAD, INNER + 2 * STATE

CONFIG = {
    "layers": "MM", "short_conv_layers": "", "vocab_size": VOCAB, "hidden_size": WIDTH,
    "heads": 1, "key_value_heads": 1, "head_dim": WIDTH, "mlp_size": 0, "window": 1, "refresh": 1,
    "slots": 0, "fading": 1, "lag": 1, "taps": 1, "ssm_state": STATE, "ssm_head_dim": HEAD,
    "ssm_expand": 2, "ssm_conv": TAPS, "chunk": 64, "short_conv": 0, "chunked_fading": 0,
    "fading_skip": 0, "keep_duplicates": 0, "delta_transition": 0, "tied": 1, "rope_theta": 0.0,
    "norm_eps": 1e-5,
}  # fmt: skip

LAYER = {
    "norm.weight": WIDTH,
    "mixer.in_proj.weight": (INNER + MIXED + HEADS) * WIDTH,
    "mixer.conv.weight": MIXED * TAPS,
    "mixer.conv.bias": MIXED,
    "mixer.dt_bias": HEADS,
    "mixer.A_log": HEADS,
    "mixer.D": HEADS,
    "mixer.norm.weight": INNER,
    "mixer.out_proj.weight": WIDTH * INNER,
}


def random_model(weights: int):
    """A model of two Mamba-2 layers; `weights` is a slm_weights."""
    draw = random.Random(0)
    model = _native.model(CONFIG, weights)
    sizes = {"norm.weight": WIDTH, "embed.weight": VOCAB * WIDTH}
    sizes |= {f"blocks.{i}.{name}": count for i in range(2) for name, count in LAYER.items()}
    for name, count in sizes.items():
        values = array("f", (draw.uniform(-0.5, 0.5) for _ in range(count)))
        model.set(name, values.buffer_info()[0], count)
    model.finish()
    return model


def decode(weights: int, tokens: int) -> list[float]:
    """The last logits after some tokens, one call each."""
    model = random_model(weights)
    context, stream = model.context(2), model.stream()
    count, logits = array("i", [1]), array("f", bytes(4 * VOCAB))
    for i in range(tokens):
        token = array("i", [i % VOCAB])
        addresses = (count.buffer_info()[0], token.buffer_info()[0])
        context.read([stream], *addresses, False, logits.buffer_info()[0])
    assert stream.time() == tokens
    return list(logits)


def main() -> None:
    names = _native.isa_list().split()
    print(f"solomonic {solomonic.__version__}, instruction sets: {' '.join(names)}")
    for weights, kind in enumerate(["float32", "bfloat16", "int8", "int4"]):
        found = []
        for name in names:
            _native.isa_use(name)
            found.append(decode(weights, 50))
        top = max(abs(x) for x in found[-1])
        apart = max(abs(a - b) for row in found for a, b in zip(row, found[-1], strict=True))
        print(f"{kind}: logits up to {top:.3f}, instruction sets {apart / top:.1e} apart")
        assert 0 < top < 1e3
        assert apart <= (1e-4 if kind == "float32" else 5e-2) * top


if __name__ == "__main__":
    main()
