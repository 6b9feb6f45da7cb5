// Hiding, resizing, searching and following the rows of one page. The page is complete without it.
"use strict";
(() => {
  const rows = [...document.querySelectorAll("#rows > li")];
  const space = document.querySelector(".space");
  const shapes = [...space.children].map((shape) => ({
    shape, row: shape.dataset.r === undefined ? -1 : Number(shape.dataset.r),
    from: Number(shape.dataset.a), to: Number(shape.dataset.b), x: shape.dataset.x,
  }));
  const lanes = new Map();
  let height = 22;

  const layout = () => {
    document.documentElement.style.setProperty("--row", height + "px");
    const hidden = new Set([...document.querySelectorAll("[data-group]")].filter((box) => !box.checked).map((box) => box.dataset.group));
    const tops = new Float64Array(rows.length + 1);
    rows.forEach((row, index) => {
      row.hidden = hidden.has(row.dataset.g) || lanes.get(row.dataset.lane) === false;
      tops[index + 1] = tops[index] + (row.hidden ? 0 : height);
    });
    const place = (at) => {
      const row = Math.min(Math.floor(at), rows.length - 1);
      return tops[row] + (at - row) * (tops[row + 1] - tops[row]);
    };
    for (const { shape, row, from, to, x } of shapes) {
      shape.style.display = row >= 0 && rows[row].hidden ? "none" : "";
      const top = place(from), end = place(to);
      if (shape.tagName === "line") {
        shape.setAttribute("y1", top);
        shape.setAttribute("y2", end);
      } else if (shape.tagName === "rect") {
        shape.setAttribute("y", top);
        shape.setAttribute("height", Math.max(1, end - top));
      } else {
        shape.setAttribute("transform", `translate(${x},${top})`);
      }
    }
    space.setAttribute("height", tops[rows.length]);
  };
  document.querySelectorAll("[data-group]").forEach((box) => box.addEventListener("change", layout));
  document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", () => {
    height = Math.max(8, Math.min(40, height + Number(button.dataset.zoom)));
    layout();
  }));
  document.querySelectorAll(".lanes text").forEach((label) => label.addEventListener("click", () => {
    const shown = lanes.get(label.textContent) === false;
    lanes.set(label.textContent, shown);
    label.style.opacity = shown ? 1 : 0.35;
    layout();
  }));

  const detail = document.getElementById("detail");
  const list = document.getElementById("rows");
  let linked = [];
  list.addEventListener("mouseover", (event) => {
    const row = event.target.closest("li");
    linked.forEach((other) => other.classList.remove("linked"));
    linked = row && row.dataset.x ? rows.filter((other) => other.dataset.x === row.dataset.x) : [];
    linked.forEach((other) => other.classList.add("linked"));
  });
  list.addEventListener("click", (event) => {
    const row = event.target.closest("li");
    if (row) {
      detail.textContent = row.innerText.replace(/\n/g, "   ");
      detail.hidden = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") detail.hidden = true;
  });

  const reach = (row) => {
    document.querySelectorAll("li.hit").forEach((other) => other.classList.remove("hit"));
    if (row) {
      row.classList.add("hit");
      row.scrollIntoView({ block: "center" });
    }
  };
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  let at = -1;
  search.addEventListener("input", () => { at = -1; found.textContent = ""; });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !search.value) return;
    const words = search.value.toLowerCase();
    const hits = rows.filter((row) => !row.hidden && row.textContent.toLowerCase().includes(words));
    at = hits.length ? (at + (event.shiftKey ? hits.length - 1 : 1)) % hits.length : -1;
    found.textContent = hits.length ? `${at + 1} of ${hits.length}` : "not found";
    reach(hits[at]);
  });
  const overview = document.querySelector(".overview");
  overview.addEventListener("click", (event) => {
    const box = overview.getBoundingClientRect();
    const { end, left, right } = overview.dataset;
    const x = (event.clientX - box.left) / box.width * 1200;
    const time = Number(end) * (x - left) / (right - left);
    reach(rows.find((row) => Number(row.dataset.t) >= time && !row.hidden) || rows[rows.length - 1]);
  });
  document.getElementById("last").addEventListener("click", () => reach(rows[rows.length - 1]));
})();
