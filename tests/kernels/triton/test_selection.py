"""Triton's eidetic selection is the definition's exactly: sets, order, ties, empty slots."""

import pytest
import torch

from solomonic import kernels
from solomonic.kernels import selection
from solomonic.kernels.selection import triton

EMPTY = -torch.inf
SHAPES = [(2, 7, 5, 4), (1, 1, 3, 8), (2, 9, 1, 2), (2, 4, 70, 66), (1, 0, 3, 2), (2, 3, 4, 0)]


def inputs(shape: tuple[int, int, int, int], device: torch.device, levels: int = 6):
    """Few distinct innovations, so that most comparisons are ties; a fifth is padding."""
    rows, count, size, slots = shape
    eps = torch.randint(0, levels, (rows, count, size)).float()
    eps[torch.rand(eps.shape) < 0.2] = EMPTY
    index = (torch.arange(count * size) + slots).view(count, size).expand(rows, -1, -1)
    slot_eps = torch.full((rows, slots), EMPTY)
    held = torch.randint(0, levels, (rows, slots // 2)).float()
    slot_eps[:, : slots // 2] = held.sort(1, descending=True)[0]
    parts = (eps, index, slot_eps, torch.arange(slots).expand(rows, -1))
    return [part.to(device) for part in parts]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sets_and_order(shape: tuple[int, int, int, int], device) -> None:
    parts = inputs(shape, device)
    eps, names = triton.select(*parts)
    law_eps, law_names = selection.reference(*parts)
    assert torch.equal(eps, law_eps)
    assert torch.equal(names[law_eps > EMPTY], law_names[law_eps > EMPTY])


def test_not_a_number_is_somewhere_and_nothing_is_lost(device) -> None:
    """Whatever comes in, the names that come out are names that went in, each once."""
    eps, index, slot_eps, slot_index = inputs((2, 3, 9, 5), device)
    eps[:, 1, ::3] = torch.nan
    _, names = triton.select(eps, index, slot_eps, slot_index)
    for line in names.flatten(0, 1).tolist():
        assert len({*line}) == len(line)
        assert all(0 <= name < 27 + 5 for name in line)


def test_the_best_of_one_list(device) -> None:
    eps = torch.randint(0, 9, (3, 100)).float().to(device)
    best, places = triton.top(eps, 17)
    law = torch.sort(eps, descending=True, stable=True)
    assert torch.equal(best, law.values[:, :17])
    assert torch.equal(places, law.indices[:, :17])


def test_the_registry_takes_it(device) -> None:
    parts = inputs((1, 2, 3, 2), device)
    assert kernels.resolve("selection", *parts) is triton.select
    assert "float64" in kernels.explain("selection", *(p.double() for p in parts))
