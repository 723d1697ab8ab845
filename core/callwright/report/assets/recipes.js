// What the runs were told to do, and with what: where they differ first.

const OWN = new Set(["run"]);

function recipesSection() {
  const body = el("div");
  function draw() {
    const { runs } = store;
    fill(
      body,
      runs.length > 1 && [
        el("h3", {}, "Settings that differ"),
        differing(
          runs.map((run) => run.overview.recipe.settings),
          "setting",
          OWN,
        ),
        el("h3", {}, "Versions that differ"),
        differing(
          runs.map((run) => run.overview.versions),
          "of",
          new Set(),
        ),
      ],
      el(
        "div.recipes",
        {},
        runs.map((run) =>
          el(
            "details",
            { open: false },
            el(
              "summary",
              {},
              runs.length > 1 && el(`i.swatch.${run.colour}`),
              runs.length > 1 ? shown(run.name) : "Recipe as it was run, with all defaults",
            ),
            el("pre", {}, nodes(run.overview.recipe.text || "(there is none)")),
            versions(run.overview.versions),
          ),
        ),
      ),
    );
  }
  draw();
  return {
    element: section(
      "recipe",
      "Recipe",
      store.runs.length > 1 ? "Where the runs differ, then each recipe whole." : "",
      body,
    ),
    draw,
  };
}

function differing(all, what, apart) {
  const places = [...new Set(all.flatMap((one) => Object.keys(one)))]
    .filter((place) => !apart.has(place) && new Set(all.map((one) => one[place])).size > 1)
    .sort();
  if (!places.length) return el("p.note", {}, "None.");
  return el(
    "div.wide",
    { tabindex: 0 },
    el(
      "table.differences",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", { scope: "col" }, what),
          store.runs.map((run) => el("th", { scope: "col" }, el(`i.swatch.${run.colour}`), shown(run.name))),
        ),
      ),
      el(
        "tbody",
        {},
        places.map((place) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, el("code", {}, shown(place))),
            all.map((one) =>
              el(
                "td",
                {},
                one[place] === undefined ? el("span.faint", {}, "–") : el("code", {}, line(one[place], 400)),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

function versions(found) {
  const names = Object.keys(found);
  if (!names.length) return null;
  return el(
    "dl.versions",
    {},
    names.map((name) => [el("dt", {}, shown(name)), el("dd", {}, shown(found[name]))]),
  );
}
