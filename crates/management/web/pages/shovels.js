// Shovels: what moves messages from one place to another, and the form that starts one.

import { at } from "../api.js";
import { h } from "../dom.js";
import { number } from "../format.js";
import { ask, check, folded, form, select, text, whole } from "../forms.js";
import { card, heading, links, state } from "../parts.js";
import { choices, session } from "../session.js";
import { pagedTable } from "../table.js";
import { vhostField } from "./vhost_field.js";

/** What a shovel moves messages from or to, as the list tells it. */
function end(row, side) {
  const queue = row[`${side}_queue`];
  const exchange = row[`${side}_exchange`];
  const key = row[`${side}_exchange_key`];
  const what = queue !== undefined ? `queue ${queue}` : exchange !== undefined ? `exchange ${exchange}${key ? ` (${key})` : ""}` : null;
  return h("div", {}, h("code", {}, row[`${side}_uri`] ?? ""), what && h("div", { class: "dim" }, what));
}

/** A shovel that takes what waits in a queue now, and goes. */
export function moveForm(ctx, vhost, queue, { stream = false } = {}) {
  const to = text("Destination queue", { required: true, maxlength: 255, hint: "of the same virtual host; it is declared if it does not exist" });

  async function submit() {
    const uri = `amqp:///${encodeURIComponent(vhost)}`;
    await ctx.api.put(at`/parameters/shovel/${vhost}/${`Move from ${queue}`}`, {
      value: {
        "src-uri": uri,
        "src-queue": queue,
        "src-protocol": "amqp091",
        "src-prefetch-count": 1000,
        "src-delete-after": "queue-length",
        ...(stream ? { "src-consumer-args": { "x-stream-offset": "first" } } : {}),
        "dest-uri": uri,
        "dest-protocol": "amqp091",
        "dest-queue": to.value(),
        "dest-add-forward-headers": false,
        "ack-mode": "on-confirm",
      },
    });
    ctx.reload();
    return "What waits in the queue is being moved.";
  }

  const note = h("p", { class: "dim gap" }, "A shovel moves as many messages as wait in the queue now, and is gone when they are confirmed.");
  return h("div", {}, note, form({ fields: [to], button: "Move messages", submit }).node);
}

function addForm(ctx, changed) {
  const vhost = vhostField(ctx);
  const name = text("Name", { required: true });
  const uri = (label) => text(label, { required: true, value: "amqp://", hint: "amqp://user:password@host:5672/vhost; amqp:///vhost is this cluster" });
  const side = (label) => select(label, [["queue", "queue"], ["exchange", "exchange"]]);
  const from = uri("Source URI");
  const fromKind = side("Source");
  const fromName = text("Its name", { required: true });
  const fromKey = text("Routing key", { hint: "of an exchange" });
  const to = uri("Destination URI");
  const toKind = side("Destination");
  const toName = text("Its name", { hint: "empty: the exchange that a message was published to" });
  const toKey = text("Routing key", { hint: "of an exchange; empty: a message's own" });
  const prefetch = whole("Prefetch", { min: 1, max: 65535, value: 1000 });
  const delay = whole("Seconds between two tries", { min: 0, value: 5, hint: "0: it is not tried again" });
  const ack = select("Acknowledge", [["on-confirm", "when the destination has confirmed"], ["on-publish", "when published"], ["no-ack", "never"]]);
  const until = select("It ends", [["never", "never"], ["queue-length", "after what waits when it starts"]]);
  const headers = check("Add headers that say where a message came from");

  async function submit() {
    const value = {
      "src-protocol": "amqp091",
      "src-uri": from.value(),
      [`src-${fromKind.value()}`]: fromName.value(),
      "src-delete-after": until.value(),
      "dest-protocol": "amqp091",
      "dest-uri": to.value(),
      "dest-add-forward-headers": headers.value(),
      "ack-mode": ack.value(),
    };
    if (fromKind.value() === "exchange" && fromKey.value() !== "") value["src-exchange-key"] = fromKey.value();
    if (toName.value() !== "") value[`dest-${toKind.value()}`] = toName.value();
    if (toKind.value() === "exchange" && toKey.value() !== "") value["dest-exchange-key"] = toKey.value();
    if (prefetch.value() !== null) value["src-prefetch-count"] = prefetch.value();
    if (delay.value() !== null) value["reconnect-delay"] = delay.value();
    await ctx.api.put(at`/parameters/shovel/${vhost.value()}/${name.value()}`, { value });
    await changed();
    return `The shovel ${name.value()} is defined.`;
  }

  const fields = [vhost, name, from, fromKind, fromName, fromKey, to, toKind, toName, toKey, prefetch, delay, ack, until, headers];
  return folded("Add or change a shovel", form({ fields, button: "Set shovel", submit }).node);
}

export function shovelsPage(ctx) {
  const list = "/shovels" + (choices.vhost ? at`/${choices.vhost}` : "");
  const allowed = session.makesPolicies;
  const table = pagedTable(ctx, {
    id: "shovels",
    key: (row) => JSON.stringify([row.vhost, row.name]),
    empty: "There are none.",
    load: (query) => ctx.api.get(list, query),
    columns: [
      { label: "Name", sort: "name", wide: true, cell: (row) => row.name },
      { label: "Virtual host", sort: "vhost", cell: (row) => links.vhost(row.vhost) },
      { label: "State", sort: "state", cell: (row) => h("div", {}, state(row.state), row.reason && h("div", { class: "dim" }, row.reason)) },
      { label: "Since", sort: "timestamp", title: "UTC", cell: (row) => row.timestamp },
      { label: "From", cell: (row) => end(row, "src") },
      { label: "To", cell: (row) => end(row, "dest") },
      { label: "Forwarded", num: true, title: "since it began to run", cell: (row) => row.forwarded !== undefined && number(row.forwarded) },
      { label: "Remaining", num: true, title: "until it ends by itself", cell: (row) => (typeof row.remaining === "number" ? number(row.remaining) : row.remaining) },
      { label: "Node", sort: "node", cell: (row) => links.node(row.node) },
      { label: "", num: true, cell: (row) => allowed && h("div", { class: "buttons" }, h("button", { type: "button", class: "small", onclick: () => restart(row) }, "Restart"), h("button", { type: "button", class: "small", onclick: () => remove(row) }, "Delete…")) },
    ],
  });

  async function restart(row) {
    try {
      await ctx.api.delete(at`/shovels/vhost/${row.vhost}/${row.name}/restart`);
      ctx.say(`The shovel ${row.name} begins anew.`);
      await table.refresh();
    } catch (error) {
      ctx.failed(error);
    }
  }

  async function remove(row) {
    const done = await ask({
      title: "Delete the shovel?",
      say: [`${row.name} of virtual host ${row.vhost}`, "Messages that it holds go back to where they came from."],
      button: "Delete it",
      act: () => ctx.api.delete(at`/shovels/vhost/${row.vhost}/${row.name}`),
    });
    if (done) await table.refresh().catch(ctx.failed);
  }

  return {
    title: "Shovels",
    node: h("div", {}, heading("Shovels"), card(null, table.node), allowed && addForm(ctx, table.refresh)),
    refresh: table.refresh,
  };
}
