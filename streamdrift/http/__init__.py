"""One read-only port: health, metrics, the status page and the document behind it."""

from __future__ import annotations

from streamdrift.http.server import HttpServer

__all__ = ["HttpServer"]
