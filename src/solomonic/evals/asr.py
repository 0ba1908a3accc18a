"""How good a recogniser is on recordings with texts: errors, lattices, delay, speed, lists.

Recordings go through streams as a user's audio does, in pieces of 100 ms and with end-pointing, so
that one pass gives all figures. A recording of several utterances is scored as one text, and its
lattices are joined end to end.

Figures of time are of the audio (latency) or of the processor (`real_time_factor`): neither depends
on what else the machine does.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.core import Config, ConfigError, SolomonicError, require
from solomonic.evals.asr_report import AsrReport, Decoded, summarise
from solomonic.evals.endpointing import EndpointRecord
from solomonic.speech.audio import RATE
from solomonic.speech.biasing import Biasing
from solomonic.speech.data.manifest import Utterance, read_manifest
from solomonic.speech.events import Event, Final, Partial, SpeculativeEnd
from solomonic.speech.files import audio_blocks
from solomonic.speech.lattice import (
    LatticeMessage,
    chain,
    encode_message,
    limit_for,
    oracle,
)
from solomonic.speech.recognizer import Recognizer
from solomonic.speech.result import Result
from solomonic.text.spoken import normalise

PIECE_SECONDS = 0.1
"""Audio arrives in pieces of this length; no figure but the processor's time depends on it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AsrConfig(Config):
    """What is measured.

    Attributes:
        greedy: decode once more greedily and score that too.
        lattices: oracle error rate, density and bytes of lattices.
        attention: let the model's attention look at the phrases, where it has one.
        endpointing: cut recordings into utterances; False takes each as one, and gives no
            latency.
        tail: seconds of digital silence put behind each recording, for end-pointers to fire in.
        samples: of the bootstrap.
    """

    greedy: bool = False
    lattices: bool = True
    attention: bool = True
    endpointing: bool = True
    tail: float = 0.0
    samples: int = 1000

    def __post_init__(self) -> None:
        require(0 <= self.tail <= 60, f"tail = {self.tail} must lie between 0 and 60 seconds.")
        require(self.samples >= 1, f"samples = {self.samples} must be at least 1.")


Bias = Sequence[str] | Biasing


def evaluate(
    recognizer: Recognizer,
    manifests: str | Path | Sequence[str | Path],
    split: str | None = "test",
    config: AsrConfig | None = None,
    *,
    bias: Bias | None = None,
    limit: int | None = None,
    progress: Callable[[Decoded, int, int], None] | None = None,
) -> AsrReport:
    """Decode and score manifests, each source a set of its own.

    Args:
        split: only its lines; None: all.
        bias: phrases for every recording; a list under "bias" in a recording's line comes first.
        limit: at most so many recordings of a set, spread evenly over it.
        progress: told of each recording, how many are done and how many there are.

    Returns:
        The report; after Ctrl-C, of what was done until then (`interrupted`). Recordings that
        could not be read are listed in `failed`.

    Raises:
        DataError: a manifest or its recordings are missing or malformed (all are listed).
    """
    config = config or AsrConfig()
    utterances = choose(read_manifest(manifests, split), limit)
    run = _Run(recognizer, config, bias)
    decoded: list[Decoded] = []
    failed: list[tuple[str, str]] = []
    interrupted = False
    try:
        for utterance in utterances:
            try:
                decoded.append(run.decode(utterance))
            except ConfigError:
                raise
            except SolomonicError as error:
                failed.append((str(utterance.audio), str(error)))
                continue
            if progress is not None:
                progress(decoded[-1], len(decoded) + len(failed), len(utterances))
    except KeyboardInterrupt:
        if not decoded:
            raise
        interrupted = True
    return summarise(
        decoded,
        failed=failed,
        interrupted=interrupted,
        samples=config.samples,
        total=len(utterances),
    )


def choose(utterances: Sequence[Utterance], limit: int | None) -> list[Utterance]:
    """At most `limit` utterances of each source, spread evenly over it; the same every time.

    Raises:
        ConfigError: the limit is below 1.
    """
    if limit is None:
        return list(utterances)
    if limit < 1:
        raise ConfigError(f"limit = {limit} recordings leaves none; give 1 or more.")
    sets: dict[str, list[int]] = {}
    for index, utterance in enumerate(utterances):
        sets.setdefault(utterance.source, []).append(index)
    kept: list[int] = []
    for rows in sets.values():
        places = np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int)
        kept += [rows[place] for place in places]
    return [utterances[index] for index in sorted(kept)]


