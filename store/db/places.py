"""Folders and buckets that hold thumbnail files outside the database.

A file is named by its SHA-256, so writing it twice is harmless. The file `thumbtune-store` in a place identifies the
store that owns the files. Without it, a folder that is not mounted would look like lost thumbnails, and two stores that
share a place could delete each other's files.

S3 is reached by obstore (https://developmentseed.org/obstore/), with the credentials that boto3 finds.
"""

from __future__ import annotations

import os
import re
import stat
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from store.errors import BadPicturesUrl, PicturesUnavailable, panics_as_errors
from store.urls import shown_message, shown_url

__all__ = ["MARK", "Listed", "Place", "open_place", "place_url"]

MARK = "thumbtune-store"
"""The name of the file that identifies the store."""

AT_ONCE = 16
"""The most requests or files at once."""
REQUEST_TIMEOUT = timedelta(seconds=20)
RETRY_FOR = timedelta(seconds=30)
"""How long a request is tried again after a timeout, a lost connection, a 5xx or a SlowDown.

With the last request, this is less than the minute for which other processes wait for the store's lock: a refresh
checks thumbnails while it holds the lock."""

_FOLDER = re.compile("[0-9a-f]{2}")
_FILE = re.compile(r"[0-9a-f]{2}/((?P<whole>[0-9a-f]{64})|\.[0-9a-f]{64}\.[0-9a-f]{8}\.partial)")


@dataclass(frozen=True, slots=True)
class Listed:
    """A thumbnail file in a place: its size in bytes, and when it was written by the place's clock.

    `sha256` is the digest in its name; empty for a temporary file that a killed process left.
    """

    name: str
    sha256: str
    size: int
    written_at: datetime


class Place(ABC):
    """A folder or bucket with thumbnail files. Thread-safe. Methods wait for the disk or network: use a thread.

    All methods raise `PicturesUnavailable` if the place can't be used now.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pictures")

    def get_many(self, digests: Iterable[str], mark: str) -> dict[str, bytes]:
        """Return {digest: content}, unverified, without missing files; all contents are held in memory.

        Args:
            digests: lower-case hex SHA-256.
            mark: see `require`; checked if a file is missing.
        """
        requested = list(digests)
        contents = self._threads.map(lambda digest: self._get(_name(digest)), requested)
        found = {digest: content for digest, content in zip(requested, contents, strict=True) if content is not None}
        if len(found) < len(requested):
            self.require(mark)
        return found

    def put_many(self, files: Mapping[str, bytes]) -> None:
        """Write {digest: content}. Each file appears complete or not at all, and then survives a power cut."""
        for _ in self._threads.map(lambda file: self._put(_name(file[0]), file[1]), files.items()):
            pass

    def delete_many(self, digests: Iterable[str]) -> None:
        """Delete files. Missing files are ignored."""
        self.delete_names(map(_name, digests))

    def delete_names(self, names: Iterable[str]) -> None:
        """Delete files by their `Listed.name`. Missing files are ignored."""
        for _ in self._threads.map(self._delete, names):
            pass

    def listed(self) -> Iterator[list[Listed]]:
        """Yield all thumbnail files in pages, in no particular order."""
        for page in self._pages():
            found = ((_FILE.fullmatch(name), size, written_at) for name, size, written_at in page)
            yield [Listed(of[0], of["whole"] or "", size, written_at) for of, size, written_at in found if of]

    def claim(self, mark: str) -> None:
        """Mark the place as the store's.

        Raises:
            PicturesUnavailable: another store has marked the place.
        """
        found = self._get(MARK)
        if found is None:
            self._put(MARK, mark.encode())
        elif found != mark.encode():
            raise PicturesUnavailable(
                f"{self.url} holds the thumbnails of another store; name another folder or prefix, or if that store no "
                f"longer exists, delete the file {MARK} there"
            )

    def require(self, mark: str) -> None:
        """Check that the place holds the thumbnails of the store with this mark.

        Raises:
            PicturesUnavailable: the place is empty, not mounted, or belongs to another store.
        """
        if self._get(MARK) != mark.encode():
            raise PicturesUnavailable(
                f"{self.url} does not hold this store's thumbnails (its file {MARK} is missing or another store's); "
                "check that the folder is mounted, or the bucket and prefix"
            )

    def has_files_of(self, other: Place, mark: str) -> bool:
        """Whether this is the same folder or prefix as another place of the store under another URL.

        Writes a temporary file to the other place, whose mark is checked.
        """
        other.require(mark)
        name = f"{MARK}.{uuid.uuid4().hex}"
        other._put(name, b"temporary")
        try:
            return self._get(name) is not None
        finally:
            other._delete(name)

    def release(self) -> None:
        """Delete the mark."""
        self._delete(MARK)

    @abstractmethod
    def _get(self, name: str) -> bytes | None: ...

    @abstractmethod
    def _put(self, name: str, content: bytes) -> None: ...

    @abstractmethod
    def _delete(self, name: str) -> None: ...

    @abstractmethod
    def _pages(self) -> Iterator[list[tuple[str, int, datetime]]]: ...


def _name(digest: str) -> str:
    """The file's path in one of 256 folders, because a folder with a million files is slow."""
    return f"{digest[:2]}/{digest}"


