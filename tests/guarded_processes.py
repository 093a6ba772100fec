"""A guarded API in processes of its own, as gunicorn serves it; the guard itself is not imported here."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.serving import free_port, wait_until_answers

ROOT: Final = Path(__file__).parents[1]
ASGI: Final = ("falcon-asgi", "fastapi", "django-asgi")


@contextmanager
def in_processes(framework: str, workers: int, environment: Mapping[str, str]) -> Iterator[str]:
    """Serve the application with gunicorn: made before its workers are forked, as with --preload; its address."""
    port = free_port()
    kind = ["-k", "uvicorn_worker.UvicornWorker"] if framework in ASGI else ["-k", "gthread", "--threads", "4"]
    arguments = ["--preload", "--no-control-socket", "--log-level", "error", "--workers", str(workers), *kind]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gunicorn",
            "--bind",
            f"127.0.0.1:{port}",
            *arguments,
            f"tests.guarded:of_environment('{framework}')",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'guard'}", **environment},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_answers(f"{url}/healthz")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)
