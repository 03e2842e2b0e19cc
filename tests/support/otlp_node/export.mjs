// Traces calls of a model with the official SDK, and exports them: node export.mjs URL json|protobuf none|gzip MODEL
import { SpanStatusCode } from "@opentelemetry/api";
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtobufExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

const [url, encoding, compression, model] = process.argv.slice(2);
const Exporter = encoding === "json" ? JsonExporter : ProtobufExporter;
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": "shop" }),
  spanProcessors: [new BatchSpanProcessor(new Exporter({ url, compression }))],
});
const tracer = provider.getTracer("test");

tracer.startActiveSpan("GET /buy", (request) => {
  const attributes = { "gen_ai.request.model": model, "gen_ai.usage.input_tokens": 7, prompt: "cut \ud83d" };
  const call = tracer.startSpan("chat", { attributes });
  call.addEvent("token");
  call.end();
  const failed = tracer.startSpan("price", { attributes: { "predlog.model_name": model, "predlog.model_version": 3 } });
  failed.recordException(new TypeError("no rooms"));
  failed.setStatus({ code: SpanStatusCode.ERROR });
  failed.end();
  request.end();
});
await provider.shutdown();
