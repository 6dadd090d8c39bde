"""An identity provider for OAUTHBEARER: signed tokens, the keys to check them, and an endpoint that gives them out."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

from tests.support.certificates import openssl

AUDIENCE = "kafka"
LIFETIME = 300.0
"""Seconds."""


class IdentityProvider:
    """Answers client_credentials requests within ``with``; signs tokens with a key of its own (RS256)."""

    def __init__(self, directory: Path) -> None:
        self._key = directory / "tokens.key"
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self._key)
        self.client_id = "streamdrift-client"
        self.client_secret = f"canary-{secrets.token_hex(12)}"
        self.jwks = directory / "jwks.json"
        self.jwks.write_text(json.dumps(self._public_key()))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def token(self, subject: str, lifetime: float = LIFETIME) -> str:
        """A token for ``subject``, valid for ``lifetime`` seconds from now."""
        now = int(time.time())
        claims = {"iss": "tests", "sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + int(lifetime)}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "1"}, claims))
        return f"{signed}.{_encoded(openssl('dgst', '-sha256', '-sign', self._key, data=signed.encode()))}"

    def _public_key(self) -> Mapping[str, object]:
        modulus = openssl("rsa", "-in", self._key, "-noout", "-modulus").decode().strip().partition("=")[2]
        key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "e": "AQAB"}
        return {"keys": [{**key, "n": _encoded(bytes.fromhex(modulus))}]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self
        expected = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Authorization"] == f"Basic {expected}":
                    self._answer(200, {"access_token": provider.token("streamdrift"), "token_type": "Bearer"})
                else:
                    self._answer(401, {"error": "invalid_client"})

            def _answer(self, status: int, document: Mapping[str, str]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the library's own name for it
                """The tests look at the service's log only."""

        return Handler


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
