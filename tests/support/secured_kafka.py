"""Apache Kafka as a security department runs it: nobody gets in without TLS and a name, or does what no ACL allows.

Two listeners: ``SASL`` takes SCRAM-SHA-512 and OAUTHBEARER over TLS, ``MTLS`` takes client certificates. Whichever
way it comes, the service is ``User:streamdrift``. What it is allowed is logged, with the ACL that allowed it.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from streamdrift.kafka.client import Cluster
from tests.support.apache_kafka import ApacheKafka, KafkaUnavailable, Wiring
from tests.support.certificates import Authority, Identity
from tests.support.tokens import AUDIENCE, IdentityProvider
from tests.support.waiting import wait_until

SERVICE: Final = "streamdrift"
SUBSCRIBER: Final = "on-call"

ANSWER_TIMEOUT: Final = 20.0
_OAUTH: Final = "org.apache.kafka.common.security.oauthbearer"
_SCRAM: Final = "org.apache.kafka.common.security.scram"
_AUDIT: Final = """\
logger.audit.name=kafka.authorizer.logger
logger.audit.level=debug
"""
_DECISION: Final = re.compile(
    r"Principal = User:(?P<user>\S+) is (?P<decision>\w+) operation = (?P<operation>\w+) .* "
    r"on resource = (?P<kind>\w+):LITERAL:(?P<name>\S+) "
)


class Permission(NamedTuple):
    """What a user may do to a resource, in the words of Kafka's own tools."""

    kind: str
    """``topic`` or ``group``."""
    name: str
    operation: str
    """As in ``Read`` and ``DescribeConfigs``."""


class SecuredKafka(ApacheKafka):
    """One node; ``cluster`` is it as its administrator sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.passwords = {name: f"canary-{secrets.token_hex(12)}" for name in (SERVICE, SUBSCRIBER)}
        """Of the SCRAM users. No character in them that escaping could change, and so hide from a search."""
        self.ca: Path
        """What clients have to trust."""
        self.identity: Identity
        """The service's own certificate."""
        self.stranger: Authority
        """Not trusted by the broker."""
        self.provider: IdentityProvider
        self._log: Path
        self._exit = ExitStack()

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.bootstrap_servers, dict(self._wiring.administrator))

    def scram(self, user: str) -> dict[str, str]:
        """Client properties for the ``SASL`` listener, but for the password."""
        return self.tls("SASL_SSL") | {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": user}

    def oauth(self) -> dict[str, str]:
        """Client properties for the ``SASL`` listener, but for where tokens come from."""
        return self.tls("SASL_SSL") | {"sasl.mechanism": "OAUTHBEARER"}

    def tls(self, protocol: str) -> dict[str, str]:
        return {"security.protocol": protocol, "ssl.ca.location": str(self.ca)}

    def allow(self, user: str, permissions: Collection[Permission]) -> None:
        """Returns once they are in force."""
        bindings = [_binding(user, permission) for permission in permissions]
        admin = self._admin()
        for made in admin.create_acls(bindings, request_timeout=ANSWER_TIMEOUT).values():
            made.result()
        self._await(admin, [_filter(user, permission) for permission in permissions], present=True)

    def forbid(self, user: str, permissions: Collection[Permission] | None = None) -> None:
        """Take permissions back (all if None)."""
        any_: Any = None  # the client's types do not know that a filter may leave a name open
        kind, pattern, operation, permission = (
            ResourceType.ANY,
            ResourcePatternType.ANY,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        anything = AclBindingFilter(kind, any_, pattern, f"User:{user}", any_, operation, permission)
        filters = [anything] if permissions is None else [_filter(user, permission) for permission in permissions]
        admin = self._admin()
        for gone in admin.delete_acls(filters, request_timeout=ANSWER_TIMEOUT).values():
            gone.result()
        self._await(admin, filters, present=False)

    def _await(self, admin: AdminClient, filters: Iterable[AclBindingFilter], *, present: bool) -> None:
        """Wait until the broker has heard what its controller decided."""

        def heard() -> bool:
            found = [admin.describe_acls(one, request_timeout=ANSWER_TIMEOUT) for one in filters]
            return all(bool(answer.result()) is present for answer in found)

        wait_until(heard, ANSWER_TIMEOUT, "permissions should be in force")

    def used(self, user: str) -> set[Permission]:
        """What the broker has allowed the user to do so far."""
        return set(self._decisions(user, "Allowed"))

    def denied(self, user: str) -> list[Permission]:
        """What it has not."""
        return list(self._decisions(user, "Denied"))

    def _decisions(self, user: str, decision: str) -> Iterator[Permission]:
        for line in self._log.read_text(errors="replace").splitlines():
            match = _DECISION.search(line)
            if match is not None and (match["user"], match["decision"]) == (user, decision):
                operation = match["operation"].title().replace("_", "")
                yield Permission(match["kind"].lower(), match["name"], operation)

    def _wire(self, directory: Path) -> Wiring:
        if shutil.which("openssl") is None:
            raise KafkaUnavailable("openssl is not installed")
        authority, self.stranger = Authority.found(directory, "authority"), Authority.found(directory, "another")
        self.ca, self.identity = authority.identity.certificate, authority.issue(SERVICE)
        self.provider = self._exit.enter_context(IdentityProvider(directory))
        self._log = directory / "server.log"
        administrator = authority.issue("administrator")
        return Wiring(
            {"MTLS": "SSL", "SASL": "SASL_SSL"},
            "SSL",
            _settings(authority, authority.issue("broker"), self.provider.jwks),
            [f"--add-scram=SCRAM-SHA-512=[name={name},password={word}]" for name, word in self.passwords.items()],
            [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.provider.jwks.as_uri()}"],
            _AUDIT,
            self.tls("SSL")
            | {"ssl.certificate.location": str(administrator.certificate), "ssl.key.location": str(administrator.key)},
        )

    def _end(self) -> None:
        super()._end()
        self._exit.close()


def _settings(authority: Authority, broker: Identity, jwks: Path) -> dict[str, str]:
    oauth, scram = "listener.name.sasl.oauthbearer", "listener.name.sasl.scram-sha-512"
    return {
        "inter.broker.listener.name": "MTLS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(broker.keystore()),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.identity.certificate),
        "ssl.principal.mapping.rules": "RULE:^CN=([^,]+)$/$1/",
        "listener.name.mtls.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "listener.name.sasl.sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
        f"{scram}.sasl.jaas.config": f"{_SCRAM}.ScramLoginModule required;",
        f"{oauth}.sasl.jaas.config": f"{_OAUTH}.OAuthBearerLoginModule required;",
        f"{oauth}.sasl.server.callback.handler.class": f"{_OAUTH}.OAuthBearerValidatorCallbackHandler",
        f"{oauth}.sasl.oauthbearer.jwks.endpoint.url": jwks.as_uri(),
        f"{oauth}.sasl.oauthbearer.expected.audience": AUDIENCE,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:broker;User:administrator",
    }


def _binding(user: str, permission: Permission) -> AclBinding:
    return AclBinding(*_pattern(user, permission), AclPermissionType.ALLOW)


def _filter(user: str, permission: Permission) -> AclBindingFilter:
    return AclBindingFilter(*_pattern(user, permission), AclPermissionType.ALLOW)


def _pattern(
    user: str, permission: Permission
) -> tuple[ResourceType, str, ResourcePatternType, str, str, AclOperation]:
    operation = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", permission.operation).upper()
    return (
        ResourceType[permission.kind.upper()],
        permission.name,
        ResourcePatternType.LITERAL,
        f"User:{user}",
        "*",
        AclOperation[operation],
    )
