// The dashboard: asks `api/status` again and again, and draws what it says. No library, no other host.
// The shapes are those of status.rs; what an older or newer daemon leaves out is drawn as "not known".
"use strict";

const ASK_EVERY_MS = 2000;
// A daemon that no longer answers is shown as lost after this, even while the request hangs.
const ANSWER_WITHIN_MS = 6000;
const RANGES = [["2 min", 120], ["5 min", 300], ["15 min", 900], ["1 h", 3600]];
const DECISIONS_SHOWN = 6;
const PROBLEMS_SHOWN = 8;
const STATES = {
  serving: ["Serving", "good"], ready: ["Ready", "info"], booting: ["Booting", "wait"],
  unready: ["Not ready", "bad"], off: ["Off", "bad"], draining: ["Draining", "still"], dead: ["Dead", "bad"], unknown: ["Unknown", "wait"],
};
const SIGNAL_STATES = { fresh: ["Fresh", "good"], partial: ["Partial", "wait"], stale: ["Stale", "bad"], missing: ["Missing", "bad"] };

const app = { status: null, answeredAt: 0, skewMs: 0, lost: false, range: null, cursor: new Map(), open: new Set(), all: new Set(), views: new Map() };
const byId = (id) => document.getElementById(id);

// ---- making elements -------------------------------------------------------------------------------------------------

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

// Children are put in place only if what they say has changed: a reader's selection, focus and open details stay.
function put(node, key, make) {
  const text = JSON.stringify(key);
  if (node.dataset.key === text) return;
  node.dataset.key = text;
  node.replaceChildren(...[make()].flat());
}

// ---- words and numbers -----------------------------------------------------------------------------------------------

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minutes = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const time = (ms) => clock.format(new Date(ms));
const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

function age(ms) {
  const secs = Math.max(0, Math.floor(ms / 1000));
  if (secs < 60) return `${secs} s`;
  if (secs < 3600) return `${Math.floor(secs / 60)} min ${secs % 60} s`;
  if (secs < 86400) return `${Math.floor(secs / 3600)} h ${Math.floor((secs % 3600) / 60)} min`;
  return `${Math.floor(secs / 86400)} d ${Math.floor((secs % 86400) / 3600)} h`;
}

// A signal's unit: as the daemon says, or known from a preset's name.
function unitOf(signal) {
  if (signal.unit) return signal.unit;
  if (/process_cpu/.test(signal.name)) return "CPU s/s";
  if (/cpu|memory/.test(signal.name)) return "ratio";
  if (/request|rps/.test(signal.name)) return "requests/s";
  if (/network/.test(signal.name)) return "bytes/s";
  if (/load/.test(signal.name)) return "per core";
  return "";
}

function number(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${trim(value / 1e6)} M`;
  if (size >= 1e4) return `${trim(value / 1e3)} k`;
  return trim(value);
}

function trim(value) {
  const size = Math.abs(value);
  const digits = size >= 100 || value === 0 ? 0 : size >= 10 ? 1 : 2;
  return String(Number(value.toFixed(digits)));
}

// [number, unit] as they are shown.
function shown(value, unit) {
  if (value === null || value === undefined) return ["–", ""];
  if (unit === "ratio") return [trim(value * 100), "%"];
  return [number(value), unit];
}

const said = (value, unit) => shown(value, unit).filter(Boolean).join(" ");
const unitShown = (unit) => (unit === "ratio" ? "%" : unit);
const now = () => Date.now() + app.skewMs;

// ---- the page --------------------------------------------------------------------------------------------------------

function draw() {
  const { status } = app;
  document.title = status.pools.map((pool) => `${pool.name} ${pool.actual}`).join(" · ") + " – Tidepool";
  byId("version").textContent = `version ${status.version}`;
  byId("foot").textContent = `${status.tick_secs === 1 ? "One tick a second" : `One tick every ${status.tick_secs} seconds`}. Times are this browser's.`;
  const main = byId("pools");
  const names = status.pools.map((pool) => pool.name);
  for (const [name, view] of app.views) {
    if (!names.includes(name)) { view.root.remove(); app.views.delete(name); }
  }
  status.pools.forEach((pool, place) => {
    if (!app.views.has(pool.name)) app.views.set(pool.name, makePool(pool.name));
    const view = app.views.get(pool.name);
    if (main.children[place] !== view.root) main.insertBefore(view.root, main.children[place] ?? null);
    drawPool(view, pool);
  });
  if (!status.pools.length) main.replaceChildren(el("p", { class: "notice" }, "No pool is configured."));
}

