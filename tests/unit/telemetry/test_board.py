"""The board for Grafana, as far as it can be judged without a server: the rest is in
tests/integration/test_monitoring.py."""

import json
import re
from importlib.resources import files
from typing import Any

import pytest


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    text = files("lakeport").joinpath("dashboards", "grafana.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_board_is_one_that_grafana_imports(board: dict[str, Any]) -> None:
    assert board["id"] is None
    assert board["schemaVersion"] >= 36
    assert {"uid", "title", "time", "refresh", "templating", "annotations"} <= board.keys()
    variables = {each["name"]: each for each in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        assert {"id", "type", "title", "gridPos"} <= panel.keys()
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(references) == len(set(references))
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([p.get("targets") for p in board["panels"]])))
    assert used - {"__rate_interval"} <= variables.keys()


def test_panels_do_not_overlap(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
