"""What an operator does with the pages, done in a browser against three nodes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pika
from browser import Pages
from pika.adapters.blocking_connection import BlockingChannel
from selenium import webdriver

from harness import amqp
from harness.broker import Broker, part
from harness.cluster import Cluster
from harness.wait import eventually

#: Names that would do something if they were markup, a path or an address.
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "a/b%2Fc#d?e=f&g \"h\" 'i'",
    "javascript:alert(1)",
    "  zwei  Räume ☃ ",
]


def publish(channel: BlockingChannel, queue: str, count: int) -> None:
    for number in range(count):
        channel.basic_publish("", queue, f"message {number}".encode(), amqp.PERSISTENT)


def test_refused_and_accepted_login(pages: Pages) -> None:
    pages.expected.append("401")
    pages.open()
    pages.try_login("guest", "wrong")
    pages.see("Login refused (Not_Authorized)")
    assert pages.field("User").get_attribute("value") == "guest"
    pages.try_login("guest", "guest")
    pages.heading("Overview")
    # A reload keeps the login, leaving ends it.
    pages.driver.refresh()
    pages.heading("Overview")
    pages.press("Log out")
    pages.shown("input[name=password]")
    pages.driver.refresh()
    pages.shown("input[name=password]")


def test_the_page_asked_for_comes_after_the_login(pages: Pages) -> None:
    pages.open()
    pages.driver.get(pages.address + "#/vhosts/%2F")
    pages.driver.refresh()
    pages.try_login("guest", "guest")
    pages.heading("Virtual host /")


def test_overview_counts(pages: Pages, pub: BlockingChannel, name: str) -> None:
    pub.queue_declare(name, durable=True)
    publish(pub, name, 3)
    pages.login()
    before = int(pages.figure("Ready").replace(",", ""))
    assert before >= 3
    publish(pub, name, 4)
    pages.figure_is("Ready", f"{before + 4:,}")
    pages.see("Nodes", "warren@1", "warren@2", "warren@3")
    pub.queue_delete(name)


def test_a_queue_from_declaring_to_deleting(pages: Pages, broker: Broker, name: str) -> None:
    pages.login()
    pages.go("queues")
    pages.press("Add a queue")
    pages.fill("Type", "quorum")
    pages.fill("Name", name)
    pages.argument("x-max-length", "many")
    pages.press("Add queue")
    pages.see('x-max-length must be a number, not "many"')
    assert pages.field("Name").get_attribute("value") == name  # What was typed stays.
    pages.find('input[aria-label$="value of x-max-length"]')[0].clear()
    pages.find('input[aria-label$="value of x-max-length"]')[0].send_keys("50")
    pages.press("Add queue")
    cells = pages.row(name)
    assert "quorum" in cells and any("Lim" in cell for cell in cells), cells
    assert broker.get(f"/api/queues/%2F/{name}")["arguments"]["x-max-length"] == 50

    pages.go("queues", "/", name)
    pages.press("Add a binding")
    pages.fill("From exchange", "amq.topic")
    pages.fill("Routing key", "orders.# %2F?", "details[open]")
    pages.press("Bind")
    pages.see("Bound.")
    pages.row("amq.topic")

    pages.press("Publish a message to it")
    pages.fill("Payload", '{"<b>": "größer"}')
    pages.argument("content_type", "application/json")
    pages.argument("x-delay", "7")
    pages.press("Publish")
    pages.see("Published; it was routed.")
    pages.figure_is("Ready", "1")

    pages.press("Get messages")
    pages.press("Get")
    pages.see("1 got.", '{"<b>": "größer"}', "content_type: application/json", "x-delay: 7")
    pages.figure_is("Ready", "1")  # It was put back.
    pages.fill("Then", "take them away for good")
    pages.press("Get")
    pages.confirm("Take them")
    pages.see("1 got.", "redelivered")
    pages.figure_is("Ready", "0")

    pages.press("Publish")
    pages.figure_is("Ready", "1")
    pages.press("Purge…")
    pages.confirm("Purge it")
    pages.figure_is("Ready", "0")

    pages.press("Unbind…")
    pages.confirm("Unbind")
    pages.gone("orders.# %2F?")
    pages.press("Delete…")
    pages.press("Cancel", "dialog[open]")
    assert broker.http(f"/api/queues/%2F/{name}")[0] == 200
    pages.press("Delete…")
    pages.confirm("Delete it")
    pages.see(f"Queue {name} is deleted.")
    pages.heading("Queues")
    assert broker.http(f"/api/queues/%2F/{name}")[0] == 404


def test_hostile_names(pages: Pages, ch: BlockingChannel, name: str) -> None:
    names = [f"{hostile}{name}" for hostile in HOSTILE]
    pages.login()
    for each in names:
        ch.exchange_declare(each, "topic", arguments={each: each})
        ch.queue_declare(each)
        ch.queue_bind(each, each, routing_key=each)
        properties = pika.BasicProperties(content_type=each, headers={each: each})
        ch.basic_publish(each, each, each.encode(), properties)
    for each in names:
        pages.go("queues", "/", each)
        pages.heading(each)
        pages.figure_is("Ready", "1")
        pages.row(each)  # Its exchange.
        pages.press("Get messages")
        pages.press("Get")
        pages.see("1 got.", f"content_type: {each}")
        pages.go("exchanges", "/", each)
        pages.heading(each)
        pages.row(each)  # Its queue.
        pages.press("Unbind…")
        pages.confirm("Unbind")
        pages.see("There are none.")
        pages.press("Delete…")
        pages.confirm("Delete it")
        pages.see(f"Exchange {each} is deleted.")
    pages.go("queues")
    pages.filter(name)
    pages.see(f"1–{len(names)} of {len(names)}")
    for each in names:
        pages.row(each)
    assert not pages.driver.find_elements("css selector", "main img")
    targets = [link.get_attribute("href") for link in pages.find("a")]
    assert all(target.startswith(pages.address + "#/") for target in targets), targets
    for each in names:
        ch.queue_delete(each)


def test_lists_of_many_queues(pages: Pages, broker: Broker, ch: BlockingChannel, name: str) -> None:
    queues = [f"{name}-{number:03}" for number in range(120)]
    for queue in queues:
        ch.queue_declare(queue)
    publish(ch, queues[77], 5)
    pages.login()
    pages.go("queues")
    pages.filter(name)
    pages.see("1–50 of 120")
    pages.press("›")
    pages.see("51–100 of 120")
    pages.row(queues[50])
    pages.press("Total")
    pages.see("1–50 of 120")
    first = pages.until(lambda: pages.find("tbody tr a"), "rows")[0]
    pages.until(
        lambda: pages.find("tbody tr a")[0].text == queues[77], f"{first.text} to be fullest"
    )
    for queue in queues:
        ch.queue_delete(queue)


def test_users_permissions_and_what_others_see(pages: Pages, broker: Broker, name: str) -> None:
    # What the API refuses, and a name that is free, the browser writes down too.
    pages.expected += ["400", "401", "404"]
    pages.login()
    pages.go("users")
    pages.press("Add a user")
    pages.fill("Name", name)
    pages.fill("Password", "secret")
    pages.fill("Again", "secrte")
    pages.press("Add user")
    pages.see("The two passwords are not the same.")
    pages.fill("Again", "secret")
    pages.field("management").click()
    pages.press("Add user")
    pages.row(name)
    pages.go("users", name)
    pages.press("Set permissions")
    pages.fill("Configure", "(")
    pages.press("Set", "details[open]")
    pages.until(lambda: pages.find(".outcome .failure"), "the API's reason")
    pages.fill("Configure", "^mine")
    pages.press("Set", "details[open]")
    pages.see("^mine")
    granted = broker.get(f"/api/permissions/%2F/{name}")
    assert (granted["configure"], granted["write"]) == ("^mine", ".*")

    pages.login(name, "secret")
    assert [link.text for link in pages.find("nav a")] == [
        "Overview", "Connections", "Channels", "Exchanges", "Queues", "Virtual hosts", "Policies", "Limits",
    ]  # fmt: skip
    pages.see("Churn")
    assert "Nodes" not in pages.text() and "Definitions" not in pages.text()
    pages.go("vhosts")
    pages.row("/")
    assert "Add a virtual host" not in pages.buttons()
    pages.go("vhosts", "/")
    pages.heading("Virtual host /")
    pages.see("Protected from deletion")
    assert not {"Delete…", "Set permissions", "Set a limit"} & set(pages.buttons())
    pages.go("policies")
    pages.see("There are none.")
    assert not [label for label in pages.buttons() if label.startswith("Add or change")]
    pages.go("users")
    pages.see("Only users with the tag administrator see this.")
    # What it may not do is told, in the API's words.
    pages.go("queues")
    pages.press("Add a queue")
    pages.fill("Name", f"not-{name}")
    pages.press("Add queue")
    pages.see(f"configure access to queue 'not-{name}' in vhost '/' refused for user '{name}'")
    # An administrator changes the password: the login form comes back.
    user = {"password": "other", "tags": "management"}
    broker.put(f"/api/users/{name}", user)
    pages.see("The node does not accept this login any more.")
    pages.try_login(name, "other")
    pages.heading("Queues")
    broker.delete(f"/api/users/{name}")


def test_a_policy(pages: Pages, broker: Broker, pub: BlockingChannel, name: str) -> None:
    pub.queue_declare(name, durable=True)
    pages.login()
    pages.go("policies")
    pages.press("Add or change a policy")
    pages.fill("Name", name)
    pages.fill("Pattern", f"^{name}$")
    pages.fill("Apply to", "queues")
    pages.argument("max-length", "2")
    pages.press("Set policy")
    pages.see(f"The policy {name} is set.", "max-length: 2")
    pages.go("queues", "/", name)
    pages.see("Policies in effect", "max-length: 2")
    publish(pub, name, 5)
    pages.figure_is("Ready", "2")
    pages.go("policies")
    pages.press("Delete…")
    pages.confirm("Delete it")
    pages.gone(f"^{name}$")
    assert broker.http(f"/api/policies/%2F/{name}")[0] == 404
    pub.queue_delete(name)


def test_a_connection_is_closed(
    pages: Pages, connect: Callable[..., pika.BlockingConnection], name: str
) -> None:
    connection = connect(1, client_properties={"connection_name": name})
    channel = connection.channel()
    channel.queue_declare(name, exclusive=True)
    channel.basic_consume(name, lambda *_: None)
    pages.login()
    pages.go("channels")
    pages.shown("tbody a")
    pages.go("connections")
    pages.see(name)
    row = pages.until(lambda: [r for r in pages.find("tbody tr") if name in r.text], "its row")[0]
    pages.find("a", row)[0].click()
    pages.heading("Connection")
    pages.see(f"connection_name: {name}")
    pages.find(".paged tbody a")[0].click()
    pages.heading("Channel")
    pages.press("Look for its consumers")
    pages.row(name)
    pages.driver.back()
    pages.heading("Connection")
    pages.press("Close connection…")
    pages.fill("Reason that the client is told", "you are the test's", "dialog")
    pages.confirm("Close it")
    pages.heading("Connections")

    def closed() -> bool:
        try:
            connection.process_data_events()
        except pika.exceptions.ConnectionClosedByBroker as error:
            assert (error.reply_code, error.reply_text) == (
                320,
                "CONNECTION_FORCED - you are the test's",
            )
            return True
        return False

    eventually(closed, what="the client to be told")
    pages.gone(name)


def test_definitions_out_and_in(
    pages: Pages, broker: Broker, ch: BlockingChannel, name: str, downloads: Path
) -> None:
    vhost = f"{name}/v"
    broker.put(f"/api/vhosts/{part(vhost)}", {})
    broker.put(f"/api/queues/{part(vhost)}/{name}", {"durable": True})
    pages.login()
    pages.press("Definitions: export and import")
    pages.fill("Of", f"Virtual host {vhost}")
    pages.press("Download")
    file = eventually(lambda: next(iter(downloads.glob("warren_*.json")), None), what="the file")
    content = eventually(lambda: json.loads(file.read_text() or "null"), what="its content")
    assert [queue["name"] for queue in content["queues"]] == [name]
    broker.delete(f"/api/queues/{part(vhost)}/{name}")
    pages.fill("Into", f"Virtual host {vhost}")
    pages.shown("input[type=file]").send_keys(str(file))
    pages.press("Import…")
    pages.confirm("Import")
    pages.see("queues: 1")
    assert broker.http(f"/api/queues/{part(vhost)}/{name}")[0] == 200
    broken = file.with_name("broken.json")
    broken.write_text("{")
    pages.shown("input[type=file]").send_keys(str(broken))
    pages.press("Import…")
    pages.see("broken.json is not JSON")
    file.unlink()

    # A virtual host goes only when its name is typed.
    pages.go("vhosts", vhost)
    pages.press("Delete…")
    assert not pages.find("dialog button.danger")[0].is_enabled()
    pages.find("dialog input")[0].send_keys(vhost)
    pages.confirm("Delete it")
    assert broker.http(f"/api/vhosts/{part(vhost)}")[0] == 404


def test_what_is_being_typed_stays(pages: Pages) -> None:
    pages.login()
    pages.fill("Refresh", "every 2 s")
    pages.go("exchanges")
    pages.press("Add an exchange")
    pages.fill("Name", "half a na")
    answered = "return performance.getEntriesByType('resource').filter(e => e.name.includes('/api/exchanges?')).length"
    count = pages.run(answered)
    pages.until(lambda: pages.run(answered) >= count + 2, "two more polls")
    active = pages.driver.switch_to.active_element
    assert active.get_attribute("value") == "half a na"
    assert "x-delayed-message" in pages.options(pages.field("Type"))


def test_nothing_is_asked_while_nobody_looks(pages: Pages) -> None:
    pages.login()
    pages.fill("Refresh", "every 2 s")
    first = pages.driver.current_window_handle
    asked = "return performance.getEntriesByType('resource').filter(e => e.name.includes('/api/')).length"
    pages.driver.switch_to.new_window("window")
    other = pages.driver.current_window_handle
    pages.driver.switch_to.window(first)
    hide = "Object.defineProperty(document, 'hidden', { value: arguments[0], configurable: true }); document.dispatchEvent(new Event('visibilitychange'))"
    pages.run(hide, True)
    # An interval passes by the browser's own clock without a question.
    quiet = "const done = arguments[0]; setTimeout(done, 2600)"
    before = pages.run(asked)
    pages.driver.execute_async_script(quiet)
    assert pages.run(asked) <= before + 2  # Those that were under way.
    settled = pages.run(asked)
    pages.run(hide, False)
    pages.until(lambda: pages.run(asked) > settled, "to be asked at once")
    pages.driver.switch_to.window(other)
    pages.driver.close()
    pages.driver.switch_to.window(first)


def test_lost_nodes(driver: webdriver.Chrome) -> None:
    with Cluster(3) as cluster:
        cluster.start()
        first, _, third = cluster.nodes
        driver.get_log("browser")
        pages = Pages(driver, first.management_port)
        pages.expected += ["ERR_CONNECTION", "503", "ERR_EMPTY"]
        pages.login()
        pages.fill("Refresh", "every 2 s")
        pages.see("warren@3")
        assert not pages.find(".banner p")
        third.kill()
        pages.see("warren@3 does not answer")
        pages.until(lambda: "down" in pages.row("warren@3"), "the node to be shown as down")
        third.start()
        pages.gone("warren@3 does not answer")
        # The node that serves the pages: what is shown stays, and goes on when it is back.
        first.kill()
        pages.see("This node does not answer", f"127.0.0.1:{third.management_port}")
        assert pages.row("warren@2")
        first.start()
        pages.gone("This node does not answer")
        pages.until(lambda: "running" in pages.row("warren@1"), "the node to be back")
        assert pages.complaints() == []
        driver.get("about:blank")
