"""Saved recognisers: exact in float32, half a step off in int8, and every damage refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from solomonic.core import CheckpointError, ConfigError
from solomonic.speech.biasing.attention import ContextBiasing, ContextConfig
from solomonic.speech.biasing.pointer import PointerBiasing, PointerConfig
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.device_file import read_device_model, write_device_model
from solomonic.speech.endpoint.head import EndHead, EndHeadConfig
from solomonic.speech.pretrained import (
    SpeechModel,
    fingerprint,
    load_speech_model,
    quantise_rows,
    save_speech_model,
)
from solomonic.speech.recognizer import Recognizer
from solomonic.text.pieces import WordPieces
from speech_tiny import tiny_model

pytest.importorskip("sentencepiece")


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return tiny_model()


@pytest.fixture
def saved(model: SpeechModel, tmp_path: Path) -> Path:
    save_speech_model(tmp_path / "model", model)
    return tmp_path / "model"


def redo(folder: Path, change: Callable[[dict], None]) -> None:
    """Change the configuration's record as another program would, checksum included."""
    record = json.loads((folder / "config.json").read_text())
    change(record)
    if "fingerprint" in record:
        record["fingerprint"] = fingerprint(record)
    (folder / "config.json").write_text(json.dumps(record))


def seal(folder: Path) -> None:
    """Make the checksums fit again: what follows is not damage but another model."""
    import hashlib

    def update(record: dict) -> None:
        for name in record["sha256"]:
            record["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()

    redo(folder, update)


def test_float32_is_exact(model: SpeechModel, saved: Path) -> None:
    before = torch.get_rng_state()
    found = load_speech_model(saved)
    assert torch.equal(before, torch.get_rng_state())
    assert found.transducer.config == model.transducer.config
    assert found.pieces == model.pieces and found.weights == "float32" and found.end is None
    expected = model.transducer.state_dict()
    actual = found.transducer.state_dict()
    assert list(actual) == list(expected) and "encoder.mean" in actual
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert not found.transducer.training
    assert not any(p.requires_grad for p in found.transducer.parameters())
    assert found.parameters == model.parameters > 10_000


def test_int8_is_within_half_a_step_of_each_row(model: SpeechModel, tmp_path: Path) -> None:
    save_speech_model(tmp_path, model, weights="int8", card="# A model\n")
    found = load_speech_model(tmp_path)
    assert found.weights == "int8"
    assert (tmp_path / "README.md").read_text() == "# A model\n"
    rounded = 0
    expected = model.transducer.state_dict()
    for name, actual in found.transducer.state_dict().items():
        wanted = expected[name]
        if actual.dim() == 2 and actual.numel() >= 1024:
            step = wanted.abs().amax(dim=1, keepdim=True) / 127
            assert ((actual - wanted).abs() <= step * 0.5001 + 1e-12).all(), name
            rounded += not torch.equal(actual, wanted)
        else:
            assert torch.equal(actual, wanted), name
    assert rounded > 5
    kept = {name: t.dtype for name, t in load_file(tmp_path / "model.safetensors").items()}
    assert torch.int8 in kept.values()


def test_int8_takes_a_quarter_of_the_place(model: SpeechModel, tmp_path: Path) -> None:
    sizes = []
    for weights in ("float32", "int8"):
        save_speech_model(tmp_path / weights, model, weights)
        sizes.append((tmp_path / weights / "model.safetensors").stat().st_size)
    assert sizes[1] < 0.45 * sizes[0]  # so small a model has many small matrices


def test_saving_int8_again_changes_nothing(model: SpeechModel, tmp_path: Path) -> None:
    save_speech_model(tmp_path / "a", model, "int8")
    save_speech_model(tmp_path / "b", load_speech_model(tmp_path / "a"), "int8")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-6, atol=0)


def test_rows_of_zeros_stay_zero() -> None:
    values, scale = quantise_rows(torch.tensor([[0.0, 0.0], [1.0, -0.5]]))
    assert values.tolist() == [[0, 0], [127, -64]] or values.tolist() == [[0, 0], [127, -63]]
    assert scale.isfinite().all() and scale.min() > 0


def test_all_parts_are_kept(tmp_path: Path) -> None:
    model = tiny_model()
    width = model.transducer.config.hidden_size
    context = ContextConfig(hidden_size=width, vocab_size=model.pieces.size)
    model.transducer.context = ContextBiasing(context)
    label_size = model.transducer.config.joint_size
    pointer = PointerConfig(joint_size=label_size, vocab_size=model.pieces.size)
    model.transducer.pointer = PointerBiasing(pointer)
    model.end = EndHead(EndHeadConfig(hidden_size=width, label_size=label_size))
    save_speech_model(tmp_path, model)
    found = load_speech_model(tmp_path)
    assert found.transducer.context is not None and found.end is not None
    assert found.transducer.context.config == context
    assert found.transducer.pointer is not None
    assert found.transducer.pointer.config == pointer
    for part, stored in zip(model.parts().values(), found.parts().values(), strict=True):
        expected = part.state_dict()
        assert all(torch.equal(t, expected[name]) for name, t in stored.state_dict().items())


