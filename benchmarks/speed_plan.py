"""What the speed benchmark measures: contenders, and cells of contenders that run in turns."""

import dataclasses

LLAMA, MAMBA2 = "llama", "mamba2"
PEERS = ("ours", "torch", "transformers", "llama.cpp")
KINDS = ("decode", "flat", "prefill", "train", "streams", "memory")
TYPES = ("float32", "bfloat16", "int8", "int4")
FAR = 1_000_000


@dataclasses.dataclass(frozen=True)
class Contender:
    """peer: "ours" (native core), "torch" (ours in PyTorch), "transformers", "llama.cpp"; model: a
    pattern letter or the peer's name; weights: their type, in training that of the products; rows:
    streams at once; at: the position, where it is not that of the cell."""

    peer: str
    model: str
    weights: str = "float32"
    rows: int = 1
    at: int | None = None

    @property
    def label(self) -> str:
        name = f"{self.peer}/{self.model}/{self.weights}"
        name += f"/x{self.rows}" if self.rows > 1 else ""
        return name + (f"/@{self.at}" if self.at is not None else "")


@dataclasses.dataclass(frozen=True)
class Cell:
    """Contenders measured in alternating runs. point: position (decode, flat, streams), tokens
    (prefill, memory) or length (train); seconds: a guess of what the whole cell takes."""

    kind: str
    size: str
    threads: int
    point: int
    contenders: tuple[Contender, ...]
    rounds: int
    seconds: int
    batch: int = 1

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.size}/{self.threads}/{self.point}"


def of(peer: str, model: str, *weights: str) -> tuple[Contender, ...]:
    """A model in several weight types."""
    return tuple(Contender(peer, model, kind) for kind in weights or ("float32",))


OURS_ALL = (
    *of("ours", "M", *TYPES), *of("ours", "B", *TYPES),
    *(c for letter in "FDWT" for c in of("ours", letter, "float32", "int8")),
)  # fmt: skip
HF = tuple(
    Contender("transformers", model)
    for model in (LLAMA, "mamba", MAMBA2, "qwen3_next", "falcon_h1")
)
HF_MAIN = (*of("transformers", LLAMA), *of("transformers", MAMBA2))
GGUF_ALL = (*of("llama.cpp", LLAMA, *TYPES), *of("llama.cpp", MAMBA2, *TYPES))
GGUF_MAIN = (
    *of("llama.cpp", LLAMA, "float32", "int8"), *of("llama.cpp", MAMBA2, "float32", "int8"),
)  # fmt: skip
MAIN = (*of("ours", "M", "float32", "int8"), *of("ours", "B", "float32", "int8"))
CONSTANT = (*MAIN, *of("transformers", MAMBA2), *of("llama.cpp", MAMBA2, "float32", "int8"))


def decode_cells() -> list[Cell]:
    """Growing caches go as far as they can be had in seconds: 64 k; at 1 M they are 8 to 16 GB."""
    every = (*OURS_ALL, *of("torch", "M"), *of("torch", "B"), *HF, *GGUF_ALL)
    middle = (*MAIN, *of("ours", "T"), *HF_MAIN, *GGUF_MAIN)
    large = (
        *of("ours", "M", *TYPES), *of("ours", "B", "float32", "bfloat16", "int8"), *HF_MAIN,
        *of("llama.cpp", LLAMA, "float32", "int8"), *of("llama.cpp", MAMBA2, *TYPES),
    )  # fmt: skip
    ends = tuple(
        dataclasses.replace(contender, at=at)
        for contender in (*MAIN, *of("llama.cpp", MAMBA2))
        for at in (512, FAR)
    )
    return [
        Cell("decode", "10M", 1, 512, every, 5, 60),
        Cell("decode", "10M", 1, 4_096, middle, 5, 30),
        Cell("decode", "10M", 1, 16_384, middle, 5, 45),
        Cell("decode", "10M", 1, 65_536, (*MAIN, *HF_MAIN, *GGUF_MAIN), 5, 60),
        Cell("decode", "10M", 1, FAR, CONSTANT, 5, 20),
        Cell("flat", "10M", 1, 512, ends, 7, 30),
        Cell("decode", "10M", 2, 512, (*MAIN, *HF_MAIN, *GGUF_MAIN), 5, 25),
        Cell("decode", "10M", 2, 16_384, (*MAIN, *HF_MAIN, *GGUF_MAIN), 5, 20),
        Cell("decode", "130M", 1, 512, large, 5, 75),
        Cell("decode", "130M", 2, 512, large, 5, 60),
    ]


