"""The page about release gates names metrics, units, commands, paths and exit codes as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import typer.main
import yaml
from flask import Flask

from coordinator.api import gate as api
from coordinator.cli import app
from coordinator.commands import failures
from meshgauge.plan import MetricName, Plan
from reports.readings.metrics import METRIC_OF
from reports.thresholds.selection import bound_of

DOCUMENT = (Path(__file__).parents[2] / "deploy" / "release-gates.md").read_text()


def test_every_metric_is_listed_with_its_unit() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \| .*? \|$", DOCUMENT, re.MULTILINE)
    units = {name: unit for names, unit in rows for name in re.findall(r"`(\w+)`", names)}
    assert units == {name: METRIC_OF[name].unit for name in get_args(MetricName)}


def test_the_example_is_a_valid_part_of_a_plan() -> None:
    example = re.search(r"^    thresholds:.*?confirm_blocks: 10$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert example is not None
    plan = Plan.model_validate(
        {
            "name": "example",
            "meshes": ["none"],
            "workloads": [{"name": "web", "app": "fixed-reply", "reply_bytes": 1}],
            "loads": [{"rate_rps": 1}],
            **yaml.safe_load(example[0]),
        }
    )
    assert {bound_of(threshold)[0] for threshold in plan.thresholds} == {"at_most", "at_least", "worse_by_at_most"}
    assert {t.against for t in plan.thresholds} == {"baseline", "release", "application"}


def test_its_options_exist() -> None:
    gate = typer.main.get_group(app).commands["gate"]
    known = {option for parameter in gate.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {
        option for line in re.findall(r"meshgauge gate ([^`\n#]*)", DOCUMENT) for option in re.findall(r"--\w+", line)
    }
    assert {"--junit", "--confirm"} <= used <= known


def test_its_paths_are_those_of_the_api() -> None:
    flask = Flask("paths")
    flask.register_blueprint(api.blueprint)
    known = {
        (method, rule.rule.replace("<run>", "RUN"))
        for rule in flask.url_map.iter_rules()
        for method in rule.methods or ()
        if rule.endpoint.startswith("gate.") and method in ("GET", "POST")
    }
    assert set(re.findall(r"`(GET|POST) (/api/\S+)`", DOCUMENT)) == known


def test_its_exit_codes_are_all_there_are() -> None:
    told = {int(code) for codes in re.findall(r"^\| ([\d, ]+) \|", DOCUMENT, re.MULTILINE) for code in codes.split(",")}
    assert told == {value for name, value in vars(failures).items() if name[0].isupper() and isinstance(value, int)}
