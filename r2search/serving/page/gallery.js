// The study's own images: the best and the worst, and the score of each.

import {element} from "./predict.js";

export function fill(gallery, pictures, rows) {
  for (const {file, caption} of gallery.shown) {
    const figure = element("figure");
    const link = element("a");
    link.href = `/${file}`;
    link.target = "_blank";
    const image = element("img");
    image.src = `/${file}`;
    image.alt = `${caption}: image, mask, prediction and errors`;
    image.loading = "lazy";
    link.append(image);
    const wide = element("div", "", "wide");
    wide.append(link);
    figure.append(wide, element("figcaption", caption, "quiet"));
    pictures.append(figure);
  }
  const most = Math.max(...gallery.scores.map(each => each.value), 1e-9);
  for (const {id, value} of gallery.scores) {
    const head = element("th", id);
    head.scope = "row";
    const bar = element("meter");
    [bar.min, bar.max, bar.value] = [0, Math.max(1, most), value];
    bar.setAttribute("aria-hidden", "true");
    const cell = element("td");
    cell.append(bar);
    const line = element("tr");
    line.append(head, cell, element("td", value.toFixed(3)));
    rows.append(line);
  }
}
