"""`predlog export`: a file that is whole, whatever breaks off meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import PATIENT
from misbehaving import Service, free_port
from predlog.cli import exporting
from predlog.cli.console import Progress
from predlog.cli.main import main

FILES = Path(__file__).parent / "imports"
OTHER_URL = "http://other:8000"


@pytest.fixture
def run(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("PREDLOG_URL", service.url)
    monkeypatch.setattr(exporting, "INITIAL_BACKOFF", 0.01)

    def run(*arguments: object, code: int = 0) -> tuple[str, str]:
        assert main(["export", *map(str, arguments), *PATIENT]) == code
        said = capsys.readouterr()
        return said.out, said.err

    return run


def cursors(service: Service) -> list[str | None]:
    asked = [query for path, query in service.queries if path == "/api/v1/predictions/export"]
    return [query.get("cursor", [None])[0] for query in asked]


@pytest.mark.parametrize("name", ["export.ndjson", "export.csv", "export.parquet"])
def test_a_whole_export_is_written_as_it_was_sent(
    service: Service, run: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    service.exports.append((FILES / name).read_bytes())
    said = run(tmp_path / name, "--model", "m", "--from", "2025-06-01", "--to", "2025-06-09")[0]
    assert (tmp_path / name).read_bytes() == (FILES / name).read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert said.startswith("4 predictions exported" if not name.endswith("parquet") else "all predictions exported")
    assert service.queries[-1][1] == {
        "model_name": ["m"], "from": ["2025-06-01"], "to": ["2025-06-09"], "format": [name.partition(".")[2]],
    }  # fmt: skip


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize("name", ["export.ndjson", "export.csv"])
def test_wherever_it_is_cut_it_goes_on_after_the_last_whole_row(
    service: Service, run: Callable[..., Any], tmp_path: Path, name: str, breaks: Any
) -> None:
    whole = (FILES / name).read_bytes()
    ends = row_ends(whole, name)
    header = whole[: ends[0]] if name.endswith("csv") else b""
    for at in range(0, len(whole), 7):
        cut = whole[:at].rstrip(b"\r\n") if not breaks else whole[:at]
        last = max([end for end in ends if end <= len(cut)], default=0)
        rest = (header if last else b"") + whole[last:]
        service.exports.extend([(cut,) if breaks or not cut else cut, rest])
        run(tmp_path / f"{at}.{name}")
        assert (tmp_path / f"{at}.{name}").read_bytes() == whole, at
        assert not service.exports


def test_an_answer_that_is_cut_within_the_names_of_the_columns_is_no_end(
    service: Service, run: Callable[..., Any], tmp_path: Path
) -> None:
    whole = (FILES / "export.csv").read_bytes()
    names, first = row_ends(whole, "export.csv")[:2]
    for at in range(0, names, 7):
        service.exports.extend([whole[:at], (whole[:first],), whole[:at], whole[:names] + whole[first:]])
        run(tmp_path / f"{at}.csv")
        assert (tmp_path / f"{at}.csv").read_bytes() == whole, at


@pytest.mark.parametrize("name", ["export.ndjson", "export.csv"])
def test_gzip_without_its_end_is_no_end(service: Service, run: Callable[..., Any], tmp_path: Path, name: str) -> None:
    whole = (FILES / name).read_bytes()
    ends = row_ends(whole, name)
    names = whole[: ends[0]] if name.endswith("csv") else b""
    service.exports.extend([(whole[: ends[1]], "is missing"), names + whole[ends[1] :]])
    run(tmp_path / name)
    assert (tmp_path / name).read_bytes() == whole and not service.exports


def test_an_empty_answer_is_no_parquet(service: Service, run: Callable[..., Any], tmp_path: Path) -> None:
    whole = (FILES / "export.parquet").read_bytes()
    service.exports.extend([b"", whole])
    run(tmp_path / "e.parquet")
    assert (tmp_path / "e.parquet").read_bytes() == whole


def test_its_progress_is_of_the_predictions_that_an_export_holds(
    service: Service, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    totals: list[int | None] = []

    class Seen(Progress):
        def __init__(self, total: int | None) -> None:
            totals.append(total)
            super().__init__(total)

    monkeypatch.setattr(exporting, "Progress", Seen)
    monkeypatch.setattr(exporting, "fetch", lambda *_: {"total_requests": 100, "summarized": 96})
    service.exports.append((FILES / "export.ndjson").read_bytes())
    run(tmp_path / "export.ndjson")
    assert totals == [4]


def row_ends(whole: bytes, name: str) -> list[int]:
    """The end of a row: a row of the CSV may have line ends in it, too."""
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    return [end for end in ends if not (name.endswith("csv") and whole[:end].count(b'"') % 2)]


def test_it_goes_on_in_another_run(service: Service, run: Callable[..., Any], tmp_path: Path) -> None:
    whole = (FILES / "export.ndjson").read_bytes()
    lines = whole.splitlines(keepends=True)
    service.exports.append((b"".join(lines[:2]) + b'{"id"',))
    assert "run the same command again to go on" in run(tmp_path / "e.ndjson", "--retry-timeout", "1e-9", code=3)[1]
    assert not (tmp_path / "e.ndjson").exists()
    service.exports.append(b"".join(lines[2:]))
    run(tmp_path / "e.ndjson")
    assert (tmp_path / "e.ndjson").read_bytes() == whole
    assert cursors(service) == [None, "2025-06-09T12:00:00.000000+00:00,200002"]


@pytest.mark.parametrize("other", [["--model", "b"], ["--format", "csv"], ["--to", "2025-06-09"], ["--url", "OTHER"]])
def test_a_part_of_another_export_is_left_alone(
    service: Service, run: Callable[..., Any], tmp_path: Path, other: list[str]
) -> None:
    whole = (FILES / "export.ndjson").read_bytes()
    lines = whole.splitlines(keepends=True)
    service.exports.append((b"".join(lines[:2]),))
    run(tmp_path / "e.ndjson", "--model", "a", "--retry-timeout", "1e-9", code=3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    said = run(
        tmp_path / "e.ndjson", "--model", "a", *(OTHER_URL if text == "OTHER" else text for text in other), code=2
    )[1]
    assert "e.ndjson.part is of another export" in said and "model_name a" in said and "remove it" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before and len(cursors(service)) == 1
    service.exports.append(b"".join(lines[2:]))
    run(tmp_path / "e.ndjson", "--model", "a")
    assert (tmp_path / "e.ndjson").read_bytes() == whole and len(list(tmp_path.iterdir())) == 1


def test_a_part_of_unknown_options_is_left_alone(service: Service, run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "e.csv.part").write_bytes(b"mine\n")
    assert "e.csv.part is of another export" in run(tmp_path / "e.csv", code=2)[1]
    assert (tmp_path / "e.csv.part").read_bytes() == b"mine\n"


def test_a_run_that_got_nothing_does_not_decide_the_options_of_the_next(
    service: Service, run: Callable[..., Any], tmp_path: Path
) -> None:
    service.exports.extend([406, (FILES / "export.ndjson").read_bytes()])
    run(tmp_path / "e.ndjson", "--model", "a", code=2)
    run(tmp_path / "e.ndjson", "--model", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["e.ndjson"]


@pytest.mark.parametrize("found", [b"", b'{"id": 1, "timestamp": "2025-06-09T12:00:00.000000+00:00"}\n'])
def test_spaces_of_a_service_that_looks_and_finds_nothing_are_left_out(
    service: Service, run: Callable[..., Any], tmp_path: Path, found: Any
) -> None:
    service.exports.extend([(found,), b"  \n"] if found else [b"  \n"])
    said = run(tmp_path / "e.ndjson")[0]
    assert said.startswith(f"{int(found > b'')} predictions")
    assert (tmp_path / "e.ndjson").read_bytes() == found


def test_a_service_that_is_busy_is_asked_again(service: Service, run: Callable[..., Any], tmp_path: Path) -> None:
    service.exports.extend([503, 503, b""])
    assert run(tmp_path / "e.ndjson")[0].startswith("0 predictions")


def test_a_service_that_is_busy_from_the_start_is_asked_again(
    service: Service, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(Progress):
        def say(self, text: str) -> None:
            assert "answered 503" in text
            service.mood = "ok"

    monkeypatch.setattr(exporting, "Progress", Busy)
    service.mood = 503
    service.exports.append(b"")
    assert run(tmp_path / "e.ndjson")[0].startswith("0 predictions")


def test_a_service_that_is_away_from_the_start_is_waited_for(run: Callable[..., Any], tmp_path: Path) -> None:
    with free_port() as port:
        url = f"http://127.0.0.1:{port}"
        said = run(tmp_path / "e.ndjson", "--url", url, "--retry-timeout", "1e-9", code=3)[1]
    assert "ConnectionRefusedError" in said and "run the same command again to go on" in said


def test_what_the_service_refuses_is_told(service: Service, run: Callable[..., Any], tmp_path: Path) -> None:
    service.exports.append(406)
    assert "the service refused: no such format" in run(tmp_path / "e.parquet", code=2)[1]


def test_a_file_that_is_there_is_left_alone(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("mine")
    assert "exists already" in run(tmp_path / "e.csv", code=2)[1]
    assert "add --format" in run(tmp_path / "e.xls", code=2)[1]
    assert "No such file" in run(tmp_path / "nowhere" / "e.csv", code=2)[1]
