"""Facts stated once in a book, asked for a million tokens later; a part of long_memory.py.

The stream is a book text with one fact between two paragraphs about every hundred tokens, then
`distance` other tokens of books. Names are unique, values are drawn; no fact is anywhere else. Each
question is asked of a copy of the same state, so no answer helps another, and holds only words of
the subject. The answer is what the generation loop writes (temperature 0), never a search result.

alone     the model's own state, which has read every token
stream    the same state, and the matches of the stream (the text is skimmed: nothing is trained)
store     a new stream: the text lies in a Memory in passages, searched by words at the question

verbatim  the text written begins with the fact's value ("is" before it may repeat the fact)
cited     verbatim, and one citation covers exactly the place where the value stands in its source
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from solomonic.lm.generate import GenerateConfig, Generation
from solomonic.lm.model import LanguageModel
from solomonic.lm.native import NativeModel
from solomonic.lm.remembering import RememberConfig, Remembering
from solomonic.memory import Memory, NewItem
from solomonic.text import Tokenizer

BOOKS = Path(__file__).resolve().parent.parent.parent / "shared/data/text_gutenberg/train"
FIRST = "ada bruno clara dmitri elena felix greta hugo irene jonas karin leo marta nils olga paul "
FIRST += "quentin rosa stefan tilda ulrich vera walter xenia yann zora amir bela chloe daria emil "
FIRST += "fiona gustav hanna igor julia kurt lena mira noel"
LAST = (
    "abbott baker castillo dubois evans fischer garcia hansen ivanov jensen keller lopez moretti "
)
LAST += "nowak olsen pereira quinn rossi schmidt tanaka unger vargas weber xu young zimmermann"
OBJECTS = [
    "key",
    "lamp",
    "violin",
    "suitcase",
    "umbrella",
    "telescope",
    "ladder",
    "kettle",
    "compass",
    "blanket",
]
SPOTS = ("under the stairs", "behind the barn", "in the attic", "beside the well",
         "on the third shelf", "below the window", "next to the piano", "inside the oak chest",
         "near the old mill", "at the railway station", "in the blue cupboard",
         "behind the green curtain")  # fmt: skip
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
HOURS = [*DIGITS[1:], "ten", "eleven", "twelve"]
COPY, QUESTION = "wording", "question"


class Fact(NamedTuple):
    """`ask` by way of asking; `chance` that a guess among the kind's values is right."""

    kind: str
    text: str
    answer: str
    ask: dict[str, str]
    chance: float


def make_facts(count: int, seed: int) -> list[Fact]:
    """Facts of three kinds about different people."""
    chosen = random.Random(seed)
    names = [f"{first} {last}" for first in FIRST.split() for last in LAST.split()]
    chosen.shuffle(names)
    facts = []
    for index in range(count):
        who = names[index]
        if index % 3 == 0:
            value = " ".join(chosen.choices(DIGITS, k=7))
            begin, question = f"the phone number of {who} is", f"what is the phone number of {who}"
            chance = 1e-7
        elif index % 3 == 1:
            value = f"on {chosen.choice(DAYS)} at {chosen.choice(HOURS)} o'clock"
            begin, question = f"{who} has the meeting", f"when does {who} have the meeting"
            chance = 1 / (len(DAYS) * len(HOURS))
        else:
            thing, value = chosen.choice(OBJECTS), chosen.choice(SPOTS)
            begin, question = f"{who} left the {thing}", f"where did {who} leave the {thing}"
            chance = 1 / len(SPOTS)
        kind = ("phone", "meeting", "place")[index % 3]
        ask = {COPY: begin, QUESTION: question}
        facts.append(Fact(kind, f"{begin} {value}.", value, ask, chance))
    return facts


class Text(NamedTuple):
    """A whole text, where each value stands in it (characters), and its passages."""

    text: str
    places: list[int]
    passages: list[tuple[int, str]]


def hide(facts: list[Fact], tokenizer: Tokenizer, distance: int, every: int = 100) -> Text:
    """Facts between paragraphs, then `distance` tokens without any."""
    books = "\n\n".join(
        file.read_text(encoding="utf-8") for file in sorted(BOOKS.glob("*.txt"), reverse=True)
    )
    paragraphs = [p for p in books.split("\n\n") if p.strip()]
    parts, places, passages, size = [], [], [], 0
    counted, waiting, left = 0, list(facts), distance

    def add(part: str) -> None:
        nonlocal size
        passages.append((size, part))
        parts.append(part + "\n\n")
        size += len(part) + 2

    for paragraph in paragraphs:
        tokens = len(tokenizer.encode(paragraph))
        add(paragraph)
        counted += tokens
        if not waiting:
            left -= tokens
            if left <= 0:
                break
        while waiting and counted >= every:
            fact = waiting.pop(0)
            places.append(size + fact.text.index(fact.answer, len(fact.ask[COPY])))
            add(fact.text)
            counted -= every
    return Text("".join(parts), places, passages)


