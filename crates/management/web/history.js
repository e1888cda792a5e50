// What the pages have seen over the last minutes. The API tells numbers of now; the charts need those of before.

const SPAN = 10 * 60_000;
/** Things remembered at a time: the longest unseen is forgotten first. */
const KEPT = 50;

const histories = new Map();

export class History {
  samples = [];

  /** Notes numbers by name, seen now. */
  add(values, now = Date.now()) {
    this.samples.push({ at: now, ...values });
    const first = this.samples.findIndex((sample) => sample.at >= now - SPAN);
    this.samples.splice(0, first);
  }
}

/** The history of that thing, begun if there is none. */
export function history(key) {
  const known = histories.get(key) ?? new History();
  histories.delete(key);
  histories.set(key, known);
  if (histories.size > KEPT) histories.delete(histories.keys().next().value);
  return known;
}

/** Another user must not see what this one saw. */
export function forget() {
  histories.clear();
}
