"""Backups with models: how many are kept, and restoring; the files in deploy/ name existing metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine

from collector.watch.metrics import Metrics, ModelInUse
from store.db import current_revision, open_database
from store.db.migrate import bring_up_to_date
from store.errors import StoreError
from store.types import utc_now
from tests.trainer.tiny import fill
from thumbtune.backups import backup_into, restore_from

DEPLOY = Path(__file__).parents[2] / "deploy"


def a_store(folder: Path) -> str:
    folder.mkdir()
    url = f"sqlite:///{folder / 'mine.db'}"
    database = open_database(url)
    fill(database, 3)
    database.close()
    (folder / "thumbtune-models").mkdir()
    (folder / "thumbtune-models" / "run-1-ab.safetensors").write_bytes(b"tensors")
    return url


def test_a_backup_restores_the_store_and_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THUMBTUNE_MODELS", raising=False)
    database = open_database(a_store(tmp_path / "one"), read_only=True)
    first, second, third = (backup_into(database, tmp_path / "backups", 2) for _ in range(3))
    database.close()
    assert (first.models, first.deleted, second.deleted, third.deleted) == (1, (), (), (first.folder,))
    assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == sorted(
        [second.folder.name, third.folder.name]
    )
    url = f"sqlite:///{tmp_path / 'two' / 'back.db'}"
    assert restore_from(tmp_path / "backups", url).folder == third.folder
    assert (tmp_path / "two" / "thumbtune-models" / "run-1-ab.safetensors").read_bytes() == b"tensors"
    database = open_database(url, create=False)
    with database.read() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM pairs").scalar() == 3
    database.close()
    with pytest.raises(StoreError, match=r"back\.db exists already"):
        restore_from(tmp_path / "backups", url)
    with pytest.raises(StoreError, match="has files already"):
        restore_from(tmp_path / "backups", f"sqlite:///{tmp_path / 'two' / 'other.db'}")
    copy = f"sqlite:///{tmp_path / 'four' / 'copy.db'}"
    assert restore_from(third.folder / "thumbtune.db", copy).models == 0
    open_database(copy, create=False).close()
    with pytest.raises(StoreError, match="has no backup"):
        restore_from(tmp_path / "two", f"sqlite:///{tmp_path / 'three.db'}")


def test_a_backup_deletes_only_folders_of_backups(tmp_path: Path) -> None:
    database = open_database(a_store(tmp_path / "one"), read_only=True)
    (tmp_path / "backups" / "thumbtune-old").mkdir(parents=True)
    for _ in range(2):
        backup_into(database, tmp_path / "backups", 1)
    database.close()
    assert (tmp_path / "backups" / "thumbtune-old").is_dir()
    assert len(list((tmp_path / "backups").iterdir())) == 2


def test_an_outdated_store_is_backed_up_without_an_upgrade(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    engine = create_engine(url)
    bring_up_to_date(engine, target="0010")
    engine.dispose()
    database = open_database(url, read_only=True, any_revision=True)
    done = backup_into(database, tmp_path / "backups")
    database.close()
    engine = create_engine(f"sqlite:///{done.folder / 'thumbtune.db'}")
    with engine.connect() as connection:
        assert current_revision(connection) == "0010"
    engine.dispose()


def known_metrics() -> set[str]:
    text = Metrics().text().decode()
    families = {family.name for family in text_string_to_metric_families(text)}
    return {f"{name}{suffix}" for name in families for suffix in ("", "_total", "_count", "_sum", "_bucket")}


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "alerts.yml"])
def test_dashboards_and_alerts_use_existing_metrics(name: str) -> None:
    text = (DEPLOY / name).read_text()
    named = set(re.findall(r"\bthumbtune_\w+", text))
    assert named
    assert named <= known_metrics()


def test_the_dashboard_and_the_alerts_are_well_formed() -> None:
    yaml = pytest.importorskip("yaml")
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    assert all(rule["expr"] and rule["annotations"]["summary"] for rule in rules)
    panels = json.loads((DEPLOY / "grafana-dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for expression in [
        *(rule["expr"] for rule in rules),
        *(target["expr"] for panel in panels for target in panel["targets"]),
    ]:
        assert expression.count("(") == expression.count(")"), expression


def test_the_metrics_say_which_channels_and_models_there_are() -> None:
    metrics, now = Metrics(), utc_now()
    metrics.describe(
        {"UC1": "@one", "UC2": None}, [ModelInUse(3, "all", now, 0.5), ModelInUse(4, "UC1", now, None)], now
    )
    metrics.describe({"UC1": "@one"}, [ModelInUse(3, "all", now, 0.5)], now)
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }
    assert found["thumbtune_channel_info", "@one", "UC1"] == 1
    assert ("thumbtune_channel_info", "", "UC2") not in found
    assert found["thumbtune_model_recall_at_1", "3", "all"] == 0.5
    assert ("thumbtune_model_recall_at_1", "4", "UC1") not in found
