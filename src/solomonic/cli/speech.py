"""What the commands for speech share: options, the recogniser, personal words, raw audio."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console
from solomonic.core import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from solomonic.speech.biasing import Biasing
    from solomonic.speech.native_recognizer import NativeRecognizer, PersonalWords
    from solomonic.speech.recognizer import Recognizer

Model = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of a speech model (default: our own).")
]
AnyModel = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR|FILE", help="Folder of a speech model, or a device file (default: our own)."
    ),
]
BiasFile = Annotated[
    Path | None, typer.Option("--bias", metavar="FILE", help="Personal words, a phrase a line.")
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="NAME=FILE", help="Entries of a class; may be repeated."),
]
Carriers = Annotated[
    list[str] | None,
    typer.Option(
        "--carrier", metavar="TEXT", help="Opens a class, as 'call @NAME'; may be repeated."
    ),
]
Greedy = Annotated[bool, typer.Option("--greedy", help="One hypothesis instead of a beam.")]
Beam = Annotated[int | None, typer.Option(help="Hypotheses kept in the search.")]
NoEndpoint = Annotated[
    bool, typer.Option("--no-endpoint", help="Take each recording as one utterance.")
]
NoAttention = Annotated[
    bool, typer.Option("--no-attention", help="Personal words by the search alone.")
]
Encoding = Annotated[str, typer.Option(help="Of raw audio on standard input: s16le or f32le.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="Name the model, device and kernels on stderr.")
]

_PIPE = "pipe raw audio into it, as in `sox a.wav -t s16 -r 16000 -c 1 - | solomonic transcribe -`"
_MARKS = {
    b"RIFF": "WAV", b"RF64": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"FORM": "AIFF", b"ID3": "MP3",
}  # fmt: skip
"""How files of audio begin."""
_LONGEST_MARK = max(map(len, _MARKS))


def open_recognizer(
    model: Path | None,
    device: str = "auto",
    *,
    greedy: bool = False,
    beam: int | None = None,
    nbest: int | None = None,
) -> Recognizer:
    """The recogniser that the options describe; None: the model of the package.

    Raises:
        ConfigError: options that exclude each other or are out of range.
        CheckpointError: there is no such model, or it is damaged.
    """
    _check_installed()
    from solomonic.speech.decode import DecodeConfig
    from solomonic.speech.places import SHIPPED
    from solomonic.speech.pretrained import load_speech_model
    from solomonic.speech.recognizer import Recognizer

    if model is not None and model.is_file():
        raise ConfigError(
            f"{model} is a file, and this command needs the folder of a model; `transcribe` and "
            "`listen` take device files."
        )
    _check_search(greedy, beam, nbest)
    given = console.given(beam=beam, nbest=nbest, method="greedy" if greedy else None)
    loaded = load_speech_model(model or SHIPPED, console.choose_device(device))
    return Recognizer(loaded, (loaded.decode or DecodeConfig()).replace(**given))


def open_any(
    model: Path | None,
    device: str = "auto",
    *,
    greedy: bool = False,
    beam: int | None = None,
    nbest: int | None = None,
) -> Recognizer | NativeRecognizer:
    """The same, where a device file is run by the native core, and by nothing else.

    The model of the package, which is a device file, runs on PyTorch too: where there is no native
    core, or where another device than the processor is asked for.

    Raises:
        ConfigError: as `open_recognizer`; or there is no native core here, or another device than
            the processor is asked for.
        CheckpointError: as `open_recognizer`.
    """
    _check_installed()
    from solomonic.kernels import native
    from solomonic.speech.places import SHIPPED, device_file_of

    file = device_file_of(model or SHIPPED)
    elsewhere = device not in ("auto", "cpu")
    if file is None or (model is None and (elsewhere or native.why_not())):
        return open_recognizer(model, device, greedy=greedy, beam=beam, nbest=nbest)
    from solomonic.speech.native_recognizer import NativeRecognizer

    _check_search(greedy, beam, nbest)
    if elsewhere:
        raise ConfigError(
            f"a device file runs on the processor, not on --device {device}; leave it out, or give "
            "the folder of a model."
        )
    recognizer = NativeRecognizer(file)
    given = console.given(beam=beam, nbest=nbest, greedy=1 if greedy else None)
    recognizer.set(**{f"decode.{name}": value for name, value in given.items()})
    return recognizer


def _check_search(greedy: bool, beam: int | None, nbest: int | None) -> None:
    if greedy and beam is not None:
        raise ConfigError("--greedy keeps one hypothesis, so --beam has no meaning; leave one out.")
    for name, value in console.given(beam=beam, nbest=nbest).items():
        if value < 1:
            raise ConfigError(f"{name} = {value} must be at least 1.")


def _check_installed() -> None:
    """What `solomonic[speech]` brings is here; else one sentence instead of a fault of ours."""
    for name in ("kaldi_native_fbank", "sentencepiece", "soundfile", "soxr"):
        try:
            import_module(name)
        except (ImportError, OSError) as error:  # OSError: libsndfile is missing
            raise ConfigError(
                f"speech needs {name}, which cannot be loaded ({error}); install it with "
                "`pip install 'solomonic[speech]'`."
            ) from error


def personal(
    recognizer: Recognizer,
    bias: Path | None,
    classes: list[str] | None,
    carriers: list[str] | None,
) -> Biasing | None:
    """Personal words from files; None where no option names any.

    Raises:
        DataError: a file cannot be read or a phrase cannot be used.
        ConfigError: a --class without '=', or classes and carriers that do not fit.
    """
    named = _entries(classes)
    if bias is None and not named and not carriers:
        return None
    from solomonic.speech.biasing import Biasing

    phrases = () if bias is None else bias
    return Biasing(phrases, named, carriers or (), pieces=recognizer.model.pieces)


def personal_native(
    bias: Path | None, classes: list[str] | None, carriers: list[str] | None
) -> PersonalWords | None:
    """The same for the native recogniser, which compiles them when a stream is made.

    Raises:
        DataError: a file cannot be read.
        ConfigError: a --class without '='.
    """
    named = _entries(classes)
    if bias is None and not named and not carriers:
        return None
    from solomonic.speech.biasing import read_phrases
    from solomonic.speech.native_recognizer import PersonalWords

    phrases = () if bias is None else read_phrases(bias)
    return PersonalWords(phrases=phrases, classes=named, carriers=carriers or ())


def _entries(classes: list[str] | None) -> dict[str, Any]:
    """The entries of each class from its file."""
    from solomonic.speech.biasing import read_phrases

    named: dict[str, Any] = {}
    for pair in classes or []:
        name, equals, file = pair.partition("=")
        name = name.strip().removeprefix("@")
        if not equals or not name or not file:
            raise ConfigError(f"--class {pair!r} names no file; write it as in contact=names.txt.")
        if name in named:
            raise ConfigError(f"--class {name} is given twice; put all entries into one file.")
        named[name] = read_phrases(file)
    return named


def prepared(
    recognizer: Recognizer | NativeRecognizer,
    model: Path | None,
    bias: Path | None,
    classes: list[str] | None,
    carriers: list[str] | None,
    attention: bool = True,
) -> tuple[Any, dict[str, Any]]:
    """Personal words as this recogniser takes them (None: there are none), and what runs.

    Args:
        attention: whether the model's attention will look at them, where it has one.

    Raises:
        DataError, ConfigError: as `personal`.
    """
    from solomonic.speech.native_recognizer import NativeRecognizer

    if isinstance(recognizer, NativeRecognizer):
        words: Any = personal_native(bias, classes, carriers)
        engine = about_native(recognizer, model)
        attends = bool(recognizer.describe()["attention"])
        listed = words is not None and any((words.phrases, *words.classes.values()))
    else:
        words, engine = personal(recognizer, bias, classes, carriers), about(recognizer, model)
        net = recognizer.model.transducer
        attends = net.pointer is not None or net.context is not None
        listed = words is not None and bool(words.tokens)
    if listed:
        engine["personal_words"] = "search and attention" if attends and attention else "search"
    return words, engine


def about_native(recognizer: NativeRecognizer, model: Path | None) -> dict[str, Any]:
    """`about` of a device file."""
    found = recognizer.describe()
    settings, kernels = found["settings"], found["kernels"]
    greedy = settings["decode.greedy"]
    return {
        "model": name_of(model),
        "parameters": found["parameters"],
        "weights": "packed",
        "device": "cpu",
        "search": "greedy" if greedy else f"beam of {settings['decode.beam']}",
        "end_pointer": found["end_pointer"],
        "runtime": f"native core, {kernels}",
        "kernels": [f"features, networks, search and end-pointers: the native core ({kernels})"],
    }


def name_of(model: Path | None) -> str:
    """What a model is called in reports; None: that of the package."""
    return "english-small (of the package)" if model is None else str(model)


def about(recognizer: Recognizer, model: Path | None) -> dict[str, Any]:
    """What runs: the model, its size and weights, the device, the search and the kernels."""
    net = recognizer.model
    decode = recognizer.decoder.config
    return {
        "model": name_of(model),
        "parameters": net.parameters,
        "weights": net.weights,
        "device": str(net.transducer.joint.bias.device),
        "search": "greedy" if decode.method == "greedy" else f"beam of {decode.beam}",
        "end_pointer": "rules" if net.end is None else "model and rules",
        "runtime": "python",
        "kernels": kernel_paths(recognizer),
    }


def kernel_paths(recognizer: Recognizer) -> list[str]:
    """One sentence for each op that the encoder runs on one step of audio; found by running it."""
    import torch

    from solomonic import kernels

    net = recognizer.model.transducer
    device = net.joint.bias.device
    step = torch.zeros(1, net.config.frames_per_step, net.config.bins, device=device)
    with torch.inference_mode(), kernels.watch() as seen:
        net.acoustic(net.hidden(step, net.init_state(1))[0])
    return seen


def tell(engine: dict[str, Any]) -> None:
    """`about` for eyes, on standard error."""
    console.say(
        f"{engine['model']}: {engine['parameters']:,} parameters, {engine['weights']} weights, on "
        f"{engine['device']}; {engine['search']}; end-pointing by {engine['end_pointer']}"
        + (f"; personal words by {words}" if (words := engine.get("personal_words")) else "")
    )
    for sentence in engine["kernels"]:
        console.say(f"  {sentence}")


def raw_input(encoding: str) -> Iterator[np.ndarray]:
    """Samples (n,) float32 of the raw audio on standard input, as they come.

    Raises:
        ConfigError: an unknown encoding, or standard input is a keyboard.
        DataError: there is nothing, a file with a header instead of raw samples, or a sample that
            is not finite.
    """
    from solomonic.speech.audio import PcmDecoder

    decoder = PcmDecoder(encoding)
    source = sys.stdin.buffer
    if source.isatty():
        raise ConfigError(f"standard input is the keyboard; {_PIPE}.")
    read = getattr(source, "read1", source.read)  # what is there, not until the buffer is full
    start = b""  # of the input, until it is known to be no file
    started = False
    while data := read(1 << 16):
        if not started:
            data = start = start + data
            if len(start) < _LONGEST_MARK:
                continue
            _refuse_file(start)
            started = True
        samples = decoder.accept(data)
        if len(samples):
            yield samples
    if not start:
        raise DataError(f"standard input is empty; {_PIPE}.")
    if not started:
        yield decoder.accept(start)


def _refuse_file(start: bytes) -> None:
    """Refuse a file with a header, which would be heard as noise at the wrong rate."""
    for mark, kind in _MARKS.items():
        if start.startswith(mark):
            raise DataError(
                f"standard input is a {kind} file, and raw samples are read there; give the path "
                f"of the file instead, or {_PIPE}."
            )
