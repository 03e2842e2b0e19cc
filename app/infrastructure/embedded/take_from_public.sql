/* Run by the owner of a database, or better a superuser: takes from PUBLIC what anybody could stop the others with.
   PostgreSQL lets every role fill the table of locks, and the disk with large objects, temporary tables or WAL;
   TimescaleDB lets it occupy the workers with jobs. Of the extension's functions those are meant that change something,
   which their volatility tells, and the names of those that only look. The roles of other programs in the same database
   keep what they had; what belongs to a role that we are not is left as it is. In the databases that every server has
   all of this would still be theirs: so they may not log in to those. */
DO $$
DECLARE
    others   text := (SELECT string_agg(quote_ident(rolname), ', ') FROM pg_roles
                      WHERE  rolcanlogin AND NOT rolsuper AND rolname NOT IN ('predlog_service', 'predlog_reader'));
    routine  regprocedure;
    other    name;
BEGIN
    FOR routine IN
        SELECT p.oid
        FROM   pg_proc p
        WHERE  p.pronamespace = 'pg_catalog'::regnamespace
          AND  p.proname ~ ('^pg_(try_)?advisory_|^lo_|^(loread|lowrite|txid_current)$'
                            || '|^pg_(notify|export_snapshot|logical_emit_message|current_xact_id)$')
          AND  pg_has_role(p.proowner, 'USAGE') AND has_function_privilege('public', p.oid, 'EXECUTE')
        UNION ALL
        SELECT p.oid
        FROM   pg_proc p
        JOIN   pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
        JOIN   pg_extension e ON e.oid = d.refobjid AND e.extname = 'timescaledb'
        WHERE  p.provolatile = 'v'
          AND  p.proname !~ ('(size|row_count|status|uuid|uuidv7)$|(^|_)(show|get|is|to)_'
                             || '|^(locf|interpolate|time_bucket_gapfill|cagg_watermark|tsl_loaded)')
          AND  pg_has_role(p.proowner, 'USAGE') AND has_function_privilege('public', p.oid, 'EXECUTE')
    LOOP
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
    FOR other IN
        SELECT datname
        FROM   pg_database
        WHERE  datname IN ('postgres', 'template1') AND datname <> current_database() AND pg_has_role(datdba, 'USAGE')
          AND  has_database_privilege('public', oid, 'CONNECT')
    LOOP
        EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', other);
        IF others IS NOT NULL THEN
            EXECUTE format('GRANT CONNECT ON DATABASE %I TO %s', other, others);
        END IF;
    END LOOP;
    IF has_schema_privilege('public', current_schema(), 'CREATE')
       AND (SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = current_schema()) THEN
        EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    END IF;
END
$$;
