// Line charts that share a cursor: pointing at a step in one of them shows that step in all.

const charts = new Set();
const cursor = { x: null };
const axis = { of: "step", window: 1 };
const EDGE = { left: 44, right: 10, top: 8, bottom: 20 };
const MOST_POINTS = 600;

function pointAt(x) {
  cursor.x = x;
  for (const chart of charts) chart.point();
}

const resized = new ResizeObserver((entries) => {
  requestAnimationFrame(() => entries.forEach((entry) => entry.target.chart?.draw()));
});

/** lines: `{label, colour, xs, ys, dashed, marks, error}`; written: how a value is written; zero: begin at 0. */
class LineChart {
  constructor(title, lines, { written = number, zero = true, note = "", height = 150 } = {}) {
    Object.assign(this, { title, lines, written, zero, height });
    this.picture = svg("svg", { role: "img", height, tabindex: 0, "aria-label": this.spoken() });
    this.values = lines.map(() => el("b"));
    this.at = el("span.at");
    this.element = el(
      "figure.chart",
      {},
      el("figcaption", {}, el("span.chart-title", {}, title), note && el("span.chart-note", {}, note), this.at),
      el(
        "div.keys",
        {},
        lines.map((own, index) =>
          el(
            "span.key",
            {},
            svg(
              `svg.stroke.${own.colour}`,
              { width: 16, height: 8, "aria-hidden": true },
              svg(`line${own.dashed ? ".dashed" : ""}`, { x1: 0, y1: 4, x2: 16, y2: 4 }),
            ),
            own.label,
            this.values[index],
          ),
        ),
      ),
      this.picture,
    );
    this.element.chart = this;
    this.picture.addEventListener("pointermove", (event) => this.moved(event));
    this.picture.addEventListener("pointerleave", () => pointAt(null));
    this.picture.addEventListener("blur", () => pointAt(null));
    this.picture.addEventListener("keydown", (event) => this.key(event));
    charts.add(this);
    resized.observe(this.element);
    this.point();
  }

  spoken() {
    const parts = this.lines.map((own) => {
      const known = own.ys.filter((value) => value !== null);
      return known.length
        ? `${own.label} from ${this.written(known[0])} to ${this.written(known[known.length - 1])}`
        : "";
    });
    return `${this.title}: ${parts.filter(Boolean).join("; ")}. Arrow keys read out steps.`;
  }

