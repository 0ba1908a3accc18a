"""A process that writes to a memory until it is killed; each line says what was acknowledged.

    python memory_writer_support.py PLACE SEED FORGETTING EXACT_LIMIT

Prints JSON lines: {"wrote": [[id, number], ...]} after `write_many` has returned, {"gone": [ids]}
after `forget` has. The text and the vector of an item follow from its number (`text_of`,
`key_of`), so that the test can tell whether it is whole.
"""

import json
import random
import sys

import numpy as np

from solomonic.memory import Memory, MemoryConfig, NewItem

DIM = 16


def text_of(number: int) -> str:
    """A text whose length varies from a word to several pages of the database."""
    return f"item{number} " + "word " * (number * 7919 % 3000 if number % 10 == 0 else number % 9)


def key_of(number: int) -> np.ndarray:
    """(DIM,) float16."""
    return np.random.default_rng(number).standard_normal(DIM).astype(np.float16)


def settings(forgetting: str, limit: int) -> MemoryConfig:
    """Few vectors until lists begin."""
    return MemoryConfig(forgetting=forgetting, exact_limit=limit)


def main() -> None:
    place, seed, forgetting, limit = sys.argv[1:5]
    chance = random.Random(int(seed))
    memory = Memory.open(place, config=settings(forgetting, int(limit)))
    print("ready", flush=True)
    number = int(seed) * 1_000_000
    alive: list[int] = []

    def say(record: object) -> None:
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()

    while True:
        count = chance.choice([1, 1, 1, 5, 200])
        numbers = list(range(number, number + count))
        number += count
        ids = memory.write_many(
            NewItem(text=text_of(n), vector=key_of(n), source=f"s{n % 3}") for n in numbers
        )
        say({"wrote": list(zip(ids, numbers, strict=True))})
        alive += ids
        memory.observe(chance.random())
        if chance.random() < 0.2:
            gone = chance.sample(alive, min(len(alive), chance.choice([1, 20])))
            memory.forget(gone)
            say({"gone": gone})
            alive = [id_ for id_ in alive if id_ not in set(gone)]
        if chance.random() < 0.1:
            memory._index.save_now()  # pyright: ignore  (otherwise once in thousands of items)


if __name__ == "__main__":
    main()
