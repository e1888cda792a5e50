// One channel.

import { at } from "../api.js";
import { h, patch } from "../dom.js";
import { number, rateOf, yesNo } from "../format.js";
import { failure } from "../forms.js";
import { card, facts, heading, links } from "../parts.js";
import { session } from "../session.js";
import { consumersTable } from "./consumers.js";

/** Consumers of the virtual host that are looked through for those of the channel. */
const LOOKED_AT = 500;

/** What has happened on a channel, by its names in the API. */
const COUNTED = [
  ["publish", "Published"],
  ["confirm", "Confirmed"],
  ["return_unroutable", "Returned, unroutable"],
  ["drop_unroutable", "Dropped, unroutable"],
  ["deliver", "Delivered, manual ack"],
  ["deliver_no_ack", "Delivered, auto ack"],
  ["get", "Got, manual ack"],
  ["get_no_ack", "Got, auto ack"],
  ["redeliver", "Redelivered"],
  ["ack", "Acknowledged"],
];

export function channelPage(ctx, name) {
  const path = at`/channels/${name}`;
  const details = h("div", {});
  const consumers = h("div", {});
  let vhost = null;

  async function refresh() {
    const row = await ctx.api.get(path);
    vhost = row.vhost;
    const { name: connection } = row.connection_details;
    patch(details, facts([
      ["Connection", links.connection(connection)],
      ["Number", String(row.number)],
      ["User", session.administers ? links.user(row.user) : row.user],
      ["Virtual host", links.vhost(row.vhost)],
      ["Node", session.monitors ? links.node(row.node) : row.node],
      ["State", row.state],
      ["Publishes are confirmed", yesNo(row.confirm)],
      ["Transactional", yesNo(row.transactional)],
      ["Consumers", number(row.consumer_count)],
      ["Prefetch of the channel", row.global_prefetch_count > 0 ? number(row.global_prefetch_count) : "no limit"],
      ["Unacked messages", number(row.messages_unacknowledged)],
      ["Unconfirmed messages", number(row.messages_unconfirmed)],
      ...COUNTED.map(([key, label]) => [label, row.message_stats?.[key] > 0 && `${number(row.message_stats[key])} (${rateOf(row, key)})`]),
    ]));
    if (row.consumer_count === 0) patch(consumers, h("p", { class: "dim" }, "It has no consumer."));
    else if (!consumers.hasChildNodes()) patch(consumers, h("button", { type: "button", onclick: look }, "Look for its consumers"));
  }

  /** The API cannot tell the consumers of one channel, so this is done when asked for only. */
  async function look() {
    try {
      const answer = await ctx.api.get(at`/consumers/${vhost}`, { page: 1, page_size: LOOKED_AT });
      const rows = answer.items.filter((row) => row.channel_details.name === name);
      const rest = answer.total_count > LOOKED_AT && h("p", { class: "dim" }, `Only the first ${LOOKED_AT} consumers of the virtual host were looked at.`);
      patch(consumers, consumersTable(rows, { queue: true }), rest);
    } catch (error) {
      patch(consumers, failure(error));
    }
  }

  const node = h("div", {}, heading("Channel ", name), card("Details", details), card("Consumers", consumers));
  return { title: `Channel ${name}`, node, refresh };
}
