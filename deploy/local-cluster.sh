#!/usr/bin/env bash
# Runs a cluster of three local nodes in the foreground; one Ctrl-C stops them cleanly.
#
#   node   AMQP   cluster   management
#   1      5672   25672     15672
#   2      5673   25673     15673
#   3      5674   25674     15674
#
# WARREN_BIN names the program, WARREN_CLUSTER_DATA where the nodes keep their data (./data). Further
# arguments go to every `warren serve`. WARREN_CLUSTER_PORT_OFFSET is added to all ports.
set -euo pipefail

bin=${WARREN_BIN:-warren}
data=${WARREN_CLUSTER_DATA:-./data}
offset=${WARREN_CLUSTER_PORT_OFFSET:-0}
nodes=(1 2 3)
# They are for this script, make and the tests; a node would say that they are no options of its.
unset WARREN_BIN WARREN_BENCH_BIN WARREN_VENV WARREN_CLUSTER_DATA WARREN_CLUSTER_PORT_OFFSET

command -v "$bin" >/dev/null || { echo "error: no program '$bin': run make build, or set WARREN_BIN" >&2; exit 1; }
mkdir -p "$data"
secret=$data/cluster-secret
[ -s "$secret" ] || (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$secret")

peers=
for n in "${nodes[@]}"; do
    peers+="${peers:+,}$n=127.0.0.1:$((25671 + offset + n))"
done

# The prefixer outlives Ctrl-C, so that the last lines of a node are seen.
prefix() {
    trap '' INT TERM
    exec sed -u "s/^/$1 | /"
}

# A session of its own keeps the terminal's Ctrl-C from a node: this script stops it, once. Should
# this script die without a word, the kernel stops its nodes.
own_session=()
command -v setpriv >/dev/null && own_session+=(setpriv --pdeathsig TERM)
command -v setsid >/dev/null && own_session+=(setsid)

declare -A pids=()
stopping=
stop() {
    if [ -n "$stopping" ]; then
        echo "Stopping at once."
        kill -KILL "${pids[@]}" 2>/dev/null || true
        return
    fi
    stopping=yes
    echo "Stopping (Ctrl-C again to stop at once)."
    kill -TERM "${pids[@]}" 2>/dev/null || true
}
trap stop INT TERM

for n in "${nodes[@]}"; do
    "${own_session[@]}" "$bin" serve --node-id "$n" --data-dir "$data/node$n" \
        --amqp-listen "127.0.0.1:$((5671 + offset + n))" \
        --cluster-listen "127.0.0.1:$((25671 + offset + n))" \
        --management-listen "127.0.0.1:$((15671 + offset + n))" \
        --peers "$peers" --cluster-secret-file "$secret" "$@" \
        > >(prefix "node$n") 2>&1 </dev/null &
    pids[$n]=$!
done

# Waits for every node. A node that ends by itself takes the others with it.
status=0
while [ "${#pids[@]}" -gt 0 ]; do
    ended=
    code=0
    wait -n -p ended "${pids[@]}" 2>/dev/null || code=$?
    [ -n "${ended:-}" ] || continue # A signal, not an end.
    for m in "${!pids[@]}"; do
        [ "${pids[$m]}" = "$ended" ] || continue
        [ -n "$stopping" ] || echo "Node $m ended with status $code."
        unset "pids[$m]"
    done
    [ "$code" = 0 ] || status=1
    [ -n "$stopping" ] || stop
done
wait # For the last lines.
exit "$status"
