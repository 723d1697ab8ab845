// A completion as a person reads it: every character to be seen, with what rewards point at and what tokens weigh.

const HIDDEN = /(?!\n)[\p{C}\p{Zl}\p{Zp}]|[^\S \n]/gu;
const LONGEST = 20000;
const KINDS = [
  "",
  "thinking",
  "call",
  "tag",
  "function name",
  "argument name",
  "argument value",
  "observation",
  "other",
];
const HOTTEST = 250; // hundredths of a nat, where the tint is deepest
const LARGEST = 300; // hundredths, of an advantage

/** A character that cannot be printed, written out as in `\x1b`. */
function escaped(character) {
  const code = character.codePointAt(0),
    hex = code.toString(16);
  if (character === "\t") return "\\t";
  if (character === "\r") return "\\r";
  return code < 256
    ? `\\x${hex.padStart(2, "0")}`
    : code < 65536
      ? `\\u${hex.padStart(4, "0")}`
      : `\\U${hex.padStart(8, "0")}`;
}

function shown(text) {
  return text.replace(HIDDEN, escaped);
}

/** The beginning of a text in one line. */
function line(text, longest = 240) {
  return shown(text.slice(0, longest).replace(/\n/g, "⏎ ")) + (text.length > longest ? " …" : "");
}

/** The same as nodes, in which what was written out stands out. */
function nodes(text) {
  const found = [];
  let start = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > start) found.push(text.slice(start, match.index));
    found.push(el("span.escape", {}, escaped(match[0])));
    start = match.index + match[0].length;
  }
  if (start < text.length) found.push(text.slice(start));
  return found;
}

/** A text as a block, cut where it is very long. */
function prose(text) {
  const block = el("div.prose", {}, nodes(text.slice(0, LONGEST)));
  if (text.length > LONGEST) block.append(more(text.length, () => fill(block, nodes(text))));
  return block;
}

function more(length, reveal) {
  return el(
    "button.more",
    {
      type: "button",
      onclick: (event) => {
        event.stopPropagation();
        reveal();
      },
    },
    `show all ${count(length)} characters`,
  );
}

/** A completion with its reasons underlined and named. tint: `entropy`, `advantage`, `part`, or nothing. */
function marked(row, { tint = "", longest = LONGEST } = {}) {
  const block = el("div.completion");
  if (!row.text) return fill(block, el("span.faint", {}, "(empty)"));
  const points = Array.from(row.text); // spans count characters, a browser's texts count halves of some
  const all = points.length;
  const draw = (until) => fill(block, pieces(row, points.slice(0, until), tint));
  draw(longest);
  if (all > longest) block.append(more(all, () => draw(all)));
  return block;
}

function pieces(row, points, tint) {
  const length = points.length;
  const spans = row.reasons
    .filter((reason) => reason.start >= 0)
    .map((reason) => ({
      ...reason,
      start: Math.min(reason.start, length),
      end: Math.min(Math.max(reason.end, reason.start), length),
      kind: row.judged(reason),
    }))
    .filter((reason) => reason.end > reason.start || reason.start < length);
  const cuts = new Set([0, length, ...spans.flatMap((reason) => [reason.start, reason.end])]);
  const tokens = tint && row.characters ? tokenEnds(row) : [];
  for (const end of tokens) if (end < length) cuts.add(end);
  const places = [...cuts].sort((one, other) => one - other);
  const found = [];
  let token = 0;
  for (let index = 0; index + 1 < places.length; index++) {
    const [start, end] = [places[index], places[index + 1]];
    const inside = spans.filter((reason) => reason.start <= start && reason.end >= end);
    while (token < tokens.length && tokens[token] <= start) token++;
    const kind = ["wrong", "right", "seen"].find((one) => inside.some((reason) => reason.kind === one));
    const classes = [kind, token < tokens.length && tintClass(row, token, tint)].filter(Boolean);
    const text = nodes(points.slice(start, end).join(""));
    const about = [
      ...inside.map((reason) => shown(`${reason.code}${reason.message ? `: ${reason.message}` : ""}`)),
      token < tokens.length ? tokenText(row, token) : "",
    ]
      .filter(Boolean)
      .join("\n");
    found.push(classes.length ? el(["span", ...classes].join("."), { title: about || null }, text) : text);
    for (const code of new Set(
      spans.filter((reason) => reason.end === end && reason.kind === "wrong").map((r) => r.code),
    )) {
      found.push(el("span.label", {}, shown(code)));
    }
  }
  return found;
}

function tokenEnds(row) {
  let end = 0;
  return row.characters.map((amount) => (end += amount));
}

function tintClass(row, token, tint) {
  if (tint === "part") return row.segments ? `s${row.segments[token]}` : "";
  if (tint === "advantage") {
    const value = advantageOf(row, token);
    const level = Math.min(5, Math.ceil((Math.abs(value) / LARGEST) * 5));
    return level ? `${value > 0 ? "up" : "down"}${level}` : "";
  }
  const value = row.entropy[token];
  return value < 2 ? "" : `h${Math.min(8, Math.ceil((value / HOTTEST) ** 0.6 * 8))}`;
}

function advantageOf(row, token) {
  return Array.isArray(row.advantages) ? (row.advantages[token] ?? 0) : (row.advantages ?? 0);
}

function tokenText(row, token) {
  const kind = KINDS[Number(row.segments?.[token])] ?? "";
  const said = [
    `entropy ${(row.entropy[token] / 100).toFixed(2)} nats`,
    `advantage ${signed(advantageOf(row, token) / 100)}`,
  ];
  return [...said, kind].filter(Boolean).join(", ");
}
