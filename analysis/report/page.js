// Glue only: DataTables sorts and filters the tables, Plotly draws the figures.
const { figures, curves, datatables } = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

// Tables. Sorting needs no more than a header: with a click, or Enter when it has the focus.
const module = URL.createObjectURL(new Blob([datatables], { type: "text/javascript" }));
const { default: DataTable } = await import(module);
const tables = {};
for (const element of document.querySelectorAll("table.data")) {
  const many = element.tBodies[0].rows.length > 20;
  tables[element.id] = new DataTable(element, {
    order: [], autoWidth: false, paging: many, info: many, pageLength: 20, lengthMenu: [20, 100, { label: "all", value: -1 }],
    language: { search: "Filter:" },
  });
}

// Figures, each when it comes into view.
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const themed = (layout) => {
  const axis = { gridcolor: color("--line"), linecolor: color("--soft"), zerolinecolor: color("--line") };
  const axes = Object.keys(layout).filter((key) => /^[xy]axis/.test(key));
  return {
    ...layout, ...Object.fromEntries(axes.map((key) => [key, { ...layout[key], ...axis }])),
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: color("--ink"), size: 12 },
    margin: { l: 55, r: 10, t: 10, b: 50 }, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" }, autosize: true,
    hoverlabel: { bgcolor: color("--paper"), font: { color: color("--ink") } },
  };
};
const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const drawn = new Set();
const draw = (id) => {
  drawn.add(id);
  const { data, layout } = figures[id];
  return Plotly.newPlot(id, data, themed(layout), options);
};
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting && !drawn.has(target.id)) draw(target.id);
  }
}, { rootMargin: "300px" });

// Learning curves: of the first runs that the filter of their table leaves, in its order.
const runs = tables["runs-table"];
if (runs) {
  const choose = () => {
    const rows = runs.rows({ search: "applied", order: "applied" }).nodes().toArray();
    const chosen = rows.map((row) => row.dataset.run).filter((run) => curves.runs[run]).slice(0, curves.most);
    const named = new Set(); // a line of the legend for each method and dataset
    figures.curves.data = chosen.map((run) => {
      const { grid, scores, color, name, group } = curves.runs[run];
      const first = !named.has(group);
      named.add(group);
      return {
        x: curves.grids[grid], y: scores, name: group, legendgroup: group, showlegend: first, mode: scores.length > 1 ? "lines" : "markers", line: { color, width: 2 }, marker: { color },
        meta: name, hovertemplate: "%{meta}<br>%{y:.1f} at update %{x:,}<extra></extra>",
      };
    });
    document.getElementById("chosen").textContent = `${chosen.length} of ${rows.length} runs that the filter leaves`;
    if (drawn.has("curves")) draw("curves");
  };
  runs.on("draw", choose);
  choose();
}
for (const element of document.querySelectorAll(".plot")) seen.observe(element);
const theme = () => {
  document.documentElement.classList.toggle("dark", dark.matches);
  drawn.forEach(draw);
};
dark.addEventListener("change", theme);
theme();
document.documentElement.dataset.ready = "yes";
