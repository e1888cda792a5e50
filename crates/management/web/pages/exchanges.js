// Exchanges: the list, and a new one.

import { at } from "../api.js";
import { argumentsEditor } from "../arguments.js";
import { h } from "../dom.js";
import { number, rateOf } from "../format.js";
import { check, choices as options, folded, form, select, text } from "../forms.js";
import { features, heading, links, policyTag } from "../parts.js";
import { choices } from "../session.js";
import { pagedTable } from "../table.js";
import { vhostField } from "./vhost_field.js";

const USUAL = [
  ["alternate-exchange", "string", "Messages without a route go to this exchange."],
  ["x-delayed-type", "string", "How a delayed message is routed when its time has come: direct, fanout, topic, …"],
  ["x-recent-history-length", "number", "How many messages an exchange of type x-recent-history gives to new bindings."],
  ["hash-header", "string", "For x-consistent-hash: this header is hashed, not the routing key."],
  ["x-message-deduplication", "boolean", "Drops messages whose header x-deduplication-header it has seen."],
  ["x-cache-size", "number", "How many messages deduplication remembers."],
  ["x-cache-ttl", "number", "How long deduplication remembers, in ms."],
];

export function exchangesPage(ctx) {
  const path = choices.vhost ? at`/exchanges/${choices.vhost}` : "/exchanges";
  const table = pagedTable(ctx, {
    id: "exchanges",
    key: (row) => JSON.stringify([row.vhost, row.name]),
    empty: "There are no exchanges here.",
    load: (query) => ctx.api.get(path, query),
    columns: [
      { label: "Name", sort: "name", wide: true, cell: (row) => links.exchange(row.vhost, row.name) },
      !choices.vhost && { label: "Virtual host", sort: "vhost", cell: (row) => row.vhost },
      { label: "Type", sort: "type", cell: (row) => row.type },
      { label: "Features", cell: features },
      { label: "Policy", sort: "policy", cell: (row) => policyTag(row.policy, row.vhost) },
      { label: "In", sort: "message_stats.publish_in_details.rate", num: true, title: "publishes per second", cell: (row) => rateOf(row, "publish_in") },
      { label: "Out", sort: "message_stats.publish_out_details.rate", num: true, title: "messages to queues per second", cell: (row) => rateOf(row, "publish_out") },
      { label: "Delayed", sort: "messages_delayed", num: true, title: "messages that wait for their time", cell: (row) => (row.messages_delayed === undefined ? "" : number(row.messages_delayed)) },
    ].filter(Boolean),
  });
  const node = h("div", {}, heading("Exchanges"), table.node, adding(ctx, table));
  return { title: "Exchanges", node, refresh: table.refresh };
}

function adding(ctx, table) {
  const vhost = vhostField(ctx);
  const name = text("Name", { required: true, maxlength: 255 });
  const type = select("Type", ["direct", "fanout", "topic", "headers"]);
  const durable = select("Durability", [["true", "durable"], ["false", "transient"]]);
  const autoDelete = check("Auto-delete", { title: "It goes when its last binding goes." });
  const internal = check("Internal", { title: "Clients cannot publish to it." });
  const args = argumentsEditor("Arguments", USUAL);
  ctx.api.get("/overview", { columns: "exchange_types" }).then(({ exchange_types: types }) => {
    const chosen = type.value();
    type.input.replaceChildren(...options(types.map((each) => each.name), chosen));
  }, ctx.failed);

  async function submit() {
    await ctx.api.put(at`/exchanges/${vhost.value()}/${name.value()}`, {
      type: type.value(),
      durable: durable.value() === "true",
      auto_delete: autoDelete.value(),
      internal: internal.value(),
      arguments: args.value(),
    });
    args.clear();
    await table.refresh();
    return `Exchange ${name.value()} is there.`;
  }

  return folded("Add an exchange", form({ fields: [vhost, name, type, durable, autoDelete, internal, args], button: "Add exchange", submit, reset: false }).node);
}
