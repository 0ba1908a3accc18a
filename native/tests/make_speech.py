"""Makes native/tests/data/speech.solo, the tiny untrained recogniser of the Python tests, and
attentive.solo, the same with an attention to personal words that cannot be overheard.

.venv/bin/python native/tests/make_speech.py [FOLDER]
"""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from solomonic.speech.biasing import PointerBiasing, PointerConfig  # noqa: E402
from solomonic.speech.device_file import write_device_model  # noqa: E402
from solomonic.speech.endpoint.head import EndHead, EndHeadConfig  # noqa: E402
from speech_tiny import tiny_model  # noqa: E402


def main() -> None:
    model = tiny_model()
    config = model.transducer.config
    torch.manual_seed(1)
    head = EndHead(
        EndHeadConfig(
            hidden_size=config.hidden_size, label_size=config.joint_size, width=8, memory=4
        )
    )
    model.end = head.eval().requires_grad_(False)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "native/tests/data"
    for name in ("speech.solo", "attentive.solo"):
        if name == "attentive.solo":
            sizes = {"vocab_size": config.vocab_size, "joint_size": config.joint_size}
            pointer = PointerBiasing(PointerConfig(**sizes, embedding_size=8, size=8))
            torch.nn.init.constant_(pointer.depth, 4.0)
            model.transducer.pointer = pointer.requires_grad_(False)
        path = folder / name
        print(write_device_model(path, model), path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
