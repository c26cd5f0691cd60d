"""JSON Schema of a service file, for completion and checks while one types."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from bluegreen.catalog import durations
from bluegreen.catalog.models import Service
from bluegreen.core.colors import Color

FILE_NAME = "service.schema.json"
FIRST_LINE = f"# yaml-language-server: $schema={FILE_NAME}"


class _ForEditors(GenerateJsonSchema):
    """Durations as people write them."""

    def encode_default(self, dft: Any) -> Any:
        return durations.text(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def service_schema() -> dict[str, Any]:
    """Return the JSON Schema that editors check a service file against."""
    schema = _tidy(Service.model_json_schema(schema_generator=_ForEditors))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A service of Blue-Green"}


def schema_text() -> str:
    """Return the schema as the text of ``include/services/service.schema.json``."""
    return json.dumps(service_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(part: Any, *, names: bool = False) -> Any:
    """Leave out titles that only repeat the key, and name both colors where a color is the key."""
    if isinstance(part, list):
        return [_tidy(item) for item in part]
    if not isinstance(part, dict):
        return part
    kept = {
        key: _tidy(value, names=key in ("properties", "$defs"))
        for key, value in part.items()
        if names or key not in ("title", "discriminator")
    }
    return _both_colors(kept) if kept.get("propertyNames") == {"$ref": "#/$defs/Color"} else kept


def _both_colors(part: dict[str, Any]) -> dict[str, Any]:
    each = part.pop("additionalProperties")
    del part["propertyNames"]
    colors = [str(color) for color in Color]
    return part | {"properties": dict.fromkeys(colors, each), "required": colors, "additionalProperties": False}
