"""Diagnosis of a connection that cannot be made, by trying it once more with the standard library.

Responsible for telling the mistakes of configuration apart that gRPC reports in OpenSSL's words, in C++ log lines, or as "the
connection was closed": TLS on one side only, a certificate that is not trusted, expired or for another name, a client
certificate that is missing, another kind of server. It reports what it saw and never decides whether a client connects. It runs
on a thread of its own that is not waited for, since the resolver of names cannot be interrupted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Final

from waymaker.client.errors import NOT_APPLIED, HandshakeError
from waymaker.client.options import Options, host_and_port
from waymaker.client.tls.certificates import context_of
from waymaker.client.tls.tls import TLS

HTTP2_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""The first bytes of an HTTP/2 client: the protocol's preface and an empty settings frame."""
FRAME_HEADER_BYTES: Final = 9
SETTINGS: Final = 4
NOT_TRUSTED: Final = frozenset({18, 19, 20, 21, 24, 27})
"""OpenSSL's codes of a chain that does not lead to a trusted authority."""
NOT_YET_VALID, EXPIRED = 9, 10
WRONG_NAME: Final = frozenset({62, 64})


async def diagnose(options: Options, within_s: float) -> HandshakeError | None:
    """Return what keeps this client and the server apart, or None where nothing was found in time."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[HandshakeError | None] = loop.create_future()

    def tell(finding: HandshakeError | None) -> None:
        if not found.done():
            found.set_result(finding)

    def work() -> None:
        finding = None
        with contextlib.suppress(OSError, ValueError):
            finding = _Probe(options, within_s / 3).finding()
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell, finding)

    threading.Thread(target=work, name="waymaker-diagnosis", daemon=True).start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            return await found
    return None


class _Probe:
    """Attempts at one server. Each step may take `step_s`."""

    def __init__(self, options: Options, step_s: float) -> None:
        self._target = options.target
        self._tls = options.tls
        self._step_s = step_s
        self._host, self._port = host_and_port(options.target)

    def finding(self) -> HandshakeError | None:
        if not self._host:
            return None
        return self._plain() if self._tls is None else self._encrypted(self._tls)

    def _connect(self) -> socket.socket:
        return socket.create_connection((self._host, self._port), timeout=self._step_s)

    # ------------------------------------------------------------------------------- without encryption

    def _plain(self) -> HandshakeError | None:
        with self._connect() as connection:
            answer = _greet(connection)
        if _is_http2(answer):
            return None
        if self._speaks_tls():
            return self._error(
                "tls_needed", "speaks TLS, and this client does not", "use tls=True, or tls=waymaker.TLS(ca=FILE)"
            )
        return self._another_service(answer)

    def _speaks_tls(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        try:
            with self._connect() as connection, context.wrap_socket(connection):
                return True
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")  # it refuses, in the language of TLS
        except OSError:
            return False

    def _speaks_plainly(self) -> bool:
        try:
            with self._connect() as connection:
                return _is_http2(_greet(connection))
        except OSError:
            return False

    # ---------------------------------------------------------------------------------- with encryption

    def _encrypted(self, tls: TLS) -> HandshakeError | None:
        try:
            answer = self._handshake(tls, _greet)
        except ssl.SSLCertVerificationError as error:
            return self._certificate(tls, error)
        except ssl.SSLError as error:
            return self._client_certificate(tls, error.reason or "") or self._not_tls()
        except OSError:
            return self._not_tls()
        if answer == b"":
            # With TLS 1.3 a server judges the client's certificate after the handshake, and gRPC's sends no alert.
            return self._client_certificate(tls, "ALERT_CERTIFICATE_REQUIRED")
        return None if _is_http2(answer) else self._another_service(answer)

    def _handshake(
        self, tls: TLS, then: Callable[[ssl.SSLSocket], bytes | None], check_name: bool = True
    ) -> bytes | None:
        context = context_of(tls)
        context.check_hostname = check_name
        with self._connect() as connection:
            name = tls.server_name or self._host
            with context.wrap_socket(connection, server_hostname=name) as encrypted:
                return then(encrypted)

    def _not_tls(self) -> HandshakeError | None:
        if self._speaks_plainly():
            return self._error("tls_not_spoken", "does not speak TLS", "connect without tls")
        return None

    def _certificate(self, tls: TLS, error: ssl.SSLCertVerificationError) -> HandshakeError:
        trusted = f"in {tls.ca}" if tls.ca is not None else "of this system"
        if error.verify_code in WRONG_NAME:
            return self._error(
                "certificate_name",
                f"shows a certificate for {self._names(tls)}, not for {tls.server_name or self._host}",
                "connect by a name that it holds, or say waymaker.TLS(server_name=NAME)",
            )
        if error.verify_code in {EXPIRED, NOT_YET_VALID}:
            when = "has expired" if error.verify_code == EXPIRED else "is not valid yet"
            return self._error(
                "certificate_expired", f"shows a certificate that {when}", "renew it, or set the clock of this machine"
            )
        if error.verify_code in NOT_TRUSTED:
            return self._error(
                "certificate_not_trusted",
                f"shows a certificate that none of the authorities {trusted} has signed",
                "name the authority that did with waymaker.TLS(ca=FILE)",
            )
        return self._error(
            "certificate_not_trusted", f"shows a certificate that is refused: {error.verify_message}", "renew it"
        )

    def _names(self, tls: TLS) -> str:
        """Return the names in the server's certificate, which is trusted apart from its name."""
        names: list[str] = []

        def look(connection: ssl.SSLSocket) -> bytes:
            certificate: Any = connection.getpeercert() or {}
            names.extend(str(name) for _, name in certificate.get("subjectAltName", ()))
            return b""

        with contextlib.suppress(OSError):
            self._handshake(tls, look, check_name=False)
        return ", ".join(names[:8]) or "another name"

    def _client_certificate(self, tls: TLS, reason: str) -> HandshakeError | None:
        """Return what the server's alert says of this client's certificate. OpenSSL's names are the text's only source."""
        if tls.cert is None and ("CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason):
            return self._error(
                "client_certificate",
                "asks for a certificate of the client, as it seems, and none was given",
                "give waymaker.TLS(cert=FILE, key=FILE)",
            )
        if tls.cert is not None and "ALERT" in reason:
            return self._error(
                "client_certificate",
                f"does not accept the certificate in {tls.cert}",
                "give one that its authority has signed with waymaker.TLS(cert=FILE, key=FILE)",
            )
        return None

    # --------------------------------------------------------------------------------------------- words

    def _another_service(self, answer: bytes | None) -> HandshakeError:
        if answer == b"":
            return self._error("not_waymaker", "hangs up at once", "is it the address of a Waymaker server?")
        if answer:
            said = "HTTP/1" if answer.startswith(b"HTTP/1") else "something else than HTTP/2"
            return self._error("not_waymaker", f"speaks {said}", "is it the address of a Waymaker server?")
        return self._error(
            "no_answer", "takes connections and says nothing", "is it a Waymaker server, and does it still run?"
        )

    def _error(self, code: str, what: str, advice: str) -> HandshakeError:
        return HandshakeError(f"{self._target} {what}", advice=advice, code=code, outcome=NOT_APPLIED)


def _greet(connection: socket.socket) -> bytes | None:
    """Return what a server says to the greeting of HTTP/2: empty where it hangs up, None where it says nothing in time."""
    try:
        connection.sendall(HTTP2_GREETING)
        return connection.recv(FRAME_HEADER_BYTES)
    except TimeoutError:
        return None
    except ConnectionError:
        return b""


def _is_http2(answer: bytes | None) -> bool:
    """Return True for the settings frame that every HTTP/2 server begins with."""
    return answer is not None and len(answer) == FRAME_HEADER_BYTES and answer[3] == SETTINGS
