// Tables whose rows the server sorts, filters and cuts into pages.

import { h, patch } from "./dom.js";
import { number } from "./format.js";
import { check, choices, failure } from "./forms.js";

const SIZES = [20, 50, 100, 200, 500];
/** Typing is waited for before the server is asked. */
const TYPING = 250;

/** How each table was left, by its name. */
const left = new Map();

/**
 * `columns`: [{ label, sort, num, cell(row), title }]; `load(query)` asks the API with page, size,
 * order and filter; `key(row)` names a row.
 */
export function pagedTable(ctx, { id, columns, load, key, empty, filter = true, size = 50 }) {
  const view = left.get(id) ?? { page: 1, size, name: "", regex: false, sort: null, reverse: false };
  left.set(id, view);
  let asked = 0;
  let typing = null;

  const search = h("input", { type: "search", value: view.name, placeholder: "Filter by name", "aria-label": "Filter by name", spellcheck: "false", oninput: typed });
  const regex = check("Regex", { checked: view.regex, onchange: () => change({ regex: regex.value(), page: 1 }) });
  const pager = h("div", { class: "pager" });
  const problem = h("div", {});
  const head = h("thead", {});
  const body = h("tbody", {}, h("tr", {}, h("td", { colspan: columns.length, class: "dim" }, "Loading…")));
  const node = h(
    "div",
    { class: "paged" },
    h("div", { class: "toolbar" }, filter && [search, regex.node], pager),
    problem,
    h("div", { class: "scroll" }, h("table", {}, head, body)),
  );

  function typed() {
    clearTimeout(typing);
    typing = setTimeout(() => change({ name: search.value, page: 1 }), TYPING);
  }

  function change(changes) {
    Object.assign(view, changes);
    header();
    refresh().catch(ctx.failed);
  }

  function order(column) {
    const reverse = view.sort === column.sort ? !view.reverse : Boolean(column.num);
    change({ sort: column.sort, reverse, page: 1 });
  }

  function header() {
    patch(head, h("tr", {}, columns.map((column) => heading(column, view, order))));
  }

  async function refresh() {
    const turn = ++asked;
    const query = { page: view.page, page_size: view.size, sort: view.sort, sort_reverse: view.reverse || null };
    if (view.name) Object.assign(query, { name: view.name, use_regex: view.regex || null });
    let answer;
    try {
      answer = await load(query);
    } catch (error) {
      if (/^page out of range/.test(error.message) && view.page > 1) {
        view.page = 1;
        await refresh();
        return;
      }
      // A filter that is no expression is told here; all else to the whole page.
      if (error.status !== 400) throw error;
      if (turn === asked) patch(problem, failure(error));
      return;
    }
    // A slow answer must not replace a later one.
    if (turn === asked) show(answer);
  }

  function show(answer) {
    patch(problem);
    const rows = answer.items.map((row) => rowOf(columns, row, key(row)));
    const none = view.name ? "Nothing has such a name." : empty;
    patch(body, rows.length > 0 ? rows : h("tr", { key: "none" }, h("td", { colspan: columns.length, class: "dim" }, none)));
    patch(pager, !filter && answer.total_count <= SIZES[0] ? null : pagerOf(answer));
  }

  function pagerOf({ page, page_size: size, page_count: pages, item_count: here, filtered_count: found, total_count: all }) {
    const step = (label, to, possible, name) =>
      h("button", { type: "button", class: "small", disabled: !possible, "aria-label": name, onclick: () => change({ page: to }) }, label);
    const first = found === 0 ? 0 : (page - 1) * size + 1;
    const last = found === 0 ? 0 : first + here - 1;
    const resize = (event) => change({ size: Number(event.target.value), page: 1 });
    const sizes = choices(SIZES.map((rows) => [String(rows), `${rows} rows`]), String(view.size));
    return [
      h("span", { class: "count" }, `${number(first)}–${number(last)} of ${number(found)}${found === all ? "" : ` (of ${number(all)})`}`),
      step("‹", page - 1, page > 1, "Previous page"),
      step("›", page + 1, page < pages, "Next page"),
      h("select", { "aria-label": "Rows per page", onchange: resize }, sizes),
    ];
  }

  header();
  return { node, refresh };
}

function heading(column, view, order) {
  const sorted = column.sort && view.sort === column.sort;
  const direction = sorted ? (view.reverse ? "descending" : "ascending") : null;
  const label = column.sort
    ? h("button", { type: "button", class: "sort", onclick: () => order(column) }, column.label, h("i", { class: `arrow ${direction ?? ""}` }))
    : column.label;
  return h("th", { scope: "col", class: column.num ? "num" : null, title: column.title ?? null, "aria-sort": direction }, label);
}

function rowOf(columns, row, key) {
  return h("tr", { key }, columns.map((column) => h("td", { class: column.num ? "num" : column.wide ? "wide" : null }, column.cell(row))));
}

/** A table of few rows that are all here. */
export function plainTable({ columns, rows, key, empty }) {
  if (rows.length === 0) return h("p", { class: "dim" }, empty);
  const head = columns.map((column) => h("th", { scope: "col", class: column.num ? "num" : null, title: column.title ?? null }, column.label));
  const body = rows.map((row, index) => rowOf(columns, row, key ? key(row) : index));
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}
