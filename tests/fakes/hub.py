"""A stand-in for the Hugging Face Hub on loopback, with the endpoints of its Python library for pushes and downloads.

Supports accounts, public and private repositories, small files in a commit, large files with the LFS protocol,
downloads, and error responses. Checked against huggingface_hub 2.4; API: https://huggingface.co/docs/hub/api.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

LARGE = (".safetensors", ".parquet")
COMMIT = "0" * 40
_FRONT = re.compile(r"^---\n(.*?)\n---\n", re.DOTALL)


@dataclass
class Repository:
    """One repository: its visibility, files and commit messages."""

    kind: str
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    def write_to(self, folder: Path) -> Path:
        """Write the files to a folder, like a clone."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder


@dataclass
class FakeHub:
    """The hub's state, and a log of its requests.

    Args:
        token: the accepted token.
        owner: the token's account; other accounts' repositories are rejected with 403.
        role: the token's role: `write` or `read`.
    """

    token: str = "hf_ATokenThatMustNotBeShown"
    owner: str = "creator"
    role: str = "write"
    url: str = ""
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """`METHOD step`, in order."""
    answers: dict[str, list[int]] = field(default_factory=dict)
    """{step: statuses of its next responses}; 0 drops the connection. Then the step has no other effect."""
    created: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def repository(self, name: str, kind: str = "model") -> Repository:
        return self.repositories[kind, name]


Answer = tuple[int, dict[str, Any]]

_STEPS = (
    ("whoami", re.compile(r"/api/whoami-v2")),
    ("create", re.compile(r"/api/repos/create")),
    ("validate", re.compile(r"/api/validate-yaml")),
    ("preupload", re.compile(r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)/preupload/main")),
    ("tree", re.compile(r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)/tree/[^/]+")),
    ("commit", re.compile(r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)/commit/main")),
    ("info", re.compile(r"/api/(?P<kind>model|dataset)s/(?P<name>[^/]+/[^/]+)(?:/revision/main)?")),
    ("resolve", re.compile(r"/(?P<dataset>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)")),
    ("batch", re.compile(r"/(?P<dataset>datasets/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch")),
    ("blob", re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})")),
)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:40]


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        step, parts = next(
            ((step, found.groupdict()) for step, form in _STEPS if (found := form.fullmatch(path))), ("unknown", {})
        )
        self.hub.asked.append(f"{self.command} {step}")
        planned = self.hub.answers.get(step)
        if planned:
            status = planned.pop(0)
            if status == 0:
                self.close_connection = True
                return
            self._send(status, {"error": f"planned, to {self.headers.get('Authorization')}"})
            return
        if step == "resolve":
            self._resolve(**parts)
            return
        if step != "blob" and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._send(401, {"error": "Invalid username or password."}, "Invalid credentials in Authorization header")
            return
        self._send(*getattr(self, f"_{step}")(body, **parts))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status: int, document: dict[str, Any] | list[Any], message: str | None = None) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        if message:
            self.send_header("X-Error-Message", message)
        self.end_headers()
        self.wfile.write(content)

    def _unknown(self, body: bytes) -> Answer:
        return 501, {"error": f"unknown path {self.path}"}

    def _whoami(self, body: bytes) -> Answer:
        token = {"displayName": "test", "role": self.hub.role}
        return 200, {"type": "user", "name": self.hub.owner, "orgs": [], "auth": {"accessToken": token}}

    def _info(self, body: bytes, kind: str, name: str) -> Answer:
        found = self.hub.repositories.get((kind, name))
        if found is None:
            return 404, {"error": "Repository not found"}
        files = [{"rfilename": file} for file in found.files]
        return 200, {"id": name, "private": found.private, "sha": COMMIT, "siblings": files, "tags": []}

    def _resolve(self, name: str, dataset: str | None, file: str) -> None:
        """Send a file, or with HEAD what is known about it; anyone may read it."""
        content = self.hub.repositories["dataset" if dataset else "model", name].files[unquote(file)]
        self.hub.asked.append(f"{self.command} {file}")
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{_digest(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _create(self, body: bytes) -> Answer:
        wanted = json.loads(body)
        self.hub.created.append(wanted)
        kind, owner = wanted.get("type") or "model", wanted.get("organization") or self.hub.owner
        if owner != self.hub.owner:
            return 403, {"error": f"You don't have the rights to create a {kind} under the namespace {owner}"}
        name = f"{owner}/{wanted['name']}"
        url = f"{self.hub.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self.hub.repositories:
            return 409, {"error": "You already created this repo", "url": url}
        private = wanted.get("private", wanted.get("visibility") == "private")
        self.hub.repositories[kind, name] = Repository(kind, private, {".gitattributes": b""})
        return 200, {"url": url, "name": name, "id": "1"}

    def _validate(self, body: bytes) -> Answer:
        from huggingface_hub import DatasetCard, ModelCard  # noqa: PLC0415

        card = json.loads(body)
        kinds: dict[str, Any] = {"model": ModelCard, "dataset": DatasetCard}
        try:
            kinds[card["repoType"]](card["content"])
        except Exception as error:
            return 400, {"errors": [{"message": str(error)}], "warnings": []}
        empty = [] if _FRONT.match(card["content"]) else [{"message": "empty metadata"}]
        return 200, {"errors": [], "warnings": empty}

    def _preupload(self, body: bytes, kind: str, name: str) -> Answer:
        files = json.loads(body)["files"]
        modes = {file["path"]: "lfs" if file["path"].endswith(LARGE) else "regular" for file in files}
        return 200, {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]}

    def _tree(self, body: bytes, kind: str, name: str) -> tuple[int, Any]:
        files = self.hub.repositories[kind, name].files
        return 200, [{"type": "file", "path": path, "size": len(c), "oid": _digest(c)} for path, c in files.items()]

    def _batch(self, body: bytes, name: str, dataset: str | None) -> Answer:
        objects = json.loads(body)["objects"]
        todo = [file for file in objects if file["oid"] not in self.hub.blobs]
        done = [file for file in objects if file["oid"] in self.hub.blobs]
        uploads = [{**f, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{f['oid']}", "header": {}}}} for f in todo]
        return 200, {"transfer": "basic", "objects": [*done, *uploads]}

    def _blob(self, body: bytes, oid: str) -> Answer:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "the digest does not match"}
        self.hub.blobs[oid] = body
        return 200, {}

    def _commit(self, body: bytes, kind: str, name: str) -> Answer:
        found = self.hub.repositories[kind, name]
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            match item["key"]:
                case "header":
                    found.commits.append(value["summary"])
                case "file":
                    found.files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    found.files[value["path"]] = self.hub.blobs[value["oid"]]
                case "deletedFile":
                    del found.files[value["path"]]
        oid = f"{len(found.commits):040}"
        return 200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"}


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve the hub on a free port; sets `hub.url`."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
