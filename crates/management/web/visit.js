// One visit to a page: its polls, and what they run into. Polls never overlap, and end with the visit.

import { api } from "./api.js";
import { h, patch } from "./dom.js";
import { failure } from "./forms.js";
import { choices } from "./session.js";

/** A node that does not answer is asked again after so long, also where nobody wants polls. */
const AGAIN = 2000;

export class Visit {
  #frame;
  #abort = new AbortController();
  #problem = h("div", { "aria-live": "polite" });
  #page;
  #timer = null;
  #asking = false;
  #again = false;
  #unanswered = false;

  /** `make(context, ...names)` gives a page: { title, node, refresh }. */
  constructor(frame, make, names) {
    this.#frame = frame;
    const context = {
      api: api(this.#abort.signal),
      /** Asks anew now, because something was changed. */
      reload: () => this.ask(),
      failed: (error) => this.#failed(error),
      /** Tells that something was done, and shows another page. */
      leave: (hash, said) => {
        if (said) frame.say(said);
        if (!this.#abort.signal.aborted) location.hash = hash;
      },
      say: (said) => frame.say(said),
    };
    try {
      this.#page = make(context, ...names);
    } catch (error) {
      // A name that cannot be asked for.
      this.#page = { title: "Error", node: h("div", { class: "card" }, failure(error)) };
    }
  }

  begin() {
    document.title = `${this.#page.title} – Warren`;
    this.#frame.show(h("div", { class: "page" }, this.#problem, this.#page.node));
    this.ask();
  }

  stop() {
    this.#abort.abort();
    clearTimeout(this.#timer);
  }

  /** Asks once more, after what is being asked now. */
  async ask() {
    if (this.#asking) {
      this.#again = true;
      return;
    }
    this.#asking = true;
    clearTimeout(this.#timer);
    const { signal } = this.#abort;
    const asked = [this.#page.refresh?.(), this.#frame.refresh(signal)];
    const [page, frame] = await Promise.allSettled(asked);
    this.#asking = false;
    if (signal.aborted) return;
    const error = page.reason ?? frame.reason;
    if (error) this.#failed(error);
    else this.#answered();
    if (this.#again) {
      this.#again = false;
      this.ask();
    } else {
      this.schedule();
    }
  }

  /** The next poll comes when it is due, or at once; not while nobody looks. */
  schedule(now = false) {
    clearTimeout(this.#timer);
    if (document.hidden || this.#asking || this.#abort.signal.aborted) return;
    const every = this.#unanswered ? AGAIN : choices.every;
    if (now) this.ask();
    else if (every > 0) this.#timer = setTimeout(() => this.ask(), every);
  }

  #answered() {
    this.#unanswered = false;
    this.#frame.answered();
    patch(this.#problem);
  }

  #failed(error) {
    if (this.#abort.signal.aborted || error.name === "AbortError") return;
    if (error.passing) {
      this.#unanswered = true;
      this.#frame.unanswered(error);
      return;
    }
    if (error.status === undefined) console.error(error);
    const message = error.status === 404 ? new Error("This is not there (any more).") : error;
    patch(this.#problem, failure(message));
  }
}
