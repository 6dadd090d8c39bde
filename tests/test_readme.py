"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamdrift.assembly import topology
from streamdrift.codecs.json import JsonDecoder
from streamdrift.evidence import rfc3339
from streamdrift.records import RecordBatch
from streamdrift.rows import decode_row
from streamdrift.settings import Settings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(json|yaml)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
EXAMPLES = [
    (message, configuration)
    for (one, message), (other, configuration) in pairwise(BLOCKS)
    if (one, other) == ("json", "yaml") and "mapping" in yaml.safe_load(configuration)["sources"][0]
]
RECORDED = 1_795_341_600_000

EXPECTED: list[list[tuple[Any, ...]]] = [
    [("credit", "12", "2026-11-22T10:00:00.123Z", {"income": 41000, "employer.sector": "public"},
      {"score": 0.12, "label": "approve"})],
    [("fraud", "7", "2026-11-22T10:00:00Z", {"amount": 12.5, "country": "DE"}, {"score": 0.03}),
     ("fraud", "7", "2026-11-22T10:00:00Z", {"amount": 3.0, "country": "FR"}, {"score": 0.91})],
    [("fraud", "7", "2026-11-22T10:00:00Z", {"amount": 12.5, "country": "DE"}, {"score": 0.03})],
]  # fmt: skip


NEEDED = {
    "kafka": {"bootstrap_servers": "localhost:9092"},
    "sources": [{"topic": "t", "kind": "predictions"}],
}


def test_every_configuration_is_valid(tmp_path: Path) -> None:
    texts = [text for language, text in BLOCKS if language == "yaml"]
    assert len(texts) >= 5
    for text in texts:
        path = tmp_path / "streamdrift.yaml"
        path.write_text(yaml.safe_dump({**NEEDED, **yaml.safe_load(text)}), encoding="utf-8")
        _, problems = Settings.read(path, environment={})
        assert {problem.path for problem in problems} <= {"kafka.client.sasl.password"}  # which is in no file here


@pytest.mark.parametrize(
    ("example", "expected"), [*zip(EXAMPLES, EXPECTED, strict=True)], ids=["log", "server", "flat"]
)
def test_a_mapping_finds_the_events_of_its_message(example: tuple[str, str], expected: list[tuple[Any, ...]]) -> None:
    message, configuration = example
    [source] = topology(Settings.model_validate({**NEEDED, **yaml.safe_load(configuration)})).sources
    headers = [("model-version", b"7")]
    records = RecordBatch(source.topic, 0, [0], [RECORDED], [b"key"], [message.encode()], [headers])
    decoded = JsonDecoder(source, lambda *_: None).decode(records)
    assert not decoded.dead
    found = []
    for events in (part.events for part in decoded.batches):
        for time, row in zip(events.times.tolist(), events.rows or (), strict=True):
            features, prediction = decode_row(row)
            shown = {name: value for name, value in (features or {}).items() if isinstance(value, str | int | float)}
            found.append((events.grid.model_id, events.grid.model_version, rfc3339(time), shown, prediction))
    assert found == expected
