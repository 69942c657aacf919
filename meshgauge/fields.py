"""What the plan's models are made of: their base, and the names users give."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._+-]{0,62}[a-z0-9])?$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, description="lower-case letters, digits and . _ + -")]


class Strict(BaseModel):
    """Base of all plan models: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
