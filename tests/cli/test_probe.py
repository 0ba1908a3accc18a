"""`solomonic probe` and `solomonic truncate` from the command line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from solomonic.lm.pretrained import load_pretrained

TEXT = "a text that says a little and then says a little more, again and again. " * 8


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_probe_writes_a_page_and_tells_progress(
    cli: Callable, model_dir: Path, text: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    options = ("--text", text, "-o", page, "--tokens", 120, "--longest", 16, "--places", 8)
    done = cli("probe", model_dir, *options)
    assert done.status == 0, done.err
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert "reading: 100%" in done.err and "replacing tokens: 100%" in done.err
    record = cli("probe", model_dir, *options, "--json").record
    assert record["tokens"] == 120 and record["influence"]["places"] == 8


def test_probe_reads_the_shipped_model(cli: Callable, text: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = cli(
        "probe", "shipped", "--text", text, "-o", page, "--tokens", 70, "--places", 0, "--json"
    )
    assert done.record["pattern"] == "MBMBMB"
    assert done.record["influence"] is None
    assert "Not measured" in page.read_text("utf-8")


def test_truncate_makes_a_model_that_generates(
    cli: Callable, model_dir: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    done = cli("truncate", model_dir, "--text", text, "--out", out, "--json")
    assert done.status == 0, done.err
    record = done.record
    assert record["state_bytes_after"] < record["state_bytes_before"]
    for layer in record["layers"]:
        assert layer["after"] == layer["before"] // 2
        assert layer["error"] <= layer["guarantee"] and layer["frozen_error"] <= layer["bound"]
    assert load_pretrained(out)[0].config.ssm_state_rank
    made = cli("generate", out, "--prompt", "a", "-n", 4, "--json")
    assert made.status == 0 and made.record["engine"].startswith("torch")
    assert cli("eval", "lm", out, "--data", text, "--json").status == 0
    assert cli("explain", out, "--json").record["generation"].startswith("torch")
    again = cli("truncate", out, "--text", text, "--out", tmp_path / "smaller")
    assert again.status == 2 and "truncated before" in again.err
    assert "there already" in cli("truncate", model_dir, "--text", text, "--out", out).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("probe", "nowhere", "--text", "{text}"), "no language model at nowhere"),
        (("probe", "{model}", "--text", "nothing.txt"), "cannot read nothing.txt"),
        (("probe", "{model}", "--text", "{empty}"), "is empty"),
        (("probe", "{model}", "--text", "{text}", "--tokens", "1"), "tokens = 1"),
        (("truncate", "{model}", "--text", "{short}", "--out", "{out}"), "at least 64"),
        (("truncate", "{model}", "--text", "{text}", "--out", "{out}", "--states", "999"), "999"),
    ],
)
def test_bad_input_is_one_line(
    cli: Callable, model_dir: Path, text: Path, tmp_path: Path, arguments: tuple, message: str
) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "short").write_text("short")
    places = {"model": model_dir, "text": text, "out": tmp_path / "new"}
    places |= {name: tmp_path / name for name in ("empty", "short")}
    done = cli(*(part.format(**places) for part in arguments))
    assert done.status == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) <= 2
    assert not (tmp_path / "new").exists()
