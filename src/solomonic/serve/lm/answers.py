"""What is answered to OpenAI's clients: the shapes, for the document and for who builds them.

`stop_reason` is an addition: the stop string that was met, or "timeout" or "shutdown" where the
server had to end a text, which `finish_reason` can only call "length".
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from solomonic.serve.lm.pieces import Token
from solomonic.text import Tokenizer

Finish = Literal["stop", "length"]


class Shape(BaseModel):
    """An answer has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class Usage(Shape):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionLogprobs(Shape):
    """A list has an entry a token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(Shape):
    """A text."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Finish | None
    stop_reason: str | None


class Completion(Shape):
    """The answer to POST /v1/completions, or one chunk of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage | None


class TopLogprob(Shape):
    """A token that was likely."""

    token: str
    logprob: float
    bytes: list[int] | None


class ChatLogprob(TopLogprob):
    """A token of the answer."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(Shape):
    """Of an answer's tokens."""

    content: list[ChatLogprob]
    refusal: None


class ChatMessage(Shape):
    """What the model says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Shape):
    """An answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish | None
    stop_reason: str | None


class ChatCompletion(Shape):
    """The answer to POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class Model(Shape):
    """A model of this server. `kind` is an addition: what it is for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    kind: Literal["text", "speech"]


class Models(Shape):
    """All models."""

    object: Literal["list"]
    data: list[Model]


class LayerMap(Shape):
    """What one layer kept: positions of tokens, `kept` at the end of the text; for each token its
    innovation, and when it was kept (`since`) and let go (`until`), in tokens read, -1: never."""

    layer: int
    kept: list[int]
    innovation: list[float]
    since: list[int]
    until: list[int]


class MemoryHit(Shape):
    """Words that the user's memory made likelier: by how many nats, and when they were last said
    (unix time; null: they are only listed)."""

    text: str
    score: float
    time: float | None = None


class MemoryMapAnswer(Shape):
    """The answer to POST /v1/memory_map. `window`: tokens that every layer sees verbatim;
    `memory_hits`: words of the text that the user's long-term memory knows."""

    model: str
    tokens: list[str]
    window: int
    layers: list[LayerMap]
    memory_hits: list[MemoryHit]


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """A token as OpenAI shows it: bytes that are no character by themselves as "bytes:\\xe2"."""
    data = tokenizer.token_bytes(token)
    if token == tokenizer.eos_id and not data:
        return tokenizer.eos
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def completion_logprobs(
    tokenizer: Tokenizer, tokens: list[Token], offset: int
) -> dict[str, list[Any] | None]:
    """Of a completion; `offset`: characters of the choice's text before these tokens."""
    places, top = [], []
    decoded = b""
    for entry in tokens:
        places.append(offset + len(decoded.decode("utf-8", errors="ignore")))
        decoded += tokenizer.token_bytes(entry.token)
        top.append({token_text(tokenizer, token): score for token, score in entry.top})
    return {
        "tokens": [token_text(tokenizer, entry.token) for entry in tokens],
        "token_logprobs": [entry.logprob for entry in tokens],
        "top_logprobs": top,
        "text_offset": places,
    }


def chat_logprobs(tokenizer: Tokenizer, tokens: list[Token]) -> dict[str, Any]:
    """Of a chat's answer."""

    def shown(token: int, score: float) -> dict[str, Any]:
        return {
            "token": token_text(tokenizer, token),
            "logprob": score,
            "bytes": list(tokenizer.token_bytes(token)),
        }

    content = [
        shown(entry.token, entry.logprob) | {"top_logprobs": [shown(*one) for one in entry.top]}
        for entry in tokens
    ]
    return {"content": content, "refusal": None}