function makePool(name) {
  const id = `pool-${name.replace(/[^A-Za-z0-9_-]/g, "_")}`;
  const view = {
    name, head: el("div", { class: "pool-head" }), banners: el("div"), figures: el("dl", { class: "figures" }),
    charts: el("div", { class: "charts" }), members: el("div"), memberCount: el("span", { class: "quiet", "data-field": "members" }),
    decisions: el("div"), plots: new Map(),
  };
  const ranges = el("div", { class: "ranges", role: "group", "aria-label": "Time shown" },
    RANGES.map(([label, secs]) => el("button", { type: "button", "data-secs": secs, onclick: () => { app.range = secs; draw(); } }, label)));
  view.ranges = ranges;
  view.root = el("section", { class: "pool", "aria-labelledby": id, "data-pool": name },
    view.head, view.banners, view.figures,
    el("div", { class: "block" }, el("div", { class: "block-head" }, el("h3", {}, "Over time"), ranges), view.charts),
    el("div", { class: "block" }, el("div", { class: "block-head" }, el("h3", {}, "Members"), view.memberCount), view.members),
    el("div", { class: "block" }, el("div", { class: "block-head" }, el("h3", {}, "Decisions")), view.decisions));
  view.titleId = id;
  new ResizeObserver(() => app.status && drawCharts(view)).observe(view.charts);
  return view;
}

function modeBadge(mode) {
  if (mode.kind === "hold") return ["wait", `On hold at ${mode.size}`];
  if (mode.kind === "manual") return ["wait", `Set by hand to ${mode.size}`];
  return ["info", "Automatic"];
}

function drawPool(view, pool) {
  view.pool = pool;
  const [tone, words] = modeBadge(pool.mode);
  put(view.head, [pool.provider, tone, words], () => [
    el("h2", { id: view.titleId }, pool.name),
    el("span", { class: "badge", "data-tone": tone, "data-field": "mode" }, words),
    el("span", { class: "meta" }, pool.provider, el("span", { class: "tick" })),
  ]);
  drawBanners(view, pool);
  drawFigures(view, pool);
  drawCharts(view);
  drawMembers(view, pool);
  drawDecisions(view, pool);
  drawAges(view);
}

function drawBanners(view, pool) {
  const held = pool.mode.kind !== "auto";
  const problems = pool.problems ?? [];
  put(view.banners, [held, pool.last_error, problems, pool.rollout, pool.last_tick_at === null], () => [
    pool.last_error ? el("p", { class: "banner bad", role: "alert", "data-field": "failing" }, el("strong", {}, "Failing: "), pool.last_error) : null,
    problems.length ? el("div", { class: "banner", "data-field": "problems" }, el("strong", {}, plural(problems.length, "problem")), problemList(problems)) : null,
    pool.rollout && pool.rollout.stage !== "done" ? el("p", { class: "banner", "data-field": "rollout" }, ...rolloutWords(pool.rollout)) : null,
    pool.last_tick_at === null ? el("p", { class: "banner" }, "The first tick has not ended yet.") : null,
    held ? el("p", { class: "banner" }, "What the policies want is shown, but not followed. ", el("code", {}, `tidepool-autoscaler resume ${pool.name}`), " gives the pool back to them.") : null,
  ].filter(Boolean));
}

function rolloutWords(rollout) {
  const left = rollout.left === null || rollout.left === undefined ? "" : `, ${plural(rollout.left, "member")} left to replace`;
  const paused = rollout.stage === "paused" ? " (paused)" : "";
  const cause = rollout.cause ? `: ${rollout.cause}` : "";
  return [el("strong", {}, rollout.back ? "Rollback" : "Rollout", paused, ": "), `to ${rollout.to}${left}${cause}`];
}

