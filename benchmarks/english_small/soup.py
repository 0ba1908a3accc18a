"""The mean of two models' weights, one trained on from the other (arXiv 2203.05482).

python benchmarks/english_small/soup.py ONE OTHER OUT [--share 0.5]
"""

import argparse
import dataclasses
from pathlib import Path

from solomonic.speech.pretrained import load_speech_model, save_speech_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("one", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the other one")
    parser.add_argument("--end", type=Path, help="model whose end-pointers' head to take")
    given = parser.parse_args()
    model, other = load_speech_model(given.one), load_speech_model(given.other)
    ours, theirs = model.transducer.plain_state(), other.transducer.plain_state()
    mixed = {name: ours[name].lerp(theirs[name], given.share) for name in ours}
    model.transducer.load_state_dict(mixed, strict=False)  # attention stays that of ONE
    if given.end is not None:
        model = dataclasses.replace(model, end=load_speech_model(given.end).end)
    save_speech_model(given.out, model)


if __name__ == "__main__":
    main()
