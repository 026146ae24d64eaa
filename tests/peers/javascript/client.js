// Sends the traffic of docs/peers.md with the OpenTelemetry SDK of JavaScript:
//
//     node client.js PROTOCOL COMPRESSION SERVICES_PREFIX LAGGARD_URL DIRECT_URL
'use strict';

const { randomBytes } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const { DiagConsoleLogger, DiagLogLevel, ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, createTraceState, diag, trace } =
  require('@opentelemetry/api');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BasicTracerProvider, BatchSpanProcessor } = require('@opentelemetry/sdk-trace-base');

const FAST = 30;
const SLOW = 2;
const WITH_REMOTE_PARENT = 3;
const WITH_ERROR = 7;
const EXPORTERS = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' };

function newExporter(protocol, compression, url) {
  const { OTLPTraceExporter } = require(`@opentelemetry/exporter-trace-otlp-${EXPORTERS[protocol]}`);
  return new OTLPTraceExporter({ url: protocol === 'grpc' ? url : `${url}/v1/traces`, compression });
}

class Service {
  constructor(name, exporters) {
    this.provider = new BasicTracerProvider({
      resource: resourceFromAttributes(
        { 'service.name': name, 'service.version': '1.2.3', 'host.ip': ['127.0.0.1', '::1'] },
        { schemaUrl: 'https://opentelemetry.io/schemas/1.36.0' }),
      spanLimits: { eventCountLimit: 2 },
      spanProcessors: exporters.map((exporter) => new BatchSpanProcessor(exporter)),
    });
    this.tracer = this.provider.getTracer('peer', '0.1.0', { schemaUrl: 'https://example.com/scope' });
  }

  start(parent, name, kind, startTime, more = {}) {
    const around = parent ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT;
    return this.tracer.startSpan(name, { kind, startTime, ...more }, around);
  }
}

/** As the other side of a call knows it. */
const remote = (span) => ({ ...span.spanContext(), isRemote: true });

const foreign = (state) => ({
  traceId: randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex'), isRemote: true,
  traceFlags: TraceFlags.SAMPLED, traceState: createTraceState(state),
});

function record([inferenceServer, preProcessor, webServer], number, own) {
  const start = Date.now() - 2000;
  // Seconds and nanoseconds, for a number of milliseconds has too few digits.
  const at = (milliseconds) => {
    const whole = start + milliseconds;
    return [Math.floor(whole / 1000), (whole % 1000) * 1e6 + number];
  };

  // Some jitter, so that no two traces last equally long.
  const whole = own + 130 + number % 7;
  const caller = number === WITH_REMOTE_PARENT && foreign('vendor=t61rcWkgMzE,other=1');
  const entry = webServer.start(caller, 'GET /checkout', SpanKind.SERVER, at(0), {
    attributes: {
      'http.request.method': 'GET', 'http.route': '/checkout', 'user.id': Number.MAX_SAFE_INTEGER, 'cart.total': 19.99,
      'cart.express': true, 'cart.items': ['caf\u00e9', '\u8336', ''], 'cart.counts': [1, -2, 3], empty: '',
    },
  });
  const call = webServer.start(entry.spanContext(), 'POST', SpanKind.CLIENT, at(4), { attributes: { 'server.address': 'pre' } });
  const request = preProcessor.start(remote(call), 'preprocess-request', SpanKind.SERVER, at(5));
  // One more than the limit, so that the SDK counts a dropped one.
  for (let event = 0; event < 3; event += 1) {
    request.addEvent(`step ${event}`, { 'downstream.status_code': 200 + event }, at(6 + event));
  }
  const onward = preProcessor.start(request.spanContext(), 'POST', SpanKind.CLIENT, at(5 + own));
  const inference = inferenceServer.start(remote(onward), 'inference-service-post', SpanKind.SERVER, at(6 + own), {
    links: [{ context: foreign('vendor=linked'), attributes: { 'link.reason': 'batched' } }],
  });
  if (number === WITH_ERROR) {
    inference.recordException(new Error('no room'), at(7 + own));
    inference.setStatus({ code: SpanStatusCode.ERROR, message: 'out of memory' });
  } else {
    inference.setStatus({ code: SpanStatusCode.OK });
  }

  inference.end(at(6 + own + 98));
  onward.end(at(5 + own + 100));
  request.end(at(5 + whole - 10));
  call.end(at(4 + whole - 8));
  entry.end(at(whole));
  return 5;
}

async function main() {
  diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);
  const [protocol, compression, prefix, ...urls] = process.argv.slice(2);
  // In the order in which they export: roots come last.
  const services = ['inference-server', 'pre-processor', 'web-server'].map((name) =>
    new Service(`${prefix}-${name}`, urls.map((url) => newExporter(protocol, compression, url))));

  let spans = 0;
  for (let number = 0; number < FAST; number += 1) {
    spans += record(services, number, 50);
  }
  await Promise.all(services.map((service) => service.provider.forceFlush()));
  // What is slow is compared with what was decided before.
  await sleep(1000);
  for (let number = FAST; number < FAST + SLOW; number += 1) {
    spans += record(services, number, 775);
  }
  await Promise.all(services.map((service) => service.provider.shutdown()));
  console.log(spans);
}

main();
