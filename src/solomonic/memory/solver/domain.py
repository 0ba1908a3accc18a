"""What a kind of task has to bring along, and what searches and proposers look like."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from solomonic.memory.solver.guide import Guide
from solomonic.memory.solver.task import Known, Proposal, Verdict


class Search(Protocol):
    """A search that can be stopped anywhere and gone on with later, in another process too."""

    @property
    def candidates(self) -> int:
        """Evaluated so far, in all runs of this search."""
        ...

    @property
    def finished(self) -> bool:
        """Nothing is left to try within the search's own bounds."""
        ...

    def advance(self, most: int, seconds: float) -> Iterable[str]:
        """Evaluate about `most` more candidates (fewer, when `seconds` are over); the values that
        should be verified."""
        ...

    def save(self) -> bytes: ...


class Domain(Protocol):
    """A kind of task.

    Attributes:
        kind: its name.
        verifier: name of what checks values; "" = nothing does, and the solver refuses the domain
            unless it is told which confidence is enough.
        stop: the text at which a language model's answer is over.
    """

    kind: str
    verifier: str
    stop: str

    def read(self, content: Mapping[str, Any]) -> Known:
        """Check and understand a task; raises `DataError` where it is malformed."""
        ...

    def verify(self, task: Known, value: str) -> Verdict:
        """Whether `value` solves `task`. Must never accept what does not."""
        ...

    def adapt(self, task: Known, values: Sequence[str]) -> Iterator[str | None]:
        """Values to verify, made of verified values of near tasks (best first). Bounded.

        None stands for a candidate that was evaluated and dropped: it is counted as work.
        """
        ...

    def search(self, task: Known, guide: Guide, saved: bytes | None) -> Search | None:
        """A search for `task`, gone on with from what `Search.save` gave, or None."""
        ...

    def features(self, value: str) -> Iterable[str]:
        """What the guide should count of a solution."""
        ...

    def prompt(self, task: Known, value: str | None = None) -> str:
        """The task as text for a language model, with its answer where it is an example."""
        ...

    def extract(self, task: Known, text: str) -> str:
        """The value in what a language model wrote after `prompt`."""
        ...

    def details(self, task: Known, value: str) -> Mapping[str, Any]:
        """What to show beside the value."""
        ...


class Proposer(Protocol):
    """A fast guesser, such as a language model (`solomonic.lm.proposer`).

    `best` is one confident pass, or None; `sample` is draw number `index`: equal numbers give
    equal draws, so that a retry goes on with the next. Both end where `stop` begins.
    """

    name: str

    def best(self, prompt: str, stop: str) -> Proposal | None: ...

    def sample(self, prompt: str, stop: str, index: int) -> Proposal: ...


class SharedSearches(Protocol):
    """A domain whose searches share work between tasks; the solver keeps it in the store."""

    def shared(self) -> bytes | None:
        """What to keep, or None when nothing is new."""
        ...

    def restore(self, saved: bytes) -> None: ...
