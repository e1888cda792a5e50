// Numbers, sizes and times as people read them. Nothing here touches the page.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
export const NOTHING = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function number(value) {
  return isNumber(value) ? WHOLE.format(value) : NOTHING;
}

/** Large numbers in few characters: 12.3k. */
export function short(value) {
  if (!isNumber(value)) return NOTHING;
  const size = Math.abs(value);
  if (size >= 1e9) return `${TENTHS.format(value / 1e9)}G`;
  if (size >= 1e6) return `${TENTHS.format(value / 1e6)}M`;
  if (size >= 1e4) return `${TENTHS.format(value / 1e3)}k`;
  return size < 10 && size > 0 ? TENTHS.format(value) : WHOLE.format(value);
}

export function rate(value) {
  if (!isNumber(value)) return NOTHING;
  return `${Math.abs(value) < 10 ? TENTHS.format(value) : WHOLE.format(value)}/s`;
}

/** What happens in a second, of what the API counts under this name. */
export function rateOf(row, name) {
  return rate(row.message_stats?.[`${name}_details`]?.rate);
}

export function bytes(value) {
  if (!isNumber(value)) return NOTHING;
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1024 && unit < UNITS.length - 1) {
    size /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || Math.abs(size) >= 100 ? WHOLE : TENTHS;
  return `${digits.format(size)} ${UNITS[unit]}`;
}

export function byteRate(value) {
  return isNumber(value) ? `${bytes(value)}/s` : NOTHING;
}

/** Milliseconds, in their two largest units. */
export function duration(ms) {
  if (!isNumber(ms)) return NOTHING;
  const seconds = Math.floor(ms / 1000);
  const parts = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

/** Local time, of milliseconds since 1970. */
export function time(ms) {
  if (!isNumber(ms)) return NOTHING;
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return String(ms);
  const two = (part) => String(part).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function percent(part, whole) {
  return isNumber(part) && isNumber(whole) && whole > 0 ? `${WHOLE.format((100 * part) / whole)} %` : NOTHING;
}

/** A value of an argument or header, and what kind of value it is. */
export function typed(value) {
  if (value === null) return ["null", "null"];
  if (Array.isArray(value)) return [JSON.stringify(value), "list"];
  if (typeof value === "object") return [JSON.stringify(value), "table"];
  if (typeof value === "string") return [value, "string"];
  return [String(value), typeof value];
}

export const yesNo = (value) => (value ? "yes" : "no");

/** The default exchange has no name; in addresses it is called amq.default. */
export const exchangeName = (name) => (name === "" ? "(default)" : name);
export const exchangePart = (name) => (name === "" ? "amq.default" : name);
