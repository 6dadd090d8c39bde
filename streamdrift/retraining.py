"""Requests to train a model anew: policies in, requests out, and nothing that could run in circles.

::

    a policy wants a training ──▶ request ──▶ a new version appears: fulfilled ──▶ it warms up ──▶ policies are heard
                                      └────── nobody trains for so long: lapsed ────────────────────▶ again

**Loop guard.** No request is made while one is open, while a new version warms up, within the policy's cooldown, or
with fewer fresh labels than it asks for: a model that nobody can train better asks seldom, and one that is being
trained asks no more. What held a policy back is shown.

A pure fold over event time: ``step`` depends on what it was told and on nothing else, and steps without news change
nothing as long as none that ``due`` asks for is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

import msgspec

from streamdrift.comparison import Compared, compare
from streamdrift.errors import StateError
from streamdrift.grids import content_id
from streamdrift.incidents import Severity
from streamdrift.metrics import Estimate
from streamdrift.performance import Verdict
from streamdrift.policies import Facts, OpenIncident, Policy, Reason
from streamdrift.ticks import MICROSECONDS

LAPSES_AFTER_US: Final = 14 * 86_400 * MICROSECONDS
"""How long a request stays open that no new version answers."""
MAX_VERSIONS: Final = 64
"""Versions that are remembered, so that going back to one is not taken for a training."""


class IncidentNow(NamedTuple):
    """An open incident of the version in charge."""

    incident_id: str
    kind: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class News:
    """What happened to a model up to the close of a tick."""

    now_us: int
    """End of the tick."""
    version: str
    """The version in charge: the one that came last."""
    warming_up: bool = False
    """Whether that version is still too new to be judged."""
    verdicts: Sequence[Verdict] = ()
    """On windows of the version in charge that closed."""
    incidents: Sequence[IncidentNow] = ()
    """All that are open, new or not."""
    labels: int = 0
    """Labels that came since the last step; revisions are none."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to train a model anew."""

    request_id: str
    model_id: str
    model_version: str
    policy: str
    reason: Reason
    now_us: int
    fresh_since_us: int
    fresh_labels: int
    requires_approval: bool


class End(StrEnum):
    """How a request ended."""

    FULFILLED = "fulfilled"
    LAPSED = "lapsed"


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that is open no more."""

    request_id: str
    model_id: str
    model_version: str
    """The version that the request was about."""
    policy: str
    asked_us: int
    end: End
    now_us: int
    version: str
    """The version in charge: the new one if the request was fulfilled."""
    comparison: tuple[Compared, ...] = ()
    """Fulfilled, and the new version's first window is judged: the same metrics of both versions."""


class HeldBack(StrEnum):
    """Why a policy that wants a training does not ask for one."""

    OPEN = "a request is open"
    WARMING_UP = "a new version warms up"
    COOLDOWN = "the last request is too recent"
    FEW_LABELS = "too few fresh labels"


class _Open(msgspec.Struct, array_like=True, frozen=True):
    request_id: str
    asked_us: int
    labels: int
    version: str
    policy: str


class _Seen(msgspec.Struct, array_like=True):
    kind: str
    since_us: Annotated[list[int], msgspec.Meta(min_length=1, max_length=len(Severity))]


class _State(msgspec.Struct, array_like=True):
    now_us: int | None = None
    versions: list[str] = []
    """As they came; the last is in charge."""
    rows_below: dict[str, int] = {}
    incidents: dict[str, _Seen] = {}
    fresh_since_us: int = 0
    fresh_labels: int = 0
    asked_us: int | None = None
    """When the last request was made, open or not."""
    open: _Open | None = None
    measured: dict[str, Estimate] = {}
    """The metrics of the version in charge, each of the last window that has a number."""
    before: dict[str, Estimate] = {}
    """The same of its predecessor."""
    fulfilled: _Open | None = None
    """The request that the version in charge answers, until one of its windows is judged."""


