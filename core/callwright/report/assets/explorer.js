// The table of completions, or of prompts, with its filters; and beside it what was chosen.

const COMPLETION_COLUMNS = [
  { name: "step", title: "step", draw: (row) => String(row.step), down: true, sort: (row) => row.step * 1e6 - row.row },
  { name: "total", title: "score", down: true, draw: scorePill, sort: (row) => row.total },
  {
    name: "reason",
    title: "reason",
    draw: (row) => row.first && reasonChip(row.first, row),
    sort: (row) => row.first?.code,
  },
  {
    name: "text",
    title: "completion",
    draw: (row) => [el("code", {}, line(row.text) || "(empty)")],
    sort: (row) => row.text,
  },
  { name: "task", title: "prompt", draw: (row) => shown(row.task.name), sort: (row) => row.task.name },
  { name: "tokens", title: "tokens", down: true, draw: (row) => number(row.tokens), sort: (row) => row.tokens },
  {
    name: "entropy",
    title: "entropy",
    down: true,
    about: "mean over its tokens, in nats",
    draw: (row) => (row.meanEntropy === null ? "–" : row.meanEntropy.toFixed(2)),
    sort: (row) => row.meanEntropy,
  },
  {
    name: "advantage",
    title: "adv.",
    down: true,
    about: "advantage, the mean over its tokens",
    draw: (row) => (row.advantage === null ? "–" : signed(row.advantage, (value) => value.toFixed(2))),
    sort: (row) => row.advantage,
  },
];
const PROMPT_COLUMNS = [
  { name: "task", title: "prompt", draw: (one) => shown(one.name), sort: (one) => one.name },
  {
    name: "visits",
    title: "steps",
    down: true,
    about: "in which it was answered",
    draw: (one) => String(one.visits.length),
    sort: (one) => one.visits.length,
  },
  { name: "from", title: "first", draw: (one) => score(one.from), sort: (one) => one.from },
  { name: "to", title: "last", draw: (one) => score(one.to), sort: (one) => one.to },
  {
    name: "change",
    title: "change",
    down: true,
    draw: (one) =>
      el(
        `span.${one.change > 0 ? "better" : one.change < 0 ? "worse" : "same"}`,
        {},
        one.change === null ? "–" : signed(one.change, score),
      ),
    sort: (one) => one.change,
  },
  { name: "text", title: "question", draw: (one) => line(one.question), sort: (one) => one.question },
];
const NO_FILTER = { words: "", reason: "", score: "", from: null, until: null };

