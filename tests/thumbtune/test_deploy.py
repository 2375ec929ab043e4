"""The files in deploy/: their commands exist, and the tools for these files accept them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import click
import pytest
import yaml

from thumbtune.cli import COMMANDS, App, cli

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "thumbtune-watch.service"
CRON = DEPLOY / "thumbtune.cron"
DOCKERFILE = DEPLOY / "Dockerfile"
ALERTS = DEPLOY / "alerts.yml"
COMPOSE = DEPLOY / "compose.yaml"
KUBERAY = DEPLOY / "kuberay-encode.yaml"
DASHBOARD = DEPLOY / "grafana-dashboard.json"
PINNED = re.compile(r"[^:@]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}")
"""A tag with a version, and a digest."""
RULE = {"alert", "expr", "for", "labels", "annotations", "keep_firing_for"}
"""The keys of an alerting rule: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/"""


def parsed(arguments: list[str]) -> tuple[str, dict[str, object]]:
    """Parse a command line with click, without running it.

    Raises:
        click.UsageError: there is no such command or option.
    """
    place = next(number for number, word in enumerate(arguments) if word in COMMANDS)
    context = cli.make_context("thumbtune", arguments[: place + 1], obj=App(db_url="sqlite://"))
    name = arguments[place]
    command = cli.get_command(context, name)
    assert command is not None
    return name, command.make_context(name, arguments[place + 1 :], parent=context).params


def setting(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_the_systemd_unit_runs_a_real_command() -> None:
    (command,) = setting("ExecStart")
    program, *arguments = shlex.split(command)
    assert program.endswith("/bin/thumbtune")
    assert parsed(arguments) == (
        "watch",
        {
            "channels": (),
            "file": None,
            "page": False,
            "every": "6h",
            "refresh_every": "25d",
            "units": 9000,
            "retrain": False,
            "listen": "127.0.0.1:9464",
        },
    )
    assert setting("KillMode") == ["mixed"]
    assert int(setting("TimeoutStopSec")[0]) > 10


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "thumbtune"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/thumbtune/bin/thumbtune", str(program)))
    assert verified(unit) == ""
    broken = tmp_path / "broken.service"
    broken.write_text(unit.read_text().replace("KillMode=mixed", "KillMode=gently"))
    assert "kill mode" in verified(broken), "otherwise, the check would accept anything"


def verified(unit: Path) -> str:
    """The output of `systemd-analyze verify` for a unit."""
    command = ["systemd-analyze", "verify", str(unit)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr


def cron_lines() -> list[str]:
    return [line for line in CRON.read_text().splitlines() if re.match(r"[\d*]", line)]


def test_the_crontab_runs_real_commands() -> None:
    commands = []
    for line in cron_lines():
        *times, user, command = line.split(None, 6)
        assert all(re.fullmatch(r"[\d*,/-]+", time) for time in times)
        assert (len(times), user) == (5, "thumbtune")
        assert "%" not in command, "cron treats % as the end of the line"
        assert command.endswith(" >/dev/null"), "otherwise, cron sends a mail for every run"
        words = command.removesuffix(" >/dev/null").partition("exec /opt/thumbtune/bin/thumbtune ")[2]
        commands.append(parsed(shlex.split(words)))
    assert [(name, [key for key, value in options.items() if value is True]) for name, options in commands] == [
        ("sync", ["skip_busy"]),
        ("sync", ["refresh", "skip_busy"]),
        ("sync", ["full", "skip_busy"]),
        ("retrain", ["no_sync"]),
    ]
    assert CRON.read_text().endswith("\n"), "cron ignores a last line without a newline"


def test_the_crontab_reads_the_key_in_a_shell(tmp_path: Path) -> None:
    environment = tmp_path / "watch.env"
    environment.write_text("YOUTUBE_API_KEY=a-key\nTHUMBTUNE_DB=sqlite:////x.db\n")
    command = cron_lines()[0].split(None, 6)[6].replace("/etc/thumbtune/watch.env", str(environment))
    shell = command.partition("exec ")[0] + "exec printenv YOUTUBE_API_KEY"
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "a-key\n"


def test_the_image_has_the_whole_project_and_runs_real_commands() -> None:
    text = DOCKERFILE.read_text()
    copied = {source for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for source in line.split()}
    assert all((ROOT / source).exists() for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    read = {project["project"]["readme"], *project["project"]["license-files"]}
    assert packages | {"pyproject.toml", "locks"} | read == copied
    assert PINNED.fullmatch(re.findall(r"^ARG BASE=(.*)$", text, re.MULTILINE)[0])
    kept = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == copied
    extras = re.findall(r"^ARG EXTRAS=(.*)$", text, re.MULTILINE)[0].split(",")
    assert set(extras) <= set(project["project"]["optional-dependencies"])
    entry, command = (
        [str(word) for word in re.findall(r'"([^"]*)"', line)]
        for line in re.findall(r"^(?:ENTRYPOINT|CMD) \[(.*)\]$", text, re.MULTILINE)
    )
    assert parsed([*entry[1:], *command])[0] == "watch"


def test_an_invalid_command_is_detected() -> None:
    with pytest.raises(click.UsageError):
        parsed(["watch", "--evry", "6h"])


def expressions() -> list[str]:
    """The PromQL of the alerts and of the dashboard's panels."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    dashboard = json.loads(DASHBOARD.read_text())
    return [
        *(rule["expr"] for group in groups for rule in group["rules"]),
        *(target["expr"] for panel in dashboard["panels"] for target in panel["targets"]),
    ]


