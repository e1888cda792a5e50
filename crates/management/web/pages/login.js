// Logging in.

import { whoami } from "../api.js";
import { h } from "../dom.js";
import { form, text } from "../forms.js";
import { basic, session } from "../session.js";

function brand() {
  return h("p", { class: "login-brand" }, h("img", { src: "/web/favicon.svg", alt: "", width: 40, height: 40 }), "Warren");
}

/** `then` is called when the node has let the user in. `reason`: why one has to log in again. */
export function loginPage(then, reason) {
  const user = text("User", { name: "user", autocomplete: "username", autocapitalize: "none", required: true });
  const password = text("Password", { name: "password", type: "password", autocomplete: "current-password" });

  async function submit() {
    if (user.value().includes(":")) throw new Error("A name with a colon cannot log in over HTTP.");
    const authorization = basic(user.value(), password.value());
    try {
      session.open(authorization, await whoami(authorization));
    } catch (error) {
      if (error.status !== 401) throw error;
      // The node does not say which of them it was.
      throw new Error(`Login refused (${error.message}): the name or the password is wrong, or the user has none of the tags administrator, monitoring, policymaker, management.`);
    }
    then();
    return "";
  }

  const login = form({ fields: [user, password], button: "Log in", submit, className: "login-form" });
  const box = h("main", { class: "login" }, brand(), h("h1", { class: "unseen" }, "Log in"), reason && h("p", { class: "failure" }, reason), login.node);
  queueMicrotask(() => user.input.focus());
  return box;
}

export function waitingPage(reason) {
  return h("main", { class: "login" }, brand(), h("h1", { class: "unseen" }, "Waiting"), h("p", { role: "status" }, `Waiting for the node: ${reason}.`));
}
