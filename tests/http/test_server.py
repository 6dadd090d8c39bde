"""The HTTP port, over real sockets on the loopback interface."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from html.parser import HTMLParser
from threading import Event, active_count
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families

from streamdrift import telemetry
from streamdrift.errors import ConfigurationError
from streamdrift.http import HttpServer, page, server
from streamdrift.records import TopicPartition
from streamdrift.status import (
    Comparison,
    FeatureChange,
    FeatureState,
    FeatureStatus,
    IncidentStatus,
    Lately,
    LearningStatus,
    LoopStatus,
    ModelState,
    ModelStatus,
    RiverStatus,
    Snapshot,
    SourceStatus,
)
from tests.support.waiting import wait_until

NOW = 1_800_000_000.0
NOW_US = int(NOW) * 1_000_000
BOUND = 30.0

EVIL = '<script>alert("x")</script>\n\u202e\'"&'

HEALTHY = (LoopStatus("detect", NOW - 1, assigned=True, restored=True),)

FEATURE = FeatureStatus(
    "amount", "numeric", "feature", FeatureState.CRITICAL, {"psi": 1.25}, 3.1, 0.5, None, 0.0, 59.0, 41.2
)
OPEN = IncidentStatus("i1", "data_drift", "critical", "started", "amount shifted up 0.9 sd", ("amount",), NOW_US)
PAST = replace(OPEN, incident_id="i0", phase="resolved", summary="country had a new category", resolved_us=NOW_US)
MUTED = replace(
    OPEN,
    incident_id="i9",
    phase="muted",
    summary="fee moved",
    features=("fee",),
    muted={"fee": "new tariff from May on"},
)
MODEL = ModelStatus(
    "fraud",
    "7",
    ModelState.WATCHING,
    "b1",
    events=12_345,
    ticks_closed=40,
    last_event_us=NOW_US - 7_200_000_000,
    window_events=900,
    features=(FEATURE,),
    unmonitored={"row": "counter"},
    river=(RiverStatus("prediction.score", "drift.ADWIN", 2, NOW_US),),
    incidents=(PAST, OPEN, MUTED),
    lately=Lately(7, 0.83, 30 * 86_400_000_000),
    alerts={("data_drift", "critical"): 3},
)
SNAPSHOT = Snapshot(
    [SourceStatus("predictions", "predictions", 100, 80, 3, 1, 2, {"malformed": 4}, NOW_US)],
    [MODEL],
    [replace(HEALTHY[0], lag={TopicPartition("predictions", 0): 5, TopicPartition("predictions", 1): 6})],
)


class Served:
    """A server on a free port, the snapshot that it shows, and a client."""

    def __init__(self) -> None:
        self.snapshot = SNAPSHOT
        self.now = NOW
        collector = telemetry.StreamdriftCollector(self.read)
        self.server = HttpServer(
            "127.0.0.1",
            0,
            read=self.read,
            registry=telemetry.registry(collector),
            heartbeat_bound_s=BOUND,
            clock=lambda: self.now,
        )
        self.server.start()
        where = urlsplit(self.server.url)
        self.address = (where.hostname or "", where.port or 0)

    def read(self) -> Snapshot:
        return self.snapshot

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> Any:  # noqa: ANN401 — status, headers, text
        with closing(http.client.HTTPConnection(*self.address, timeout=10)) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return SimpleNamespace(status=answer.status, headers=answer.headers, text=answer.read().decode())

    def get(self, path: str, status: int = 200) -> str:
        answer = self.ask(path)
        assert answer.status == status
        return str(answer.text)

    def raw(self, data: bytes) -> bytes:
        with closing(self.connect()) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(server, "SHARED_FOR_S", 0.0)
    monkeypatch.setattr(server, "_WAKE_S", 0.01)
    served = Served()
    yield served
    served.server.stop()


# ---- health --------------------------------------------------------------------------------------------------------


def test_a_process_whose_loops_come_round_is_live(served: Served) -> None:
    assert json.loads(served.get("/livez")) == {"status": "ok"}


def test_a_loop_that_hangs_is_not_live_and_is_named(served: Served) -> None:
    served.snapshot = Snapshot(loops=[*HEALTHY, replace(HEALTHY[0], stage="summarise", last_poll_s=NOW - BOUND - 2)])
    verdict = json.loads(served.get("/livez", 503))
    assert verdict == {"status": "failing", "reasons": ["summarise: no poll for 32 s, allowed are 30 s"]}


@pytest.mark.parametrize("loops", [(), (LoopStatus("detect", None, assigned=False, restored=False),)])
def test_a_process_that_starts_has_the_bound_to_begin(served: Served, loops: tuple[LoopStatus, ...]) -> None:
    served.snapshot = Snapshot(loops=loops)
    served.get("/livez", 200)
    served.now += BOUND + 1
    served.get("/livez", 503)


def test_restoring_is_live_but_not_ready(served: Served) -> None:
    served.snapshot = Snapshot(loops=[replace(HEALTHY[0], restored=False)])
    served.get("/livez", 200)
    assert "restores" in served.get("/readyz", 503)


def test_waiting_for_partitions_is_not_ready(served: Served) -> None:
    served.snapshot = Snapshot(loops=[*HEALTHY, replace(HEALTHY[0], stage="summarise", assigned=False)])
    assert json.loads(served.get("/readyz", 503))["reasons"] == ["summarise: waits for its partitions"]


def test_a_process_without_stages_is_not_ready(served: Served) -> None:
    served.snapshot = Snapshot()
    served.get("/readyz", 503)


def test_assigned_and_restored_is_ready(served: Served) -> None:
    assert json.loads(served.get("/readyz")) == {"status": "ok"}


# ---- documents -----------------------------------------------------------------------------------------------------


def test_metrics_are_what_prometheus_parses(served: Served) -> None:
    answer = served.ask("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert "streamdrift_drift_effect" in names
    assert "process_cpu_seconds" in names


def test_the_document_holds_what_the_snapshot_does(served: Served) -> None:
    document = json.loads(served.get("/api/v1/status"))
    assert document["time"] == "2027-01-15T08:00:00.000Z"
    assert document["sources"][0]["rejected"] == {"malformed": 4}
    assert document["sources"][0]["lag"] == 11
    assert document["stages"][0] == {
        "stage": "detect",
        "last_poll": "2027-01-15T07:59:59.000Z",
        "assigned": True,
        "restored": True,
        "rebalances": {},
        "lag": 11,
    }
    (fraud,) = document["models"]
    assert fraud["state"] == "watching"
    assert fraud["alerts_published"] == [{"kind": "data_drift", "severity": "critical", "count": 3}]
    assert fraud["features"][0]["effects"] == {"psi": 1.25}
    assert [incident["resolved"] for incident in fraud["incidents"]] == ["2027-01-15T08:00:00.000Z", None, None]
    assert fraud["incidents"][2]["muted"] == {"fee": "new tariff from May on"}
    assert fraud["lately"] == {"incidents": 7, "expected_by_chance": 0.83, "seconds": 2_592_000}


def test_what_no_detector_saw_is_told_on_the_page_and_in_the_document(served: Served) -> None:
    assert "no detector" not in served.get("/")
    served.snapshot = replace(served.snapshot, refused={"late": 1_200, "over_bound": 0, "other_grid": 7})
    assert json.loads(served.get("/api/v1/status"))["refused"] == {"late": 1_200, "over_bound": 0, "other_grid": 7}
    page = served.get("/")
    assert "no detector: 1,200 events too late for their tick, 7 events on another grid." in page
    served.snapshot = replace(served.snapshot, refused={}, refused_labels={"late": 5})
    assert json.loads(served.get("/api/v1/status"))["refused_labels"] == {"late": 5}
    assert "no detector: 5 labels too late for their tick." in served.get("/")


def test_numbers_that_json_does_not_know_are_null(served: Served) -> None:
    odd = replace(FEATURE, effects={"psi": float("nan")}, mean=float("inf"))
    served.snapshot = Snapshot(models=[replace(MODEL, features=(odd,), last_event_us=1 << 62)])
    (shown,) = json.loads(served.get("/api/v1/status"))["models"]
    assert shown["features"][0]["effects"] == {"psi": None}
    assert shown["features"][0]["mean"] is None
    assert shown["last_event_time"] is None


# ---- the page ------------------------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """The tags of a page, in order, and its text; it refuses what is not closed in order."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in {"href", "src"}]
        assert not [key for key, _ in attrs if key.startswith("on") or key == "style"]
        if tag != "wbr":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.text += data


