"""Needles and stories in long documents: where they stand, what chance is, and who can know."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from solomonic.cli.main import app
from solomonic.core import ConfigError, DataError
from solomonic.evals.needle_sets import document, needle_facts, story_facts
from solomonic.evals.needles import NeedlesConfig, run_needles, summarise, wilson
from solomonic.evals.needles_plot import draw
from solomonic.lm.pretrained import save_pretrained
from solomonic.text import ByteTokenizer
from tiny import tiny_model

COLOURS = ("red", "green", "blue", "black", "white", "brown")
PLACES = ("garden", "kitchen", "hallway", "office")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Small sets in the form of ../shared/data."""
    (tmp_path / "text_needles").mkdir()
    (tmp_path / "text_babi").mkdir()
    needles = [
        {
            "id": str(i), "kind": "colour", "needle": f"ann{i}'s lamp is {COLOURS[i % 6]}",
            "question": f"which colour is ann{i}'s lamp", "answer": COLOURS[i % 6], "split": split,
        }
        for i, split in enumerate(["test", "dev", "train"] * 8)
    ]  # fmt: skip
    lines = "\n".join(json.dumps(record) for record in needles)
    (tmp_path / "text_needles/needles.jsonl").write_text(lines + "\n")
    import gzip

    with gzip.open(tmp_path / "text_babi/stories.jsonl.gz", "wt") as file:
        for i in range(12):
            place = PLACES[i % 4]
            story = {
                "task": "qa1_single-supporting-fact", "split": "test",
                "lines": [f"Mary moved to the {place}.", "John went to the garden."],
                "questions": [{"after": 2, "question": "Where is Mary?", "answer": place}],
            }  # fmt: skip
            file.write(json.dumps(story) + "\n")
    return tmp_path


def hay(tmp_path: Path) -> Path:
    path = tmp_path / "hay.txt"
    chance = np.random.default_rng(0)
    words = ["the", "whale", "went", "over", "sea", "and", "ship", "old", "captain"]
    path.write_text(" ".join(chance.choice(words, 900)))
    return path


def test_facts_are_of_their_split_and_hold_the_answer_among_the_choices(sets: Path) -> None:
    facts = needle_facts(sets / "text_needles/needles.jsonl", ["test"], 4, 0)
    assert len(facts) == 8 and {len(set(f.choices)) for f in facts} == {4}
    assert all(f.answer in f.choices and f.chance == 0.25 for f in facts)
    assert facts[0].stem is not None and facts[0].stem.endswith("lamp is")
    places = [f.choices.index(f.answer) for f in facts]
    assert len(set(places)) > 1  # the right one does not always stand first
    again = needle_facts(sets / "text_needles/needles.jsonl", ["test"], 4, 0)
    assert facts == again


def test_people_of_one_story_are_in_no_other(sets: Path) -> None:
    facts = story_facts(sets / "text_babi/stories.jsonl.gz", ["test"], 8, 0)
    assert len(facts) == 12 and facts[0].stem is None
    seen: set[str] = set()
    for fact in facts:
        person = fact.question.removeprefix("Where is ").rstrip("?")
        assert person in fact.text and person not in seen
        seen |= {word for word in fact.text.split() if word[0].isupper()}
        assert "Mary" not in fact.text and "John" not in fact.text


def test_facts_stand_between_the_length_before_and_their_own(sets: Path) -> None:
    tokenizer = ByteTokenizer()
    facts = needle_facts(sets / "text_needles/needles.jsonl", ["test", "dev"], 4, 0)
    lengths = [1200, 2500]
    text = np.frombuffer(("x" * 79 + "\n").encode() * 40, dtype=np.uint8).astype(np.int64)
    tokens, placed = document(tokenizer, text, facts[:8], lengths)
    assert len(tokens) == 2500 and tokens[0] == tokenizer.eos_id and len(placed) == 8
    for one in placed:
        low = 0 if one.length == 1200 else 1200
        assert low < one.begin < one.end <= one.length
        assert tokenizer.decode(tokens[one.begin : one.end].tolist()) == f"\n {one.fact.text}\n"
    again, _ = document(tokenizer, text, facts[:8], lengths)
    assert np.array_equal(tokens, again)
    with pytest.raises(DataError, match="too few for 25000"):
        document(tokenizer, text, facts[:8], [1200, 25000])


def test_every_reader_is_asked_everything_and_memory_knows(sets: Path, tmp_path: Path) -> None:
    """An untrained model knows nothing; verbatim matches know how a sentence went on, and cite."""
    config = NeedlesConfig(lengths=(1000, 1600), facts=2, choices=4, warm=30, top=3)
    said: list[str] = []
    asked = run_needles(
        tiny_model("BM").float(), ByteTokenizer(), sets, [hay(tmp_path)], config, said.append
    )
    assert len(said) == 4 and said[0].startswith("1000 tokens read")
    # 2 sets at 2 lengths, 2 facts each, needles in two forms, 3 readers
    assert len(asked) == (2 * 2 + 2 * 2 * 2) * 3
    found = {(r["set"], r["form"], r["memory"]): r for r in summarise(asked) if r["length"] == 1600}
    assert found["needles", "continue", "reader"]["right"] == 1
    assert found["needles", "continue", "reader"]["cited"] >= 0.5
    assert found["needles", "question", "none"]["chance"] == 0.25
    assert found["needles", "question", "none"]["cited"] is None
    assert found["needles", "question", "attention"]["cited"] >= 0.75  # the words find the chunk
    figure = draw(summarise(asked), tmp_path / "needles.svg")
    assert "memory attention" not in figure.read_text()[:100] and figure.stat().st_size > 5000


def test_the_command_writes_answers_and_a_figure(sets: Path, tmp_path: Path) -> None:
    save_pretrained(tmp_path / "model", tiny_model("BM").float(), ByteTokenizer())
    out, plot = tmp_path / "out.json", tmp_path / "out.png"
    arguments = [
        "eval", "needles", str(tmp_path / "model"), "--sets", str(sets), "--haystack",
        str(hay(tmp_path)), "--lengths", "1000", "--facts", "2", "--memory", "none,attention",
        "--out", str(out), "--plot", str(plot),
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text())
    assert len(record["answers"]) == (2 * 2 + 2) * 2 and plot.stat().st_size > 5000
    assert {r["memory"] for r in record["summary"]} == {"none", "attention"}


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="growing numbers"):
        NeedlesConfig(lengths=(4000, 2000))
    with pytest.raises(ConfigError, match="memories \\['magic'\\]"):
        NeedlesConfig(memories=("magic",))
    with pytest.raises(DataError, match="folder that holds text_needles"):
        needle_facts(tmp_path / "none.jsonl", ["test"], 4, 0)


def test_the_interval_is_wilsons() -> None:
    """Values of Brown, Cai and DasGupta's formula, worked out by hand."""
    assert wilson(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-4)
