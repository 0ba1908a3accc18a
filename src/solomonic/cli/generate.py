"""`solomonic generate DIR --prompt TEXT`: text from a trained model, token by token as it comes."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Device, Json
from solomonic.core import ConfigError, DataError, VocabularyError

if TYPE_CHECKING:
    from solomonic.lm.generate import GenerateConfig, Reader
    from solomonic.lm.model import LanguageModel
    from solomonic.memory.quotes import QuoteVerdict
    from solomonic.memory.reader.citation import Citation
    from solomonic.text import Tokenizer


Directory = Annotated[
    Path | None, typer.Argument(metavar="DIR", help="A trained model; --load names its own.")
]
Prompt = Annotated[str | None, typer.Option(help="Text to go on from; '-' reads standard input.")]
PromptTokens = Annotated[
    str | None, typer.Option(metavar="1,2,3", help="Token ids to go on from, instead of text.")
]
Stream = Annotated[
    bool | None,
    typer.Option("--stream/--no-stream", help="Print text as it comes (not with --json)."),
]
Load = Annotated[
    Path | None, typer.Option(metavar="S", help="Go on from this state (`solomonic read`).")
]
Save = Annotated[
    Path | None, typer.Option(metavar="S2", help="Keep the state after what was written.")
]
Adapt = Annotated[
    list[Path] | None,
    typer.Option(metavar="DELTA", help="Change the model by this (`solomonic adapt`)."),
]
MemoryStore = Annotated[
    str | None, typer.Option("--memory", metavar="STORE", help="Read this store at every token.")
]
Cite = Annotated[bool, typer.Option("--cite", help="Say where the text came from.")]
Quote = Annotated[
    bool, typer.Option("--quote", help="What stands in quotation marks is verbatim in --memory.")
]
Temperature = Annotated[float, typer.Option(help="0 always takes the likeliest token.")]
Backend = Annotated[
    str, typer.Option(help="'native' (C++, CPU), 'torch', or 'auto': native where it can run.")
]
Weights = Annotated[str, typer.Option(help="Native only: float32, bfloat16, int8 or int4.")]


def generate(
    directory: Directory = None,
    prompt: Prompt = None,
    prompt_tokens: PromptTokens = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", help="Tokens to write.")] = 256,
    temperature: Temperature = 0.8,
    top_k: Annotated[int, typer.Option(help="Draw among so many tokens only (0: all).")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest that hold so much.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Leave out tokens this far below the best.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: repeat less.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Makes the draws repeatable.")] = None,
    stream: Stream = None,
    echo: Annotated[bool, typer.Option("--echo", help="Print the prompt first.")] = False,
    load: Load = None,
    save: Save = None,
    adapt: Adapt = None,
    memory: MemoryStore = None,
    cite: Cite = False,
    quote: Quote = False,
    device: Device = "auto",
    backend: Backend = "auto",
    weights: Weights = "float32",
    threads: Annotated[int, typer.Option(help="Native only: threads of one step.")] = 1,
    json: Json = False,
) -> None:
    """Continue a prompt. Only the continuation is printed.

    With `--json` one record at the end; with `--json --stream` one line of JSON for every piece
    of text, and that record as the last line.
    """
    from solomonic.cli.generate_memory import plain, remembering
    from solomonic.cli.generate_state import open_session
    from solomonic.lm.generate import GenerateConfig

    config = GenerateConfig(
        max_new_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    text = _prompt_text(prompt, prompt_tokens)
    session = open_session(directory, load, adapt, console.choose_device(device))
    model, tokenizer = session.model, session.tokenizer
    given = _prompt_ids(text, prompt_tokens, tokenizer)
    tokens = session.prompt(given, given=bool(text) or prompt_tokens is not None)
    reader, engine = choose_engine(model, backend, weights, threads)
    writer = Writer(stream=not json if stream is None else stream, json=json)
    if echo and not json:
        writer.write(text if text is not None else tokenizer.decode(given))
    state = session.state(reader)
    with remembering(reader, tokenizer, memory, cite, state, quote) as (reader, state):
        continuation = Continuation(reader, tokenizer, tokens, config, engine, state)
        for piece in continuation:
            writer.push(piece)
        writer.close(continuation, cite, quote)
    if save is not None:
        session.save(save, plain(continuation.generation.state), tokens, continuation.tokens)


def choose_engine(
    model: LanguageModel, backend: str, weights: str, threads: int
) -> tuple[Reader, str]:
    """What reads the tokens, and what to tell the user about it.

    Raises:
        ConfigError: a name is unknown, or the engine asked for cannot run here.
    """
    from solomonic.lm.native import NativeModel
    from solomonic.lm.paths import engine

    if backend not in ("auto", "native", "torch"):
        raise ConfigError(f"--backend '{backend}' is unknown; use 'auto', 'native' or 'torch'.")
    chosen, why = engine(model, backend)
    if chosen == "native":
        native = NativeModel(model, weights, threads)
        return native, native.describe()
    if weights != "float32" or threads != 1:
        raise ConfigError(
            f"--weights and --threads belong to the native engine, but torch would run ({why}); "
            "leave them out."
        )
    return model, f"torch on {model.device}, {why}"


class Continuation:
    """Iterates over the pieces of text that follow a prompt, and knows the figures afterwards."""

    def __init__(
        self,
        model: Reader,
        tokenizer: Tokenizer,
        prompt: list[int],
        config: GenerateConfig,
        engine: str,
        state: Any = None,
    ) -> None:
        from solomonic.lm.generate import Generation

        self.engine = engine
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.tokens: list[int] = []
        self.text = ""
        self.seconds = 0.0
        config = config.replace(eos_id=tokenizer.eos_id)
        self.limit = config.max_new_tokens
        self.generation = Generation(model, [prompt], config, state)  # refuses bad prompts

    def __iter__(self) -> Iterator[str]:
        """Pieces of whole characters; one may be empty, when a token completes none."""
        from solomonic.text import StreamDecoder

        decoder = StreamDecoder(self.tokenizer)
        start = time.perf_counter()
        for token in self.generation:
            self.tokens.append(int(token))
            self.seconds = time.perf_counter() - start
            yield self._keep(decoder.push(self.tokens[-1]))
        yield self._keep(decoder.flush())

    def _keep(self, piece: str) -> str:
        self.text += piece
        return piece

    def citations(self) -> list[Citation]:
        """Where the text came from; of a reader without memory none."""
        from solomonic.cli.generate_memory import citations

        return citations(self.generation.model, self.generation.state, self.tokens)

    def quotes(self) -> list[QuoteVerdict]:
        """Its quotations with their places; of a reader that may misquote none."""
        from solomonic.cli.quotes import new_quotes

        prompt = self.tokenizer.decode(self.prompt)
        return new_quotes(self.generation.model, prompt, self.text)

    def record(self) -> dict[str, Any]:
        """What `--json` prints. `finish` is 'end' (the model ended the text) or 'length'."""
        ended = self.tokens[-1:] == [self.tokenizer.eos_id]
        state = self.generation.state
        return {
            "text": self.text,
            "tokens": self.tokens,
            "prompt_tokens": len(self.prompt),
            "finish": "end" if ended else "length",
            "seconds": round(self.seconds, 3),
            "state_bytes": None if state is None else state.nbytes,
            "engine": self.engine,
        }


@dataclasses.dataclass
class Writer:
    """Brings a continuation to standard output in one of the four ways asked for."""

    stream: bool
    json: bool
    last: str = ""

    def write(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self.last = text

    def push(self, piece: str) -> None:
        if self.stream and self.json and piece:
            console.emit_line({"piece": piece})
        elif self.stream and not self.json:
            self.write(piece)

    def close(self, continuation: Continuation, cite: bool = False, quote: bool = False) -> None:
        from solomonic.cli.generate_memory import show
        from solomonic.cli.quotes import quote_record, show_quotes

        if self.json:
            cited = {"citations": [one.to_json() for one in continuation.citations()]}
            quoted = {"quotes": [quote_record(one) for one in continuation.quotes()]}
            record = continuation.record() | (cited if cite else {}) | (quoted if quote else {})
            (console.emit_line if self.stream else console.emit)(record)
            return
        if not self.stream:
            self.write(continuation.text)
        if not self.last.endswith("\n") and console.is_terminal():
            print()  # so that the shell's prompt begins on a line of its own
        if cite:
            self.write(f"\n\n{show(continuation.citations())}\n")
        if quote:
            self.write(f"\n\n{show_quotes(continuation.quotes())}\n")
        figures = continuation.record()
        if console.is_terminal() and figures["tokens"]:
            speed = len(figures["tokens"]) / max(figures["seconds"], 1e-9)
            size = console.show_bytes(figures["state_bytes"])
            console.notes().print(f"[dim]{speed:.0f} tokens/s, state {size}[/dim]")
            console.notes().print(f"[dim]{continuation.engine}[/dim]")


def _prompt_text(prompt: str | None, prompt_tokens: str | None) -> str | None:
    if prompt is not None and prompt_tokens is not None:
        raise ConfigError("--prompt and --prompt-tokens exclude each other; give one of them.")
    if prompt != "-":
        return prompt if prompt_tokens is None else None
    return read_stdin()


def read_stdin() -> str:
    """All of standard input; bytes that are no UTF-8 survive as in command-line arguments."""
    data = sys.stdin.buffer.read()
    if not data:
        raise DataError("standard input is empty; pipe a prompt into it or give --prompt TEXT.")
    return data.decode("utf-8", errors="surrogateescape")


def _prompt_ids(text: str | None, prompt_tokens: str | None, tokenizer: Tokenizer) -> list[int]:
    """The ids to read first; no prompt at all begins a new document."""
    if prompt_tokens is None:
        return tokenizer.encode(text or "") or [tokenizer.eos_id]
    ids = console.parse_numbers(prompt_tokens, "--prompt-tokens")
    for token in ids:
        if abs(token) >= 2**63:  # what a tensor cannot even hold
            raise VocabularyError(
                f"token {token} of --prompt-tokens is outside the vocabulary of "
                f"{tokenizer.vocab_size} tokens (0 to {tokenizer.vocab_size - 1})."
            )
    return ids
