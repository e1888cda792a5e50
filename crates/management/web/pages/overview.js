// The whole cluster at a glance.

import { chart } from "../chart.js";
import { h, patch } from "../dom.js";
import { number, rate, short } from "../format.js";
import { history } from "../history.js";
import { card, figures, heading } from "../parts.js";
import { choices, session } from "../session.js";
import { plainTable } from "../table.js";
import { definitionsPart } from "./definitions.js";
import { nodesTable } from "./node.js";

const RATES = [
  ["publish", "Publish"],
  ["confirm", "Confirm"],
  ["deliver_get", "Deliver, get"],
  ["ack", "Acknowledge"],
  ["redeliver", "Redeliver"],
  ["return_unroutable", "Return"],
];

const CHURN = [
  ["connection_created", "Connections opened"],
  ["connection_closed", "Connections closed"],
  ["channel_created", "Channels opened"],
  ["channel_closed", "Channels closed"],
  ["queue_created", "Queues created"],
  ["queue_deleted", "Queues deleted"],
];

export function overviewPage(ctx) {
  const seen = history("overview");
  const totals = h("div", {});
  const nodes = h("div", {});
  const listeners = h("div", {});
  const churn = h("div", {});
  const depth = chart({
    title: "Messages waiting",
    format: short,
    lines: [{ name: "ready", label: "Ready" }, { name: "unacked", label: "Unacked" }, { name: "total", label: "Total" }],
  });
  const rates = chart({
    title: "Messages per second",
    format: (value) => (value === undefined ? rate(value) : `${short(value)}/s`),
    lines: RATES.map(([name, label]) => ({ name, label })),
  });

  async function refresh() {
    const asked = session.monitors ? ctx.api.get("/nodes") : null;
    const [overview, list] = await Promise.all([ctx.api.get("/overview"), asked]);
    const { queue_totals: queues, object_totals: objects, message_stats: stats } = overview;
    patch(totals, figures([
      ["Ready", number(queues.messages_ready), "lead"],
      ["Unacked", number(queues.messages_unacknowledged), "lead"],
      ["Messages", number(queues.messages), "lead"],
      ["Connections", link("connections", objects.connections)],
      ["Channels", link("channels", objects.channels)],
      ["Exchanges", link("exchanges", objects.exchanges)],
      ["Queues", link("queues", objects.queues)],
      ["Consumers", number(objects.consumers)],
    ]));
    const now = Object.fromEntries(RATES.map(([name]) => [name, stats[`${name}_details`]?.rate ?? 0]));
    seen.add({ ready: queues.messages_ready, unacked: queues.messages_unacknowledged, total: queues.messages, ...now });
    depth.draw(seen);
    rates.draw(seen);
    if (list) patch(nodes, nodesTable(list));
    patch(listeners, listenerTable(overview.listeners));
    patch(churn, churnTable(overview.churn_rates));
  }

  const node = h(
    "div",
    {},
    heading("Overview", undefined, choices.vhost && h("span", { class: "dim" }, "of all virtual hosts, whatever is chosen above")),
    totals,
    h("div", { class: "two" }, card(null, depth.node), card(null, rates.node)),
    session.monitors && card("Nodes", nodes),
    h("div", { class: "two" }, card("Listeners", listeners), card("Churn", churn)),
    definitionsPart(ctx),
  );
  return { title: "Overview", node, refresh };
}

const link = (place, count) => h("a", { href: `#/${place}` }, number(count));

function listenerTable(listeners) {
  return plainTable({
    rows: listeners,
    key: (row) => `${row.node} ${row.protocol}`,
    empty: "None.",
    columns: [
      { label: "Node", cell: (row) => row.node },
      { label: "Protocol", cell: (row) => row.protocol },
      { label: "Address", cell: (row) => row.ip_address },
      { label: "Port", num: true, cell: (row) => String(row.port) },
    ],
  });
}

function churnTable(churn) {
  return plainTable({
    rows: CHURN,
    key: ([name]) => name,
    empty: "None.",
    columns: [
      { label: "What", cell: ([, label]) => label },
      { label: "Since the nodes started", num: true, cell: ([name]) => number(churn?.[name]) },
      { label: "Now", num: true, cell: ([name]) => rate(churn?.[`${name}_details`]?.rate) },
    ],
  });
}
