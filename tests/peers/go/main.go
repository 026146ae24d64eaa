// Sends the traffic of docs/peers.md with the OpenTelemetry SDK of Go:
//
//	client PROTOCOL COMPRESSION SERVICES_PREFIX LAGGARD_URL DIRECT_URL
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
)

const (
	fast, slow                  = 30, 2
	withRemoteParent, withError = 3, 7
)

func exporter(ctx context.Context, protocol, compression, url string) (trace.SpanExporter, error) {
	switch protocol {
	case "grpc":
		options := []otlptracegrpc.Option{otlptracegrpc.WithEndpointURL(url), otlptracegrpc.WithInsecure()}
		if compression == "gzip" {
			options = append(options, otlptracegrpc.WithCompressor("gzip"))
		}
		return otlptracegrpc.New(ctx, options...)
	case "http/protobuf":
		options := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(url + "/v1/traces")}
		if compression == "gzip" {
			options = append(options, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
		}
		return otlptracehttp.New(ctx, options...)
	}
	return nil, fmt.Errorf("this SDK does not speak %s", protocol)
}

type service struct {
	provider *trace.TracerProvider
	tracer   api.Tracer
}

func newService(ctx context.Context, name string, arguments []string) (service, error) {
	limits := trace.NewSpanLimits()
	limits.EventCountLimit = 2
	options := []trace.TracerProviderOption{
		trace.WithResource(resource.NewWithAttributes("https://opentelemetry.io/schemas/1.36.0",
			attribute.String("service.name", name),
			attribute.String("service.version", "1.2.3"),
			attribute.StringSlice("host.ip", []string{"127.0.0.1", "::1"}))),
		trace.WithRawSpanLimits(limits),
	}
	for _, url := range arguments[3:] {
		exporter, err := exporter(ctx, arguments[0], arguments[1], url)
		if err != nil {
			return service{}, err
		}
		options = append(options, trace.WithBatcher(exporter))
	}
	provider := trace.NewTracerProvider(options...)
	tracer := provider.Tracer("peer", api.WithInstrumentationVersion("0.1.0"), api.WithSchemaURL("https://example.com/scope"),
		api.WithInstrumentationAttributes(attribute.String("scope.kind", "test")))
	return service{provider, tracer}, nil
}

func (s service) start(parent api.SpanContext, name string, kind api.SpanKind, start time.Time, more ...api.SpanStartOption) api.Span {
	ctx := context.Background()
	if parent.IsRemote() {
		ctx = api.ContextWithRemoteSpanContext(ctx, parent)
	} else if parent.IsValid() {
		ctx = api.ContextWithSpanContext(ctx, parent)
	}
	_, span := s.tracer.Start(ctx, name, append(more, api.WithSpanKind(kind), api.WithTimestamp(start))...)
	return span
}

func foreign(state string) api.SpanContext {
	parsed, err := api.ParseTraceState(state)
	if err != nil {
		log.Fatal(err)
	}
	config := api.SpanContextConfig{TraceFlags: api.FlagsSampled, TraceState: parsed, Remote: true}
	rand.Read(config.TraceID[:])
	rand.Read(config.SpanID[:])
	return api.NewSpanContext(config)
}

func record(services []service, number, own int) int {
	inferenceServer, preProcessor, webServer := services[0], services[1], services[2]
	start := time.Now().Add(-2*time.Second + time.Duration(number))
	at := func(milliseconds int) time.Time { return start.Add(time.Duration(milliseconds) * time.Millisecond) }

	// Some jitter, so that no two traces last equally long.
	whole := own + 130 + number%7
	var caller api.SpanContext
	if number == withRemoteParent {
		caller = foreign("vendor=t61rcWkgMzE,other=1")
	}
	entry := webServer.start(caller, "GET /checkout", api.SpanKindServer, at(0), api.WithAttributes(
		attribute.String("http.request.method", "GET"), attribute.String("http.route", "/checkout"),
		attribute.Int64("user.id", 1<<53-1), attribute.Float64("cart.total", 19.99), attribute.Bool("cart.express", true),
		attribute.StringSlice("cart.items", []string{"caf\u00e9", "\u8336", ""}),
		attribute.Int64Slice("cart.counts", []int64{1, -2, 3}), attribute.String("empty", "")))
	call := webServer.start(entry.SpanContext(), "POST", api.SpanKindClient, at(4),
		api.WithAttributes(attribute.String("server.address", "pre")))
	request := preProcessor.start(call.SpanContext().WithRemote(true), "preprocess-request", api.SpanKindServer, at(5))
	// One more than the limit, so that the SDK counts a dropped one.
	for event := range 3 {
		request.AddEvent(fmt.Sprintf("step %d", event), api.WithTimestamp(at(6+event)),
			api.WithAttributes(attribute.Int("downstream.status_code", 200+event)))
	}
	onward := preProcessor.start(request.SpanContext(), "POST", api.SpanKindClient, at(5+own))
	inference := inferenceServer.start(onward.SpanContext().WithRemote(true), "inference-service-post", api.SpanKindServer, at(6+own),
		api.WithLinks(api.Link{SpanContext: foreign("vendor=linked"),
			Attributes: []attribute.KeyValue{attribute.String("link.reason", "batched")}}))
	if number == withError {
		inference.RecordError(errors.New("no room"), api.WithTimestamp(at(7+own)))
		inference.SetStatus(codes.Error, "out of memory")
	} else {
		inference.SetStatus(codes.Ok, "")
	}

	inference.End(api.WithTimestamp(at(6 + own + 98)))
	onward.End(api.WithTimestamp(at(5 + own + 100)))
	request.End(api.WithTimestamp(at(5 + whole - 10)))
	call.End(api.WithTimestamp(at(4 + whole - 8)))
	entry.End(api.WithTimestamp(at(whole)))
	return 5
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	arguments := os.Args[1:]
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Fatal(err) }))

	// In the order in which they export: roots come last.
	var services []service
	for _, name := range []string{"inference-server", "pre-processor", "web-server"} {
		service, err := newService(ctx, arguments[2]+"-"+name, arguments)
		if err != nil {
			log.Fatal(err)
		}
		services = append(services, service)
	}

	spans := 0
	for number := range fast {
		spans += record(services, number, 50)
	}
	for _, service := range services {
		if err := service.provider.ForceFlush(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// What is slow is compared with what was decided before.
	time.Sleep(time.Second)
	for number := range slow {
		spans += record(services, fast+number, 775)
	}
	for _, service := range services {
		if err := service.provider.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(spans)
}
