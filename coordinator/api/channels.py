"""``/api/v1/channels`` and ``/api/v1/notices``: who is told what, and what became of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field

from coordinator.api.answers import answer
from coordinator.notify import mail, webhook
from coordinator.notify.delivery import send_test
from coordinator.notify.post import refuse_unreachable
from coordinator.targets import allowed_networks
from coordinator.web.facts import Facts, QueryParameter, declared
from coordinator.web.guards import body_of
from coordinator.web.installation import installation
from meshgauge.errors import ConfigurationError, InvalidRequestError
from meshgauge.fields import NAME_PATTERN
from meshgauge.settings import Settings
from meshgauge.store import channels, notices
from meshgauge.store.channels import ChannelRow, Kind
from meshgauge.store.database import transaction
from meshgauge.store.notices import Event, NoticeRow

blueprint = Blueprint("channels", __name__, url_prefix="/api/v1")

_MOST_NOTICES = 500


class ChannelDraft(BaseModel):
    """A channel somebody wants."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=NAME_PATTERN, max_length=100)
    kind: Kind
    target: str = Field(max_length=2000, description="https address of the webhook, or the mailbox")
    events: tuple[Event, ...] = Field(min_length=1, description="kinds of events it wants")


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel without its secrets: of a web address only the host is shown."""

    name: str
    kind: str
    target: str
    events: tuple[str, ...]
    created_at: dt.datetime


@dataclass(frozen=True, slots=True)
class ChannelMade:
    """A new channel. ``secret``: signs webhooks, shown this once; None for the other kinds."""

    channel: ChannelView
    secret: str | None


@dataclass(frozen=True, slots=True)
class CameBack:
    """What came back from a test notice."""

    sent: bool
    said: str


def shown_target(row: ChannelRow) -> str:
    """Return where a channel leads, without what would let others post there."""
    if row.kind == "email":
        return row.target
    parts = urlsplit(row.target)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{'' if parts.port is None else f':{parts.port}'}/..."


def _view(row: ChannelRow) -> ChannelView:
    return ChannelView(row.name, row.kind, shown_target(row), row.events, row.created_at)


@blueprint.post("/channels")
@declared(
    Facts("admin", "Let notices go to a webhook, to Slack or to a mailbox", ChannelMade, status=201, takes=ChannelDraft)
)
def add() -> Response:
    installed = installation()
    draft = body_of(ChannelDraft)
    _refuse_unusable(draft, installed.settings)
    secret = webhook.new_secret() if draft.kind == "webhook" else None
    with transaction(installed.engine) as connection:
        row = channels.add(connection, draft.name, draft.kind, draft.target, secret, draft.events)
    return answer(ChannelMade, ChannelMade(_view(row), secret), 201)


def _refuse_unusable(draft: ChannelDraft, settings: Settings) -> None:
    """See that something could be sent.

    Raises:
        InvalidRequestError: it could not; says why.
    """
    if draft.kind == "email":
        mail.checked_address(draft.target)
        try:
            mail.server_of(settings)
        except ConfigurationError as error:
            raise InvalidRequestError(str(error)) from error
    else:
        refuse_unreachable(draft.target, allowed_networks(settings.notify_networks, "NOTIFY_NETWORKS"))


@blueprint.get("/channels")
@declared(Facts("run", "List channels, without their secrets", tuple[ChannelView, ...]))
def listed() -> Response:
    with transaction(installation().engine) as connection:
        views = tuple(map(_view, channels.listed(connection)))
    return answer(tuple[ChannelView, ...], views)


@blueprint.delete("/channels/<name>")
@declared(Facts("admin", "Remove a channel with its notices, sent or not", status=204, media_type=""))
def remove(name: str) -> Response:
    with transaction(installation().engine) as connection:
        channels.remove(connection, name)
    return Response(status=204)


@blueprint.post("/channels/<name>/test")
@declared(Facts("admin", "Send a test notice now and say what came back", CameBack))
def test(name: str) -> Response:
    installed = installation()
    outcome = send_test(installed.engine, installed.settings, name)
    return answer(CameBack, CameBack(outcome.sent, outcome.said))


_PARAMETERS = (
    QueryParameter("channel", "Name of the channel; all by default", {"type": "string"}),
    QueryParameter("limit", "Number of notices", {"type": "integer", "minimum": 1, "maximum": _MOST_NOTICES}),
)


@blueprint.get("/notices")
@declared(
    Facts("run", "List notices, newest first, and what became of them", tuple[NoticeRow, ...], parameters=_PARAMETERS)
)
def log() -> Response:
    channel = request.args.get("channel")
    with transaction(installation().engine) as connection:
        if channel is not None:
            channels.get(connection, channel)
        rows = notices.newest(connection, _limit(), channel)
    return answer(tuple[NoticeRow, ...], rows)


def _limit() -> int:
    text = request.args.get("limit", "50")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST_NOTICES:
        raise InvalidRequestError(f"limit: write a number from 1 to {_MOST_NOTICES}, not {text[:40]!r}")
    return int(text)
