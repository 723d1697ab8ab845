// Which figures are drawn together. With several runs, a figure is a chart and a run a line.

const SEGMENTS = [
  ["entropy", "all tokens"],
  ["entropy/thinking", "thinking"],
  ["entropy/function_name", "function names"],
  ["entropy/argument_name", "argument names"],
  ["entropy/argument_value", "argument values"],
];

/** Title, figures with labels (or what begins their names), how values are written, and a remark. */
const CURVES = [
  { title: "Reward", figures: [["reward", "total"]], prefix: "reward/", zero: true },
  { title: "Held-out accuracy", special: "accuracy" },
  { title: "Entropy", figures: SEGMENTS, note: "nats a token" },
  { title: "KL to the reference", figures: [["kl", "KL"]], note: "nats a token" },
  { title: "Clip share", figures: [["clip_share", "of tokens"]], written: percent },
  { title: "Flat groups", figures: [["flat_groups", "teach nothing"]], written: percent, note: "all of one score" },
  { title: "Length", figures: [["completion_length", "tokens"]] },
  { title: "Cut off at the limit", figures: [["truncated", "of completions"]], written: percent },
  { title: "Gradient norm", figures: [["grad_norm", "before clipping"]] },
  { title: "Throughput", figures: [["tokens_per_second", "tokens a second"]] },
  {
    title: "Time of a step",
    figures: [
      ["seconds", "all"],
      ["seconds/collect", "completions"],
      ["seconds/update", "update"],
    ],
    written: seconds,
  },
  { title: "Time in plugins", prefix: "seconds/plugin/", written: seconds, note: "in a step" },
];

/** Charts of the runs; those that the list above does not name come last, folded. */
function curves() {
  const named = new Set(["step"]);
  const apart = store.runs.length > 1 ? CURVES.filter((group) => group.prefix === "seconds/plugin/") : [];
  const main = CURVES.filter((group) => !apart.includes(group)).flatMap((group) => chartsOf(group, named));
  const folded = apart.flatMap((group) => chartsOf(group, named));
  for (const run of store.runs)
    for (const name of Object.keys(run.series)) if (name.startsWith("reason/")) named.add(name);
  const others = [...new Set(store.runs.flatMap((run) => Object.keys(run.series)))]
    .filter((name) => !named.has(name))
    .sort();
  const rest = others.flatMap((name) => chartsOf({ title: name, figures: [[name, name]], zero: false }, named));
  return { main, rest: [...folded, ...rest] };
}

function chartsOf(group, named) {
  if (group.special === "accuracy") return accuracyChart(named);
  const figures = [...(group.figures ?? [])];
  if (group.prefix) {
    const found = new Set(
      store.runs.flatMap((run) => Object.keys(run.series)).filter((name) => name.startsWith(group.prefix)),
    );
    for (const name of [...found].sort()) figures.push([name, shown(name.slice(group.prefix.length))]);
  }
  figures.forEach(([name]) => named.add(name));
  const there = figures.filter(([name]) => store.runs.some((run) => run.series[name]?.some((value) => value !== null)));
  // A single reward is the total already, and is drawn once.
  const drawn =
    group.title === "Reward" &&
    there.length === 2 &&
    store.runs.every((run) => alike(run.series[there[0][0]], run.series[there[1][0]]))
      ? there.slice(0, 1)
      : there;
  if (!drawn.length) return [];
  if (store.runs.length === 1) {
    const [run] = store.runs;
    const lines = drawn.map(([name, label], index) => ({
      label,
      colour: `c${index % 8}`,
      dashed: index > 7,
      xs: places(run),
      ys: run.series[name],
    }));
    return [new LineChart(shown(group.title), lines, group)];
  }
  return drawn.map(([name, label]) => {
    const title = drawn.length > 1 || group.prefix ? `${group.title}: ${label}` : group.title;
    const lines = store.runs
      .filter((run) => run.series[name])
      .map((run) => ({
        label: shown(run.name),
        colour: run.colour,
        dashed: run.index > 7,
        xs: places(run),
        ys: run.series[name],
      }));
    return new LineChart(shown(title), lines, group);
  });
}

