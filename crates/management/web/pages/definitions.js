// Definitions out of the cluster and into it.

import { at } from "../api.js";
import { h, patch } from "../dom.js";
import { ask, failure, folded, form, select } from "../forms.js";
import { choices, session } from "../session.js";

const ALL = "";

/** Hands a text to the browser as a file. */
function save(name, content) {
  const address = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  const anchor = document.createElement("a");
  anchor.href = address;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

export function definitionsPart(ctx) {
  if (!session.makesPolicies) return null;
  const places = session.administers ? [[ALL, "The whole cluster"]] : [];
  const from = select("Of", places);
  const into = select("Into", places);
  const file = h("input", { type: "file", accept: ".json,application/json", id: "import-file" });
  const report = h("div", { "aria-live": "polite" });

  ctx.api.get("/vhosts", { page: 1, page_size: 500, columns: "name", disable_stats: true, sort: "name" }).then(({ items }) => {
    for (const field of [from, into]) {
      field.input.append(...items.map(({ name }) => h("option", { value: name }, `Virtual host ${name}`)));
      if (choices.vhost) field.input.value = choices.vhost;
    }
  }, ctx.failed);

  const path = (vhost) => (vhost === ALL ? "/definitions" : at`/definitions/${vhost}`);

  async function download() {
    const vhost = from.value();
    const content = await ctx.api.get(path(vhost));
    const place = vhost === ALL ? "cluster" : vhost.replace(/[^A-Za-z0-9]+/g, "_");
    save(`warren_${place}_${new Date().toISOString().slice(0, 10)}.json`, JSON.stringify(content, null, 2));
    return "Downloaded.";
  }

  async function upload() {
    const [chosen] = file.files;
    if (!chosen) throw new Error("Choose a file first.");
    let content;
    try {
      content = JSON.parse((await chosen.text()).replace(/^\uFEFF/, ""));
    } catch (error) {
      throw new Error(`${chosen.name} is not JSON: ${error.message}`);
    }
    const place = into.input.selectedOptions[0].textContent.toLowerCase();
    let answer = null;
    const done = await ask({
      title: "Import definitions?",
      say: [`${chosen.name} goes into: ${place}. What exists already is left as it is.`],
      button: "Import",
      act: async () => {
        answer = await ctx.api.post(`${path(into.value())}?report=true`, content);
      },
    });
    if (!done) return "";
    patch(report, outcome(answer));
    ctx.reload();
    return "Imported.";
  }

  return folded(
    "Definitions: export and import",
    h("div", { class: "two" },
      form({ fields: [h("h3", {}, "Export"), from], button: "Download", submit: download }).node,
      form({ fields: [h("h3", {}, "Import"), into, h("div", { class: "field" }, h("label", { for: "import-file" }, "File"), file)], button: "Import…", submit: upload }).node,
    ),
    report,
  );
}

function outcome({ imported, failed, not_understood: other }) {
  const counts = Object.entries(imported).map(([part, count]) => `${part}: ${count}`).join(", ");
  return [
    h("p", {}, counts === "" ? "Nothing was imported." : `Imported ${counts}.`),
    failed.slice(0, 50).map((text) => failure(new Error(text))),
    other.length > 0 && h("p", { class: "dim" }, `Not understood: ${other.slice(0, 50).join("; ")}`),
  ];
}
