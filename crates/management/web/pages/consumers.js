// Consumers, as a table.

import { argumentList } from "../arguments.js";
import { number, yesNo } from "../format.js";
import { links, state } from "../parts.js";
import { plainTable } from "../table.js";

/** More than that are not shown at once. */
const SHOWN = 200;

/** `queue`: the table names the queues too. */
export function consumersTable(rows, { queue = false } = {}) {
  const details = (row) => row.channel_details;
  const whence = (row) => {
    const { name, node, number: channel } = details(row);
    return name ? links.channel(name) : `channel ${channel}${node ? ` on ${node}` : ""}`;
  };
  return plainTable({
    rows: rows.slice(0, SHOWN),
    key: (row) => JSON.stringify([details(row).node, details(row).name, details(row).number, row.consumer_tag, row.queue.name]),
    empty: "None.",
    columns: [
      { label: "Channel", wide: true, cell: whence },
      queue && { label: "Queue", cell: (row) => links.queue(row.queue.vhost, row.queue.name) },
      { label: "Tag", cell: (row) => row.consumer_tag },
      { label: "Acknowledges", cell: (row) => yesNo(row.ack_required) },
      { label: "Exclusive", cell: (row) => yesNo(row.exclusive) },
      { label: "Prefetch", num: true, title: "0: no limit", cell: (row) => number(row.prefetch_count) },
      { label: "Activity", cell: (row) => state(row.activity_status) },
      { label: "Arguments", cell: (row) => argumentList(row.arguments) },
    ].filter(Boolean),
  });
}
