// Limits of virtual hosts and users.

import { at } from "../api.js";
import { h, patch } from "../dom.js";
import { number } from "../format.js";
import { ask, failure, folded, form, select, text, whole } from "../forms.js";
import { card, heading, links } from "../parts.js";
import { session } from "../session.js";
import { plainTable } from "../table.js";
import { vhostField } from "./vhost_field.js";

const NAMES = { vhost: ["max-connections", "max-queues"], user: ["max-connections", "max-channels"] };
const PATHS = { vhost: "/vhost-limits", user: "/user-limits" };
const SHOWN = 500;

/** Rows of one limit each. */
const flat = (list, of) => list.flatMap((row) => Object.entries(row.value).map(([name, value]) => ({ of: row[of], name, value })));

function table(ctx, of, rows, refresh) {
  async function clear(row) {
    const done = await ask({
      title: "Clear the limit?",
      say: [`${row.name} of ${of === "vhost" ? "virtual host" : "user"} ${row.of}.`],
      button: "Clear it",
      act: () => ctx.api.delete(PATHS[of] + at`/${row.of}/${row.name}`),
    });
    if (done) await refresh().catch(ctx.failed);
  }
  const more = rows.length > SHOWN && h("p", { class: "dim" }, `The first ${SHOWN} of ${number(rows.length)}.`);
  return [plainTable({
    rows: rows.slice(0, SHOWN),
    key: (row) => JSON.stringify([row.of, row.name]),
    empty: "No limit is set.",
    columns: [
      { label: of === "vhost" ? "Virtual host" : "User", cell: (row) => links[of](row.of) },
      { label: "Limit", cell: (row) => row.name },
      { label: "Value", num: true, cell: (row) => number(row.value) },
      { label: "", num: true, cell: (row) => session.administers && h("button", { type: "button", class: "small", onclick: () => clear(row) }, "Clear…") },
    ],
  }), more];
}

/** The limits of one virtual host or user, or with `thing` undefined of all. */
export function limitsPart(ctx, of, thing) {
  const path = PATHS[of] + (thing === undefined ? "" : at`/${thing}`);
  const rows = h("div", {});

  async function refresh() {
    try {
      patch(rows, table(ctx, of, flat(await ctx.api.get(path), of), refresh));
    } catch (error) {
      if (error.status !== 400) throw error;
      patch(rows, failure(error));
    }
  }

  const which = thing === undefined && (of === "vhost" ? vhostField(ctx) : text("User", { required: true }));
  const name = select("Limit", NAMES[of]);
  const value = whole("Value", { required: true, min: 0 });

  async function submit() {
    const owner = thing ?? which.value();
    await ctx.api.put(PATHS[of] + at`/${owner}/${name.value()}`, { value: value.value() });
    await refresh();
    return "Set.";
  }

  const add = session.administers && folded("Set a limit", form({ fields: [which, name, value].filter(Boolean), button: "Set limit", submit }).node);
  return { node: h("div", {}, rows, add), refresh };
}

export function limitsPage(ctx) {
  const parts = [["Virtual hosts", limitsPart(ctx, "vhost")]];
  if (session.administers) parts.push(["Users", limitsPart(ctx, "user")]);
  return {
    title: "Limits",
    node: h("div", {}, heading("Limits"), parts.map(([title, part]) => card(title, part.node))),
    refresh: () => Promise.all(parts.map(([, part]) => part.refresh())),
  };
}
