"""Packages that only some work needs, and that an installation may lack."""

from __future__ import annotations

from importlib.util import find_spec

from crrg.errors import ConfigError


def check_installed(module: str, extra: str, setting: str) -> None:
    """Check that a package is there before work begins that needs it.

    Args:
        module: Its name as it is imported.
        extra: Extra of this package that brings it.
        setting: What asks for it.

    Raises:
        ConfigError: It is not installed.
    """
    if find_spec(module) is None:
        way_out = f"`make env`, or pip install -e '.[{extra}]' in the checkout"
        raise ConfigError(f"{module} is not installed; install it with {way_out}", setting)
