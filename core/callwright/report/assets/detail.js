// One completion: its text, question, tools and answer; its siblings; and what became of its prompt over the steps.

const MOST_SIBLINGS = 64;

function scorePill(row) {
  return el(
    `span.score.${row.grade}`,
    { title: row.total === null ? "takes no part in training" : null },
    number(row.total),
  );
}

function reasonChip(reason, row) {
  return el(`span.reason.${row.judged(reason)}`, {}, el(`i.swatch.${reasonColour(reason.code)}`), shown(reason.code));
}

const TINTS = [
  ["entropy", "entropy"],
  ["advantage", "advantage"],
  ["part", "parts"],
  ["", "none"],
];

/** tint: what colours the text; tinted: called with another one; go: called with another row to show. */
function detail(row, tint, tinted, go) {
  const { run, task } = row;
  const facts = [
    `step ${row.step}`,
    row.tokens !== null && plural(row.tokens, "token"),
    row.meanEntropy !== null && `entropy ${row.meanEntropy.toFixed(2)}`,
    row.advantage !== null && `advantage ${signed(row.advantage)}`,
    row.temperature !== null && `temperature ${number(row.temperature)}`,
    row.truncated ? "cut off at the limit" : null,
    row.off_policy ? "replayed from an earlier step" : null,
  ].filter(Boolean);
  return [
    el("header.detail-head", {}, scorePill(row), el("h3", {}, shown(task.name)), el("p", {}, facts.join(" · "))),
    part("Question", conversation(task)),
    el(
      "div.part",
      {},
      el(
        "div.part-head",
        {},
        el("h4", {}, "Completion"),
        el("span.tints", {}, "tint", choice("tint of the text", TINTS, tint, tinted)),
      ),
      marked(row, { tint }),
      tint && tintLegend(row, tint),
      verdicts(row),
    ),
    task.answer !== null && part("Expected", expected(task.answer)),
    toolsPart(task.tools),
    siblingsPart(row, tint, go),
    historyPart(row, go),
  ];
}

function part(title, ...content) {
  return el("div.part", {}, el("h4", {}, title), content);
}

function conversation(task) {
  const { messages } = task;
  if (!Array.isArray(messages)) return prose(asText(messages ?? "not recorded"));
  return messages.map((message) =>
    el(
      "div.message",
      {},
      (messages.length > 1 || message?.role !== "user") && el("span.role", {}, shown(asText(message?.role ?? "?"))),
      prose(asText(message?.content ?? message)),
    ),
  );
}

function tintLegend(row, tint) {
  if (!row.characters) return el("p.note", {}, "Where its tokens stand in the text was not recorded: no tint.");
  if (tint === "part")
    return el(
      "p.scale",
      {},
      KINDS.map((name, index) => name && el(`span.s${index}`, {}, name)),
    );
  const from = tint === "entropy" ? "h" : "up";
  return tint === "entropy"
    ? el(
        "p.scale",
        {},
        "entropy 0",
        [1, 2, 3, 4, 5, 6, 7, 8].map((level) => el(`span.step-of.${from}${level}`, {}, "\u2007")),
        `${HOTTEST / 100} nats or more`,
      )
    : el(
        "p.scale",
        {},
        `advantage −${LARGEST / 100}`,
        [5, 4, 3, 2, 1].map((level) => el(`span.step-of.down${level}`, {}, "\u2007")),
        "0",
        [1, 2, 3, 4, 5].map((level) => el(`span.step-of.up${level}`, {}, "\u2007")),
        `+${LARGEST / 100}`,
      );
}

/** What each reward says. */
function verdicts(row) {
  return el(
    "ul.verdicts",
    {},
    Object.entries(row.scores).map(([reward, score]) =>
      el(
        "li",
        {},
        el("span.reward", {}, shown(reward)),
        el("b", {}, number(score)),
        row.reasons
          .filter((reason) => reason.reward === reward)
          .map((reason) =>
            el(
              "p",
              {},
              reasonChip(reason, row),
              reason.message && el("span.why", {}, nodes(reason.message.slice(0, 2000))),
            ),
          ),
      ),
    ),
  );
}

