"""`solomonic explain` and the engines of `solomonic generate`: what is said is what runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from needs import needs_core

from .conftest import Done

Cli = Callable[..., Done]


def test_every_phase_names_every_op(cli: Cli, model_dir: Path) -> None:
    record = cli("explain", model_dir, "--json").record
    for phase in ("training", "prefill", "decode"):
        ops = {line.split(":")[0] for line in record[phase]}
        assert {"ssd", "conv"} <= ops
        assert all(" (solomonic.kernels." in line for line in record[phase])
    shown = " ".join(cli("explain", model_dir).out.split())
    assert record["device"] in shown and record["generation"].split(";")[0] in shown


def test_what_the_fast_forms_refuse_is_said(cli: Cli, model_dir: Path) -> None:
    record = cli("explain", model_dir, "--dtype", "float64", "--json").record
    for line in record["prefill"]:
        assert ": torch (" in line
        if "native" in line:
            assert "not native: " in line and "float64" in line
    done = cli("explain", model_dir, "--dtype", "int8")
    assert done.status == 2 and "--dtype 'int8' is unknown; use one of float32" in done.err


def test_without_the_core_the_reason_is_said(
    cli: Cli, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOLOMONIC_NATIVE", "0")
    record = cli("explain", model_dir, "--json").record
    assert record["native_core"] is None
    assert record["native_core_missing"] == "SOLOMONIC_NATIVE=0 turns the native core off."
    assert record["generation"].startswith("torch; not native: SOLOMONIC_NATIVE=0")
    arguments = ("generate", model_dir, "--max-tokens", "2", "--seed", "1")
    done = cli(*arguments, "--json")
    assert done.record["engine"].startswith("torch on cpu, not native: SOLOMONIC_NATIVE=0")
    done = cli(*arguments, "--backend", "native")
    assert done.status == 2 and "the native backend is not available" in done.err
    done = cli(*arguments, "--weights", "int8")
    assert done.status == 2 and "--weights and --threads belong to the native engine" in done.err


@needs_core
@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8", "int4"])
def test_generation_says_what_ran(cli: Cli, model_dir: Path, weights: str) -> None:
    arguments = ("generate", model_dir, "--max-tokens", "4", "--seed", "1", "--json")
    record = cli(*arguments, "--weights", weights, "--threads", "2").record
    assert record["engine"].startswith("native (")
    assert f"2 threads, {weights} weights" in record["engine"]
    assert cli(*arguments, "--backend", "torch").record["engine"] == "torch on cpu, asked for"
    done = cli(*arguments, "--backend", "cuda")
    assert done.status == 2 and "--backend 'cuda' is unknown" in done.err
