"""How commands end: one clear sentence on standard error, and an exit code that says what kind of failure."""

from __future__ import annotations

import sys
import traceback
from typing import Any, Final

from pydantic import ValidationError
from typer.core import TyperGroup
from typer.exceptions import Exit

from meshgauge.errors import (
    ConfigurationError,
    ConflictError,
    InvalidPlanError,
    InvalidRequestError,
    MeshgaugeError,
    ServiceUnavailableError,
    UnknownNameError,
    UnsupportedError,
)
from meshgauge.settings import Settings

# Shown by `meshgauge --help`.
DONE: Final = 0
RUN_FAILED: Final = 1  # the run ended without a single valid measurement
THRESHOLD_BROKEN: Final = 1  # `meshgauge gate`: the run broke a threshold of its plan
USAGE: Final = 2  # the command line or the plan is wrong
UNAVAILABLE: Final = 3  # coordinator, Postgres, broker or package index do not answer
CONFIGURATION: Final = 4  # a setting or the host stands in the way
NOT_THERE: Final = 5  # no such run, schedule, site, token; or its state does not allow this
UNDECIDED: Final = 6  # `meshgauge gate`: nothing broke, but something could not be decided
FAULT: Final = 70  # a fault of Meshgauge itself (EX_SOFTWARE, sysexits(3))
CANCELLED: Final = 130  # Ctrl-C, or the run was cancelled

_PROBLEMS_SHOWN = 20

_CODES: tuple[tuple[type[MeshgaugeError], int], ...] = (
    (InvalidPlanError, USAGE),
    (InvalidRequestError, USAGE),
    (UnsupportedError, USAGE),
    (ServiceUnavailableError, UNAVAILABLE),
    (ConfigurationError, CONFIGURATION),
    (UnknownNameError, NOT_THERE),
    (ConflictError, NOT_THERE),
    (MeshgaugeError, RUN_FAILED),
)


class SentenceGroup(TyperGroup):
    """Turns every error of a command into a sentence and an exit code; ``--debug`` shows where it came from."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except MeshgaugeError as error:
            _show(ctx, sentence_of(error))
            raise Exit(code_of(error)) from error
        except KeyboardInterrupt as error:
            raise Exit(CANCELLED) from error
        except BrokenPipeError as error:  # the reader of our output has gone: not our failure
            sys.stderr.close()
            raise Exit(DONE) from error
        except (OSError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
            _show(ctx, f"a fault of Meshgauge: {error!r}; run the command again with --debug and report what it says")
            raise Exit(FAULT) from error


def code_of(error: MeshgaugeError) -> int:
    """Return the exit code of an error."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def sentence_of(error: MeshgaugeError) -> str:
    """Return what to show: a plan's problems one a line, anything else as it is."""
    if isinstance(error, InvalidPlanError):
        lines = "\n".join(f"  {problem}" for problem in error.problems[:_PROBLEMS_SHOWN])
        if len(error.problems) > _PROBLEMS_SHOWN:
            lines += f"\n  ... and {len(error.problems) - _PROBLEMS_SHOWN} more"
        return f"the plan cannot be run as it stands:\n{lines}"
    return str(error)


def _show(ctx: Any, sentence: str) -> None:
    if ctx.params.get("debug"):
        traceback.print_exc(file=sys.stderr)
    sys.stderr.write(f"meshgauge: {sentence}\n")


def read_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        ConfigurationError: a MESHGAUGE_* variable cannot be understood; says which.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"MESHGAUGE_{'.'.join(map(str, detail['loc'])).upper()}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_input=False)
        )
        raise ConfigurationError(f"a setting is wrong: {wrong}") from error