function expected(answer) {
  if (!Array.isArray(answer)) return prose(asText(answer));
  if (!answer.length) return el("p", {}, "No call.");
  return answer.map((call) =>
    el(
      "div.call",
      {},
      el("code", {}, shown(asText(call?.name))),
      el(
        "dl",
        {},
        Object.entries(call?.arguments ?? {}).map(([name, values]) => [
          el("dt", {}, shown(name)),
          el(
            "dd",
            {},
            (Array.isArray(values) ? values : [values]).map((value, index) => [
              index > 0 && el("span.or", {}, "or"),
              value === "" ? el("em", {}, "left out") : el("code", {}, shown(JSON.stringify(value))),
            ]),
          ),
        ]),
      ),
    ),
  );
}

function toolsPart(tools) {
  if (!Array.isArray(tools)) return tools === null || tools === undefined ? null : part("Tools", prose(asText(tools)));
  return part(
    plural(tools.length, "tool"),
    tools.map((tool) => {
      const { properties, required } = tool?.parameters ?? {};
      const needed = Array.isArray(required) ? required : [];
      return el(
        "details.tool",
        { open: tools.length === 1 },
        el(
          "summary",
          {},
          el("code", {}, shown(asText(tool?.name))),
          el("span.faint", {}, line(asText(tool?.description))),
        ),
        el(
          "dl",
          {},
          Object.entries(properties ?? {}).map(([name, schema]) => [
            el("dt", {}, shown(name), !needed.includes(name) && el("span.faint", {}, " optional")),
            el(
              "dd",
              {},
              el("span.type", {}, line(asText(schema?.type))),
              line(asText(schema?.description)),
              Array.isArray(schema?.enum) && el("code", {}, line(JSON.stringify(schema.enum))),
            ),
          ]),
        ),
      );
    }),
  );
}

/** The completions of the group side by side; those with the same text are one card. */
function siblingsPart(row, tint, go) {
  const { siblings } = row;
  if (siblings.length < 2) return null;
  const cards = [...grouped(siblings, (one) => `${one.total} ${one.text}`).values()].sort(
    (one, other) => (other[0].total ?? -Infinity) - (one[0].total ?? -Infinity),
  );
  const flat = siblings.every((one) => one.total === siblings[0].total);
  return part(
    `Siblings: ${siblings.length} answers to one prompt`,
    el(
      "p.note",
      {},
      flat ? "All have the same score, so that this group taught nothing." : `${cards.length} different texts.`,
    ),
    el(
      "div.siblings",
      {},
      cards.slice(0, MOST_SIBLINGS).map((same) => {
        const current = same.includes(row);
        return el(
          "button.sibling",
          { type: "button", "aria-current": current, onclick: () => go(current ? row : same[0]) },
          el(
            "span.sibling-head",
            {},
            scorePill(same[0]),
            same.length > 1 && el("span.times", {}, `${same.length}×`),
            same[0].advantage !== null && el("span.faint", {}, `advantage ${signed(same[0].advantage)}`),
          ),
          marked(same[0], { tint, longest: 1200 }),
          same[0].first &&
            !(same[0].judged(same[0].first) === "wrong" && same[0].first.start >= 0) &&
            el("span.reasons-line", {}, reasonChip(same[0].first, same[0])),
        );
      }),
    ),
  );
}

/** Every time that the prompt was answered, in this run and in the others. */
function historyPart(row, go) {
  const visits = store.runs.flatMap((run) =>
    [...grouped(run.prompts.get(row.task.name) ?? [], (one) => one.groupKey).values()].map((rows) => ({ run, rows })),
  );
  if (visits.length < 2) return null;
  return part(
    "This prompt over training",
    el(
      "ol.history",
      {},
      visits.map(({ run, rows }) => {
        const texts = [...grouped(rows, (one) => one.text).values()].sort((one, other) => other.length - one.length);
        const current = rows.includes(row),
          common = texts[0];
        return el(
          "li",
          {},
          el(
            "button",
            { type: "button", "aria-current": current, onclick: () => go(current ? row : common[0]) },
            store.runs.length > 1 && el(`i.swatch.${run.colour}`, { title: shown(run.name) }),
            el("span.visit", {}, `step ${rows[0].step}`),
            el(
              "span.dots",
              { role: "img", "aria-label": `mean score ${number(mean(rows.map((one) => one.total)))}` },
              [...rows]
                .sort((one, other) => (other.total ?? -1) - (one.total ?? -1))
                .slice(0, 16)
                .map((one) => el(`i.${one.grade}`)),
            ),
            el("span.visit-mean", {}, score(mean(rows.map((one) => one.total)))),
            el("span.times", {}, `${common.length}×`),
            el("code.line", {}, line(common[0].text)),
          ),
        );
      }),
    ),
  );
}
