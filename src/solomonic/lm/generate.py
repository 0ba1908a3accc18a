"""Token-by-token generation at constant memory, from an explicit state.

The prompt is read as one chunk, every further token as a chunk of one: the same code path as
training. What a generation holds does not depend on how far it has come (unless the pattern has a
`T` layer, whose cache grows).
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from solomonic.core import Config, ShapeError, VocabularyError, require
from solomonic.layers import ModelConfig
from solomonic.lm.padding import pad
from solomonic.text import StreamDecoder, Tokenizer


class Reader(Protocol):
    """What generation asks of a model: a `LanguageModel` or a `NativeModel`."""

    @property
    def config(self) -> ModelConfig: ...

    @property
    def device(self) -> torch.device: ...

    def next_logits(self, tokens: Tensor, state: Any, lengths: Tensor | None) -> tuple[Tensor, Any]:
        """Logits (B, V) after each row's last real token of (B, T), and the state after them."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerateConfig(Config):
    """How the next token is chosen and when to stop.

    The settings act in this order: `repetition_penalty`, `temperature` (0: the likeliest token,
    nothing is drawn), `top_k` (0: off), `top_p` (1: off), `min_p` (0: off), as in Transformers.
    `seed` makes the draws repeatable; without it torch's global generator is used. A row ends after
    `eos_id`; all end after `max_new_tokens`.

    Raises:
        ConfigError: a value out of range.
    """

    max_new_tokens: int = 256
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    eos_id: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "temperature", "top_k"):
            value = getattr(self, name)
            require(value >= 0, f"{name} = {value} must not be negative.")
        require(0 < self.top_p <= 1, f"top_p = {self.top_p} must lie in (0, 1]; 1 turns it off.")
        require(0 <= self.min_p <= 1, f"min_p = {self.min_p} must lie in [0, 1]; 0 turns it off.")
        require(
            self.repetition_penalty > 0,
            f"repetition_penalty = {self.repetition_penalty} must be positive; 1 turns it off.",
        )


class Generation(Iterator[Tensor]):
    """An iterator over generated tokens, (B,) int64 a step, that shows its state.

    The token that ends a row (`eos_id`) is yielded; a finished row then repeats it until all rows
    have finished, and its state stands still.

    Attributes:
        state: what the model remembers (a `ModelState`, or `NativeStreams` of a `NativeModel`): the
            prompt and every yielded token but each row's last, which is still unread. To go on
            later, begin the next prompt with that token.
        done: (B,) rows that have yielded `eos_id`.
    """

    def __init__(
        self,
        model: Reader,
        prompts: Sequence[Sequence[int]] | Tensor,
        config: GenerateConfig | None = None,
        state: Any = None,
    ) -> None:
        """Check the prompts; nothing is computed before the first `next`.

        Args:
            prompts: rows of token ids, of equal or different length, each at least one token.
            state: where to go on from, with as many rows; None is the start of a stream. The
                streams of a `NativeModel` move on in place.

        Raises:
            ShapeError: a prompt is empty.
            VocabularyError: a prompt holds a token that the model does not know.
        """
        tokens, lengths = pad(prompts)
        _check(tokens, lengths, model.config.vocab_size)
        device = model.device
        self.model = model
        self.config = config or GenerateConfig()
        self.state = state
        self.done = torch.zeros(len(tokens), dtype=torch.bool, device=device)
        self._left = self.config.max_new_tokens
        self._unread = tokens.to(device), lengths.to(device)
        self._ragged = bool((lengths != tokens.shape[1]).any())
        self._generator = None
        if self.config.seed is not None:
            self._generator = torch.Generator(device).manual_seed(self.config.seed)
        self._seen = None
        if self.config.repetition_penalty != 1:
            self._seen = torch.zeros(
                len(tokens), model.config.vocab_size, dtype=torch.bool, device=device
            )

    # The decorator, not a `with` in a generator function: a generator suspended inside `no_grad`
    # would switch gradients off for its caller.
    @torch.no_grad()
    def __next__(self) -> Tensor:
        if self._left <= 0 or bool(self.done.all()):
            raise StopIteration
        token = choose(self._read(), self.config, self._seen, self._generator)
        if self.config.eos_id is not None:
            token = token.masked_fill(self.done, self.config.eos_id)
            self.done = self.done | (token == self.config.eos_id)
            self._ragged = bool(self.done.any())
        self._unread = token[:, None], (~self.done).long()
        self._left -= 1
        return token

    def _read(self) -> Tensor:
        """Advance the state over what is unread; logits (B, V) after each row's last token."""
        tokens, lengths = self._unread
        if self._seen is not None:
            real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
            self._seen[real.nonzero()[:, 0], tokens[real]] = True
        logits, self.state = self.model.next_logits(
            tokens, self.state, lengths if self._ragged else None
        )
        self._ragged = False
        return logits