function alike(one, other) {
  return Boolean(one && other) && one.every((value, index) => value === other[index]);
}

/** Where the steps of a run stand on the axis. */
function places(run) {
  if (axis.of === "step") return run.steps;
  let minutes = 0;
  return run.steps.map((_, index) => (minutes += (run.series.seconds?.[index] ?? 0) / 60));
}

/** Greedy evaluations: before, at steps along the way, and at the end. */
function accuracyChart(named) {
  const kinds = [
    ["held_out_accuracy", "held out"],
    ["validation_accuracy", "validation"],
  ];
  kinds.forEach(([figure]) => named.add(figure));
  const lines = kinds.map(([figure, label], index) =>
    store.runs.map((run) => accuracyLine(run, figure, label, index)).filter(Boolean),
  );
  const charts =
    store.runs.length > 1
      ? lines.map((own, index) => [`Accuracy, ${kinds[index][1]}`, own])
      : [["Accuracy, greedy", lines.flat()]];
  return charts
    .filter(([, own]) => own.length)
    .map(
      ([title, own]) =>
        new LineChart(title, own, {
          written: percent,
          note: own.some((one) => one.error.some(Boolean)) ? "bars: standard error" : "",
        }),
    );
}

function accuracyLine(run, figure, label, index) {
  const xs = [],
    ys = [],
    error = [],
    at = places(run);
  const { before, after } = figure === "held_out_accuracy" ? run.overview.evaluation : {};
  const rows = (before ?? after)?.rows;
  const put = (x, value) => {
    xs.push(x);
    ys.push(value);
    error.push(rows ? standardError(value, rows) : 0);
  };
  if (before) put(0, before.accuracy);
  run.series[figure]?.forEach((value, step) => value !== null && put(at[step], value));
  const last = at[at.length - 1];
  if (after && last !== undefined && xs[xs.length - 1] !== last) put(last, after.accuracy);
  if (!ys.length) return null;
  const several = store.runs.length > 1;
  return {
    label: several ? shown(run.name) : label,
    colour: several ? run.colour : `c${2 * index}`,
    dashed: !several && index > 0,
    xs,
    ys,
    error,
    marks: true,
  };
}

function standardError(share, rows) {
  return Math.sqrt((share * (1 - share)) / rows);
}

/** The part of the page with all curves. */
function curvesSection() {
  const grid = el("div.charts"),
    folded = el("div.charts");
  const rest = el("details", {}, el("summary", {}, "All other figures"), folded);
  function draw() {
    charts.forEach((chart) => resized.unobserve(chart.element));
    charts.clear();
    const { main, rest: others } = curves();
    fill(
      grid,
      main.map((chart) => chart.element),
    );
    fill(
      folded,
      others.map((chart) => chart.element),
    );
    rest.hidden = !others.length;
  }
  const longest = () => Math.max(1, ...store.runs.map((run) => run.steps.length));
  axis.window = longest() >= 24 ? 5 : 1;
  const said = el("output", {}, windowText());
  function windowText() {
    return axis.window > 1 ? `mean of ${axis.window} steps` : "every step";
  }
  const slider = el("input", {
    type: "range",
    min: 0,
    max: 12,
    value: (axis.window - 1) / 2,
    "aria-label": "smoothing",
    oninput: () => {
      axis.window = 2 * Number(slider.value) + 1;
      said.textContent = windowText();
      charts.forEach((chart) => chart.draw());
    },
  });
  const along = choice(
    "horizontal axis",
    [
      ["step", "steps"],
      ["minutes", "minutes"],
    ],
    axis.of,
    (of) => {
      axis.of = of;
      pointAt(null);
      draw();
    },
  );
  draw();
  const part = section(
    "curves",
    "Curves",
    "Point at a step to read it in every chart.",
    el("div.controls", {}, el("label.slider", {}, "Smoothing", slider, said), along),
    grid,
    rest,
  );
  return { element: part, draw };
}
