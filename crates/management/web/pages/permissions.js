// Permissions, of one user or in one virtual host.

import { at } from "../api.js";
import { h, patch } from "../dom.js";
import { exchangeName, exchangePart } from "../format.js";
import { ask, folded, form, text } from "../forms.js";
import { links } from "../parts.js";
import { plainTable } from "../table.js";
import { vhostField } from "./vhost_field.js";

const SHOWN = 500;
const expression = (value) => h("code", {}, value === "" ? "(nothing)" : value);

/** The other side of a permission: of a user its virtual hosts, of a virtual host its users. */
function otherSide(ctx, { user, vhost }) {
  if (user !== undefined) {
    const field = vhostField(ctx);
    return { field, ends: () => ({ user, vhost: field.value() }), column: { label: "Virtual host", cell: (row) => links.vhost(row.vhost) } };
  }
  const field = text("User", { required: true });
  return { field, ends: () => ({ user: field.value(), vhost }), column: { label: "User", cell: (row) => links.user(row.user) } };
}

const listPath = ({ user, vhost }, kind) => (user !== undefined ? at`/users/${user}` : at`/vhosts/${vhost}`) + kind;

function part(ctx, { of, kind, empty, columns, key, fields, put, clear, title }) {
  const side = otherSide(ctx, of);
  const rows = h("div", {});
  const button = (row) => h("button", { type: "button", class: "small", onclick: () => remove(row) }, "Clear…");

  async function refresh() {
    const list = await ctx.api.get(listPath(of, kind));
    const more = list.length > SHOWN && h("p", { class: "dim" }, `The first ${SHOWN} of ${list.length}.`);
    const shown = [side.column, ...columns, { label: "", num: true, cell: button }];
    patch(rows, plainTable({ rows: list.slice(0, SHOWN), key, empty, columns: shown }), more);
  }

  async function remove(row) {
    const done = await ask({
      title: "Clear the permission?",
      say: [`User ${row.user} in virtual host ${row.vhost}${row.exchange === undefined ? "" : `, exchange ${exchangeName(row.exchange)}`}.`],
      button: "Clear it",
      act: () => ctx.api.delete(clear(row)),
    });
    if (done) await refresh().catch(ctx.failed);
  }

  async function submit() {
    await put(side.ends());
    await refresh();
    return "Set.";
  }

  const add = folded(title, form({ fields: [side.field, ...fields], button: "Set", submit }).node);
  return { node: h("div", {}, rows, add), refresh };
}

/** `of`: { user } or { vhost }. */
export function permissionsPart(ctx, of) {
  const expressions = ["configure", "write", "read"].map((name) => [name, text(name[0].toUpperCase() + name.slice(1), { value: ".*", hint: "expression for names" })]);
  const values = () => Object.fromEntries(expressions.map(([name, field]) => [name, field.value()]));
  return part(ctx, {
    of,
    kind: "/permissions",
    title: "Set permissions",
    empty: "None: nothing can be done.",
    key: (row) => JSON.stringify([row.user, row.vhost]),
    columns: ["configure", "write", "read"].map((name) => ({ label: name[0].toUpperCase() + name.slice(1), cell: (row) => expression(row[name]) })),
    fields: expressions.map(([, field]) => field),
    put: ({ user, vhost }) => ctx.api.put(at`/permissions/${vhost}/${user}`, values()),
    clear: ({ user, vhost }) => at`/permissions/${vhost}/${user}`,
  });
}

export function topicPermissionsPart(ctx, of) {
  const exchange = text("Exchange", { value: "amq.topic", required: true });
  const write = text("Write", { value: ".*", hint: "expression for routing keys" });
  const read = text("Read", { value: ".*", hint: "expression for routing keys" });
  return part(ctx, {
    of,
    kind: "/topic-permissions",
    title: "Set topic permissions",
    empty: "None: all routing keys are allowed.",
    key: (row) => JSON.stringify([row.user, row.vhost, row.exchange]),
    columns: [
      { label: "Exchange", cell: (row) => exchangeName(row.exchange) },
      { label: "Write", cell: (row) => expression(row.write) },
      { label: "Read", cell: (row) => expression(row.read) },
    ],
    fields: [exchange, write, read],
    put: ({ user, vhost }) => ctx.api.put(at`/topic-permissions/${vhost}/${user}`, { exchange: exchangePart(exchange.value()), write: write.value(), read: read.value() }),
    clear: (row) => at`/topic-permissions/${row.vhost}/${row.user}/${exchangePart(row.exchange)}`,
  });
}
