"""Who is refused is told why, soon, in few words, and without the secret that was wrong."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from streamdrift.assembly import Service, cluster_of
from streamdrift.errors import BrokerUnreachable, ConfigurationError, StreamdriftError
from streamdrift.kafka import client
from tests.security.installation import Installation
from tests.support import fraud
from tests.support.secured_kafka import SERVICE, SecuredKafka

CANARY = "canary-1f7d-wrong"
FEW = 8
"""Lines of log."""


class Refusal(NamedTuple):
    listener: str
    client: Callable[[SecuredKafka], Mapping[str, str]]
    kind: type[StreamdriftError]
    message: str


def scram(kafka: SecuredKafka) -> dict[str, str]:
    return kafka.scram(SERVICE) | {"sasl.password": kafka.passwords[SERVICE]}


def oidc(kafka: SecuredKafka) -> dict[str, str]:
    provider = kafka.provider
    return kafka.oauth() | {
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": provider.endpoint,
        "sasl.oauthbearer.client.id": provider.client_id,
        "sasl.oauthbearer.client.secret": CANARY,
    }


def strange_certificate(kafka: SecuredKafka) -> dict[str, str]:
    identity = kafka.stranger.issue("stranger")
    files = {"ssl.certificate.location": str(identity.certificate), "ssl.key.location": str(identity.key)}
    return kafka.tls("SSL") | files


REFUSALS = {
    "a wrong password": Refusal(
        "SASL", lambda kafka: scram(kafka) | {"sasl.password": CANARY}, ConfigurationError, "invalid credentials"
    ),
    "an unknown user": Refusal(
        "SASL", lambda kafka: scram(kafka) | {"sasl.username": "nobody"}, ConfigurationError, "invalid credentials"
    ),
    "a mechanism that the broker does not have": Refusal(
        "SASL",
        lambda kafka: scram(kafka) | {"sasl.mechanism": "SCRAM-SHA-256"},
        ConfigurationError,
        "supported mechanisms: SCRAM-SHA-512,OAUTHBEARER",
    ),
    "an authority that did not sign the broker's certificate": Refusal(
        "SASL",
        lambda kafka: scram(kafka) | {"ssl.ca.location": str(kafka.stranger.identity.certificate)},
        ConfigurationError,
        "verify that ssl.ca.location is correctly configured",
    ),
    "no certificate": Refusal(
        "MTLS", lambda kafka: kafka.tls("SSL"), ConfigurationError, r"alert (bad certificate|certificate required)"
    ),
    "a certificate of a strange authority": Refusal("MTLS", strange_certificate, ConfigurationError, "alert "),
    "a secret that the identity provider refuses": Refusal("SASL", oidc, ConfigurationError, "invalid_client"),
    "an identity provider that is not there": Refusal(
        "SASL",
        lambda kafka: oidc(kafka) | {"sasl.oauthbearer.token.endpoint.url": "http://127.0.0.1:9/token"},
        ConfigurationError,
        "token: Failed to connect",
    ),
    "no encryption": Refusal(
        "SASL", lambda _: {}, BrokerUnreachable, r"does the listener expect another kafka\.client\.security\.protocol\?"
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_start_is_refused_for(
    secured_kafka: SecuredKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    monkeypatch.setattr(client, "_SECOND_THOUGHTS", 0.3)
    settings = Installation(secured_kafka, tmp_path).on(refusal.listener, refusal.client(secured_kafka))
    service = Service(settings, cluster=dataclasses.replace(cluster_of(settings), request_timeout=1.5))
    begun = time.monotonic()
    with capture_logs() as log, pytest.raises(refusal.kind, match=refusal.message) as refused:
        service.start()
    assert time.monotonic() - begun < 10
    assert len(log) <= FEW
    said = "".join(traceback.format_exception(refused.value)) + str(log)
    assert CANARY not in said
    assert secured_kafka.passwords[SERVICE] not in said


def test_a_token_that_the_broker_refuses_ends_the_start(
    secured_kafka: SecuredKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong_cloud.py").write_text(
        f"import time\ndef token(config):\n    return {CANARY!r}, time.time() + 300\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(client, "_SECOND_THOUGHTS", 0.3)
    changes = {"kafka.token_provider": "wrong_cloud:token"}
    settings = Installation(secured_kafka, tmp_path).on("SASL", secured_kafka.oauth(), **changes)
    with capture_logs() as log, pytest.raises(ConfigurationError, match="invalid_token") as refused:
        Service(settings).start()
    assert CANARY not in "".join(traceback.format_exception(refused.value)) + str(log)


def test_the_command_ends_with_2_in_one_sentence_and_even_its_debugging_shows_no_password(
    secured_kafka: SecuredKafka, tmp_path: Path
) -> None:
    fraud.settings(tmp_path)
    client = {**secured_kafka.scram(SERVICE), "sasl.password": CANARY}
    variables = {f"STREAMDRIFT__KAFKA__CLIENT__{k.upper().replace('.', '_')}": v for k, v in client.items()}
    variables["STREAMDRIFT__KAFKA__BOOTSTRAP_SERVERS"] = secured_kafka.addresses["SASL"]
    run = ("run", "--config", str(tmp_path / "streamdrift.yaml"))
    commands = (run, ("--debug", *run, "--set", "log.level=debug", "--set", "kafka.client.debug=all"))
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "streamdrift", *command],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in commands
    ]
    plain, debugging = [process.communicate(timeout=30)[0] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    *log, sentence = plain.splitlines()
    assert sentence.startswith("streamdrift: kafka: no access to ")
    assert "invalid credentials" in sentence
    assert len(log) <= FEW
    assert "Traceback" in debugging
    assert "sasl.password" in debugging, "the search has to have an object"
    assert CANARY not in plain
    assert CANARY not in debugging