class Explorer {
  constructor() {
    this.run = store.runs[0];
    this.filter = { ...NO_FILTER };
    this.tint = "entropy";
    this.mode = "completions";
    this.row = null;
    this.tables = {
      completions: new LongTable("Completions", COMPLETION_COLUMNS, (row) => this.open(row)),
      prompts: new LongTable("Prompts", PROMPT_COLUMNS, (prompt) => this.open(prompt.best)),
    };
    this.search = el("input.search", {
      type: "search",
      placeholder: "Search completions, questions, prompt ids",
      "aria-label": "search",
      oninput: () => this.set({ words: this.search.value }),
    });
    this.reasons = el("select", { "aria-label": "reason", onchange: () => this.set({ reason: this.reasons.value }) });
    this.scores = el("select", { "aria-label": "score", onchange: () => this.set({ score: this.scores.value }) });
    this.steps = el("input.steps", {
      placeholder: "steps, as 10-20",
      "aria-label": "steps",
      oninput: () => this.set(stepsFrom(this.steps.value)),
    });
    this.found = el("output", { "aria-live": "polite" });
    this.clear = el("button.quiet", { type: "button", onclick: () => this.reset() }, "clear");
    this.remarks = el("div.remarks");
    this.chosen = el("aside.detail", { "aria-label": "chosen completion", tabindex: -1 });
    this.runs = el("div.controls");
    const modes = choice(
      "rows of the table",
      [
        ["completions", "Completions"],
        ["prompts", "Prompts"],
      ],
      this.mode,
      (mode) => {
        this.mode = mode;
        this.refresh();
      },
    );
    this.place = el("div.tables");
    this.element = section(
      "completions",
      "Completions",
      "Arrow keys walk through the table; / goes to the search.",
      this.runs,
      this.remarks,
      el("div.filters", {}, modes, this.search, this.reasons, this.scores, this.steps, this.found, this.clear),
      el("div.explorer", {}, this.place, this.chosen),
    );
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
        event.preventDefault();
        this.search.focus();
      }
    });
    this.refresh();
  }

  set(change) {
    Object.assign(this.filter, change);
    this.apply();
  }

  reset() {
    this.filter = { ...NO_FILTER };
    this.search.value = this.steps.value = "";
    this.reasons.value = this.scores.value = "";
    this.apply();
  }

  /** Only the completions of a run for which a reward gave this reason. */
  showReason(run, reward, code) {
    this.run = run;
    this.mode = "completions";
    this.filter = { ...NO_FILTER, reason: JSON.stringify([reward, code]) };
    this.search.value = this.steps.value = "";
    this.refresh();
    this.element.scrollIntoView({ behavior: "smooth" });
  }

  /** A completion that something else on the page points at. */
  goTo(run, step, number) {
    const row = run.find(step, number);
    if (!row) return false;
    this.run = run;
    this.mode = "completions";
    this.reset();
    this.refresh();
    this.tables.completions.pick(row, true);
    this.element.scrollIntoView({ behavior: "smooth" });
    return true;
  }

  /** Everything anew, as rows have come or another run was chosen. */
  refresh() {
    if (!this.run) return;
    const { run } = this;
    fill(
      this.runs,
      store.runs.length > 1 &&
        choice(
          "run",
          store.runs.map((own) => [own, shown(own.name), own.colour]),
          run,
          (own) => {
            this.run = own;
            this.row = null;
            this.refresh();
          },
        ),
    );
    const pressed = this.element.querySelectorAll("[aria-label='rows of the table'] button");
    pressed.forEach((button, index) =>
      button.setAttribute("aria-pressed", ["completions", "prompts"][index] === this.mode),
    );
    fill(this.place, this.tables[this.mode].element);
    this.options();
    const left = run.total - run.rows.length;
    fill(
      this.remarks,
      left > 0 &&
        !run.dropped &&
        el(
          "p.note",
          {},
          `The page shows ${count(run.rows.length)} of ${count(run.total)} completions: whole groups of some of the `,
          "prompts, chosen by their names. callwright report --completions all shows all.",
        ),
      run.dropped > 0 &&
        el(
          "p.note",
          {},
          `The latest ${count(run.rows.length)} completions; ${count(run.dropped)} earlier ones are in the report.`,
        ),
      run.notes.map((note) => el("p.note", {}, shown(note))),
    );
    this.apply(true);
    if (!this.row || this.row.run !== run) {
      const first = this.mode === "prompts" ? this.rows[0] : telling(this.rows);
      if (first) this.tables[this.mode].mark(first, true);
      this.open(this.mode === "prompts" ? first?.best : first, true);
    } else this.showDetail();
  }

  options() {
    const { rows } = this.run;
    const codes = new Map();
    for (const row of rows)
      for (const key of new Set(row.reasons.map((reason) => JSON.stringify([reason.reward, reason.code]))))
        codes.set(key, (codes.get(key) ?? 0) + 1);
    const several = this.run.rewards.length > 1;
    options(
      this.reasons,
      "any reason",
      [...codes]
        .sort((one, other) => other[1] - one[1])
        .map(([key, amount]) => {
          const [reward, code] = JSON.parse(key);
          return [key, `${several ? `${shown(reward)}: ` : ""}${shown(code)} (${count(amount)})`];
        }),
      this.filter.reason,
    );
    options(this.scores, "any score", scoreChoices(rows), this.filter.score);
  }

  apply(keep = false) {
    const { words, reason, score, from, until } = this.filter;
    const wanted = words.toLowerCase().trim(),
      [reward, code] = reason ? JSON.parse(reason) : [];
    const within = score ? JSON.parse(score) : null;
    const rows = this.run.rows.filter(
      (row) =>
        (!reason || row.reasons.some((one) => one.code === code && one.reward === reward)) &&
        (!within ||
          (within.length
            ? row.total !== null && row.total >= within[0] && row.total <= within[1]
            : row.total === null)) &&
        (from === null || row.step >= from) &&
        (until === null || row.step <= until) &&
        (!wanted || row.searched.includes(wanted)),
    );
    const filtered = rows.length !== this.run.rows.length;
    const things = this.mode === "prompts" ? promptsOf(rows) : rows;
    this.rows = things;
    this.found.textContent =
      this.mode === "prompts"
        ? plural(things.length, "prompt")
        : filtered
          ? `${count(rows.length)} of ${count(this.run.rows.length)}`
          : plural(rows.length, "completion");
    this.clear.hidden = !filtered;
    this.tables[this.mode].show(things, keep);
  }

  open(row, quiet = false) {
    this.row = row ?? null;
    this.showDetail();
    if (!row || quiet) return;
    history.replaceState(null, "", `#${this.run.index}.${row.step}.${row.row}`);
    if (matchMedia("(max-width: 900px)").matches) this.chosen.scrollIntoView({ behavior: "smooth" });
  }

  /** Show a sibling, or an earlier or later answer to the same prompt. */
  follow(row) {
    if (row.run !== this.run) {
      Object.assign(this, { run: row.run, row });
      this.refresh();
    }
    if (this.mode === "completions") this.tables.completions.mark(row, true);
    this.open(row);
  }

  showDetail() {
    const { row } = this;
    fill(
      this.chosen,
      row
        ? [
            el(
              "button.back.quiet",
              { type: "button", onclick: () => this.place.scrollIntoView({ behavior: "smooth" }) },
              "↑ back to the table",
            ),
            detail(
              row,
              this.tint,
              (tint) => {
                this.tint = tint;
                this.showDetail();
              },
              (other) => this.follow(other),
            ),
          ]
        : el(
            "p.empty",
            {},
            this.run?.rows.length
              ? "No completion is like that."
              : store.about.live
                ? "Completions appear here as steps are done."
                : "The run recorded no completions.",
          ),
    );
  }
}

