// What the page knows: runs, and of each its figures and its completions.

const store = { about: {}, runs: [], kept: 20000 };

class Run {
  constructor(index, overview) {
    this.index = index;
    this.tasks = [];
    this.rows = [];
    this.total = 0;
    this.notes = [];
    this.dropped = 0;
    this.groups = new Map();
    this.prompts = new Map();
    this.rewards = [];
    this.learn(overview);
  }

  /** Take over what `read_folder` says. */
  learn(overview) {
    Object.assign(this, { name: overview.name, planned: overview.planned, overview });
    this.steps = overview.metrics.steps;
    this.series = overview.metrics.series;
  }

  /** More steps behind those that are there. */
  append(metrics) {
    const before = this.steps.length,
      after = before + metrics.steps.length;
    this.steps.push(...metrics.steps);
    for (const [name, values] of Object.entries(metrics.series)) {
      this.series[name] ??= new Array(before).fill(null);
      this.series[name].push(...values);
    }
    for (const values of Object.values(this.series)) while (values.length < after) values.push(null);
  }

  /** Take over completions, as `Completions.as_json` writes them. */
  add(part) {
    const tasks = part.tasks.map((fields) => new Task(...fields));
    const reasons = part.reasons.map(([reward, code, message]) => ({ reward, code, message }));
    const { columns } = part;
    this.total += part.total;
    this.notes = [...new Set([...this.notes, ...part.notes])];
    this.rewards = [...new Set([...this.rewards, ...Object.keys(part.rewards)])];
    for (let at = 0; at < columns.text.length; at++) {
      const found = [];
      for (let place = 0; place < columns.reasons[at].length; place += 3) {
        const [which, start, end] = columns.reasons[at].slice(place, place + 3);
        found.push({ ...reasons[which], start, end });
      }
      const scores = Object.fromEntries(Object.entries(part.rewards).map(([name, values]) => [name, values[at]]));
      const one = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[at]]));
      this.rows.push(new Row(this, { ...one, task: tasks[one.task], reasons: found, scores }));
    }
    if (store.about.live && this.rows.length > store.kept) {
      const first = this.rows[this.rows.length - store.kept].step;
      const before = this.rows.length;
      this.rows = this.rows.filter((row) => row.step >= first);
      this.dropped += before - this.rows.length;
    }
    this.index_rows();
  }

  index_rows() {
    this.groups = grouped(this.rows, (row) => row.groupKey);
    this.prompts = grouped(this.rows, (row) => row.task.name);
    const totals = this.rows.map((row) => row.total).filter((total) => total !== null);
    this.lowest = totals.reduce((low, total) => Math.min(low, total), Infinity);
    this.highest = totals.reduce((high, total) => Math.max(high, total), -Infinity);
  }

  get colour() {
    return `c${this.index % 8}`;
  }

  find(step, number) {
    return this.rows.find((row) => row.step === step && row.row === number);
  }
}

class Task {
  constructor(name, messages, tools, answer) {
    this.name = name;
    this.messages = parsed(messages);
    this.tools = parsed(tools);
    this.answer = parsed(answer);
    const said = (Array.isArray(this.messages) ? this.messages : []).filter((message) => message?.role === "user");
    this.question = said.length ? asText(said[said.length - 1].content) : "";
  }
}

class Row {
  constructor(run, fields) {
    Object.assign(this, fields);
    this.run = run;
    this.groupKey = `${this.step} ${this.group}`;
    this.meanEntropy = this.entropy ? mean(this.entropy) / 100 : null;
    const advantages = this.advantages;
    this.advantage = Array.isArray(advantages) ? mean(advantages) / 100 : advantages === null ? null : advantages / 100;
    this.first = this.reasons.find((reason) => this.judged(reason) === "wrong") ?? this.reasons[0] ?? null;
  }

  /** `wrong`, `right`, or `seen` by a reward that gave no score. */
  judged(reason) {
    const score = this.scores[reason.reward];
    if (reason.code === "correct" || (score === 1 && reason.code !== "reward_failed")) return "right";
    return score === null && reason.code !== "reward_failed" ? "seen" : "wrong";
  }

  /** How good it is beside the run's best and worst. */
  get grade() {
    if (this.total === null) return "unscored";
    if (this.run.highest > this.run.lowest) {
      if (this.total >= this.run.highest) return "full";
      return this.total <= this.run.lowest ? "none" : "part";
    }
    return this.total > 0 ? "full" : "none";
  }

  get siblings() {
    return this.run.groups.get(this.groupKey) ?? [this];
  }

  /** All that a search looks into. */
  get searched() {
    this.lower ??= `${this.text}\n${this.task.name}\n${this.task.question}`.toLowerCase();
    return this.lower;
  }
}

function grouped(items, key) {
  const found = new Map();
  for (const item of items) {
    const own = key(item);
    if (found.has(own)) found.get(own).push(item);
    else found.set(own, [item]);
  }
  return found;
}

/** JSON as a run recorded it; what is none stays a text. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function asText(value) {
  return typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value, null, 1);
}

function block(id) {
  return JSON.parse(document.getElementById(id)?.textContent ?? "null");
}

/** Completions are compressed in the page. */
async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}
