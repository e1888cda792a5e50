// Clients that are connected.

import { at } from "../api.js";
import { h } from "../dom.js";
import { byteRate, number, time } from "../format.js";
import { heading, links, state, tag } from "../parts.js";
import { choices } from "../session.js";
import { pagedTable } from "../table.js";

export function connectionsPage(ctx) {
  const path = choices.vhost ? at`/vhosts/${choices.vhost}/connections` : "/connections";
  const table = pagedTable(ctx, {
    id: "connections",
    key: (row) => row.name,
    empty: "Nobody is connected.",
    load: (query) => ctx.api.get(path, query),
    columns: [
      { label: "Name", sort: "name", wide: true, cell: (row) => [links.connection(row.name), row.user_provided_name && h("small", {}, row.user_provided_name)] },
      !choices.vhost && { label: "Virtual host", sort: "vhost", cell: (row) => row.vhost },
      { label: "User", sort: "user", cell: (row) => row.user },
      { label: "State", sort: "state", cell: (row) => state(row.state) },
      { label: "Node", sort: "node", cell: (row) => row.node },
      { label: "TLS", sort: "ssl", cell: (row) => (row.ssl ? tag("TLS", "encrypted") : "") },
      { label: "Channels", sort: "channels", num: true, cell: (row) => number(row.channels) },
      { label: "From client", sort: "recv_oct_details.rate", num: true, cell: (row) => byteRate(row.recv_oct_details?.rate) },
      { label: "To client", sort: "send_oct_details.rate", num: true, cell: (row) => byteRate(row.send_oct_details?.rate) },
      { label: "Since", sort: "connected_at", num: true, cell: (row) => time(row.connected_at) },
    ].filter(Boolean),
  });
  return { title: "Connections", node: h("div", {}, heading("Connections"), table.node), refresh: table.refresh };
}
