// One exchange.

import { at } from "../api.js";
import { argumentList } from "../arguments.js";
import { chart } from "../chart.js";
import { h, patch } from "../dom.js";
import { exchangeName, number, short, time } from "../format.js";
import { ask, check, failure, folded } from "../forms.js";
import { history } from "../history.js";
import { card, facts, features, heading, links, policyTag } from "../parts.js";
import { bindingsFrom, bindingsTo } from "./bindings.js";
import { messageList, publishForm } from "./messages.js";

/** Delayed messages shown at a time, and bytes of each. */
const DELAYED = { count: 50, truncate: 2000 };

export function exchangePage(ctx, vhost, part) {
  const name = part === "amq.default" ? "" : part;
  const path = at`/exchanges/${vhost}/${part}`;
  const predeclared = name === "" || name.startsWith("amq.");
  const details = h("div", {});
  const seen = history(JSON.stringify(["exchange", vhost, name]));
  const rates = chart({
    title: "Messages per second",
    format: (value) => (value === undefined ? short(value) : `${short(value)}/s`),
    lines: [{ name: "publish_in", label: "In" }, { name: "publish_out", label: "Out, to queues" }],
  });
  const delayed = h("div", {});
  const from = name !== "" && bindingsFrom(ctx, vhost, name);
  const to = name !== "" && bindingsTo(ctx, vhost, "exchange", name);

  async function refresh() {
    const row = await ctx.api.get(path);
    const now = (key) => row.message_stats?.[`${key}_details`]?.rate ?? 0;
    seen.add({ publish_in: now("publish_in"), publish_out: now("publish_out") });
    rates.draw(seen);
    patch(details, facts([
      ["Type", row.type],
      ["Virtual host", links.vhost(vhost)],
      ["Features", features(row)],
      ["Policy", row.policy && policyTag(row.policy, vhost)],
      ["Arguments", argumentList(row.arguments)],
      ["Published to it", row.message_stats && number(row.message_stats.publish_in)],
      ["To queues", row.message_stats && number(row.message_stats.publish_out)],
      ["Delayed messages", row.messages_delayed !== undefined && number(row.messages_delayed)],
    ]));
    if (row.messages_delayed !== undefined && !delayed.hasChildNodes()) patch(delayed, delayedPart());
    await Promise.all([from && from.refresh(), to && to.refresh()]);
  }

  function delayedPart() {
    const found = h("div", {});
    const show = async () => {
      try {
        const messages = await ctx.api.get(`${path}/delayed`, DELAYED);
        patch(found, messages.length === 0 ? h("p", { class: "dim" }, "None waits.") : messageList(messages, (message) => `due ${time(message.due_at)}`));
      } catch (error) {
        patch(found, failure(error));
      }
    };
    return card("Delayed messages", h("p", { class: "dim" }, `The last that came, at most ${DELAYED.count}. Looking does not take them away.`), h("button", { type: "button", onclick: show }, "Show them"), found);
  }

  async function remove() {
    const unused = check("Only if nothing is bound to it");
    const done = await ask({
      title: "Delete the exchange?",
      say: [name, "Its bindings go with it."],
      fields: [unused],
      button: "Delete it",
      act: () => ctx.api.delete(path, unused.value() ? { "if-unused": true } : {}),
    });
    if (done) ctx.leave("#/exchanges", `Exchange ${name} is deleted.`);
  }

  const bindings = name === ""
    ? card("Bindings", h("p", { class: "dim" }, "Every queue is bound to the default exchange by its own name. Nothing else can be."))
    : [card("Bindings from it", from.node), card("Bindings to it", to.node)];
  const node = h(
    "div",
    {},
    heading("Exchange ", exchangeName(name), !predeclared && h("div", { class: "buttons" }, h("button", { type: "button", class: "danger", onclick: remove }, "Delete…"))),
    h("div", { class: "two" }, card(null, rates.node), card("Details", details)),
    bindings,
    folded("Publish a message", publishForm(ctx, vhost, part)),
    delayed,
  );
  return { title: `Exchange ${exchangeName(name)}`, node, refresh };
}
