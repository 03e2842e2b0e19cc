#!/bin/sh
# Run once by the database's image, when the volume is new: makes the owner, with the password that the superuser was
# given, and leaves the superuser without one. Whoever is root in the container can still be the superuser: psql -U postgres.
set -e
psql --set=ON_ERROR_STOP=1 --no-psqlrc --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" \
    --set=password="$POSTGRES_PASSWORD" --set=database="$POSTGRES_DB" --set=superuser="$POSTGRES_USER" <<'SQL'
SET password_encryption = 'scram-sha-256';
CREATE ROLE predlog LOGIN CREATEROLE PASSWORD :'password';
GRANT SET ON PARAMETER temp_file_limit TO predlog;
ALTER DATABASE :"database" OWNER TO predlog;
ALTER ROLE :"superuser" PASSWORD NULL;
SQL
