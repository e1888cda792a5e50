// One queue.

import { at } from "../api.js";
import { argumentList } from "../arguments.js";
import { chart } from "../chart.js";
import { h, patch } from "../dom.js";
import { bytes, number, short } from "../format.js";
import { ask, check, folded } from "../forms.js";
import { history } from "../history.js";
import { card, facts, features, figures, heading, links, policyTag, state } from "../parts.js";
import { session } from "../session.js";
import { bindingsTo } from "./bindings.js";
import { consumersTable } from "./consumers.js";
import { getForm, publishForm } from "./messages.js";
import { moveForm } from "./shovels.js";

const RATES = [
  ["publish", "Publish"],
  ["deliver", "Deliver, manual ack"],
  ["deliver_no_ack", "Deliver, auto ack"],
  ["ack", "Acknowledge"],
  ["get", "Get"],
  ["redeliver", "Redeliver"],
];

export function queuePage(ctx, vhost, name) {
  const path = at`/queues/${vhost}/${name}`;
  const seen = history(JSON.stringify(["queue", vhost, name]));
  const totals = h("div", {});
  const details = h("div", {});
  const consumers = h("div", {});
  const bindings = bindingsTo(ctx, vhost, "queue", name);
  const move = h("div", {});
  const depth = chart({
    title: "Messages waiting",
    format: short,
    lines: [{ name: "ready", label: "Ready" }, { name: "unacked", label: "Unacked" }, { name: "total", label: "Total" }],
  });
  const rates = chart({
    title: "Messages per second",
    format: (value) => (value === undefined ? short(value) : `${short(value)}/s`),
    lines: RATES.map(([key, label]) => ({ name: key, label })),
  });

  async function refresh() {
    const [row] = await Promise.all([ctx.api.get(path), bindings.refresh()]);
    if (!move.firstChild && session.makesPolicies) move.append(folded("Move messages to another queue", moveForm(ctx, vhost, name, { stream: row.type === "stream" })));
    patch(totals, figures([
      ["Ready", number(row.messages_ready), "lead"],
      ["Unacked", number(row.messages_unacknowledged), "lead"],
      ["Messages", number(row.messages), "lead"],
      ["Bytes ready", bytes(row.message_bytes_ready)],
      ["Consumers", number(row.consumers)],
    ]));
    const now = Object.fromEntries(RATES.map(([key]) => [key, row.message_stats?.[`${key}_details`]?.rate ?? 0]));
    seen.add({ ready: row.messages_ready, unacked: row.messages_unacknowledged, total: row.messages, ...now });
    depth.draw(seen);
    rates.draw(seen);
    patch(details, about(row, vhost));
    const list = row.consumer_details ?? [];
    const more = list.length > 200 && h("p", { class: "dim" }, `The first 200 of ${number(list.length)}.`);
    patch(consumers, consumersTable(list), more);
  }

  async function purge() {
    const done = await ask({
      title: "Purge the queue?",
      say: [name, "All messages that are ready are deleted for good. Those that a consumer holds stay."],
      button: "Purge it",
      act: () => ctx.api.delete(`${path}/contents`),
    });
    if (done) {
      ctx.say(`Queue ${name} is purged.`);
      ctx.reload();
    }
  }

  async function remove() {
    const unused = check("Only if it has no consumer");
    const empty = check("Only if it is empty");
    const query = () => ({ "if-unused": unused.value() || null, "if-empty": empty.value() || null });
    const done = await ask({
      title: "Delete the queue?",
      say: [name, "Its messages and bindings go with it."],
      fields: [unused, empty],
      button: "Delete it",
      act: () => ctx.api.delete(path, query()),
    });
    if (done) ctx.leave("#/queues", `Queue ${name} is deleted.`);
  }

  const buttons = h("div", { class: "buttons" },
    h("button", { type: "button", class: "danger", onclick: purge }, "Purge…"),
    h("button", { type: "button", class: "danger", onclick: remove }, "Delete…"),
  );
  const node = h(
    "div",
    {},
    heading("Queue ", name, buttons),
    totals,
    h("div", { class: "two" }, card(null, depth.node), card(null, rates.node)),
    card("Details", details),
    card("Consumers", consumers),
    card("Bindings", h("p", { class: "dim" }, "It is bound to the default exchange by its name."), bindings.node),
    folded("Publish a message to it", publishForm(ctx, vhost, "amq.default", name)),
    folded("Get messages", getForm(ctx, vhost, name)),
    move,
  );
  return { title: `Queue ${name}`, node, refresh };
}

function about(row, vhost) {
  const members = (row.members ?? []).map((member, index) => [
    index > 0 && ", ",
    session.monitors ? links.node(member) : member,
    !row.online.includes(member) && " (away)",
  ]);
  const definition = Object.keys(row.effective_policy_definition ?? {}).length > 0 && argumentList(row.effective_policy_definition);
  return facts([
    ["State", state(row.state)],
    ["Type", row.type],
    ["Virtual host", links.vhost(vhost)],
    ["Features", features(row)],
    ["Replicated", row.replicated ? "on a majority before it is confirmed" : "no, on one node"],
    ["Leader", session.monitors ? links.node(row.leader) : row.leader ?? "none"],
    ["Members", members],
    ["Policy", row.policy && policyTag(row.policy, vhost)],
    ["Operator policy", row.operator_policy && policyTag(row.operator_policy, vhost)],
    ["Policies in effect", definition],
    ["Arguments", argumentList(row.arguments)],
    ["Deliveries at most", typeof row.delivery_limit === "number" ? number(row.delivery_limit) : row.delivery_limit],
    ["Delayed retry", row.delayed_retry !== "disabled" && row.delayed_retry],
    ["Delayed messages", row.messages_delayed > 0 && number(row.messages_delayed)],
    ["Active consumer", row.single_active_consumer_tag],
    ["Dead letters under way", row.messages_dlx !== undefined && number(row.messages_dlx)],
  ]);
}
