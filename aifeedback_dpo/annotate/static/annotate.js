// The voting page: keys, the clock, the next pictures fetched ahead. Without this file the buttons still work.
"use strict";
(() => {
  const KEYS = { 1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", 0: "tie", x: "both_bad", s: "skip", u: "undo" };
  const ahead = new Map();  // kept, so that the browser does not let go of what it fetched
  let showing = null, spent = 0, since = null, ready = false, veiled = false;

  const at = (id) => document.getElementById(id);
  const dialog = () => at("paused");
  const stored = (key, fallback) => { try { return sessionStorage.getItem(key) ?? fallback; } catch { return fallback; } };
  const store = (key, value) => { try { sessionStorage.setItem(key, value); } catch { /* private windows may refuse */ } };

  // -- the clock: it runs while both pictures can be seen, and is kept when the page is left
  const elapsed = () => Math.round(spent + (since === null ? 0 : performance.now() - since));
  const stop = () => { spent = elapsed(); since = null; if (showing) store("spent", `${showing} ${spent}`); };
  const run = () => {
    const seen = ready && !veiled && document.visibilityState === "visible" && !dialog().open;
    if (seen && since === null) since = performance.now();
    if (!seen && since !== null) stop();
  };

  const begin = () => {
    const ballot = at("ballot");
    if (!ballot) return;
    showing = ballot.dataset.showing ?? null;
    const [known, time] = stored("spent", " 0").split(" ");
    spent = known === showing ? Number(time) : 0;
    since = null;
    veiled = showing !== null && "blur" in ballot.dataset;
    ballot.classList.toggle("veiled", veiled);
    const pictures = [...ballot.querySelectorAll(".frame img")];
    const check = () => {
      ready = pictures.length > 0 && pictures.every((img) => img.complete && img.naturalWidth);
      ballot.classList.toggle("ready", ready);
      run();
    };
    pictures.forEach((img) => img.addEventListener("load", check));
    check();
    prefetch(ballot.dataset.ahead);
  };

  const prefetch = (token) => {
    if (!token || ahead.has(token)) return;
    ahead.clear();
    ahead.set(token, ["left", "right"].map((side) => {
      const img = new Image();
      img.src = `/picture/${token}/${side}`;
      img.decode().catch(() => {});  // a picture that cannot be read shows when its turn comes
      return img;
    }));
  };

  const unveil = () => { veiled = false; at("ballot").classList.remove("veiled"); run(); };

  // -- answers
  document.addEventListener("submit", (event) => {
    const answer = event.submitter?.value;
    if (event.target.id !== "vote" || answer === "skip") return;
    if (!ready || veiled) {
      event.preventDefault();
      event.stopImmediatePropagation();
      if (veiled) unveil();
    }
  }, true);
  document.addEventListener("htmx:configRequest", (event) => {
    if (event.detail.path === "/vote") event.detail.parameters.milliseconds = String(elapsed());
  });
  document.addEventListener("htmx:afterSwap", () => {
    at("trouble").hidden = true;
    begin();
    const title = document.querySelector("#ballot h1");
    const note = document.querySelector("#ballot .note");
    at("announce").textContent = `${note ? note.textContent : "Saved."} ${title.textContent}`;
  });
  const trouble = (text) => { const box = at("trouble"); if (box) { box.textContent = text; box.hidden = false; } };
  document.addEventListener("htmx:sendError", () => trouble("Not saved: the server does not answer. What you answered before is safe; try again in a moment."));
  document.addEventListener("htmx:timeout", () => trouble("Not saved: the server is slow to answer. Try again; no answer counts twice."));
  document.addEventListener("htmx:responseError", (event) => trouble(
    event.detail.xhr.status === 403 ? "Not saved: please open your link again." : "Not saved: something went wrong on the server. Try again in a moment."));

  // -- pause
  const pause = () => { document.body.classList.add("stopped"); dialog().showModal(); run(); };
  document.addEventListener("click", (event) => { if (event.target.closest("#pause")) pause(); });
  dialog()?.addEventListener("close", () => { document.body.classList.remove("stopped"); run(); });
  document.addEventListener("visibilitychange", run);
  window.addEventListener("pagehide", stop);

  // -- keys
  document.addEventListener("keydown", (event) => {
    if (event.repeat && event.target.closest?.("button")) event.preventDefault();  // a key held down answers once
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !at("ballot") || !at("keys").checked) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key === "p") { if (dialog().open) dialog().close(); else if (showing) pause(); return; }
    if (dialog().open) return;
    if (key === "?") { at("help").click(); return; }
    const button = key in KEYS && at(`answer-${KEYS[key]}`);
    if (button) { event.preventDefault(); button.click(); }
  });
  at("keys")?.addEventListener("change", (event) => store("keys", event.target.checked));
  if (at("keys")) at("keys").checked = stored("keys", "true") === "true";

  begin();
})();
