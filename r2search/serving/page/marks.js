// What a network marks in an image: class indices, their areas, and pictures of them.

// Class indices: 1 where the probability (0..65535) is at least `threshold` (0..1).
export function above(probability, threshold) {
  const level = threshold * 65535;
  const marks = new Uint8Array(probability.length);
  for (let i = 0; i < marks.length; i++) marks[i] = probability[i] >= level ? 1 : 0;
  return marks;
}

// Class indices of a mask whose values are those of `classes`.
export function byValue(mask, classes) {
  const index = new Uint8Array(256);
  classes.forEach((each, i) => { index[each.value] = i + 1; });
  return mask.map(value => index[value]);
}

// Of each class its pixels and its pieces; pixels that touch at a corner are one piece.
export function count(marks, width, height, classes) {
  return classes.map((_, i) => ({pixels: pixels(marks, i + 1), pieces: pieces(marks, width, height, i + 1)}));
}

function pixels(marks, which) {
  let sum = 0;
  for (const mark of marks) sum += mark === which;
  return sum;
}

// Runs of a line are joined with those of the line above that they touch.
function pieces(marks, width, height, which) {
  const parent = [];
  const root = i => {
    while (parent[i] !== i) i = parent[i] = parent[parent[i]];
    return i;
  };
  let found = 0;
  let before = [];
  for (let y = 0; y < height; y++) {
    const runs = [];
    let next = 0;
    for (let x = 0, line = y * width; x < width; x++) {
      if (marks[line + x] !== which) continue;
      const begin = x;
      while (x + 1 < width && marks[line + x + 1] === which) x++;
      const id = parent.push(parent.length) - 1;
      found++;
      while (next < before.length && before[next].end < begin - 1) next++;
      for (let n = next; n < before.length && before[n].begin <= x + 1; n++) {
        const [one, other] = [root(id), root(before[n].id)];
        if (one !== other) {
          parent[one] = other;
          found--;
        }
      }
      runs.push({begin, end: x, id});
    }
    before = runs;
  }
  return found;
}

// Colours of the marks as ImageData; nothing elsewhere.
export function coloured(marks, width, height, classes) {
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  const colours = [0, ...classes.map(each => word(each.colour))];
  for (let i = 0; i < words.length; i++) words[i] = colours[marks[i]];
  return image;
}

// A probability (0..65535) as grey levels.
export function grey(probability, width, height) {
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  for (let i = 0; i < words.length; i++) {
    words[i] = 0xff000000 | ((probability[i] >> 8) * 0x010101);
  }
  return image;
}

function word(colour) {
  const [r, g, b] = [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16));
  return new Uint32Array(new Uint8Array([r, g, b, 255]).buffer)[0];
}
