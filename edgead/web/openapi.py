"""The OpenAPI document, generated from the route table and the models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from edgead.web import alert_models, models
from edgead.web.auth import CHANGING
from edgead.web.endpoint import Endpoint

_REF = "#/components/schemas/{model}"
_ALWAYS = (400, 429)


def openapi_document(endpoints: Sequence[Endpoint], version: str, cookie: str) -> dict[str, Any]:
    """OpenAPI 3.1.

    Args:
        endpoints: The route table.
        version: Version of edgead.
        cookie: Name of the session cookie.
    """
    asked: list[type[BaseModel]] = []
    answered: list[type[BaseModel]] = [models.Error, alert_models.EventData]
    for endpoint in endpoints:
        asked += [model for model in (endpoint.query, endpoint.body) if model is not None]
        answered += [endpoint.answer] if endpoint.answer is not None else []
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in dict.fromkeys(asked)]
    wanted += [(model, "serialization") for model in dict.fromkeys(answered)]
    pairs, definitions = models_json_schema(wanted, ref_template=_REF)
    schemas, names = _titled(definitions["$defs"])
    references: dict[Any, dict[str, Any]] = {
        model: _renamed(reference, names) for (model, _), reference in pairs.items()
    }
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, references, schemas)
    unused = {model.__name__ for model in asked if model not in [endpoint.body for endpoint in endpoints]}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgead stream",
            "version": version,
            "description": "A running stream: cameras, alerts and thresholds. Times are UTC; scores are in raw units.",
        },
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in schemas.items() if name not in unused},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie},
            },
        },
    }


def _titled(schemas: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Schemas under their titles, and the title of each class name: classes may have longer names than components."""
    names = {name: str(schema.get("title", name)) for name, schema in schemas.items()}
    assert len(set(names.values())) == len(names), "titles are unique"
    return {names[name]: _renamed(schema, names) for name, schema in schemas.items()}, names


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, dict):
        prefix, _, name = str(schema.get("$ref", "")).rpartition("/")
        renamed = {key: _renamed(value, names) for key, value in schema.items()}
        return {**renamed, "$ref": f"{prefix}/{names[name]}"} if name else renamed
    return [_renamed(one, names) for one in schema] if isinstance(schema, list) else schema


def _operation(endpoint: Endpoint, references: dict[Any, dict[str, Any]], schemas: dict[str, Any]) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", endpoint.path)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    if endpoint.query is not None:
        query = schemas[endpoint.query.__name__]
        parameters += [
            {"name": name, "in": "query", "required": name in query.get("required", []), "schema": schema}
            for name, schema in query["properties"].items()
        ]
    if endpoint.method in CHANGING:
        parameters.append(
            {"name": "X-Edgead", "in": "header", "required": True, "schema": {"type": "string", "const": "1"}}
        )
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": _responses(endpoint, references),
        "security": [] if endpoint.access == "open" else [{"token": []}, {"session": []}],
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": references[endpoint.body]}},
        }
    return operation


def _responses(endpoint: Endpoint, references: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": HTTPStatus(endpoint.status).phrase}
    if endpoint.answer is not None:
        good["content"] = {"application/json": {"schema": references[endpoint.answer]}}
    elif endpoint.media is not None:
        good["content"] = {endpoint.media: {"schema": {"type": "string"}}}
    responses = {str(endpoint.status): good}
    errors = {*_ALWAYS, *endpoint.errors}
    if endpoint.access != "open" or endpoint.body is models.Login:
        errors.add(401)
    if endpoint.method in CHANGING:
        errors |= {403}
    if endpoint.body is not None:
        errors |= {408, 413, 415, 422}
    if endpoint.query is not None:
        errors.add(422)
    if endpoint.media == "video/webm":
        responses["206"] = {"description": "Part of the file.", "content": good["content"]}
    for status in sorted(errors):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": references[models.Error]}},
        }
        if endpoint.media == "text/plain" and status == 503:
            responses["503"]["content"] = good["content"]
    return responses


def _operation_id(endpoint: Endpoint) -> str:
    words = re.findall(r"[a-z]+", endpoint.path.replace("/api/v1", ""))
    return "_".join([endpoint.method.lower(), *words])
