"""The outcome written for CI servers and for pull requests."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree as Xml

import pytest

from meshgauge.run import RunRecord
from reports.analysis import analyse
from reports.thresholds.holding import hold
from reports.thresholds.junit import junit_xml
from reports.thresholds.markdown import markdown
from reports.thresholds.outcome import Outcome

Runs = Callable[..., RunRecord]

# JUnit.xsd of Windy Road: attributes that are needed and allowed, children in their order.
_ATTRIBUTES: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": (set(), set()),
    "testsuite": (
        {"name", "timestamp", "hostname", "tests", "failures", "errors", "time", "id", "package"},
        {"skipped"},
    ),
    "properties": (set(), set()),
    "property": ({"name", "value"}, set()),
    "testcase": ({"name", "classname", "time"}, set()),
    "failure": ({"type"}, {"message"}),
    "error": ({"type"}, {"message"}),
    "skipped": (set(), {"message"}),
    "system-out": (set(), set()),
    "system-err": (set(), set()),
}
_CHILDREN = {
    "testsuites": "(testsuite )*",
    "testsuite": "properties (testcase )*system-out system-err ",
    "properties": "(property )*",
    "testcase": "(skipped |error |failure )?",
}


def assert_valid(element: Xml.Element) -> None:
    needed, more = _ATTRIBUTES[element.tag]
    assert needed <= set(element.attrib) <= needed | more, element.tag
    children = "".join(f"{child.tag} " for child in element)
    assert re.fullmatch(_CHILDREN.get(element.tag, ""), children), (element.tag, children)
    for child in element:
        assert_valid(child)


@pytest.fixture
def mixed(run_with: Runs) -> Outcome:
    """Two checks passed, one failed, two undecided."""
    thresholds = (
        {"metric": "p99", "at_most": 5, "name": "slo"},
        {"metric": "p50", "worse_by_at_most": 5},
        {"metric": "cpu_control_plane", "at_most": 1},
    )
    return hold(analyse(run_with(*thresholds, new=1.12)))


def test_the_xml_is_what_the_strictest_schema_asks_for(mixed: Outcome) -> None:
    root = Xml.fromstring(junit_xml(mixed))  # noqa: S314 - our own text
    assert_valid(root)
    suite = root[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    names = [case.attrib["name"] for case in suite.iter("testcase")]
    assert len(set(names)) == len(names) == 5


def test_every_check_is_a_case_and_the_counts_agree(mixed: Outcome) -> None:
    suite = Xml.fromstring(junit_xml(mixed))[0]  # noqa: S314
    assert {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "5", "failures": "1", "errors": "2", "skipped": "0",
    }  # fmt: skip
    assert len(list(suite.iter("failure"))) == 1
    assert len(list(suite.iter("error"))) == 2
    (failure,) = suite.iter("failure")
    assert failure.attrib["type"] == "unconfirmed"
    assert "median latency" in failure.attrib["message"]


def test_who_lets_undecided_pass_gets_skipped_cases(mixed: Outcome) -> None:
    suite = Xml.fromstring(junit_xml(mixed, "pass"))[0]  # noqa: S314
    assert (suite.attrib["errors"], suite.attrib["skipped"]) == ("0", "2")
    assert len(list(suite.iter("skipped"))) == 2


def test_the_properties_name_run_and_versions(mixed: Outcome) -> None:
    root = Xml.fromstring(junit_xml(mixed, links={"report": "http://127.0.0.1/r"}))  # noqa: S314
    found = {p.attrib["name"]: p.attrib["value"] for p in root.iter("property")}
    assert found["run"] == mixed.run_id
    assert found["version.envoy-1.40.0"] == "client envoy 1.40.0, server envoy 1.40.0"
    assert found["report"] == "http://127.0.0.1/r"
    assert found["meshgauge"] == "0.1.0 0123abc"


def test_the_version_is_told_as_a_coordinator_notes_it(run_with: Runs) -> None:
    run = run_with({"metric": "p50", "at_most": 1})
    noted = {**run.provenance, "meshgauge": {"version": "0.2.0", "revision": "abc"}}
    assert hold(analyse(replace(run, provenance=noted))).meshgauge == "0.2.0 abc"


def test_a_threshold_without_a_name_is_named_by_what_it_says(mixed: Outcome) -> None:
    assert [check.threshold for check in mixed.checks] == [
        "slo", "slo", "p50 at most 5 % worse than the older release",
        "cpu_control_plane at most 1 cores per 1000 rps", "cpu_control_plane at most 1 cores per 1000 rps",
    ]  # fmt: skip


def test_what_xml_cannot_carry_is_replaced(mixed: Outcome) -> None:
    hostile = "\x1b[31m<b>&\"'\x00\ud800]]>"
    checks = (replace(mixed.checks[0], status="failed", sentence=hostile), *mixed.checks[1:])
    root = Xml.fromstring(junit_xml(replace(mixed, checks=checks, plan=hostile)))  # noqa: S314
    assert_valid(root)
    assert "<b>&\"'" in next(root.iter("failure")).attrib["message"]


def test_the_answer_comes_first_and_the_failure_before_the_rest(mixed: Outcome) -> None:
    text = markdown(mixed, "http://127.0.0.1:8080/runs/1/report")
    lines = text.splitlines()
    assert lines[0] == "### Meshgauge: quickstart"
    assert lines[2].startswith("**Failed (unconfirmed): 1 of 5 checks")
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| Check")]
    assert ["failed" in rows[0], "undecided" in rows[1], "passed" in rows[-1]] == [True, True, True]
    assert text.index("<details>") > text.index("undecided")
    assert "(http://127.0.0.1:8080/runs/1/report)" in text


def test_every_row_has_the_columns_of_its_table(mixed: Outcome) -> None:
    hostile = replace(mixed.checks[0], arm="a|b\n| c", against=None)
    text = markdown(replace(mixed, checks=(hostile, *mixed.checks[1:])))
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 6, line


def test_names_from_elsewhere_format_and_call_nobody(mixed: Outcome) -> None:
    remark = "<script>x</script> @everyone #12 **bold** [link](http://x) ![i](y) `code`\n# heading"
    text = markdown(replace(mixed, remarks=(remark,)))
    (shown,) = [line for line in text.splitlines() if line.startswith("> ")]
    assert "<script>" not in shown
    assert "@everyone" not in shown
    assert "#12" not in shown
    for sign in ("\\*\\*bold", "\\[link\\](", "\\!\\[i", "\\`code"):
        assert sign in shown


def test_a_thousand_checks_still_fit_into_a_comment(mixed: Outcome) -> None:
    text = markdown(replace(mixed, checks=mixed.checks * 200))
    assert len(text.encode()) < 20_000
    assert "more: see the report" in text
