"""Is everything that is derived equal to the truth, and is the truth whole?"""

import dataclasses
import time

from solomonic.memory.index import Following
from solomonic.memory.truth import Truth


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `Memory.verify` found.

    Attributes:
        items: how many there are; 0 where the tables themselves are damaged.
        problems: what is wrong: one sentence each; empty when all is well.
        repaired: problems that are mended by now.
        seconds: what it took.
    """

    items: int
    problems: tuple[str, ...]
    repaired: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Nothing is wrong, or no longer."""
        return not self.problems


def verify(truth: Truth, index: Following, dim: int | None, repair: bool) -> Verification:
    """See `Memory.verify`."""
    started = time.perf_counter()
    damage = truth.problems()
    if damage:  # nothing that is read from them would say more
        return Verification(0, tuple(damage), (), time.perf_counter() - started)
    wrong = truth.words_problems()
    mended: list[str] = []
    if wrong and repair:
        truth.rebuild_words()
        mended += [said for said in wrong if said not in truth.words_problems()]
    if dim is not None:
        odd = truth.count(f"WHERE vector IS NOT NULL AND length(vector) <> {2 * dim}")
        if odd:
            damage.append(
                f"{odd} vectors in {truth.place} have another length than the memory says; restore"
                " a backup."
            )
    differs = [] if damage else index.problems()
    if differs and repair:
        index.rebuild()
        mended += [said for said in differs if said not in index.problems()]
    found = [*damage, *(said for said in [*wrong, *differs] if said not in mended)]
    return Verification(truth.count(), tuple(found), tuple(mended), time.perf_counter() - started)
