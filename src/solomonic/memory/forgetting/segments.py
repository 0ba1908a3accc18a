"""Segments that ended: where each began and which archived regime it belongs to, if any."""

import bisect

import numpy as np


class Segments:
    """At most `most` segments, the oldest are forgotten first; the present one began at `begun`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.starts: list[int] = []
        self.regimes: list[int] = []  # -1: none, or one that left the archive
        self.begun = 0
        self.dropped = False

    def close(self, regime: int, end: int) -> None:
        """The present segment ended, the next one begins at `end`."""
        self.starts.append(self.begun)
        self.regimes.append(regime)
        if len(self.starts) > self.most:
            del self.starts[0], self.regimes[0]
            self.dropped = True
        self.begun = end

    def reopen(self, start: int, near: int) -> None:
        """Take back the changes after `start`, where the present segment is now thought to have
        begun; a segment that began less than `near` steps away is it."""
        index = bisect.bisect_left(self.starts, start - near + 1)
        if index < len(self.starts) and self.starts[index] < start + near:
            start = self.starts[index]
        del self.starts[index:], self.regimes[index:]
        self.begun = start

    def forget(self, regime: int) -> None:
        """The regime left the archive."""
        self.regimes = [-1 if one == regime else one for one in self.regimes]

    def changes(self) -> list[int]:
        """Steps at which segments begin, but for the very first."""
        if not self.starts and not self.dropped:
            return []
        begins = [*self.starts, self.begun]
        return begins if self.dropped else begins[1:]

    def regimes_at(self, written: np.ndarray) -> np.ndarray:
        """The regime that each step belonged to, -1 where there is none or it is not known."""
        if not self.starts:
            return np.full(written.shape, -1)
        index = np.searchsorted(np.array(self.starts), written, "right") - 1
        found = np.array(self.regimes)[np.maximum(index, 0)]
        return np.where((index < 0) | (written >= self.begun), -1, found)
