// Bindings from an exchange, or to a queue or an exchange, and new ones.

import { at } from "../api.js";
import { argumentList, argumentsEditor } from "../arguments.js";
import { h } from "../dom.js";
import { exchangeName, exchangePart } from "../format.js";
import { ask, folded, form, select, text } from "../forms.js";
import { links } from "../parts.js";
import { pagedTable } from "../table.js";

const USUAL = [
  ["x-match", "string", "For headers exchanges: all or any."],
  ["x-message-ttl", "number"],
];

const end = (vhost, kind, name) => (kind === "queue" ? links.queue(vhost, name) : links.exchange(vhost, name));

/** The bindings of an exchange as their source. */
export function bindingsFrom(ctx, vhost, source) {
  const kind = select("To", [["queue", "queue"], ["exchange", "exchange"]]);
  const name = text("Name", { required: true });
  return bindings(ctx, {
    vhost,
    path: at`/exchanges/${vhost}/${exchangePart(source)}/bindings/source`,
    id: JSON.stringify(["from", vhost, source]),
    other: { label: "To", cell: (row) => [end(vhost, row.destination_type, row.destination), h("small", {}, row.destination_type)] },
    fields: [kind, name],
    target: () => ({ source, kind: kind.value(), destination: name.value() }),
  });
}

/** The bindings of a queue or exchange as their destination. */
export function bindingsTo(ctx, vhost, kind, destination) {
  const source = text("From exchange", { required: true });
  const path = kind === "queue" ? at`/queues/${vhost}/${destination}/bindings` : at`/exchanges/${vhost}/${exchangePart(destination)}/bindings/destination`;
  return bindings(ctx, {
    vhost,
    path,
    id: JSON.stringify(["to", vhost, kind, destination]),
    other: { label: "From", cell: (row) => links.exchange(vhost, row.source) },
    fields: [source],
    target: () => ({ source: source.value(), kind, destination }),
  });
}

function between(vhost, { source, kind, destination }) {
  const to = kind === "queue" ? destination : exchangePart(destination);
  return at`/bindings/${vhost}/e/${exchangePart(source)}/${kind === "queue" ? "q" : "e"}/${to}`;
}

function bindings(ctx, { vhost, path, id, other, fields, target }) {
  const table = pagedTable(ctx, {
    id,
    filter: false,
    empty: "There are none.",
    key: (row) => JSON.stringify([row.source, row.destination_type, row.destination, row.properties_key]),
    load: (query) => ctx.api.get(path, query),
    columns: [
      other,
      { label: "Routing key", sort: "routing_key", wide: true, cell: (row) => row.routing_key },
      { label: "Arguments", cell: (row) => argumentList(row.arguments) },
      { label: "", num: true, cell: (row) => row.source !== "" && h("button", { type: "button", class: "small", onclick: () => unbind(row) }, "Unbind…") },
    ],
  });
  const key = text("Routing key", { maxlength: 255 });
  const args = argumentsEditor("Arguments", USUAL);

  async function bind() {
    await ctx.api.post(between(vhost, target()), { routing_key: key.value(), arguments: args.value() });
    args.clear();
    await table.refresh();
    return "Bound.";
  }

  async function unbind(row) {
    const binding = { source: row.source, kind: row.destination_type, destination: row.destination };
    const done = await ask({
      title: "Unbind?",
      say: [`From exchange ${exchangeName(row.source)} to ${row.destination_type} ${row.destination}, routing key "${row.routing_key}".`],
      button: "Unbind",
      act: () => ctx.api.delete(between(vhost, binding) + at`/${row.properties_key}`),
    });
    if (done) ctx.reload();
  }

  const add = folded("Add a binding", form({ fields: [...fields, key, args], button: "Bind", submit: bind }).node);
  return { node: h("div", {}, table.node, add), refresh: table.refresh };
}