@pytest.mark.parametrize(
    "expected",
    [
        "fraud",
        "watching",
        "12,345",
        "2027-01-15 06:00:00 UTC, 2 h 0 min ago",
        "amount shifted up 0.9 sd",
        "country had a new category",
        "1.25",
        "50.0 %",
        "41.2 → 59",
        "drift.ADWIN",
        "row: counter",
        "malformed: 4; over bound: 2",
        "11",
        "1 critical",
        "incidents in 30 d7; by chance ≤ 0.8",
        "fee: new tariff from May on",
    ],
)
def test_the_page_says(served: Served, expected: str) -> None:
    assert expected in Seen(served.get("/")).text


@pytest.mark.parametrize(
    ("state", "learning", "expected"),
    [
        (ModelState.LEARNING, LearningStatus(1_240, 2_000, None), "1,240 of 2,000 events"),
        (ModelState.WAITING, LearningStatus(0, 2_000, None), "too many models are learning"),
        (ModelState.CALIBRATING, LearningStatus(12_000, 20_000, 0), "calibrating: counting what is usual: 12,000 of"),
    ],
)
def test_the_page_says_how_far_a_model_has_learned(
    served: Served, state: ModelState, learning: LearningStatus, expected: str
) -> None:
    served.snapshot = Snapshot(models=[replace(MODEL, state=state, baseline_id=None, features=(), learning=learning)])
    text = Seen(served.get("/")).text
    assert expected in text
    assert f"1 {state}" in text


