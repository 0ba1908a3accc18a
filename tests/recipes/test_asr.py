"""Speech runs: records, settings by name, what is held out, what is left out, going on."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from solomonic.core import CheckpointError, ConfigError, DataError
from solomonic.recipes import asr, debug, lm
from solomonic.recipes.asr_data import (
    AsrData,
    build_banks,
    hold_out,
    read_sets,
    set_names,
    statistics,
)
from solomonic.speech.biasing import PointerBiasing, PointerConfig
from solomonic.speech.data.manifest import Utterance
from solomonic.speech.features import FeatureConfig
from solomonic.speech.model import Transducer
from solomonic.speech.pretrained import load_speech_model, save_speech_model
from tone_speech import write_corpus

RUNS = [asr.small(), asr.lstm(), asr.bmojo(), debug.speech()]


def data(*manifests: Path, **more: Any) -> AsrData:
    return AsrData(manifests=tuple(map(str, manifests)), workers=1, **more)


def utterance(name: str, speaker: str | None = None) -> Utterance:
    return Utterance(audio=Path(name), duration=1.0, text="go", speaker=speaker)


@pytest.mark.parametrize("run", RUNS)
def test_a_run_round_trips_through_its_record(run: asr.AsrRun, tmp_path: Path) -> None:
    assert asr.AsrRun.from_json(json.loads(json.dumps(run.to_json()))) == run
    asr.save_run(run, tmp_path)
    assert asr.load_run(tmp_path) == run


@pytest.mark.parametrize("text", ['{"model": {', "[]", '{"model": 3}', '{"length": 4}'])
def test_a_damaged_record_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"run\.json is no record of a speech training run"):
        asr.load_run(tmp_path)


def test_the_record_of_another_kind_of_run_is_refused(tmp_path: Path) -> None:
    lm.save_run(lm.small(), tmp_path)
    with pytest.raises(CheckpointError, match="no record of a speech training run"):
        asr.load_run(tmp_path)
    assert asr.load_run(tmp_path / "nothing") is None


@pytest.mark.parametrize("run", RUNS[:3])
def test_the_recipes_are_of_one_size(run: asr.AsrRun) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in Transducer(run.model).parameters())
    assert count == pytest.approx(5_655_393, rel=0.02)


def test_settings_find_their_place_and_there_is_one_seed() -> None:
    settings = {"pattern": "LL", "lr": 0.5, "longest_seconds": 9.0, "noise": 0.25, "copies": 0}
    run = debug.speech().changed({**settings, "seed": 7})
    assert (run.model.pattern, run.train.lr, run.task.longest_seconds) == ("LL", 0.5, 9.0)
    assert (run.online.noise, run.copies, run.train.seed, run.task.seed) == (0.25, 0, 7, 7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 3}, "a batch of speech is measured in frames, not rows"),
        ({"hiden_size": 3}, "no setting 'hiden_size'; did you mean 'hidden_size'"),
        ({"copies": -1}, "copies = -1 must not be negative"),
        ({"held_out": 1.0}, "held_out = 1.0 must lie in"),
    ],
)
def test_a_wrong_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        debug.speech().changed(settings)


def test_whole_speakers_are_held_out_by_their_names_alone() -> None:
    lines = [utterance(f"{i}.wav", f"s{i % 10}") for i in range(100)]
    kept, held = hold_out(lines, 0.2)
    assert len(held) == 20 and len(kept) == 80
    assert not {u.speaker for u in kept} & {u.speaker for u in held}
    again = hold_out(lines[::-1], 0.2)
    assert {u.audio for u in again[1]} == {u.audio for u in held}


def test_without_speakers_recordings_are_held_out() -> None:
    for speaker in (None, "the only one"):
        kept, held = hold_out([utterance(f"{i}.wav", speaker) for i in range(40)], 0.1)
        assert (len(kept), len(held)) == (36, 4)


def test_somebody_is_always_held_out_and_somebody_stays() -> None:
    lines = [utterance(f"{i}.wav", f"s{i > 2}") for i in range(8)]
    kept, held = hold_out(lines, 0.05)
    assert (len(kept), len(held)) == (5, 3)  # the smaller speaker, although it is a large share
    assert hold_out(lines, 0.0) == (lines, [])
    assert hold_out(lines[:1], 0.5) == (lines[:1], [])


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/an4/manifest.jsonl", "a/fsdd/manifest.jsonl"], ["an4", "fsdd"]),
        (["x/train/manifest.jsonl", "y/train/manifest.jsonl"], ["x-train", "y-train"]),
        (["x/one.jsonl", "x/two.jsonl"], ["one", "two"]),
    ],
)
def test_sets_are_named_by_their_folders(paths: list[str], names: list[str]) -> None:
    assert set_names(paths) == names


def test_a_manifest_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="a manifest is given twice"):
        set_names(["a/manifest.jsonl", "a/manifest.jsonl"])


def test_splits_are_kept_to(tmp_path: Path) -> None:
    one = write_corpus(tmp_path / "one", [("train", 4), ("dev", 2), ("test", 3)])
    two = write_corpus(tmp_path / "two", [("train", 3)])
    sets, left_out = read_sets(data(one, two), share=0.5)
    assert [(s.name, len(s.train), len(s.held_out)) for s in sets] == [("one", 4, 2), ("two", 3, 0)]
    assert left_out == {}


def test_without_a_dev_split_a_share_is_held_out(tmp_path: Path) -> None:
    only_train = write_corpus(tmp_path / "a", [("train", 8)])
    no_split = write_corpus(tmp_path / "b", [(None, 8)])
    for manifest in (only_train, no_split):
        (found,), _ = read_sets(data(manifest), share=0.25)
        assert (len(found.train), len(found.held_out)) == (6, 2)


def test_held_out_manifests_of_their_own(tmp_path: Path) -> None:
    train = write_corpus(tmp_path / "a", [(None, 8)])
    dev = write_corpus(tmp_path / "b", [(None, 3)])
    sets, _ = read_sets(data(train, dev=(str(dev),)), share=0.25)
    assert [(len(s.train), len(s.held_out)) for s in sets] == [(8, 0), (0, 3)]
    with pytest.raises(DataError, match="8 held-out recordings are trained on as well"):
        read_sets(data(train, dev=(str(train),)), share=0.25)


def test_what_cannot_be_learnt_is_counted_by_the_reason(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [("train", 6), ("dev", 1)])
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[0]["text"] = None
    lines[1]["text"] = "flight 1984"
    lines[2]["has_partial_word"] = True
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,), left_out = read_sets(data(manifest), share=0.1)
    assert len(found.train) == 3
    assert left_out == {"marked as unclear": 1, "not transcribed": 1, "with digits or such": 1}


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path, [("test", 3)])
    with pytest.raises(DataError, match="no utterance of the split 'train' that can be used"):
        read_sets(data(manifest), share=0.1)
    with pytest.raises(ConfigError, match="there is no set 'other' to weigh; the sets are"):
        read_sets(data(manifest, weights={"other": 2.0}), share=0.1)
    with pytest.raises(ConfigError, match="the weight of 'x' is -1"):
        data(manifest, weights={"x": -1})


def test_banks_copies_noise_and_weights(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "tones", [("train", 3), ("dev", 1)])
    noise = write_corpus(tmp_path / "noise", [("train", 2), ("test", 2)])
    source = data(manifest, noise=str(noise), weights={"tones": 1.5})
    sets, _ = read_sets(source, 0.1)
    banks = build_banks(sets, source, tmp_path / "data", FeatureConfig(), copies=2)
    assert [weight for _, weight in banks.train] == [1.5] * 3
    assert (len(banks.noises), len(banks.held_out), banks.plain) == (2, 1, [banks.train[0][0]])
    plain, *copies = [bank[0] for bank, _ in banks.train]
    for copy in copies:  # a tenth faster or slower
        assert len(copy) / len(plain) in (
            pytest.approx(1 / 0.9, abs=0.02),
            pytest.approx(1 / 1.1, abs=0.02),
        )
    assert banks.train[1][0].fingerprint != banks.train[2][0].fingerprint


def test_statistics_are_those_of_all_frames_together(tmp_path: Path) -> None:
    manifests = [
        write_corpus(tmp_path / str(i), [("train", 2 + i), ("dev", 1)], i) for i in range(2)
    ]
    source = data(*manifests)
    banks = build_banks(read_sets(source, 0.1)[0], source, tmp_path, FeatureConfig(), copies=0)
    frames = np.concatenate([bank[i] for bank in banks.plain for i in range(len(bank))])
    mean, deviation = statistics(banks.plain)
    np.testing.assert_allclose(mean, frames.mean(0), rtol=1e-4)
    np.testing.assert_allclose(deviation, frames.std(0), rtol=1e-3)


def test_equal_runs_build_equal_models_and_leave_torch_alone(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "tones", [("train", 4), ("dev", 1)])
    before = torch.get_rng_state()
    made = [
        asr.build_task(debug.speech().changed({"copies": 0}), data(manifest), tmp_path / name)
        for name in "ab"
    ]
    assert torch.equal(torch.get_rng_state(), before)
    states = [one.task.model.state_dict() for one in made]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert made[0].run.model.vocab_size == made[0].task.pieces.size <= 40
    encoder = made[0].task.model.transducer.encoder
    assert encoder.mean.abs().sum() > 0
    assert (made[0].utterances, made[0].left_out) == ((4, 1), {})


def test_a_run_goes_on_from_a_trained_model(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "tones", [("train", 4), ("dev", 1)])
    run = debug.speech().changed({"copies": 0})
    first = asr.build_task(run, data(manifest), tmp_path / "a")
    (tmp_path / "model").mkdir()
    first.task.save(str(tmp_path / "model"))
    start = dataclasses.replace(run, model=asr.model_of(tmp_path / "model")).changed({"seed": 9})
    again = asr.build_task(start, data(manifest), tmp_path / "b", init=tmp_path / "model")
    assert again.task.pieces == first.task.pieces
    before, after = (one.task.model.transducer.state_dict() for one in (first, again))
    assert all(torch.equal(before[name], after[name]) for name in before)
    speech = load_speech_model(tmp_path / "model")
    sizes = {"vocab_size": speech.pieces.size, "joint_size": 32}
    speech.transducer.pointer = PointerBiasing(PointerConfig.from_json(sizes))
    save_speech_model(tmp_path / "attends", speech)
    again = asr.build_task(start, data(manifest), tmp_path / "d", init=tmp_path / "attends")
    after = again.task.model.transducer.state_dict()
    assert list(after) == list(before), "attention is trained afterwards, on what comes out"
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ConfigError, match="joint_size = 16 differs from 32 of the model in"):
        asr.build_task(
            start.changed({"joint_size": 16}),
            data(manifest),
            tmp_path / "c",
            init=tmp_path / "model",
        )
