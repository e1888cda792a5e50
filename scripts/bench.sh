#!/usr/bin/env bash
# Measures a fresh local cluster of three nodes: `full` prints a few scenarios, `smoke` is short and
# fails when speed has collapsed. Further arguments go to `warren-bench run`.
#
# The limits of `smoke` are far from what an idle machine reaches: CI's is shared and slow.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:?full or smoke}
shift
: "${WARREN_BIN:?}" "${WARREN_BENCH_BIN:?}"
rate_min=${BENCH_RATE_MIN:-2000}       # Messages per second.
cpu_us_max=${BENCH_CPU_US_MAX:-200}    # Processor time of all nodes per message.

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

[ "$#" -gt 0 ] || set -- --duration 4 --warmup 1
bench "${durable[@]}" --json "$@" >"$dir/result.json"
python3 - "$dir/result.json" "$rate_min" "$cpu_us_max" <<'PYTHON'
import json, sys

result = json.load(open(sys.argv[1]))
measured, verdict = result["measured"], result["verdict"]
rate, cpu = measured["received_per_s"], measured["broker_cpu_us_per_message"]
print(f"bench-smoke: {rate:.0f} messages/s at {cpu:.1f} us of processor time per message")
wrong = {what: verdict[what] for what in ("lost", "duplicates", "out_of_order") if verdict[what]}
if wrong:
    sys.exit(f"error: {wrong}")
if rate < float(sys.argv[2]) or cpu > float(sys.argv[3]):
    sys.exit(f"error: slower than {sys.argv[2]} messages/s or above {sys.argv[3]} us")
PYTHON
