"""How far along things are: sparsity by a cubic, strength by a line; all over shares of a run."""


def cubic(progress: float, begin: float, end: float, final: float) -> float:
    """Sparsity at a share of the run: 0 until `begin`, `final` from `end` on, fast at first.

    final + (0 - final) (1 - along)^3 (Zhu and Gupta, arXiv 1710.01878).
    """
    return final * (1 - (1 - ramp(progress, begin, end)) ** 3)


def ramp(progress: float, begin: float, end: float) -> float:
    """0 until `begin`, 1 from `end` on, a line between."""
    if progress >= end:
        return 1.0
    return 0.0 if progress <= begin else (progress - begin) / (end - begin)