def test_alerts_and_dashboard_use_metrics_that_the_service_has() -> None:
    served = (ROOT / "collector" / "watch" / "metrics.py").read_text()
    used = {name for expr in expressions() for name in re.findall(r"thumbtune_\w+", expr)}
    assert used
    assert [name for name in sorted(used) if f'"{re.sub("_total$", "", name)}"' not in served] == []


def test_every_panel_and_alert_has_all_fields() -> None:
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])
        assert all({"alert", "expr", "annotations"} <= rule.keys() <= RULE for rule in group["rules"])
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["type"] and panel["gridPos"] and panel["targets"] for panel in panels)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_accepts_the_alerts_and_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"thumbtune:{number}", "expr": expr} for number, expr in enumerate(expressions())]
    recorded = tmp_path / "dashboard.yml"
    recorded.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    broken = tmp_path / "broken.yml"
    broken.write_text(ALERTS.read_text().replace("== 0", "== =", 1))
    codes = [
        subprocess.run(["promtool", "check", "rules", file], capture_output=True, timeout=60, check=False).returncode
        for file in (ALERTS, recorded, broken)
    ]
    assert codes == [0, 0, 1]


def test_the_compose_services_are_complete_and_run_real_commands() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    services = compose["services"]
    foreign = {service["image"] for service in services.values()} - {f"thumbtune:{version('thumbtune')}"}
    assert foreign
    assert all(PINNED.fullmatch(image) for image in foreign)
    ours = {
        name for name, service in services.items() if "thumbtune" in service["image"] and "entrypoint" not in service
    }
    assert {parsed(list(services[name]["command"]))[0] for name in ours} == {"watch", "ui", "encode"}
    ray = {name: service["command"][0] for name, service in services.items() if service.get("entrypoint") == ["ray"]}
    assert ray == {"ray-head": "start", "ray-worker": "start"}
    compile(services["bucket"]["command"][0], "bucket", "exec")
    for service in services.values():
        assert set(service.get("depends_on", ())) <= services.keys()
        assert set(service.get("secrets", ())) <= compose["secrets"].keys()
        assert {volume.partition(":")[0] for volume in service.get("volumes", ())} <= compose["volumes"].keys()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_kuberay_job_runs_a_real_command() -> None:
    job = yaml.safe_load(KUBERAY.read_text())
    program, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert program == "thumbtune"
    assert parsed(arguments)[0] == "encode"
    cluster = job["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {container["image"] for pod in pods for container in pod["template"]["spec"]["containers"]}
    assert len(images) == 1, "all machines need the same versions"
