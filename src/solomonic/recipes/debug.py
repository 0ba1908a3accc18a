"""Runs that end in seconds on a CPU: to see that everything holds together, not to learn much."""

from solomonic.evals.recall import RecallConfig
from solomonic.evals.synthetic import Mqar
from solomonic.layers.config import ModelConfig
from solomonic.recipes.asr import AsrRun
from solomonic.recipes.lm import LmRun
from solomonic.speech.config import TransducerConfig
from solomonic.speech.task import SpeechTaskConfig
from solomonic.train.config import TrainConfig

TINY = ModelConfig(
    hidden_size=32,
    num_attention_heads=2,
    pattern="BB",
    window_size=8,
    eidetic_slots=8,
    ssm_state_size=8,
    ssm_head_dim=16,
    chunk_size=16,
)


def language_model() -> LmRun:
    """A byte model of two layers, twenty steps."""
    return LmRun(
        model=TINY,
        train=TrainConfig(steps=20, batch_size=4, eval_every=10, save_every=10, log_every=2),
        length=64,
        eval_tokens=2048,
    )


def recall() -> RecallConfig:
    """Four pairs in 32 tokens, ten steps."""
    return RecallConfig(
        model=TINY.replace(vocab_size=32),
        generator=Mqar(vocab_size=32, length=32, pairs=4),
        train=TrainConfig(steps=10, batch_size=8, eval_every=5, precision="float32"),
        test_examples=16,
    )


def speech() -> AsrRun:
    """A transducer of 40 thousand parameters, twenty steps; the losses are all in by the tenth."""
    return AsrRun(
        model=TransducerConfig(
            vocab_size=40,
            front="M",
            pattern="W",
            hidden_size=32,
            num_attention_heads=2,
            intermediate_size=48,
            window_size=8,
            ssm_state_size=8,
            ssm_head_dim=16,
            predictor_size=32,
            joint_size=32,
        ),
        train=TrainConfig(
            steps=20, lr=1e-2, betas=(0.9, 0.98), eval_every=10, save_every=10, log_every=2
        ),
        task=SpeechTaskConfig(
            frames_per_batch=2000, warm_steps=5, ramp_steps=5, eval_utterances=16
        ),
        copies=1,
        held_out=0.2,
    )
