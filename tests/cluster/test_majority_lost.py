"""A majority of the disks is lost for good: what is left goes on alone, and the others come back empty."""

from __future__ import annotations

import os
import shutil
import subprocess

from harness import amqp
from harness.cluster import Cluster
from harness.node import Node
from harness.wait import eventually


def recover(node: Node, *options: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = node.command()
    command[1] = "recover"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WARREN_")}
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def fill(cluster: Cluster, node: int, queues: list[str], bodies: list[bytes]) -> None:
    connection = cluster.connect(node)
    channel = amqp.confirmed(connection)
    for queue in queues:
        channel.queue_declare(queue, durable=True)
        amqp.fill(channel, queue, bodies)
    connection.close()


def drain(cluster: Cluster, node: int, queue: str, count: int) -> list[bytes]:
    connection = cluster.connect(node)
    bodies = amqp.get_all(connection.channel(), queue, count)
    connection.close()
    return bodies


def test_one_disk_of_three_is_left(fresh) -> None:
    cluster = fresh(3).start()
    one, two, three = cluster.nodes
    # In several shards.
    queues = [f"jobs-{i}" for i in range(8)]
    bodies = [b"%d" % i for i in range(50)]
    fill(cluster, 1, queues, bodies)
    for queue in queues:
        cluster.wait_in_sync(queue)

    # Not while it runs.
    assert "lock" in recover(two, "--yes", code=1).stderr
    cluster.kill_all()
    shutil.rmtree(one.data_dir)
    kept = three.data_dir.rename(three.data_dir.with_name("kept"))

    shown = recover(two)
    assert "shard 8" in shown.stdout and "Nothing was changed" in shown.stdout
    done = recover(two, "--yes")
    assert "Node 2 is now the only one" in done.stdout
    cluster.start([two])
    assert drain(cluster, 2, queues[0], 50) == bodies
    fill(cluster, 2, ["late"], bodies)

    # A disk that turns up after all is not let in, and changes nothing.
    shutil.copytree(kept, three.data_dir)
    cluster.start([three], wait=False)
    eventually(lambda: "another cluster" in three.log_tail(), what="the old disk is refused")
    three.kill()
    shutil.rmtree(three.data_dir)
    # Whoever does not come back can be forgotten; and may come back all the same.
    assert two.http("/api/cluster/nodes/warren@3", "DELETE", timeout=30)[0] in (200, 204)

    cluster.start([one, three])
    for queue in [*queues, "late"]:
        cluster.wait_in_sync(queue)
    # Whichever is lost now, nothing is missing.
    two.kill()
    for queue in [*queues[1:], "late"]:
        assert drain(cluster, 3, queue, 50) == bodies


def test_no_disk_to_recover(fresh, tmp_path) -> None:
    cluster = fresh(3)
    node = cluster.nodes[0]
    node.data_dir = tmp_path / "nothing"
    error = recover(node, "--yes", code=1).stderr
    assert "no node has ever had it" in error
    assert not node.data_dir.exists()
