"""The first user and vhost come from the environment, also under RabbitMQ's names."""

from __future__ import annotations

import json

import pika
import pytest

from harness import amqp
from harness.cluster import Cluster


@pytest.mark.parametrize("prefix", ["WARREN", "RABBITMQ"])
def test_named_by_the_environment(prefix) -> None:
    with Cluster(1) as cluster:
        for key, value in [("USER", "first"), ("PASS", "secret"), ("VHOST", "shop")]:
            cluster.node(1).extra_env[f"{prefix}_DEFAULT_{key}"] = value
        cluster.start()
        port = cluster.node(1).amqp_port
        login = {"user": "first", "password": "secret", "virtual_host": "shop"}
        connection = amqp.connect(port, **login)
        connection.channel().queue_declare("jobs", durable=True)
        connection.close()
        # There is nobody else.
        with pytest.raises(pika.exceptions.ProbableAuthenticationError):
            amqp.connect(port, virtual_host="shop")
        status, answer = cluster.node(1).http("/api/users", user="first", password="secret")
        users = {user["name"]: user["tags"] for user in json.loads(answer)}
        assert (status, users) == (200, {"first": ["administrator"]})
