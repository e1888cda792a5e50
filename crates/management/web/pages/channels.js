// Channels of all connections.

import { at } from "../api.js";
import { h } from "../dom.js";
import { number, rateOf } from "../format.js";
import { heading, links, tag } from "../parts.js";
import { choices } from "../session.js";
import { pagedTable } from "../table.js";

function modes(row) {
  return h("span", { class: "tags" }, row.confirm && tag("C", "publishes are confirmed"), row.transactional && tag("T", "transactional"));
}

/** Columns of channels; those of one connection need not name it. */
export function channelColumns({ connection = false, vhost = true } = {}) {
  return [
    { label: "Channel", sort: connection ? "number" : "name", wide: !connection, cell: (row) => links.channel(row.name, connection ? String(row.number) : row.name) },
    !connection && vhost && { label: "Virtual host", sort: "vhost", cell: (row) => row.vhost },
    !connection && { label: "User", sort: "user", cell: (row) => row.user },
    { label: "Mode", cell: modes },
    { label: "Consumers", sort: "consumer_count", num: true, cell: (row) => number(row.consumer_count) },
    { label: "Prefetch", sort: "global_prefetch_count", num: true, title: "0: no limit", cell: (row) => number(row.global_prefetch_count) },
    { label: "Unacked", sort: "messages_unacknowledged", num: true, cell: (row) => number(row.messages_unacknowledged) },
    { label: "Unconfirmed", sort: "messages_unconfirmed", num: true, cell: (row) => number(row.messages_unconfirmed) },
    { label: "Publish", sort: "message_stats.publish_details.rate", num: true, title: "per second", cell: (row) => rateOf(row, "publish") },
    { label: "Deliver", sort: "message_stats.deliver_get_details.rate", num: true, title: "deliveries and gets per second", cell: (row) => rateOf(row, "deliver_get") },
    { label: "Ack", sort: "message_stats.ack_details.rate", num: true, title: "acknowledgements per second", cell: (row) => rateOf(row, "ack") },
    !connection && { label: "Node", sort: "node", cell: (row) => row.node },
  ].filter(Boolean);
}

export function channelsPage(ctx) {
  const path = choices.vhost ? at`/vhosts/${choices.vhost}/channels` : "/channels";
  const table = pagedTable(ctx, {
    id: "channels",
    columns: channelColumns({ vhost: !choices.vhost }),
    key: (row) => row.name,
    empty: "No channel is open.",
    load: (query) => ctx.api.get(path, query),
  });
  return { title: "Channels", node: h("div", {}, heading("Channels"), table.node), refresh: table.refresh };
}
