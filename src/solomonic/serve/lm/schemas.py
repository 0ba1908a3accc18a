"""What OpenAI's clients send, exactly as far as it is understood here; anything else is refused.

Parameters that this server does not have may be given with the value that changes nothing
(`presence_penalty: 0`), as many clients always send them. `top_k`, `min_p` and `repetition_penalty`
are additions, with the names that other servers have for them.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from typing_extensions import TypeAliasType

MOST = 2**31 - 1
EXACT = 2**53 - 1
"""The largest whole number that every JSON reader has exactly."""


def _whole(value: Any) -> Any:
    """1.0 is a whole number in JSON, and some languages write all numbers so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Stands behind `Field`, whose limits would otherwise not reach the document."""
TokenId = TypeAliasType("TokenId", Annotated[int, Field(ge=0, le=MOST), WHOLE])
"""The document names the vocabulary's last token as maximum (`serve.openapi`)."""
Choices = TypeAliasType("Choices", Annotated[int, Field(ge=1, le=128), WHOLE])
StopString = Annotated[str, Field(min_length=1, max_length=200)]
Nothing = Annotated[list[Any], Field(max_length=0)] | None


class Strict(BaseModel):
    """No conversions ("5" is no number) and no parameters that nobody reads."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Strict):
    """Of a stream."""

    include_usage: bool | None = None
    """Send a last chunk with token counts."""
    include_obfuscation: Literal[False] | None = None


class TextFormat(Strict):
    """The only format of answers there is."""

    type: Literal["text"]


class Sampling(Strict):
    """How tokens are chosen; shared by both kinds of completion."""

    model: str = Field(description="A name that /v1/models lists.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="Below 0.01 the likeliest token is taken."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=MOST), WHOLE] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10)] | None = None
    seed: Annotated[int, Field(ge=-EXACT, le=EXACT), WHOLE] | None = None
    n: Choices | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="Not read; a key or X-Solomonic-User says who asks."
    )
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None


class CompletionRequest(Sampling):
    """POST /v1/completions."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=16)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1)]],
            Field(min_length=1, max_length=16),
        ]
    )
    max_tokens: Annotated[int, Field(ge=0, le=MOST), WHOLE] | None = Field(
        None, description="16 unless given; never more than the server's limit."
    )
    logprobs: Annotated[int, Field(ge=0, le=5), WHOLE] | None = None
    echo: bool | None = Field(None, description="Send the prompt before what follows it.")
    best_of: Annotated[int, Field(ge=1, le=1), WHOLE] | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None


class TextPart(Strict):
    """A part of a message."""

    type: Literal["text"]
    text: str


Content = str | Annotated[list[TextPart], Field(max_length=64)]


class Message(Strict):
    """A message. What an answer had and a client sends back is taken where it says nothing."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content
    name: Annotated[str, Field(max_length=200)] | None = None
    refusal: None = None
    audio: None = None
    annotations: Nothing = None
    function_call: None = None
    tool_calls: Nothing = None

    def text(self) -> str:
        """What it says."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class ChatRequest(Sampling):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    max_tokens: Annotated[int, Field(ge=1, le=MOST), WHOLE] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST), WHOLE] | None = Field(
        None, description="The server's limit unless given; goes before max_tokens."
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = Field(
        None, description="Read where logprobs is true."
    )
    response_format: TextFormat | None = None
    tools: Nothing = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    store: Literal[False] | None = None
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = Field(
        None, description="Not read."
    )
    service_tier: Literal["auto", "default"] | None = None


class MemoryMapRequest(Strict):
    """POST /v1/memory_map."""

    text: str
    model: str | None = None
