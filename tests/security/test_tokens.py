"""Tokens from a function of the user's: how it is named, what it may return, and that nothing of it is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from structlog.testing import capture_logs

from streamdrift.check import check
from streamdrift.errors import ConfigurationError
from streamdrift.kafka.client import try_properties
from streamdrift.kafka.tokens import Tokens, token_function

CANARY = "canary-7d11-token"
OAUTH = {"kafka.client.security.protocol": "SASL_SSL", "kafka.client.sasl.mechanism": "OAUTHBEARER"}


def problems(changes: dict[str, object]) -> list[tuple[str, str]]:
    given = {
        "kafka.bootstrap_servers": "localhost:9092",
        "sources": [{"topic": "predictions", "kind": "predictions"}],
        **changes,
    }
    return [(problem.path, problem.message) for problem in check(None, given, {}).errors]


# ---- in the configuration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["token", "our_cloud.token", "our_cloud:", ":token", "our-cloud:token", "a b:c", "a:1"]
)
def test_a_provider_is_a_module_and_a_function(name: str) -> None:
    ((path, message),) = problems({**OAUTH, "kafka.token_provider": name})
    assert path == "kafka.token_provider"
    assert message.endswith("expected a function as package.module:function")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:token", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("time:token", "cannot be imported: AttributeError: module 'time' has no attribute 'token'"),
        ("string:digits", "is not a function"),
    ],
)
def test_a_provider_that_is_not_there_is_found_by_check(name: str, reason: str) -> None:
    assert problems({**OAUTH, "kafka.token_provider": name}) == [("kafka.token_provider", f"{name} {reason}")]


def test_a_provider_may_be_a_method() -> None:
    assert token_function("datetime:datetime.fromtimestamp").__name__ == "fromtimestamp"
    assert problems({**OAUTH, "kafka.token_provider": "datetime:datetime.now"}) == []


def test_check_does_not_ask_for_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asked_too_early.py").write_text("def token(config):\n    raise SystemExit('asked')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert problems({**OAUTH, "kafka.token_provider": "asked_too_early:token"}) == []


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"kafka.token_provider": "time:time"}, "kafka.token_provider", "is for kafka.client.sasl.mechanism: OAUTH"),
        (OAUTH, "kafka.client.sasl.mechanism", "OAUTHBEARER needs sasl.oauthbearer.method: oidc"),
        (
            {**OAUTH, "kafka.client.sasl.oauthbearer.method": "oidc", "kafka.token_provider": "time:time"},
            "kafka.token_provider",
            "set only one",
        ),
        ({"kafka.client.oauth_cb": "time:time"}, "kafka.client.oauth_cb", "cannot be set: it is kafka.token_provider"),
    ],
)
def test_what_does_not_go_together_is_said(changes: dict[str, object], path: str, message: str) -> None:
    ((found, said),) = problems(changes)
    assert found == path
    assert message in said


def test_looking_at_a_configuration_sends_no_secret_to_the_identity_provider() -> None:
    asked: list[str] = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(401)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the library's own name for it
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try_properties(
            {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "OAUTHBEARER",
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.token.endpoint.url": f"http://127.0.0.1:{server.server_port}/token",
                "sasl.oauthbearer.client.id": "id",
                "sasl.oauthbearer.client.secret": CANARY,
            }
        )
        server.shutdown()
        thread.join()
    assert asked == []


# ---- tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda _: None,
        lambda _: CANARY,
        lambda _: (CANARY,),
        lambda _: [CANARY, time.time() + 60],
        lambda _: (CANARY.encode(), time.time() + 60),
        lambda _: (CANARY, "soon"),
        lambda _: (CANARY, True),
        lambda _: (CANARY, time.time() - 1),
        lambda _: (CANARY, float("nan")),
        lambda _: (CANARY, (time.time() + 60) * 1000),
    ],
    ids=["nothing", "text", "no time", "a list", "bytes", "time as text", "a boolean", "past", "nan", "milliseconds"],
)
def test_what_is_no_token_is_refused_without_showing_it(function: Callable[[object], object]) -> None:
    tokens = Tokens(function, "our_cloud:token")  # type: ignore[arg-type]  # as users write it: without types
    with pytest.raises(ConfigurationError, match=r"no token from our_cloud:token: ValueError: expected ") as refused:
        tokens.try_once(None)
    assert CANARY not in str(refused.value)


def test_a_token_may_come_with_a_principal_and_extensions() -> None:
    token = (CANARY, time.time() + 60, "User:fraud", {"logicalCluster": "lkc-1"})
    assert Tokens(lambda _: token, "our_cloud:token")(None) == token


def test_clients_that_ask_together_get_one_token_and_later_another() -> None:
    asked: list[object] = []

    def short(config: object) -> tuple[str, float]:
        asked.append(config)
        return f"{CANARY}-{len(asked)}", time.time() + 0.02

    tokens = Tokens(short, "our_cloud:token")
    first = tokens("config")
    while (later := tokens("config")) == first:
        pass  # until half of its short life is over
    assert later[0] == f"{CANARY}-2"
    long_lived = Tokens(lambda _: (CANARY, time.time() + 3600), "our_cloud:token")
    assert long_lived(None) is long_lived(None)


def test_a_provider_that_fails_later_is_logged_once_and_raises_each_time() -> None:
    def failing(_: object) -> tuple[str, float]:
        raise OSError("the metadata service does not answer")

    tokens = Tokens(failing, "our_cloud:token")
    with capture_logs() as log:
        for _ in range(3):
            with pytest.raises(OSError, match="does not answer"):
                tokens(None)
    assert [entry["reason"] for entry in log] == ["OSError: the metadata service does not answer"]
    assert log[0]["provider"] == "our_cloud:token"


def test_tokens_show_only_where_they_come_from() -> None:
    tokens = Tokens(lambda _: (CANARY, time.time() + 60), "our_cloud:token")
    tokens(None)
    assert repr(tokens) == "Tokens(name='our_cloud:token')"
