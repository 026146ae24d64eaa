//! Compiles the gRPC glue of the four OTLP services.
//!
//! Requests and responses are mapped to `otlp::codec::Body`, so the generated servers and clients hand
//! bytes through and never build message objects.

use std::error::Error;

const SIGNALS: [(&str, &str, &str); 4] = [
    ("trace", "v1", "Trace"),
    ("metrics", "v1", "Metrics"),
    ("logs", "v1", "Logs"),
    ("profiles", "v1development", "Profiles"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files: Vec<String> = SIGNALS
        .iter()
        .map(|(signal, version, _)| {
            format!("opentelemetry/proto/collector/{signal}/{version}/{signal}_service.proto")
        })
        .collect();
    let descriptors = protox::compile(&files, ["proto"])?;

    let mut builder =
        tonic_prost_build::configure().codec_path("crate::otlp::codec::RawCodec").include_file("services.rs");
    for (signal, version, name) in SIGNALS {
        let package = format!(".opentelemetry.proto.collector.{signal}.{version}");
        for message in ["Request", "Response", "PartialSuccess"] {
            let path = match message {
                "PartialSuccess" => format!("{package}.Export{name}PartialSuccess"),
                _ => format!("{package}.Export{name}Service{message}"),
            };
            builder = builder.extern_path(path, "crate::otlp::codec::Body");
        }
    }
    for (package, version) in [
        ("common", "v1"),
        ("resource", "v1"),
        ("trace", "v1"),
        ("metrics", "v1"),
        ("logs", "v1"),
        ("profiles", "v1development"),
    ] {
        // Never generated: nothing in this crate builds these messages from our own copy.
        builder =
            builder.extern_path(format!(".opentelemetry.proto.{package}.{version}"), "crate::otlp::codec");
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}
