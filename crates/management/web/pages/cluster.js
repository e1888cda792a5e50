// The cluster: its name, its members, and who leads what.

import { at } from "../api.js";
import { h, patch } from "../dom.js";
import { duration, number } from "../format.js";
import { ask, folded, form, text } from "../forms.js";
import { card, facts, heading, links, state } from "../parts.js";
import { session } from "../session.js";
import { plainTable } from "../table.js";

export function clusterPage(ctx) {
  if (!session.monitors) {
    return { title: "Cluster", node: h("div", {}, heading("Cluster"), h("p", { class: "card" }, "Only users with the tag administrator or monitoring see this.")) };
  }
  const details = h("div", {});
  const members = h("div", {});
  const groups = h("div", {});

  async function refresh() {
    const status = await ctx.api.get("/cluster/status");
    patch(details, facts([
      ["Name", status.cluster_name],
      ["Identity", status.cluster_id],
      ["Answering node", links.node(status.node)],
      ["Version", status.version],
      ["Health", status.healthy ? state("running") : h("ul", { class: "values" }, status.warnings.slice(0, 50).map((warning) => h("li", { key: warning }, warning)))],
    ]));
    patch(members, memberTable(status.members, { forget, drain, revive }));
    patch(groups, groupTable(status.groups));
  }

  async function forget(node) {
    const done = await ask({
      title: "Forget the node?",
      say: [`${node} leaves the cluster for good. Its data counts no more; it can come back with an empty disk only.`],
      typed: node,
      button: "Forget it",
      act: () => ctx.api.delete(at`/cluster/nodes/${node}`),
    });
    if (done) ctx.reload();
  }

  async function drain(node) {
    const done = await ask({
      title: "Take the node out of service?",
      say: [`Others lead what ${node} leads, and its clients are sent to them, until it is taken back or starts anew.`],
      button: "Take it out",
      act: () => ctx.api.put(at`/nodes/${node}/maintenance`, {}),
    });
    if (done) ctx.reload();
  }

  async function revive(node) {
    await ctx.api.delete(at`/nodes/${node}/maintenance`).then(ctx.reload, ctx.failed);
  }

  const name = text("Name", { required: true });
  const rename = form({
    fields: [name],
    button: "Rename",
    submit: async () => {
      await ctx.api.put("/cluster-name", { name: name.value() });
      ctx.reload();
      return "Renamed.";
    },
  });
  const spread = form({
    fields: [h("p", { class: "dim" }, "Leaders are spread over the nodes by themselves; this does it now. Clients notice a short pause.")],
    button: "Rebalance leaders",
    submit: async () => {
      await ctx.api.post("/rebalance/queues", {});
      ctx.reload();
      return "Begun.";
    },
  });

  const node = h(
    "div",
    {},
    heading("Cluster"),
    card("Details", details),
    card("Members", members),
    card("Groups", h("p", { class: "dim" }, "Durable queues are spread over shards, each a group of members of which one leads. The catalog holds everything that is declared."), groups),
    session.administers && h("div", { class: "two" }, folded("Rename the cluster", rename.node), folded("Rebalance", spread.node)),
  );
  return { title: "Cluster", node, refresh };
}

function memberTable(rows, { forget, drain, revive }) {
  const button = (label, act) => h("button", { type: "button", class: "small", onclick: act }, label);
  const buttons = ({ node, alive, maintenance }) => h("div", { class: "buttons" },
    alive && !maintenance && button("Drain…", () => drain(node)),
    maintenance && button("Revive", () => revive(node)),
    button("Forget…", () => forget(node)),
  );
  const stateOf = ({ alive, maintenance }) => state(maintenance ? "maintenance" : alive ? "running" : "down");
  return plainTable({
    rows,
    key: (row) => row.node,
    empty: "None.",
    columns: [
      { label: "Node", cell: (row) => links.node(row.node) },
      { label: "State", cell: (row) => [stateOf(row), row.state !== "member" && ` ${row.state}`, row.alarms.map((alarm) => state(`${alarm} alarm`))] },
      { label: "Cluster", cell: (row) => row.address },
      { label: "AMQP", cell: (row) => row.amqp_address },
      { label: "Management", cell: (row) => row.management_address },
      { label: "Leads", num: true, cell: (row) => number(row.leads) },
      { label: "Connections", num: true, cell: (row) => number(row.connections) },
      { label: "Uptime", num: true, cell: (row) => duration(row.uptime) },
      { label: "Version", cell: (row) => row.version },
      { label: "", num: true, cell: (row) => session.administers && buttons(row) },
    ],
  });
}

function groupTable(rows) {
  return plainTable({
    rows,
    key: (row) => row.group,
    empty: "None.",
    columns: [
      { label: "Group", cell: (row) => row.name },
      { label: "Leader", cell: (row) => (row.leader ? links.node(row.leader) : state("no leader")) },
      { label: "Members", cell: (row) => row.members.join(", ") },
      { label: "Catching up", cell: (row) => row.learners.join(", ") },
      { label: "Term", num: true, cell: (row) => number(row.term) },
      { label: "Committed", num: true, cell: (row) => number(row.commit_index) },
      { label: "Applied", num: true, cell: (row) => number(row.applied_index) },
      { label: "Last in log", num: true, cell: (row) => number(row.last_log_index) },
    ],
  });
}