function problemList(problems) {
  const shown = problems.slice(0, PROBLEMS_SHOWN).map((problem) => el("li", {}, problem));
  const rest = problems.length - shown.length;
  return el("ul", {}, shown, rest > 0 ? el("li", {}, `and ${rest} more`) : null);
}

function drawFigures(view, pool) {
  const going = pool.desired === pool.actual ? "as wanted"
    : pool.planned === pool.desired ? `wants ${pool.desired}` : `wants ${pool.desired}, now on the way to ${pool.planned}`;
  put(view.figures, [pool.serving, pool.actual, pool.desired, pool.planned, pool.min, pool.max, pool.signals.map((s) => ({ ...s, age_secs: null }))], () => [
    figure("Serving", pool.serving, "", "ready, behind the load balancer", "serving"),
    figure("Actual", pool.actual, "", going, "actual"),
    figure("Desired", pool.desired, "", pool.mode.kind === "auto" ? "by the policies" : "held", "desired"),
    figure("Limits", `${pool.min}–${pool.max}`, "", "members at least and at most", "limits"),
    pool.signals.map((signal) => signalFigure(signal, pool)),
  ].flat());
}

function figure(title, value, unit, note, field) {
  return el("div", { class: "figure" }, el("dt", {}, title),
    el("dd", {}, el("div", { class: "big", "data-field": field }, String(value), unit ? el("span", { class: "unit" }, ` ${unit}`) : null),
      el("div", { class: "note" }, note)));
}

function signalFigure(signal, pool) {
  const [words, tone] = SIGNAL_STATES[signal.state] ?? [signal.state, "still"];
  const unit = unitOf(signal);
  const [value, unitWords] = shown(signal.value, unit);
  // Hosts that serve, but not for long enough that their values count.
  const warming = Math.max(0, pool.serving - signal.hosts_expected);
  const hosts = `${signal.hosts_fresh} of ${plural(signal.hosts_expected, "host")}${warming ? `, ${warming} more warming up` : ""}`;
  const share = signal.value === null || !signal.target ? null : signal.value / signal.target;
  const target = signal.target === null ? "" : `${share === null ? "Target" : `${trim(share * 100)} % of the target`} ${said(signal.target, unit)}, `;
  return el("div", { class: "figure wide", "data-signal": signal.name },
    el("dt", {}, el("span", {}, "Signal ", el("strong", {}, signal.name)), el("span", { class: "badge", "data-tone": tone }, words)),
    el("dd", {},
      el("div", { class: "big" }, value, unitWords ? el("span", { class: "unit" }, ` ${unitWords}`) : null),
      el("div", { class: "meter", "aria-hidden": "true", "data-over": String(share !== null && share > 1) },
        svg("svg", { viewBox: "0 0 100 4", preserveAspectRatio: "none" }, svg("rect", { width: 100 * Math.min(1, Math.max(0, share ?? 0)), height: 4 }))),
      el("div", { class: "note" }, `${target}from ${hosts}${signal.detail ? `: ${signal.detail}` : ""}`)));
}

