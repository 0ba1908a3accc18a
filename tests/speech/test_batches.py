"""Feature banks and batches: what is stored, how batches are cut, exact resumption."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solomonic.core import ConfigError, DataError
from solomonic.speech.audio import read_audio
from solomonic.speech.data.augment import AugmentConfig
from solomonic.speech.data.bank import FeatureBank, build, build_bank
from solomonic.speech.data.batches import BucketedBatches, collate
from solomonic.speech.data.manifest import Utterance, write_manifest
from solomonic.speech.features import features
from solomonic.text.pieces import WordPieces

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")

WORDS = ["stop", "go on", "turn left", "call anna", "what time is it"]


def utterances(folder: Path, count: int, seed: int = 0, **fields: Any) -> list[Utterance]:
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        samples = 0.1 * draw.standard_normal(int(draw.integers(2000, 16000)))
        file = folder / f"{number}.wav"
        soundfile.write(file, samples, 16000)
        record = {"text": WORDS[number % 5], "speaker": f"s{number % 2}", "split": "train"}
        made.append(Utterance(audio=file, duration=len(samples) / 16000, **{**record, **fields}))
    return made


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    return WordPieces.train(WORDS * 9, 40)


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> FeatureBank:
    folder = tmp_path_factory.mktemp("bank")
    return build(utterances(folder / "audio", 30), folder / "bank", workers=1)


def test_a_bank_holds_the_features_to_half_precision(bank: FeatureBank, tmp_path: Path) -> None:
    given = utterances(tmp_path, 30)
    assert len(bank) == 30 and bank.texts == [u.text for u in given]
    for number in (0, 7, 29):
        expected = features(read_audio(given[number].audio))
        assert bank[number].dtype == np.float32 and bank[number].shape == expected.shape
        assert np.abs(bank[number] - expected).max() < 0.005
    with pytest.raises(IndexError):
        bank[30]
    everything = np.concatenate([bank[i] for i in range(30)])
    mean, deviation = bank.statistics()
    assert np.allclose(mean, everything.mean(0), atol=1e-4)
    assert np.allclose(deviation, everything.std(0), atol=1e-4)


def test_processes_change_nothing(bank: FeatureBank, tmp_path: Path) -> None:
    given = utterances(tmp_path / "audio", 70)
    steps: list[tuple[int, int]] = []
    config = AugmentConfig(speeds=(0.9, 1.1), noise=0.5)
    two = build(given, tmp_path / "two", augmentation=config, progress=lambda *s: steps.append(s))
    one = build(given, tmp_path / "one", augmentation=config, workers=1)
    assert (two.folder / "features.f16").read_bytes() == (one.folder / "features.f16").read_bytes()
    assert steps[-1] == (70, 70) and len(steps) == 2
    assert sorted(p.name for p in two.folder.iterdir()) == ["features.f16", "index.json"]
    plain = build(given, tmp_path / "plain", workers=1)
    assert plain.fingerprint != one.fingerprint and (plain.lengths != one.lengths).all()


def test_each_recording_is_drawn_for_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from solomonic.speech.data import bank as module

    monkeypatch.setattr(module, "_PART", 1)
    same = utterances(tmp_path / "audio", 1) * 3
    made = build(same, tmp_path / "bank", augmentation=AugmentConfig(noise=1.0), workers=1)
    assert not np.allclose(made[0], made[1]) and not np.allclose(made[1], made[2])


def test_processes_do_not_load_pytorch() -> None:
    script = "import sys, solomonic.speech.data.extract; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_interrupted_build_goes_on_and_a_complete_one_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from solomonic.speech.data import bank as module
    from solomonic.speech.data import extract

    monkeypatch.setattr(module, "_PART", 4)
    given, read, limit = utterances(tmp_path / "audio", 10), [], 6

    def counted(path: Any, rate: int) -> np.ndarray:
        read.append(path)
        if len(read) > limit:
            raise KeyboardInterrupt
        return read_audio(path, rate)

    monkeypatch.setattr(extract, "read_audio", counted)
    with pytest.raises(KeyboardInterrupt):
        build(given, tmp_path / "bank", workers=1)
    with pytest.raises(DataError, match="no feature bank"):
        FeatureBank(tmp_path / "bank")
    limit, read = 100, []
    bank = build(given, tmp_path / "bank", workers=1)
    assert len(read) == 6, "the first part of four was kept"
    again = build(given, tmp_path / "bank", workers=1)
    assert len(read) == 6 and again.fingerprint == bank.fingerprint
    whole = build(given, tmp_path / "other", workers=1)
    assert (whole.folder / "features.f16").read_bytes() == (
        bank.folder / "features.f16"
    ).read_bytes()
    changed = build(given[:9], tmp_path / "bank", workers=1)
    assert len(changed) == 9 and len(FeatureBank(tmp_path / "bank")) == 9


def test_all_unreadable_recordings_are_told(tmp_path: Path) -> None:
    given = utterances(tmp_path, 6)
    for number in (1, 4):
        given[number].audio.write_bytes(b"no audio")
    with pytest.raises(DataError, match=r"2 of 6 recordings cannot be used.*1\.wav.*4\.wav"):
        build(given, tmp_path / "bank", workers=1)
    assert not (tmp_path / "bank" / "index.json").exists()


def test_texts_that_cannot_be_spoken(tmp_path: Path) -> None:
    given = utterances(tmp_path / "set", 3)
    given.append(utterances(tmp_path / "set2", 1, text="Call 911!")[0])
    given.append(utterances(tmp_path / "set3", 1, extra={"has_partial_word": True})[0])
    with pytest.raises(DataError, match=r"1 of 5 texts.*'call 911'"):
        build(given, tmp_path / "bank", workers=1)
    write_manifest(tmp_path / "manifest.jsonl", given)
    bank = build_bank(tmp_path, "train", tmp_path / "bank", workers=1, drop_unspoken=True)
    index = json.loads((bank.folder / "index.json").read_text())
    assert len(bank) == 3 and index["left_out"] == 2


def test_damaged_banks_are_refused(tmp_path: Path) -> None:
    bank = build(utterances(tmp_path / "a", 2), tmp_path / "bank", workers=1)
    file, index = bank.folder / "features.f16", bank.folder / "index.json"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DataError, match="cut short"):
        FeatureBank(bank.folder)
    index.write_text(index.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(DataError, match="version 1"):
        FeatureBank(bank.folder)
    index.write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        FeatureBank(bank.folder)


def test_batches_are_padded_with_zeros() -> None:
    ones = [(np.ones((3, 80), np.float32), [1, 2]), (np.ones((7, 80), np.float32), [])]
    batch = collate(ones, multiple=6)
    assert batch.features.shape == (2, 12, 80) and batch.features.sum() == 10 * 80
    assert batch.feature_lengths.tolist() == [3, 7] and batch.token_lengths.tolist() == [2, 0]
    assert batch.tokens.tolist() == [[1, 2], [0, 0]]
    assert batch.to("cpu").tokens.equal(batch.tokens)
    assert collate(ones[1:]).tokens.shape == (1, 0)
    with pytest.raises(DataError, match="at least one"):
        collate([])


@pytest.mark.parametrize("multiple", [1, 6])
@pytest.mark.parametrize("most_rows", [None, 5])
def test_an_epoch_has_every_utterance_once_in_batches_that_fit(
    multiple: int, most_rows: int | None
) -> None:
    lengths = np.random.default_rng(0).integers(20, 900, 500)
    order = BucketedBatches(lengths, 4000, 1, multiple=multiple, most_rows=most_rows)
    for epoch in (0, 1):
        batches = order.epoch(epoch)
        assert sorted(np.concatenate(batches)) == list(range(500))
        padded = [len(b) * (-(-lengths[b].max() // multiple) * multiple) for b in batches]
        assert max(padded) <= 4000 and max(map(len, batches)) <= (most_rows or 500)
        assert sum(padded) < 1.25 * lengths.sum(), "like lengths stand together"
    firsts = [tuple(order.epoch(e)[0]) for e in range(3)]
    assert len(set(firsts)) == 3, "another epoch, another order"
    other = BucketedBatches(lengths, 4000, 2, multiple=multiple, most_rows=most_rows)
    assert tuple(other.epoch(0)[0]) != firsts[0]


def test_weights_say_how_often() -> None:
    weights = np.repeat([2.0, 0.5, 0.0, 1.0], 200)
    order = BucketedBatches(np.full(800, 10), 100, weights=weights)
    counts = np.mean(
        [np.bincount(np.concatenate(order.epoch(e)), minlength=800) for e in range(20)], axis=0
    )
    assert (counts[:200] == 2).all() and (counts[600:] == 1).all() and not counts[400:600].any()
    assert counts[200:400].mean() == pytest.approx(0.5, abs=0.03)


def test_any_position_can_be_entered() -> None:
    lengths = np.random.default_rng(0).integers(20, 90, 40)
    order = BucketedBatches(lengths, 300)
    all_of = list(itertools.islice(order.batches(), 50))
    assert {p["epoch"] for _, p in all_of} >= {0, 1, 2}, "several epochs"
    for number in range(49):
        position = json.loads(json.dumps(all_of[number][1]))
        rows, after = next(BucketedBatches(lengths, 300).batches(position))
        assert np.array_equal(rows, all_of[number + 1][0]) and after == all_of[number + 1][1]
    with pytest.raises(DataError, match="not those this run began with"):
        next(BucketedBatches(lengths, 301).batches(all_of[0][1]))
    with pytest.raises(DataError, match="not those this run began with"):
        next(BucketedBatches(lengths[::-1], 300).batches(all_of[0][1]))


def test_what_no_batches_can_be_made_of() -> None:
    with pytest.raises(DataError, match=r"2 of 3 utterances are longer.*the longest has 70"):
        BucketedBatches([5, 60, 70], 50)
    with pytest.raises(DataError, match="no utterance"):
        BucketedBatches([], 50)
    with pytest.raises(DataError, match="no utterance"):
        BucketedBatches([5], 50, weights=[0.0])
    for bad in ([1.0], [-1.0, 1.0], [np.nan, 1.0]):
        with pytest.raises(ConfigError, match="weights"):
            BucketedBatches([5, 5], 50, weights=bad)
    with pytest.raises(ConfigError, match="frames_per_batch"):
        BucketedBatches([5], 0)
