"""Certificates for the tests, made with ``openssl`` when they are needed: no key is ever committed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

DAYS = "2"
_LEAF = """\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, each in a file (PEM)."""

    certificate: Path
    key: Path

    def keystore(self) -> Path:
        """Both in one file, as Kafka wants them."""
        both = self.key.with_suffix(".keystore.pem")
        both.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())
        return both


@dataclass(frozen=True, slots=True)
class Authority:
    """Issues certificates that only who trusts ``identity.certificate`` accepts."""

    identity: Identity

    @classmethod
    def found(cls, directory: Path, name: str) -> Self:
        identity = Identity(directory / f"{name}.pem", directory / f"{name}.key")
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", identity.key)
        openssl("req", "-x509", *new_key, "-out", identity.certificate, "-days", DAYS, "-subj", f"/CN={name}")
        return cls(identity)

    def issue(self, name: str) -> Identity:
        """A certificate for ``name``, good for clients and for servers on this machine."""
        place = self.identity.key.parent
        issued = Identity(place / f"{name}.pem", place / f"{name}.key")
        request, extensions = place / f"{name}.csr", place / "leaf.cnf"
        extensions.write_text(_LEAF)
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", issued.key)
        openssl("req", "-new", *new_key, "-out", request, "-subj", f"/CN={name}")
        signer = ("-CA", self.identity.certificate, "-CAkey", self.identity.key, "-CAcreateserial")
        form = ("-days", DAYS, "-extfile", extensions)
        openssl("x509", "-req", "-in", request, *signer, *form, "-out", issued.certificate)
        return issued


def openssl(*arguments: object, data: bytes | None = None) -> bytes:
    """What the command writes; raises ``CalledProcessError`` if it fails."""
    return subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, check=True).stdout