function drawMembers(view, pool) {
  const count = plural(pool.members.length, "droplet", "droplets");
  const summary = pool.provider.startsWith("digitalocean") ? count : plural(pool.members.length, "machine");
  view.memberCount.textContent = summary;
  const names = pool.signals.map((signal) => signal.name);
  put(view.members, [names, pool.members], () => {
    if (!pool.members.length) return el("p", { class: "quiet" }, "No members.");
    const head = ["Name", "State", "Address", "Age", "Image", ...names];
    return el("table", {},
      el("caption", { class: "visually-hidden" }, `Members of pool ${pool.name}, oldest first`),
      el("thead", {}, el("tr", {}, head.map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", {}, pool.members.map((member) => memberRow(member, pool.signals))));
  });
}

function memberRow(member, signals) {
  const [words, tone] = STATES[member.state] ?? [member.state, "still"];
  return el("tr", { "data-member": member.name },
    el("td", { class: "name" }, member.name),
    el("td", { class: "state" }, el("span", { class: "badge", "data-tone": tone }, words)),
    el("td", { class: "num small" }, member.address ?? "no address yet"),
    el("td", { class: "num small labelled age", "data-label": "age", "data-since": member.created_at || null }),
    el("td", { class: "small" }, member.image || "–", member.outdated ? " (to be replaced)" : null),
    signals.map((signal) => signalCell(member, signal)));
}

function signalCell(member, signal) {
  const unit = unitOf(signal);
  // On a narrow page a value stands without its column's title; a unit that says it already needs no other label.
  const value = member.signals[signal.name];
  const problem = (member.signal_problems ?? {})[signal.name];
  if (problem) {
    const words = value === undefined ? problem : `${said(value, unit)}: ${problem}`;
    return el("td", { class: "small labelled problem", "data-label": signal.name }, words);
  }
  const label = value !== undefined && unit.startsWith(signal.name) ? null : signal.name;
  return el("td", { class: `num small${label ? " labelled" : ""}`, "data-label": label }, said(value, unit));
}

function drawDecisions(view, pool) {
  const all = app.all.has(pool.name);
  const list = all ? pool.decisions : pool.decisions.slice(0, DECISIONS_SHOWN);
  put(view.decisions, [all, list, pool.decisions.length], () => {
    if (!list.length) return el("p", { class: "quiet" }, "None yet.");
    const rest = pool.decisions.length - list.length;
    return [
      el("ol", { class: "decisions" }, list.map((decision) => decisionItem(pool.name, decision))),
      rest || all ? el("button", { type: "button", class: "more", onclick: () => { all ? app.all.delete(pool.name) : app.all.add(pool.name); draw(); } },
        all ? "Show fewer" : `Show ${rest} more`) : null,
    ].filter(Boolean);
  });
}

function decisionItem(pool, decision) {
  const [arrow, words] = { out: ["▲", "out"], in: ["▼", "in"] }[decision.direction] ?? ["●", "stays"];
  const change = decision.actual === decision.desired ? `${decision.actual}` : `${decision.actual} → ${decision.desired}`;
  const key = `${pool} ${decision.at}`;
  const failed = decision.steps.filter((step) => step.outcome !== "done");
  const counts = [plural(decision.steps.length, "step"), failed.length ? `${failed.length} not done` : null];
  const details = decision.formulas.length || decision.steps.length
    ? el("details", { open: app.open.has(key), ontoggle: (event) => (event.target.open ? app.open.add(key) : app.open.delete(key)) },
      el("summary", {}, "How: ", plural(decision.formulas.length, "formula"), ", ", counts[0], failed.length ? el("span", { class: "bad" }, `, ${counts[1]}`) : null),
      el("div", { class: "detail" },
        el("ul", {}, decision.formulas.map((formula) => el("li", {}, el("code", {}, formula)))),
        el("ul", {}, decision.steps.map((step) => el("li", {}, `${step.step.replaceAll("_", " ")} `, el("strong", {}, step.member), `: ${step.outcome}${step.detail ? ` (${step.detail})` : ""}`)))))
    : null;
  return el("li", { class: "decision" },
    el("time", { class: "time", datetime: new Date(decision.at).toISOString() }, time(decision.at)),
    el("span", { class: "change", "data-direction": decision.direction }, el("span", { "aria-hidden": "true" }, `${arrow} `), `${change} ${words}`),
    el("span", { class: "reason" }, decision.reason), details);
}

// What only time changes.
function drawAges(view) {
  for (const cell of view.members.querySelectorAll(".age")) cell.textContent = cell.dataset.since ? age(now() - Number(cell.dataset.since)) : "–";
  const tick = view.head.querySelector(".tick");
  const { last_tick_at: at } = view.pool;
  if (tick && at !== null) tick.textContent = ` · last tick ${age(now() - at)} ago`;
}

// ---- charts ----------------------------------------------------------------------------------------------------------

const HEIGHT = 190, LEFT = 44, RIGHT = 10, TOP = 14, BOTTOM = 24;

function drawCharts(view) {
  const { pool } = view;
  if (!pool) return;
  const end = now();
  const covered = pool.history.length ? (end - pool.history[0].at) / 1000 : 0;
  const secs = app.range ?? (RANGES.find(([, range]) => range >= covered) ?? RANGES.at(-1))[1];
  for (const button of view.ranges.children) button.setAttribute("aria-pressed", String(Number(button.dataset.secs) === secs));
  const from = end - secs * 1000;
  const first = pool.history.findIndex((point) => point.at >= from);
  // One point before the left edge, so that lines come from there.
  const points = first < 0 ? [] : pool.history.slice(Math.max(0, first - 1));
  const wanted = [["members", null], ...pool.signals.map((signal) => [`signal ${signal.name}`, signal])];
  for (const [key, plot] of view.plots) {
    if (!wanted.some(([other]) => other === key)) { plot.root.remove(); view.plots.delete(key); }
  }
  for (const [key, signal] of wanted) {
    if (!view.plots.has(key)) {
      const plot = makePlot(view);
      view.plots.set(key, plot);
      view.charts.append(plot.root);
    }
    const spec = signal ? signalSpec(signal, points) : memberSpec(pool, points);
    drawPlot(view, view.plots.get(key), { ...spec, points, from, end, gap: Math.max(3 * app.status.tick_secs, 16) * 1000 });
  }
}

function memberSpec(pool, points) {
  const top = Math.max(pool.max, 1, ...points.map((point) => Math.max(point.actual, point.desired, point.max)));
  return {
    title: "Members", unit: "machines", top: niceInteger(top + 0.5), integer: true, step: true,
    decisions: pool.decisions.filter((decision) => decision.direction !== "none"),
    series: [
      { name: "Serving", kind: "k-serving", area: true, of: (point) => point.serving },
      { name: "Limits", kind: "k-limit", of: (point) => point.max, words: (point) => `${point.min}–${point.max}` },
      { kind: "k-limit", of: (point) => point.min },
      // Below the other one, so that it shows only where the two differ.
      { name: "Desired", kind: "k-desired", dot: "dot-desired", of: (point) => point.desired },
      { name: "Actual", kind: "k-actual", dot: "dot-actual", of: (point) => point.actual },
    ],
    text: String,
  };
}

function signalSpec(signal, points) {
  const unit = unitOf(signal);
  const of = (field) => (point) => point.signals[signal.name]?.[field] ?? null;
  const values = points.flatMap((point) => [of("value")(point), of("target")(point)]).filter((value) => value !== null);
  const factor = unit === "ratio" ? 100 : 1;
  return {
    title: `Signal ${signal.name}`, unit: unitShown(unit) || "across hosts", factor,
    top: niceTop(factor * Math.max(signal.target * 1.25, ...values.map((value) => value * 1.08), 1e-9)),
    series: [
      { name: "Value", kind: "k-signal", dot: "dot-signal", of: of("value") },
      ...(signal.target === null ? [] : [{ name: "Target", kind: "k-target", of: of("target") }]),
    ],
    text: (value) => said(value, unit),
  };
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value) * power;
}

// How many parts leave round numbers between the grid's lines, for the tops that niceTop gives.
function evenSteps(top) {
  const first = Math.round((top / 10 ** Math.floor(Math.log10(top) + 1e-9)) * 10) / 10;
  return { 1.5: 3, 3: 3, 6: 3, 1: 5, 5: 5, 10: 5 }[first] ?? 4;
}

function niceInteger(value) {
  const up = Math.ceil(value);
  return up <= 5 ? up : Math.ceil(up / 2) * 2;
}

function makePlot(view) {
  const plot = { title: el("div", { class: "chart-title" }), legend: el("ul", { class: "legend" }), area: el("div", { class: "plot", tabindex: "0", role: "img" }) };
  plot.root = el("div", { class: "chart" }, plot.title, plot.legend, plot.area);
  const move = (at) => { app.cursor.set(view.name, at); drawCharts(view); };
  const pointer = (event) => {
    const box = plot.area.getBoundingClientRect();
    const part = (event.clientX - box.left - LEFT) / Math.max(1, box.width - LEFT - RIGHT);
    move(plot.from + part * (plot.end - plot.from));
  };
  plot.area.addEventListener("pointermove", pointer);
  plot.area.addEventListener("pointerdown", pointer);
  plot.area.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") move(null); });
  plot.area.addEventListener("blur", () => move(null));
  plot.area.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") return move(null);
    if (!by || !plot.points.length) return;
    event.preventDefault();
    const here = nearest(plot.points, app.cursor.get(view.name) ?? plot.end);
    const place = Math.min(plot.points.length - 1, Math.max(0, plot.points.indexOf(here) + by));
    plot.legend.setAttribute("aria-live", "polite");
    move(plot.points[place].at);
  });
  return plot;
}

