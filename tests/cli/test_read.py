"""`read`, `merge`, `adapt` and `generate --load --save --adapt`, as a person types them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from solomonic.cli.main import main
from solomonic.lm import reading as reading_module
from solomonic.lm.pretrained import load_pretrained, save_pretrained
from solomonic.lm.state_files import load_state
from solomonic.text import ByteTokenizer
from tiny import tiny_model

TEXTS = {"a.txt": "The lamp was lit. " * 9, "b.md": "# Boats\n\nNo boat came in that night. " * 5}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model, another one, and documents."""
    for seed, name in enumerate(("model", "other")):
        save_pretrained(tmp_path / name, tiny_model("MB", seed=seed).float(), ByteTokenizer())
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def record(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    status, out, err = run(capsys, *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_read_generate_fork_and_merge(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = place / "model"
    for name in TEXTS:
        found = record(
            capsys, "read", place / name, "--model", model, "--save", place / f"{name}.st"
        )
        assert found["complete"]
        assert found["documents"][0]["name"].endswith(name)
        assert found["tokens"] == [found["documents"][0]["read"]]
    # The state file names its model, so DIR may be left out; the prompt goes on from the text.
    greedy = ("--temperature", 0, "-n", 6)
    state = place / "a.txt.st"
    after = record(capsys, "generate", "--load", state, "--prompt", "The", *greedy)
    whole = record(
        capsys, "generate", model, "--prompt-tokens",
        ",".join(map(str, [256, *ByteTokenizer().encode(TEXTS["a.txt"] + "The")])), *greedy,
    )  # fmt: skip
    assert after["tokens"] == whole["tokens"]
    assert after["prompt_tokens"] == 4
    # A fork: the file that was loaded is unchanged, and the two go on apart.
    before = state.read_bytes()
    one = record(capsys, "generate", "--load", state, "--save", place / "fork", *greedy)
    assert state.read_bytes() == before
    two = record(capsys, "generate", "--load", place / "fork", *greedy)
    both = record(capsys, "generate", "--load", state, "--temperature", 0, "-n", 12)
    assert one["tokens"] + two["tokens"] == both["tokens"]
    # Forks and documents merge into a state of the same size.
    merged = record(capsys, "merge", place / "fork", place / "b.md.st", "-o", place / "c")
    assert merged["state_bytes"] == record(capsys, "inspect", state)["state_bytes"]
    assert len(merged["documents"]) == 3
    assert len(record(capsys, "generate", "--load", place / "c", *greedy)["tokens"]) == 6


def test_a_fork_knows_the_decays_of_what_was_generated(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = load_pretrained(place / "model")
    run(capsys, "read", place / "a.txt", "--model", place / "model", "--save", place / "s")
    run(capsys, "generate", "--load", place / "s", "--save", place / "t", "--prompt", "x",
        "-n", 30, "--seed", 1)  # fmt: skip
    found = load_state(place / "t", model, tokenizer)
    assert int(found.state.time) == len(TEXTS["a.txt"]) + 1 + 1 + 29
    before = load_state(place / "s", model)
    assert all(
        bool((found.decays[name] < product).all()) for name, product in before.decays.items()
    )


def test_an_interrupted_reading_goes_on(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_module, "CHUNK", 50)
    words = ("read", place / "a.txt", "--model", place / "model", "--save")
    run(capsys, *words, place / "whole")
    chunk, calls = reading_module.Reading._chunk, []

    def broken(self: Any, decays: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        chunk(self, decays)

    monkeypatch.setattr(reading_module.Reading, "_chunk", broken)
    status, _, err = run(capsys, *words, place / "s")
    assert status == 130
    assert "the same command goes on" in err
    assert load_state(place / "s").notes.documents[0].read == 100
    found = record(capsys, *words, place / "s")
    assert (found["resumed"], found["complete"]) == (100, True)
    one, other = load_state(place / "s"), load_state(place / "whole")
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(
        one.state.leaves(), other.state.leaves(), strict=True
    ))  # fmt: skip
    status, _, err = run(capsys, *words, place / "s")
    assert (status, "nothing was left" in err) == (0, True)


def test_reading_after_a_state(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = place / "model"
    run(capsys, "read", place / "a.txt", "--model", model, "--save", place / "a")
    found = record(capsys, "read", place / "b.md", "--model", model, "--load", place / "a",
                   "--save", place / "ab")  # fmt: skip
    assert [Path(d["name"]).name for d in found["documents"]] == ["a.txt", "b.md"]


def test_adapting_and_generating_with_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, delta = place / "model", place / "a.delta"
    made = record(capsys, "adapt", place / "a.txt", "--model", model, "--save", delta,
                  "--set", "rate=0.02", "--set", "segment=16")  # fmt: skip
    assert made["finished"]
    words = ("--prompt", "The", "--temperature", 0, "-n", 8)
    plain = record(capsys, "generate", model, *words)
    adapted = record(capsys, "generate", model, "--adapt", delta, *words)
    assert plain["tokens"] != adapted["tokens"]
    second = record(capsys, "adapt", place / "b.md", "--model", model, "--over", delta,
                    "--save", place / "b.delta", "--set", "parameters=norms")  # fmt: skip
    assert second["delta_bytes"] < made["delta_bytes"]
    both = ("--adapt", delta, "--adapt", place / "b.delta")
    record(capsys, "generate", model, *both, *words)
    status, _, err = run(capsys, "generate", model, "--adapt", place / "b.delta", *words)
    assert (status, "on top of another" in err) == (2, True)
    # A state belongs to the weights that read it.
    run(capsys, "read", place / "a.txt", "--model", model, "--save", place / "s")
    status, _, err = run(capsys, "generate", "--load", place / "s", "--adapt", delta, *words)
    assert (status, "another model" in err) == (2, True)


def test_bad_input_is_one_sentence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, other = place / "model", place / "other"
    run(capsys, "read", place / "a.txt", "--model", model, "--save", place / "s")
    run(capsys, "read", place / "a.txt", "--model", other, "--save", place / "o")
    whole = (place / "s").read_bytes()
    (place / "cut").write_bytes(whole[: len(whole) // 2])
    (place / "empty.txt").write_text(" \n")
    run(capsys, "adapt", place / "a.txt", "--model", other, "--save", place / "d")
    cases: list[tuple[tuple[object, ...], str]] = [
        (("generate", other, "--load", place / "s"), "another model"),
        (("generate", "--load", place / "cut"), f"ends at byte {len(whole) // 2}"),
        (("generate", "--load", place / "none"), "does not exist"),
        (("generate",), "give the DIR"),
        (("generate", model, "--adapt", place / "d"), "another model"),
        (("generate", model, "--adapt", place / "s"), "no delta file"),
        (("merge", place / "s", place / "o", "-o", place / "m"), "another model"),
        (("merge", place / "s", place / "a.txt", "-o", place / "m"), "no state file"),
        (("read", place / "b.md", "--model", model, "--save", place / "s"), "already holds"),
        (("read", place / "empty.txt", "--model", model, "--save", place / "x"), "no text"),
        (("read", place / "none.txt", "--model", model, "--save", place / "x"), "none.txt"),
        (("adapt", place / "a.txt", "--model", model, "--save", place / "x", "--set", "rat=1"),
         "did you mean 'rate'"),
        (("adapt", place / "a.txt", "--model", model, "--save", place / "x", "--seconds", 0),
         "more --seconds"),
        (("adapt", place / "a.txt", "--model", model, "--save", place / "x", "--methods",
          "examples"), "needs a memory"),
        (("adapt", place / "a.txt", "--model", model, "--save", place / "x", "--memory",
          place / "none.db"), "there is no memory"),
    ]  # fmt: skip
    for words, said in cases:
        status, out, err = run(capsys, *words)
        assert (status, out) == (2, ""), words
        assert said in err, (words, err)
        assert err.count("\n") == 1, err


def test_scoring_while_learning(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("eval", "lm", place / "model", "--data", place / "a.txt")
    alone = record(capsys, *words)
    learning = record(capsys, *words, "--adapt", "dynamic", "--set", "rate=0.02")
    assert learning["bits_per_byte"] < alone["bits_per_byte"]
    still = record(capsys, *words, "--adapt", "dynamic", "--set", "rate=0")
    assert abs(still["bits_per_byte"] - alone["bits_per_byte"]) < 1e-5
    for wrong in (("--adapt", "magic"), ("--set", "rate=0.1")):
        assert run(capsys, *words, *wrong)[0] == 2
