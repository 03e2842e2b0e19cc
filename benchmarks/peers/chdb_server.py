"""ClickHouse in process, driven through standard input: a line of JSON in, a line of JSON out.

Runs in an environment of its own, which has chdb.
"""

import json
import sys

from chdb import session

TABLE = """
CREATE TABLE IF NOT EXISTS predictions
    (timestamp DateTime64(6, 'UTC'), model_name LowCardinality(String), duration_ms Float64, was_successful Bool,
     error Nullable(String))
ENGINE = MergeTree ORDER BY (model_name, timestamp)
"""


def main() -> None:
    database = session.Session(sys.argv[1])
    database.query("CREATE DATABASE IF NOT EXISTS log ENGINE = Atomic")
    database.query("USE log")
    database.query(TABLE)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        answer = database.query(json.loads(line), "JSONCompact")
        print(json.dumps(json.loads(str(answer))["data"] if str(answer) else []), flush=True)


if __name__ == "__main__":
    main()
