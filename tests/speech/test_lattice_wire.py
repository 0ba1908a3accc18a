"""Messages: round trips, bounds on bytes and scores, and refusing whatever is not right."""

import itertools
import zlib
from dataclasses import replace

import numpy as np
import pytest

from lattice_support import PIECES, command_lattice, random_lattice
from solomonic.core import ConfigError, DataError
from solomonic.speech.lattice import (
    Arc,
    Lattice,
    LatticeMessage,
    arc_losses,
    best_path,
    build_lattice,
    decode_message,
    encode_message,
    limit_for,
    n_best,
    word_lattice,
)

FULL = LatticeMessage(
    lattice=command_lattice(0),
    utterance=1 << 40,
    revision=3,
    kind="speculative_end",
    reason="pause and end-of-sentence",
    duration=5.0,
    speaker="anna",
    speaker_score=-1.25,
    whisper=51 / 255,
    language="de-AT",
)


def assert_near(found: Lattice | None, lattice: Lattice) -> None:
    """The same graph, scores within 1/32 nat, the same best path."""
    assert found is not None
    for name in ("frames", "sources", "targets"):
        assert np.array_equal(getattr(found, name), getattr(lattice, name))
    texts = [[one.symbols[label] for label in one.labels] for one in (found, lattice)]
    assert texts[0] == texts[1]
    assert np.array_equal(found.arc_spans(), lattice.arc_spans())
    assert (found.spans is None) == (lattice.spans is None)
    assert found.frame_seconds == lattice.frame_seconds
    np.testing.assert_allclose(found.acoustic, lattice.acoustic, atol=1 / 32, rtol=0)
    np.testing.assert_allclose(found.bias, lattice.bias, atol=1 / 32, rtol=0)
    assert best_path(found).arcs == best_path(lattice).arcs


def noisy(lattice: Lattice, seed: int, scale: float = 0.3) -> Lattice:
    """Scores that are no multiples of anything."""
    noise = np.random.default_rng(seed).normal(0, scale, (2, lattice.arcs))
    return replace(lattice, acoustic=lattice.acoustic + noise[0], bias=lattice.bias + noise[1])


def test_everything_comes_back() -> None:
    found = decode_message(encode_message(FULL))
    assert FULL.lattice is not None
    assert_near(found.lattice, FULL.lattice)
    assert replace(found, lattice=None, kind="reset") == replace(FULL, lattice=None, kind="reset")
    assert found.kind == "speculative_end"


@pytest.mark.parametrize("seed", range(40))
def test_any_lattice_comes_back(seed: int) -> None:
    small = random_lattice(seed, nodes=2 + seed % 9, extra=seed)
    lattices = [small, random_lattice(seed, symbols=PIECES), command_lattice(seed)]
    for lattice in (*lattices, word_lattice(lattices[1])):
        lattice = noisy(lattice, seed)
        message = LatticeMessage(lattice=lattice)
        assert_near(decode_message(encode_message(message, None)).lattice, lattice)


def test_the_bytes_of_version_1_stay_as_they_are() -> None:
    """A reader written from docs/lattice-format.md alone has read these; they never change."""
    arcs = [
        Arc(0, 1, "on", -0.5, 1.5, (1, 3)),
        Arc(0, 1, "off", -3.25, 0.0, (0, 3)),
        Arc(1, 2, "Été", -1.0, 0.0, (4, 6)),
        Arc(0, 2, "on", -9.0, 0.0, (2, 3)),
    ]
    message = LatticeMessage(
        lattice=build_lattice([0, 2, 9], arcs, 2, frame_seconds=0.06),
        utterance=300,
        revision=2,
        kind="speculative_end",
        reason="model",
        duration=0.54,
        speaker="a",
        speaker_score=-0.5,
        whisper=0.2,
        language="fr",
    )
    data = bytes.fromhex(
        "534c01323cac0202056d6f64656c9c040161e7073302667210e0d40369072a1215ee48afb2142a1f3f53329c"
        "95bc522a42cc551a16c072112817"
    )
    assert encode_message(message) == data
    assert decode_message(data).lattice == message.lattice


def test_the_bytes_of_a_monotonous_lattice_stay_as_they_are() -> None:
    """So many equal bits that probabilities reach their limits, where the coder must agree too."""
    arcs = [Arc(node, node + 1, "no", -0.125) for node in range(400)]
    lattice = build_lattice(list(range(401)), arcs, 400, frame_seconds=0.06)
    data = encode_message(LatticeMessage(lattice=lattice))
    assert (len(data), zlib.crc32(data[:-4])) == (41, 3870005737)
    assert decode_message(data).lattice == lattice


