"""Requests to train anew: made for a reason, answered by a new version, and never in circles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.errors import StateError
from streamdrift.incidents import Severity
from streamdrift.metrics import Estimate
from streamdrift.performance import Reading, Standing, Target, Verdict
from streamdrift.policies import Drifts, FreshLabels, Policy, Reason, Scheduled, Worse
from streamdrift.retraining import LAPSES_AFTER_US, End, Ended, HeldBack, IncidentNow, News, Request, Retraining
from streamdrift.schedules import Schedule

HOUR = 3_600_000_000
DAY = 24 * HOUR
DECAY = Policy("decay", (Worse("accuracy", 2),), DAY, min_labels=100)
DRIFT = Policy("drift", (Drifts(Severity.WARNING, 2 * HOUR),), 6 * HOUR)
WEEKLY = Policy("weekly", (Scheduled(Schedule("0 3 * * 0", ZoneInfo("Europe/Berlin"))),), DAY, requires_approval=True)
MANY = Policy("many", (FreshLabels(1_000),), 3 * HOUR, min_labels=10)


def verdict(in_a_row: int, metric: str = "accuracy") -> Verdict:
    reading = Reading(metric, Standing.TOO_FEW, None)
    return Verdict(0, Target(metric, 0.8), reading, None, in_a_row > 0, in_a_row, alarm=in_a_row > 0, changed=False)


def requests(found: Sequence[Request | Ended]) -> list[Request]:
    return [each for each in found if isinstance(each, Request)]


def test_a_request_says_why_for_what_and_how_much_there_is_to_learn_from() -> None:
    retraining = Retraining("fraud", [DECAY])
    assert retraining.step(News(HOUR, "7", labels=500)) == []
    assert retraining.step(News(2 * HOUR, "7", verdicts=[verdict(1)], labels=100)) == []
    [request] = requests(retraining.step(News(3 * HOUR, "7", verdicts=[verdict(2)])))
    assert retraining.open_request == request.request_id
    assert (request.model_id, request.model_version, request.policy) == ("fraud", "7", "decay")
    why = "accuracy is worse than its benchmark by more than the tolerance in 2 windows in a row"
    assert request.reason == Reason(why)
    assert (request.fresh_since_us, request.now_us, request.fresh_labels) == (HOUR, 3 * HOUR, 600)


def test_a_new_version_fulfils_the_request_and_what_was_said_of_the_old_one_is_over() -> None:
    retraining = Retraining("fraud", [DECAY])
    retraining.step(News(HOUR, "7", labels=500))
    [request] = requests(retraining.step(News(2 * HOUR, "7", verdicts=[verdict(2)])))
    retraining.step(News(3 * HOUR, "7", labels=300))
    found = retraining.step(News(5 * DAY, "8", labels=20))
    assert found == [Ended(request.request_id, "fraud", "7", "decay", 2 * HOUR, End.FULFILLED, 5 * DAY, "8")]
    assert retraining.predecessor == "7"
    assert retraining.open_request is None
    [again] = requests(retraining.step(News(6 * DAY, "8", verdicts=[verdict(2)])))
    assert again.fresh_labels == 320
    assert again.fresh_since_us == request.now_us


def measured(value: float, metric: str = "accuracy") -> Verdict:
    reading = Reading(metric, Standing.MEASURED, Estimate(value, 0.01, 1_000))
    return Verdict(0, Target(metric), reading, None, None, 0, alarm=False, changed=False)


def test_the_first_judged_window_of_a_new_version_says_how_it_compares_once() -> None:
    retraining = Retraining("fraud", [MANY])
    retraining.step(News(HOUR, "7", verdicts=[measured(0.9), measured(0.7, "recall")]))
    retraining.step(News(2 * HOUR, "7", verdicts=[measured(0.8)], labels=1_000))
    retraining.step(News(DAY, "8"))
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(retraining.state()))
    retraining = Retraining("fraud", [MANY])
    retraining.restore(saved)
    [ended] = retraining.step(News(2 * DAY, "8", verdicts=[measured(0.95), measured(0.75, "recall")]))
    assert isinstance(ended, Ended)
    assert ended.end is End.FULFILLED
    assert [(c.metric, c.before.value, c.after.value) for c in ended.comparison] == [
        ("accuracy", 0.8, 0.95),
        ("recall", 0.7, 0.75),
    ]
    assert retraining.step(News(3 * DAY, "8", verdicts=[measured(0.96)])) == []
    assert [(c.metric, c.after.value) for c in retraining.comparison] == [("accuracy", 0.96), ("recall", 0.75)]


def test_a_version_that_came_unasked_is_no_answer_to_compare() -> None:
    retraining = Retraining("fraud", [MANY])
    retraining.step(News(HOUR, "7", verdicts=[measured(0.9)]))
    assert retraining.step(News(DAY, "8", verdicts=[measured(0.95)])) == []
    [accuracy] = retraining.comparison
    assert math.isclose(accuracy.better_by, 0.05)


def test_a_version_that_came_unasked_has_learnt_from_all_labels() -> None:
    retraining = Retraining("fraud", [MANY])
    retraining.step(News(HOUR, "7", labels=900))
    assert retraining.step(News(2 * HOUR, "8", labels=99)) == []
    assert retraining.step(News(3 * HOUR, "8", labels=900)) == []
    [request] = requests(retraining.step(News(4 * HOUR, "8", labels=100)))
    assert request.fresh_labels == 1_000
    assert request.fresh_since_us == 2 * HOUR


def test_going_back_to_a_version_fulfils_nothing() -> None:
    retraining = Retraining("fraud", [DRIFT])
    retraining.step(News(HOUR, "7"))
    retraining.step(News(2 * HOUR, "8"))
    bad = [IncidentNow("i", "data_drift", Severity.CRITICAL)]
    retraining.step(News(3 * HOUR, "8", incidents=bad))
    [request] = requests(retraining.step(News(5 * HOUR, "8", incidents=bad)))
    assert request.reason.incident_ids == ("i",)
    assert retraining.step(News(6 * HOUR, "7")) == []
    assert retraining.open_request == request.request_id


@pytest.mark.parametrize(
    ("news", "why"),
    [
        (News(3 * HOUR, "7", warming_up=True, labels=100, verdicts=[verdict(2)]), HeldBack.WARMING_UP),
        (News(3 * HOUR, "7", labels=99, verdicts=[verdict(2)]), HeldBack.FEW_LABELS),
    ],
)
def test_what_holds_a_policy_back_is_shown(news: News, why: HeldBack) -> None:
    retraining = Retraining("fraud", [DECAY])
    retraining.step(News(HOUR, "7"))
    assert retraining.step(news) == []
    assert retraining.held_back == {"decay": why}
    assert requests(retraining.step(News(4 * HOUR, "7", labels=1)))
    assert retraining.held_back == {}


def test_an_open_request_is_the_only_one_until_it_lapses() -> None:
    retraining = Retraining("fraud", [DECAY, MANY])
    retraining.step(News(0, "7"))
    [request] = requests(retraining.step(News(DAY, "7", verdicts=[verdict(2)], labels=5_000)))
    assert request.policy == "decay"  # the first by name
    assert retraining.held_back == {"many": HeldBack.OPEN}
    assert retraining.step(News(2 * DAY, "7")) == []
    assert retraining.held_back == {"decay": HeldBack.OPEN, "many": HeldBack.OPEN}
    lapses = request.now_us + LAPSES_AFTER_US
    assert retraining.due() == lapses
    assert retraining.step(News(lapses - 1, "7")) == []
    ended, again = retraining.step(News(lapses, "7"))
    assert ended == Ended(request.request_id, "fraud", "7", "decay", DAY, End.LAPSED, lapses, "7")
    assert retraining.predecessor is None
    assert isinstance(again, Request)
    assert again.request_id != request.request_id


def test_a_request_so_soon_after_the_last_one_waits() -> None:
    retraining = Retraining("fraud", [DECAY])
    retraining.step(News(0, "7", labels=500))
    retraining.step(News(HOUR, "7", verdicts=[verdict(2)]))
    retraining.step(News(2 * HOUR, "8", labels=500))
    assert retraining.step(News(3 * HOUR, "8", verdicts=[verdict(2)])) == []
    assert retraining.held_back == {"decay": HeldBack.COOLDOWN}
    assert retraining.due() == HOUR + DAY
    assert requests(retraining.step(News(HOUR + DAY, "8")))


def test_drift_must_last_and_closed_incidents_count_no_more() -> None:
    retraining = Retraining("fraud", [DRIFT])
    info, warning = (IncidentNow("i", "data_drift", severity) for severity in (Severity.INFO, Severity.WARNING))
    retraining.step(News(0, "7", incidents=[info]))
    retraining.step(News(5 * HOUR, "7", incidents=[warning]))
    assert retraining.due() == 7 * HOUR
    retraining.step(News(6 * HOUR, "7"))
    assert retraining.due() is None
    retraining.step(News(6 * HOUR + 1, "7", incidents=[warning]))
    assert retraining.step(News(8 * HOUR, "7", incidents=[warning])) == []
    assert requests(retraining.step(News(8 * HOUR + 1, "7", incidents=[warning])))


def test_a_scheduled_time_that_was_held_back_is_not_made_up() -> None:
    retraining = Retraining("fraud", [WEEKLY])
    retraining.step(News(0, "7"))
    sunday = retraining.due()
    assert sunday is not None
    assert retraining.step(News(sunday, "7", warming_up=True)) == []
    assert retraining.held_back == {"weekly": HeldBack.WARMING_UP}
    assert retraining.step(News(sunday + HOUR, "7")) == []
    assert retraining.due() == sunday + 7 * DAY
    [request] = requests(retraining.step(News(sunday + 7 * DAY, "7")))
    assert request.requires_approval


# ---- laws ------------------------------------------------------------------------------------------------------------

POLICIES = (DECAY, DRIFT, WEEKLY, MANY)
severities = st.sampled_from(Severity)


@st.composite
def histories(draw: st.DrawFn) -> list[News]:
    """News of some days in random order of kind, in ascending time."""
    now, version, news = 0, 1, list[News]()
    incidents: list[IncidentNow] = []
    for _ in range(draw(st.integers(1, 25))):
        now += draw(st.integers(1, 40)) * HOUR
        kind = draw(st.sampled_from(["labels", "verdict", "incident", "version", "back", "warm", "nothing"]))
        if kind == "version":
            version, incidents = version + 1, []
        if kind == "incident":
            incidents = [IncidentNow("abc"[i], "data_drift", draw(severities)) for i in range(draw(st.integers(0, 3)))]
        news.append(
            News(
                now,
                str(max(1, version - (kind == "back"))),
                warming_up=kind == "warm",
                verdicts=[verdict(draw(st.integers(0, 3)))] if kind == "verdict" else [],
                incidents=incidents,
                labels=draw(st.integers(0, 2_000)) if kind == "labels" else 0,
            )
        )
    return news


def told(history: list[News], *, restart: int | None = None) -> list[Request | Ended]:
    """What the policies make of a history; steps that are due between news are taken."""
    retraining, found = Retraining("fraud", POLICIES), list[Request | Ended]()
    for i, news in enumerate(history):
        if i == restart:
            saved = msgspec.msgpack.decode(msgspec.msgpack.encode(retraining.state()))
            retraining = Retraining("fraud", POLICIES[::-1])
            retraining.restore(saved)
        while i and (due := retraining.due()) is not None and due < news.now_us:
            found += retraining.step(idle(history[i - 1], due))
        found += retraining.step(news)
    return found


def idle(last: News, now_us: int) -> News:
    """Nothing but time since the last news."""
    return replace(last, now_us=now_us, verdicts=(), labels=0)


@settings(max_examples=150, deadline=None)
@given(histories(), st.integers(0, 25))
def test_a_restart_at_any_time_changes_nothing(history: list[News], restart: int) -> None:
    assert told(history, restart=restart) == told(history)


@settings(max_examples=100, deadline=None)
@given(histories(), st.lists(st.integers(1, 1_000 * HOUR), max_size=20))
def test_steps_without_news_change_nothing(history: list[News], times: list[int]) -> None:
    taken = {news.now_us for news in history}
    with_idle = list(history)
    for time in times:
        before = [news for news in history if news.now_us < time]
        if before and time not in taken:
            with_idle.append(idle(before[-1], time))
            taken.add(time)
    with_idle.sort(key=lambda news: news.now_us)
    last = history[-1].now_us
    assert [e for e in told(with_idle) if e.now_us <= last] == [e for e in told(history) if e.now_us <= last]


@settings(max_examples=150, deadline=None)
@given(histories())
def test_the_guard_keeps_requests_apart(history: list[News]) -> None:
    open_id: str | None = None
    asked: int | None = None
    warm = {news.now_us for news in history if news.warming_up}
    policies = {policy.name: policy for policy in POLICIES}
    for each in told(history):
        if isinstance(each, Ended):
            assert each.request_id == open_id
            assert (each.end is End.LAPSED) == (asked is not None and each.now_us >= asked + LAPSES_AFTER_US)
            open_id = None
        else:
            policy = policies[each.policy]
            assert open_id is None
            assert asked is None or each.now_us >= asked + policy.cooldown_us
            assert each.fresh_labels >= policy.min_labels
            assert each.now_us not in warm
            open_id, asked = each.request_id, each.now_us


def test_a_tick_that_was_taken_before_changes_nothing() -> None:
    retraining = Retraining("fraud", [MANY])
    retraining.step(News(HOUR, "7", labels=999))
    before = retraining.state()
    assert retraining.step(News(HOUR, "7", labels=999)) == []
    assert retraining.state() == before


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(StateError):
        Retraining("fraud", []).restore({"now_us": 1})
