"""The address under which others in the room find the page, to be read and to be photographed."""

from __future__ import annotations

import io
import socket

# Of an address that nobody has (RFC 5737): asking for the way there sends nothing.
_ELSEWHERE = ("192.0.2.1", 9)


def local_address() -> str | None:
    """Return this computer's address in its network, or None where it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            return None
        return str(probe.getsockname()[0])


def class_words(port: int, address: str | None) -> str:
    """Return what to show a class: the page's address in words and as a QR code.

    Args:
        address: From `local_address`.
    """
    if address is None:
        return (
            "This computer is in no network: join one, then start the page again. Until then it "
            f"is at http://127.0.0.1:{port}/ here alone."
        )
    import segno

    url, code = f"http://{address}:{port}/", io.StringIO()
    segno.make(url, error="m").terminal(code, compact=True)
    return f"{code.getvalue()}\nEverybody in this network opens {url}"
