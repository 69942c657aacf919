"""Finding the coordinator, and the right to talk to it."""

from __future__ import annotations

from coordinator.client import Client
from coordinator.commands.failures import read_settings
from coordinator.embedded.state import running_state
from meshgauge.errors import ConfigurationError, ServiceUnavailableError
from meshgauge.settings import Settings


def open_client() -> Client:
    """Return a client of the coordinator the settings name, or of the one that runs on our data directory.

    Raises:
        ServiceUnavailableError: there is none.
    """
    settings = read_settings()
    found = client_if_any(settings)
    if found is None:
        raise ServiceUnavailableError(
            f"no coordinator runs on {settings.data_dir}; start one with: meshgauge up, "
            "or name one: MESHGAUGE_COORDINATOR_URL"
        )
    return found


def client_if_any(settings: Settings) -> Client | None:
    """Return a client, or None when nothing is named and nothing runs here."""
    if settings.coordinator_url is not None:
        return Client(settings.coordinator_url, _token(settings))
    state = running_state(settings.data_dir)
    if state is None or state.phase == "stopping":
        return None
    return Client(state.coordinator_url, _token(settings) or operator_token(settings))


def _token(settings: Settings) -> str | None:
    return None if settings.api_token is None else settings.api_token.get_secret_value()


def operator_token(settings: Settings) -> str | None:
    """Return the secret that makes the owner of the data directory an admin; None where there is none to read."""
    try:
        return (settings.data_dir / "secrets" / "operator").read_text(encoding="ascii").strip()
    except (FileNotFoundError, PermissionError):
        return None


def database_url(settings: Settings) -> str:
    """Return the database of this installation, for what only its operator may do.

    Raises:
        ConfigurationError: none is set and no instance runs.
    """
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    state = running_state(settings.data_dir)
    if state is None:
        raise ConfigurationError(
            f"no instance runs on {settings.data_dir}; start it with: meshgauge up, or set MESHGAUGE_DATABASE_URL"
        )
    return state.database_url
