"""A forgetting by its name, its configuration, or the bytes of its state."""

from solomonic.core import CheckpointError, Config, ConfigError
from solomonic.memory.forgetting import frames
from solomonic.memory.forgetting.base import (
    ExponentialDecay,
    ExponentialDecayConfig,
    Forgetting,
    NoForgetting,
    NoForgettingConfig,
)
from solomonic.memory.forgetting.config import ChangePointsConfig, SymbolChangePointsConfig
from solomonic.memory.forgetting.losses import ChangePoints
from solomonic.memory.forgetting.symbols import SymbolChangePoints

NAMES = ("none", "exponential[:HALF_LIFE]", "changes[:EVERY]", "symbols:ALPHABET[:ORDER]")
_KINDS = (NoForgetting, ExponentialDecay, ChangePoints, SymbolChangePoints)


def forgetting_from(wanted: str | Config | None) -> Forgetting:
    """A new forgetting: 'none', 'exponential:1000' (half-life in observations), 'changes:32'
    (losses, averaged over 32), 'symbols:4:1' (alphabet, order), or one of the configurations.

    Raises:
        ConfigError: there is no such forgetting, or a setting is wrong.
    """
    if wanted is None:
        return NoForgetting()
    if isinstance(wanted, Config):
        return _of_config(wanted)
    name, *given = wanted.split(":")
    try:
        match name, given:
            case "none", []:
                return NoForgetting()
            case "exponential", [] | [_]:
                return ExponentialDecay(*(float(one) for one in given))
            case "changes", []:
                return ChangePoints()
            case "changes", [every]:
                return ChangePoints(ChangePointsConfig(every=int(every)))
            case "symbols", [alphabet]:
                return SymbolChangePoints(SymbolChangePointsConfig(alphabet=int(alphabet)))
            case "symbols", [alphabet, order]:
                config = SymbolChangePointsConfig(alphabet=int(alphabet), order=int(order))
                return SymbolChangePoints(config)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
    raise ConfigError(f"there is no forgetting '{wanted}'; use one of {', '.join(NAMES)}.")


def _of_config(wanted: Config) -> Forgetting:
    match wanted:
        case NoForgettingConfig():
            return NoForgetting(wanted)
        case ExponentialDecayConfig():
            return ExponentialDecay(wanted)
        case ChangePointsConfig():
            return ChangePoints(wanted)
        case SymbolChangePointsConfig():
            return SymbolChangePoints(wanted)
    raise ConfigError(f"{type(wanted).__name__} configures no forgetting.")


def restore(data: bytes) -> Forgetting:
    """The forgetting, of whichever kind, whose `to_bytes` these are.

    Raises:
        CheckpointError: they are cut short, damaged, newer, or of a kind that is not known here.
    """
    kind = frames.unpack(data)[0]
    for one in _KINDS:
        if one.kind == kind:
            return one.from_bytes(data)
    raise CheckpointError(f"the state is of a forgetting '{kind}', which is not known here.")
