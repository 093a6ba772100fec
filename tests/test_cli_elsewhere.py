"""The command line before a server that is silent, busy, somewhere else, or no ledger; and when it is interrupted."""

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving import command
from tests.terminal import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """Somebody with a token, before a server that is not there."""
    return Terminal("http://127.0.0.1:1", tmp_path, token="tl_at_x")


def test_bytes_that_are_no_text_are_a_usage_error(terminal: Terminal) -> None:
    finished = subprocess.run(
        [*command("subject", "show"), b"\xff"],
        env=terminal.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (finished.returncode, "an argument is not UTF-8" in finished.stderr) == (2, True)


@contextmanager
def other_server(reply: bytes) -> Iterator[str]:
    """Answer the address of a server that takes one request and answers it so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(timeout=60)


def test_an_answer_that_is_no_answer_of_a_ledger_is_one_line(terminal: Terminal) -> None:
    with other_server(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n<h1>hi</h1>") as url:
        said = terminal.refused("key", "list", "--url", url)
    assert said == "Error: 127.0.0.1 answered 200 with something else than a Token Ledger does\n"


def test_credentials_do_not_follow_a_redirect(terminal: Terminal) -> None:
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/v1/keys\r\nContent-Length: 0\r\n\r\n"
    with other_server(moved) as url:
        assert terminal.refused("key", "list", "--url", url) == "Error: 127.0.0.1 answered 307\n"


def test_a_server_that_cannot_now_says_when_to_try_again(terminal: Terminal) -> None:
    body = b'{"code": "try_again", "detail": "too much is under way"}'
    head = f"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with other_server(head + body) as url:
        said = terminal.refused("key", "list", "--url", url, status=3)
    assert said == "Error: too much is under way (try_again); try again in 7 s\n"


def test_a_lost_answer_to_a_change_says_that_it_may_have_been_done(terminal: Terminal) -> None:
    with other_server(b"") as url:
        said = terminal.refused("api", "register", "x", "--url", url, status=3)
    assert "(what was asked may have been done, or not)" in said


def test_a_refusal_cannot_act_on_whoever_reads_it(terminal: Terminal) -> None:
    body = b'{"code": "x", "detail": "a\\u001b[2J\\nError: all is well"}'
    with other_server(f"HTTP/1.1 400 No\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body) as url:
        said = terminal.refused("key", "list", "--url", url)
    assert said == r"Error: a\x1b[2J\nError: all is well (x)" + "\n"


def test_ctrl_c_while_the_server_is_silent_ends_it_quietly(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            command("key", "list", "--url", url), stderr=subprocess.PIPE, env=terminal.environment, text=True
        )
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (1, "Aborted!")