class _Run:
    """Decodes recordings, one after the other."""

    def __init__(self, recognizer: Recognizer, config: AsrConfig, bias: Bias | None) -> None:
        self.recognizer, self.config = recognizer, config
        if bias is not None and not isinstance(bias, Biasing):
            bias = Biasing(bias, pieces=recognizer.model.pieces)
        self.bias = bias
        self.greedy: Recognizer | None = None
        if config.greedy:
            decode = recognizer.decoder.config.replace(method="greedy")
            self.greedy = Recognizer(
                recognizer.model, decode, recognizer.endpoint, recognizer.voice.config
            )

    def decode(self, utterance: Utterance) -> Decoded:
        """One recording through a stream, and what is measured on it."""
        own = utterance.extra.get("bias")
        bias: Bias | None = own if isinstance(own, list) else self.bias
        pieces = list(_pieces(utterance.audio, self.config.tail))
        started = time.process_time()
        events, result = self._stream(self.recognizer, pieces, bias)
        seconds = time.process_time() - started
        reference = utterance.text or ""
        found = Decoded(
            audio=str(utterance.audio),
            source=utterance.source,
            speaker=utterance.speaker,
            duration=sum(len(samples) / rate for rate, samples in pieces),
            reference=reference,
            hypothesis=result.text,
            confidence=result.confidence,
            seconds=seconds,
            phrases=_phrases(bias),
        )
        if self.greedy is not None:
            _, other = self._stream(self.greedy, pieces, bias)
            found = dataclasses.replace(found, greedy=other.text)
        if self.config.lattices:
            found = _with_lattice(found, result)
        if self.config.endpointing:
            found = _with_times(found, utterance, events)
        return found

    def _stream(
        self, recognizer: Recognizer, pieces: list[tuple[int, np.ndarray]], bias: Bias | None
    ) -> tuple[list[Event], Result]:
        stream = recognizer.create_stream(
            bias, attention=self.config.attention, endpointing=self.config.endpointing
        )
        events: list[Event] = []
        for rate, samples in pieces:
            stream.accept_waveform(rate, samples)
            events += stream.events()
        stream.input_finished()
        events += stream.events()
        return events, stream.result()


def _pieces(path: Path, tail: float) -> list[tuple[int, np.ndarray]]:
    """The recording in pieces, and silence behind it."""
    pieces = list(audio_blocks(path, PIECE_SECONDS))
    rate = pieces[0][0] if pieces else RATE
    count = round(tail / PIECE_SECONDS)
    return pieces + [(rate, np.zeros(round(rate * PIECE_SECONDS), np.float32))] * count


def _phrases(bias: Bias | None) -> tuple[str, ...] | None:
    """The listed phrases as they are scored; None: nothing was listed."""
    if bias is None:
        return None
    if isinstance(bias, Biasing):
        entries = [*bias.phrases, *(e for c in bias.catalogues.values() for e in c.entries)]
        return tuple(entry.text for entry in entries)
    return tuple(normalise(str(phrase)) for phrase in bias)


def _with_lattice(found: Decoded, result: Result) -> Decoded:
    """Oracle edits, arcs, and bytes of the messages that the recording would be sent as."""
    parts = [part for part in result.utterances or (result,) if part.lattice is not None]
    reference = normalise(found.reference).split()
    lattices = [part.lattice for part in parts if part.lattice is not None]
    if not lattices:
        return dataclasses.replace(found, oracle_edits=len(reference), arcs=0, message_bytes=0)
    whole = chain(lattices)
    size = 0
    for number, part in enumerate(parts):
        length = max(part.end - part.start, 0.0)
        message = LatticeMessage(lattice=part.lattice, utterance=number, duration=length)
        size += len(encode_message(message, limit_for(length)))
    return dataclasses.replace(
        found,
        oracle_edits=oracle(whole, reference)[0],
        arcs=int(np.count_nonzero(whole.labels)),
        message_bytes=size,
    )


def _with_times(found: Decoded, utterance: Utterance, events: Sequence[Event]) -> Decoded:
    """Latencies, where the manifest says when speech begins and ends."""
    end, start = utterance.extra.get("speech_end"), utterance.extra.get("speech_start")
    if not isinstance(end, int | float):
        return found
    final = next((e for e in events if isinstance(e, Final) and e.result.text), None)
    spoken = next((e for e in events if isinstance(e, Partial) and e.text), None)
    if final is None:
        record = EndpointRecord(utterance=found.audio, true_end=end, duration=found.duration)
        return dataclasses.replace(found, endpoint=record)
    fired = final.reason != "input finished"
    record = EndpointRecord(
        utterance=found.audio,
        true_end=float(end),
        duration=found.duration,
        speculative_times=tuple(
            e.time
            for e in events
            if isinstance(e, SpeculativeEnd) and e.utterance == final.utterance
        ),
        final_time=final.time if fired else None,
        commit=final.commit,
        reason=final.reason,
        words_cut=_words_cut(utterance, final.time) if fired else 0,
        text=final.result.text,
    )
    first = None
    if spoken is not None and isinstance(start, int | float):
        first = spoken.time - start
    last = final.result.words[-1].end - end if final.result.words else None
    return dataclasses.replace(found, endpoint=record, first_word=first, last_word=last)


def _words_cut(utterance: Utterance, final: float) -> int:
    """Words not over at the final, by "word_ends" in the line; without, 1 if speech was not."""
    ends: Any = utterance.extra.get("word_ends")
    if isinstance(ends, list):
        return sum(end > final for end in ends)
    return int(utterance.extra["speech_end"] > final)
