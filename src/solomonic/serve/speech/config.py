"""What one speech engine allows: how many streams, how long, how much of each at once."""

import dataclasses

from solomonic.core import Config, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig(Config):
    """Limits of a `SpeechEngine`; a client meets them as errors with a code, never as silence.

    Attributes:
        max_streams: at once, of all clients; one takes about 2 MB.
        max_streams_per_client: at once, of one client.
        queue_seconds: audio of a stream that may wait to be decoded; then its sender waits.
        queue_pieces: pieces of audio that may wait, so that a sample a message costs no memory.
        max_events: events that a stream's reader may leave lying; then its decoding waits.
        stall_seconds: how long events may lie before the stream is ended ("slow_client").
        idle_seconds: how long a live stream may bring no audio ("idle_timeout").
        total_seconds: how long a stream may last on the clock ("stream_too_long").
        step_seconds: audio of all streams together that one step decodes. It bounds how long a
            step takes.
        backlog_seconds: a stream with more audio than that waiting has sent it at once.
        bulk_seconds: what such streams together get of a step in which others speak: the price of
            an hour uploaded at once for those who speak meanwhile.
        share_seconds: audio of one stream that one step decodes, at least and at most.
        retry_seconds: after which a refused client is told to come again.

    Raises:
        ConfigError: a limit is not above 0.
    """

    max_streams: int = 256
    max_streams_per_client: int = 64
    queue_seconds: float = 10.0
    queue_pieces: int = 2000
    max_events: int = 256
    stall_seconds: float = 10.0
    idle_seconds: float = 60.0
    total_seconds: float = 4 * 3600.0
    step_seconds: float = 8.0
    backlog_seconds: float = 1.0
    bulk_seconds: float = 1.0
    share_seconds: tuple[float, float] = (0.06, 0.5)
    retry_seconds: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "share_seconds", tuple(self.share_seconds))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = min(value) if isinstance(value, tuple) else value
            require(least > 0, f"{field.name} = {value} must be above 0.")
        low, high = self.share_seconds
        require(low <= high, f"share_seconds = {low}, {high}: the least comes first.")
