"""Speech recognition against pocketsphinx: digits and commands, clean and in noise.

    make bench ARGS='asr_peers --model DIR'                  about twenty minutes
    make bench ARGS='asr_peers --model DIR --limit 20'       a look
    make bench ARGS='asr_peers --only pocketsphinx'          one contender

pocketsphinx has its own en-us model, the grammar (JSGF) and a dictionary of the grammar's words,
and can say nothing else. solomonic recognises openly; its sentence is accepted if it is one of the
grammar's, word for word, and refused if it is not. Both get the same PCM, dithered, each recording
as one utterance, in a process of its own bound to one processor, in turns whose order alternates.
Times are processor time. Needs ../shared/data, espeak-ng, flite, and pip install pocketsphinx.
"""

import argparse
import collections
import os
import sys
from pathlib import Path
from typing import Any

from asr_peers_sets import COMMANDS, CONDITIONS, DIGITS, FAR, NEAR, Ask, asks
from peers.protocol import ROOT, Worker
from solomonic.evals.report import markdown_table, save_report
from solomonic.evals.wer import interval, percent, score
from solomonic.text.spoken import normalise

WORK = ROOT / "build" / "bench" / "asr_peers"
SHARED = ROOT.parent / "shared" / "data"
RESULTS = Path(__file__).parent / "results"
NAMES = ("solomonic", "pocketsphinx")
GRAMMARS = {"digits": DIGITS, "commands": COMMANDS}


def main(arguments: list[str]) -> None:
    """Ask everything of everyone; tables on the screen, all figures in a result file."""
    parser = argparse.ArgumentParser(description=__doc__, prog="run.py asr_peers")
    parser.add_argument(
        "--model", help="a speech model's folder or device file (default: the shipped one)"
    )
    parser.add_argument("--method", default="beam", choices=("beam", "greedy"))
    parser.add_argument("--limit", type=int, help="recordings of each set")
    parser.add_argument("--only", choices=NAMES, help="one contender alone")
    parser.add_argument("--conditions", nargs="+", default=CONDITIONS, choices=CONDITIONS)
    parser.add_argument("--no-save", action="store_true", help="write no result file")
    options = parser.parse_args(arguments)
    if not SHARED.is_dir():
        sys.exit(f"this benchmark needs the project's recordings, and {SHARED} is not there")
    names = (options.only,) if options.only else NAMES
    questions = asks(SHARED, WORK, options.limit)
    workers = start(names, options)
    try:
        rows = [
            {"set": ask.name, "condition": condition, "inside": ask.inside, **row}
            for ask in questions
            for condition in options.conditions
            for row in answer(ask, condition, workers)
        ]
        memory = {
            name: {kind: worker.ask("memory") for kind, worker in own.items()}
            for name, own in workers.items()
        }
    finally:
        for own in workers.values():
            for worker in own.values():
                worker.close()
    print(tables(rows, memory))
    record = {"model": options.model, "method": options.method, "limit": options.limit,
              "grammars": {**GRAMMARS, "near": NEAR, "far": FAR}, "rows": rows,
              "memory": memory}  # fmt: skip
    if not options.no_save:
        print(save_report(RESULTS, "asr_peers", record))


def start(names: tuple[str, ...], options: argparse.Namespace) -> dict[str, dict[str, Worker]]:
    """Worker processes by contender and grammar; ours needs one for all grammars.

    Processes of one contender are alike, so that memory is that of one grammar.
    """
    cpus = sorted(os.sched_getaffinity(0))[-1:]
    workers: dict[str, dict[str, Worker]] = {}
    for name in names:
        if name == "solomonic":
            model = None if options.model is None else str(Path(options.model).resolve())
            settings = {"open": {"model": model, "method": options.method}}
        else:
            settings = {kind: grammar_files(kind, words) for kind, words in GRAMMARS.items()}
        workers[name] = {}
        for kind, given in settings.items():
            worker = Worker(sys.executable, "speech", WORK / f"{name}.log", threads=1)
            reply = worker.ask("load", contender=name, cpus=cpus, **given)
            if "error" in reply:
                sys.exit(f"{name} cannot be loaded: {reply['error']}")
            workers[name][kind] = worker
    return workers


