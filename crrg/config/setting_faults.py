"""What is wrong with a setting of the process, by the name under which a person set it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from difflib import get_close_matches

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from crrg.errors import ConfigError

_MOST_SHOWN = 40


def setting_fault(error: ValidationError, fields: Mapping[str, FieldInfo], prefix: str, file: str) -> ConfigError:
    """Return the error that names variable or file, and the value unless it is a secret.

    Args:
        error: What the settings say.
        fields: The settings.
        prefix: What the names of their variables begin with.
        file: Name of the file that may set them, too.
    """
    (problem, *_) = error.errors()
    name = str(problem["loc"][0])
    field = fields.get(name)
    # a setting that goes by a library's variable is named so already
    variable = name if field is None else f"{prefix}{name.upper()}"
    is_secret = field is None or field.annotation is SecretStr
    value = str(problem["input"])
    is_of_variable = os.environ.get(variable) == value
    shown = "" if is_secret else f"; it is {value[:_MOST_SHOWN]!r}"
    return ConfigError(f"{problem['msg']}{shown}", variable if is_of_variable else f"{name} in {file}")


def check_names(names: Collection[str], fields: Mapping[str, FieldInfo], file: str) -> None:
    """Check that a file names known settings only: one that is misspelt would be left at its default in silence.

    Args:
        names: Those in the file.
        fields: The settings.
        file: Its name.

    Raises:
        ConfigError: There is no such setting.
    """
    known = {*fields, *(str(field.validation_alias) for field in fields.values() if field.validation_alias)}
    unknown = []
    for name in sorted(set(names) - known):
        near = get_close_matches(name.lower().removeprefix("crrg_"), fields, n=1)
        unknown.append(f"`{name}` (`{near[0]}`?)" if near else f"`{name}`")
    if unknown:
        raise ConfigError(f"unknown setting: {', '.join(unknown)}; correct it; known: {', '.join(fields)}", file)
