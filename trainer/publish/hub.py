"""Push a run's model or a snapshot to the Hugging Face Hub; new repositories are private by default.

The hub is asked before anything is written, so that a missing token or a public repository is reported within seconds.
Source: https://huggingface.co/docs/huggingface_hub/guides/upload
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from huggingface_hub import HfApi, get_session, get_token
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is that of its HTTP library
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but exported lazily

from store.db import Database
from trainer.artifacts import can_save
from trainer.data import export_dataset
from trainer.errors import BadRepository, HubUnreachable, NoToken, PublicRepository, PushFailed, TokenRefused, causes_of
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries
from trainer.runs import dataset_card, export_model, model_card

__all__ = ["Hub", "Pushed", "push_dataset", "push_model"]

logger = logging.getLogger(__name__)

Kind = Literal["model", "dataset"]
T = TypeVar("T")

_TOKENS = "https://huggingface.co/settings/tokens"
# Weight files that an earlier model of another size may have left: a loader would mistake them for the new weights.
_OLD_WEIGHTS = ["model*.safetensors", "model.safetensors.index.json"]


@dataclass(frozen=True)
class Pushed:
    """The result of a push.

    Args:
        repo: the repository's full name, `owner/name`.
        url: the repository's URL.
        private: whether the repository is private.
        commit: the id of the commit.
        source_id: id of the run whose model was pushed, or of the snapshot for a dataset.
    """

    repo: str
    url: str
    private: bool
    commit: str
    source_id: int


def push_model(
    database: Database,
    repo: str,
    run_id: int | None = None,
    *,
    private: bool = True,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Pushed:
    """Push a run's whole model, with its model card, to the hub.

    Args:
        database: the store.
        repo: `owner/name`, or `name` for a repository of the token's owner.
        run_id: the run; None chooses as `export_model` does.
        private: whether a new repository is private; if true, an existing public repository is refused.
        hub: the connection to the hub.
        progress: receives the steps.

    Raises:
        NoToken, TokenRefused, BadRepository, PublicRepository, HubUnreachable, PushFailed: the push can't be done.
        NotFound, RunUnusable, ModelUnavailable: the run's model can't be loaded.
        CantSave: the temporary folder has no space for the model.
    """

    def write(folder: Path, name: str) -> int:
        chosen = export_model(database, folder, run_id)
        with can_save(folder):
            (folder / "README.md").write_text(model_card(database, chosen, name), encoding="utf-8")
        return chosen

    return _push(_Target("model", repo, private), write, hub or Hub(), progress or Silent())


def push_dataset(
    database: Database,
    repo: str,
    run_id: int | None = None,
    *,
    private: bool = True,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Pushed:
    """Push a snapshot, with titles and thumbnails, to the hub: one Parquet file per split, and a dataset card.

    With `run_id`, the snapshot that this run trained on is pushed, otherwise all current pairs. The other arguments are
    those of `push_model`, and so are the errors, with NotEnoughPairs if there is nothing to push.
    """
    shown = progress or Silent()

    def write(folder: Path, name: str) -> int:
        written = export_dataset(database, folder, run_id=run_id, form="parquet", progress=shown)
        card = dataset_card(database, written.snapshot_id, list(written.examples), name)
        with can_save(folder):
            (folder / "README.md").write_text(card, encoding="utf-8")
        return written.snapshot_id

    return _push(_Target("dataset", repo, private), write, hub or Hub(), shown)


@dataclass(frozen=True)
class _Target:
    kind: Kind
    repo: str
    private: bool


def _push(target: _Target, write: Callable[[Path, str], int], hub: Hub, progress: Progress) -> Pushed:
    _check_name(target.repo)
    with quiet_libraries(), progress.phase("Checking the hub"):
        repository = hub.open(target.repo, target.kind)
        existed = repository.look(target.private) is not None
    with can_save(Path("the temporary folder")):
        scratch = tempfile.TemporaryDirectory(prefix="thumbtune-push-")
    with scratch as scratch_folder:
        folder = Path(scratch_folder)
        source_id = write(folder, repository.repo)
        with quiet_libraries(), progress.phase(f"Uploading to {repository.repo}"):
            if not existed:
                repository.create(target.private)
            # Check again: the repository may have become public during the export, and a push can't be undone.
            is_private = repository.look(target.private)
            if is_private is None:
                raise PushFailed(f"{repository.repo} was created, but is not listed yet; run again in a minute")
            commit = repository.upload(folder, f"Upload {target.kind} {source_id}", existed=existed)
    return Pushed(repository.repo, repository.url, is_private, commit, source_id)


def _check_name(repo: str) -> None:
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise BadRepository(
            f"{repo!r} is not a valid repository name; use OWNER/NAME or NAME, of letters, digits, '-', '_' and '.'"
        ) from error


@dataclass(frozen=True)
class Hub:
    """Access to the hub, with the endpoint and the token that huggingface_hub finds.

    Args:
        ask_s: timeout of a request that reads, in seconds.
        send_s: timeout of a request that writes, in seconds.
        pauses_s: seconds to wait before each retry of a request that failed for a temporary reason.
    """

    ask_s: float = 15.0
    send_s: float = 300.0
    pauses_s: tuple[float, ...] = (1.0, 3.0)

    def open(self, repo: str, kind: Kind) -> _Repository:
        """Find the token, its owner, and the repository's full name.

        Raises:
            NoToken, TokenRefused, HubUnreachable, PushFailed: see their docstrings.
        """
        token = _token()
        api = HfApi(token=token)

        def ask() -> tuple[str, str | None]:
            who = api.whoami()
            return str(who["name"]), who.get("auth", {}).get("accessToken", {}).get("role")

        owner, role = _Repository(self, api, token, repo, kind).call("the owner of the token", self.ask_s, ask)
        if role == "read":
            raise TokenRefused(f"the hub's token is read-only; create a token with write access at {_TOKENS}")
        return _Repository(self, api, token, repo if "/" in repo else f"{owner}/{repo}", kind)


def _token() -> str:
    token = get_token()
    if not token:
        raise NoToken(
            "there is no access token for the hub on this machine; "
            f"run 'hf auth login', or set HF_TOKEN to a token with write access from {_TOKENS}"
        )
    if not (token.isascii() and token.isprintable()) or " " in token:
        # Otherwise the HTTP library would refuse it later and quote it.
        raise TokenRefused(f"the hub's token contains invalid characters; copy it again from {_TOKENS}")
    return token


@dataclass(frozen=True)
class _Repository:
    """A repository on the hub, accessed with one token."""

    hub: Hub
    api: HfApi
    token: str
    repo: str
    kind: Kind

    @property
    def url(self) -> str:
        return f"{self.api.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"

    def look(self, private: bool) -> bool | None:
        """Return whether the repository is private, or None if it does not exist; refuse a public one if `private`."""
        seconds = self.hub.ask_s

        def ask() -> bool | None:
            try:
                info = self.api.repo_info(self.repo, repo_type=self.kind, timeout=seconds)
            except RepositoryNotFoundError:
                return None
            return bool(info.private)

        found = self.call(f"the status of {self.repo}", seconds, ask)
        if found is False and private:
            raise PublicRepository(
                f"{self.repo} exists and is public; use another name, make it private on the hub, or use --public"
            )
        return found

    def create(self, private: bool) -> None:
        self.call(
            f"the creation of {self.repo}",
            self.hub.ask_s,
            lambda: self.api.create_repo(self.repo, repo_type=self.kind, private=private, exist_ok=True),
        )

    def upload(self, folder: Path, message: str, *, existed: bool) -> str:
        """Commit the folder's files; return the commit's id. A retry sends only the files that are still missing."""
        done = self.call(
            f"the upload to {self.repo}",
            self.hub.send_s,
            lambda: self.api.upload_folder(
                repo_id=self.repo,
                repo_type=self.kind,
                folder_path=folder,
                commit_message=message,
                delete_patterns=_OLD_WEIGHTS if existed and self.kind == "model" else None,
            ),
        )
        return str(done.oid)

    def call(self, asked: str, seconds: float, do: Callable[[], T]) -> T:
        """Make a request to the hub, with retries for temporary errors; map the library's errors to ours."""
        for pause in (*self.hub.pauses_s, None):
            try:
                with _with_timeouts(seconds):
                    return do()
            except Exception as error:
                if pause is None or not _is_temporary(error):
                    # A traceback shows causes, so a cause that contains the token is dropped.
                    told_token = any(self.token in str(cause) for cause in causes_of(error))
                    raise self._mapped(asked, error) from (None if told_token else error)
                logger.info("the request for %s failed (%s); trying again", asked, type(error).__name__)
                time.sleep(pause)
        raise AssertionError("the last attempt has no pause")

    def _mapped(self, asked: str, error: Exception) -> PushFailed:
        if isinstance(error, OfflineModeIsEnabled):
            return HubUnreachable("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it")
        answer = _answer(error)
        if answer is None:
            if any(isinstance(cause, HTTPError | ConnectionError | TimeoutError) for cause in causes_of(error)):
                return HubUnreachable(
                    f"the hub can't be reached at {self.api.endpoint}; check the network, and run again later"
                )
            # The answer has another form than the library expects, or its native uploader failed.
            return PushFailed(f"the request for {asked} failed ({self._first_line(error)}); run again later")
        status = answer.response.status_code
        why = f" ({self._first_line(answer.server_message)})" if answer.server_message else ""
        if status == 401:
            return TokenRefused(f"the hub rejected the token{why}; run 'hf auth login', or set HF_TOKEN to a valid one")
        if status == 403:
            return TokenRefused(
                f"the hub's token has no permission to write to {self.repo}{why}; use your own name or organisation, "
                f"and a token with write access from {_TOKENS}"
            )
        return PushFailed(f"the request for {asked} failed with status {status}{why}; run again later")

    def _first_line(self, text: object) -> str:
        """Return the first line of a message, shortened, without the token."""
        lines = str(text).replace(self.token, "***").split("\n")
        return next((line.strip()[:200] for line in lines if line.strip()), type(text).__name__)


@contextmanager
def _with_timeouts(seconds: float) -> Iterator[None]:
    """Set a timeout for each read and write of the library's HTTP client, which has none by default."""
    session = get_session()
    before = session.timeout
    session.timeout = seconds
    try:
        yield
    finally:
        session.timeout = before


def _answer(error: Exception) -> HfHubHTTPError | None:
    """Return the hub's HTTP error behind an error; uploads in threads wrap it."""
    return next((cause for cause in causes_of(error) if isinstance(cause, HfHubHTTPError)), None)


def _is_temporary(error: Exception) -> bool:
    """Whether a retry may succeed."""
    if isinstance(error, OfflineModeIsEnabled):
        return False
    answer = _answer(error)
    if answer is not None:
        return answer.response.status_code in (408, 429) or answer.response.status_code >= 500
    return any(isinstance(cause, HTTPError | ConnectionError | TimeoutError) for cause in causes_of(error))
