"""What became of the records: figures for the host to look at."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Stats:
    """What became of this process's records so far, in records (see `Client.stats`)."""

    sent: int = 0
    """Stored by the service."""
    duplicates: int = 0
    """Acknowledged again: an earlier try had been stored although its answer was lost."""
    summarized: int = 0
    """Counted by the service in summaries, of those that sampling does not send whole."""
    queued: int = 0
    """In memory, not acknowledged yet; a batch that is being encoded just now is in none of the figures."""
    spooled: int = 0
    """In files that this process wrote and that nobody has sent yet."""
    torn: int = 0
    """Half-written lines found in spool files, left by a process that was killed while it wrote."""
    withheld: int = 0
    """Taken out by before_send."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Dropped, by reason: queue_full, spool_full, rejected, expired; exit, which the next process reports; closed."""

    @property
    def rejected(self) -> int:
        """Records that were dropped because the client or the service found them invalid."""
        return self.dropped.get("rejected", 0)


@dataclass
class Tally:
    """The running figures; only the sending thread writes them."""

    sent: int = 0
    duplicates: int = 0
    summarized: int = 0
    torn: int = 0
