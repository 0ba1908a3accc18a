"""How the speech engine says no: with a code for programs and a sentence for people."""

from solomonic.core import SolomonicError

SHUTTING_DOWN = "the server is shutting down; connect again in a moment and go on from `heard`."


class Refused(SolomonicError):
    """A stream was not opened.

    Attributes:
        code: "engine_full", "too_many_streams" or "shutting_down".
        status: of HTTP: 503, or 429 where the client itself has too many.
        retry_after: seconds after which to come again.
    """

    def __init__(self, code: str, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.code, self.retry_after = code, retry_after
        self.status = 429 if code == "too_many_streams" else 503


class StreamFailed(SolomonicError):
    """A stream that was open is over before its client wanted.

    Attributes:
        code: "shutting_down", "slow_client", "idle_timeout", "stream_too_long", "bad_audio",
            "internal_error" or "closed".
        text: of the utterance under way, as far as it was recognised.
        heard: seconds of the stream's audio that were decoded: a client goes on from here.
    """

    def __init__(self, code: str, message: str, text: str = "", heard: float = 0.0) -> None:
        super().__init__(message)
        self.code, self.text, self.heard = code, text, heard
