"""The certificate of a member that connects: it must name the host where the member that it says it is can be found."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping


def names_host(certificate: Mapping[str, object], host: str) -> bool:
    """Return True if a verified certificate, as `ssl` describes it, names a host: the rule by which a client knows a server."""
    names = certificate.get("subjectAltName", ())
    assert isinstance(names, tuple)
    address = _address(host)
    if address is not None:
        return any(kind == "IP Address" and _address(value.strip()) == address for kind, value in names)
    return any(kind == "DNS" and _matches(value.lower(), host.lower().rstrip(".")) for kind, value in names)


def _matches(name: str, host: str) -> bool:
    """Return True for the same name, or one whose first label is a wildcard."""
    if name.startswith("*."):
        label, dot, parent = host.partition(".")
        return bool(label and dot) and parent == name[2:]
    return name == host


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
