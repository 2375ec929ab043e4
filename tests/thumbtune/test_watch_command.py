"""`thumbtune watch` as a process: how it ends, which channels it skips, and what it never prints."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collector.sync.pipeline import PICTURES_AT_ONCE
from collector.watch.child import GRACE_S
from store.db import Database, open_database
from store.tables import SyncRun
from store.types import utc_now
from store.youtube import quota_day, units_spent
from tests import forked
from tests.collector.channels import channel, contents, later, sync, sync_runs, video
from tests.collector.test_sync_processes import check_sound
from tests.collector.watching import retrains
from tests.standin import Fault, Faults, StandIn
from thumbtune.commands.watch import PATIENCE_S
from thumbtune.standin.catalogue import Catalogue

pytestmark = pytest.mark.processes

KEY = "AIzaSyTheKeyThatNobodyMaySee"


class Watcher:
    """A running `thumbtune watch`; its log is read as it comes."""

    def __init__(
        self,
        url: str,
        server: StandIn,
        *arguments: str,
        options: tuple[str, ...] = (),
        within: tuple[str, ...] = (),
    ) -> None:
        words = ["--db", url, *options, "watch", "--listen", "127.0.0.1:0", *arguments]
        start = subprocess.Popen if within else forked.Popen
        self.process = start(
            [*within, *forked.THUMBTUNE, *words],
            env={**os.environ, **server.environment(KEY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(iter(self.process.stderr.readline, ""))

    @property
    def text(self) -> str:
        return "".join(self.log)

    def until(self, happened: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            os.sched_yield()

    def said(self, pattern: str) -> str:
        """Wait for a line of the log; return the pattern's first group."""
        self.until(lambda: re.search(pattern, self.text))
        match = re.search(pattern, self.text)
        assert match is not None
        return match[match.re.groups and 1]

    def get(self, path: str) -> bytes:
        address = self.said(r"answering on (http://[\d.]+:\d+)")
        with urllib.request.urlopen(address + path, timeout=30) as answer:
            body: bytes = answer.read()
        return body

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 10) -> int:
        """Send a signal; return the exit code, which must come within some seconds."""
        self.process.send_signal(number)
        code = self.process.wait(seconds)
        self._reader.join(30)
        assert self.process.stdout is not None
        assert self.process.stdout.read() == ""
        assert "Traceback" not in self.text
        return code


@contextmanager
def watching(
    url: str, server: StandIn, *arguments: str, options: tuple[str, ...] = (), within: tuple[str, ...] = ()
) -> Iterator[Watcher]:
    watcher = Watcher(url, server, *arguments, options=options, within=within)
    try:
        yield watcher
    finally:
        watcher.process.kill()
        watcher.process.wait()
        assert watcher.process.stdout is not None
        watcher.process.stdout.close()
        watcher._reader.join(30)
        assert watcher.process.stderr is not None
        watcher.process.stderr.close()


def channels(count: int, videos: int) -> list[Catalogue]:
    made = []
    for number in range(count):
        catalogue = channel(0, name=f"chan{number}")
        catalogue.publish(*(video(index, id=f"v{number:02d}{index:07d}x") for index in range(videos)))
        made.append(catalogue)
    return made


def finished(database: Database) -> list[SyncRun]:
    return [run for run in sync_runs(database) if run.status != "running"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_current_work_and_exits_with_0_within_10_seconds(
    store_url: str, number: signal.Signals
) -> None:
    slow = [
        Fault("hang", path="/youtube/v3/playlistItems", after=3, times=1, delay_s=60),
        Fault("slow", path="/vi", delay_s=30, after=40),
    ]
    with StandIn(channel(230), faults=Faults(slow, most_in_a_row=None)) as server:
        opened = open_database(store_url)
        with watching(store_url, server, "@tests") as watcher:
            watcher.until(lambda: server.faults.made["hang"] and server.faults.made["slow"] >= PICTURES_AT_ONCE)
            assert watcher.end(number) == 0, watcher.text
            assert "stopped cleanly" in watcher.text
        server.release()
    (run,) = sync_runs(opened)
    assert run.status == "interrupted"
    kept = sum(row[4] is not None for row in contents(opened).values())
    assert kept == run.pictures_fetched >= 40, "fetched thumbnails were written"
    check_sound(opened)
    opened.close()


def test_a_second_signal_exits_without_finishing_the_current_work(sqlite_url: str) -> None:
    hang = Fault("hang", path="/youtube/v3/playlistItems", after=1, times=1, delay_s=60)
    with StandIn(channel(120), faults=Faults([hang])) as server, watching(sqlite_url, server, "@tests") as watcher:
        watcher.until(lambda: server.faults.made["hang"])
        # Its last batch can't be written while another program locks the store.
        other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None, timeout=60)
        other.execute("BEGIN IMMEDIATE")
        watcher.process.send_signal(signal.SIGTERM)
        watcher.said("stopping: ")
        watcher.process.send_signal(signal.SIGTERM)
        assert watcher.process.wait(30) == 3, watcher.text
        other.rollback()
        other.close()
        watcher._reader.join(30)
        assert "can't be finished in time" in watcher.text
        assert "Traceback" not in watcher.text


