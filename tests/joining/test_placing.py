"""Whether labels can meet their predictions is told from where real records lie."""

from __future__ import annotations

import pytest

from streamdrift.joining.placing import ENOUGH, PARTITIONERS, Seen, misplaced, murmur2

NAMES = [f"8c1f-{i}" for i in range(50)]


def placed(partitioner: str, partitions: int = 6, names: list[str] = NAMES) -> list[Seen]:
    place = PARTITIONERS[partitioner]
    return [Seen("fraud", name, place(name.encode(), partitions)) for name in names]


@pytest.mark.parametrize(
    ("key", "expected"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_murmur2_is_that_of_the_java_client(key: bytes, expected: int) -> None:
    assert murmur2(key) - (1 << 32 if murmur2(key) >> 31 else 0) == expected


@pytest.mark.parametrize("partitioner", PARTITIONERS)
def test_the_same_partitioner_on_both_sides_is_good(partitioner: str) -> None:
    assert misplaced(placed(partitioner, names=NAMES[:25]), placed(partitioner, names=NAMES[25:]), 6) is None


def test_two_partitioners_are_named_even_if_no_label_has_its_prediction_in_sight() -> None:
    problem = misplaced(placed("murmur2", names=NAMES[:25]), placed("CRC32", names=NAMES[25:]), 6)
    assert problem == "predictions are placed by murmur2, labels by CRC32"


def test_a_prediction_and_its_label_in_two_partitions_are_the_proof() -> None:
    problem = misplaced([Seen("m", "a", 1)], [Seen("m", "a", 2)], 6)
    assert problem == "a prediction lies in partition 1, and its label in partition 2"


def test_keys_that_are_not_the_id_are_refused_unless_pairs_are_found_together() -> None:
    by_customer = [Seen("m", name, i % 6) for i, name in enumerate(NAMES)]
    assert misplaced(by_customer, by_customer[:ENOUGH], 6) is None
    problem = misplaced(by_customer[:25], by_customer[25:], 6)
    assert problem == "predictions and labels are not placed by the prediction id in any usual way"


def test_nothing_speaks_against_empty_topics_and_single_partitions() -> None:
    assert misplaced([], placed("CRC32"), 6) is None
    assert misplaced(placed("murmur2"), [], 6) is None
    assert misplaced([Seen("m", "a", 0)], [Seen("m", "b", 0)], 1) is None
