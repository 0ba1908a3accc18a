"""A branching encoder on recordings with silence around them: computation against word errors.

    make bench ARGS='branching --banks FOLDER'              ten minutes of one thread

The shipped model is the large branch and stays as it is; a small branch and the arbitrator are
trained beside it, from one price of computation to the next, and the gate is told where somebody
speaks (--guide). FOLDER has a feature bank NAME-train of each of `TRAIN`
(`speech.data.bank.build_bank` makes them). Tested is on test splits of ../shared/data, a second of
silence before each recording and two after it, with pink noise over all at 20 to 35 dB. Decoding
is greedy. `shuffled`, at one price, is a control: as many decisions
for the large branch, at random places.
"""

import argparse
import dataclasses
import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peers.protocol import ROOT
from solomonic.evals.asr import choose
from solomonic.evals.report import markdown_table, save_report
from solomonic.evals.wer import percent, score
from solomonic.speech.audio import RATE, read_audio
from solomonic.speech.branching.cost import encoder_cost
from solomonic.speech.branching.encoder import BranchingEncoder
from solomonic.speech.branching.start import start_from
from solomonic.speech.branching.task import BranchingTaskConfig, BranchingTransducerTask
from solomonic.speech.data.augment import add_noise, synthetic_noise
from solomonic.speech.data.bank import FeatureBank
from solomonic.speech.data.manifest import Utterance, read_manifest
from solomonic.speech.data.online import OnlineConfig, pad
from solomonic.speech.decode import DecodeConfig, Decoder
from solomonic.speech.features import features
from solomonic.speech.model import Transducer
from solomonic.speech.pretrained import SpeechModel, load_speech_model, save_speech_model
from solomonic.speech.task import SpeechTaskConfig, TrainingModel

SHARED = ROOT.parent / "shared" / "data"
SHIPPED = ROOT / "src" / "solomonic" / "speech" / "models" / "english-small"
RESULTS = Path(__file__).parent / "results"
TRAIN = {"fsdd": 1.0, "speech_commands_subset": 0.4, "an4": 1.5}
TESTS = ("fsdd", "speech_commands_subset", "an4")
SMALL = {"small_pattern": "LL", "small_size": 96}
PRICES = (0.0, 0.2)
BEFORE, AFTER = 1.0, 2.0
ONLINE = OnlineConfig(
    lead_ms=1500, tail_ms=2500, tail_min_ms=500, noise=0.9, snr_db=(10, 40), time_masks=1
)
TASK = SpeechTaskConfig(
    frames_per_batch=4800, warm_steps=0, ramp_steps=0, ctc_scale=0.0, simple_scale=0.05,
    average_decay=0.97, longest_seconds=8.0,
)  # fmt: skip


