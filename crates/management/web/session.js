// Who is logged in, and what was chosen for all pages. Kept by the tab, and gone with it.

const KEY = "warren-login";
const CHOICES = "warren-choices";

function load(store, key) {
  try {
    return JSON.parse(store.getItem(key)) ?? {};
  } catch {
    return {};
  }
}

/** The value of the header that logs in. */
export function basic(user, password) {
  const bytes = new TextEncoder().encode(`${user}:${password}`);
  return `Basic ${btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))}`;
}

export const session = {
  authorization: load(sessionStorage, KEY).authorization ?? null,
  name: null,
  tags: [],
  /** Set by who shows the login form. */
  onrefused: () => {},

  open(authorization, { name, tags }) {
    Object.assign(this, { authorization, name, tags });
    sessionStorage.setItem(KEY, JSON.stringify({ authorization }));
  },

  close() {
    Object.assign(this, { authorization: null, name: null, tags: [] });
    sessionStorage.removeItem(KEY);
  },

  /** The password was changed, or the user is gone. */
  refused() {
    if (this.authorization === null) return;
    this.close();
    this.onrefused();
  },

  has(...tags) {
    return this.tags.some((tag) => tags.includes(tag));
  },
  get administers() {
    return this.has("administrator");
  },
  get monitors() {
    return this.has("administrator", "monitoring");
  },
  get makesPolicies() {
    return this.has("administrator", "policymaker");
  },
};

/** The virtual host that lists are limited to ("" for all), and milliseconds between polls (0 for none). */
export const choices = {
  vhost: "",
  every: 5000,
  ...load(sessionStorage, CHOICES),
  save() {
    sessionStorage.setItem(CHOICES, JSON.stringify({ vhost: this.vhost, every: this.every }));
  },
};
