"""The roles of the embedded server: a superuser without a login, an owner, and a role for the service.

The statements run in single-user mode, in which each line is a statement, so that passwords exist before a port is
open.
"""

from __future__ import annotations

from pathlib import Path

NAME = "predlog"  # of the owner and of the database
SERVICE = "predlog_service"
SUPERUSER = "predlog_superuser"

# In a cluster of an earlier version the owner is the superuser of the cluster, which cannot be demoted. So another role
# renames it, because no role can rename itself.
RENAME_SUPERUSER = f"""
DO $$ BEGIN
    IF (SELECT rolname FROM pg_roles WHERE oid = 10) = '{NAME}' THEN
        CREATE ROLE predlog_renames SUPERUSER;
        SET SESSION AUTHORIZATION predlog_renames;
        ALTER ROLE {NAME} RENAME TO {SUPERUSER};
        SET SESSION AUTHORIZATION {SUPERUSER};
        DROP ROLE predlog_renames;
    END IF;
END $$
"""
CLOSE_SUPERUSER = f"ALTER ROLE {SUPERUSER} NOLOGIN PASSWORD NULL"

CREATE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role}; END IF;
END $$
"""
OWNER = f"ALTER ROLE {NAME} LOGIN CREATEDB CREATEROLE PASSWORD '{{password}}'"
LOGIN = f"ALTER ROLE {SERVICE} LOGIN PASSWORD '{{password}}'"
LIMIT_TEMP_FILES = f"GRANT SET ON PARAMETER temp_file_limit TO {NAME}"

# The owner keeps managing the roles that it made as a superuser, such as Grafana's.
MANAGE = f"""
DO $$ DECLARE other name; BEGIN
    FOR other IN SELECT rolname FROM pg_roles
                 WHERE rolname !~ '^pg_' AND NOT rolsuper AND rolname NOT IN ('{NAME}', '{SERVICE}') LOOP
        EXECUTE format('GRANT %I TO {NAME} WITH ADMIN OPTION', other);
    END LOOP;
END $$
"""

CREATE_DATABASE = f"CREATE DATABASE {NAME} OWNER {NAME}"
OWN_DATABASE = f"ALTER DATABASE {NAME} OWNER TO {NAME}"

# Run in Predlog's database: objects that users made there belonged to the superuser, and now go to the owner. Objects
# of extensions keep their owner, and a sequence follows the owner of its table.
OWN_OBJECTS = f"""
DO $$ DECLARE command text; BEGIN
    FOR command IN
        WITH theirs AS (
            SELECT 'pg_namespace'::regclass AS class, oid, 'SCHEMA' AS kind, quote_ident(nspname) AS name
            FROM   pg_namespace WHERE nspowner = 10 AND oid::regnamespace::text !~ '^(pg_|information_schema$|public$)'
            UNION ALL
            SELECT 'pg_class'::regclass, oid,
                   CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                                ELSE 'TABLE' END, oid::regclass::text
            FROM   pg_class WHERE relowner = 10
              AND relnamespace::regnamespace::text !~ '^(pg_|information_schema$)'
              AND relkind IN ('r', 'p', 'v', 'm', 'S')
            UNION ALL
            SELECT 'pg_proc'::regclass, oid, 'ROUTINE', oid::regprocedure::text
            FROM   pg_proc WHERE proowner = 10 AND pronamespace::regnamespace::text !~ '^(pg_|information_schema$)'
            UNION ALL
            SELECT 'pg_type'::regclass, oid, 'TYPE', oid::regtype::text
            FROM   pg_type WHERE typowner = 10
              AND typnamespace::regnamespace::text !~ '^(pg_|information_schema$)' AND typtype IN ('e', 'd', 'r')
        )
        SELECT format('ALTER %s %s OWNER TO {NAME}', kind, name)
        FROM   theirs t
        WHERE  NOT EXISTS (SELECT FROM pg_depend d
                           WHERE d.classid = t.class AND d.objid = t.oid AND d.deptype IN ('e', 'i', 'a')
                             AND (t.kind = 'SEQUENCE' OR d.deptype = 'e'))
    LOOP
        EXECUTE command;
    END LOOP;
END $$
"""

# By default every role may take advisory locks, make large objects, and more; only a superuser can change that.
TAKE_FROM_PUBLIC = Path(__file__).with_name("take_from_public.sql")


def of_cluster(owners_password: str, services_password: str, *, is_new: bool) -> list[str]:
    """Return statements that make the roles, and the database if the cluster is new; run them in `postgres`."""
    return [
        RENAME_SUPERUSER,
        CLOSE_SUPERUSER,
        CREATE.format(role=NAME),
        CREATE.format(role=SERVICE),
        OWNER.format(password=owners_password),
        LOGIN.format(password=services_password),
        LIMIT_TEMP_FILES,
        MANAGE,
        CREATE_DATABASE if is_new else OWN_DATABASE,
    ]


def of_database() -> list[str]:
    """Return statements to run in Predlog's database afterwards."""
    return [OWN_OBJECTS, TAKE_FROM_PUBLIC.read_text().rstrip().removesuffix(";")]
