"""The lock in `locks/`: complete, with hashes, without index addresses, and stable when it is written again."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from write_lock import (
    BOOTSTRAP,
    BROWSER,
    CUDA,
    LOCKS,
    PACKAGES,
    ROOT,
    SBOM,
    TORCH_CPU,
    add_cpu_builds,
    parse_entries,
    read_entries,
    report_differences,
    split,
)

ENTRY = "torch==2.13.0 ; sys_platform == 'linux' \\\n    --hash=sha256:aa\n    # via\n    #   peft\n"


@pytest.mark.parametrize("file", sorted(LOCKS.glob("*.txt")), ids=lambda file: file.name)
def test_every_package_has_hashes_and_no_address(file: Path) -> None:
    entries = read_entries(file)
    assert entries
    for entry in entries.values():
        assert re.search(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$", entry, re.MULTILINE), entry
    assert not re.search(r"https?:|file:|--\S*(index|links)|/(home|root|tmp|work|opt)/", file.read_text())


def test_all_direct_dependencies_are_locked_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    lists += project["dependency-groups"].values()
    declared = {re.split(r"[\[<>=; ]", line)[0] for lines in lists for line in lines if isinstance(line, str)}
    locked = [name for file in (BOOTSTRAP, PACKAGES, BROWSER, CUDA) for name in read_entries(file)]
    assert declared <= {*locked, *read_entries(SBOM)}
    assert len(locked) == len(set(locked))


def test_torchs_cpu_build_is_accepted() -> None:
    digests = set(re.findall(r"--hash=\S+", TORCH_CPU.read_text()))
    assert digests < set(re.findall(r"--hash=\S+", read_entries(PACKAGES)["torch"]))


def test_a_cpu_build_of_another_version_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"2\.13\.0"):
        add_cpu_builds(parse_entries(ENTRY), "torch==2.12.0+cpu \\\n    --hash=sha256:bb\n")


def test_hashes_of_a_cpu_build_are_added_to_the_entry() -> None:
    entries = parse_entries(ENTRY)
    for _ in range(2):  # on the second call, it is already included
        add_cpu_builds(entries, "# a comment\ntorch==2.13.0+cpu \\\n    --hash=sha256:bb\n")
    assert entries["torch"].splitlines()[:3] == [
        "torch==2.13.0 ; sys_platform == 'linux' \\",
        "    --hash=sha256:bb \\",
        "    --hash=sha256:aa",
    ]
    assert entries["torch"].count("sha256:bb") == 1


def test_only_cuda_libraries_are_kept_from_a_cpu_build() -> None:
    names = ("pip", "torch", "playwright", "triton", "nvidia-nccl-cu13", "cuda-bindings", "numpy", "setuptools")
    files = split({name: f"{name}==1\n" for name in names})
    assert {file.stem: sorted(entries) for file, entries in files.items()} == {
        "bootstrap": ["pip", "setuptools"],
        "packages": ["numpy", "torch"],
        "browser": ["playwright"],
        "cuda": ["cuda-bindings", "nvidia-nccl-cu13", "triton"],
    }


@pytest.mark.parametrize(
    ("resolved", "code"),
    [
        (ENTRY, 0),
        (ENTRY.replace("sha256:aa", "sha256:aa \\\n    --hash=sha256:cc"), 0),
        (ENTRY.replace("2.13.0", "2.14.0"), 1),
        (ENTRY.replace("linux", "darwin"), 1),
        (ENTRY + "peft==1 \\\n    --hash=sha256:dd\n", 1),
        ("", 1),
    ],
)
def test_different_versions_differ_and_additional_hashes_do_not(resolved: str, code: int) -> None:
    assert report_differences(parse_entries(ENTRY), parse_entries(resolved)) == code
