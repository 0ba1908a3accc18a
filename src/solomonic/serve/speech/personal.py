"""Personal words of a stream: those of the request, those stored, names that were said before."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from solomonic.core import DataError
from solomonic.serve.services import Services
from solomonic.speech.biasing.phrases import MOST_PHRASES, MOST_WORDS
from solomonic.text.spoken import is_spoken, normalise

if TYPE_CHECKING:
    from solomonic.serve.speech.session import Session

PROMPT_PHRASES = 100
_ENDS = ",;\n.!?"


async def open_stream(
    services: Services, client: Any, given: Sequence[str], *, endpointing: bool, live: bool
) -> "Session":
    """A stream that favours what the request gives and what the client's user said before.

    What the request gives must be usable; of the user's own words those that are not are left out.

    Raises:
        DataError: a phrase of the request cannot be used.
        Refused: there is no place.
    """
    stored, names = await services.recall.personal(client.user)
    own = [word for word in (*stored, *names) if usable(word)]
    words = list(dict.fromkeys((*given, *own)))[: max(MOST_PHRASES, len(given))]
    try:
        return await services.speech.open(client, words, endpointing=endpointing, live=live)
    except DataError:
        if not own:
            raise
    return await services.speech.open(client, list(given), endpointing=endpointing, live=live)


def usable(phrase: str) -> bool:
    """Whether a recogniser of spoken English can favour the phrase."""
    spoken = normalise(phrase)
    letters = len(spoken.replace(" ", ""))
    return is_spoken(spoken) and letters >= 3 and len(spoken.split()) <= MOST_WORDS


def prompt_phrases(prompt: str) -> list[str]:
    """Personal words out of a free text: its parts between commas, or their capitalised words.

    "Siobhan Nguyen, kettle" is two phrases. A part of more than four words is a sentence: only the
    runs of capitalised words in it are taken, its first word aside.
    """
    found: list[str] = []
    for sign in _ENDS:
        prompt = prompt.replace(sign, "\n")
    for part in prompt.split("\n"):
        words = part.split()
        found += [" ".join(words)] if len(words) <= 4 else _names(words)
    return list(dict.fromkeys(phrase for phrase in found if usable(phrase)))[:PROMPT_PHRASES]


def _names(words: Iterable[str]) -> list[str]:
    runs: list[list[str]] = [[]]
    for place, word in enumerate(words):
        if place and word[:1].isupper():
            runs[-1].append(word)
        elif runs[-1]:
            runs.append([])
    return [" ".join(run[:MOST_WORDS]) for run in runs if run]
