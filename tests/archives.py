"""A log on small partitions, some of which are archived: for the tests of archives."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

from ledger.events import LogOpened, TokenRevoked
from ledger.states import TokenState
from projections.archiving import ArchiveReport, archive
from tests.builders import family, subject_registered, token_issued
from tests.conftest import Database
from tests.partitions import on_small_partitions
from tests.recording import record

LOG_ID: Final = UUID(int=7)
PAST: Final = datetime(2020, 1, 1, tzinfo=UTC)


def fill(database: Database) -> None:
    """Record 41 events: after the first, ten times a token that ended in 2020, its revocation, one that lives, a subject."""
    on_small_partitions(database.ledger_owner)
    record(database, [LogOpened(log_id=LOG_ID)])
    for number in range(10):
        of = family(family_id=UUID(int=100 + number), expires_at=PAST + timedelta(days=1))
        ended = token_issued(family=of, token_id=UUID(int=200 + number), expires_at=PAST)
        revoked = TokenRevoked(
            family_id=of.family_id,
            token_id=ended.tokens[0].token_id,
            subject_id=of.subject_id,
            client_id=of.client_id,
            token_state=TokenState(ended.tokens[0].token_id, "revoked", None, None),
        )
        lives = token_issued(family=family(family_id=UUID(int=300 + number)), token_id=UUID(int=400 + number))
        record(database, [ended, revoked, lives, subject_registered(subject_id=UUID(int=500 + number))])


def archive_half(database: Database, folder: Path) -> ArchiveReport:
    """Archive the events up to position 20, of the 41 that `fill` records."""
    return archive(database.ledger_owner, folder, below=25, ended_before=datetime.now(UTC))
