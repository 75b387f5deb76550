"""Statements about many rows at once, the same for every number of them, on both databases.

Rows and keys are without the ledger's id, in the order of the table's columns and of its primary key. What a statement
is made of are names of tables and columns, never values.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_TYPES: dict[type, str] = {
    sa.Integer: "int4",
    sa.BigInteger: "int8",
    sa.Boolean: "bool",
    sa.LargeBinary: "bytea",
    sa.Text: "text",
}
"""PostgreSQL's types of columns."""


def insert_rows(connection: Connection, table: sa.Table, ledger_id: int, rows: list[tuple[Any, ...]]) -> None:
    """Insert many rows the fastest way each database has: COPY, or one prepared statement."""
    columns = _names(table.columns)
    if _is_postgres(connection):
        raw: Any = connection.connection.driver_connection
        types = [_type_of(column) for column in table.columns]
        with raw.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN (FORMAT BINARY)') as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row((ledger_id, *row))
        return
    marks = ", ".join("?" * len(table.columns))
    statement = f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks})'  # noqa: S608
    connection.exec_driver_sql(statement, [(ledger_id, *row) for row in rows])


def write_rows(connection: Connection, table: sa.Table, ledger_id: int, rows: Sequence[Sequence[Any]]) -> None:
    """Insert many rows, or put them in place of those with the same primary keys."""
    if not rows:
        return
    if _is_postgres(connection):
        connection.exec_driver_sql(_writing(table, is_postgres=True), (ledger_id, *_columns_of(rows)))
    else:
        connection.exec_driver_sql(_writing(table, is_postgres=False), [(ledger_id, *row) for row in rows])


def delete_rows(connection: Connection, table: sa.Table, ledger_id: int, keys: Sequence[Sequence[Any]]) -> None:
    """Delete the rows with these primary keys, as many of them as there are."""
    if not keys:
        return
    if _is_postgres(connection):
        connection.exec_driver_sql(_deleting(table, is_postgres=True), (*_columns_of(keys), ledger_id))
    else:
        connection.exec_driver_sql(_deleting(table, is_postgres=False), [(ledger_id, *key) for key in keys])


def find_rows(
    connection: Connection,
    ledger_id: int,
    table: sa.Table,
    columns: tuple[str, ...],
    keys: Sequence[Sequence[Any]],
    *,
    only: str = "",
) -> Iterator[Any]:
    """The rows in which these columns have one of these values, or all where there are no columns.

    ``only`` is a condition in SQL, literal so that an index on it can be used.
    """
    is_postgres = _is_postgres(connection)
    statement = _finding(table, columns, only, is_postgres=is_postgres)
    for chunk in chunks_of(keys):
        if not columns:
            values: tuple[Any, ...] = (ledger_id,)
        elif is_postgres:
            values = (*_columns_of(chunk), ledger_id)
        else:
            values = (json.dumps(chunk), ledger_id)
        yield from connection.exec_driver_sql(statement, values)


def chunks_of(values: Sequence[Any], size: int = 5_000) -> Iterator[Sequence[Any]]:
    """The values in their order, so many at a time."""
    for i in range(0, len(values), size):
        yield values[i : i + size]


def own_columns(table: sa.Table) -> list[sa.Column[Any]]:
    """What a row says beside whose ledger it is, in the order of the table."""
    return [column for column in table.columns if column.name != "ledger_id"]


@cache
def _writing(table: sa.Table, *, is_postgres: bool) -> str:
    key = [column.name for column in table.primary_key]
    insert = f'INSERT INTO "{table.name}" ({_names(table.columns)})'
    changed = ", ".join(f'"{c.name}" = excluded."{c.name}"' for c in table.columns if c.name not in key)
    conflict = f"ON CONFLICT ({_names(table.primary_key)}) DO UPDATE SET {changed}"
    if is_postgres:
        return f"{insert} SELECT %s, * FROM unnest({_arrays(own_columns(table))}) {conflict}"  # noqa: S608
    return f"{insert} VALUES ({', '.join('?' * len(table.columns))}) {conflict}"


@cache
def _deleting(table: sa.Table, *, is_postgres: bool) -> str:
    key = [column for column in table.primary_key if column.name != "ledger_id"]
    if is_postgres:
        same = " AND ".join(f't."{column.name}" = k.k{i}' for i, column in enumerate(key))
        keys = f"unnest({_arrays(key)}) AS k ({_numbered(key)})"
        return f'DELETE FROM "{table.name}" AS t USING {keys} WHERE {same} AND t.ledger_id = %s'  # noqa: S608
    same = " AND ".join(f'"{column.name}" = ?' for column in key)
    return f'DELETE FROM "{table.name}" WHERE ledger_id = ? AND {same}'  # noqa: S608


@cache
def _finding(table: sa.Table, columns: tuple[str, ...], only: str, *, is_postgres: bool) -> str:
    mark = "%s" if is_postgres else "?"
    conditions = [f't."{column}" = k.k{i}' for i, column in enumerate(columns)]
    conditions += [f"t.ledger_id = {mark}", *([only] if only else [])]
    selected = ", ".join(f't."{column.name}"' for column in own_columns(table))
    found = f'"{table.name}" AS t WHERE {" AND ".join(conditions)}'
    if not columns:
        return f"SELECT {selected} FROM {found}"  # noqa: S608
    if is_postgres:
        keys = f"unnest({_arrays([table.columns[column] for column in columns])}) AS k ({_numbered(columns)})"
        # The offset makes each key one look at an index, whatever the planner thinks of the size of the table.
        return f"SELECT f.* FROM {keys} CROSS JOIN LATERAL (SELECT {selected} FROM {found} OFFSET 0) AS f"  # noqa: S608
    keys = ", ".join(f"json_extract(value, '$[{i}]') AS k{i}" for i in range(len(columns)))
    return f"WITH k AS (SELECT {keys} FROM json_each(?)) SELECT {selected} FROM k CROSS JOIN {found}"  # noqa: S608


def _is_postgres(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _type_of(column: sa.Column[Any]) -> str:
    return _TYPES[type(column.type)]


def _names(columns: Any) -> str:
    return ", ".join(f'"{column.name}"' for column in columns)


def _numbered(columns: Sequence[Any]) -> str:
    return ", ".join(f"k{i}" for i in range(len(columns)))


def _arrays(columns: Sequence[sa.Column[Any]]) -> str:
    return ", ".join(f"%s::{_type_of(column)}[]" for column in columns)


def _columns_of(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
