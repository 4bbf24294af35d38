"""Sending a message, signed as Standard Webhooks (standardwebhooks.com) asks.

``webhook-signature`` is ``v1,`` and the base64 HMAC-SHA256 of ``id.timestamp.body``, so a message
can be neither forged nor kept and sent again later. Redirects are not followed and replies not
read: a webhook cannot be used to look around.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ssl
from collections.abc import Mapping

import httpx

from ray_sft.core import ServeError
from serve.monitor.addresses import AddressError, resolve

__all__ = ["SECRET_VARIABLE", "Webhook", "WebhookError", "sign", "webhook_secret"]

SECRET_VARIABLE = "RAY_SFT_WEBHOOK_SECRET"

_SHORTEST = 16
_ENCODED_PREFIX = "whsec_"


class WebhookError(ServeError):
    """A message was not delivered."""


def webhook_secret(environment: Mapping[str, str]) -> bytes:
    """The key of the environment; empty where there is none.

    Raises:
        ServeError: it is too short to be safe, or begins with ``whsec_`` and is not base64.
    """
    text = environment.get(SECRET_VARIABLE, "").strip()
    try:
        key = (
            base64.b64decode(text.removeprefix(_ENCODED_PREFIX), validate=True)
            if text.startswith(_ENCODED_PREFIX)
            else text.encode()
        )
    except binascii.Error:
        raise ServeError(
            f"{SECRET_VARIABLE} begins with {_ENCODED_PREFIX}, but no base64 follows."
        ) from None
    if text and len(key) < _SHORTEST:
        raise ServeError(
            f"{SECRET_VARIABLE} has {len(key)} bytes; the shortest allowed has {_SHORTEST}. "
            "Use a random one."
        )
    return key


def sign(secret: bytes, *, identity: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``."""
    signed = f"{identity}.{timestamp}.".encode() + body
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


class Webhook:
    """One receiver of messages."""

    def __init__(
        self,
        url: str,
        *,
        secret: bytes,
        timeout_s: float,
        allow_private: bool,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``tls`` is for receivers whose certificate only their own authority knows.

        Raises:
            ServeError: there is no secret to sign with.
        """
        if not secret:
            raise ServeError(
                f"the monitor has a webhook and no secret to sign its messages with. Set "
                f"{SECRET_VARIABLE} to a random text that the receiver knows too."
            )
        self._url = httpx.URL(url)
        self._secret = secret
        self._timeout_s = timeout_s
        self._allow_private = allow_private
        self._tls = tls or httpx.create_ssl_context(trust_env=False)

    async def send(self, identity: str, body: bytes, *, timestamp: int) -> None:
        """Delivers a message; the receiver knows one that comes twice by ``identity``.

        Raises:
            WebhookError: it was not taken, or nobody was reached in time.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await self._post(identity, body, timestamp)
        except TimeoutError:
            raise WebhookError(f"no answer within {self._timeout_s:g} s.") from None
        except AddressError as error:
            raise WebhookError(str(error)) from None
        except httpx.HTTPError as error:
            raise WebhookError(f"{type(error).__name__}: {error}") from None
        if not 200 <= status < 300:
            raise WebhookError(f"the receiver answered {status}.")

    async def _post(self, identity: str, body: bytes, timestamp: int) -> int:
        """The status of the reply from the first address that can be reached."""
        host = self._url.raw_host.decode("ascii")
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        headers = {
            "host": self._url.netloc.decode("ascii"),
            "content-type": "application/json",
            "user-agent": "ray-sft-monitor",
            "idempotency-key": identity,
            "webhook-id": identity,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(
                self._secret, identity=identity, timestamp=timestamp, body=body
            ),
        }
        # no client around it: that would write the URL, which may hold a secret, into the log
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            *others, last = await resolve(host, port, allow_private=self._allow_private)
            for address in others:
                try:
                    return await self._ask(transport, address, body, headers)
                except httpx.ConnectError:
                    continue
            return await self._ask(transport, last, body, headers)

    async def _ask(
        self,
        transport: httpx.AsyncHTTPTransport,
        address: str,
        body: bytes,
        headers: Mapping[str, str],
    ) -> int:
        """Connects to the address that was checked: the name could lead elsewhere by now."""
        request = httpx.Request(
            "POST",
            self._url.copy_with(host=address),
            content=body,
            headers=headers,
            extensions={"sni_hostname": self._url.raw_host.decode("ascii")},
        )
        reply = await transport.handle_async_request(request)
        await reply.aclose()
        return reply.status_code
