// Draws the figures, sorts tables, and shows in the table what is brushed.

const night = matchMedia("(prefers-color-scheme: dark)");
const plots = [...document.querySelectorAll(".plot")];

// Plotly is large: it is read when the page already stands.
function needPlotly() {
  if (window.Plotly) return;
  const script = document.createElement("script");
  script.textContent = document.getElementById("plotly").textContent;
  document.head.append(script);
}

function draw(plot, dark = night.matches) {
  needPlotly();
  let text = plot.querySelector("script").textContent;
  if (dark) for (const [light, deep] of Object.entries(DARK)) text = text.replaceAll(light, deep);
  const figure = JSON.parse(text);
  const place = plot.querySelector("div");
  const settings = {displayModeBar: false, responsive: true};
  return Plotly.react(place, figure.data, figure.layout, settings).then(() => {
    if (!plot.dataset.drawn && figure.data[0]?.type === "parcoords") followBrush(plot, place);
    plot.dataset.drawn = dark ? "dark" : "light";
  });
}

// A page of many figures opens at once when each is drawn only when it comes into view; of several
// in view the uppermost first, and the screen shows it before the next is drawn.
const asked = new Set();
let queue = Promise.resolve();
// A page that is not shown (a headless browser photographs it) may have no frame.
const frame = () => new Promise(done => { requestAnimationFrame(done); setTimeout(done, 100); });
function ask(plot) {
  if (!asked.has(plot)) drawNext(plot);
  asked.add(plot);
  return queue;
}
// The colours are asked for when its turn comes: a screen may have turned dark since.
function drawNext(plot) {
  const fits = () => plot.dataset.drawn === (night.matches ? "dark" : "light");
  queue = queue.then(() => fits() || draw(plot)).catch(reportError).then(frame);
}
const watcher = new IntersectionObserver(seen => {
  for (const {target} of seen.filter(entry => entry.isIntersecting)) {
    watcher.unobserve(target);
    ask(target);
  }
}, {rootMargin: "300px"});
plots.forEach(plot => watcher.observe(plot));
// All others follow, one by one, so that whoever photographs or saves the whole page has them.
const REST_MS = 4000; // after the page was loaded
addEventListener("load", () => setTimeout(async () => {
  for (const plot of plots) await ask(plot);
}, REST_MS));
night.addEventListener("change", () => plots.filter(plot => asked.has(plot)).forEach(drawNext));
addEventListener("beforeprint", () => plots.forEach(plot => draw(plot, false)));
addEventListener("afterprint", () => plots.forEach(drawNext));

// Parallel coordinates: what is within all the ranges brushed is what the table of trials shows.
function followBrush(plot, place) {
  const said = document.createElement("p");
  said.className = "brushed";
  said.setAttribute("role", "status");
  plot.append(said);
  place.on("plotly_restyle", () => {
    const {dimensions, customdata} = place.data[0];
    const brushed = dimensions.filter(axis => axis.constraintrange);
    const within = (axis, row) => [axis.constraintrange].flat(2)
      .some((low, i, ends) => i % 2 === 0 && low <= axis.values[row] && axis.values[row] <= ends[i + 1]);
    const kept = customdata.filter((_, row) => brushed.every(axis => within(axis, row)));
    const names = new Set(kept);
    for (const row of document.querySelectorAll("table.sortable tbody tr"))
      row.hidden = brushed.length > 0 && !names.has(row.cells[0].textContent);
    said.textContent = brushed.length
      ? `${kept.length} of ${customdata.length} trials are within; the table of trials has only these.`
      : "";
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const compare = head.classList.contains("n")
      ? (a, b) => Number(a) - Number(b)
      : (a, b) => a.localeCompare(b, "en");
    const order = (a, b) => key(a) && key(b)
      ? sign * compare(key(a), key(b))
      : (key(a) === "") - (key(b) === "");  // empty cells last, either way
    const rows = [...table.tBodies[0].rows];
    rows.sort(order);
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  }));
}