def prefill_cells() -> list[Cell]:
    """Reading a text: quadratic peers only as far as seconds go."""
    fast = ("float32", "bfloat16")
    every = (
        *of("ours", "M", *fast, "int8"), *of("ours", "B", *fast),
        *(c for letter in "FDWT" for c in of("ours", letter)), *of("torch", "M"), *of("torch", "B"),
        *HF, *of("llama.cpp", MAMBA2, *fast, "int8"), *of("llama.cpp", LLAMA, "float32", "int8"),
    )  # fmt: skip
    gguf = of("llama.cpp", MAMBA2, *fast)
    long = (*of("ours", "M", *fast), *of("ours", "B"), *gguf)
    return [
        Cell("prefill", "10M", 1, 2_048, every, 5, 85),
        Cell("prefill", "10M", 1, 8_192, (*long, *HF_MAIN, *of("llama.cpp", LLAMA, "int8")), 3, 90),
        Cell("prefill", "10M", 1, 65_536, long, 2, 160),
        Cell("prefill", "10M", 2, 2_048, (*long, *HF_MAIN), 5, 30),
        Cell("prefill", "130M", 1, 512, (*long, *of("llama.cpp", MAMBA2, "int8")), 3, 35),
    ]


def train_cells() -> list[Cell]:
    """Training; ours against Transformers, since llama.cpp does not train."""
    both = ("float32", "bfloat16")
    main = (*of("torch", "M", *both), *of("torch", "B", *both))
    peers = (*of("transformers", LLAMA, *both), *of("transformers", MAMBA2, *both))
    saving = (*of("torch", "M+checkpoints", *both), *of("torch", "B+checkpoints", *both))
    long_peers = (*of("transformers", LLAMA, *both), *of("transformers", MAMBA2))
    others = (
        *(c for letter in "FDWT" for c in of("torch", letter)),
        *of("transformers", "qwen3_next"), *of("transformers", "falcon_h1"),
    )  # fmt: skip
    return [
        Cell("train", "10M", 1, 512, (*main, *others, *peers), 3, 170, batch=4),
        Cell("train", "10M", 1, 8_192, (*main, *saving, *long_peers), 2, 300),
    ]


def other_cells() -> list[Cell]:
    """Many streams together, and the memory of a process that reads."""
    alone = (
        *of("ours", "M", "float32", "bfloat16", "int8"), *of("ours", "B", "float32", "int8"),
        *of("llama.cpp", MAMBA2),
    )  # fmt: skip
    large = (*of("ours", "M", "float32", "int8"), *of("ours", "B"))
    many, large_many = (
        tuple(dataclasses.replace(contender, rows=64) for contender in some)
        for some in (alone, large)
    )
    reading = (*of("ours", "M"), *of("ours", "B"), *HF_MAIN, *GGUF_MAIN)
    return [
        Cell("streams", "10M", 1, 512, (*alone, *many), 5, 45),
        Cell("streams", "130M", 1, 64, (*large, *large_many), 3, 40),
        Cell("memory", "10M", 1, 8_192, reading, 1, 60),
    ]


def full_plan() -> list[Cell]:
    """The default set, about twenty minutes."""
    return [*decode_cells(), *prefill_cells(), *train_cells(), *other_cells()]


def quick_plan() -> list[Cell]:
    """A look at everything in under two minutes; figures are worth little."""
    few = (*MAIN, *HF_MAIN, *GGUF_MAIN)
    streams = of("ours", "M")
    return [
        Cell("decode", "10M", 1, 512, few, 2, 12),
        Cell("decode", "10M", 1, 4_096, few, 2, 12),
        Cell("prefill", "10M", 1, 2_048, few, 2, 25),
        Cell("train", "10M", 1, 512, (*of("torch", "M"), *HF_MAIN), 1, 35, batch=4),
        Cell("streams", "10M", 1, 512,
             (*streams, *(dataclasses.replace(c, rows=64) for c in streams)), 2, 8),
    ]  # fmt: skip


def chosen(cells: list[Cell], only: list[str], skip: list[str]) -> list[Cell]:
    """Cells whose name has one of `only` (all if empty) as a piece of it, and none of `skip`.

    Pieces are such as "decode", "130M" or "decode/10M/1/512"; a peer's name chooses, or leaves
    out, its contenders.
    """
    peers = {name for name in skip if name in PEERS}
    wanted_peers = {name for name in only if name in PEERS}
    only, skip = ([name for name in names if name not in PEERS] for names in (only, skip))
    found = []
    for cell in cells:
        if only and not any(matches(cell.name, name) for name in only):
            continue
        if any(matches(cell.name, name) for name in skip):
            continue
        contenders = tuple(
            c
            for c in cell.contenders
            if c.peer not in peers and (not wanted_peers or c.peer in wanted_peers)
        )
        if contenders:
            found.append(dataclasses.replace(cell, contenders=contenders))
    return found


def matches(name: str, wanted: str) -> bool:
    """Whether the parts of `wanted` are consecutive parts of `name`."""
    return f"/{wanted.strip('/')}/" in f"/{name}/"
