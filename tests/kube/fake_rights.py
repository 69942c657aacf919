"""Who may do what on the fake API server: tokens are users, users hold rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fake_answers import RefusalError
from fake_kinds import Manifest


@dataclass(frozen=True, slots=True)
class Rule:
    """A right. ``*`` is everything; ``resource`` is a plural, perhaps with a subresource (``pods/log``)."""

    group: str = "*"
    resource: str = "*"
    verbs: Sequence[str] = ("*",)

    def grants(self, verb: str, group: str, resource: str) -> bool:
        """Say whether this rule lets ``verb`` through."""
        plural, _, subresource = resource.partition("/")
        resources = ("*", resource, f"{plural}/*" if subresource else plural)
        return (
            self.group in ("*", group)
            and self.resource in resources
            and ("*" in self.verbs or verb in self.verbs)
        )  # fmt: skip


@dataclass(slots=True)
class Rights:
    """Rules by user; a user without rules may do nothing but ask what they may do."""

    rules: dict[str, list[Rule]] = field(default_factory=lambda: {"admin": [Rule()]})

    def allows(self, user: str, verb: str, group: str, resource: str) -> bool:
        """Say whether ``user`` may."""
        return any(rule.grants(verb, group, resource) for rule in self.rules.get(user, ()))

    def require(self, user: str, verb: str, group: str, resource: str, namespace: str, name: str) -> None:
        """Refuse with 403 what the user may not."""
        if self.allows(user, verb, group, resource):
            return
        plural = resource.partition("/")[0]
        qualified = f"{plural}.{group}" if group else plural
        where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        message = (
            f'{qualified}{f" {chr(34)}{name}{chr(34)}" if name else ""} is forbidden: User "{user}" cannot {verb} '
            f'resource "{resource}" in API group "{group}" {where}'
        )
        raise RefusalError(403, message, details={"name": name, "group": group, "kind": plural})

    def review(self, user: str, body: Manifest) -> Manifest:
        """Answer a SelfSubjectAccessReview."""
        asked = body.get("spec", {}).get("resourceAttributes")
        if asked is None:
            allowed = self.allows(user, "*", "*", "*")  # nonResourceAttributes: for whoever may do everything
        else:
            sub = asked.get("subresource")
            resource = asked.get("resource", "") + (f"/{sub}" if sub else "")
            allowed = self.allows(user, asked.get("verb", ""), asked.get("group", ""), resource)
        return {**body, "status": {"allowed": allowed, "reason": "" if allowed else "no rule"}}
