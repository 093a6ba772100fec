"""Passwords: what may be one, that hashes are right or not, and how many are hashed at once."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from argon2 import Type, extract_parameters

from ledger.errors import InvalidInput
from ledger.passwords import MAX_BYTES, MIN_BYTES, HashingBusy, Passwords, check_password

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse battery"


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """Two threads, two places to wait; as little work as argon2 allows."""
    made = Passwords(memory_kib=64, passes=1, lanes=1, at_once=2, waiting=2)
    yield made
    made.close()


# --------------------------------------------------------------------------------------------------- what may be one


@pytest.mark.parametrize("password", ["kwzpqvbnmtys", "a" * MAX_BYTES, "ü" * 6, "😀" * 3, "ü" * 512, " " * 12, "\ud800" * 4])
def test_a_password_has_12_to_1024_bytes(password: str) -> None:
    check_password(password)


@pytest.mark.parametrize(
    "password", ["", "a" * (MIN_BYTES - 1), "a" * (MAX_BYTES + 1), "ü" * 5, "ü" * 513, "\ud800" * 3], ids=ascii
)
def test_a_shorter_or_longer_one_is_refused_by_the_name_of_its_field_and_not_quoted(password: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_password(password, "new_password")
    assert [(problem.field, problem.rule) for problem in refused.value.problems] == [("new_password", "12 to 1024 bytes")]


# --------------------------------------------------------------------------------------------------------- the hashes


async def test_a_hash_is_argon2id_with_the_parameters_asked_for(passwords: Passwords) -> None:
    encoded = await passwords.hash(PASSWORD)
    parameters = extract_parameters(encoded)
    assert (parameters.type, parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (Type.ID, 64, 1, 1)
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)
    assert await passwords.hash(PASSWORD) != encoded


@pytest.mark.parametrize("password", [PASSWORD, "\0" * 12, "\ud800" * 4, "ü" * 512, " " + PASSWORD])
async def test_the_right_password_is_right_and_another_is_not(passwords: Passwords, password: str) -> None:
    encoded = await passwords.hash(password)
    assert await passwords.verify(encoded, password)
    for other in (password + " ", password.upper() + "x", password[:-1], "", "\udfff", "x" * 100_000):
        assert not await passwords.verify(encoded, other)


async def test_a_hash_of_other_parameters_is_still_verified(passwords: Passwords) -> None:
    stronger = Passwords(memory_kib=128, passes=2, lanes=2, at_once=1, waiting=0)
    try:
        encoded = await stronger.hash(PASSWORD)
    finally:
        stronger.close()
    assert await passwords.verify(encoded, PASSWORD)


@pytest.mark.parametrize(
    "encoded", ["", "x", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=64,t=1,p=1$AAAA$"]
)
async def test_no_password_is_right_for_what_is_no_hash(passwords: Passwords, encoded: str) -> None:
    for password in (PASSWORD, "", "nobody has this password"):
        assert not await passwords.verify(encoded, password)


# ------------------------------------------------------------------------------------------------- without such a user


async def test_no_password_is_right_for_nobody(passwords: Passwords) -> None:
    for password in (PASSWORD, "", "nobody has this password"):
        assert not await passwords.verify(None, password)


async def test_nobody_s_hash_asks_for_the_same_work_as_somebody_s(passwords: Passwords) -> None:
    assert extract_parameters(passwords._nobody) == extract_parameters(await passwords.hash(PASSWORD))
    # And it is verified against: with one that is right, the answer within is yes.
    assert passwords._verify(passwords._nobody, "nobody has this password")


# ---------------------------------------------------------------------------------------------------------- the bound


async def turns() -> None:
    """Let every task that can go on do so, up to where it waits for a thread."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_beyond_the_bound_nothing_is_checked_and_everybody_is_told_at_once(passwords: Passwords) -> None:
    encoded = await passwords.hash(PASSWORD)
    go_on = threading.Event()
    working = [asyncio.create_task(passwords._bounded(partial(go_on.wait, 30))) for _ in range(4)]
    await turns()
    for refused in (passwords.verify(encoded, PASSWORD), passwords.verify(None, PASSWORD), passwords.hash(PASSWORD)):
        with pytest.raises(HashingBusy):
            await refused
    go_on.set()
    assert await asyncio.gather(*working) == [True] * 4
    assert await passwords.verify(encoded, PASSWORD)


async def test_whoever_waits_and_is_cancelled_gives_the_place_back(passwords: Passwords) -> None:
    go_on = threading.Event()
    working = [asyncio.create_task(passwords._bounded(partial(go_on.wait, 30))) for _ in range(2)]
    await turns()
    for _ in range(10):
        waiting = [asyncio.create_task(passwords.hash(PASSWORD)) for _ in range(2)]
        await turns()
        with pytest.raises(HashingBusy):
            await passwords.hash(PASSWORD)
        for task in waiting:
            task.cancel()
        assert [type(end) for end in await asyncio.gather(*waiting, return_exceptions=True)] == [asyncio.CancelledError] * 2
    go_on.set()
    await asyncio.gather(*working)
    hashes = await asyncio.gather(*(passwords.hash(PASSWORD) for _ in range(4)))
    assert len(set(hashes)) == 4


async def test_a_failure_gives_the_place_back(passwords: Passwords) -> None:
    def fail() -> None:
        raise MemoryError

    for _ in range(10):
        with pytest.raises(MemoryError):
            await passwords._bounded(partial(fail))
    await asyncio.gather(*(passwords.hash(PASSWORD) for _ in range(4)))


async def test_hashing_does_not_hold_up_the_event_loop() -> None:
    slow = Passwords(memory_kib=65_536, passes=1, lanes=1, at_once=1, waiting=0)
    try:
        hashing = asyncio.create_task(slow.hash(PASSWORD))
        turns_meanwhile = 0
        while not hashing.done():
            await asyncio.sleep(0.001)
            turns_meanwhile += 1
        await hashing
    finally:
        slow.close()
    assert turns_meanwhile > 3
