"""A real S3 server (moto's) on loopback that can misbehave, and the places of thumbnails that tests use."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from store.db import places

Answer = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes] | None]
"""A WSGI application that answers in the server's place, or returns None to let the server answer."""

SECRET = "a-secret-key-of-tests"


class ObjectStore:
    """An S3 server with one bucket for each test."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.answer: Answer | None = None
        """What answers instead of the server; tests set it."""
        self.requests = 0
        self.bucket = ""

    @property
    def client(self) -> Any:
        return boto3.client("s3", endpoint_url=self.endpoint)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/some/prefix"

    def failing(self, times: int, status: str, code: str) -> None:
        """Answer the next requests with an error of S3's."""
        left = [times]

        def answer(_environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes] | None:
            if left[0] == 0:
                return None
            left[0] -= 1
            start(status, [("Content-Type", "application/xml")])
            return [f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told {SECRET}</Message></Error>".encode()]

        self.answer = answer

    def hanging(self, times: int, until: threading.Event) -> None:
        """Do not answer the next requests before the event."""
        left = [times]

        def answer(_environ: dict[str, Any], _start: Callable[..., Any]) -> Iterable[bytes] | None:
            if left[0] != 0:
                left[0] -= 1
                until.wait()
            return None

        self.answer = answer


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    app = DomainDispatcherApplication(create_backend_app)
    store = ObjectStore("")
    lock = threading.Lock()

    def faulty(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        with lock:
            store.requests += 1
        answered = None if store.answer is None else store.answer(environ, start)
        return app(environ, start) if answered is None else answered

    server = make_server("127.0.0.1", 0, faulty, threaded=True)
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def environment_of(store: ObjectStore) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "key-of-tests",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def new_bucket(store: ObjectStore) -> ObjectStore:
    """Empty what earlier tests left: another bucket, no faults, no open connections."""
    store.answer = None
    store.bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    store.client.create_bucket(Bucket=store.bucket)
    places._opened.cache_clear()
    return store


def folder_url(folder: Path) -> str:
    return f"file://{folder}"
