"""Servers of the user's own (MESHGAUGE_DATABASE_URL, MESHGAUGE_BROKER_URL): do they answer, said in one sentence."""

from __future__ import annotations

from meshgauge.errors import ConfigurationError, MeshgaugeError, ServiceUnavailableError

_CONNECT_TIMEOUT_S = 5


def check_database(url: str) -> None:
    """Connect once.

    Raises:
        ConfigurationError: the URL is none, or not one of a Postgres.
        ServiceUnavailableError: nobody answers there, or the login is refused. Never shows the password.
    """
    from sqlalchemy import create_engine, exc, text  # noqa: PLC0415 - 0.3 s the embedded default need not pay
    from sqlalchemy.engine import make_url  # noqa: PLC0415

    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        raise ConfigurationError(
            "MESHGAUGE_DATABASE_URL is no URL; it reads postgresql+psycopg2://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None  # the cause would show the password
    if parsed.get_backend_name() != "postgresql":
        raise ConfigurationError(
            f"MESHGAUGE_DATABASE_URL names a {parsed.get_backend_name()} database; only Postgres is supported"
        )
    engine = create_engine(parsed, connect_args={"connect_timeout": _CONNECT_TIMEOUT_S})
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except exc.OperationalError as error:
        raise _unavailable("database", "MESHGAUGE_DATABASE_URL", str(parsed), str(error.orig)) from None
    finally:
        engine.dispose()


def check_broker(url: str) -> None:
    """Connect once.

    Raises:
        ConfigurationError: the URL is not one of a Redis-protocol server.
        ServiceUnavailableError: nobody answers there, or the login is refused.
    """
    from kombu import Connection  # noqa: PLC0415 - 0.2 s the embedded default need not pay

    if url.partition(":")[0].partition("+")[0] not in {"redis", "rediss"}:
        raise ConfigurationError(
            "MESHGAUGE_BROKER_URL is no URL of a Redis-protocol server; it reads redis://:PASSWORD@HOST:PORT/0"
        )
    options = {"socket_connect_timeout": _CONNECT_TIMEOUT_S, "socket_timeout": _CONNECT_TIMEOUT_S}
    with Connection(url, transport_options=options) as connection:
        errors = (*connection.connection_errors, *connection.channel_errors)
        try:
            connection.connect()
        except errors as error:
            shown = str(connection.as_uri())  # kombu masks the password
            raise _unavailable("broker", "MESHGAUGE_BROKER_URL", shown, str(error)) from None


def _unavailable(what: str, variable: str, url: str, reason: str) -> MeshgaugeError:
    sentence = " ".join(reason.split())
    return ServiceUnavailableError(
        f"the {what} at {url} does not let us in ({sentence}); "
        f"start it or correct {variable}, or unset that to use the embedded one"
    )
