"""The rights of the roles in the database: one list, applied at the end of every `flask db upgrade`.

There are three roles: the owner migrates and maintains; `predlog_service` answers requests; `predlog_reader` is
Grafana's. The latter two are optional: if one role owns all tables and serves, there is nothing to grant. Only the
owner has rights to a new table until this list names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from psycopg2.extensions import cursor
from psycopg2.sql import SQL, Composable, Identifier

from app.infrastructure.maintenance.relations import LEVELS
from app.infrastructure.roles import catalog

SERVICE = "predlog_service"
READER = "predlog_reader"

FAMILIES = ("stats", "latency", "dropped", "summary", "summary_latency")
AGGREGATES = tuple(f"prediction_{family}_{level}" for family in FAMILIES for level in LEVELS)

Rights = Mapping[str, frozenset[str]]
READ = frozenset({"SELECT"})

# By table, view or sequence. A right to one column is written "UPDATE (column)".
SERVICE_RIGHTS: Rights = {
    "alembic_version": READ,
    "alert_evaluation": frozenset({"SELECT", "UPDATE (evaluated_at)"}),
    "alert_event": frozenset({"SELECT", "INSERT", "DELETE"}),
    "alert_message": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "alert_state": frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}),
    "api_key": frozenset({"SELECT", "UPDATE (last_used_at)"}),
    "prediction_batch": frozenset({"SELECT", "INSERT"}),
    "prediction_half": frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"}),
    "prediction_log": frozenset({"SELECT", "INSERT", "DELETE"}),
    "prediction_log_id_seq": frozenset({"USAGE"}),
    "prediction_dropped": frozenset({"SELECT", "INSERT"}),
    "prediction_model": READ,
    "prediction_model_allowance": frozenset({"SELECT", "INSERT", "UPDATE"}),
    "prediction_invalid_hour": READ,
    "prediction_invalidation": frozenset({"SELECT", "INSERT"}),
    "prediction_stats_state": READ,
    "prediction_summary": frozenset({"SELECT", "INSERT"}),
    **dict.fromkeys(AGGREGATES, READ),
}
SERVICE_FUNCTIONS = frozenset({
    "prediction_dropped_remove", "prediction_end_reads", "prediction_log_ids", "prediction_model_remove_unused",
    "prediction_model_unused", "prediction_stats_forget", "prediction_summary_forget", "prediction_summary_remove",
})  # fmt: skip
# The right is to the whole log, because TimescaleDB cannot grant single columns of a table in the columnstore.
READER_RIGHTS: Rights = dict.fromkeys(
    (
        "prediction_log",
        *AGGREGATES,
        "prediction_stats_state",
        "prediction_invalidation",
        "prediction_invalid_hour",
        "prediction_dropped",
        "prediction_summary",
    ),
    READ,
)

EXISTING = "SELECT rolname FROM pg_roles WHERE rolname IN %s"

GRANTED = """
SELECT c.relname, c.relkind = 'S',
       ARRAY(SELECT format('UPDATE (%%s)', attname)
             FROM   pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
       ARRAY(SELECT privilege_type FROM aclexplode(c.relacl) WHERE grantee = r.oid)
       || ARRAY(SELECT format('%%s (%%s)', privilege_type, attname)
                FROM   pg_attribute, aclexplode(attacl)
                WHERE  attrelid = c.oid AND grantee = r.oid)
FROM   pg_class c, pg_roles r
WHERE  c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND r.rolname = %s
"""

# CONNECT is granted to the role by name: another Predlog on the server may take it from PUBLIC (take_from_public.sql).
ENTRANCE = """
SELECT current_database(), current_schema(),
       EXISTS (SELECT FROM pg_database, aclexplode(datacl)
               WHERE  datname = current_database() AND grantee = %(role)s::regrole AND privilege_type = 'CONNECT'),
       has_schema_privilege(%(role)s, current_schema(), 'USAGE')
"""

# Triggers run their functions for every role; only the owner may attach them to another table or call a procedure.
OWN_FUNCTIONS = """
SELECT oid::regprocedure::text
FROM   pg_proc
WHERE  pronamespace = current_schema()::regnamespace AND proname LIKE 'prediction%'
  AND  pg_has_role(proowner, 'USAGE') AND has_function_privilege('public', oid, 'EXECUTE')
"""

TAKE_FROM_PUBLIC = Path(__file__).parents[1] / "embedded" / "take_from_public.sql"
# One function of each kind whose rights only the owner of PostgreSQL's or the extension's functions can take away.
STILL_PUBLIC = """
SELECT DISTINCT proname::text
FROM   pg_proc
WHERE  proname IN ('pg_advisory_lock', 'lo_create', 'pg_logical_emit_message', 'add_job')
  AND  has_function_privilege('public', oid, 'EXECUTE')
ORDER  BY 1
"""

# There the reader has the rights of PUBLIC: it can take advisory locks, of which the server has one table, and make
# large objects.
OTHER_DATABASES = """
SELECT datname
FROM   pg_database
WHERE  datname IN ('postgres', 'template1') AND datname <> current_database() AND datallowconn
  AND  has_database_privilege(%s, oid, 'CONNECT')
ORDER  BY 1
"""

# Functions with the owner's rights look for other functions in these schemas (PIN_SEARCH_PATH of the migrations), and
# PostgreSQL may prefer one that a role has made there to its own. Once PUBLIC has the right no more, the owner needs it
# by name, to migrate.
MAY_CREATE = """
SELECT DISTINCT
       CASE WHEN n.nspname = current_schema() THEN format('GRANT CREATE ON SCHEMA %%I TO %%I; ', n.nspname, user)
            ELSE '' END
       || format('REVOKE CREATE ON SCHEMA %%I FROM %%s', n.nspname,
                 CASE WHEN has_schema_privilege('public', n.oid, 'CREATE') THEN 'PUBLIC' ELSE r.rolname END)
FROM   pg_roles r, pg_namespace n
WHERE  r.rolname IN %s AND has_schema_privilege(r.oid, n.oid, 'CREATE')
  AND (n.nspname = current_schema() OR n.oid IN (SELECT extnamespace FROM pg_extension WHERE extname = 'timescaledb'))
ORDER  BY 1
"""


def apply(cursor: cursor) -> None:
    """Give each of the two roles that exists the listed rights, and no others; correct rights are not touched.

    The cursor must be in a transaction.
    """
    catalog.change(cursor, lambda: _apply(cursor))


def _apply(cursor: cursor) -> None:
    cursor.execute(OWN_FUNCTIONS)
    for (signature,) in cursor.fetchall():
        cursor.execute(f"REVOKE EXECUTE ON ROUTINE {signature} FROM PUBLIC")
    cursor.execute(EXISTING, [(SERVICE, READER)])
    roles = {name for (name,) in cursor.fetchall()}
    if roles:
        cursor.execute(TAKE_FROM_PUBLIC.read_text())
    if SERVICE in roles:
        _grant(cursor, SERVICE, SERVICE_RIGHTS, SERVICE_FUNCTIONS)
    if READER in roles:
        _grant(cursor, READER, READER_RIGHTS, frozenset())


def still_public(cursor: cursor) -> list[str]:
    """Return the functions that the reader should not run and still can, because only their owner could change that."""
    cursor.execute(STILL_PUBLIC)
    return [name for (name,) in cursor.fetchall()]


def other_databases(cursor: cursor) -> list[str]:
    """Return the default databases that the reader may log in to, because only their owner could change that."""
    cursor.execute(OTHER_DATABASES, [READER])
    return [name for (name,) in cursor.fetchall()]


def may_create(cursor: cursor) -> str | None:
    """Return a sentence if one of the roles may create functions that the owner's functions would call, else None.

    It names the commands that take the right away, because only the owner of the schema could run them.
    """
    cursor.execute(MAY_CREATE, [(SERVICE, READER)])
    if commands := [command for (command,) in cursor.fetchall()]:
        return (
            "Roles without the owner's rights could take them with functions that they create beside Predlog's own. "
            f"Run as the owner of the schema, or as a superuser: {'; '.join(commands)}"
        )
    return None


def is_migrated(cursor: cursor) -> bool:
    """Return whether the tables exist."""
    cursor.execute("SELECT to_regclass('prediction_log') IS NOT NULL")
    return bool((cursor.fetchone() or (False,))[0])


def _grant(cursor: cursor, role: str, rights: Rights, functions: frozenset[str]) -> None:
    cursor.execute(ENTRANCE, {"role": role})
    database, schema, may_connect, may_enter = cursor.fetchone() or ("", "", True, True)
    name = Identifier(role)
    if not may_connect:
        cursor.execute(SQL("GRANT CONNECT ON DATABASE {} TO {}").format(Identifier(database), name))
    if not may_enter:
        cursor.execute(SQL("GRANT USAGE ON SCHEMA {} TO {}").format(Identifier(schema), name))
    cursor.execute(GRANTED, [role])
    for relation, is_sequence, columns, granted in cursor.fetchall():
        # After a downgrade a column may be missing.
        wanted = {right for right in rights.get(relation, ()) if "(" not in right or right in columns}
        if wanted == set(granted):
            continue
        target = SQL("{} {}").format(SQL("SEQUENCE" if is_sequence else "TABLE"), Identifier(relation))
        cursor.execute(SQL("REVOKE ALL ON {} FROM {}").format(target, name))
        if wanted:
            listed: list[Composable] = [SQL(right) for right in sorted(wanted)]
            cursor.execute(SQL("GRANT {} ON {} TO {}").format(SQL(", ").join(listed), target, name))
    cursor.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
        " AND proname = ANY (%s) AND NOT has_function_privilege(%s, oid, 'EXECUTE')",
        [sorted(functions), role],
    )
    for (signature,) in cursor.fetchall():
        cursor.execute(SQL("GRANT EXECUTE ON ROUTINE {} TO {}").format(SQL(signature), name))
