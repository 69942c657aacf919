"""The JSON document: as its schema says, whole, and the same numbers as everywhere else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.exchange.formats import export
from reports.exchange.run_document import adapter, json_schema, run_document
from reports.summary import result_rows

MakeRun = Callable[..., RunRecord]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip


def breaches(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str = "$") -> Iterator[str]:
    """Yield where ``value`` breaks ``schema``: the part of JSON Schema that our documents use, and no more."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        tried = [list(breaches(value, option, root, path)) for option in schema["anyOf"]]
        if all(tried):
            yield from min(tried, key=len)
        return
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is not one of {schema['enum']}"
    kind = schema.get("type")
    if kind is not None and (
        not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind in ("integer", "number"))
    ):
        yield f"{path}: {value!r} is no {kind}"
        return
    if isinstance(value, dict):
        yield from _breaches_of_object(value, schema, root, path)
    if isinstance(value, list):
        places = schema.get("prefixItems", ())
        for at, item in enumerate(value):
            allowed = places[at] if at < len(places) else schema.get("items")
            if isinstance(allowed, dict):
                yield from breaches(item, allowed, root, f"{path}[{at}]")


def _breaches_of_object(
    value: Mapping[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], path: str
) -> Iterator[str]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    yield from (f"{path}: {name} is missing" for name in schema.get("required", ()) if name not in value)
    for name, item in value.items():
        allowed = known.get(name, others)
        if isinstance(allowed, dict):
            yield from breaches(item, allowed, root, f"{path}.{name}")
        elif known:
            yield f"{path}: {name} is not in the schema"


@pytest.mark.parametrize(
    "edit",
    [
        None,
        lambda trial: dataclasses.replace(trial, state="failed", reason="died", load=None, usage=(), gates=()),
        lambda _: None,
    ],
    ids=["measured", "failed", "empty"],
)
def test_the_document_keeps_its_schema(make_run: MakeRun, edit: Any) -> None:
    document = json.loads(export(analyse(make_run(blocks=2, edit=edit)), "json"))
    schema = json_schema()
    assert list(breaches(document, schema, schema)) == []


def test_the_schema_would_notice(make_run: MakeRun) -> None:
    document = json.loads(export(analyse(make_run(blocks=1)), "json"))
    schema = json_schema()
    document["trials"][0]["load"]["window_s"] = "20 s"
    del document["results"][0]["n"]
    document["surprise"] = 1
    document["version"] = 2
    found = "\n".join(breaches(document, schema, schema))
    for told in (
        "window_s: '20 s' is no number",
        "n is missing",
        "surprise is not in the schema",
        "version: 2 is not 1",
    ):
        assert told in found


def test_it_reads_back_to_the_same_document(make_run: MakeRun) -> None:
    made = run_document(analyse(make_run(blocks=1)))
    again = adapter().validate_json(adapter().dump_json(made))
    assert adapter().dump_json(again) == adapter().dump_json(made)


def test_everything_is_in_it(make_run: MakeRun) -> None:
    run = make_run(blocks=6, ratio={"envoy-1.40.0": 1.5})
    analysis = analyse(run)
    document = json.loads(export(analysis, "json"))
    assert (document["format"], document["version"]) == ("meshgauge-run", 1)
    assert len(document["trials"]) == len(run.trials)
    assert len(document["results"]) == len(result_rows(analysis))
    assert len(document["environments"]) == len(run.environments)
    assert document["plan"]["name"] == run.plan.name
    assert document["provenance"]["hosts"]["bench-1"]["cores"] == 8
    trial, turn = document["trials"][0], analysis.readings.trials[0]
    assert trial["readings"] == dict(turn.reading)
    assert trial["block"] == turn.trial.block + 1
    assert len(trial["gates"]) == len(turn.trial.gates) > 0
    units = {metric["name"]: metric["unit"] for metric in document["metrics"]}
    assert units["p50"] == "ms"
    assert set(units) == set(trial["readings"])


def test_what_was_not_measured_is_null(make_run: MakeRun) -> None:
    run = make_run(blocks=1, edit=lambda t: dataclasses.replace(t, state="failed", reason="died", load=None, usage=()))
    for trial in json.loads(export(analyse(run), "json"))["trials"]:
        assert set(trial["readings"].values()) == {None}
        assert trial["load"] is None
