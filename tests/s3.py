"""An S3 server of our own for tests: moto's, in a process of its own, so that every process of a job finds it as a real one."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.config import Config

BUCKET = "alt-ray-tests"


class Server:
    """A server that runs. Keys are in the environment (conftest.py); its bucket is BUCKET."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process, self.port = process, port
        self.endpoint = f"http://127.0.0.1:{port}"

    @property
    def options(self) -> str:
        """What an address ends in that names the server itself."""
        return f"?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def client(self) -> "boto3.client":  # type: ignore[valid-type]
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            config=Config(retries={"max_attempts": 0}),
        )

    def upload(self, folder: Path, prefix: str) -> str:
        """Put the files of a folder into the bucket, and return their address."""
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            self.client().upload_file(str(file), BUCKET, f"{prefix}/{file.relative_to(folder)}")
        return f"s3://{BUCKET}/{prefix}"

    def names(self, prefix: str) -> list[str]:
        """The keys below a prefix, without it; folder markers are left out."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return sorted(key[len(prefix) + 1 :] for key in keys if not key.endswith("/"))

    def read(self, key: str) -> bytes:
        return self.client().get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def rows(self, prefix: str) -> list[dict[str, object]]:
        """The rows of all parts below a prefix, each part read for itself: one that were half there would fail."""
        tables = []
        for name in self.names(prefix):
            if name.endswith(".parquet"):
                tables.append(pq.read_table(pa.BufferReader(self.read(f"{prefix}/{name}"))))
        return pa.concat_tables(tables).to_pylist() if tables else []

    def pause(self) -> None:
        """Let the server answer nothing, as behind a network that is gone."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)


class Gate:
    """A port before a server's that can be closed: who connects is refused then, as by a server that is being started again.

    While it `denies`, everybody is told that he has no permission.
    """

    def __init__(self, target: int) -> None:
        self.target, self.port, self.denies = target, 0, False
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self.open()

    @property
    def options(self) -> str:
        return f"?endpoint_override=127.0.0.1:{self.port}&scheme=http"

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        for one in (self._listener, *self._open):
            if one is not None:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
        self._listener, self._open = None, []

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                if self.denies:
                    near.recv(1 << 16)
                    near.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.target))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def server(port: int, **environment: str) -> Iterator[Server]:
    """Run a server with an empty bucket; what is in `environment` is moto's own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    try:
        found = Server(process, port)
        wait_for_port(port, process)
        found.client().create_bucket(Bucket=BUCKET)
        yield found
    finally:
        process.kill()
        process.wait()


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no server on port {port}")
