"""``python -m crrg.cli`` is the ``crrg`` command."""

from crrg.cli import app

app()
