// Makes elements, and brings what is shown in line with what should be shown.
//
// Text becomes text nodes, never markup: names and payloads come from clients of the broker.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("a", { href: "#/queues", onclick: go }, "Queues"). Null and false are left out. */
export function h(tag, attributes, ...children) {
  return make(document.createElement(tag), attributes, children);
}

/** The same, for drawings. */
export function s(tag, attributes, ...children) {
  return make(document.createElementNS(SVG, tag), attributes, children);
}

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    set(element, name, value);
  }
  element.append(...nodes(children));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) {
    element[name] = value;
  } else if (name === "key" || name === "value" || name === "checked") {
    element[name] = value;
  } else if (name === "href" && !String(value).startsWith("#")) {
    // Links lead to other pages here and nowhere else.
    throw new Error(`not a link within these pages: ${value}`);
  } else {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

function nodes(children) {
  const flat = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  return flat.map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

/** Replaces what is in `parent` without touching what stays the same: focus and scrolling survive. */
export function patch(parent, ...children) {
  const focused = document.activeElement;
  reconcile(parent, nodes(children));
  if (focused && focused !== document.activeElement && parent.contains(focused)) {
    focused.focus({ preventScroll: true });
  }
}

function reconcile(parent, fresh) {
  const wanted = new Set(fresh.map((node) => node.key).filter((key) => key !== undefined));
  const keyed = new Map();
  for (const child of [...parent.childNodes]) {
    if (child.key === undefined) continue;
    if (wanted.has(child.key)) keyed.set(child.key, child);
    else if (!fresh.includes(child)) child.remove();
  }
  let at = parent.firstChild;
  for (const next of fresh) {
    const old = counterpart(parent, next, keyed, at);
    if (!old) {
      parent.insertBefore(next, at);
      continue;
    }
    if (old === at) at = at.nextSibling;
    else parent.insertBefore(old, at);
    if (old !== next) update(old, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function counterpart(parent, next, keyed, at) {
  if (next.parentNode === parent) return next;
  const old = next.key === undefined ? at : keyed.get(next.key);
  return old && old.nodeName === next.nodeName && old.key === next.key ? old : null;
}

const HANDLERS = ["onclick", "onchange", "oninput", "onsubmit", "onkeydown", "onpointermove", "onpointerleave"];

function update(old, next) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Whether something is unfolded is up to who looks at it.
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of HANDLERS) old[name] = next[name];
  // What somebody is typing or choosing is theirs.
  if (old.nodeName === "TEXTAREA" || old === document.activeElement && old.nodeName === "SELECT") return;
  reconcile(old, [...next.childNodes]);
}
