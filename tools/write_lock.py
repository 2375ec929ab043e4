"""Write the lock: the exact version, and the hashes, of every package that a set-up installs.

    python tools/write_lock.py              lock what pyproject.toml asks for; keep locked versions that still fit
    python tools/write_lock.py --upgrade    take the newest versions that fit
    python tools/write_lock.py --check      fail if the lock does not fit pyproject.toml; write nothing

One resolution, for Linux, macOS and Windows and Python 3.11 to 3.13, goes into four files in `locks/`:

- `bootstrap.txt`: pip and setuptools, to be installed first, by whatever pip the machine has.
- `packages.txt`: everything else that the project, its extras and its dependency groups need.
- `browser.txt`: what drives a browser in `make test-browser`, and nothing else needs.
- `cuda.txt`: what torch's CUDA builds need in addition. Only for `pip install -c`: a CPU build needs none of it.

`locks/torch-cpu.txt` is written by hand: it lists the known CPU builds of torch, which PyPI does not have for Linux.
`packages.txt` takes their hashes too. No file names an index: pip uses whatever it is configured with.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "locks"
BOOTSTRAP, PACKAGES, BROWSER, CUDA = (LOCKS / f"{name}.txt" for name in ("bootstrap", "packages", "browser", "cuda"))
TORCH_CPU = LOCKS / "torch-cpu.txt"

Entries = dict[str, str]
"""Each package's name, and its entry: `name==version`, perhaps a marker, its hashes and who needs it."""


def main() -> int:
    """Write or check the lock; exit code 1 if it has to be written anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    group.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the lock does not fit")
    arguments = parser.parse_args()
    locked = {
        name: entry for file in (BOOTSTRAP, PACKAGES, BROWSER, CUDA) for name, entry in read_entries(file).items()
    }
    resolved = resolve({} if arguments.upgrade else locked)
    if arguments.check:
        return report_differences(locked, resolved)
    add_cpu_builds(resolved, TORCH_CPU.read_text())
    for file, entries in split(resolved).items():
        file.write_text("# Written by tools/write_lock.py (make lock).\n" + "".join(entries.values()))
    return 0


def read_entries(file: Path) -> Entries:
    """The entries of a lock file; none if there is no such file."""
    return parse_entries(file.read_text()) if file.exists() else {}


def parse_entries(text: str) -> Entries:
    """The entries of a requirements file in uv's format: a line `name==version`, and indented lines below it."""
    entries = re.findall(r"^[A-Za-z0-9].*\n(?:[ \t]+.*\n)*", text, re.MULTILINE)
    return {entry.partition("==")[0]: entry for entry in entries}


def resolve(preferred: Entries) -> Entries:
    """Resolve the project with all its extras and development tools; keep preferred versions where they fit."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "resolved.txt"
        output.write_text("".join(preferred.values()))
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--output-file", str(output)]
        inputs = ["pyproject.toml", "--all-extras", "--group", "dev", "--group", "browser"]
        options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"]
        subprocess.run([*command, *inputs, *options], cwd=ROOT, check=True)
        return parse_entries(output.read_text())


def add_cpu_builds(entries: Entries, cpu: str) -> None:
    """Allow the hashes of torch's CPU builds in torch's entry.

    Raises:
        SystemExit: they are of another version than the resolved one.
    """
    version = re.findall(r"^torch==([^+\s]+)\+cpu", cpu, re.MULTILINE)
    head, _, rest = entries["torch"].partition("\n")
    if [f"torch=={found}" for found in version] != [head.split()[0]]:
        raise SystemExit(f"{TORCH_CPU.relative_to(ROOT)} has to list {head.split()[0]}+cpu; its comment says how")
    # uv keeps the hashes that a preferred entry has, so they may be there already.
    new = [digest for digest in re.findall(r"--hash=(\S+)", cpu) if digest not in rest]
    entries["torch"] = "\n".join([head, *(f"    --hash={digest} \\" for digest in new), rest])


def split(entries: Entries) -> dict[Path, Entries]:
    """Distribute the entries over the files."""
    files: dict[Path, Entries] = {BOOTSTRAP: {}, PACKAGES: {}, BROWSER: {}, CUDA: {}}
    for name, entry in entries.items():
        files[file_of(name)][name] = entry
    return files


def file_of(name: str) -> Path:
    """The file that a package's entry goes into."""
    if name in ("pip", "setuptools"):
        return BOOTSTRAP
    if name in ("axe-playwright-python", "greenlet", "playwright"):
        return BROWSER
    return CUDA if name.startswith(("cuda-", "nvidia-")) or name == "triton" else PACKAGES


def report_differences(locked: Entries, resolved: Entries) -> int:
    """Compare versions and markers, not hashes: a release may get more files. Exit code 1 if any differ."""
    before, after = ({entry.partition(" \\")[0] for entry in entries.values()} for entries in (locked, resolved))
    for line in sorted(before - after):
        print(f"locked, but not needed: {line}", file=sys.stderr)
    for line in sorted(after - before):
        print(f"needed, but not locked: {line}", file=sys.stderr)
    if before != after:
        print("the lock does not fit pyproject.toml; run make lock", file=sys.stderr)
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
