"""What is sealed opens under its own key and context only; the master key is strong, kept apart, and shown to nobody."""

import base64
import hashlib
import hmac
import os
import stat
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from ledger.sealing import KEY_BYTES, MasterKey, SealBroken, SubjectKey, UnsafeKey

KEY = bytes(range(32))
MASTER = MasterKey(KEY)
PLAIN = b"Ada Lovelace"


def derived(key: bytes, label: str) -> bytes:
    """Derive as RFC 5869 says, written out: extract with a salt of zeros, expand to one block."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    return hmac.digest(extracted, b"token-ledger/" + label.encode() + b"\1", "sha256")


# ------------------------------------------------------------------------------------------------------------ sealing


@given(st.binary(max_size=200), st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_what_was_sealed_is_opened_with_its_context(plain: bytes, context: str) -> None:
    assert MASTER.unseal(MASTER.seal(plain, context), context) == plain


def test_a_seal_opens_for_ever() -> None:
    # Made here by hand: version, key id, nonce, then AES-256-GCM with version, key id and context authenticated.
    key = derived(KEY, "seal")
    header = b"\1" + hashlib.sha256(b"key id" + key).digest()[:4]
    sealed = header + bytes(12) + AESGCM(key).encrypt(bytes(12), PLAIN, header + b"profile")
    assert MASTER.unseal(sealed, "profile") == PLAIN
    assert sealed.hex() == "01df420c13000000000000000000000000b3960652ee9141b2d9d445b0141b75601e2faf61dc7374427c7a000c"


def test_the_same_is_never_sealed_alike() -> None:
    assert len({MASTER.seal(PLAIN, "profile") for _ in range(100)}) == 100


def test_a_seal_tells_nothing_of_what_it_holds_but_its_length() -> None:
    sealed = MASTER.seal(PLAIN, "profile")
    assert PLAIN not in sealed
    assert len(sealed) == 1 + 4 + 12 + len(PLAIN) + 16


def test_another_context_opens_nothing() -> None:
    sealed = MASTER.seal(PLAIN, "profile")
    for context in ("", "password", "profile ", "Profile"):
        with pytest.raises(SealBroken):
            MASTER.unseal(sealed, context)


def test_another_key_opens_nothing_and_is_told_apart() -> None:
    with pytest.raises(SealBroken, match="another key"):
        MasterKey(KEY[::-1]).unseal(MASTER.seal(PLAIN, "profile"), "profile")


def test_every_flipped_bit_breaks_the_seal() -> None:
    sealed = MASTER.seal(PLAIN, "profile")
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealBroken):
            MASTER.unseal(bytes(changed), "profile")


def test_what_is_cut_or_lengthened_breaks_the_seal() -> None:
    sealed = MASTER.seal(PLAIN, "profile")
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            MASTER.unseal(sealed[:length], "profile")
    for changed in (sealed + b"\0", sealed + sealed, b"\0" + sealed):
        with pytest.raises(SealBroken):
            MASTER.unseal(changed, "profile")


@given(st.binary(max_size=80))
def test_any_bytes_are_no_seal(data: bytes) -> None:
    with pytest.raises(SealBroken):
        MASTER.unseal(data, "profile")


# ----------------------------------------------------------------------------------------------------------- subjects


def test_the_key_of_a_subject_is_opened_for_that_subject_only() -> None:
    subject_id, key = uuid4(), SubjectKey.new()
    stored = key.sealed(MASTER, subject_id)
    sealed = key.seal(PLAIN, "profile")
    assert SubjectKey.open(MASTER, subject_id, stored).unseal(sealed, "profile") == PLAIN
    with pytest.raises(SealBroken):
        SubjectKey.open(MASTER, uuid4(), stored)
    with pytest.raises(SealBroken):
        SubjectKey.open(MasterKey(KEY[::-1]), subject_id, stored)


def test_what_is_sealed_for_one_subject_or_field_is_opened_by_no_other() -> None:
    key = SubjectKey.new()
    sealed = key.seal(PLAIN, "profile")
    with pytest.raises(SealBroken):
        key.unseal(sealed, "password")
    with pytest.raises(SealBroken):
        SubjectKey.new().unseal(sealed, "profile")
    with pytest.raises(SealBroken):
        MASTER.unseal(sealed, "profile")


# ---------------------------------------------------------------------------------------------------------------- mac


def test_a_mac_is_hmac_sha_256_under_a_key_of_its_label() -> None:
    assert MASTER.mac("user name", b"alice") == hmac.digest(derived(KEY, "mac user name"), b"alice", "sha256")


def test_macs_of_two_labels_or_keys_have_nothing_in_common() -> None:
    macs = {MASTER.mac("user name", b"a"), MASTER.mac("request", b"a"), MasterKey(KEY[::-1]).mac("user name", b"a")}
    assert len(macs) == 3


# ----------------------------------------------------------------------------------------------------- the master key


@pytest.mark.parametrize(
    "text",
    [KEY.hex(), KEY.hex().upper(), f"  {KEY.hex()}\n", base64.b64encode(KEY).decode(), base64.b64encode(KEY).decode() + "\n"],
)
def test_a_key_is_read_from_hex_or_base64(text: str) -> None:
    assert MasterKey.from_text(text).unseal(MASTER.seal(PLAIN, "x"), "x") == PLAIN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "changeme",
        "0" * 64,
        "f" * 64,
        "deadbeef" * 8,
        KEY.hex()[:-2],
        KEY.hex()[:-1],
        KEY.hex() + "00",
        "x" * 64,
        "é" * 64,
        KEY.hex()[:-3] + " 00",
        base64.b64encode(KEY[:-1]).decode(),
        base64.b64encode(KEY + b"\0").decode(),
        base64.b64encode(b"a" * 32).decode(),
        "correct horse battery staple",
        KEY.hex() + "\0",
    ],
)
def test_a_weak_or_broken_key_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(UnsafeKey) as refused:
        MasterKey.from_text(text)
    assert len(text) < 6 or text[:6] not in str(refused.value)


@pytest.mark.parametrize("key", [b"", KEY[:-1], KEY + b"\0", bytes(32), b"ab" * 16, bytes([*range(7)] * 4 + [*range(4)])])
def test_a_key_of_another_length_or_of_few_different_bytes_is_refused(key: bytes) -> None:
    with pytest.raises(UnsafeKey):
        MasterKey(key)


@pytest.mark.parametrize("key", [MASTER, SubjectKey(KEY)])
def test_a_key_is_never_shown(key: MasterKey | SubjectKey) -> None:
    shown = f"{key} {key!r} {[key]}"
    assert KEY.hex() not in shown
    assert repr(KEY) not in shown
    assert shown.count("Key()") == 3


# ------------------------------------------------------------------------------------------------------ the key's file


def test_a_new_key_has_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    before = os.umask(0)
    try:
        made = MasterKey.create(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert MasterKey.load(path).unseal(made.seal(PLAIN, "x"), "x") == PLAIN
    assert len(bytes.fromhex(path.read_text())) == KEY_BYTES
    assert [file.name for file in tmp_path.iterdir()] == ["master.key"]


def test_two_new_keys_differ(tmp_path: Path) -> None:
    MasterKey.create(tmp_path / "one")
    MasterKey.create(tmp_path / "other")
    assert (tmp_path / "one").read_text() != (tmp_path / "other").read_text()


@pytest.mark.parametrize("content", ["", KEY.hex(), "anything"])
def test_what_stands_in_the_key_s_place_is_never_overwritten(content: str, tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_text(content)
    with pytest.raises(FileExistsError):
        MasterKey.create(path)
    assert path.read_text() == content
    assert [file.name for file in tmp_path.iterdir()] == ["master.key"]


def test_a_link_to_nowhere_in_the_key_s_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "master.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        MasterKey.create(tmp_path / "master.key")
    assert not (tmp_path / "elsewhere").exists()


def test_a_draft_that_a_crash_left_behind_is_in_nobody_s_way(tmp_path: Path) -> None:
    # The number of the process is the same again in a container.
    for draft in (f".master.key.{os.getpid()}", ".master.key"):
        (tmp_path / draft).write_text("half a k")
    MasterKey.create(tmp_path / "master.key")


def test_of_many_who_make_the_key_one_does(tmp_path: Path) -> None:
    made: list[MasterKey] = []
    together = threading.Barrier(8)

    def make() -> None:
        together.wait()
        try:
            made.append(MasterKey.create(tmp_path / "master.key"))
        except FileExistsError:
            return

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = made
    assert MasterKey.load(tmp_path / "master.key").unseal(winner.seal(PLAIN, "x"), "x") == PLAIN


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o620, 0o644, 0o666, 0o777])
def test_a_file_that_others_may_touch_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_text(KEY.hex())
    path.chmod(mode)
    with pytest.raises(UnsafeKey, match=f"mode {mode:04o}.*chmod 600"):
        MasterKey.load(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_its_owner_alone_is_read(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_text(KEY.hex() + "\n")
    path.chmod(mode)
    assert MasterKey.load(path).unseal(MASTER.seal(PLAIN, "x"), "x") == PLAIN


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, KEY.hex()[:-4].encode(), KEY])
def test_a_file_without_a_key_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UnsafeKey):
        MasterKey.load(path)


def test_a_key_s_file_that_is_not_there_is_not_made_by_loading_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MasterKey.load(tmp_path / "master.key")
    assert not list(tmp_path.iterdir())
