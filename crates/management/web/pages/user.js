// One user: what it may do, and its tags, password and limits.

import { at } from "../api.js";
import { h, patch } from "../dom.js";
import { ask, folded, form, select } from "../forms.js";
import { card, facts, heading, tag } from "../parts.js";
import { session } from "../session.js";
import { limitsPart } from "./limits.js";
import { permissionsPart, topicPermissionsPart } from "./permissions.js";
import { onlyAdministrators, passwordFields, tagsField } from "./users.js";

export function userPage(ctx, name) {
  if (!session.administers) return onlyAdministrators(`User ${name}`);
  const path = at`/users/${name}`;
  const details = h("div", {});
  const change = h("div", {});
  const permissions = permissionsPart(ctx, { user: name });
  const topics = topicPermissionsPart(ctx, { user: name });
  const limits = limitsPart(ctx, "user", name);
  let known = null;

  async function refresh() {
    const [row] = await Promise.all([ctx.api.get(path), permissions.refresh(), topics.refresh(), limits.refresh()]);
    patch(details, facts([
      ["Tags", h("span", { class: "tags" }, row.tags.length > 0 ? row.tags.map((each) => tag(each, "")) : "none: it cannot use these pages")],
      ["Password", row.password_hash ? `set (${row.hashing_algorithm})` : "none: it cannot log in with one"],
    ]));
    // Later looks must not take away what is being typed.
    if (known === null) patch(change, changing(row));
    known = row;
  }

  function changing(row) {
    const tags = tagsField(row.tags);
    const keep = select("Password", [["keep", "stays as it is"], ["set", "is set to"], ["clear", "is taken away"]]);
    const password = passwordFields();
    for (const field of password.fields) field.node.hidden = true;
    keep.input.onchange = () => {
      for (const field of password.fields) field.node.hidden = keep.value() !== "set";
    };
    async function submit() {
      const content = { tags: tags.value() };
      if (keep.value() === "set") {
        content.password = password.value();
      } else if (keep.value() === "keep") {
        // Asked anew: somebody may have changed it meanwhile.
        const { password_hash: hash, hashing_algorithm: algorithm } = await ctx.api.get(path);
        Object.assign(content, { password_hash: hash, hashing_algorithm: algorithm });
      }
      await ctx.api.put(path, content);
      ctx.reload();
      return "Changed.";
    }
    return form({ fields: [tags, keep, ...password.fields], button: "Change user", submit }).node;
  }

  async function remove() {
    const done = await ask({
      title: "Delete the user?",
      say: [name, name === session.name ? "This is you: you will be logged out." : "Its permissions go with it."],
      button: "Delete it",
      act: () => ctx.api.delete(path),
    });
    if (done) ctx.leave("#/users", `User ${name} is deleted.`);
  }

  const node = h(
    "div",
    {},
    heading("User ", name, h("div", { class: "buttons" }, h("button", { type: "button", class: "danger", onclick: remove }, "Delete…"))),
    card("Details", details),
    card("Permissions", permissions.node),
    card("Topic permissions", topics.node),
    card("Limits", limits.node),
    folded("Change tags and password", change),
  );
  return { title: `User ${name}`, node, refresh };
}
