// Grey PNG files, exactly: a canvas keeps 8 bits, and some browsers blur what is read from one.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

// The values of a grey PNG of 8 or 16 bits, not interlaced: {width, height, values}.
export async function readGrey(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [width, height, depth, colour] =
    [view.getUint32(16), view.getUint32(20), bytes[24], bytes[25]];
  const palette = colour === 3;
  if ((colour !== 0 && !palette) || (depth !== 8 && depth !== 16) || bytes[28] !== 0) {
    throw new Error(`PNG of depth ${depth}, colour ${colour}`);
  }
  const parts = [];
  for (let at = 8; at < bytes.length;) {
    const size = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x49444154) parts.push(bytes.subarray(at + 8, at + 8 + size));
    at += size + 12;
  }
  const raw = await through(new DecompressionStream("deflate"), parts);
  const each = depth / 8;
  unfilter(raw, height, width * each, each);
  const values = depth === 16 ? new Uint16Array(width * height) : new Uint8Array(width * height);
  for (let y = 0, to = 0; y < height; y++) {
    let from = y * (width * each + 1) + 1;
    for (let x = 0; x < width; x++, from += each) {
      values[to++] = each === 2 ? (raw[from] << 8) | raw[from + 1] : raw[from];
    }
  }
  return {width, height, values};
}

// A grey PNG of 8 bits, as a Blob.
export async function writeGrey(values, width, height) {
  const raw = new Uint8Array((width + 1) * height);
  for (let y = 0; y < height; y++) {
    raw.set(values.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  }
  const head = new DataView(new ArrayBuffer(13));
  head.setUint32(0, width);
  head.setUint32(4, height);
  head.setUint8(8, 8);
  const packed = await through(new CompressionStream("deflate"), [raw]);
  return new Blob([new Uint8Array(SIGNATURE), chunk("IHDR", new Uint8Array(head.buffer)),
    chunk("IDAT", packed), chunk("IEND", new Uint8Array())], {type: "image/png"});
}

async function through(stream, parts) {
  const all = new Blob(parts).stream().pipeThrough(stream);
  return new Uint8Array(await new Response(all).arrayBuffer());
}

// Undo the filters of the lines of a PNG, in place; each line has its filter before it.
function unfilter(raw, height, width, each) {
  for (let y = 0, line = 1; y < height; y++, line += width + 1) {
    const kind = raw[line - 1];
    const above = line - width - 1;
    for (let x = 0; kind && x < width; x++) {
      const a = x >= each ? raw[line + x - each] : 0;
      const b = y ? raw[above + x] : 0;
      const c = x >= each && y ? raw[above + x - each] : 0;
      raw[line + x] += kind === 1 ? a : kind === 2 ? b : kind === 3 ? (a + b) >> 1 : paeth(a, b, c);
    }
  }
}

function paeth(a, b, c) {
  const [da, db, dc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
  return da <= db && da <= dc ? a : db <= dc ? b : c;
}

function chunk(name, content) {
  const bytes = new Uint8Array(content.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  for (let i = 0; i < 4; i++) bytes[4 + i] = name.charCodeAt(i);
  bytes.set(content, 8);
  view.setUint32(content.length + 8, crc(bytes.subarray(4, content.length + 8)));
  return bytes;
}

const TABLE = Uint32Array.from({length: 256}, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

function crc(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}
