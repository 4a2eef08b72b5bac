"""The operator's proxy and what is reached without it, told to each browser in its own way.

Chromium matches a name exactly (net/docs/proxy.md in its source); Firefox a name with all below it
(nsProtocolProxyService.cpp); Camoufox, through Playwright's Juggler, any host that ends in the text.

Firefox gets its proxy by its preferences: Playwright 1.62 would give it one for http:// pages only, and would send the
proxy's password to every site in a header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from playwright.async_api import ProxySettings

from browser.errors import EngineMissing
from browser.settings import BrowserSettings, EngineName
from contract.proxies import DirectHost, NoProxy, Proxy, parse_no_proxy, parse_proxy

log = structlog.get_logger("browser")


@dataclass(frozen=True)
class WayOut:
    """All that a browser with a proxy of its own may reach: two ports on 127.0.0.1.

    `stream_port` is where the page's answers go, which never leave the machine.
    """

    port: int
    stream_port: int | None


def chromium_way_out(way_out: WayOut) -> list[str]:
    """Return Chromium's arguments for it.

    Chromium reaches loopback directly unless `<-loopback>` is in the list (net/docs/proxy.md in its source). With a
    proxy it resolves no names; the rules see to it that it never does, whatever it may want one for. WebRTC sends UDP
    past every proxy but for its policy, whose switch has two names in the versions of these years.
    """
    direct = ["<-loopback>", *([] if way_out.stream_port is None else [f"127.0.0.1:{way_out.stream_port}"])]
    return [
        f"--proxy-server=http://127.0.0.1:{way_out.port}",
        f"--proxy-bypass-list={';'.join(direct)}",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
        "--webrtc-ip-handling-policy=disable_non_proxied_udp",
        # Hiding addresses that are not told anyway joins a multicast group, of which the local network hears.
        "--disable-features=WebRtcHideLocalIpsWithMdns",
        "--dns-prefetch-disable",
    ]


def firefox_way_out(way_out: WayOut) -> Mapping[str, str | int | bool]:
    """Return Firefox's preferences for it, which Camoufox has too.

    Their meanings: modules/libpref/init/StaticPrefList.yaml and all.js in Firefox's source. A SOCKS server with remote
    names makes Firefox resolve none itself (nsDNSService2.cpp, DNSForbiddenByActiveProxy); HTTP goes to the HTTP proxy
    all the same, and all else, WebSockets included, to the SOCKS server, which is the same listener.
    """
    kinds = ("http", "ssl", "socks")
    return {
        "network.proxy.type": 1,
        **{f"network.proxy.{kind}": "127.0.0.1" for kind in kinds},
        **{f"network.proxy.{kind}_port": way_out.port for kind in kinds},
        "network.proxy.socks_version": 5,
        "network.proxy.socks_remote_dns": True,
        "network.proxy.socks5_remote_dns": True,
        "network.proxy.no_proxies_on": "" if way_out.stream_port is None else f"127.0.0.1:{way_out.stream_port}",
        "network.proxy.allow_hijacking_localhost": True,
        # Firefox's own services would go directly where the proxy fails, or from the start.
        "network.proxy.failover_direct": False,
        "network.proxy.allow_bypass": False,
        "network.dns.native_https_query": False,
        "network.dns.use_https_rr_as_altsvc": False,
        "network.dns.upgrade_with_https_rr": False,
        "network.trr.mode": 5,
        "network.http.http3.enable": False,
        "network.http.http3.enabled": False,
        "network.http.speculative-parallel-limit": 0,
        "network.predictor.enabled": False,
        "network.dns.disablePrefetchFromHTTPS": True,
        "media.peerconnection.ice.proxy_only": True,
        "media.peerconnection.ice.default_address_only": True,
        "media.peerconnection.ice.no_host": True,
        "media.peerconnection.ice.obfuscate_host_addresses": False,  # that announces names on the local network
    }


def proxy_settings(engine: EngineName, settings: BrowserSettings) -> ProxySettings | None:
    """Return Playwright's proxy settings, None where there is no proxy or the preferences hold it."""
    configured = _configured(settings)
    if configured is None or engine == "firefox":
        return None
    proxy, direct = configured
    bypass = [text for entry in direct.hosts for text in (_chromium if engine == "chromium" else _juggler)(entry)]
    given: ProxySettings = {"server": proxy.server, "bypass": ",".join(bypass)}
    if proxy.username:
        given |= {"username": proxy.username, "password": proxy.password}
    return given


def firefox_preferences(settings: BrowserSettings) -> Mapping[str, str | int]:
    """Return Firefox's preferences for the proxy. Raises EngineMissing if it cannot use this one."""
    configured = _configured(settings)
    if configured is None:
        return {"network.proxy.type": 0}  # else the desktop's own
    proxy, direct = configured
    if problem := proxy.unusable_by("firefox"):
        raise EngineMissing(f"HTTPS_PROXY: {problem}")
    return {
        "network.proxy.type": 1,
        "network.proxy.http": proxy.host,
        "network.proxy.http_port": proxy.port,
        "network.proxy.ssl": proxy.host,
        "network.proxy.ssl_port": proxy.port,
        "network.proxy.no_proxies_on": ",".join(map(_firefox, direct.hosts)),
    }


def _configured(settings: BrowserSettings) -> tuple[Proxy, NoProxy] | None:
    if settings.https_proxy is None:
        return None
    direct = parse_no_proxy(settings.no_proxy or "")
    return None if direct.everything else (parse_proxy(settings.https_proxy), direct)


def _chromium(entry: DirectHost) -> list[str]:
    port = "" if entry.port is None else f":{entry.port}"
    if isinstance(entry.host, str):
        return [f"{entry.host}{port}", f"*.{entry.host}{port}"]
    if entry.host.num_addresses > 1:
        return [str(entry.host)]
    address = entry.host.network_address
    return [f"[{address}]{port}" if address.version == 6 else f"{address}{port}"]


def _firefox(entry: DirectHost) -> str:
    port = "" if entry.port is None else f":{entry.port}"
    if isinstance(entry.host, str):
        return f"{entry.host}{port}"
    address = entry.host.network_address
    prefix = f"/{entry.host.prefixlen}" if entry.host.num_addresses > 1 else ""
    return f"[{address}]{prefix}{port}" if address.version == 6 else f"{address}{prefix}{port}"


def _juggler(entry: DirectHost) -> list[str]:
    """Return what there is for it: Juggler knows no networks and no ports, and loopback is direct in Firefox anyway."""
    if entry.port is None and isinstance(entry.host, str):
        return [entry.host]
    if entry.port is None and not isinstance(entry.host, str):
        address = entry.host.network_address
        if entry.host.num_addresses == 1:
            return [str(address)]
        if address.is_loopback or address.is_link_local:
            return []
    log.warning("no_proxy_entry_ignored", engine="camoufox", reason="it takes names and addresses only")
    return []
