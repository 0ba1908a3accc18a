"""A process whose users speak to one store until it is killed; each line says what was committed.

    python speaker.py PLACE USERS TURNS SEED STATE_BYTES [threads-prefix]

Prints "user revision text seed-of-state" after a commit has returned: from then on it must last.
"""

import json
import sys
import threading

import numpy as np

from solomonic.serve.store import Utterance, open_store


def make_state(seed: int, size: int) -> bytes:
    """The same as the tests' fixture."""
    data = np.random.default_rng(seed).bytes(size)
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    metadata = {"format": "solomonic-state", "version": "1", "fingerprint": "model-a"}
    header = json.dumps({"__metadata__": metadata, "layers.0.x": entry}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def main() -> None:
    place, users, turns, seed, size, prefix = sys.argv[1:7]
    store = open_store(place)
    lock = threading.Lock()

    def speak(index: int) -> None:
        for turn in range(int(turns)):
            number = int(seed) * 1_000_000 + index * 1000 + turn
            text = f"{prefix}{index}-{turn} " + "word " * (number % 40)
            state = make_state(number, int(size)) if turn % 2 else None
            revision = store.commit(
                f"user-{index}",
                Utterance(text, f"heard {number}"),
                state=state,
                fingerprint="model-a" if state else "",
            )
            with lock:
                done = [f"user-{index}", revision, text, number if state else None]
                sys.stdout.write(json.dumps(done) + "\n")
                sys.stdout.flush()

    threads = [threading.Thread(target=speak, args=(index,)) for index in range(int(users))]
    print("ready", flush=True)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()


if __name__ == "__main__":
    main()
