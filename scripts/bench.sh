#!/usr/bin/env bash
# Measures a fresh local cluster of three nodes: `full` prints a few scenarios, `smoke` is short and
# fails when a message costs too much processor time. Further arguments go to `warren-bench run`.
#
# Only processor time is judged, which a busy machine changes little: rates depend on who else runs. The
# limits are several times what a busy machine shows.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:?full or smoke}
shift
: "${WARREN_BIN:?}" "${WARREN_BENCH_BIN:?}"
# Processor time of all nodes per message, in microseconds: a replicated and a transient queue.
durable_us_max=${BENCH_DURABLE_US_MAX:-150}
transient_us_max=${BENCH_TRANSIENT_US_MAX:-30}

dir=$(mktemp -d)
cluster=
cleanup() {
    if [ -n "$cluster" ]; then
        kill -TERM "$cluster" 2>/dev/null || true
        wait "$cluster" 2>/dev/null || true
    fi
    rm -rf "$dir"
}
trap cleanup EXIT

offset=$((10 + RANDOM % 900 * 10))
export WARREN_CLUSTER_PORT_OFFSET=$offset WARREN_CLUSTER_DATA=$dir/data WARREN_LOG=warn
deploy/local-cluster.sh >"$dir/log" 2>&1 &
cluster=$!
for n in 1 2 3; do
    url=http://127.0.0.1:$((15671 + offset + n))
    for _ in $(seq 300); do
        "$WARREN_BIN" ping --ready --url "$url" >/dev/null 2>&1 && continue 2
        kill -0 "$cluster" 2>/dev/null || break
        sleep 0.2
    done
    echo "error: the cluster is not ready; its log ends with:" >&2
    tail -n 30 "$dir/log" >&2
    exit 1
done

uris=
for n in 1 2 3; do
    uris+="${uris:+,}amqp://guest:guest@127.0.0.1:$((5671 + offset + n))/%2F"
done
# The nodes are children of the script that runs them.
pids=$(pgrep -P "$cluster" -f 'serve --node-id' | paste -sd, -)

bench() {
    "$WARREN_BENCH_BIN" run --uris "$uris" --broker-pids "$pids" "$@"
}
durable=(--durable --persistent --confirm-window 1000 --prefetch 1000)

if [ "$mode" = full ]; then
    echo "== one durable queue, 1 KiB, persistent, confirms"
    bench "${durable[@]}" "$@"
    echo "== ten durable queues, 1 KiB, ten producers and consumers"
    bench "${durable[@]}" --queues 10 --producers 10 --consumers 10 "$@"
    echo "== one transient queue, 16 B, automatic acknowledgement"
    bench --size 16 --auto-ack "$@"
    exit
fi

# A fixed number of messages, all of which arrive: of a fixed time a starved consumer sees too few.
smoke() { # name, limit, arguments of a run
    local name=$1 limit=$2
    shift 2
    bench --json --quiet "$@" >"$dir/result.json"
    python3 - "$dir/result.json" "$name" "$limit" <<'PYTHON'
import json, sys

path, name, limit = sys.argv[1:]
result = json.load(open(path))
measured, verdict = result["measured"], result["verdict"]
rate, cpu = measured["received_per_s"], measured["broker_cpu_us_per_message"]
if not cpu:
    sys.exit(f"error: {name}: nothing was measured")
print(f"bench-smoke: {name}: {cpu:.1f} us of processor time per message, {rate:.0f} messages/s")
wrong = {what: verdict[what] for what in ("lost", "duplicates", "out_of_order") if verdict[what]}
if wrong:
    sys.exit(f"error: {name}: {wrong}")
if cpu > float(limit):
    sys.exit(f"error: {name}: a message may cost {limit} us")
PYTHON
}
smoke replicated "$durable_us_max" "${durable[@]}" --messages 15000 "$@"
smoke transient "$transient_us_max" --auto-ack --messages 30000 "$@"
