"""How Alembic finds the database and the metadata; run by `flask db …`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from alembic import context
from alembic.operations import MigrateOperation, Operations
from flask import current_app
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from app.infrastructure.postgres import migration_checks, migration_lock
from app.infrastructure.roles import reader_limits, rights
from app.infrastructure.tables import metadata

# The triggers of the migrations write to nothing but shards on the same node, which is why Citus's warning about them
# does not hold. One shard after the other: a transaction that has used several connections may not alter tables.
CITUS_SETTINGS = (
    "SET citus.enable_unsafe_triggers = on",
    "SET citus.multi_shard_modify_mode = 'sequential'",
    "SET citus.create_object_propagation = 'immediate'",
)
DISTRIBUTE = "SELECT create_distributed_table('{table}', 'model_name', colocate_with => 'prediction_log')"
# Citus refuses several statements about a distributed table in one string. A statement ends with a semicolon that is
# in no quotes and in no comment.
STATEMENT = re.compile(r"(?:--[^\n]*|'[^']*'|(\$\w*\$).*?\1|[^;])+", re.DOTALL)
# Functions with their owner's rights must find names only in Predlog's schema and in TimescaleDB's, and in temporary
# tables last.
PIN_SEARCH_PATH = """
DO $$
DECLARE
    signature  text;
    path       text := concat_ws(', ', quote_ident(current_schema()),
        (SELECT quote_ident(nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
         WHERE  extname = 'timescaledb' AND nspname <> current_schema()), 'pg_temp');
BEGIN
    FOR signature IN
        SELECT oid::regprocedure FROM pg_proc
        WHERE  pronamespace = current_schema()::regnamespace AND proname LIKE 'prediction%' AND prosecdef
          AND  NOT EXISTS (SELECT FROM unnest(proconfig) AS setting WHERE setting LIKE 'search_path=%')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s', signature, path);
    END LOOP;
END
$$
"""
SQL = Path(__file__).parent / "sql"

OLD_REVISION = re.compile("00[0-9]{2}")
LAST_OLD_REVISION = "0012"
BROUGHT_OVER_TO = "5_dropped_and_keys"
TABLES_SINCE = {
    "plain": ("tables/prediction_model", "tables/prediction_dropped_rollups", "tables/prediction_stats_lock"),
    "timescale": ("tables/prediction_model", "tables/prediction_dropped_rollups", "tables/prediction_stats_holder"),
}
SUMS_SINCE = {
    "plain": ("common/duration_ns",),
    "timescale": (
        "common/duration_ns", "bring_over/stats_out", "tables/prediction_stats_timescale", "bring_over/stats_in"
    ),
}  # fmt: skip

WHERE_WE_ARE = "SELECT quote_ident(current_database()), current_setting('search_path')"


@Operations.register_operation("storage_engine")
class StorageEngineOperation(MigrateOperation):
    """Tell which engine the database was migrated to."""

    @classmethod
    def storage_engine(cls, operations: Operations) -> str:
        """`timescale`, `plain` or `citus`."""
        return str(operations.get_bind().scalar(text("SELECT engine FROM prediction_stats_state")))


@Operations.register_operation("run_sql")
class RunSqlOperation(MigrateOperation):
    """Run files of the folder sql."""

    @classmethod
    def run_sql(cls, operations: Operations, *names: str) -> None:
        """Run these files in order; those in `timescale/`, `plain/` and `citus/` only if that is the database's engine.

        On Citus a file in `citus/` replaces the file of the same name in another folder, one in `citus/summaries/` that
        in `summaries/`, and other files in `plain/` run, too.
        """
        engine = operations.storage_engine()
        files = [_file(name, engine) for name in names]
        _run_sql(operations.get_bind(), [file for file in files if file], statement_by_statement=engine == "citus")


@Operations.register_operation("distribute")
class DistributeOperation(MigrateOperation):
    """Spread tables over the nodes of Citus by the name of the model."""

    @classmethod
    def distribute(cls, operations: Operations, *tables: str) -> None:
        """Distribute these tables so that all rows of a model are on one node; on other engines do nothing.

        Tables in one group must have the same collation, and the names of models are sorted by their bytes.
        """
        if operations.storage_engine() == "citus":
            for table in tables:
                operations.execute(f'ALTER TABLE {table} ALTER COLUMN model_name TYPE text COLLATE "C"')
                operations.execute(DISTRIBUTE.format(table=table))


def _file(name: str, engine: str) -> str | None:
    folder, _, file = name.partition("/")
    if engine == "citus" and folder != "timescale":
        own = f"citus/{name if folder == 'summaries' else file}"
        if (SQL / f"{own}.sql").exists():
            return own
    other = {"timescale": ("plain", "citus"), "plain": ("timescale", "citus"), "citus": ("timescale",)}
    return None if folder in other[engine] else name


def _run_sql(connection: Connection, names: Iterable[str], *, statement_by_statement: bool = False) -> None:
    with connection.connection.cursor() as cursor:
        for name in names:
            sql = (SQL / f"{name}.sql").read_text()
            for statement in _statements(sql) if statement_by_statement else [sql]:
                cursor.execute(statement)
        cursor.execute(PIN_SEARCH_PATH)


def _statements(sql: str) -> list[str]:
    return [match[0] for match in STATEMENT.finditer(sql) if match[0].strip()]


def include_name(name: str | None, type_: str, parent_names: dict[str, str | None]) -> bool:
    """Leave to the migrations what SQLAlchemy does not describe: aggregates and what TimescaleDB makes itself."""
    return type_ != "table" or name in metadata.tables


def include_object(item: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:
    """Leave out the index that has one column more on Citus than SQLAlchemy knows."""
    return name != "prediction_log_request"


def run_migrations_online() -> None:
    engine = current_app.extensions["migrate"].db.engine
    with _connect(engine) as connection:
        migration_checks.check(connection)
        with migration_lock.alone(connection), reader_limits.enforced(engine):
            # The timeouts of the service's statements do not hold for migrations.
            connection.execute(text("SET statement_timeout = 0"))
            is_citus = bool(connection.scalar(text(migration_checks.CITUS)))
            if is_citus:
                for setting in CITUS_SETTINGS:
                    connection.execute(text(setting))
            connection.commit()
            _bring_over(connection)
            context.configure(
                connection=connection,
                target_metadata=metadata,
                include_name=include_name,
                include_object=include_object if is_citus else None,
                transaction_per_migration=True,
                **current_app.extensions["migrate"].configure_args,
            )
            with context.begin_transaction():
                context.run_migrations()
            if "search_path" in str(connection.engine.url.query.get("options", "")):
                _tell_jobs_the_search_path(connection)
            connection.commit()
            with connection.begin(), connection.connection.cursor() as cursor:
                rights.apply(cursor)
                if warning := rights.may_create(cursor):
                    print(f"predlog: {warning}", file=sys.stderr)


def _bring_over(connection: Connection) -> None:
    """Turn the schema of Predlog 0.1, which twelve revisions made, into the schema of the first five revisions here.

    Only the last of the twelve can be brought over; an earlier one ends the command with an error.
    """
    with connection.begin():
        if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return
        revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
        if revision is None or not OLD_REVISION.fullmatch(revision):
            return
        if revision != LAST_OLD_REVISION:
            raise SystemExit(
                f"The database is at revision {revision} of Predlog 0.1. Run `flask db upgrade` of the last 0.1 first, "
                f"which brings it to {LAST_OLD_REVISION}, and then this one."
            )
        engine = str(connection.scalar(text("SELECT engine FROM prediction_stats_state")))
        routines = [
            f"{folder}/{path.stem}" for folder in ("common", engine) for path in sorted((SQL / folder).iterdir())
        ]
        changes = [*SUMS_SINCE[engine], *TABLES_SINCE[engine]]
        _run_sql(connection, ["bring_over/before", *changes, *routines, "bring_over/after"])
        if engine == "timescale":
            _run_sql(connection, ["bring_over/jobs"])
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": BROUGHT_OVER_TO})


def _connect(engine: Engine) -> Connection:
    try:
        return engine.connect()
    except OperationalError as error:
        raise SystemExit(f"The database is not available: {str(error.orig).strip()}") from None


def _tell_jobs_the_search_path(connection: Connection) -> None:
    """Give TimescaleDB's jobs the search path of the address, because they connect without the address."""
    if connection.scalar(text(migration_checks.EXTENSION)):
        name, path = connection.execute(text(WHERE_WE_ARE)).one()
        statement = f"ALTER ROLE CURRENT_USER IN DATABASE {name} SET search_path = {path}"
        connection.exec_driver_sql(statement.replace("%", "%%"), {})
    connection.commit()


if context.is_offline_mode():
    raise SystemExit("flask db --sql is not supported: the migrations look at the database to choose their engine.")
run_migrations_online()
