// An editor for named values with types: arguments, headers, policies.

import { h } from "./dom.js";
import { typed } from "./format.js";
import { choices } from "./forms.js";

const TYPES = [["string", "text"], ["number", "number"], ["boolean", "true or false"], ["json", "list or table (JSON)"]];

/**
 * `usual`: [name, type, help] of those one click away. `value()` is an object, or throws what is
 * wrong with a row.
 */
export function argumentsEditor(label, usual = []) {
  const rows = h("div", { class: "argument-rows" });
  const buttons = usual.map(([name, type, help]) =>
    h("button", { type: "button", class: "small", title: help ?? null, onclick: () => add(name, type, type === "boolean" ? "true" : "", true) }, name),
  );
  const more = h("button", { type: "button", class: "small plain", onclick: () => add("", "string", "", true) }, "+ other");
  const node = h(
    "fieldset",
    { class: "field arguments" },
    h("legend", {}, label),
    rows,
    h("div", { class: "usual" }, buttons, more),
  );

  function add(name, type, value, focus = false) {
    const key = h("input", { type: "text", value: name, placeholder: "name", "aria-label": `${label}: name`, autocomplete: "off", spellcheck: "false", class: "argument-name" });
    const text = h("input", { type: "text", value, placeholder: "value", "aria-label": `${label}: value of ${name || "it"}`, autocomplete: "off", spellcheck: "false", class: "argument-value" });
    const kind = h("select", { "aria-label": `${label}: type` }, choices(TYPES, type));
    const remove = h("button", { type: "button", class: "small plain", "aria-label": `Remove ${name}`, onclick: () => row.remove() }, "×");
    const row = h("div", { class: "argument" }, key, h("span", { class: "equals" }, "="), text, kind, remove);
    row.read = () => [key.value.trim(), parse(key.value, kind.value, text.value)];
    rows.append(row);
    if (focus) (name ? text : key).focus();
  }

  return {
    node,
    clear: () => rows.replaceChildren(),
    fill(object) {
      rows.replaceChildren();
      for (const [name, value] of Object.entries(object ?? {})) {
        const [text, type] = typed(value);
        add(name, type === "list" || type === "table" || type === "null" ? "json" : type, text);
      }
    },
    value() {
      const read = [...rows.children].map((row) => row.read()).filter(([name, value]) => name !== "" || value !== "");
      const nameless = read.find(([name]) => name === "");
      if (nameless) throw new Error(`${label}: the value "${nameless[1]}" has no name`);
      return Object.fromEntries(read);
    },
  };
}

function parse(name, type, text) {
  switch (type) {
    case "number": {
      const number = Number(text);
      if (text.trim() === "" || !Number.isFinite(number)) throw new Error(`${name} must be a number, not "${text}"`);
      return number;
    }
    case "boolean":
      if (text !== "true" && text !== "false") throw new Error(`${name} must be true or false`);
      return text === "true";
    case "json":
      try {
        return JSON.parse(text);
      } catch (error) {
        throw new Error(`${name} is not JSON: ${error.message}`);
      }
    default:
      return text;
  }
}

/** Arguments as a small table of names, values and types. */
export function argumentList(object) {
  const entries = Object.entries(object ?? {});
  if (entries.length === 0) return null;
  return h(
    "ul",
    { class: "values" },
    entries.map(([name, value]) => {
      const [text, type] = typed(value);
      return h("li", {}, h("span", { class: "value-name" }, `${name}: `), h("span", { title: type }, text));
    }),
  );
}