  draw() {
    const width = Math.max(160, this.picture.clientWidth || this.element.clientWidth);
    this.width = width;
    const xs = this.lines.flatMap((own) => [own.xs[0], own.xs[own.xs.length - 1]]).filter((x) => x !== undefined);
    const ys = this.lines.flatMap((own) => own.ys.filter((y) => y !== null));
    let [left, right] = [Math.min(...xs), Math.max(...xs)];
    let low = ys.reduce((a, b) => Math.min(a, b), Infinity),
      high = ys.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!ys.length) [left, right, low, high] = [0, 1, 0, 1];
    if (this.zero && low > 0) low = 0;
    if (this.zero && high < 0) high = 0;
    if (low === high) [low, high] = low === 0 ? [0, 1] : [Math.min(low, 0), Math.max(high, 0)];
    if (left === right) [left, right] = [left - 1, right + 1];
    const down = this.height - EDGE.bottom;
    this.x = (value) => EDGE.left + ((value - left) / (right - left)) * (width - EDGE.left - EDGE.right);
    this.y = (value) => down - ((value - low) / (high - low)) * (down - EDGE.top);
    this.back = (at) => left + ((at - EDGE.left) / (width - EDGE.left - EDGE.right)) * (right - left);
    const grid = ticks(low, high, 3).map((value) => [
      svg("line.grid", { x1: EDGE.left, x2: width - EDGE.right, y1: this.y(value), y2: this.y(value) }),
      svg("text.tick", { x: EDGE.left - 6, y: this.y(value) + 3.5, "text-anchor": "end" }, this.written(value)),
    ]);
    const marks = ticks(left, right, Math.max(2, Math.floor(width / 90))).map((value) =>
      svg(
        "text.tick",
        { x: this.x(value), y: this.height - 5, "text-anchor": "middle" },
        axis.of === "step" ? number(value) : `${number(value)} min`,
      ),
    );
    this.line = svg("line.cursor", { y1: EDGE.top, y2: down, visibility: "hidden" });
    this.dots = this.lines.map((own) => svg(`circle.dot.${own.colour}`, { r: 3.5, visibility: "hidden" }));
    this.picture.setAttribute("width", width);
    fill(
      this.picture,
      grid,
      marks,
      this.lines.map((own) => this.drawn(own)),
      this.line,
      this.dots,
    );
    this.point();
  }

  drawn(own) {
    const calm = own.marks ? own.ys : smoothed(own.ys, axis.window);
    const parts = [];
    if (calm !== own.ys) parts.push(svg(`path.raw.${own.colour}`, { d: this.path(own.xs, own.ys) }));
    parts.push(svg(`path.line.${own.colour}${own.dashed ? ".dashed" : ""}`, { d: this.path(own.xs, calm) }));
    const alone = own.ys.filter((y) => y !== null).length === 1;
    if (own.marks || alone)
      own.ys.forEach((value, index) => {
        if (value === null) return;
        const x = this.x(own.xs[index]),
          error = own.error?.[index];
        if (error)
          parts.push(
            svg(`line.whisker.${own.colour}`, { x1: x, x2: x, y1: this.y(value - error), y2: this.y(value + error) }),
          );
        parts.push(svg(`circle.mark.${own.colour}`, { cx: x, cy: this.y(value), r: 3 }));
      });
    return parts;
  }

  /** The way through all known points; of very many, through the lowest and the highest of each stretch. */
  path(xs, ys) {
    const size = Math.max(1, Math.ceil(ys.length / (MOST_POINTS / 2)));
    let text = "",
      pen = "M";
    const put = (index) => {
      text += `${pen}${this.x(xs[index]).toFixed(1)} ${this.y(ys[index]).toFixed(1)}`;
      pen = "L";
    };
    for (let start = 0; start < ys.length; start += size) {
      const stretch = [];
      for (let index = start; index < Math.min(start + size, ys.length); index++)
        if (ys[index] !== null) stretch.push(index);
      if (!stretch.length) {
        if (!this.lines.some((own) => own.ys === ys && own.marks) && size > 1) pen = "M";
        continue;
      }
      const least = stretch.reduce((a, b) => (ys[b] < ys[a] ? b : a)),
        most = stretch.reduce((a, b) => (ys[b] > ys[a] ? b : a));
      [...new Set([Math.min(least, most), Math.max(least, most)])].forEach(put);
    }
    return text;
  }

  moved(event) {
    if (this.back) pointAt(this.back(event.clientX - this.picture.getBoundingClientRect().left));
  }

  key(event) {
    const xs = [...new Set(this.lines.flatMap((own) => own.xs))].sort((one, other) => one - other);
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !xs.length) return;
    event.preventDefault();
    const here = cursor.x === null ? xs.length - 1 - (step > 0 ? xs.length : -1) : nearest(xs, cursor.x);
    pointAt(xs[Math.min(xs.length - 1, Math.max(0, here + step))]);
    const values = this.lines.map((own, index) => `${own.label} ${this.values[index].textContent}`);
    this.picture.setAttribute("aria-label", `${this.title}, ${axis.of} ${number(cursor.x)}: ${values.join("; ")}`);
  }

  /** Show the values at the cursor, else the last ones. */
  point() {
    const shownAt = [];
    this.lines.forEach((own, index) => {
      const known = (own.known ??= own.xs.flatMap((x, at) => (own.ys[at] === null ? [] : [at])));
      const at =
        cursor.x === null
          ? known[known.length - 1]
          : known[
              nearest(
                known.map((place) => own.xs[place]),
                cursor.x,
              )
            ];
      const value = at === undefined ? null : own.ys[at];
      this.values[index].textContent = this.written(value);
      if (at !== undefined) shownAt.push(own.xs[at]);
      if (!this.x || !this.dots) return;
      const visible = cursor.x !== null && value !== null;
      this.dots[index].setAttribute("visibility", visible ? "visible" : "hidden");
      if (visible) {
        this.dots[index].setAttribute("cx", this.x(own.xs[at]));
        this.dots[index].setAttribute("cy", this.y(value));
      }
    });
    this.at.textContent =
      cursor.x === null || !shownAt.length
        ? ""
        : axis.of === "step"
          ? `step ${number(shownAt[0])}`
          : `${number(shownAt[0])} min`;
    if (!this.x || !this.line) return;
    this.line.setAttribute("visibility", cursor.x === null || !shownAt.length ? "hidden" : "visible");
    if (shownAt.length && cursor.x !== null) {
      this.line.setAttribute("x1", this.x(shownAt[0]));
      this.line.setAttribute("x2", this.x(shownAt[0]));
    }
  }
}

/** The place of the value next to `x` in an ascending list. */
function nearest(values, x) {
  let low = 0,
    high = values.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - values[low - 1] < values[low] - x ? low - 1 : low;
}
