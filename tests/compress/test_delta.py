"""Exact updates: what comes out is the new file byte for byte, or nothing does."""

import dataclasses
import itertools
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from delta_support import generations, matrix, nudged, pack, trained, vocabulary
from solomonic.compress.delta import HashRule, LowRankRule, apply_update, diff, patch_files
from solomonic.compress.delta.container import read_update
from solomonic.compress.delta.rules import moved, read_rule, write_rule
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import Pack, Signature, build_pack
from solomonic.core import CheckpointError, StorageError

SHAPES = [(1, 1), (64, 1), (3, 5), (17, 63), (64, 64), (65, 130)]
KINDS = [(8, "dense"), (6, "dense"), (5, "dense"), (4, "dense"), (4, "unstructured")]
KINDS += [(4, "2:4"), (8, "2:4"), (4, "vec16"), (8, "vec16")]


def exact(old: Pack, new: Pack) -> int:
    """Bytes of the update, checked there and back."""
    before, after = build_pack(old), build_pack(new)
    forth, back = diff(before, after), diff(after, before)
    assert apply_update(before, forth.data) == after
    assert apply_update(after, back.data) == before
    return len(forth.data)


@pytest.mark.parametrize(("bits", "pattern"), KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_matrix_comes_back(shape: tuple[int, int], bits: int, pattern: str) -> None:
    rng = np.random.default_rng((*shape, bits))
    old = matrix(rng, shape, bits, pattern)
    for new in (nudged(rng, old, 0.1), matrix(rng, shape, bits, pattern), old):
        exact(pack(w=old), pack(w=new))


def changed_files() -> dict[str, tuple[Pack, Pack]]:
    """Whole files that differ in ways other than levels."""
    rng = np.random.default_rng(3)
    old = pack()
    first = old.tensors["embed.weight"]
    assert isinstance(first, QuantisedMatrix)
    grown = np.concatenate([first.levels, matrix(rng, (9, 40), 8).levels])
    larger = QuantisedMatrix(grown, np.ones(79, np.float32), 8)
    book = np.arange(-16, 16, dtype=np.int8) * 4
    indices = rng.integers(0, 32, (20, 30)).astype(np.int8)
    coded = QuantisedMatrix(indices, np.ones(20, np.float32), 5, codebook=book)
    other = dataclasses.replace(coded, levels=(indices ^ 1).astype(np.int8))
    rebooked = dataclasses.replace(other, codebook=(book // 2).astype(np.int8))
    grouped = matrix(rng, (20, 100), 4, grouped=True)
    tiny = np.array([0.0, -0.0, 1e-45, -1e38, 3e38, 1.0, -1.0], np.float32)

    def with_tensors(**tensors: np.ndarray | QuantisedMatrix) -> Pack:
        return dataclasses.replace(old, tensors={**old.tensors, **tensors})

    def less(name: str) -> Pack:
        rest = {key: tensor for key, tensor in old.tensors.items() if key != name}
        return dataclasses.replace(old, tensors=rest)

    backwards = dict(reversed(old.tensors.items()))
    return {
        "nothing": (old, old),
        "settings": (old, dataclasses.replace(old, config={"model.kind": "other", "a": "1"})),
        "vocabulary": (old, dataclasses.replace(old, vocabulary=vocabulary("a", "b", "d", "e"))),
        "no vocabulary": (old, dataclasses.replace(old, vocabulary=None)),
        "signature": (old, dataclasses.replace(old, signature=Signature(7, b"vouched"))),
        "grown": (old, with_tensors(**{"embed.weight": larger})),
        "added": (old, with_tensors(extra=matrix(rng, (5, 6)), more=tiny)),
        "removed": (old, less("mix.bias")),
        "order": (old, dataclasses.replace(old, tensors=backwards)),
        "scales": (
            pack(w=grouped),
            pack(w=dataclasses.replace(grouped, scales=grouped.scales * 2)),
        ),
        "codebook": (pack(w=coded), pack(w=other)),
        "another codebook": (pack(w=coded), pack(w=rebooked)),
        "codebook to levels": (pack(w=coded), pack(w=matrix(rng, (20, 30), 5))),
        "bits": (pack(w=matrix(rng, (40, 50), 8)), pack(w=matrix(rng, (40, 50), 4))),
        "pattern": (pack(w=matrix(rng, (48, 50), 4)), pack(w=matrix(rng, (48, 50), 4, "vec16"))),
        "float to matrix": (pack(w=tiny), pack(w=matrix(rng, (7, 2)))),
        "float of another shape": (pack(w=tiny), pack(w=tiny[:6].reshape(2, 3))),
        "odd floats": (pack(w=tiny), pack(w=tiny[::-1].copy())),
        "zero's sign": (pack(w=np.zeros(3, np.float32)), pack(w=-np.zeros(3, np.float32))),
    }


@pytest.mark.parametrize("name", changed_files())
def test_any_file_comes_back(name: str) -> None:
    exact(*changed_files()[name])


def test_small_changes_take_few_bytes() -> None:
    """Within 3% of what the changes hold: 1% of a million levels moved by one."""
    rng = np.random.default_rng(0)
    levels = rng.integers(-100, 101, (500, 1000)).astype(np.int8)
    step = (rng.random(levels.shape) < 0.01) * rng.choice([-1, 1], levels.shape)
    old = pack(w=QuantisedMatrix(levels, np.ones(500, np.float32), 8))
    new = pack(w=QuantisedMatrix((levels + step).astype(np.int8), np.ones(500, np.float32), 8))
    rate = float((step != 0).mean())
    bits = -rate * np.log2(rate / 2) - (1 - rate) * np.log2(1 - rate)
    assert exact(old, new) < 1.03 * bits * levels.size / 8 + 300


def test_rows_that_stand_still_cost_nothing() -> None:
    rng = np.random.default_rng(0)
    old = matrix(rng, (1000, 400), 8)
    levels = old.levels.copy()
    levels[100:110] = np.clip(levels[100:110] + rng.integers(-3, 4, (10, 400)), -127, 127)
    size = exact(pack(w=old), pack(w=dataclasses.replace(old, levels=levels)))
    assert size < 4000 * np.log2(7) / 8 + 400


def test_zeros_that_move_are_told_by_vectors() -> None:
    """A vector of 16 that dies is one symbol; its weights are not told one by one."""
    rng = np.random.default_rng(0)
    old = matrix(rng, (320, 300), 4, "vec16")
    vectors = rng.random((20, 300)) < 0.05
    levels = np.where(np.repeat(vectors, 16, axis=0), 0, old.levels).astype(np.int8)
    size = exact(pack(w=old), pack(w=dataclasses.replace(old, levels=levels)))
    assert size < 6000 * 0.35 / 8 + 300


def test_a_file_of_another_writer_is_sent_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = generations(2)
    monkeypatch.setattr("solomonic.compress.delta.update.build_pack", lambda contents: b"other")
    found = diff(old, new)
    assert found.whole
    assert apply_update(old, found.data) == new


def test_four_generations_and_back(tmp_path: Path) -> None:
    files = generations(5)
    names = []
    for number, (old, new) in enumerate(itertools.pairwise(files)):
        names.append(tmp_path / f"{number}.update")
        names[-1].write_bytes(diff(old, new).data)
    model, undo = tmp_path / "model.solo", tmp_path / "undo"
    model.write_bytes(files[0])
    patch_files(model, names, model, undo)
    assert model.read_bytes() == files[-1]
    patch_files(model, [undo], model)
    assert model.read_bytes() == files[0]


def test_a_chain_with_a_gap_is_refused_and_the_model_stays(tmp_path: Path) -> None:
    files = generations(4)
    first, third = tmp_path / "first", tmp_path / "third"
    first.write_bytes(diff(files[0], files[1]).data)
    third.write_bytes(diff(files[2], files[3]).data)
    model = tmp_path / "model.solo"
    model.write_bytes(files[0])
    with pytest.raises(CheckpointError, match="third applies to the model .* after .*first is"):
        patch_files(model, [first, third], model, tmp_path / "undo")
    assert model.read_bytes() == files[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["first", "model.solo", "third"]


def test_an_update_fits_one_model_and_once() -> None:
    first, second, third = generations(3)
    update = diff(first, second).data
    with pytest.raises(CheckpointError, match=r"applies to the model \w{16} and B is \w{16}; give"):
        apply_update(third, update, "U", "B")
    with pytest.raises(CheckpointError, match="B is what U makes already"):
        apply_update(second, update, "U", "B")


def test_signatures_come_back_too() -> None:
    old, new = pack(), trained(pack())
    signed = [dataclasses.replace(p, signature=Signature(1, b"by me")) for p in (old, new)]
    for before, after in ((old, signed[1]), (signed[0], new), (signed[0], signed[1])):
        exact(before, after)
    update = diff(build_pack(signed[0]), build_pack(signed[1])).data
    other = build_pack(dataclasses.replace(old, signature=Signature(1, b"by you")))
    with pytest.raises(CheckpointError, match="give the file that the update was made from"):
        apply_update(other, update)


def test_every_truncation_is_refused() -> None:
    old, new = generations(2)
    update = diff(old, new).data
    for size in range(len(update)):
        with pytest.raises(CheckpointError, match=r"U, byte \d+: .*; copy the update again"):
            apply_update(old, update[:size], "U")
    with pytest.raises(CheckpointError, match=f"byte {len(update)}: .* announced"):
        apply_update(old, update + b"x", "U")


def test_every_wrong_byte_is_refused() -> None:
    old, new = generations(2)
    update = bytearray(diff(old, new).data)
    for at in range(len(update)):
        update[at] ^= 0x41
        with pytest.raises(CheckpointError, match=r"U, byte \d+: "):
            apply_update(old, bytes(update), "U")
        update[at] ^= 0x41
    assert apply_update(old, bytes(update)) == new


def test_a_newer_update_is_refused_by_name() -> None:
    old, new = generations(2)
    update = bytearray(diff(old, new).data)
    update[8] = 9
    with pytest.raises(CheckpointError, match="U, byte 8: the update has version 9 .* up to 1"):
        apply_update(old, bytes(update), "U")


def forged(update: bytes, section: int, change: Callable[[bytearray], None]) -> bytes:
    """The update with one section changed and all checksums made to fit."""
    sizes = [int.from_bytes(update[84 + 8 * i : 88 + 8 * i], "little") for i in range(5)]
    start = 128 + sum(sizes[:section])
    part = bytearray(update[start : start + sizes[section]])
    change(part)
    body = update[128:start] + part + update[start + sizes[section] :]
    head = bytearray(update[:124])
    head[12:20] = (128 + len(body)).to_bytes(8, "little")
    head[84 + 8 * section : 92 + 8 * section] = len(part).to_bytes(4, "little") + zlib.crc32(
        part
    ).to_bytes(4, "little")
    return bytes(head) + zlib.crc32(head).to_bytes(4, "little") + body


@pytest.mark.parametrize("section", range(5))
def test_a_forgery_with_sound_checksums_is_refused_too(section: int) -> None:
    """Whoever can write checksums can write anything; the result's SHA-256 has the last word."""
    rng = np.random.default_rng(section)
    old = pack()
    rule = HashRule(rng.integers(-9, 10, 50).astype(np.int8), 5, 2)
    first = old.tensors["embed.weight"]
    assert isinstance(first, QuantisedMatrix)
    new = trained(old)
    new = dataclasses.replace(new, tensors={**new.tensors, "embed.weight": moved(first, rule)})
    new = dataclasses.replace(new, config={"model.kind": "renamed"})
    before = build_pack(old)
    update = diff(before, build_pack(new), {"embed.weight": rule}).data

    def flip(part: bytearray) -> None:
        part[rng.integers(len(part))] ^= 1 << rng.integers(8)

    def cut(part: bytearray) -> None:
        del part[rng.integers(len(part)) :]

    sizes = [int.from_bytes(update[84 + 8 * i : 88 + 8 * i], "little") for i in range(5)]
    assert sizes[section] > 0
    for change in [flip] * 24 + [cut] * 8:
        wrong = forged(update, section, change)
        try:
            assert apply_update(before, wrong, "U") == build_pack(new)  # a bit that says nothing
        except CheckpointError as error:
            assert str(error).startswith("U")


def test_a_full_disk_leaves_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = generations(2)
    model, update = tmp_path / "model.solo", tmp_path / "u"
    model.write_bytes(old)
    update.write_bytes(diff(old, new).data)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="what was there before is unharmed"):
        patch_files(model, [update], model)
    assert model.read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_gets_advice(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder .*`solomonic compress"):
        patch_files(tmp_path, [], tmp_path / "out")
    with pytest.raises(CheckpointError, match="cannot read the device file .*missing"):
        patch_files(tmp_path / "missing", [], tmp_path / "out")


RULES = [
    HashRule(np.array([40, -90, 3, 127, -128], np.int8), 11, 5),
    LowRankRule(np.full((48, 1), 20, np.int8), np.arange(-15, 15, dtype=np.int8)[:, None], 6),
]


@pytest.mark.parametrize("rule", RULES, ids=["hash", "low rank"])
@pytest.mark.parametrize("pattern", ["dense", "2:4", "vec16", "unstructured"])
def test_a_rule_is_exact_and_keeps_the_zeros(rule: HashRule | LowRankRule, pattern: str) -> None:
    old = matrix(np.random.default_rng(0), (48, 30), 4, pattern)
    new = moved(old, rule)
    assert (new.levels != old.levels).mean() > 0.05
    if pattern != "dense":
        assert not new.levels[old.levels == 0].any() or pattern == "vec16"
    read, end = read_rule(b"xy" + write_rule(rule), 2, old.levels.shape)
    assert end == 2 + len(write_rule(rule))
    assert np.array_equal(moved(old, read).levels, new.levels)
    before, after = build_pack(pack(w=old)), build_pack(pack(w=new))
    ruled, plain = diff(before, after, {"w": rule}), diff(before, after)
    assert ruled.changes[0].kind == "rule"
    assert len(ruled.data) < len(plain.data)
    assert apply_update(before, ruled.data) == after


def test_what_a_rule_leaves_over_is_sent_too() -> None:
    rng = np.random.default_rng(0)
    old = matrix(rng, (48, 30), 4)
    new = nudged(rng, moved(old, RULES[0]), 0.02)
    before, after = build_pack(pack(w=old)), build_pack(pack(w=new))
    assert apply_update(before, diff(before, after, {"w": RULES[0]}).data) == after


def test_the_sizes_by_tensor_add_up() -> None:
    old, new = generations(2)
    found = diff(old, new)
    assert {change.name for change in found.changes} == set(pack().tensors)
    told = sum(change.bytes for change in found.changes)
    assert 0.2 * len(found.data) < told < len(found.data)
    assert read_update(found.data, "U").base.hex() == found.base
