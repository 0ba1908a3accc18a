"""Train the language model that the memory benchmark asks: books and the articles' training part.

    python benchmarks/wiki_small/train.py SHARED WORK [--minutes M] [--processes N]

The articles (WikiText-2, of which ../shared/data has 1 MB to train on) stand three times in the
corpus; nothing of their development and test parts is in it. A
killed run goes on with the same command. The model is WORK/run.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from solomonic.lm.data import DataConfig
from solomonic.recipes.lm import LmRun, build_task, save_run
from solomonic.train import train

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks are no package
from small_lm import MODEL, training


def articles(text: str) -> Iterator[str]:
    """The articles of a WikiText file: each begins with its title as " = Title = "."""
    starts = [found.start() for found in re.finditer(r"^ = [^=].* = \n", text, re.MULTILINE)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield text[start:end]


def corpus(shared: Path, work: Path) -> Path:
    """Write WORK/train.jsonl once; returns it."""
    target = work / "train.jsonl"
    if target.exists():
        return target
    wiki = list(articles((shared / "text_wikitext2/train.txt").read_text(encoding="utf-8")))
    books = [
        f.read_text(encoding="utf-8")
        for f in sorted((shared / "text_gutenberg/train").glob("*.txt"))
    ]
    pieces = [book[i : i + 40_000] for book in books for i in range(0, len(book), 40_000)]
    work.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as out:
        for text in [*pieces, *wiki, *wiki, *wiki]:
            out.write(json.dumps({"text": text}) + "\n")
    partial.replace(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = training(given.minutes, 16, given.processes)
    run = LmRun(model=MODEL, train=settings, length=256, eval_tokens=30_000)
    data = DataConfig(
        path=str(corpus(given.shared, given.work)),
        valid=str(given.shared / "text_wikitext2/dev.txt"),
    )
    task = build_task(run, data, given.work / "run", progress=False)
    save_run(run, given.work / "run")
    print(train(task, settings, given.work / "run", progress=False))


if __name__ == "__main__":
    main()
