// Begins, logs in, and shows the page that the address names.

import { whoami } from "./api.js";
import { h } from "./dom.js";
import { closeDialogs } from "./forms.js";
import { Frame } from "./frame.js";
import { forget } from "./history.js";
import { loginPage, waitingPage } from "./pages/login.js";
import { ROUTES } from "./routes.js";
import { choices, session } from "./session.js";
import { Visit } from "./visit.js";

/** How long until a node that is not ready is asked again. */
const AGAIN = 2000;

let frame = null;
let visit = null;

/** The parts of the address after #/, decoded. */
function parts() {
  const text = location.hash.replace(/^#\/?/, "");
  if (text === "") return [];
  try {
    return text.split("/").map(decodeURIComponent);
  } catch {
    return ["no such page"];
  }
}

async function begin() {
  if (session.authorization === null) return showLogin();
  try {
    session.open(session.authorization, await whoami(session.authorization));
  } catch (error) {
    if (error.status === 401) return showLogin();
    alone(waitingPage(error.message));
    setTimeout(begin, AGAIN);
    return undefined;
  }
  return showFrame();
}

/** Shows something outside the frame. */
function alone(node) {
  visit?.stop();
  visit = null;
  frame = null;
  closeDialogs();
  document.body.replaceChildren(node);
}

function showLogin(reason) {
  document.title = "Log in – Warren";
  alone(loginPage(showFrame, reason));
}

function logout() {
  session.close();
  choices.vhost = "";
  choices.save();
  forget();
  showLogin();
}

function showFrame() {
  frame = new Frame({ logout, changed: show, rest: () => visit?.schedule() });
  document.body.replaceChildren(frame.node);
  show();
}

function show() {
  if (!frame) return;
  visit?.stop();
  closeDialogs();
  const [first = "", ...names] = parts();
  const make = ROUTES[[first, ...names.map(() => "*")].join("/")] ?? noSuchPage;
  visit = new Visit(frame, make, names);
  frame.enter(first);
  visit.begin();
}

function noSuchPage() {
  return { title: "No such page", node: h("div", { class: "card" }, h("h1", { tabindex: "-1" }, "No such page"), h("p", {}, h("a", { href: "#/" }, "Overview"))) };
}

session.onrefused = () => showLogin("The node does not accept this login any more.");
window.addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => visit?.schedule(true));
begin();
