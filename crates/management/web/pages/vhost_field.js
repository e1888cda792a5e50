// Choosing a virtual host in a form.

import { choices as options, select } from "../forms.js";
import { choices } from "../session.js";

export function vhostField(ctx) {
  const first = choices.vhost || "/";
  const field = select("Virtual host", [first], { selected: first });
  ctx.api.get("/vhosts", { page: 1, page_size: 500, columns: "name", disable_stats: true, sort: "name" }).then(({ items }) => {
    const chosen = field.value();
    const names = items.map((row) => row.name);
    field.input.replaceChildren(...options(names, names.includes(chosen) ? chosen : names[0]));
  }, ctx.failed);
  return field;
}
