// Virtual hosts: the list, and a new one.

import { at } from "../api.js";
import { h } from "../dom.js";
import { number } from "../format.js";
import { folded, form, select, text } from "../forms.js";
import { heading, links, tag } from "../parts.js";
import { session } from "../session.js";
import { pagedTable } from "../table.js";

export const QUEUE_TYPES = [["", "as the node has it"], ["classic", "classic"], ["quorum", "quorum"], ["stream", "stream"]];

export function vhostsPage(ctx) {
  const table = pagedTable(ctx, {
    id: "vhosts",
    key: (row) => row.name,
    empty: "You may use no virtual host.",
    load: (query) => ctx.api.get("/vhosts", query),
    columns: [
      { label: "Name", sort: "name", wide: true, cell: (row) => links.vhost(row.name) },
      { label: "Description", cell: (row) => row.description },
      { label: "Tags", cell: (row) => h("span", { class: "tags" }, row.tags.map((each) => tag(each, "a tag of your own"))) },
      { label: "Default queue type", cell: (row) => row.default_queue_type },
      { label: "Protected", cell: (row) => (row.protected_from_deletion ? "yes" : "") },
      { label: "Ready", sort: "messages_ready", num: true, cell: (row) => number(row.messages_ready) },
      { label: "Unacked", sort: "messages_unacknowledged", num: true, cell: (row) => number(row.messages_unacknowledged) },
      { label: "Total", sort: "messages", num: true, cell: (row) => number(row.messages) },
    ],
  });
  const name = text("Name", { required: true, maxlength: 255 });
  const rest = vhostFields({});

  async function submit() {
    await ctx.api.put(at`/vhosts/${name.value()}`, rest.value());
    await table.refresh();
    return h("span", {}, "There is ", links.vhost(name.value()), ".");
  }

  const add = session.administers && folded("Add a virtual host", form({ fields: [name, ...rest.fields], button: "Add virtual host", submit }).node);
  return { title: "Virtual hosts", node: h("div", {}, heading("Virtual hosts"), table.node, add), refresh: table.refresh };
}

/** What can be said of a virtual host. */
export function vhostFields(row) {
  const description = text("Description", { value: row.description ?? "" });
  const tags = text("Tags", { value: (row.tags ?? []).join(", "), placeholder: "with commas between" });
  const type = select("Default queue type", QUEUE_TYPES, { selected: row.default_queue_type ?? "" });
  return {
    fields: [description, tags, type],
    value: () => ({
      description: description.value(),
      tags: tags.value(),
      default_queue_type: type.value() === "" ? null : type.value(),
    }),
  };
}
