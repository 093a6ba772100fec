"""What goes with a request besides what was sent."""

import time
from datetime import UTC, datetime
from uuid import UUID

from ledger.identifiers import uuid7


class Context:
    """`req.context`: the ids of the request, its body once it was read, whether the sender went before it was whole, when it
    began, by the process's own clock, and the issuer, which is the identifier of the management API."""

    __slots__ = ("_correlation_id", "_request_id", "began", "body", "cut_off", "issuer")

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.body: bytes | None = None
        self.cut_off = False
        self.issuer: str | None = None
        self._request_id: UUID | None = None
        self._correlation_id: UUID | None = None

    @property
    def request_id(self) -> UUID:
        """Our own id, made when it is first asked for: a decision seldom needs one."""
        if self._request_id is None:
            self._request_id = uuid7(datetime.now(UTC))
        return self._request_id

    @property
    def correlation_id(self) -> UUID:
        """The caller's, where it sent one; otherwise our own."""
        return self._correlation_id or self.request_id

    def correlate(self, given: str | None) -> None:
        """Take the caller's id where it is a UUID."""
        try:
            self._correlation_id = UUID(given) if given else None
        except ValueError:
            self._correlation_id = None
