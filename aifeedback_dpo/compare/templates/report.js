"use strict";
// Live figures in the colours of the page, notes on cells, the filter of the gallery, copying. Without it all numbers are there.
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");

  // var(--name) anywhere in a figure is the page's colour of now
  const coloured = (node, style) => {
    if (typeof node === "string") return node.startsWith("var(") ? style.getPropertyValue(node.slice(4, -1)).trim() : node;
    if (Array.isArray(node)) return node.map((one) => coloured(one, style));
    if (node && typeof node === "object") return Object.fromEntries(Object.entries(node).map(([key, one]) => [key, coloured(one, style)]));
    return node;
  };
  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    for (const [id, plot] of Object.entries(plots)) {
      const place = document.getElementById(id);
      if (!place) continue;
      const { data, layout } = coloured(plot, style);
      layout.font.family = getComputedStyle(document.body).fontFamily;
      layout.dragmode = coarse.matches ? false : "zoom";
      Plotly.react(place, data, layout, { displaylogo: false, displayModeBar: false, responsive: true });
    }
  };
  addEventListener("DOMContentLoaded", () => {
    if (!window.Plotly) return;
    document.documentElement.classList.add("live");
    draw();
    dark.addEventListener("change", draw);
  });

  // what a cell holds back: shown for mouse, keyboard and thumb
  const tip = document.getElementById("tip");
  let noted = null;
  const hide = () => { tip.hidden = true; noted?.removeAttribute("aria-describedby"); noted = null; };
  const show = (cell) => {
    hide();
    noted = cell;
    tip.textContent = cell.dataset.tip;
    tip.hidden = false;
    cell.setAttribute("aria-describedby", "tip");
    place();
  };
  const place = () => {
    const box = noted.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left), innerWidth - tip.offsetWidth - 8);
    const below = box.bottom + 10 + tip.offsetHeight < innerHeight;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(below ? box.bottom + 10 : box.top - tip.offsetHeight - 10) + scrollY}px`;
  };
  const cell = (event) => event.target.closest?.("[data-tip]");
  document.addEventListener("mouseover", (event) => (cell(event) ? show(cell(event)) : tip.hidden || hide()));
  document.addEventListener("focusin", (event) => (cell(event) ? show(cell(event)) : hide()));
  document.addEventListener("click", (event) => cell(event) && show(cell(event)));
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  // a cell that is reached by Tab scrolls into view, and its note must not go with that
  const moved = () => noted && (noted.matches(":hover, :focus") ? place() : hide());
  document.addEventListener("scroll", moved, { capture: true, passive: true });

  // on a phone the contents fold
  if (matchMedia("(max-width: 82rem)").matches) document.querySelector(".contents details").open = false;

  const filter = document.getElementById("filter");
  filter?.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    const rows = [...document.querySelectorAll("#gallery .row")];
    for (const row of rows) row.hidden = !row.querySelector(".prompt").textContent.toLowerCase().includes(wanted);
    const left = rows.filter((row) => !row.hidden).length;
    filter.parentElement.querySelector("output").textContent = wanted ? `${left} of ${rows.length}` : "";
  });

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      const text = source.textContent.trim();
      let done = true;
      try {
        await navigator.clipboard.writeText(text);
      } catch {  // no clipboard for pages from disk: the old way
        getSelection().selectAllChildren(source);
        done = document.execCommand("copy");
      }
      button.parentElement.querySelector("[role=status]").textContent = done ? "copied" : "selected: copy it with your keyboard";
    });
  }
})();