def test_decoded_messages_encode_to_the_same_bytes() -> None:
    data = encode_message(FULL)
    assert encode_message(decode_message(data)) == data


@pytest.mark.parametrize("kind", ["commit", "reset"])
def test_a_verdict_needs_no_lattice(kind: str) -> None:
    message = LatticeMessage(lattice=None, utterance=7, revision=2, kind=kind)  # type: ignore[arg-type]
    data = encode_message(message)
    assert decode_message(data) == message
    assert len(data) <= 16


@pytest.mark.parametrize(
    "symbol", ["été", "don't", "\x00", "中文", "N°1", "a b\n", "\U0001f600", "x" * 3000, "ÿ"]
)
def test_any_text_is_a_symbol(symbol: str) -> None:
    arcs = [Arc(0, 1, symbol, -1.0), Arc(0, 1, symbol + "s", -2.0), Arc(1, 2, symbol, -3.0)]
    lattice = build_lattice([0, 3, 9], arcs, 2, frame_seconds=0.06)
    assert decode_message(encode_message(LatticeMessage(lattice=lattice), None)).lattice == lattice


@pytest.mark.parametrize("frame_seconds", [0.06, 0.01, 512 / 16000, 1 / 3, 1e-9, 2e6])
def test_frame_lengths_are_exact(frame_seconds: float) -> None:
    lattice = replace(random_lattice(0), frame_seconds=frame_seconds)
    found = decode_message(encode_message(LatticeMessage(lattice=lattice))).lattice
    assert found is not None and found.frame_seconds == frame_seconds


def test_unused_symbols_stay_behind_and_others_are_numbered_by_use() -> None:
    lattice = replace(random_lattice(0), symbols=("", *"abcdefghij"))
    found = decode_message(encode_message(LatticeMessage(lattice=lattice))).lattice
    assert found is not None
    assert_near(found, lattice)
    assert len(found.symbols) == len(set(lattice.labels.tolist()) | {0})