class Retraining:
    """The policies of one model, over all its versions."""

    def __init__(self, model_id: str, policies: Sequence[Policy]) -> None:
        self._model_id = model_id
        self._policies = sorted(policies, key=lambda policy: policy.name)
        self._state = _State()
        self.held_back: Mapping[str, HeldBack] = {}
        """As of the last step: policies that want a training, and why they wait."""

    @property
    def open_request(self) -> str | None:
        """Id of the request that is open."""
        return None if self._state.open is None else self._state.open.request_id

    @property
    def predecessor(self) -> str | None:
        """The version that was in charge before the one that is."""
        return self._state.versions[-2] if len(self._state.versions) > 1 else None

    @property
    def fresh_labels(self) -> int:
        """Labels that no training has seen."""
        return self._state.fresh_labels

    @property
    def comparison(self) -> Sequence[Compared]:
        """The version in charge and its predecessor, each by the last windows that have numbers."""
        return compare(self._state.before, self._state.measured)

    def step(self, news: News) -> list[Request | Ended]:
        """Take the news of a closed tick. A tick that was taken before changes nothing."""
        state = self._state
        if state.now_us is not None and news.now_us <= state.now_us:
            return []
        before_us = news.now_us if state.now_us is None else state.now_us
        if state.now_us is None:
            state.fresh_since_us = news.now_us
        state.now_us = news.now_us
        state.fresh_labels += news.labels
        ended = [*self._take_version(news), *self._lapse(news)]
        self._take_incidents(news)
        ended += self._take_estimates(news)
        state.rows_below |= {verdict.target.metric: verdict.in_a_row for verdict in news.verdicts}
        return [*ended, *self._ask(news, self._facts(before_us))]

    def due(self) -> int | None:
        """The next time at which something happens without any news, in microseconds since the epoch."""
        state = self._state
        if state.now_us is None:
            return None
        facts = self._facts(state.now_us)
        dues = [policy.due(facts) for policy in self._policies]
        if state.open is not None:
            dues.append(state.open.asked_us + LAPSES_AFTER_US)
        elif state.asked_us is not None:
            dues += [state.asked_us + policy.cooldown_us for policy in self._policies]
        return min((due for due in dues if due is not None and due > state.now_us), default=None)

    def state(self) -> object:
        """All that is needed to go on, as values that MessagePack can hold."""
        return msgspec.to_builtins(self._state)

    def restore(self, state: object) -> None:
        """Go on from ``state``. Raises ``StateError`` for what ``state`` never gave."""
        try:
            self._state = msgspec.convert(state, _State)
        except msgspec.ValidationError as error:
            raise StateError(f"retraining: {error}") from None

    def _facts(self, before_us: int) -> Facts:
        state = self._state
        incidents = [
            OpenIncident(incident_id, seen.kind, Severity(len(seen.since_us) - 1), seen.since_us)
            for incident_id, seen in sorted(state.incidents.items())
        ]
        return Facts(before_us, state.now_us or before_us, state.rows_below, incidents, state.fresh_labels)

    def _take_version(self, news: News) -> list[Ended]:
        """What another version in charge changes: what was said of the last one is said of it alone."""
        state = self._state
        if state.versions and state.versions[-1] == news.version:
            return []
        first, new = not state.versions, news.version not in state.versions
        state.versions = [*(v for v in state.versions if v != news.version), news.version][-MAX_VERSIONS:]
        state.rows_below, state.incidents = {}, {}
        state.before, state.measured, state.fulfilled = state.measured, {}, None
        if first or not new:
            return []
        request, state.open = state.open, None
        if request is None:  # trained unasked, presumably on all there was
            state.fresh_since_us, state.fresh_labels = news.now_us, 0
            return []
        state.fresh_since_us = request.asked_us
        state.fresh_labels -= request.labels
        state.fulfilled = request
        return [self._ended(request, End.FULFILLED, news)]

    def _take_estimates(self, news: News) -> list[Ended]:
        """Remember what the windows measured; the first ones of a new version say how it compares."""
        state = self._state
        found = {v.target.metric: v.reading.estimate for v in news.verdicts if v.reading.estimate is not None}
        state.measured |= found
        request, comparison = state.fulfilled, compare(state.before, found)
        if request is None or not comparison:
            return []
        state.fulfilled = None
        return [self._ended(request, End.FULFILLED, news, tuple(comparison))]

    def _lapse(self, news: News) -> list[Ended]:
        request = self._state.open
        if request is None or news.now_us < request.asked_us + LAPSES_AFTER_US:
            return []
        self._state.open = None
        return [self._ended(request, End.LAPSED, news)]

    def _ended(self, request: _Open, end: End, news: News, comparison: tuple[Compared, ...] = ()) -> Ended:
        about = self._model_id, request.version, request.policy, request.asked_us
        return Ended(request.request_id, *about, end, news.now_us, news.version, comparison)

    def _take_incidents(self, news: News) -> None:
        """Remember since when each open incident has had each severity; forget those that are closed."""
        seen: dict[str, _Seen] = {}
        for incident in news.incidents:
            before = self._state.incidents.get(incident.incident_id)
            since_us = before.since_us[: incident.severity + 1] if before else []
            since_us += [news.now_us] * (incident.severity + 1 - len(since_us))
            seen[incident.incident_id] = _Seen(incident.kind, since_us)
        self._state.incidents = seen

    def _ask(self, news: News, facts: Facts) -> list[Request]:
        """The request of the first policy by name that wants a training and may ask for it."""
        held_back: dict[str, HeldBack] = {}
        requests: list[Request] = []
        for policy in self._policies:
            reason = policy.reason(facts)
            if reason is None:
                continue
            holds = self._holds_back(policy, news)
            if holds is None:
                requests.append(self._request(policy, reason, news))
            else:
                held_back[policy.name] = holds
        self.held_back = held_back
        return requests

    def _holds_back(self, policy: Policy, news: News) -> HeldBack | None:
        state = self._state
        if state.open is not None:
            return HeldBack.OPEN
        if news.warming_up:
            return HeldBack.WARMING_UP
        if state.asked_us is not None and news.now_us < state.asked_us + policy.cooldown_us:
            return HeldBack.COOLDOWN
        return HeldBack.FEW_LABELS if state.fresh_labels < policy.min_labels else None

    def _request(self, policy: Policy, reason: Reason, news: News) -> Request:
        state = self._state
        request_id = content_id(msgspec.json.encode([self._model_id, news.version, policy.name, news.now_us]))
        state.open = _Open(request_id, news.now_us, state.fresh_labels, news.version, policy.name)
        state.asked_us = news.now_us
        return Request(
            request_id,
            self._model_id,
            news.version,
            policy.name,
            reason,
            news.now_us,
            state.fresh_since_us,
            state.fresh_labels,
            policy.requires_approval,
        )
