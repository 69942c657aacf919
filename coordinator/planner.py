"""From a plan's text to a resolved plan: read, check what it may do, fix versions, expand, draw the seed."""

from __future__ import annotations

import functools
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.contract import Provider
from coordinator.targets import Resolve, allowed_networks, refuse_foreign_targets, resolve_host
from meshgauge.document import MAX_DEPTH, parse_document, refuse_secrets, validate_plan
from meshgauge.errors import InvalidPlanError, Problem, UnknownNameError
from meshgauge.infrastructures import Infrastructure
from meshgauge.matrix import Matrix, MeshArm, count_cells, expand
from meshgauge.plan import Plan, Profile
from meshgauge.resolved import Features, ResolvedPlan
from meshgauge.selectors import resolve_arms
from meshgauge.settings import Settings
from meshgauge.smp.messages import is_smp
from meshgauge.smp.translation import origin_of, translate

# Returns the provider of that name. Raises UnknownNameError.
ProviderOf = Callable[[str], Provider]


def read_plan(text: str) -> Plan:
    """Return the plan written in ``text``: strict JSON when it starts with a brace, else YAML.

    An SMP test configuration (``test:``, ``mesh:``) is read as the plan it becomes; ``notes_on`` says how.

    Raises:
        InvalidPlanError: lists every problem with the path of its field and what to do.
    """
    document = _document(text)
    return _plan_of_smp(document) if is_smp(document) else validate_plan(document)


def notes_on(text: str) -> tuple[str, ...]:
    """Return what a reader must know about how ``text`` became a plan; nothing for a plan.

    Raises:
        InvalidPlanError: as ``read_plan``.
    """
    document = _document(text)
    return translate(document).notes if is_smp(document) else ()


def _plan_of_smp(document: dict[str, Any]) -> Plan:
    refuse_secrets(document)
    made = translate(document)
    try:
        return validate_plan(made.document)
    except InvalidPlanError as error:
        raise InvalidPlanError(map(origin_of, error.problems)) from error


