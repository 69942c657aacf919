"""``python -m coordinator.migrate``: brings the database to the schema of this release."""

from __future__ import annotations

import sys

from meshgauge.errors import ConfigurationError, MeshgaugeError
from meshgauge.log import configure_logging
from meshgauge.settings import Settings
from meshgauge.store.database import migrate


def main() -> int:
    """Migrate the database of the settings; say an error in one sentence and exit 1."""
    settings = Settings()
    configure_logging(settings.log_level)
    try:
        if settings.database_url is None:
            raise ConfigurationError("set MESHGAUGE_DATABASE_URL to the Postgres whose schema should be brought up")
        migrate(settings.database_url.get_secret_value())
    except MeshgaugeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
