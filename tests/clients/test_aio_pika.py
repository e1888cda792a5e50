"""aio-pika: publisher confirms, robust connections, RPC, through a node kill."""

from __future__ import annotations

import asyncio

import aio_pika
import pytest
from aio_pika.patterns import RPC, Master

from harness.amqp import url
from harness.wait import SOON


def run(coroutine) -> None:
    asyncio.run(asyncio.wait_for(coroutine, SOON * 2))


def test_work_through_a_topic_exchange(broker, name) -> None:
    async def program() -> None:
        sender = await aio_pika.connect_robust(url(broker.port(0)))
        receiver = await aio_pika.connect_robust(url(broker.port(1)))
        async with sender, receiver:
            out = await sender.channel(publisher_confirms=True, on_return_raises=True)
            exchange = await out.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
            channel = await receiver.channel()
            await channel.set_qos(prefetch_count=10)
            queue = await channel.declare_queue(
                name, durable=True, arguments={"x-max-length": 100000}
            )
            await queue.bind(name, "jobs.#")
            for i in range(200):
                message = aio_pika.Message(
                    b"%d" % i,
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    headers={"i": i},
                    message_id=f"m{i}",
                )
                await exchange.publish(message, routing_key=f"jobs.{i % 3}")
            seen = []
            async with queue.iterator() as messages:
                async for message in messages:
                    async with message.process():
                        assert message.headers["i"] == int(message.body)
                        seen.append(int(message.body))
                    if len(seen) == 200:
                        break
            assert seen == list(range(200))
            with pytest.raises(aio_pika.exceptions.PublishError):
                await exchange.publish(aio_pika.Message(b""), routing_key="nobody", mandatory=True)
            await queue.delete(if_unused=False, if_empty=False)

    run(program())


def test_rpc_pattern(broker, name) -> None:
    async def multiply(*, x: int, y: int) -> int:
        return x * y

    async def program() -> None:
        server = await aio_pika.connect_robust(url(broker.port(0)))
        client = await aio_pika.connect_robust(url(broker.port(2)))
        async with server, client:
            serving = await RPC.create(await server.channel())
            await serving.register(name, multiply, auto_delete=True)
            calling = await RPC.create(await client.channel())
            answers = await asyncio.gather(
                *(calling.call(name, kwargs={"x": i, "y": i}) for i in range(30))
            )
            assert answers == [i * i for i in range(30)]
            await calling.close()
            await serving.close()

    run(program())


def test_master_worker_pattern(broker, name) -> None:
    async def program() -> None:
        done: list[int] = []
        finished = asyncio.Event()

        async def work(*, task: int) -> None:
            done.append(task)
            if len(done) == 50:
                finished.set()

        maker = await aio_pika.connect_robust(url(broker.port(1)))
        taker = await aio_pika.connect_robust(url(broker.port(2)))
        async with maker, taker:
            channel = await taker.channel()
            await channel.set_qos(prefetch_count=1)
            worker = await Master(channel).create_worker(name, work, durable=True)
            master = Master(await maker.channel())
            for i in range(50):
                await master.create_task(name, {"task": i})
            await finished.wait()
            assert sorted(done) == list(range(50))
            await worker.close()

    run(program())


def test_robust_connection_survives_a_kill(victim_cluster, name) -> None:
    """Its own node dies and returns: the library reconnects and its consumer goes on."""

    async def program() -> None:
        cluster = victim_cluster
        publisher_node, consumer_node = cluster.nodes[0], cluster.nodes[1]
        sender = await aio_pika.connect_robust(
            url(publisher_node.amqp_port), reconnect_interval=0.2
        )
        receiver = await aio_pika.connect_robust(
            url(consumer_node.amqp_port), reconnect_interval=0.2
        )
        seen: set[int] = set()
        everything = asyncio.Event()
        total = 300

        async def on_message(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            seen.add(int(message.body))
            try:
                await message.ack()
            except (aio_pika.exceptions.AMQPError, RuntimeError, ConnectionError):
                pass  # The connection went meanwhile; it comes again.
            if len(seen) == total:
                everything.set()

        async with sender, receiver:
            channel = await receiver.channel()
            await channel.set_qos(prefetch_count=20)
            queue = await channel.declare_queue(name, durable=True)
            await queue.consume(on_message)
            out = await sender.channel(publisher_confirms=True)
            for i in range(total):
                if i == 100:
                    consumer_node.kill()
                if i == 200:
                    # From the event loop's thread, which is the main thread.
                    cluster.start([consumer_node], wait=False)
                await out.default_exchange.publish(
                    aio_pika.Message(b"%d" % i, delivery_mode=2), routing_key=name
                )
            await everything.wait()
        assert seen == set(range(total))

    run(program())
