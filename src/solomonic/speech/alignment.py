"""When a transducer says the labels of a reference: its own forced alignment, as probabilities."""

import torch
from torch import Tensor

from solomonic import kernels
from solomonic.speech.model import BLANK, Transducer


@torch.no_grad()
def occupancy(
    net: Transducer,
    hidden: Tensor,
    label: Tensor,
    tokens: Tensor,
    lengths: Tensor,
    token_lengths: Tensor,
) -> tuple[Tensor, Tensor]:
    """Shares of all alignments of the reference, by what they do at a step.

    Args:
        hidden: (B, T, D) float32 of the encoder, `lengths` (B,) of them real.
        label: (B, U + 1, J) of the prediction network on `tokens` (B, U), `token_lengths` real.

    Returns:
        stay (B, T, U + 1): that they stand before label u and take the blank; said (B, T, U): that
        they say label u. Both are 0 behind a row's end.
    """
    logits = net.joint(net.to_joint(hidden)[:, :, None], label.float()[:, None])
    scores = logits.log_softmax(-1)
    wanted = tokens.to(scores.device)[:, None, :, None].expand(-1, hidden.shape[1], -1, 1)
    move = scores[:, :, :-1].gather(-1, wanted)[..., 0]
    sizes = token_lengths.to(scores.device)
    _, stay, said = kernels.run("transducer", scores[..., BLANK], move, lengths, sizes, 0.0, 0.0)
    return stay, said
