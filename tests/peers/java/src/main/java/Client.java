import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanBuilder;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.IdGenerator;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.SpanLimits;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.time.Instant;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;

/**
 * Sends the traffic of docs/peers.md with the OpenTelemetry SDK of Java:
 * {@code java Client PROTOCOL COMPRESSION SERVICES_PREFIX LAGGARD_URL DIRECT_URL}.
 */
public final class Client {
  private static final int FAST = 30;
  private static final int SLOW = 2;
  private static final int WITH_REMOTE_PARENT = 3;
  private static final int WITH_ERROR = 7;

  private final SdkTracerProvider provider;
  private final Tracer tracer;

  private Client(String name, List<SpanExporter> exporters) {
    Attributes attributes = Attributes.of(
        AttributeKey.stringKey("service.name"), name,
        AttributeKey.stringKey("service.version"), "1.2.3",
        AttributeKey.stringArrayKey("host.ip"), List.of("127.0.0.1", "::1"));
    var builder = SdkTracerProvider.builder()
        .setResource(Resource.create(attributes, "https://opentelemetry.io/schemas/1.36.0"))
        .setSpanLimits(SpanLimits.builder().setMaxNumberOfEvents(2).build());
    exporters.forEach(exporter -> builder.addSpanProcessor(BatchSpanProcessor.builder(exporter).build()));
    provider = builder.build();
    tracer = provider.tracerBuilder("peer").setInstrumentationVersion("0.1.0")
        .setSchemaUrl("https://example.com/scope").build();
  }

  private static SpanExporter exporter(String protocol, String compression, String url) {
    return switch (protocol) {
      case "grpc" -> OtlpGrpcSpanExporter.builder().setEndpoint(url).setCompression(compression).build();
      case "http/protobuf" ->
          OtlpHttpSpanExporter.builder().setEndpoint(url + "/v1/traces").setCompression(compression).build();
      default -> throw new IllegalArgumentException("this SDK does not speak " + protocol);
    };
  }

  private SpanBuilder span(SpanContext parent, String name, SpanKind kind, Instant start) {
    SpanBuilder builder = tracer.spanBuilder(name).setSpanKind(kind).setStartTimestamp(start);
    return parent == null
        ? builder.setNoParent()
        : builder.setParent(Context.root().with(Span.wrap(parent)));
  }

  /** As the other side of a call knows it. */
  private static SpanContext remote(Span span) {
    SpanContext context = span.getSpanContext();
    return SpanContext.createFromRemoteParent(
        context.getTraceId(), context.getSpanId(), context.getTraceFlags(), context.getTraceState());
  }

  private static SpanContext foreign(TraceState state) {
    IdGenerator ids = IdGenerator.random();
    return SpanContext.createFromRemoteParent(
        ids.generateTraceId(), ids.generateSpanId(), TraceFlags.getSampled(), state);
  }

  private static int record(List<Client> services, int number, int own) {
    Client inferenceServer = services.get(0);
    Client preProcessor = services.get(1);
    Client webServer = services.get(2);
    Instant start = Instant.now().minusSeconds(2).plusNanos(number);

    // Some jitter, so that no two traces last equally long.
    int whole = own + 130 + number % 7;
    SpanContext caller = number == WITH_REMOTE_PARENT
        ? foreign(TraceState.builder().put("other", "1").put("vendor", "t61rcWkgMzE").build())
        : null;
    Span entry = webServer.span(caller, "GET /checkout", SpanKind.SERVER, start)
        .setAttribute("http.request.method", "GET")
        .setAttribute("http.route", "/checkout")
        .setAttribute("user.id", (1L << 53) - 1)
        .setAttribute("cart.total", 19.99)
        .setAttribute("cart.express", true)
        .setAttribute(AttributeKey.stringArrayKey("cart.items"), List.of("caf\u00e9", "\u8336", ""))
        .setAttribute(AttributeKey.longArrayKey("cart.counts"), List.of(1L, -2L, 3L))
        .setAttribute("empty", "")
        .startSpan();
    Span call = webServer.span(entry.getSpanContext(), "POST", SpanKind.CLIENT, start.plusMillis(4))
        .setAttribute("server.address", "pre").startSpan();
    Span request =
        preProcessor.span(remote(call), "preprocess-request", SpanKind.SERVER, start.plusMillis(5)).startSpan();
    // One more than the limit, so that the SDK counts a dropped one.
    for (int event = 0; event < 3; event++) {
      Attributes status = Attributes.of(AttributeKey.longKey("downstream.status_code"), 200L + event);
      request.addEvent("step " + event, status, start.plusMillis(6 + event));
    }
    Span onward =
        preProcessor.span(request.getSpanContext(), "POST", SpanKind.CLIENT, start.plusMillis(5 + own)).startSpan();
    SpanContext batch = foreign(TraceState.builder().put("vendor", "linked").build());
    Span inference = inferenceServer
        .span(remote(onward), "inference-service-post", SpanKind.SERVER, start.plusMillis(6 + own))
        .addLink(batch, Attributes.of(AttributeKey.stringKey("link.reason"), "batched"))
        .startSpan();
    if (number == WITH_ERROR) {
      inference.recordException(new OutOfMemoryError("no room"));
      inference.setStatus(StatusCode.ERROR, "out of memory");
    } else {
      inference.setStatus(StatusCode.OK);
    }

    inference.end(start.plusMillis(6 + own + 98));
    onward.end(start.plusMillis(5 + own + 100));
    request.end(start.plusMillis(5 + whole - 10));
    call.end(start.plusMillis(4 + whole - 8));
    entry.end(start.plusMillis(whole));
    return 5;
  }

  public static void main(String[] arguments) throws InterruptedException {
    String[] urls = Arrays.copyOfRange(arguments, 3, arguments.length);
    // In the order in which they export: roots come last.
    List<Client> services = List.of("inference-server", "pre-processor", "web-server").stream()
        .map(name -> new Client(arguments[2] + "-" + name,
            Arrays.stream(urls).map(url -> exporter(arguments[0], arguments[1], url)).toList()))
        .toList();

    int spans = 0;
    for (int number = 0; number < FAST; number++) {
      spans += record(services, number, 50);
    }
    services.forEach(service -> service.provider.forceFlush().join(10, TimeUnit.SECONDS));
    // What is slow is compared with what was decided before.
    Thread.sleep(1000);
    for (int number = FAST; number < FAST + SLOW; number++) {
      spans += record(services, number, 775);
    }
    services.forEach(service -> service.provider.shutdown().join(10, TimeUnit.SECONDS));
    System.out.println(spans);
  }
}
