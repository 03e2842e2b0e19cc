"""PostgreSQL: tables, stores, the storage engines, the embedded server."""