def generate(
    model: Reader,
    tokens: Sequence[int] | Tensor,
    config: GenerateConfig | None = None,
    state: Any = None,
) -> Iterator[int]:
    """Token ids that follow one prompt, as they come; see `Generation` for batches and the state.

    Raises:
        ShapeError: the prompt is empty.
        VocabularyError: the prompt holds a token that the model does not know.
    """
    generation = Generation(model, [torch.as_tensor(tokens).tolist()], config, state)
    return (int(token) for token in generation)


def stream_text(
    model: Reader,
    tokenizer: Tokenizer,
    prompt: str | bytes,
    config: GenerateConfig | None = None,
) -> Iterator[str]:
    """Text that follows `prompt`, in pieces of whole characters, as it comes.

    Stops at the tokenizer's end of text (not yielded) unless `config.eos_id` names another token.
    An empty prompt begins a new document.

    Raises:
        VocabularyError: the tokenizer belongs to another model.
    """
    config = config or GenerateConfig()
    if config.eos_id is None:
        config = config.replace(eos_id=tokenizer.eos_id)
    tokens = generate(model, tokenizer.encode(prompt) or [tokenizer.eos_id], config)
    return _pieces(tokens, tokenizer, config.eos_id)


def _pieces(tokens: Iterator[int], tokenizer: Tokenizer, eos_id: int | None) -> Iterator[str]:
    decoder = StreamDecoder(tokenizer)
    for token in tokens:
        if token == eos_id:
            break
        if piece := decoder.push(token):
            yield piece
    if piece := decoder.flush():
        yield piece


def choose(
    logits: Tensor,
    config: GenerateConfig,
    seen: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The next token of every row, (B,) int64, from logits (B, V).

    Args:
        seen: (B, V) bool, the tokens that `repetition_penalty` acts on.
        generator: for the draws, on the device of `logits`.
    """
    scores = adjust(logits, config, seen)
    if config.temperature == 0:
        return scores.argmax(dim=-1)
    return torch.multinomial(scores.softmax(dim=-1), 1, generator=generator)[:, 0]


def adjust(logits: Tensor, config: GenerateConfig, seen: Tensor | None = None) -> Tensor:
    """Scores (B, V) in float32 (or finer) whose softmax is what `choose` draws from."""
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if seen is not None:
        penalty = config.repetition_penalty
        scores = torch.where(
            seen, torch.where(scores > 0, scores / penalty, scores * penalty), scores
        )
    if config.temperature == 0:
        return scores
    scores = scores / config.temperature
    if 0 < config.top_k < scores.shape[-1]:
        kth = scores.topk(config.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < kth, float("-inf"))
    if config.top_p < 1:
        ordered, order = scores.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        # A token goes when those before it already hold top_p; the first one always stays.
        gone = ordered.cumsum(dim=-1) - ordered >= config.top_p
        scores = scores.masked_fill(gone.scatter(-1, order, gone), float("-inf"))
    if config.min_p > 0:
        chances = scores.softmax(dim=-1)
        floor = config.min_p * chances.amax(dim=-1, keepdim=True)
        scores = scores.masked_fill(chances < floor, float("-inf"))
    return scores


def _check(tokens: Tensor, lengths: Tensor, vocab_size: int) -> None:
    if len(lengths) == 0 or int(lengths.min()) == 0:
        raise ShapeError(
            "the prompt is empty; give at least one token, such as the tokenizer's end of text to "
            "begin a new document."
        )
    check_vocabulary(tokens, vocab_size)


def check_vocabulary(tokens: Tensor, vocab_size: int) -> None:
    """Raise `VocabularyError` at the first of `tokens` (B, T) outside 0 .. vocab_size - 1."""
    wrong = ((tokens < 0) | (tokens >= vocab_size)).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        where = f"position {column}" + (f" of row {row}" if len(tokens) > 1 else "")
        raise VocabularyError(
            f"token {int(tokens[row, column])} at {where} of the prompt is outside the vocabulary "
            f"of {vocab_size} tokens (0 to {vocab_size - 1}); encode the prompt with the tokenizer "
            "saved beside the model."
        )
