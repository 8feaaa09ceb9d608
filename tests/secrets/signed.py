"""JWTs signed here and now, and a Kubernetes that reviews them, as far as a login needs one."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def new_key(algorithm: str = "ES256") -> Key:
    """Make a key for ES256 or RS256."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(key: Key) -> str:
    """Return the public half as PEM."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, kind).decode()


def jwt(key: Key, **claims: Any) -> str:
    """Sign *claims* over a good hour; None takes one of the usual claims away."""
    now = int(time.time())
    usual = {"iss": "issuer", "aud": "vault", "sub": "jtr", "iat": now, "nbf": now - 5}
    body = {
        name: value
        for name, value in {**usual, "exp": now + 3600, **claims}.items()
        if value is not None
    }
    algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
    text = f"{_part({'alg': algorithm, 'typ': 'JWT'})}.{_part(body)}"
    return f"{text}.{_text(_signature(key, text.encode()))}"


def _signature(key: Key, text: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    one, two = utils.decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
    return one.to_bytes(32, "big") + two.to_bytes(32, "big")


def _part(value: object) -> str:
    return _text(json.dumps(value).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Reviewer(ThreadingHTTPServer):
    """Answers Kubernetes' TokenReview: `accounts` says whom a token belongs to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Reviews)
        self.accounts: dict[str, str] = {}
        self.audiences: list[list[str]] = []

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Reviews(BaseHTTPRequestHandler):
    server: Reviewer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.audiences.append(body["spec"].get("audiences") or [])
        account = self.server.accounts.get(body["spec"]["token"])
        status: dict[str, Any] = {"authenticated": False, "error": "unknown token"}
        if account is not None:
            namespace, _, name = account.partition("/")
            user = {"username": f"system:serviceaccount:{namespace}:{name}", "uid": "u"}
            status = {"authenticated": True, "user": user, "audiences": ["vault"]}
        answer = json.dumps(
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}
        ).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def reviewer() -> Iterator[Reviewer]:
    """Run a reviewer while the block runs."""
    with Reviewer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(5)


def account_token(key: Key, account: str, **claims: Any) -> str:
    """Return a token as the kubelet projects it for a service account NAMESPACE/NAME."""
    namespace, _, name = account.partition("/")
    bound = {"namespace": namespace, "serviceaccount": {"name": name, "uid": "u"}}
    return jwt(
        key,
        **{
            "iss": "https://kubernetes.default.svc",
            "aud": ["vault"],
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "kubernetes.io": bound,
            **claims,
        },
    )
