"""JSON Schemas (2020-12) of what users and other programs see; ``config/schemas`` holds them as files.

The schema of the settings follows from their declaration: ``python -m streamdrift.schemas`` writes it anew, and a
test compares. The others are written by hand, because what they describe is a contract and not what the code does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

from streamdrift.quantities import Duration, Rate
from streamdrift.settings import Settings

SETTINGS_FILE: Final = Path("config/schemas/settings.json")


class _Schema(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 — the signature is pydantic's
        """Defaults as people write them."""
        return str(dft) if isinstance(dft, Duration | Rate | ZoneInfo) else super().encode_default(dft)

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 — the signature is pydantic's
        """A title that repeats the key says nothing."""
        return False

    def generate(self, schema: Any, mode: JsonSchemaMode = "validation") -> dict[str, Any]:  # noqa: ANN401
        generated = super().generate(schema, mode)
        # A file may leave to the environment where the brokers are and what is read.
        for section in generated, generated["$defs"]["Kafka"]:
            section.pop("required", None)
        return {"$schema": self.schema_dialect, **generated, "title": "streamdrift settings"}


def settings_schema() -> str:
    """The settings' schema as the file holds it."""
    return json.dumps(Settings.model_json_schema(schema_generator=_Schema), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema of the settings into the checkout that is the working directory."""
    SETTINGS_FILE.write_text(settings_schema(), encoding="utf-8")
    sys.stdout.write(f"{SETTINGS_FILE}\n")


if __name__ == "__main__":
    main()
