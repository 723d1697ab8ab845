// Puts the page together.

function themeButton() {
  const names = { "": "auto", light: "light", dark: "dark" },
    order = ["", "light", "dark"];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let theme = "";
  const button = el("button.quiet", {
    type: "button",
    title: "colours",
    onclick: () => set(order[(order.indexOf(theme) + 1) % 3]),
  });
  function set(value) {
    theme = value;
    document.documentElement.setAttribute("data-theme", value || (dark.matches ? "dark" : "light"));
    button.textContent = `◐ ${names[value]}`;
  }
  dark.addEventListener("change", () => set(theme));
  set("");
  return button;
}

async function start() {
  const main = document.getElementById("page");
  store.about = block("about");
  const overviews = store.about.live
    ? store.about.names.map((name) => ({ ...structuredClone(NOTHING_YET), name }))
    : block("runs");
  store.runs = overviews.map((overview, index) => new Run(index, overview));
  const facts = el("p.facts"),
    state = el("p.live", { role: "status" });
  const banner = el(
    "header.banner",
    {},
    el("div", {}, el("p.eyebrow", {}, `callwright ${store.about.callwright}`), document.querySelector("h1"), facts),
    el("div.side", {}, store.about.live && state, themeButton()),
  );
  colourReasons();
  let explorer = null;
  const overview = overviewSection(() => explorer),
    lines = curvesSection(),
    held = heldOutSection(),
    recipes = recipesSection();
  const reasons = reasonsSection((run, reward, code) => explorer?.showReason(run, reward, code));
  const waiting = el("section.loading", {}, el("p.empty", {}, "reading completions …"));
  function draw() {
    fill(facts, headerParts());
    overview.draw();
  }
  draw();
  fill(
    main,
    banner,
    overview.element,
    lines.element,
    reasons.element,
    waiting,
    held.element,
    recipes.element,
    el("footer", {}, "Texts in this page were written by models and data sets. It loads nothing and sends nothing."),
  );
  if (store.about.live) {
    const follower = new Follower(
      () => {
        draw();
        lines.draw();
        reasons.draw();
        held.draw();
        recipes.draw();
        explorer.refresh();
      },
      (there) => {
        const run = store.runs[0],
          done = run.steps[run.steps.length - 1] ?? 0;
        state.classList.toggle("lost", !there);
        state.textContent = !there
          ? "no answer: has `callwright watch` ended?"
          : !done
            ? "waiting for the first step"
            : run.planned && done >= run.planned
              ? "all steps are done"
              : "live";
      },
    );
    explorer = new Explorer();
    waiting.replaceWith(explorer.element);
    follower.follow();
    return;
  }
  for (const run of store.runs) run.add(await unpacked(block(`completions-${run.index}`)));
  explorer = new Explorer();
  waiting.replaceWith(explorer.element);
  const asked = location.hash
    .match(/^#(\d+)\.(\d+)\.(\d+)$/)
    ?.slice(1)
    .map(Number);
  if (asked && store.runs[asked[0]]) explorer.goTo(store.runs[asked[0]], asked[1], asked[2]);
  document.documentElement.setAttribute("data-ready", "");
}

start();
