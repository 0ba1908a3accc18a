"""What comes out of a generation while it runs, and the text that may already be shown."""

import dataclasses
from collections.abc import Sequence

from solomonic.text import StreamDecoder, Tokenizer


@dataclasses.dataclass(frozen=True)
class Token:
    """One generated token, its log-probability in nats, and the likeliest (id, log-probability)."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


@dataclasses.dataclass(frozen=True)
class Piece:
    """New text of one choice.

    Attributes:
        choice: which of a request's texts.
        text: whole characters; may be empty.
        tokens: those that make up the text, where log-probabilities were asked for.
        finish: None, or in the last piece "stop" (the text came to its end, or to a stop string)
            or "length" (a limit ended it).
        reason: of the end, where it is not the model's: the stop string, "timeout" or "shutdown".
    """

    choice: int
    text: str = ""
    tokens: tuple[Token, ...] = ()
    finish: str | None = None
    reason: str | None = None


class Shown:
    """Turns tokens into text that can be shown: whole characters, and nothing that may turn out
    to be the beginning of a stop string.

    Args:
        stop: strings that end the text and are not part of it.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._decoder = StreamDecoder(tokenizer)
        self._stop = [text for text in stop if text]
        self._held = ""
        self._tokens: list[tuple[int, Token]] = []  # end in `_held`, and the token
        self.stopped: str | None = None
        """The stop string that was met."""

    def push(self, token: Token) -> tuple[str, tuple[Token, ...]]:
        """Text that `token` allows to show, and the tokens it ends."""
        return self._take(self._decoder.push(token.token), token)

    def flush(self) -> tuple[str, tuple[Token, ...]]:
        """All that was held back, at the end of the text."""
        self._held += self._decoder.flush()
        return self._release(len(self._held))

    def _take(self, text: str, token: Token) -> tuple[str, tuple[Token, ...]]:
        self._held += text
        self._tokens.append((len(self._held), token))
        found = [(self._held.find(stop), -len(stop), stop) for stop in self._stop]
        met = min((entry for entry in found if entry[0] >= 0), default=None)
        if met is not None:
            self.stopped = met[2]
            # A token that is partly shown counts as shown, one that lies behind the cut does not.
            starts = [0, *(end for end, _ in self._tokens)]
            kept = [one for start, one in zip(starts, self._tokens, strict=False)
                    if start < met[0]]  # fmt: skip
            return self._held[: met[0]], tuple(token for _, token in kept)
        return self._release(len(self._held) - self._possible())

    def _release(self, count: int) -> tuple[str, tuple[Token, ...]]:
        text, self._held = self._held[:count], self._held[count:]
        ready = [token for end, token in self._tokens if end <= count]
        self._tokens = [(end - count, token) for end, token in self._tokens if end > count]
        return text, tuple(ready)

    def _possible(self) -> int:
        """Characters at the end of what is held that begin a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for count in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-count:]) for stop in self._stop):
                return count
        return 0
