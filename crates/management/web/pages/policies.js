// Policies, and those of operators which limit them.

import { at } from "../api.js";
import { argumentList, argumentsEditor } from "../arguments.js";
import { h } from "../dom.js";
import { number } from "../format.js";
import { ask, folded, form, select, text, whole } from "../forms.js";
import { card, heading } from "../parts.js";
import { choices, session } from "../session.js";
import { pagedTable } from "../table.js";
import { vhostField } from "./vhost_field.js";

const APPLY_TO = {
  policies: [["all", "exchanges and queues"], ["exchanges", "exchanges"], ["queues", "queues"], ["classic_queues", "classic queues"], ["quorum_queues", "quorum queues"], ["streams", "streams"]],
  "operator-policies": [["queues", "queues"], ["classic_queues", "classic queues"], ["quorum_queues", "quorum queues"], ["streams", "streams"]],
};

const LIMITS = [
  ["message-ttl", "number", "ms"],
  ["expires", "number", "The queue goes when unused for so many ms."],
  ["max-length", "number"],
  ["max-length-bytes", "number"],
  ["overflow", "string", "drop-head, reject-publish or reject-publish-dlx"],
  ["delivery-limit", "number"],
  ["delayed-retry-type", "string", "Which messages that come back wait: all, failed, returned or disabled."],
  ["delayed-retry-min", "number", "They wait so many ms, times their failed deliveries."],
  ["delayed-retry-max", "number", "They wait no longer than so many ms."],
];

const KEYS = {
  "operator-policies": LIMITS,
  policies: [
    ...LIMITS,
    ["dead-letter-exchange", "string"],
    ["dead-letter-routing-key", "string"],
    ["dead-letter-strategy", "string", "at-most-once or at-least-once"],
    ["consumer-timeout", "number", "ms"],
    ["max-age", "string", "Of streams: as 7D or 12h."],
    ["alternate-exchange", "string", "Of exchanges."],
  ],
};

function part(ctx, kind, allowed) {
  const word = kind === "policies" ? "policy" : "operator policy";
  const list = at`/${kind}` + (choices.vhost ? at`/${choices.vhost}` : "");
  const table = pagedTable(ctx, {
    id: kind,
    key: (row) => JSON.stringify([row.vhost, row.name]),
    empty: "There are none.",
    load: (query) => ctx.api.get(list, query),
    columns: [
      { label: "Name", sort: "name", wide: true, cell: (row) => row.name },
      { label: "Virtual host", sort: "vhost", cell: (row) => row.vhost },
      { label: "Pattern", sort: "pattern", cell: (row) => h("code", {}, row.pattern) },
      { label: "Applies to", sort: "apply-to", cell: (row) => row["apply-to"].replace("_", " ") },
      { label: "Definition", cell: (row) => argumentList(row.definition) },
      { label: "Priority", sort: "priority", num: true, title: "of those that match, the highest is applied", cell: (row) => number(row.priority) },
      { label: "", num: true, cell: (row) => allowed && h("div", { class: "buttons" }, h("button", { type: "button", class: "small", onclick: () => fill(row) }, "Change"), h("button", { type: "button", class: "small", onclick: () => remove(row) }, "Delete…")) },
    ],
  });
  if (!allowed) return { node: table.node, refresh: table.refresh };

  const vhost = vhostField(ctx);
  const name = text("Name", { required: true });
  const pattern = text("Pattern", { required: true, hint: "expression for names, as ^jobs\\." });
  const applyTo = select("Apply to", APPLY_TO[kind]);
  const priority = whole("Priority", { value: 0 });
  const definition = argumentsEditor("Definition", KEYS[kind]);
  const add = folded(`Add or change a ${word}`, form({ fields: [vhost, name, pattern, applyTo, priority, definition], button: `Set ${word}`, submit }).node);

  async function submit() {
    await ctx.api.put(at`/${kind}/${vhost.value()}/${name.value()}`, {
      pattern: pattern.value(),
      "apply-to": applyTo.value(),
      priority: priority.value() ?? 0,
      definition: definition.value(),
    });
    await table.refresh();
    return `The ${word} ${name.value()} is set.`;
  }

  function fill(row) {
    vhost.input.value = row.vhost;
    name.input.value = row.name;
    pattern.input.value = row.pattern;
    applyTo.input.value = row["apply-to"];
    priority.input.value = row.priority;
    definition.fill(row.definition);
    add.open = true;
    pattern.input.focus();
  }

  async function remove(row) {
    const done = await ask({
      title: `Delete the ${word}?`,
      say: [`${row.name} of virtual host ${row.vhost}`],
      button: "Delete it",
      act: () => ctx.api.delete(at`/${kind}/${row.vhost}/${row.name}`),
    });
    if (done) await table.refresh().catch(ctx.failed);
  }

  return { node: h("div", {}, table.node, add), refresh: table.refresh };
}

export function policiesPage(ctx) {
  const policies = part(ctx, "policies", session.makesPolicies);
  const operator = part(ctx, "operator-policies", session.administers);
  return {
    title: "Policies",
    node: h("div", {}, heading("Policies"), card("Policies", policies.node), card("Operator policies", h("p", { class: "dim" }, "They limit what policies and arguments may ask for."), operator.node)),
    refresh: () => Promise.all([policies.refresh(), operator.refresh()]),
  };
}
