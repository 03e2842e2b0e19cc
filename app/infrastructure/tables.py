"""The tables for SQLAlchemy. The migrations make the aggregates, which are left out of this metadata."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

metadata = MetaData()

# Every unique index of a hypertable must contain the partition column, so `timestamp` is in both keys.
prediction_log = Table(
    "prediction_log",
    metadata,
    Column("id", BigInteger, Identity(), nullable=False),
    Column("timestamp", DateTime(timezone=True), nullable=False),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False, server_default=text("''")),
    Column("duration_ms", Double, nullable=False),
    Column("was_successful", Boolean, nullable=False),
    Column("error", Text),
    Column("metadata", JSON),
    Column("request_id", Uuid),
    PrimaryKeyConstraint("id", "timestamp", name="prediction_log_pkey"),
    Index("prediction_log_request", "request_id", "timestamp", unique=True),
    Index("prediction_log_time", text("timestamp DESC"), text("id DESC")),
    Index("prediction_log_model_time", "model_name", text("timestamp DESC"), text("id DESC")),
    Index(
        "prediction_log_failed",
        text("timestamp DESC"),
        text("id DESC"),
        "model_name",
        postgresql_where=text("NOT was_successful"),
    ),
)

# One row: the state of the aggregates. On the plain engine they hold everything at every moment.
prediction_stats_state = Table(
    "prediction_stats_state",
    metadata,
    Column("engine", Text, primary_key=True),
    Column("invalidation_threshold", DateTime(timezone=True), nullable=False),
    Column("watermark", DateTime(timezone=True), nullable=False),
    Column("generation", BigInteger, nullable=False, server_default=text("0")),
    Column("raw_from", DateTime(timezone=True)),
    Column("minute_from", DateTime(timezone=True)),
    Column("hour_from", DateTime(timezone=True)),
    Column("day_from", DateTime(timezone=True)),
    CheckConstraint("engine IN ('timescale', 'plain', 'citus')", name="prediction_stats_state_engine"),
)

# Invalidations, for rows that changed below the watermark: append-only, so that writers never wait for each other.
prediction_invalidation = Table(
    "prediction_invalidation",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("invalid_from", DateTime(timezone=True), nullable=False),
    Column("invalid_to", DateTime(timezone=True), nullable=False),
)

# Reports of dropped predictions, by model, minute and reason; a report that is sent twice counts once by its id.
# Triggers keep the rollups that statistics read.
prediction_dropped = Table(
    "prediction_dropped",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("timestamp", DateTime(timezone=True), nullable=False),
    Column("model_name", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("reported_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    PrimaryKeyConstraint("id", "model_name", name="prediction_dropped_pkey"),
    CheckConstraint("count >= 0", name="prediction_dropped_count"),
    Index("prediction_dropped_time", "timestamp"),
    Index("prediction_dropped_model_time", "model_name", "timestamp"),
    Index("prediction_dropped_reported", "reported_at"),
)

# Summaries: predictions that clients have counted instead of sending each of them whole, by model, version and minute.
# A summary that is sent twice counts once by its id. Triggers keep the rollups that statistics read.
prediction_summary = Table(
    "prediction_summary",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("timestamp", DateTime(timezone=True), nullable=False),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("total_requests", BigInteger, nullable=False),
    Column("successful_requests", BigInteger, nullable=False),
    Column("duration_ms_sum", Double, nullable=False),
    Column("duration_ms_min", Double, nullable=False),
    Column("duration_ms_max", Double, nullable=False),
    Column("bins", ARRAY(Integer), nullable=False),
    Column("bin_calls", ARRAY(BigInteger), nullable=False),
    Column("reported_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    PrimaryKeyConstraint("id", "model_name", name="prediction_summary_pkey"),
    CheckConstraint(
        "total_requests > 0 AND successful_requests BETWEEN 0 AND total_requests", name="prediction_summary_counts"
    ),
    CheckConstraint("cardinality(bins) = cardinality(bin_calls)", name="prediction_summary_bins"),
    Index("prediction_summary_model_time", "model_name", "timestamp"),
    Index("prediction_summary_reported", "reported_at"),
)

# Every model and version that was ever logged, in the order of their bytes; one without predictions may stay a while.
prediction_model = Table(
    "prediction_model",
    metadata,
    Column("model_name", Text(collation="C"), primary_key=True),
    Column("model_version", Text(collation="C"), primary_key=True),
)

# How many new models each caller may log: GCRA's theoretical arrival time, and how many the last request was granted.
prediction_model_allowance = Table(
    "prediction_model_allowance",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("tat", DateTime(timezone=True), nullable=False),
    Column("granted", Integer, nullable=False),
)

# Predictions whose request and response come as separate events; a row stays for a while after both have come.
prediction_half = Table(
    "prediction_half",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("model_name", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("requested_at", DateTime(timezone=True)),
    Column("responded_at", DateTime(timezone=True)),
    Column("metadata", JSON),
    Column("received_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    CheckConstraint("requested_at IS NOT NULL OR responded_at IS NOT NULL", name="prediction_half_side"),
    Index("prediction_half_received", "received_at"),
)

# API keys. Of a secret only the SHA-256 is kept; a revoked key keeps its row. After a rotation the old secret is
# accepted until previous_until.
api_key = Table(
    "api_key",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("model_names", ARRAY(Text)),
    Column("hash", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("revoked_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    Column("previous_hash", LargeBinary),
    Column("previous_until", DateTime(timezone=True)),
    UniqueConstraint("hash", name="api_key_hash_once"),
    CheckConstraint("scope IN ('write', 'read', 'admin')", name="api_key_scope"),
    CheckConstraint(
        "model_names IS NULL OR scope IN ('write', 'read') AND cardinality(model_names) > 0", name="api_key_model_names"
    ),
    CheckConstraint(
        "(previous_hash IS NULL) = (previous_until IS NULL) AND octet_length(previous_hash) = 32",
        name="api_key_previous",
    ),
    CheckConstraint("octet_length(hash) = 32", name="api_key_hash"),
)

# One row, whose lock is the right to evaluate the alerts.
alert_evaluation = Table(
    "alert_evaluation",
    metadata,
    Column("single", Boolean, primary_key=True, server_default=text("true")),
    Column("evaluated_at", DateTime(timezone=True), nullable=False, server_default=text("'-infinity'")),
    CheckConstraint("single", name="alert_evaluation_single"),
)

# The state of each alert, since when too many predictions are missing, and the state that was sent last (NULL after it
# was resolved).
alert_state = Table(
    "alert_state",
    metadata,
    Column("rule", Text, primary_key=True),
    Column("model_name", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("told", Text),
    Column("unreliable_since", DateTime(timezone=True)),
    Column("value", Double),
    Column("measured", Text, nullable=False),
    Column("evaluated_at", DateTime(timezone=True), nullable=False),
    CheckConstraint("state IN ('ok', 'pending', 'firing', 'resolved', 'no data')", name="alert_state_state"),
    CheckConstraint("told IN ('firing', 'no data')", name="alert_state_told"),
)

# Events: changes of alerts that messages were sent about.
alert_event = Table(
    "alert_event",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("rule", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("value", Double),
    Column("measured", Text, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
    CheckConstraint("state IN ('firing', 'resolved', 'no data')", name="alert_event_state"),
    Index("alert_event_model", "model_name", "id"),
    Index("alert_event_at", "at"),
)

# The outbox: messages to webhooks. Each attempt has the same id, so a receiver can recognise a repetition.
alert_message = Table(
    "alert_message",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    Column(
        "event_id",
        BigInteger,
        ForeignKey("alert_event.id", ondelete="CASCADE", name="alert_message_event"),
        nullable=False,
    ),
    Column("rule", Text, nullable=False),
    Column("model_name", Text, nullable=False),
    Column("webhook", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("next_try_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("delivered_at", DateTime(timezone=True)),
    Column("given_up_at", DateTime(timezone=True)),
    Column("problem", Text),
    Index("alert_message_of_event", "event_id"),
    Index(
        "alert_message_waiting",
        "event_id",
        postgresql_where=text("delivered_at IS NULL AND given_up_at IS NULL"),
    ),
)
