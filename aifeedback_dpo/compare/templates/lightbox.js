// One picture at a time: over prompts and policies by keys, mouse and thumb, zoom, and two of them in turn.
(() => {
  const box = document.getElementById("lightbox");
  const stage = box.querySelector(".stage");
  const picture = stage.querySelector("img");
  const part = (name) => box.querySelector(name);
  const rows = [...document.querySelectorAll(".row")].map((row) => ({
    row, prompt: row.querySelector(".prompt").firstChild?.textContent.trim() ?? "", links: [...row.querySelectorAll(".shot a")],
  })).filter((row) => row.links.length);
  const who = (link) => link.dataset.who;
  const MOST = 32, LEAST = 1, RATE = 450;  // about two turns a second: well below what harms
  let row = 0, at = 0, pinned = "", flipped = false, timer = 0;
  let zoom = 1, x = 0, y = 0;

  const open = () => rows.filter((one) => !one.row.hidden);
  const shown = () => open()[row];
  const other = () => shown().links.find((link) => who(link) === pinned) ?? shown().links[0];
  const current = () => (flipped ? other() : shown().links[at]);

  const place = () => {
    picture.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
    part(".zoom").textContent = `${Math.round(100 * zoom)} %`;
  };
  const fit = () => { zoom = 1; x = y = 0; place(); };
  const scale = (factor, cx = stage.clientWidth / 2, cy = stage.clientHeight / 2) => {
    const next = Math.min(MOST, Math.max(LEAST, zoom * factor));
    x = cx - (cx - x) * (next / zoom);
    y = cy - (cy - y) * (next / zoom);
    zoom = next;
    if (zoom === 1) x = y = 0;
    place();
  };

  const render = () => {
    const link = current(), thumb = link.querySelector("img");
    picture.className = thumb.className;
    picture.alt = thumb.alt;
    picture.onerror = () => { picture.onerror = null; picture.src = thumb.src; };  // a report that was moved away from its run
    if (picture.getAttribute("src") !== link.getAttribute("href")) picture.src = link.getAttribute("href");
    part("[data-full]").href = link.href;
    part(".where").textContent = `${row + 1} of ${open().length}: ${who(link)}`;
    part(".said").textContent = shown().prompt;
    part(".scores").textContent = link.dataset.scores ?? "";
    part(".a").textContent = who(other());
    part("[data-do=flip]").setAttribute("aria-pressed", flipped);
    part("[data-do=flicker]").setAttribute("aria-pressed", Boolean(timer));
    const choose = part(".choose");
    if (choose.dataset.row !== String(row)) {
      choose.dataset.row = row;
      choose.replaceChildren(...shown().links.map((one, index) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = index < 9 ? `${index + 1} ${who(one)}` : who(one);
        button.addEventListener("click", () => pick(index));
        return button;
      }));
    }
    [...choose.children].forEach((button, index) => button.setAttribute("aria-pressed", shown().links[index] === link));
    for (const one of shown().links) new Image().src = one.href;  // ready for the flicker
  };
  const pick = (index) => { if (index < shown().links.length) { at = index; flipped = false; render(); } };
  const turn = (step) => {
    const name = who(shown().links[at]), count = open().length;
    row = (row + step + count) % count;
    const same = shown().links.findIndex((link) => who(link) === name);
    at = same < 0 ? 0 : same;
    part(".choose").dataset.row = "";
    fit();
    render();
  };
  const step = (by) => pick((at + by + shown().links.length) % shown().links.length);
  const flip = () => { flipped = !flipped; render(); };
  const still = () => { clearInterval(timer); timer = 0; flipped = false; };
  const flicker = () => {
    if (timer) still();
    else timer = setInterval(flip, RATE);
    render();
  };
  const does = {
    in: () => scale(1.5), out: () => scale(1 / 1.5), fit, close: () => box.close(), back: () => turn(-1), on: () => turn(1),
    pin: () => { pinned = who(current()); render(); }, flip, flicker,
  };
  const keys = {
    ArrowLeft: does.back, ArrowRight: does.on, ArrowUp: () => step(-1), ArrowDown: () => step(1),
    "+": does.in, "=": does.in, "-": does.out, 0: fit, a: does.pin, b: flip, f: flicker,
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.(".shot a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !box.showModal) return;
    event.preventDefault();
    row = open().findIndex((one) => one.links.includes(link));
    at = shown().links.indexOf(link);
    pinned ||= who(shown().links[0]);
    part(".choose").dataset.row = "";
    box.showModal();
    fit();
    render();
  });
  box.addEventListener("click", (event) => does[event.target.closest("[data-do]")?.dataset.do]?.());
  box.addEventListener("close", () => { still(); shown()?.links[at]?.focus(); });
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = /^[1-9]$/.test(event.key) ? () => pick(Number(event.key) - 1) : keys[event.key] ?? keys[event.key.toLowerCase()];
    if (act) { event.preventDefault(); act(); }
  });

  // one pointer drags (or, unzoomed, swipes to the next prompt), two pinch
  const fingers = new Map();
  let began = null, spread = 0;
  const gap = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button")) return;
    stage.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    began = fingers.size === 1 ? { x: event.clientX, y: event.clientY, touch: event.pointerType === "touch" } : null;
    if (fingers.size === 2) spread = gap();
  });
  stage.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const frame = stage.getBoundingClientRect();
    if (fingers.size === 2) {
      const [a, b] = [...fingers.values()], wide = gap();
      scale(wide / spread, (a.x + b.x) / 2 - frame.left, (a.y + b.y) / 2 - frame.top);
      spread = wide;
    } else if (zoom > 1) {
      x += event.clientX - last.x;
      y += event.clientY - last.y;
      place();
    }
  });
  const lift = (event) => {
    fingers.delete(event.pointerId);
    if (began?.touch && zoom === 1 && event.type === "pointerup") {
      const away = event.clientX - began.x;
      if (Math.abs(away) > 60 && Math.abs(away) > 2 * Math.abs(event.clientY - began.y)) turn(away < 0 ? 1 : -1);
    }
    began = null;
  };
  stage.addEventListener("pointerup", lift);
  stage.addEventListener("pointercancel", lift);
  stage.addEventListener("dblclick", (event) => {
    const frame = stage.getBoundingClientRect();
    if (zoom > 1) fit();
    else scale(4, event.clientX - frame.left, event.clientY - frame.top);
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const frame = stage.getBoundingClientRect();
    scale(Math.exp(-event.deltaY / 400), event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });
})();
