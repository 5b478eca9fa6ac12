"""The way to a server: proxies and certificates, as the environment has them."""

import asyncio
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from pmem.backends.transport import Answer, Transport
from pmem.errors import BackendError
from tests.command import KEY, Ran, people, pmem
from tests.local_server import REPLY, Local, serving
from tests.stub import Stub


@pytest.fixture
def server() -> Iterator[Local]:
    yield from serving(Local())


@pytest.fixture
def proxy() -> Iterator[Local]:
    yield from serving(Local())


def post(url: str) -> Answer:
    async def inside() -> Answer:
        sent = Transport({})
        try:
            return await sent.post(url + "/chat/completions", [b"{}"])
        finally:
            await sent.close()

    return asyncio.run(inside())


def personas(folder: Path, url: str, *options: str, **env: str) -> Ran:
    run = ["personas", "-m", "openai:stub", "--base-url", url, "--no-cache", *options]
    return pmem(*run, folder=folder, input=people(1), env=env, hurried=True)


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_of_the_environment(tmp_path: Path, stub: Stub, proxy: Local, scheme: str) -> None:
    address = f"{scheme}me:pass@127.0.0.1:{proxy.server_port}"
    ran = personas(tmp_path, stub.url, HTTP_PROXY=address, HTTPS_PROXY="http://127.0.0.1:9")
    assert ran.status == 0
    assert proxy.targets == [f"{stub.url}/chat/completions"] * 8 and stub.counts()["requests"] == 8
    assert {headers["proxy-authorization"] for headers in proxy.headers} == {"Basic bWU6cGFzcw=="}  # me:pass


def test_a_server_that_no_proxy_is_for(tmp_path: Path, stub: Stub, proxy: Local) -> None:
    address = f"http://127.0.0.1:{proxy.server_port}"
    for none in ("127.0.0.1", "*", "example.org, 127.0.0.1"):
        assert personas(tmp_path, stub.url, HTTP_PROXY=address, NO_PROXY=none).status == 0
    assert not proxy.targets


def test_a_proxy_that_is_none(tmp_path: Path, stub: Stub) -> None:
    ran = personas(tmp_path, stub.url, HTTP_PROXY="http://me:pass@127.0.0.1:9")
    assert (ran.status, stub.counts()["requests"]) == (1, 0)
    assert f"pmem: openai:stub: no connection to the proxy for {stub.url}: " in ran.err and "pass" not in ran.err
    ran = personas(tmp_path, stub.url, HTTP_PROXY="socks5://me:pass@127.0.0.1:9")
    assert ran.status == 1 and ran.err.endswith("pmem: HTTP_PROXY: '127.0.0.1:9' is no proxy of HTTP\n")


def test_the_key_of_the_environment_beats_netrc(tmp_path: Path, server: Local) -> None:
    (tmp_path / ".netrc").write_text("machine localhost login me password pass\ndefault login a password b\n")
    (tmp_path / ".netrc").chmod(0o600)
    personas(tmp_path, server.url, "--retries", "0")
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}


# ---- certificates ------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Local]:
    """A server whose certificate an authority of our own has signed, which stands in ca.pem."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = Local()
    server.scheme = "https"
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    yield from serving(server)


def test_a_certificate_of_nobody_known_is_refused(secure: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(BackendError, match="certificate verify failed") as caught:
        post(secure.url)
    assert "\n" not in caught.value.message and caught.value.message.startswith(secure.url)
    assert not secure.bodies


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_an_authority_of_ones_own_is_believed(
    secure: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    assert post(secure.url).body == REPLY
    other = secure.url.replace("localhost", "127.0.0.1")  # the certificate is for a name that this isn't
    with pytest.raises(BackendError, match="certificate"):
        post(other)
    monkeypatch.setenv(variable, os.fspath(tmp_path / "none.pem"))
    with pytest.raises(BackendError, match=r"none\.pem: no such file"):
        post(secure.url)
    (tmp_path / "none.pem").write_text("no certificate")
    with pytest.raises(BackendError, match=r"none\.pem: certificates can't be read"):
        post(secure.url)
