// Nodes: the table of all, and the page of one.

import { at } from "../api.js";
import { chart } from "../chart.js";
import { h, patch } from "../dom.js";
import { bytes, duration, number, short } from "../format.js";
import { history } from "../history.js";
import { bar, card, facts, heading, links, state } from "../parts.js";
import { plainTable } from "../table.js";

const whole = (row) => row.running;

export function nodeState(row) {
  if (!row.running) return state("down");
  if (row.being_drained) return state("maintenance");
  const alarms = [row.mem_alarm && "memory alarm", row.disk_free_alarm && "disk alarm", row.partitions?.length > 0 && "cut off from others"].filter(Boolean);
  return alarms.length > 0 ? alarms.map((word) => state(word)) : state("running");
}

export function nodesTable(rows) {
  return plainTable({
    rows,
    key: (row) => row.name,
    empty: "None.",
    columns: [
      { label: "Node", cell: (row) => links.node(row.name) },
      { label: "State", cell: nodeState },
      { label: "Memory", num: true, title: "used, of the limit above which publishers are blocked", cell: (row) => whole(row) && gauge(row.mem_used, row.mem_limit) },
      { label: "Disk free", num: true, title: "publishers are blocked below the limit", cell: (row) => whole(row) && [bytes(row.disk_free), h("small", {}, `limit ${bytes(row.disk_free_limit)}`)] },
      { label: "Descriptors", num: true, cell: (row) => whole(row) && gauge(row.fd_used, row.fd_total, number) },
      { label: "Connections", num: true, cell: (row) => number(row.sockets_used) },
      { label: "Leads", num: true, title: "shards and the catalog that this node leads", cell: (row) => number(row.leads) },
      { label: "Uptime", num: true, cell: (row) => duration(row.uptime) },
      { label: "Version", cell: (row) => row.version },
    ],
  });
}

const gauge = (used, limit, format = bytes) => [format(used), h("small", {}, `of ${format(limit)}`), bar(used, limit)];

export function nodePage(ctx, name) {
  const path = at`/nodes/${name}`;
  const seen = history(`node ${name}`);
  const details = h("div", {});
  const listeners = h("div", {});
  const memory = chart({ title: "Memory", format: bytes, lines: [{ name: "memory", label: "Used" }] });
  const clients = chart({ title: "Connections", format: short, lines: [{ name: "connections", label: "Connections" }] });

  async function refresh() {
    const row = await ctx.api.get(path);
    patch(details, facts([
      ["State", nodeState(row)],
      ["Version", row.version],
      ["Uptime", row.running && duration(row.uptime)],
      ["Memory", row.running && gauge(row.mem_used, row.mem_limit)],
      ["Disk free", row.running && `${bytes(row.disk_free)} (limit ${bytes(row.disk_free_limit)})`],
      ["File descriptors", row.running && gauge(row.fd_used, row.fd_total, number)],
      ["Connections", row.running && number(row.sockets_used)],
      ["Leads", row.running && `${number(row.leads)} groups`],
      ["Cut off from", row.partitions?.join(", ")],
    ]));
    if (!row.running) return;
    seen.add({ memory: row.mem_used, connections: row.sockets_used });
    memory.draw(seen);
    clients.draw(seen);
    patch(listeners, (row.listeners ?? []).map((each) => h("li", { key: each.protocol }, `${each.protocol}: ${each.ip_address}, port ${each.port}`)));
  }

  const node = h(
    "div",
    {},
    heading("Node ", name),
    card(null, details),
    h("div", { class: "two" }, card(null, memory.node), card(null, clients.node)),
    card("Listeners", h("ul", { class: "values" }, listeners)),
  );
  return { title: `Node ${name}`, node, refresh };
}
