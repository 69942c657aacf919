"""Read the few protobuf bodies client-go's typed clients send (Helm's Secrets, Namespaces, DeleteOptions)."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fake_kinds import Manifest

MAGIC: Final = b"k8s\x00"
MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"

Schema = Mapping[int, tuple[str, Any]]  # field number -> (name, type or message)

_OWNER: Final[Schema] = {
    5: ("apiVersion", str), 1: ("kind", str), 3: ("name", str), 4: ("uid", str), 6: ("controller", bool),
    7: ("blockOwnerDeletion", bool),
}  # fmt: skip
# Field numbers: k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto and k8s.io/api/core/v1/generated.proto.
_META: Final[Schema] = {
    1: ("name", str), 2: ("generateName", str), 3: ("namespace", str), 5: ("uid", str), 6: ("resourceVersion", str),
    7: ("generation", int), 11: ("labels", {str: str}), 12: ("annotations", {str: str}),
    13: ("ownerReferences", [_OWNER]), 14: ("finalizers", [str]),
}  # fmt: skip
_PRECONDITIONS: Final[Schema] = {1: ("uid", str), 2: ("resourceVersion", str)}
_MESSAGES: Final[Mapping[str, Schema]] = {
    "Secret": {
        1: ("metadata", _META), 2: ("data", {str: bytes}), 3: ("type", str), 4: ("stringData", {str: str}),
        5: ("immutable", bool),
    },
    "ConfigMap": {
        1: ("metadata", _META), 2: ("data", {str: str}), 3: ("binaryData", {str: bytes}), 4: ("immutable", bool),
    },
    "Namespace": {1: ("metadata", _META), 2: ("spec", {1: ("finalizers", [str])})},
    "DeleteOptions": {
        1: ("gracePeriodSeconds", int), 2: ("preconditions", _PRECONDITIONS), 3: ("orphanDependents", bool),
        4: ("propagationPolicy", str), 5: ("dryRun", [str]),
    },
}  # fmt: skip


def decode(body: bytes) -> Manifest:
    """Return the object in a ``runtime.Unknown`` envelope.

    Raises:
        ValueError: the envelope is none, or holds a kind this module has no field numbers for.
    """
    if not body.startswith(MAGIC):
        raise ValueError("a protobuf body starts with k8s\\0")
    envelope = dict(_fields(body[len(MAGIC) :]))
    names = {number: value.decode() for number, value in _fields(envelope[1])}
    api_version, kind = names.get(1, ""), names.get(2, "")
    if kind not in _MESSAGES:
        raise ValueError(f"the fake API server reads no protobuf {kind}")
    return {"apiVersion": api_version, "kind": kind, **_message(envelope.get(2, b""), _MESSAGES[kind])}


def _message(raw: bytes, schema: Schema) -> Manifest:
    message: Manifest = {}
    for number, value in _fields(raw):
        if number not in schema:
            continue
        name, kind = schema[number]
        if isinstance(kind, list):
            message.setdefault(name, []).append(_value(value, kind[0]))
        elif isinstance(kind, dict) and str in kind:
            entry = dict(_fields(value))
            message.setdefault(name, {})[entry.get(1, b"").decode()] = _value(entry.get(2, b""), kind[str])
        elif value != b"":  # gogo-protobuf writes empty texts; JSON leaves them out
            message[name] = _value(value, kind)
    return message


def _value(raw: Any, kind: Any) -> Any:
    if kind is str:
        return raw.decode()
    if kind is bytes:
        return base64.b64encode(raw).decode()
    if kind is bool:
        return bool(raw)
    return raw if kind is int else _message(raw, kind)


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (field number, varint or bytes) of one message; 32 and 64 bit fields do not occur in these messages."""
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        value, at = _varint(raw, at)
        if key & 7 == 2:
            yield key >> 3, raw[at : at + value]
            at += value
        elif key & 7 == 0:
            yield key >> 3, value
        else:
            raise ValueError(f"wire type {key & 7} is not read here")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
