"""What the transducer loss refuses, each in one sentence."""

# pyright: reportCallIssue=false, reportArgumentType=false

from typing import Any

import pytest
import torch

from solomonic.core import ConfigError, ShapeError, VocabularyError
from solomonic.speech.loss import (
    joint_transducer_loss,
    pruned_transducer_loss,
    transducer_loss,
)

FRAMES, LABELS = torch.tensor([6, 4, 1, 5]), torch.tensor([4, 2, 3, 0])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"logits": torch.zeros(4, 6, 5)}, ShapeError, "logits must be floats (B, T, U + 1, V)"),
        ({"logits": torch.zeros(4, 6, 5, 7).long()}, ShapeError, "but they are int64 (4, 6, 5, 7)"),
        ({"logits": torch.zeros(4, 6, 5, 1)}, ShapeError, "two outputs"),
        ({"targets": torch.ones(4, 5).long()}, ShapeError, "targets must be integers (4, 4)"),
        ({"targets": torch.ones(4, 4)}, ShapeError, "but they are float32 (4, 4)"),
        (
            {"targets": torch.full((4, 4), 7)},
            VocabularyError,
            "label 0 of row 0 is 7, which is not",
        ),
        ({"targets": torch.full((4, 4), -1)}, VocabularyError, "not one of the 7 outputs"),
        ({"targets": torch.zeros(4, 4).long()}, VocabularyError, "is 0, which is the blank"),
        ({"blank": 1}, VocabularyError, "label 0 of row 0 is 1, which is the blank"),
        ({"frame_lengths": FRAMES + 1}, ShapeError, "frame_lengths of row 0 is 7; it must be from"),
        ({"frame_lengths": FRAMES - 1}, ShapeError, "frame_lengths of row 2 is 0"),
        ({"frame_lengths": FRAMES[:3]}, ShapeError, "frame_lengths must be integers (4,)"),
        ({"frame_lengths": FRAMES.float()}, ShapeError, "but they are float32 (4,)"),
        ({"target_lengths": LABELS + 1}, ShapeError, "target_lengths of row 0 is 5; it must be"),
        ({"target_lengths": LABELS - 1}, ShapeError, "target_lengths of row 3 is -1"),
        ({"blank": 7}, ConfigError, "blank is 7; it must be one of the 7 outputs"),
        ({"blank": -1}, ConfigError, "blank is -1"),
        ({"fastemit": -0.1}, ConfigError, "fastemit is -0.1; it must be 0 or a positive number"),
        ({"delay_penalty": float("nan")}, ConfigError, "delay_penalty is nan"),
        ({"reduction": "average"}, ConfigError, "'average' is unknown; use one of mean, sum, none"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    given: dict[str, Any] = {
        "logits": torch.zeros(4, 6, 5, 7), "targets": torch.ones(4, 4).long(),
        "frame_lengths": FRAMES, "target_lengths": LABELS,
    }  # fmt: skip
    with pytest.raises(error) as caught:
        transducer_loss(**{**given, **change})
    assert words in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("place", "shape", "words"),
    [
        (0, (4, 6), "'acoustic' must be floats (B, T, J), but it is float32 (4, 6)."),
        (1, (4, 5, 4), "must share J"),
        (1, (3, 5, 5), "must have the same rows"),
        (2, (7,), "'weight' must be floats (V, J)"),
        (3, (6,), "the same outputs"),
        (4, (4, 6, 6), "'simple_acoustic' must be floats (4, 6, 7), but it is float32 (4, 6, 6)."),
        (5, (4, 4, 7), "'simple_label' must be floats (4, 5, 7)"),
    ],
)
def test_a_joiner_that_does_not_fit_is_refused(place: int, shape: Any, words: str) -> None:
    shapes = [(4, 6, 5), (4, 5, 5), (7, 5), (7,), (4, 6, 7), (4, 5, 7)]
    shapes[place] = shape
    parts, rest = [torch.zeros(s) for s in shapes], (torch.ones(4, 4).long(), FRAMES, LABELS)
    with pytest.raises(ShapeError) as caught:
        pruned_transducer_loss(*parts, *rest)
    assert words in str(caught.value)
    if place < 4:
        with pytest.raises(ShapeError):
            joint_transducer_loss(*parts[:4], *rest)


def test_pruning_that_makes_no_sense_is_refused() -> None:
    shapes = (4, 6, 5), (4, 5, 5), (7, 5), (7,), (4, 6, 7), (4, 5, 7)
    rest = (*(torch.zeros(s) for s in shapes), torch.ones(4, 4).long(), FRAMES, LABELS)
    with pytest.raises(ConfigError, match="prune_range is 1; it must be 2 or more"):
        pruned_transducer_loss(*rest, prune_range=1)
    with pytest.raises(ConfigError, match="together at most 1"):
        pruned_transducer_loss(*rest, lm_scale=0.8, am_scale=0.3)
