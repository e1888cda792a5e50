// Line charts of a history: nothing but an SVG drawing and a legend.

import { h, patch, s } from "./dom.js";
import { time } from "./format.js";

const WIDTH = 1000;
const HEIGHT = 100;
/** Samples further apart are not joined: nobody looked in between. */
const GAP = 75_000;
/** What the width stands for, in minutes: the first into which all samples fit. */
const MINUTES = [1, 2, 5, 10];

/** `lines`: [{ name, label }]. Call `draw` with a history. */
export function chart({ title, lines, format }) {
  const area = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const scale = h("div", { class: "chart-scale", "aria-hidden": "true" });
  const legend = h("ul", { class: "chart-legend" });
  const when = h("span", { class: "chart-when" });
  const hidden = new Set();
  let samples = [];
  let pointed = null;
  let span = 60_000;
  const begin = h("span", {});

  const plot = h("div", { class: "chart-plot", onpointermove: point, onpointerleave: leave }, area);
  const node = h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, title, when),
    h("div", { class: "chart-body" }, scale, plot),
    h("div", { class: "chart-time", "aria-hidden": "true" }, begin, h("span", {}, "now")),
    legend,
  );

  function point(event) {
    const box = plot.getBoundingClientRect();
    const end = samples.at(-1)?.at ?? 0;
    const at = end - span + (span * (event.clientX - box.left)) / box.width;
    const distance = (sample) => Math.abs(sample.at - at);
    pointed = samples.reduce((best, sample) => (!best || distance(sample) < distance(best) ? sample : best), null);
    show();
  }

  function leave() {
    pointed = null;
    show();
  }

  function toggle(name) {
    if (!hidden.delete(name)) hidden.add(name);
    show();
  }

  function show() {
    const shown = lines.filter((line) => !hidden.has(line.name));
    const values = samples.flatMap((sample) => shown.map((line) => sample[line.name] ?? 0));
    const top = roundUp(Math.max(2, ...values));
    const end = samples.at(-1)?.at ?? 0;
    const minutes = MINUTES.find((each) => end - (samples[0]?.at ?? 0) <= each * 60_000) ?? MINUTES.at(-1);
    span = minutes * 60_000;
    patch(begin, `${minutes} min ago`);
    const x = (at) => WIDTH - (WIDTH * (end - at)) / span;
    const y = (value) => HEIGHT - (HEIGHT * value) / top;
    patch(scale, [top, top / 2, 0].map((mark) => h("span", {}, format(mark))));
    patch(
      area,
      [0, 0.5, 1].map((part) => s("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT * part, y2: HEIGHT * part })),
      shown.map((line) => s("path", { class: `line line-${lines.indexOf(line)}`, d: trace(line.name, x, y) })),
      pointed && s("line", { class: "pointed", x1: x(pointed.at), x2: x(pointed.at), y1: 0, y2: HEIGHT }),
    );
    const sample = pointed ?? samples.at(-1);
    patch(legend, lines.map((line, index) => entry(line, index, sample)));
    patch(when, pointed ? time(pointed.at).slice(11) : "");
  }

  function entry(line, index, sample) {
    const off = hidden.has(line.name);
    const button = { type: "button", class: off ? "off" : null, "aria-pressed": String(!off), onclick: () => toggle(line.name) };
    const value = h("span", { class: "num" }, format(sample?.[line.name]));
    return h("li", {}, h("button", button, h("i", { class: `dot dot-${index}` }), h("span", {}, line.label), value));
  }

  function trace(name, x, y) {
    let path = "";
    let before = null;
    for (const sample of samples) {
      if (sample[name] === undefined) continue;
      const step = before === null || sample.at - before > GAP ? "M" : "L";
      path += `${step}${x(sample.at).toFixed(1)} ${y(sample[name]).toFixed(2)}`;
      before = sample.at;
    }
    return path;
  }

  show();
  return {
    node,
    draw(history) {
      samples = history.samples;
      if (pointed && !samples.includes(pointed)) pointed = null;
      show();
    },
  };
}

/** A round number that is not below. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].find((step) => step * power >= value) * power;
}
