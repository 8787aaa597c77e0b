"""Secrets of the pseudonyms that tests use: always the same, and written down nowhere, so that nobody can copy them."""

from __future__ import annotations

import hashlib

KEY = hashlib.sha256(b"pseudonyms of the tests").hexdigest()
NEW_KEY = hashlib.sha256(b"pseudonyms of the tests after a change").hexdigest()
