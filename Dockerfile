# The image: one static program and nothing else. For several platforms, with an SBOM:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --sbom=true --provenance=true \
#     --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" --tag laggard/laggard:0.1.0 --push .
#
# On Alpine the host's own target is musl, so that each platform builds what it runs, statically, without a cross compiler.
FROM rust:1.95.0-alpine AS build
# Alpine keeps no older version of a package, so that a pinned one would end the build some day.
# hadolint ignore=DL3018
RUN apk add --no-cache build-base ca-certificates-bundle
WORKDIR /src
COPY . .
# The image has this toolchain; without the variable rustup would fetch the developers' tools of rust-toolchain.toml.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin laggard --config 'profile.release.strip="symbols"' \
    && cp target/release/laggard /laggard

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="laggard" \
      org.opencontainers.image.description="An OTLP sidecar that names the service which made a trace slow" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /laggard /laggard
COPY LICENSE /LICENSE
USER 65532:65532
EXPOSE 4317 4318 13134
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s CMD ["/laggard", "health", "--config=/etc/laggard/config.yaml"]
ENTRYPOINT ["/laggard"]
CMD ["run", "--config=/etc/laggard/config.yaml"]
