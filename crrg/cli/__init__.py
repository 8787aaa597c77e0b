"""The ``crrg`` command: each command is a few lines over the library or a flow. Nothing heavy is imported for help."""

from crrg.cli.main import app

__all__ = ["app"]
