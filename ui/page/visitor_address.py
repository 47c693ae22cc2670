"""Where a request comes from: what counts as one visitor where a session's name says nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any


def visitor_address(scope: Mapping[str, Any]) -> str:
    """Return the address that a request came from, or "" where the server knows none.

    Behind a proxy of one's own network that is what this proxy wrote last; what others write there
    is not believed.

    Args:
        scope: Of the request, as ASGI has it.
    """
    address = str((scope.get("client") or ("",))[0])
    forwarded_headers = [
        v.decode("latin-1") for k, v in scope["headers"] if k == b"x-forwarded-for"
    ]
    forwarded = ",".join(forwarded_headers).rpartition(",")[2].strip()
    return forwarded if forwarded and _is_private(address) else address


def _is_private(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_private
    except ValueError:
        return False
