// A judge's page: the rate of positive verdicts, agreement with other judges, the answers, and pairs made of them.

import { api, pageData } from "../lib/api.js";
import { throttle } from "../lib/controls.js";
import { $, problemNotice } from "../lib/dom.js";
import { follow } from "../lib/live.js";
import { headOf } from "./_run_head.js";
import { agreementTable, rateView } from "./run_judge/agreement.js";
import { AnswerList } from "./run_judge/answers.js";
import { showPairs } from "./run_judge/pairs.js";

const SOON_MS = 1500;

const run = pageData();
const head = headOf(run);
const answers = new AnswerList(run);

async function load() {
  const summary = await api(`/runs/${run.id}/judgments/summary`);
  if (summary.judged) $("[data-rate]").replaceChildren(rateView(summary));
  const others = summary.others.filter((other) => other.compared);
  $("[data-agreement-card]").hidden = others.length === 0;
  if (others.length) $("[data-agreement]").replaceChildren(agreementTable(others));
  answers.offerOthers(others);
  if (run.status === "succeeded") showPairs(run, summary);
  await answers.show();
}

const showProblem = (problem) => $("[data-problem]").replaceChildren(problemNotice(problem));
const loadSoon = throttle(() => load().catch(showProblem), SOON_MS);

load().catch(showProblem);
if (["queued", "running"].includes(run.status)) {
  follow(run.id, run.revision, {
    status: (now) => {
      head.showProgress(now.progress, now.phase);
      if (now.status !== run.status) head.refreshHead();
      run.status = now.status;
    },
    progress: (now) => {
      head.showProgress(now, now.phase);
      loadSoon();
    },
    quiet: head.showQuiet,
    connection: head.showConnection,
    end: async () => {
      head.showConnection(null);
      await head.refreshHead();
      await load().catch(showProblem);
    },
  });
}
