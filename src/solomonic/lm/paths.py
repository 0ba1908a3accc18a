"""Which kernels a model runs on this machine in training, prefill and decoding, and why."""

import torch

from solomonic import kernels
from solomonic.kernels import native
from solomonic.lm.model import LanguageModel
from solomonic.lm.native import refuses

PHASES = ("training", "prefill", "decode")


def paths(model: LanguageModel, steps: int = 64) -> dict[str, list[str]]:
    """For each phase one sentence for every op that runs; found by running the model.

    Args:
        model: on the device and in the type it will be used in; gradients are left as they are.
        steps: tokens of the text that is read to see what runs.
    """
    tokens = torch.zeros(1, steps, dtype=torch.int64, device=model.device)
    found: dict[str, list[str]] = {}
    with kernels.watch() as seen:
        model.hidden(tokens)
    found["training"] = seen
    with torch.no_grad():
        with kernels.watch() as seen:
            _, state = model.hidden(tokens)
        found["prefill"] = seen
        with kernels.watch() as seen:
            model.hidden(tokens[:, :1], state)
        found["decode"] = seen
    if "T" in model.config.layers:
        for sentences in found.values():
            sentences.append(
                "full attention: torch (scaled_dot_product_attention); there is no other form"
            )
    return found


def engine(model: LanguageModel, backend: str = "auto") -> tuple[str, str]:
    """The engine that generates text, "native" or "torch", and one sentence saying why.

    Args:
        backend: "auto" takes the native core for a model on the CPU where there is one.
    """
    if backend != "auto":
        return backend, "asked for"
    if model.device.type != "cpu":
        return "torch", f"not native: the model is on {model.device.type}, the core is for the CPU"
    if reason := native.why_not() or refuses(model.config):
        return "torch", f"not native: {reason}"
    return "native", "the fastest there is on this device"
