"""A cluster of nodes on loopback, with its network under the test's control if wished."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika

from harness import amqp
from harness.netcut import Network
from harness.node import Node
from harness.ports import free_port
from harness.wait import SOON, eventually

#: Clusters that exist now, so that a failing test can print their logs.
live: weakref.WeakSet[Cluster] = weakref.WeakSet()

SECRET = "tests-only-secret"


class Cluster:
    """`size` nodes with fresh data directories. Use as a context manager, or call `close`."""

    def __init__(
        self,
        size: int = 3,
        *,
        network: bool = False,
        config: str | None = None,
        extra_args: Sequence[str] = (),
        root: Path | None = None,
    ) -> None:
        """`network`: put a proxy before every cluster port, so that the test can cut links.

        `config`: text of a `warren.toml` shared by all nodes.
        """
        self.root = Path(root or tempfile.mkdtemp(prefix="warren-test-"))
        self.keep = False
        cluster_ports = {i: free_port() for i in range(1, size + 1)}
        self.network = Network(cluster_ports) if network else None
        advertised = {
            i: f"127.0.0.1:{self.network.port(i) if self.network else port}"
            for i, port in cluster_ports.items()
        }
        peers = ",".join(f"{i}={address}" for i, address in advertised.items())
        config_path = None
        if config is not None:
            config_path = self.root / "warren.toml"
            config_path.write_text(config)
        self.nodes: list[Node] = [
            Node(
                id=i,
                data_dir=self.root / f"data-{i}",
                log_path=self.root / f"node-{i}.log",
                amqp_port=free_port(),
                cluster_port=cluster_ports[i],
                management_port=free_port(),
                peers=peers if size > 1 else "",
                secret=SECRET,
                advertise=advertised[i],
                config_path=config_path,
                extra_args=list(extra_args),
            )
            for i in range(1, size + 1)
        ]
        live.add(self)

    # --- life -----------------------------------------------------------------------------

    def start(self, nodes: Iterable[Node] | None = None, wait: bool = True) -> Cluster:
        """Starts these nodes (default: all that do not run) and waits until they serve."""
        chosen = [n for n in (nodes if nodes is not None else self.nodes) if not n.running]
        for node in chosen:
            node.start()
            if self.network:
                self.network.tell_pid(node.id, node.pid)
        if wait:
            for node in chosen:
                node.wait_ready()
        return self

    def kill_all(self) -> None:
        """kill -9 of every node, all signals sent before any is waited for."""
        import signal

        for node in self.nodes:
            node.signal(signal.SIGKILL)
        for node in self.nodes:
            node.kill()

    def close(self, graceful: bool = False) -> None:
        """Ends all nodes and removes their data; then complains about panics in their logs.

        `graceful`: by SIGTERM, one after another, each having to end well.
        """
        failures: list[str] = []
        for node in self.nodes:
            if not node.running:
                continue
            node.thaw()
            if graceful:
                try:
                    status = node.terminate()
                    if status != 0:
                        failures.append(f"{node} ended with status {status} on SIGTERM")
                except AssertionError as error:
                    failures.append(str(error))
            else:
                node.kill()
        if self.network:
            self.network.close()
        failures += [f"{node}: {line}" for node in self.nodes for line in node.panics()]
        live.discard(self)
        if failures or self.keep:
            tails = "\n".join(f"--- {n}\n{n.log_tail()}" for n in self.nodes)
            for node in self.nodes:
                shutil.rmtree(node.data_dir, ignore_errors=True)
            if failures:
                raise AssertionError("\n".join([*failures, f"logs in {self.root}", tails]))
        else:
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None:
            self.keep = True
            try:
                self.close()
            except AssertionError:
                pass  # The test's own failure says more; the logs are kept.
        else:
            self.close()

    # --- questions ------------------------------------------------------------------------

    def node(self, node_id: int) -> Node:
        return next(n for n in self.nodes if n.id == node_id)

    def others(self, *not_these: Node) -> list[Node]:
        """The running nodes except these."""
        return [n for n in self.nodes if n.running and n not in not_these]

    def connect(self, node: Node | int = 1, **parameters: Any) -> pika.BlockingConnection:
        chosen = node if isinstance(node, Node) else self.node(node)
        return amqp.connect(chosen.amqp_port, **parameters)

    def find_leader(self, queue: str, ask: Iterable[Node] | None = None) -> Node | None:
        """The node that leads this queue now, as the asked nodes (default: running ones) see it.

        The only place that knows how to find out.
        """
        for node in ask if ask is not None else self.nodes:
            if not node.running:
                continue
            info = node.queue_info(queue)
            leader = info and info.get("leader")
            if leader:
                return self.node(int(str(leader).rpartition("@")[2]))
        return None

    def leader(self, queue: str, ask: Iterable[Node] | None = None) -> Node:
        """The leader of this queue, waiting for one."""
        return eventually(lambda: self.find_leader(queue, ask), SOON, f"'{queue}' has a leader")

    def other_leader(self, queue: str, old: Node) -> Node:
        """Waits until the nodes other than `old` agree that `old` does not lead any more."""
        ask = [n for n in self.nodes if n is not old]

        def changed() -> Node | None:
            leader = self.find_leader(queue, ask)
            return leader if leader is not None and leader is not old else None

        return eventually(changed, SOON, f"'{queue}' has a leader other than {old}")

    def wait_in_sync(self, queue: str) -> None:
        """Waits until every running node is a voting replica of this queue and has caught up."""
        running = [n for n in self.nodes if n.running]
        names = {f"warren@{n.id}" for n in running}
        ask = running[0]
        path = f"/api/queues/quorum/%2F/{quote(queue, safe='')}/status"

        def rows() -> dict[str, Any]:
            return {row["Node Name"]: row for row in json_of(ask.http(path, timeout=10))}

        def voting() -> bool:
            for node in running:
                info = node.queue_info(queue) or {}
                assert names <= set(info.get("members", [])), f"{node}: {info.get('members')}"
            status = json_of(ask.http("/api/cluster/status", timeout=10))
            learners = {g["name"]: g["learners"] for g in status["groups"] if g["learners"]}
            assert not learners, f"still learning: {learners}"
            return True

        eventually(voting, SOON, f"all running nodes vote for '{queue}'")
        goal = max(row["Commit Index"] for row in rows().values())

        def caught_up() -> bool:
            now = rows()
            applied = [row["Last Applied"] for name, row in now.items() if name in names]
            assert min(applied) >= goal, f"to reach {goal}: {now}"
            return True

        eventually(caught_up, SOON, f"all replicas of '{queue}' have caught up")

    def overview(self) -> str:
        """For failure messages: what each node says about itself."""
        lines = []
        for node in self.nodes:
            lines.append(f"{node}: running={node.running} ready={node.running and node.is_ready()}")
        return "\n".join(lines)


def json_of(answer: tuple[int, bytes]) -> Any:
    """The JSON of a management answer that has to be a success."""
    status, body = answer
    assert 200 <= status < 300, (status, body[:500])
    return json.loads(body)
