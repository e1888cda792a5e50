// Forms: fields, what went wrong beside them, and questions before what cannot be undone.

import { h, patch } from "./dom.js";

let count = 0;

/** A label over an input. `value()` reads it. */
function labelled(label, input, hint, value) {
  count += 1;
  input.id = `field-${count}`;
  const help = hint && h("small", { id: `hint-${count}` }, hint);
  if (help) input.setAttribute("aria-describedby", help.id);
  return { node: h("div", { class: "field" }, h("label", { for: input.id }, label), input, help), input, value };
}

export function text(label, { hint, ...attributes } = {}) {
  const input = h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
  return labelled(label, input, hint, () => input.value);
}

/** A whole number, or null where nothing is typed. */
export function whole(label, { hint, ...attributes } = {}) {
  const input = h("input", { type: "number", step: 1, ...attributes });
  return labelled(label, input, hint, () => (input.value === "" ? null : Number(input.value)));
}

export function area(label, { hint, ...attributes } = {}) {
  const input = h("textarea", { rows: 4, spellcheck: "false", ...attributes });
  return labelled(label, input, hint, () => input.value);
}

/** `options`: values, or [value, label] pairs. */
export function select(label, options, { hint, selected, ...attributes } = {}) {
  const input = h("select", attributes, choices(options, selected));
  return labelled(label, input, hint, () => input.value);
}

export function choices(options, selected) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  return pairs.map(([value, label]) => h("option", { value, selected: value === selected }, label));
}

export function check(label, { hint, ...attributes } = {}) {
  const input = h("input", { type: "checkbox", ...attributes });
  count += 1;
  input.id = `field-${count}`;
  const node = h("div", { class: "field check" }, input, h("label", { for: input.id }, label), hint && h("small", {}, hint));
  return { node, input, value: () => input.checked };
}

/** Fields, a button, and below it what came of pressing it. `submit` may return a text that says so. */
export function form({ fields, button, submit, danger = false, reset = false, className = "" }) {
  const outcome = h("div", { class: "outcome", "aria-live": "polite" });
  const press = h("button", { type: "submit", class: danger ? "danger" : "primary" }, button);
  const node = h("form", { class: `form ${className}`, onsubmit: send }, fields.map((field) => field.node ?? field), h("div", { class: "send" }, press, outcome));

  async function send(event) {
    event.preventDefault();
    press.disabled = true;
    patch(outcome);
    try {
      const said = await submit();
      if (reset) node.reset();
      patch(outcome, h("p", { class: "done" }, said ?? "Done."));
    } catch (error) {
      if (error.name !== "AbortError") patch(outcome, failure(error));
    } finally {
      press.disabled = false;
    }
  }

  return { node, outcome };
}

export function failure(error) {
  return h("p", { class: "failure", role: "alert" }, error.message || String(error));
}

/** A folded part of a page. */
export function folded(title, ...children) {
  return h("details", { class: "card folded" }, h("summary", {}, title), h("div", { class: "inside" }, children));
}

/**
 * Asks before something that cannot be undone, and does it. Resolves to whether it was done; what
 * goes wrong is told in the dialog, which stays open.
 */
export function ask({ title, say = [], fields = [], button, typed, act }) {
  return new Promise((resolve) => {
    const outcome = h("div", { "aria-live": "polite" });
    const confirm = typed && text(`Type ${typed} to go on`, {});
    const press = h("button", { type: "submit", class: "danger", disabled: Boolean(typed) }, button);
    const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    if (confirm) confirm.input.oninput = () => (press.disabled = confirm.value() !== typed);
    let done = false;

    const inner = h(
      "form",
      { onsubmit: run },
      h("h2", {}, title),
      say.map((part) => h("p", {}, part)),
      fields.map((field) => field.node),
      confirm?.node,
      outcome,
      h("div", { class: "buttons" }, cancel, press),
    );
    const dialog = h("dialog", { "aria-label": title }, inner);

    async function run(event) {
      event.preventDefault();
      if (press.disabled) return;
      press.disabled = true;
      try {
        await act();
        done = true;
        dialog.close();
      } catch (error) {
        press.disabled = false;
        if (error.name === "AbortError") dialog.close();
        else patch(outcome, failure(error));
      }
    }

    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done);
    });
    document.body.append(dialog);
    dialog.showModal();
    // Whoever presses Enter at once must not have deleted anything.
    (confirm?.input ?? fields[0]?.input ?? cancel).focus();
  });
}

/** Closes questions that belong to a page that was left. */
export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}
