// A table of any length, of which only the rows in view are in the page.

class LongTable {
  /** columns: `{name, title, draw, sort, kind}`; choose: called with a row that was chosen. */
  constructor(label, columns, choose) {
    Object.assign(this, { columns, choose, rows: [], given: [], chosen: null, order: null });
    this.head = el(
      "div.long-head",
      { role: "row" },
      columns.map((column) => this.heading(column)),
    );
    this.space = el("div.long-space");
    this.view = el("div.long-view", { role: "rowgroup" }, this.space);
    this.element = el(
      "div.long",
      { role: "grid", tabindex: 0, "aria-label": label, "aria-rowcount": 0 },
      this.head,
      this.view,
    );
    this.view.addEventListener("scroll", () => this.draw());
    this.element.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.view);
    if (columns[0].down) this.sortBy(columns[0].name); // the newest first
  }

  heading(column) {
    if (!column.sort) return el(`span.cell.${column.name}`, { role: "columnheader" }, column.title);
    return el(
      `span.cell.${column.name}`,
      { role: "columnheader", "aria-sort": "none" },
      el("button", { type: "button", title: column.about, onclick: () => this.sortBy(column.name) }, column.title),
    );
  }

  sortBy(name) {
    this.order =
      this.order?.name !== name
        ? { name, down: this.columns.find((one) => one.name === name).down ?? false }
        : this.order.down === (this.columns.find((one) => one.name === name).down ?? false)
          ? { name, down: !this.order.down }
          : null;
    this.columns.forEach((column, index) => {
      if (column.sort)
        this.head.children[index].setAttribute(
          "aria-sort",
          this.order?.name === column.name ? (this.order.down ? "descending" : "ascending") : "none",
        );
    });
    this.show(this.given);
  }

  /** Show these rows, in their order or in that of a column. */
  show(rows, keep = false) {
    const { scrollTop } = this.view,
      seen = this.rows[Math.floor(scrollTop / this.tall)];
    this.given = rows;
    this.rows = rows;
    if (this.order) {
      const { sort } = this.columns.find((column) => column.name === this.order.name),
        sign = this.order.down ? -1 : 1;
      const keys = new Map(rows.map((row) => [row, sort(row)]));
      this.rows = [...rows].sort((one, other) => sign * compared(keys.get(one), keys.get(other), sign));
    }
    this.space.textContent = "";
    this.element.setAttribute("aria-rowcount", this.rows.length);
    sized(this.space, this.rows.length * this.tall);
    const place = keep && scrollTop > 0 ? this.rows.indexOf(seen) : 0; // what a reader looks at stays where it is
    this.view.scrollTop = place > 0 ? place * this.tall + (scrollTop % this.tall) : 0;
    this.draw(true);
  }

  get tall() {
    this.measured ??= parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 34;
    return this.measured;
  }

  draw(always = false) {
    this.measured = undefined;
    const { tall } = this,
      first = Math.max(0, Math.floor(this.view.scrollTop / tall) - 6);
    const last = Math.min(this.rows.length, Math.ceil((this.view.scrollTop + this.view.clientHeight) / tall) + 6);
    if (!always && this.drawn === `${first} ${last} ${tall}`) return;
    this.drawn = `${first} ${last} ${tall}`;
    sized(this.space, this.rows.length * tall);
    fill(
      this.space,
      this.rows.slice(first, last).map((row, index) => this.row(row, first + index, tall)),
    );
  }

  row(row, index, tall) {
    const element = el(
      "div.long-row",
      {
        role: "row",
        id: `row-${index}`,
        "aria-rowindex": index + 1,
        "aria-selected": row === this.chosen,
        onclick: () => this.pick(row),
      },
      this.columns.map((column) => el(`span.cell.${column.name}`, { role: "gridcell" }, column.draw(row))),
    );
    element.style.transform = `translateY(${index * tall}px)`;
    return element;
  }

  pick(row, reveal = false) {
    this.mark(row, reveal);
    this.choose(row);
  }

  /** Show that a row is the chosen one. */
  mark(row, reveal = false) {
    this.chosen = row;
    const index = this.rows.indexOf(row);
    if (reveal && index >= 0) {
      const top = index * this.tall,
        { scrollTop, clientHeight } = this.view;
      if (top < scrollTop) this.view.scrollTop = top;
      if (top + this.tall > scrollTop + clientHeight) this.view.scrollTop = top + this.tall - clientHeight;
    }
    this.draw(true);
    this.element.setAttribute("aria-activedescendant", index >= 0 ? `row-${index}` : "");
  }

  key(event) {
    if (event.target !== this.element) return;
    const page = Math.floor(this.view.clientHeight / this.tall) - 1;
    const move = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: page,
      PageUp: -page,
      Home: -Infinity,
      End: Infinity,
      j: 1,
      k: -1,
    }[event.key];
    if (!move || !this.rows.length || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const here = this.rows.indexOf(this.chosen);
    this.pick(this.rows[Math.min(this.rows.length - 1, Math.max(0, here + move))], true);
  }
}

/** Ascending; what is not known comes last in either direction. */
function compared(one, other, sign) {
  if (one === other) return 0;
  if (one === null || one === undefined) return sign;
  if (other === null || other === undefined) return -sign;
  return one < other ? -1 : 1;
}

function sized(element, pixels) {
  element.style.height = `${pixels}px`;
}
