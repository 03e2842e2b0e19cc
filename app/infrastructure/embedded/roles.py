"""The roles of the embedded server: a superuser whom nobody can log in as, an owner, and one for the service.

What is said here is said in single-user mode, where a line is a statement: before a port is open there are passwords.
"""

from __future__ import annotations

from pathlib import Path

NAME = "predlog"  # of the owner and of the database
SERVICE = "predlog_service"
SUPERUSER = "predlog_superuser"

# In a cluster of an earlier version the owner is the superuser of the cluster, who cannot be demoted: so it is renamed,
# by another one, because nobody can rename themselves.
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

# The owner goes on managing the roles that it has made as a superuser, such as Grafana's.
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

# Said in the database itself: all that people have made there was the superuser's, and becomes the owner's. What an
# extension brings stays, and a sequence goes with its column.
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

# Anybody may take advisory locks, make large objects, and more; only a superuser can change that.
TAKE_FROM_PUBLIC = Path(__file__).with_name("take_from_public.sql")


def of_cluster(owners_password: str, services_password: str, *, is_new: bool) -> list[str]:
    """What makes the roles, and the database if the cluster is new; to be run in the database `postgres`."""
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
    """What is then to be run in the database itself."""
    return [OWN_OBJECTS, TAKE_FROM_PUBLIC.read_text().rstrip().removesuffix(";")]