@pytest.mark.parametrize("gap", [0.0, 1e-6, 0.003, 0.01, 0.03, 0.06, 0.2])
@pytest.mark.parametrize("seed", range(8))
def test_rounding_never_changes_the_best_path(gap: float, seed: int) -> None:
    # Two ways of ten arcs each that differ by `gap` in all: rounding alone could move them by 0.6.
    rng = np.random.default_rng(seed)
    arcs = []
    for side, loss in ((0, 0.0), (1, gap)):
        steps = rng.uniform(-3, 0, 10)
        steps -= (steps.sum() + 20.0 + loss) / 10
        bias = rng.uniform(0, 2, 10)
        bias -= (bias.sum() - 5.0) / 10
        nodes = [0, *range(1 + side, 19, 2), 19]
        for k, (source, target) in enumerate(itertools.pairwise(nodes)):
            arcs.append(Arc(source, target, "ab"[side], steps[k], bias[k]))
    lattice = build_lattice([k // 2 for k in range(20)], arcs, 19, frame_seconds=0.06)
    assert_near(decode_message(encode_message(LatticeMessage(lattice=lattice))).lattice, lattice)


@pytest.mark.parametrize("limit", [150, 200, 300, 1000])
def test_the_limit_holds_and_the_best_paths_survive(limit: int) -> None:
    lattice = command_lattice(5, rivals=7)
    whole = encode_message(LatticeMessage(lattice=lattice), None)
    data = encode_message(LatticeMessage(lattice=lattice), limit)
    assert len(data) <= limit
    found = decode_message(data).lattice
    assert found is not None
    assert best_path(found).words == best_path(lattice).words
    assert (found.arcs == lattice.arcs) == (len(whole) <= limit)
    # Not much smaller than it may be, unless all of it is there.
    assert len(data) == len(whole) or len(data) > 0.8 * limit
    # Worst first: what is lost lies behind the beam that is left (but for rounding, 20 arcs / 32).
    kept = {path.text for path in n_best(found, 1000)}
    best = n_best(lattice, 50)
    lost = [best[0].score - path.score for path in best if path.text not in kept]
    assert all(loss > arc_losses(found).max() - 20 / 32 for loss in lost)


def test_a_limit_too_small_names_what_it_takes() -> None:
    with pytest.raises(DataError, match=r"best path alone takes \d+ bytes, more than .* 60"):
        encode_message(FULL, 60)
    with pytest.raises(DataError, match="more than the limit of 5"):
        encode_message(LatticeMessage(lattice=None, kind="commit"), 5)


def test_limits_follow_the_audio() -> None:
    assert [limit_for(seconds) for seconds in (0.0, 5.0, 60.0)] == [1000, 1000, 12000]
    for seconds in (5.0, 7.3, 60.0):
        assert limit_for(seconds) * 15 <= seconds * 24_000 / 8
        assert limit_for(seconds) * 150 <= seconds * 32_000


@pytest.mark.parametrize("rivals", [3, 5, 7])
def test_a_command_of_five_seconds_is_small(rivals: int) -> None:
    for seed in range(5):
        lattice = command_lattice(seed, rivals=rivals)
        data = encode_message(replace(FULL, lattice=lattice), None)
        assert len(data) <= 7 * lattice.arcs < 1000
        assert len(data) * 15 <= 15_000


SMALL = encode_message(replace(FULL, lattice=random_lattice(2)))


@pytest.mark.parametrize("data", [SMALL, encode_message(FULL)])
def test_every_truncation_is_refused(data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(DataError, match=r"byte \d+"):
            decode_message(data[:length])
    for more in (b"\0", b"SL\1", data):
        with pytest.raises(DataError, match="bytes after its end"):
            decode_message(data + more)


def test_every_changed_byte_is_refused() -> None:
    for at in range(len(SMALL)):
        for change in (*(1 << bit for bit in range(8)), 255, 0x5A):
            data = bytearray(SMALL)
            data[at] ^= change
            with pytest.raises(DataError, match=r"byte \d+"):
                decode_message(bytes(data))


def test_what_is_signed_and_wrong_is_refused_or_read() -> None:
    """A wrong sender: the checksum is right, the rest is anything. No other error, no hang."""
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        body = bytearray(SMALL[4:-4])
        for _ in range(int(rng.integers(1, 4))):
            body[int(rng.integers(len(body)))] = int(rng.integers(256))
        body = body[: int(rng.integers(1, len(body) + 1))] if rng.random() < 0.3 else body
        refused += refuses(signed(bytes(body)))
    assert 300 < refused <= 1500
    # Bits that are as cheap as bits can be: work stays bounded by the length of the message.
    for byte in (0, 255):
        head = SMALL[4:-4][:40]
        assert refuses(signed(head + bytes([byte]) * 400))


def signed(body: bytes) -> bytes:
    """A message around `body` with the right length and checksum."""
    length = bytes([len(body) & 127 | 128, len(body) >> 7])
    data = b"SL\1" + (length if len(body) > 127 else bytes([len(body)])) + body
    return data + zlib.crc32(data).to_bytes(4, "little")


def refuses(data: bytes) -> bool:
    try:
        decode_message(data)
    except DataError:
        return True
    return False


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no lattice message: byte 0"),
        (b"RIFF1234", "no lattice message: byte 0"),
        (b"SL\2" + SMALL[3:], r"version 2 \(byte 2\) .* update solomonic"),
        (signed(b"\x40"), "flags 16 at byte 4 are unknown"),
        (signed(b"\x02\0\0\0\0\0"), "1 bytes are left over at byte 9"),
        (signed(b"\x00\0\0\0\0"), "kind speculative_end needs a lattice"),
        (signed(b"\x02" + b"\xff" * 9 + b"\0\0\0"), "'utterance' at byte 5 .* longer than 63"),
        (signed(b"\x02\0\0\x05ab"), "'reason' at byte 8 takes 5 bytes and 2 are left"),
        (signed(b"\x02\0\0\x02\xff\xff\0"), "'reason' at byte 7 .* not UTF-8"),
        (signed(b"\x21\0\0\0\0\0\0"), "0 steps per nat at byte 9"),
        (signed(b"\x21\0\0\0\0\x10"), "'frame length' at byte 10"),
        (signed(b"\x21\0\0\0\0\x10\1"), "ends at byte 11, in the middle"),
    ],
)
def test_refusals_say_where_and_why(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_message(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"lattice": None, "kind": "final"},
        {"kind": "maybe"},
        {"utterance": -1},
        {"revision": 1 << 63},
        {"revision": 1.0},
        {"whisper": 1.5},
        {"duration": float("nan")},
        {"speaker_score": float("inf")},
        {"language": "x" * 256},
    ],
)
def test_messages_check_themselves(changes: dict) -> None:
    with pytest.raises(ConfigError, match="message|must be"):
        replace(FULL, **changes)


def test_scores_out_of_reach_are_refused() -> None:
    lattice = replace(random_lattice(0), bias=random_lattice(0).bias + 2e5)
    with pytest.raises(DataError, match="up to 131072 nats"):
        encode_message(LatticeMessage(lattice=lattice))
