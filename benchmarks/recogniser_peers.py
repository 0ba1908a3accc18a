"""The native recogniser against sherpa-onnx with the same network and the same weights.

    make bench ARGS=recogniser_peers                  a few minutes
    make bench ARGS='recogniser_peers --rounds 9 --seconds 120'

sherpa-onnx runs models of its own kinds, and one of them this library has too: LSTM layers with a
stateless prediction network. So one such network of the shipped model's size, with random weights,
is written as device files and as sherpa-onnx's three ONNX files, in float32 and by ONNX Runtime's
own dynamic quantisation in int8, and both recognise the same audio: features, encoder and search.
The blank is set so that labels are said about as often as in speech; a network that knows nothing
says other ones to other features, so the numbers of characters said are shown too. Runs alternate,
each in a process of its own on one thread; times are processor time, so that a busy machine
disturbs both alike; what counts are ratios within a round. Ours are also measured with fewer bits
and zeros, and with the shipped model, whose layers sherpa-onnx does not have.

Needs build/peers/sherpa: python3 -m venv build/peers/sherpa && build/peers/sherpa/bin/pip install
onnx onnxruntime sherpa-onnx.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from peers.protocol import ROOT
from recogniser import recordings
from solomonic.compress.config import CompressConfig
from solomonic.evals.report import markdown_table, save_report
from solomonic.recipes.compress import at_once
from solomonic.speech.audio import RATE
from solomonic.speech.config import TransducerConfig
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.device_file import write_device_model
from solomonic.speech.features import features
from solomonic.speech.model import Transducer
from solomonic.speech.native_recognizer import NativeRecognizer
from solomonic.speech.places import SHIPPED
from solomonic.speech.pretrained import SpeechModel, load_speech_model

WORK = ROOT / "build" / "bench" / "recogniser_peers"
RESULTS = Path(__file__).parent / "results"
PEER = ROOT / "build" / "peers" / "sherpa" / "bin" / "python"
WORKER = Path(__file__).parent / "peers" / "recogniser_sherpa.py"
LABELS = 4.0
"""Labels a second that the random network says."""
OURS = {
    "ours, 8 bits": "lstm.solo",
    "ours, 4 bits": "lstm4.solo",
    "ours, 4 bits, half zeros": "lstm4half.solo",
    "ours, shipped model, 8 bits": "shipped.solo",
}
BASE = "ours, 8 bits"
"""What the peer's weights are."""
THEIRS = {
    f"sherpa-onnx {kind}, {10 * chunk} ms": (kind, str(chunk))
    for chunk in (6, 30)
    for kind in ("float32", "int8")
}
METHODS = {"greedy": "greedy_search", "beam": "modified_beam_search"}


