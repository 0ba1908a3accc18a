"""Entry of `make bench`: one benchmark by name, or the list of them.

make bench ARGS=cost        make bench ARGS=recall        make bench ARGS=speed
"""

import importlib
import sys
from pathlib import Path

NAMES = {
    "cost": "time and bytes per decoded token far into a text, memory of training (10 minutes)",
    "recall": "recall beyond the window at equal state bytes (hours)",
    "speed": "decode, prefill and training against Transformers and llama.cpp (20 minutes)",
    "gpu": "training and decoding on a CUDA device (refuses without one)",
    "lattice_bytes": "bytes of lattice messages against Opus and PCM (needs a folder of audio)",
    "transducer": "time and memory of the transducer loss against the plain double loop (a minute)",
    "matvec": "one small matrix by one vector against other runtimes, and an LSTM (two minutes)",
    "asr": "a speech model on all test sets: errors, lattices, time by part (half an hour)",
    "compression": "errors against bytes: bits, zeros, calibrated, trained (ten minutes)",
    "asr_peers": "digits and commands against pocketsphinx, clean and in noise (20 minutes)",
    "recogniser": "the native recogniser: time, memory, first words, two hours (five minutes)",
    "recogniser_peers": "the native recogniser against sherpa-onnx, the same network (minutes)",
    "branching": "a branching encoder: computation against errors with silences (needs banks)",
    "endpointing": "early cuts, latency and time saved over pauses put inside (ten minutes)",
    "personal_words": "names never heard in training, by search and by attention (half an hour)",
    "updates": "bytes of exact updates against bsdiff and zstd (half an hour, fine-tunes included)",
    "updates_words": "new words in an update of 2%, against training all weights (ten minutes)",
    "rerank": "reranking on all test sets, and 100 names said twice (half an hour)",
    "store": "the store of users: commits a second and reading with 1,000 users (five minutes)",
    "solver": "traps, second calls, families of tasks with and without experience (minutes)",
    "serve_load": "50 people speaking to one server, slow clients, a peer (five minutes)",
    "memory_attention": "recalled slots in a trained model, at once and fine-tuned (half an hour)",
    "forgetting": "weights that follow change against fixed decays and ADWIN (ten minutes)",
    "memory_store": "the long-term memory at a million items: inserts, queries, recall (minutes)",
    "long_memory": "memory in the step: bits per byte by part; 1,000 facts (--only; half an hour)",
    "adapt": "learning from what is read, neighbours, examples, merged states (--only; 20 minutes)",
    "probe": "emptied slots, truncated states, learning online (slots, truncate, online)",
    "induction": "zip against PPMd and bzip2, machines against the Python reference (text, speed)",
    "realization": "identify against nfoursid and statsmodels (their interpreter first)",
    "language": "bits per byte at equal parameters and tokens (hours; needs ../shared/data)",
}
ALIASES = {"peers": "speed", "lattice": "lattice_bytes"}


def main() -> int:
    """Run the benchmark named first; the rest of the line is its own."""
    sys.path.insert(0, str(Path(__file__).parent))
    name = sys.argv[1] if len(sys.argv) > 1 else "cost"
    name = ALIASES.get(name, name)
    if name not in NAMES:
        listed = "\n".join(f"  {key:14} {text}" for key, text in NAMES.items())
        print(f"there is no benchmark '{name}'; say make bench ARGS=NAME with one of\n{listed}")
        return 2
    importlib.import_module(name).main(sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
