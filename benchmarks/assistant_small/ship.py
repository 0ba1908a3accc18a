"""Put the newest checkpoint of a run into the package, in 8 bits.

python benchmarks/assistant_small/ship.py RUN
"""

import argparse
from pathlib import Path

from safetensors.torch import load_file

from solomonic.core import DataError
from solomonic.lm.device_file import write_device_model
from solomonic.lm.model import LanguageModel
from solomonic.lm.shipped import ASSISTANT
from solomonic.recipes.lm import load_run
from solomonic.text import load_tokenizer
from solomonic.train import list_checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    folder = parser.parse_args().run
    run = load_run(folder)
    if run is None:
        raise DataError(f"{folder} is no run of train.py; give its --out.")
    model = LanguageModel(run.model)
    stored = load_file(list_checkpoints(folder / "checkpoints")[-1] / "state.safetensors")
    weights = {k.removeprefix("model/"): v for k, v in stored.items() if k.startswith("model/")}
    missing = model.load_state_dict(weights, strict=False)
    assert set(missing.missing_keys) <= {"head.weight"}, missing  # tied
    model.tie_weights()
    write_device_model(ASSISTANT, model.eval(), load_tokenizer(folder / "tokenizer"))
    print(ASSISTANT, ASSISTANT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
