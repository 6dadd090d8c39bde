from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["2000"], {"pairs_per_cpu_second", "bytes_per_row"}), (["2000", "--bare"], {"inserts_per_cpu_second"})],
)
def test_the_benchmark_ends_with_a_line_of_json(options: list[str], expected: set[str]) -> None:
    command = [sys.executable, "-m", "tests.bench.join_store", *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["rows"] == 2_000
    assert expected <= found.keys()
    assert all(found[name] > 0 for name in expected)
