"""Common passwords are refused wherever one is set."""

import gzip

import httpx
import pytest

from ledger.errors import InvalidInput
from ledger.passwords import MIN_BYTES, check_password
from tests.calls import bearer, login, new_person, refused, unique
from tests.vectors import vectors


def is_refused(password: str) -> bool:
    try:
        check_password(password)
    except InvalidInput:
        return True
    return False


def test_of_a_list_of_others_most_long_ones_are_refused() -> None:
    """Those that are let pass are mojibake and single leaks: a list is as good as its sources."""
    listed = (
        gzip.decompress(vectors("corpora", "common-passwords", "django-common-passwords.txt.gz").read_bytes()).decode().split()
    )
    long = [password for password in listed if len(password.encode()) >= MIN_BYTES]
    assert sum(map(is_refused, long)) >= len(long) * 0.8 > 100


@pytest.mark.parametrize("password", ["password1234", "PASSWORD1234", "PassWord1234", "passwordpassword", "qwertyuiop12"])
def test_a_common_password_is_refused_in_any_case(password: str) -> None:
    assert is_refused(password)


@pytest.mark.parametrize("password", ["correct horse battery", "пїѕпїѕ", "é" * 6, "x" * 1024])
def test_others_are_not_whatever_their_length_in_characters(password: str) -> None:
    assert not is_refused(password)


def test_a_common_password_is_refused_at_every_door(admin: httpx.Client, http: httpx.Client) -> None:
    ann, common = new_person(admin), "password1234"
    me = bearer(login(http, ann)["access_token"])
    for answer in (
        admin.post("/v1/subjects", json={"username": unique("bob"), "password": common}),
        admin.put(f"/v1/subjects/{ann.subject_id}/password", json={"password": common}),
        http.put("/v1/me/password", json={"current": ann.password, "new": common}, headers=me),
    ):
        problem = refused(answer, 400, "invalid_input")
        assert "common" in problem["problems"][0]["rule"]
        assert common not in answer.text