def grammar_files(kind: str, sentences: tuple[str, ...]) -> dict[str, str]:
    """A JSGF grammar of the sentences, and a dictionary of their words from pocketsphinx's own."""
    from pocketsphinx import get_model_path

    folder = WORK / "grammars"
    folder.mkdir(parents=True, exist_ok=True)
    words = {word for sentence in sentences for word in sentence.split()}
    source = Path(get_model_path("en-us/cmudict-en-us.dict")).read_text("utf-8")
    kept = [line for line in source.splitlines() if line.split("(")[0].split()[0] in words]
    known = {line.split("(")[0].split()[0] for line in kept}
    if words - known:
        sys.exit(f"pocketsphinx's dictionary lacks {', '.join(sorted(words - known))}")
    jsgf, dictionary = folder / f"{kind}.jsgf", folder / f"{kind}.dict"
    options = " | ".join(sentences)
    jsgf.write_text(f"#JSGF V1.0;\ngrammar {kind};\npublic <sentence> = {options} ;\n", "utf-8")
    dictionary.write_text("\n".join(kept) + "\n", "utf-8")
    return {"jsgf": str(jsgf), "dictionary": str(dictionary)}


def answer(ask: Ask, condition: str, workers: dict[str, dict[str, Worker]]) -> list[dict[str, Any]]:
    """What each contender makes of a set in a condition."""
    kind = next(kind for kind, words in GRAMMARS.items() if words == ask.sentences)
    found: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for number, clip in enumerate(ask.clips):
        turn = list(workers) if number % 2 == 0 else list(workers)[::-1]
        for name in turn:
            worker = workers[name].get(kind) or workers[name]["open"]
            if not number:
                worker.ask("decode", file=clip.files[condition])  # what is made once and for all
            reply = worker.ask("decode", file=clip.files[condition])
            if "error" in reply:
                sys.exit(f"{name}, {ask.name}, {condition}: {reply['error']}")
            found[name].append(reply)
    return [{"contender": name, **judge(ask, replies)} for name, replies in found.items()]


def judge(ask: Ask, replies: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts and rates. A refused sentence has the text "": its words count as deleted."""
    texts = [normalise(reply["text"]) for reply in replies]
    accepted = [text if text in ask.sentences else "" for text in texts]
    references = [clip.text for clip in ask.clips]
    speakers = [clip.speaker for clip in ask.clips]
    audio = sum(reply["seconds"] for reply in replies)
    row: dict[str, Any] = {
        "utterances": len(texts),
        "accepted": sum(map(bool, accepted)),
        "real_time_factor": sum(reply["cpu"] for reply in replies) / audio,
        "seconds": audio,
        "texts": [list(pair) for pair in zip(references, texts, strict=True)],
    }
    if ask.inside:
        pairs = list(zip(references, accepted, strict=True))
        row["wrong"] = sum(bool(text) and text != reference for reference, text in pairs)
        row["refused"] = sum(not text for text in accepted)
        for name, heard in (("restricted", accepted), ("open", texts)):
            row[name] = score(references, heard, speakers).to_json()
    return row


def tables(rows: list[dict[str, Any]], memory: dict[str, Any]) -> str:
    """Markdown: errors inside the grammar, acceptance outside, cost."""
    inside = [
        (
            f"{row['set']}, {row['condition']}", row["contender"], *_rates(row),
            str(row["wrong"]), str(row["refused"]), str(row["utterances"]),
        )
        for row in rows if row["inside"]
    ]  # fmt: skip
    outside = [
        (
            f"{row['set']}, {row['condition']}", row["contender"],
            f"{row['accepted']} of {row['utterances']}",
        )
        for row in rows if not row["inside"]
    ]  # fmt: skip
    cost = []
    for name, kinds in memory.items():
        own = [row for row in rows if row["contender"] == name]
        audio = sum(row["seconds"] for row in own)
        factor = sum(row["real_time_factor"] * row["seconds"] for row in own) / audio
        peak = max(reply["peak"] for reply in kinds.values())
        cost.append((name, f"{factor:.3f}", f"{peak / 2**20:.0f}", f"{audio / 60:.1f}"))
    header = (
        "set", "recogniser", "sentences wrong %", "95% interval", "WER %", "open WER %", "wrong",
        "refused", "utterances",
    )  # fmt: skip
    return "\n".join(
        (
            markdown_table(header, inside),
            markdown_table(("outside the grammar", "recogniser", "accepted"), outside),
            markdown_table(
                ("recogniser", "real-time factor", "peak resident MiB", "minutes of audio"), cost
            ),
        )
    )


def _rates(row: dict[str, Any]) -> tuple[str, ...]:
    from solomonic.evals.biasing import Rate

    ser, wer, free = (
        Rate(**row[kind][rate])
        for kind, rate in (("restricted", "ser"), ("restricted", "wer"), ("open", "wer"))
    )
    return percent(ser), interval(ser), percent(wer), percent(free)