class _Folder(Place):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._path = Path(unquote(urlsplit(url).path))

    def _get(self, name: str) -> bytes | None:
        with self._errors("read"):
            try:
                return (self._path / name).read_bytes()
            except FileNotFoundError:
                return None

    def _put(self, name: str, content: bytes) -> None:
        target = self._path / name
        with self._errors("written"):
            if not target.parent.is_dir():
                # Not `parents`: a folder on a disk that is not mounted must not be created below the mount point.
                self._path.mkdir(exist_ok=True)
                target.parent.mkdir(exist_ok=True)
                _sync_folder(self._path)
            partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
            try:
                with partial.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
            _sync_folder(target.parent)

    def _delete(self, name: str) -> None:
        with self._errors("written"):
            (self._path / name).unlink(missing_ok=True)

    def _pages(self) -> Iterator[list[tuple[str, int, datetime]]]:
        with self._errors("read"):
            for folder in sorted(self._path.iterdir()):
                # Not others, such as lost+found, which only root may read.
                if _FOLDER.fullmatch(folder.name) and folder.is_dir():
                    yield [(f"{folder.name}/{name}", size, written_at) for name, size, written_at in _files(folder)]

    @contextmanager
    def _errors(self, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PicturesUnavailable(
                f"the thumbnails' folder {self._path} can't be {done} ({error.strerror or error}); check the folder "
                "and its disk"
            ) from error


def _files(folder: Path) -> Iterator[tuple[str, int, datetime]]:
    """Yield (name, size, time) of a folder's files, except those that are deleted or renamed meanwhile."""
    for file in folder.iterdir():
        try:
            of = file.stat()
        except FileNotFoundError:
            continue
        if stat.S_ISREG(of.st_mode):
            yield file.name, of.st_size, datetime.fromtimestamp(of.st_mtime, UTC)


def _sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut. Not possible, and not needed, on Windows."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3})")


class _Bucket(Place):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        try:
            import boto3  # noqa: PLC0415 (optional, and slow to import)
            from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
            from obstore.store import S3Store  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise BadPicturesUrl("thumbnails in S3 need more packages; run pip install 'thumbtune[s3]'") from error
        parts = urlsplit(url)
        with self._errors():
            session = boto3.Session()
            if session.get_credentials() is None:
                raise PicturesUnavailable(
                    f"there are no AWS credentials for {url}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    "or AWS_PROFILE"
                )
            endpoint = _endpoint()
            _require_url(endpoint)
            prefix = parts.path.strip("/")
            options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
            self._store: Any = S3Store(
                parts.netloc,
                prefix=prefix or None,
                region=os.environ.get("AWS_REGION") or session.region_name or "us-east-1",
                credential_provider=Boto3CredentialProvider(session),
                checksum_algorithm="SHA256",
                client_options={
                    "allow_http": endpoint.startswith("http://"),
                    "connect_timeout": timedelta(seconds=5),
                    "timeout": REQUEST_TIMEOUT,
                },
                retry_config={
                    "max_retries": 10,
                    "retry_timeout": RETRY_FOR,
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=100),
                        "max_backoff": timedelta(seconds=10),
                        "base": 2,
                    },
                },
                **options,
            )

    def _get(self, name: str) -> bytes | None:
        with self._errors():
            try:
                return bytes(self._store.get(name).bytes())
            except FileNotFoundError as error:
                _raise_if_no_bucket(error)
                return None

    def _put(self, name: str, content: bytes) -> None:
        with self._errors():
            self._store.put(name, content, use_multipart=False)

    def _delete(self, name: str) -> None:
        with self._errors():
            try:
                self._store.delete(name)
            except FileNotFoundError as error:
                _raise_if_no_bucket(error)

    def delete_names(self, names: Iterable[str]) -> None:
        """Delete objects, with one request for each thousand."""
        with self._errors():
            self._store.delete(list(names))

    def _pages(self) -> Iterator[list[tuple[str, int, datetime]]]:
        with self._errors():
            for page in self._store.list(chunk_size=1000):
                yield [(item["path"], item["size"], item["last_modified"]) for item in page]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with panics_as_errors():
                yield
        except (BadPicturesUrl, PicturesUnavailable, GeneratorExit):
            raise
        except Exception as error:  # obstore's, boto3's and botocore's errors have no common base
            raise PicturesUnavailable(f"{self.url} can't be used ({_reason(error)}); {_advice(error)}") from error