def test_the_page_says_how_a_version_differs_from_the_one_before(served: Served) -> None:
    changes = (FeatureChange("amount", {"psi": 0.31}), FeatureChange("age", {"psi": 0.02}))
    served.snapshot = Snapshot(models=[replace(MODEL, compared_with=Comparison("6", 2_000, changes))])
    text = Seen(served.get("/")).text
    assert "against version 6: amount (PSI 0.31), age (PSI 0.02)" in text


def test_the_page_of_a_process_that_has_seen_nothing_says_so(served: Served) -> None:
    served.snapshot = Snapshot()
    assert "No model yet" in Seen(served.get("/")).text


def test_the_page_loads_nothing_from_elsewhere(served: Served) -> None:
    assert {link.partition(":")[0] for link in Seen(served.get("/")).links} == {"data", "metrics", "api/v1/status"}


def hostile(name: str) -> Snapshot:
    feature = replace(FEATURE, name=name, kind=name)
    incident = replace(OPEN, summary=name, kind=name, severity=name)
    model = replace(
        MODEL,
        model_id=name,
        model_version=name,
        baseline_id=name,
        features=(feature, replace(feature, effects={name: 1.0, "psi": 1.0})),
        unmonitored={name: name},
        river=(RiverStatus(name, name, 1),),
        incidents=(incident, replace(incident, resolved_us=1)),
    )
    source = SourceStatus(name, name, dead={name: 1})
    return Snapshot([source], [model], [LoopStatus(name, 1.0, assigned=True, restored=True, rebalances={name: 1})])


@pytest.mark.parametrize("name", [EVIL, EVIL * 300, "\x00\r\ud800", "-->]]>&#x3c;script&#x3e;"])
def test_hostile_names_stay_text(served: Served, name: str) -> None:
    served.snapshot = hostile("harmless")
    expected = Seen(served.get("/")).tags
    served.snapshot = hostile(name)
    seen = Seen(served.get("/"))
    assert [tag for tag in seen.tags if tag != "wbr"] == expected
    served.get("/metrics")
    served.get("/api/v1/status")


