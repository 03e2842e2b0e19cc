"""Who may do what in the database: one list, put into effect at the end of every `flask db upgrade`.

Three roles: the owner migrates and maintains; `predlog_service` answers requests; `predlog_reader` is Grafana's. The
latter two are optional: if one role owns all and serves, there is nothing to grant. A table that a migration adds
is nobody's but the owner's until it stands here.
"""

from __future__ import annotations

from collections.abc import Mapping

from psycopg2.extensions import cursor
from psycopg2.sql import SQL, Composable, Identifier

SERVICE = "predlog_service"
READER = "predlog_reader"

AGGREGATES = tuple(
    f"prediction_{family}_{level}" for family in ("stats", "latency") for level in ("minute", "hour", "day")
)

Rights = Mapping[str, frozenset[str]]
READ = frozenset({"SELECT"})

# By table, view or sequence. A right to one column is written "UPDATE (column)".
SERVICE_RIGHTS: Rights = {
    "alembic_version": READ,
    "api_key": READ,
    "prediction_log": frozenset({"SELECT", "INSERT", "DELETE"}),
    "prediction_log_id_seq": frozenset({"USAGE"}),
    "prediction_loss": frozenset({"SELECT", "INSERT"}),
    "prediction_stats_change": READ,
    "prediction_stats_state": READ,
    **dict.fromkeys(AGGREGATES, READ),
}
SERVICE_FUNCTIONS = frozenset({"prediction_end_reads"})
# The log as a whole: TimescaleDB cannot grant single columns of a table that is in the columnstore.
READER_RIGHTS: Rights = dict.fromkeys(
    ("prediction_log", *AGGREGATES, "prediction_stats_state", "prediction_stats_change", "prediction_loss"), READ
)

EXISTING = "SELECT rolname FROM pg_roles WHERE rolname IN %s"

GRANTED = """
SELECT c.relname, c.relkind = 'S',
       ARRAY(SELECT privilege_type FROM aclexplode(c.relacl) WHERE grantee = r.oid)
       || ARRAY(SELECT format('%%s (%%s)', privilege_type, attname)
                FROM   pg_attribute, aclexplode(attacl)
                WHERE  attrelid = c.oid AND grantee = r.oid)
FROM   pg_class c, pg_roles r
WHERE  c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND r.rolname = %s
"""

ENTRANCE = """
SELECT current_database(), current_schema(),
       has_database_privilege(%(role)s, current_database(), 'CONNECT'),
       has_schema_privilege(%(role)s, current_schema(), 'USAGE')
"""

# Triggers run their functions for everybody; nobody but the owner may hang them on another table or call a procedure.
OWN_FUNCTIONS = """
SELECT oid::regprocedure::text, proname, pg_get_function_identity_arguments(oid)
FROM   pg_proc
WHERE  pronamespace = current_schema()::regnamespace AND proname LIKE 'prediction%%'
  AND  pg_has_role(proowner, 'USAGE') AND has_function_privilege('public', oid, 'EXECUTE')
"""

# What PostgreSQL and TimescaleDB let anybody do and a reader could stop the others with: fill the table of locks, the
# disk with large objects or WAL, the workers with jobs. Of TimescaleDB's functions those that change something; whether
# a function is one of them is told by its volatility, and the names of those that only look.
DANGEROUS = r"""
SELECT p.oid
FROM   pg_proc p
WHERE  p.pronamespace = 'pg_catalog'::regnamespace
  AND  p.proname ~ '^(pg_(try_)?advisory_|lo_|loread$|lowrite$)|^pg_(notify|export_snapshot|logical_emit_message|current_xact_id)$|^txid_current$'
UNION ALL
SELECT p.oid
FROM   pg_proc p
JOIN   pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN   pg_extension e ON e.oid = d.refobjid AND e.extname = 'timescaledb'
WHERE  p.provolatile = 'v'
  AND  p.proname !~ '(size|row_count|status)$|(^|_)(show|get|is|to)_|^(locf|interpolate|time_bucket_gapfill|cagg_watermark|tsl_loaded)'
"""  # noqa: E501

STILL_PUBLIC = f"""
SELECT DISTINCT p.proname::text
FROM   pg_proc p
WHERE  p.oid IN ({DANGEROUS}) AND has_function_privilege('public', p.oid, 'EXECUTE')
ORDER  BY 1
"""

# Roles of other programs in the same database keep what they had. What another role owns is left as it is.
TAKE_FROM_PUBLIC = f"""
DO $$
DECLARE
    others   text := (SELECT string_agg(quote_ident(rolname), ', ') FROM pg_roles
                      WHERE  rolcanlogin AND NOT rolsuper AND rolname NOT IN ('{SERVICE}', '{READER}'));
    routine  regprocedure;
BEGIN
    FOR routine IN SELECT p.oid FROM pg_proc p WHERE p.oid IN ({DANGEROUS}) AND pg_has_role(p.proowner, 'USAGE')
                                               AND  has_function_privilege('public', p.oid, 'EXECUTE') LOOP
        EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', routine);
        IF others IS NOT NULL THEN
            EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %s', routine, others);
        END IF;
    END LOOP;
    IF has_database_privilege('public', current_database(), 'TEMP')
       AND (SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database()) THEN
        EXECUTE format('REVOKE TEMP ON DATABASE %I FROM PUBLIC', current_database());
        IF others IS NOT NULL THEN
            EXECUTE format('GRANT TEMP ON DATABASE %I TO %s', current_database(), others);
        END IF;
    END IF;
    IF has_schema_privilege('public', current_schema(), 'CREATE')
       AND (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = current_schema()) THEN
        EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    END IF;
END
$$
"""


def apply(cursor: cursor) -> None:
    """Give each of the two roles that exists the rights listed here, and no others; what is right is not touched."""
    cursor.execute(OWN_FUNCTIONS)
    for signature, _, _ in cursor.fetchall():
        cursor.execute(f"REVOKE EXECUTE ON ROUTINE {signature} FROM PUBLIC")
    cursor.execute(EXISTING, [(SERVICE, READER)])
    roles = {name for (name,) in cursor.fetchall()}
    if roles:
        cursor.execute(TAKE_FROM_PUBLIC)
    if SERVICE in roles:
        _grant(cursor, SERVICE, SERVICE_RIGHTS, SERVICE_FUNCTIONS)
    if READER in roles:
        _grant(cursor, READER, READER_RIGHTS, frozenset())


def still_public(cursor: cursor) -> list[str]:
    """The functions that the reader should not be able to run, and can, for only their owner could take them away."""
    cursor.execute(STILL_PUBLIC)
    return [name for (name,) in cursor.fetchall()]


def is_migrated(cursor: cursor) -> bool:
    """Whether there is anything to have rights to."""
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
    for relation, is_sequence, granted in cursor.fetchall():
        wanted = rights.get(relation, frozenset())
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
