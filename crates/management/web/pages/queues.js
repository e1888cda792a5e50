// Queues: the list, and a new one.

import { at } from "../api.js";
import { argumentsEditor } from "../arguments.js";
import { h } from "../dom.js";
import { number, rateOf } from "../format.js";
import { check, folded, form, select, text } from "../forms.js";
import { features, heading, links, policyTag, state } from "../parts.js";
import { choices } from "../session.js";
import { pagedTable } from "../table.js";
import { vhostField } from "./vhost_field.js";

const COLUMNS = "name,vhost,type,durable,auto_delete,exclusive,arguments,policy,operator_policy,state,leader,messages,messages_ready,messages_unacknowledged,consumers,message_stats";

const USUAL = [
  ["x-message-ttl", "number", "Messages expire after so many ms."],
  ["x-expires", "number", "The queue goes when it is unused for so many ms."],
  ["x-max-length", "number", "Messages at most."],
  ["x-max-length-bytes", "number", "Bytes of messages at most."],
  ["x-overflow", "string", "What happens when it is full: drop-head, reject-publish or reject-publish-dlx."],
  ["x-dead-letter-exchange", "string", "Where rejected, expired and dropped messages go."],
  ["x-dead-letter-routing-key", "string", "Their routing key."],
  ["x-dead-letter-strategy", "string", "at-most-once or at-least-once."],
  ["x-delivery-limit", "number", "A message is delivered so many times at most."],
  ["x-delayed-retry-type", "string", "Of quorum queues: which messages that come back wait: all, failed or returned."],
  ["x-delayed-retry-min", "number", "They wait so many ms, times their failed deliveries."],
  ["x-delayed-retry-max", "number", "They wait no longer than so many ms."],
  ["x-single-active-consumer", "boolean", "One consumer gets all, until it goes."],
  ["x-max-priority", "number", "Priorities from 0 to so many."],
  ["x-consumer-timeout", "number", "Messages must be acknowledged within so many ms."],
  ["x-message-deduplication", "boolean", "Drops messages that it has seen; needs x-cache-size."],
  ["x-cache-size", "number", "How many messages deduplication remembers."],
  ["x-max-age", "string", "Of a stream: how long messages are kept, as 7D or 12h."],
];

export function queuesPage(ctx) {
  const path = choices.vhost ? at`/queues/${choices.vhost}` : "/queues";
  const table = pagedTable(ctx, {
    id: "queues",
    key: (row) => JSON.stringify([row.vhost, row.name]),
    empty: "There are no queues here yet.",
    load: (query) => ctx.api.get(path, { ...query, columns: COLUMNS }),
    columns: [
      { label: "Name", sort: "name", wide: true, cell: (row) => links.queue(row.vhost, row.name) },
      !choices.vhost && { label: "Virtual host", sort: "vhost", cell: (row) => row.vhost },
      { label: "Type", sort: "type", cell: (row) => row.type },
      { label: "Features", cell: (row) => h("span", { class: "tags" }, features(row), policyTag(row.policy, row.vhost), policyTag(row.operator_policy, row.vhost)) },
      { label: "State", cell: (row) => state(row.state) },
      { label: "Ready", sort: "messages_ready", num: true, cell: (row) => number(row.messages_ready) },
      { label: "Unacked", sort: "messages_unacknowledged", num: true, cell: (row) => number(row.messages_unacknowledged) },
      { label: "Total", sort: "messages", num: true, cell: (row) => number(row.messages) },
      { label: "In", sort: "message_stats.publish_details.rate", num: true, title: "publishes per second", cell: (row) => rateOf(row, "publish") },
      { label: "Out", sort: "message_stats.deliver_get_details.rate", num: true, title: "deliveries per second", cell: (row) => rateOf(row, "deliver_get") },
      { label: "Ack", sort: "message_stats.ack_details.rate", num: true, title: "acknowledgements per second", cell: (row) => rateOf(row, "ack") },
      { label: "Consumers", sort: "consumers", num: true, cell: (row) => number(row.consumers) },
      { label: "Leader", sort: "leader", cell: (row) => row.leader ?? h("span", { class: "dim" }, "none") },
    ].filter(Boolean),
  });
  const node = h("div", {}, heading("Queues"), table.node, adding(ctx, table));
  return { title: "Queues", node, refresh: table.refresh };
}

function adding(ctx, table) {
  const vhost = vhostField(ctx);
  const type = select("Type", [["", "default of the virtual host"], "classic", "quorum", "stream"]);
  const name = text("Name", { required: true, maxlength: 255 });
  const durable = select("Durability", [["true", "durable (replicated)"], ["false", "transient (on one node)"]]);
  const autoDelete = check("Auto-delete", { title: "It goes when its last consumer goes." });
  const args = argumentsEditor("Arguments", USUAL);

  async function submit() {
    const given = args.value();
    if (type.value()) given["x-queue-type"] = type.value();
    await ctx.api.put(at`/queues/${vhost.value()}/${name.value()}`, {
      durable: durable.value() === "true",
      auto_delete: autoDelete.value(),
      arguments: given,
    });
    args.clear();
    await table.refresh();
    return h("span", {}, "There is ", links.queue(vhost.value(), name.value()), ".");
  }

  return folded("Add a queue", form({ fields: [vhost, type, name, durable, autoDelete, args], button: "Add queue", submit }).node);
}
