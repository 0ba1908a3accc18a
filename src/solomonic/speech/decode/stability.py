"""Which leading words will not be taken back.

The hypotheses near the best are compared after every frame. The words that all of them share, and
have shared for some frames, become stable, if another word follows: a word may still go on. From
then on hypotheses that say something else there are dropped, so a stable word is never taken back.
"""

from collections import deque
from collections.abc import Sequence

from solomonic.speech.decode.prefix import Prefix, common


class Stability:
    """The stable prefix of one search; it only grows.

    Args:
        root: the empty prefix.
        starts: (V,) whether a label starts a word.
        frames: how many frames long words must be agreed on; 0: none is ever stable.
    """

    def __init__(self, root: Prefix, starts: list[bool], frames: int) -> None:
        self.prefix = root
        self._starts, self._frames = starts, frames
        self._recent: deque[Prefix] = deque(maxlen=max(frames, 1))

    def observe(self, prefixes: Sequence[Prefix]) -> bool:
        """Look at the prefixes of the best hypotheses after a frame; whether more is stable now."""
        if not self._frames:
            return False
        self._recent.append(self._agreed(prefixes))
        if len(self._recent) < self._frames:
            return False
        held = self._recent[0]
        for agreed in self._recent:
            held = common(held, agreed)
        held = self._whole_words(held, [agreed for agreed in self._recent if agreed is not held])
        grown = held.depth > self.prefix.depth
        if grown:
            self.prefix = held
        return grown

    def allows(self, prefix: Prefix) -> bool:
        """Whether the stable words stand in `prefix`, the last one closed by another word."""
        stable = self.prefix
        if stable.parent is None:
            return True
        return stable.begins(prefix) and self._starts_word_after(stable, prefix)

    def _agreed(self, prefixes: Sequence[Prefix]) -> Prefix:
        """The longest shared prefix of whole words."""
        shared = prefixes[0]
        for prefix in prefixes[1:]:
            shared = common(shared, prefix)
        return self._whole_words(shared, prefixes)

    def _whole_words(self, shared: Prefix, prefixes: Sequence[Prefix]) -> Prefix:
        """`shared` without its last word, if that goes on or may go on in one of `prefixes`."""
        if all(self._starts_word_after(shared, prefix) for prefix in prefixes):
            return shared
        while shared.parent is not None:
            start = self._starts[shared.token]
            shared = shared.parent
            if start:
                break
        return shared

    def _starts_word_after(self, shared: Prefix, prefix: Prefix) -> bool:
        if prefix is shared:
            return False
        while prefix.parent is not shared:
            assert prefix.parent is not None
            prefix = prefix.parent
        return self._starts[prefix.token]
