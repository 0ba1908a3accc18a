"""Put a trained model into the package as a device file, with its card and the demonstration's
samples.

python benchmarks/english_small/ship.py MODEL [--card CARD.md]
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import soundfile

from solomonic.speech.data.augment import add_noise, synthetic_noise
from solomonic.speech.data.synthesis import Voice, speak
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.device_file import write_device_model
from solomonic.speech.endpoint.pauses import make_paused
from solomonic.speech.places import DEVICE_FILE, SHIPPED
from solomonic.speech.pretrained import load_speech_model

SEARCH = DecodeConfig(label_bonus=0.3)
"""Chosen on the held-out recordings; 0.5 is better in silence and puts words into a hiss."""
SAMPLES = (
    (("turn off the lights", "in the bedroom"), "espeak-ng:en-us+f3"),
    (("set a timer for twelve minutes",), "flite:rms"),
    (("play some jazz in the kitchen",), "espeak-ng:en-gb+m2"),
    (("what is the weather", "in london tomorrow"), "espeak-ng:en-us+Alicia"),
    (("add milk and bread to my shopping list",), "espeak-ng:en-gb-scotland+m6"),
    (("wake me up at half past six",), "flite:rms"),
)


NAMED = (
    (("send a message to giuseppe moretti",), "flite:rms"),
    (("remind siobhan mcbride about the meeting",), "espeak-ng:en-us+f3"),
)
NAMES = (
    "anneliese hoffmann", "aurelio bianchi", "beatrix vandenberg", "bjorn sigurdsson",
    "callum strachan", "farouk benali", "giuseppe moretti", "hyejin kwon", "katarzyna zielinska",
    "leilani kahale", "marguerite duval", "mateus carvalho", "oluwaseun adeyemi",
    "saoirse kinsella", "siobhan mcbride", "soraya hosseini", "takeshi morimoto",
    "thandiwe nkosi", "yevgenia petrova", "zanele dlamini",
)  # fmt: skip
"""A user's contacts; training heard none of these whole names, and of most no part."""


def samples(folder: Path, spoken: tuple[tuple[tuple[str, ...], str], ...]) -> None:
    """Commands by voices that training never heard, over a little noise, some with a pause."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (parts, name) in enumerate(spoken):
        voice, rng = Voice(*name.split(":")), np.random.default_rng(number)
        spoken = [speak(part, voice).samples for part in parts]
        paused = make_paused(spoken, rng, pause_ms=(350, 450), tail_ms=1200)
        audio = add_noise(paused.audio, synthetic_noise("pink", len(paused.audio), rng), 25.0, rng)
        file = f"{number + 1}.opus"
        level = 0.5 / float(np.abs(audio).max())
        soundfile.write(folder / file, audio * level, 16000, format="OGG", subtype="OPUS")
        rows.append({"audio": file, "text": " ".join(parts), "voice": name})
    (folder / "samples.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--card", type=Path, default=Path(__file__).with_name("CARD.md"))
    given = parser.parse_args()
    model = dataclasses.replace(load_speech_model(given.model), decode=SEARCH)
    SHIPPED.mkdir(parents=True, exist_ok=True)
    write_device_model(SHIPPED / DEVICE_FILE, model)
    (SHIPPED / "README.md").write_text(given.card.read_text("utf-8"), "utf-8")
    samples(SHIPPED / "samples", SAMPLES)
    samples(SHIPPED / "samples" / "named", NAMED)
    (SHIPPED / "samples" / "named" / "names.txt").write_text("\n".join(NAMES) + "\n", "utf-8")
    print(SHIPPED, sum(f.stat().st_size for f in SHIPPED.rglob("*") if f.is_file()), "bytes")


if __name__ == "__main__":
    main()
