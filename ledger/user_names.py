"""The id of a user name: keyed, so that the log tells nobody the name."""

from uuid import UUID

from ledger.identifiers import keyed_name_id, normalize_user_name
from ledger.sealing import MasterKey


def user_name_id(master: MasterKey, username: str) -> UUID:
    """Answer the id under which a user name is unique. InvalidInput for what can be none."""
    return keyed_name_id(lambda data: master.mac("user name", data), "user", normalize_user_name(username))