def _document(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{") and (document := _json_object(text)) is not None:
        return document
    return parse_document(text)


def _json_object(text: str) -> dict[str, Any] | None:
    """Return the object, or None when the text is not JSON: a YAML flow mapping also starts with a brace."""
    try:
        document = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except json.JSONDecodeError:
        return None
    except RecursionError as error:
        raise _too_deep() from error
    _refuse_depth(document)
    return document if isinstance(document, dict) else None


def _too_deep() -> InvalidPlanError:
    return InvalidPlanError([Problem("", f"nested deeper than {MAX_DEPTH} levels")])


def _refuse_depth(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        containers = [value for value in level if isinstance(value, dict | list)]
        level = [item for value in containers for item in (value.values() if isinstance(value, dict) else value)]
        if not level:
            return
    raise _too_deep()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidPlanError([Problem(str(twice), "this key appears twice")])
    return document


def _no_constant(constant: str) -> Any:
    raise InvalidPlanError([Problem("", f"{constant} is not JSON; write a number")])


@dataclass(frozen=True, slots=True)
class Planner:
    """Resolves plans for one installation."""

    settings: Settings
    provider_of: ProviderOf
    resolve_host: Resolve = resolve_host

    def resolve(self, text: str, *, may_run_programs: bool) -> ResolvedPlan:
        """Return ``text`` with nothing left open.

        Args:
            may_run_programs: whether this submitter may name programs and Locust files to run.

        Raises:
            InvalidPlanError: lists every problem with its path.
            ServiceUnavailableError: the versions of a mesh cannot be looked up now.
        """
        plan = read_plan(text)
        if not may_run_programs:
            _refuse_programs(plan)
        refuse_foreign_targets(plan, allowed_networks(self.settings.allowed_targets), self.resolve_host)
        providers = self._providers(plan)
        arms = _arms(plan, providers)
        _refuse_too_many(count_cells(plan, arms), self.settings.max_cells)

        def unsupported(mesh: MeshArm, profile: Profile, infrastructure: Infrastructure) -> str | None:
            return providers[infrastructure.provider].unsupported(mesh, profile, infrastructure)

        matrix = expand(plan, arms, unsupported)
        seed = secrets.randbelow(2**63) if plan.seed is None else plan.seed
        return ResolvedPlan(text, plan, arms, matrix, seed, _features(matrix, providers))

    def preflight(self, resolved: ResolvedPlan) -> dict[str, tuple[str, ...]]:
        """Look at the plan's clusters: per mesh, profile and infrastructure, what is in the way there.

        Raises:
            ServiceUnavailableError: a cluster does not answer.
            ConfigurationError: there is no such context, or it refuses us.
        """
        load_workers = max(cell.load.load_workers for cell in resolved.matrix.cells)
        found: dict[str, tuple[str, ...]] = {}
        for key in resolved.matrix.environments:
            name = "/".join((key.mesh.label, key.profile.name, key.infrastructure.name))
            if key.infrastructure.provider == "kubernetes" and name not in found:
                provider = self.provider_of(key.infrastructure.provider)
                found[name] = tuple(provider.preflight(key, load_workers))
        return found

    def _providers(self, plan: Plan) -> dict[str, Provider]:
        providers: dict[str, Provider] = {}
        problems = []
        for at, infrastructure in enumerate(plan.infrastructures):
            try:
                providers[infrastructure.provider] = self.provider_of(infrastructure.provider)
            except UnknownNameError as error:
                problems.append(Problem(f"infrastructures[{at}].provider", str(error)))
        if problems:
            raise InvalidPlanError(problems)
        return providers


def installed_planner(settings: Settings) -> Planner:
    """Return the planner over the providers of this installation; they share the workers' cache."""
    from adapters import registry  # noqa: PLC0415 - loads every adapter; most commands need none

    return Planner(settings, lambda name: registry.provider(name, settings.data_dir / "cache"))


def _arms(plan: Plan, providers: Mapping[str, Provider]) -> tuple[MeshArm, ...]:
    """Return the plan's arms; with several infrastructures a version counts when all of them have it."""

    @functools.cache
    def versions(adapter: str) -> Sequence[str]:
        offered = [providers[place.provider].versions(adapter, place) for place in plan.infrastructures]
        return [version for version in offered[0] if all(version in other for other in offered[1:])]

    try:
        return resolve_arms(plan, versions)
    except UnknownNameError as error:
        raise InvalidPlanError([Problem(_path_of_adapter(plan, error.name), str(error))]) from error


def _path_of_adapter(plan: Plan, adapter: str) -> str:
    for at, mesh in enumerate(plan.meshes):
        if mesh.adapter == adapter:
            return f"meshes[{at}].adapter"
        for role, choice in (("client", mesh.client), ("server", mesh.server)):
            if choice is not None and choice.adapter == adapter:
                return f"meshes[{at}].{role}.adapter"
    return "meshes"


def _refuse_too_many(cells: int, most: int) -> None:
    if cells > most:
        message = f"{cells} cells, and {most} are allowed (MESHGAUGE_MAX_CELLS); shorten a list, or split the plan"
        raise InvalidPlanError([Problem("", message)])


def _refuse_programs(plan: Plan) -> None:
    """Refuse whatever would run a program named by the submitter.

    Raises:
        InvalidPlanError: lists each place.
    """
    paths = [f"workloads[{at}].commands" for at, workload in enumerate(plan.workloads) if workload.commands]
    paths += [f"workloads[{at}].deployments" for at, workload in enumerate(plan.workloads) if workload.deployments]
    paths += [f"workloads[{at}].locust_file" for at, workload in enumerate(plan.workloads) if workload.locust_file]
    for at, mesh in enumerate(plan.meshes):
        paths += [f"meshes[{at}].binary"] if mesh.binary else []
        for role, choice in (("client", mesh.client), ("server", mesh.server)):
            paths += [f"meshes[{at}].{role}.binary"] if choice is not None and choice.binary else []
    for at, infrastructure in enumerate(plan.infrastructures):
        place = infrastructure.in_cluster
        paths += [f"infrastructures[{at}].cluster.{name}" for name in ("charts", "images") if getattr(place, name)]
    message = (
        "runs a program of yours on the workers or in a cluster, which is not open to you here: submit on the worker's "
        "own host or with an admin token, and the operator must leave MESHGAUGE_ALLOW_COMMANDS on"
    )
    if paths:
        raise InvalidPlanError(Problem(path, message) for path in paths)


def _features(matrix: Matrix, providers: Mapping[str, Provider]) -> Features:
    """Return the features in play of every environment, each combination asked for once."""
    asked: dict[tuple[str, str, str], Mapping[str, Mapping[str, str]]] = {}
    features = {}
    for environment in matrix.environments:
        provider = environment.infrastructure.provider
        at = (provider, environment.mesh.label, environment.profile.name)
        if at not in asked:
            asked[at] = providers[provider].features(environment.mesh, environment.profile)
        features[environment.key] = asked[at]
    return features
