"""Facts of both folds come together tick by tick, whichever was told first."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.errors import StateError
from streamdrift.facts import Fact
from streamdrift.incidents import Severity
from streamdrift.policies import Policy, Scheduled, parse
from streamdrift.retraining import Ended, IncidentNow, Request
from streamdrift.retraining_desk import MAX_FACTS, Horizon, RetrainingDesk, Source
from streamdrift.schedules import Schedule
from streamdrift.ticks import END_OF_TIME

HOUR_US = 3_600_000_000
DAY = 24
POLICIES = {"m": (Policy("drift", (parse("drift critical for 2h"),), 12 * HOUR_US, 10),)}


def desk() -> RetrainingDesk:
    return RetrainingDesk(POLICIES, HOUR_US)


def at(tick: int | None, latest: int | None = None, *, ended: bool = False) -> Horizon:
    return Horizon(tick, latest, ended)


def drifting(tick: int, version: str = "1", name: str = "a") -> Fact:
    return Fact(tick, "m", version, incidents=(IncidentNow(name, "data_drift", Severity.CRITICAL),))


def labelled(tick: int, n: int = 20, version: str = "1") -> Fact:
    return Fact(tick, "m", version, labels=n)


def test_nothing_is_decided_before_both_have_closed_the_tick() -> None:
    subject = desk()
    subject.tell(Source.INPUTS, [drifting(5)])
    subject.tell(Source.OUTCOMES, [labelled(3)])
    assert subject.decide(at(100), at(None)) == []
    assert subject.decide(at(100), at(6)) == []
    [request] = subject.decide(at(100), at(7))
    assert isinstance(request, Request)
    assert request.now_us == 8 * HOUR_US, "critical for two hours, as of the end of tick 5"
    assert request.reason.incident_ids == ("a",)


def test_a_fold_that_is_ahead_is_taken_as_it_was() -> None:
    """The incident has ended in a tick that is not decided on yet; in the one that is, it is open."""
    subject = desk()
    subject.tell(Source.INPUTS, [labelled(1), drifting(5), Fact(9, "m", "1")])
    assert len(subject.decide(at(100), at(8))) == 1
    late = desk()
    late.tell(Source.INPUTS, [labelled(1), drifting(5), Fact(6, "m", "1")])
    assert late.decide(at(100), at(8)) == []


def test_a_version_that_comes_later_takes_over_and_an_old_one_that_comes_back_does_not() -> None:
    subject = desk()
    subject.tell(Source.INPUTS, [labelled(1), drifting(2)])
    [request] = subject.decide(at(4))
    subject.tell(Source.INPUTS, [Fact(6, "m", "2")])
    [ended] = subject.decide(at(6))
    assert isinstance(request, Request)
    assert isinstance(ended, Ended)
    assert (ended.request_id, ended.version) == (request.request_id, "2")
    subject.tell(Source.INPUTS, [Fact(7, "m", "1", retired=True)])
    subject.tell(Source.INPUTS, [drifting(30, "1", "b"), labelled(31, 50, "1")])
    assert subject.decide(at(90)) == [], "its drift is nobody's concern any more"
    assert subject.status()["m"].version == "2"


def test_a_version_that_is_let_go_of_by_all_is_in_charge_no_more() -> None:
    subject = desk()
    subject.tell(Source.INPUTS, [Fact(1, "m", "1"), Fact(2, "m", "2")])
    subject.tell(Source.OUTCOMES, [Fact(3, "m", "2")])
    subject.tell(Source.INPUTS, [Fact(4, "m", "2", retired=True)])
    subject.decide(at(5))
    assert subject.status()["m"].version == "2", "its outcomes are still watched"
    subject.tell(Source.OUTCOMES, [Fact(6, "m", "2", retired=True)])
    subject.decide(at(6))
    assert subject.status()["m"].version == "1"


def test_while_no_version_is_in_charge_no_time_comes() -> None:
    subject = desk()
    subject.tell(Source.INPUTS, [labelled(1), drifting(2)])
    assert len(subject.decide(at(10))) == 1
    subject.tell(Source.INPUTS, [Fact(11, "m", "1", retired=True)])
    assert subject.decide(at(24 * 30)) == []
    subject.tell(Source.INPUTS, [drifting(24 * 31, "1", "b")])
    [lapsed] = subject.decide(at(24 * 31))
    assert isinstance(lapsed, Ended)
    assert str(lapsed.end) == "lapsed"


def test_outcomes_without_a_version_take_no_charge() -> None:
    subject = desk()
    subject.tell(Source.OUTCOMES, [labelled(1)])
    subject.tell(Source.OUTCOMES, [labelled(5, version="")])
    subject.decide(at(5))
    assert subject.status()["m"].version == "1"
    assert subject.status()["m"].fresh_labels == 40, "but their labels are labels of the model"


def test_a_model_without_policies_is_left_out() -> None:
    subject = desk()
    subject.tell(Source.INPUTS, [Fact(1, "other", "1", incidents=drifting(1).incidents)])
    assert subject.decide(at(100)) == []
    assert subject.snapshot() == {}


def test_what_is_told_again_is_known_already() -> None:
    subject, again = desk(), desk()
    for each in (subject, again):
        each.tell(Source.OUTCOMES, [labelled(1), labelled(2)])
        each.decide(at(2))
    again.tell(Source.OUTCOMES, [labelled(1), labelled(2)])
    again.decide(at(3))
    assert again.status() == subject.status()
    assert subject.status()["m"].fresh_labels == 40


def test_what_waits_and_is_told_again_counts_once() -> None:
    """What was decided is written first: after a stop in between, a fold may tell again what waits here already."""
    subject, successor = desk(), desk()
    subject.tell(Source.OUTCOMES, [labelled(1), labelled(5)])
    subject.decide(at(1))
    [state] = [value for value in subject.snapshot().values() if value]
    successor.restore({"m": state})
    successor.tell(Source.OUTCOMES, [labelled(1), labelled(5)])
    successor.decide(at(5))
    assert successor.status()["m"].fresh_labels == 40


def test_a_dead_feed_lets_facts_wait_within_a_bound() -> None:
    subject = desk()
    for tick in range(2 * MAX_FACTS):
        subject.tell(Source.OUTCOMES, [labelled(tick, 1)])
    [snapshot] = subject.snapshot().values()
    assert snapshot is not None
    assert len(snapshot) < 64 * MAX_FACTS
    subject.decide(at(2 * MAX_FACTS))
    assert subject.status()["m"].fresh_labels == 2 * MAX_FACTS, "no label is lost"


def test_a_schedule_ends_with_all_input_even_if_nothing_ever_came() -> None:
    """Fates of labels that nobody predicted are no traffic."""
    nightly = Policy("nightly", (Scheduled(Schedule("0 3 * * *", ZoneInfo("UTC"))),), 0)
    subject = RetrainingDesk({"m": (nightly,)}, HOUR_US)
    subject.tell(Source.OUTCOMES, [Fact(7, "m", "")])
    last = END_OF_TIME // HOUR_US - 1
    assert subject.decide(at(last, ended=True), at(last, ended=True)) == []


facts = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["calm", "drift", "labels", "new", "retired"]), st.booleans()),
    max_size=12,
)


def stream(drawn: Sequence[tuple[int, str, bool]]) -> list[tuple[Source, Fact]]:
    tick, found = 0, []
    for gap, what, of_inputs in drawn:
        tick += gap
        fact = {
            "calm": Fact(tick, "m", "1"),
            "drift": drifting(tick),
            "labels": labelled(tick),
            "new": Fact(tick, "m", f"v{tick}"),
            "retired": Fact(tick, "m", "1", retired=True),
        }[what]
        found.append((Source.INPUTS if of_inputs else Source.OUTCOMES, fact))
    return found


def one_a_tick(found: Sequence[tuple[Source, Fact]]) -> list[tuple[Source, Fact]]:
    """A fold tells of a version once a tick."""
    return list({(source, fact.tick, fact.model_version): (source, fact) for source, fact in found}.values())


@settings(deadline=None)
@given(facts, st.integers(0, 12), st.integers(0, 40))
def test_interleaving_and_restarts_change_nothing(drawn: list[tuple[int, str, bool]], cut: int, ahead: int) -> None:
    told = one_a_tick(stream(drawn))
    whole = desk()
    for source in Source:
        of_source = [fact for of, fact in told if of is source]
        whole.tell(source, sorted(of_source, key=lambda fact: (fact.tick, fact.model_version)))
    expected = whole.decide(at(60), at(60))

    groups: dict[tuple[Source, int], list[Fact]] = {}
    for source, fact in told:
        groups.setdefault((source, fact.tick), []).append(fact)
    order = sorted(groups, key=lambda group: (group[1] + ahead * (group[0] is Source.INPUTS), group[1], group[0]))
    subject, found = desk(), []
    for i, (source, tick) in enumerate(order):
        subject.tell(source, sorted(groups[source, tick], key=lambda fact: fact.model_version))
        closed = {of: min((later for s, later in order[i + 1 :] if s is of), default=61) - 1 for of in Source}
        found += subject.decide(*(at(closed[of]) for of in Source))
        if i == cut:
            [state] = subject.snapshot().values() or [None]
            subject = desk()
            subject.restore({"m": state} if state else {})
    found += subject.decide(at(60), at(60))
    assert found == expected


@pytest.mark.parametrize("snapshot", [b"", b"\xc1", b"\x80", b"\x90", b"\x81\xa4told\x01"])
def test_damaged_state_is_refused(snapshot: bytes) -> None:
    with pytest.raises(StateError):
        desk().restore({"m": snapshot})
