"""Who does not belong to the cluster is kept out, and both logs say so."""

from __future__ import annotations

import shutil

from harness import amqp
from harness.wait import eventually


def mentions(node, *words: str) -> bool:
    """Whether a log line holds one of these words."""
    text = node.log_text().lower()
    return any(word in text for word in words)


def test_wrong_secret(fresh, name) -> None:
    cluster = fresh(3).start()
    first, second, stranger = cluster.nodes
    right = stranger.secret
    stranger.kill()
    stranger.secret = "not the secret"
    cluster.start([stranger], wait=False)
    channel = amqp.confirmed(cluster.connect(first))
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"x"])
    eventually(lambda: mentions(stranger, "secret"), what="the stranger's log names the secret")
    eventually(
        lambda: mentions(first, "secret") or mentions(second, "secret"),
        what="a member's log names the secret",
    )
    assert right not in stranger.log_text() + first.log_text() + second.log_text()
    assert "not the secret" not in first.log_text() + second.log_text()
    assert not stranger.running or not stranger.is_ready()
    # With the right one it is let in.
    stranger.kill()
    stranger.secret = right
    cluster.start([stranger])
    assert amqp.get_all(cluster.connect(stranger).channel(), name, 1) == [b"x"]


def test_never_formed_with_a_stranger(fresh) -> None:
    """A first start in which one node has another secret: no cluster, and the log says why."""
    cluster = fresh(3)
    first, _, stranger = cluster.nodes
    stranger.secret = "not the secret"
    cluster.start(wait=False)
    eventually(lambda: mentions(stranger, "secret"), what="the stranger's log names the secret")
    eventually(lambda: mentions(first, "secret"), what="a member's log names the secret")
    assert not any(node.running and node.is_ready() for node in cluster.nodes)


def test_node_of_another_cluster(fresh, name) -> None:
    """A data directory that belongs to another cluster does not mix in."""
    ours, theirs = fresh(3).start(), fresh(3).start()
    theirs.connect(1).channel().queue_declare(name + "-foreign", durable=True)
    for node in theirs.nodes:
        node.kill()
    stranger = ours.nodes[2]
    stranger.kill()
    shutil.rmtree(stranger.data_dir)
    shutil.copytree(theirs.nodes[2].data_dir, stranger.data_dir)
    ours.start([stranger], wait=False)
    eventually(
        lambda: (
            not stranger.running or mentions(stranger, "another cluster", "foreign", "cluster id")
        ),
        what="the stranger says that it belongs to another cluster",
    )
    channel = amqp.confirmed(ours.connect(1))
    channel.queue_declare(name, durable=True)
    amqp.fill(channel, name, [b"x"])
    with amqp.channel_error(404):
        ours.connect(2).channel().queue_declare(name + "-foreign", passive=True)
    assert not stranger.running or not stranger.is_ready()


def test_peers_without_a_secret_are_refused_at_start(fresh) -> None:
    cluster = fresh(3)
    node = cluster.nodes[0]
    peers, node.peers = node.peers, ""
    node.extra_args += ["--peers", peers]
    node.start()
    eventually(lambda: not node.running, what="the node refuses to start")
    assert node.process.returncode not in (0, None)
    assert "secret" in node.log_text()
