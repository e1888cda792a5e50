// One connection.

import { at } from "../api.js";
import { argumentList } from "../arguments.js";
import { chart } from "../chart.js";
import { h, patch } from "../dom.js";
import { byteRate, bytes, number, time, yesNo } from "../format.js";
import { ask, text } from "../forms.js";
import { history } from "../history.js";
import { card, facts, heading, links, state } from "../parts.js";
import { session } from "../session.js";
import { pagedTable } from "../table.js";
import { channelColumns } from "./channels.js";

export function connectionPage(ctx, name) {
  const path = at`/connections/${name}`;
  const seen = history(`connection ${name}`);
  const details = h("div", {});
  const client = h("div", {});
  const actions = h("div", { class: "buttons" });
  const traffic = chart({
    title: "Traffic",
    format: byteRate,
    lines: [{ name: "in", label: "From client" }, { name: "out", label: "To client" }],
  });
  const channels = pagedTable(ctx, {
    id: `channels of ${name}`,
    columns: channelColumns({ connection: true }),
    key: (row) => row.name,
    empty: "No channel is open.",
    filter: false,
    load: (query) => ctx.api.get(`${path}/channels`, query),
  });

  async function refresh() {
    const row = await ctx.api.get(path);
    seen.add({ in: row.recv_oct_details.rate, out: row.send_oct_details.rate });
    traffic.draw(seen);
    patch(details, facts([
      ["State", state(row.state)],
      ["User", session.administers ? links.user(row.user) : row.user],
      ["Virtual host", links.vhost(row.vhost)],
      ["Node", session.monitors ? links.node(row.node) : row.node],
      ["Client", `${row.peer_host}, port ${row.peer_port}`],
      ["Server", `${row.host}, port ${row.port}`],
      ["Encrypted", yesNo(row.ssl)],
      ["Login", row.auth_mechanism],
      ["Protocol", row.protocol],
      ["Connected", time(row.connected_at)],
      ["Heartbeat", `${row.timeout} s`],
      ["Largest frame", bytes(row.frame_max)],
      ["Channels", `${number(row.channels)} of ${number(row.channel_max)}`],
      ["From client", bytes(row.recv_oct)],
      ["To client", bytes(row.send_oct)],
      ["Client's name", row.user_provided_name],
    ]));
    patch(client, argumentList(row.client_properties) ?? h("p", { class: "dim" }, "The client told nothing."));
    const mayClose = session.administers || row.user === session.name;
    patch(actions, mayClose && h("button", { type: "button", class: "danger", onclick: close }, "Close connection…"));
    await channels.refresh();
  }

  async function close() {
    const reason = text("Reason that the client is told", { value: "Closed via management page", maxlength: 200 });
    const done = await ask({
      title: "Close the connection?",
      say: [name],
      fields: [reason],
      button: "Close it",
      act: () => {
        // It goes into a header, where nothing else may be.
        if (!/^[\x20-\x7e]*$/.test(reason.value())) throw new Error("The reason may hold letters without accents, digits and signs only.");
        return ctx.api.delete(path, {}, { "X-Reason": reason.value() || "Closed via management page" });
      },
    });
    if (done) ctx.leave("#/connections", "The connection is being closed.");
  }

  const node = h(
    "div",
    {},
    heading("Connection ", name, actions),
    h("div", { class: "two" }, card("Details", details), card(null, traffic.node)),
    card("Channels", channels.node),
    card("What the client says of itself", client),
  );
  return { title: `Connection ${name}`, node, refresh };
}
