"""Version selectors: ``1.40.0``, ``latest``, ``previous``, ``latest-4`` and ranges, resolved to exact versions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from meshgauge.errors import InvalidPlanError, Problem
from meshgauge.matrix import Hop, MeshArm, Role
from meshgauge.plan import Mesh, Placement, Plan, ProxyChoice

NO_MESH = "none"  # the adapter without proxies

# Given an adapter's name, its versions, newest first.
Versions = Callable[[str], Sequence[str]]

_BACK = re.compile(r"^latest-([1-9][0-9]{0,2})$")
_SAFE = re.compile(r"[^a-z0-9._+-]")
ROLES: dict[Placement, tuple[Role, ...]] = {
    "pair": ("client", "server"),
    "client": ("client",),
    "server": ("server",),
    "node": ("node",),
}


def resolve_selector(selector: str, available: Sequence[str], path: str = "version") -> str:
    """Return the one version ``selector`` means among ``available``.

    ``previous`` is the newest release of the minor before the newest one's; ``latest-N`` counts minors
    the same way, so that point releases do not shift it. A range takes its newest member. Pre-releases
    are only taken when named exactly.

    Raises:
        InvalidPlanError: nothing fits; lists the newest versions there are.
    """
    releases = sorted({v for v in map(_parsed, available) if v is not None}, reverse=True)
    stable = [version for version in releases if not version.is_prerelease]
    by_version = {_parsed(text): text for text in available}
    steps = {"latest": 0, "previous": 1}.get(selector)
    if match := _BACK.match(selector):
        steps = int(match[1])
    chosen: Version | None
    if steps is not None:
        chosen = _newest_of_minor(stable, steps)
    elif (exact := _parsed(selector)) is not None:
        chosen = exact if exact in by_version else None
    else:
        chosen = next((v for v in stable if v in _specifier(selector, path)), None)
    if chosen is None:
        newest = ", ".join(by_version[v] for v in releases[:8]) or "none"
        raise InvalidPlanError([Problem(path, f"no version fits {selector!r}; there are: {newest}")])
    return by_version[chosen]


def _newest_of_minor(stable: Sequence[Version], steps: int) -> Version | None:
    minors: dict[tuple[int, int], Version] = {}
    for version in stable:
        minors.setdefault((version.major, version.minor), version)
    newest = list(minors.values())
    if steps < len(newest):
        return newest[steps]
    # A package with one minor line only: step through its point releases instead.
    return stable[steps] if len(newest) == 1 and steps < len(stable) else None


def _parsed(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _specifier(selector: str, path: str) -> SpecifierSet:
    try:
        return SpecifierSet(selector)
    except InvalidSpecifier as error:
        message = f"{selector!r} is no version selector; write 1.40.0, latest, previous, latest-2 or >=1.38,<1.40"
        raise InvalidPlanError([Problem(path, message)]) from error


def resolve_arms(plan: Plan, versions: Versions) -> tuple[MeshArm, ...]:
    """Return the plan's meshes with exact versions, one arm for each selector, plus the A/A arm if asked for.

    Raises:
        InvalidPlanError: a selector fits nothing, or the baseline is no arm; all problems at once.
        UnknownNameError: an adapter nobody knows (raised by ``versions``).
    """
    problems: list[Problem] = []
    arms: list[MeshArm] = []
    for at, mesh in enumerate(plan.meshes):
        try:
            arms.extend(_arms_of(mesh, f"meshes[{at}]", versions))
        except InvalidPlanError as error:
            problems.extend(error.problems)
    labels = [arm.label for arm in arms]
    if not problems and plan.baseline not in labels:
        problems.append(
            Problem("baseline", f"{plan.baseline!r} is no mesh of this plan; there are: {', '.join(labels)}")
        )
    if problems:
        raise InvalidPlanError(problems)
    if plan.aa_arm:
        again = next(arm for arm in arms if arm.label == plan.baseline)
        arms.append(MeshArm(f"{again.label}-again", again.placement, again.hops, again.profiles))
    return tuple(arms)


def _arms_of(mesh: Mesh, path: str, versions: Versions) -> list[MeshArm]:
    if mesh.client is not None and mesh.server is not None:
        hops = (
            _hop("client", mesh.client, f"{path}.client.version", versions),
            _hop("server", mesh.server, f"{path}.server.version", versions),
        )
        label = mesh.label or "+".join(_hop_label(hop) for hop in hops)
        return [MeshArm(label, "pair", hops, mesh.profiles)]
    adapter = mesh.adapter or ""
    if adapter == NO_MESH:
        return [MeshArm(mesh.label or NO_MESH, "pair", (), mesh.profiles)]
    arms = []
    for at, selector in enumerate(mesh.versions):
        choice = ProxyChoice(adapter=adapter, version=selector, binary=mesh.binary)
        where = f"{path}.versions[{at}]"
        hops_of_one = tuple(_hop(role, choice, where, versions) for role in ROLES[mesh.placement])
        suffix = "" if mesh.placement == "pair" else f"-{mesh.placement}"
        own = f"{mesh.label}-{hops_of_one[0].version}" if mesh.label and len(mesh.versions) > 1 else mesh.label
        arms.append(MeshArm(own or _hop_label(hops_of_one[0]) + suffix, mesh.placement, hops_of_one, mesh.profiles))
    return arms


def _hop(role: Role, choice: ProxyChoice, path: str, versions: Versions) -> Hop:
    if choice.binary is not None:  # no index is asked: this has to work where none can be reached
        return Hop(role, choice.adapter, "custom", choice.binary)
    return Hop(role, choice.adapter, resolve_selector(choice.version, versions(choice.adapter), path))


def _hop_label(hop: Hop) -> str:
    return _SAFE.sub("-", f"{hop.adapter}-{hop.version}".lower())
