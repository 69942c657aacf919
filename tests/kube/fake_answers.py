"""Refusals of the fake API server: a status code, a reason and a sentence, as the real one words them."""

from __future__ import annotations

from typing import Any, Final

from fake_kinds import Manifest, Resource

_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


class RefusalError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, message: str, reason: str = "", details: Manifest | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or _REASONS.get(code, "Unknown")
        self.details = details

    def status(self) -> Manifest:
        """Return the Status object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status


def qualified(resource: Resource) -> str:
    """Return ``deployments.apps``."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _details(resource: Resource, name: str) -> Manifest:
    return {"name": name, "group": resource.group, "kind": resource.plural}


def not_found(resource: Resource, name: str) -> RefusalError:
    return RefusalError(404, f'{qualified(resource)} "{name}" not found', details=_details(resource, name))


def already_exists(resource: Resource, name: str) -> RefusalError:
    message = f'{qualified(resource)} "{name}" already exists'
    return RefusalError(409, message, "AlreadyExists", _details(resource, name))


def modified(resource: Resource, name: str) -> RefusalError:
    message = (
        f'Operation cannot be fulfilled on {qualified(resource)} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return RefusalError(409, message, details=_details(resource, name))


def invalid(resource: Resource, name: str, path: str, why: str) -> RefusalError:
    qualified_kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    causes = [{"reason": "FieldValueInvalid", "message": why, "field": path}]
    message = f'{qualified_kind} "{name}" is invalid: {path}: {why}'
    return RefusalError(422, message, details={**_details(resource, name), "causes": causes})


def expired() -> RefusalError:
    return RefusalError(410, "too old resource version: the events after it are gone")
