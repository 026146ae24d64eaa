#!/usr/bin/env bash
# SDK -> laggard -> a real OpenTelemetry Collector: the Collector must receive a trace that names pre-processor.
#
# The Collector is built once from the Go module proxy, into target/peers. Without Go the check is skipped, loudly.
# Only processes that are started here are ended.
set -euo pipefail
cd "$(dirname "$0")/../.."

builder_version=v0.161.0
manifest=tests/peers/collector.builder.yaml
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/peers"
peers=$(cd "$target/peers" && pwd)

if ! command -v go >/dev/null; then
    echo "SKIPPED: tests/peers/collector.sh needs Go 1.25 or later to build a Collector; no 'go' was found" >&2
    exit 0
fi

build_collector() {
    if [[ -x $peers/collector ]] && cmp -s "$manifest" "$peers/built-from.yaml"; then
        return
    fi
    echo "building a Collector (about two minutes the first time)"
    GOBIN=$peers go install "go.opentelemetry.io/collector/cmd/builder@$builder_version"
    cp "$manifest" "$peers/manifest.yaml"
    (cd "$peers" && ./builder --config manifest.yaml --skip-compilation && cd source && CGO_ENABLED=0 go build -buildvcs=false -o ../collector .)
    mv "$peers/manifest.yaml" "$peers/built-from.yaml"
}

# A port that nobody listens on now. Another process can take it in between; then the check fails and says so.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

# wait_for SECONDS WHAT COMMAND...: tries the command five times a second.
wait_for() {
    local seconds=$1 what=$2
    shift 2
    for ((attempt = 0; attempt < seconds * 5; attempt++)); do
        if "$@" 2>/dev/null; then
            return
        fi
        sleep 0.2
    done
    fail "$what did not happen within $seconds s"
}

fail() {
    echo "FAILED: $1" >&2
    for log in "$run"/*.log; do
        echo "--- $(basename "$log")" >&2
        tail -n 30 "$log" >&2
    done
    exit 1
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }

run=$(mktemp -d)
collector='' laggard=''
# shellcheck disable=SC2329 # called by the trap
clean_up() {
    for process in $laggard $collector; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$run"
}
trap clean_up EXIT

build_collector
cargo build --locked --bin laggard --example peer-sender

backend=$(free_port) grpc=$(free_port) http=$(free_port) admin=$(free_port)

cat >"$run/collector.yaml" <<YAML
receivers:
  otlp: {protocols: {grpc: {endpoint: "127.0.0.1:$backend"}}}
exporters:
  file: {path: "$run/received.json", flush_interval: 200ms}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [file]}
YAML
"$peers/collector" --config "$run/collector.yaml" >"$run/collector.log" 2>&1 &
collector=$!
wait_for 20 "the Collector's start" listens "$backend"

cat >"$run/laggard.yaml" <<YAML
receive:
  grpc: {endpoint: "127.0.0.1:$grpc"}
  http: {endpoint: "127.0.0.1:$http"}
assemble: {decision_wait: 2s, decision_wait_after_root_received: 500ms}
slow: {threshold: 400ms}
export: {endpoint: "http://127.0.0.1:$backend"}
shutdown: {delay: 0s, drain_timeout: 5s}
telemetry: {admin: {endpoint: "127.0.0.1:$admin"}}
YAML
"$target/debug/laggard" run --config "$run/laggard.yaml" >"$run/laggard.log" 2>&1 &
laggard=$!
wait_for 20 "laggard's start" listens "$grpc"

timeout 60 "$target/debug/examples/peer-sender" "http://127.0.0.1:$grpc" >"$run/sender.log" 2>&1 ||
    fail "the sender ended with $?"

# As the file exporter writes it: {"key":"root_cause.service","value":{"stringValue":"pre-processor"}}
names_the_culprit() {
    grep -Eq '"root_cause\.service","value":\{"stringValue":"pre-processor"\}' "$run/received.json"
}
wait_for 20 "a trace with root_cause.service = pre-processor in the Collector" names_the_culprit
if grep -Eo '"root_cause\.service","value":\{"stringValue":"[^"]*"\}' "$run/received.json" | grep -v '"pre-processor"'; then
    fail "another service was named too"
fi

kill -TERM "$laggard"
wait "$laggard" || fail "laggard ended with $? after SIGTERM"
laggard=''
echo "OK: a real Collector $("$peers/collector" --version | grep -o '[0-9][0-9.]*$') received root_cause.service = pre-processor"
