"""Tokens for OAUTHBEARER from a function of the user's, where librdkafka cannot fetch them by itself.

librdkafka speaks OpenID Connect, so most providers need only properties (``sasl.oauthbearer.method: oidc``). The
function is for the rest, such as signed requests of a cloud; it is what Python clients know as ``oauth_cb``.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeAlias

import structlog

from streamdrift.errors import ConfigurationError
from streamdrift.kafka.repeats import Repeats

BearerToken: TypeAlias = tuple[str, float] | tuple[str, float, str, dict[str, str]]
"""The token, when it expires (seconds since the epoch), and optionally the principal and SASL extensions."""

TokenFunction = Callable[[Any], BearerToken]
"""Is given the property ``sasl.oauthbearer.config`` (None if it is not set); may be called from any thread."""

SHARED_FOR = 10.0
"""Seconds: clients that are made together take one token."""


def token_function(reference: str) -> TokenFunction:
    """The function that ``package.module:function`` names. Raises ``ConfigurationError``."""
    module, _, name = reference.partition(":")
    try:
        function: object = importlib.import_module(module)
        for part in name.split("."):
            function = getattr(function, part)
    except Exception as failure:  # whatever an import runs into
        raise ConfigurationError(f"kafka.token_provider: {reference} cannot be imported: {_said(failure)}") from failure
    if not callable(function):
        raise ConfigurationError(f"kafka.token_provider: {reference} is not a function")
    return function


@dataclass(slots=True)
class Tokens:
    """Asks ``function`` for all clients, so that those made together cost one token; logs what goes wrong."""

    function: TokenFunction = field(repr=False)
    name: str
    """As in the configuration."""
    _repeats: Repeats = field(default_factory=Repeats, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)
    _last: BearerToken | None = field(default=None, init=False, repr=False)
    _until: float = field(default=0.0, init=False, repr=False)

    def __call__(self, config: object) -> BearerToken:
        """A token for librdkafka, which is told only that there is none when this raises."""
        try:
            return self._token(config)
        except Exception as failure:
            if times := self._repeats.told("token"):
                structlog.get_logger().error("no token", provider=self.name, reason=_said(failure), times=times)
            raise

    def try_once(self, config: object) -> None:
        """Raises ``ConfigurationError`` that says why there is no token."""
        try:
            self._token(config)
        except Exception as failure:
            raise ConfigurationError(f"kafka.token_provider: no token from {self.name}: {_said(failure)}") from failure

    def _token(self, config: object) -> BearerToken:
        with self._lock:
            if self._last is None or time.monotonic() >= self._until:
                now = time.time()
                self._last = _checked(self.function(config), now)
                self._until = time.monotonic() + min(SHARED_FOR, (self._last[1] - now) / 2)
            return self._last


def _checked(token: object, now: float) -> BearerToken:
    """``token`` if it is one. Raises ``ValueError``, which repeats nothing of it."""
    if not isinstance(token, tuple) or len(token) not in {2, 4} or not isinstance(token[0], str):
        raise ValueError("expected a tuple: the token, and when it expires (optionally principal and extensions)")
    expires = token[1]
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not now < expires < now + _LONGEST:
        raise ValueError("expected the time when the token expires in seconds since the epoch, and in the future")
    return token


_LONGEST = 10 * 365 * 86_400.0
"""Seconds; a time beyond that is one in milliseconds, and the token would never be renewed."""


def _said(failure: Exception) -> str:
    return f"{type(failure).__name__}: {failure}"
