// One virtual host.

import { at } from "../api.js";
import { h, patch } from "../dom.js";
import { number } from "../format.js";
import { ask, folded, form } from "../forms.js";
import { card, facts, figures, heading, tag } from "../parts.js";
import { choices, session } from "../session.js";
import { limitsPart } from "./limits.js";
import { permissionsPart, topicPermissionsPart } from "./permissions.js";
import { vhostFields } from "./vhosts.js";

export function vhostPage(ctx, name) {
  const path = at`/vhosts/${name}`;
  const totals = h("div", {});
  const details = h("div", {});
  const change = h("div", {});
  const buttons = h("div", { class: "buttons" });
  const limits = limitsPart(ctx, "vhost", name);
  const permissions = session.administers && permissionsPart(ctx, { vhost: name });
  const topics = session.administers && topicPermissionsPart(ctx, { vhost: name });
  let known = null;

  async function refresh() {
    const others = [limits, permissions, topics].filter(Boolean).map((part) => part.refresh());
    const [row] = await Promise.all([ctx.api.get(path), ...others]);
    patch(totals, figures([
      ["Ready", number(row.messages_ready), "lead"],
      ["Unacked", number(row.messages_unacknowledged), "lead"],
      ["Messages", number(row.messages), "lead"],
    ]));
    patch(details, facts([
      ["Description", row.description],
      ["Tags", row.tags.length > 0 && h("span", { class: "tags" }, row.tags.map((each) => tag(each, "")))],
      ["Default queue type", row.default_queue_type ?? "as the node has it"],
      ["Protected from deletion", row.protected_from_deletion ? "yes" : "no"],
    ]));
    patch(buttons, actions(row));
    // Later looks must not take away what is being typed.
    if (known === null && session.administers) patch(change, changing(row));
    known = row;
  }

  function actions(row) {
    const guard = row.protected_from_deletion ? "Unprotect" : "Protect from deletion";
    return [
      h("button", { type: "button", onclick: () => show("queues") }, "Its queues"),
      session.administers && h("button", { type: "button", onclick: () => protect(!row.protected_from_deletion) }, guard),
      session.administers && h("button", { type: "button", class: "danger", disabled: row.protected_from_deletion, onclick: remove }, "Delete…"),
    ];
  }

  function show(place) {
    choices.vhost = name;
    choices.save();
    ctx.leave(`#/${place}`);
  }

  async function protect(wanted) {
    try {
      await (wanted ? ctx.api.post(`${path}/deletion/protection`, {}) : ctx.api.delete(`${path}/deletion/protection`));
      ctx.reload();
    } catch (error) {
      ctx.failed(error);
    }
  }

  function changing(row) {
    const rest = vhostFields(row);
    const submit = async () => {
      await ctx.api.put(path, rest.value());
      ctx.reload();
      return "Changed.";
    };
    return form({ fields: rest.fields, button: "Change virtual host", submit }).node;
  }

  async function remove() {
    const done = await ask({
      title: "Delete the virtual host?",
      say: ["All its queues, messages, exchanges, policies and permissions go with it. Nothing brings them back."],
      typed: name,
      button: "Delete it",
      act: () => ctx.api.delete(path),
    });
    if (!done) return;
    if (choices.vhost === name) {
      choices.vhost = "";
      choices.save();
    }
    ctx.leave("#/vhosts", `Virtual host ${name} is deleted.`);
  }

  const node = h(
    "div",
    {},
    heading("Virtual host ", name, buttons),
    totals,
    card("Details", details),
    permissions && card("Permissions", permissions.node),
    topics && card("Topic permissions", topics.node),
    card("Limits", limits.node),
    session.administers && folded("Change description, tags and default type", change),
  );
  return { title: `Virtual host ${name}`, node, refresh };
}
