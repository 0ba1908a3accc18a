"""The `openai` package, unmodified, against a real server; and curl."""

import json
import subprocess
from collections.abc import Iterator

import openai
import pytest

from serve_app import Running, running
from serve_lm import ENGINES, alone, tiny_lm
from solomonic.lm.generate import GenerateConfig
from solomonic.serve.config import ServeConfig
from solomonic.serve.lm.chat import render

ENGINE = ENGINES[-1]


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    config = ServeConfig(requests_per_minute=0, max_new_tokens=60, max_batch=4)
    with running(config, lm=tiny_lm(ENGINE)) as server:
        yield server


@pytest.fixture
def client(served: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_models(client: openai.OpenAI) -> None:
    assert [(model.id, model.kind) for model in client.models.list()] == [("tiny", "text")]
    assert client.models.retrieve("tiny").created == 1
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.models.retrieve("passwd")


def test_a_completion_is_what_the_library_writes(client: openai.OpenAI) -> None:
    done = client.completions.create(
        model="tiny", prompt="once", max_tokens=20, temperature=0.8, seed=4, echo=True
    )
    config = GenerateConfig(max_new_tokens=20, temperature=0.8, seed=4)
    wanted = alone(tiny_lm(ENGINE), "once", config)
    assert done.choices[0].text == "once" + wanted
    assert done.usage is not None and done.usage.prompt_tokens == 4
    assert done.usage.total_tokens == 4 + done.usage.completion_tokens


def test_a_stream_is_the_same_text_in_pieces(client: openai.OpenAI) -> None:
    settings = {"model": "tiny", "prompt": ["a", "bc"], "max_tokens": 12, "n": 2, "seed": 9}
    whole = client.completions.create(**settings)
    chunks = list(client.completions.create(
        **settings, stream=True, stream_options={"include_usage": True}
    ))  # fmt: skip
    texts, ends = [""] * 4, [""] * 4
    for chunk in chunks[:-1]:
        assert chunk.usage is None
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            ends[choice.index] = choice.finish_reason
    assert texts == [choice.text for choice in whole.choices]
    assert ends == [choice.finish_reason for choice in whole.choices]
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage


def test_token_prompts_stops_and_logprobs(client: openai.OpenAI) -> None:
    plain = client.completions.create(
        model="tiny", prompt=list(b"xyz"), max_tokens=30, temperature=0, logprobs=2
    ).choices[0]
    assert plain.logprobs is not None and plain.logprobs.tokens is not None
    assert plain.logprobs.token_logprobs is not None and plain.logprobs.top_logprobs is not None
    assert len(plain.logprobs.tokens) == len(plain.logprobs.token_logprobs)
    assert all(len(top) == 2 for top in plain.logprobs.top_logprobs)
    stop = plain.text[5:7]
    cut = client.completions.create(
        model="tiny", prompt=list(b"xyz"), max_tokens=30, temperature=0, stop=[stop]
    ).choices[0]
    assert cut.text == plain.text[: plain.text.index(stop)] and cut.finish_reason == "stop"


def test_chat(client: openai.OpenAI) -> None:
    messages = [
        {"role": "system", "content": "You help"},
        {"role": "user", "content": [{"type": "text", "text": "Hello\n< THERE"}]},
    ]
    prompt = render([("system", "You help"), ("user", "Hello\n< THERE")])
    assert prompt == "you help\n> hello < there\n<"
    settings = {"model": "tiny", "messages": messages, "max_tokens": 25, "seed": 3}
    done = client.chat.completions.create(**settings).choices[0]
    config = GenerateConfig(max_new_tokens=25, seed=3)
    wanted = alone(tiny_lm(ENGINE), prompt, config).partition("\n")[0].lstrip(" ")
    assert done.message.content == wanted
    text, first = "", None
    for chunk in client.chat.completions.create(**settings, stream=True):
        delta = chunk.choices[0].delta
        first = first or delta.role
        text += delta.content or ""
    assert (first, text) == ("assistant", wanted)


def test_chat_logprobs(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hi"}], max_completion_tokens=5,
        logprobs=True, top_logprobs=4, temperature=0,
    )  # fmt: skip
    scores = done.choices[0].logprobs
    assert scores is not None and scores.content
    for entry in scores.content:
        assert len(entry.top_logprobs) == 4
        assert entry.logprob == max(top.logprob for top in entry.top_logprobs)


@pytest.mark.parametrize(
    ("settings", "param", "sentence"),
    [
        ({"frequency_penalty": 0.5}, "frequency_penalty", "is not supported"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "is not supported"),
        ({"suffix": "x"}, "suffix", "is not supported"),
        ({"extra_body": {"guided_json": {}}}, "guided_json", "is not supported"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"max_tokens": -1}, "max_tokens", "greater than or equal to 0"),
        ({"n": 9}, "n", "at most 8"),
        ({"logprobs": 1, "echo": True}, "logprobs", "leave out"),
        ({"prompt": []}, "prompt", "none of the forms"),
        ({"prompt": [300]}, None, "vocabulary of 257"),
        ({"prompt": "x" * 20000}, "prompt", "20000 tokens.*at most 16384"),
    ],
)
def test_refusals_name_the_parameter(
    client: openai.OpenAI, settings: dict, param: str | None, sentence: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence) as refused:
        client.completions.create(**{"model": "tiny", "prompt": "a"} | settings)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