/** Of the last step a completion from which one can learn: wrong at a certain place, beside siblings that are not. */
function telling(rows) {
  const last = rows.reduce((step, row) => Math.max(step, row.step), 0),
    latest = rows.filter((row) => row.step === last);
  const pointed = latest.filter((row) => row.grade !== "full" && row.first?.start >= 0);
  return pointed.find((row) => row.siblings.some((one) => one.total !== row.total)) ?? pointed[0] ?? latest[0];
}

function options(select, none, choices, value) {
  fill(
    select,
    el("option", { value: "" }, none),
    choices.map(([own, label]) => el("option", { value: own }, label)),
  );
  select.value = choices.some(([own]) => own === value) ? value : "";
}

/** Each score that there is, or ranges if there are many. */
function scoreChoices(rows) {
  const amounts = new Map();
  for (const row of rows) amounts.set(row.total, (amounts.get(row.total) ?? 0) + 1);
  const unscored = amounts.get(null) ?? 0;
  amounts.delete(null);
  const values = [...amounts.keys()].sort((one, other) => other - one);
  let found = values.map((value) => [
    JSON.stringify([value, value]),
    `${number(value)} (${count(amounts.get(value))})`,
  ]);
  if (values.length > 8) {
    const high = values[0],
      low = values[values.length - 1],
      size = (high - low) / 5;
    found = [4, 3, 2, 1, 0].map((index) => {
      const range = [low + index * size, index === 4 ? high : low + (index + 1) * size];
      const amount = rows.filter((row) => row.total !== null && row.total >= range[0] && row.total <= range[1]).length;
      return [JSON.stringify(range), `${number(range[0])} to ${number(range[1])} (${count(amount)})`];
    });
  }
  if (unscored) found.push(["[]", `takes no part (${count(unscored)})`]);
  return found;
}

/** `10`, `10-20`, `10-`; anything else is every step. */
function stepsFrom(text) {
  const match = text.match(/^\s*(\d*)\s*(-?)\s*(\d*)\s*$/);
  if (!match || !text.trim()) return { from: null, until: null };
  const [, low, dash, high] = match;
  return { from: low ? Number(low) : null, until: high ? Number(high) : dash ? null : Number(low) };
}

function promptsOf(rows) {
  return [...grouped(rows, (row) => row.task.name)].map(([name, own]) => {
    const visits = [...grouped(own, (row) => row.step).values()];
    const [from, to] = [visits[0], visits[visits.length - 1]].map((visit) => mean(visit.map((row) => row.total)));
    const last = visits[visits.length - 1];
    return {
      name,
      visits,
      from,
      to,
      change: visits.length > 1 && from !== null && to !== null ? to - from : null,
      question: own[0].task.question,
      best: last.reduce((a, b) => ((b.total ?? -Infinity) > (a.total ?? -Infinity) ? b : a)),
    };
  });
}
