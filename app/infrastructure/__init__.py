"""PostgreSQL: tables, stores, the two storage engines, the embedded server."""
