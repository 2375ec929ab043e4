"""Pages that query the model give the same figures as the commands; failures of the model's process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import pytest

from store.db import open_database
from store.training import champion, end_run, promote, start_run
from tests import forked
from tests.thumbtune.ui.serving import answered, fetch, page_process, parsed, serving

pytestmark = [pytest.mark.processes, pytest.mark.slow]

IDEAS = ("red circle", "navy bar", "a pink square")


def command(url: str, *arguments: str) -> Any:
    """The JSON output of a command."""
    done = forked.run(
        [*forked.THUMBTUNE, "-q", "--db", url, *arguments, "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def url(trained_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store for this module, with spaces in its path."""
    folder = tmp_path_factory.mktemp("a store") / "kept here"
    shutil.copytree(Path(trained_url.removeprefix("sqlite:///")).parent, folder)
    return f"sqlite:///{folder / 'thumbtune.db'}"


@pytest.fixture(scope="module")
def served(url: str) -> Iterator[tuple[str, int]]:
    with page_process(url) as (address, pid):
        yield address, pid


@pytest.fixture
def address(served: tuple[str, int]) -> str:
    return served[0]


def model_process(pid: int) -> psutil.Process:
    return next(child for child in psutil.Process(pid).children() if "thumbtune.ui.model_child" in child.cmdline())


def loads_torch(process: psutil.Process) -> bool:
    return any("libtorch" in mapped.path for mapped in process.memory_maps())


def figures(text: str) -> list[str]:
    return re.findall(r'<span class="figure">(-?[\d.]+)</span>', text)


