"""The tables of a memory, and which files and databases are one.

All numbers of a memory stand in its tables, and everything else (vector indexes, snapshots) can be
made again from them.
"""

from solomonic.core import CheckpointError

VERSION = 1
APPLICATION_ID = 0x536F6C4D
"""In the header of an SQLite file: "SolM"."""

COLUMNS = (
    "id, time, kind, text, source, start, valid_from, valid_to, segment, step, log_weight, hits,"
    " meta, vector"
)
"""Of an item, in the order in which rows are read; the vector last, as it is longest."""

TYPES = {
    "sqlite": {
        "id": "INTEGER PRIMARY KEY AUTOINCREMENT",  # an id never comes again
        "bigint": "INTEGER",
        "bytes": "BLOB",
        "real": "REAL",
        "clustered": "WITHOUT ROWID",
    },
    "postgresql": {
        "id": "BIGINT PRIMARY KEY",
        "bigint": "BIGINT",
        "bytes": "BYTEA",
        "real": "DOUBLE PRECISION",
        "clustered": "",
    },
}
TABLES = (
    # What belongs to the memory as a whole: version, uuid, dim, metric, next, log_floor.
    "CREATE TABLE memory_about (name TEXT PRIMARY KEY, value TEXT NOT NULL) {clustered}",
    "CREATE TABLE memory_item (id {id}, time {real} NOT NULL, kind TEXT NOT NULL,"
    " text TEXT NOT NULL, source TEXT NOT NULL, start {bigint} NOT NULL, valid_from {real},"
    " valid_to {real}, segment {bigint} NOT NULL, step {bigint} NOT NULL,"
    " log_weight {real} NOT NULL, hits {bigint} NOT NULL, meta TEXT, vector {bytes})",
    "CREATE INDEX memory_item_source ON memory_item (source)",
    "CREATE TABLE memory_segment (id {bigint} PRIMARY KEY, t0 {bigint} NOT NULL, t1 {bigint},"
    " stats {bytes} NOT NULL)",
    "CREATE TABLE memory_state (name TEXT PRIMARY KEY, data {bytes} NOT NULL)",
    # What the change detector saw since its state was last saved, float64 in little-endian order.
    "CREATE TABLE memory_observed (first {bigint} PRIMARY KEY, count {bigint} NOT NULL,"
    " data {bytes} NOT NULL)",
    # Which items went since the last snapshot of an index, so that indexes can follow.
    "CREATE TABLE memory_forgotten (seq {id}, item {bigint} NOT NULL)",
)
WORDS = (
    # The text stands in memory_item alone; triggers keep its words in step with it.
    "CREATE VIRTUAL TABLE memory_words USING fts5(text, content='memory_item', content_rowid='id',"
    " tokenize='unicode61 remove_diacritics 2')",
    "CREATE TRIGGER memory_item_new AFTER INSERT ON memory_item BEGIN"
    " INSERT INTO memory_words (rowid, text) VALUES (new.id, new.text); END",
    "CREATE TRIGGER memory_item_gone AFTER DELETE ON memory_item BEGIN"
    " INSERT INTO memory_words (memory_words, rowid, text) VALUES ('delete', old.id, old.text);"
    " END",
)
"""Of SQLite."""


def statements(dialect: str) -> list[str]:
    """What makes the tables of an empty database."""
    return [statement.format(**TYPES[dialect]) for statement in TABLES]


def check_version(version: int, place: str) -> None:
    """Refuse tables of another version.

    Raises:
        CheckpointError: a newer solomonic has written them.
    """
    if version != VERSION:
        raise CheckpointError(
            f"the memory {place} has version {version} and this solomonic reads version {VERSION};"
            " open it with the solomonic that wrote it, or update this one."
        )
