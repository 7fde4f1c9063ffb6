"""The command that judges an alert by MQTT."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edgead.errors import EdgeadError
from edgead.stream.spool.alert_record import JUDGEMENTS, Judgement
from edgead.stream.spool.judgements import MAX_KIND, MAX_NOTE


class JudgeCommand(BaseModel):
    """A judgement of one alert, as JSON.

    Attributes:
        alert: Id of the alert.
        judgement: `defect`, `false-alarm` or `unsure`.
        kind, note: Texts of the record; may be empty.
        instead_of: Number of judgements (`n_judgements`) that the sender has seen; 0 = it is not judged yet.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    alert: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    judgement: Judgement
    kind: Annotated[str, StringConstraints(max_length=MAX_KIND)] = ""
    note: Annotated[str, StringConstraints(max_length=MAX_NOTE)] = ""
    instead_of: int = Field(0, ge=0)

    @staticmethod
    def parsed(content: bytes) -> JudgeCommand:
        """Read a message.

        Raises:
            EdgeadError: If it is no such command.
        """
        try:
            return JudgeCommand.model_validate(json.loads(content))
        except (ValueError, RecursionError, ValidationError) as error:
            seen = content[:100].decode("utf-8", "replace")
            raise EdgeadError(
                f"The message {seen!r} is no judgement.",
                hint='Send {"alert": "ID", "judgement": J} with J one of '
                f"{', '.join(JUDGEMENTS)}, and if you like kind, note and instead_of.",
            ) from error
