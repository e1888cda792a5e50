// What is around every page: where one can go, who is logged in, and what is wrong with the cluster.

import { api } from "./api.js";
import { h, patch } from "./dom.js";
import { choices as options } from "./forms.js";
import { choices, session } from "./session.js";

const EVERY = [[0, "off"], [2000, "every 2 s"], [5000, "every 5 s"], [30000, "every 30 s"]];
/** Virtual hosts offered as a filter. */
const VHOSTS = 500;
/** How long what was done is told. */
const SAID = 6000;

const PLACES = [
  ["", "Overview", () => true],
  ["connections", "Connections", () => true],
  ["channels", "Channels", () => true],
  ["exchanges", "Exchanges", () => true],
  ["queues", "Queues", () => true],
  [null, "Admin", () => true],
  ["users", "Users", () => session.administers],
  ["vhosts", "Virtual hosts", () => true],
  ["policies", "Policies", () => true],
  ["limits", "Limits", () => true],
  ["shovels", "Shovels", () => session.monitors],
  ["cluster", "Cluster", () => session.monitors],
];

export class Frame {
  #main = h("main", { id: "main" });
  #banner = h("div", { class: "banner", role: "status" });
  #toast = h("div", { class: "toast", role: "status" });
  #name = h("span", { class: "cluster-name" });
  #version = h("span", { class: "version" });
  #navigation = h("ul", {});
  #vhosts;
  #warnings = [];
  #unanswered = null;
  #others = [];
  #named = false;
  #saying = null;

  /** `changed`: another choice was made that the page depends on; `rest`: another interval. */
  constructor({ logout, changed, rest }) {
    this.#vhosts = h("select", { id: "vhost", onchange: (event) => this.#choose({ vhost: event.target.value }, changed) });
    const every = h("select", { id: "every", onchange: (event) => this.#choose({ every: Number(event.target.value) }, rest) }, options(EVERY.map(([ms, label]) => [String(ms), label]), String(choices.every)));
    const skip = h("button", { type: "button", class: "skip", onclick: () => this.#main.querySelector("h1")?.focus() }, "Skip to the page");
    this.node = h(
      "div",
      { class: "frame" },
      skip,
      h(
        "header",
        { class: "top" },
        h("a", { class: "brand", href: "#/", "aria-label": "Warren: overview" }, h("img", { src: "/web/favicon.svg", alt: "", width: 26, height: 26 }), h("span", {}, "Warren")),
        h("div", { class: "cluster" }, this.#name, this.#version),
        h("div", { class: "choices" },
          h("label", { for: "vhost" }, "Virtual host"), this.#vhosts,
          h("label", { for: "every" }, "Refresh"), every,
          h("span", { class: "who", title: session.tags.join(", ") }, session.name),
          h("button", { type: "button", id: "logout", onclick: logout }, "Log out"),
        ),
      ),
      h("nav", { class: "places", "aria-label": "Pages" }, this.#navigation),
      h("div", { class: "content" }, this.#banner, this.#main),
      this.#toast,
    );
    this.#offer([]);
  }

  #choose(changes, then) {
    Object.assign(choices, changes);
    choices.save();
    then();
  }

  #offer(names) {
    const all = choices.vhost && !names.includes(choices.vhost) ? [choices.vhost, ...names] : names;
    patch(this.#vhosts, options([["", "All"], ...all.map((name) => [name, name])], choices.vhost));
    this.#vhosts.value = choices.vhost;
  }

  /** Marks where one is, and gets what rarely changes. */
  enter(place) {
    const here = place === "nodes" ? (session.monitors ? "cluster" : "") : place;
    const shown = PLACES.filter(([, , allowed]) => allowed());
    patch(this.#navigation, shown.map(([path, label]) => {
      if (path === null) return h("li", { class: "group", key: label }, label);
      const current = path === here ? "page" : null;
      return h("li", { key: label }, h("a", { href: `#/${path}`, "aria-current": current }, label));
    }));
    // On a phone the places are a row that is wider than the screen.
    this.#navigation.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    const { get } = api();
    const query = { page: 1, page_size: VHOSTS, columns: "name", disable_stats: true, sort: "name" };
    get("/vhosts", query).then(({ items }) => this.#offer(items.map((row) => row.name)), () => {});
  }

  show(node) {
    this.#main.replaceChildren(node);
    window.scrollTo(0, 0);
    node.querySelector("h1")?.focus({ preventScroll: true });
  }

  /** Looks how the cluster is. */
  async refresh(signal) {
    const asked = api(signal);
    if (!session.monitors) {
      if (!this.#named) this.#entitle((await asked.get("/cluster-name")).name, await asked.get("/version"));
      const reason = await asked.readiness();
      this.#warnings = reason ? [`This node is not ready: ${reason}`] : [];
      return;
    }
    const status = await asked.get("/cluster/status");
    this.#entitle(status.cluster_name, status.version);
    const others = status.members.filter((member) => member.node !== status.node && member.management_address);
    this.#others = others.map((member) => member.management_address);
    const alarms = status.members.flatMap((member) => member.alarms.map((alarm) => `${member.node}: ${alarm} alarm`));
    this.#warnings = [...status.warnings, ...alarms];
  }

  #entitle(name, version) {
    this.#named = true;
    patch(this.#name, name);
    patch(this.#version, version ? `Warren ${version}` : "");
  }

  answered() {
    this.#unanswered = null;
    this.#tell();
  }

  unanswered(error) {
    this.#unanswered = error.status === 0
      ? `This node does not answer (${error.message}). What is shown is old; trying again.`
      : `This node cannot tell now: ${error.message}. What is shown is old; trying again.`;
    this.#tell();
  }

  #tell() {
    const others = this.#unanswered && this.#others.length > 0 && h("p", {}, `Other nodes have these pages too: ${this.#others.join(", ")}`);
    const warnings = this.#unanswered ? [h("p", { key: "lost" }, this.#unanswered), others] : this.#warnings.slice(0, 8).map((text) => h("p", { key: text }, text));
    const more = !this.#unanswered && this.#warnings.length > 8 && h("p", {}, `and ${this.#warnings.length - 8} more`);
    this.#banner.classList.toggle("lost", this.#unanswered !== null);
    patch(this.#banner, warnings, more);
  }

  /** Tells for a moment what was done. */
  say(text) {
    clearTimeout(this.#saying);
    patch(this.#toast, h("p", {}, text));
    this.#saying = setTimeout(() => patch(this.#toast), SAID);
  }
}
