// Keeps <main id="live"> fresh: the server renders it, this only fetches and swaps it in.
"use strict";
(() => {
  const own = document.currentScript.dataset;
  let busy = false;
  let again = false;

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const open = document.querySelector("#live details")?.open;
        document.getElementById("live").replaceWith(page.getElementById("live"));
        const details = document.querySelector("#live details");
        if (details && open) details.open = true;
        document.title = page.title;
      }
    } catch (error) {
      console.info("refresh failed, trying again later", error);
    } finally {
      busy = false;
      if (again) { again = false; setTimeout(refresh, 500); }
    }
  }

  function every(seconds) {
    setInterval(() => { if (!document.hidden) refresh(); }, seconds * 1000);
  }

  if (own.events && window.EventSource) {
    const source = new EventSource(own.events);
    const seen = () => { if (!document.hidden) refresh(); };
    for (const kind of ["submitted", "environment_claimed", "phase", "trial_started", "trial_finished",
      "environment_ended", "block_added", "cancel_requested", "finished"]) {
      source.addEventListener(kind, seen);
    }
    source.addEventListener("end", () => { source.close(); refresh(); });
    document.addEventListener("visibilitychange", seen);
    every(10);
  } else {
    every(Number(own.everyS || 15));
  }
})();
