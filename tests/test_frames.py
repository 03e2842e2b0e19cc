"""The client's data frames, with the real service: what the API says, as pandas and as polars have it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import predlog
from support.service import running

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")

CLIENT = Path(__file__).parents[1] / "client" / "src"
DAY = {"from_date": "2025-06-09", "to_date": "2025-06-10"}
BOTH = pytest.mark.parametrize("frame", ["pandas", "polars"])


@pytest.fixture(scope="module")
def url() -> Any:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="predlog-test-")))
        os.chmod(folder, 0o755)  # started by root, the embedded server runs as another user
        service = stack.enter_context(running(folder, EMBEDDED_DATA_DIR=str(folder / "data")))
        predictions = [
            {
                "model_name": "m", "model_version": str(n % 2), "duration_ms": n + 0.1, "was_successful": n % 5 > 0,
                "timestamp": f"2025-06-09T{n % 24:02}:00:00Z", "metadata": {"n": n},
            }
            for n in range(48)
        ]  # fmt: skip
        assert service.request("POST", "/api/v1/predict-logs", predictions)[0] == 200
        yield f"http://127.0.0.1:{service.port}"


def ask(url: str, path: str, **query: Any) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(query)}") as answer:
        return json.load(answer)


def rows(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame of either library, its index included."""
    if isinstance(frame, polars.DataFrame):
        return list(frame.to_dicts())
    return list((frame if frame.index.names == [None] else frame.reset_index()).to_dict("records"))


@BOTH
def test_predictions_are_rows_with_times_and_numbers(url: str, frame: str) -> None:
    found = rows(predlog.read(url=url, frame=frame, model_name="m", was_successful=True, **DAY))
    listed = ask(url, "predictions", model_name="m", was_successful="true", limit=1000)[::-1]
    assert [(row["id"], row["duration_ms"], row["was_successful"]) for row in found] == [
        (row["id"], row["duration_ms"], True) for row in listed
    ]
    assert [row["timestamp"].isoformat() for row in found] == [row["timestamp"] for row in listed]
    assert [json.loads(row["metadata"]) for row in found] == [row["metadata"] for row in listed]


@BOTH
def test_statistics_are_one_row_or_one_for_each_group(url: str, frame: str) -> None:
    answer = ask(url, "stats", group_by="model_name,model_version", **DAY)
    [total] = rows(predlog.stats(url=url, frame=frame, **DAY))
    assert total["total_requests"] == 48
    assert total["percentiles.95"] == answer["percentiles"]["95"]
    groups = rows(predlog.stats(url=url, frame=frame, group_by="model_name,model_version", **DAY))
    assert [(row["model_version"], row["average_duration_ms"]) for row in groups] == [
        (group["model_version"], group["average_duration_ms"]) for group in answer["groups"]
    ]


@BOTH
def test_a_series_is_in_the_time_zone_that_was_asked_for(url: str, frame: str) -> None:
    found = rows(predlog.timeseries(url=url, frame=frame, bucket="6h", timezone="Europe/Berlin", **DAY))
    points = ask(url, "stats/timeseries", bucket="6h", timezone="Europe/Berlin", **DAY)["points"]
    assert {row["from"].utcoffset() for row in found} == {timedelta(hours=2)}
    assert [(row["from"], row["total_requests"]) for row in found] == [
        (datetime.fromisoformat(point["from"]), point["total_requests"]) for point in points
    ]


@BOTH
def test_a_comparison_has_a_row_for_each_measure(url: str, frame: str) -> None:
    answer = ask(url, "stats/compare", version_a="0", version_b="1", **DAY)
    rate, *durations = rows(predlog.compare(url=url, frame=frame, version_a="0", version_b="1", **DAY))
    assert (rate["measure"], rate["a"], rate["b"]) == (
        "success_rate", answer["a"]["success_rate"], answer["b"]["success_rate"]
    )  # fmt: skip
    assert rate["change"] == answer["success_rate"]["difference"]
    assert [row["measure"] for row in durations] == [f"percentiles.{p}" for p in answer["duration"]["percentiles"]]
    assert durations[0]["verdict"] == answer["duration"]["percentiles"]["50"]["verdict"]


@BOTH
def test_nothing_is_a_frame_without_rows(url: str, frame: str) -> None:
    assert rows(predlog.read(url=url, frame=frame, model_name="nobody")) == []
    assert rows(predlog.stats(url=url, frame=frame, model_name="nobody", group_by="model_name")) == []
    now = "2025-06-09T12:00:00Z"
    assert rows(predlog.timeseries(url=url, frame=frame, from_date=now, to_date=now)) == []


def test_an_index_makes_a_frame_of_pandas_ready_to_plot(url: str) -> None:
    series = predlog.timeseries(url=url, frame="pandas", bucket="1h", **DAY)
    assert isinstance(series.index, pandas.DatetimeIndex)
    assert series.attrs["bucket"] == "1h"
    assert predlog.stats(url=url, frame="pandas", group_by="model_version", **DAY).index.name == "model_version"


def test_attrs_of_pandas_tell_the_whole_rest_of_an_answer(url: str) -> None:
    compared = {"version_a": "0", "version_b": "1", **DAY}
    for question, path, query in (
        (predlog.stats, "stats", {"group_by": "model_version", **DAY}),
        (predlog.timeseries, "stats/timeseries", {"bucket": "1h", **DAY}),
        (predlog.compare, "stats/compare", compared),
    ):
        told = question(url=url, frame="pandas", **query).attrs
        assert told.keys() == ask(url, path, **query).keys() - {"groups", "points"}


def test_errors_are_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from predlog import frames

    with pytest.raises(frames.ServiceError, match="from_date"):
        predlog.stats(url=url, from_date="x")
    with pytest.raises(frames.ServiceError, match="no whole answer"):
        predlog.stats(url="http://127.0.0.1:9")
    with pytest.raises(ValueError, match="pandas, polars"):
        predlog.read(url=url, frame="excel")
    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'predlog\[pandas\]'"):
        predlog.read(url=url)


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """The URL of a server that answers one request after the other with these bytes."""

    def answer(listening: socket.socket) -> None:
        for part in answers:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def answer_of(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def test_an_answer_that_is_cut_is_an_error_of_the_service() -> None:
    from predlog import frames

    whole = answer_of(b'{"total_requests": 12}')
    with answering(whole[:-4], whole) as url:
        with pytest.raises(frames.ServiceError, match="no whole answer"):
            predlog.stats(url=url)
        assert predlog.stats(url=url)["total_requests"].tolist() == [12]


@pytest.mark.parametrize("body", [b"", b"<!doctype html>", b"\xff", b"[]", b"7"])
def test_a_page_of_another_program_is_told_from_an_answer(body: bytes) -> None:
    from predlog import frames

    for ask_for in (predlog.stats, predlog.read):
        with answering(answer_of(body)) as url, pytest.raises(frames.ServiceError, match="not as Predlog does"):
            ask_for(url=url)


def test_an_export_that_is_cut_is_an_error_of_the_service() -> None:
    from predlog import frames

    with answering(answer_of(b"PAR1 and no end")) as url, pytest.raises(frames.ServiceError, match="cut the export"):
        predlog.read(url=url)


def test_a_program_that_logs_loads_nothing_of_this() -> None:
    code = "import predlog, sys; print({'pandas', 'polars', 'pyarrow', 'predlog.frames'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(CLIENT)}, capture_output=True, text=True)
    assert done.stdout == "set()\n"
