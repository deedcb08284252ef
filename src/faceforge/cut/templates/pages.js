"use strict";
(() => {
  // arrow keys go from face to face as they stand in the grid, n and p to the next page and the one before
  const links = [...document.querySelectorAll(".faces a")];
  const middle = (link) => { const box = link.getBoundingClientRect(); return [box.left + box.width / 2, box.top]; };
  const below = (from, way) => {
    const [x, y] = middle(links[from]);
    let row = null, best = from;
    for (let n = from + way; n >= 0 && n < links.length; n += way) {
      const [nx, ny] = middle(links[n]);
      if (Math.abs(ny - y) < 4) continue;
      if (row === null) row = ny;
      if (Math.abs(ny - row) >= 4) break;
      if (best === from || Math.abs(nx - x) < Math.abs(middle(links[best])[0] - x)) best = n;
    }
    return best;
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const turn = { n: "next", p: "prev" }[event.key];
    if (turn) return document.querySelector(`a[rel=${turn}]`)?.click();
    const way = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    const from = links.indexOf(document.activeElement);
    if (!way || !links.length || (from < 0 && event.key !== "ArrowRight")) return;
    event.preventDefault();
    const beside = Math.min(links.length - 1, Math.max(0, from + way));
    links[event.key === "ArrowUp" || event.key === "ArrowDown" ? below(from, way) : beside].focus();
  });
})();
