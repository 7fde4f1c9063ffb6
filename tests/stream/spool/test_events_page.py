"""docs/events.md describes the event and the record as the models do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter

from edgead.stream.spool.alert_record import AlertRecord
from edgead.stream.spool.events import EventKind, EventPayload
from edgead.web.alert_models import EventData, Record
from edgead.web.openapi import openapi_document
from edgead.web.routes import ENDPOINTS

PAGE = (Path(__file__).parents[3] / "docs" / "events.md").read_text(encoding="utf-8")
EVENT = TypeAdapter(EventPayload).json_schema()
RECORD = AlertRecord.model_json_schema()


def rows(header: str, after: str) -> list[tuple[str, str]]:
    """Rows of the first table with this header after a heading: name and text."""
    table = PAGE[PAGE.index(after) :].partition(f"| {header} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)


@pytest.mark.parametrize(("heading", "schema"), [("## The event", EVENT), ("## The record of an alert", RECORD)])
def test_keys_are_those_of_the_model(heading: str, schema: dict[str, Any]) -> None:
    """Every key of the model has its row, in order, with the model's own description, and there is no other row."""
    described = [(key, value["description"]) for key, value in schema["properties"].items()]
    assert rows("key | meaning", heading) == described
    assert len(described) > 10


def test_kinds_are_those_of_the_code() -> None:
    """Every kind of event has a row."""
    assert [kind for kind, _ in rows("kind | when", "## The event")] == list(get_args(EventKind))


def test_the_openapi_document_describes_the_same_record() -> None:
    """The REST model has the record's keys and descriptions; a server-sent event has keys of an event."""
    schemas = openapi_document(ENDPOINTS, "0.1", "cookie")["components"]["schemas"]
    published = schemas["Record"]["properties"]
    assert {key: value["description"] for key, value in published.items()} == {
        key: value["description"] for key, value in RECORD["properties"].items()
    }
    assert set(Record.model_fields) == set(AlertRecord.model_fields)
    assert set(EventData.model_fields) < set(EVENT["properties"])
