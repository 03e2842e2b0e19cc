"""`predlog import`: what becomes of each system's own files; `predlog export` and back."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENT
from misbehaving import Service
from predlog.cli.main import main
from predlog.importers import own

FILES = Path(__file__).parent / "imports"


@pytest.fixture
def run(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("PREDLOG_URL", service.url)

    def run(*arguments: object, code: int = 0) -> tuple[str, str]:
        assert main([*map(str, arguments), *PATIENT]) == code
        said = capsys.readouterr()
        return said.out, said.err

    return run


def stored(service: Service) -> list[dict[str, Any]]:
    """What was stored, in the order of its times, without the identifiers."""
    records = sorted(service.records.values(), key=lambda record: record["timestamp"])
    return [{name: value for name, value in record.items() if name != "request_id"} for record in records]


@pytest.mark.parametrize(
    ("source", "name", "count"),
    [
        ("seed", "seed.csv", 3),
        ("access-log", "access.log", 6),
        ("mlflow", "mlflow.ndjson", 3),
        ("litellm", "litellm.csv", 3),
        ("predlog", "export.ndjson", 4),
        ("predlog", "export.csv", 4),
        ("predlog", "export.parquet", 4),
    ],
)
def test_a_second_import_adds_nothing(
    service: Service, run: Callable[..., Any], source: Any, name: str, count: Any
) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    said = run("import", FILES / name, "--from", source)[0]
    assert said == f"{count} stored, 0 were there already, 0 rejected\n"
    assert run("import", FILES / name, "--from", source)[0] == f"0 stored, {count} were there already, 0 rejected\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize(("source", "name", "count"), [("predlog", "export.ndjson", 4), ("seed", "seed.csv", 3)])
def test_a_pipe_is_imported(
    service: Service, run: Callable[..., Any], tmp_path: Path, source: str, name: str, count: int
) -> None:
    os.mkfifo(tmp_path / name)
    content = (FILES / name).read_bytes()
    threading.Thread(target=(tmp_path / name).write_bytes, args=[content], daemon=True).start()
    assert run("import", tmp_path / name, "--from", source)[0].startswith(f"{count} stored")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"model_name": "m", "was_successful": true}', "not a row of an export: 'duration_ms'"),
        ('{"model_name": "m", "duration_ms": null}', "not a row of an export: float() argument must be"),
        ('["m"]', "not a JSON object"),
        ('{"model_name": "m"', "not a JSON object"),
    ],
)
def test_a_line_that_cannot_be_imported_is_told_with_what_it_lacks(
    service: Service, run: Callable[..., Any], tmp_path: Path, line: str, why: str
) -> None:
    good = (FILES / "export.ndjson").read_text().splitlines()[0]
    (tmp_path / "e.ndjson").write_text(f"{good}\n{line}\n")
    out, errors = run("import", tmp_path / "e.ndjson", code=1)
    assert f"line 2: {why}" in errors and out == "1 stored, 0 were there already, 1 rejected\n"


def test_wherever_a_csv_export_is_cut_its_whole_rows_are_imported_and_no_other(tmp_path: Path) -> None:
    whole = (FILES / "export.csv").read_bytes()
    rows = [row for _, row in own.read(io.BytesIO(whole), "e.csv")]
    ends = [at for at in range(len(whole) + 1) if whole[:at].endswith(b"\n") and whole[:at].count(b'"') % 2 == 0]
    assert len(ends) == len(rows) + 1
    for at in range(ends[0], len(whole) + 1):
        found = [row for _, row in own.read(io.BytesIO(whole[:at]), "e.csv")]
        before = sum(end <= at for end in ends) - 1
        assert found[:before] == rows[:before], at
        assert [type(row) for row in found[before:]] == [ValueError] * (at not in ends), at


@pytest.mark.parametrize(
    ("source", "name", "field"),
    [("predlog", "export.csv", b"apartment"), ("seed", "seed.csv", b"apartment"), ("litellm", "litellm.csv", b"gpt")],
)
def test_a_byte_that_is_no_utf8_costs_its_row_alone(
    service: Service, run: Callable[..., Any], tmp_path: Path, source: str, name: str, field: bytes
) -> None:
    whole = (FILES / name).read_bytes()
    run("import", FILES / name, "--from", source)
    count = len(service.records)
    service.records.clear()
    (tmp_path / name).write_bytes(whole.replace(field, b"\xe9", 1))
    said, errors = run("import", tmp_path / name, "--from", source, code=1)
    assert said == f"{count - 1} stored, 0 were there already, 1 rejected\n"
    assert "line 2: not a row of" in errors and "it is not UTF-8" in errors


def test_a_spend_log_that_is_cut_before_the_status_of_a_failure_has_no_success_for_it(
    service: Service, run: Callable[..., Any], tmp_path: Path
) -> None:
    whole = (FILES / "litellm.csv").read_bytes()
    (tmp_path / "cut.csv").write_bytes(whole[: whole.rindex(b"failure")].rpartition(b",")[0])
    run("import", tmp_path / "cut.csv", "--from", "litellm", code=1)
    run("import", FILES / "litellm.csv", "--from", "litellm")
    assert sorted(record["was_successful"] for record in stored(service)) == [False, True, True]


def test_the_seeds_table(service: Service, run: Callable[..., Any]) -> None:
    run("import", FILES / "seed.csv", "--from", "seed")
    assert stored(service) == [
        {"model_name": "apartment_price_v1", "duration_ms": 124.0, "was_successful": True,
         "timestamp": "2025-06-09T12:00:00+00:00"},
        {"model_name": "apartment_price_v1", "duration_ms": 98.0, "was_successful": False,
         "timestamp": "2025-06-09T12:00:01.250000+00:00"},
        {"model_name": 'отток, "v2"', "duration_ms": 3.0, "was_successful": True,
         "timestamp": "2025-06-10T00:00:00.000001+00:00"},
    ]  # fmt: skip


def test_an_access_log(service: Service, run: Callable[..., Any]) -> None:
    run("import", FILES / "access.log", "--from", "access-log")
    predictions = {(record["model_name"], record.get("model_version")): record for record in stored(service)}
    assert predictions.keys() == {
        ("apartment_price", None), ("apartment_price", "3"), ("churn", None), ("fläche", None), ("broken", None),
        ("none", None),
    }  # fmt: skip
    assert predictions["apartment_price", "3"] == {
        "model_name": "apartment_price", "model_version": "3", "duration_ms": pytest.approx(17.102),
        "was_successful": True, "timestamp": "2026-11-30T18:02:52+00:00",
        "metadata": {"status": 200, "method": "GET"},
    }  # fmt: skip
    assert not predictions["broken", None]["was_successful"] and not predictions["none", None]["was_successful"]
    assert "secret" not in json.dumps(stored(service))


@pytest.mark.parametrize(
    ("duration", "unit", "expected"),
    [("0.250", [], 250), ("250000", [], 250), ("250", ["--unit", "ms"], 250), ("2", ["--unit", "s"], 2000)],
)
def test_the_unit_of_a_duration(
    service: Service, run: Callable[..., Any], tmp_path: Path, duration: Any, unit: Any, expected: Any
) -> None:
    line = f'1.2.3.4 - joe [09/Jun/2025:14:00:00 +0200] "POST /score/a/7 HTTP/1.1" 200 12 "-" "curl" {duration}\n'
    (tmp_path / "log").write_text(line * 2 + "nonsense\n")
    more = ["--path", r"/score/(?P<model>\w+)/(?P<version>\d+)", *unit]
    said, errors = run("import", tmp_path / "log", "--from", "access-log", *more, code=1)
    assert said == "2 stored, 0 were there already, 1 rejected\n"  # two equal lines are two predictions
    assert "line 3: not a line of the combined format" in errors
    first = stored(service)[0]
    assert (first["model_name"], first["model_version"], first["duration_ms"]) == ("a", "7", pytest.approx(expected))
    assert first["timestamp"] == "2025-06-09T12:00:00+00:00"


def test_a_path_without_the_optional_name_of_a_model_is_no_prediction(
    service: Service, run: Callable[..., Any], tmp_path: Path
) -> None:
    line = '1.2.3.4 - joe [09/Jun/2025:14:00:00 +0200] "POST %s HTTP/1.1" 200 12 "-" "curl" 0.250\n'
    (tmp_path / "log").write_text("".join(line % path for path in ("/predict", "/predict/price", "/predict/")))
    more = ["--path", r"/predict(?:/(?P<model>\w*))?"]
    said = run("import", tmp_path / "log", "--from", "access-log", *more)[0]
    assert said == "1 stored, 0 were there already, 0 rejected\n"
    assert [record["model_name"] for record in stored(service)] == ["price"]


ACCESS_LINE = '1.2.3.4 - - [09/Jun/2025:14:00:00 +0200] "%s" 200 12 "-" "curl" 0.250\n'


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/v1/models/price:predict", None),
        ("/v1/models/price/versions/3:classify", "3"),
        ("/v1/models/price/labels/stable:regress", None),
        ("/v2/models/price/infer", None),
        ("/v2/models/price/versions/3/infer_stream?x=1", "3"),
        ("/v2/models/price/generate_stream", None),
        ("/models/price/invoke", None),
        ("/models/price/invocations", None),
        ("/api/models/price/predict/", None),
    ],
)
def test_the_paths_of_model_servers_are_known(
    service: Service, run: Callable[..., Any], tmp_path: Path, path: str, version: str | None
) -> None:
    (tmp_path / "log").write_text(ACCESS_LINE % f"POST {path} HTTP/1.1")
    run("import", tmp_path / "log", "--from", "access-log")
    assert [(one["model_name"], one.get("model_version")) for one in stored(service)] == [("price", version)]


@pytest.mark.parametrize("more", [(), ("--path", "(?P<model>price)"), ("--model", "m")])
@pytest.mark.parametrize(
    "request_line",
    [
        "OPTIONS /v1/models/price:predict HTTP/1.1", "HEAD /v1/models/price:predict HTTP/1.1",
        "", "-", r"\x16\x03\x01", r"\"GET",
    ],
)  # fmt: skip
def test_preflights_and_requests_that_are_no_http_are_no_predictions(
    service: Service, run: Callable[..., Any], tmp_path: Path, request_line: str, more: Any
) -> None:
    (tmp_path / "log").write_text(ACCESS_LINE % request_line)
    said = run("import", tmp_path / "log", "--from", "access-log", *more)[0]
    assert said == "0 stored, 0 were there already, 0 rejected\n"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/price", "/v1/models/price/versions/3", "/v1/models/price/metadata", "/v2/models/price/ready",
        "/v2/models/price/versions/3/stats", "/v2/repository/models/price/load", "/v2/models/predict/ready",
    ],
)  # fmt: skip
def test_questions_about_a_model_are_no_predictions(
    service: Service, run: Callable[..., Any], tmp_path: Path, path: str
) -> None:
    (tmp_path / "log").write_text(ACCESS_LINE % f"GET {path} HTTP/1.1")
    said = run("import", tmp_path / "log", "--from", "access-log")[0]
    assert said == "0 stored, 0 were there already, 0 rejected\n"


def test_all_lines_may_be_of_one_model(service: Service, run: Callable[..., Any]) -> None:
    said = run("import", FILES / "access.log", "--from", "access-log", "--model", "m")[0]
    assert said.startswith("7 stored") and {record["model_name"] for record in stored(service)} == {"m"}


def test_traces_of_mlflow(service: Service, run: Callable[..., Any]) -> None:
    run("import", FILES / "mlflow.ndjson", "--from", "mlflow")
    predictions = stored(service)
    assert [(one["model_name"], one["was_successful"], one["duration_ms"]) for one in predictions] == [
        ("apartment_price", True, 42), ("apartment_price", True, 67), ("apartment_price", False, 82),
    ]  # fmt: skip
    assert predictions[2]["error"] == "ValueError: too many rooms" and "error" not in predictions[0]
    assert set(predictions[0]["metadata"]) == {"trace_id"}
    assert predictions[2]["timestamp"] == "2026-11-30T18:10:31.302000+00:00"


def test_a_spend_log_of_litellm(service: Service, run: Callable[..., Any]) -> None:
    run("import", FILES / "litellm.csv", "--from", "litellm")
    group, alone, failed = stored(service)
    assert (group["model_name"], group["model_version"]) == ("house-prices", "gpt-4o-mini")
    assert alone["model_name"] == failed["model_name"] == "gpt-4o-mini" and "model_version" not in alone
    assert [prediction["was_successful"] for prediction in (group, alone, failed)] == [True, True, False]
    assert "RateLimitError" in failed["error"] and group["duration_ms"] > 0
    assert group["metadata"].items() >= {"custom_llm_provider": "openai", "prompt_tokens": 10.0}.items()
    assert "hello" not in json.dumps(stored(service))


@pytest.mark.parametrize("name", ["export.ndjson", "export.csv", "export.parquet"])
def test_an_export_keeps_every_field(service: Service, run: Callable[..., Any], name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    run("import", FILES / name)
    exported = [json.loads(line) for line in (FILES / "export.ndjson").read_bytes().splitlines()]
    found = {record["duration_ms"]: record for record in service.records.values()}
    for line in exported:
        del line["id"]
        line.setdefault("request_id", found[line["duration_ms"]]["request_id"])
        assert found[line["duration_ms"]] == line


DEEP = b"[" * 100_000
DEEP_ROW = b"request_id,startTime,endTime,model,metadata\n1,2025-01-01,2025-01-01,m," + DEEP


@pytest.mark.parametrize("source", ["seed", "litellm", "mlflow", "access-log", "predlog"])
@pytest.mark.parametrize(
    "content", [b"", b"nonsense\n", b"a,b\n1,2\n", b"[1]", b'{"info": {}}', b"\xff\xfe\x00", DEEP, DEEP_ROW]
)
def test_another_file_stores_nothing_and_is_no_crash(
    service: Service, run: Callable[..., Any], tmp_path: Path, source: Any, content: Any
) -> None:
    (tmp_path / "file.ndjson").write_bytes(content)
    code = main(["import", str(tmp_path / "file.ndjson"), "--from", source])
    assert code in (0, 1, 2) and not service.records


@pytest.mark.parametrize("lacks", ["timestamp", "metadata", "duration_ms", "model_name"])
def test_parquet_of_another_kind_is_told_which_column_it_lacks(
    service: Service, run: Callable[..., Any], tmp_path: Path, lacks: str
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(FILES / "export.parquet").drop_columns([lacks])
    parquet.write_table(table, tmp_path / "e.parquet")
    _, errors = run("import", tmp_path / "e.parquet", code=2)
    assert f"not an export: it lacks the column {lacks}\n" in errors and not service.records


def test_parquet_with_values_of_other_kinds_is_no_crash(
    service: Service, run: Callable[..., Any], tmp_path: Path
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    time = datetime(2025, 6, 9)
    columns = {
        "timestamp": [time, time, None], "metadata": ["{", None, None], "duration_ms": ["1", "x", "1"],
        "model_name": ["m"] * 3, "was_successful": [True] * 3,
    }  # fmt: skip
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), tmp_path / "e.parquet")
    out, errors = run("import", tmp_path / "e.parquet", code=1)
    assert out == "0 stored, 0 were there already, 3 rejected\n" and "line 3: not a row of an export" in errors


@pytest.mark.parametrize("metadata", [{"a": None, "b": "", "c": {}, "d": [], "e": 0}, {}])
@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_what_is_empty_in_metadata_is_kept(
    service: Service, run: Callable[..., Any], tmp_path: Path, metadata: Any, form: Any
) -> None:
    row = {
        "id": 1, "model_name": "m", "duration_ms": 1, "was_successful": True, "model_version": "", "error": "",
        "timestamp": "2025-06-09T12:00:00+00:00", "request_id": "",
    }  # fmt: skip
    file = tmp_path / f"export.{form}"
    if form == "ndjson":
        file.write_text(json.dumps({**row, "metadata": metadata}) + "\n")
    else:
        with file.open("w", newline="") as lines:
            rows = csv.DictWriter(lines, [*row, "metadata"])
            rows.writeheader()
            rows.writerow({**row, "was_successful": "true", "metadata": json.dumps(metadata)})
    run("import", file)
    assert stored(service)[0]["metadata"] == metadata


def test_half_a_character_costs_that_character_alone(service: Service, run: Callable[..., Any], tmp_path: Path) -> None:
    """As if another system had cut the text in the middle of an emoji."""
    line = '{"model_name":"m","duration_ms":%d,"was_successful":true,"timestamp":"2025-06-09T12:00+00:00","error":"%s"}'
    file = tmp_path / "export.ndjson"
    file.write_text("\n".join([line % (1, "cut \\ud83d"), line % (2, "whole \\ud83d\\ude00"), ""]))
    run("import", file)
    assert {record["error"] for record in service.records.values()} == {"cut ?", "whole 😀"}


def test_options_of_access_logs_are_refused_elsewhere(run: Callable[..., Any]) -> None:
    assert "--unit is for --from access-log" in run("import", "x", "--unit", "s", code=2)[1]
    log = ("import", FILES / "access.log", "--from", "access-log")
    assert "no regular expression" in run(*log, "--path", "(", code=2)[1]
    assert "no group" in run(*log, "--path", "x", code=2)[1]
    assert "No such file" in run("import", "missing.csv", code=2)[1]
