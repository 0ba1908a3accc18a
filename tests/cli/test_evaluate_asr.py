"""`solomonic eval asr`: tables, JSON, reports, lists of words, missing files, Ctrl-C."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from solomonic.evals.asr_report import Decoded
from solomonic.speech.data.manifest import Utterance, write_manifest
from solomonic.speech.recognizer import Recognizer
from speech_tiny import RATE, command, save_tiny

from .conftest import Done

Cli = Callable[..., Done]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("speech") / "model")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Three of a test split, each of which has one word that was not said, and one to train on."""
    folder = tmp_path_factory.mktemp("corpus")
    recognizer = Recognizer.from_pretrained(model)
    lines = []
    for seed in range(4):
        soundfile.write(folder / f"{seed}.wav", command(seed=seed, after=1.4), RATE)
        lines.append(
            Utterance(
                audio=folder / f"{seed}.wav",
                duration=3.0,
                text=f"{recognizer.transcribe(folder / f'{seed}.wav').text} weather",
                split="train" if seed == 3 else "test",
                source="toys",
                extra={"speech_start": 0.4, "speech_end": 1.6},
            )
        )
    write_manifest(folder / "manifest.jsonl", lines)
    return folder


@pytest.fixture
def evaluate(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command without lines of progress, which a busy machine would see."""
    monkeypatch.setattr("solomonic.cli.evaluate_asr.Progress.__init__.__defaults__", (math.inf,))
    return lambda *arguments: cli("eval", "asr", "--model", model, *arguments)


def test_tables(evaluate: Cli, recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = evaluate(recordings, "--greedy")
    assert (done.status, done.err) == (0, "")
    for title in ("Word errors", "Greedy search", "Lattices", "Speed and delay",
                  "End-pointing, toys"):  # fmt: skip
        assert title in done.out
    for part in ("real-time factor", "oracle WER %", "toys", "EP50", "1.2 s of silence"):
        assert part in done.out
    assert "Personal words" not in done.out


def test_json_and_what_ran(evaluate: Cli, recordings: Path, model: Path) -> None:
    done = evaluate(recordings, "--json", "--no-endpoint", "--beam", 2)
    record = done.record
    assert record["engine"]["model"] == str(model)
    assert record["engine"]["search"] == "beam of 2"
    assert (record["split"], record["recordings"]) == ("test", 3)
    toys = record["sets"]["toys"]
    assert toys["endpoints"] is None
    assert toys["wer"]["utterances"] == 3
    assert "decoded" not in record


def test_splits_and_limits(evaluate: Cli, recordings: Path) -> None:
    assert evaluate(recordings, "--split", "all", "--json").record["recordings"] == 4
    assert evaluate(recordings, "--split", "train", "--json").record["recordings"] == 1
    assert evaluate(recordings, "--limit", 2, "--json").record["recordings"] == 2
    done = evaluate(recordings, "--split", "dev")
    assert (done.status, done.out) == (2, "")
    assert "no utterance of the split 'dev'; there are test, train" in done.err


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_reports(name: str, evaluate: Cli, recordings: Path, tmp_path: Path) -> None:
    done = evaluate(recordings, "--limit", 1, "--out", tmp_path / name, "--json")
    assert done.status == 0
    text = (tmp_path / name).read_text()
    if name.endswith("json"):
        saved = json.loads(text)
        assert saved["decoded"][0]["reference"].endswith("weather")
        assert saved["engine"]["parameters"] > 0
    else:
        assert text.startswith("<!doctype html>")
        assert "Most errors" in text and "weather" in text


def test_lists_of_words_are_scored(evaluate: Cli, recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("weather\n")
    done = evaluate(recordings, "--bias", tmp_path / "list.txt", "--json")
    biased = done.record["sets"]["toys"]["biased"]
    assert (biased["biased_words"], biased["utterances"]) == (3, 3)
    (tmp_path / "list.txt").write_text("weather\n" + "x" * 10_000)
    done = evaluate(recordings, "--bias", tmp_path / "list.txt")
    assert (done.status, done.out) == (2, "")
    assert "line 2" in done.err


def test_missing_recordings_are_all_listed(evaluate: Cli, tmp_path: Path, recordings: Path) -> None:
    lines = (recordings / "manifest.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "m.jsonl").write_text("".join(lines))
    done = evaluate(tmp_path / "m.jsonl", "--out", tmp_path / "r.html")
    names = ", ".join(str(tmp_path / f"{seed}.wav") for seed in range(3))
    assert done == Done(
        2,
        "",
        "error: 3 of 3 recordings are missing; copy them or remove their lines: " + names + ".\n",
    )
    assert not (tmp_path / "r.html").exists()


def test_unreadable_recordings_are_said_and_left_out(
    evaluate: Cli, recordings: Path, tmp_path: Path
) -> None:
    for name in ("0.wav", "1.wav"):
        (tmp_path / name).write_bytes((recordings / name).read_bytes())
    (tmp_path / "2.wav").write_text("no audio")
    lines = (recordings / "manifest.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "m.jsonl").write_text("".join(lines))
    done = evaluate(tmp_path / "m.jsonl", "--json")
    assert done.status == 2
    assert done.record["recordings"] == 2
    assert done.record["failed"][0]["audio"] == str(tmp_path / "2.wav")
    assert done.err.startswith(f"error: {tmp_path / '2.wav'}: cannot read")
    assert done.err.count("\n") == 1


def test_ctrl_c_prints_what_was_done(
    evaluate: Cli, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: object, found: Decoded, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("solomonic.cli.evaluate_asr.Progress.__call__", stop)
    done = evaluate(recordings, "--json")
    assert done.status == 130
    assert (done.record["interrupted"], done.record["recordings"]) == (True, 2)
    assert done.err == "interrupted after 2 of 3 recordings\n"


def test_progress_is_told_now_and_then(
    evaluate: Cli, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solomonic.cli.evaluate_asr.Progress.__init__.__defaults__", (0.0,))
    done = evaluate(recordings, "--json")
    lines = done.err.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"{n} of 3 recordings" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tail", "-1"], "tail = -1.0 must lie between 0 and 60 seconds."),
        (["--limit", "0"], "limit = 0 recordings leaves none; give 1 or more."),
        (["--out", "report.csv"],
         "a report cannot be written as 'report.csv'; end the name in .html or .json."),
    ],
)  # fmt: skip
def test_impossible_wishes(
    options: list[str], message: str, evaluate: Cli, recordings: Path
) -> None:
    assert evaluate(recordings, *options) == Done(2, "", f"error: {message}\n")


def test_a_report_that_cannot_be_written_costs_no_figures(
    evaluate: Cli, recordings: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    done = evaluate(recordings, "--limit", 1, "--json", "--out", tmp_path / "file" / "report.html")
    assert done.status == 2 and done.err.count("\n") == 1
    assert done.record["recordings"] == 1
    (tmp_path / "folder.json").mkdir()
    done = evaluate(recordings, "--out", tmp_path / "folder.json")
    assert (done.status, done.out) == (2, "")
    assert "is a folder; give the name of a file in it." in done.err