def main(arguments: list[str]) -> None:
    """Train, decode, and write a table and a result file."""
    parser = argparse.ArgumentParser(description=__doc__, prog="run.py branching")
    parser.add_argument("--banks", type=Path, required=True, help="folder of feature banks")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--steps", type=int, default=800, help="of training for each price")
    parser.add_argument("--prices", type=float, nargs="+", default=list(PRICES))
    parser.add_argument("--guide", type=float, default=2.0, help="nats for a gate that misses")
    parser.add_argument(
        "--margins", type=float, nargs=2, metavar="SECONDS",
        default=(BranchingTaskConfig.guide_before, BranchingTaskConfig.guide_after),
        help="before and behind a label that count as speech",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, default=120, help="recordings of each test set")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "branching")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if not SHARED.is_dir():
        sys.exit(f"this benchmark needs the project's recordings, and {SHARED} is not there")
    torch.set_num_threads(1)
    shipped = load_speech_model(options.model)
    tests = {name: padded(name, options.limit) for name in TESTS}
    rows = [measured("shipped, every frame", shipped, tests)]
    tell(rows[-1])
    config = BranchingTaskConfig(
        freeze_large=True, guide_scale=options.guide, guide_before=options.margins[0],
        guide_after=options.margins[1],
    )  # fmt: skip
    task = prepared(shipped, options.banks, config)
    settings = {
        "model": os.path.relpath(options.model, ROOT), "small": SMALL, "steps": options.steps,
        "branching": config.to_json(), "tests": TESTS, "limit": options.limit,
        "before": BEFORE, "after": AFTER, "train": TRAIN,
        "online": ONLINE.to_json(), "task": TASK.to_json(),
        "encoder": dataclasses.asdict(encoder_cost(task.model.transducer.encoder)),
    }  # fmt: skip
    started, position = time.process_time(), {"step": 0, "order": None}
    for price in options.prices:
        position = trained(task, price, position, options.steps)
        spent = time.process_time() - started
        net = task.model.averaged()
        model = SpeechModel(net.requires_grad_(False), shipped.pieces)
        save_speech_model(options.out / f"price-{price:g}", model)
        row = measured(f"branching, price {price:g}", model, tests)
        rows.append(row | {"price": price, "train_seconds": spent})
        tell(rows[-1])
        if price == options.prices[len(options.prices) // 2]:
            rows.append(measured("the same, shuffled", model, tests, shuffle=True))
            tell(rows[-1])
        # As soon as it is known: a slow machine may never come to the end.
        place = save_report(options.results, "branching", {"settings": settings, "results": rows})
    print(table(rows), place, sep="\n")


def padded(name: str, limit: int) -> list[tuple[Utterance, np.ndarray]]:
    """Test recordings of a set and their features, with silence around and noise over all."""
    found = []
    for number, one in enumerate(choose(read_manifest(SHARED / name, "test"), limit)):
        if not one.text:
            continue
        rng = np.random.default_rng((11, number))
        speech = read_audio(one.audio)
        around = np.pad(speech, (round(BEFORE * RATE), round(AFTER * RATE)))
        # The ratio is to the power of the recording itself, not to that of its silences.
        quieter = 10 * np.log10(len(around) / len(speech))
        noise = synthetic_noise("pink", len(around), rng)
        noisy = add_noise(around, noise, rng.uniform(20, 35) - quieter, rng)
        found.append((one, features(noisy)))
    return found


def prepared(
    shipped: SpeechModel, banks: Path, config: BranchingTaskConfig
) -> BranchingTransducerTask:
    """The task of training small branch and arbitrator; all else is the shipped model's."""
    torch.manual_seed(0)
    plain = shipped.transducer
    net = Transducer(plain.config.replace(**SMALL))
    start_from(net, plain)
    assert isinstance(net.encoder, BranchingEncoder)
    model = TrainingModel(net)
    with torch.no_grad():
        # Both heads by the joint network where its tanh is straight: they only choose its cells.
        model.simple_acoustic.weight.copy_(net.joint.weight @ net.to_joint.weight)
        model.simple_label.weight.copy_(net.joint.weight @ net.predictor.output.weight)
    train = [(FeatureBank(banks / f"{name}-train"), weight) for name, weight in TRAIN.items()]
    noises = []
    for one in read_manifest(SHARED / "noise_public_domain", "train", require_text=False):
        if not one.extra.get("may_contain_speech") and one.duration > 0.4:
            noises.append(features(read_audio(one.audio)))
    return BranchingTransducerTask(
        model, shipped.pieces, train, (), noises, TASK, ONLINE, branching=config
    )


def trained(
    task: BranchingTransducerTask, price: float, position: dict[str, Any], steps: int
) -> dict[str, Any]:
    """Go on training at another price; the position in the data after it. The last third decides
    as at inference."""
    first = int(position["step"])
    task.branching = task.branching.replace(
        cost_scale=price, cost_ramp_steps=0, hard_after=first + steps * 2 // 3
    )
    learned = [p for p in task.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1)
    task.model.train()
    where = position
    for batch, where in itertools.islice(task.batches(position), steps):
        loss, figures = task.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 5.0)
        optimizer.step()
        schedule.step()
        if where["step"] % 25 == 0:
            shown = ", ".join(
                f"{k} {figures[k]:.3f}" for k in ("pruned", "large", "guide") if k in figures
            )
            print(f"step {where['step']}: {shown}, {time.process_time():.0f} s", flush=True)
    return where


