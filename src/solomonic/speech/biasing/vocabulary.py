"""A model's word pieces as both of its attentions to phrases read them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solomonic.core import ShapeError, VocabularyError


def check_phrases(phrases: Sequence[Sequence[int]], vocab_size: int) -> None:
    """See that phrases are spelled with the vocabulary's pieces; 0 is the blank.

    Raises:
        ShapeError: a phrase is empty.
        VocabularyError: a piece is the blank or outside the vocabulary.
    """
    for phrase in phrases:
        if not len(phrase):
            raise ShapeError("a phrase of the context is empty; give at least one piece.")
        if not 0 < min(phrase) <= max(phrase) < vocab_size:
            raise VocabularyError(
                f"the context's phrase {list(phrase)} has a piece outside 1 to "
                f"{vocab_size - 1}; spell it with the model's own word pieces."
            )


def leading_directions(
    output: Tensor, most: int, project: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Where the logits `output` @ `project` @ x of the pieces differ most from their mean.

    Args:
        output: (V, J). project: (J, D); None: x is what `output` reads.
        most: how many directions at most.

    Returns:
        Embeddings of the pieces (V, R) with a root mean square of 1, and queries (R, D) with
        which the scores of a typical x spread by 1 nat over the pieces.
    """
    left, sizes, right = torch.linalg.svd(output - output.mean(0), full_matrices=False)
    roots = sizes[:most].sqrt()
    pieces, queries = left[:, :most] * roots, right[:most] * roots[:, None]
    if project is not None:
        queries = queries @ project
    pieces = pieces / pieces.square().mean().sqrt()
    return pieces, queries / (pieces @ queries).square().sum(1).mean().sqrt()
