"""Throw-away certificates: good ones, expired ones, for another name, of another authority."""

import ssl
from pathlib import Path

from tests.drivers import scripted


class Authority(scripted.Authority):
    """A certificate authority; `file` is its own certificate.  Keys stay in *folder*."""

    def __init__(self, folder: Path, name: str = "ours", *, identified: bool = True) -> None:
        super().__init__(folder, name, identified=identified)
        self.file = str(self.ca_file)

    def context(
        self, address: str = "127.0.0.1", *, expired: bool = False, ask: bool = False
    ) -> ssl.SSLContext:
        """Return what shows a certificate for *address*; *ask*: and wants one of the client."""
        context = self.server_context(address=address, days=(-9, -1 if expired else 1))
        if ask:
            # With TLS 1.3 it depends on the moment whether the reason can be told.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.load_verify_locations(self.file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context