def test_a_locked_store_does_not_prevent_the_exit(sqlite_url: str) -> None:
    slow = Fault("slow", path="/vi", delay_s=0.05)
    with StandIn(channel(300), faults=Faults([slow], most_in_a_row=None)) as server:
        opened = open_database(sqlite_url)
        with watching(sqlite_url, server, "@tests") as watcher:
            watcher.until(lambda: any(row[4] is not None for row in contents(opened).values()))
            with opened.engine.execution_options(thumbtune_begin="IMMEDIATE").connect() as other, other.begin():
                asked = server.journal.count("picture")
                watcher.until(lambda: server.journal.count("picture") >= asked + 32)
                # A waiting writer would wait for a minute, regardless of signals.
                assert watcher.end() == 0, watcher.text
        assert "can't be finished in time" in watcher.text
        check_sound(opened)
        before = {video_id for video_id, row in contents(opened).items() if row[4] is not None}
        server.faults = Faults()
        server.journal.clear()
        with watching(sqlite_url, server) as watcher:
            watcher.said("@tests: complete")
            assert watcher.end() == 0
        fetched = {request.path.split("/")[2] for request in server.journal.requests("picture")}
    assert [run.status for run in sync_runs(opened)] == ["interrupted", "complete"]
    assert before
    assert not before & fetched
    assert len(contents(opened)) == 300
    opened.close()


def test_a_signal_ends_an_idle_service(sqlite_url: str) -> None:
    with StandIn(channel(3)) as server, watching(sqlite_url, server, "@tests") as watcher:
        watcher.said("@tests: complete, 3 new, 3 thumbnails, 3 units")
        assert watcher.get("/healthz") == watcher.get("/readyz") == b"ok\n"
        assert watcher.end() == 0


def test_two_watchers_on_one_store_never_sync_the_same_channel_at_once(store_url: str) -> None:
    opened = open_database(store_url)
    catalogues = channels(6, 60)
    names = [catalogue.handle for catalogue in catalogues]
    with StandIn(*catalogues) as server:
        with watching(store_url, server, *names) as first, watching(store_url, server, *names) as second:
            for watcher in (first, second):
                watcher.until(lambda: len(finished(opened)) == len(names))
            for watcher in (first, second):
                assert watcher.end() == 0
        # Each may look up a channel before it sees that the other process syncs it.
        assert server.journal.count("playlistItems") == server.journal.count("videos") == 2 * len(names)
        assert len(names) <= server.journal.count("channels") <= 2 * len(names)
    assert [run.status for run in sync_runs(opened)] == ["complete"] * len(names)
    assert len({run.channel_id for run in sync_runs(opened)}) == len(names)
    assert len(contents(opened)) == 60 * len(names)
    check_sound(opened)
    opened.close()


def named(machine: str) -> tuple[str, ...]:
    """The prefix of a command that runs it with this host name, in its own namespace."""
    words = "unshare", "--user", "--map-root-user", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"'
    return *words, machine


