"use strict";
(function () {
  const root = document.documentElement;
  const errors = [];
  const report = (message) => { errors.push(String(message)); root.dataset.errors = errors.length + ": " + errors[0]; };
  window.addEventListener("error", (event) => report(event.message));
  window.addEventListener("unhandledrejection", (event) => report(event.reason));
  document.addEventListener("securitypolicyviolation", (event) => report("blocked " + event.violatedDirective));

  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displaylogo: false, showTips: false,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
  const drawn = new Map();

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function themed(layout) {
    const copy = structuredClone(layout);
    copy.paper_bgcolor = "rgba(0,0,0,0)";
    copy.plot_bgcolor = "rgba(0,0,0,0)";
    copy.font = { family: colour("--sans"), size: 12, color: colour("--muted") };
    copy.hoverlabel = { bgcolor: colour("--card"), bordercolor: colour("--line"), align: "left",
      font: { color: colour("--ink"), family: colour("--sans"), size: 12 } };
    copy.modebar = { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--accent") };
    for (const [key, axis] of Object.entries(copy)) {
      if (/^[xy]axis\d*$/.test(key)) {
        Object.assign(axis, { gridcolor: colour("--grid"), linecolor: colour("--line"), separatethousands: true, exponentformat: "none",
          zerolinecolor: colour("--line"), separatethousands: true, exponentformat: "none", spikecolor: colour("--muted") });
      }
    }
    return copy;
  }

  function redraw(figure, element) {
    const bar = element.hasAttribute("data-zooms") ? "hover" : false;
    return Plotly.react(element, figure.data, themed(figure.layout), { ...config, displayModeBar: bar });
  }

  function draw(element, source) {
    const figure = JSON.parse(document.getElementById(source).textContent);
    drawn.set(element, figure);
    return redraw(figure, element);
  }

  function copyText(button) {
    const text = document.getElementById(button.dataset.copies).textContent;
    const done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
    const select = () => {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.appendChild(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      done();
    };
    if (navigator.clipboard) { navigator.clipboard.writeText(text).then(done, select); } else { select(); }
  }

  window.addEventListener("DOMContentLoaded", () => {
    const plots = Array.from(document.querySelectorAll("[data-figure]"), (element) => draw(element, element.dataset.figure));
    Promise.all(plots).then(() => { root.dataset.drawn = plots.length; }, report);
    const choice = document.getElementById("instrument");
    if (choice) {
      const show = () => {
        const index = choice.value;
        history.replaceState(null, "", "#instrument-" + index);
        draw(document.getElementById("instrument-plot"), "instrument-" + index);
        document.querySelectorAll("[data-instrument]").forEach((note) => { note.hidden = note.dataset.instrument !== index; });
      };
      choice.addEventListener("change", show);
      // A link such as report.html#instrument-2 opens the third instrument.
      const linked = /^#instrument-(\d+)$/.exec(location.hash);
      if (linked && Number(linked[1]) < choice.options.length) {
        choice.value = linked[1];
        document.getElementById("instruments").scrollIntoView();
      }
      if (choice.selectedIndex > 0) { show(); }
    }
    document.querySelectorAll("[data-copies]").forEach((button) => button.addEventListener("click", () => copyText(button)));
    dark.addEventListener("change", () => drawn.forEach(redraw));
  });
})();