def test_the_search_is_kept_and_models_without_one_are_read(
    model: SpeechModel, saved: Path, tmp_path: Path
) -> None:
    assert load_speech_model(saved).decode is None
    redo(saved, lambda record: record.pop("decode"))  # as before it was stored
    redo(saved, lambda record: record.pop("pointer"))
    seal(saved)
    assert load_speech_model(saved).decode is None
    tuned = dataclasses.replace(model, decode=DecodeConfig(label_bonus=0.5, beam=3))
    save_speech_model(tmp_path / "tuned", tuned)
    loaded = load_speech_model(tmp_path / "tuned")
    assert loaded.decode == tuned.decode
    assert Recognizer(loaded).decoder.config == tuned.decode
    assert Recognizer(loaded, DecodeConfig()).decoder.config == DecodeConfig()
    write_device_model(tmp_path / "m.solo", loaded)
    assert read_device_model(tmp_path / "m.solo").decode == tuned.decode


def test_a_failed_save_leaves_what_was_there(model: SpeechModel, saved: Path) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(ConfigError, match="weights = 'int4' is unknown; use one of float32, int8"):
        save_speech_model(saved, model, weights="int4")
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "pieces.model"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_refused(saved: Path, name: str, share: float) -> None:
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=rf"{name} is cut short or .*; copy it again\.$"):
        load_speech_model(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "pieces.model"])
def test_a_flipped_byte_is_refused(saved: Path, name: str) -> None:
    data = bytearray((saved / name).read_bytes())
    for place in (8, len(data) // 2, len(data) - 1):
        data[place] ^= 1
        (saved / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=rf"{name} is cut short or corrupted"):
            load_speech_model(saved)
        data[place] ^= 1


def test_a_changed_setting_that_no_tensor_shows_is_refused(saved: Path) -> None:
    text = (saved / "config.json").read_text()
    (saved / "config.json").write_text(text.replace('"window_size": 8', '"window_size": 9'))
    with pytest.raises(CheckpointError, match=r"config.json is corrupted \(its SHA-256"):
        load_speech_model(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "pieces.model"])
def test_a_missing_file_is_refused(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name} is missing; copy it from where"):
        load_speech_model(saved)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match="holds no config.json, so there is no speech"):
            load_speech_model(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(model_type="llama"), "describes a model of type 'llama', not"),
        (lambda r: r.pop("model_type"), "describes a model of type 'None', not"),
        (lambda r: r.update(version=2), "has version 2, this program reads up to 1; update"),
        (lambda r: r.update(version="x"), "has version x, this program reads up to 1"),
        (lambda r: r.pop("end"), "lacks 'end'; copy it again"),
        (lambda r: r.pop("sha256"), "lacks 'sha256'; copy it again"),
        (lambda r: r.update(sha256=[]), "names no checksum of model.safetensors"),
        (lambda r: r["sha256"].pop("pieces.model"), "names no checksum of pieces.model"),
        (lambda r: r["transducer"].update(stack=0), "describes no possible model: stack = 0"),
        (lambda r: r["transducer"].update(stack="many"), "describes no possible model"),
        (lambda r: r["transducer"].update(stak=1), "describes no possible model: Tran.*'stak'"),
        (lambda r: r.update(transducer=None), "describes no possible model"),
        (lambda r: r["transducer"].update(joint_size=16), r"does not fit config.json: 'trans"),
        (lambda r: r["transducer"].update(pattern="WW"), r"does not fit config.json: 'trans"),
        (lambda r: r["transducer"].update(vocab_size=9), r"has \d+ pieces and the model 9"),
        (lambda r: r.update(weights="int4"), "has weights 'int4', this program reads float32, "),
    ],
)
def test_a_record_that_does_not_fit_is_refused(
    saved: Path, change: Callable[[dict], None], message: str
) -> None:
    redo(saved, change)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_speech_model(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "null"])
def test_a_record_that_is_no_object_is_refused(saved: Path, text: str) -> None:
    (saved / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="describes a model of type 'None'"):
        load_speech_model(saved)


def test_pieces_of_another_model_are_refused(saved: Path) -> None:
    WordPieces.train(["something else is said here"], 40).save(saved / "pieces.model")
    seal(saved)
    with pytest.raises(CheckpointError, match="pieces and the model"):
        load_speech_model(saved)


def test_weights_that_are_not_numbers_are_refused(saved: Path) -> None:
    file = saved / "model.safetensors"
    stored = {name: tensor.clone() for name, tensor in load_file(file).items()}
    stored["transducer.joint.bias"][3] = float("nan")
    save_file(stored, file)
    seal(saved)
    with pytest.raises(CheckpointError, match="'transducer.joint.bias' holds NaN or infinity"):
        load_speech_model(saved)


def test_int8_weights_without_their_scales_are_refused(model: SpeechModel, tmp_path: Path) -> None:
    save_speech_model(tmp_path, model, "int8")
    file = tmp_path / "model.safetensors"
    stored = {name: tensor.clone() for name, tensor in load_file(file).items()}
    name = next(name for name in stored if name.endswith(".scale"))
    del stored[name]
    save_file(stored, file)
    seal(tmp_path)
    with pytest.raises(CheckpointError, match=f"lacks the scales of '{name[:-6]}'"):
        load_speech_model(tmp_path)


def test_a_foreign_tensor_is_refused(saved: Path) -> None:
    file = saved / "model.safetensors"
    stored = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file({**stored, "evil": torch.zeros(1)}, file)
    seal(saved)
    with pytest.raises(CheckpointError, match=r"'evil' is \(1,\) and should be absent"):
        load_speech_model(saved)
