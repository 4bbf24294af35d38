"""Where the service is and the key that opens it, checked before anything is sent."""

import ipaddress
import os
import warnings
from urllib.parse import urlsplit

__all__ = ["KEY_VARIABLE", "check_key", "check_url", "warn_of_clear_text"]

KEY_VARIABLE = "RAY_SFT_API_KEY"


def check_url(url: str) -> str:
    """The base URL without a slash at its end.

    Raises:
        ValueError: it is not a base URL; the message says what one looks like.
    """
    try:
        parts = urlsplit(url.strip())
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ValueError(
            f"{url!r} is not the URL of a service. Write it as http://HOST:PORT or https://HOST."
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            "the URL of a service has no user, '?' or '#'. Write it as http://HOST:PORT, and give "
            "the key as api_key."
        )
    return url.strip().rstrip("/")


def check_key(api_key: str | None) -> str:
    """The key, from the environment where it is None; empty for a service without keys.

    Raises:
        ValueError: it has characters that no header can carry; the message does not show it.
    """
    key = os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key
    key = key.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(
            f"the API key ({len(key)} characters) has some that no key of a service has. Copy it "
            "anew, without spaces and line ends."
        )
    return key


def warn_of_clear_text(url: str, *, stacklevel: int) -> None:
    """Warns where a key would go over a network that others may read; Python shows it once."""
    parts = urlsplit(url)
    if parts.scheme == "https" or _is_loopback(parts.hostname or ""):
        return
    warnings.warn(
        f"the API key goes to {parts.hostname} in clear text, because the URL begins with http. "
        "Use https.",
        UserWarning,
        stacklevel=stacklevel + 1,
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
