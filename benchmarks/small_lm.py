"""What the small language models here are: the network and the training they have in common."""

from solomonic.layers.config import ModelConfig
from solomonic.train import TrainConfig

# What was best for small models with memory (docs/log.md): one key/value head, no lag, the skip.
MODEL = ModelConfig(
    vocab_size=4096,
    hidden_size=192,
    num_attention_heads=6,
    num_key_value_heads=1,
    pattern="MB",
    num_hidden_layers=6,
    window_size=48,
    eidetic_slots=48,
    fading_lag=0,
    fading_skip=True,
    initializer_range=0.05,
)


def training(
    minutes: float, batch: int, processes: int = 1, lr: float = 2e-3, steps: int = 1_000_000
) -> TrainConfig:
    """Training by the clock: the rate falls to a fiftieth as `minutes` run out."""
    return TrainConfig(
        steps=steps,
        max_seconds=60 * minutes,
        batch_size=batch,
        lr=lr,
        min_lr_ratio=0.02,
        warmup=100,
        weight_decay=0.05,
        precision="bfloat16",
        accumulate=processes,
        processes=processes,
        eval_every=500,
        save_every=250,
        log_every=25,
    )
