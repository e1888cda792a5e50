// One channel.

import { at } from "../api.js";
import { h, patch } from "../dom.js";
import { number, rateOf, yesNo } from "../format.js";
import { failure } from "../forms.js";
import { card, facts, heading, links } from "../parts.js";
import { session } from "../session.js";
import { consumersTable } from "./consumers.js";

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

  async function refresh() {
    // Without its consumers, for which the leaders of all queues are asked.
    const row = await ctx.api.get(path, { disable_stats: true });
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
      ["Prefetch of each consumer to come", row.prefetch_count > 0 ? number(row.prefetch_count) : "no limit"],
      ["Prefetch of the channel", row.global_prefetch_count > 0 ? number(row.global_prefetch_count) : "no limit"],
      ["Unacked messages", number(row.messages_unacknowledged)],
      ["Unconfirmed messages", number(row.messages_unconfirmed)],
      ...COUNTED.map(([key, label]) => [label, row.message_stats?.[key] > 0 && `${number(row.message_stats[key])} (${rateOf(row, key)})`]),
    ]));
    if (row.consumer_count === 0) patch(consumers, h("p", { class: "dim" }, "It has no consumer."));
    else if (!consumers.hasChildNodes()) patch(consumers, h("button", { type: "button", onclick: look }, "Look for its consumers"));
  }

  /** The leaders of all queues are asked, so this is done when asked for only. */
  async function look() {
    try {
      const row = await ctx.api.get(path);
      patch(consumers, consumersTable(row.consumer_details, { queue: true }));
    } catch (error) {
      patch(consumers, failure(error));
    }
  }

  const node = h("div", {}, heading("Channel ", name), card("Details", details), card("Consumers", consumers));
  return { title: `Channel ${name}`, node, refresh };
}
