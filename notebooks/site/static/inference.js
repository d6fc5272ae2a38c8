// Real inference in the page: the shipped base network, with the adapters of three domains as its input, in ONNX Runtime's
// WebAssembly. The visitor's picture never leaves the page.
"use strict";

(() => {
  const root = document.getElementById("inference");
  if (!root) return;
  const find = (name) => root.querySelector(`[data-part=${name}]`);
  if (!window.MADLAB_INFERENCE) {
    find("status").textContent = "The file _static/inference-data.js did not load: copy the whole folder of the site.";
    return;
  }
  const data = window.MADLAB_INFERENCE;
  const state = { domain: Object.keys(data.domains)[0], image: null, mine: false }; // mine: the visitor's own picture
  const own = {};
  let session;

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function start() {
    ort.env.wasm.numThreads = 1; // threads need headers that a page opened from a folder cannot have
    ort.env.wasm.wasmBinary = (await unpack(data.wasm)).buffer;
    const glue = new Blob([await unpack(data.glue)], { type: "text/javascript" });
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(glue) };
    session = await ort.InferenceSession.create(await unpack(data.model), { executionProviders: ["wasm"] });
  }

  async function numbersOf(domain) {
    if (!own[domain]) own[domain] = new Float32Array((await unpack(data.domains[domain].own)).buffer);
    return own[domain];
  }

  // As the library prepares a picture: the short side resized, the centre cut out, pixels normalised; channels first.
  function prepare(image, domain) {
    const { crop, resize, normalization } = data.domains[domain];
    const scale = (resize || crop) / Math.min(image.naturalWidth || image.width, image.naturalHeight || image.height);
    const width = (image.naturalWidth || image.width) * scale, height = (image.naturalHeight || image.height) * scale;
    const canvas = find("seen");
    canvas.width = canvas.height = crop;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    context.imageSmoothingEnabled = scale !== 1;
    context.fillStyle = "white"; // below what is transparent
    context.fillRect(0, 0, crop, crop);
    context.drawImage(image, Math.round((crop - width) / 2), Math.round((crop - height) / 2), width, height);
    const pixels = context.getImageData(0, 0, crop, crop).data, size = crop * crop;
    const values = new Float32Array(3 * size);
    for (let channel = 0; channel < 3; channel++)
      for (let place = 0; place < size; place++)
        values[channel * size + place] =
          (pixels[4 * place + channel] / 255 - normalization.mean[channel]) / normalization.std[channel];
    return new ort.Tensor("float32", values, [1, 3, crop, crop]);
  }

  async function logits(images, domain, rank) {
    const numbers = await numbersOf(domain);
    const answer = await session.run({
      images, own: new ort.Tensor("float32", numbers, [numbers.length]), rank: new ort.Tensor("float32", [rank], [1]),
    });
    return Array.from(answer.logits.data).slice(0, data.domains[domain].classes.length);
  }

  function softmax(values) {
    const most = Math.max(...values), parts = values.map((value) => Math.exp(value - most));
    const sum = parts.reduce((total, part) => total + part, 0);
    return parts.map((part) => part / sum);
  }

  let latest = 0;
  async function look() {
    if (!session || !state.image) return;
    const turn = ++latest, rank = Number(find("rank").value), began = performance.now();
    const probabilities = softmax(await logits(prepare(state.image, state.domain), state.domain, rank));
    if (turn !== latest) return; // the slider has moved on
    const milliseconds = performance.now() - began;
    const { classes } = data.domains[state.domain];
    const order = probabilities.map((_, label) => label).sort((a, b) => probabilities[b] - probabilities[a]);
    find("answers").replaceChildren(...order.slice(0, 5).map((label) => {
      const row = document.createElement("li"), bar = document.createElement("span"), text = document.createElement("span");
      bar.className = "bar";
      bar.style.width = `${100 * probabilities[label]}%`;
      text.textContent = `${classes[label]} · ${(100 * probabilities[label]).toFixed(1)} %`;
      row.append(bar, text);
      return row;
    }));
    find("rank-value").textContent = rank;
    find("time").textContent = `${milliseconds.toFixed(0)} ms in your browser`;
    root.dataset.answer = classes[order[0]];
  }

  let asked = 0;
  function show(address, mine) {
    stopCamera();
    const image = new Image(), turn = ++asked;
    image.onload = () => {
      if (turn !== asked) return; // another picture was chosen while this one was decoded
      state.mine = mine;
      if (session) find("status").textContent = ""; // before, it says that the network is still coming, or cannot
      state.image = image;
      look();
    };
    image.onerror = () => { find("status").textContent = "This file is not a picture that your browser can show."; };
    image.src = address;
  }

  function choose(domain) {
    state.domain = domain;
    find("samples").replaceChildren(...data.domains[domain].samples.map((address, number) => {
      const button = document.createElement("button"), picture = document.createElement("img");
      button.type = "button";
      picture.src = address;
      picture.alt = `test image ${number + 1} of ${domain}`;
      button.append(picture);
      button.onclick = () => show(address, false);
      return button;
    }));
    if (state.mine) look();
    else show(data.domains[domain].samples[0], false);
  }

  function stopCamera() {
    const video = find("video");
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    video.hidden = true;
    find("camera").textContent = "camera";
  }

  // The first press shows what the camera sees, the second takes the picture.
  async function camera() {
    const video = find("video"), button = find("camera");
    if (!video.hidden) {
      const frame = document.createElement("canvas");
      [frame.width, frame.height] = [video.videoWidth, video.videoHeight];
      frame.getContext("2d").drawImage(video, 0, 0);
      show(frame.toDataURL(), true);
      return;
    }
    button.disabled = true; // until there is a picture to take
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      video.hidden = false;
      await video.play();
      button.textContent = "take the picture";
    } catch (error) {
      stopCamera();
      find("status").textContent = `The camera cannot be used (${error.message}): choose a file instead.`;
    }
    button.disabled = false;
  }

  for (const name of Object.keys(data.domains)) find("domain").add(new Option(name, name));
  find("rank").max = data.most; // before the value, which it limits
  find("rank").value = data.most;
  find("domain").onchange = (event) => choose(event.target.value);
  find("rank").oninput = look;
  find("file").onclick = (event) => { event.target.value = ""; }; // so that the same file can be chosen again
  find("file").onchange = (event) => {
    const [file] = event.target.files;
    if (file) show(URL.createObjectURL(file), true);
  };
  find("camera").onclick = camera;
  start().then(() => {
    find("status").textContent = "";
    choose(state.domain);
  }, (error) => { find("status").textContent = `Your browser cannot run the network (${error.message}).`; });
  window.MADLAB_LOGITS = async (values, domain, rank) =>
    logits(new ort.Tensor("float32", Float32Array.from(values), [1, 3, data.domains[domain].crop, data.domains[domain].crop]), domain, rank);
})();
