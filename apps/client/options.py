"""What a client is opened with."""

from dataclasses import dataclass, field

from apps.client.retries import RetryPolicy

__all__ = ["Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Checked by whoever makes them; the key is shown nowhere."""

    url: str
    api_key: str = field(repr=False)
    timeout_s: float
    """Of a call with all its attempts; of a stream to its first event, and between two."""
    connect_timeout_s: float
    """Of one attempt to connect."""
    max_connections: int
    retry: RetryPolicy

    def __post_init__(self) -> None:
        """Raises ValueError for limits under which no call could succeed."""
        if not (self.timeout_s > 0 and self.connect_timeout_s > 0 and self.max_connections > 0):
            raise ValueError("timeout_s, connect_timeout_s and max_connections must be above 0.")
