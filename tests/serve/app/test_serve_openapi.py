"""The OpenAPI document says what the server does: schemathesis finds nothing that differs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, seed, settings
from schemathesis.checks import CHECKS

from serve_app import Running, running
from serve_lm import ENGINES, tiny_lm
from solomonic.serve.config import ServeConfig

EXAMPLES = 10
OWN = (
    "/health", "/ready", "/metrics", "/v1/models", "/v1/models/{model}", "/v1/completions",
    "/v1/chat/completions", "/v1/memory_map",
)  # fmt: skip

CONTENT = (
    "/v1/audio/transcriptions", "/v1/lattices", "/v1/users/me", "/v1/users/me/phrases",
    "/v1/users/me/utterances",
)  # fmt: skip
"""Bodies here have contents that no schema describes, audio and lattices and words that can be
heard, so that what fits the schema may still be refused."""


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    config = ServeConfig(
        requests_per_minute=0, max_new_tokens=8, max_requests_per_client=1000, max_queue=1000
    )
    with running(config, lm=tiny_lm(ENGINES[-1])) as server:
        yield server


@pytest.fixture(scope="module")
def document(served: Running) -> dict[str, Any]:
    import urllib.request

    with urllib.request.urlopen(f"{served.url}/openapi.json", timeout=30) as answer:
        return json.load(answer)


def test_every_route_is_in_the_document_with_its_errors(document: dict[str, Any]) -> None:
    assert set(OWN + CONTENT) == set(document["paths"])
    for path in OWN:
        for operation in document["paths"][path].values():
            assert "422" not in operation["responses"] and operation["operationId"]
            if path.startswith("/v1"):
                assert {"200", "400", "401", "403", "429", "503"} <= set(operation["responses"])
    assert document["components"]["schemas"]["TokenId"]["maximum"] == 256
    assert document["components"]["schemas"]["Choices"]["maximum"] == 8
    chat = document["components"]["schemas"]["ChatRequest"]["properties"]
    assert chat["top_k"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
    assert "securitySchemes" not in document["components"]


def test_the_document_names_the_key_where_there_must_be_one(tmp_path: Path) -> None:
    from solomonic.serve.app import create_app
    from solomonic.serve.store import open_store

    store = open_store(None)
    app = create_app(ServeConfig(api_key_file=str(tmp_path / "keys.json")), store=store)
    document = app.openapi()
    assert document["components"]["securitySchemes"] == {
        "key": {"type": "http", "scheme": "bearer"}
    }
    assert document["paths"]["/v1/models"]["get"]["security"] == [{"key": []}]
    assert "security" not in document["paths"]["/health"]["get"]
    store.close()


@pytest.mark.parametrize("path", OWN + CONTENT)
def test_schemathesis_finds_nothing(served: Running, document: dict[str, Any], path: str) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=served.url)
    checks = [check for check in CHECKS.get_all()
              if path in OWN or check.__name__ != "positive_data_acceptance"]  # fmt: skip
    for result in schema.include(path=path).get_all_operations():
        operation = result.ok()

        @seed(1)
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @schemathesis_given(operation)
        def check(case: schemathesis.Case) -> None:
            answer = case.call(timeout=60)
            case.validate_response(answer, checks=checks)

        check()


def schemathesis_given(operation: Any) -> Any:
    """Cases that fit the document, and cases that do not."""
    from hypothesis import given
    from hypothesis import strategies as st

    modes = schemathesis.GenerationMode
    return given(
        case=st.one_of(
            operation.as_strategy(generation_mode=modes.POSITIVE),
            operation.as_strategy(generation_mode=modes.NEGATIVE),
        )
    )
