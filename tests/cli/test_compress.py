"""`solomonic compress`: a file that the device reads, and sentences where nothing can be made."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from solomonic.compress.matrix import fits
from solomonic.compress.pack import read_pack
from solomonic.lm.device_file import read_device_model as read_language_model
from solomonic.lm.model import LanguageModel
from solomonic.lm.pretrained import load_pretrained, save_pretrained
from solomonic.recipes.compress import CompressRun, load_run, training_model
from solomonic.recipes.compress_language import LanguageCompressRun
from solomonic.speech.biasing import PointerBiasing, PointerConfig
from solomonic.speech.device_file import read_device_model
from solomonic.speech.model import Transducer
from solomonic.speech.pretrained import load_speech_model, save_speech_model
from solomonic.text import ByteTokenizer
from speech_tiny import save_tiny, tiny_model
from tiny import tiny_config
from tone_speech import write_corpus

from .conftest import Done

Cli = Callable[..., Done]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("soundfile")
    pytest.importorskip("kaldi_native_fbank")
    return write_corpus(tmp_path_factory.mktemp("tones"), [("train", 10), ("dev", 3)]).parent


def matrices(file: Path) -> dict:
    """Those of four bits."""
    return {n: m for n, m in read_pack(file).tensors.items() if getattr(m, "bits", 0) == 4}


def test_without_data_weights_are_rounded(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.solo"
    done = cli("compress", tiny, "-o", out, "--json")
    assert done.status == 0, done.err
    record = done.record
    assert record["bytes"] == out.stat().st_size < record["float_bytes"]
    before, after = load_speech_model(tiny).transducer, read_device_model(out).transducer
    for name, matrix in matrices(out).items():
        weight = before.get_parameter(name.removeprefix("transducer.")).numpy()
        assert np.abs(matrix.levels).max() <= 7
        kept = after.get_parameter(name.removeprefix("transducer.")).numpy()
        assert np.array_equal(kept, matrix.dequantised())
        assert np.corrcoef(kept.ravel(), weight.ravel())[0, 1] > 0.98
    assert len(matrices(out)) > 5


def test_attention_to_personal_words_is_kept_in_eight_bits(
    cli: Cli, tones: Path, tmp_path: Path
) -> None:
    model = tiny_model()
    sizes = {"vocab_size": model.pieces.size, "joint_size": 32, "embedding_size": 16, "size": 16}
    pointer = PointerBiasing(PointerConfig.from_json(sizes))
    model.transducer.pointer = pointer
    save_speech_model(tmp_path / "model", model)
    for name, more in (("a.solo", ()), ("b.solo", ("--data", tones, "--steps", 1))):
        settings = ("--set", "copies=0", "--set", "frames_per_batch=800") if more else ()
        done = cli("compress", tmp_path / "model", "-o", tmp_path / name, *more, *settings)
        assert done.status == 0, done.err
        assert not any("pointer" in matrix for matrix in matrices(tmp_path / name))
        found = read_device_model(tmp_path / name).transducer.pointer
        assert found is not None and found.config == pointer.config
        for key, tensor in pointer.state_dict().items():
            near = 0.01 * float(tensor.abs().max())
            torch.testing.assert_close(found.state_dict()[key], tensor, rtol=0, atol=near)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny language model and a text for it."""
    folder = tmp_path_factory.mktemp("words")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = LanguageModel(tiny_config("BM", hidden_size=32, ssm_head_dim=16)).eval()
    save_pretrained(folder / "lm", model, ByteTokenizer())
    (folder / "text.txt").write_text("the cat sat on the mat and saw a rat. " * 300, "utf-8")
    return folder


