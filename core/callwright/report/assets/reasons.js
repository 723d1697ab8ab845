// Why completions got their scores, step by step. A reason has the same colour everywhere on the page.

const MOST_REASONS = 9;
const MOST_BARS = 240;
const reasonColours = new Map([["correct", "r0"]]);

/** The class of a reason code's colour. */
function reasonColour(code) {
  return reasonColours.get(code) ?? "r10";
}

/** Give the most frequent codes colours of their own; a code keeps its colour. */
function colourReasons() {
  const sums = new Map();
  for (const run of store.runs)
    for (const { code, values } of reasonsOf(run)) {
      sums.set(code, (sums.get(code) ?? 0) + values.reduce((sum, value) => sum + (value ?? 0), 0));
    }
  for (const [code] of [...sums].sort((one, other) => other[1] - one[1])) {
    if (!reasonColours.has(code) && reasonColours.size <= MOST_REASONS)
      reasonColours.set(code, `r${reasonColours.size}`);
  }
}

/** Of each reward and code the counts by step. */
function reasonsOf(run) {
  return Object.entries(run.series)
    .filter(([name]) => name.startsWith("reason/"))
    .map(([name, values]) => {
      const [, reward, ...code] = name.split("/");
      return { reward, code: code.join("/"), values };
    });
}

function reasonsSection(filter) {
  const body = el("div");
  const rewards = () => [...new Set(store.runs.flatMap((run) => reasonsOf(run).map((one) => one.reward)))].sort();
  let reward = rewards()[0],
    known = "";
  const chooser = el("div.controls");
  function draw() {
    colourReasons();
    const all = rewards();
    reward ??= all[0];
    if (known !== all.join("\n")) {
      known = all.join("\n");
      fill(
        chooser,
        all.length > 1 &&
          choice(
            "reward",
            all.map((name) => [name, shown(name)]),
            reward,
            (name) => {
              reward = name;
              draw();
            },
          ),
      );
    }
    fill(
      body,
      reward === undefined
        ? el("p.empty", {}, "No reasons are recorded yet.")
        : store.runs.map((run) => reasonsOfRun(run, reward, filter)),
    );
  }
  draw();
  const part = section(
    "reasons",
    "Reasons",
    "The first reason of every completion. Choose one to see its completions.",
    chooser,
    body,
  );
  return { element: part, draw };
}

function reasonsOfRun(run, reward, filter) {
  const all = reasonsOf(run).filter((one) => one.reward === reward);
  const rows =
    run.series.rows ?? run.steps.map((_, step) => all.reduce((sum, one) => sum + (one.values[step] ?? 0), 0));
  const shares = all
    .map(({ code, values }) => ({
      code,
      share: values.map((value, step) => (rows[step] ? (value ?? 0) / rows[step] : 0)),
      sum: values.reduce((sum, value) => sum + (value ?? 0), 0),
    }))
    .sort((one, other) => (other.code === "correct") - (one.code === "correct") || other.sum - one.sum);
  const kept = shares.slice(0, MOST_REASONS + 1),
    others = shares.slice(MOST_REASONS + 1);
  if (others.length)
    kept.push({
      code: null,
      label: `${others.length} others`,
      share: rows.map((_, step) => others.reduce((sum, one) => sum + one.share[step], 0)),
    });
  const span = Math.max(1, Math.min(5, Math.floor(run.steps.length / 2)));
  const list = el(
    "table.legend",
    {},
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col" }, "reason"),
        el("th", { scope: "col" }, span > 1 ? `first ${span} steps` : "first step"),
        el("th", { scope: "col" }, span > 1 ? `last ${span} steps` : "last step"),
      ),
    ),
    el(
      "tbody",
      {},
      kept.map((one) =>
        el(
          "tr",
          {},
          el(
            "th",
            { scope: "row" },
            one.code === null
              ? el("span.key", {}, el("i.swatch.r10"), one.label)
              : el(
                  "button.key",
                  { type: "button", title: "show these completions", onclick: () => filter(run, reward, one.code) },
                  el(`i.swatch.${reasonColour(one.code)}`),
                  line(one.code, 44),
                ),
          ),
          el("td", {}, percent(mean(one.share.slice(0, span)))),
          el("td", {}, percent(mean(one.share.slice(-span)))),
        ),
      ),
    ),
  );
  return el(
    "div.reasons",
    {},
    el(
      "figure.chart.stacked",
      {},
      store.runs.length > 1 &&
        el("figcaption", {}, el("i.swatch." + run.colour), el("span.chart-title", {}, shown(run.name))),
      stack(run, kept),
    ),
    list,
  );
}

/** One bar a step; of very many steps, a bar for several. */
function stack(run, kept) {
  const width = 900,
    height = 240,
    down = height - EDGE.bottom;
  const size = Math.max(1, Math.ceil(run.steps.length / MOST_BARS)),
    bars = Math.ceil(run.steps.length / size);
  const each = (width - EDGE.left - EDGE.right) / Math.max(1, bars),
    gap = each > 6 ? 1 : 0;
  const parts = [];
  for (const value of [0, 0.5, 1]) {
    const y = down - value * (down - EDGE.top);
    parts.push(svg("text.tick", { x: EDGE.left - 6, y: y + 3.5, "text-anchor": "end" }, percent(value)));
  }
  for (let bar = 0; bar < bars; bar++) {
    const [from, until] = [bar * size, Math.min(run.steps.length, (bar + 1) * size)];
    let top = down;
    const words = [
      size > 1 ? `steps ${run.steps[from]} to ${run.steps[until - 1]}, their mean` : `step ${run.steps[from]}`,
    ];
    const rects = kept.map((one) => {
      const share = mean(one.share.slice(from, until)) ?? 0,
        tall = share * (down - EDGE.top);
      if (share) words.push(`${shown(one.code ?? one.label)} ${percent(share)}`);
      top -= tall;
      return (
        tall > 0 &&
        svg(`rect.${one.code === null ? "r10" : reasonColour(one.code)}`, {
          x: EDGE.left + bar * each,
          y: top,
          width: each - gap,
          height: tall,
        })
      );
    });
    parts.push(svg("g.bar", {}, svg("title", {}, words.join("\n")), rects));
    if (bars <= 12 || bar % Math.ceil(bars / 10) === 0) {
      parts.push(
        svg(
          "text.tick",
          { x: EDGE.left + (bar + 0.5) * each, y: height - 5, "text-anchor": "middle" },
          number(run.steps[from]),
        ),
      );
    }
  }
  return svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `Reasons by step. ${kept
        .slice(0, 5)
        .map(
          (one) =>
            `${shown(one.code ?? one.label)}: ${percent(one.share[0])} at first, ${percent(one.share.at(-1))} at last`,
        )
        .join("; ")}.`,
    },
    parts,
  );
}