def test_unknown_models_and_tools_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.completions.create(model="gpt-4", prompt="a")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    tool = {"type": "function", "function": {"name": "f"}}
    message = {"role": "user", "content": "a"}
    with pytest.raises(openai.BadRequestError, match="'tools' is not supported"):
        client.chat.completions.create(model="tiny", messages=[message], tools=[tool])
    chunk = client.chat.completions.create(
        model="tiny", messages=[message], tools=[], presence_penalty=0, max_tokens=1
    )
    assert chunk.choices[0].finish_reason in ("length", "stop")


def test_whole_numbers_may_be_written_as_javascript_writes_them(client: openai.OpenAI) -> None:
    body = {"model": "tiny", "prompt": [97.0, 98], "max_tokens": 3.0, "temperature": 0, "n": 1.0}
    done = client.post("/completions", body=body, cast_to=dict)
    assert done["usage"]["prompt_tokens"] == 2
    for wrong in ({"max_tokens": 2.5}, {"max_tokens": True}, {"max_tokens": "3"}):
        with pytest.raises(openai.BadRequestError, match="'max_tokens'"):
            client.post("/completions", body=body | wrong, cast_to=dict)


def test_curl(served: Running) -> None:
    body = json.dumps({"model": "tiny", "prompt": "a", "max_tokens": 3, "stream": True})
    done = subprocess.run(
        ["curl", "-sS", "-i", "--no-buffer", f"{served.url}/v1/completions",
         "-H", "Content-Type: application/json", "-d", body],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    head, _, events = done.stdout.replace("\r\n", "\n").partition("\n\n")
    assert head.startswith("HTTP/1.1 200") and "content-type: text/event-stream" in head
    assert "x-content-type-options: nosniff" in head and "server:" not in head
    lines = [line for line in events.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]"


def test_memory_map(served: Running, client: openai.OpenAI) -> None:
    found = client.post("/memory_map", body={"text": "the quick fox"}, cast_to=dict)
    assert "".join(found["tokens"]) == "the quick fox" and found["window"] == 5
    assert [layer["layer"] for layer in found["layers"]] == [0, 1]
    for layer in found["layers"]:
        assert len(layer["innovation"]) == 13 and len(layer["kept"]) == 4
        assert all(layer["until"][position] == 13 for position in layer["kept"])
    assert client.post("/memory_map", body={"text": "t"}, cast_to=dict)["layers"] == []
