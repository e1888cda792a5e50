// Clients that are connected.

import { at } from "../api.js";
import { h } from "../dom.js";
import { byteRate, number, time } from "../format.js";
import { heading, links, state, tag } from "../parts.js";
import { choices } from "../session.js";
import { pagedTable } from "../table.js";

/** Octets per second since the last look, by connection: the API does not tell. */
function growth() {
  let before = new Map();
  return (rows) => {
    const now = Date.now();
    const next = new Map();
    for (const row of rows) {
      const old = before.get(row.name);
      const since = old && row.connected_at === old.connected_at && now - old.now;
      if (since > 200) {
        row.in_rate = (1000 * (row.recv_oct - old.recv_oct)) / since;
        row.out_rate = (1000 * (row.send_oct - old.send_oct)) / since;
      }
      const { connected_at, recv_oct, send_oct } = row;
      next.set(row.name, { now, connected_at, recv_oct, send_oct });
    }
    before = next;
  };
}

export function connectionsPage(ctx) {
  const path = choices.vhost ? at`/vhosts/${choices.vhost}/connections` : "/connections";
  const rates = growth();
  const table = pagedTable(ctx, {
    id: "connections",
    key: (row) => row.name,
    empty: "Nobody is connected.",
    load: async (query) => {
      const answer = await ctx.api.get(path, query);
      rates(answer.items);
      return answer;
    },
    columns: [
      { label: "Name", sort: "name", wide: true, cell: (row) => [links.connection(row.name), row.user_provided_name && h("small", {}, row.user_provided_name)] },
      !choices.vhost && { label: "Virtual host", sort: "vhost", cell: (row) => row.vhost },
      { label: "User", sort: "user", cell: (row) => row.user },
      { label: "State", sort: "state", cell: (row) => state(row.state) },
      { label: "Node", sort: "node", cell: (row) => row.node },
      { label: "TLS", sort: "ssl", cell: (row) => (row.ssl ? tag("TLS", "encrypted") : "") },
      { label: "Channels", sort: "channels", num: true, cell: (row) => number(row.channels) },
      { label: "From client", sort: "recv_oct", num: true, title: "sorted by all octets, not by the rate", cell: (row) => byteRate(row.in_rate) },
      { label: "To client", sort: "send_oct", num: true, title: "sorted by all octets, not by the rate", cell: (row) => byteRate(row.out_rate) },
      { label: "Since", sort: "connected_at", num: true, cell: (row) => time(row.connected_at) },
    ].filter(Boolean),
  });
  return { title: "Connections", node: h("div", {}, heading("Connections"), table.node), refresh: table.refresh };
}
