#!/usr/bin/env bash
# SDK -> laggard -> a real OpenTelemetry Collector: the Collector must receive a trace that names pre-processor.
#
# Without Go, which builds the Collector, the check is skipped, loudly.
# Only processes that are started here are ended.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
tests/peers/build-collector "$0" || { [[ $? == 3 ]] && exit 0; exit 1; }
peers=$(cd "$target/peers" && pwd)

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