function nearest(points, at) {
  return points.reduce((best, point) => (best && Math.abs(best.at - at) <= Math.abs(point.at - at) ? best : point), null);
}

function drawPlot(view, plot, spec) {
  Object.assign(plot, { from: spec.from, end: spec.end, points: spec.points });
  const width = Math.max(240, Math.round(plot.area.clientWidth || view.charts.clientWidth || 320));
  const factor = spec.factor ?? 1;
  const x = (at) => LEFT + ((at - spec.from) / (spec.end - spec.from)) * (width - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (value * factor) / spec.top) * (HEIGHT - TOP - BOTTOM);
  const at = app.cursor.get(view.name) ?? null;
  const here = at === null ? spec.points.at(-1) ?? null : nearest(spec.points, at);
  const clip = `clip-${view.titleId}-${[...view.plots.values()].indexOf(plot)}`;
  put(plot.title, [spec.title, spec.unit], () => [spec.title, el("span", {}, ` · ${spec.unit}`)]);
  drawLegend(plot, spec, here, at !== null);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, "aria-hidden": "true" },
    svg("clipPath", { id: clip }, svg("rect", { x: LEFT, y: 0, width: width - LEFT - RIGHT, height: HEIGHT })),
    gridLines(spec, width, x, y, factor),
    svg("g", { "clip-path": `url(#${clip})` },
      spec.series.map((series) => svg("path", { class: series.kind, d: path(series, spec, x, y) })),
      (spec.decisions ?? []).filter((decision) => decision.at >= spec.from).map((decision) => marker(decision, x))));
  if (!spec.points.length) picture.append(svg("text", { class: "empty-chart", x: LEFT + 12, y: HEIGHT / 2 }, "No history yet"));
  if (at !== null && here) {
    picture.append(svg("line", { class: "cursor", x1: x(here.at), x2: x(here.at), y1: TOP, y2: HEIGHT - BOTTOM }));
    for (const series of spec.series) {
      const value = series.of(here);
      if (series.dot && value !== null) picture.append(svg("circle", { class: series.dot, cx: x(here.at), cy: y(value), r: 4.5 }));
    }
  }
  plot.area.setAttribute("aria-label", summary(spec, here));
  plot.area.replaceChildren(picture);
}

