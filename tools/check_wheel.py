"""Build the wheel, install it into an empty environment without the training stack, and sync with it.

Checks that the wheel is complete (migrations, the demo's encoder, type marker, license), that the collector does not
need torch, and that commands that need it give a one-line error.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

NEED_TRAINING = (
    ("train",),
    ("sweep",),
    ("retrain", "--no-sync"),
    ("evaluate", "--model", "1"),
    ("search", "a picture"),
    ("match", "a.jpg", "a title"),
    ("export", "dataset", "pairs"),
    ("export", "dataset", "pairs", "--parquet"),
    ("export", "model", "clip"),
    ("push", "dataset", "me/dataset"),
    ("push", "model", "me/model"),
    ("runs", "plot"),
    ("runs", "compare", "1", "2"),
    ("runs", "promote", "1"),
)
"""Commands that need the training stack. Each must report that before it checks its arguments."""


def main() -> int:
    """Run all steps; if a step fails, exit with its output."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        wheel = build(place)
        python = install(wheel, place / "venv")
        thumbtune = python.with_name("thumbtune")
        serve = [str(thumbtune), "-q", "demo", "--serve"]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, cwd=place) as server:
            try:
                handle, environment = read_exports(server)
                check_commands(thumbtune, place, handle, {**os.environ, **environment})
            finally:
                server.terminate()
    print("wheel: builds, installs alone, migrates and syncs without the training stack")
    return 0


def build(place: Path) -> Path:
    """Build the wheel from a copy of the tracked files, so that it contains no other files."""
    source = place / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for file in filter(None, listed.decode().split("\0")):
        if (ROOT / file).is_file():
            (source / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, source / file)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", place / "dist"]
    run(*build, source, cwd=place)
    wheel = next((place / "dist").glob("thumbtune-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist()), archive.namelist()
    return wheel


def install(wheel: Path, target: Path) -> Path:
    """Install the wheel with its required dependencies into a new environment; return the environment's Python."""
    venv.create(target)
    python = target / "bin" / "python"
    # Uses this environment's pip: older versions reject a wheel together with constraints with hashes.
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--disable-pip-version-check"]
    run(*pip, "--no-require-hashes", "-c", ROOT / "locks" / "packages.txt", wheel)
    probe = "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('numpy'), u.find_spec('pandas'))"
    found = run(python, "-c", probe, cwd=target)
    assert found.split() == ["None", "None", "None"], found
    return python


def read_exports(server: subprocess.Popen[str]) -> tuple[str, dict[str, str]]:
    """Return the channel's handle, and the environment variables that `demo --serve` prints."""
    assert server.stdout is not None
    environment: dict[str, str] = {}
    for line in server.stdout:
        if line.startswith("#"):
            return line.rpartition(" ")[2].strip(), environment
        name, _, value = line.strip().removeprefix("export ").partition("=")
        environment[name] = value
    raise SystemExit("the stand-in server exited before it was ready")


def check_commands(thumbtune: Path, place: Path, handle: str, environment: dict[str, str]) -> None:
    """Sync the drawn channel, check the store, and run commands that need the training stack."""
    report = json.loads(run(thumbtune, "-q", "sync", handle, "--json", cwd=place, env=environment))
    (channel,) = report["channels"]
    assert channel["status"] == "complete", channel
    query = "SELECT count(*) AS n FROM pairs"
    counted = json.loads(run(thumbtune, "sql", query, "--json", cwd=place, env=environment))
    assert counted[0]["n"] >= 400, counted
    assert json.loads(run(thumbtune, "db", "check", "--json", cwd=place, env=environment))["sound"] is True
    for command in NEED_TRAINING:
        words = [str(thumbtune), *command]
        done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done
        assert "is not installed; run pip install 'thumbtune[train]'" in done.stderr, done


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; if it fails, exit with its output."""
    words = [str(word) for word in command]
    result = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(words)} exited with code {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


if __name__ == "__main__":
    sys.exit(main())