def test_a_page_of_a_large_fleet_is_cut_and_says_so(served: Served) -> None:
    models = [replace(MODEL, model_id=f"m{i}", features=(FEATURE,) * 150) for i in range(60)]
    served.snapshot = Snapshot(models=models)
    seen = Seen(served.get("/"))
    assert "and 10 more models" in seen.text
    assert "and 50 more features" in seen.text
    assert seen.tags.count("section") == page.MAX_MODELS
    assert len(json.loads(served.get("/api/v1/status"))["models"]) == 60


def test_models_with_the_gravest_incidents_come_first(served: Served) -> None:
    calm = replace(MODEL, model_id="calm", incidents=())
    served.snapshot = Snapshot(models=[calm, replace(MODEL, model_id="ill")])
    text = Seen(served.get("/")).text
    assert text.index("ill") < text.index("calm")


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_methods_other_than_get_and_head_are_refused(served: Served, method: str) -> None:
    answer = served.ask("/livez", method, b"x" * 50_000)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_head_is_get_without_the_body(served: Served) -> None:
    answer = served.ask("/livez", "HEAD")
    assert answer.status == 200
    assert answer.headers["Content-Length"] == str(len(served.get("/livez")))
    assert answer.text == ""


@pytest.mark.parametrize("path", ["/etc/passwd", "/../streamdrift/errors.py", "/metrics/", "/%2e%2e/", "*"])
def test_unknown_paths_are_not_found_and_not_repeated(served: Served, path: str) -> None:
    assert served.get(path, 404) == "404 Not Found\n"


