"""A trained plain transducer as the beginning of one with branches: it becomes the large branch."""

import torch

from solomonic.core import ConfigError
from solomonic.speech.branching.encoder import BranchingEncoder
from solomonic.speech.model import Transducer


@torch.no_grad()
def start_from(net: Transducer, plain: Transducer) -> None:
    """Copy all of `plain` into `net`, whose small branch and arbitrator stay as they are.

    Raises:
        ConfigError: `plain` is not what `net` is without its small branch.
    """
    encoder = net.encoder
    if not isinstance(encoder, BranchingEncoder):
        raise ConfigError("this transducer has no small branch; set small_pattern, such as 'LL'.")
    before, now = plain.config.to_json(), net.config.branch("large").to_json()
    for name, value in before.items():
        if name != "dropout" and now.get(name) != value:
            raise ConfigError(
                f"{name} = {now.get(name)} differs from {value} of the model to start from; leave "
                "it out or train from scratch."
            )
    state = {}
    for name, value in plain.plain_state().items():
        part, _, rest = name.partition(".")
        statistics = rest in ("mean", "deviation")
        state[f"encoder.large.{rest}" if part == "encoder" and not statistics else name] = value
    kept = ("encoder.small.", "encoder.up.", "encoder.arbitrator.")
    kept += ("encoder.large.mean", "encoder.large.deviation")  # taken off before the branches
    missing, unknown = net.load_state_dict(state, strict=False)
    assert not unknown and all(name.startswith(kept) for name in missing), (missing, unknown)
