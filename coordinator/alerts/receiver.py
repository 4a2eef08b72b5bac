"""The other end: one POST of an alert to `ALERT_URL`, and what came back, in words without the address."""

from __future__ import annotations

import codecs
import math
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

import aiohttp
from yarl import URL

from contract.proxies import NoProxy, Proxy, parse_no_proxy, parse_proxy
from coordinator.alerts.alert import Alert
from coordinator.alerts.signature import read_secrets, sign
from coordinator.errors import SettingsError
from coordinator.settings import Settings

ANSWER_TIMEOUT_S: Final = 10.0
_CONNECT_TIMEOUT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 3600.0
_REFUSED: Final = frozenset({400, 413, 415, 422})
"""Statuses that are about this alert and not about the address or the receiver's health."""


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt. `problem` is None exactly if the receiver has the alert.

    `refused` is whether it said that this very alert is wrong; `retry_after_s` is how long it wants to be left alone.
    """

    status: int | None = None
    problem: str | None = None
    refused: bool = False
    retry_after_s: float = 0.0

    @property
    def delivered(self) -> bool:
        """Whether the receiver has it."""
        return self.problem is None

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], now: float) -> Outcome:
        """Return the outcome of an answer; any 2xx is a success. `now` is in Unix seconds."""
        if 200 <= status < 300:
            return cls(status)
        try:
            phrase = f"HTTP {status} {HTTPStatus(status).phrase}"
        except ValueError:
            phrase = f"HTTP {status}"
        if 300 <= status < 400:
            # As the specification has it; another host must not get what was meant for this one.
            return cls(status, f"the receiver answered {phrase}; redirects are not followed: name its last address")
        waits_s = _retry_after_s(headers.get("retry-after", ""), now)
        return cls(status, f"the receiver answered {phrase}", status in _REFUSED, waits_s)


def _retry_after_s(text: str, now: float) -> float:
    """Return the seconds in a Retry-After (RFC 9110, section 10.2.3), an hour at most; 0 for none, or what is none."""
    try:
        seconds = float(text) if text.strip().isdecimal() else parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), _LONGEST_WAIT_S) if math.isfinite(seconds) else 0.0


class Receiver:
    """Sends one alert at a time. Opened by the first, inside the loop."""

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        url: str,
        keys: tuple[bytes, ...],
        *,
        proxy: Proxy | None = None,
        no_proxy: NoProxy | None = None,
        extra_ca_file: Path | None = None,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Raises SettingsError if the authorities cannot be used."""
        self._url, self._keys, self._wall = URL(url), keys, wall
        goes_direct = proxy is None or (no_proxy is not None and no_proxy.covers(url))
        self._proxy = None if proxy is None or goes_direct else _proxy_url(proxy)
        self._timeout = aiohttp.ClientTimeout(total=answer_timeout_s, connect=min(_CONNECT_TIMEOUT_S, answer_timeout_s))
        self._tls = _tls(extra_ca_file)
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Return the receiver that the settings name, None without one. Raises SettingsError."""
        if settings.alert_url is None or settings.alert_secret_file is None:
            return None
        return cls(
            settings.alert_url,
            read_secrets(settings.alert_secret_file),
            proxy=parse_proxy(settings.https_proxy) if settings.https_proxy else None,
            no_proxy=parse_no_proxy(settings.no_proxy or ""),
            extra_ca_file=settings.extra_ca_file,
        )

    async def deliver(self, alert: Alert) -> Outcome:
        """Send it once; whatever goes wrong is an outcome with a problem, never an error."""
        body, now = alert.body(), self._wall()
        headers = {"content-type": "application/json", "user-agent": "tabfleet"}
        headers |= sign(self._keys, alert.id, int(now), body)
        try:
            # Only the head of the answer counts: its body may be endless, and is not read.
            async with self._open().post(
                self._url,
                data=body,
                headers=headers,
                proxy=self._proxy,
                allow_redirects=False,
                timeout=self._timeout,
            ) as response:
                outcome = Outcome.of(response.status, response.headers, self._wall())
                response.close()
                return outcome
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(problem=_explain(error, through_proxy=self._proxy is not None))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Alerts are rare: a connection that is kept would be dead by the next one.
            connector = aiohttp.TCPConnector(ssl=self._tls, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
            )
        return self._session

    async def close(self) -> None:
        """Close the connection, if there is one; idempotent."""
        if self._session is not None:
            await self._session.close()


def _proxy_url(proxy: Proxy) -> URL:
    url = URL(proxy.server)
    return url.with_user(proxy.username).with_password(proxy.password) if proxy.username else url


def _tls(extra_ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if extra_ca_file is not None:
        try:
            # A byte order mark before the first line would hide the first certificate.
            pem = extra_ca_file.read_bytes().removeprefix(codecs.BOM_UTF8)
            context.load_verify_locations(cadata=pem.decode("ascii", errors="ignore"))
        except (OSError, ssl.SSLError) as error:
            cause = (isinstance(error, OSError) and error.strerror) or "it holds no certificates in PEM form"
            raise SettingsError(f"EXTRA_CA_FILE: the file cannot be used for alerts: {cause}") from None
    return context


def _explain(error: Exception, *, through_proxy: bool) -> str:  # noqa: PLR0911 - a table
    """Return what went wrong; never the error's own text, which holds the address."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return f"the proxy in HTTPS_PROXY refused (HTTP {error.status})"
        case aiohttp.ClientProxyConnectionError():
            return "the proxy in HTTPS_PROXY cannot be reached"
        case aiohttp.ClientConnectorCertificateError():
            return "the receiver's certificate is not trusted; name its authority in EXTRA_CA_FILE"
        case aiohttp.ClientSSLError():
            return "TLS failed; does ALERT_URL begin with what its port speaks?"
        case aiohttp.ClientConnectorDNSError():
            return "the receiver's name cannot be resolved"
        case TimeoutError():
            return "the receiver did not answer in time"
        case aiohttp.ClientConnectorError():
            return "the receiver does not accept connections"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return "the connection was closed without an answer"
        case aiohttp.ClientResponseError():
            return "what answered does not speak HTTP"
        case _:
            way = " through the proxy" if through_proxy else ""
            return f"the alert could not be sent{way} ({type(error).__name__})"
