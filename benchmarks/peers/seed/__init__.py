"""The design that Predlog is measured against: FastAPI, Pydantic, SQLAlchemy's async ORM, asyncpg, uvicorn."""
