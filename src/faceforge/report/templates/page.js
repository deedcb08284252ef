"use strict";
(() => {
  // the time line: a slider over the grids that are on the page already
  const strip = document.getElementById("strip"), grid = document.getElementById("grid");
  if (strip) {
    const cells = [...strip.querySelectorAll("figure")], shots = cells.map((cell) => cell.querySelector("img"));
    const last = cells.length - 1, sharp = grid.src, position = document.getElementById("position");
    const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: last, value: last });
    const play = Object.assign(document.createElement("button"), { type: "button", textContent: "Play" });
    const controls = Object.assign(document.createElement("div"), { className: "controls" });
    slider.setAttribute("aria-label", "Images seen");
    controls.append(play, slider);
    strip.before(controls);
    const show = (n, follow = true) => {
      slider.value = n;
      grid.src = n === last ? sharp : shots[n].src;
      grid.alt = shots[n].alt;
      position.textContent = Number(shots[n].dataset.images).toLocaleString("en") + " images seen";
      slider.setAttribute("aria-valuetext", position.textContent);
      cells.forEach((cell, i) => cell.classList.toggle("now", i === n));
      const cell = cells[n];
      if (follow) strip.scrollLeft = cell.offsetLeft - strip.offsetLeft - (strip.clientWidth - cell.clientWidth) / 2;
    };
    let timer = 0;
    const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
    slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
    cells.forEach((cell, i) => cell.addEventListener("click", () => { stop(); show(i, false); }));
    play.addEventListener("click", () => {
      if (timer) return stop();
      play.textContent = "Pause";
      if (Number(slider.value) === last) show(0);
      timer = setInterval(() => {
        const next = Number(slider.value) + 1;
        show(next);
        if (next >= last) stop();
      }, Math.max(150, 6000 / cells.length));
    });
    addEventListener("resize", () => show(Number(slider.value)));
    show(last);
  }

  // curves: the values under the pointer
  for (const chart of document.querySelectorAll(".chart")) {
    const svg = chart.querySelector("svg"), values = [...chart.querySelectorAll(".value")];
    const caption = chart.querySelector("figcaption"), title = caption.textContent;
    const ends = values.map((value) => value.textContent), end = Number(chart.dataset.end);
    const lines = JSON.parse(chart.dataset.points), area = svg.querySelector(".area").getBBox();
    const cursor = document.createElementNS(svg.namespaceURI, "line");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("y1", area.y);
    cursor.setAttribute("y2", area.y + area.height);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
      const images = (x - area.x) / area.width * end, far = (n) => Math.abs(n - images);
      const near = lines.map(([at, y]) => at.map((n, i) => [n, y[i]]).reduce((a, b) => far(b[0]) < far(a[0]) ? b : a));
      const at = near.reduce((a, b) => far(b[0]) < far(a[0]) ? b : a)[0];
      cursor.setAttribute("x1", area.x + area.width * at / end);
      cursor.setAttribute("x2", area.x + area.width * at / end);
      if (!cursor.isConnected) svg.append(cursor);
      values.forEach((value, i) => { value.textContent = near[i][1]; });
      const axis = chart.dataset.axis, counted = Math.round(at).toLocaleString("en") + " " + axis;
      const whole = axis === "images" || axis === "seconds";
      caption.textContent = title + " at " + (whole ? counted : axis + " " + at.toLocaleString("en"));
    });
    svg.addEventListener("pointerleave", () => {
      cursor.remove();
      caption.textContent = title;
      values.forEach((value, i) => { value.textContent = ends[i]; });
    });
  }

  // commands: a button that copies them
  for (const block of navigator.clipboard ? document.querySelectorAll(".command") : []) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Copy" });
    const line = block.querySelector("code").textContent;
    button.setAttribute("aria-label", "Copy: " + line);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(line);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.append(button);
  }
})();
