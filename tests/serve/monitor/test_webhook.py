"""Messages reach a real HTTP server, signed; and nothing but public addresses is asked."""

import base64
import hashlib
import hmac
import socket
import ssl
import subprocess
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from ray_sft.core import ServeError
from serve.monitor.addresses import AddressError, is_public, resolve
from serve.monitor.webhook import Webhook, WebhookError, sign, webhook_secret

from .conftest import SECRET, Receiver


def webhook(url: str, **changes: object) -> Webhook:
    plain = {"secret": SECRET, "timeout_s": 5.0, "allow_private": True}
    return Webhook(url, **{**plain, **changes})


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The worked example of the specification's test vectors (svix)."""
    secret = webhook_secret({"RAY_SFT_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
    found = sign(
        secret,
        identity="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.asyncio
async def test_a_message_is_delivered_with_its_signature(receiver: Receiver) -> None:
    await webhook(receiver.url).send("alert.1", b'{"a": 1}', timestamp=1_750_000_000)
    ((headers, body),) = receiver.got
    assert body == b'{"a": 1}'
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == headers["idempotency-key"] == "alert.1"
    signed = b"alert.1." + headers["webhook-timestamp"].encode() + b"." + body
    digest = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"


@pytest.mark.asyncio
async def test_the_url_is_not_written_into_the_log(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        await webhook(receiver.url + "?key=in-the-url").send("a", b"{}", timestamp=1)
    assert receiver.paths == ["/hook?key=in-the-url"]
    assert "in-the-url" not in caplog.text


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [301, 307, 400, 404, 410, 500])
async def test_any_other_answer_is_a_failure_and_no_redirect_is_followed(
    receiver: Receiver, status: int
) -> None:
    receiver.answers = [status]
    with pytest.raises(WebhookError, match=f"answered {status}"):
        await webhook(receiver.url).send("a", b"{}", timestamp=1)
    assert receiver.paths == ["/hook"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
async def test_this_machine_is_not_asked(receiver: Receiver, host: str) -> None:
    guarded = webhook(f"http://{host}:{receiver.port}/hook", allow_private=False)
    with pytest.raises(WebhookError, match="has the private address"):
        await guarded.send("a", b"{}", timestamp=1)
    assert receiver.got == []


@pytest.mark.asyncio
async def test_a_name_that_does_not_exist_is_told() -> None:
    with pytest.raises(AddressError, match="cannot be resolved"):
        await resolve("no-such-host.invalid", 80, allow_private=True)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("2002:808:808::1", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("127.8.8.8", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("192.0.2.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("2001:db8::1", False),
        ("2001::1", False),
        ("::127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::808:808", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses_are_told_from_private_ones(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.asyncio
async def test_a_receiver_that_does_not_answer_costs_the_time_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never reads
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(WebhookError, match=r"no answer within 0\.1 s"):
            await webhook(url, timeout_s=0.1).send("a", b"{}", timestamp=1)


@pytest.mark.asyncio
async def test_a_closed_port_is_a_failure() -> None:
    with pytest.raises(WebhookError, match="ConnectError"):
        await webhook("http://127.0.0.1:9/").send("a", b"{}", timestamp=1)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["localhost", "other.example"])
async def test_a_certificate_is_checked_for_the_name_and_not_the_address(
    name: str, tmp_path: Path, serve_receiver: Callable[..., Receiver]
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip

    def encrypt(server: ThreadingHTTPServer) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)

    receiver = serve_receiver(encrypt)
    trusting = ssl.create_default_context(cafile=certificate)
    hook = webhook(f"https://localhost:{receiver.port}/hook", tls=trusting)
    if name == "localhost":
        await hook.send("a", b"{}", timestamp=1)
        assert receiver.got[0][0]["host"] == f"localhost:{receiver.port}"
    else:
        with pytest.raises(WebhookError, match="certificate verify failed"):
            await hook.send("a", b"{}", timestamp=1)
        assert receiver.got == []


@pytest.mark.parametrize(
    ("text", "said"), [("short", "has 5 bytes"), ("whsec_!", "no base64 follows")]
)
def test_a_secret_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(ServeError, match=said):
        webhook_secret({"RAY_SFT_WEBHOOK_SECRET": text})
    assert webhook_secret({}) == b""


def test_nothing_is_sent_unsigned() -> None:
    with pytest.raises(ServeError, match="Set RAY_SFT_WEBHOOK_SECRET"):
        webhook("https://example.com/", secret=b"")
