"""How often a password may be guessed: budgets, taken from before anything is hashed. Counters outside log and views.

An attempt takes from three budgets: of the user from this network, of the network, of the user from all networks. From a
network that the user logged in from within 90 days only the first is asked: a stranger who spends the others locks nobody
out. A user name that is not there has budgets like one that is. How budgets are kept: `ledger.take_attempt` in schema.sql.
"""

import math
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import ClassVar, Final, Literal
from uuid import UUID

from ledger.errors import TryAgain
from ledger.identifiers import keyed_name_id
from ledger.sealing import MasterKey

Kind = Literal["pair", "network", "user"]


@dataclass(frozen=True, slots=True)
class Budget:
    """At once `burst` attempts, and one more each `every`."""

    burst: int
    every: timedelta


# NIST SP 800-63B section 5.2.2 allows no more than 100 failures in a row for one account: so many from strangers take a day.
BUDGETS: Final[dict[Kind, Budget]] = {
    "pair": Budget(5, timedelta(minutes=1)),
    "network": Budget(20, timedelta(seconds=10)),
    "user": Budget(20, timedelta(minutes=15)),
}
FAMILIAR_BURST: Final = 10
FAMILIAR_FOR: Final = timedelta(days=90)
# Lock-outs that the log is told of, in all: at most 60 in any minute, 30 at once and as many more in its course.
EVENTS: Final = Budget(30, timedelta(seconds=2))
# Counters of each kind, and familiar networks, that are kept: some 20 MB a kind.
MOST_COUNTERS: Final = 100_000
# Familiar networks of one user: whoever has an account, and addresses without number, pushes out no other user's.
MOST_FAMILIAR: Final = 100


class TooManyAttempts(TryAgain):
    """Too many passwords were tried for this user or from this network; this one was not looked at.

    The same words for every cause, and for a user who is not there; one more may be tried after `wait`, in whole seconds.
    """

    code = "too_many_attempts"
    cure = (
        "Wait for `Retry-After` seconds; an operator can make the budget whole at once (`POST "
        "/v1/lockouts/{lockout_id}/unlock`): docs/guessing.md."
    )

    def __init__(self, wait: timedelta) -> None:
        super().__init__("too many attempts; this one was not looked at")
        self.retry_after_seconds = max(1, math.ceil(wait.total_seconds()))


@dataclass(frozen=True, slots=True)
class Attempt:
    """The ids of the budgets of one attempt; keyed under the master key, so that they tell neither name nor address."""

    pair: UUID
    network: UUID
    user: UUID
    familiar: UUID

    KINDS: ClassVar[tuple[Kind, ...]] = ("pair", "network", "user")

    @property
    def ids(self) -> tuple[UUID, UUID, UUID]:
        """The ids of the budgets, in the order of KINDS."""
        return self.pair, self.network, self.user


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """Answer the address in its one spelling: without a zone, and of IPv4 where it is mapped; None for what is none."""
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def network_of(address: str) -> str:
    """Answer the network that stands for an address: IPv4 /32, IPv6 /64 (what one subscriber has); "" for what is none."""
    found = address_of(address)
    if found is None:
        return ""
    prefix = 32 if isinstance(found, IPv4Address) else 64
    return str(ip_network((found, prefix), strict=False))


def attempt_of(master: MasterKey, name_id: UUID, network: str) -> Attempt:
    """Answer the budgets that an attempt for this user name from this network takes from."""

    def keyed(kind: str, *parts: str) -> UUID:
        return keyed_name_id(lambda data: master.mac("throttle", data), kind, *parts)

    name = str(name_id)
    return Attempt(
        pair=keyed("pair", name, network),
        network=keyed("network", network),
        user=user_throttle_id(master, name_id),
        familiar=keyed("familiar", name, network),
    )


def user_throttle_id(master: MasterKey, name_id: UUID) -> UUID:
    """Answer the id of the budget of a user name from all networks together."""
    return keyed_name_id(lambda data: master.mac("throttle", data), "user", str(name_id))


def events_throttle_id(master: MasterKey) -> UUID:
    """Answer the id of the budget of lock-outs that the log is told of."""
    return keyed_name_id(lambda data: master.mac("throttle", data), "events")
