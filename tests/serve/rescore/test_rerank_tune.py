"""Weights that were planted are found; word errors; the loss by its definition and differences."""

import json
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

from lattice_support import COMMAND, command_lattice
from rescore_support import oracle_lm, random_lm
from solomonic.core import ConfigError, DataError
from solomonic.serve.lm.loaded import load_lm
from solomonic.serve.rescore import RerankConfig, Reranker, load_reranker
from solomonic.serve.rescore.config import read_weights
from solomonic.serve.rescore.data import Example, read_examples
from solomonic.serve.rescore.errors import SetErrors, measure, total, word_edits
from solomonic.serve.rescore.loading import SHIPPED_WEIGHTS
from solomonic.serve.rescore.mwer import MwerConfig, MwerTask, expected_errors, rivals
from solomonic.serve.rescore.tune import WEIGHTS, Sheet, TuneConfig, choose, collect, table, tune
from solomonic.speech.lattice import LatticeMessage, encode_message, n_best, to_slf
from solomonic.train import TrainConfig, train


def planted(seed: int, truth: dict[str, float], source: str = "a", count: int = 200) -> list[Sheet]:
    """Sheets whose best sentence by the true weights is the only one without errors."""
    rng = np.random.default_rng(seed)
    weights = np.array([1.0, *(truth.get(name, 0.0) for name in WEIGHTS)])
    sheets = []
    for _ in range(count):
        parts = rng.normal(0.0, (2.0, 1.0, 8.0, 6.0, 3.0, 1.5), (12, 6))
        order = np.argsort(-(parts @ weights))
        parts, edits = parts[np.argsort(-parts[:, 0])], np.full(12, 3)
        edits[(parts @ weights).argmax()] = 0
        assert len(order) == 12
        sheets.append(Sheet(source, parts, edits, tuple("abcdefghijkl"), 5, 0))
    return sheets


def test_a_planted_optimum_is_found() -> None:
    truth = {"lm_scale": 0.6, "word_bonus": 1.5, "internal_scale": 0.25, "bias_scale": 1.0}
    config = TuneConfig(weights=("lm_scale", "word_bonus", "internal_scale"), tries=500)
    start = RerankConfig(lm_scale=0.0, memory_scale=0.0)
    found = choose(planted(0, truth), start, config)
    for name in config.weights:
        within = 0.3 if name == "word_bonus" else 0.08  # words differ least from text to text
        assert getattr(found, name) == pytest.approx(truth[name], abs=within), name
    assert found.bias_scale == 1.0 and found.memory_scale == 0.0
    before, after = (table(planted(1, truth), one)[0] for one in (start, found))
    assert before.reranked > 300 > 60 > after.reranked
    assert after.gain > 0.9
    assert choose(planted(0, truth), start, config) == found  # nothing is left to chance


def test_a_model_that_says_nothing_gets_no_weight() -> None:
    rng = np.random.default_rng(0)
    sheets = planted(0, {"bias_scale": 1.0})
    for sheet in sheets:
        sheet.parts[:, 2] = rng.normal(0, 8, 12)
    found = choose(sheets, RerankConfig(), TuneConfig(weights=("lm_scale",), tries=50))
    assert found.lm_scale < 0.03


def test_a_small_set_is_heard_where_sets_are_balanced() -> None:
    """Many errors of one set cannot be mended, some want a high weight; a few of another a low."""

    def pair(source: str, lm: float, edits: tuple[int, int]) -> Sheet:
        parts = np.zeros((2, 6))
        parts[1, :3] = (-0.5 * lm, 0.0, lm)  # ahead where lm_scale * lm > lm / 2
        return Sheet(source, parts, np.array(edits), ("a", "b"), 5, 0)

    sheets = [pair("big", 1.0, (3, 3))] * 250 + [pair("big", 1.0, (3, 0))] * 20
    sheets += [pair("small", 1.0, (0, 3))] * 15
    start = RerankConfig(lm_scale=1.0)
    found = [
        choose(sheets, start, TuneConfig(weights=("lm_scale",), tries=8, balance=balance)).lm_scale
        for balance in (True, False)
    ]
    assert found[0] < 0.5 < found[1]


