"""How documents hold networks, for a `Codec` that writes what exchanges say of keys.  Pure."""

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any, Final

from reconciler.model.codec import Malformed

_Convert = Callable[[Any], Any]


def _network(text: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if type(text) is not str:  # the library takes numbers as well, and truth is one
        raise Malformed("is not text")
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise Malformed("is no network") from None


NETWORKS: Final[Mapping[Any, tuple[_Convert, _Convert]]] = {
    ipaddress.IPv4Network | ipaddress.IPv6Network: (str, _network)
}
NAMESPACE: Final = vars(ipaddress)
"""What hints call that `reconciler.model.key_facts` imports for checkers only."""