def test_only_the_model_process_imports_model_libraries(served: tuple[str, int]) -> None:
    address, pid = served
    answered(address, "/?q=red")
    assert not loads_torch(psutil.Process(pid))
    assert loads_torch(model_process(pid))
    script = (
        "import sys, thumbtune.ui.server; "
        "sys.exit(bool({'torch', 'numpy', 'transformers', 'trainer.library'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_search_gives_the_results_of_the_command(address: str, url: str) -> None:
    for query, options in (("q=red+circle", ("red circle",)), ("like=UC1-003", ("--like", "UC1-003"))):
        told = command(url, "search", *options, "-k", "48")
        page = answered(address, f"/?{query}")
        ids = [target.removeprefix("/video/") for target in parsed(page).links("/video/")]
        assert [i for i in ids if i != "UC1-003" or "like" not in query] == [row["video_id"] for row in told["results"]]
        assert figures(page) == [f"{row['score']:.3f}" for row in told["results"]]
    only = answered(address, "/?like=UC1-003&channel=UC2")
    told = command(url, "search", "--like", "UC1-003", "--channel", "@uc2")
    assert figures(only) == [f"{row['score']:.3f}" for row in told["results"]]
    assert all("channel=UC2" in target for target in parsed(only).links("/?like="))
    assert figures(answered(address, "/?q=red&channel=UC2&from=2024-01-03&to=2024-01-03")) != []


def test_a_match_gives_the_results_of_the_command(address: str, url: str) -> None:
    told = command(url, "match", "UC1-003", *IDEAS, "--channel", "UC1")
    page = answered(address, "/match?" + urlencode([("v", "UC1-003"), *(("t", title) for title in IDEAS)]))
    rows = re.findall(r'<th scope="row"><bdi dir="auto">(.*?)</bdi>', page)
    assert [unescape(row) for row in rows] == [row["title"] for row in (*told["titles"], *told["current"])]
    assert figures(page) == [f"{row['score']:.3f}" for row in (*told["titles"], *told["current"])]
    for row in told["titles"]:
        assert row["probability"] is not None
        assert f"{row['position']} of {row['of']} · " in parsed(page).text
    assert page.count("chip best") == 1
    assert page.count("be told apart from the best") == ([1, 2] in told["near_ties"])
    equal = answered(address, "/match?" + urlencode([("v", "UC1-003"), ("t", "red circle"), ("t", "RED circle")]))
    assert equal.count("be told apart from the best") == 1, "the tiny model's tokenizer lower-cases"
    shared = next(str(have["href"]) for _, have in parsed(page).tags if "data-link" in have)
    assert figures(answered(address, shared)) == figures(page)
    told = command(url, "match", "UC1-003", IDEAS[0])["titles"][0]
    assert f"{told['position']} of {told['of']}" in answered(address, f"{shared}&channel=all")


def test_three_thumbnails_match_fifty_titles(address: str) -> None:
    asked = [("v", f"UC1-00{n}") for n in range(4)] + [("t", f"title {n}") for n in range(55)]
    page = answered(address, "/match?" + urlencode(asked))
    assert page.count('<th scope="row">') == 50 + 3, "and their current titles"
    assert page.count('<img src="/picture/') == 3 + 3 + 9
    assert "only 3 thumbnails" in page
    assert "5 were left out" in page


def test_runs_are_equal_to_those_of_the_command(address: str, url: str) -> None:
    told = command(url, "runs")["runs"]
    page = parsed(fetch(address, "/runs")[1])
    assert len(told) == 2
    for row in told:
        assert f"/runs/{row['run_id']}" in page.links("/runs/")
        assert f"{row['valid_recall_at_1']:.3f}" in page.text
        assert f"{row['valid_recall_at_1_low']:.3f} to {row['valid_recall_at_1_high']:.3f}" in page.text
    one = command(url, "runs", "show", "1")
    shown = parsed(fetch(address, "/runs/1")[1])
    for metric in one["metrics"]:
        if metric["scope"] == "all" and metric["metric"] == "recall@1":
            assert f"{metric['value']:.3f}" in shown.text
    worst = [row["video_id"] for row in one["valid_errors"]][:24]
    assert shown.links("/video/")[0] == f"/video/{worst[0]}"
    assert set(worst) <= {target.removeprefix("/video/") for target in shown.links("/video/")}


def test_a_comparison_gives_the_results_of_the_command(address: str, url: str) -> None:
    told = command(url, "runs", "compare", "1:base", "2")
    page = parsed(answered(address, "/runs/compare?a=1:base&b=2"))
    test = told["mcnemar"]
    assert f"p = {test['p']:.3g}" in page.text
    assert f"{test['only_b']} for B, {test['only_a']} for A" in page.text
    flipped = {change["video_id"] for change in told["changed"] if change["flipped"]}
    assert {target.removeprefix("/video/") for target in page.links("/video/")} == flipped
    for strange in ("a=9&b=1", "a=x&b=1", "a=&b=", "a=1&b=2&split=none"):
        status, text, _ = fetch(address, f"/runs/compare?{strange}")
        assert status == 200
        assert "Traceback" not in text


def test_a_video_shows_its_rank_and_neighbours(address: str, url: str) -> None:
    told = command(url, "match", "UC1-003", "x")["current"][0]
    page = parsed(answered(address, "/video/UC1-003"))
    assert f"{told['position']} of {told['of']}" in page.text
    near = command(url, "search", "--like", "UC1-003", "-k", "8")["results"]
    assert {f"/video/{row['video_id']}" for row in near} <= set(page.links("/video/"))


def test_no_page_shows_a_local_path(address: str, url: str) -> None:
    answered(address, "/?q=red")
    for path in ("/", "/?q=red", "/video/UC1-001", "/match", "/runs", "/runs/1", "/runs/2/promote", "/syncs", "/none"):
        text = unescape(fetch(address, path)[1])
        for private in ("/tmp", "kept here", "a store", str(Path.home()) + "/", str(Path.cwd()), "site-packages"):
            assert private not in text, (path, private)


def test_a_killed_model_process_is_restarted(served: tuple[str, int]) -> None:
    address, pid = served
    answered(address, "/?q=red")
    killed = model_process(pid)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(30)
    page = answered(address, "/?q=green")
    assert figures(page)
    assert "SIGKILL" in page
    assert model_process(pid).pid != killed.pid
    assert "SIGKILL" not in answered(address, "/?q=blue"), "reported once"


def test_pages_answer_while_the_model_is_busy(served: tuple[str, int]) -> None:
    address, pid = served
    answered(address, "/?q=red")
    stopped = model_process(pid)
    stopped.suspend()
    try:
        pages: list[str] = []
        asking = threading.Thread(target=lambda: pages.append(fetch(address, "/?q=slow")[1]))
        asking.start()
        for path in ("/healthz", "/", "/runs", "/syncs"):
            assert fetch(address, path)[0] == 200
        asking.join(30)
        assert "data-wait" in pages[0]
    finally:
        stopped.resume()
    assert figures(answered(address, "/?q=slow"))


def test_a_promotion_needs_a_reason_and_is_recorded(address: str, url: str) -> None:
    assert 'action="/runs/2/promote"' in fetch(address, "/runs/2/promote")[1]
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    assert fetch(address, "/runs/2/promote", "POST", b"reason=+", **kind)[0] == 400
    status, _, headers = fetch(address, "/runs/2/promote", "POST", b"reason=" + quote("better <here>").encode(), **kind)
    assert (status, headers["Location"]) == (303, "/runs#history")
    newest = command(url, "runs", "champions")["champions"][-1]
    assert (newest["run_id"], newest["reason"]) == (2, "better <here>")
    assert "better <here>" in parsed(fetch(address, "/runs")[1]).text
    assert fetch(address, "/runs/99/promote", "POST", b"reason=x", **kind)[0] in (404, 409)
    assert "Put it into use" not in fetch(address, "/runs/2")[1]
    assert '<a href="/runs/2">run 2</a>' in fetch(address, "/runs/1/promote")[1]
    # A run for one channel does not replace the model for all, and the form keeps its text after an error.
    with open_database(url) as database, database.write() as session:
        narrow = start_run(
            session,
            base_model="m",
            trained="ridge",
            seed=1,
            settings={"channels": ["UC2"]},
            packages={},
            host="h",
            pid=1,
        )
        end_run(session, narrow, "failed")
    for path in (f"/runs/{narrow}", f"/runs/{narrow}/promote"):
        assert "@uc2" in fetch(address, path)[1]
        assert "run 2" not in fetch(address, path)[1]
    status, text, _ = fetch(address, f"/runs/{narrow}/promote", "POST", b"reason=typed+%3Chere%3E", **kind)
    assert (status, [have["value"] for have in parsed(text).all("input", name="reason")]) == (409, ["typed <here>"])
    answered(address, "/?q=red")
    with open_database(url) as database, database.write() as session:
        promote(session, 1, "back")
    assert "Run 1 answers" in parsed(answered(address, "/?q=red")).text


def test_read_only_changes_nothing(url: str) -> None:
    with open_database(url) as database, database.read() as session:
        before = champion(session)
    assert before is not None
    other = 1 if before.id == 2 else 2
    with page_process(url, "--read-only") as (address, _):
        kind = {"Content_Type": "application/x-www-form-urlencoded"}
        assert fetch(address, f"/runs/{other}/promote", "POST", b"reason=x", **kind)[0] == 403
        assert 'name="reason"' not in fetch(address, f"/runs/{other}/promote")[1]
        assert figures(answered(address, "/match?v=UC1-001&t=something+new"))
    with open_database(url) as database, database.read() as session:
        after = champion(session)
    assert after is not None
    assert after.id == before.id


async def test_a_model_with_missing_files_gives_an_error(url: str, tmp_path: Path) -> None:
    shutil.copytree(Path(url.removeprefix("sqlite:///")).parent, tmp_path / "lost")
    lost = f"sqlite:///{tmp_path / 'lost' / 'thumbtune.db'}"
    with open_database(lost) as database, database.write() as session:
        run = champion(session)
        assert run is not None
        run.artifact_path = str(tmp_path / "lost" / "nothing.safetensors")
    async with serving(lost) as client:
        for path in ("/?q=red", "/video/UC1-001", "/match?v=UC1-001&t=x"):
            while True:
                answer = await client.get(path)
                if "Refresh" not in answer.headers:
                    break
            assert answer.status == 200
            assert "The model can't answer" in answer.text
            assert "nothing.safetensors" in answer.text
            assert "<code>thumbtune train</code>" in answer.text
            assert str(tmp_path) not in answer.text
