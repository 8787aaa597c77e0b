"""Which archives may be sent what a delivery writes, and the secret that one of them asks for.

The address is a parameter of a form, so whoever may start a flow run chooses it; what is sent there names patients.
Hence whoever sets up the process that delivers says in ``CRRG_ARCHIVES`` which addresses may be meant. Knows no way to
send.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from crrg.config.base import Settings
from crrg.errors import ConfigError

VARIABLE = "CRRG_ARCHIVES"


def check_allowed(address: str, settings: Settings, *, is_typed: bool) -> None:
    """Refuse to send to an archive that this process was not set up for.

    Args:
        address: ``host:port``, ``dicoms://host:port`` or ``https://host/root``, as of the form.
        settings: With the addresses that are allowed; where there is none, this machine is.
        is_typed: Whether the address was given to this very process, by somebody who may read its secrets: then, where
            no address is set, any is allowed that is not sent a secret.

    Raises:
        ConfigError: The address is not allowed; the message names the way out.
    """
    if settings.archives:
        if _plain(address) not in map(_plain, settings.archives):
            raise ConfigError(f"{VARIABLE} does not name this archive; add its address there, as it is here", "send_to")
        return
    if is_loopback(_host(address)):
        return
    if not is_typed:
        raise ConfigError(
            f"a flow run sends only to archives that {VARIABLE} names; set it where the worker of the pool `deliver` "
            "is started",
            "send_to",
        )
    if address.startswith(("http://", "https://")) and settings.archive_authorization.get_secret_value():
        raise ConfigError(
            f"CRRG_ARCHIVE_AUTHORIZATION is sent only to archives that {VARIABLE} names; set it to this address",
            "send_to",
        )


def is_loopback(host: str) -> bool:
    """Return whether a name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host(address: str) -> str:
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:  # a bracket that is not closed
        return ""


def _plain(address: str) -> str:
    """Return an address as it is compared: hosts have no case, and a root means the same with a slash at its end."""
    scheme, separator, rest = address.rpartition("://")
    host, slash, path = rest.rstrip("/").partition("/")
    return f"{scheme.lower()}{separator}{host.lower()}{slash}{path}"