def test_a_query_changes_nothing(served: Served) -> None:
    served.get("/livez?verbose=1")


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
    ids=["nonsense", "version", "headers", "path", "header"],
)
def test_malformed_requests_are_refused_and_not_repeated(served: Served, request_: bytes) -> None:
    try:
        answer = served.raw(request_)
    except ConnectionError:
        answer = b"HTTP/1.1 4"  # it hung up on what it did not want to read
    assert answer.startswith(b"HTTP/1.1 4") or b" 505 " in answer
    assert b"Python" not in answer
    assert b"nonsense" not in answer
    served.get("/livez")


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/status", "/livez"])
def test_an_error_while_rendering_is_not_shown(served: Served, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(server, "_log", SimpleNamespace(exception=lambda event, **_: logged.append(event)))
    served.snapshot = None  # type: ignore[assignment]
    assert served.get(path, 500) == "500 Internal Server Error\n"
    assert logged == ["http page failed"]


@pytest.mark.parametrize("path", ["/", "/metrics", "/nowhere"])
def test_every_answer_has_the_security_headers(served: Served, path: str) -> None:
    headers = served.ask(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "streamdrift"
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


# ---- slow and many clients -----------------------------------------------------------------------------------------


def quickly(ask: Callable[[], object]) -> None:
    started = time.monotonic()
    ask()
    assert time.monotonic() - started < server.DEADLINE_S / 2


def test_clients_that_say_nothing_do_not_keep_a_probe_waiting(served: Served) -> None:
    with ExitStack() as idle:
        for _ in range(3 * server.MAX_CONNECTIONS):
            idle.enter_context(closing(served.connect()))
        quickly(lambda: served.get("/livez"))


def test_over_the_bound_the_oldest_connection_goes(served: Served) -> None:
    with ExitStack() as idle:
        oldest = idle.enter_context(closing(served.connect()))
        others = [idle.enter_context(closing(served.connect())) for _ in range(server.MAX_CONNECTIONS)]
        assert oldest.recv(1) == b""
        others[-1].sendall(b"GET /livez HTTP/1.1\r\n\r\n")
        assert others[-1].recv(12) == b"HTTP/1.1 200"


def test_a_client_that_sends_drop_by_drop_is_cut_off(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DEADLINE_S", 0.5)
    started = time.monotonic()
    with closing(served.connect()) as slow, suppress(ConnectionError):
        while time.monotonic() - started < 8:
            slow.sendall(b"G")
            time.sleep(0.1)
    assert time.monotonic() - started < 5


def test_a_client_that_does_not_read_keeps_nobody_waiting(served: Served) -> None:
    models = [replace(MODEL, model_id=f"m{i}", features=(FEATURE,) * 100) for i in range(300)]
    served.snapshot = replace(SNAPSHOT, models=models)
    with closing(served.connect()) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /api/v1/status HTTP/1.1\r\n\r\n")
        served.get("/readyz")
        quickly(lambda: served.get("/livez"))


def test_readers_who_ask_together_share_one_rendering() -> None:
    rendered = []

    def read() -> Snapshot:
        rendered.append(1)
        return SNAPSHOT

    registry = telemetry.registry(telemetry.StreamdriftCollector(read))
    http_server = HttpServer("127.0.0.1", 0, read=read, registry=registry, heartbeat_bound_s=BOUND)
    http_server.start()
    where = urlsplit(http_server.url)
    for _ in range(5):
        with closing(http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)) as connection:
            connection.request("GET", "/api/v1/status")
            connection.getresponse().read()
    http_server.stop()
    assert len(rendered) < 5


class Busy:
    """Metrics that are not ready before somebody says so."""

    def __init__(self) -> None:
        self.asked, self.ready = Event(), Event()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        self.asked.set()
        assert self.ready.wait(10)
        return []


def test_clients_that_leave_while_a_page_is_rendered_do_not_leave_threads_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(server, "MAX_THREADS", 8)
    busy, registry = Busy(), CollectorRegistry()
    registry.register(busy)
    http_server = HttpServer("127.0.0.1", 0, read=Snapshot, registry=registry, heartbeat_bound_s=BOUND)
    http_server.start()
    where = urlsplit(http_server.url)
    address, before = (where.hostname or "", where.port or 0), active_count()
    with ExitStack() as clients:
        for _ in range(40):
            client = clients.enter_context(closing(socket.create_connection(address, timeout=10)))
            with suppress(ConnectionError):
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert busy.asked.wait(10)
        with suppress(ConnectionError):
            assert client.recv(1) == b"", "the last one is turned away at once"
        assert active_count() - before <= 8
        busy.ready.set()
    wait_until(lambda: active_count() <= before, 10, "the threads should end")
    with closing(http.client.HTTPConnection(*address, timeout=10)) as connection:
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200
    http_server.stop()


def test_a_body_that_is_announced_and_does_not_come_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DEADLINE_S", 0.5)
    with closing(served.connect()) as silent, suppress(ConnectionError):
        silent.sendall(b"POST /livez HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
        silent.settimeout(5)
        silent.recv(1)


# ---- start and stop ------------------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_a_configuration_error(served: Served) -> None:
    second = HttpServer(
        *served.address, read=served.read, registry=telemetry.registry(_nothing()), heartbeat_bound_s=BOUND
    )
    with pytest.raises(ConfigurationError, match=rf"cannot listen on 127.0.0.1:{served.address[1]}"):
        second.start()


def _nothing() -> telemetry.StreamdriftCollector:
    return telemetry.StreamdriftCollector(Snapshot)


def test_after_stop_nobody_answers_and_open_connections_are_closed(served: Served) -> None:
    with closing(served.connect()) as idle:
        served.get("/livez")
        served.server.stop()
        assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        served.connect()
    served.server.stop()
    with pytest.raises(RuntimeError):
        _ = served.server.url


def test_the_url_of_an_ipv6_address_is_in_brackets() -> None:
    http_server = HttpServer("::1", 0, read=Snapshot, registry=telemetry.registry(_nothing()), heartbeat_bound_s=BOUND)
    try:
        http_server.start()
    except ConfigurationError:
        pytest.skip("this machine has no IPv6")
    try:
        assert http_server.url.startswith("http://[::1]:")
    finally:
        http_server.stop()
