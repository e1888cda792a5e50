// Users: the list, and a new one.

import { at } from "../api.js";
import { h } from "../dom.js";
import { check, folded, form, text } from "../forms.js";
import { heading, links, tag } from "../parts.js";
import { session } from "../session.js";
import { pagedTable } from "../table.js";

const TAGS = [
  ["administrator", "may do everything"],
  ["monitoring", "sees everything"],
  ["policymaker", "sets policies where it has permissions"],
  ["management", "sees what it has permissions for"],
];

/** A field for tags: the known ones as boxes, others as text. */
export function tagsField(chosen = []) {
  const known = TAGS.map(([name, meaning]) => [name, check(name, { title: meaning, checked: chosen.includes(name) })]);
  const others = text("Other tags", { value: chosen.filter((name) => !TAGS.some(([each]) => each === name)).join(", "), placeholder: "with commas between" });
  const node = h("fieldset", { class: "field" }, h("legend", {}, "Tags"), h("div", { class: "checks" }, known.map(([, field]) => field.node)), others.node);
  const value = () => [...known.filter(([, field]) => field.value()).map(([name]) => name), ...others.value().split(",").map((name) => name.trim()).filter(Boolean)];
  return { node, value };
}

export function passwordFields() {
  const first = text("Password", { type: "password", autocomplete: "new-password" });
  const second = text("Again", { type: "password", autocomplete: "new-password" });
  return {
    fields: [first, second],
    value() {
      if (first.value() !== second.value()) throw new Error("The two passwords are not the same.");
      return first.value();
    },
  };
}

export function onlyAdministrators(title) {
  return { title, node: h("div", {}, heading(title), h("p", { class: "card" }, "Only users with the tag administrator see this.")) };
}

export function usersPage(ctx) {
  if (!session.administers) return onlyAdministrators("Users");
  const table = pagedTable(ctx, {
    id: "users",
    key: (row) => row.name,
    empty: "There are no users.",
    load: (query) => ctx.api.get("/users", { ...query, columns: "name,tags,limits,password_hash" }),
    columns: [
      { label: "Name", sort: "name", wide: true, cell: (row) => links.user(row.name) },
      { label: "Tags", cell: (row) => h("span", { class: "tags" }, row.tags.map((name) => tag(name, TAGS.find(([known]) => known === name)?.[1] ?? "a tag of your own"))) },
      { label: "Password", cell: (row) => (row.password_hash ? "set" : "none") },
      { label: "Limits", cell: (row) => Object.entries(row.limits).map(([name, value]) => `${name}: ${value}`).join(", ") },
    ],
  });
  const name = text("Name", { required: true, maxlength: 255, autocomplete: "off" });
  const password = passwordFields();
  const tags = tagsField();

  async function submit() {
    await ctx.api.get(at`/users/${name.value()}`).then(
      () => {
        throw new Error(`There is a user ${name.value()} already; change it on its own page.`);
      },
      (error) => {
        if (error.status !== 404) throw error;
      },
    );
    const content = { tags: tags.value() };
    if (password.value() !== "") content.password = password.value();
    await ctx.api.put(at`/users/${name.value()}`, content);
    await table.refresh();
    return h("span", {}, "There is ", links.user(name.value()), ", which has no permissions yet.");
  }

  const hint = h("p", { class: "dim" }, "A user without a password cannot log in with one.");
  const add = folded("Add a user", hint, form({ fields: [name, ...password.fields, tags], button: "Add user", submit }).node);
  return { title: "Users", node: h("div", {}, heading("Users"), table.node, add), refresh: table.refresh };
}
