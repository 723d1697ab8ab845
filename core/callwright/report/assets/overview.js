// What a reader wants first: which run, how far, did it get better, and what is odd about it.

function headerParts() {
  const [run] = store.runs;
  const settings = run.overview.recipe.settings;
  const said = (place) => (settings[place] === undefined ? null : asText(parsed(settings[place])));
  const model = said("model.name")?.split("/").pop();
  const named = (prefix) =>
    Object.keys(settings)
      .filter(
        (place) =>
          place.startsWith(prefix) &&
          /\.\d+(\.use)?$/.test(place) &&
          place.split(".").length <= prefix.split(".").length + 1,
      )
      .map(said);
  const rewards = named("rewards.use."),
    explorers = named("explore.");
  const facts =
    store.runs.length > 1
      ? [model]
      : [
          model,
          said("dialect.use"),
          rewards.join(" + "),
          explorers.length ? explorers.join(" + ") : null,
          said("seed") !== null && `seed ${said("seed")}`,
        ];
  return facts.filter(Boolean).map((fact) => el("span", {}, line(fact, 90)));
}

function tiles(run) {
  const { steps, series, overview } = run;
  const { before, after } = overview.evaluation;
  const span = Math.max(1, Math.min(5, Math.floor(steps.length / 2)));
  const ends = (name) => [mean((series[name] ?? []).slice(0, span)), mean((series[name] ?? []).slice(-span))];
  const found = [];
  const way = (series.held_out_accuracy ?? []).filter((value) => value !== null);
  const latest = after?.accuracy ?? way[way.length - 1];
  if (before || after) {
    const rows = (after ?? before).rows,
      known = latest ?? null;
    const error = (100 * standardError(known ?? before.accuracy, rows)).toFixed(1);
    found.push(
      tile(
        "Held-out accuracy",
        [percent(before?.accuracy, 1), known !== null && ["→", percent(known, 1)]],
        `${rows} rows, standard error ${error} points${after || known === null ? "" : "; not finished"}`,
      ),
    );
  }
  if (steps.length) {
    const [first, last] = ends("reward");
    found.push(
      tile(
        "Reward",
        [score(first), "→", score(last)],
        span > 1 ? `means of the first and last ${span} steps` : "first and last step",
      ),
    );
    const time = (series.seconds ?? []).reduce((sum, value) => sum + (value ?? 0), 0);
    const tokens = (series.tokens ?? []).reduce((sum, value) => sum + (value ?? 0), 0);
    found.push(
      tile(
        "Steps",
        [
          count(steps[steps.length - 1]),
          run.planned && steps[steps.length - 1] < run.planned && el("small", {}, `of ${count(run.planned)}`),
        ],
        time ? `${clock(time)} of training, ${number(tokens / time, 2)} tokens a second` : "",
      ),
    );
    const [flatFirst, flatLast] = ends("flat_groups");
    if (flatLast !== null)
      found.push(
        tile("Flat groups", [percent(flatFirst), "→", percent(flatLast)], "all of one score: they teach nothing"),
      );
    const failed = (series.failed_rows ?? []).reduce((sum, value) => sum + (value ?? 0), 0);
    const skipped = (series.skipped_update ?? []).reduce((sum, value) => sum + (value ?? 0), 0);
    found.push(
      tile(
        "Completions",
        [count((series.rows ?? []).reduce((sum, value) => sum + (value ?? 0), 0))],
        [`${failed ? count(failed) : "no"} failed`, skipped ? `${plural(skipped, "update")} skipped` : null]
          .filter(Boolean)
          .join(", "),
        failed || skipped,
      ),
    );
  }
  return found;
}

function tile(title, value, explanation, odd = false) {
  return el(
    `div.tile${odd ? ".odd" : ""}`,
    {},
    el("h3", {}, title),
    el(
      "p.big",
      {},
      value
        .flat()
        .filter(Boolean)
        .map((part) => (part === "→" ? el("i.arrow", {}, "→") : part)),
    ),
    el("p", {}, explanation),
  );
}

/** One line for each run. */
function runsTable() {
  return el(
    "div.wide",
    { tabindex: 0 },
    el(
      "table.runs",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          ["run", "steps", "held out before", "after", "reward at first", "at last", "time"].map((title) =>
            el("th", { scope: "col" }, title),
          ),
        ),
      ),
      el(
        "tbody",
        {},
        store.runs.map((run) => {
          const { before, after } = run.overview.evaluation,
            values = run.series.reward ?? [];
          const time = (run.series.seconds ?? []).reduce((sum, value) => sum + (value ?? 0), 0);
          return el(
            "tr",
            {},
            el("th", { scope: "row" }, el(`i.swatch.${run.colour}`), shown(run.name)),
            [
              `${run.steps[run.steps.length - 1] ?? 0}${run.planned ? ` of ${run.planned}` : ""}`,
              percent(before?.accuracy, 1),
              percent(after?.accuracy, 1),
              score(mean(values.slice(0, 5))),
              score(mean(values.slice(-5))),
              time ? clock(time) : "–",
            ].map((text) => el("td", {}, text)),
          );
        }),
      ),
    ),
  );
}

