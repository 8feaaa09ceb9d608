"""
What an address tells about where it leads.
"""


def loopback(host: str) -> bool:
    from ipaddress import ip_address  # noqa: PLC0415

    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
