"""Systems that the tests of realization share, each from a seed."""

import numpy as np

from solomonic.realization import Linear, StateSpace, innovations_form


def four_states() -> StateSpace:
    """The process of the published figures: poles -0.5, 0.7, 0.79 ± 0.43i, two outputs."""
    random = np.random.default_rng(3)
    A = np.zeros((4, 4))
    A[0, 0], A[1, 1], A[2:, 2:] = -0.5, 0.7, [[0.79, 0.43], [-0.43, 0.79]]
    C, noise = random.standard_normal((2, 4)), random.standard_normal((4, 4))
    return StateSpace(A, C, noise @ noise.T, np.eye(2))


def innovations() -> StateSpace:
    return innovations_form(four_states())


def random_linear(seed: int, n: int = 6, inputs: int = 2, outputs: int = 3) -> Linear:
    """A stable system with spectral radius 0.9."""
    random = np.random.default_rng(seed)
    A = random.standard_normal((n, n))
    A *= 0.9 / np.abs(np.linalg.eigvals(A)).max()
    return Linear(
        A,
        random.standard_normal((n, inputs)),
        random.standard_normal((outputs, n)),
        random.standard_normal((outputs, inputs)),
    )


def random_process(seed: int, n: int = 4, m: int = 2) -> StateSpace:
    """A stable process with correlated noise, everything observed."""
    random = np.random.default_rng(seed)
    system = random_linear(seed, n, 1, m)
    noise = random.standard_normal((n + m, n + m))
    joint = noise @ noise.T
    return StateSpace(
        system.A, system.C, joint[:n, :n], joint[n:, n:], joint[:n, n:], random.standard_normal(m)
    )


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> None:
    """Equal to `tolerance` of the largest entry."""
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, float(np.abs(b).max())))
