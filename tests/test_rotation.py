"""The successor of a one-time refresh token: derived the same for ever, and by nothing less than all of its parts."""

import hmac
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.rotation import EPOCH_SECONDS, KEPT_SECONDS, Successor, derive, epoch_of, expired_before, verdict_of

EPOCH_KEY = bytes(range(32))
FAMILY = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
PRESENTED = bytes(range(64, 96))
KEYS = st.binary(min_size=32, max_size=32)
GENERATIONS = st.integers(1, 2**63 - 1)


def expanded(seed: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 as RFC 5869 says, written out: extract with a salt of zeros, expand to one block."""
    return hmac.digest(hmac.digest(bytes(32), seed, "sha256"), info + b"\1", "sha256")


def test_the_derivation_is_what_is_written_down() -> None:
    message = b"rotate" + FAMILY.bytes + b"\0\0\0\0\0\0\0\x07" + PRESENTED
    seed = hmac.digest(EPOCH_KEY, message, "sha256")
    successor = derive(EPOCH_KEY, FAMILY, 7, PRESENTED)
    assert successor.refresh_secret == expanded(seed, b"token-ledger/refresh")
    assert successor.access_secret == expanded(seed, b"token-ledger/access")


def test_the_derivation_is_the_same_for_ever() -> None:
    successor = derive(EPOCH_KEY, FAMILY, 7, PRESENTED)
    assert successor.refresh_secret.hex() == "bc6d3e117bcbd96cba20dbe503dfbc67fd3dd86c07d511662d36fb8c5249da07"
    assert successor.access_secret.hex() == "c8b042ac036363d696b27abc998e1e287983f7db1baf6ead5b0b7201fd78e845"


@given(KEYS, st.uuids(), GENERATIONS, KEYS)
def test_a_retry_derives_the_same_successor(key: bytes, family_id: UUID, generation: int, presented: bytes) -> None:
    first, again = (derive(key, family_id, generation, presented) for _ in range(2))
    assert first == again
    assert {len(first.refresh_secret), len(first.access_secret)} == {32}


@given(KEYS, st.uuids(), GENERATIONS, KEYS)
def test_no_part_can_be_another_and_no_secret_is_one_of_the_others(
    key: bytes, family_id: UUID, generation: int, presented: bytes
) -> None:
    successors = [
        derive(key, family_id, generation, presented),
        derive(bytes([key[0] ^ 1]) + key[1:], family_id, generation, presented),
        derive(key, UUID(int=family_id.int ^ 1), generation, presented),
        derive(key, family_id, generation + 1, presented),
        derive(key, family_id, generation, bytes([presented[0] ^ 1]) + presented[1:]),
    ]
    secrets = [secret for successor in successors for secret in (successor.refresh_secret, successor.access_secret)]
    assert len({*secrets} - {key, presented}) == 10


def test_every_bit_of_every_part_counts() -> None:
    seen = {derive(EPOCH_KEY, FAMILY, 7, PRESENTED).refresh_secret}
    for bit in range(256):
        flipped = (1 << bit).to_bytes(32, "big")
        seen.add(derive(bytes(a ^ b for a, b in zip(EPOCH_KEY, flipped, strict=True)), FAMILY, 7, PRESENTED).refresh_secret)
        seen.add(derive(EPOCH_KEY, FAMILY, 7, bytes(a ^ b for a, b in zip(PRESENTED, flipped, strict=True))).refresh_secret)
    seen |= {derive(EPOCH_KEY, UUID(int=FAMILY.int ^ 1 << bit), 7, PRESENTED).refresh_secret for bit in range(128)}
    seen |= {derive(EPOCH_KEY, FAMILY, 7 ^ 1 << bit, PRESENTED).refresh_secret for bit in range(64)}
    assert len(seen) == 1 + 256 + 256 + 128 + 64


def test_secrets_are_never_shown() -> None:
    assert repr(Successor(b"\x5a" * 32, b"\xa5" * 32)).count("Z") == 0


# ------------------------------------------------------------------------------------------------------------- epochs


def at(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("seconds", "epoch"), [(0, 0), (299.999999, 0), (300, 1), (599.999999, 1), (600, 2), (1_893_456_000, 6_311_520)]
)
def test_an_epoch_is_five_minutes(seconds: float, epoch: int) -> None:
    assert epoch_of(at(seconds)) == epoch


@pytest.mark.parametrize(
    ("seconds", "oldest"), [(600, 0), (899.999999, 0), (900, 1), (1_199.999999, 1), (1_200, 2), (1_893_456_000, 6_311_518)]
)
def test_a_key_is_kept_for_ten_minutes_after_its_epoch(seconds: float, oldest: int) -> None:
    assert expired_before(at(seconds)) == oldest


@given(st.integers(0, 4_000_000_000), st.integers(0, 999_999))
def test_a_key_is_there_for_every_retry_and_goes_ten_minutes_after_the_last(seconds: int, microseconds: int) -> None:
    now = at(seconds) + timedelta(microseconds=microseconds)
    epoch = epoch_of(now)
    ends = (epoch + 1) * EPOCH_SECONDS
    # The longest window is 300 s: a client's retry comes before that.
    for later in (0, EPOCH_SECONDS, KEPT_SECONDS - 1):
        assert expired_before(now + timedelta(seconds=later)) <= epoch
    assert expired_before(at(ends + KEPT_SECONDS) - timedelta(microseconds=1)) <= epoch
    assert expired_before(at(ends + KEPT_SECONDS)) == epoch + 1


# ------------------------------------------------------------------------------------------- what a reuse looks like


@pytest.mark.parametrize(
    ("presented", "current", "seconds", "window", "verdict"),
    [
        (2, 3, 0.0, 0, "race"),
        (2, 3, 29.9, 0, "race"),
        (1, 3, 29.9, 30, "race"),
        (2, 3, 30.0, 0, "fork"),
        (2, 3, 299.0, 300, "race"),
        (2, 3, 300.0, 300, "fork"),
        (2, 3, 1e7, 30, "fork"),
        (1, 3, 30.0, 30, "theft"),
        (1, 300, 1e7, 0, "theft"),
    ],
)
def test_a_reuse_is_told_by_time_and_generation(
    presented: int, current: int, seconds: float, window: int, verdict: str
) -> None:
    assert verdict_of(presented, current, seconds, window) == verdict
