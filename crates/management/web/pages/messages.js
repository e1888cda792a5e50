// Publishing messages and getting them, by hand.

import { at } from "../api.js";
import { argumentList, argumentsEditor } from "../arguments.js";
import { h, patch } from "../dom.js";
import { bytes, exchangeName, number, time } from "../format.js";
import { area, ask, form, select, text, whole } from "../forms.js";

const PROPERTIES = [
  ["content_type", "string"],
  ["content_encoding", "string"],
  ["priority", "number"],
  ["correlation_id", "string"],
  ["reply_to", "string"],
  ["expiration", "string", "ms, as text"],
  ["message_id", "string"],
  ["timestamp", "number", "seconds since 1970"],
  ["type", "string"],
  ["user_id", "string"],
  ["app_id", "string"],
];
const HEADERS = [["x-delay", "number", "For delayed messages: ms"], ["x-deduplication-header", "string"]];

/** `part`: the exchange as in addresses. A `key` that is given is the only one. */
export function publishForm(ctx, vhost, part, key) {
  const routing = text("Routing key", { value: key ?? "", maxlength: 255, readonly: key !== undefined });
  const mode = select("Delivery mode", [["2", "persistent"], ["1", "not persistent"]]);
  const payload = area("Payload");
  const encoding = select("The payload is", [["string", "text"], ["base64", "base64"]]);
  const properties = argumentsEditor("Properties", PROPERTIES);
  const headers = argumentsEditor("Headers", HEADERS);

  async function submit() {
    const given = { delivery_mode: Number(mode.value()), ...properties.value() };
    const heads = headers.value();
    if (Object.keys(heads).length > 0) given.headers = heads;
    const { routed } = await ctx.api.post(at`/exchanges/${vhost}/${part}/publish`, {
      routing_key: routing.value(),
      payload: payload.value(),
      payload_encoding: encoding.value(),
      properties: given,
    });
    ctx.reload();
    return routed ? "Published; it was routed." : h("strong", {}, "Published, but not routed: no queue got it.");
  }

  return form({ fields: [routing, mode, payload, encoding, properties, headers], button: "Publish", submit }).node;
}

const MODES = [
  ["ack_requeue_true", "put them back (they become redelivered)"],
  ["reject_requeue_true", "reject and put back"],
  ["ack_requeue_false", "take them away for good"],
  ["reject_requeue_false", "reject for good (dead letters)"],
];

/** `stream`: nothing can be taken from it this way. */
export function getForm(ctx, vhost, queue) {
  const count = whole("Messages", { min: 1, max: 10000, value: 1, required: true });
  const mode = select("Then", MODES);
  const encoding = select("Payloads", [["auto", "as text where they are text"], ["base64", "always base64"]]);
  const cut = whole("Bytes of each at most", { min: 0, value: 50_000 });
  const found = h("div", {});

  async function submit() {
    let messages = null;
    const get = async () => {
      messages = await ctx.api.post(at`/queues/${vhost}/${queue}/get`, {
        count: count.value(),
        ackmode: mode.value(),
        encoding: encoding.value(),
        truncate: cut.value() ?? undefined,
      });
    };
    if (mode.value().endsWith("true")) {
      await get();
    } else {
      const say = [`At most ${count.value()} leave the queue ${queue} and are lost if you do not keep them.`];
      if (!(await ask({ title: "Take messages away?", say, button: "Take them", act: get }))) return "";
    }
    patch(found, messageList(messages, (message) => `${number(message.message_count)} left behind it`));
    ctx.reload();
    return messages.length === 0 ? "The queue is empty." : `${messages.length} got.`;
  }

  const warning = h("p", { class: "dim gap" }, "Getting is not only looking: messages are taken from the queue, and those put back are marked as redelivered, count as delivered once more, and may come in another order.");
  return h("div", {}, warning, form({ fields: [count, mode, encoding, cut], button: "Get", submit }).node, found);
}

/** Messages, each with what `note` says of it. */
export function messageList(messages, note) {
  return h("ol", { class: "messages" }, messages.map((message) => h("li", { class: "message" }, one(message, note(message)))));
}

function one(message, note) {
  const { headers, timestamp, ...rest } = message.properties;
  const properties = timestamp === undefined ? rest : { ...rest, timestamp: `${timestamp} (${time(1000 * timestamp)})` };
  const shown = message.payload_encoding === "base64" ? Math.floor((message.payload.replace(/=+$/, "").length * 3) / 4) : new TextEncoder().encode(message.payload).length;
  const parts = [
    `exchange ${exchangeName(message.exchange)}`,
    `routing key ${message.routing_key}`,
    bytes(message.payload_bytes),
    message.redelivered && "redelivered",
    note,
  ].filter(Boolean);
  return [
    h("p", { class: "dim" }, parts.join(" · ")),
    argumentList(properties),
    headers && h("div", { class: "headers" }, h("span", { class: "dim" }, "Headers"), argumentList(headers)),
    message.payload_encoding === "base64" && h("p", { class: "note" }, "The payload is no text; it is shown as base64."),
    h("pre", { tabindex: 0, "aria-label": "Payload" }, message.payload),
    shown < message.payload_bytes && h("p", { class: "note" }, `Cut: ${bytes(shown)} of ${bytes(message.payload_bytes)}.`),
  ];
}
