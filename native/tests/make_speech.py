"""Makes native/tests/data/speech.solo: the tiny untrained recogniser of the Python tests.

.venv/bin/python native/tests/make_speech.py [FILE]
"""

import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

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
    path = sys.argv[1] if len(sys.argv) > 1 else ROOT / "native/tests/data/speech.solo"
    print(write_device_model(path, model), Path(path).stat().st_size, "bytes")


if __name__ == "__main__":
    main()
