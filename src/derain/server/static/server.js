// Requests to the server: upload progress, retries while it is busy, and errors in plain words.

let token = sessionStorage.getItem("token") || "";

// `permanent`: the same file would be rejected again.
export class RequestError extends Error {
  constructor(message, permanent = false) {
    super(message);
    this.permanent = permanent;
  }
}

// Sends a photo and returns the result as a Blob. `onUpload` gets the uploaded share, 0 to 1; `signal` cancels.
export async function derain(file, options, { onUpload = () => {}, signal } = {}) {
  const query = new URLSearchParams(Object.entries(options).filter(([, value]) => value !== undefined));
  for (let attempt = 0; ; attempt++) {
    const response = await post(`v1/derain?${query}`, file, onUpload, signal);
    if (signal?.aborted) throw new RequestError("Canceled.");
    if (response.status === 200) return response.response;
    if (response.status === 401) {
      await askToken();
    } else if ([429, 503].includes(response.status) && attempt < 30) {
      const seconds = Number(response.getResponseHeader("Retry-After")) || 2;
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(seconds, 15)));
    } else {
      throw new RequestError(await explain(response, file), [413, 415, 422].includes(response.status));
    }
  }
}

export async function models() {
  for (;;) {
    const response = await fetch("v1/models", { headers: headers() });
    if (response.ok) return response.json();
    if (response.status !== 401) throw new RequestError("The list of models could not be loaded.");
    await askToken();
  }
}

function headers() {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function post(url, file, onUpload, signal) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch does not report upload progress
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

async function explain(response, file) {
  const detail = response.response ? await response.response.text().then((text) => JSON.parse(text).error).catch(() => "") : "";
  const megabytes = (file.size / 1e6).toFixed(1);
  switch (response.status) {
    case 0:
      return "The server cannot be reached. Is it still running, and are you online?";
    case 413:
      return `This photo is too large (${megabytes} MB): ${detail}.`;
    case 415:
      return "This does not look like a photo. Use JPEG, PNG, WebP, TIFF, BMP or AVIF.";
    case 422:
      return file.size ? `This photo cannot be used: ${detail}.` : "This file is empty. The copy or download may have failed.";
    case 429:
    case 503:
      return "The server is very busy at the moment. Please try again in a minute.";
    case 504:
      return "This photo took too long. Try a smaller copy.";
    default:
      return detail || "Something went wrong on the server. Please try again.";
  }
}

let tokenRequest;

function askToken() {
  tokenRequest ??= new Promise((resolve) => {
    const dialog = document.getElementById("token-dialog");
    const field = document.getElementById("token");
    field.value = "";
    dialog.showModal();
    dialog.addEventListener("close", () => {
      token = field.value.trim();
      sessionStorage.setItem("token", token);
      tokenRequest = undefined;
      resolve();
    }, { once: true });
  });
  return tokenRequest;
}
