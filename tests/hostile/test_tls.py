"""TLS connections that break: during the handshake, in a response, or with an unexpected peer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from collector.errors import NetworkError
from collector.http import Http, Request
from collector.http.session import Pauses

ONCE = Pauses(tries=1)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def close_at_once(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def answer_in_plain_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1 << 16):
        pass
    writer.close()


async def cut_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 10)
    await writer.drain()
    writer.transport.abort()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a certificate for localhost, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file = tmp_path / "localhost.pem"
    file.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return file


@asynccontextmanager
async def server(serve: Serve, certificate: Path | None = None) -> AsyncIterator[str]:
    """Run a server on this machine; yield its https URL."""
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listening:
        yield f"https://localhost:{listening.sockets[0].getsockname()[1]}/"


async def get(url: str) -> bytes:
    async with Http(pauses=ONCE, timeout_s=2.0) as http:
        return await http.get(Request(url), lambda answer: answer.body)


@pytest.mark.slow
@pytest.mark.parametrize("serve", [close_at_once, answer_in_plain_http, never_answer])
async def test_a_handshake_that_fails_is_a_network_error(serve: Serve) -> None:
    async with server(serve) as url:
        with pytest.raises(NetworkError):
            await get(url)


async def test_an_untrusted_certificate_is_named_as_the_cause(certificate: Path) -> None:
    async with server(cut_the_body, certificate) as url:
        with pytest.raises(NetworkError, match="certificate"):
            await get(url)


async def test_a_response_that_is_cut_is_a_network_error(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)
    async with server(cut_the_body, certificate) as url:
        with pytest.raises(NetworkError):
            await get(url)
