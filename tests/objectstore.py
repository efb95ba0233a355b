"""An object store for tests: a server of the S3 protocol (moto) that can end whom it serves.

Run as a program it serves until a process is gone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class ObjectStore:
    """A running server. url: its endpoint; careless: one that creates what exists already."""

    url: str
    careless: str

    @cached_property
    def client(self) -> Any:
        """An independent client, boto3's."""
        import boto3

        keys = {name.lower(): CREDENTIALS[name] for name in ("AWS_ACCESS_KEY_ID",)}
        keys["aws_secret_access_key"] = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", **keys)

    def tree(self, bucket: str, below: str = "") -> dict[str, bytes]:
        """Every object of a bucket below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below)
        keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
        return {
            key.removeprefix(below): self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in keys
        }

    def fill(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Let a bucket hold these objects and no others."""
        for key in self.tree(bucket).keys() - objects.keys():
            self.client.delete_object(Bucket=bucket, Key=key)
        for key, data in objects.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def sent(self, key: str) -> int:
        """Bytes of an object that were sent since it was asked last. key: bucket and key."""
        with urllib.request.urlopen(f"{self.url}/-/sent?{urllib.parse.quote(key)}") as answer:
            return int(answer.read())

    def watch(self, bucket: str, pid: int, at: int) -> None:
        """End a process at the change of a bucket that is asked for next so many; 0: at none.

        At every other one the change is still made, though nobody will hear of it.
        """
        query = f"bucket={bucket}&pid={pid}&at={at}"
        urllib.request.urlopen(f"{self.url}/-/watch?{query}").close()


def start(folder: Path) -> None:
    """Start a server for all processes of a test session; its addresses go to a file."""
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    said, log = folder / "addresses.json", folder / "server.log"
    env = {**os.environ, **CREDENTIALS, "PYTHONWARNINGS": "ignore"}
    with log.open("w") as file:
        command = [sys.executable, __file__, str(said), str(session)]
        subprocess.run(command, env=env, stdout=file, stderr=file, check=True)
    for _ in range(2400):
        if said.exists():
            return
        time.sleep(0.05)
    raise RuntimeError(log.read_text())


def running(folder: Path) -> ObjectStore:
    """The server that was started in a folder."""
    return ObjectStore(**json.loads((folder / "addresses.json").read_text()))


# ---------------------------------------------------------------- the server
App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Watched:
    """Counts requests that change something and ends a process at one of them; counts bytes."""

    def __init__(self, app: App) -> None:
        self.app, self.lock = app, threading.Lock()
        self.fuses: dict[str, tuple[int, int]] = {}
        self.seen, self.sent = Counter[str](), Counter[str]()

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/-/watch":
            asked = dict(pair.split("=") for pair in environ["QUERY_STRING"].split("&"))
            with self.lock:
                self.seen[asked["bucket"]] = 0
                self.fuses[asked["bucket"]] = int(asked["pid"]), int(asked["at"])
            start_response("200 OK", [])
            return []
        if environ["PATH_INFO"] == "/-/sent":
            start_response("200 OK", [])
            return [
                str(self.sent.pop(f"/{urllib.parse.unquote(environ['QUERY_STRING'])}", 0)).encode()
            ]
        bucket, due = environ["PATH_INFO"].split("/")[1], False
        pid, at = self.fuses.get(bucket, (0, 0))
        if environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE"):
            with self.lock:
                self.seen[bucket] += 1
                due = self.seen[bucket] == at
        if due:
            os.kill(pid, signal.SIGKILL)
            if at % 2:
                start_response("503 Service Unavailable", [])
                return []
        if environ["REQUEST_METHOD"] != "GET":
            return self.app(environ, start_response)
        answer = [*self.app(environ, start_response)]
        with self.lock:
            self.sent[environ["PATH_INFO"]] += sum(map(len, answer))
        return answer


def careless(app: App) -> App:
    """The store as it would be without conditional writes, which it accepts and does not heed."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return app(environ, start_response)

    return call


def serve(said: Path, session: int) -> None:
    """Serve until the test session is over."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)
    urls = {}
    for name, served in {"url": Watched(app), "careless": careless(app)}.items():
        server = make_server("127.0.0.1", 0, served, threaded=True)
        urls[name] = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
    unfinished = said.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(urls))
    unfinished.replace(said)
    while Path(f"/proc/{session}").exists():
        time.sleep(0.5)


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # who asked does not wait for it
    os.setsid()
    serve(Path(sys.argv[1]), int(sys.argv[2]))