def test_a_language_model_is_rounded(cli: Cli, words: Path, tmp_path: Path) -> None:
    model = load_pretrained(words / "lm")[0]
    out = tmp_path / "lm.solo"
    done = cli("compress", words / "lm", "-o", out, "--json")
    assert done.status == 0, done.err
    small, _ = read_language_model(out)
    before = dict(model.named_parameters())
    assert len(matrices(out)) > 3
    for name, matrix in matrices(out).items():
        kept = small.get_parameter(name.removeprefix("lm."))
        assert np.array_equal(kept.detach().numpy(), matrix.dequantised())
        far = (kept - before[name.removeprefix("lm.")]).norm() / kept.norm()
        assert 0 < far < 0.2
    again = tmp_path / "again.solo"
    assert cli("compress", out, "-o", again, "--bits", 8).status == 0  # from a device file
    other = read_language_model(again)[0].state_dict()
    for name, tensor in small.state_dict().items():
        assert (tensor - other[name]).norm() <= 0.02 * tensor.norm(), name
    for more, said in (
        (("--data", "nowhere.txt"), "nowhere.txt"),
        (("--data", "a", "--data", "b"), "on one text"),
        (("--noise", "x"), "hears no noise"),
        (("--calibrate",), "give them as --data"),
        (("--set", "copies=1"), "no setting 'copies'"),
    ):
        done = cli("compress", words / "lm", "-o", out, *more)
        assert done.status == 2 and said in done.err, done.err


def loss_of(file: Path, text: str) -> float:
    """Nats a byte."""
    model, tokenizer = read_language_model(file)
    tokens = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        logits = model(tokens[:, :-1])[0]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[0, 1:]))


def test_a_language_model_is_calibrated_on_text(cli: Cli, words: Path, tmp_path: Path) -> None:
    options = ("--sparsity", 0.5, "--set", "smallest=8")
    read = ("--data", words / "text.txt", "--calibrate", "--set", "length=64")
    plain, looked = tmp_path / "plain.solo", tmp_path / "looked.solo"
    done = cli("compress", words / "lm", "-o", plain, *options)
    assert done.status == 0 and "nothing makes up for the zeros" in done.err
    done = cli("compress", words / "lm", "-o", looked, *options, *read, "--json")
    assert done.status == 0 and "steps" not in done.record, done.err
    one, two = matrices(plain), matrices(looked)
    assert one.keys() == two.keys()
    model, tokenizer = load_pretrained(words / "lm")
    tokens = torch.tensor([tokenizer.encode("the cat sat on the mat and saw a rat. " * 3)])
    with torch.no_grad():
        wanted = model(tokens)[0]
        apart = [float((read_language_model(file)[0](tokens)[0] - wanted).square().mean())
                 for file in (plain, looked)]  # fmt: skip
    assert apart[1] < 0.8 * apart[0]


def test_a_language_model_is_trained_small(cli: Cli, words: Path, tmp_path: Path) -> None:
    def run(out: str, *more: object) -> Done:
        return cli("compress", words / "lm", "-o", tmp_path / out, "--data", words / "text.txt",
                   "--device", "cpu", "--json", *more)  # fmt: skip

    settings = ("--sparsity", 0.5, "--set", "length=32", "--set", "batch_size=4", "--set",
                "share=0.0", "--set", "lr=0.01", "--set", "save_every=15", "--steps", 30,
                "--set", "calibration_batches=4", "--set", "warmup=3")  # fmt: skip
    whole = run("whole.solo", *settings)
    assert whole.status == 0, whole.err
    assert whole.record["steps"] == 30 and np.isfinite(whole.record["best"]["loss"])
    assert {m.pattern for m in matrices(tmp_path / "whole.solo").values()} == {"vec16"}
    for matrix in matrices(tmp_path / "whole.solo").values():
        assert (matrix.values == 0).mean() > 0.49
    assert cli("compress", words / "lm", "-o", tmp_path / "plain.solo", *settings[:2]).status == 0
    text = "the cat sat on the mat and saw a rat. "
    assert loss_of(tmp_path / "whole.solo", text) < loss_of(tmp_path / "plain.solo", text) - 0.5
    folder = tmp_path / "whole.solo.run"
    stored = load_run(folder, LanguageCompressRun)
    assert stored is not None and stored[1] == (words / "lm").resolve()
    assert run("whole.solo", *settings).status == 2  # nobody asked to go on
    checkpoint = sorted((folder / "checkpoints").iterdir())[-1]
    for file in checkpoint.iterdir():
        file.unlink()
    checkpoint.rmdir()  # as if it had been killed half-way
    first = (tmp_path / "whole.solo").read_bytes()
    done = run("whole.solo", "--resume", "--sparsity", 0.25)
    assert done.status == 2 and "sparsity" in done.err
    again = run("whole.solo", "--resume")
    assert again.status == 0, again.err
    assert (tmp_path / "whole.solo").read_bytes() == first


