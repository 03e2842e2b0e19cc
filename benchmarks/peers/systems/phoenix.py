"""Arize Phoenix."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from benchmarks import common
from benchmarks.peers.predictions import MODEL, PERCENTILES, SQL_DURATION, Answer
from benchmarks.peers.systems.base import START_SQL, System


class Phoenix(System):
    """https://arize.com/docs/phoenix/self-hosting advises PostgreSQL. Its inserts follow its answers."""

    name = "Arize Phoenix"
    requirements = "phoenix"
    table = "spans"
    caller = f"""
from phoenix.otel import register
tracer = register(batch=True, verbose=False, set_global_tracer_provider=False).get_tracer("peers")
def call():
    with tracer.start_as_current_span("{MODEL}"):
        pass
"""

    def command(self) -> tuple[Sequence[str], dict[str, str], str]:
        settings = {
            "PHOENIX_SQL_DATABASE_URL": self.dsn, "PHOENIX_PORT": str(self.port), "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_GRPC_PORT": str(common.free_port()), "PHOENIX_TELEMETRY_ENABLED": "false",
            "PHOENIX_WORKING_DIR": str(self.folder),
        }  # fmt: skip
        return [self.python(), "-m", "phoenix.server.main", "serve"], settings, "/healthz"

    def fill(self, count: int) -> None:
        self.sql(f"""
            WITH trace AS (
                INSERT INTO traces (project_rowid, trace_id, start_time, end_time)
                SELECT (SELECT min(id) FROM projects), md5(n::text), {START_SQL} + n * INTERVAL '1 ms',
                       {START_SQL} + (n + {SQL_DURATION}) * INTERVAL '1 ms'
                FROM   generate_series(0::bigint, {count - 1}) n
                RETURNING id, start_time, end_time
            ), numbered AS (
                SELECT *, (extract(epoch FROM start_time - {START_SQL}) * 1000)::bigint % 50 = 0 AS failed FROM trace
            )
            INSERT INTO spans (trace_rowid, span_id, name, span_kind, start_time, end_time, attributes, events,
                               status_code, status_message, cumulative_error_count,
                               cumulative_llm_token_count_prompt, cumulative_llm_token_count_completion)
            SELECT id, left(md5(id::text), 16), '{MODEL}', 'UNKNOWN', start_time, end_time, '{{}}', '[]',
                   CASE WHEN failed THEN 'ERROR' ELSE 'OK' END, '', failed::int, 0, 0
            FROM   numbered""")
        self.sql("VACUUM ANALYZE")

    def ask(self, since: datetime, until: datetime) -> Answer:
        span = f'timeRange: {{start: "{since.isoformat()}", end: "{until.isoformat()}"}}'
        percentiles = " ".join(f"p{each}: latencyMsQuantile(probability: {each / 100}, {span})" for each in PERCENTILES)
        question = f"""{{ projects(first: 1) {{ edges {{ node {{
            count: recordCount({span}) {percentiles}
            errors: recordCount({span}, filterCondition: "status_code == 'ERROR'") }} }} }} }}"""
        said = self.post("/graphql", {"query": question})
        if said.get("errors"):
            raise OSError(str(said["errors"])[:500])
        return dict(said["data"]["projects"]["edges"][0]["node"])