function overviewSection(explorer) {
  const element = el("section", { id: "overview", "aria-label": "overview" });
  function draw() {
    const notes = store.runs.flatMap((run) =>
      run.overview.notes.map((note) => (store.runs.length > 1 ? `${run.name}: ${note}` : note)),
    );
    fill(
      element,
      store.runs.length > 1 ? runsTable() : el("div.tiles", {}, tiles(store.runs[0])),
      findings(explorer),
      notes.length > 0 &&
        el(
          "ul.remarks",
          { "aria-label": "remarks" },
          notes.map((note) => el("li.note", {}, shown(note))),
        ),
    );
  }
  return { element, draw };
}

/** What was found in the run that a reader should look at, with the completions that show it. */
function findings(explorer) {
  const all = store.runs.flatMap((run) => run.overview.findings.map((finding) => ({ run, finding })));
  if (!all.length) return null;
  return el(
    "div.findings",
    { role: "region", "aria-label": "findings" },
    el("h2", {}, all.length === 1 ? "A finding" : `${all.length} findings`),
    all.map(({ run, finding }) =>
      el(
        "article.finding",
        {},
        el(
          "h3",
          {},
          el("span.code", {}, shown(finding.code)),
          store.runs.length > 1 && el(`i.swatch.${run.colour}`, { title: shown(run.name) }),
          shown(finding.title),
        ),
        el("p", {}, nodes(finding.message)),
        el(
          "p.evidence",
          {},
          finding.rows.length > 0 && "look at ",
          finding.rows.slice(0, 12).map(([step, number]) =>
            el(
              "button.link",
              {
                type: "button",
                onclick: (event) => {
                  if (!explorer().goTo(run, step, number)) event.target.disabled = true;
                },
              },
              `step ${step}, row ${number}`,
            ),
          ),
          finding.rows.length > 12 && `and ${count(finding.rows.length - 12)} more`,
        ),
      ),
    ),
  );
}

/** Which held-out rows were learned and which were lost, where the evaluations say it. */
function heldOutSection() {
  const body = el("div");
  function draw() {
    fill(
      body,
      store.runs.map((run) => {
        const { before, after } = run.overview.evaluation;
        if (!before || !after) return null;
        const both = Object.keys(before.correct).filter((name) => name in after.correct);
        const changed = (from, to) =>
          both.filter((name) => before.correct[name] === from && after.correct[name] === to).sort();
        const codes = [...new Set([...Object.keys(before.reasons), ...Object.keys(after.reasons)])].sort(
          (one, other) => (after.reasons[other] ?? 0) - (after.reasons[one] ?? 0),
        );
        return el(
          "div.held-out",
          {},
          store.runs.length > 1 && el("h3", {}, el(`i.swatch.${run.colour}`), shown(run.name)),
          el(
            "table.legend",
            {},
            el(
              "thead",
              {},
              el(
                "tr",
                {},
                ["reason", "before", "after"].map((title) => el("th", { scope: "col" }, title)),
              ),
            ),
            el(
              "tbody",
              {},
              codes.map((code) =>
                el(
                  "tr",
                  {},
                  el("th", { scope: "row" }, el("span.key", {}, el(`i.swatch.${reasonColour(code)}`), shown(code))),
                  el("td", {}, count(before.reasons[code] ?? 0)),
                  el("td", {}, count(after.reasons[code] ?? 0)),
                ),
              ),
            ),
          ),
          both.length > 0 &&
            el(
              "div.changes",
              {},
              changes("Right only after training", changed(false, true), "better"),
              changes("Right only before", changed(true, false), "worse"),
            ),
        );
      }),
    );
    element.hidden = !body.textContent;
  }
  const element = section("held-out", "Held-out rows", "Answered greedily before and after, never trained on.", body);
  draw();
  return { element, draw };
}

function changes(title, names, kind) {
  return el(
    "div",
    {},
    el("h4", {}, title, el(`b.${kind}`, {}, ` ${names.length}`)),
    el("p.names", {}, names.length ? names.map((name) => el("code", {}, line(name, 80))) : "none"),
  );
}
