"""Label prefixes: a tree of what has been said so far, with what the model thinks of each.

Every prefix is one object as long as a hypothesis needs it, so that equal prefixes meet, and the
prediction network is asked once for each.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from solomonic.speech.biasing.protocol import Bias

if TYPE_CHECKING:
    from solomonic.speech.biasing.pointer import Listed


class Prefix:
    """Labels from the start of an utterance; compared by identity.

    Attributes:
        parent, token: the prefix that this one lengthens, and by what; None and 0 at the root.
        depth: number of labels.
        words: number of words begun.
        children: known prefixes that are one label longer.
        context: what path merging compares: the last labels and the state of the bias.
        key: hash of all labels; equal for equal prefixes, also of two objects.
        bias_state, bias: state of the biasing automaton, and the sum that it paid (nats).
        listed, query: where in the listed phrases the labels stand, and what the attention to them
            asks for behind these labels, None until it is computed.
        label: (J,) the prediction network's vector, None until it is asked for.
        states, row: the prediction network's state after this prefix: a row of a batch of states.
        used: number of the frame in which a hypothesis last needed it.
    """

    __slots__ = (
        "bias", "bias_state", "children", "context", "depth", "key", "label", "listed", "parent",
        "query", "row", "states", "token", "used", "words",
    )  # fmt: skip

    def __init__(self, parent: "Prefix | None", token: int, bias_state: int, bias: float) -> None:
        self.parent, self.token = parent, token
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.words = 0
        self.key: int = hash((0 if parent is None else parent.key, token))
        self.context: tuple[int, ...] = ()
        self.children: dict[int, Prefix] = {}
        self.bias_state, self.bias = bias_state, bias
        self.listed = 0
        self.query: np.ndarray | None = None
        self.label: np.ndarray | None = None
        self.states: Any = None
        self.row = 0
        self.used = 0

    def tokens(self) -> list[int]:
        """All labels, first to last."""
        found: list[int] = []
        prefix = self
        while prefix.parent is not None:
            found.append(prefix.token)
            prefix = prefix.parent
        return found[::-1]

    def begins(self, other: "Prefix") -> bool:
        """Whether `other` is this prefix or a longer one of it."""
        while other.depth > self.depth:
            assert other.parent is not None
            other = other.parent
        return other is self


class PrefixTree:
    """The prefixes of one search.

    Args:
        bias: personal words, or None.
        starts: (V,) whether a label starts a word.
        label_context: how many labels path merging compares; 0: it is off.
        listed: phrases that the model attends to, or None.
    """

    def __init__(
        self,
        bias: Bias | None,
        starts: list[bool],
        label_context: int,
        listed: "Listed | None" = None,
    ) -> None:
        self.bias, self.starts, self.label_context = bias, starts, label_context
        self.listed = listed
        self.root = Prefix(None, 0, 0 if bias is None else bias.start, 0.0)

    def child(self, parent: Prefix, token: int) -> Prefix:
        """The prefix `parent` and one more label."""
        found = parent.children.get(token)
        if found is None:
            state, paid = (0, 0.0) if self.bias is None else self.bias.step(
                parent.bias_state, token
            )  # fmt: skip
            found = Prefix(parent, token, state, parent.bias + paid)
            found.words = parent.words + (self.starts[token] or parent.parent is None)
            if self.listed is not None:
                found.listed = self.listed.step(parent.listed, token)
            if self.label_context:
                labels = (*parent.context[:-2], token)[-self.label_context :]
                found.context = (*labels, state, found.listed)
            parent.children[token] = found
        return found

    def sweep(self, alive: list[Prefix], top: Prefix, before: int) -> None:
        """Forget prefixes that no hypothesis has needed since frame `before`.

        `alive` are the prefixes of the hypotheses, all of which `top` begins.
        """
        marked: set[Prefix] = set()
        for prefix in alive:
            while prefix not in marked:
                marked.add(prefix)
                if prefix is top or prefix.parent is None:
                    break
                prefix = prefix.parent
        for prefix in marked:
            prefix.children = {
                token: child
                for token, child in prefix.children.items()
                if child in marked or child.used >= before
            }
            if prefix.used < before:
                prefix.label = prefix.states = prefix.query = None
        above = top.parent  # nothing will ever branch off there again
        while above is not None and above.children:
            above.children, above.label, above.states = {}, None, None
            above = above.parent


def common(first: Prefix, second: Prefix) -> Prefix:
    """The longest prefix that begins both."""
    while first is not second:
        if first.depth >= second.depth:
            assert first.parent is not None
            first = first.parent
        else:
            assert second.parent is not None
            second = second.parent
    return first
