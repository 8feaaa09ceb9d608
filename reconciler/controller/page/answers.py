"""Answers over HTTP as every page gives them, and the headers that all of them carry."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # without any, browsers send no Origin with a form either
    "Server": "jtr",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def html(text: str, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def said(status: HTTPStatus, what: str, **headers: str) -> web.Response:
    """Return a line of text for programs, and for people whom nothing is shown."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(text=what + "\n", status=status, headers=named)


def refused(status: HTTPStatus) -> web.Response:
    """Return what is answered to what is no request."""
    response = said(status, status.phrase)
    response.headers.update(HEADERS)
    return response


def to(path: str) -> web.Response:
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path})


def too_many(wait: int) -> web.Response:
    what = f"too many wrong tokens; wait {wait} s"
    return said(HTTPStatus.TOO_MANY_REQUESTS, what, Retry_After=str(wait))


def query(**pairs: str) -> str:
    return urlencode({key: value for key, value in pairs.items() if value})


def text(given: Mapping[str, Any], key: str) -> str:
    """Return a field of a form; empty where there is none, or a file in its place."""
    value = given.get(key, "")
    return value if isinstance(value, str) else ""


def inside(path: str) -> str:
    """Return *path* if it leads into this page and nowhere else; else nothing."""
    good = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if good and path.isascii() and path.isprintable() else ""