class Answer(NamedTuple):
    verbatim: bool
    says: bool
    cited: bool


def ask(
    reader: Remembering | NativeModel, tokenizer: Tokenizer, question: str, state: Any,
    fact: Fact, place: int,
) -> Answer:  # fmt: skip
    """Let the reader go on from a question, and judge what it writes."""
    prompt = tokenizer.encode("\n\n" + question)
    generation = Generation(
        reader, [prompt], GenerateConfig(max_new_tokens=24, temperature=0), state
    )
    output = [int(token) for token in generation]
    written = tokenizer.decode(output)
    verbatim = written.strip().removeprefix("is ").startswith(fact.answer)
    cited = False
    if isinstance(reader, Remembering) and fact.answer in written:
        cited = any(
            citation.offset <= place
            and place + len(fact.answer) <= citation.offset + len(citation.text)
            and fact.answer in citation.text
            for citation in reader.citations(generation.state, output)
        )
    return Answer(verbatim, fact.answer in written, cited)


class Plan(NamedTuple):
    """How many facts, how many of them asked in another wording too, and how far away."""

    facts: int = 1000
    paraphrased: int = 200
    distance: int = 1_000_000


def measure_stream(model: LanguageModel, tokenizer: Tokenizer, plan: Plan) -> dict[str, Any]:
    """The arms that read the whole stream: the model alone, and with the stream's own matches."""
    facts, text = _prepare(tokenizer, plan)
    native = NativeModel(model)
    stream = Remembering(native, tokenizer)
    ids = [tokenizer.eos_id, *tokenizer.encode(text.text)]
    state = stream.init_state(1)
    started = time.perf_counter()
    stream.skim(ids, state)
    seconds = time.perf_counter() - started
    print(f"read {len(ids)} tokens in {seconds:.0f} s", flush=True)
    found = _about(facts, plan) | {
        "tokens_read": len(ids), "tokens_per_second": len(ids) / seconds,
    }  # fmt: skip
    found |= _ask_all("alone", native, tokenizer, facts, text, plan, state.model.gather)
    return found | _ask_all("stream", stream, tokenizer, facts, text, plan, state.gather)


def measure_store(model: LanguageModel, tokenizer: Tokenizer, plan: Plan) -> dict[str, Any]:
    """The arm that begins a new stream beside a store of the text."""
    facts, text = _prepare(tokenizer, plan)
    with Memory.open(":memory:") as memory:
        memory.write_many(
            NewItem(text=part, source="books", offset=offset) for offset, part in text.passages
        )
        store = Remembering(NativeModel(model), tokenizer, RememberConfig(), memory=memory)
        found = _about(facts, plan) | {"passages": len(text.passages)}
        begin = lambda rows: store.init_state(len(rows))  # noqa: E731
        return found | _ask_all("store", store, tokenizer, facts, text, plan, begin)


def _prepare(tokenizer: Tokenizer, plan: Plan) -> tuple[list[Fact], Text]:
    facts = make_facts(plan.facts, seed=1)
    return facts, hide(facts, tokenizer, plan.distance)


def _about(facts: list[Fact], plan: Plan) -> dict[str, Any]:
    chance = sum(fact.chance for fact in facts) / len(facts)
    return {"facts": plan.facts, "distance_tokens": plan.distance, "chance": chance}


def _ask_all(
    arm: str, reader: Remembering | NativeModel, tokenizer: Tokenizer, facts: list[Fact],
    text: Text, plan: Plan, begin: Callable[[list[int]], Any],
) -> dict[str, Any]:  # fmt: skip
    """Shares of the questions, by way of asking; `begin` gives each a state of its own."""
    found = {}
    for way, count in ((COPY, len(facts)), (QUESTION, plan.paraphrased)):
        started = time.perf_counter()
        answers = [
            (fact, ask(reader, tokenizer, fact.ask[way], begin([0]), fact, place))
            for fact, place in zip(facts[:count], text.places[:count], strict=True)
        ]
        seconds = time.perf_counter() - started
        found[f"{arm}, {way}"] = _shares(answers) | {
            "questions": count, "ms_per_question": 1000 * seconds / max(count, 1),
        }  # fmt: skip
        print(arm, way, found[f"{arm}, {way}"], flush=True)
    return found


def _shares(answers: list[tuple[Fact, Answer]]) -> dict[str, Any]:
    """Of all questions, and verbatim by kind."""
    kinds = {fact.kind for fact, _ in answers}
    return {
        "verbatim": sum(a.verbatim for _, a in answers) / len(answers),
        "says": sum(a.says for _, a in answers) / len(answers),
        "verbatim_and_cited": sum(a.verbatim and a.cited for _, a in answers) / len(answers),
        "by_kind": {
            kind: sum(a.verbatim for f, a in answers if f.kind == kind)
            / sum(f.kind == kind for f, _ in answers)
            for kind in sorted(kinds)
        },
    }
