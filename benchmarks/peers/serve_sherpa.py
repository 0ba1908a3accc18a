"""A streaming server over sherpa-onnx's OnlineRecognizer, for `serve_load`.

    PYTHON serve_sherpa.py FOLDER KIND FRAMES PORT

It is built as sherpa-onnx's own python-api-examples/streaming_server.py is: streams with enough
audio wait in a queue, and decoder tasks take up to `BATCH` of them into one `decode_streams` on a
pool of threads. Messages are Vosk's, so that one client measures both servers: binary 16-bit audio
at 16 kHz, one reply each; {"eof" : 1} at the end.
"""

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import sherpa_onnx
import websockets

BATCH = 64
WAIT_SECONDS = 0.005
"""How long a batch may wait to fill; the example's 10 ms, halved."""


class Server:
    """Streams, and the queue of those with audio."""

    def __init__(self, recognizer: Any) -> None:
        self.recognizer = recognizer
        self.pool = ThreadPoolExecutor(1)
        self.queue: asyncio.Queue = asyncio.Queue()

    async def decode(self) -> None:
        """Take batches for ever."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self.queue.get()]
            if self.queue.empty():
                await asyncio.sleep(WAIT_SECONDS)
            while len(batch) < BATCH and not self.queue.empty():
                batch.append(self.queue.get_nowait())
            streams = [stream for stream, _ in batch]
            await loop.run_in_executor(self.pool, self.recognizer.decode_streams, streams)
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    async def run(self, stream: Any) -> None:
        """Decode what a stream has."""
        while self.recognizer.is_ready(stream):
            done = asyncio.get_running_loop().create_future()
            await self.queue.put((stream, done))
            await done

    async def serve(self, socket: Any) -> None:
        """One client."""
        stream = self.recognizer.create_stream()
        async for message in socket:
            if isinstance(message, str):
                if "eof" not in message:
                    continue
                stream.accept_waveform(16000, np.zeros(8000, np.float32))
                stream.input_finished()
                await self.run(stream)
                await socket.send(json.dumps({"text": self.recognizer.get_result(stream)}))
                return
            samples = np.frombuffer(message, np.int16).astype(np.float32) / 32768
            stream.accept_waveform(16000, samples)
            await self.run(stream)
            await socket.send(json.dumps({"partial": self.recognizer.get_result(stream)}))


async def main() -> None:
    """As above."""
    folder, kind, chunk, port = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
        tokens=str(folder / "tokens.txt"),
        encoder=str(folder / f"encoder{chunk}.{kind}.onnx"),
        decoder=str(folder / f"decoder.{kind}.onnx"),
        joiner=str(folder / f"joiner.{kind}.onnx"),
        num_threads=1,
        decoding_method="modified_beam_search",
        max_active_paths=8,
        provider="cpu",
    )
    server = Server(recognizer)
    decoding = asyncio.create_task(server.decode())
    async with websockets.serve(server.serve, "127.0.0.1", port, max_queue=8):
        print(f"listening {sherpa_onnx.__version__}", flush=True)
        await decoding


asyncio.run(main())
