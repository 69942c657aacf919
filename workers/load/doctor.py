"""Says which load engine this installation has, as one JSON object: ``python -m workers.load.doctor``."""

from __future__ import annotations

import json
import platform

from workers.load.engine.choice import offer_of
from workers.load.engine.library import ABI


def main() -> None:
    """Print the engine and why."""
    offer = offer_of(platform.node())
    if offer.native_abi is None:
        answer = {"engine": "python", "reason": str(offer.reason)}
    else:
        answer = {"engine": "native", "reason": f"compiled here, ABI {ABI}"}
    print(json.dumps(answer))  # noqa: T201 - its output is its purpose


if __name__ == "__main__":
    main()