def machines_can_be_named() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*named("one"), "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not machines_can_be_named(), reason="the host name can't be changed here")
async def test_several_machines_share_the_syncs_of_the_same_channels(tmp_path: Path) -> None:
    """Ten channels that became due at about the same time; their order is the jitter's."""
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    catalogues = channels(10, 1)
    orders = []
    with StandIn(*catalogues) as server:
        names = [catalogue.handle for catalogue in catalogues]
        database = open_database(f"sqlite:///{first}")
        await sync(database, server, *names, now=later(-24 * 90))
        database.close()
        shutil.copy(first, second)
        for path in (first, second):
            database = open_database(f"sqlite:///{path}")
            with watching(f"sqlite:///{path}", server, "--every", "30d", within=named(path.stem)) as watcher:
                watcher.until(lambda: len(finished(database)) == 2 * len(names))  # noqa: B023 (called at once)
                assert watcher.end() == 0, watcher.text
            orders.append([run.channel_id for run in sync_runs(database)[len(names) :]])
            database.close()
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_the_next_process_continues_after_a_kill(sqlite_url: str) -> None:
    opened = open_database(sqlite_url)
    hang = Fault("hang", path="/youtube/v3/playlistItems", after=2, times=1, delay_s=60)
    with StandIn(channel(230), faults=Faults([hang])) as server:
        with watching(sqlite_url, server, "@tests") as watcher:
            watcher.until(lambda: server.faults.made["hang"])
            watcher.process.kill()
            watcher.process.wait()
        server.release()
        with watching(sqlite_url, server) as watcher:
            watcher.said("@tests: complete")
            assert watcher.end() == 0
    assert [run.status for run in sync_runs(opened)] == ["interrupted", "complete"]
    assert len(contents(opened)) == 230
    opened.close()


