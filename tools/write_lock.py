"""Write the lock files: the exact versions and hashes of all packages.

    python tools/write_lock.py              lock the requirements of pyproject.toml; keep locked versions that still fit
    python tools/write_lock.py --upgrade    use the newest versions that fit
    python tools/write_lock.py --check      fail if the lock does not fit pyproject.toml; write nothing

One resolution for Linux, macOS and Windows and Python 3.11 to 3.13 is written to five files in `locks/`:

- `bootstrap.txt`: pip and setuptools, installed first with the machine's pip.
- `packages.txt`: everything else that the project, its extras and its dependency groups need.
- `browser.txt`: additional packages for `make test-browser`.
- `sbom.txt`: everything for `make sbom`, resolved alone.
- `cuda.txt`: additional packages for torch's CUDA builds. Only for `pip install -c`, because a CPU build needs none.

`locks/torch-cpu.txt` is maintained by hand: it lists the known CPU builds of torch, which PyPI does not have for Linux.
`packages.txt` also contains their hashes. No file names an index: pip uses its configured index.
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
SBOM = LOCKS / "sbom.txt"
PROJECT = ("pyproject.toml", "--all-extras", "--group", "dev", "--group", "browser")
TORCH_CPU = LOCKS / "torch-cpu.txt"

Entries = dict[str, str]
"""{package name: entry}. An entry has `name==version`, optional markers, hashes and the dependents."""


def main() -> int:
    """Write or check the lock; return 1 if the check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--upgrade", action="store_true", help="use the newest versions that fit")
    group.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the lock does not fit")
    arguments = parser.parse_args()
    locked = {
        name: entry for file in (BOOTSTRAP, PACKAGES, BROWSER, CUDA) for name, entry in read_entries(file).items()
    }
    listing = read_entries(SBOM)
    resolved = resolve({} if arguments.upgrade else locked, *PROJECT)
    resolved_listing = resolve({} if arguments.upgrade else listing, "--group", "pyproject.toml:sbom")
    if arguments.check:
        return max(report_differences(locked, resolved), report_differences(listing, resolved_listing))
    add_cpu_builds(resolved, TORCH_CPU.read_text())
    for file, entries in {**split(resolved), SBOM: resolved_listing}.items():
        file.write_text("# Written by tools/write_lock.py (make lock).\n" + "".join(entries.values()))
    return 0


def read_entries(file: Path) -> Entries:
    """Return the entries of a lock file; empty if the file does not exist."""
    return parse_entries(file.read_text()) if file.exists() else {}


def parse_entries(text: str) -> Entries:
    """Parse a requirements file in uv's format: lines `name==version`, each followed by indented lines."""
    entries = re.findall(r"^[A-Za-z0-9].*\n(?:[ \t]+.*\n)*", text, re.MULTILINE)
    return {entry.partition("==")[0]: entry for entry in entries}


def resolve(preferred: Entries, *inputs: str) -> Entries:
    """Resolve requirements, given as arguments of `uv pip compile`; keep preferred versions where they fit."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "resolved.txt"
        output.write_text("".join(preferred.values()))
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--output-file", str(output)]
        options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"]
        subprocess.run([*command, *inputs, *options], cwd=ROOT, check=True)
        return parse_entries(output.read_text())


def add_cpu_builds(entries: Entries, cpu: str) -> None:
    """Add the hashes of torch's CPU builds to torch's entry.

    Raises:
        SystemExit: the CPU builds have another version than the resolved torch.
    """
    version = re.findall(r"^torch==([^+\s]+)\+cpu", cpu, re.MULTILINE)
    head, _, rest = entries["torch"].partition("\n")
    if [f"torch=={found}" for found in version] != [head.split()[0]]:
        raise SystemExit(f"{TORCH_CPU.relative_to(ROOT)} must list {head.split()[0]}+cpu; see its comment")
    # uv keeps the hashes of a preferred entry, so it may already contain them.
    new = [digest for digest in re.findall(r"--hash=(\S+)", cpu) if digest not in rest]
    entries["torch"] = "\n".join([head, *(f"    --hash={digest} \\" for digest in new), rest])


def split(entries: Entries) -> dict[Path, Entries]:
    """Distribute the entries to the files."""
    files: dict[Path, Entries] = {BOOTSTRAP: {}, PACKAGES: {}, BROWSER: {}, CUDA: {}}
    for name, entry in entries.items():
        files[file_of(name)][name] = entry
    return files


def file_of(name: str) -> Path:
    """Return the lock file for a package."""
    if name in ("pip", "setuptools"):
        return BOOTSTRAP
    if name in ("axe-playwright-python", "greenlet", "playwright"):
        return BROWSER
    return CUDA if name.startswith(("cuda-", "nvidia-")) or name == "triton" else PACKAGES


def report_differences(locked: Entries, resolved: Entries) -> int:
    """Compare versions and markers, but not hashes, because a release may get more files. Return 1 if any differ."""
    before, after = ({entry.partition(" \\")[0] for entry in entries.values()} for entries in (locked, resolved))
    for line in sorted(before - after):
        print(f"locked but not needed: {line}", file=sys.stderr)
    for line in sorted(after - before):
        print(f"needed but not locked: {line}", file=sys.stderr)
    if before != after:
        print("the lock does not fit pyproject.toml; run 'make lock'", file=sys.stderr)
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
