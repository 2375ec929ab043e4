"""A full disk: a small tmpfs in a separate mount namespace, which no other process sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.reliability_lab import Ended, Row, Shell, channel, contents, error_line, problems, read_store, sqlite_url
from thumbtune.demo.session import ENCODER
from thumbtune.standin.server import StandIn

__all__ = [
    "COPIES",
    "RESUMED",
    "FullDisk",
    "can_mount",
    "copy_to_a_full_disk",
    "full_disk",
    "print_to_a_full_disk",
    "resume_on_a_full_disk",
    "sync_on_a_full_disk",
]

UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")

# $1: the mount point; $2: the initial size; $3: the folder for copies of the store; the rest: the command.
# Prints each exit code.
SCRIPT = """
disk=$1; size=$2; copy=$3; shift 3
mount -t tmpfs -o size="$size" tmpfs "$disk" || exit 99
"$@" >"$copy/first.out" 2>"$copy/first.err"; echo $?
for file in "$disk"/*; do [ ! -e "$file" ] || cp "$file" "$copy/"; done
mount -o remount,size=1g "$disk" || exit 99
"$@" >"$copy/second.out" 2>"$copy/second.err"; echo $?
mkdir "$copy/second"; cp "$disk"/* "$copy/second/"
"""


# $1: the mount point; the rest: the command. Prints what is left on the disk.
COPY_SCRIPT = """
disk=$1; shift
mount -t tmpfs -o size=24k tmpfs "$disk" || exit 99
"$@" >&2; code=$?
find "$disk" -mindepth 1; exit $code
"""

COPIES: dict[str, tuple[str, ...]] = {
    "a backup to a file": ("db", "backup", "disk/copy.db"),
    "a backup to a folder": ("db", "backup", "disk/"),
    "a dataset": ("export", "dataset", "disk/dataset"),
    "a table": ("export", "dataset", "disk/dataset", "--csv"),
    "Parquet files": ("export", "dataset", "disk/dataset", "--parquet"),
    "tar files": ("export", "dataset", "disk/dataset", "--webdataset", "--shards", "2"),
}
"""Commands that write a copy of a store's content to the folder `disk`."""

# $1: the mount point; $2: the initial size; $3: a store to put there, or empty; $4: the store's URL; $5: the URL to
# which the command moves the thumbnails, or empty; the rest: the command. Prints each exit code, and at the end that
# of `db check`.
RESUME_SCRIPT = """
disk=$1; size=$2; seed=$3; store=$4; place=$5; shift 5
mount -t tmpfs -o size="$size" tmpfs "$disk" || exit 99
[ -z "$seed" ] || cp "$seed" "$disk/store.db" || exit 99
"$@" >/dev/null; echo $?
mount -o remount,size=1g "$disk" || exit 99
"$@" >/dev/null; echo $?
[ -z "$place" ] || export THUMBTUNE_PICTURES="$place"
"$PYTHON" -m thumbtune -q --db "$store" db check >/dev/null; echo $?
"""


@dataclass(frozen=True)
class Resumed:
    """A command that is run on a full disk, and again when there is space.

    Args:
        words: the command.
        kilobytes: the disk's size, in addition to the size of a store on the disk.
        on_disk: whether the store is on the full disk; else only the target is.
        from_start: whether the store on the disk is new.
    """

    words: tuple[str, ...]
    kilobytes: int
    on_disk: bool = False
    from_start: bool = False


RESUMED = {
    "a copy of the store": Resumed(("db", "copy", "disk/copy.db"), 400),
    "the start of a copy": Resumed(("db", "copy", "disk/copy.db"), 100),
    "a move of thumbnails": Resumed(("db", "move-pictures", "file://{disk}/pictures"), 300),
    "an import": Resumed(("import", "{source}"), 600, on_disk=True, from_start=True),
    "the start of an import": Resumed(("import", "{source}"), 300, on_disk=True, from_start=True),
    "encoding": Resumed(("encode", "--model", str(ENCODER), "--device", "cpu"), 60, on_disk=True),
}
"""Commands that continue when they are run again."""


def can_mount() -> bool:
    """Whether this process may mount a file system in a new namespace."""
    if shutil.which("unshare") is None:
        return False
    probe = [*UNSHARE, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


class FullDisk:
    """Two syncs: on a full disk (`full`), and after enlarging the disk (`roomy`).

    `kept` and `store` are the URLs of copies of the store after the first and the second sync.

    Args:
        folder: an empty folder.
        server: the server to sync from.
        size: the disk's size, in the syntax of mount (`2m`).
    """

    def __init__(self, folder: Path, server: StandIn, size: str) -> None:
        disk = folder / "disk"
        disk.mkdir(parents=True)
        shell = Shell.of(sqlite_url(disk, "store"), server)
        command = shell.command("sync", server.catalogues[0].handle)
        codes = subprocess.run(
            [*UNSHARE, "sh", "-c", SCRIPT, "sh", str(disk), size, str(folder), *command],
            env=dict(shell.environment),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.split()
        self.full, self.roomy = (
            Ended(int(code), (folder / f"{name}.out").read_text(), (folder / f"{name}.err").read_text())
            for name, code in zip(("first", "second"), codes, strict=True)
        )
        self.kept, self.store = sqlite_url(folder, "store"), sqlite_url(folder / "second", "store")


def sync_on_a_full_disk(folder: Path, server: StandIn, size: str, wanted: dict[str, object]) -> list[str]:
    """Return the violations of the guarantee."""
    disk = FullDisk(folder, server, size)
    found = []
    if disk.full.code != 1 or "the disk is full; make room and run the command again" not in error_line(disk.full):
        found.append(f"on the full disk: {disk.full.code}, {disk.full.err}")
    if Path(disk.kept.removeprefix("sqlite:///")).exists():
        found += read_store(disk.kept, problems)
    if disk.roomy.code != 0:
        found.append(f"on the enlarged disk: {disk.roomy.code}, {disk.roomy.err}")
    elif read_store(disk.store, contents) != wanted:
        found.append("on the enlarged disk, the store differs from that of a clean sync")
    else:
        found += read_store(disk.store, problems)
    return found


def copy_to_a_full_disk(folder: Path, url: str, name: str) -> list[str]:
    """Run one of `COPIES` with a full disk; return the violations of the guarantee.

    Args:
        folder: an empty folder.
        url: a store that is larger than the disk.
        name: the key in `COPIES`.
    """
    (folder / "disk").mkdir(parents=True)
    shell = Shell(url, os.environ)
    done = subprocess.run(
        [*UNSHARE, "sh", "-c", COPY_SCRIPT, "sh", str(folder / "disk"), *shell.command(*COPIES[name])],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    line = error_line(Ended(done.returncode, done.stdout, done.stderr))
    found = []
    if done.returncode != 1 or not line.startswith("error: disk") or "the disk is full" not in line:
        found.append(f"{name}: exit {done.returncode}, {done.stderr}")
    if done.stdout:
        found.append(f"{name}: {done.stdout.strip()} is left")
    return found


def resume_on_a_full_disk(folder: Path, store: Path, source: Path, name: str) -> list[str]:
    """Run one of `RESUMED` on a full disk, and again after enlarging it; return the violations of the guarantee.

    Args:
        folder: a new folder.
        store: a store with pairs and without vectors.
        source: a dataset to import.
        name: the key in `RESUMED`.
    """
    resumed, disk = RESUMED[name], folder / "disk"
    disk.mkdir(parents=True)
    own = disk / "store.db" if resumed.on_disk else Path(shutil.copy(store, folder / "own.db"))
    seed = store if resumed.on_disk and not resumed.from_start else None
    size = f"{resumed.kilobytes + (0 if seed is None else seed.stat().st_size >> 10)}k"
    words = [word.format(disk=disk, source=source) for word in resumed.words]
    shell = Shell(f"sqlite:///{own}", {**os.environ, "PYTHON": sys.executable, "HF_HUB_OFFLINE": "1"})
    place = words[-1] if "move-pictures" in words else ""
    script = [*UNSHARE, "sh", "-c", RESUME_SCRIPT, "sh", str(disk), size, str(seed or ""), shell.store, place]
    done = subprocess.run(
        [*script, *shell.command(*words)],
        cwd=folder,
        env=dict(shell.environment),
        capture_output=True,
        text=True,
        check=False,
    )
    line = error_line(Ended(done.returncode, done.stdout, done.stderr))
    if done.stdout.split() == ["1", "0", "0"] and "disk" in line and ("is full" in line or "No space left" in line):
        return []
    return [f"{name}: exits {done.stdout.split()}, {done.stderr[-500:]}"]


def print_to_a_full_disk(url: str) -> list[str]:
    """Print rows to /dev/full; return the violations of the guarantee."""
    found = []
    for option in ("--csv", "--json"):
        command = Shell(url, os.environ).command("sql", "SELECT title FROM video", option)
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 1 or "the disk is full" not in error_line(Ended(done.returncode, "", done.stderr)):
            found.append(f"sql {option}: exit {done.returncode}, {done.stderr}")
    return found


def full_disk(folder: Path, *, quick: bool) -> list[Row]:
    """Sync to disks of several sizes that are too small; then enlarge them and sync again."""
    promise = "a full disk gives one clear error, the store is sound, and a rerun completes once there is space"
    if not can_mount():
        return [Row(promise, "nothing: no permission to mount a file system", 0, "not run", None)]
    sizes = ("16k", "600k") if quick else ("4k", "16k", "64k", "200k", "400k", "600k", "800k", "1m", "1500k", "2m")
    with StandIn(channel(300, side=192)) as server:
        Shell.of(sqlite_url(folder, "clean"), server).run("sync", "@reliable")
        wanted: dict[str, object] = dict(read_store(sqlite_url(folder, "clean"), contents))
        wrong = [
            f"{size}: {problem}"
            for size in sizes
            for problem in sync_on_a_full_disk(folder / size, server, size, wanted)
        ]
        store = sqlite_url(folder, "clean")
        copies = [found for name in COPIES for found in copy_to_a_full_disk(folder / name, store, name)]
        copies += print_to_a_full_disk(store)
        Shell(store, os.environ).run("export", "dataset", str(folder / "source"), "--csv")
        Shell(store, os.environ).run("db", "backup", str(folder / "small.db"))
        resumed = [
            found
            for number, name in enumerate(RESUMED)
            for found in resume_on_a_full_disk(
                folder / f"resumed-{number}", folder / "small.db", folder / "source", name
            )
        ]
    done = f"a first sync on a tmpfs of {sizes[0]} to {sizes[-1]}, then a sync after enlarging it"
    return [
        Row(promise, done, len(sizes), wrong[0] if wrong else "exit 1, sound, then the same store", not wrong),
        Row(
            "a copy for which the disk has no space is one clear error, and nothing of it is left",
            f"{', '.join(COPIES)} on a tmpfs of 24 KB; output to /dev/full",
            len(COPIES) + 2,
            copies[0] if copies else "exit 1, one line that names the copy",
            not copies,
        ),
        Row(
            "a command on a full disk names what is full, and continues when it is run again with space",
            f"{', '.join(RESUMED)} on a tmpfs that is too small, and again after enlarging it",
            len(RESUMED),
            resumed[0] if resumed else "exit 1, one line, then exit 0; sound",
            not resumed,
        ),
    ]