def test_a_concurrent_cron_sync_skips_channels_of_the_service(sqlite_url: str) -> None:
    hang = Fault("hang", path="/youtube/v3/playlistItems", after=1, times=1, delay_s=60)
    with StandIn(channel(120), faults=Faults([hang])) as server, watching(sqlite_url, server, "@tests") as watcher:
        watcher.until(lambda: server.faults.made["hang"])
        done = forked.run(
            [*forked.THUMBTUNE, "--db", sqlite_url, "sync", "--skip-busy", "--json"],
            env={**os.environ, **server.environment(KEY)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        (report,) = json.loads(done.stdout)["channels"]
        assert (report["status"], report["requests"]) == ("busy", 0)
        server.release()
        watcher.said("@tests: complete")
        assert watcher.end() == 0


def test_the_key_is_not_in_logs_metrics_or_arguments(sqlite_url: str) -> None:
    down = Fault("status", path="/youtube/v3/videos", status=500, times=1)
    with (
        StandIn(channel(3), faults=Faults([down])) as server,
        # Within `env`, because a forked process does not have its own command line.
        watching(
            sqlite_url, server, "@tests", "@nobody-at-all", options=("--debug", "--log-format", "json"), within=("env",)
        ) as watcher,
    ):
        watcher.said("@nobody-at-all: failed")
        watcher.until(lambda: b"@nobody-at-all" in watcher.get("/metrics"))
        shown = watcher.get("/metrics").decode() + watcher.get("/healthz").decode() + watcher.get("/readyz").decode()
        arguments = Path(f"/proc/{watcher.process.pid}/cmdline")
        if arguments.exists():
            shown += arguments.read_text()
        assert watcher.end() == 0
        lines = [json.loads(line) for line in watcher.log]
        assert server.journal.count("videos") == 2
    assert {"debug", "info", "warning"} <= {line["level"] for line in lines}
    (synced,) = [line for line in lines if line.get("status") == "complete"]
    assert (synced["channel"], synced["units"], synced["new"]) == (server.catalogues[0].channel_id, 3, 3)
    assert KEY not in shown + watcher.text


def test_retraining_runs_in_a_child_process_without_the_key(sqlite_url: str) -> None:
    with StandIn(channel(3)) as server, watching(sqlite_url, server, "@tests", "--retrain") as watcher:
        watcher.said(r"retraining: .*nothing to train")
        watcher.said(r"retraining ended with code 0")
        watcher.until(lambda: retrains(watcher.get("/metrics")) == {"0": 1.0})
        assert watcher.end() == 0
    assert KEY not in watcher.text


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="arguments and environment are read from /proc")
def test_retraining_gets_the_store_url_by_a_way_that_other_users_cannot_read(sqlite_url: str) -> None:
    """The store's URL, which may contain a password, is in the child's environment; the key is not."""
    json_lines = ("--log-format", "json")
    with (
        StandIn(channel(3)) as server,
        watching(sqlite_url, server, "@tests", "--retrain", options=json_lines) as watcher,
    ):
        child = Path("/proc", watcher.said(r'"message": "retraining has started", "pid": (\d+)'))
        environment, arguments = (child.joinpath(name).read_text().split("\0") for name in ("environ", "cmdline"))
        watcher.said(r"retraining ended with code 0")
        assert watcher.end() == 0
    assert "retrain" in arguments
    assert [word for word in arguments if sqlite_url in word or KEY in word] == []
    assert [entry for entry in environment if entry.startswith("THUMBTUNE_DB=")] == [f"THUMBTUNE_DB={sqlite_url}"]
    assert [entry for entry in environment if KEY in entry] == []


def test_a_retraining_that_does_not_end_is_killed_before_the_stop_times_out() -> None:
    """Otherwise the service would have ended, and the retraining would continue without it."""
    assert GRACE_S < PATIENCE_S < 10


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["@tests", "--every", "6"], 2, "'6' is not a duration"),
        (["@tests", "--every", "59s"], 2, "'59s' is out of range"),
        (["@tests", "--units", "0"], 2, "--units"),
        (["@tests", "--listen", "nowhere"], 2, "'nowhere' is not an address"),
        (["tests"], 2, "did you mean @tests?"),
        ([], 2, "The store has no channels yet; name one: thumbtune watch @HANDLE"),
    ],
)
def test_invalid_options_are_one_line(migrated_sqlite_url: str, arguments: list[str], code: int, said: str) -> None:
    with StandIn(channel(1)) as server:
        done = forked.run(
            [*forked.THUMBTUNE, "--db", migrated_sqlite_url, "watch", *arguments],
            env={**os.environ, **server.environment(KEY)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, len(errors)) == (code, 1), done.stderr
    assert said in errors[0]
    assert server.journal.count() == 0


def test_a_public_listen_address_gives_a_warning(sqlite_url: str) -> None:
    with StandIn(channel(1)) as server, watching(sqlite_url, server, "@tests", "--listen", "0.0.0.0:0") as watcher:
        watcher.said(r"WARNING .* anyone who can reach 0\.0\.0\.0:\d+ can read the service's health and metrics")
        assert watcher.end() == 0


@pytest.mark.parametrize(
    ("missing", "arguments", "code", "said"),
    [
        ("prometheus_client", [], 1, "prometheus-client is not installed; run pip install 'thumbtune[service]'"),
        ("torch", ["--retrain"], 2, "--retrain needs the training stack; run pip install 'thumbtune[train]'"),
    ],
)
def test_a_missing_extra_is_named(tmp_path: Path, missing: str, arguments: list[str], code: int, said: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; from thumbtune.cli import main; main(['watch', *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "@tests", *arguments],
        cwd=tmp_path,
        env={**os.environ, "YOUTUBE_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == f"error: {said}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["@nobody", "@tests"])
def test_a_signal_while_a_sync_starts_ends_the_service_cleanly(sqlite_url: str, name: str) -> None:
    """Another program locks the store at that time, and releases it."""
    hang = Fault("hang", path="/youtube/v3/channels", times=1, delay_s=60)
    opened = open_database(sqlite_url)
    with (
        StandIn(channel(3), faults=Faults([hang])) as server,
        watching(sqlite_url, server, name, options=("--debug",)) as watcher,
    ):
        watcher.until(lambda: server.faults.made["hang"])
        with opened.engine.execution_options(thumbtune_begin="IMMEDIATE").connect() as other, other.begin():
            server.release()
            watcher.said(r"GET http://.*/channels\?.*: 200, ")
            watcher.process.send_signal(signal.SIGTERM)
            watcher.said("stopping: ")
        assert watcher.process.wait(30) == 0, watcher.text
        watcher._reader.join(30)
        assert "stopped cleanly" in watcher.text
        assert re.search(rf"{name}: interrupted, .* 1 units", watcher.text)
        assert server.units == 1
    assert [(run.status, run.units) for run in sync_runs(opened)] == ([] if name == "@nobody" else [("interrupted", 1)])
    with opened.read() as session:
        assert units_spent(session, quota_day(utc_now())) == 1
    opened.close()
