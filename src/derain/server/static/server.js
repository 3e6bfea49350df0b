// Talking to the server: progress, patience when it is busy, and refusals in plain words.

let token = sessionStorage.getItem("token") || "";

// `lasting`: the same file will be refused again.
export class Refused extends Error {
  constructor(message, lasting = false) {
    super(message);
    this.lasting = lasting;
  }
}

// Sends a photo; gives the result as a Blob. `onUpload` gets the share that has left, 0 to 1; `signal` gives up.
export async function derain(file, wishes, { onUpload = () => {}, signal } = {}) {
  const query = new URLSearchParams(Object.entries(wishes).filter(([, value]) => value !== undefined));
  for (let attempt = 0; ; attempt++) {
    const answer = await post(`v1/derain?${query}`, file, onUpload, signal);
    if (signal?.aborted) throw new Refused("Given up.");
    if (answer.status === 200) return answer.response;
    if (answer.status === 401) {
      await askToken();
    } else if ([429, 503].includes(answer.status) && attempt < 30) {
      const seconds = Number(answer.getResponseHeader("Retry-After")) || 2;
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(seconds, 15)));
    } else {
      throw new Refused(await kindly(answer, file), [413, 415, 422].includes(answer.status));
    }
  }
}

export async function models() {
  for (;;) {
    const answer = await fetch("v1/models", { headers: headers() });
    if (answer.ok) return answer.json();
    if (answer.status !== 401) throw new Refused("The server does not tell its models.");
    await askToken();
  }
}

function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function post(url, file, onUpload, signal) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch tells nothing of an upload's progress
    request.open("POST", url);
    request.responseType = "blob";
    request.setRequestHeader("Content-Type", "application/octet-stream");
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => onUpload(event.total ? event.loaded / event.total : 1));
    request.addEventListener("loadend", () => resolve(request));
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

async function kindly(answer, file) {
  const detail = answer.response ? await answer.response.text().then((text) => JSON.parse(text).error).catch(() => "") : "";
  const megabytes = (file.size / 1e6).toFixed(1);
  switch (answer.status) {
    case 0:
      return "The server cannot be reached. Is it still running, and are you online?";
    case 413:
      return `This photo is too large (${megabytes} MB): ${detail}.`;
    case 415:
      return "This does not look like a photo. JPEG, PNG, WebP, TIFF, BMP and AVIF work.";
    case 422:
      return file.size ? `This photo cannot be used: ${detail}.` : "This file is empty. Perhaps the copy or download failed.";
    case 429:
    case 503:
      return "The server is very busy just now. Please try again in a minute.";
    case 504:
      return "This photo took too long. A smaller copy of it will work.";
    default:
      return detail || "Something went wrong on the server. Please try again.";
  }
}

let asking;

function askToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("ask");
    const field = document.getElementById("token");
    field.value = "";
    dialog.showModal();
    dialog.addEventListener("close", () => {
      token = field.value.trim();
      sessionStorage.setItem("token", token);
      asking = undefined;
      resolve();
    }, { once: true });
  });
  return asking;
}
