"""Text formats: what we write comes back, what others write is read or refused by its line."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lattice_support import PIECES, best_by_text, command_lattice, random_lattice
from solomonic.core import DataError, StorageError
from solomonic.speech.lattice import (
    Arc,
    Lattice,
    best_path,
    build_lattice,
    from_kaldi,
    from_openfst,
    from_slf,
    load_openfst,
    n_best,
    save_openfst,
    symbol_table,
    symbols_from_text,
    symbols_to_text,
    to_kaldi,
    to_openfst,
    to_slf,
)

SEEDS = range(15)


def samples(seed: int) -> list[Lattice]:
    """Words, pieces, and words with spans; scores of any digits."""
    found = []
    for lattice in (random_lattice(seed), random_lattice(seed, symbols=PIECES)):
        noise = np.random.default_rng(seed).normal(0, 1, lattice.arcs)
        found.append(replace(lattice, acoustic=lattice.acoustic + noise))
    return [*found, command_lattice(seed)]


def no_spans(lattice: Lattice) -> Lattice:
    return replace(lattice, spans=None)


@pytest.mark.parametrize("seed", SEEDS)
def test_openfst_comes_back(seed: int, tmp_path: Path) -> None:
    for lattice in samples(seed):
        texts = to_openfst(lattice)
        found = from_openfst(texts.acoustic, texts.symbols, bias=texts.bias, times=texts.times)
        assert found == lattice
        save_openfst(lattice, tmp_path / "a.b")
        assert load_openfst(tmp_path / "a.b") == lattice
        alone = from_openfst(texts.total, texts.symbols)
        assert best_path(alone).text == best_path(lattice).text
        np.testing.assert_allclose(best_path(alone).score, best_path(lattice).score, rtol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_kaldi_comes_back(seed: int) -> None:
    lattices = {f"utt-{index}": lattice for index, lattice in enumerate(samples(seed))}
    table = symbol_table(lattices.values())
    words = symbols_from_text(symbols_to_text(table))
    named = "".join(to_kaldi(lattice, key) for key, lattice in lattices.items())
    ids = "".join(to_kaldi(lattice, key, ids=table) for key, lattice in lattices.items())
    expected = {key: no_spans(lattice) for key, lattice in lattices.items()}
    assert from_kaldi(named) == expected
    assert from_kaldi(ids, words=words) == expected
    plain = "".join(to_kaldi(one, key, ids=table, compact=False) for key, one in lattices.items())
    for key, lattice in from_kaldi(plain, words=words).items():
        assert best_by_text(lattice) == best_by_text(expected[key]) if key != "utt-2" else True
        assert best_path(lattice).text == best_path(lattices[key]).text


@pytest.mark.parametrize("seed", SEEDS)
def test_slf_comes_back_with_its_spans(seed: int) -> None:
    for lattice in samples(seed):
        assert from_slf(to_slf(lattice, "utterance 1")) == lattice


def test_words_that_need_quotes_in_slf() -> None:
    words = ("don't", 'say "so"', "back\\slash", "a b", "été", "a=b", ",", ":", "#", "1")
    arcs = [Arc(0, 1, word, -index) for index, word in enumerate(words)]
    lattice = build_lattice([0, 9], arcs, 1, frame_seconds=0.06)
    assert from_slf(to_slf(lattice)) == lattice


@pytest.mark.parametrize("symbol", ["a b", "<eps>", "a\n", "\u2028"])
def test_symbols_that_a_format_has_no_place_for(symbol: str) -> None:
    lattice = build_lattice([0, 9], [Arc(0, 1, symbol, 0.0)], 1, frame_seconds=0.06)
    with pytest.raises(DataError, match="rename it"):
        to_openfst(lattice)
    with pytest.raises(DataError, match="rename it"):
        to_kaldi(lattice, "key")
    if symbol == "a\n":
        with pytest.raises(DataError, match="rename it"):
            to_slf(lattice)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        save_openfst(random_lattice(0), tmp_path / "none" / "a")
    with pytest.raises(DataError, match="cannot read"):
        load_openfst(tmp_path / "none")


def test_openfst_of_others() -> None:
    # Two labels, a missing weight, an arc that does not exist, two ends, one with a weight.
    text = "\n4 0 1 1 0.5\n\n4 1 2 2\n4 1 3 3 Infinity\n 0\t1\t2\t2\t1.5\n0 2.5\n1\n"
    symbols = "<epsilon> 0\non 1\noff 2\nup 3\n"
    lattice = from_openfst(text, symbols)
    assert best_by_text(lattice) == {"on": -3.0, "off": 0.0, "on off": -2.0}
    assert lattice.frames.tolist() == [0, 1, 2, 3]
    acceptor = from_openfst("0 1 1 5\n1 2 2\n2", symbols, acceptor=True)
    assert best_by_text(acceptor) == {"on off": -5.0}
    names = from_openfst("0 1 <eps> on\n1 2 <eps> off 0.25\n2")
    assert best_by_text(names) == {"on off": -0.25}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1 1 0.5\n0 x 1 0.5\n1\n", "line 2: a state must be a whole number, not 'x'"),
        ("0 1 1 0.5\n\n1 nan\n", "line 3: the weight must be a number, not 'nan'"),
        ("0 1 1 -inf\n1\n", "line 1: the weight must be"),
        ("0 1 1 0.5 3 4\n1", "line 1: an arc has 3 or 4 columns, not 6"),
        ("0 1 1 0.5\n", "no final state; is the file cut short"),
        ("", "no final state"),
        ("0 1 1\n1 0 1\n1\n", "no cycles"),
        ("0 1 7\n1\n", "label '7' is not in the symbol table"),
        ("0 1 1 Infinity\n1\n", "no path"),
    ],
)
def test_openfst_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_openfst(text, "<eps> 0\non 1\n")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"bias": "0 1 on 1\n0 1 on 2\n1\n"}, "have other arcs"),
        ({"times": "node 0 0\n"}, "no line for node 1"),
        ({"times": "node 0 0\nnode 1 3\narc 4 0 1"}, "times text, line 3: arc 4 does not exist"),
        ({"times": "note 0 0\n"}, "times text, line 1: frame_seconds, node or arc"),
        ({"times": "node 0 9\nnode 1 3\n"}, "back in time"),
        ({"symbols": "on 1\noff 1\n"}, "symbols text, line 2: id 1 is there twice"),
        ({"symbols": "on\n"}, "symbols text, line 1"),
    ],
)
def test_openfst_side_files_that_are_wrong(texts: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_openfst("0 1 on 0.5\n1\n", **({"symbols": "<eps> 0\non 1\n"} | texts))  # type: ignore[arg-type]


def test_kaldi_of_others() -> None:
    text = (
        "\nutt-a \n0 1 7 1.5,2.25,3_3_4\n0 2 8 1,2,3_3\n1 3 0\n2 1 9 0,0.5,4\n3 0.25,0,5_5\n\n\n"
        "utt-b\n0 1 3 8 0.5,1\n1 2 0 7 1,1\n2 3 4 0\n3\n"
    )
    words = {7: "seven", 8: "eight", 9: "nine"}
    found = from_kaldi(text, words=words, frame_seconds=0.01)
    assert list(found) == ["utt-a", "utt-b"]
    first, second = found.values()
    assert best_by_text(first) == {"seven": -4.0, "eight nine": -3.75}
    assert first.frames.tolist() == [0, 2, 3, 3, 5] and first.frame_seconds == 0.01
    assert best_by_text(second) == {"eight seven": -3.5}
    assert second.frames.tolist() == [0, 1, 1, 2]
    assert best_path(first).bias == -1.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no lattice in it"),
        ("0 1 7 0,0,\n1\n", "line 1: the key of an utterance"),
        ("a\n0 1 7 0,0,\n1\n\na\n0 1 7 0,0,\n1\n", "line 5: the key 'a' is there twice"),
        ("a\n0 1 7 0,x,\n1\n", "line 2: the weight must be a number, not 'x'"),
        ("a\n0 1 7 7 0\n1\n", "line 2: a weight is 'graph,acoustic', not '0'"),
        ("a\n0 1 6 0,0,\n1\n", "line 2: word id 6 is not in the table"),
        ("a\n0 1 seven 0,0,\n1\n", "line 2: a word id must be a whole number"),
        ("a\n0 1 7 7 0,0 9\n1\n", "line 2: an arc has 3 to 5 columns"),
        ("a\n0 1 7 0,0,\n", "no final state"),
        ("a\n0 1 7 0,0,\n1 0 7\n1\n", "no cycles"),
    ],
)
def test_kaldi_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_kaldi(text, words={7: "seven"})


def test_kaldi_writing_that_is_wrong() -> None:
    with pytest.raises(DataError, match="key is one word"):
        to_kaldi(random_lattice(0), "two words")
    with pytest.raises(DataError, match="lacks 'turn'"):
        to_kaldi(command_lattice(0), "key", ids={"": 0})


def test_slf_of_others() -> None:
    # HTK: words on nodes, other bases and scales, long names, no header but the numbers.
    text = (
        'VERSION=1.0\nUTTERANCE=x lmname="a b"\nlmscale=2.0  wdpenalty=-0.5\nbase=10\n'
        "NODES=4 LINKS=4\n# nodes\nI=0 t=0.00 W=!NULL\nI=1 time=0.30 WORD=on v=1\n"
        "I=2 t=0.36 W=off\nI=3 t=0.60 W=</s>\n\nJ=0 START=0 END=1 a=-1 l=-2\n"
        "J=1 S=0 E=2 a=-3\nJ=2 S=1 E=3 acoustic=-1\nJ=3 S=2 E=3 a=-0.5 r=0.1\n"
    )
    lattice = from_slf(text)
    ten = np.log(10.0)
    assert best_by_text(lattice) == pytest.approx({"on": -6 * ten - 0.5, "off": -3.5 * ten - 0.5})
    assert lattice.frames.tolist() == [0, 5, 6, 10]
    assert best_path(lattice).acoustic == pytest.approx(-3.5 * ten, rel=1e-6)
    # A word on the first node, no times, no numbers, another start, probabilities.
    text = "base=0\nI=5 W=stop\nI=3 W=go\nJ=0 S=3 E=5 a=0.25\n"
    assert best_by_text(from_slf(text)) == pytest.approx({"go stop": np.log(0.25)})
    assert from_slf(text).frames.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N=2 L=1\nI=0\nI=1\n", "L=1 is announced and 0 were read"),
        ("I=0\nI=0\n", "line 2: node 0 is there twice"),
        ("I=0\nI=1\nJ=0 S=0 E=2 W=a\n", "line 3: there is no node 2"),
        ("I=0\nI=1\nJ=0 S=0 W=a\n", "line 3: the link has no E="),
        ("I=0\nI=1\nJ=0 S=0 E=1 W=a a=x\n", "line 3: the weight must be a number"),
        ("I=0\nwhat is this\n", "line 2: name=value is expected at 'what is this'"),
        ("I=0 t=-1\n", "line 1: a time must be 0 s or more"),
        ("start=4\nI=0\nI=1\nJ=0 S=0 E=1 W=a\n", "start=4 is no node"),
        ("I=0\nI=1\nI=2\nJ=0 S=0 E=2 W=a\nJ=1 S=1 E=2 W=a\n", "2 nodes could be the start"),
        ("I=0 t=1\nI=1 t=0\nJ=0 S=0 E=1 W=a\n", "back in time"),
        ("base=-1\nI=0\nI=1\nJ=0 S=0 E=1 W=a a=1\n", "no logarithm to base -1"),
        ("I=0\nI=1\nJ=0 S=0 E=1 W=a\nJ=1 S=1 E=0 W=a\nstart=0 end=1", "no cycles"),
        ("", "0 nodes could be the start"),
    ],
)
def test_slf_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_slf(text)


@pytest.mark.parametrize("read", [from_openfst, from_kaldi, from_slf])
def test_anything_is_read_or_refused(read: object) -> None:
    """Damaged files: lines cut, swapped, repeated, characters changed."""
    rng = np.random.default_rng(0)
    sources = {
        from_openfst: to_openfst(command_lattice(0)).total,
        from_kaldi: to_kaldi(command_lattice(0), "key"),
        from_slf: to_slf(command_lattice(0)),
    }
    source = sources[read]  # type: ignore[index]
    refused = 0
    for _ in range(300):
        text = list(source)
        for _ in range(int(rng.integers(1, 6))):
            at = int(rng.integers(len(text)))
            text[at] = "0123456789 \n-.=,_xi\x00\u0663"[int(rng.integers(21))]
        text = text[: int(rng.integers(len(text)))] if rng.random() < 0.2 else text
        try:
            read("".join(text))  # type: ignore[operator]
        except DataError:
            refused += 1
    assert 50 < refused < 300


needs_openfst = pytest.mark.skipif(
    not shutil.which("fstcompile") or not shutil.which("fstshortestpath"),
    reason="OpenFst's programs are not installed (Debian: libfst-tools)",
)


def run(folder: Path, *commands: str) -> str:
    """Standard output of programs piped into each other."""
    line = "set -o pipefail; " + " | ".join(commands)
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_openfst
@pytest.mark.parametrize("seed", [0, 1])
def test_openfst_finds_our_best_paths(seed: int, tmp_path: Path) -> None:
    for lattice in samples(seed):
        save_openfst(lattice, tmp_path / "x")
        symbols = "--isymbols=x.syms --acceptor"
        compiled = f"fstcompile {symbols} x.fst.txt"
        # Text goes out of OpenFst with 6 digits.
        best = from_openfst(
            run(tmp_path, compiled, "fstshortestpath", "fsttopsort", f"fstprint {symbols}"),
            acceptor=True,
        )
        assert best_path(best).text == best_path(lattice).text
        assert best_path(best).score == pytest.approx(best_path(lattice).score, rel=1e-4)
        if lattice.is_pieces:  # whose texts have several spellings
            continue
        more = "fstshortestpath --nshortest=3 --unique"
        paths = run(tmp_path, compiled, "fstrmepsilon", more, "fsttopsort", f"fstprint {symbols}")
        found = from_openfst(paths, acceptor=True)
        assert [path.text for path in n_best(found, 5)] == [p.text for p in n_best(lattice, 3)]
        # There and back with all arcs, by names and by ids.
        for flags in (symbols, "--acceptor"):
            back = from_openfst(
                run(tmp_path, compiled, f"fstprint {flags}"),
                (tmp_path / "x.syms").read_text(),
                acceptor=True,
            )
            assert (back.nodes, back.arcs) == (lattice.nodes, lattice.arcs)


def test_kaldifst_agrees_on_our_lattices() -> None:
    """kaldifst reads no text lattices: its own is filled from our lines, and its text read back."""
    kaldifst = pytest.importorskip("kaldifst")
    for lattice in samples(0):
        table = symbol_table([lattice])
        text = to_kaldi(lattice, "key", ids=table, compact=False)
        theirs = kaldifst.Lattice()
        for _ in range(lattice.nodes):
            theirs.add_state()
        theirs.start = 0
        for line in text.splitlines()[1:-2]:
            source, target, *labels, weight = line.split()
            weights = kaldifst.LatticeWeight(*(float(value) for value in weight.split(",")))
            arc = kaldifst.LatticeArc(int(labels[0]), int(labels[1]), weights, int(target))
            theirs.add_arc(int(source), arc)
        theirs.set_final(lattice.nodes - 1, kaldifst.LatticeWeight(0.0, 0.0))
        (best,) = kaldifst.lattice_to_nbest(theirs, n=1)
        done, _, words, weight = kaldifst.get_linear_symbol_sequence(best)
        expected = best_path(lattice)
        assert done and [w for w in words if w] == [
            w for w in lattice.labels[list(expected.arcs)].tolist() if w
        ]
        assert weight.value1 == pytest.approx(-expected.bias, abs=1e-4)
        assert weight.value2 == pytest.approx(-expected.acoustic, rel=1e-4)
        names = {index: symbol for symbol, index in table.items()}
        back = from_kaldi("key\n" + theirs.to_str(show_weight_one=True), words=names)["key"]
        assert [path.text for path in n_best(back, 3)] == [p.text for p in n_best(lattice, 3)]


def test_pocketsphinx_lattices_are_read(tmp_path: Path) -> None:
    pocketsphinx = pytest.importorskip("pocketsphinx")
    decoder = pocketsphinx.Decoder(loglevel="FATAL", samprate=16000)
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 3000, 16000) * np.sin(np.arange(16000) / 1500) ** 2
    decoder.start_utt()
    decoder.process_raw(audio.astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    dag = decoder.get_lattice()
    if dag is None:
        pytest.skip("pocketsphinx found no lattice in this noise")
    path = tmp_path / "ps.slf"
    dag.write_htk(str(path))
    lattice = from_slf(path.read_text(encoding="utf-8"), frame_seconds=0.01)
    assert lattice.arcs > 1 and lattice.seconds <= 1.1