def _endpoint() -> str:
    """The object store's URL; empty for Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


_ENDPOINT = re.compile(
    r"https?://(?:[!-?A-~]*@)?(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:/[!-~]*)?", re.IGNORECASE
)


def _require_url(endpoint: str) -> None:
    """Refuse URLs at which obstore would panic."""
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        raise BadPicturesUrl(
            f"AWS_ENDPOINT_URL is {shown_url(endpoint)!r}, which is not an http or https URL; correct it"
        )


def _raise_if_no_bucket(error: FileNotFoundError) -> None:
    """Raise the error again if the bucket is missing, and not only the object."""
    if "NoSuchBucket" in str(error):
        raise error


def _reason(error: Exception) -> str:
    """S3's error code, the status, or the message's first line; the other lines contain the whole request."""
    text = str(error)
    code, status = _CODE.search(text), _STATUS.search(text)
    if code:
        return code[1]
    if status:
        return f"status {status[1]}"
    first = text.strip().partition("\n")[0]
    return shown_message(first.rpartition(" - ")[2] or type(error).__name__, _endpoint())


def _advice(error: Exception) -> str:
    text = str(error)
    if "NoSuchBucket" in text:
        return "create the bucket, or correct its name"
    if type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        return "check the credentials, and that they may read, write, list and delete objects there"
    return "check the network and the object store, and run the command again"


_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_NO_NAMES = {"", ".", ".."}
"""Parts of a prefix that obstore refuses."""


def place_url(text: str) -> str | None:
    """Check and normalise the value of THUMBTUNE_PICTURES; None for the database.

    Raises:
        BadPicturesUrl: it is not `database`, `file:///DIR` or `s3://BUCKET/PREFIX`.
    """
    text = text.strip()
    if text in ("", "database"):
        return None
    advice = "write database, file:///DIR or s3://BUCKET/PREFIX"
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise BadPicturesUrl(f"the place of thumbnails is not a URL; {advice}") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        # The message omits the URL, because it may contain a secret.
        raise BadPicturesUrl(
            "the URL of the thumbnails has a user name or parameters; write s3://BUCKET/PREFIX only, and give the "
            "credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    path = parts.path.strip("/")
    is_folder = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and path
    is_prefix = not path or _NO_NAMES.isdisjoint(path.split("/"))
    is_bucket = parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc) and is_prefix
    if "\0" in unquote(path) or (not is_folder and not is_bucket):
        raise BadPicturesUrl(f"{shown_url(text)!r} is not a place for thumbnails; {advice}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def open_place(url: str) -> Place:
    """Return the place at a URL that `place_url` returned.

    Raises:
        BadPicturesUrl: a package is missing.
        PicturesUnavailable: no credentials.
    """
    return _opened(url, os.getpid())


@cache
def _opened(url: str, _pid: int) -> Place:
    """Open a place once for each process, because threads and connections do not survive a fork."""
    return _Folder(url) if url.startswith("file:") else _Bucket(url)
