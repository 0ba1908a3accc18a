"""`solomonic generate`: only whole characters, as they come, repeatable, from bytes or tokens."""

import io
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from solomonic.cli.generate import Continuation, Writer
from solomonic.lm import generate
from solomonic.lm.generate import GenerateConfig
from solomonic.lm.model import LanguageModel
from solomonic.recipes import debug
from solomonic.text import ByteTokenizer

from .conftest import COMMAND, Done

Cli = Callable[..., Done]


def scripted(text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the model 'draw' these bytes, then the end of text."""
    script: Iterator[int] = iter([*text, 256])
    monkeypatch.setattr(generate, "choose", lambda *_: torch.tensor([next(script)]))


def test_equal_seeds_give_equal_text(cli: Cli, model_dir: Path) -> None:
    texts = [
        cli("generate", model_dir, "--prompt", "def", "-n", 30, "--seed", seed).out
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("options", [["--stream"], ["--no-stream"], []])
def test_only_the_continuation_is_printed(
    options: list[str], cli: Cli, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted("né\n".encode(), monkeypatch)
    done = cli("generate", model_dir, "--prompt", "une journée", *options)
    assert done == Done(0, "né\n", "")


def test_echo_prints_the_prompt_first(
    cli: Cli, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(b" b", monkeypatch)
    assert cli("generate", model_dir, "--prompt", "a", "--echo").out == "a b"
    scripted(b" b", monkeypatch)
    assert cli("generate", model_dir, "--prompt-tokens", "97 99", "--echo").out == "ac b"


def test_pieces_come_at_once_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader has after every token: never half a character, never late."""
    seen: list[str] = []

    class Terminal(io.StringIO):
        def flush(self) -> None:
            seen.append(self.getvalue())

    monkeypatch.setattr("sys.stdout", Terminal())
    scripted("a€b".encode() + b"\xe2\x82", monkeypatch)  # ends in half a character
    torch.manual_seed(0)
    model = LanguageModel(debug.TINY).eval()
    continuation = Continuation(model, ByteTokenizer(), [1], GenerateConfig(), "torch")
    writer = Writer(stream=True, json=False)
    held = []
    for piece in continuation:
        writer.push(piece)
        held.append(seen[-1] if seen else "")
    writer.close(continuation)
    assert held[:5] == ["a", "a", "a", "a€", "a€b"]
    assert seen[-1] == "a€b\ufffd"


def test_json_is_one_record(cli: Cli, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(b"ok", monkeypatch)
    done = cli("generate", model_dir, "--prompt", "abc", "--json")
    record = done.record
    assert (record["text"], record["tokens"]) == ("ok", [111, 107, 256])
    assert (record["prompt_tokens"], record["finish"]) == (3, "end")
    assert record["state_bytes"] > 0
    assert cli("generate", model_dir, "-n", 2, "--json").record["finish"] == "length"


def test_json_lines_while_it_comes(
    cli: Cli, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted("é!".encode(), monkeypatch)
    lines = cli("generate", model_dir, "--json", "--stream").out.splitlines()
    records = [json.loads(line) for line in lines]
    assert records[:-1] == [{"piece": "é"}, {"piece": "!"}]
    assert records[-1]["text"] == "é!"


def test_the_state_does_not_grow(cli: Cli, model_dir: Path) -> None:
    sizes = {
        cli("generate", model_dir, "-n", count, "--json").record["state_bytes"] for count in (1, 60)
    }
    assert len(sizes) == 1


def test_settings_reach_the_choice(
    cli: Cli, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[GenerateConfig] = []

    def choose(logits: torch.Tensor, config: GenerateConfig, *_: object) -> torch.Tensor:
        seen.append(config)
        return logits.argmax(-1)

    monkeypatch.setattr(generate, "choose", choose)
    options = ("--temperature", 0.5, "--top-k", 3, "--top-p", 0.9, "--min-p", 0.1,
               "--repetition-penalty", 1.5, "--seed", 4, "-n", 1)  # fmt: skip
    assert cli("generate", model_dir, *options).status == 0
    expected = GenerateConfig(max_new_tokens=1, temperature=0.5, top_k=3, top_p=0.9, min_p=0.1,
                              repetition_penalty=1.5, seed=4, eos_id=256)  # fmt: skip
    assert seen == [expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a", "--prompt-tokens", "1"], "exclude each other; give one of them"),
        (["--top-p", "2"], "top_p = 2.0 must lie in (0, 1]; 1 turns it off"),
        (["-n", "-1"], "max_new_tokens = -1 must not be negative"),
    ],
)
def test_impossible_wishes(options: list[str], message: str, cli: Cli, model_dir: Path) -> None:
    done = cli("generate", model_dir, *options)
    assert (done.status, done.out) == (2, "")
    assert message in done.err


@pytest.mark.parametrize(
    ("given", "status", "out"),
    [("naïve".encode(), 0, "naïve".encode()), (b"\xff\xfe", 0, b"\\udcff\\udcfe"), (b"", 2, b"")],
    ids=["text", "no UTF-8", "nothing"],
)
def test_the_prompt_from_standard_input(
    given: bytes, status: int, out: bytes, model_dir: Path
) -> None:
    command = [*COMMAND, "generate", str(model_dir), "--prompt", "-", "--echo", "-n", "0"]
    done = subprocess.run(command, input=given, capture_output=True)
    assert (done.returncode, done.stdout) == (status, out)
    if status:
        assert done.stderr == (
            b"error: standard input is empty; pipe a prompt into it or give --prompt TEXT.\n"
        )
