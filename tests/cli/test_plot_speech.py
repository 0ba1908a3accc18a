"""`solomonic plot lattice` and `plot endpoints`: pictures of recordings and of lattice files."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from solomonic.cli.plot_speech import timeline
from solomonic.evals.branching_plots import runs
from solomonic.speech.branching.decisions import decisions
from solomonic.speech.branching.encoder import BranchingEncoder
from solomonic.speech.config import TransducerConfig
from solomonic.speech.endpoint import EndHead, EndHeadConfig
from solomonic.speech.events import Final
from solomonic.speech.features import features
from solomonic.speech.model import Transducer
from solomonic.speech.pretrained import SpeechModel, save_speech_model
from solomonic.speech.recognizer import Recognizer
from speech_tiny import RATE, command, save_tiny, silence, tiny_pieces

from .conftest import Done

Cli = Callable[..., Done]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("speech") / "model")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("audio") / "one.wav"
    soundfile.write(file, command(seed=1), RATE)
    return file


def test_the_lattice_of_a_recording(cli: Cli, model: Path, audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.svg"
    command_line = ("plot", "lattice", audio, "--model", model, "--out", out)
    assert cli(*command_line) == Done(0, f"{out}\n", "")
    text = out.read_text()
    assert text.startswith("<svg ")
    best = Recognizer.from_pretrained(model).transcribe(audio).words[0].text
    assert f">{best}" in text
    assert cli(*command_line, "--json").record == {"written": [str(out)]}


@pytest.mark.parametrize("form", ["openfst", "slf", "kaldi", "wire"])
def test_a_lattice_that_was_written(
    form: str, cli: Cli, model: Path, audio: Path, tmp_path: Path
) -> None:
    """No model is needed for it."""
    done = cli("transcribe", "--model", model, audio, "--format", "lattice", "--out", tmp_path,
               "--lattice-format", form)  # fmt: skip
    out = tmp_path / "picture.svg"
    assert cli("plot", "lattice", done.err.strip(), "--out", out) == Done(0, f"{out}\n", "")
    assert out.read_text().startswith("<svg ")


def test_costs_alone_make_a_lattice_too(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "other.fst.txt"
    file.write_text("0 1 hello 1.5\n0 1 hallo 2\n1 2 world 0.5\n2\n")
    assert cli("plot", "lattice", file, "--out", tmp_path / "x.svg").status == 0
    assert "hello" in (tmp_path / "x.svg").read_text()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.fst.txt", "0 1 hello 1.5\n", "OpenFst text: there is no final state"),
        ("x.slf", "N=2 L=1\nI=0\nI=1\nJ=0 S=0 E=one\n", "SLF text, line 4: "),
        ("x.lat.txt", "\n", "Kaldi text: there is no lattice in it."),
        ("x.slm", "SL\1\5", "the lattice message is cut short: "),
    ],
)
def test_a_damaged_lattice_is_named(
    name: str, text: str, message: str, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    done = cli("plot", "lattice", tmp_path / name, "--out", tmp_path / "x.svg")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {tmp_path / name}: {message}")
    assert not (tmp_path / "x.svg").exists()


def test_pruning_thins_it(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "other.fst.txt"
    arcs = "".join(f"{n} {n + 1} w{n}x{k} {k}\n" for n in range(60) for k in range(5))
    file.write_text(arcs + "60\n")
    sizes = []
    for more in ((), ("--prune", 3), ("--prune", 0)):
        assert cli("plot", "lattice", file, "--out", tmp_path / "x.svg", *more).status == 0
        sizes.append(len(set(re.findall(r"w30x\d", (tmp_path / "x.svg").read_text()))))
    assert sizes == [1, 4, 1]  # at most 100 arcs are shown unless more are asked for


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_end_points_of_a_recording(
    suffix: str, cli: Cli, model: Path, audio: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"x.{suffix}"
    done = cli("plot", "endpoints", audio, "--model", model, "--out", out)
    assert done == Done(0, f"{out}\n", "")
    assert out.stat().st_size > 1000


def test_the_time_line_shows_what_happened(model: Path, audio: Path) -> None:
    line = timeline(Recognizer.from_pretrained(model), audio)
    assert any(isinstance(event, Final) for event in line.events)
    assert line.speech is not None
    spoken = np.flatnonzero(line.speech > 0.5) * line.frame_seconds
    assert 0.3 < spoken.min() < 0.7 and 1.3 < spoken.max() < 1.8
    assert line.ends is None  # the model has no end head
    recognizer = Recognizer.from_pretrained(model)
    size = recognizer.model.transducer.config
    head = EndHead(EndHeadConfig(hidden_size=size.hidden_size, label_size=size.joint_size))
    recognizer.model.end = head.eval()
    ends = timeline(recognizer, audio).ends
    assert ends is not None
    known = ends[~np.isnan(ends)]
    assert 10 < len(known) < len(ends)  # of the utterance alone
    assert ((known > 0) & (known < 1)).all()


def branching_model() -> SpeechModel:
    """An untrained one of two branches whose arbitrator is set by hand to open for loud frames."""
    pieces = tiny_pieces()
    config = TransducerConfig(
        vocab_size=pieces.size, hidden_size=32, front="M", pattern="W", intermediate_size=0,
        window_size=8, ssm_state_size=8, num_attention_heads=2, predictor_size=32, joint_size=32,
        dropout=0.0, small_pattern="L", small_size=16, arbitrator_size=8,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net = Transducer(config).eval().requires_grad_(False)
        assert isinstance(net.encoder, BranchingEncoder)
        torch.nn.init.normal_(net.encoder.arbitrator.outside.weight, std=6.0)
    net.encoder.mean.fill_(-8.0)
    net.encoder.deviation.fill_(4.0)
    return SpeechModel(net, pieces)


def test_the_gates_of_a_branching_encoder(
    cli: Cli, model: Path, audio: Path, tmp_path: Path
) -> None:
    branching = branching_model()
    save_speech_model(tmp_path / "two", branching, card="# two\n")
    out = tmp_path / "x.svg"
    done = cli("plot", "gates", audio, "--model", tmp_path / "two", "--out", out, "--json")
    assert done.status == 0, done.err
    frames = torch.from_numpy(features(command(seed=1)))
    whole = len(frames) // 6 * 6
    trace: list[dict] = []
    branching.transducer.encoder(frames[None, :whole], trace=trace)
    large = trace[0]["large"][0].numpy() > 0
    found = decisions(branching.transducer.encoder, frames)
    assert np.array_equal(found.large, large) and 0 < large.mean() < 1
    assert np.array_equal(found.open > 0.5, large)
    assert done.record["steps"] == whole // 6
    assert done.record["share"] == pytest.approx(large.mean(), abs=0.02)  # 16 bits in the file
    assert [x for a, b in runs(large) for x in range(a, b)] == np.flatnonzero(large).tolist()
    assert out.read_text().startswith("<?xml") and out.stat().st_size > 3000
    done = cli("plot", "gates", audio, "--model", model, "--out", out)
    assert done.status == 2 and "has one encoder and decides nothing" in done.err


def test_silence_has_pictures_too(cli: Cli, model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", silence(0.5), RATE)
    for what in ("lattice", "endpoints"):
        out = tmp_path / f"{what}.svg"
        done = cli("plot", what, tmp_path / "a.wav", "--model", model, "--out", out)
        assert done == Done(0, f"{out}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lattice", "a.wav", "--out", "x.png"],
         "a lattice is drawn as SVG, not as 'x.png'; end the name in .svg."),
        (["lattice", "none.slf", "--out", "x.svg"],
         "cannot read none.slf: No such file or directory; check the path."),
        (["lattice", "old.svg", "--out", "x.svg"],
         "old.svg is a picture already; give a recording or a lattice."),
        (["lattice", "bytes.slm", "--out", "x.svg"],
         "bytes.slm: this is no lattice message: byte 0 is not 'SL'."),
        (["lattice", "bytes.slf", "--out", "x.svg"],
         "bytes.slf is no text, so no lattice; write it again."),
        (["lattice", "none.wav", "--out", "x.svg", "--model", "MODEL"],
         "there is no recording none.wav; give the path of an audio file."),
        (["endpoints", "none.wav", "--out", "x.svg", "--model", "MODEL"],
         "there is no recording none.wav; give the path of an audio file."),
        (["lattice", "one.fst.txt", "--out", "x.svg", "--prune", "-1"],
         "--prune -1.0 must not be negative; 4 to 8 nats are usual."),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(
    arguments: list[str], message: str, cli: Cli, model: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("bytes.slm", "bytes.slf"):
        Path(name).write_bytes(b"\xff\xfe\x00")
    Path("one.fst.txt").write_text("0 1 a 1\n1\n")
    given = [str(model) if a == "MODEL" else a for a in arguments]
    assert cli("plot", *given) == Done(2, "", f"error: {message}\n")
    assert not list(tmp_path.glob("x.*"))