function drawLegend(plot, spec, here, pointed) {
  const words = (series) => (here === null ? "–" : series.words ? series.words(here) : series.of(here) === null ? "–" : spec.text(series.of(here)));
  const named = spec.series.filter((series) => series.name);
  put(plot.legend, [named.map((series) => [series.name, words(series)]), pointed, pointed && here?.at], () => [
    ...named.map((series) => el("li", {}, sample(series), series.name, " ", el("b", {}, words(series)))),
    el("li", { class: "when" }, pointed && here ? time(here.at) : "now"),
  ]);
}

function sample(series) {
  const shape = series.area ? svg("rect", { class: series.kind, x: 0, y: 1, width: 22, height: 10, rx: 2 }) : svg("path", { class: series.kind, d: "M1 6H21" });
  return svg("svg", { viewBox: "0 0 22 12", "aria-hidden": "true" }, shape);
}

function summary(spec, here) {
  const named = spec.series.filter((series) => series.name && here !== null);
  const words = named.map((series) => `${series.name.toLowerCase()} ${series.words ? series.words(here) : series.of(here) === null ? "not known" : spec.text(series.of(here))}`);
  return `Chart. ${spec.title}, ${spec.unit}: ${words.join(", ") || "no history yet"}. Arrow keys read earlier values.`;
}

