"""A real nginx with deploy/nginx.conf, on free ports in a folder of its own, and a small API behind it.

The API answers with what it was asked.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

from tests.serving import free_port

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
CONFIGURATION = Path(__file__).parents[1] / "deploy" / "nginx.conf"
# What a package's nginx.conf says around conf.d/*.conf, in one process that goes when it is told to.
AROUND = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/guarded.conf;
}}
"""


class Api(BaseHTTPRequestHandler):
    """Answers with what it was asked, as JSON: the target as it came, the headers, the body."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []

    def answer(self) -> None:
        """Answer whatever method it is."""
        method, target, _ = self.requestline.split(" ", 2)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("latin-1")
        Api.asked.append(target)
        status = int(self.headers.get("X-Answer-With") or 200)
        content = json.dumps(
            {"method": method, "target": target, "headers": [[n.lower(), v] for n, v in self.headers.items()], "body": body}
        ).encode()
        slowly = float(self.headers.get("X-Answer-Slowly") or 0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[:10])
        self.wfile.flush()
        time.sleep(slowly)
        self.wfile.write(content[10:])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        """Say nothing."""


for _method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
    setattr(Api, f"do_{_method}", Api.answer)


@contextmanager
def running_api() -> Iterator[int]:
    """Run the API; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running_nginx(folder: Path, ledger_url: str, gateway_key: str, api_port: int) -> Iterator[str]:
    """Run nginx with deploy/nginx.conf, its addresses and key put in; the URL it serves on."""
    assert NGINX is not None
    port = free_port()
    guarded = CONFIGURATION.read_text()
    for placeholder, value in {
        "127.0.0.1:8080": urlsplit(ledger_url).netloc,
        "127.0.0.1:9000": f"127.0.0.1:{api_port}",
        "127.0.0.1:8000": f"127.0.0.1:{port}",
        "GATEWAY_KEY": gateway_key,
    }.items():
        assert placeholder in guarded
        guarded = guarded.replace(placeholder, value)
    (folder / "guarded.conf").write_text(guarded)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    command = [NGINX, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command)
    try:
        _wait_until_it_listens(process, port, folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/_ledger_decision", timeout=5)
            return
        except httpx.TransportError:
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.02)