def main(arguments: list[str]) -> None:
    """Measure in turns; a table on the screen, all figures in a result file."""
    if arguments[:1] == ["--worker"]:
        print(json.dumps(ours(Path(arguments[1]), arguments[2], Path(arguments[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, prog="run.py recogniser_peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="audio of a run")
    parser.add_argument("--python", type=Path, default=PEER, help="interpreter with sherpa-onnx")
    parser.add_argument("--no-save", action="store_true", help="write no result file")
    given = parser.parse_args(arguments)
    if not given.python.is_file():
        sys.exit(f"sherpa-onnx is not here ({given.python}); {str(__doc__).split('Needs ')[1]}")
    WORK.mkdir(parents=True, exist_ok=True)
    audio = sound(given.seconds)
    model = network(audio)
    write_device_model(WORK / "lstm.solo", model)
    for name, sparsity in (("lstm4", 0.0), ("lstm4half", 0.5)):
        small = CompressConfig(pattern="vec16" if sparsity else "dense", sparsity=sparsity)
        write_device_model(WORK / f"{name}.solo", model, at_once(model, small))
    shipped = load_speech_model(SHIPPED)
    write_device_model(WORK / "shipped.solo", shipped)
    np.save(WORK / "audio.npy", audio)
    np.savez(WORK / "weights.npz", **cast(Any, weights_of(model, audio)))
    record: dict[str, Any] = {
        "parameters": {"lstm": count(model), "shipped": count(shipped)},
        "bytes": {
            name: (WORK / f"{name}.solo").stat().st_size
            for name in ("lstm", "lstm4", "lstm4half", "shipped")
        },
        "files": asked(given.python, WORKER, "make", WORK / "weights.npz", WORK / "onnx"),
        "audio_seconds": len(audio) / RATE,
        "load": os.getloadavg(),
        "kernels": NativeRecognizer(WORK / "lstm.solo").describe()["kernels"],
        "rounds": rounds(given.python, given.rounds),
    }
    record["load_after"] = os.getloadavg()
    show(record)
    if not given.no_save:
        print(save_report(RESULTS, "recogniser_peers", record))


def sound(seconds: float) -> np.ndarray:
    """(n,) float32: read sentences one after the other."""
    clips = np.concatenate(recordings(40))
    return np.resize(clips, round(seconds * RATE)).astype(np.float32)


def network(audio: np.ndarray) -> SpeechModel:
    """A transducer of sherpa-onnx's kind with random weights that says `LABELS` a second."""
    shipped = load_speech_model(SHIPPED)
    config = TransducerConfig(
        vocab_size=shipped.pieces.size, front="", pattern="LLLL", hidden_size=384,
        intermediate_size=0, predictor="stateless", dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    net = Transducer(config).eval().requires_grad_(False)
    frames = torch.from_numpy(whole(audio[: 30 * RATE], config))
    net.encoder.mean.copy_(frames.mean(dim=0))
    net.encoder.deviation.copy_(frames.std(dim=0))
    acoustic = net.acoustic(net.hidden(frames[None])[0])[0]
    logits = net.joint(acoustic, net.predictor.start(1)[0])
    ahead = logits[:, 1:].max(dim=1).values - logits[:, 0]
    share = LABELS * config.frames_per_step * config.shift_ms / 1000
    net.joint.bias[0] += torch.quantile(ahead, 1 - share)
    return SpeechModel(net, shipped.pieces)


def whole(audio: np.ndarray, config: TransducerConfig) -> np.ndarray:
    """Its features, as many as make whole steps."""
    frames = features(audio)
    return frames[: len(frames) // config.frames_per_step * config.frames_per_step]


def weights_of(model: SpeechModel, audio: np.ndarray) -> dict[str, np.ndarray]:
    """What the peer's files are made of, and what its encoder must say to some frames."""
    net = model.transducer
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    frames = whole(audio[: 5 * RATE], net.config)
    found = {
        "layers": np.array(len(net.config.pattern)),
        "mean": state["encoder.mean"],
        "deviation": state["encoder.deviation"],
        "embed": state["encoder.embed.weight"],
        "join": state["encoder.join.weight"],
        "norm": state["encoder.norm.weight"],
        "to_joint": state["to_joint.weight"],
        "to_joint_bias": state["to_joint.bias"],
        "labels": state["predictor.embed.weight"],
        "mix": state["predictor.mix"],
        "label": state["predictor.output.weight"],
        "label_bias": state["predictor.output.bias"],
        "joint": state["joint.weight"],
        "joint_bias": state["joint.bias"],
        "pieces": np.array(model.pieces.pieces),
        "frames": frames,
        "acoustic": net.acoustic(net.hidden(torch.from_numpy(frames)[None])[0])[0].numpy(),
    }
    for i in range(len(net.config.pattern)):
        block = f"encoder.back.{i}."
        found[f"{i}.norm"] = state[f"{block}norm.weight"]
        for name, kind in (("ih", "weight_ih"), ("hh", "weight_hh"), ("bih", "bias_ih"),
                           ("bhh", "bias_hh")):  # fmt: skip
            found[f"{i}.{name}"] = state[f"{block}mixer.cell.{kind}_l0"]
    return found


def count(model: SpeechModel) -> int:
    return sum(parameter.numel() for parameter in model.transducer.parameters())


def rounds(python: Path, times: int) -> list[dict[str, dict[str, Any]]]:
    """Each contender once a round, in an order that turns around from round to round."""
    jobs = {}
    for method, theirs in METHODS.items():
        for name, file in OURS.items():
            jobs[f"{name}, {method}"] = (
                Path(sys.executable), Path(__file__).parent / "run.py", "recogniser_peers",
                "--worker", WORK / file, method, WORK / "audio.npy",
            )  # fmt: skip
        for name, (kind, chunk) in THEIRS.items():
            jobs[f"{name}, {method}"] = (
                python, WORKER, "run", WORK / "onnx", kind, chunk, theirs, WORK / "audio.npy",
            )  # fmt: skip
    found = []
    for turn in range(times):
        order = list(jobs)[:: 1 if turn % 2 == 0 else -1]
        answers = {name: asked(*jobs[name]) for name in order}
        for answer in answers.values():
            answer["characters"] = len(answer.pop("text"))
        found.append(answers)
        print(f"round {turn + 1} of {times}", file=sys.stderr, flush=True)
    return found


def asked(*command: str | Path) -> dict[str, Any]:
    """The JSON that a worker prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def ours(model: Path, method: str, audio: Path) -> dict[str, Any]:
    """The same pass over the audio as the peer's, with one utterance and no end-pointer."""
    decode = DecodeConfig()
    if method == "greedy":  # the peer's says one label a step at most
        decode = DecodeConfig(method="greedy", max_symbols=1, lattice=False)
    recognizer = NativeRecognizer(model, decode)
    samples = np.load(audio)
    spent, text = 0.0, ""
    for part in (samples[: 2 * RATE], samples):
        stream = recognizer.create_stream(endpointing=False)
        start = time.process_time()
        for first in range(0, len(part), 960):
            stream.accept_waveform(RATE, part[first : first + 960])
            stream.events()
        stream.input_finished()
        text = stream.result().text
        spent = time.process_time() - start
    return {"seconds": spent, "text": text}


def show(record: dict[str, Any]) -> None:
    """Medians over the rounds, and ratios to ours within each round."""
    rounds = record["rounds"]
    rows: list[list[str]] = []
    record["medians"] = {}
    for name in rounds[0]:
        method = name.rpartition(", ")[2]
        factors = [one[name]["seconds"] / record["audio_seconds"] for one in rounds]
        ratios = [one[name]["seconds"] / one[f"{BASE}, {method}"]["seconds"] for one in rounds]
        median = {
            "real_time_factor": float(np.median(factors)),
            "against_ours": float(np.median(ratios)),
            "least": min(ratios),
            "most": max(ratios),
        }
        record["medians"][name] = median
        rows.append(
            [name, f"{median['real_time_factor']:.5f}", f"{median['against_ours']:.2f}",
             f"{median['least']:.2f} to {median['most']:.2f}", str(rounds[0][name]["characters"])]
        )  # fmt: skip
    print(
        markdown_table(
            ["", "real-time factor", "times ours", "over the rounds", "characters"], rows
        )
    )
    print(json.dumps({key: record[key] for key in ("parameters", "bytes", "files")}))
