// While a run goes on, its server is asked for what is new. What was seen is not sent again.

const PAUSE = 2000;

class Follower {
  constructor(changed, said) {
    Object.assign(this, { changed, said, seen: store.runs.map(() => ({ after: 0, digest: "" })) });
  }

  async follow() {
    for (;;) {
      try {
        let any = false;
        for (const run of store.runs) any = (await this.ask(run)) || any;
        if (any) this.changed();
        this.said(true);
      } catch {
        this.said(false);
      }
      await new Promise((resolve) => setTimeout(resolve, document.hidden ? 5 * PAUSE : PAUSE));
    }
  }

  /** Whether there was something new. */
  async ask(run) {
    const seen = this.seen[run.index];
    const answer = await fetch(
      `news?run=${run.index}&after=${seen.after}&digest=${seen.digest}&state=${seen.state ?? ""}`,
      { cache: "no-store" },
    );
    if (!answer.ok) throw new Error(String(answer.status));
    const news = await answer.json();
    if (news.nothing) return false;
    if (news.anew) {
      Object.assign(run, { rows: [], tasks: [], notes: [], total: 0, dropped: 0 });
      run.learn(news.run);
      run.index_rows();
    } else {
      const { steps, series } = run;
      run.learn(news.run);
      const { metrics } = news.run;
      Object.assign(run, { steps, series });
      run.append(metrics);
    }
    if (news.completions) run.add(news.completions);
    this.seen[run.index] = { after: news.after, digest: news.digest, state: news.state };
    return true;
  }
}

const NOTHING_YET = {
  name: "",
  planned: null,
  metrics: { steps: [], series: {} },
  evaluation: { before: null, after: null },
  recipe: { text: "", settings: {} },
  versions: {},
  findings: [],
  notes: [],
};
