"""Plan documents: text in, a validated plan out, or every problem with its path and its fix."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode

from meshgauge.errors import InvalidPlanError, Problem, nearest_name
from meshgauge.plan import Plan

MAX_DEPTH = 20
MAX_NODES = 20_000
_FLOAT = r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?|[0-9]+[eE][-+]?[0-9]{1,3})$"
_SECRET_LIKE = re.compile(r"(password|passwd|secret|token|api_?key|private_?key)", re.IGNORECASE)


class _PlanLoader(yaml.SafeLoader):
    """YAML without its traps: no aliases, no duplicate keys, no yes/no booleans, no dates, no base-60 numbers.

    Each was seen to blow up or to change a value silently (reference/operations.md 8).
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave the parser out
        if self.check_event(yaml.events.AliasEvent):
            raise _refusal(mark, "aliases (*name) are not accepted; write the value out")
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH:
            raise _refusal(mark, f"nested deeper than {MAX_DEPTH} levels")
        if self._nodes > MAX_NODES:
            raise _refusal(mark, f"more than {MAX_NODES} values")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise _refusal(key.start_mark, "keys must be plain names")
            if key.value in seen:
                raise _refusal(key.start_mark, f"key {key.value!r} appears twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _json_like_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return YAML 1.2's core schema: null, true/false, decimal integers of 18 digits at most, and floats."""
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first in (
        ("null", r"^(?:~|null|)$", ["~", "n", ""]),
        ("bool", r"^(?:true|false)$", ["t", "f"]),
        ("int", r"^[-+]?(?:0|[1-9][0-9]{0,17})$", list("-+0123456789")),
        ("float", _FLOAT, list("-+.0123456789")),
    ):
        for letter in first:
            table.setdefault(letter, []).append((f"tag:yaml.org,2002:{tag}", re.compile(pattern)))
    return table


_PlanLoader.yaml_implicit_resolvers = _json_like_resolvers()


def _refusal(mark: Any, message: str) -> InvalidPlanError:
    return InvalidPlanError([Problem(f"line {mark.line + 1}", message)])


def parse_document(text: str) -> dict[str, Any]:
    """Return the mapping written in ``text``, YAML or JSON.

    Raises:
        InvalidPlanError: not YAML, not a mapping, or a construct we refuse; names the line.
    """
    try:
        data = yaml.load(text, Loader=_PlanLoader)  # noqa: S506 - a SafeLoader with less
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidPlanError([Problem(where, f"not valid YAML: {error.problem}")]) from error
    except yaml.YAMLError as error:
        raise InvalidPlanError([Problem("", f"not valid YAML: {error}")]) from error
    except RecursionError as error:
        raise InvalidPlanError([Problem("", f"nested deeper than {MAX_DEPTH} levels")]) from error
    if not isinstance(data, dict):
        raise InvalidPlanError([Problem("", "a plan is a mapping of fields; start with name: and meshes:")])
    return data


def load_plan(text: str) -> Plan:
    """Return the plan written in ``text``.

    Raises:
        InvalidPlanError: lists every problem with the path of its field and what to do.
    """
    return validate_plan(parse_document(text))


def validate_plan(data: dict[str, Any]) -> Plan:
    """Return ``data`` as a plan.

    Raises:
        InvalidPlanError: as ``load_plan``.
    """
    refuse_secrets(data)
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise InvalidPlanError(
            _problem(detail) for detail in details if not _is_consequence(detail, details)
        ) from error


def refuse_secrets(data: Mapping[str, Any]) -> None:
    """See that no field of a document is called like a secret.

    Raises:
        InvalidPlanError: lists each.
    """
    secrets = [
        Problem(path, "looks like a secret; plans are stored and shown: name an environment variable of the worker")
        for path in _secret_paths(data)
    ]
    if secrets:
        raise InvalidPlanError(secrets)


def plan_sha256(text: str) -> str:
    """Return the content hash by which a plan's text is known."""
    return hashlib.sha256(text.encode()).hexdigest()


def _secret_paths(data: Any, path: str = "") -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            here = f"{path}.{key}" if path else str(key)
            if isinstance(value, str) and value and _SECRET_LIKE.search(str(key)):
                yield here
            yield from _secret_paths(value, here)
    elif isinstance(data, list):
        for at, value in enumerate(data):
            yield from _secret_paths(value, f"{path}[{at}]")


def _is_consequence(detail: Any, details: Sequence[Any]) -> bool:
    """Return whether a list only counts as too short because one of its items is wrong."""
    location = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(location) and other["loc"][: len(location)] == location for other in details
    )


def _problem(detail: Any) -> Problem:
    location = tuple(detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = sorted(_fields_at(location[:-1]))
        nearest = nearest_name(str(location[-1]), known)
        hint = f"did you mean {nearest!r}?" if nearest else f"known: {', '.join(known)}"
        return Problem(_path(location), f"unknown key; {hint}")
    if detail["type"] == "missing":
        return Problem(_path(location), "is needed")
    message = detail["msg"].removeprefix("Value error, ")
    return Problem(_path(location), message if detail["type"] == "value_error" else f"{message}{_given(detail)}")


def _given(detail: Any) -> str:
    shown = repr(detail["input"])
    return f"; got {shown}" if len(shown) <= 60 else ""


def _path(location: tuple[str | int, ...]) -> str:
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _fields_at(location: tuple[str | int, ...]) -> set[str]:
    """Return the names of the fields a plan has at ``location``."""
    models: list[type[BaseModel]] = [Plan]
    for step in location:
        if isinstance(step, int):
            continue
        models = [
            model
            for parent in models
            if step in parent.model_fields
            for model in _models_in(parent.model_fields[step].annotation)
        ]
    return {name for model in models for name in model.model_fields}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
