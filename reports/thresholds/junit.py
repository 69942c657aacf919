"""The outcome as JUnit XML, which every CI server reads: one test case a check."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Literal
from xml.etree import ElementTree as Xml

from reports.thresholds.outcome import Check, Outcome

# What an undecided check counts as. A gate that cannot decide must not look green by itself, so the default is
# JUnit's <error>: the test could not be carried out. Who lets undecided pass gets <skipped>, which is yellow.
Undecided = Literal["fail", "pass"]

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(outcome: Outcome, undecided: Undecided = "fail", links: Mapping[str, str] | None = None) -> str:
    """Return a JUnit document with one suite: the run, its versions as properties, one case for each check.

    Args:
        undecided: fail: undecided checks are errors; pass: they are skipped.
        links: addresses by name, such as ``report``, added to the properties.

    Returns:
        XML with its declaration, to be written as UTF-8.

    Source: the schema of the Windy Road JUnit.xsd, which is the strictest in use; Jenkins' junit-10.xsd allows more.
    """
    not_decided = outcome.count("undecided")
    counts = {
        "tests": str(len(outcome.checks)),
        "failures": str(outcome.count("failed")),
        "errors": str(not_decided if undecided == "fail" else 0),
        "skipped": str(not_decided if undecided == "pass" else 0),
    }
    time = f"{outcome.duration_s or 0:.3f}"  # the schema wants a number: 0 says that the run is not over
    root = Xml.Element("testsuites")
    suite = Xml.SubElement(
        root,
        "testsuite",
        {
            "id": "0",
            "name": _clean(outcome.plan),
            "package": "meshgauge",
            "timestamp": _timestamp(outcome.at),
            "hostname": "meshgauge",
            **counts,
            "time": time,
        },
    )
    properties = Xml.SubElement(suite, "properties")
    for name, value in _properties(outcome, links or {}).items():
        Xml.SubElement(properties, "property", {"name": _clean(name), "value": _clean(value)})
    for check in outcome.checks:
        _add_case(suite, check, undecided)
    Xml.SubElement(suite, "system-out").text = _clean("\n".join((outcome.sentence, *outcome.remarks)))
    Xml.SubElement(suite, "system-err")
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _add_case(suite: Xml.Element, check: Check, undecided: Undecided) -> None:
    # The schema wants a time; a check is arithmetic over a run, whose time the suite has.
    names = {"name": _clean(f"{check.threshold}: {check.subject}"), "classname": f"thresholds.{check.metric}"}
    case = Xml.SubElement(suite, "testcase", {**names, "time": "0.000"})
    message = _clean(check.sentence)
    if check.status == "failed":
        Xml.SubElement(case, "failure", {"type": check.confirmation or check.bound, "message": message}).text = message
    elif check.status == "undecided" and undecided == "fail":
        Xml.SubElement(case, "error", {"type": "undecided", "message": message}).text = message
    elif check.status == "undecided":
        Xml.SubElement(case, "skipped", {"message": message})


def _properties(outcome: Outcome, links: Mapping[str, str]) -> Mapping[str, str]:
    found = {
        "run": outcome.run_id,
        "plan_sha256": outcome.plan_sha256,
        "meshgauge": outcome.meshgauge,
        **({"confirming_run": outcome.confirming_run_id} if outcome.confirming_run_id else {}),
        **{f"version.{arm}": version for arm, version in outcome.versions.items()},
        **links,
    }
    return {name: value for name, value in found.items() if value}


def _timestamp(at: str) -> str:
    """Return the time in the one form the schema takes: UTC, whole seconds, no zone."""
    return dt.datetime.fromisoformat(at).astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _clean(text: str) -> str:
    """Return the text without the characters XML cannot carry, such as the escapes of a coloured log."""
    return _NOT_IN_XML.sub("\ufffd", text)
