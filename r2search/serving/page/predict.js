// An image on its way to the server, and its answer on the way back.

import {readGrey} from "./png.js";

// Have an item predicted, and add to it all that is shown of it; an Error says why it was not taken.
export async function predict(item, most) {
  if (item.file.size > most) {
    throw new Error(`${item.name}: is larger than ${most / 1e6} MB, the most that is ` +
      "taken here; send it smaller, or use `r2search predict`");
  }
  const answer = await send(item);
  const files = answer.files;
  item.answer = answer;
  item.threshold = answer.threshold;
  item.picture = await createImageBitmap(new Blob([bytes(files.picture[0])], {type: "image/jpeg"}));
  if (answer.threshold === null) {
    item.mask = (await readGrey(bytes(files.mask[0]))).values;
  } else {
    item.probability = (await readGrey(bytes(files.probability[0]))).values;
  }
  item.thumb = thumbnail(item.picture);
  answer.files = {probability: files.probability}; // to save; many images may be kept
}

// The server's answer; when it is busy, or has had enough for this minute, it is asked again.
async function send(item) {
  const wanted = ["picture", "mask", "probability"].map(file => `&files=${file}`).join("");
  const url = `/api/predict?name=${encodeURIComponent(item.name)}${wanted}`;
  for (let tries = 1; ; tries++) {
    let answer;
    try {
      answer = await fetch(url, {
        method: "POST", body: item.file, headers: {"content-type": "application/octet-stream"},
      });
    } catch {
      throw new Error(`${item.name}: the server does not answer. Is it still running?`);
    }
    const wait = Number(answer.headers.get("retry-after"));
    if (!wait || tries === 60) {
      const told = await answer.json()
        .catch(() => ({error: `${item.name}: the server answered ${answer.status}; try again`}));
      if (answer.ok) return told;
      throw new Error(told.error);
    }
    await new Promise(done => setTimeout(done, wait * 1000));
  }
}

export function bytes(base64) {
  return Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
}

function thumbnail(picture) {
  const canvas = element("canvas");
  canvas.className = "thumb";
  const scale = Math.max(96 / picture.width, 72 / picture.height);
  [canvas.width, canvas.height] = [96, 72];
  const [width, height] = [picture.width * scale, picture.height * scale];
  canvas.getContext("2d").drawImage(picture, (96 - width) / 2, (72 - height) / 2, width, height);
  return canvas;
}

// An element of the page; its text is never markup.
export function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
