"""The chat template of the assistant model: a line a message, marked by who speaks.

    > turn on the light in the kitchen
    < the kitchen light is on .
    > and the radio
    <

Lines are lower-case, as the model was trained; what a message says in several lines becomes one, so
that no message can speak for another. A system message is a line without a mark, before the talk.
The model goes on behind the last mark, and the end of that line ends its answer.
"""

from collections.abc import Iterable

MARKS = {"system": "", "developer": "", "user": "> ", "assistant": "< "}
STOP = "\n"
"""Ends an answer."""


def render(messages: Iterable[tuple[str, str]]) -> str:
    """The prompt for messages (role, text), in their order.

    Without a blank at its end: tokens of words begin with theirs.
    """
    lines = [MARKS[role] + " ".join(text.lower().split()) for role, text in messages]
    return "".join(f"{line.rstrip()}\n" for line in lines) + MARKS["assistant"].rstrip()


class Answer:
    """The model's line as a message: without the blank behind the mark."""

    def __init__(self) -> None:
        self._begun = False

    def push(self, text: str) -> str:
        """What of `text` belongs to the message."""
        if not self._begun:
            text = text.lstrip(" ")
            self._begun = bool(text)
        return text
