// Small parts that several pages are made of.

import { h, s } from "./dom.js";
import { exchangeName, exchangePart } from "./format.js";

const hash = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

export const links = {
  queue: (vhost, name) => h("a", { href: hash("queues", vhost, name) }, name),
  exchange: (vhost, name) => h("a", { href: hash("exchanges", vhost, exchangePart(name)) }, exchangeName(name)),
  vhost: (name) => h("a", { href: hash("vhosts", name) }, name),
  user: (name) => h("a", { href: hash("users", name) }, name),
  node: (name) => (name ? h("a", { href: hash("nodes", name) }, name) : h("span", { class: "dim" }, "none")),
  connection: (name, label) => h("a", { href: hash("connections", name) }, label ?? name),
  channel: (name, label) => h("a", { href: hash("channels", name) }, label ?? name),
};

/** A page's heading, with what kind of thing it is about and buttons beside it. */
export function heading(kind, name, ...beside) {
  return h("header", { class: "heading" }, h("h1", { tabindex: "-1" }, kind, name !== undefined && h("span", { class: "thing" }, name)), beside);
}

export function card(title, ...children) {
  return h("section", { class: "card" }, title && h("h2", {}, title), children);
}

/** Names and values beside each other; those without a value are left out. */
export function facts(pairs) {
  const given = pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined && pair[1] !== "" && pair[1] !== false);
  return h("dl", { class: "facts" }, given.map(([name, value]) => h("div", { key: name }, h("dt", {}, name), h("dd", {}, value))));
}

/** Large numbers in a row: [label, value, class]. */
export function figures(items) {
  return h(
    "ul",
    { class: "figures" },
    items.map(([label, value, kind]) => h("li", { key: label, class: kind ?? null }, h("span", { class: "figure num" }, value), h("span", { class: "figure-label" }, label))),
  );
}

/** A short mark, its meaning in a tooltip. */
export function tag(label, meaning, kind = "") {
  return h("abbr", { class: `tag ${kind}`, title: meaning }, label);
}

const GOOD = ["running", "up", "single_active", "flow"];

export function state(word) {
  const kind = GOOD.includes(word) ? "good" : "bad";
  return h("span", { class: `state ${kind}` }, word ?? "unknown");
}

const ARGUMENT_TAGS = [
  ["x-message-ttl", "TTL", "messages expire after (ms)"],
  ["x-expires", "Exp", "the queue goes when unused for (ms)"],
  ["x-dead-letter-exchange", "DLX", "dead letters go to exchange"],
  ["x-dead-letter-routing-key", "DLK", "dead letters' routing key"],
  ["x-max-length", "Lim", "messages at most"],
  ["x-max-length-bytes", "LimB", "bytes at most"],
  ["x-max-age", "Age", "messages are kept for"],
  ["x-overflow", "Ovfl", "when full"],
  ["x-max-priority", "Pri", "priorities up to"],
  ["x-single-active-consumer", "SAC", "one consumer at a time"],
  ["x-delivery-limit", "DlvL", "deliveries of a message at most"],
  ["x-message-deduplication", "Dedup", "drops messages that it has seen"],
  ["alternate-exchange", "AE", "what has no route goes to exchange"],
  ["x-delayed-type", "Delay", "delayed messages, then routed as"],
];

/** What is special about a queue or exchange, in short marks. */
export function features(row) {
  const own = row.arguments ?? {};
  const marks = [
    row.durable && tag("D", "durable: survives a restart"),
    row.auto_delete && tag("AD", "auto-delete: goes with its last user"),
    row.exclusive && tag("Excl", "exclusive to one connection"),
    row.internal && tag("I", "internal: clients cannot publish to it"),
  ];
  for (const [key, label, meaning] of ARGUMENT_TAGS) {
    if (own[key] !== undefined && own[key] !== false) marks.push(tag(label, `${key}: ${own[key]} (${meaning})`));
  }
  const others = Object.keys(own).filter((key) => key !== "x-queue-type" && !ARGUMENT_TAGS.some(([known]) => known === key));
  if (others.length > 0) marks.push(tag("Args", others.map((key) => `${key}: ${JSON.stringify(own[key])}`).join(", ")));
  return h("span", { class: "tags" }, marks);
}

export const policyTag = (name, vhost) => name && h("a", { class: "tag policy", href: "#/policies", title: `policy of ${vhost}` }, name);

/** How full something is. */
export function bar(part, whole) {
  if (!(whole > 0) || !(part >= 0)) return null;
  const full = Math.min(1, part / whole);
  const kind = full > 0.9 ? "bad" : full > 0.7 ? "warn" : "good";
  return s(
    "svg",
    { class: `bar ${kind}`, "aria-hidden": "true" },
    s("rect", { class: "track", width: "100%", height: "100%" }),
    s("rect", { class: "full", width: `${(100 * full).toFixed(1)}%`, height: "100%" }),
  );
}