def test_what_inspect_says_adds_up(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    dense, half = tmp_path / "dense.solo", tmp_path / "half.solo"
    assert cli("compress", tiny, "-o", dense).status == 0
    assert cli("compress", tiny, "-o", half, "--sparsity", 0.5).status == 0
    one, two = (cli("inspect", file, "--json").record for file in (dense, half))
    for record in (one, two):
        shown = sum(tensor["bytes"] for tensor in record["tensors"])
        assert shown + record["overhead"] == record["bytes"]
        second = record["macs_per_second"]
        parts = [count for name, count in second.items() if name != "all"]
        assert sum(parts) == pytest.approx(second["all"])
        assert record["memory"]["weights"] > 0 and record["memory"]["stream"] > 0
        # By hand: 100 frames a second, three of which are read at once and two of those joined.
        by_hand = 0.0
        for tensor in record["tensors"]:
            name = tensor["name"].removeprefix("transducer.")
            if name.startswith(("encoder.embed.", "encoder.front.")):
                by_hand += tensor["macs"] * 100 / 3
            elif name.startswith("encoder."):
                by_hand += tensor["macs"] * 100 / 6
        assert second["encoder"] == pytest.approx(by_hand)
    assert two["macs_per_second"]["encoder"] < 0.9 * one["macs_per_second"]["encoder"]
    shown = cli("inspect", half)
    assert shown.status == 0 and "products for a second of audio" in shown.out


def test_inspect_says_what_to_give(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    done = cli("inspect", tmp_path / "nowhere.solo")
    assert done.status == 2 and "there is nothing at" in done.err
    done = cli("inspect", tiny)
    assert done.status == 2 and "is a recogniser's folder" in done.err
    assert f"solomonic compress {tiny} --bits 8 -o model.solo" in done.err


def test_zeros_come_in_vectors_unless_asked_otherwise(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.solo"
    done = cli("compress", tiny, "-o", out, "--sparsity", 0.5)
    assert done.status == 0 and "without --data nothing makes up for the zeros" in done.err
    assert {m.pattern for m in matrices(out).values()} == {"vec16"}
    assert cli("compress", tiny, "-o", out, "--sparsity", 0.5, "--pattern", "2:4").status == 0
    for matrix in matrices(out).values():
        assert matrix.pattern == "2:4" and fits(matrix.values != 0, "2:4")
        assert (matrix.values == 0).mean() >= 0.5


def test_recordings_can_be_looked_at_without_training(
    cli: Cli, tiny: Path, tones: Path, tmp_path: Path
) -> None:
    plain, looked = tmp_path / "plain.solo", tmp_path / "looked.solo"
    assert cli("compress", tiny, "-o", plain).status == 0
    done = cli("compress", tiny, "-o", looked, "--data", tones, "--calibrate", "--json")
    assert done.status == 0, done.err
    assert "steps" not in done.record
    one, two = matrices(plain), matrices(looked)
    assert one.keys() == two.keys()
    assert any(not np.array_equal(one[name].levels, two[name].levels) for name in one)


def test_training_goes_on_after_a_stop(cli: Cli, tiny: Path, tones: Path, tmp_path: Path) -> None:
    def run(out: str, *more: object) -> Done:
        return cli("compress", tiny, "-o", tmp_path / out, "--data", tones, "--device", "cpu",
                   "--json", *more)  # fmt: skip

    settings = ("--sparsity", 0.5, "--set", "copies=0", "--set", "frames_per_batch=800",
                "--set", "update_every=2")  # fmt: skip
    whole = run("whole.solo", *settings, "--steps", 8, "--set", "save_every=4")
    assert whole.status == 0, whole.err
    assert whole.record["steps"] == 8 and np.isfinite(whole.record["best"]["loss"])
    folder = tmp_path / "whole.solo.run"
    assert {m.pattern for m in matrices(tmp_path / "whole.solo").values()} == {"vec16"}
    stored = load_run(folder)
    assert stored is not None and stored[0].compress.steps == 8
    assert run("whole.solo", *settings).status == 2  # nobody asked to go on
    for checkpoint in sorted((folder / "checkpoints").iterdir())[1:]:
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()  # as if it had been killed after the fourth step
    first = (tmp_path / "whole.solo").read_bytes()
    again = run("whole.solo", "--resume", "--sparsity", 0.5)
    assert again.status == 0, again.err
    assert (tmp_path / "whole.solo").read_bytes() == first
    other = run("whole.solo", "--resume", "--sparsity", 0.6)
    assert other.status == 2 and "sparsity = 0.6 differs from 0.5" in other.err
    record = json.loads((folder / "run.json").read_text())
    record["model"] = "/elsewhere"
    (folder / "run.json").write_text(json.dumps(record))
    moved = run("whole.solo", "--resume")
    assert moved.status == 2 and "began with /elsewhere" in moved.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bits", "3"], "bits = 3 is unknown; use 8, 6, 5 or 4"),
        (["--sparsity", "1.5"], "must lie in [0, 1)"),
        (["--pattern", "4:8", "--sparsity", "0.5"], "use one of dense, 2:4, vec16, unstructured"),
        (["--calibrate"], "--calibrate looks at recordings or text; give them as --data"),
        (["--minutes", "3"], "--minutes is for training, which needs --data"),
        (["--data", "x", "--calibrate", "--steps", "3"], "leave it or --calibrate out"),
        (["--data", "x", "--minutes", "0"], "is no time to train in"),
        (["--set", "strenght=1"], "did you mean 'strength'"),
        (["--data", "/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], message: str, cli: Cli, tiny: Path, tmp_path: Path
) -> None:
    done = cli("compress", tiny, "-o", tmp_path / "m.solo", *options)
    assert done.status == 2 and done.out == ""
    assert done.err.startswith("error: ") and message in done.err, done.err
    assert not (tmp_path / "m.solo").exists()


def test_no_model_and_no_file(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    done = cli("compress", tmp_path, "-o", tmp_path / "m.solo")
    assert done.status == 2 and "no config.json" in done.err
    done = cli("compress", tmp_path / "nowhere", "-o", tmp_path / "m.solo")
    assert done.status == 2 and "there is no model at" in done.err
    done = cli("compress", tiny, "-o", tmp_path)
    assert done.status == 2 and "is a folder; give the name of a file" in done.err


def test_two_branches_are_refused_before_any_work(cli: Cli, tmp_path: Path) -> None:
    plain = tiny_model()
    config = plain.transducer.config.replace(small_pattern="L", small_size=16)
    branching = dataclasses.replace(plain, transducer=Transducer(config).eval())
    save_speech_model(tmp_path / "two", branching, card="# two\n")
    done = cli("compress", tmp_path / "two", "-o", tmp_path / "m.solo", "--data", "/nowhere")
    assert done.status == 2 and "this model has two branches" in done.err, done.err


def test_settings_find_their_place() -> None:
    run = CompressRun().changed({"steps": 30, "bits": 8, "hidden_scale": 2.0, "seed": 3})
    assert (run.train.steps, run.compress.steps, run.compress.bits) == (30, 30, 8)
    assert (run.distill.hidden_scale, run.task.seed) == (2.0, 3)
    assert CompressRun.from_json(json.loads(json.dumps(run.to_json()))) == run


def test_the_heads_begin_as_the_joint_network_without_its_tanh(tiny: Path) -> None:
    model = load_speech_model(tiny)
    training, net = training_model(model), model.transducer
    hidden = torch.randn(5, net.config.hidden_size)
    wanted = (hidden @ net.to_joint.weight.T) @ net.joint.weight.T
    assert torch.allclose(training.simple_acoustic(hidden), wanted, atol=1e-4)
    assert torch.equal(training.averaged().joint.weight, net.joint.weight)