@pytest.mark.parametrize("seed", range(5))
def test_word_edits_are_jiwers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        one, other = (rng.choice(list("abcd"), rng.integers(1, 8)).tolist() for _ in range(2))
        counts = jiwer.process_words(" ".join(one), " ".join(other))
        expected = counts.substitutions + counts.deletions + counts.insertions
        assert word_edits(one, other) == expected
    assert word_edits([], ["a", "b"]) == word_edits(["a", "b"], []) == 2


def folder(path: Path, count: int = 4) -> Path:
    """Lattices and a manifest, the last one of silence."""
    path.mkdir()
    lines = []
    for seed in range(count):
        lattice = command_lattice(seed, words=COMMAND[:4], rivals=3)
        said = n_best(lattice, 6)[-1].text  # not what the recogniser likes best
        (path / f"{seed}.slm").write_bytes(encode_message(LatticeMessage(lattice=lattice)))
        line = {"lattice": f"{seed}.slm", "text": said, "source": "ab"[seed % 2], "split": "dev"}
        lines.append(line | {"speaker": "s", "before": ["turn on"] if seed == 1 else []})
    lines.append({"lattice": None, "text": "nobody heard", "source": "a"})
    (path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_examples_of_a_folder(tmp_path: Path) -> None:
    made = folder(tmp_path / "set")
    examples = read_examples(made, "dev")
    assert len(examples) == 5
    assert examples[1].before == ("turn on",) and examples[1].extra == {"speaker": "s"}
    assert examples[4].lattice is None and examples[4].reference == ("nobody", "heard")
    assert read_examples([made, made / "manifest.jsonl"])[5].reference == examples[0].reference
    # Manifests of recordings, lattices elsewhere.
    audio = tmp_path / "audio.jsonl"
    audio.write_text('{"audio": "x/0.flac", "text": "Hello!", "duration": 1}\n')
    (tmp_path / "lat").mkdir()
    (tmp_path / "lat" / "0.slf").write_text(to_slf(command_lattice(0)))
    found = read_examples(audio, lattices=tmp_path / "lat")
    assert found[0].reference == ("hello",) and found[0].source == tmp_path.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ('{"lattice": "a.slm"}', "'text' is missing"),
        ('{"lattice": "a.slm", "text": "a"}', "1 of 1 lattices are missing"),
        ('{"audio": "a.flac", "text": "a"}', "transcribe --format lattice"),
        ('{"text": "a"}', "neither a lattice nor a recording"),
        ('{"lattice": null, "text": "a", "before": "b"}', "list of texts"),
        ('{"lattice": null, "text": "a", "split": "train"}', "no lattice of the split 'dev'"),
        ("", "no lattice"),
    ],
)
def test_bad_manifests(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_examples(path, "dev")
    with pytest.raises(DataError, match="cannot read the manifest"):
        read_examples(tmp_path / "absent.jsonl")


def test_tuning_with_a_model_that_knows(tmp_path: Path) -> None:
    """From lattices to weights: with an oracle of one sentence its lattice is mended."""
    examples = read_examples(folder(tmp_path / "set"))[:1]
    lm = oracle_lm(" ".join(examples[0].reference))
    start = Reranker(lm, RerankConfig(lm_scale=0.0))
    seen: list[tuple[int, int]] = []
    config = TuneConfig(weights=("lm_scale",), tries=20, texts=20)
    found = tune(start, examples, config, lambda *done: seen.append(done))
    assert seen[-1] == (2, 2)
    assert found.config.lm_scale > 0
    (row,) = found.sets
    assert (row.reranked, row.nearest) == (0, 0) and row.one_best > 0 and row.closed == 1.0
    assert measure(start, examples)[0].reranked == row.one_best
    assert measure(Reranker(lm, found.config), examples) == found.sets


def test_figures() -> None:
    both = total([SetErrors("a", 1, 10, 4, 3, 2), SetErrors("b", 2, 10, 0, 0, 0)])
    assert both == SetErrors("all", 3, 20, 4, 3, 2)
    assert (both.gain, both.closed, both.rates()) == (0.25, 0.5, (0.2, 0.15, 0.1))
    assert SetErrors("b", 2, 10, 0, 0, 0).gain == 0.0


def test_what_cannot_be_tuned() -> None:
    reranker = Reranker(random_lm())
    lattice = command_lattice(0, words=COMMAND[:2])
    one = Example(name="x", lattice=lattice, reference=("turn", "on"))
    with pytest.raises(ConfigError, match="'speed' is no weight"):
        TuneConfig(weights=("speed",))
    with pytest.raises(ConfigError, match="no weight to tune"):
        TuneConfig(weights=())
    with pytest.raises(ConfigError, match="InternalLM"):
        tune(reranker, [one], TuneConfig(weights=("internal_scale",)))
    with pytest.raises(ConfigError, match="add 'before'"):
        tune(reranker, [one], TuneConfig(weights=("memory_scale",)))
    with pytest.raises(DataError, match="no reference has a word"):
        tune(reranker, [Example(name="x", lattice=lattice, reference=())])
    with pytest.raises(DataError, match="no lattice to tune on"):
        tune(reranker, [Example(name="x", lattice=None, reference=("a",))])


def test_weights_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    config = RerankConfig(lm_scale=0.25, word_bonus=-0.5, whole=False)
    config.save(path, {"sets": []})
    assert RerankConfig.load(path) == config
    assert read_weights(path)["development"] == {"sets": []}
    record = json.loads(path.read_text())
    for change, message in [
        ({"format": "x"}, "holds no weights"),
        ({"version": 99}, "has version 99"),
        ({"settings": None}, "names no settings"),
        ({"settings": {"lm_skale": 1}}, "did you mean 'lm_scale'"),
        ({"settings": {"lm_scale": -1}}, "between 0 and 100"),
    ]:
        path.write_text(json.dumps(record | change))
        with pytest.raises(ConfigError, match=message):
            RerankConfig.load(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot read the weights"):
        RerankConfig.load(path)


def test_the_packages_weights_are_for_its_own_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, other = random_lm(), random_lm(1)
    path = tmp_path / "w.json"
    monkeypatch.setattr("solomonic.serve.rescore.loading.SHIPPED_WEIGHTS", path)
    assert load_reranker(lm).config == RerankConfig()
    assert "not tuned" in load_reranker(lm).describe()["weights"]
    RerankConfig(lm_scale=0.123).save(path, {"lm": lm.describe()})
    assert load_reranker(lm).config.lm_scale == 0.123
    assert load_reranker(lm).origin == "of the package"
    assert load_reranker(other).config == RerankConfig()
    RerankConfig(lm_scale=0.5).save(tmp_path / "own.json")
    assert load_reranker(other, tmp_path / "own.json").config.lm_scale == 0.5
    assert load_reranker(lm, tmp_path / "own.json").internal is None


def test_the_packages_weights_know_its_model() -> None:
    # A setting that is added to a model's configuration changes what identifies it, and the weights
    # would silently be those of nobody: then write the new fingerprint into them.
    found = read_weights(SHIPPED_WEIGHTS)["development"]["lm"]["fingerprint"]
    assert found == load_lm().fingerprint


# Minimum word error


def sheet(texts: tuple[str, ...], edits: tuple[int, ...], reference: str) -> Sheet:
    rng = np.random.default_rng(len(reference))
    parts = rng.normal(0.0, 1.0, (len(texts), 6))
    return Sheet("a", parts, np.array(edits), texts, 3, 0, reference)


SHEETS = [
    sheet(("turn on", "turn an", "tern on it"), (0, 1, 2), "turn on"),
    sheet(("the light", "a lie", ""), (1, 1, 2), "the lights"),
    sheet(("same", "seem"), (1, 1), "sing"),  # nothing to learn
]
WEIGHED = RerankConfig(lm_scale=0.3, word_bonus=0.2, memory_scale=0.0)


def task(**settings: object) -> MwerTask:
    lm = random_lm()
    lm.reader.requires_grad_(True)
    config = MwerConfig(utterances=2, texts=3, **settings)
    return MwerTask(lm.reader, lm.tokenizer, SHEETS, WEIGHED, config, SHEETS)


def slow_loss(one: MwerTask, likelihood: float) -> torch.Tensor:
    """The same, sentence by sentence and by its definition."""
    sums = []
    for entry in SHEETS[:2]:
        scores = []
        for parts, text in zip(entry.parts, entry.texts, strict=True):
            log_prob = whole(one, text)
            weights = {name: getattr(WEIGHED, name) for name in WEIGHTS}
            fixed = parts[0] + sum(
                weights[name] * value
                for name, value in zip(WEIGHTS, parts[1:], strict=True)
                if name != "lm_scale"
            )
            scores.append(fixed + 0.3 * log_prob)
        chances = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        mean = sum(entry.edits.tolist()) / len(entry.edits)
        risk = sum(p * (e - mean) for p, e in zip(chances, entry.edits.tolist(), strict=True))
        tokens = len(one.tokenizer.encode(entry.reference)) + 1
        sums.append(risk - likelihood * whole(one, entry.reference) / tokens)
    return sum(sums) / 2


def whole(one: MwerTask, text: str) -> torch.Tensor:
    line = [one.tokenizer.eos_id, *one.tokenizer.encode(text), one.tokenizer.eos_id]
    logs = one.model(torch.tensor([line]))[0][0].log_softmax(-1)
    return sum(logs[place, token] for place, token in enumerate(line[1:]))


def test_the_loss_is_its_definition() -> None:
    one = task(likelihood=0.3)
    batch, position = next(one.batches(None))
    assert len(batch) == 2 and position == {"epoch": 0, "at": 2}
    loss, figures = one.loss(batch)
    expected = slow_loss(one, 0.3)
    torch.testing.assert_close(loss, expected)
    assert figures["tokens"] > 0
    loss.backward()
    found = {name: p.grad.clone() for name, p in one.model.named_parameters()}
    one.model.zero_grad()
    expected.backward()
    for name, parameter in one.model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-6, atol=1e-9)


def test_the_gradient_is_that_of_differences() -> None:
    one = task()
    batch, _ = next(one.batches(None))
    one.loss(batch)[0].backward()
    step = 1e-6
    for name in ("head.weight", "norm.weight", "blocks.0.mixer.query.weight"):
        known = dict(one.model.named_parameters())
        if name not in known:
            continue
        parameter = known[name]
        place = int(parameter.grad.abs().argmax())
        values = parameter.data.view(-1)
        both = []
        for sign in (1, -1):
            values[place] += sign * step
            both.append(float(one.loss(batch)[0].detach()))
            values[place] -= sign * step
        slope = (both[0] - both[1]) / (2 * step)
        assert abs(slope) > 1e-8, name
        assert float(parameter.grad.view(-1)[place]) == pytest.approx(slope, rel=1e-4), name


def test_expected_errors_by_hand() -> None:
    scores = torch.tensor([0.75, 0.25]).log()
    assert float(expected_errors(scores, torch.tensor([0.0, 2.0]))) == pytest.approx(-0.5)


def test_the_best_sentences_are_the_rivals() -> None:
    made = planted(0, {"lm_scale": 0.3, "bias_scale": 1.0}, count=1)[0]
    found = rivals(made, RerankConfig(lm_scale=0.3, memory_scale=0.0, word_bonus=0.0), 4)
    assert found.edits[0] == 0 and len(found.texts) == 4
    assert found.texts[0] == made.texts[int(made.edits.argmin())]


def test_training_mends_errors_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    def run(out: str, steps: int) -> tuple[object, dict[str, float]]:
        one = task(likelihood=0.0)
        config = TrainConfig(steps=steps, lr=3e-3, eval_every=2, save_every=2, warmup=0)
        config = config.replace(min_lr_ratio=1.0, log_every=2)
        result = train(one, config, tmp_path / out, progress=False)
        return one, result.evaluation

    _, first = run("a", 2)
    resumed, last = run("a", 8)
    straight, same = run("b", 8)
    assert last["loss"] < first["loss"]
    assert last["errors"] <= 2 + 1
    assert last == same
    for one, other in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert (tmp_path / "a" / "model.safetensors").is_file()


def test_the_task_refuses_what_teaches_nothing() -> None:
    lm = random_lm()
    with pytest.raises(DataError, match="nothing to learn"):
        MwerTask(lm.reader, lm.tokenizer, SHEETS[2:], WEIGHED)
    with pytest.raises(ConfigError, match="lm_scale = 0"):
        MwerTask(lm.reader, lm.tokenizer, SHEETS, WEIGHED.replace(lm_scale=0.0))
    with pytest.raises(ConfigError, match="likelihood"):
        MwerConfig(likelihood=-1.0)
    with pytest.raises(DataError, match="nothing was heard"):
        collect(Reranker(lm), Example(name="x", lattice=None, reference=("a",)), 5)
