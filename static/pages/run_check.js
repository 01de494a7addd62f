// The page of a run that only looks at what the model reads: its head, lengths and findings while it runs.

import { pageData } from "../lib/api.js";
import { follow } from "../lib/live.js";
import { headOf } from "./_run_head.js";

const run = pageData();
const head = headOf(run);

if (["queued", "running"].includes(run.status)) {
  let last = run.status;
  follow(run.id, run.revision, {
    status: (now) => {
      head.showProgress(now.progress, now.phase);
      if (now.status !== last) head.refreshHead();
      last = now.status;
    },
    progress: (now) => head.showProgress(now, now.phase),
    quiet: head.showQuiet,
    connection: head.showConnection,
    end: () => {
      head.showConnection(null);
      head.refreshHead(["summary"]);
    },
  });
}