@torch.inference_mode()
def measured(
    label: str,
    model: SpeechModel,
    tests: dict[str, list[tuple[Utterance, np.ndarray]]],
    shuffle: bool = False,
) -> dict[str, Any]:
    """Word errors, the share of frames that ran the large branch, and multiplications."""
    decoder = Decoder(model.transducer, model.pieces, DecodeConfig(method="greedy", lattice=False))
    cost = encoder_cost(model.transducer.encoder)
    sets: dict[str, Any] = {}
    every: list[tuple[str, str, str | None]] = []
    total_ran = total = 0
    for name, recordings in tests.items():
        said, ran, steps = [], 0, 0
        for number, (one, frames) in enumerate(recordings):
            text, large = decoded(model.transducer, decoder, frames, number if shuffle else None)
            said.append((one.text or "", text, one.speaker))
            ran, steps = ran + int(large.sum()), steps + len(large)
        wer = score(*map(list, zip(*said, strict=True)))
        share = ran / steps
        sets[name] = {"wer": wer.to_json(), "share": share, "shown": percent(wer.wer)}
        sets[name]["mmacs_per_second"] = cost.per_second(share) / 1e6
        every += said
        total_ran, total = total_ran + ran, total + steps
    share, wer = total_ran / total, score(*map(list, zip(*every, strict=True)))
    return {
        "label": label, "share": share, "mmacs_per_second": cost.per_second(share) / 1e6,
        "wer": wer.to_json(), "shown": percent(wer.wer), "sets": sets,
    }  # fmt: skip


def decoded(
    net: Transducer, decoder: Decoder, frames: np.ndarray, shuffle: int | None
) -> tuple[str, Tensor]:
    """What is heard, and (T,) where the large branch ran (nowhere, in a plain model).

    Args:
        shuffle: a seed: decisions change places.
    """
    x = torch.from_numpy(pad(frames, 0, -len(frames) % net.config.frames_per_step))[None]
    trace: list[dict] = []
    hidden, _, _ = net.hidden(x, trace=trace)
    large = trace[0]["large"] if trace else torch.zeros(hidden.shape[:2])
    if shuffle is not None:
        encoder = net.encoder
        assert isinstance(encoder, BranchingEncoder)
        places = torch.randperm(large.shape[1], generator=torch.Generator().manual_seed(shuffle))
        large = large[:, places]
        plain = (x - encoder.mean) / encoder.deviation
        low = encoder.up(encoder.small(plain)[0])
        hidden, _ = encoder.mix(plain, low, large, encoder.large.init_state(1))
    search = decoder.start()
    decoder.advance([search], net.acoustic(hidden))
    return decoder.partial(search).text, large[0]


def tell(row: dict[str, Any]) -> None:
    """One line as soon as it is known."""
    sets = ", ".join(f"{name} {found['shown']}" for name, found in row["sets"].items())
    print(
        f"{row['label']}: large {row['share']:.3f}, {row['mmacs_per_second']:.1f} M/s, WER "
        f"{row['shown']} ({sets})",
        flush=True,
    )


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown; savings are against the first."""
    first = rows[0]["mmacs_per_second"]
    return markdown_table(
        ("", "frames of the large branch", "million MACs a second", "saved", "WER", *TESTS),
        [
            (
                row["label"],
                f"{100 * row['share']:.0f}%",
                f"{row['mmacs_per_second']:.1f}",
                f"{100 * (1 - row['mmacs_per_second'] / first):.0f}%",
                row["shown"],
                *(row["sets"][name]["shown"] for name in TESTS),
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
