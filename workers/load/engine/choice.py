"""Which engine runs: the native one where it loads, the pure-Python one otherwise or when asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from meshgauge.errors import ConfigurationError
from workers.load.engine.contract import Engine, EngineName, Target
from workers.load.engine.library import ABI, load_library
from workers.load.engine.native import NativeEngine
from workers.load.engine.portable import PythonEngine


@dataclass(frozen=True, slots=True)
class Offer:
    """What one load worker can do. ``native_abi`` is None where no native engine loads; ``reason`` says why."""

    worker: str
    native_abi: int | None
    reason: str | None


def offer_of(worker: str) -> Offer:
    """Return what this process can do."""
    try:
        load_library()
    except ConfigurationError as error:
        return Offer(worker, None, str(error))
    return Offer(worker, ABI, None)


def choose(wish: Literal["auto", "native", "python"], offers: Iterable[Offer]) -> EngineName:
    """Return the one engine all load workers use.

    Raises:
        ConfigurationError: they cannot all use the same one; results of a mixture would mean nothing.
    """
    offers = tuple(offers)
    if wish == "python":
        return "python"
    without = [offer for offer in offers if offer.native_abi is None]
    if wish == "native" and without:
        raise ConfigurationError(f"load worker {without[0].worker} has no native engine: {without[0].reason}")
    if len(without) == len(offers):
        return "python"
    if without:
        raise ConfigurationError(
            f"load workers would mix engines: {without[0].worker} has no native one ({without[0].reason});"
            " repair it, or ask for engine: python"
        )
    abis = {offer.native_abi for offer in offers}
    if len(abis) > 1:
        listed = ", ".join(f"{offer.worker}: ABI {offer.native_abi}" for offer in offers)
        raise ConfigurationError(f"load workers would mix native engines ({listed}): install one version everywhere")
    return "native"


def open_engine(name: EngineName, target: Target) -> Engine:
    """Return a started engine."""
    return NativeEngine(target) if name == "native" else PythonEngine(target)
