"""One task per library call: retry, name, GPU slot and ids; no logic (``flows/`` order them, ``crrg`` does it)."""

import logging

# Prefect gives the loggers of PREFECT_LOGGING_EXTRA_LOGGERS its handler and no level: all below a warning would be lost
_library = logging.getLogger("crrg")
if _library.level == logging.NOTSET:
    _library.setLevel(logging.INFO)
