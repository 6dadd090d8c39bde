"""Mutes: what drifts in a span is recorded and not told of, and what still drifts afterwards is."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdrift.incident_history import IncidentHistory
from streamdrift.incidents import Alert, Phase
from streamdrift.muting import Mute
from streamdrift.status import MUTED
from tests.support.windows import through_msgpack
from tests.test_incidents import MINUTE, Steps, T, Watch, follow, seen, short, steps


def mute(first: int, last: int, *features: str, reason: str = "planned") -> Mute:
    """From the start of tick ``T + first`` to that of ``T + last``."""
    return Mute(features or ("*",), (T + first) * MINUTE, (T + last) * MINUTE, reason)


def drifting(mutes: Sequence[Mute], until: int = 60, column: str = "amount", change: str = "much") -> Watch:
    """A column that drifts from T on; every tick is closed."""
    watch = Watch(mutes=mutes)
    watch.close(T, watch.of(column, seen(column, change)))
    for tick in range(T + 1, T + until):
        watch.close(tick)
    return watch


def test_what_drifts_in_a_span_is_told_of_when_it_ends() -> None:
    watch = drifting([mute(0, 30)])
    assert short(watch.told) == [
        (30, "started", "data_drift", "warning"),
        (45, "updated", "data_drift", "critical"),
    ]


def test_what_came_and_went_in_a_span_is_told_to_nobody_and_stays_in_the_history_with_its_reason() -> None:
    watch = Watch(mutes=[mute(0, 30, reason="new tariff")])
    history = IncidentHistory(watch.ticks)
    watch.close(T, watch.of("amount", seen("amount", "much")))
    [shown] = history.shown(watch.incidents.open)
    assert (shown.phase, dict(shown.muted), shown.is_open) == (MUTED, {"amount": "new tariff"}, False)
    assert shown.summary.startswith("amount shifted up ")
    assert watch.close(T + 20, watch.calm("amount")) == []
    history.remember_unheard(watch.incidents.take_unheard(), T + 20)
    [shown] = history.shown(watch.incidents.open)
    assert (shown.features, dict(shown.muted)) == (("amount",), {"amount": "new tariff"})
    assert shown.resolved_us == (T + 21) * MINUTE
    assert watch.incidents.take_unheard() == []


def test_an_incident_that_was_told_of_is_silent_in_a_span_but_for_its_end() -> None:
    assert [a.tick - T for a in drifting([mute(2, 30)]).told] == [0, 30, 45]
    watch = Watch(mutes=[mute(2, 30)])
    watch.close(T, watch.of("amount", seen("amount", "much")))
    watch.close(T + 16, watch.of("amount", seen("amount", "a hundred times")))
    watch.close(T + 20, watch.calm("amount"))
    assert short(watch.told) == [(0, "started", "data_drift", "info"), (20, "resolved", "data_drift", "info")]
    assert watch.incidents.take_unheard() == []


def test_only_the_features_that_a_span_names_are_muted() -> None:
    watch = Watch(mutes=[mute(0, 30, "am*")])
    [alert] = watch.close(T, watch.of("amount", seen("amount", "much")), watch.of("country", seen("country", "Poland")))
    assert [feature["feature"] for feature in alert.data["features"]] == ["country"]
    assert "other feature" not in alert.data["summary"]
    [alert] = watch.close(T + 30)
    assert {feature["feature"] for feature in alert.data["features"]} == {"amount", "country"}


def test_a_muted_feature_makes_no_incident_graver() -> None:
    watch = Watch(mutes=[mute(0, 30, "amount")])
    watch.close(T, watch.of("amount", seen("amount", "much")), watch.of("country", seen("country", "a few new")))
    for tick in range(T + 1, T + 30):
        watch.close(tick)
    assert {alert.data["severity"] for alert in watch.told} == {"info"}


def test_what_was_told_of_ends_although_something_muted_goes_on_which_is_another_incident_afterwards() -> None:
    watch = Watch(mutes=[mute(0, 30, "amount")])
    watch.close(T, watch.of("amount", seen("amount", "much")), watch.of("country", seen("country", "Poland")))
    [ended] = watch.close(T + 3, watch.calm("country"))
    assert ended.phase is Phase.RESOLVED
    assert [feature["feature"] for feature in ended.data["features"]] == ["country"]
    assert [incident.is_muted for incident in watch.incidents.open] == [True]
    [started] = watch.close(T + 30)
    assert (started.phase, started.sequence) == (Phase.STARTED, 0)
    assert started.incident_id != ended.incident_id
    assert [feature["feature"] for feature in started.data["features"]] == ["amount"]


def test_the_end_of_a_span_is_due() -> None:
    watch = Watch(mutes=[mute(0, 30)])
    watch.close(T, watch.of("amount", seen("amount", "much")))
    assert watch.incidents.due() == T + 30
    watch.close(T + 30)
    assert watch.told[-1].phase is Phase.STARTED


def test_of_two_spans_that_overlap_the_later_end_counts() -> None:
    assert [a.tick - T for a in drifting([mute(0, 10), mute(5, 20)]).told] == [20, 35]


def test_a_muted_incident_that_is_ended_is_told_to_nobody() -> None:
    watch = Watch(mutes=[mute(0, 30)])
    watch.close(T, watch.of("amount", seen("amount", "much")))
    assert watch.end(T + 3, "rebaselined") == []
    assert [incident.recovered["0/psi"].muted for incident in watch.incidents.take_unheard()] == ["planned"]
    assert watch.incidents.open == ()


spans = st.lists(
    st.builds(
        lambda first, length, features: mute(first, first + length, *features),
        st.integers(-50, 300),
        st.integers(1, 200),
        st.sampled_from([("*",), ("amount",), ("c*", "prediction.*"), ("nothing",)]),
    ),
    max_size=3,
)


def named(alert: Alert) -> set[str]:
    return {feature["feature"] for feature in alert.data["features"]}


@settings(deadline=None, max_examples=40)
@given(steps, spans, st.sets(st.integers(0, 12)))
def test_going_on_from_a_snapshot_mutes_the_same(steps: Steps, mutes: list[Mute], cuts: set[int]) -> None:
    assert follow(steps, cuts, mutes) == follow(steps, set(), mutes)


@settings(deadline=None, max_examples=60)
@given(steps, spans)
def test_no_message_but_an_end_names_what_is_muted_when_it_is_written(steps: Steps, mutes: list[Mute]) -> None:
    alerts, _ = follow(steps, set(), mutes)
    for alert in alerts:
        now = alert.tick * MINUTE
        muted = {name for name in named(alert) for m in mutes if m.from_us <= now < m.to_us and covers(m, name)}
        assert alert.phase is Phase.RESOLVED or muted == set()


@settings(deadline=None, max_examples=60)
@given(steps, spans)
def test_an_end_names_only_what_was_told_of(steps: Steps, mutes: list[Mute]) -> None:
    alerts, _ = follow(steps, set(), mutes)
    told: dict[str, set[str]] = {}
    for alert in alerts:
        if alert.phase is Phase.RESOLVED:
            assert named(alert) <= told[alert.incident_id]
        told.setdefault(alert.incident_id, set()).update(named(alert))


@settings(deadline=None, max_examples=40)
@given(steps)
def test_a_span_of_other_features_changes_nothing(steps: Steps) -> None:
    assert follow(steps, set(), [mute(-50, 10_000, "nothing")]) == follow(steps, set())


@settings(deadline=None, max_examples=40)
@given(steps, spans)
def test_when_all_spans_are_over_everything_that_drifts_has_been_told_of(steps: Steps, mutes: list[Mute]) -> None:
    alerts, state = follow([*steps, (2_000, [])], set(), mutes)
    _, unmuted = follow([*steps, (2_000, [])], set())
    heard = {name for alert in alerts for name in named(alert)}
    for incidents in (state, unmuted):
        drifting = {c["feature"] for i in through_msgpack(incidents)[0] for c in i["contributions"].values()}
        assert drifting <= heard


def covers(mute: Mute, name: str) -> bool:
    return any(glob in ("*", name) or (glob.endswith("*") and name.startswith(glob[:-1])) for glob in mute.features)
