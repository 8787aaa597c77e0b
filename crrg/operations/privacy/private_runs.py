"""What the private orchestrator of a root in a folder recorded of patients: settings of nights that read studies again.

Its home is ``.prefect/``, beside what it drives; where an orchestrator is set, its records are its own and out of reach
here. Knows SQLite and nothing of the orchestrator: a row that holds an id goes, whatever table it is in, and what hangs
on it by the database's own rules.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Set
from contextlib import closing
from pathlib import Path

from crrg.errors import StorageError
from crrg.operations.root import PREFECT_HOME
from crrg.storage import Storage

DATABASE = f"{PREFECT_HOME}/prefect.db"
WAIT_S = 10.0
"""How long a run that writes just now is waited for."""
_ID = re.compile(r"(?<![a-z0-9])[a-z2-7]{26}(?![a-z0-9])")


def forget_private_runs(storage: Storage, ids: Set[str]) -> int:
    """Remove the records that hold any of some ids; return how many went.

    Args:
        storage: The root; one in an object store has no private orchestrator.
        ids: Pseudonyms.

    Raises:
        StorageError: The database is in use, or damaged; what was done before stays done.
    """
    if not storage.is_local:
        return 0
    num_removed = 0
    for stored in storage.list_objects(PREFECT_HOME):
        is_database = stored.key.startswith(DATABASE)
        if not is_database and _mentions(storage.get(stored.key).decode("latin-1"), ids):
            storage.delete(stored.key)
            num_removed += 1
    path = Path(storage.url(DATABASE))
    if path.exists():
        try:
            num_removed += _forget_rows(path, ids)
        except sqlite3.Error as error:
            reason = (
                f"the private orchestrator's records are in use or damaged ({error}); run it again when no command "
                "runs on this root, or delete the folder"
            )
            raise StorageError(reason, PREFECT_HOME, retryable=True) from error
    return num_removed


def _forget_rows(path: Path, ids: Set[str]) -> int:
    """Delete rows, overwrite what they held, and empty the journal, which holds older pages."""
    with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as database:
        for setting in ("foreign_keys = ON", "secure_delete = ON"):
            database.execute(f"PRAGMA {setting}")
        database.execute("BEGIN IMMEDIATE")
        found = list(_rows_with(database, ids))
        for table, row in found:
            database.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))
        database.execute("COMMIT")
        if found:
            is_busy = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if is_busy:
                raise sqlite3.OperationalError("its journal is in use")
    return len(found)


def _rows_with(database: sqlite3.Connection, ids: Set[str]) -> Iterator[tuple[str, int]]:
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        table = '"' + name.replace('"', '""') + '"'
        for row, *values in database.execute(f"SELECT rowid, * FROM {table}"):
            if any(_mentions(text, ids) for text in _texts(values)):
                yield table, row


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str | bytes):
            yield value if isinstance(value, str) else value.decode("latin-1")


def _mentions(text: str, ids: Set[str]) -> bool:
    return any(name in ids for name in _ID.findall(text))