function gridLines(spec, width, x, y, factor) {
  const group = svg("g");
  const steps = spec.integer ? (spec.top <= 6 ? spec.top : spec.top % 4 === 0 ? 4 : 2) : evenSteps(spec.top);
  for (let n = 0; n <= steps; n += 1) {
    const value = (spec.top / steps) * n;
    const at = y(value / factor);
    group.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }),
      svg("text", { class: "axis", x: LEFT - 8, y: at + 4, "text-anchor": "end" }, number(value)));
  }
  const secs = (spec.end - spec.from) / 1000;
  const every = [60, 120, 300, 600, 900].find((step) => (width - LEFT) / (secs / step) >= 62) ?? 1800;
  for (let at = Math.ceil(spec.from / (every * 1000)) * every * 1000; at <= spec.end; at += every * 1000) {
    const place = x(at);
    if (place < LEFT + 14 || place > width - RIGHT - 14) continue;
    group.append(svg("line", { class: "grid", x1: place, x2: place, y1: TOP, y2: HEIGHT - BOTTOM }),
      svg("text", { class: "axis", x: place, y: HEIGHT - 7, "text-anchor": "middle" }, minutes.format(new Date(at))));
  }
  return group;
}

// Pieces of a line; where nothing was reported for a while there is a gap, not a guess.
function path(series, spec, x, y) {
  const pieces = [];
  let piece = [];
  let before = null;
  for (const point of spec.points) {
    const value = series.of(point);
    if (value === null || (before !== null && point.at - before > spec.gap)) { pieces.push(piece); piece = []; }
    if (value !== null) { piece.push([point.at, value]); before = point.at; }
  }
  if (piece.length && spec.end - piece.at(-1)[0] <= spec.gap && spec.step) piece.push([spec.end, piece.at(-1)[1]]);
  pieces.push(piece);
  return pieces.filter((one) => one.length).map((one) => pieceOf(one, series, spec, x, y)).join("");
}

function pieceOf(piece, series, spec, x, y) {
  const round = (value) => Math.round(value * 10) / 10;
  let line = "";
  piece.forEach(([at, value], n) => {
    const [px, py] = [round(x(at)), round(y(value))];
    line += n === 0 ? `M${px} ${py}` : spec.step ? `H${px}V${py}` : `L${px} ${py}`;
  });
  if (piece.length === 1) line += "h0.1";
  return series.area ? `${line}V${round(y(0))}H${round(x(piece[0][0]))}Z` : line;
}

function marker(decision, x) {
  const at = Math.round(x(decision.at) * 10) / 10;
  const shape = decision.direction === "out" ? `M${at - 4.5} 9L${at} 1L${at + 4.5} 9Z` : `M${at - 4.5} 1L${at} 9L${at + 4.5} 1Z`;
  return svg("path", { class: decision.direction === "out" ? "k-out" : "k-in", d: shape });
}

// ---- asking ----------------------------------------------------------------------------------------------------------

function token() {
  try { return sessionStorage.getItem("token"); } catch { return null; }
}

async function ask() {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const answer = await fetch("api/status", { headers, cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  byId("token-form").hidden = answer.status !== 401;
  if (!answer.ok) throw new Error(answer.status === 401 ? "token wanted" : `HTTP ${answer.status}`);
  return answer.json();
}

async function round() {
  try {
    const status = await ask();
    Object.assign(app, { status, answeredAt: Date.now(), skewMs: status.now - Date.now(), lost: false, why: null });
    draw();
  } catch (error) {
    app.lost = true;
    app.why = error.message === "token wanted" ? "Token wanted" : "Connection lost";
    console.warn("api/status:", error);
  }
  drawLink();
  setTimeout(round, ASK_EVERY_MS);
}

function drawLink() {
  const since = app.answeredAt ? `, last answer ${age(Date.now() - app.answeredAt)} ago` : "";
  const state = app.lost ? "lost" : app.answeredAt ? "live" : "waiting";
  const words = { lost: `${app.why}${since}`, live: "Live", waiting: "Connecting" }[state];
  byId("link").dataset.state = state;
  if (byId("link-text").textContent !== words) byId("link-text").textContent = words;
  byId("pools").dataset.lost = String(app.lost);
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  try { sessionStorage.setItem("token", byId("token").value.trim()); } catch (error) { console.warn("no session storage:", error); }
  byId("token").value = "";
});
setInterval(() => { drawLink(); for (const view of app.views.values()) drawAges(view); }, 1000);
round();
